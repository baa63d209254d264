"""The verdicts of a run, claim by claim, from its tables alone; what decides each stands here and nowhere else."""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from xsae.evaluation import beyond
from xsae.evaluation.claims import at_chance, over_seeds, paired, verdict

Tables = Mapping[str, pd.DataFrame]


def of_run(tables: Tables, queries: Mapping[tuple[str, str], int]) -> pd.DataFrame:
    """Every verdict that the tables of a run allow.

    Args:
        tables: name -> table as in results/<run>/; those that a run has not made are left out.
        queries: (backbone, direction) -> number of held-out queries.

    Returns:
        One row per claim and setting: `claim`, `backbone`, `bias_start` where there is one, `verdict`, `difference`
        with its interval `low` to `high`, `seeds`, `test`.
    """
    rows = [
        row
        for name, judge in {
            "direction_gaps": _closer,
            "gap_controls": _further,
            "concept_directions": _concepts,
            "cos_sweep": _synthetic,
            "reconstruction": _reconstruction,
            "retrieval_intervals": _leads("retrieves better than", "R@1", "variant == 'raw'", "direction"),
            "zeroshot_intervals": _leads("classifies better than", "top-1", "variant == 'without frequent'"),
            "steering_intervals": _steering,
            "ablations": _ablations,
            "alignments": _alignments,
            "beyond": _trained_as_one,
            "matches_truth": _false_matches,
        }.items()
        if name in tables
        for row in judge(tables[name])
    ]
    if "retrieval" in tables:
        rows += _unaligned(tables["retrieval"], queries)
    frame = pd.DataFrame(rows).sort_values(["claim", "backbone"], kind="stable", ignore_index=True)
    first = ["claim", "backbone", "bias_start", "verdict", "difference", "low", "high", "seeds", "test"]
    return frame.reindex(columns=first)


def _groups(frame: pd.DataFrame, *columns: str) -> Iterator[tuple[dict[str, str], str, pd.DataFrame]]:
    """The settings backbone and modality of a table's parts, how the claim's text names the latter, and the part."""
    by = ["backbone", *(c for c in ("modality", *columns) if c in frame)]
    for values, group in frame.groupby(by, sort=False):
        named = [str(value) for value in values[1:]]
        yield {"backbone": values[0]}, f" ({', '.join(named)})" if named else "", group


def _closer(gaps: pd.DataFrame) -> Iterator[dict]:
    cross = gaps.query("comparison == 'cross_modal' and correlation >= 0")
    for on, which, group in _groups(cross):
        falls = [-one["correlation"].corr(one["gap"], method="spearman") for _, one in group.groupby("seed")]
        claim = f"1 matched directions come closer as correlation rises{which}"
        yield over_seeds(claim, falls, "-Spearman's rho(correlation, gap)", **on)


def _further(controls: pd.DataFrame) -> Iterator[dict]:
    for on, which, group in _groups(controls.query("metric == 'difference'")):
        nearest = group.groupby("seed")["value"].min().dropna().tolist()
        claim = f"1 matched directions are further apart across modalities than between seeds{which}"
        yield over_seeds(claim, nearest, "gap at equal correlation: cross-modal - the larger control", **on)


def _concepts(directions: pd.DataFrame) -> Iterator[dict]:
    for on, _, group in _groups(directions):
        short = (group["ceiling"] - group["cosine"]).to_numpy()
        error = short.std(ddof=1) / np.sqrt(len(short)) if len(short) > 1 else np.nan
        found = {"difference": short.mean(), "low": short.mean() - 1.96 * error, "high": short.mean() + 1.96 * error}
        claim = "1 a labelled concept has another direction in text than in images"
        yield verdict(claim, found, None, "ceiling - cosine of the two directions, mean over concepts", **on)


def _synthetic(sweep: pd.DataFrame) -> Iterator[dict]:
    on = {"backbone": "synthetic"}
    apart = sweep.query("metric == 'RE' and cosine < 1").groupby(["seed", "method"])["value"].mean().reset_index()
    better = paired(apart, better="shared", worse="separated")
    yield over_seeds("2 shared pays for directions that differ", better, "RE at cosine < 1: shared - separated", **on)
    collapse = sweep.query("metric == 'CR' and method == 'shared'").pivot(
        index="seed", columns="cosine", values="value"
    )
    rise = (collapse[collapse.columns.max()] - collapse[collapse.columns.min()]).tolist()
    test = "CR of shared: largest - smallest cosine"
    yield over_seeds("2 directions collapse as they come near", rise, test, **on)


def _reconstruction(losses: pd.DataFrame) -> Iterator[dict]:
    for (name, start, modality), group in losses.query("metric == 'loss'").groupby(
        ["backbone", "bias_start", "modality"], sort=False
    ):
        for other in ("shared", "shared_bias"):
            better = paired(group, better=other, worse="separated")
            claim = f"3 separated reconstructs better than {other} ({modality})"
            yield over_seeds(claim, better, f"loss: {other} - separated", backbone=name, bias_start=start)


