"""Same concept, different directions: gaps of matched directions, and how latents divide (paper, Fig. 2)."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, pairwise, product
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from xsae.alignment import Alignment
from xsae.correlation import co_activation
from xsae.evaluation._ranking import unit_directions
from xsae.evaluation.recovery import bridge_score, modality_score

_BLOCK = 512  # latents whose gaps to all others are held at one time: 16 MB at 4096 others


def compare(
    codes: Mapping[int, Mapping[str, sparse.csr_array]], directions: Mapping[int, Mapping[str, np.ndarray]]
) -> Iterator[tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]]:
    """Match and measure autoencoders of two modalities, and as a control those of one modality and two seeds.

    Args:
        codes: seed -> modality -> (n_pairs, L) sparse codes, row i of all of one pair. The first modality is the
            reference.
        directions: seed -> modality -> (L, d), the dictionary of the same autoencoder.

    Yields:
        What is compared: `comparison`, `cross_modal` or `same_modality_<name>`; `modality`, the one that is compared
        with the reference, or with itself; `seed` and `other_seed`, equal where it is cross-modal. Then the gaps of the
        matches (`direction_gap`), and the density of the gap over all pairs of alive latents (`gap_density`).
    """
    reference, *others = modalities = list(next(iter(codes.values())))
    planned = [("cross_modal", other, (seed, reference), (seed, other)) for other in others for seed in codes]
    planned += [
        (f"same_modality_{modality}", modality, (a, modality), (b, modality))
        for modality in modalities
        for a, b in combinations(codes, 2)
    ]
    for comparison, modality, *pair in planned:
        one, other = (codes[seed][m] for seed, m in pair)
        dictionaries = [directions[seed][m] for seed, m in pair]
        alive = [np.asarray(side.count_nonzero(axis=0)) > 0 for side in (one, other)]
        settings = {"comparison": comparison, "modality": modality, "seed": pair[0][0], "other_seed": pair[1][0]}
        gaps = direction_gap(*dictionaries, Alignment().fit(one, other))
        yield settings, gaps, gap_density(*dictionaries, co_activation(one, other), *alive)


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
        One row per bin, empty ones included: `bin` (such as `[0.0,0.2)`), `n`, `gap_mean`, `gap_std` (ddof 1; NaN if
        n < 2), `gap_median`, and `n_excluded`, the same in every row: how many matches lie in no bin (with the default
        edges, those of negative correlation).

    Raises:
        ValueError: the edges do not increase.
    """
    if len(edges) < 2 or not np.all(np.diff(edges) > 0):
        raise ValueError(f"gap_by_bin: edges is {tuple(edges)}; at least two increasing numbers are needed")
    correlation, last = gaps["correlation"].to_numpy(), len(edges) - 2
    rows = []
    for i, (label, (low, high)) in enumerate(zip(_bin_labels(edges), pairwise(edges), strict=True)):
        inside = (correlation >= low) & ((correlation <= high) if i == last else (correlation < high))
        gap = gaps["gap"][inside]
        rows.append([label, len(gap), gap.mean(), gap.std(ddof=1), gap.median()])
    table = pd.DataFrame(rows, columns=["bin", "n", "gap_mean", "gap_std", "gap_median"])
    return table.assign(n_excluded=len(gaps) - table["n"].sum())


