"""One partner for each latent: the paper's matching, and two plainer ones to hold it against."""

from typing import Self

import numpy as np
from scipy import sparse
from scipy.optimize import linear_sum_assignment

from xsae.alignment import Alignment
from xsae.alignments.base import SparseMap
from xsae.correlation import co_activation


class Hungarian(SparseMap):
    """The paper's alignment, argmax_π Σ_i C[i, π(i)] with C the co-activation correlation. alignment_: as fitted."""

    alignment_: Alignment

    def fit(self, reference_codes: sparse.csr_array, other_codes: sparse.csr_array) -> Self:
        """Raises ValueError as `Alignment.fit` does."""
        self.alignment_ = Alignment().fit(reference_codes, other_codes)
        matches = self.alignment_.matches()
        return self._set(_ones(matches["latent"], matches["partner"], (len(self.alignment_.permutation_),) * 2))


class Greedy(SparseMap):
    """The largest correlation of all makes the first match, the largest of the latents left the next, and so on.

    Ends where no two latents left correlate positively.
    """

    def fit(self, reference_codes: sparse.csr_array, other_codes: sparse.csr_array) -> Self:
        """Raises ValueError as `co_activation` does."""
        correlation = co_activation(reference_codes, other_codes)
        free_row, free_column = (np.ones(size, dtype=bool) for size in correlation.shape)
        rows, columns = np.nonzero(correlation > 0)
        order = np.argsort(-correlation[rows, columns], kind="stable")
        found = []
        for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
            if free_row[row] and free_column[column]:
                free_row[row] = free_column[column] = False
                found.append((row, column))
        rows, columns = np.array(found, dtype=np.int64).reshape(-1, 2).T
        return self._set(_ones(rows, columns, correlation.shape))


class DecoderCosine(SparseMap):
    """argmax_π Σ_i cos(d_i, d_π(i)) over alive latents: directions alone, co-activation unseen."""

    def __init__(self, reference_directions: np.ndarray, other_directions: np.ndarray) -> None:
        """Dictionaries (L_reference, d) and (L_other, d)."""
        self.reference_directions, self.other_directions = reference_directions, other_directions

    def fit(self, reference_codes: sparse.csr_array, other_codes: sparse.csr_array) -> Self:
        """The codes say which latents are alive. Raises ValueError: a direction is missing, zero or not finite."""
        a, rows = _alive(self.reference_directions, reference_codes, "reference")
        b, columns = _alive(self.other_directions, other_codes, "other")
        i, j = linear_sum_assignment(a @ b.T, maximize=True)
        return self._set(_ones(rows[i], columns[j], (reference_codes.shape[1], other_codes.shape[1])))


def _alive(directions: np.ndarray, codes: sparse.csr_array, side: str) -> tuple[np.ndarray, np.ndarray]:
    """The unit directions (alive, d) of the latents that fire in codes (n, L), and which these are."""
    if len(directions) != codes.shape[1]:
        raise ValueError(
            f"DecoderCosine: {len(directions)} {side}_directions for {codes.shape[1]} latents; one each is needed"
        )
    latents = np.flatnonzero(codes.count_nonzero(axis=0))
    chosen = np.asarray(directions, dtype=np.float64)[latents]
    norm = np.linalg.norm(chosen, axis=1, keepdims=True)
    if not (np.isfinite(norm) & (norm > 0)).all():
        raise ValueError(f"DecoderCosine: {side}_directions of latents that fire hold zero rows, NaN or infinity")
    return chosen / norm, latents


def _ones(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> sparse.csr_array:
    return sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=shape)
