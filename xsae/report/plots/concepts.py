"""Figures of the embeddings and of directions: the idea, the data, gaps, concepts."""

from collections.abc import Sequence
from itertools import cycle

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xsae.report.plots.style import METHOD_COLOURS, arrow_of, by_pair, legend_below, outer_labels, panel_grid


def idea() -> Figure:
    """The paper's idea in three panels, drawn, not measured: one concept has a direction in each modality."""
    titles = ("One concept, two directions", "A shared SAE splits or merges it", "One SAE each, aligned afterwards")
    figure, axes = panel_grid(titles, width=3.1, height=2.2, subplot_kw={"aspect": "equal"})
    image, text = METHOD_COLOURS["posthoc"], METHOD_COLOURS["shared"]
    angles = {"image": (38, 64), "text": (104, 130)}  # of two concepts in each modality, in degrees

    def arrow(axis: Axes, degrees: float, colour: str, length: float = 1.0, **look) -> np.ndarray:
        tip = length * np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])
        axis.annotate("", tip, (0, 0), arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 1.8, **look})
        return tip

    for axis in axes:
        axis.add_patch(mpl.patches.Wedge((0, 0), 1.12, 28, 74, color=image, alpha=0.13, lw=0))
        axis.add_patch(mpl.patches.Wedge((0, 0), 1.12, 94, 140, color=text, alpha=0.13, lw=0))
        axis.set(xlim=(-1.15, 1.15), ylim=(-0.12, 1.42))
        axis.axis("off")
    for name, pair in zip(("cat", "dog"), zip(*angles.values(), strict=True), strict=True):
        for axis, place in ((axes[0], 1.2), (axes[2], 1.2)):
            for degrees, colour in zip(pair, (image, text), strict=True):
                tip = arrow(axis, degrees, colour)
                axis.text(*(place * tip), name, ha="center", va="center", fontsize=9, color=colour)
    axes[0].text(0.97, 0.3, "images", color=image, fontsize=9, ha="center")
    axes[0].text(-1.02, 0.45, "texts", color=text, fontsize=9, ha="center")
    for degrees, label in ((38, "cat\n(images)"), (104, "cat\n(texts)")):
        tip = arrow(axes[1], degrees, METHOD_COLOURS["chance"])
        axes[1].text(*(1.27 * tip), label, ha="center", va="center", fontsize=8)
    merged = arrow(axes[1], 71, METHOD_COLOURS["group_sparse"], ls=":")
    axes[1].text(*(1.2 * merged), "cat or dog?", ha="center", va="center", fontsize=8)
    for pair, radius in zip(zip(*angles.values(), strict=True), (0.86, 0.68), strict=True):
        axes[2].add_patch(
            mpl.patches.Arc((0, 0), 2 * radius, 2 * radius, theta1=pair[0], theta2=pair[1], ls="--", color="black")
        )
    axes[2].text(0, -0.1, "matched by co-activation (dashed)", ha="center", va="center", fontsize=8)
    return figure


def scene_gallery(images: np.ndarray, captions: Sequence[str]) -> Figure:
    """Scenes, uint8 (n, 64, 64, 3), each above one of its captions."""
    columns = min(6, len(images))
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(1.55 * columns, 2.15 * rows), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, caption in zip(axes.flat, images, captions, strict=False):
        axis.imshow(image, interpolation="nearest")
        words, lines = caption.split(), [""]
        for word in words:
            lines[-1:] = [f"{lines[-1]} {word}".strip()] if len(lines[-1]) + len(word) < 21 else [lines[-1], word]
        axis.text(0.5, -0.04, "\n".join(lines), transform=axis.transAxes, ha="center", va="top", fontsize=6.5)
    return figure


_MEASURES = {
    "share_95": "dimensions for 95 % / d", "top10": "variance in 10 dimensions", "within": "cosine within",
    "participation": "participation ratio",
}  # fmt: skip


