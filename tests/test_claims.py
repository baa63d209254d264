import numpy as np
import pandas as pd
import pytest

from xsae.evaluation import claims


def found(difference, low, high):
    return {"difference": difference, "low": low, "high": high}


def test_a_claim_holds_only_when_its_interval_leaves_out_zero():
    assert claims.verdict("c", found(0.2, 0.1, 0.3), 3, "t")["verdict"] == "holds"
    unsure = claims.verdict("c", found(0.2, -0.1, 0.5), 3, "t", backbone="vit")
    assert unsure["verdict"] == "does not hold" and unsure["backbone"] == "vit" and unsure["low"] == -0.1
    assert claims.verdict("c", found(-0.2, -0.3, -0.1), 3, "t")["verdict"] == "the opposite holds"
    assert claims.verdict("c", found(0.0, 0.0, 0.0), 3, "t")["verdict"] == "does not hold"  # a tie is no win


def test_one_seed_is_not_testable_and_no_seed_at_all_may_be():
    assert claims.verdict("c", found(0.2, 0.1, 0.3), 1, "t")["verdict"] == "not testable"
    assert claims.verdict("c", found(0.2, 0.1, 0.3), None, "t")["verdict"] == "holds"
    assert claims.over_seeds("c", [0.2], "t")["verdict"] == "not testable"
    assert claims.over_seeds("c", [], "t")["verdict"] == "not testable"


def test_seeds_that_agree_in_sign_alone_are_not_enough():
    # mean .4, deviation .36, three seeds: ± 4.303 * .36 / √3 = .90
    assert claims.over_seeds("c", [0.1, 0.3, 0.8], "t")["verdict"] == "does not hold"
    assert claims.over_seeds("c", [0.38, 0.4, 0.42], "t")["verdict"] == "holds"


def test_at_chance_is_an_exact_binomial_test():
    # 4 hits of 10 at chance 1/4: P(X >= 4) = 1 - (.0563 + .1877 + .2816 + .2503) = .2241
    row = claims.at_chance("c", [0.4], 0.25, 10)
    assert row["verdict"] == "holds" and row["difference"] == pytest.approx(0.15) and "over seeds 0.224" in row["test"]
    # 8 hits of 10: P(X >= 8) = 45 * .25^8 * .75^2 + 10 * .25^9 * .75 + .25^10 = .000416
    assert claims.at_chance("c", [0.1, 0.8], 0.25, 10)["verdict"] == "does not hold"
    assert claims.at_chance("c", [0.0], 0.25, 10)["verdict"] == "holds"


def test_differences_are_paired_by_seed():
    frame = pd.DataFrame({"seed": [2, 1, 1, 2], "method": ["a", "a", "b", "b"], "value": [5.0, 1.0, 3.0, 4.0]})
    assert claims.paired(frame, better="b", worse="a") == [2.0, -1.0]


def test_an_interval_over_seeds_is_students():
    # mean .2, deviation .1: ± 4.3027 * .1 / √3
    interval = claims.interval([0.1, 0.2, 0.3])
    assert interval == pytest.approx({"difference": 0.2, "low": 0.2 - 0.24841, "high": 0.2 + 0.24841}, abs=1e-5)


def test_an_interval_counts_units_and_not_columns():
    rows, units = np.array([[1.0, 1.0, 2.0, 2.0, 3.0, 3.0]]), list("aabbcc")
    grouped = claims.interval(rows, units)
    assert grouped == pytest.approx({"difference": 2, "low": 2 - 2.48414, "high": 2 + 2.48414}, abs=1e-4)  # 3 units
    assert claims.interval(rows)["low"] > grouped["low"]  # as six of their own they seem surer
    # a unit's columns are averaged first: the one column of b weighs as much as the three of a
    assert claims.interval(np.array([[1.0, 1.0, 1.0, 3.0]]), list("aaab"))["difference"] == 2


def test_an_interval_adds_what_seeds_and_what_draws_would_change():
    seeds, draws = np.array([[-0.1], [0.0], [0.1]]), np.linspace(-1, 1, 50)[None]
    both = claims.interval(1 + seeds + draws)
    # s²/n of each: .01 / 3 and 49-degrees variance of the line / 50; the degrees of freedom by Welch and Satterthwaite
    a, b = 0.01 / 3, draws.var(ddof=1) / 50
    freedom = (a + b) ** 2 / (a**2 / 2 + b**2 / 49)
    from scipy.stats import t

    assert both["high"] - 1 == pytest.approx(t.ppf(0.975, freedom) * np.sqrt(a + b))


