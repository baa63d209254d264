"""Monosemanticity of latents: how alike another encoder finds the things a latent fires on (paper, figure on MS)."""

import numpy as np
from scipy import sparse

from xsae.evaluation._ranking import unit_directions

_BLOCK = 65_536  # rows of the judge's embeddings that are float64 at one time: 256 MB at d' = 512
_LEAST = 1e-9  # a difference of two sums that is a smaller share of them may be nothing but their rounding


def monosemanticity(codes: sparse.csr_array, judge: np.ndarray) -> np.ndarray:
    """MS of each latent, the activation-weighted mean similarity of two different rows (Pach et al. 2025, Eq. 9).

        MS_j = Σ_{n≠m} ã_nj ã_mj s_nm / Σ_{n≠m} ã_nj ã_mj        s_nm = cos(e_n, e_m)
        ã_nj = (a_nj - min_n a_nj) / (max_n a_nj - min_n a_nj)

    computed without the n x n matrix, for Σ_{n≠m} ã_n ã_m s_nm = ‖Σ_n ã_n e_n‖² - Σ_n ã_n² with unit e_n. The minimum
    is over all rows: it is 0 for every latent that is ever silent, which therefore counts the rows it fires on alone.

    Args:
        codes: (n, L) codes of one modality, >= 0.
        judge: (n, d') embeddings of the same rows by an encoder other than the SAE's. Rows are normalised here.

    Returns:
        (L,) float64 in [-1, 1]; NaN for a latent that weighs no two rows: one that is dead, is one constant, or fires
        once, beside which a billionth elsewhere counts as nothing.

    Raises:
        ValueError: the row counts differ, there is no row, a code is negative or not finite, or an embedding is zero or
            not finite.
    """
    n, latents = codes.shape
    if judge.ndim != 2 or len(judge) != n or n == 0:
        raise ValueError(
            f"monosemanticity: codes has shape {codes.shape} and judge {judge.shape}; "
            "both must be of the same rows, at least 1"
        )
    weights = sparse.csr_array(codes, dtype=np.float64, copy=True)
    if not (np.isfinite(weights.data).all() and (weights.data >= 0).all()):
        raise ValueError("monosemanticity: codes holds NaN, infinity or a negative value; activations are >= 0")
    low, high = weights.min(axis=0).toarray(), weights.max(axis=0).toarray()
    # Only a latent that is always on has low > 0, and it has no unstored zeros to which the shift would not apply.
    weights.data -= low[weights.indices]
    weights.data /= np.where(high > low, high - low, 1.0)[weights.indices]

    total = np.zeros((latents, judge.shape[1]))
    for start in range(0, n, _BLOCK):
        rows = slice(start, start + _BLOCK)
        total += weights[rows].T @ unit_directions(judge[rows], f"monosemanticity: judge, counted from row {start}")
    itself = np.asarray(weights.power(2).sum(axis=0))  # the pairs n = m, whose similarity is 1
    similarity = np.square(total).sum(axis=1) - itself
    every = np.square(np.asarray(weights.sum(axis=0)))  # pairs n = m among them
    weight = every - itself
    score = np.divide(similarity, weight, out=np.full(latents, np.nan), where=weight > _LEAST * every)
    return np.clip(score, -1.0, 1.0)  # rounding may pass 1 by an ulp
