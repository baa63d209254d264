import re
import shutil

import numpy as np
import pandas as pd
import pytest

from xsae.report.contents import SECTIONS
from xsae.report.wording import CLAIMS, MARKS
from xsae.run import page, provenance, results
from xsae.run.paths import ROOT, RunPaths


@pytest.fixture
def laptop(tmp_path, monkeypatch):
    """A copy of the committed laptop run, to make pages of."""
    monkeypatch.setenv("XSAE_ROOT", str(tmp_path))
    for folder in ("results", "figures"):
        ignored = shutil.ignore_patterns("*.html", "*.md", "*.pdf", "notebooks")
        shutil.copytree(ROOT / folder / "laptop", tmp_path / folder / "laptop", ignore=ignored)
    return RunPaths("laptop")


def test_every_figure_and_table_of_the_run_is_there_once_and_numbered(laptop):
    html, readme = (path.read_text() for path in page.write("laptop"))
    figures = {path.stem for path in laptop.figures.glob("*.png")}
    made = [section for section in SECTIONS if section.name != "choices"]  # the laptop's config leaves nothing open
    assert {figure.name for section in made for figure in section.figures} == figures
    assert re.findall(r"<strong>Figure (\d+)\.", html) == [str(n + 1) for n in range(len(figures))]
    assert all(html.count(f'<figure id="figure-{name}">') == 1 for name in figures)
    assert all(f"(../../figures/laptop/{name}.png)" in readme for name in figures)
    tables = {table.name for section in made for table in section.tables}
    assert tables <= {path.stem for path in laptop.results.glob("*.csv")}
    assert html.count("<strong>Table ") == len(tables) and all(f'href="{name}.csv"' in html for name in tables)
    assert not re.search(r'(src|url\()="?http', html) and "Smoke run." not in html


def test_no_number_is_said_more_exactly_than_it_is_known(laptop):
    html = page.write("laptop")[0].read_text()
    assert "nan" not in re.sub(r"base64,[^\"]*", "", html) and not re.search(r"<td>\d+\.0000(?!\d)", html)
    [line] = re.findall(r"<tr>(?:<th[^>]*>(?:vit|mean|image|shared)</th>){4}(.*?)</tr>", html)[:1]
    losses = pd.read_csv(laptop.results / "reconstruction.csv").query(
        "backbone == 'vit' and bias_start == 'mean' and modality == 'image' and method == 'shared' and metric == 'loss'"
    )
    assert f"<td>{results.rounded(losses['value'])}</td>" in line


def test_verdicts_are_counted_and_each_leads_to_its_figure(laptop):
    html = page.write("laptop")[0].read_text()
    verdicts = pd.read_csv(laptop.results / "claims.csv")
    for number, claim in CLAIMS.items():
        found = verdicts[verdicts["claim"].str.startswith(number)]["verdict"]
        [said] = re.findall(rf"<strong>{number}\. {claim.title}\.</strong>.*?</span> (.*?)</span>", html)
        counts = found.value_counts()
        words = [f"{verdict} in {counts[verdict]}" for verdict in MARKS if verdict in counts]
        assert said == (
            f"{found.iloc[0]} in all {len(found)}" if len(words) == 1 else f"{', '.join(words)} of {len(found)}"
        )
    assert html.count(">figure</a>") == verdicts["claim"].str.replace(r" \(.*", "", regex=True).nunique()
    links = set(re.findall(r'href="#([^"]+)"', html))
    assert links <= set(re.findall(r'id="([^"]+)"', html))
    assert len(re.findall(r'<th scope="row">(?:[1-6] .*?)</th>', html)) == len(verdicts)


def test_what_a_run_has_not_made_is_not_mentioned(laptop):
    for name in ("steering", "steering_concepts", "steering_curves", "steering_intervals", "monosemanticity"):
        (laptop.results / f"{name}.csv").unlink()
    for name in ("steering", "steering_intervals", "steered_scenes", "monosemanticity", "scenes"):
        (laptop.figures / f"{name}.png").unlink()
    verdicts = pd.read_csv(laptop.results / "claims.csv")
    results.write_table("laptop", "claims", verdicts[~verdicts["claim"].str.contains("steers")])
    html, readme = (path.read_text() for path in page.write("laptop"))
    for text in (html, readme):
        assert "Monosemanticity" not in text and "steered_scenes" not in text and "not made" not in text
    assert "Figure 2. This run" in html and "explorer.html" not in html


def test_names_and_text_of_the_data_are_no_markup(laptop, tmp_path):
    hostile = "<script>alert(1)</script>"
    table = pd.read_csv(laptop.results / "retrieval.csv").assign(backbone=hostile)
    results.write_table("laptop", "retrieval", table)
    html = page.write("laptop")[0].read_text()
    assert "<script" not in html and "&lt;script&gt;alert(1)&lt;/script&gt;" in html


def test_a_run_without_verdicts_says_which_notebook_makes_them(tmp_path, monkeypatch):
    monkeypatch.setenv("XSAE_ROOT", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="notebook 08_paper makes it"):
        page.write("nothing")
    assert not list(tmp_path.iterdir())


def test_facts_are_those_of_the_manifests(laptop):
    facts = provenance.facts("laptop")
    assert facts["parameters"]["seeds"] == [1, 2, 3] and facts["minutes"] > 1 and not facts["smoke"]
    assert re.fullmatch(r"[0-9a-f]{10}(\+changes)?(, .*)?", facts["commit"])
    assert provenance.facts("smoke-own")["smoke"] and provenance.facts("smoke-own")["parameters"] == {}
    np.testing.assert_equal(provenance.facts("smokeless")["smoke"], False)


# --- in a browser ---


@pytest.mark.parametrize("width", [1280, 390])
def test_it_opens_from_the_disk_and_fits(visit, faults, laptop, width):
    opened = visit(page.write("laptop")[0], width)
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    opened.evaluate("document.querySelectorAll('details').forEach((own) => (own.open = true))")
    assert opened.evaluate("document.documentElement.scrollWidth") <= width  # wide tables scroll inside
    assert opened.evaluate("[...document.images].every((own) => own.complete && own.naturalWidth > 0)")
    assert not faults(opened)
    verdicts = opened.locator(".claim").nth(0).bounding_box()
    assert verdicts["y"] < 844  # claims and what came out begin on the first screen


def test_a_verdict_leads_to_its_figure(visit, laptop):
    opened = visit(page.write("laptop")[0])
    opened.locator(".claim summary").first.click()
    opened.locator(".claim a").first.click()
    assert opened.evaluate("location.hash") == "#figure-concept_directions"
    assert opened.locator("#figure-concept_directions").bounding_box()["y"] < 844
