"""Figures of steering."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from xsae.report.plots.style import FILL, METHOD_COLOURS, METHOD_NAMES, legend_below, look_of, outer_labels, panel_grid


def steering(frame: pd.DataFrame, start: str) -> Figure:
    """mAP by preservation over growing α, a line per method from one start of the bias; the ceiling is dashed."""
    every = frame[(frame["kind"] == "all") & (frame["bias_start"].eq(start) | frame["method"].eq("direction"))]
    groups = list(every.groupby(["backbone", "gallery"], sort=False))
    figure, axes = panel_grid(
        [f"{backbone}: ranking {gallery}" for (backbone, gallery), _ in groups], width=4.2, height=3.0,
        rows=every["backbone"].nunique(), sharex=True, sharey="row",
    )  # fmt: skip
    for axis, (_, panel) in zip(axes, groups, strict=True):
        means = panel.groupby(["method", "alpha", "metric"])["value"].mean().unstack("metric")
        for method in [method for method in _steered() if method in means.index]:
            curve = means.loc[method]
            axis.plot(curve["preservation"], curve["mAP"], lw=1.2, **_steered()[method])
        for alpha, kept, score in means.loc["direction", ["preservation", "mAP"]].itertuples():
            if kept < 0.98:  # nearer to 1 the values of α would lie on each other
                axis.annotate(f"α = {alpha:g}", (kept, score), (4, 3), textcoords="offset points", fontsize=7)
    for axis in axes:  # now, for the panels of a row share their axis
        axis.set_ylim(bottom=0)
    outer_labels(axes, 2, "preservation (cosine to the original)", "mAP")
    legend_below(figure, axes[0], 4)
    return figure


def _steered() -> dict[str, dict]:
    """The look of what steering compares: the methods, our own variant of posthoc, and the ceiling."""
    looks = {method: look_of(method) for method in METHOD_NAMES}
    partner = {"ls": ":", "fillstyle": "none", "markersize": 6, "label": f"{METHOD_NAMES['posthoc']}, best partner"}
    ceiling = {"color": METHOD_COLOURS["dense"], "ls": "--", "marker": ".", "label": "true direction (ceiling)"}
    return looks | {"posthoc, best partner": looks["posthoc"] | partner, "direction": ceiling}


def steering_intervals(frame: pd.DataFrame, start: str) -> Figure:
    """How far posthoc's mAP is ahead of every other's from one start, with 95 % intervals, a panel per backbone."""
    frame = frame[frame["bias_start"] == start]
    others = [method for method in _steered() if method in set(frame["other"])]
    groups = list(frame.groupby("backbone", sort=False))
    figure, axes = panel_grid(
        [backbone for backbone, _ in groups], width=4.2, height=1.0 + 0.6 * len(others), sharey=True
    )
    kinds = [(measure, gallery) for measure in frame["measure"].unique() for gallery in frame["gallery"].unique()]
    for axis, (_, panel) in zip(axes, groups, strict=True):
        axis.axvline(0, color=METHOD_COLOURS["chance"], lw=0.8)
        values = panel.pivot(index=["measure", "gallery", "other"], columns="metric", values="value")
        for place, (measure, gallery) in enumerate(kinds):
            marker = {"largest alpha": "o"}.get(measure, "s")
            look = {"marker": marker, "markersize": 4.5, "fillstyle": FILL[gallery == "images"]}
            for row, other in enumerate(others):
                if (measure, gallery, other) in values.index:
                    mean, low, high = values.loc[(measure, gallery, other), ["difference", "low", "high"]]
                    at, reach = row + 0.18 * (place - (len(kinds) - 1) / 2), [[mean - low], [high - mean]]
                    axis.errorbar(mean, at, xerr=reach, capsize=2, color=_steered()[other]["color"], **look)
            label = f"{gallery}, {measure.replace('alpha', 'α')}"
            axis.plot([], [], color="grey", ls="", label=label, **look)
        axis.set_yticks(range(len(others)), [_steered()[other]["label"] for other in others])
        axis.set_xlabel(f"mAP: {METHOD_NAMES['posthoc']} minus …")
    axes[0].invert_yaxis()
    legend_below(figure, axes[0], 2)
    return figure


def steered_scenes(shown: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]], alpha: float) -> Figure:
    """A row per concept: the image to steer, then a block of the scenes nearest to it before and after each method.

    shown: concept -> block -> images, uint8 (n, 64, 64, 3), and which of them hold the concept, bool (n,), which are
    framed. The first block is the image, the second is before steering, the others are methods, by name.
    """
    blocks = list(next(iter(shown.values())))
    titles = [block if place < 2 else f"{METHOD_NAMES[block]}\nα = {alpha:g}" for place, block in enumerate(blocks)]
    figure, axes = plt.subplots(
        len(shown), len(blocks), figsize=(0.4 + 1.75 * len(blocks), 0.45 + 1.2 * len(shown)), squeeze=False,
        gridspec_kw={"width_ratios": [2 if place == 0 else 3 for place in range(len(blocks))]},
    )  # fmt: skip
    for row, (concept, of_concept) in zip(axes, shown.items(), strict=True):
        for axis, (images, holds) in zip(row, of_concept.values(), strict=True):
            edges = [(4, 0 if held else 255) for held in holds]
            framed = [_edge(_edge(image, *edge), 3, 255) for image, edge in zip(images, edges, strict=True)]
            columns = max(len(framed) // 2, 1)
            lines = [np.concatenate(framed[at : at + columns], 1) for at in range(0, len(framed), columns)]
            axis.imshow(np.concatenate(lines))
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
        row[0].set_ylabel(concept.replace(":", "\n"), rotation=0, ha="right", va="center")
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=11)
    return figure


def _edge(image: np.ndarray, width: int, value: int) -> np.ndarray:
    """An image (h, w, 3) with an edge of one grey around it."""
    return np.pad(image, ((width, width), (width, width), (0, 0)), constant_values=value)
