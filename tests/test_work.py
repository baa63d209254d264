"""What a run has trained, and what it goes through."""

import pandas as pd

from xsae.run.work import Run


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
