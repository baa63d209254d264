"""What a run has trained, and what it goes through."""

from xsae.run.work import Run


def test_others_baselines_are_there_from_the_first_start_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("XSAE_ROOT", str(tmp_path))
    found = Run("own", []).settings(["shared", "sparc", "posthoc"], [1, 2], ["zero", "mean"], ["b"])
    assert [tuple(own.values()) for own in found] == [
        ("b", start, method, seed)
        for start, methods in (("zero", ("shared", "sparc", "posthoc")), ("mean", ("shared", "posthoc")))
        for method in methods
        for seed in (1, 2)
    ]
    assert [*found[0]] == ["backbone", "bias_start", "method", "seed"]
