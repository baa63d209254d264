"""Evaluation at scale: ranks of 25,000 captions and 5,000 images from sparse codes, and monosemanticity.

    python -m benchmarks.retrieval

Retrieval is held against dense products, which give the same pessimistic ranks: they fill the codes, (n, L), and
multiply block by block, n_queries n_gallery L multiplications; the sparse ones are those of latents that both have, on
average n_queries n_gallery k^2 / L. Monosemanticity is held against the n x n matrix of similarities that defines it:
n^2 (d + k) multiplications and 8 n^2 bytes, where ours are n k d and 8 L d.
"""

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import torch

from benchmarks.codes import paired_codes
from benchmarks.measure import alternate, peak_memory, write
from xsae.evaluation.monosemanticity import monosemanticity
from xsae.evaluation.retrieval import ranks

CAPTIONS = 5  # of each image
LATENTS, K, JUDGE = 8192, 32, 512


def _codes(images: int):
    image, text = paired_codes(images * CAPTIONS, LATENTS, K)
    owner = np.repeat(np.arange(images), CAPTIONS)
    return image[::CAPTIONS], text, np.arange(images), owner


def ours(images: int) -> Callable[[], np.ndarray]:
    """Ranks both ways from sparse codes."""
    image, text, image_ids, text_ids = _codes(images)
    sides = ((image, text, image_ids, text_ids), (text, image, text_ids, image_ids))
    return lambda: np.concatenate([ranks(*side)[0] for side in sides])


def dense(images: int) -> Callable[[], np.ndarray]:
    """The same from dense codes, in float32 on all threads."""
    image, text, image_ids, text_ids = _codes(images)
    sides = ((image, text, image_ids, text_ids), (text, image, text_ids, image_ids))

    def run() -> np.ndarray:
        found = []
        for queries, gallery, query_ids, gallery_ids in sides:
            gallery = torch.nn.functional.normalize(torch.from_numpy(gallery.toarray()))
            for start in range(0, queries.shape[0], 500):
                block = torch.from_numpy(queries[start : start + 500].toarray())
                similarity = torch.nn.functional.normalize(block) @ gallery.T
                mine = torch.from_numpy(query_ids[start : start + 500, None] == gallery_ids)
                best = similarity.masked_fill(~mine, -1).amax(1, keepdim=True)
                found.append(1 + (similarity.masked_fill(mine, -1) >= best - 1e-6).sum(1))
        return torch.cat(found).numpy()

    return run


def _judged(rows: int):
    codes = paired_codes(rows, LATENTS, K)[0]
    return codes, np.random.default_rng(0).standard_normal((rows, JUDGE)).astype(np.float32)


def ours_ms(rows: int) -> Callable[[], np.ndarray]:
    """Monosemanticity without the n x n matrix."""
    return partial(monosemanticity, *_judged(rows))


def matrix_ms(rows: int) -> Callable[[], np.ndarray]:
    """Monosemanticity by its definition: no code here is active in every row, so that the least activation is 0."""
    codes, judge = _judged(rows)

    def run() -> np.ndarray:
        unit = judge / np.linalg.norm(judge, axis=1, keepdims=True)
        similarity = (unit @ unit.T).astype(np.float64)
        np.fill_diagonal(similarity, 0.0)
        weights = codes.astype(np.float64) / codes.max(axis=0).toarray().clip(1e-12)
        top = (weights * (similarity @ weights)).sum(axis=0)
        total = np.square(weights.sum(axis=0)) - weights.power(2).sum(axis=0)
        return np.divide(top, total, out=np.full(len(total), np.nan), where=total > 0)

    return run


CASES = (
    ("retrieval both ways", {"images": 1000}, {"ours": ours, "dense": dense}),
    ("retrieval both ways", {"images": 5000}, {"ours": ours, "dense": dense}),
    ("monosemanticity", {"rows": 5000}, {"ours": ours_ms, "matrix": matrix_ms}),
    ("monosemanticity", {"rows": 20_000}, {"ours": ours_ms, "matrix": matrix_ms}),
    ("monosemanticity", {"rows": 500_000}, {"ours": ours_ms}),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    tables = []
    for what, size, makes in CASES:
        runs = {name: make(**size) for name, make in makes.items()}
        results = [run() for run in runs.values()]
        seconds = alternate(runs, arguments.repeats, warm_up=0)
        small = dict.fromkeys(size, 20)
        table = pd.DataFrame(
            {
                "contestant": list(runs),
                "seconds": [seconds[name] for name in runs],
                "x_reference": [seconds[name] / list(seconds.values())[-1] for name in runs],
                "peak_mb": [peak_memory(partial(make, **size), partial(make, **small)) for make in makes.values()],
                "max_difference": np.nanmax(np.abs(results[0] - results[-1])),
            }
        )
        if len(runs) == 1:
            table[["x_reference", "max_difference"]] = np.nan
        table.insert(0, "what", what)
        table.insert(1, "size", ", ".join(f"{number} {name}" for name, number in size.items()))
        tables.append(table)
    write(pd.concat(tables).assign(L=LATENTS, k=K), "retrieval")


if __name__ == "__main__":
    main()