def gap_at_equal_correlation(
    cross: pd.DataFrame, control: pd.DataFrame, width: float = 0.1, least: int = 5
) -> dict[str, float]:
    """How much larger the gaps of one set of matches are than those of another that correlate as much.

    Gaps shrink as the correlation grows, and two SAEs of one modality (the control) correlate more than two of
    different modalities: plain means would compare good matches with poor ones. So both are binned by correlation, the
    means are compared bin by bin, and the bins are weighted by how many cross-modal matches they hold.

    Args:
        cross: what `direction_gap` returns for two modalities.
        control: what it returns for two SAEs of one modality.
        width: of the bins, which begin at 0 and hold their lower edge; the last one ends at 1. Matches of correlation 0
            or less are in none: these share no concept.
        least: a bin counts if it holds this many matches of each.

    Returns:
        `difference`, `cross` minus `control`; these two, the weighted mean gaps; `n_cross` and `n_control`, the matches
        in the bins that count; `share`, what part of all cross-modal matches of positive correlation these are. The
        gaps are NaN where no bin counts, and `share` is where no cross-modal match correlates positively.

    Raises:
        ValueError: width is not in (0, 1], or least is below 1.
    """
    if not 0 < width <= 1:
        raise ValueError(f"gap_at_equal_correlation: width is {width}; it must be above 0 and at most 1")
    if least < 1:
        raise ValueError(f"gap_at_equal_correlation: least is {least}; a bin needs at least 1 match")
    n_bins = int(np.ceil(1 / width - 1e-9))  # 1 / width may pass a whole number by rounding
    counts, sums = np.zeros((2, n_bins)), np.zeros((2, n_bins))
    for side, gaps in enumerate((cross, control)):
        positive = gaps[gaps["correlation"] > 0]
        correlation = positive["correlation"].to_numpy(np.float32)  # as computed: .3 of a CSV must find the edge .3
        place = np.minimum(_place(correlation, np.arange(n_bins + 1) * width), n_bins - 1)
        counts[side] = np.bincount(place, minlength=n_bins)
        sums[side] = np.bincount(place, positive["gap"], minlength=n_bins)
    counted = (counts >= least).all(axis=0)
    positive, (n_cross, n_control) = counts[0].sum(), counts[:, counted].sum(axis=1)
    gap_cross = gap_control = np.nan
    if n_cross:
        gap_cross, gap_control = sums[:, counted] / counts[:, counted] @ counts[0, counted] / n_cross
    return {
        "difference": float(gap_cross - gap_control),
        "cross": float(gap_cross),
        "control": float(gap_control),
        "n_cross": int(n_cross),
        "n_control": int(n_control),
        "share": float(n_cross / positive) if positive else np.nan,
    }


def controls(gaps: pd.DataFrame, modalities: Sequence[str]) -> Iterator[tuple[dict[str, Any], dict[str, float]]]:
    """The cross-modal gaps of each seed against each same-modality control, at equal correlation.

    Args:
        gaps: those of `compare`, put together with their settings; `modality` may be absent if there are only two.
        modalities: the reference first.

    Yields:
        `control`, the `comparison` that serves as one: of the reference, or of the modality compared with it;
        `modality`, the latter; `seed`. Then the figures of `gap_at_equal_correlation`. The control of a seed are the
        matches of all pairs of seeds that it is part of; without a second seed there are none, and the gaps are NaN.
    """
    cross = gaps[gaps["comparison"] == "cross_modal"]
    reference, *others = modalities
    for other in others:
        table = cross[cross["modality"] == other] if len(others) > 1 else cross
        for modality, (seed, of_seed) in product((reference, other), table.groupby("seed")):
            name = f"same_modality_{modality}"
            control = gaps[(gaps["comparison"] == name) & gaps[["seed", "other_seed"]].eq(seed).any(axis=1)]
            yield {"control": name, "modality": other, "seed": seed}, gap_at_equal_correlation(of_seed, control)


