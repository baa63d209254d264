"""Tables, figures and pages: what notebooks write under results/ and figures/."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from xsae.disk import files
from xsae.run.notebooks import MADE_BY
from xsae.run.paths import RunPaths

REFERENCES = Path(__file__).with_name("references.csv")


def tidy(
    metrics: Mapping[str, float], *, method: str, seed: int | None = None, reference: str = "", **settings: Any
) -> pd.DataFrame:
    """One row per metric: `method`, `seed`, the settings, `metric`, `value`, and the reference where there is one.

    `reference`: "<result>" or "<result>/<setting>", a key of references.csv; its figures carry their provenance tag.
    """
    frame = pd.DataFrame(
        [{"method": method, "seed": seed, **settings, "metric": name, "value": float(v)} for name, v in metrics.items()]
    ).astype({"seed": "Int64"})
    result, _, setting = reference.partition("/")
    return referenced(frame, result, setting)


def referenced(table: pd.DataFrame, result: str, setting: str | pd.Series) -> pd.DataFrame:
    """A tidy table and, beside each value, the reference of its metric: `reference`, `reference_tag`, NaN for none.

    result, setting: a key of references.csv; one setting for all rows, or one for each.
    """
    known = references(result).rename(columns={"value": "reference", "tag": "reference_tag"}).drop(columns="source")
    return table.assign(setting=setting).merge(known, "left", ["setting", "metric"]).drop(columns="setting")


def compared(modalities: Sequence[str], other: str) -> dict[str, str]:
    """The setting that names a comparison of modality `other` with the first, the reference: `modality`.

    Two modalities have but one comparison, and tables no such column.
    """
    return {"modality": other} if len(modalities) > 2 else {}


def references(result: str) -> pd.DataFrame:
    """The reference figures of one result: `setting`, `metric`, `value`, `tag`, `source`."""
    table = pd.read_csv(REFERENCES, keep_default_na=False, dtype={"value": float})
    return table[table["result"] == result].drop(columns="result").reset_index(drop=True)


def write_table(run: str, name: str, frame: pd.DataFrame) -> Path:
    """Write results/<run>/<name>.csv whole or not at all. Same values, same bytes: seven significant digits."""
    path = RunPaths(run).results / f"{name}.csv"
    with files.file(path) as partial:
        frame.to_csv(partial, index=False, float_format="%.7g", lineterminator="\n")
    return path


def read_table(run: str, name: str) -> pd.DataFrame:
    """Read results/<run>/<name>.csv. Raises FileNotFoundError naming the notebook that makes it."""
    path = RunPaths(run).results / f"{name}.csv"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: not there; notebook {MADE_BY[name]} makes it (./run_all.sh runs them in order)"
        )
    return pd.read_csv(path)


def summary(frame: pd.DataFrame, rows: Sequence[str], column: str = "metric") -> pd.DataFrame:
    """Mean ± standard deviation over seeds (ddof 1), for reading: one line per `rows`, one column per metric.

    Numbers are `rounded`. Lines are grouped by `rows` from left to right, each value in the order of its first
    appearance.
    """
    table = frame.groupby([*rows, column], sort=False)["value"].agg(rounded).unstack(column)
    order = frame[column].drop_duplicates()
    lines = frame[list(rows)].drop_duplicates()
    places = lines.apply(lambda column: pd.factorize(column)[0])
    lines = lines.loc[places.sort_values(list(rows)).index]
    keys = [tuple(line) if len(rows) > 1 else line[0] for line in lines.itertuples(index=False)]
    return table.loc[keys, order].fillna("")


def rounded(values: pd.Series) -> str:
    """Mean ± standard deviation (ddof 1) of values that are there, as far as they are known.

    The deviation has one significant digit, two where it begins with 1, and the mean ends where it does. Without a
    deviation the mean has three significant digits; whole numbers stay whole. Nothing for no value.
    """
    values = values.dropna()
    if values.empty:
        return ""
    mean, deviation = values.mean(), values.std() if len(values) > 1 else 0.0
    if not deviation > 1e-12:
        return f"{mean:.0f}" if mean == round(mean) else f"{mean:.3g}" if abs(mean) >= 1e-3 else f"{mean:.1e}"
    digits = -math.floor(math.log10(deviation))
    digits += f"{deviation:.0e}".startswith("1")
    digits = min(max(digits, 0), 5)
    return f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def with_references(frame: pd.DataFrame, rows: Sequence[str]) -> pd.DataFrame:
    """`summary` of a tidy table, and beside each metric its reference with the tag, where there is one."""
    shown = summary(frame, rows)
    known = frame.dropna(subset="reference") if "reference" in frame else frame.head(0)  # ours have none
    if known.empty:
        return shown
    text = known["reference"].map("{:g}".format) + " [" + known["reference_tag"].astype(str) + "]"
    known = known.assign(text=text).drop_duplicates([*rows, "metric"])
    known = known.pivot(index=list(rows), columns="metric", values="text").add_suffix(" (reference)")
    return shown.join(known).fillna("")


def save_figure(run: str, name: str, figure: Figure) -> Path:
    """Write figures/<run>/<name>.pdf and .png (200 dpi), each whole or not at all; returns the PNG's path."""
    for suffix, metadata in ((".pdf", {"CreationDate": None}), (".png", {"Software": None})):
        path = RunPaths(run).figures / f"{name}{suffix}"
        with files.file(path) as partial:
            figure.savefig(partial, format=suffix[1:], dpi=200, bbox_inches="tight", metadata=metadata)
    return path


def write_page(run: str, name: str, text: str) -> Path:
    """Write results/<run>/<name> whole or not at all."""
    path = RunPaths(run).results / name
    with files.file(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")
    return path