def test_an_interval_covers_the_truth_as_often_as_it_says():
    rng, hits = np.random.default_rng(0), 0
    for _ in range(400):
        interval = claims.interval(
            1 + rng.normal(0, 0.2, (3, 1)) + rng.normal(0, 1, (1, 60)) + rng.normal(0, 0.5, (3, 60))
        )
        hits += interval["low"] <= 1 <= interval["high"]
    assert 0.91 <= hits / 400 <= 0.98


def test_an_interval_of_one_number_or_of_equal_values():
    assert np.isnan(claims.interval(np.array([[0.5, 0.5]]), ["a", "a"])["low"])
    assert claims.interval(np.zeros((2, 4))) == {"difference": 0.0, "low": 0.0, "high": 0.0}
    with pytest.raises(ValueError, match="interval: 2 differences and 3 units"):
        claims.interval(np.zeros((1, 2)), range(3))
    with pytest.raises(ValueError, match="at least one is needed"):
        claims.interval([])


def scored(**of_method):
    """What each method scores in one place from each start, with seeds 2 and 1: its value plus the seed."""
    return [
        (
            {"backbone": "vit", "method": method, "bias_start": start, "seed": seed, "variant": "raw"},
            np.full(4, value + seed),
        )
        for method, starts in of_method.items()
        for start, value in starts.items()
        for seed in (2, 1)
    ]


def test_everybody_is_compared_at_equal_starts_and_at_its_best():
    scores = scored(posthoc={"mean": 0.5, "zero": 0.1}, shared={"mean": 0.2, "zero": 0.6})
    methods = ("separated", "shared")  # posthoc reconstructs as separated does
    losses = {("vit", method, start): loss for method in methods for start, loss in (("mean", 0.1), ("zero", 0.2))}
    found = list(claims.leads(scores, losses, units=lambda about: [about["variant"]] * 4))
    assert all({**about, "backbone": "vit", "variant": "raw", "other": "shared"} == about for about, _ in found)
    rows = {(about["comparison"], about["bias_start"]): about | figures for about, figures in found}
    assert rows["same start", "mean"]["difference"] == pytest.approx(0.3)
    assert rows["same start", "zero"]["difference"] == pytest.approx(-0.5)
    assert rows["best start", "mean"]["difference"] == pytest.approx(0.3)
    assert rows["best start", "mean"]["seeds"] == 2
    worst = rows["other's best", "mean"]  # shared retrieves best from zero, although it reconstructs worse from there
    assert worst["other_start"] == "zero" and worst["difference"] == pytest.approx(-0.1)


def test_a_method_that_has_but_one_start_is_compared_there():
    scores = scored(posthoc={"mean": 0.5, "zero": 0.1}, sparc={"mean": 0.7})
    losses = {("vit", "separated", "mean"): 0.1, ("vit", "separated", "zero"): 0.2, ("vit", "sparc", "mean"): 0.3}
    found = list(claims.leads(scores, losses))
    assert [about["comparison"] for about, _ in found] == ["same start", "best start", "other's best"]
    for about, figures in found:
        assert about["other_start"] == "mean" and figures["difference"] == pytest.approx(-0.2)


def test_places_are_compared_apart_and_queries_drawn_together_are_one():
    here = [({"backbone": b, "method": m, "bias_start": "mean", "seed": 1}, scores) for b, m, scores in (
        ("vit", "posthoc", np.array([True, True, False])), ("vit", "shared", np.array([False, True, False])),
        ("resnet", "posthoc", np.array([True, False, False])), ("resnet", "shared", np.array([True, True, True])),
    )]  # fmt: skip
    losses = {(b, m, "mean"): 0.1 for b in ("vit", "resnet") for m in ("separated", "shared")}
    found = {about["backbone"]: figures for about, figures in claims.leads(here, losses, units=lambda about: [0, 0, 1])}
    # vit: 1 and 0, then 0; by unit 1/2 and 0. resnet: 0 and -1, then -1; by unit -1/2 and -1.
    assert {name: figures["difference"] for name, figures in found.items()} == {"vit": 0.25, "resnet": -0.75}
