"""How long each alignment takes to fit, beside the paper's own.

    python -m benchmarks.alignments

All are fitted on the same random codes, in turns, with two threads: at the size of a laptop run, and at twice the
latents with half of the pairs. The directions that `decoder_cosine` is given are random too.
"""

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import torch

from benchmarks.codes import paired_codes
from benchmarks.measure import alternate, write
from xsae.alignments import LinearAlignment, every

SIZES = ({"pairs": 100_000, "latents": 512, "k": 8}, {"pairs": 50_000, "latents": 1024, "k": 16})
DIM = 128  # of the directions


def fits(pairs: int, latents: int, k: int) -> dict[str, Callable[[], LinearAlignment]]:
    """The fit of every alignment, by name."""
    codes, rng = paired_codes(pairs, latents, k), np.random.default_rng(0)
    directions = (rng.standard_normal((latents, DIM)) for _ in codes)
    return {name: partial(alignment.fit, *codes) for name, alignment in every(*directions).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    rows = []
    for size in SIZES:
        seconds = alternate(fits(**size), arguments.repeats, warm_up=0)
        rows += [
            {"alignment": name} | size | {"seconds": took, "x_hungarian": took / seconds["hungarian"]}
            for name, took in seconds.items()
        ]
    write(pd.DataFrame(rows), "alignments")


if __name__ == "__main__":
    main()
