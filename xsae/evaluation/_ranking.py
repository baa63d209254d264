"""Cosines, pessimistic ranks and chance: what the ranking evaluations share."""

from collections.abc import Callable

import numpy as np
from scipy import sparse

TOLERANCE = 1e-6  # similarities this close are ties: the order of a float sum must not break one in the model's favour
_BLOCK_VALUES = 4_000_000  # similarities held at one time (32 MB as float64)

Rows = np.ndarray | sparse.csr_array


def pessimistic_ranks(
    queries: Rows, gallery: Rows, owned: Callable[[slice], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Rank of each query's best own item: 1 + the others whose similarity reaches its own (within `TOLERANCE`).

    Args:
        queries: (n_queries, L) unit rows.
        gallery: (n_gallery, L) unit rows.
        own: for a slice of queries, bool (rows, n_gallery): which items are the query's own; at least one each.

    Returns:
        ranks (n_queries,) int64, and tied (n_queries,) bool: the best own item ties with at least one other.
    """
    n = queries.shape[0]
    ranks, tied = np.empty(n, dtype=np.int64), np.empty(n, dtype=bool)
    gallery_columns = gallery.T.tocsr() if sparse.issparse(gallery) else gallery.T
    block_rows = max(1, _BLOCK_VALUES // gallery.shape[0])
    for start in range(0, n, block_rows):
        rows = slice(start, start + block_rows)
        similarity = queries[rows] @ gallery_columns
        similarity = similarity.toarray() if sparse.issparse(similarity) else similarity
        mine = owned(rows)
        best_own = np.where(mine, similarity, -np.inf).max(axis=1, keepdims=True)
        similarity[mine] = -np.inf  # from here on, others only
        reaching = np.count_nonzero(similarity >= best_own - TOLERANCE, axis=1)
        ranks[rows] = 1 + reaching
        tied[rows] = reaching > np.count_nonzero(similarity > best_own + TOLERANCE, axis=1)
    return ranks, tied


def hit_probability(partners: np.ndarray, n_gallery: int, k: int) -> float:
    """Chance that one of a query's `own` (n_queries,) items among `n_gallery` is in the top k of a random order.

    1 - C(N-m, k) / C(N, k), the ratio as Π_{j<k} (N-m-j) / (N-j); the mean over queries.
    """
    others = n_gallery - partners
    miss = np.ones(len(partners))
    for drawn in range(min(k, n_gallery)):
        miss *= (others - drawn) / (n_gallery - drawn)  # stays 0 once the other items are used up
    return float(1.0 - miss.mean())


def unit_rows(rows: Rows, what: str) -> Rows:
    """Rows over their L2 norm, zero rows left at zero; float64, or float32 where dense rows are that."""
    if sparse.issparse(rows):
        rows = sparse.csr_array(rows, dtype=np.float64, copy=True)
        norm = np.sqrt(np.asarray(rows.power(2).sum(axis=1)))
    else:
        rows = np.asarray(rows)
        rows = rows if rows.dtype == np.float32 else rows.astype(np.float64)
        norm = np.linalg.norm(rows, axis=1)
    if not np.isfinite(norm).all():
        first = np.flatnonzero(~np.isfinite(norm))[0]
        raise ValueError(f"{what} holds NaN or infinity (first in row {first}); every value must be finite")
    norm[norm == 0] = 1.0
    if not sparse.issparse(rows):
        return rows / norm[:, None]
    rows.data /= np.repeat(norm, np.diff(rows.indptr))
    return rows


def unit_directions(rows: np.ndarray, what: str) -> np.ndarray:
    """Rows over their L2 norm as float64; a zero row, which has no direction, is an error."""
    rows = np.asarray(rows, dtype=np.float64)
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    bad = np.flatnonzero(~(np.isfinite(norm[:, 0]) & (norm[:, 0] > 0)))
    if len(bad):
        raise ValueError(f"{what}: {len(bad)} rows are zero or not finite (first: {bad[0]}); a direction needs a norm")
    return rows / norm