def calibration(frame: pd.DataFrame, references: pd.DataFrame) -> Figure:
    """A panel per measure: the run's backbones (filled) beside what is known of real CLIP (open, dashed line)."""
    ours = [column for column in ("backbone", "modality") if column in frame]
    runs = frame.assign(of=frame[ours].agg(", ".join, axis=1), known=False)
    every = pd.concat([runs, references.assign(of=references["setting"], known=True)])
    metrics = [m for m in frame["metric"].unique() if not m.startswith(("dims_95", "n_pairs"))]
    names = list(dict.fromkeys(every["of"]))
    columns = 4
    rows = -(-len(metrics) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(9.2, 0.62 * rows * (1.1 + 0.22 * len(names))), sharey=True)
    for axis, metric in zip(axes.flat, metrics, strict=False):
        for known, rows_of in every[every["metric"] == metric].groupby("known"):
            places = [names.index(name) for name in rows_of["of"]]
            axis.plot(rows_of["value"], places, "o", color="black" if known else METHOD_COLOURS["posthoc"],
                      fillstyle="none" if known else "full", markersize=6)  # fmt: skip
            for value in rows_of["value"] if known else ():
                axis.axvline(value, color="black", lw=0.6, ls=":")
        name, _, modality = metric.rpartition("_")
        title = f"{_MEASURES[name]}, {modality}" if name in _MEASURES else arrow_of(metric).replace("_", " ")
        axis.set_title(title, fontsize=8)
        axis.set_yticks(range(len(names)), names, fontsize=7)
        axis.set_ylim(len(names) - 0.4, -0.6)
        axis.tick_params(axis="x", labelsize=7)
        axis.margins(x=0.18)
    for axis in list(axes.flat)[len(metrics) :]:
        axis.axis("off")
    return figure


def direction_gap(frame: pd.DataFrame, references: pd.DataFrame, modalities: Sequence[str]) -> Figure:
    """Mean direction gap of matches per bin of their correlation, cross-modal beside the same-modality controls; below
    each bin how many matches there are, of all seeds."""
    groups = list(by_pair(frame, modalities))
    figure, axes = panel_grid([title for title, _, _ in groups], width=3.9, height=3.7, sharey=True)
    bins, reference = list(frame["bin"].unique()), modalities[0]
    for panel, (axis, (_, other, table)) in enumerate(zip(axes, groups, strict=True)):
        name = other if len(modalities) == 2 else "the other"
        for row, (comparison, colour, marker, label) in enumerate(
            (
                ("cross_modal", "#0072B2", "o", f"{reference} vs {name}"),
                (f"same_modality_{reference}", "#009E73", "s", f"{reference} vs {reference} (two seeds)"),
                (f"same_modality_{other}", "#CC79A7", "^", f"{name} vs {name} (two seeds)"),
            )
        ):
            of = table[table["comparison"] == comparison].groupby(["metric", "bin"])["value"]
            gaps = of.agg(["mean", "std"]).reindex([("gap_mean", bin) for bin in bins])
            at = np.arange(len(bins)) + 0.09 * (row - 1)
            axis.errorbar(at, gaps["mean"], gaps["std"], color=colour, marker=marker, ms=5, capsize=2, label=label)
            for x, n in enumerate(of.sum().reindex([("n", bin) for bin in bins], fill_value=0)):
                _below(axis, x, row, f"{n:.0f}", colour, ha="center")
            if panel == 0:
                _below(axis, -0.62, row, label.removesuffix(" (two seeds)"), colour, ha="right")
        if (reference, other) == ("image", "text"):
            known = references.assign(bin=references["setting"].str.removeprefix("cross-modal "))
            known, label = known.set_index("bin")["value"].reindex(bins), "reference [N], CLIP on COCO"
            axis.plot(range(len(bins)), known, "D", color="black", fillstyle="none", ls=":", label=label)
        axis.set_xticks(range(len(bins)), bins, fontsize=8)
        axis.set_xlim(-0.5, len(bins) - 0.5)
        axis.set_xlabel("co-activation correlation of the match", labelpad=36)
        axis.set_ylim(bottom=0)
    _below(axes[0], -0.62, -1, "matches:", "black", ha="right")
    axes[0].set_ylabel("direction gap (1 − cosine)")
    legend_below(figure, max(axes, key=lambda axis: len(axis.lines)), 2)
    return figure


