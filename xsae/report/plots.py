"""One style, one function per figure. Figures are drawn from the result tables and compute nothing but means."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from xsae.methods import METHODS

METHOD_COLOURS = {name: recipe.colour for name, recipe in METHODS.items()} | {"dense": "#000000", "chance": "#8C8C8C"}
METHOD_NAMES = {name: recipe.label for name, recipe in METHODS.items()}
_MEASURES = {
    "share_95": "dimensions for 95 % / d", "top10": "variance in 10 dimensions", "within": "cosine within",
    "participation": "participation ratio",
}  # fmt: skip
_START = {"mean": "the mean", "zero": "zero (published)"}
_FILL = ("full", "none")


def _arrow(direction: str) -> str:
    """`image_to_text` as one reads it; what is no direction stays."""
    return direction.replace("_to_", " → ")


def _pairs(frame: pd.DataFrame, modalities: Sequence[str]) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """For every backbone and every modality but the first: title, that modality, and the rows on it and the first."""
    reference, *others = modalities
    for backbone, own in frame.groupby("backbone", sort=False):
        for other in others:
            if len(others) == 1:
                yield backbone, other, own
            else:
                yield f"{backbone} ({reference}, {other})", other, own[own["modality"].isin([reference, other])]


def _look(method: str) -> dict:
    """A method's colour, marker and label; `shared` is larger and open, for its penalised variants often lie on it."""
    mark = {"markersize": 8, "fillstyle": "none"} if method == "shared" else {"markersize": 5}
    about = {"color": METHOD_COLOURS[method], "marker": METHODS[method].marker, "label": METHOD_NAMES[method]}
    return about | mark


def use_style() -> None:
    """Set the one matplotlib style of all figures: readable at the width of a printed column."""
    sns.set_theme(
        context="paper", style="ticks", font_scale=1.15,
        rc={"axes.spines.top": False, "axes.spines.right": False, "figure.constrained_layout.use": True,
            "legend.frameon": False, "pdf.fonttype": 42, "svg.hashsalt": "xsae", "axes.titleweight": "normal"},
    )  # fmt: skip
    mpl.rcParams["figure.dpi"] = 110


def _panels(
    titles: Sequence[str], width: float = 3.3, height: float = 3.0, rows: int = 1, **options
) -> tuple[Figure, list[Axes]]:
    columns = len(titles) // rows
    figure, axes = plt.subplots(rows, columns, figsize=(width * columns, height * rows), squeeze=False, **options)
    for axis, title in zip(axes.flat, titles, strict=True):
        axis.set_title(title)
    return figure, list(axes.flat)


def _from_zero(axis: Axes) -> None:
    """Start the y axis at 0 and leave room above the highest mark."""
    axis.set_ylim(0, 1.08 * axis.dataLim.ymax)


def _outer_labels(axes: Sequence[Axes], columns: int, x: str, y: str) -> None:
    """Label the axes at the left and at the foot of a grid of panels."""
    for axis in axes[::columns]:
        axis.set_ylabel(y)
    for axis in axes[-columns:]:
        axis.set_xlabel(x)


def _legend_below(figure: Figure, axis: Axes, columns: int) -> None:
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=columns)