def _leads(does: str, metric: str, where: str, *settings: str):
    """Verdicts of a table of intervals as `claims.leads` makes them: equal starts, then everybody's best."""

    def judge(intervals: pd.DataFrame) -> Iterator[dict]:
        by = ["backbone", *settings, "other", "comparison", "bias_start", "other_start"]
        for values, group in intervals.query(where).groupby(by, sort=False):
            about, found = dict(zip(by, values, strict=True)), group.set_index("metric")["value"]
            of = ", ".join([*(about[name] for name in settings), *([] if about["comparison"] == "same start" else
                            [about["comparison"]])])  # fmt: skip
            claim = f"4 posthoc {does} {about['other']}" + (f" ({of})" if of else "")
            start = about["bias_start"]
            if about["other_start"] != start:
                start += f" against {about['other_start']}"
            test = f"{metric}: posthoc - {about['other']}"
            yield verdict(claim, found, int(found["seeds"]), test, backbone=about["backbone"], bias_start=start)

    return judge


def _steering(intervals: pd.DataFrame) -> Iterator[dict]:
    by = ["backbone", "gallery", "measure", "other", "bias_start"]
    for values, group in intervals.groupby(by, sort=False):
        about, found = dict(zip(by, values, strict=True)), group.set_index("metric")["value"]
        claim = f"4 posthoc steers better than {about['other']} ({about['gallery']}, {about['measure']})"
        on = {"backbone": about["backbone"], "bias_start": about["bias_start"]}
        yield verdict(claim, found, int(found["seeds"]), f"mAP: posthoc - {about['other']}", **on)


def _unaligned(retrieval: pd.DataFrame, queries: Mapping[tuple[str, str], int]) -> Iterator[dict]:
    first = retrieval.query("metric == 'R@1' and variant == 'raw'")
    by = ["backbone", "direction", "bias_start"]
    for (name, direction, start), group in first.query("method == 'separated'").groupby(by, sort=False):
        [chance] = first.query("method == 'chance' and backbone == @name and direction == @direction")["value"]
        claim, n = f"4 separated without alignment is at chance ({direction})", queries[name, direction]
        yield at_chance(claim, group["value"].tolist(), chance, n, backbone=name, bias_start=start)


def _ablations(table: pd.DataFrame) -> Iterator[dict]:
    for (name, variant), group in table.query("norm == 'unit'").groupby(["backbone", "variant"], sort=False):
        for metric, other, ours, does in (
            ("RE", "shared", "separated", "separated reconstructs"),
            ("RE", "shared_bias", "separated", "separated reconstructs"),
            ("R@1", "shared", "posthoc", "posthoc retrieves"),
            ("R@1", "shared_bias", "posthoc", "posthoc retrieves"),
        ):
            better, worse = (other, ours) if metric == "RE" else (ours, other)
            ahead = paired(group.query("metric == @metric"), better, worse)
            claim = f"5 {does} better than {other} ({variant})"
            yield over_seeds(claim, ahead, f"{metric}: {better} - {worse}", backbone=name)


def _alignments(table: pd.DataFrame) -> Iterator[dict]:
    """Ours, beyond the paper: a few partners against one, and against maps that mix all latents."""
    first = table.query("metric == 'R@1'").rename(columns={"method": "autoencoders", "alignment": "method"})
    of_paper = []
    for (name, start, direction), group in first.groupby(["backbone", "bias_start", "direction"], sort=False):
        for ours in ("partners", "partners_both_sides"):
            for other in ("hungarian", "procrustes", "cca", "ridge"):
                claim = f"6 {ours} retrieves better than {other} ({direction})"
                ahead = paired(group, ours, other)
                yield over_seeds(claim, ahead, f"R@1: {ours} - {other}", backbone=name, bias_start=start)
        of_paper.append(paired(group, "partners", "hungarian"))
    claim = "6 partners retrieves better than hungarian everywhere (every backbone, both ways)"
    yield over_seeds(
        claim, np.min(of_paper, axis=0), "R@1: partners - hungarian, the smallest of a seed", backbone="all"
    )


def _trained_as_one(table: pd.DataFrame) -> Iterator[dict]:
    """A few partners against methods whose latents are in one order by their training."""
    of_methods = table.query("direction == direction and direction != ''")
    of_methods = of_methods[of_methods["method"].isin(beyond.TRAINED)]
    for (name, direction, method), group in of_methods.groupby(["backbone", "direction", "method"], sort=False):
        found = group.set_index("metric")["value"]
        claim = f"6 partners retrieves better than {method} ({direction})"
        yield verdict(claim, found, int(found["seeds"]), f"R@1, centred: partners - {method}", backbone=name)


def _false_matches(table: pd.DataFrame) -> Iterator[dict]:
    """Of matches called significant at a false discovery rate of 5 %, at most so many are false."""
    for metric, what in (("precision", "are false"), ("same_first", "are false by the stricter count")):
        for pairs, group in table.query("metric == @metric").groupby("pairs"):
            if group["value"].notna().all():  # with few pairs no match is significant
                claim = f"6 at most 5 % of significant matches {what} ({pairs} pairs)"
                yield over_seeds(claim, group["value"] - 0.95, f"{metric} - .95", backbone="synthetic")