def _below(axis: Axes, x: float, row: int, text: str, colour: str, ha: str) -> None:
    """Write under the ticks at x, in line `row`; line -1 is that of the ticks themselves."""
    place = {"xy": (x, 0), "xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
    axis.annotate(text, **place, xytext=(0, -20 - 10 * row), ha=ha, va="top", fontsize=7.5, color=colour)


def gap_density(
    densities: pd.DataFrame, gaps: pd.DataFrame, modalities: Sequence[str], control: bool = False
) -> Figure:
    """Density of the direction gap per correlation bin (the paper's Fig. 2): over all pairs of alive latents, as the
    released code draws it, mean over seeds; below it of the matches. `control`: of two seeds of one modality."""
    columns = list(zip(by_pair(densities, modalities), by_pair(gaps, modalities), strict=True))
    titles, drawn = [], []
    for side in (0, 1) if control else (1,):
        for what, of_matches in (("all pairs", False), ("matches", True)):
            for (title, other, pairs), (_, _, matches) in columns:
                name, table = (modalities[0], other)[side], matches if of_matches else pairs
                titles.append(f"{title.partition(' (')[0]}: {name if control else modalities[0]} vs {name}, {what}")
                comparison = f"same_modality_{name}" if control else "cross_modal"
                drawn.append(
                    (_density_of_matches if of_matches else _density, table[table["comparison"] == comparison])
                )
    figure, axes = panel_grid(titles, width=3.1, height=2.3, rows=len(titles) // len(columns), sharex=True)
    bins = list(densities["bin"].unique())
    for axis, (draw, table) in zip(axes, drawn, strict=True):
        for bin, colour in zip(bins, sns.color_palette("viridis", len(bins)), strict=True):
            n = draw(axis, table, bin, colour)
            axis.plot([], [], color=colour, label=f"{bin}  n = {n:,}")
        axis.set(xlim=(0, 2), xlabel="", ylabel="")
        axis.set_ylim(bottom=0)
        axis.title.set_fontsize(9)
        axis.legend(fontsize=7, loc="upper right", handlelength=0.7, handletextpad=0.4, borderaxespad=0)
    outer_labels(axes, len(columns), "direction gap (1 − cosine)", "density")
    return figure


def _density(axis: Axes, pairs: pd.DataFrame, bin: str, colour: tuple) -> int:
    """Draw the density of a bin over all pairs, if it holds 30 pairs; returns how many it holds."""
    rows = pairs[pairs["bin"] == bin]
    n = int(rows["n"].sum())
    if n >= 30:
        means = rows.groupby(["low", "high"])["density"].mean()
        axis.plot([(low + high) / 2 for low, high in means.index], means, color=colour)
    return n


def _density_of_matches(axis: Axes, matches: pd.DataFrame, bin: str, colour: tuple) -> int:
    """Draw the smoothed density of a bin's matches, if it holds five; returns how many it holds."""
    low, high = (np.float32(edge) for edge in bin[1:-1].split(","))
    correlation = matches["correlation"].astype(np.float32)
    gap = matches["gap"][(correlation >= low) & ((correlation < high) | bin.endswith("]"))]
    if len(gap) >= 5 and gap.std() > 0:
        sns.kdeplot(gap, ax=axis, color=colour, clip=(0, 2))
    return len(gap)


def modality_score(frame: pd.DataFrame, modalities: Sequence[str]) -> Figure:
    """How the latents of the shared autoencoder divide between the modalities."""
    groups = list(by_pair(frame, modalities))
    figure, axes = panel_grid([title for title, _, _ in groups], height=2.4, sharey=True)
    for axis, (_, other, panel) in zip(axes, groups, strict=True):
        share = np.full(len(panel), 1 / len(panel))
        axis.hist(panel["score"], np.linspace(0, 1, 21), weights=share, color=METHOD_COLOURS["shared"], alpha=0.8)
        axis.set_xlabel(f"modality score (0 {other}, 1 {modalities[0]})")
    axes[0].set_ylabel("share of alive latents")
    return figure


def concept_directions(frame: pd.DataFrame) -> Figure:
    """Cosine of the image and the text direction of each labelled concept, sorted, its ceiling as an open mark.

    Concepts are named where there is room for it.
    """
    backbones, kinds = list(frame["backbone"].unique()), sorted(frame["kind"].unique())
    named = frame.groupby("backbone").size().max() <= 60
    size = 5 if named else 3
    figure, axes = panel_grid(backbones, width=8.4 if named else 7.0, height=3.0, rows=len(backbones), sharey=True)
    looks = dict(zip(kinds, zip(cycle(sns.color_palette("colorblind")), cycle("osD^vP"), strict=False), strict=False))
    for axis, backbone in zip(axes, backbones, strict=True):
        rows = frame[frame["backbone"] == backbone].sort_values("cosine").reset_index(drop=True)
        axis.vlines(
            rows.index, rows["cosine"], rows["ceiling"], color=METHOD_COLOURS["chance"], lw=0.6 if named else 0.2
        )
        for kind, (colour, marker) in looks.items():
            of_kind = rows[rows["kind"] == kind]
            axis.plot(of_kind["cosine"], marker, color=colour, markersize=size, label=kind)
            axis.plot(of_kind["ceiling"], marker, color=colour, markersize=size, fillstyle="none", mew=size / 7)
        if named:
            axis.set_xticks(rows.index, rows["concept"].str.partition(":")[2], rotation=90, fontsize=7)
        else:
            axis.set_xlabel("concepts, by their cosine")
        axis.set_xlim(-0.8, len(rows) - 0.2)
        axis.set_ylim(np.floor(10 * frame["cosine"].min()) / 10, 1.03)
        axis.set_ylabel("cosine, image and text")
    axes[0].plot([], [], "o", color="grey", fillstyle="none", label="ceiling")
    handles = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4)
    return figure
