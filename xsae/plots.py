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
from matplotlib.ticker import LogLocator, NullLocator

# Okabe and Ito's colours, safe for colour-blind readers; one per method, the same in every figure
METHOD_COLOURS = {
    "shared": "#D55E00", "shared_bias": "#009E73", "separated": "#56B4E9", "posthoc": "#0072B2",
    "iso_energy": "#E69F00", "group_sparse": "#CC79A7", "dense": "#000000", "chance": "#8C8C8C",
}  # fmt: skip
METHOD_MARKERS = {
    "shared": "o", "shared_bias": "^", "iso_energy": "v", "group_sparse": "P", "separated": "s", "posthoc": "D",
}  # fmt: skip


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
    return {"color": METHOD_COLOURS[method], "marker": METHOD_MARKERS[method], "label": method, **mark}


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


def _legend_below(figure: Figure, axis: Axes, columns: int) -> None:
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=columns)


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
    """Each backbone's embedding statistics beside those of real CLIP."""
    metrics = [metric for metric in frame["metric"].unique() if not metric.startswith(("dims_95", "n_pairs"))]
    figure, (axis,) = _panels([""], width=max(7.0, 1.0 * len(metrics)))
    markers = cycle("osDv^P")
    for group, own in frame.groupby([c for c in ("backbone", "modality") if c in frame], sort=False):
        own = own.set_index("metric")["value"].reindex(metrics)
        axis.plot(own.to_numpy(), next(markers), markersize=8, label=f"{', '.join(group)} (this run)")
    for setting, known in references.groupby("setting", sort=False):
        known = known.set_index("metric")["value"].reindex(metrics)
        axis.plot(known.to_numpy(), next(markers), color="black", fillstyle="none", markersize=8, label=setting)
    names = [_arrow(m.replace("share_95_", "dims for 95 %\n")).replace("R@1 ", "R@1\n") for m in metrics]
    axis.set_xticks(range(len(metrics)), [name.replace("_", "\n", 1) for name in names], fontsize=8)
    axis.set_ylabel("value (cosine, L2 distance or share)")
    axis.set_ylim(bottom=0)
    axis.grid(axis="x", alpha=0.4)
    _legend_below(figure, axis, 2)
    return figure


def direction_gap(frame: pd.DataFrame, references: pd.DataFrame, modalities: Sequence[str]) -> Figure:
    """Mean direction gap of matches per bin of their correlation: cross-modal beside the same-modality control."""
    groups = list(_pairs(frame[frame["metric"] == "gap_mean"], modalities))
    figure, axes = _panels([title for title, _, _ in groups], width=3.6, height=3.3, sharey=True)
    bins, reference = list(frame["bin"].unique()), modalities[0]
    for axis, (_, other, own) in zip(axes, groups, strict=True):
        name = other if len(modalities) == 2 else "the other"
        for comparison, colour, marker, label in (
            ("cross_modal", "#0072B2", "o", f"{reference} vs {name}"),
            (f"same_modality_{reference}", "#009E73", "s", f"{reference} vs {reference} (two seeds)"),
            (f"same_modality_{other}", "#CC79A7", "^", f"{name} vs {name} (two seeds)"),
        ):
            seeds = own[own["comparison"] == comparison].groupby("bin")["value"].agg(["mean", "std"]).reindex(bins)
            axis.errorbar(
                range(len(bins)), seeds["mean"], seeds["std"], color=colour, marker=marker, capsize=3, label=label
            )
        if (reference, other) == ("image", "text"):
            known = references.assign(bin=references["setting"].str.removeprefix("cross-modal "))
            known, label = known.set_index("bin")["value"].reindex(bins), "reference [N], CLIP on COCO"
            axis.plot(range(len(bins)), known, "D", color="black", fillstyle="none", ls=":", label=label)
        axis.set_xticks(range(len(bins)), bins, fontsize=7)
        axis.set_xlabel("co-activation correlation of the match")
        axis.set_ylim(bottom=0)
    axes[0].set_ylabel("direction gap (1 − cosine)")
    _legend_below(figure, max(axes, key=lambda axis: len(axis.lines)), 2)
    return figure


