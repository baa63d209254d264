"""Whether `precision: auto` may take bfloat16 for the product that latents are chosen by: what it costs, and saves.

    python -m benchmarks.precision [FILE.npz]

Held-out loss, R@1 and seconds of a training in either precision, three seeds, on the theory's world and on your own
embeddings, if a file is given. One thread; the two precisions of a seed run one after the other.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import permutations

import numpy as np
import pandas as pd

from benchmarks.measure import write
from benchmarks.projection import trials
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
    rows = []
    for about, pairs, config in trials(__doc__):
        for precision in PRECISIONS:
            figures = trained(about["method"], *pairs, replace(config, precision=precision), about["seed"])
            rows.append(about | {"precision": precision} | figures)
    write(pd.DataFrame(rows), "precision")


if __name__ == "__main__":
    main()
