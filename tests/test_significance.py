"""Which matches are called real: exact under the null, powerless against nothing, and held to a known truth."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.stats import binomtest, hypergeom, kstest

from xsae.alignment import Alignment
from xsae.evaluation.significance import against_truth, co_firing_p, kinds, significant_matches


def codes(n: int, width: int, rng: np.random.Generator, density: float = 0.1) -> sparse.csr_array:
    return sparse.csr_array((rng.random((n, width)) < density) * rng.exponential(size=(n, width)))


def every(a: sparse.csr_array) -> pd.DataFrame:
    return pd.DataFrame({"latent": np.arange(a.shape[1]), "partner": np.arange(a.shape[1])})


def test_p_by_hand():
    # n = 4, both fire in 2, together in 2: of C(4, 2) = 6 places of the other's two, 1 is as good
    a, b = (sparse.csr_array(np.array(rows, dtype=float).T) for rows in ([[1, 2, 0, 0]], [[3, 1, 0, 0]]))
    np.testing.assert_allclose(co_firing_p(a, b, every(a)), 1 / 6)
    apart = sparse.csr_array(np.array([[0.0, 0, 1, 1]]).T)
    np.testing.assert_allclose(co_firing_p(a, apart, every(a)), 1.0)


def test_p_is_what_permuted_pairs_give():
    rng = np.random.default_rng(0)
    a, b = codes(60, 1, rng, 0.3), codes(60, 1, rng, 0.3)
    together = (a.toarray() != 0) & (b.toarray() != 0)
    p = co_firing_p(a, b, every(a))[0]
    as_good = sum(
        ((a.toarray() != 0) & (rng.permutation(b.toarray()) != 0)).sum() >= together.sum() for _ in range(4000)
    )
    assert binomtest(as_good, 4000, p).pvalue > 0.001


def test_p_is_uniform_under_the_null():
    # Counts are whole numbers: p is uniform once it is drawn uniformly within its step, and as it is never too small.
    rng = np.random.default_rng(1)
    a, b = codes(400, 2000, rng, 0.3), codes(400, 2000, rng, 0.3)
    p = co_firing_p(a, b, every(a))
    for level in (0.01, 0.05, 0.2):
        assert binomtest(int((p <= level).sum()), 2000, level, alternative="greater").pvalue > 0.001
    ones = [sparse.csr_array((matrix != 0).astype(float)) for matrix in (a, b)]
    together = np.asarray(ones[0].multiply(ones[1]).sum(axis=0))
    mass = hypergeom.pmf(together, 400, *(np.asarray(flags.sum(axis=0)) for flags in ones))
    assert kstest(p - rng.random(2000) * mass, "uniform").pvalue > 0.001


def test_nothing_is_found_in_shuffled_pairs_though_a_partner_was_chosen_for_each_latent():
    rng, found = np.random.default_rng(2), 0
    for _ in range(40):
        a, b = codes(500, 40, rng), codes(500, 40, rng)
        found += significant_matches(Alignment().fit(a, b), a, b)["significant"].any()
    assert binomtest(found, 40, 0.05, alternative="greater").pvalue > 0.01


def test_planted_matches_are_found_and_the_others_are_not():
    rng = np.random.default_rng(3)
    shared, (a, b) = codes(2000, 20, rng), (codes(2000, 20, rng) for _ in range(2))
    a, b = sparse.hstack([shared, a], format="csr"), sparse.hstack([shared * 2.0, b], format="csr")
    matches = significant_matches(Alignment().fit(a, b), a, b)
    assert set(matches["latent"][matches["significant"]]) == set(range(20))
    figures = against_truth(matches, a, b, a, b, 20)
    assert (figures["significant"], figures["precision"], figures["same_first"], figures["recall"]) == (20, 1, 1, 1)
    assert figures["all_precision"] == 0.5
    # of the truth, latents 0 to 9 alone are shared concepts: half of what is called significant is then false
    figures = against_truth(matches, a, b, a, b, 10)
    assert (figures["precision"], figures["recall"]) == (0.5, 1.0)


def test_merged_latents_carry_a_common_concept_though_not_the_same_first_one():
    rng = np.random.default_rng(4)
    truth = codes(3000, 3, rng)
    merged = [[1.0, 0.5], [0.5, 1.0]]  # image latent: mostly concept 0, text latent: mostly 1
    a, b = (truth @ sparse.csr_array(np.array([[mix[0]], [mix[1]], [0.0]])) for mix in merged)
    matches = significant_matches(Alignment().fit(a, b), a, b)
    figures = against_truth(matches, a, b, truth, truth, 3)
    assert (figures["precision"], figures["same_first"], figures["recall"]) == (1, 0, 0)


def test_kinds_count_every_latent_once():
    a = sparse.csr_array(np.array([[1.0, 0, 2, 0], [0, 1, 0, 0]]))
    assert kinds(a, np.array([2])) == {"matched": 1, "modality-only": 2, "dead": 1}


def test_pairs_are_needed():
    a = sparse.csr_array((3, 2))
    with pytest.raises(ValueError, match="3 rows and other_codes 2"):
        co_firing_p(a, a[:2], every(a))
