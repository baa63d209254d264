"""A few partners for each latent: the sparse map that retrieves nearly as a dense one does."""

from typing import Self

import numpy as np
from scipy import sparse

from xsae.alignments.base import LinearAlignment, Moments


class Partners(LinearAlignment):
    """Ridge regression of each side's codes on the other's, both on one sparse support.

        F = argmin E‖a - F b‖² + λ_b ‖F‖²        B = argmin E‖b - B a‖² + λ_a ‖B‖²        (codes centred)
        S = for each latent i of a, the latents j of b with the largest |F_ij σ_j| · |B_ji σ_i|
        then F and B once more, each restricted to S

    a is the reference's code, b the other's; σ² are (damped) variances, so that |F_ij σ_j| is how much of a_i latent j
    moves. A latent is a partner when it predicts and is predicted, *beside all others*: four latents that say the
    same correlate equally well, but a regression needs one of them. λ is that of `Moments.damped`.

    Each reference latent keeps its identity: it is at most `k` of the other's, with a weight each. `weights_` and
    `back_weights_` have the same support. Reconstruction is untouched. A latent of the other's may be partner of many,
    unless `both_sides`: S then takes the largest scores of all in turn, as long as both latents have a place left.
    """

    def __init__(self, k: int = 4, both_sides: bool = False) -> None:
        """k: partners that a reference latent may have; both_sides: and a latent of the other's."""
        if k < 1:
            raise ValueError(f"Partners: k is {k}; a latent needs at least 1 partner")
        self.k, self.both_sides = k, both_sides

    def fit(self, reference_codes: sparse.csr_array, other_codes: sparse.csr_array) -> Self:
        """Raises ValueError: row counts differ, fewer than two pairs, or a code is not finite."""
        moments = Moments.of(reference_codes, other_codes)
        forward, backward = (
            np.linalg.solve(way.damped, way.cross.T).T * np.sqrt(np.diag(way.damped)) for way in (moments, moments.back)
        )
        choose = _largest_both_ways if self.both_sides else largest
        support = choose(np.abs(forward * backward.T), self.k)
        self.weights_ = restricted(moments, support)
        self.back_weights_ = restricted(moments.back, support.T)
        return self


def largest(scores: np.ndarray, k: int) -> np.ndarray:
    """The k largest positive entries of each row, the first of equals: bool (rows, columns)."""
    chosen = np.zeros(scores.shape, dtype=bool)
    np.put_along_axis(chosen, np.argsort(-scores, axis=1, kind="stable")[:, :k], True, axis=1)
    return chosen & (scores > 0)


def _largest_both_ways(scores: np.ndarray, k: int) -> np.ndarray:
    """The largest positive scores in turn, at most k in each row and in each column: bool (rows, columns)."""
    rows, columns = np.nonzero(scores > 0)
    order = np.argsort(-scores[rows, columns], kind="stable")
    chosen, row_left, column_left = np.zeros(scores.shape, dtype=bool), [k] * len(scores), [k] * scores.shape[1]
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row_left[row] and column_left[column]:
            chosen[row, column] = True
            row_left[row] -= 1
            column_left[column] -= 1
    return chosen


def restricted(moments: Moments, support: np.ndarray) -> sparse.csr_array:
    """The ridge regression of each reference latent on those of the other's that `support` (L_a, L_b) allows."""
    weights, damped = np.zeros(support.shape), moments.damped
    for latent in np.flatnonzero(support.any(axis=1)):
        partners = np.flatnonzero(support[latent])
        weights[latent, partners] = np.linalg.solve(damped[np.ix_(partners, partners)], moments.cross[latent, partners])
    return sparse.csr_array(weights)
