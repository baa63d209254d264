"""What steering comes to: means over concepts, at equal α and at equal cost, where methods preserve as much."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from xsae.evaluation.claims import interval
from xsae.evaluation.steering import METRICS

LEVELS = tuple(percent / 100 for percent in range(50, 100, 5))  # preservations that methods are compared at


def means(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over concepts, all of `METRICS`, and by `kind` those of mAP and preservation.

    rows: of `steer_concepts`, put together, with `method`, `seed`, `backbone`, `bias_start` and `kind`. Returns these,
    `gallery`, `alpha`, `metric` and `value`; `kind` is `all` or one.
    """
    settings = ["method", "seed", "backbone", "bias_start", "kind", "gallery", "alpha"]
    every = rows.assign(kind="all").groupby(settings, sort=False, dropna=False)[list(METRICS)].mean()
    of_kinds = rows.groupby(settings, sort=False, dropna=False)[["mAP", "preservation"]].mean()
    both = pd.concat([every.stack(), of_kinds.stack()])
    return both.rename_axis([*settings, "metric"]).rename("value").reset_index()


def at_preservation(preservation: np.ndarray, score: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """A steering curve's score where it preserves as much as asked: methods compared at equal cost, not at equal α.

    Linear in preservation between the α that were run. A stronger push should preserve less. Where it does not, only
    the points below all earlier ones count (the running minimum): each level is then read off where the curve first
    comes down to it, the weakest push that costs as much, and no level is read off twice.

    Args:
        preservation: (n_alphas,) in the order of growing α. The first is at α = 0, for an autoencoder its
            reconstruction: below 1.
        score: (n_alphas,), such as mAP.
        levels: preservations asked for.

    Returns:
        (n_levels,) float64; NaN above the first preservation and below the least.

    Raises:
        ValueError: the two are not of one length, there is no point, or a value is not finite.
    """
    preservation, score = np.asarray(preservation, dtype=np.float64), np.asarray(score, dtype=np.float64)
    if preservation.ndim != 1 or preservation.shape != score.shape or len(score) == 0:
        raise ValueError(
            f"at_preservation: preservation has shape {preservation.shape} and score {score.shape}; "
            "both must be the same (n_alphas,) with at least 1 point"
        )
    if not (np.isfinite(preservation).all() and np.isfinite(score).all()):
        raise ValueError("at_preservation: preservation or score holds NaN or infinity; both must be finite")
    least_before = np.minimum.accumulate(np.append(np.inf, preservation))[:-1]
    falling = np.flatnonzero(preservation < least_before)[::-1]  # np.interp wants ascending places
    return np.interp(levels, preservation[falling], score[falling], left=np.nan, right=np.nan)


def at_levels(rows: pd.DataFrame, levels: Sequence[float] = LEVELS) -> pd.DataFrame:
    """mAP of every concept's curve where it preserves as much as asked: `at_preservation`.

    Args:
        rows: of `steer_concepts`, put together; whatever columns say which curve a row belongs to are kept.
        levels: preservations asked for.

    Returns:
        One row per curve and level: those columns, then `preservation`, the level, and `mAP`, NaN where the curve does
        not reach it.
    """
    of_curve = [column for column in rows if column not in ("alpha", *METRICS)]
    by_curve = rows.sort_values("alpha", kind="stable").groupby(of_curve, sort=False, dropna=False)
    curves = by_curve[["preservation", "mAP"]].agg(list)
    found = [at_preservation(*curve, levels) for curve in curves.itertuples(index=False)]
    table = curves.index.to_frame(index=False).loc[np.repeat(np.arange(len(curves)), len(levels))]
    return table.assign(preservation=np.tile(levels, len(curves)), mAP=np.concatenate(found)).reset_index(drop=True)


def lead(scores: pd.DataFrame, method: str, other: str, place: str) -> np.ndarray:
    """How far one method's mAP is ahead of another's, by seed and concept: what `claims.interval` takes.

    Args:
        scores: one row per `method`, `seed`, `concept` and place, with `mAP`: rows of `steer_concepts` or `at_levels`
            of one gallery and setting.
        method: the one that is ahead, if positive. other: that it is ahead of.
        place: where along the curves two scores are compared, a column: `alpha`, or `preservation` for `at_levels`.

    Returns:
        (n_seeds, n_concepts), each the mean over the places where both have a score. A concept that has no such place
        in one of the seeds is left out.
    """
    curves = scores.pivot(index=["seed", "concept", place], columns="method", values="mAP")
    ahead = (curves[method] - curves[other]).groupby(level=["seed", "concept"], sort=False).mean()
    return ahead.unstack("concept").dropna(axis=1).to_numpy()


def over_levels(levels: pd.DataFrame) -> pd.DataFrame:
    """Mean mAP over concepts at each preservation that some reach, and `reached`, the share of concepts that do.

    levels: of `at_levels`, of curves by `concept`, `backbone`, `method`, `bias_start`, `seed` and `gallery`.
    """
    curve = ["backbone", "method", "bias_start", "seed", "gallery", "preservation"]
    table = levels.groupby(curve, sort=False, dropna=False)["mAP"].agg(["mean", "count"]).reset_index()
    table = table.assign(reached=table["count"] / levels["concept"].nunique()).rename(columns={"mean": "mAP"})
    return table.drop(columns="count")[table["reached"] > 0]


def leads(rows: pd.DataFrame, levels: pd.DataFrame) -> Iterator[tuple[dict[str, Any], dict[str, float]]]:
    """How far `posthoc` is ahead of each other method, at the largest α and at equal preservation: settings, figures.

    rows: of `steer_concepts`, put together; levels: `at_levels` of them. Figures are those of `interval`, `seeds` and
    `concepts`. `direction`, the ceiling, is not compared; nor is what has no level in common with `posthoc`.
    """
    largest = rows[rows["alpha"] == rows["alpha"].max()]
    for measure, place, scores in (("largest alpha", "alpha", largest), ("equal preservation", "preservation", levels)):
        of_methods = scores[scores["method"] != "direction"]
        for (name, start, gallery), table in of_methods.groupby(["backbone", "bias_start", "gallery"], sort=False):
            about = {"bias_start": start, "backbone": name, "gallery": gallery, "measure": measure}
            for other in table["method"].unique():
                ahead = lead(table, "posthoc", other, place)
                if other != "posthoc" and ahead.size:
                    counts = {"seeds": ahead.shape[0], "concepts": ahead.shape[1]}
                    yield {"other": other} | about, interval(ahead) | counts
