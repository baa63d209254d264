"""What README and docs say came out is what results/laptop/ has."""

import re

import pandas as pd
import pytest

from xsae.report.plots.style import METHOD_NAMES
from xsae.run.paths import ROOT

LAPTOP = ROOT / "results/laptop"
ALIGNMENTS = {
    "Hungarian, codes centred (the paper's)": "hungarian", "Hungarian (the paper)": "hungarian",
    "four partners, ridge both ways (ours)": "partners", "partners, k = 4": "partners",
    "partners, k = 4 on both sides": "partners_both_sides", "partners, k = 1": "partners_1",
    "Procrustes: after it a latent means nothing": "procrustes", "Procrustes": "procrustes",
    "ridge: likewise": "ridge", "ridge": "ridge", "greedy": "greedy", "decoder cosine": "decoder_cosine",
    "Sinkhorn ε = .03, largest 4": "sinkhorn", "CCA-128": "cca",
}  # fmt: skip


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


def retrieved(method, backbone, start, metric="R@1"):
    table = pd.read_csv(LAPTOP / "retrieval.csv")
    part = table[(table["method"] == method) & (table["backbone"] == backbone) & (table["bias_start"] == start)]
    return cell(part[(part["variant"] == "raw") & (part["metric"] == metric)], "direction")


def lost(method, backbone):
    table = pd.read_csv(LAPTOP / "reconstruction.csv")
    part = table[(table["method"] == method) & (table["backbone"] == backbone) & (table["bias_start"] == "mean")]
    return cell(part[part["metric"] == "loss"], "modality")


def methods(file, header):
    found = rows((ROOT / file).read_text(), header).items()
    return {re.search(r"`(\w+)`", name)[1]: cells for name, cells in found if "`" in name}


METHODS = methods("docs/results.md", "R@1, `vit`: recommended")
FIRST = rows((ROOT / "README.md").read_text(), "R@1, real pairs")
OF_DOCS = methods("docs/methods.md", "R@10, `vit`")


def test_every_method_is_in_the_table():
    assert set(METHODS) == set(METHOD_NAMES)


@pytest.mark.parametrize("method", METHODS)
def test_the_first_table_has_what_the_run_has(method):
    losses, found = METHODS[method][:2], METHODS[method][2:]
    if method != "posthoc":
        assert losses == [lost(method, backbone) for backbone in ("vit", "resnet")]
    starts = [(backbone, start) for backbone in ("vit", "resnet") for start in ("mean", "zero")]
    assert found == [retrieved(method, *column) for column in starts]


@pytest.mark.parametrize("name", FIRST)
def test_readme_has_what_the_longer_tables_have(name):
    if "four partners" in name:
        found = rows((ROOT / "docs/alignments.md").read_text(), "| partners")["partners, k = 4"]
        expected = ["as `separated`", *found[1:4]]
    else:
        method = re.search(r"`(\w+)`", name)[1]
        found, trials = METHODS[method], pd.read_csv(ROOT / "benchmarks/results/baselines.csv")
        ways = trials[(trials["latents"] == 128) & (trials["method"] == method)][
            ["R@1 image to text", "R@1 text to image"]
        ]
        real = " / ".join(f"{mean:.3f}".lstrip("0") for mean in ways.mean())
        expected = [found[0], found[2], found[4], real]
    assert FIRST[name] == expected


@pytest.mark.parametrize("method", OF_DOCS)
def test_the_table_of_baselines_has_what_the_run_has(method):
    found = [lost("separated" if method == "posthoc" else method, backbone) for backbone in ("vit", "resnet")]
    found += [
        retrieved(method, backbone, "mean", metric) for metric in ("R@1", "R@10") for backbone in ("vit", "resnet")
    ]
    table = pd.read_csv(LAPTOP / "label_agreement.csv").query("metric == 'agreement' and bias_start == 'mean'")
    agree = cell(table[table["method"] == method], "backbone").replace(" / ", ", ")
    assert OF_DOCS[method] == [*found, agree]


@pytest.mark.parametrize("file", ["docs/results.md", "docs/alignments.md"])
def test_alignments_have_what_the_run_has(file):
    table = pd.read_csv(LAPTOP / "alignments.csv")
    table = table[table["metric"] == "R@1"]
    for name, cells in rows((ROOT / file).read_text(), "| partners").items():
        part = table[table["alignment"] == ALIGNMENTS[name]]
        found = [cell(part[part["backbone"] == backbone], "direction") for backbone in ("vit", "resnet")]
        assert cells[1:3] == found, name
