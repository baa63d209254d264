"""What the smoke run makes, its tables against each other and against the definitions."""

import json
import re
from itertools import product

import nbformat
import numpy as np
import pandas as pd
from runs import call

from xsae.data.store import open_store
from xsae.evaluation.variants import VARIANTS
from xsae.methods import METHODS
from xsae.run.notebooks import (
    MADE_BY,
)
from xsae.run.paths import ROOT


def test_smoke_makes_every_table_figure_and_executed_notebook(smoke):
    root, output = smoke
    results = root / "results/smoke"
    made = set(MADE_BY) - {"choices"}  # nothing is left to choose
    assert {path.stem for path in results.glob("*.csv")} == made
    figures = {path.stem for path in (root / "figures/smoke").iterdir()}
    assert figures == {
        "scenes", "calibration", "direction_gap", "gap_density", "gap_density_control", "concept_directions",
        "modality_score", "cos_sweep", "training_curves", "reconstruction", "firing_rates", "match_correlations",
        "lambda_sweep", "retrieval", "retrieval_intervals", "zeroshot", "steering", "steering_intervals",
        "steered_scenes", "monosemanticity", "ablations", "alignments", "matches_truth", "pairs_needed", "idea",
    }  # fmt: skip
    for figure in figures:
        assert (root / f"figures/smoke/{figure}.pdf").stat().st_size > 2000
        assert (root / f"figures/smoke/{figure}.png").stat().st_size > 2000
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        if path.stem == MADE_BY["choices"]:
            continue
        cells = [c for c in nbformat.read(results / "notebooks" / path.name, 4).cells if c.cell_type == "code"]
        assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
        assert path.stem in output
    manifests = {path.stem: json.loads(path.read_text()) for path in (results / "manifest").iterdir()}
    assert {name for manifest in manifests.values() for name in manifest["results"]} == made
    assert set(manifests) == {MADE_BY[name] for name in made} and len(manifests["02_sae_training"]["inputs"]) == 2
    report = (results / "report.html").read_text()
    assert report.count("data:image/png;base64") == len(figures)
    assert all(f"../../figures/smoke/{figure}.png" in (results / "README.md").read_text() for figure in figures)
    assert not re.search(r'<(script|link|img)[^>]+(src|href)="http', report)  # opens without a network
    explorer = (results / "explorer.html").read_text()
    assert "data:image/webp;base64" in explorer and not re.search(r'(src|href)="http', explorer)
    assert 'href="explorer.html"' in report and "Smoke run." in report and "Smoke run." in explorer
    assert not list(root.rglob("*.partial*")) and "Traceback" not in output


def test_steering_by_the_papers_alignment_is_posthocs_and_gaps_are_those_of_the_tables(smoke):
    results = smoke[0] / "results/smoke"
    steering = pd.read_csv(results / "steering.csv").query(
        "method == 'posthoc' and bias_start == 'mean' and kind == 'all' and alpha == 2 and metric == 'mAP'"
    )
    alignments = pd.read_csv(results / "alignments.csv")
    for gallery in ("captions", "images"):
        ours = alignments.query("alignment == 'hungarian' and metric == 'mAP_' + @gallery")
        theirs = steering[steering["gallery"] == gallery].astype({"seed": int})
        both = ours.merge(theirs, on=["backbone", "seed"])
        assert len(both) == 4
        np.testing.assert_allclose(both["value_x"], both["value_y"], rtol=1e-5)
    beyond = pd.read_csv(results / "beyond.csv").query("metric == 'R@1' and direction == 'image_to_text'")
    assert len(beyond) == 20  # five alignments and five methods on two backbones
    recall = alignments.query("metric == 'R@1' and direction == 'image_to_text' and alignment == 'partners'")
    ours = beyond.query("method == 'partners'").set_index("backbone")["value"]
    np.testing.assert_allclose(ours, recall.groupby("backbone")["value"].mean()[ours.index], rtol=1e-5)


def test_what_posthoc_is_shows_in_the_tables(smoke):
    root, _ = smoke
    retrieval = pd.read_csv(root / "results/smoke/retrieval.csv")
    assert set(retrieval["metric"]) == {"R@1", "R@5", "R@10", "median_rank", "tie_rate"}
    recall = retrieval.query("metric == 'R@10' and variant == 'raw'").groupby("method")["value"].mean()
    assert recall["dense"] > recall["posthoc"] > recall["separated"]
    assert set(retrieval["method"]) == {*METHODS, "dense", "chance"}
    starts = retrieval.dropna(subset="seed").groupby("method")["bias_start"].agg(set)
    assert all(
        starts[name] == ({"mean", "zero"} if recipe.every_start else {"mean"}) for name, recipe in METHODS.items()
    )
    ours = retrieval.query("method == 'posthoc' and metric == 'R@1'")
    assert set(zip(ours["bias_start"], ours["variant"], strict=True)) == set(product(("mean", "zero"), VARIANTS))
    reconstruction = pd.read_csv(root / "results/smoke/reconstruction.csv")
    assert set(reconstruction["metric"]) == {"loss", "fvu", "mse", "l0", "dead", "always_on"}
    assert (reconstruction.query("metric == 'l0'")["value"] <= 8).all()


def test_finished_work_is_not_repeated(smoke):
    root, _ = smoke
    stamps = {path: path.stat().st_mtime_ns for path in (root / "results/smoke").rglob("*") if path.is_file()}
    status, output = call(root, "smoke")
    assert status == 0 and "00_embeddings" not in output
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())


def test_the_python_lines_of_the_readme_go_from_arrays_to_retrieval(smoke, tmp_path, monkeypatch, capsys):
    store = open_store(smoke[0] / "artifacts/smoke/embeddings/vit")
    pairs = store.pairs.drop_duplicates("image")
    arrays = {modality: store[modality][pairs[modality]] for modality in ("image", "text")}
    [lines] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(lines, arrays)
    told = capsys.readouterr().out
    assert "400 train pairs, 100 test pairs" in told and "text by Alignment" in told and "image_to_text" in told
