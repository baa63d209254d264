"""Co-activation from sparse codes against the dense product, the assignment, and how both grow.

    python -m benchmarks.alignment

The dense reference standardises both (n_pairs, L) matrices in float32 and multiplies them: n L^2 multiplications and
8 n L bytes. From sparse codes it is n k^2 multiplications, and 4 L^2 bytes for the result, or, of its positive entries
alone, 12 bytes for each of at most n k^2. The assignment is SciPy's, cubic in the alive latents at worst; `unrelated`
are codes whose two sides have nothing to do with each other, the hard case.
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
from xsae.alignment import Alignment
from xsae.correlation import co_activation, positive_co_activation

BASE = {"pairs": 50_000, "latents": 4096, "k": 32}  # latents: of each side
GROWTH = (
    {"pairs": 12_500}, {"pairs": 200_000}, {"pairs": 800_000}, {"pairs": 3_000_000}, {"latents": 1024},
    {"latents": 8192}, {"k": 8}, {"k": 128},
)  # fmt: skip
MANY = ({"latents": 16_384}, {"latents": 32_768}, {"latents": 65_536})
SMALL = {"pairs": 100, "latents": 16, "k": 4}


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


def fit_run(pairs: int, latents: int, k: int) -> Callable[[], Alignment]:
    """`Alignment.fit`, which from 8192 latents a side on holds positive correlations alone."""
    return partial(Alignment().fit, *paired_codes(pairs, latents, k))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    makes = {"ours": sparse_run, "dense": dense_run}
    runs = {name: make(**BASE) for name, make in makes.items()}
    error = float(np.abs(runs["ours"]() - runs["dense"]()).max())
    seconds = alternate(runs, arguments.repeats, warm_up=0)
    rows = [
        BASE
        | {"what": f"co-activation, {name}", "seconds": seconds[name], "x_dense": seconds[name] / seconds["dense"]}
        | {"peak_mb": peak_memory(partial(make, **BASE), partial(make, **SMALL)), "max_difference": error}
        for name, make in makes.items()
    ]
    for change in ({}, *GROWTH):
        size = BASE | change
        taken, correlation = _timed(co_activation, *paired_codes(**size))
        rows.append(size | {"what": "co-activation, ours, once", "seconds": taken})
        rows.append(size | {"what": "assignment", "seconds": _timed(linear_sum_assignment, correlation, True)[0]})
    correlation = co_activation(*paired_codes(**BASE, common=0.0))
    taken = _timed(linear_sum_assignment, correlation, True)[0]
    rows.append(BASE | {"what": "assignment, unrelated", "seconds": taken})
    for change in MANY:
        size = BASE | change
        codes = paired_codes(**size)
        taken, positive = _timed(positive_co_activation, *codes)
        rows.append(size | {"what": "co-activation, positive entries", "seconds": taken, "entries": positive.nnz})
        del positive
        taken, fitted = _timed(Alignment().fit, *codes)
        # No assignment can reach more than the positive matches do: what the others lose bounds what is missed.
        missed = -np.minimum(fitted.correlation_[fitted.matched_], 0).sum()
        rows.append(
            size
            | {"what": "fit, on positive entries", "seconds": taken, "missed_at_most": missed}
            | {"of_total": float(fitted.correlation_[fitted.matched_].sum())}
            | {"peak_mb": peak_memory(partial(fit_run, **size), partial(fit_run, **SMALL), times=1)}
        )
    table = pd.DataFrame(rows)
    write(table[["what", *BASE, *(column for column in table if column not in ("what", *BASE))]], "alignment")


def _timed(call: Callable, *arguments: object) -> tuple[float, object]:
    began = time.perf_counter()
    result = call(*arguments)
    return time.perf_counter() - began, result


if __name__ == "__main__":
    main()
