"""What README and docs say came out is what results/laptop/ has."""

import re

import pandas as pd
import pytest

from xsae.report.plots.style import METHOD_NAMES
from xsae.run.paths import ROOT

LAPTOP = ROOT / "results/laptop"
ALIGNMENTS = {"Hungarian": "hungarian", "four partners": "partners", "Procrustes": "procrustes", "ridge": "ridge"}


def rows(text, header):
    """First cell -> the others, without stars, of the table whose header line holds `header`."""
    lines = text.split("\n")
    start = next(place for place, line in enumerate(lines) if line.startswith("|") and header in line)
    found = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            return found
        first, *cells = (cell.strip().replace("*", "") for cell in line.strip("|").split("|"))
        found[first] = cells
    return found


def cell(frame, by):
    """Means over seeds as the tables write them: `.214 / .129`, in the order in which `by` comes in the frame."""
    means = frame.groupby(by, sort=False)["value"].mean()
    return " / ".join(f"{value:.3f}".lstrip("0") for value in means)


def retrieved(method, backbone, start):
    table = pd.read_csv(LAPTOP / "retrieval.csv")
    own = table[(table["method"] == method) & (table["backbone"] == backbone) & (table["bias_start"] == start)]
    return cell(own[(own["variant"] == "raw") & (own["metric"] == "R@1")], "direction")


def lost(method, backbone):
    table = pd.read_csv(LAPTOP / "reconstruction.csv")
    own = table[(table["method"] == method) & (table["backbone"] == backbone) & (table["bias_start"] == "mean")]
    return cell(own[own["metric"] == "loss"], "modality")


METHODS = {
    re.search(r"`(\w+)`", name)[1]: cells
    for name, cells in rows((ROOT / "README.md").read_text(), "R@1, `vit`: recommended").items()
    if "`" in name
}


def test_every_method_is_in_the_table():
    assert set(METHODS) == set(METHOD_NAMES)


@pytest.mark.parametrize("method", METHODS)
def test_the_first_table_has_what_the_run_has(method):
    losses, found = METHODS[method][:2], METHODS[method][2:]
    if method != "posthoc":
        assert losses == [lost(method, backbone) for backbone in ("vit", "resnet")]
    starts = [(backbone, start) for backbone in ("vit", "resnet") for start in ("mean", "zero")]
    assert found == [retrieved(method, *own) for own in starts]


@pytest.mark.parametrize("file", ["README.md", "docs/alignments.md"])
def test_alignments_have_what_the_run_has(file):
    table = pd.read_csv(LAPTOP / "alignments.csv")
    table, names = table[table["metric"] == "R@1"], dict(ALIGNMENTS)
    if file != "README.md":
        names |= {"greedy": "greedy", "decoder cosine": "decoder_cosine", "Sinkhorn": "sinkhorn", "CCA": "cca"}
        names |= {"partners, k = 1": "partners_1", "partners, k = 4": "partners"}
        names |= {"partners, k = 4 on both sides": "partners_both_sides"}
    for name, cells in rows((ROOT / file).read_text(), "| partners").items():
        [own] = {names[start] for start in names if name.startswith(start) and not (
            start == "partners, k = 4" and "both" in name)}  # fmt: skip
        of = table[table["alignment"] == own]
        assert cells[1:3] == [cell(of[of["backbone"] == backbone], "direction") for backbone in ("vit", "resnet")], own
