"""Whether `precision: auto` may take bfloat16 for the product that latents are chosen by: what it costs, and saves.

    python -m benchmarks.precision [FILE.npz]

Held-out loss, R@1 and seconds of a training in either precision, three seeds, on the theory's world and on your own
embeddings, if a file is given. One thread; the two precisions of a seed run one after the other.
"""

import argparse
import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks.measure import write
from benchmarks.projection import SEEDS, own, world
from xsae.evaluation.retrieval import recall
from xsae.fitting import held_out_errors
from xsae.methods import Method, posthoc, train_saes
from xsae.training import PRECISIONS, TrainingConfig


def trained(
    method: str, train: Mapping[str, np.ndarray], test: Mapping[str, np.ndarray], config: TrainingConfig, seed: int
) -> dict[str, float]:
    """`loss` and `R@1`, means over modalities and directions, and `seconds`. train, test: modality -> (n, d)."""
    began = time.perf_counter()
    saes, _ = train_saes(method, train, {m: np.arange(len(x)) for m, x in train.items()}, config, seed)
    seconds = time.perf_counter() - began
    found = Method(saes)
    if method == "separated":
        found = posthoc(saes, {m: sae.transform(train[m]) for m, sae in saes.items()})
    codes, ids = {m: found.transform(m, x) for m, x in test.items()}, np.arange(len(test["image"]))
    recalls = [recall(codes[a], codes[b], ids, ids)["R@1"] for a, b in permutations(codes, 2)]
    losses = [held_out_errors(sae, test[m]).mean().item() for m, sae in saes.items()]
    return {"loss": float(np.mean(losses)), "R@1": float(np.mean(recalls)), "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, help="an .npz of your own, with `image` and `text`")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cases = {"theory's world": (world, TrainingConfig(latents=1024, k=4, epochs=50, batch_size=128))}
    if arguments.file:
        recipe = TrainingConfig(latents=256, k=8, epochs=100, batch_size=64)
        cases[arguments.file.stem] = (lambda seed: own(arguments.file, seed), recipe)
    rows = []
    for name, (data, config) in cases.items():
        for method in ("separated", "shared"):
            for seed in SEEDS:
                pairs, about = data(seed), {"data": name, "method": method, "seed": seed}
                for precision in PRECISIONS:
                    figures = trained(method, *pairs, replace(config, precision=precision), seed)
                    rows.append(about | {"precision": precision} | figures)
    write(pd.DataFrame(rows), "precision")


if __name__ == "__main__":
    main()
