"""Figures of matches and of what they retrieve."""

from collections.abc import Sequence
from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xsae.report.plots.style import (
    FILL,
    METHOD_COLOURS,
    METHOD_NAMES,
    START,
    arrow_of,
    by_pair,
    from_zero,
    legend_below,
    look_of,
    outer_labels,
    over_seeds,
    panel_grid,
    plain_ticks,
)


def match_correlations(frame: pd.DataFrame, modalities: Sequence[str]) -> Figure:
    """How well matched latents co-activate, against matches made between shuffled pairs."""
    groups = list(by_pair(frame, modalities))
    figure, axes = panel_grid([title for title, _, _ in groups], sharey=True)
    edges = np.linspace(-0.1, 1.0, 45)
    for axis, (_, _, matches) in zip(axes, groups, strict=True):
        for kind, colour in (("shuffled", METHOD_COLOURS["chance"]), ("paired", METHOD_COLOURS["posthoc"])):
            of_kind = matches[matches["pairs"] == kind]
            share = np.full(len(of_kind), 1 / len(of_kind))
            axis.hist(
                of_kind["correlation"], edges, weights=share, color=colour, alpha=0.65, label=f"{kind} embeddings"
            )
        axis.set_yscale("log")  # most matches are weak, and the others are what one looks for
        plain_ticks(axis.yaxis, steps=(1,))
        axis.set_xlabel("correlation of the match")
    axes[0].set_ylabel("share of matches (all seeds)")
    legend_below(figure, axes[0], 2)
    return figure


def retrieval(frame: pd.DataFrame, starts: Sequence[str]) -> Figure:
    """R@1 by method in each variant, a panel per backbone and direction; full: the first start, open: the second."""
    first = frame[frame["metric"] == "R@1"]
    groups = list(first.groupby(["backbone", "direction"], sort=False))
    titles = [f"{backbone}: {arrow_of(direction)}" for (backbone, direction), _ in groups]
    figure, axes = panel_grid(
        titles, width=4.2, height=2.6, rows=len(groups) // 2, sharey="row"
    )  # directions come in twos
    for axis, (_, panel) in zip(axes, groups, strict=True):
        _by_method(axis, panel, "variant", starts)
    outer_labels(axes, 2, "", "R@1 (%)")
    legend_below(figure, axes[0], 4)
    return figure


def zeroshot(frame: pd.DataFrame) -> Figure:
    """Top-1 zero-shot accuracy by method in each variant; full: the first start of the bias, open: the second."""
    groups = list(frame[frame["metric"] == "top-1"].groupby("backbone", sort=False))
    figure, axes = panel_grid([backbone for backbone, _ in groups], width=4.2, height=2.8)
    for axis, (_, panel) in zip(axes, groups, strict=True):
        _by_method(axis, panel, "variant", list(panel["bias_start"].dropna().unique()))
    outer_labels(axes, len(groups), "", "zero-shot top-1 (%)")
    legend_below(figure, axes[0], 4)
    return figure


def _by_method(axis: Axes, frame: pd.DataFrame, setting: str, starts: Sequence[str]) -> None:
    """Percentages by `setting`, a mark per method: mean and deviation over seeds; ceiling and chance as lines."""
    settings, methods = list(frame[setting].unique()), [m for m in METHOD_NAMES if m in set(frame["method"])]
    for shift, start in enumerate(starts):
        for place, method in enumerate(methods):
            rows = frame[(frame["method"] == method) & (frame["bias_start"] == start)]
            seeds = 100 * rows.groupby(setting)["value"].agg(["mean", "std"]).reindex(settings)
            at = np.arange(len(settings)) + 0.78 * ((place + 0.5) / len(methods) - 0.5) + 0.05 * shift
            look = look_of(method) | {"label": None if shift else METHOD_NAMES[method], "fillstyle": FILL[shift]}
            axis.errorbar(at, seeds["mean"], seeds["std"], capsize=2, ls="", **look)
    for method, line, label in (("dense", "--", "dense embedding (ceiling)"), ("chance", ":", "chance")):
        for value in frame[frame["method"] == method]["value"]:
            axis.axhline(100 * value, ls=line, color=METHOD_COLOURS[method], label=label)
    for shift, start in enumerate(starts):
        axis.plot([], [], "s", color="grey", fillstyle=FILL[shift], label=f"bias starts at {START[start]}")
    axis.set_xticks(range(len(settings)), settings)
    axis.set_ylim(bottom=0)


