"""Co-activation from sparse codes against the dense product, the assignment, and how both grow.

    python -m benchmarks.alignment

The dense reference standardises both (n_pairs, L) matrices in float32 and multiplies them: n L^2 multiplications and
8 n L bytes. From sparse codes it is n k^2 multiplications and the 4 L^2 bytes of the result. The assignment is SciPy's
(Crouse 2016), cubic in the alive latents at worst.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import torch
from scipy.optimize import linear_sum_assignment

from benchmarks.codes import paired_codes
from benchmarks.measure import alternate, peak_memory, write
from xsae.alignment import co_activation

BASE = {"pairs": 50_000, "latents": 4096, "k": 32}  # latents: of each side
GROWTH = (
    {"pairs": 12_500}, {"pairs": 200_000}, {"pairs": 800_000}, {"latents": 1024}, {"latents": 16_384}, {"k": 8},
    {"k": 128},
)  # fmt: skip


def sparse_run(pairs: int, latents: int, k: int) -> Callable[[], np.ndarray]:
    """Ours."""
    return partial(co_activation, *paired_codes(pairs, latents, k))


def dense_run(pairs: int, latents: int, k: int) -> Callable[[], np.ndarray]:
    """The correlation as one writes it first."""
    codes = paired_codes(pairs, latents, k)

    def run() -> np.ndarray:
        scaled = []
        for code in codes:
            z = torch.from_numpy(code.toarray())
            z -= z.mean(0)
            z /= z.norm(dim=0).clamp_min(1e-12)
            scaled.append(z)
        return (scaled[0].T @ scaled[1]).numpy()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    small = {"pairs": 100, "latents": 16, "k": 4}
    makes = {"ours": sparse_run, "dense": dense_run}
    runs = {name: make(**BASE) for name, make in makes.items()}
    error = float(np.abs(runs["ours"]() - runs["dense"]()).max())
    seconds = alternate(runs, arguments.repeats, warm_up=0)
    memory = {name: peak_memory(partial(make, **BASE), partial(make, **small)) for name, make in makes.items()}
    rows = [
        BASE | {"what": f"co-activation, {name}", "seconds": seconds[name], "peak_mb": memory[name]} for name in makes
    ]
    rows[0]["largest difference"] = error
    for change in ({}, *GROWTH):
        size = BASE | change
        codes = paired_codes(**size)
        began = time.perf_counter()
        correlation = co_activation(*codes)
        found = time.perf_counter()
        if change:
            rows.append(size | {"what": "co-activation, ours", "seconds": found - began})
        if size["latents"] <= 4096:
            linear_sum_assignment(correlation, maximize=True)
            rows.append(size | {"what": "assignment, all alive", "seconds": time.perf_counter() - found})
    table = pd.DataFrame(rows)
    write(table[["what", *BASE, *(column for column in table if column not in ("what", *BASE))]], "alignment")


if __name__ == "__main__":
    main()
