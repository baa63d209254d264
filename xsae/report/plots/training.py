"""Figures of what autoencoders learn: losses, firing, sweeps, ablations, monosemanticity."""

from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from xsae.report.plots.style import (
    METHOD_COLOURS,
    METHOD_NAMES,
    START,
    from_zero,
    legend_below,
    look_of,
    outer_labels,
    over_seeds,
    panel_grid,
    plain_ticks,
)

_ACTIVATIONS = {
    "topk": "TopK", "batch_topk": "BatchTopK", "relu": "ReLU", "jumprelu": "JumpReLU", "matryoshka": "Matryoshka",
}  # fmt: skip


def training_curves(frame: pd.DataFrame) -> Figure:
    """Training loss by step, a column of panels per start of the decoder bias: mean and deviation over seeds."""
    groups = [(backbone, start) for backbone in frame["backbone"].unique() for start in frame["bias_start"].unique()]
    titles = [f"{backbone}: bias starts at {START[start]}" for backbone, start in groups]
    figure, axes = panel_grid(titles, height=2.6, rows=frame["backbone"].nunique(), sharey="row")
    styles = dict(zip(frame["modality"].unique(), cycle(["-", "--", ":", "-."]), strict=False))
    for axis, (backbone, start) in zip(axes, groups, strict=True):
        of = frame[(frame["backbone"] == backbone) & (frame["bias_start"] == start)]
        for (method, modality), rows in of.groupby(["method", "modality"], sort=False):
            by_step = rows.groupby("step")["loss"].agg(["mean", "std"]).fillna(0)
            low, high = by_step["mean"] - by_step["std"], by_step["mean"] + by_step["std"]
            axis.fill_between(by_step.index, low, high, color=METHOD_COLOURS[method], alpha=0.2, lw=0)
            label = METHOD_NAMES[method] if styles[modality] == "-" else None
            axis.plot(by_step["mean"], styles[modality], color=METHOD_COLOURS[method], label=label)
        axis.set_yscale("log")
        plain_ticks(axis.yaxis)
    for modality, style in styles.items():
        axes[0].plot([], [], style, color="black", label=modality)
    outer_labels(axes, len(groups) // frame["backbone"].nunique(), "step", "loss (training)")
    legend_below(figure, axes[0], 4)
    return figure


def choices(frame: pd.DataFrame) -> Figure:
    """Loss along each axis that a run chose on, with one standard error; k and latents have their stability beside."""
    settings = [column for column in frame if column not in ("metric", "value")]
    wide = frame.fillna({"weight": 0.0}).set_index([*settings, "metric"])["value"].unstack("metric").reset_index()
    groups = list(frame[["method", "axis"]].drop_duplicates().itertuples(index=False))
    figure, panels = panel_grid([METHOD_NAMES[method] for method, _ in groups], height=2.8)
    for panel, (method, axis) in zip(panels, groups, strict=True):
        rows = wide[(wide["method"] == method) & (wide["axis"] == axis)]
        look = look_of(method) | {"fillstyle": "full"}
        panel.errorbar(rows[axis], rows["loss"], rows["standard_error"], capsize=3, **look)
        chosen = rows[rows["chosen"]]
        panel.plot(chosen[axis], chosen["loss"], "o", markersize=13, fillstyle="none", color="black")
        compared = rows.loc[rows["weight"].idxmin() if axis == "weight" else rows["loss"].idxmin()]
        panel.axhline(compared["loss"] + compared["standard_error"], ls=":", lw=1, color=METHOD_COLOURS["chance"])
        if axis == "weight":
            least, most = rows.loc[rows["weight"] > 0, "weight"].agg(["min", "max"])
            panel.set_xscale("symlog", linthresh=least)
            panel.set_xlim(-least / 3, 2 * most)
        else:
            panel.set_xscale("log", base=2)
            panel.set_xticks(rows[axis], rows[axis])
            for of in rows.itertuples():
                panel.annotate(f" {of.stability:.2f}", (getattr(of, axis), of.loss), fontsize=8)
        panel.set_xlabel({"weight": "weight λ", "k": f"k, of {rows['latents'].iloc[0]} latents"}.get(axis, axis))
    panels[0].set_ylabel("loss (set aside)")
    return figure


def reconstruction(frame: pd.DataFrame) -> Figure:
    """Held-out loss of each method and modality: a dot per seed, bars for means; pale: the second start of the bias."""
    losses = frame[frame["metric"] == "loss"]
    groups = list(losses.groupby(["backbone", "modality"], sort=False))
    titles = [f"{backbone}: {modality}" for (backbone, modality), _ in groups]
    figure, axes = panel_grid(titles, height=2.5, rows=losses["backbone"].nunique())
    starts, methods = list(losses["bias_start"].unique()), [m for m in METHOD_NAMES if m in set(losses["method"])]
    for axis, (_, panel) in zip(axes, groups, strict=True):
        for place, method in enumerate(methods):
            for shift, start in enumerate(starts):
                values = panel[(panel["method"] == method) & (panel["bias_start"] == start)]["value"]
                if values.empty:  # it has not this start
                    continue
                at, alpha = place + 0.4 * shift - 0.2 * (len(starts) - 1), 0.3 if shift else 0.9
                axis.bar(at, values.mean(), 0.36, color=METHOD_COLOURS[method], alpha=alpha)
                axis.plot([at] * len(values), values, ".", color="black", markersize=4)
        axis.set_xticks(range(len(methods)), [METHOD_NAMES[m] for m in methods], rotation=35, ha="right", fontsize=8)
    for shift, start in enumerate(starts):
        label = f"bias starts at {START[start]}"
        axes[0].bar([0], [0], color="black", alpha=0.3 if shift else 0.9, label=label)
    outer_labels(axes, len(groups) // losses["backbone"].nunique(), "", "loss (held out)")
    legend_below(figure, axes[0], 2)
    return figure


def firing_rates(frame: pd.DataFrame) -> Figure:
    """How often latents fire, from the most to the least active: mean over seeds; dashed: the second start."""
    groups = list(frame.groupby(["backbone", "modality"], sort=False))
    titles = [f"{backbone}: {modality}" for (backbone, modality), _ in groups]
    figure, axes = panel_grid(titles, height=2.5, rows=frame["backbone"].nunique(), sharex=True, sharey=True)
    for axis, (_, panel) in zip(axes, groups, strict=True):
        for (method, start), of in panel.groupby(["method", "bias_start"], sort=False):
            rate = of.groupby("rank")["rate"].mean()
            first = start == frame["bias_start"].iloc[0]
            label = f"{METHOD_NAMES[method]}" if first else None
            axis.plot(rate, "-" if first else "--", color=METHOD_COLOURS[method], label=label, lw=1.2)
        axis.axhline(0.5, color=METHOD_COLOURS["chance"], lw=0.8)
        axis.set_xscale("log")
        plain_ticks(axis.xaxis, steps=(1,))
    for start, line in zip(frame["bias_start"].unique(), ("-", "--"), strict=False):
        axes[0].plot([], [], line, color="black", label=f"bias starts at {START[start]}")
    outer_labels(axes, len(groups) // frame["backbone"].nunique(), "latent, most active first", "firing rate")
    legend_below(figure, axes[0], 3)
    return figure


def cos_sweep(frame: pd.DataFrame) -> Figure:
    """CR, RE and GRE by the cosine of a concept's two directions: mean and standard deviation over seeds."""
    panels = {"CR": "collapse rate (CR)", "RE": "reconstruction loss (RE)", "GRE": "error of directions (GRE)"}
    figure, axes = panel_grid(list(panels.values()), width=2.9)
    for axis, metric in zip(axes, panels, strict=True):
        for method, rows in frame[frame["metric"] == metric].groupby("method", sort=False):
            over_seeds(axis, rows, "cosine", capsize=3, **look_of(method))
        axis.set_xlabel("cosine of two directions")
        from_zero(axis)
    legend_below(figure, axes[0], 2)
    return figure


def lambda_sweep(frame: pd.DataFrame) -> Figure:
    """GRE, 1 - ESim and 1 - FSim by the weight of each penalty; the methods without one as lines."""
    panels = {"GRE": "error of directions (GRE)", "1-ESim": "1 − ESim", "1-FSim": "1 − FSim"}
    figure, axes = panel_grid(list(panels.values()), width=2.9)
    for axis, metric in zip(axes, panels, strict=True):
        rows = frame[frame["metric"] == metric]
        for method in ("iso_energy", "group_sparse"):
            over_seeds(axis, rows[rows["method"] == method], "factor", capsize=3, **look_of(method))
        for method, line in (("shared", "-"), ("shared_bias", "-."), ("separated", "--"), ("posthoc", ":")):
            value = rows[rows["method"] == method]["value"].mean()
            axis.axhline(value, ls=line, color=METHOD_COLOURS[method], label=METHOD_NAMES[method])
        axis.set_xscale("log", base=2)
        axis.set_xlabel("weight, × the paper's")
        if metric == "GRE":  # a weight too large loses directions altogether, by orders of magnitude
            axis.set_yscale("log")
            plain_ticks(axis.yaxis)
        else:
            from_zero(axis)
        axis.xaxis.set_major_formatter(lambda weight, _: f"{weight:g}" if weight >= 1 else f"1/{1 / weight:g}")
    legend_below(figure, axes[0], 5)
    return figure


def monosemanticity(scores: pd.DataFrame, baselines: pd.DataFrame) -> Figure:
    """Sorted scores of the latents of each method on the share of scored latents: mean and deviation over seeds."""
    groups = list(baselines.itertuples(index=False))
    titles = [f"{backbone}: {modality}" for backbone, modality, _ in groups]
    figure, axes = panel_grid(titles, height=2.4, rows=baselines["backbone"].nunique(), sharex=True, sharey="col")
    share = np.linspace(0, 1, 101)
    for axis, (backbone, modality, baseline) in zip(axes, groups, strict=True):
        rows = scores[(scores["backbone"] == backbone) & (scores["modality"] == modality)]
        for method, of_method in rows.groupby("method", sort=False):
            seeds = [
                np.interp(share, np.linspace(0, 1, len(seed)), seed["score"]) for _, seed in of_method.groupby("seed")
            ]
            mean, spread = np.mean(seeds, axis=0), np.std(seeds, axis=0, ddof=min(len(seeds) - 1, 1))
            axis.fill_between(share, mean - spread, mean + spread, color=METHOD_COLOURS[method], alpha=0.2, lw=0)
            axis.plot(share, mean, color=METHOD_COLOURS[method], label=METHOD_NAMES[method])
        axis.axhline(baseline, ls=":", color=METHOD_COLOURS["chance"], label="any two inputs")
    columns = len(groups) // baselines["backbone"].nunique()
    outer_labels(axes, columns, "share of latents, best first", "monosemanticity")
    legend_below(figure, axes[0], 5)
    return figure


def ablations(frame: pd.DataFrame) -> Figure:
    """RE, on a log scale, and R@1 of each method in each setting: mean and deviation over seeds, a row per backbone."""
    groups = [(backbone, metric) for backbone in frame["backbone"].unique() for metric in ("RE", "R@1")]
    figure, axes = panel_grid(
        [backbone for backbone, _ in groups], width=3.8, height=2.8, rows=len(groups) // 2, sharey=True
    )
    variants = list(frame["variant"].unique())
    parts = [variant.partition(",") for variant in variants]
    labels = [_ACTIVATIONS.get(activation, activation) + comma + rest for activation, comma, rest in parts]
    methods = [method for method in METHOD_NAMES if method in set(frame["method"])]
    for axis, (backbone, metric) in zip(axes, groups, strict=True):
        rows = frame[(frame["backbone"] == backbone) & (frame["metric"] == metric)]
        for place, method in enumerate(methods):
            seeds = rows[rows["method"] == method].groupby("variant")["value"].agg(["mean", "std"]).reindex(variants)
            at = np.arange(len(variants)) + 0.15 * (place - (len(methods) - 1) / 2)
            axis.errorbar(seeds["mean"], at, xerr=seeds["std"], ls="", capsize=2, **look_of(method))
        axis.set_yticks(range(len(variants)), labels, fontsize=8)
        if metric == "RE":
            axis.set_xscale("log")  # raw training passes the others by far
            steps = (1, 1.5, 2, 3, 5, 7) if rows["value"].max() < 10 * rows["value"].min() else (1, 3)
            plain_ticks(axis.xaxis, steps)
        else:
            axis.set_xlim(left=0)
        axis.set_xlabel("loss (held out)" if metric == "RE" else "R@1, mean of all directions")
        axis.grid(axis="y", alpha=0.3)
    axes[0].invert_yaxis()
    legend_below(figure, axes[0], 5)
    return figure