def intervals(frame: pd.DataFrame, setting: str, metric: str) -> Figure:
    """How far posthoc is ahead of every other method, with 95 % intervals: a panel per backbone and comparison."""
    comparisons = [
        (f"both from {START[start]}", (frame["comparison"] == "same start") & (frame["bias_start"] == start))
        for start in frame["bias_start"].unique()
    ]
    for name, title in (("best start", "each at its best start"), ("other's best", "the other at its own best")):
        if (frame["comparison"] == name).any():
            comparisons.append((title, frame["comparison"] == name))
    backbones, settings = list(frame["backbone"].unique()), list(frame[setting].unique())
    others = [method for method in METHOD_NAMES if method in set(frame["other"])]
    titles = [f"{backbone}: {title}" for backbone in backbones for title, _ in comparisons]
    figure, axes = panel_grid(titles, width=2.6, height=2.4, rows=len(backbones), sharex="row", sharey=True)
    panels = [frame[(frame["backbone"] == backbone) & of] for backbone in backbones for _, of in comparisons]
    for axis, panel in zip(axes, panels, strict=True):
        panel = panel.pivot(index=["other", setting], columns="metric", values="value")
        for place, (value, marker) in enumerate(zip(settings, cycle("os^vDP"), strict=False)):
            for row, other in enumerate(others):
                if (other, value) not in panel.index:  # it has not this start
                    continue
                mean, low, high = panel.loc[(other, value), ["difference", "low", "high"]]
                axis.errorbar(
                    mean, row + 0.6 * ((place + 0.5) / len(settings) - 0.5), xerr=[[mean - low], [high - mean]],
                    capsize=2, marker=marker, markersize=4, color=METHOD_COLOURS[other], fillstyle=FILL[not place],
                )  # fmt: skip
            axis.plot([], [], marker, color="grey", label=arrow_of(value), fillstyle=FILL[not place])
        axis.axvline(0, color=METHOD_COLOURS["chance"], lw=0.8)
        axis.set_yticks(range(len(others)), [METHOD_NAMES[other] for other in others])
        axis.title.set_fontsize(8)
        axis.margins(y=0.15)
    axes[0].invert_yaxis()
    for axis in axes[-len(comparisons) :]:
        axis.set_xlabel(f"{metric}: post-hoc minus …")
    legend_below(figure, axes[0], 2)
    return figure


# label, colour, marker; open marks: a latent loses what it means
_ALIGNMENTS = {
    "hungarian": ("Hungarian (the paper)", "#0072B2", "D"),
    "greedy": ("greedy", "#56B4E9", "s"),
    "decoder_cosine": ("decoder cosine", "#8C8C8C", "v"),
    "sinkhorn": ("Sinkhorn, largest 4", "#E69F00", "P"),
    "partners_1": ("1 partner", "#009E73", "v"),
    "partners_both_sides": ("4 partners, both sides", "#009E73", "o"),
    "partners": ("4 partners", "#D55E00", "o"),
    "procrustes": ("Procrustes", "#000000", "o"),
    "cca": ("CCA", "#CC79A7", "s"),
    "ridge": ("ridge", "#000000", "^"),
}
_DENSE = ("procrustes", "cca", "ridge")


def _alignment_look(name: str) -> dict:
    label, colour, marker = _ALIGNMENTS[name]
    return {"label": label, "color": colour, "marker": marker, "fillstyle": FILL[name in _DENSE]}


