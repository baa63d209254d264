"""Random codes as uneven as real ones: few latents fire often, many seldom."""

import numpy as np
from scipy.sparse import csr_array


def paired_codes(pairs: int, latents: int, k: int, common: float = 0.5, seed: int = 0) -> tuple[csr_array, csr_array]:
    """Two float32 (pairs, latents) arrays of k positive entries a row, drawn for a share `common` once for a pair.

    Latent j fires at a rate that falls like 1 / sqrt(j), after a shuffle of the latents of each side.
    """
    rng = np.random.default_rng(seed)
    n_common = round(common * k)
    shared = _draw(rng, pairs, latents, n_common)
    sides = []
    for _ in range(2):
        drawn = np.concatenate([shared, _draw(rng, pairs, latents, k - n_common)], axis=1)
        columns = rng.permutation(latents)[drawn]
        values = rng.exponential(size=drawn.shape).astype(np.float32)
        code = csr_array((values.ravel(), columns.ravel(), np.arange(pairs + 1) * k), shape=(pairs, latents))
        code.sum_duplicates()
        sides.append(code)
    return sides[0], sides[1]


def _draw(rng: np.random.Generator, n: int, latents: int, k: int) -> np.ndarray:
    """int (n, k) with density falling like 1 / sqrt: the square of a uniform number."""
    return (latents * rng.random((n, k)) ** 2).astype(np.int64)
