"""What a run has trained, and what it goes through."""

from dataclasses import replace
from types import SimpleNamespace

import pandas as pd

from xsae.run import pool
from xsae.run.work import Run
from xsae.training import TrainingConfig


def test_others_baselines_are_there_from_the_first_start_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("XSAE_ROOT", str(tmp_path))
    found = Run("own", []).settings(["shared", "sparc", "posthoc"], [1, 2], ["zero", "mean"], ["b"])
    assert [tuple(settings.values()) for settings in found] == [
        ("b", start, method, seed)
        for start, methods in (("zero", ("shared", "sparc", "posthoc")), ("mean", ("shared", "posthoc")))
        for method in methods
        for seed in (1, 2)
    ]
    assert [*found[0]] == ["backbone", "bias_start", "method", "seed"]


def test_each_backbone_is_judged_by_the_next_and_one_alone_by_none(monkeypatch, tmp_path):
    monkeypatch.setenv("XSAE_ROOT", str(tmp_path))
    work = Run("own", [])
    for names, expected in (("abc", {"a": "b", "b": "c", "c": "a"}), ("a", {}), ("", {})):
        work.stores = dict.fromkeys(names)
        assert work.judges == expected


def test_tables_are_those_that_are_there(monkeypatch, tmp_path):
    monkeypatch.setenv("XSAE_ROOT", str(tmp_path))
    work = Run("own", [])
    work.write("retrieval", pd.DataFrame({"value": [1]}))
    assert [*work.tables("zeroshot", "retrieval")] == ["retrieval"]
    assert work.tables("retrieval")["retrieval"]["value"].tolist() == [1]


def test_every_variant_is_trained_apart_and_its_figures_come_back_by_method(monkeypatch, tmp_path):
    monkeypatch.setenv("XSAE_ROOT", str(tmp_path))
    work, base = Run("own", []), TrainingConfig(latents=16, k=4, epochs=1)
    work.stores = {"b": SimpleNamespace(path=tmp_path / "b")}
    asked = []

    def run(job, jobs, label, side_by_side):
        asked.extend(jobs)
        return [{"separated": {"RE": 0.1}, "posthoc": {"RE": 0.2}} for _ in jobs]

    monkeypatch.setattr(pool, "run", run)
    variants = {"topk, k = 4": base, "topk, k = 8, from zero": replace(base, k=8, bias_start="zero")}
    found = list(work.ablate(["separated"], [1, 2], variants))
    folders = [work.paths.checkpoint("b", *place) for place in (
        ("ablation-separated-topk-k4", base.bias_start, 1), ("ablation-separated-topk-k4", base.bias_start, 2),
        ("ablation-separated-topk-k8-from-zero", "zero", 1), ("ablation-separated-topk-k8-from-zero", "zero", 2),
    )]  # fmt: skip
    assert [job[1] for job in asked] == folders and [job[3].k for job in asked] == [4, 4, 8, 8]
    assert [tuple(about.values()) for about, _ in found[:3]] == [
        ("b", "topk, k = 4", method, seed) for method, seed in (("separated", 1), ("posthoc", 1), ("separated", 2))
    ]
    assert found[1][1] == {"RE": 0.2} and list(found[0][0]) == ["backbone", "variant", "method", "seed"]
