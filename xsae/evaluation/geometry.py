"""What a joint embedding looks like, before any autoencoder: how its modalities lie to each other and in themselves.

To set a data set, the embedded worlds or one's own, beside real CLIP embeddings.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np

from xsae.evaluation._ranking import unit_directions
from xsae.evaluation.retrieval import recall

if TYPE_CHECKING:  # metrics import no torch
    from xsae.data.store import EmbeddingStore

LOOKED_AT = 2000  # held-out pairs, as many as CLIP's own figures are of

PATTERNS = 30  # canonical patterns whose cosines are averaged
_RIDGE = 0.01  # of the largest variance, added to all before whitening: few pairs leave the small ones unknown


def statistics(store: EmbeddingStore, other: str) -> dict[str, float]:
    """`modality_statistics` of a store's first modality and another on held-out pairs, `LOOKED_AT` at most, no two of
    which share an embedding; `R@1 <direction>` among them, both ways, and `n_pairs`."""
    reference = store.modalities[0]
    test = store.distinct("test").head(LOOKED_AT)
    x = {m: store[m][test[m].to_numpy()] for m in (reference, other)}
    ranked = {
        f"R@1 {a}_to_{b}": recall(x[a], x[b], test[reference], test[reference])["R@1"] for a, b in permutations(x, 2)
    }
    return modality_statistics(x) | ranked | {"n_pairs": len(test)}


def modality_statistics(embeddings: Mapping[str, np.ndarray]) -> dict[str, float]:
    """What sets two modalities of one joint embedding apart, and how each is spread.

    Args:
        embeddings: modality -> (n, d), two of them; row i of each belongs to pair i. Rows are normalised here.

    Returns:
        `matched_cosine`, the mean over pairs; `mismatched_cosine`, the mean over all i ≠ j; `d_prime`, the difference
        of the two over the root mean square of their standard deviations; `modality_gap`, the L2 distance of the two
        means; `pattern_cosine` (see `pattern_cosine`). For each modality `dims_95_<name>`, how many principal
        dimensions hold 95 % of the centred variance, `share_95_<name>`, the same divided by d, `top10_<name>`, the
        share of the variance in ten dimensions, `participation_<name>`, (Σ λ)² / Σ λ² of the variances λ, and
        `within_<name>`, the mean cosine of two rows i ≠ j of the modality.

    Raises:
        ValueError: shapes differ, fewer than two pairs, a row zero or not finite, or a modality without variance.
    """
    (name_a, a), (name_b, b) = embeddings.items()
    if a.ndim != 2 or a.shape != b.shape or len(a) < 2:
        raise ValueError(
            f"modality_statistics: {name_a} has shape {a.shape} and {name_b} {b.shape}; "
            "both must be the same (n, d) with at least 2 pairs"
        )
    n, d = a.shape
    a, b = (unit_directions(x, f"modality_statistics: {name}") for name, x in embeddings.items())
    variances = {name: _variance(x, name) for name, x in ((name_a, a), (name_b, b))}
    cosine = np.einsum("nd,nd->n", a, b)
    others = n * (n - 1)
    # Σ_ij u_i·v_j = (Σ_i u_i)·(Σ_j v_j), and Σ_ij (u_i·v_j)² = ⟨Σ u uᵀ, Σ v vᵀ⟩: no n x n matrix is made
    mismatched = (a.sum(axis=0) @ b.sum(axis=0) - cosine.sum()) / others
    square = (np.sum((a.T @ a) * (b.T @ b)) - np.sum(cosine**2)) / others
    spread = (cosine.var() + max(square - mismatched**2, 0.0)) / 2
    found = {
        "matched_cosine": float(cosine.mean()),
        "mismatched_cosine": float(mismatched),
        "d_prime": float((cosine.mean() - mismatched) / np.sqrt(spread)) if spread > 0 else np.nan,
        "modality_gap": float(np.linalg.norm(a.mean(axis=0) - b.mean(axis=0))),
        "pattern_cosine": pattern_cosine(a, b),
    }
    for name, x in ((name_a, a), (name_b, b)):
        variance = variances[name]
        dims = int(np.count_nonzero(np.cumsum(variance) < 0.95 * variance.sum())) + 1
        found |= {
            f"dims_95_{name}": dims,
            f"share_95_{name}": dims / d,
            f"top10_{name}": float(variance[:10].sum() / variance.sum()),
            f"participation_{name}": float(variance.sum() ** 2 / np.sum(variance**2)),
            f"within_{name}": mean_similarity(x),
        }
    return found


def mean_similarity(x: np.ndarray) -> float:
    """The mean cosine of two different rows of x (n, d), unit rows."""
    n, total = len(x), x.sum(axis=0, dtype=np.float64)
    return float((total @ total - n) / (n * (n - 1)))


def pattern_cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Whether what two modalities share points one way in both: heterogeneity without labels or autoencoders.

    Canonical correlation analysis finds the pairs of linear features, u·x in one modality and v·y in the other, that
    correlate most. The pattern of a feature is how embeddings change with it, Σ_x u and Σ_y v (Haufe et al. 2014): a
    direction of the joint space in each modality, as a concept has one in each. Returned is the mean cosine of the two
    over the `PATTERNS` strongest pairs; 1 where every shared feature has one direction.

    a, b: (n, d) embeddings, row i of each of pair i. Before whitening, a hundredth of the largest variance of a
    modality is added to all of its variances.
    """
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    (root_a, white_a), (root_b, white_b) = (_roots(x) for x in (a, b))
    left, _, right = np.linalg.svd(white_a @ (a.T @ b / len(a)) @ white_b)
    first = (root_a @ left)[:, :PATTERNS]
    second = (root_b @ right.T)[:, :PATTERNS]
    lengths = np.linalg.norm(first, axis=0) * np.linalg.norm(second, axis=0)
    return float(np.mean(np.sum(first * second, axis=0) / lengths))


def _roots(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The square root of a centred matrix's covariance, and its inverse, both (d, d)."""
    variance, axes = np.linalg.eigh(x.T @ x / len(x))
    scale = np.sqrt(variance.clip(min=0.0) + _RIDGE * variance.max())
    return (axes * scale) @ axes.T, (axes / scale) @ axes.T


def _variance(rows: np.ndarray, name: str) -> np.ndarray:
    """The variances (d,) of the principal dimensions, largest first."""
    if (rows == rows[0]).all():
        raise ValueError(f"modality_statistics: {name} is one direction in all {len(rows)} rows; it must vary")
    centred = rows - rows.mean(axis=0)
    return np.linalg.eigvalsh(centred.T @ centred)[::-1].clip(min=0.0)
