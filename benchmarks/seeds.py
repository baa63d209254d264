"""How far one seed's `posthoc` is from another's, and how many latents live, by learning rate, on the embedded world.

    python -m benchmarks.seeds laptop artifacts/laptop/embeddings/vit artifacts/laptop/embeddings/resnet

trains `separated` as the config says, from the recommended start, with twelve seeds, and with three at each other
rate; aligns it; and writes R@1 of raw codes of held-out pairs, and the share of latents that any training embedding
fires: a line per backbone, rate and seed.
"""

import argparse
from dataclasses import replace
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.measure import write
from benchmarks.rates import RATES
from xsae.data.store import open_store
from xsae.evaluation.retrieval import ranks, summary
from xsae.evaluation.variants import firing_rates
from xsae.methods import Method, pair_codes, posthoc, train_saes, training_data
from xsae.run.config import load_config
from xsae.run.pool import run
from xsae.run.work import training
from xsae.training import TrainingConfig


def measured(folder: Path, config: TrainingConfig, seed: int) -> dict[str, float]:
    """R@1 in each direction, and the share of alive latents of each modality."""
    store = open_store(folder)
    saes, _ = train_saes("separated", *training_data(store, normalize=True), config, seed)
    aligned = posthoc(saes, pair_codes(Method(saes), store))
    codes, ids = aligned.split_codes(store, "test"), {m: store.groups(m, "test") for m in saes}
    found = {}
    for a, b in permutations(saes, 2):
        found[f"R@1 {a} to {b}"] = summary(*ranks(codes[a], codes[b], ids[a], ids[b]))["R@1"]
    for m, sae in saes.items():
        found[f"alive {m}"] = float(np.mean(firing_rates(sae.transform(store[m][store.rows(m, "train")])) > 0))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="as `./run_all.sh` takes it")
    parser.add_argument("stores", type=Path, nargs="+", help="embeddings that a run of it has made")
    arguments = parser.parse_args()
    recipe = training(dict(load_config(arguments.config)), bias_start="mean")
    rates = {recipe.learning_rate: range(1, 13)} | {rate: range(1, 4) for rate in RATES if rate != recipe.learning_rate}
    cases = [(store, rate, seed) for store, (rate, seeds) in product(arguments.stores, rates.items()) for seed in seeds]
    jobs = [(store, replace(recipe, learning_rate=rate), seed) for store, rate, seed in cases]
    lines = [
        {"backbone": store.name, "learning rate": f"{rate:g}", "seed": seed} | found
        for (store, rate, seed), found in zip(cases, run(measured, jobs, "seeds"), strict=True)
    ]
    write(pd.DataFrame(lines), "seeds")


if __name__ == "__main__":
    main()
