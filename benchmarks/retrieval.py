"""Retrieval in code space: ranks of 25,000 captions and 5,000 images from sparse codes, against dense products.

    python -m benchmarks.retrieval

Both give the same pessimistic ranks. The dense reference fills the codes, (n, L), and multiplies block by block.
"""

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import torch

from benchmarks.codes import paired_codes
from benchmarks.measure import alternate, peak_memory, write
from xsae.evaluation.retrieval import ranks

CAPTIONS = 5  # of each image
SIZES = ({"images": 1000}, {"images": 5000})
LATENTS, K = 8192, 32


def _codes(images: int):
    image, text = paired_codes(images * CAPTIONS, LATENTS, K)
    owner = np.repeat(np.arange(images), CAPTIONS)
    return image[::CAPTIONS], text, np.arange(images), owner


def sparse_run(images: int) -> Callable[[], list[np.ndarray]]:
    """Ours, both ways."""
    image, text, image_ids, text_ids = _codes(images)

    def run() -> list[np.ndarray]:
        return [ranks(image, text, image_ids, text_ids)[0], ranks(text, image, text_ids, image_ids)[0]]

    return run


def dense_run(images: int) -> Callable[[], list[np.ndarray]]:
    """The same from dense codes, in float32 on all threads."""
    image, text, image_ids, text_ids = _codes(images)
    sides = ((image, text, image_ids, text_ids), (text, image, text_ids, image_ids))

    def run() -> list[np.ndarray]:
        found = []
        for queries, gallery, query_ids, gallery_ids in sides:
            gallery = torch.nn.functional.normalize(torch.from_numpy(gallery.toarray()))
            own = []
            for start in range(0, queries.shape[0], 500):
                block = torch.from_numpy(queries[start : start + 500].toarray())
                similarity = torch.nn.functional.normalize(block) @ gallery.T
                mine = torch.from_numpy(query_ids[start : start + 500, None] == gallery_ids)
                best = similarity.masked_fill(~mine, -1).amax(1, keepdim=True)
                own.append(1 + (similarity.masked_fill(mine, -1) >= best - 1e-6).sum(1))
            found.append(torch.cat(own).numpy())
        return found

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    makes, tables = {"ours": sparse_run, "dense": dense_run}, []
    for size in SIZES:
        runs = {name: make(**size) for name, make in makes.items()}
        differ = [np.mean(a != b) for a, b in zip(*(run() for run in runs.values()), strict=True)]
        seconds = alternate(runs, arguments.repeats, warm_up=0)
        memory = {name: peak_memory(partial(make, **size), partial(make, images=20)) for name, make in makes.items()}
        table = pd.DataFrame({"seconds": seconds, "peak_mb": memory}).rename_axis("contestant").reset_index()
        tables.append(
            table.assign(**size, captions=size["images"] * CAPTIONS, L=LATENTS, k=K, ranks_differ=max(differ))
        )
    table = pd.concat(tables)
    write(table[["images", "captions", "L", "k", "contestant", "seconds", "peak_mb", "ranks_differ"]], "retrieval")


if __name__ == "__main__":
    main()
