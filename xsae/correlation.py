"""How much latents of two sides fire on the same pairs: what alignments are fitted on (paper, Method: the matrix C)."""

import numpy as np
from scipy import sparse

_BLOCK = 512  # reference latents whose correlations are dense float64 at one time: 16 MB at 4096 other latents


def co_activation(reference_codes: sparse.csr_array, other_codes: sparse.csr_array) -> np.ndarray:
    """Pearson correlation of every pair of latents over the pairs of embeddings (paper, Method: the matrix C).

    Args:
        reference_codes: (n_pairs, L_a) sparse codes of one modality.
        other_codes: (n_pairs, L_b) sparse codes of the other modality; row i of each belongs to pair i.

    Returns:
        (L_a, L_b) float32 in [-1, 1]. A latent that never varies (a dead one above all) correlates 0 with everything.

    Raises:
        ValueError: the row counts differ, there is no row, or a code is not finite.
    """
    (reference, reference_mean), (other, other_mean) = standardised(reference_codes, other_codes)
    n = reference.shape[0]
    by_latent = reference.T.tocsr()
    correlation = np.empty((reference.shape[1], other.shape[1]), dtype=np.float32)
    for start in range(0, len(correlation), _BLOCK):
        rows = slice(start, start + _BLOCK)
        block = (by_latent[rows] @ other).toarray()
        block -= n * reference_mean[rows, None] * other_mean
        np.clip(block, -1.0, 1.0, out=block)  # rounding may pass 1 by an ulp
        correlation[rows] = block
    return correlation


def positive_co_activation(reference_codes: sparse.csr_array, other_codes: sparse.csr_array) -> sparse.csr_array:
    """The positive entries of `co_activation`, (L_a, L_b) float32 sparse; arguments and errors are the same.

    Two latents that never fire together correlate -n mean_a mean_b (means of latents scaled to unit spread), so that
    nothing positive is left out, and what is left out can be had from the means. At most n k² entries.
    """
    (reference, reference_mean), (other, other_mean) = standardised(reference_codes, other_codes)
    n = reference.shape[0]
    by_latent = reference.T.tocsr()
    parts = []
    for start in range(0, reference.shape[1], _BLOCK):
        block = by_latent[start : start + _BLOCK] @ other
        means = np.repeat(reference_mean[start : start + _BLOCK], np.diff(block.indptr))
        block.data = np.clip(block.data - n * means * other_mean[block.indices], 0.0, 1.0)
        block = block.astype(np.float32)
        block.eliminate_zeros()
        parts.append(block)
    return sparse.vstack(parts, format="csr")


def standardised(reference_codes: sparse.csr_array, other_codes: sparse.csr_array) -> list:
    """Both codes as `_scaled` gives them, once they are found to be of pairs."""
    if reference_codes.shape[0] != other_codes.shape[0]:
        raise ValueError(
            f"co_activation: reference_codes has {reference_codes.shape[0]} rows and other_codes has "
            f"{other_codes.shape[0]}; row i of each must belong to one pair"
        )
    if reference_codes.shape[0] == 0:
        raise ValueError("co_activation: reference_codes and other_codes have 0 rows; a correlation needs pairs")
    return [_scaled(reference_codes, "reference_codes"), _scaled(other_codes, "other_codes")]


def _scaled(codes: sparse.csr_array, name: str) -> tuple[sparse.csr_array, np.ndarray]:
    """Codes whose every latent has centred sum of squares 1 (0 if it never varies), and their column means, float64.

    Scaled but not centred, for centring would fill the zeros; Σ ab - n·mean(a)·mean(b) is then the correlation itself.
    """
    codes = sparse.csr_array(codes, dtype=np.float64, copy=True)
    if not np.isfinite(codes.data).all():
        raise ValueError(f"co_activation: {name} holds NaN or infinity; codes must be finite")
    mean = np.asarray(codes.mean(axis=0))
    spread = np.asarray(codes.power(2).sum(axis=0)) - codes.shape[0] * mean**2
    # Compared exactly: the subtraction above leaves a rounding residue for a latent with one constant value.
    varies = (codes.max(axis=0).toarray() != codes.min(axis=0).toarray()) & (spread > 0)
    scale = np.zeros_like(mean)
    scale[varies] = 1.0 / np.sqrt(spread[varies])
    codes.data *= scale[codes.indices]
    return codes, mean * scale