def gap_density(
    dictionary_a: np.ndarray,
    dictionary_b: np.ndarray,
    correlation: np.ndarray,
    alive_a: np.ndarray,
    alive_b: np.ndarray,
    correlation_edges: Sequence[float] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
    gap_edges: Sequence[float] = tuple(np.linspace(0, 2, 41)),
) -> pd.DataFrame:
    """Density of the direction gap per bin of co-activation correlation, over all pairs of alive latents (Fig. 2).

    Over pairs and not matches, as the paper's released code draws it: each latent of the one side stands with each of
    the other, so that most pairs hardly correlate. Bins hold their edges as those of `gap_by_bin` do.

    Args:
        dictionary_a: (L_a, d) directions. dictionary_b: (L_b, d). Rows are normalised here.
        correlation: (L_a, L_b), what `xsae.correlation.co_activation` returns.
        alive_a: (L_a,) bool, which latents count. alive_b: (L_b,) bool.
        correlation_edges: increasing. Pairs outside of them, with the default those of negative correlation, are in no
            bin.
        gap_edges: increasing.

    Returns:
        One row per bin and interval of the gap: `bin`, labelled as in `gap_by_bin`; `low` and `high`, the interval;
        `n`, its pairs; `density`, which integrates to 1 over the intervals of a bin, NaN if the bin is empty.

    Raises:
        ValueError: sizes do not fit, edges do not increase, or an alive latent's row is zero or not finite.
    """
    edges, gap_edges = np.asarray(correlation_edges, dtype=np.float64), np.asarray(gap_edges, dtype=np.float64)
    for name, values in (("correlation_edges", edges), ("gap_edges", gap_edges)):
        if len(values) < 2 or not np.all(np.diff(values) > 0):
            raise ValueError(f"gap_density: {name} is {tuple(values)}; at least two increasing numbers are needed")
    shape = (len(dictionary_a), len(dictionary_b))
    if dictionary_a.shape[1:] != dictionary_b.shape[1:] or correlation.shape != shape:
        raise ValueError(
            f"gap_density: dictionary_a has shape {dictionary_a.shape}, dictionary_b {dictionary_b.shape} and "
            f"correlation {correlation.shape}; (L_a, d), (L_b, d) and (L_a, L_b) are needed"
        )
    for name, flags, length in (("alive_a", alive_a, shape[0]), ("alive_b", alive_b, shape[1])):
        if flags.dtype != bool or flags.shape != (length,):
            raise ValueError(f"gap_density: {name} is {flags.dtype} {flags.shape}; bool ({length},) is needed")
    rows, columns = np.flatnonzero(alive_a), np.flatnonzero(alive_b)
    a = unit_directions(dictionary_a[rows], "gap_density: alive rows of dictionary_a")
    b = unit_directions(dictionary_b[columns], "gap_density: alive rows of dictionary_b")

    n_bins, n_gaps = len(edges) - 1, len(gap_edges) - 1
    counts = np.zeros(n_bins * n_gaps, dtype=np.int64)
    for start in range(0, len(rows), _BLOCK):
        gap = 1.0 - np.clip(a[start : start + _BLOCK] @ b.T, -1.0, 1.0)
        of_block = correlation[rows[start : start + _BLOCK, None], columns]
        place, gap_place = _place(of_block, edges), _place(gap, gap_edges)
        inside = (place >= 0) & (place < n_bins) & (gap_place >= 0) & (gap_place < n_gaps)
        counts += np.bincount(place[inside] * n_gaps + gap_place[inside], minlength=len(counts))
    per_bin = counts.reshape(n_bins, n_gaps)
    size = np.where(per_bin.any(axis=1), per_bin.sum(axis=1), np.nan)[:, None]
    return pd.DataFrame(
        {
            "bin": np.repeat(_bin_labels(correlation_edges), n_gaps),
            "low": np.tile(gap_edges[:-1], n_bins),
            "high": np.tile(gap_edges[1:], n_bins),
            "n": counts,
            "density": (per_bin / size / np.diff(gap_edges)).ravel(),
        }
    )


def modality_split(
    codes_a: sparse.csr_array, codes_b: sparse.csr_array, directions_a: np.ndarray, directions_b: np.ndarray
) -> tuple[np.ndarray, dict[str, float]]:
    """How the latents of a shared autoencoder divide between two modalities (Papadimitriou et al. 2025).

    Arguments and errors are those of `xsae.evaluation.recovery.bridge_score`.

    Returns:
        The modality score of each latent that fires at all. Then `alive`, how many these are; the shares of them whose
        score is near an end, and in the middle half; and what part of the positive bridge lies within one latent, NaN
        where there is none.
    """
    score = modality_score(codes_a, codes_b)
    score = score[np.isfinite(score)]
    bridge = bridge_score(codes_a, codes_b, directions_a, directions_b).maximum(0)
    return score, {
        "alive": len(score),
        "one modality (score < .05 or > .95)": float(np.mean((score < 0.05) | (score > 0.95))),
        "both (score in .25 … .75)": float(np.mean((score > 0.25) & (score < 0.75))),
        "bridge within one latent": float(bridge.diagonal().sum() / bridge.sum()) if bridge.nnz else np.nan,
    }


def _bin_labels(edges: Sequence[float]) -> list[str]:
    """`[low,high)` of each bin; the last one is closed."""
    last = len(edges) - 2
    return [f"[{float(low)},{float(high)}{']' if i == last else ')'}" for i, (low, high) in enumerate(pairwise(edges))]


def _place(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Which bin holds each value; -1 below the first edge, the number of bins above the last, which is closed.

    The edges are rounded to the values' own dtype, or a correlation of .2 as float32 were not the edge .2.
    """
    edges = edges.astype(values.dtype)
    place = np.searchsorted(edges, values, side="right") - 1
    return place - (values == edges[-1])
