import numpy as np
import pandas as pd
import pytest

from xsae.evaluation import claims


def test_a_claim_holds_only_when_every_seed_agrees():
    assert claims.verdict("c", [0.2, 0.1], "t")["verdict"] == "holds"
    mixed = claims.verdict("c", [0.5, -0.1], "t", backbone="vit")
    assert mixed["verdict"] == "does not hold" and mixed["backbone"] == "vit"
    assert mixed["mean"] == pytest.approx(0.2) and mixed["margin"] == -0.1
    assert claims.verdict("c", [0.2, 0.0], "t")["verdict"] == "does not hold"  # a tie is no win


def test_one_seed_or_none_is_not_testable():
    assert claims.verdict("c", [0.2], "t")["verdict"] == "not testable"
    assert claims.verdict("c", [], "t")["margin"] is None


def test_at_chance_is_an_exact_binomial_test():
    # 4 hits of 10 at chance 1/4: P(X >= 4) = 1 - (.0563 + .1877 + .2816 + .2503) = .2241
    row = claims.at_chance("c", [0.4], 0.25, 10)
    assert row["verdict"] == "holds" and row["margin"] == pytest.approx(0.2241 - 0.01, abs=1e-4)
    # 8 hits of 10: P(X >= 8) = 45 * .25^8 * .75^2 + 10 * .25^9 * .75 + .25^10 = .000416
    assert claims.at_chance("c", [0.1, 0.8], 0.25, 10)["verdict"] == "does not hold"
    assert claims.at_chance("c", [0.0], 0.25, 10)["verdict"] == "holds"


def test_differences_are_paired_by_seed():
    frame = pd.DataFrame({"seed": [2, 1, 1, 2], "method": ["a", "a", "b", "b"], "value": [5.0, 1.0, 3.0, 4.0]})
    assert claims.paired(frame, better="b", worse="a") == [2.0, -1.0]


def test_an_interval_resamples_units_and_not_rows():
    # means of the units a, b, c: 1, 2, 3. A mean of three draws lies below 4/3 with p = 1/27 (all a) > 2.5 %, and above
    # 8/3 likewise, so the interval is all there is: 1 to 3
    rows = claims.interval(np.array([1.0, 1.0, 2.0, 2.0, 3.0, 3.0]), list("aabbcc"))
    assert rows == {"difference": 2.0, "low": 1.0, "high": 3.0}
    # as six rows of their own the extremes are rare
    alone = claims.interval(np.array([1.0, 1.0, 2.0, 2.0, 3.0, 3.0]), range(6))
    assert 1 < alone["low"] < 2 < alone["high"] < 3
    assert claims.interval(np.array([1.0, 1.0, 2.0, 2.0, 3.0, 3.0]), range(6)) == alone


def test_an_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    samples = [claims.interval(rng.normal(1, 1, 50), range(50), resamples=200) for _ in range(200)]
    assert 0.90 <= np.mean([own["low"] <= 1 <= own["high"] for own in samples]) <= 0.98


def test_an_interval_of_one_unit_or_of_equal_values():
    assert np.isnan(claims.interval(np.array([0.5, 0.5]), ["a", "a"])["low"])
    assert claims.interval(np.zeros(4), range(4)) == {"difference": 0.0, "low": 0.0, "high": 0.0}
    with pytest.raises(ValueError, match="interval: 2 differences and 3 units"):
        claims.interval(np.zeros(2), range(3))
