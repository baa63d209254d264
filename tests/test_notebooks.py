"""What every notebook keeps to, beside running (pytest --nbmake does that)."""

import ast
import re
from dataclasses import fields
from types import SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import papermill
import pytest

from xsae.alignment import Alignment
from xsae.methods import Method
from xsae.run.config import Config, load_config
from xsae.run.notebooks import MADE_BY, keep_choices, parameters, settled
from xsae.run.paths import ROOT
from xsae.sae import SAEConfig, SparseAutoencoder
from xsae.training import TrainingConfig

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
HOSTILE = "<script>alert('x')</script> & <b>bold</b>"
SMOKE = {"run": "smoke", **load_config("smoke").model_dump()}


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture
def cells(path):
    return nbformat.read(path, 4).cells


def test_sources_carry_no_outputs(path, cells):
    for cell in cells:
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None, f"{path.name}: strip it with nbstripout"
    assert nbformat.read(path, 4).metadata.kernelspec.name == "python3"


def test_one_parameters_cell_of_literals_with_types_and_comments(cells):
    [cell] = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    for line, statement in zip(cell.source.splitlines(), ast.parse(cell.source).body, strict=True):
        assert isinstance(statement, ast.AnnAssign) and "  # " in line, line
        ast.literal_eval(statement.value)


def test_defaults_are_the_smoke_config(path):
    declared = papermill.inspect_notebook(str(path))
    assert {name: ast.literal_eval(about["default"]) for name, about in declared.items()} == {
        name: SMOKE[name] for name in declared
    }


def test_every_parameter_is_used_after_its_cell(path, cells):
    code = [cell for cell in cells if cell.cell_type == "code"]
    later = "\n".join(cell.source for cell in code if "parameters" not in cell.metadata.get("tags", []))
    used = {node.id for node in ast.walk(ast.parse(later)) if isinstance(node, ast.Name)}
    declared = set(papermill.inspect_notebook(str(path)))
    if "training(globals()" in later or "training({" in later:  # these take what they know by name
        used |= {field.name for field in fields(TrainingConfig)}
    if "theory_settings(globals())" in later:
        used |= {name for name in declared if name.startswith("synthetic_")} | {"device", "precision"}
    assert declared <= used


def test_first_cell_says_what_it_asks_reads_and_makes(cells):
    assert re.match(r"# \d\d", cells[0].source)
    for word in ("**Question.**", "**Expect.**", "| reads |", "| makes |"):
        assert word in cells[0].source


def test_every_config_value_reaches_a_notebook():
    reached = set().union(*(papermill.inspect_notebook(str(path)) for path in NOTEBOOKS))
    of_the_engine = {"extraction_jobs", "skip"}
    assert set(Config.model_fields) - of_the_engine | {"run"} == reached


def test_the_workflow_knows_every_notebook_and_hands_over_only_what_is_declared():
    assert sorted(set(MADE_BY.values())) == [path.stem for path in NOTEBOOKS]
    handed = parameters("06_monosemanticity", load_config("smoke"), "own")
    expected = {"run": "own", "backbones": ["vit", "resnet"], "seeds": [1, 2], "bias_starts": ["mean", "zero"]}
    expected["methods"] = []
    assert handed == expected


def test_what_was_chosen_reaches_the_notebooks_and_never_the_engine(tmp_path, monkeypatch):
    monkeypatch.setenv("XSAE_ROOT", str(tmp_path))
    config = load_config("smoke", "own.npz", latents=64)
    with pytest.raises(FileNotFoundError, match=r"choices.json: not there; notebook 00b_choices chooses k$"):
        settled("02_sae_training", config, "own")
    keep_choices("own", {"k": 16, "latents": 512})
    handed = parameters("02_sae_training", config, "own")
    assert handed["k"] == "auto" and handed["latents"] == 64 and handed["device"] == "cpu"
    assert settled("02_sae_training", config, "own") == handed | {"k": 16}
    for notebook in ("00b_choices", "04_retrieval"):  # the one chooses, the other does not ask
        assert settled(notebook, config, "own") == parameters(notebook, config, "own")


def test_captions_are_shown_as_text_not_as_markup():
    shown = []
    [cell] = [
        cell for cell in nbformat.read(ROOT / "notebooks" / "03_alignment.ipynb", 4).cells if "top on" in cell.source
    ]
    x = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)
    sae = SparseAutoencoder(SAEConfig(4, 8, 2))
    aligned = Method({"image": sae, "text": sae}, {"text": Alignment().fit(sae.transform(x), sae.transform(x))})

    class Store(dict):
        modalities = ("image", "text")

        def split(self, name):
            return pd.DataFrame({"image": range(20), "text": range(20), "caption": HOSTILE})

    work = SimpleNamespace(stores={"b": Store(image=x, text=x)}, methods=lambda *_: [({}, aligned)])
    scope = {
        "work": work, "seeds": [1], "bias_starts": ["mean"], "backbones": ["b"], "reference": "image",
        "display": lambda table: shown.append(table.to_html()),
    }  # fmt: skip
    exec(cell.source, scope)
    assert "&lt;script&gt;" in shown[0] and "<script>" not in shown[0] and "<b>" not in shown[0]


def test_verdicts_are_shown_as_text_not_as_markup():
    """A backbone is named by whoever trains on it, and verdicts name it."""
    [cell] = [cell for cell in nbformat.read(ROOT / "notebooks" / "08_paper.ipynb", 4).cells if "na_rep" in cell.source]
    *before, last = ast.parse(cell.source).body
    text = {name: HOSTILE for name in ("claim", "backbone", "bias_start", "verdict")}
    scope = {"verdicts": pd.DataFrame([text | {"difference": 0.5, "low": 0.25, "high": 0.75}])}
    exec(compile(ast.Module(before, []), "08", "exec"), scope)
    shown = eval(compile(ast.Expression(last.value), "08", "eval"), scope).to_html()
    assert shown.count("&lt;script&gt;") == 4 and "<script>" not in shown and "<b>" not in shown


def test_nothing_puts_text_into_html_as_it_is():
    """Plain tables escape what they show, by pandas' default, and nothing here goes another way."""
    assert "&lt;script&gt;" in pd.DataFrame({HOSTILE: [HOSTILE]}, index=[HOSTILE])._repr_html_()
    assert "<script>" not in pd.DataFrame({HOSTILE: [HOSTILE]}, index=[HOSTILE])._repr_html_()
    for path in [*NOTEBOOKS, *(ROOT / "xsae").rglob("*.py")]:
        assert not re.search(r"escape=(False|None)|\bHTML\(|to_html|render_links", path.read_text()), path
