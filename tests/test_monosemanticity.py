import numpy as np
import pytest
from scipy import sparse

from xsae.evaluation import monosemanticity as module
from xsae.evaluation.monosemanticity import monosemanticity


def codes(values):
    return sparse.csr_array(np.array(values, dtype=np.float32))


def by_definition(activations, judge):
    """MS with the n x n matrix and a loop over latents (Pach et al. 2025, Eq. 9)."""
    judge = judge / np.linalg.norm(judge, axis=1, keepdims=True)
    similarity = judge @ judge.T
    different = ~np.eye(len(judge), dtype=bool)
    scores = []
    for a in activations.T:
        span = a.max() - a.min()
        scaled = (a - a.min()) / span if span else np.zeros(len(a))
        pairs = np.outer(scaled, scaled)[different]
        scores.append((pairs * similarity[different]).sum() / pairs.sum() if pairs.sum() else np.nan)
    return np.array(scores)


def test_by_hand():
    judge = np.array([[5, 0], [0, 1], [3, 4], [1, 0]])  # cosines of rows 0 1: 0, 0 2: .6, 1 2: .8; row 3 never fires
    # latent 0 fires on rows 0 and 2; latent 1 has ã = 1, ½; latent 2 has ã = 1, 1, ½; latent 3 is dead
    found = monosemanticity(codes([[2, 4, 6, 0], [0, 2, 6, 0], [1, 0, 3, 0], [0, 0, 0, 0]]), judge)
    np.testing.assert_allclose(found, [0.6, 0.0, (0.5 * 0.6 + 0.5 * 0.8) / (1 + 0.5 + 0.5), np.nan], atol=1e-12)


def test_a_latent_that_is_always_on_counts_from_its_minimum():
    # 6, 6, 3 becomes ã = 1, 1, 0: rows 0 and 1 alone; 9, 5, 7 becomes 1, 0, ½: rows 0 and 2 alone
    found = monosemanticity(codes([[6, 9], [6, 5], [3, 7]]), np.array([[5, 0], [0, 1], [3, 4]]))
    np.testing.assert_allclose(found, [0.0, 0.6], atol=1e-12)


def test_latents_that_weigh_no_two_rows_have_no_score():
    # dead · fires once · one constant, always on · always on, above its minimum once · always on, above it twice
    activations = [[0, 0, 2, 1, 3], [0, 7, 2, 5, 2], [0, 0, 2, 1, 1]]
    found = monosemanticity(codes(activations), np.array([[1, 0], [1, 0], [0, 1]]))
    np.testing.assert_array_equal(np.isnan(found), [True, True, True, True, False])
    assert found[4] == pytest.approx(1.0)
    assert np.isnan(monosemanticity(codes(np.zeros((3, 4))), np.eye(3))).all()
    assert np.isnan(monosemanticity(codes([[3.0, 0.0]]), np.ones((1, 2)))).all()  # one row makes no pair


def test_what_rounding_could_have_made_is_no_second_row():
    # the weight of its pairs is a difference of sums: 2e-12 could be rounding, 2e-6 is known to four digits or more
    found = monosemanticity(codes([[1, 1, 1], [1e-25, 1e-12, 1e-6], [0, 0, 0]]), np.array([[5, 0], [3, 4], [0, 1]]))
    np.testing.assert_array_equal(np.isnan(found), [True, True, False])
    assert found[2] == pytest.approx(0.6, abs=1e-4)


def test_stored_zeros_are_zeros():
    stored = sparse.csr_array((np.array([1.0, 0.0, 2.0]), np.array([0, 0, 0]), np.array([0, 1, 2, 3])), shape=(3, 1))
    assert monosemanticity(stored, np.array([[1, 0], [0, 1], [3, 4]])) == pytest.approx([0.6])
    assert stored.data.tolist() == [1, 0, 2]  # and the caller's codes are left as they were


@pytest.mark.parametrize("block", [65_536, 7])
@pytest.mark.parametrize("density", [0.05, 0.3, 1.0])  # at 1.0 every latent is always on
def test_closed_form_equals_the_double_sum(block, density, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", block)
    rng = np.random.default_rng(0)
    activations = rng.random((60, 25)) * (rng.random((60, 25)) < density) + (density == 1.0) * rng.random(25)
    activations[:, 3] = 0
    judge = rng.standard_normal((60, 8)) + 0.5
    found = monosemanticity(sparse.csr_array(activations), judge)
    np.testing.assert_allclose(found, by_definition(activations, judge), rtol=1e-10, atol=1e-12)


def test_one_meaning_scores_one_and_all_meanings_score_the_mean_similarity():
    rng = np.random.default_rng(1)
    judge = np.repeat(np.eye(4), 25, axis=0)  # four meanings, orthogonal
    activations = np.zeros((101, 2))
    activations[:25, 0] = rng.random(25) + 0.1
    activations[:100, 1] = 1
    found = monosemanticity(sparse.csr_array(activations), np.vstack([judge, [[1, 0, 0, 0]]]))
    assert found == pytest.approx([1.0, 24 / 99])  # of 99 other rows 24 mean the same


def test_scaling_a_latent_or_an_embedding_and_reordering_rows_change_nothing():
    rng = np.random.default_rng(2)
    activations, judge = rng.random((30, 6)) * (rng.random((30, 6)) < 0.4), rng.standard_normal((30, 5))
    order = rng.permutation(30)
    found = monosemanticity(sparse.csr_array(activations), judge)
    scaled = activations * rng.uniform(0.1, 50, 6), judge * rng.uniform(0.1, 50, (30, 1))
    np.testing.assert_allclose(monosemanticity(sparse.csr_array(scaled[0][order]), scaled[1][order]), found)


def test_errors_say_what_does_not_fit():
    with pytest.raises(ValueError, match=r"codes has shape \(2, 1\) and judge \(3, 3\)"):
        monosemanticity(codes([[1], [1]]), np.eye(3))
    with pytest.raises(ValueError, match=r"codes has shape \(0, 1\) and judge \(0, 3\)"):
        monosemanticity(sparse.csr_array((0, 1)), np.empty((0, 3)))
    for value in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="codes holds NaN, infinity or a negative value"):
            monosemanticity(codes([[1], [value]]), np.eye(2))
    with pytest.raises(ValueError, match=r"judge, counted from row 0: 1 rows are zero or not finite \(first: 1\)"):
        monosemanticity(codes([[1], [1]]), np.array([[1, 0], [0, 0]]))