def training_curves(frame: pd.DataFrame) -> Figure:
    """Training loss by epoch, mean over seeds with a band of one standard deviation."""
    backbones = list(frame["backbone"].unique())
    figure, axes = _panels(backbones, sharey=True)
    styles = dict(zip(frame["modality"].unique(), cycle(["-", "--", ":", "-."]), strict=False))
    for axis, backbone in zip(axes, backbones, strict=True):
        for (method, modality), own in frame[frame["backbone"] == backbone].groupby(["method", "modality"], sort=False):
            by_epoch = own.groupby("epoch")["loss"].agg(["mean", "std"]).fillna(0)
            low, high = by_epoch["mean"] - by_epoch["std"], by_epoch["mean"] + by_epoch["std"]
            axis.fill_between(by_epoch.index, low, high, color=METHOD_COLOURS[method], alpha=0.2, lw=0)
            axis.plot(by_epoch["mean"], styles[modality], color=METHOD_COLOURS[method], label=f"{method}, {modality}")
        axis.set_xlabel("epoch")
        axis.set_yscale("log")
    axes[0].set_ylabel("normalised loss (training)")
    _legend_below(figure, axes[0], 4)
    return figure


def reconstruction(frame: pd.DataFrame) -> Figure:
    """Held-out reconstruction loss of each method and modality: one dot per seed, a bar for their mean."""
    backbones = list(frame["backbone"].unique())
    figure, axes = _panels(backbones, sharey=True)
    losses = frame[frame["metric"] == "loss"]
    for axis, backbone in zip(axes, backbones, strict=True):
        own = losses[losses["backbone"] == backbone]
        sns.barplot(
            own, x="modality", y="value", hue="method", palette=METHOD_COLOURS, errorbar=None, ax=axis, alpha=0.6
        )
        sns.stripplot(
            own, x="modality", y="value", hue="method", palette=METHOD_COLOURS, dodge=True, jitter=False, ax=axis,
            legend=False, size=4, edgecolor="black", linewidth=0.5,
        )  # fmt: skip
        axis.set_xlabel("")
        axis.get_legend().remove()
    axes[0].set_ylabel("normalised loss (held out)")
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