def idea() -> Figure:
    """The paper's idea in three panels, drawn, not measured: one concept has a direction in each modality."""
    titles = ("One concept, two directions", "A shared SAE splits or merges it", "One SAE each, aligned afterwards")
    figure, axes = _panels(titles, width=3.1, height=2.2, subplot_kw={"aspect": "equal"})
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
    for name, own in zip(("cat", "dog"), zip(*angles.values(), strict=True), strict=True):
        for axis, place in ((axes[0], 1.2), (axes[2], 1.2)):
            for degrees, colour in zip(own, (image, text), strict=True):
                tip = arrow(axis, degrees, colour)
                axis.text(*(place * tip), name, ha="center", va="center", fontsize=9, color=colour)
    axes[0].text(0.97, 0.3, "images", color=image, fontsize=9, ha="center")
    axes[0].text(-1.02, 0.45, "texts", color=text, fontsize=9, ha="center")
    for degrees, label in ((38, "cat\n(images)"), (104, "cat\n(texts)")):
        tip = arrow(axes[1], degrees, METHOD_COLOURS["chance"])
        axes[1].text(*(1.27 * tip), label, ha="center", va="center", fontsize=8)
    merged = arrow(axes[1], 71, METHOD_COLOURS["group_sparse"], ls=":")
    axes[1].text(*(1.2 * merged), "cat or dog?", ha="center", va="center", fontsize=8)
    for own, radius in zip(zip(*angles.values(), strict=True), (0.86, 0.68), strict=True):
        axes[2].add_patch(
            mpl.patches.Arc((0, 0), 2 * radius, 2 * radius, theta1=own[0], theta2=own[1], ls="--", color="black")
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


def calibration(frame: pd.DataFrame, references: pd.DataFrame) -> Figure:
    """A panel per measure: the run's backbones (filled) beside what is known of real CLIP (open, dashed line)."""
    ours = [column for column in ("backbone", "modality") if column in frame]
    own = frame.assign(of=frame[ours].agg(", ".join, axis=1), known=False)
    every = pd.concat([own, references.assign(of=references["setting"], known=True)])
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
        title = f"{_MEASURES[name]}, {modality}" if name in _MEASURES else _arrow(metric).replace("_", " ")
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
    groups = list(_pairs(frame, modalities))
    figure, axes = _panels([title for title, _, _ in groups], width=3.9, height=3.7, sharey=True)
    bins, reference = list(frame["bin"].unique()), modalities[0]
    for panel, (axis, (_, other, own)) in enumerate(zip(axes, groups, strict=True)):
        name = other if len(modalities) == 2 else "the other"
        for row, (comparison, colour, marker, label) in enumerate(
            (
                ("cross_modal", "#0072B2", "o", f"{reference} vs {name}"),
                (f"same_modality_{reference}", "#009E73", "s", f"{reference} vs {reference} (two seeds)"),
                (f"same_modality_{other}", "#CC79A7", "^", f"{name} vs {name} (two seeds)"),
            )
        ):
            of = own[own["comparison"] == comparison].groupby(["metric", "bin"])["value"]
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
    _legend_below(figure, max(axes, key=lambda axis: len(axis.lines)), 2)
    return figure


def _below(axis: Axes, x: float, row: int, text: str, colour: str, ha: str) -> None:
    """Write under the ticks at x, in line `row`; line -1 is that of the ticks themselves."""
    place = {"xy": (x, 0), "xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
    axis.annotate(text, **place, xytext=(0, -20 - 10 * row), ha=ha, va="top", fontsize=7.5, color=colour)


def training_curves(frame: pd.DataFrame) -> Figure:
    """Training loss by step, a column of panels per start of the decoder bias: mean and deviation over seeds."""
    groups = [(backbone, start) for backbone in frame["backbone"].unique() for start in frame["bias_start"].unique()]
    titles = [f"{backbone}: bias starts at {_START[start]}" for backbone, start in groups]
    figure, axes = _panels(titles, height=2.6, rows=frame["backbone"].nunique(), sharey="row")
    styles = dict(zip(frame["modality"].unique(), cycle(["-", "--", ":", "-."]), strict=False))
    for axis, (backbone, start) in zip(axes, groups, strict=True):
        of = frame[(frame["backbone"] == backbone) & (frame["bias_start"] == start)]
        for (method, modality), own in of.groupby(["method", "modality"], sort=False):
            by_step = own.groupby("step")["loss"].agg(["mean", "std"]).fillna(0)
            low, high = by_step["mean"] - by_step["std"], by_step["mean"] + by_step["std"]
            axis.fill_between(by_step.index, low, high, color=METHOD_COLOURS[method], alpha=0.2, lw=0)
            label = f"{METHOD_NAMES[method]}, {modality}"
            axis.plot(by_step["mean"], styles[modality], color=METHOD_COLOURS[method], label=label)
        axis.set_yscale("log")
    _outer_labels(axes, len(groups) // frame["backbone"].nunique(), "step", "loss (training)")
    _legend_below(figure, axes[0], 4)
    return figure


def reconstruction(frame: pd.DataFrame) -> Figure:
    """Held-out loss of each method and modality: a dot per seed, bars for means; pale: the second start of the bias."""
    losses = frame[frame["metric"] == "loss"]
    groups = list(losses.groupby(["backbone", "modality"], sort=False))
    titles = [f"{backbone}: {modality}" for (backbone, modality), _ in groups]
    figure, axes = _panels(titles, height=2.5, rows=losses["backbone"].nunique())
    starts, methods = list(losses["bias_start"].unique()), [m for m in METHOD_NAMES if m in set(losses["method"])]
    for axis, (_, own) in zip(axes, groups, strict=True):
        for place, method in enumerate(methods):
            for shift, start in enumerate(starts):
                values = own[(own["method"] == method) & (own["bias_start"] == start)]["value"]
                at, alpha = place + 0.4 * shift - 0.2 * (len(starts) - 1), 0.3 if shift else 0.9
                axis.bar(at, values.mean(), 0.36, color=METHOD_COLOURS[method], alpha=alpha)
                axis.plot([at] * len(values), values, ".", color="black", markersize=4)
        axis.set_xticks(range(len(methods)), [METHOD_NAMES[m] for m in methods], rotation=20, ha="right", fontsize=8)
    for shift, start in enumerate(starts):
        label = f"bias starts at {_START[start]}"
        axes[0].bar([0], [0], color="black", alpha=0.3 if shift else 0.9, label=label)
    _outer_labels(axes, len(groups) // losses["backbone"].nunique(), "", "loss (held out)")
    _legend_below(figure, axes[0], 2)
    return figure


def firing_rates(frame: pd.DataFrame) -> Figure:
    """How often latents fire, from the most to the least active: mean over seeds; dashed: the second start."""
    groups = list(frame.groupby(["backbone", "modality"], sort=False))
    titles = [f"{backbone}: {modality}" for (backbone, modality), _ in groups]
    figure, axes = _panels(titles, height=2.4, rows=frame["backbone"].nunique(), sharex=True, sharey=True)
    for axis, (_, own) in zip(axes, groups, strict=True):
        for (method, start), of in own.groupby(["method", "bias_start"], sort=False):
            rate = of.groupby("rank")["rate"].mean()
            first = start == frame["bias_start"].iloc[0]
            label = f"{METHOD_NAMES[method]}" if first else None
            axis.plot(rate, "-" if first else "--", color=METHOD_COLOURS[method], label=label, lw=1.2)
        axis.axhline(0.5, color=METHOD_COLOURS["chance"], lw=0.8)
        axis.set_xscale("log")
    for start, line in zip(frame["bias_start"].unique(), ("-", "--"), strict=False):
        axes[0].plot([], [], line, color="black", label=f"bias starts at {_START[start]}")
    _outer_labels(axes, len(groups) // frame["backbone"].nunique(), "latent, most active first", "share of embeddings")
    _legend_below(figure, axes[0], 3)
    return figure


def match_correlations(frame: pd.DataFrame, modalities: Sequence[str]) -> Figure:
    """How well matched latents co-activate, against matches made between shuffled pairs."""
    groups = list(_pairs(frame, modalities))
    figure, axes = _panels([title for title, _, _ in groups], sharey=True)
    edges = np.linspace(-0.1, 1.0, 45)
    for axis, (_, _, matches) in zip(axes, groups, strict=True):
        for kind, colour in (("shuffled", METHOD_COLOURS["chance"]), ("paired", METHOD_COLOURS["posthoc"])):
            own = matches[matches["pairs"] == kind]
            share = np.full(len(own), 1 / len(own))
            axis.hist(own["correlation"], edges, weights=share, color=colour, alpha=0.65, label=f"{kind} embeddings")
        axis.set_xlabel("co-activation correlation of the match")
    axes[0].set_ylabel("share of matches (all seeds)")
    _legend_below(figure, axes[0], 2)
    return figure


def retrieval(frame: pd.DataFrame, starts: Sequence[str]) -> Figure:
    """R@1 by method in each variant, a panel per backbone and direction; full: the first start, open: the second."""
    first = frame[frame["metric"] == "R@1"]
    groups = list(first.groupby(["backbone", "direction"], sort=False))
    titles = [f"{backbone}: {_arrow(direction)}" for (backbone, direction), _ in groups]
    figure, axes = _panels(
        titles, width=4.2, height=2.6, rows=len(groups) // 2, sharey="row"
    )  # directions come in twos
    for axis, (_, own) in zip(axes, groups, strict=True):
        _by_method(axis, own, "variant", starts)
    _outer_labels(axes, 2, "", "R@1 (%)")
    _legend_below(figure, axes[0], 4)
    return figure


def zeroshot(frame: pd.DataFrame) -> Figure:
    """Top-1 zero-shot accuracy by method in each variant; full: the first start of the bias, open: the second."""
    groups = list(frame[frame["metric"] == "top-1"].groupby("backbone", sort=False))
    figure, axes = _panels([backbone for backbone, _ in groups], width=4.2, height=2.8)
    for axis, (_, own) in zip(axes, groups, strict=True):
        _by_method(axis, own, "variant", list(own["bias_start"].dropna().unique()))
    _outer_labels(axes, len(groups), "", "zero-shot top-1 (%)")
    _legend_below(figure, axes[0], 4)
    return figure


def _by_method(axis: Axes, frame: pd.DataFrame, setting: str, starts: Sequence[str]) -> None:
    """Percentages by `setting`, a mark per method: mean and deviation over seeds; ceiling and chance as lines."""
    settings, methods = list(frame[setting].unique()), [m for m in METHOD_NAMES if m in set(frame["method"])]
    for shift, start in enumerate(starts):
        for place, method in enumerate(methods):
            own = frame[(frame["method"] == method) & (frame["bias_start"] == start)]
            seeds = 100 * own.groupby(setting)["value"].agg(["mean", "std"]).reindex(settings)
            at = np.arange(len(settings)) + 0.13 * (place - (len(methods) - 1) / 2) + 0.05 * shift
            look = _look(method) | {"label": None if shift else METHOD_NAMES[method], "fillstyle": _FILL[shift]}
            axis.errorbar(at, seeds["mean"], seeds["std"], capsize=2, ls="", **look)
    for method, line, label in (("dense", "--", "dense embedding (ceiling)"), ("chance", ":", "chance")):
        for value in frame[frame["method"] == method]["value"]:
            axis.axhline(100 * value, ls=line, color=METHOD_COLOURS[method], label=label)
    for shift, start in enumerate(starts):
        axis.plot([], [], "s", color="grey", fillstyle=_FILL[shift], label=f"bias starts at {_START[start]}")
    axis.set_xticks(range(len(settings)), settings)
    axis.set_ylim(bottom=0)


def intervals(frame: pd.DataFrame, setting: str, metric: str) -> Figure:
    """How far posthoc is ahead of every other method, with 95 % intervals: a panel per backbone and comparison."""
    comparisons = [
        (f"both from {_START[start]}", (frame["comparison"] == "same start") & (frame["bias_start"] == start))
        for start in frame["bias_start"].unique()
    ]
    for name, title in (("best start", "each at its best start"), ("other's best", "the other at its own best")):
        if (frame["comparison"] == name).any():
            comparisons.append((title, frame["comparison"] == name))
    backbones, settings = list(frame["backbone"].unique()), list(frame[setting].unique())
    others = [method for method in METHOD_NAMES if method in set(frame["other"])]
    titles = [f"{backbone}: {title}" for backbone in backbones for title, _ in comparisons]
    figure, axes = _panels(titles, width=2.6, height=2.4, rows=len(backbones), sharex="row", sharey=True)
    panels = [frame[(frame["backbone"] == backbone) & of] for backbone in backbones for _, of in comparisons]
    for axis, own in zip(axes, panels, strict=True):
        own = own.pivot(index=["other", setting], columns="metric", values="value")
        for place, (value, marker) in enumerate(zip(settings, cycle("os^vDP"), strict=False)):
            for row, other in enumerate(others):
                mean, low, high = own.loc[(other, value), ["difference", "low", "high"]]
                axis.errorbar(
                    mean, row + 0.6 * ((place + 0.5) / len(settings) - 0.5), xerr=[[mean - low], [high - mean]],
                    capsize=2, marker=marker, markersize=4, color=METHOD_COLOURS[other], fillstyle=_FILL[not place],
                )  # fmt: skip
            axis.plot([], [], marker, color="grey", label=_arrow(value), fillstyle=_FILL[not place])
        axis.axvline(0, color=METHOD_COLOURS["chance"], lw=0.8)
        axis.set_yticks(range(len(others)), [METHOD_NAMES[other] for other in others])
        axis.title.set_fontsize(8)
        axis.margins(y=0.15)
    axes[0].invert_yaxis()
    for axis in axes[-len(comparisons) :]:
        axis.set_xlabel(f"{metric}: post-hoc minus …")
    _legend_below(figure, axes[0], 2)
    return figure


def steering(frame: pd.DataFrame, start: str) -> Figure:
    """mAP by preservation over growing α, a line per method from one start of the bias; the ceiling is dashed."""
    every = frame[(frame["kind"] == "all") & (frame["bias_start"].eq(start) | frame["method"].eq("direction"))]
    groups = list(every.groupby(["backbone", "gallery"], sort=False))
    figure, axes = _panels(
        [f"{backbone}: ranking {gallery}" for (backbone, gallery), _ in groups], width=4.2, height=3.0,
        rows=every["backbone"].nunique(), sharex=True, sharey="row",
    )  # fmt: skip
    for axis, (_, own) in zip(axes, groups, strict=True):
        means = own.groupby(["method", "alpha", "metric"])["value"].mean().unstack("metric")
        for method in [method for method in _steered() if method in means.index]:
            curve = means.loc[method]
            axis.plot(curve["preservation"], curve["mAP"], lw=1.2, **_steered()[method])
        for alpha, kept, score in means.loc["direction", ["preservation", "mAP"]].itertuples():
            if kept < 0.98:  # nearer to 1 the values of α would lie on each other
                axis.annotate(f"α = {alpha:g}", (kept, score), (4, 3), textcoords="offset points", fontsize=7)
        axis.set_ylim(0, 1.15 * means["mAP"].max())
    _outer_labels(axes, 2, "preservation (cosine to the original)", "mAP")
    _legend_below(figure, axes[0], 4)
    return figure


def _steered() -> dict[str, dict]:
    """The look of what steering compares: the methods, our own variant of posthoc, and the ceiling."""
    looks = {method: _look(method) for method in METHOD_NAMES}
    partner = {"ls": ":", "fillstyle": "none", "markersize": 6, "label": f"{METHOD_NAMES['posthoc']}, best partner"}
    ceiling = {"color": METHOD_COLOURS["dense"], "ls": "--", "marker": ".", "label": "true direction (ceiling)"}
    return looks | {"posthoc, best partner": looks["posthoc"] | partner, "direction": ceiling}


def steering_intervals(frame: pd.DataFrame, start: str) -> Figure:
    """How far posthoc's mAP is ahead of every other's from one start, with 95 % intervals, a panel per backbone."""
    frame = frame[frame["bias_start"] == start]
    others = [method for method in _steered() if method in set(frame["other"])]
    groups = list(frame.groupby("backbone", sort=False))
    figure, axes = _panels([backbone for backbone, _ in groups], width=4.2, height=1.0 + 0.6 * len(others), sharey=True)
    kinds = [(measure, gallery) for measure in frame["measure"].unique() for gallery in frame["gallery"].unique()]
    for axis, (_, own) in zip(axes, groups, strict=True):
        axis.axvline(0, color=METHOD_COLOURS["chance"], lw=0.8)
        values = own.pivot(index=["measure", "gallery", "other"], columns="metric", values="value")
        for place, (measure, gallery) in enumerate(kinds):
            marker = {"largest alpha": "o"}.get(measure, "s")
            look = {"marker": marker, "markersize": 4.5, "fillstyle": _FILL[gallery == "images"]}
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
    _legend_below(figure, axes[0], 2)
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
    for row, (concept, own) in zip(axes, shown.items(), strict=True):
        for axis, (images, holds) in zip(row, own.values(), strict=True):
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


def monosemanticity(scores: pd.DataFrame, baselines: pd.DataFrame) -> Figure:
    """Sorted scores of the latents of each method, mean over seeds, on the share of scored latents."""
    groups = list(baselines.itertuples(index=False))
    titles = [f"{backbone}: {modality}" for backbone, modality, _ in groups]
    figure, axes = _panels(titles, height=2.4, rows=baselines["backbone"].nunique(), sharex=True, sharey=True)
    share = np.linspace(0, 1, 101)
    for axis, (backbone, modality, baseline) in zip(axes, groups, strict=True):
        own = scores[(scores["backbone"] == backbone) & (scores["modality"] == modality)]
        for method, of_method in own.groupby("method", sort=False):
            seeds = [
                np.interp(share, np.linspace(0, 1, len(seed)), seed["score"]) for _, seed in of_method.groupby("seed")
            ]
            axis.plot(share, np.mean(seeds, axis=0), color=METHOD_COLOURS[method], label=METHOD_NAMES[method])
        axis.axhline(baseline, ls=":", color=METHOD_COLOURS["chance"], label="any two inputs")
    for axis in axes[::2]:
        axis.set_ylabel("monosemanticity")
    for axis in axes[-2:]:
        axis.set_xlabel("share of latents, best first")
    _legend_below(figure, axes[0], 5)
    return figure


def cos_sweep(frame: pd.DataFrame) -> Figure:
    """CR, RE and GRE by the cosine of a concept's two directions: mean and standard deviation over seeds."""
    panels = {"CR": "collapse rate (CR)", "RE": "reconstruction loss (RE)", "GRE": "error of directions (GRE)"}
    figure, axes = _panels(list(panels.values()), width=2.9)
    for axis, metric in zip(axes, panels, strict=True):
        for method, own in frame[frame["metric"] == metric].groupby("method", sort=False):
            seeds = own.groupby("cosine")["value"].agg(["mean", "std"])
            axis.errorbar(seeds.index, seeds["mean"], seeds["std"], capsize=3, **_look(method))
        axis.set_xlabel("cosine of two directions")
        _from_zero(axis)
    _legend_below(figure, axes[0], 2)
    return figure


def lambda_sweep(frame: pd.DataFrame) -> Figure:
    """GRE, 1 - ESim and 1 - FSim by the weight of each penalty; the methods without one as lines."""
    panels = {"GRE": "error of directions (GRE)", "1-ESim": "1 − ESim", "1-FSim": "1 − FSim"}
    figure, axes = _panels(list(panels.values()), width=2.9)
    for axis, metric in zip(axes, panels, strict=True):
        own = frame[frame["metric"] == metric]
        for method in ("iso_energy", "group_sparse"):
            seeds = own[own["method"] == method].groupby("factor")["value"].agg(["mean", "std"])
            axis.errorbar(seeds.index, seeds["mean"], seeds["std"], capsize=3, **_look(method))
        for method, line in (("shared", "-"), ("shared_bias", "-."), ("separated", "--"), ("posthoc", ":")):
            value = own[own["method"] == method]["value"].mean()
            axis.axhline(value, ls=line, color=METHOD_COLOURS[method], label=METHOD_NAMES[method])
        axis.set_xscale("log", base=2)
        axis.set_xlabel("weight, × the paper's")
        if metric == "GRE":  # a weight too large loses directions altogether, by orders of magnitude
            axis.set_yscale("log")
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.yaxis.set_major_formatter("{x:g}")
            axis.yaxis.set_minor_locator(NullLocator())
        else:
            _from_zero(axis)
        axis.xaxis.set_major_formatter(lambda weight, _: f"{weight:g}" if weight >= 1 else f"1/{1 / weight:g}")
    _legend_below(figure, axes[0], 5)
    return figure


def gap_density(
    densities: pd.DataFrame, gaps: pd.DataFrame, modalities: Sequence[str], control: bool = False
) -> Figure:
    """Density of the direction gap per correlation bin (the paper's Fig. 2): over all pairs of alive latents, as the
    released code draws it, mean over seeds; below it of the matches. `control`: of two seeds of one modality."""
    columns = list(zip(_pairs(densities, modalities), _pairs(gaps, modalities), strict=True))
    titles, drawn = [], []
    for side in (0, 1) if control else (1,):
        for what, of_matches in (("all pairs", False), ("matches", True)):
            for (title, other, pairs), (_, _, matches) in columns:
                name, own = (modalities[0], other)[side], matches if of_matches else pairs
                titles.append(f"{title.partition(' (')[0]}: {name if control else modalities[0]} vs {name}, {what}")
                comparison = f"same_modality_{name}" if control else "cross_modal"
                drawn.append((_density_of_matches if of_matches else _density, own[own["comparison"] == comparison]))
    figure, axes = _panels(titles, width=3.1, height=2.3, rows=len(titles) // len(columns), sharex=True)
    bins = list(densities["bin"].unique())
    for axis, (draw, own) in zip(axes, drawn, strict=True):
        for bin, colour in zip(bins, sns.color_palette("viridis", len(bins)), strict=True):
            n = draw(axis, own, bin, colour)
            axis.plot([], [], color=colour, label=f"{bin}  n = {n:,}")
        axis.set(xlim=(0, 2), xlabel="", ylabel="")
        axis.set_ylim(bottom=0)
        axis.title.set_fontsize(9)
        axis.legend(fontsize=7, loc="upper right", handlelength=1.2, borderaxespad=0)
    _outer_labels(axes, len(columns), "direction gap (1 − cosine)", "density")
    return figure


def _density(axis: Axes, pairs: pd.DataFrame, bin: str, colour: tuple) -> int:
    """Draw the density of a bin over all pairs, if it holds 30 pairs; returns how many it holds."""
    own = pairs[pairs["bin"] == bin]
    n = int(own["n"].sum())
    if n >= 30:
        means = own.groupby(["low", "high"])["density"].mean()
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
    groups = list(_pairs(frame, modalities))
    figure, axes = _panels([title for title, _, _ in groups], height=2.4, sharey=True)
    for axis, (_, other, own) in zip(axes, groups, strict=True):
        share = np.full(len(own), 1 / len(own))
        axis.hist(own["score"], np.linspace(0, 1, 21), weights=share, color=METHOD_COLOURS["shared"], alpha=0.8)
        axis.set_xlabel(f"modality score (0 {other}, 1 {modalities[0]})")
    axes[0].set_ylabel("share of alive latents")
    return figure


def concept_directions(frame: pd.DataFrame) -> Figure:
    """Cosine of the image and the text direction of each labelled concept, sorted, its ceiling as an open mark."""
    backbones, kinds = list(frame["backbone"].unique()), sorted(frame["kind"].unique())
    widest = frame.groupby("backbone").size().max()
    figure, axes = _panels(backbones, width=max(6.5, 0.14 * widest), height=3.0, rows=len(backbones), sharey=True)
    looks = dict(zip(kinds, zip(cycle(sns.color_palette("colorblind")), cycle("osD^vP"), strict=False), strict=False))
    for axis, backbone in zip(axes, backbones, strict=True):
        own = frame[frame["backbone"] == backbone].sort_values("cosine").reset_index(drop=True)
        axis.vlines(own.index, own["cosine"], own["ceiling"], color=METHOD_COLOURS["chance"], lw=0.6)
        for kind, (colour, marker) in looks.items():
            of_kind = own[own["kind"] == kind]
            axis.plot(of_kind["cosine"], marker, color=colour, markersize=5, label=kind)
            axis.plot(of_kind["ceiling"], marker, color=colour, markersize=5, fillstyle="none")
        axis.set_xticks(own.index, own["concept"].str.partition(":")[2], rotation=90, fontsize=7)
        axis.set_xlim(-0.8, len(own) - 0.2)
        axis.set_ylim(0, 1.03)
        axis.set_ylabel("cosine, image and text")
    axes[0].plot([], [], "o", color="grey", fillstyle="none", label="ceiling")
    handles = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4)
    return figure


def ablations(frame: pd.DataFrame) -> Figure:
    """RE, on a log scale, and R@1 of each method in each setting: mean and deviation over seeds, a row per backbone."""
    groups = [(backbone, metric) for backbone in frame["backbone"].unique() for metric in ("RE", "R@1")]
    figure, axes = _panels(
        [backbone for backbone, _ in groups], width=3.8, height=2.8, rows=len(groups) // 2, sharey=True
    )
    variants = list(frame["variant"].unique())
    methods = [method for method in METHOD_NAMES if method in set(frame["method"])]
    for axis, (backbone, metric) in zip(axes, groups, strict=True):
        own = frame[(frame["backbone"] == backbone) & (frame["metric"] == metric)]
        for place, method in enumerate(methods):
            seeds = own[own["method"] == method].groupby("variant")["value"].agg(["mean", "std"]).reindex(variants)
            at = np.arange(len(variants)) + 0.15 * (place - (len(methods) - 1) / 2)
            axis.errorbar(seeds["mean"], at, xerr=seeds["std"], ls="", capsize=2, **_look(method))
        axis.set_yticks(range(len(variants)), variants, fontsize=8)
        if metric == "RE":
            axis.set_xscale("log")  # raw training passes the others by far
            steps = (1, 1.5, 2, 3, 5, 7) if own["value"].max() < 10 * own["value"].min() else (1, 3)
            axis.xaxis.set_major_locator(LogLocator(subs=steps))
            axis.xaxis.set_major_formatter("{x:g}")
            axis.xaxis.set_minor_locator(NullLocator())
        else:
            axis.set_xlim(left=0)
        axis.set_xlabel("loss (held out)" if metric == "RE" else "R@1, mean of all directions")
        axis.grid(axis="y", alpha=0.3)
    axes[0].invert_yaxis()
    _legend_below(figure, axes[0], 5)
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
    return {"label": label, "color": colour, "marker": marker, "fillstyle": _FILL[name in _DENSE]}


def alignments(frame: pd.DataFrame) -> Figure:
    """R@1 by the partners of a latent, a panel per backbone and direction: mean and deviation over seeds."""
    first, partners = frame[frame["metric"] == "R@1"], frame[frame["metric"] == "partners"]
    groups = list(first.groupby(["backbone", "direction"], sort=False))
    titles = [f"{backbone}: {_arrow(direction)}" for (backbone, direction), _ in groups]
    figure, axes = _panels(titles, width=3.8, height=2.9, rows=len(groups) // 2, sharex=True)
    for axis, ((backbone, _), own) in zip(axes, groups, strict=True):
        of = partners[partners["backbone"] == backbone].groupby("alignment")["value"].mean()
        for name, seeds in own.groupby("alignment", sort=False):
            spread = 100 * seeds["value"].std()
            axis.errorbar(of[name], 100 * seeds["value"].mean(), spread, ls="", capsize=2, **_alignment_look(name))
        axis.set_xscale("log")
        _from_zero(axis)
    _outer_labels(axes, 2, "partners of a latent", "R@1 (%)")
    _legend_below(figure, axes[0], 4)
    return figure


def matches_truth(frame: pd.DataFrame) -> Figure:
    """Significant matches of the synthetic world against the truth, by the number of pairs: mean and deviation."""
    figure, (axis,) = _panels([""], width=4.6, height=3.0)
    for metric, label, colour, marker in (
        ("precision", "precision: a common concept", "#0072B2", "o"),
        ("same_first", "precision: the same first concept", "#56B4E9", "s"),
        ("recall", "recall of shared concepts", "#009E73", "^"),
        ("all_precision", "precision of all matches", "#8C8C8C", "v"),
    ):
        seeds = frame[frame["metric"] == metric].groupby("pairs")["value"].agg(["mean", "std"])
        axis.errorbar(seeds.index, seeds["mean"], seeds["std"], capsize=2, color=colour, marker=marker, label=label)
    axis.axhline(0.95, ls=":", color="black", label="at most 5 % false")
    axis.set_xscale("log")
    axis.set_ylim(0, 1.05)
    axis.set_xlabel("pairs")
    axis.set_ylabel("share")
    _legend_below(figure, axis, 2)
    return figure


def pairs_needed(frame: pd.DataFrame) -> Figure:
    """R@1 by the pairs that align, all true, and by the share of shuffled ones: a row per backbone and direction."""
    groups = list(frame.groupby(["backbone", "direction"], sort=False))
    titles = [title for (backbone, way), _ in groups for title in (f"{backbone}: {_arrow(way)}", "")]
    figure, axes = _panels(titles, width=3.8, height=2.2, rows=len(groups), sharey="row")
    for row, (_, own) in enumerate(groups):
        for axis, setting, kept in (
            (axes[2 * row], "pairs", own["shuffled"] == 0),
            (axes[2 * row + 1], "shuffled", own["pairs"] == own["pairs"].max()),
        ):
            for name, seeds in own[kept].groupby("alignment", sort=False):
                found = 100 * seeds.groupby(setting)["value"].agg(["mean", "std"])
                axis.errorbar(found.index, found["mean"], found["std"], capsize=2, **_alignment_look(name))
            _from_zero(axis)
        axes[2 * row].set_xscale("log")
        axes[2 * row].xaxis.set_minor_formatter(NullFormatter())
        axes[2 * row].set_ylabel("R@1 (%)")
    axes[-2].set_xlabel("pairs")
    axes[-1].set_xlabel("share of the pairs that is shuffled")
    _legend_below(figure, axes[0], 3)
    return figure
