"""All methods side by side on a few hundred pairs of your own: what each retrieves, and what it reconstructs.

    python -m benchmarks.baselines FILE.npz

Six splits, four fifths of the pairs to train and align and the rest to ask about; one recipe for all, `xsae.train`'s
own, at two widths: a method with a dictionary per modality has half of the latents in each, and so at twice the width
as many in each as `shared` has at the single one. Ties count against the model.
"""

import argparse
import tempfile
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks.measure import write
from xsae.data.own import import_file
from xsae.data.store import EmbeddingStore
from xsae.evaluation.reconstruction import reconstruction
from xsae.evaluation.retrieval import recall
from xsae.evaluation.variants import FREQUENT, firing_rates, variants
from xsae.methods import METHODS, OWN_DATA, Method, train

SPLITS = 6


def figures(method: Method, store: EmbeddingStore) -> dict[str, float]:
    """Held-out loss of each modality, and R@1 and R@10 of each direction, of raw and of centred codes."""
    found, ids = {}, {m: store.groups(m, "test") for m in store.modalities}
    codes = method.split_codes(store, "test")
    for m, sae in method.saes.items():
        x = store[m][store.rows(m, "test")]
        plain = sae.transform(x)
        found[f"loss {m}"] = reconstruction(x, sae.inverse_transform(plain), codes=plain)["loss"]
    trained = method.split_codes(store, "train")
    means = {m: np.asarray(rows.mean(axis=0)) for m, rows in trained.items()}
    compared = variants(codes, means, firing_rates(trained[store.modalities[0]]) > FREQUENT)
    for prefix, variant in (("", "raw"), ("centred ", "centred")):
        rows = compared[variant]
        for a, b in permutations(rows, 2):
            of = recall(rows[a], rows[b], ids[a], ids[b])
            found |= {f"{prefix}{key} {a} to {b}": of[key] for key in ("R@1", "R@10")}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="an .npz of your own, with two modalities")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for split in range(SPLITS):
        with tempfile.TemporaryDirectory() as folder:
            store = import_file(Path(folder) / "store", arguments.file, held_out=0.2, seed=split)
            single = OWN_DATA.width(len(store.split("train")), store.dim)
            for latents in (single, 2 * single):
                for method in METHODS:
                    learned = train(store, method, replace(OWN_DATA, latents=latents), seed=split + 1)
                    about = {"latents": latents, "method": method, "split": split}
                    rows.append(about | figures(learned, store))
    table = pd.DataFrame(rows)
    write(table, "baselines")
    print(table.drop(columns="split").groupby(["latents", "method"], sort=False).mean().round(3).T.to_string())


if __name__ == "__main__":
    main()