def retrieval(frame: pd.DataFrame) -> Figure:
    """Recall at 1, 5, 10 by method, both ways: mean and standard deviation over seeds; ceiling and chance as lines."""
    groups = list(frame.groupby(["backbone", "direction"], sort=False))
    titles = [f"{backbone}: {_arrow(direction)}" for (backbone, direction), _ in groups]
    figure, axes = _panels(titles, height=2.4, rows=len(groups) // 2, sharey=True)  # directions come in twos
    metrics = ["R@1", "R@5", "R@10"]
    for axis, (_, own) in zip(axes, groups, strict=True):
        for offset, method in enumerate(METHOD_MARKERS):
            seeds = own[own["method"] == method].groupby("metric")["value"].agg(["mean", "std"]).reindex(metrics)
            axis.errorbar(
                np.arange(3) + 0.12 * (offset - 2), 100 * seeds["mean"], 100 * seeds["std"], capsize=3, ls="",
                **_look(method),
            )  # fmt: skip
        for method, line, label in (("dense", "--", "dense embedding (ceiling)"), ("chance", ":", "chance")):
            value = own[own["method"] == method].set_index("metric")["value"].reindex(metrics)
            axis.plot(100 * value.to_numpy(), line, color=METHOD_COLOURS[method], label=label)
        axis.set_xticks(range(3), metrics)
        axis.set_yscale("log")
    for axis in axes[::2]:
        axis.set_ylabel("recall (%), log scale")
    _legend_below(figure, axes[0], 3)
    return figure


def intervals(frame: pd.DataFrame, setting: str, label: str) -> Figure:
    """How far posthoc is ahead of every other method: mean difference and 95 % bootstrap interval, by `setting`."""
    backbones, settings = list(frame["backbone"].unique()), list(frame[setting].unique())
    others, n = list(frame["other"].unique()), len(settings)
    figure, axes = _panels(backbones, sharey=True, height=1.6 + 0.5 * n)
    for axis, backbone in zip(axes, backbones, strict=True):
        own = frame[frame["backbone"] == backbone].pivot(index=["other", setting], columns="metric", values="value")
        for place, (value, marker) in enumerate(zip(settings, cycle("os^vDP"), strict=False)):
            fill = "full" if place else "none"
            for row, other in enumerate(others):
                mean, low, high = own.loc[(other, value), ["difference", "low", "high"]]
                axis.errorbar(
                    mean, row + 0.6 * ((place + 0.5) / n - 0.5), xerr=[[mean - low], [high - mean]], capsize=3,
                    marker=marker, color=METHOD_COLOURS[other], fillstyle=fill,
                )  # fmt: skip
            axis.plot([], [], marker, color="grey", label=_arrow(value), fillstyle=fill)
        axis.axvline(0, color=METHOD_COLOURS["chance"], lw=0.8)
        axis.set_yticks(range(len(others)), [f"− {other}" for other in others])
        axis.set_xlabel(label)
        axis.margins(y=0.15)
    axes[0].invert_yaxis()
    _legend_below(figure, axes[0], 2)
    return figure


def zeroshot(frame: pd.DataFrame) -> Figure:
    """Top-1 zero-shot accuracy by method, raw and without frequent latents; the dense embedding and chance as lines."""
    backbones = list(frame["backbone"].unique())
    figure, axes = _panels(backbones, width=3.6, sharey=True)
    top = frame[frame["metric"] == "top-1"]
    for axis, backbone in zip(axes, backbones, strict=True):
        own = top[top["backbone"] == backbone]
        for place, (method, marker) in enumerate(METHOD_MARKERS.items()):
            for shift, variant, fill in ((-0.12, "raw", "full"), (0.12, "without frequent", "none")):
                values = 100 * own[(own["method"] == method) & (own["variant"] == variant)]["value"]
                axis.errorbar(
                    place + shift, values.mean(), values.std() if len(values) > 1 else 0, marker=marker, capsize=3,
                    color=METHOD_COLOURS[method], fillstyle=fill,
                )  # fmt: skip
        for method, line, label in (("dense", "--", "dense embedding (ceiling)"), ("chance", ":", "chance")):
            [value] = own[own["method"] == method]["value"]
            axis.axhline(100 * value, ls=line, color=METHOD_COLOURS[method], label=label)
        axis.set_xticks(range(len(METHOD_MARKERS)), METHOD_MARKERS, rotation=25, ha="right", fontsize=8)
        axis.set_ylim(bottom=0)
    axes[0].set_ylabel("zero-shot top-1 (%)")
    _legend_below(figure, axes[0], 2)
    return figure


def steering(frame: pd.DataFrame) -> Figure:
    """Concept gain against preservation over α, one line per method: mean and standard deviation over seeds."""
    groups = [(b, g) for b in frame["backbone"].unique() for g in frame["gallery"].unique()]
    figure, axes = _panels(
        [f"{b}: ranking {g}" for b, g in groups], height=2.6, rows=frame["backbone"].nunique(), sharex=True
    )
    every = frame[frame["kind"] == "all"]
    for axis, (backbone, gallery) in zip(axes, groups, strict=True):
        own = every[(every["backbone"] == backbone) & (every["gallery"] == gallery)]
        for method in METHOD_MARKERS:
            values = own[own["method"] == method].pivot(index="seed", columns=["metric", "alpha"], values="value")
            gain = values["mAP"].sub(values["mAP"][0.0], axis=0)
            kept = values["preservation"].mean()
            spread = gain.std() if len(gain) > 1 else None
            axis.errorbar(kept, gain.mean(), spread, capsize=2, **_look(method))
        axis.axhline(0, color="black", lw=0.5)
    for axis in axes[::2]:
        axis.set_ylabel("gain in mAP")
    for axis in axes[-2:]:
        axis.set_xlabel("preservation (cosine to the original)")
    _legend_below(figure, axes[0], 5)
    return figure


def steered_scenes(shown: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """concept -> block title -> images, uint8 (n, 64, 64, 3): a row per concept, its blocks side by side."""
    widths = [len(images) for images in next(iter(shown.values())).values()]
    figure = plt.figure(figsize=(0.55 * sum(widths) + 1.2, 1.0 * len(shown) + 0.5))
    rows = figure.subfigures(len(shown), 1, squeeze=False)[:, 0]
    for row, (concept, blocks) in zip(rows, shown.items(), strict=True):
        grid = row.add_gridspec(1, len(blocks), width_ratios=widths)
        for place, (title, images) in enumerate(blocks.items()):
            axis = row.add_subplot(grid[place])
            axis.imshow(np.concatenate([np.pad(i, ((0, 0), (0, 3), (0, 0)), constant_values=255) for i in images], 1))
            axis.set_title(title, fontsize=7)
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
            if place == 0:
                axis.set_ylabel(concept.replace(":", "\n"), rotation=0, ha="right", va="center", fontsize=7)
    return figure


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
            axis.plot(share, np.mean(seeds, axis=0), color=METHOD_COLOURS[method], label=method)
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
            axis.axhline(value, ls=line, color=METHOD_COLOURS[method], label=method)
        axis.set_xscale("log", base=2)
        axis.set_xlabel("weight, × the paper's")
        if metric == "GRE":  # a weight too large loses directions altogether, by orders of magnitude
            axis.set_yscale("log")
        else:
            _from_zero(axis)
    _legend_below(figure, axes[0], 5)
    return figure


def gap_density(frame: pd.DataFrame, modalities: Sequence[str]) -> Figure:
    """Density of the direction gap per correlation bin (the paper's Fig. 2), the same-modality control below it."""
    columns = list(_pairs(frame, modalities))
    titles = [f"{title}: {modalities[0]} vs {other}" for title, other, _ in columns]
    titles += [f"{title}: two seeds" for title, _, _ in columns]
    figure, axes = _panels(titles, height=2.1, rows=2, sharex=True)
    edges = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    colours = sns.color_palette("viridis", len(edges) - 1)
    groups = [own[own["comparison"] == "cross_modal"] for _, _, own in columns]
    groups += [own[own["comparison"] != "cross_modal"] for _, _, own in columns]
    for axis, own in zip(axes, groups, strict=True):
        for low, high, colour in zip(edges, edges[1:], colours, strict=False):
            gap = own[(own["correlation"] >= low) & (own["correlation"] < high + 1e-9 * (high == 1))]["gap"]
            if len(gap) >= 5 and gap.std() > 0:  # fewer have no density worth drawing
                sns.kdeplot(gap, ax=axis, color=colour, clip=(0, 2), label=f"[{low}, {high}{']' if high == 1 else ')'}")
            else:
                axis.plot([], [], color=colour, label=f"[{low}, {high}{']' if high == 1 else ')'}")
        axis.set_ylabel("")
        axis.set_yticks([])
        axis.set_xlabel("")
        axis.set_xlim(0, 1.5)
    for axis in axes[:: len(columns)]:
        axis.set_ylabel("density")
    for axis in axes[-len(columns) :]:
        axis.set_xlabel("direction gap (1 − cosine)")
    _legend_below(figure, axes[0], 5)
    return figure


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


def ablations(frame: pd.DataFrame) -> Figure:
    """RE, on a log scale, and R@1 of each method in each setting, a row of panels per backbone."""
    groups = [(backbone, metric) for backbone in frame["backbone"].unique() for metric in ("RE", "R@1")]
    figure, axes = _panels(
        [backbone for backbone, _ in groups], width=3.8, height=2.6, rows=len(groups) // 2, sharey=True
    )
    variants = list(frame["variant"].unique())
    for axis, (backbone, metric) in zip(axes, groups, strict=True):
        own = frame[(frame["backbone"] == backbone) & (frame["metric"] == metric)]
        for place, method in enumerate(METHOD_MARKERS):
            values = own[own["method"] == method].set_index("variant")["value"].reindex(variants)
            axis.plot(values, np.arange(len(variants)) + 0.13 * (place - 2), ls="", **_look(method))
        axis.set_yticks(range(len(variants)), variants, fontsize=8)
        if metric == "RE":
            axis.set_xscale("log")  # raw training and a penalty together pass 10
            steps = (1, 1.5, 2, 3, 5, 7) if own["value"].max() < 10 * own["value"].min() else (1, 3)
            axis.xaxis.set_major_locator(LogLocator(subs=steps))
            axis.xaxis.set_major_formatter("{x:g}")
            axis.xaxis.set_minor_locator(NullLocator())
        else:
            axis.set_xlim(left=0)
        axis.set_xlabel("reconstruction loss (RE)" if metric == "RE" else "R@1, mean of all directions")
        axis.grid(axis="y", alpha=0.3)
    axes[0].invert_yaxis()
    _legend_below(figure, axes[0], 5)
    return figure
