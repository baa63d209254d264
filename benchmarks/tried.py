"""What was tried of maps between latents, and what each retrieves: the table of docs/alignments.md.

    python -m benchmarks.tried RUN FILE.npz

RUN is a run that has trained `separated` from the recommended start, such as `laptop`; FILE.npz holds a few hundred
pairs of your own. All is measured on pairs held out of the *training* pairs, for by these was chosen; no test pair is
seen. In the run, of every backbone and seed: four fifths of the images align, with their captions, and 1,000 of the
others are asked about, with theirs. Of the file: six splits as in `benchmarks.baselines`, and in each four folds of its
training pairs. Codes are centred, and ties count against the model. The ideas are those of `benchmarks.ideas`.
"""

import argparse
import tempfile
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from benchmarks.baselines import SPLITS
from benchmarks.ideas import IDEAS, Idea
from benchmarks.measure import write
from xsae.data.own import import_file
from xsae.data.store import EmbeddingStore
from xsae.evaluation.retrieval import recall
from xsae.methods import OWN_DATA, Method, pair_codes, train
from xsae.run.config import load_config
from xsae.run.jobs import loaded

DOCS = Path(__file__).parent.parent / "docs/alignments.md"
FOLDS, SHARE, ASKED = 4, 5, 1000
REAL = "real pairs"
Codes = dict[str, sparse.csr_array]


def recalls(idea: Idea, fitted: Codes, asked: Codes, ids: dict[str, np.ndarray]) -> dict[str, float]:
    """R@1 of either direction on codes that are asked about, by maps fitted on codes of pairs; the reference first."""
    names, means = list(fitted), {m: np.asarray(codes.mean(axis=0)) for m, codes in fitted.items()}
    into = dict(zip(names, idea.fit(*fitted.values()), strict=True))  # the latents of a modality, from the other's
    weight = {m: 1 / np.sqrt(_deviation(codes)) if idea.divided else 1.0 for m, codes in fitted.items()}
    x, found = {m: codes.toarray() - means[m] for m, codes in asked.items()}, {}
    for query, gallery in permutations(names):
        if idea.of_query:
            rows = x[query] @ into[gallery].T * weight[gallery], x[gallery] * weight[gallery]
        else:
            rows = x[query] * weight[query], x[gallery] @ into[query].T * weight[query]
        found[f"{query} to {gallery}"] = recall(*rows, ids[query], ids[gallery], ks=(1,))["R@1"]
    return found


def _deviation(codes: sparse.csr_array) -> np.ndarray:
    """The standard deviation of each latent, 1 where it never varies."""
    variance = np.asarray(codes.power(2).mean(axis=0)) - np.square(np.asarray(codes.mean(axis=0)))
    return np.where(variance > 0, np.sqrt(np.maximum(variance, 0)), 1.0)


def folds(method: Method, store: EmbeddingStore, n: int, held: int) -> Iterator[tuple[Codes, Codes, dict]]:
    """The training pairs cut into `n` parts by their images; of the first `held` parts in turn, what aligns (the codes
    of all other parts' pairs) and what is asked about: at most `ASKED` images of the part, with all their captions."""
    pairs, codes = store.split("train"), pair_codes(method, store)
    image, text = store.modalities
    images, owner = np.unique(pairs[image], return_inverse=True)
    part = np.random.default_rng(0).permutation(len(images)) % n
    for turn in range(held):
        chosen = np.flatnonzero(part == turn)[:ASKED]
        rows = {text: np.flatnonzero(np.isin(owner, chosen))}
        rows[image] = rows[text][np.unique(owner[rows[text]], return_index=True)[1]]
        yield (
            {m: codes[m][part[owner] != turn] for m in store.modalities},
            {m: codes[m][rows[m]] for m in store.modalities},
            {m: owner[rows[m]] for m in store.modalities},
        )


def measured(data: str, method: Method, store: EmbeddingStore, n: int, held: int) -> list[dict]:
    """A row per idea, fold and direction."""
    return [
        {"data": data, "idea": name, "direction": direction, "R@1": value}
        for of_fold in folds(method, store, n, held)
        for name, idea in IDEAS.items()
        for direction, value in recalls(idea, *of_fold).items()
    ]


def of_run(run: str) -> Iterator[dict]:
    """Rows of a run: one fold of every backbone and seed."""
    config = load_config(run)
    for backbone in config.backbones:
        for seed in config.seeds:
            store, method = loaded(run, backbone, config.bias_starts[0], "separated", seed)
            yield from measured(backbone, method, store, SHARE, 1)


def of_file(path: Path) -> Iterator[dict]:
    """Rows of pairs of your own: every fold of every split."""
    for split in range(SPLITS):
        with tempfile.TemporaryDirectory() as folder:
            store = import_file(Path(folder) / "store", path, held_out=0.2, seed=split)
            yield from measured(REAL, train(store, "separated", OWN_DATA, seed=split + 1), store, FOLDS, FOLDS)


def into_docs(text: str, table: pd.DataFrame) -> str:
    """The documentation with its table of ideas anew: a line for each, a column for each kind of data."""
    kinds = list(table["data"].unique())
    means = table.set_index(["idea", "data", "direction"])["mean"]
    directions = list(table["direction"].unique())
    lines = ["| idea | " + " | ".join(kind if kind == REAL else f"`{kind}`" for kind in kinds) + " |"]
    lines.append("|---" * (len(kinds) + 1) + "|")
    for idea in table["idea"].unique():
        cells = (" / ".join(f"{means[idea, kind, way]:.3f}".lstrip("0") for way in directions) for kind in kinds)
        lines.append(f"| {idea} | " + " | ".join(cells) + " |")
    before, _, after = text.partition("| idea |")
    rest = after.splitlines(keepends=True)
    place = next(n for n, line in enumerate(rest) if n and not line.startswith("|"))
    return before + "\n".join(lines) + "\n" + "".join(rest[place:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="the name of a run, whose autoencoders are trained")
    parser.add_argument("file", type=Path, help="an .npz of your own, with two modalities")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = pd.DataFrame([*of_run(arguments.run), *of_file(arguments.file)])
    table = rows.groupby(["idea", "data", "direction"], sort=False)["R@1"].agg(["mean", "std", "count"]).reset_index()
    write(table, "tried")
    DOCS.write_text(into_docs(DOCS.read_text(), table))


if __name__ == "__main__":
    main()
