"""The report of a run as one page that explains itself, and the same for GitHub: report.html and README.md.

python -m xsae.run.page --run laptop

It reads the tables, figures and manifests of the run and computes nothing. What the run has not made is not mentioned.
"""

import argparse
import base64
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from xsae.methods import METHODS
from xsae.report import templates
from xsae.report.contents import SECTIONS, Figure, Section, Table
from xsae.report.wording import CLAIMS, MARKS
from xsae.run import provenance, results
from xsae.run.commands import exit_status
from xsae.run.paths import RunPaths


@dataclass(frozen=True)
class Outcome:
    """What came of the verdicts on `text`: a mark and the words for it, and the figure that shows it, if any."""

    text: str
    mark: str
    words: str
    figure: str


def write(run: str) -> tuple[Path, Path]:
    """Write results/<run>/report.html and README.md.

    Raises FileNotFoundError where the verdicts are not there yet.
    """
    paths, verdicts = RunPaths(run), results.read_table(run, "claims")
    sections = [part for part in (_section(run, section) for section in SECTIONS) if part["figures"] or part["tables"]]
    for kind in ("figures", "tables"):
        for number, item in enumerate((item for section in sections for item in section[kind]), 1):
            item["number"] = number
    made = {item["name"] for section in sections for item in section["figures"]}
    values = {
        "facts": provenance.facts(run),
        "claims": _claims(verdicts, made),
        "verdicts": _lines(verdicts.fillna({"bias_start": ""}), 4),
        "sections": sections,
        "marks": MARKS,
        "explorer": (paths.results / "explorer.html").is_file(),
        "notebooks": sorted(path.stem for path in paths.notebooks.glob("*.ipynb") if "failed" not in path.name),
    }
    html = results.write_page(run, "report.html", templates.render("report.html", **values))
    return html, results.write_page(run, "README.md", templates.render("README.md", **values))


def _claims(verdicts: pd.DataFrame, made: set[str]) -> list[dict]:
    """Per claim that was tested: its words, what came out in all, and of each kind of comparison."""
    found = []
    for number, claim in CLAIMS.items():
        tested = verdicts[verdicts["claim"].str.startswith(number)]
        if tested.empty:
            continue
        kinds = tested["claim"].str[2:].str.replace(r" \(.*", "", regex=True)
        outcomes = []
        for text, of_kind in tested.groupby(kinds, sort=False):
            figure = next(name for start, name in claim.shown_in.items() if text.startswith(start))
            outcomes.append(_outcome(text, of_kind, figure if figure in made else ""))
        found.append({"number": number, "about": claim, "all": _outcome("", tested, ""), "outcomes": outcomes})
    return found


def _outcome(text: str, verdicts: pd.DataFrame, figure: str) -> Outcome:
    counts = {verdict: int((verdicts["verdict"] == verdict).sum()) for verdict in MARKS}
    counts = {verdict: n for verdict, n in counts.items() if n}
    for name in sorted(METHODS, key=len, reverse=True):  # `shared` is within `shared_bias`
        text = re.sub(rf"\b{name}\b", METHODS[name].label, text)
    if len(counts) > 1:
        words = ", ".join(f"{verdict} in {n}" for verdict, n in counts.items()) + f" of {len(verdicts)}"
        return Outcome(text, "◐" if "holds" in counts else MARKS["does not hold"], words, figure)
    [verdict] = counts
    return Outcome(text, MARKS[verdict], f"{verdict} in all {len(verdicts)}" if len(verdicts) > 1 else verdict, figure)


def _section(run: str, section: Section) -> dict:
    figures = [
        _figure(run, figure) for figure in section.figures if (RunPaths(run).figures / f"{figure.name}.png").is_file()
    ]
    tables = [_table(run, table) for table in section.tables if (RunPaths(run).results / f"{table.name}.csv").is_file()]
    return {"name": section.name, "title": section.title, "text": section.text, "figures": figures, "tables": tables}


def _figure(run: str, figure: Figure) -> dict:
    png = (RunPaths(run).figures / f"{figure.name}.png").read_bytes()
    about = {name: getattr(figure, name) for name in ("name", "title", "caption", "alt")}
    return about | {"data": base64.b64encode(png).decode(), "path": f"../../figures/{run}/{figure.name}"}


def _table(run: str, table: Table) -> dict:
    frame = results.read_table(run, table.name)
    frame = frame.query(table.where) if table.where else frame
    frame = frame[frame["metric"].isin(table.metrics)] if table.metrics else frame
    rows = [row for row in table.rows if row in frame]
    shown = results.with_references(frame.fillna(dict.fromkeys(rows, "")), rows)
    shown = shown.reset_index(names=rows, allow_duplicates=True)  # a metric may be called as a setting is
    return {"name": table.name, "title": table.title} | _lines(shown, len(rows))


def _lines(frame: pd.DataFrame, heads: int) -> dict:
    """A table as templates lay it out: names of the columns, lines of text, and how many columns name a line."""
    text = frame.map(lambda value: f"{value:.3g}" if isinstance(value, float) else str(value))
    return {"columns": list(frame), "lines": text.replace("nan", "–").values.tolist(), "heads": heads}


def _run(run: str) -> int:
    html, _ = write(run)
    print(f"report: {html}", flush=True)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, help="name of the run, as in results/<run>/")
    arguments = parser.parse_args()
    return exit_status(lambda: _run(arguments.run))


if __name__ == "__main__":
    sys.exit(main())
