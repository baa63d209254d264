import json

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from xsae.data.own import from_arrays
from xsae.run import provenance, results
from xsae.run.paths import RunPaths


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("XSAE_ROOT", str(tmp_path))
    return tmp_path


def test_tidy_rows_carry_the_reference_and_its_tag():
    frame = results.tidy(
        {"R@1": 0.2, "R@50": 0.5}, method="posthoc", seed=1, k=8, reference="retrieval/posthoc image_to_text"
    )
    assert frame.columns.tolist() == ["method", "seed", "k", "metric", "value", "reference", "reference_tag"]
    assert frame["reference"].tolist()[0] == 0.187 and frame["reference_tag"].tolist()[0] == "R"
    assert np.isnan(frame["reference"].tolist()[1])


def test_each_row_of_a_table_has_the_reference_of_its_setting():
    table = pd.DataFrame({"method": ["a", "b", "c"], "metric": ["R@1", "R@1", "R@50"], "value": [0.1, 0.2, 0.3]})
    found = results.referenced(table, "retrieval", pd.Series(["", *["posthoc image_to_text"] * 2]))
    assert list(found) == [*table, "reference", "reference_tag"] and found["value"].tolist() == [0.1, 0.2, 0.3]
    assert found["reference"].isna().tolist() == [True, False, True] and found["reference"][1] == 0.187


def test_a_comparison_is_named_only_where_there_are_several():
    assert results.compared(("image", "text"), "text") == {}
    assert results.compared(("image", "text", "audio"), "audio") == {"modality": "audio"}


def test_every_reference_has_a_tag_and_a_source():
    table = pd.read_csv(results.REFERENCES)
    assert set(table["tag"]) <= {"P", "C", "N", "R", "M"}
    assert table["source"].notna().all() and not table.duplicated(["result", "setting", "metric"]).any()


def test_tables_come_back_and_are_the_same_bytes(elsewhere):
    frame = results.tidy({"R@1": 1 / 3}, method="dense", backbone="vit")
    path = results.write_table("own", "retrieval", frame)
    once = path.read_bytes()
    results.write_table("own", "retrieval", frame)
    assert path.read_bytes() == once and b"0.3333333," in once
    assert results.read_table("own", "retrieval")["value"].item() == pytest.approx(1 / 3, abs=1e-7)
    assert [p.name for p in path.parent.iterdir()] == ["retrieval.csv"]


def test_a_missing_table_names_its_notebook():
    with pytest.raises(FileNotFoundError, match="notebook 02_sae_training makes it"):
        results.read_table("own", "reconstruction")


def test_summary_is_mean_and_sample_deviation():
    frame = pd.DataFrame({"method": ["a", "a", "b"], "metric": "m", "value": [1.0, 2.0, 5.0]})
    # mean 1.5, deviations .5 and .5, squares sum .5, over n - 1 = 1: std .7071
    assert results.summary(frame, ["method"])["m"].to_dict() == {"a": "1.5 ± 0.7", "b": "5"}


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([0.11, 0.12], "0.115 ± 0.007"),  # std .00707
        ([0.11, 0.13], "0.120 ± 0.014"),  # std .01414 begins with 1: two digits
        ([10.0, 40.0], "25 ± 21"),  # std 21.2: whole numbers are not rounded to tens
        ([0.33335, 0.33333], "0.33334 ± 0.00001"),  # five decimals at most
        ([24.0, 24.0, 24.0], "24"),
        ([0.123456], "0.123"),
        ([2e-5], "2.0e-05"),
        ([0.0, 0.0], "0"),
        ([np.nan, 0.5], "0.5"),
        ([np.nan, np.nan], ""),
    ],
)
def test_numbers_end_where_their_spread_begins(values, shown):
    assert results.rounded(pd.Series(values)) == shown


def test_summary_groups_lines_from_left_to_right_in_order_of_appearance():
    pairs = [("b", 2), ("a", 2), ("b", 1), ("a", 1)]
    frame = pd.DataFrame(pairs, columns=["method", "k"]).assign(metric="m", value=1.0)
    assert list(results.summary(frame, ["method", "k"]).index) == [("b", 2), ("b", 1), ("a", 2), ("a", 1)]


def test_figures_are_the_same_bytes_twice(elsewhere):
    def draw():
        figure = Figure()
        figure.add_subplot().plot([1, 2], [3, 4])
        results.save_figure("own", "line", figure)
        return [(elsewhere / "figures/own" / f"line{suffix}").read_bytes() for suffix in (".pdf", ".png")]

    assert draw() == draw()


def test_each_notebook_has_a_manifest_that_names_code_machine_and_inputs(elsewhere):
    x = np.random.default_rng(0).standard_normal((20, 4))
    store = from_arrays(RunPaths("own").embeddings("vit"), image=x, text=x)
    provenance.record("own", "04_retrieval", {"k": 8, "backbones": ["vit"]}, 1.0)
    provenance.record("own", "03_alignment", {"k": 8}, 2.0)
    manifests = {path.stem: json.loads(path.read_text()) for path in (elsewhere / "results/own/manifest").iterdir()}
    assert set(manifests) == {"04_retrieval", "03_alignment"} and manifests["03_alignment"]["inputs"] == {}
    one = manifests["04_retrieval"]
    assert one["inputs"] == {"vit": store.fingerprint} and "retrieval" in one["results"] and one["seconds"] == 1.0
    assert one["packages"]["torch"] and one["hardware"]["processor"]


@pytest.mark.parametrize(("status", "expected"), [(0, {"gpu": "NVIDIA H100"}), (9, {})])
def test_a_gpu_is_named_by_a_driver_that_works(elsewhere, monkeypatch, status, expected):
    driver = elsewhere / "bin" / "nvidia-smi"
    driver.parent.mkdir()
    driver.write_text(f"#!/bin/sh\necho NVIDIA H100\nexit {status}\n")
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", f"{driver.parent}:/usr/bin:/bin")
    provenance.record("own", "03_alignment", {"k": 8}, 2.0)
    [path] = (elsewhere / "results/own/manifest").iterdir()
    hardware = json.loads(path.read_text())["hardware"]
    assert {name: found for name, found in hardware.items() if name == "gpu"} == expected


def test_a_folder_that_cannot_be_written_leaves_the_old_table(elsewhere):
    frame = results.tidy({"R@1": 0.5}, method="dense")
    (elsewhere / "results").write_text("a file where the folder should be")
    with pytest.raises(OSError):
        results.write_table("own", "retrieval", frame)


def test_a_table_of_ours_without_references_is_summarised_as_it_is():
    frame = pd.DataFrame({"method": ["a", "a"], "metric": ["R@1"] * 2, "value": [0.1, 0.3], "seed": [1, 2]})
    pd.testing.assert_frame_equal(results.with_references(frame, ["method"]), results.summary(frame, ["method"]))
