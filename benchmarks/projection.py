"""Whether the dictionary's gradient should lose its part along the directions before the optimiser's step.

    python -m benchmarks.projection [FILE.npz]

Held-out loss with and without, three seeds, on the theory's world and on your own embeddings, if a file is given.
"""

import argparse
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from benchmarks.measure import write
from xsae.data import synthetic
from xsae.data.own import read_npz
from xsae.evaluation.reconstruction import reconstruction
from xsae.fitting import fit, start_at_means
from xsae.methods import METHODS
from xsae.sae import SAEConfig
from xsae.training import TrainingConfig

SEEDS = (1, 2, 3)
WORLD = {"dim": 48, "n_shared": 128, "n_own": {"image": 64, "text": 64}, "n_train": 5000, "n_test": 2000}


def project(dictionary: Tensor) -> None:
    """From now on every gradient of a dictionary (L, d) is tangent to the sphere at each direction."""

    def tangent(gradient: Tensor) -> Tensor:
        directions = dictionary.detach()
        return gradient - (gradient * directions).sum(1, keepdim=True) * directions

    dictionary.register_hook(tangent)


def loss(method: str, train: dict, test: dict, config: TrainingConfig, seed: int, projected: bool) -> float:
    """Mean held-out loss over the modalities. train, test: modality -> (n, d), row i of each being one pair."""
    arrays, rows = list(train.values()), [np.arange(len(matrix)) for matrix in train.values()]
    of_modality = METHODS[method].build(list(train), SAEConfig(arrays[0].shape[1], config.latents, config.k), seed)
    saes = list(of_modality.values())
    if projected:
        for sae in {id(sae.dictionary): sae for sae in saes}.values():
            project(sae.dictionary)
    start_at_means(saes, arrays, rows)
    fit(saes, arrays, rows, config, seed)
    codes = {m: sae.transform(test[m]) for m, sae in of_modality.items()}
    losses = [
        reconstruction(test[m], of_modality[m].inverse_transform(code), codes=code)["loss"] for m, code in codes.items()
    ]
    return float(np.mean(losses))


def world(seed: int) -> tuple[dict, dict]:
    """Training and held-out pairs of the theory's world."""
    data = synthetic.generate(0.6, seed, **WORLD, max_interference=0.6)
    return data.train.embeddings, data.test.embeddings


def own(file: Path, seed: int) -> tuple[dict, dict]:
    """Four fifths and one fifth of a file's pairs, at unit norm."""
    found = read_npz(file, ("image", "text"))
    arrays = {m: found[m] / np.linalg.norm(found[m], axis=1, keepdims=True) for m in ("image", "text")}
    order = np.random.default_rng(seed).permutation(len(arrays["image"]))
    cut = 4 * len(order) // 5
    return tuple({m: x[part].astype(np.float32) for m, x in arrays.items()} for part in (order[:cut], order[cut:]))


def trials(description: str | None) -> Iterator[tuple[dict, tuple[dict, dict], TrainingConfig]]:
    """What is trained, as the command line asks for it: `data`, `method` and `seed`, both sets of pairs, the config."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, help="an .npz of your own, with `image` and `text`")
    file = parser.parse_args().file
    torch.set_num_threads(1)
    cases = {"theory's world": (world, TrainingConfig(latents=1024, k=4, epochs=50, batch_size=128))}
    if file:
        recipe = TrainingConfig(latents=256, k=8, epochs=100, batch_size=64)
        cases[file.stem] = (lambda seed: own(file, seed), recipe)
    for (name, (data, config)), method, seed in product(cases.items(), ("separated", "shared"), SEEDS):
        yield {"data": name, "method": method, "seed": seed}, data(seed), config


def main() -> None:
    rows = []
    for about, pairs, config in trials(__doc__):
        plain, projected = (loss(about["method"], *pairs, config, about["seed"], on) for on in (False, True))
        rows.append(about | {"as_it_is": plain, "projected": projected})
    write(pd.DataFrame(rows), "projection")


if __name__ == "__main__":
    main()
