"""How all figures look: one colour per method, one style, panels and legends."""

from collections.abc import Iterator, Sequence

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from xsae.methods import METHODS

METHOD_COLOURS = {name: recipe.colour for name, recipe in METHODS.items()} | {"dense": "#000000", "chance": "#8C8C8C"}
METHOD_NAMES = {name: recipe.label for name, recipe in METHODS.items()}
START = {"mean": "the mean", "zero": "zero (published)"}
FILL = ("full", "none")


def arrow_of(direction: str) -> str:
    """`image_to_text` as one reads it; what is no direction stays."""
    return direction.replace("_to_", " → ")


def by_pair(frame: pd.DataFrame, modalities: Sequence[str]) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """For every backbone and every modality but the first: title, that modality, and the rows on it and the first."""
    reference, *others = modalities
    for backbone, rows in frame.groupby("backbone", sort=False):
        for other in others:
            if len(others) == 1:
                yield backbone, other, rows
            else:
                yield f"{backbone} ({reference}, {other})", other, rows[rows["modality"].isin([reference, other])]


def look_of(method: str) -> dict:
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


def panel_grid(
    titles: Sequence[str], width: float = 3.3, height: float = 3.0, rows: int = 1, **options
) -> tuple[Figure, list[Axes]]:
    """A figure of titled panels in `rows` rows, each `width` by `height` inches, and its axes row by row.

    A long title, as of a backbone of your own, goes on below its colon and not over its neighbour.
    """
    columns = len(titles) // rows
    figure, axes = plt.subplots(rows, columns, figsize=(width * columns, height * rows), squeeze=False, **options)
    for axis, title in zip(axes.flat, titles, strict=True):
        axis.set_title(title.replace(": ", ":\n", 1) if len(title) >= 40 else title)
    return figure, list(axes.flat)


def from_zero(axis: Axes) -> None:
    """Start the y axis at 0 and leave room above the highest mark."""
    axis.set_ylim(0, 1.08 * axis.dataLim.ymax)


def plain_ticks(axis: Axis, steps: Sequence[float] = (1, 2, 5)) -> None:
    """Ticks of a log scale at `steps` of each decade, written as one reads them: 0.5, not 5 × 10⁻¹."""
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())


def outer_labels(axes: Sequence[Axes], columns: int, x: str, y: str) -> None:
    """Label the axes at the left and at the foot of a grid of panels."""
    for axis in axes[::columns]:
        axis.set_ylabel(y)
    for axis in axes[-columns:]:
        axis.set_xlabel(x)


def over_seeds(axis: Axes, frame: pd.DataFrame, by: str, **look) -> None:
    """Mean and standard deviation of `value` over seeds, along the column `by`."""
    seeds = frame.groupby(by)["value"].agg(["mean", "std"])
    axis.errorbar(seeds.index, seeds["mean"], seeds["std"], **look)


def legend_below(figure: Figure, axis: Axes, columns: int) -> None:
    """One legend for the figure, below all panels, of what `axis` shows."""
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=columns)