def alignments(frame: pd.DataFrame) -> Figure:
    """R@1 by the partners of a latent, a panel per backbone and direction: mean and deviation over seeds."""
    first, partners = frame[frame["metric"] == "R@1"], frame[frame["metric"] == "partners"]
    groups = list(first.groupby(["backbone", "direction"], sort=False))
    titles = [f"{backbone}: {arrow_of(direction)}" for (backbone, direction), _ in groups]
    figure, axes = panel_grid(titles, width=3.8, height=2.9, rows=len(groups) // 2, sharex=True)
    for axis, ((backbone, _), panel) in zip(axes, groups, strict=True):
        of = partners[partners["backbone"] == backbone].groupby("alignment")["value"].mean()
        for name, seeds in panel.groupby("alignment", sort=False):
            mean, spread = 100 * seeds["value"].mean(), 100 * seeds["value"].std()
            alike = [other for other in of.index if round(of[other]) == round(of[name])]
            beside = 1.2 ** (alike.index(name) - (len(alike) - 1) / 2)  # so that none hides another
            axis.errorbar(of[name] * beside, mean, spread, ls="", capsize=2, **_alignment_look(name))
        axis.set_xscale("log")
        plain_ticks(axis.xaxis, steps=(1, 4))
        from_zero(axis)
    outer_labels(axes, 2, "partners of a latent", "R@1 (%)")
    legend_below(figure, axes[0], 4)
    return figure


def matches_truth(frame: pd.DataFrame) -> Figure:
    """Significant matches of the synthetic world against the truth, by the number of pairs: mean and deviation."""
    figure, (axis,) = panel_grid([""], width=4.6, height=3.0)
    for metric, label, colour, marker in (
        ("precision", "precision: a common concept", "#0072B2", "o"),
        ("same_first", "precision: the same first concept", "#56B4E9", "s"),
        ("recall", "recall of shared concepts", "#009E73", "^"),
        ("all_precision", "precision of all matches", "#8C8C8C", "v"),
    ):
        rows = frame[frame["metric"] == metric]
        over_seeds(axis, rows, "pairs", capsize=2, color=colour, marker=marker, label=label)
    axis.axhline(0.95, ls=":", color="black", label="at most 5 % false")
    axis.set_xscale("log")
    plain_ticks(axis.xaxis, steps=(1, 3))
    axis.set_ylim(0, 1.05)
    axis.set_xlabel("pairs")
    axis.set_ylabel("share")
    legend_below(figure, axis, 2)
    return figure


def pairs_needed(frame: pd.DataFrame) -> Figure:
    """R@1 by the pairs that align, all true, and by the share of shuffled ones: a row per backbone and direction."""
    groups = list(frame.groupby(["backbone", "direction"], sort=False))
    titles = [title for (backbone, way), _ in groups for title in (f"{backbone}: {arrow_of(way)}", "")]
    figure, axes = panel_grid(titles, width=3.8, height=2.2, rows=len(groups), sharey="row")
    for row, (_, panel) in enumerate(groups):
        for axis, setting, kept in (
            (axes[2 * row], "pairs", panel["shuffled"] == 0),
            (axes[2 * row + 1], "shuffled", panel["pairs"] == panel["pairs"].max()),
        ):
            for name, seeds in panel[kept].groupby("alignment", sort=False):
                percent = seeds.assign(value=100 * seeds["value"])
                over_seeds(axis, percent, setting, capsize=2, **_alignment_look(name))
            from_zero(axis)
        axes[2 * row].set_xscale("log")
        plain_ticks(axes[2 * row].xaxis, steps=(1,))
        axes[2 * row].set_ylabel("R@1 (%)")
    axes[-2].set_xlabel("pairs")
    axes[-1].set_xlabel("share of the pairs that is shuffled")
    legend_below(figure, axes[0], 3)
    return figure
