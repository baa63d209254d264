"""Which learning rate a config's steps are enough for, on the embedded world: no held-out pair is seen.

    python -m benchmarks.rates laptop artifacts/laptop/embeddings/vit artifacts/laptop/embeddings/resnet

trains every method at each rate, otherwise as the config says, on nine tenths of the training images of stores that a
run has made, and writes the loss of the others: mean of the modalities, seed 1.
"""

import argparse
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.measure import write
from xsae.data.store import open_store
from xsae.fitting import held_out_errors, set_aside
from xsae.methods import TRAINED, train_saes, training_data
from xsae.run.config import load_config
from xsae.run.pool import run
from xsae.run.work import training
from xsae.training import TrainingConfig

RATES = (5e-4, 1e-3, 2e-3, 4e-3, 8e-3)  # the first is the paper's


def loss(folder: Path, method: str, config: TrainingConfig) -> float:
    """The loss of a tenth of a store's training images, which a method is not trained on."""
    arrays, rows = training_data(open_store(folder), normalize=True)
    held, kept = (dict(zip(rows, of, strict=True)) for of in set_aside(list(rows.values()), np.random.default_rng(0)))
    saes, _ = train_saes(method, arrays, kept, config, seed=1)
    return float(np.mean([held_out_errors(sae, arrays[m][np.unique(held[m])]).mean() for m, sae in saes.items()]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="as `./run_all.sh` takes it")
    parser.add_argument("stores", type=Path, nargs="+", help="embeddings that a run of it has made")
    arguments = parser.parse_args()
    recipe = training(dict(load_config(arguments.config)))
    cases = list(product(arguments.stores, TRAINED, RATES))
    found = run(loss, [(store, method, replace(recipe, learning_rate=rate)) for store, method, rate in cases], "rates")
    table = pd.DataFrame(
        {"backbone": store.name, "method": method, "learning rate": f"{rate:g}", "loss": value}
        for (store, method, rate), value in zip(cases, found, strict=True)
    )
    columns = [f"{rate:g}" for rate in RATES]
    wide = table.pivot(index=["backbone", "method"], columns="learning rate", values="loss")[columns]
    write(wide.reset_index(), "rates")


if __name__ == "__main__":
    main()
