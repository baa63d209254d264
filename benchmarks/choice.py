"""Whether `auto` lands near the best of a grid of nine, and at what share of its time.

    python -m benchmarks.choice [FILE.npz]

Two splits or seeds of the theory's world, of the world at CLIP's geometry and, if a file is given, of your own pairs.
The grid trains `separated` with every k and number of latents by `xsae.train`'s own recipe, one seed each, and measures
it on held-out pairs that neither side trains on. `excess` is the loss of the chosen setting over the best one's, less
1; `today` is the same of k = 8 and the usual number of latents. Seconds are of one thread.
"""

import argparse
import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from benchmarks.measure import write
from benchmarks.projection import own, world
from xsae.data import matched
from xsae.evaluation import choice
from xsae.fitting import held_out_errors
from xsae.methods import OWN_DATA, train_saes
from xsae.training import TrainingConfig

SEEDS = (1, 2)


def clip_like(seed: int) -> tuple[dict, dict]:
    """Training and held-out pairs of the world at CLIP's geometry."""
    data = matched.generate(seed, 2000, 1000)
    return data.train.embeddings, data.test.embeddings


def loss(train: Mapping[str, np.ndarray], test: Mapping[str, np.ndarray], config: TrainingConfig, seed: int) -> float:
    """Mean held-out loss over the modalities. train, test: modality -> (n, d), row i of each being one pair."""
    rows = {m: np.arange(len(x)) for m, x in train.items()}
    saes, _ = train_saes("separated", train, rows, config, seed)
    return float(np.mean([held_out_errors(saes[m], x).mean().item() for m, x in test.items()]))


def measure(train: Mapping[str, np.ndarray], test: Mapping[str, np.ndarray], seed: int) -> dict[str, float]:
    """What is chosen, what would have been best, and how long either took."""
    rows = {m: np.arange(len(x)) for m, x in train.items()}
    n, dim = train["image"].shape
    found_on = choice.axes(OWN_DATA, ("k", "latents"), n, dim, len(train))
    began = time.process_time()
    table = choice.search(OWN_DATA, found_on, lambda wanted: [choice.trial(train, rows, *job) for job in wanted])
    searched = time.process_time() - began
    chosen = tuple(table[table["chosen"]].iloc[-1][["k", "latents"]])
    grid = list(product(found_on["k"], found_on["latents"]))
    losses = {
        (k, latents): loss(train, test, replace(OWN_DATA, k=k, latents=latents), seed)
        for k, latents in tqdm(grid, "grid")
    }
    took = time.process_time() - began - searched
    best, usual = min(losses, key=losses.get), (OWN_DATA.k, OWN_DATA.width(n, dim))
    return {
        "k": chosen[0], "latents": chosen[1], "best_k": best[0], "best_latents": best[1], "best_loss": losses[best],
        "excess": losses[chosen] / losses[best] - 1, "today": losses[usual] / losses[best] - 1,
        "seconds": searched, "grid_seconds": took, "share": searched / took,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, help="an .npz of your own, with `image` and `text`")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cases = {arguments.file.stem: lambda seed: own(arguments.file, seed)} if arguments.file else {}
    cases |= {"CLIP's geometry": clip_like, "theory's world": world}
    rows = [
        {"data": name, "seed": seed} | measure(*pairs(seed), seed) for name, pairs in cases.items() for seed in SEEDS
    ]
    write(pd.DataFrame(rows), "choice")


if __name__ == "__main__":
    main()
