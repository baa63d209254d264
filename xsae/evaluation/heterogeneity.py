"""Same concept, different directions: gaps of matched directions and of whole modalities (paper, Fig. 2)."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from xsae.alignment import Alignment
from xsae.evaluation._ranking import unit_directions


def direction_gap(dictionary_a: np.ndarray, dictionary_b: np.ndarray, alignment: Alignment) -> pd.DataFrame:
    """Direction gap of every match, 1 - cos(row i of a, row π(i) of b).

    Args:
        dictionary_a: (L, d) directions of the reference SAE; rows are normalised here.
        dictionary_b: (L, d) directions of the other SAE in its own order: the alignment re-orders them here.
        alignment: fitted on (reference, other) codes.

    Returns:
        One row per match, in the order of the reference's latents: `latent` (index in the reference), `correlation`
        (co-activation correlation of the match) and `gap` in [0, 2].

    Raises:
        ValueError: a dictionary does not fit the other or the alignment, or a matched row is zero or not finite.
    """
    aligned = alignment.transform_dictionary(dictionary_b)
    if dictionary_a.shape != aligned.shape:
        raise ValueError(
            f"direction_gap: dictionary_a has shape {dictionary_a.shape} and dictionary_b {aligned.shape}; "
            "both must be the same (L, d)"
        )
    latents = np.flatnonzero(alignment.matched_)
    a = unit_directions(dictionary_a[latents], "direction_gap: matched rows of dictionary_a")
    b = unit_directions(aligned[latents], "direction_gap: matched rows of dictionary_b")
    cosine = np.clip(np.einsum("ld,ld->l", a, b), -1.0, 1.0)
    return pd.DataFrame({"latent": latents, "correlation": alignment.correlation_[latents], "gap": 1.0 - cosine})


def gap_by_bin(gaps: pd.DataFrame, edges: Sequence[float] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)) -> pd.DataFrame:
    """Direction gaps summarised per bin of the co-activation correlation (paper, Fig. 2).

    Args:
        gaps: what `direction_gap` returns.
        edges: increasing bin edges. Every bin holds its lower edge; the last one holds its upper edge too.

    Returns:
        One row per bin, empty ones included: `bin` (such as `[0.0,0.2)`), `n`, `mean`, `std` (ddof 1; NaN if n < 2),
        `median`, and `n_excluded`, the same in every row: how many matches lie in no bin (with the default edges, those
        of negative correlation).

    Raises:
        ValueError: the edges do not increase.
    """
    if len(edges) < 2 or not np.all(np.diff(edges) > 0):
        raise ValueError(f"gap_by_bin: edges is {tuple(edges)}; at least two increasing numbers are needed")
    correlation, last = gaps["correlation"].to_numpy(), len(edges) - 2
    rows = []
    for i, (low, high) in enumerate(pairwise(edges)):
        inside = (correlation >= low) & ((correlation <= high) if i == last else (correlation < high))
        gap = gaps["gap"][inside]
        label = f"[{float(low)},{float(high)}{']' if i == last else ')'}"
        rows.append({"bin": label, "n": len(gap), "mean": gap.mean(), "std": gap.std(ddof=1), "median": gap.median()})
    table = pd.DataFrame(rows)
    return table.assign(n_excluded=len(gaps) - table["n"].sum())


def modality_statistics(embeddings: Mapping[str, np.ndarray]) -> dict[str, float]:
    """What sets two modalities of one joint embedding apart; to compare the embedded world with real CLIP.

    Args:
        embeddings: modality -> (n, d), two of them; row i of each belongs to pair i. Rows are normalised here.

    Returns:
        `matched_cosine`, the mean over pairs; `mismatched_cosine`, the mean over all i ≠ j; `modality_gap`, the L2
        distance of the two means; for each modality `dims_95_<name>`, how many principal dimensions hold 95 % of the
        centred variance, and `share_95_<name>`, the same divided by d.

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
    matched = np.einsum("nd,nd->", a, b)
    # Σ_ij u_i·v_j = (Σ_i u_i)·(Σ_j v_j): the mean over all i ≠ j without an n x n matrix
    mismatched = a.sum(axis=0) @ b.sum(axis=0) - matched
    dims = {name_a: _dims_95(a, name_a), name_b: _dims_95(b, name_b)}
    return {
        "matched_cosine": float(matched / n),
        "mismatched_cosine": float(mismatched / (n * (n - 1))),
        "modality_gap": float(np.linalg.norm(a.mean(axis=0) - b.mean(axis=0))),
        **{f"dims_95_{modality}": dims[modality] for modality in dims},
        **{f"share_95_{modality}": dims[modality] / d for modality in dims},
    }


def _dims_95(rows: np.ndarray, name: str) -> int:
    if (rows == rows[0]).all():
        raise ValueError(f"modality_statistics: {name} is one direction in all {len(rows)} rows; it must vary")
    centred = rows - rows.mean(axis=0)
    variance = np.linalg.eigvalsh(centred.T @ centred)[::-1].clip(min=0.0)
    return int(np.count_nonzero(np.cumsum(variance) < 0.95 * variance.sum())) + 1
