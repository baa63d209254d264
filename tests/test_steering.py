import numpy as np
import pytest
from scipy import sparse

from xsae.evaluation.steering import concept_latent, images_without, preservation, ranking_metrics, steer


def codes(values):
    return sparse.csr_array(np.array(values, dtype=np.float32))


def flags(*values):
    return np.array(values, dtype=bool)


# --- the latent -------------------------------------------------------------------------------------------------------


def test_the_latent_is_the_largest_difference_of_means_by_hand():
    # means over the naming captions: 3, 2, 1; over the others: 3, 0, 5. Differences: 0, 2, -4.
    text = codes([[4, 2, 0], [2, 2, 2], [3, 0, 4], [3, 0, 6]])
    assert concept_latent(text, flags(1, 1, 0, 0), seed=0) == 1
    assert concept_latent(text, flags(0, 0, 1, 1), seed=0) == 2


def test_as_many_others_are_drawn_as_captions_name_the_concept():
    # Latent 0 is 5 in the one caption that names it, and 500 in 2 of the 100 others: it leads latent 1 by 5 to 3 unless
    # one of the two is drawn. Against the mean of all others, 10, it would never lead.
    text = np.zeros((101, 2))
    text[0] = [5, 3]
    text[1:3, 0] = 500
    found = [concept_latent(codes(text), np.arange(101) == 0, seed) for seed in range(200)]
    assert 0 < sum(latent == 1 for latent in found) < 15
    assert found == [concept_latent(codes(text), np.arange(101) == 0, seed) for seed in range(200)]


def test_where_fewer_others_are_left_all_of_them_count():
    # others: the last two, with mean 3 in latent 0, the naming ones 2 and 1
    text = codes([[2, 1], [2, 1], [2, 1], [6, 0], [0, 0]])
    assert {concept_latent(text, flags(1, 1, 1, 0, 0), seed) for seed in range(20)} == {1}


def test_of_equally_good_latents_the_first_counts():
    assert concept_latent(codes([[0, 3, 3], [0, 0, 0]]), flags(1, 0), seed=0) == 1


def test_the_latent_is_found_among_aligned_codes_under_the_image_latents_index():
    text = codes([[4, 0, 0], [0, 1, 1], [0, 1, 2]])
    moved = text[:, [2, 0, 1]]  # what an alignment with permutation_ (2, 0, 1) returns
    assert concept_latent(text, flags(1, 0, 0), seed=0) == 0
    assert concept_latent(moved, flags(1, 0, 0), seed=0) == 1


def test_no_latent_is_made_up():
    with pytest.raises(ValueError, match="no latent of codes fires more"):
        concept_latent(codes(np.zeros((4, 3))), flags(1, 1, 0, 0), seed=0)  # all dead
    with pytest.raises(ValueError, match="no latent of codes fires more"):
        concept_latent(codes([[1, 0], [1, 0]]), flags(1, 0), seed=0)  # all alike
    with pytest.raises(ValueError, match="names is true for 0 of 2 captions"):
        concept_latent(codes([[1, 0], [1, 0]]), flags(0, 0), seed=0)
    with pytest.raises(ValueError, match="names is true for 2 of 2 captions"):
        concept_latent(codes([[1, 0], [1, 0]]), flags(1, 1), seed=0)
    with pytest.raises(ValueError, match=r"names is bool \(3,\); bool \(2,\) is needed"):
        concept_latent(codes([[1, 0], [1, 0]]), flags(1, 1, 0), seed=0)
    with pytest.raises(ValueError, match=r"names is int64 \(2,\)"):
        concept_latent(codes([[1, 0], [1, 0]]), np.array([1, 0]), seed=0)


# --- the images -------------------------------------------------------------------------------------------------------


def test_a_hundred_images_without_the_concept_or_all_there_are():
    carries = np.arange(500) % 2 == 0
    rows = images_without(carries, seed=1)
    assert len(set(rows)) == 100 and not carries[rows].any() and (np.diff(rows) > 0).all()
    assert np.array_equal(rows, images_without(carries, seed=1))
    assert not np.array_equal(rows, images_without(carries, seed=2))
    assert images_without(flags(1, 0, 0, 1), seed=1).tolist() == [1, 2]
    with pytest.raises(ValueError, match="carries is true for all 2 images"):
        images_without(flags(1, 1), seed=1)


def test_steering_by_hand():
    # Latent 1 points along (0, 2): adding α / 2 to its code moves the decoded point by α along (0, 1).
    dictionary, bias = np.array([[1, 0], [0, 2]], np.float32), np.array([0, 1], np.float32)
    image = codes([[3, 1.5], [0, 0]])  # decode to (3, 4) and (0, 1)
    np.testing.assert_allclose(steer(image, 1, 0.0, dictionary, bias), [[0.6, 0.8], [0, 1]], rtol=1e-6)
    # α = 1 along (1, 0): (4, 4) and (1, 1), both the diagonal; along (0, 1): (3, 5) and (0, 2)
    np.testing.assert_allclose(steer(image, 0, 1.0, dictionary, bias), np.full((2, 2), 0.5**0.5), rtol=1e-6)
    along = steer(image, 1, 1.0, dictionary, bias)
    np.testing.assert_allclose(along, [[3 / 34**0.5, 5 / 34**0.5], [0, 1]], rtol=1e-6)
    assert along.dtype == np.float32


def test_steering_is_decoding_codes_whose_latent_was_raised():
    rng = np.random.default_rng(0)
    dictionary, bias = rng.standard_normal((12, 5)), rng.standard_normal(5)
    image = rng.random((7, 12)) * (rng.random((7, 12)) < 0.3)
    raised = image.copy()
    raised[:, 4] += 0.5 / np.linalg.norm(dictionary[4])
    decoded = raised @ dictionary + bias
    expected = decoded / np.linalg.norm(decoded, axis=1, keepdims=True)
    np.testing.assert_allclose(steer(sparse.csr_array(image), 4, 0.5, dictionary, bias), expected, rtol=1e-12)


def test_dead_codes_decode_to_the_bias_and_a_zero_row_stays_zero():
    dictionary = np.eye(3)[:2]
    dead = codes(np.zeros((2, 2)))
    np.testing.assert_array_equal(steer(dead, 0, 0.0, dictionary, np.array([0, 0, 2.0])), [[0, 0, 1]] * 2)
    np.testing.assert_array_equal(steer(dead, 0, 0.0, dictionary, np.zeros(3)), np.zeros((2, 3)))
    np.testing.assert_array_equal(steer(dead, 0, 0.5, dictionary, np.zeros(3)), [[1, 0, 0]] * 2)


def test_preservation_by_hand():
    steered, original = np.array([[1.0, 0], [0, 1], [0, 0]]), np.array([[3.0, 4], [0, 2], [1, 0]])
    assert preservation(steered, original) == pytest.approx((0.6 + 1 + 0) / 3)


# --- the ranking ------------------------------------------------------------------------------------------------------


def test_ranking_by_hand():
    # In order: .9 R, .8, .7 R, .6, .5 R. Precisions at the relevant places: 1, 2/3, 3/5.
    figures = ranking_metrics(np.array([[0.6, 0.9, 0.5, 0.8, 0.7]]), flags(0, 1, 1, 0, 1), ks=(1, 2, 3, 10))
    dcg, most = 1 + 1 / 2 + 1 / np.log2(6), 1 + 1 / np.log2(3) + 1 / 2
    assert figures == pytest.approx(
        {
            "mAP": (1 + 2 / 3 + 3 / 5) / 3, "MRR": 1.0, "NDCG@10": dcg / most,
            "P@1": 1.0, "P@2": 1 / 2, "P@3": 2 / 3, "P@10": 3 / 10,
            "R@1": 1 / 3, "R@2": 1 / 3, "R@3": 2 / 3, "R@10": 1.0,
            "median_rank": 1.0, "tie_rate": 0.0,
        }
    )  # fmt: skip


def test_ndcg_looks_at_ten_places_only():
    # 15 relevant items behind one irrelevant: places 2 to 10 of 10 gain; the best order would fill all ten.
    similarity = np.linspace(1, 0, 20)[None]
    gains = 1 / np.log2(np.arange(1, 11) + 1)
    relevant = (np.arange(20) >= 1) & (np.arange(20) < 16)
    assert ranking_metrics(similarity, relevant)["NDCG@10"] == pytest.approx(gains[1:].sum() / gains.sum())
    assert ranking_metrics(similarity, np.arange(20) >= 10)["NDCG@10"] == 0


def test_ties_count_against_the_model():
    # Two relevant and two irrelevant items at .5, one irrelevant below: places 3 and 4, wherever the items stand.
    for order in ([0, 1, 2, 3, 4], [2, 0, 3, 1, 4], [4, 3, 2, 1, 0]):
        similarity, relevant = np.array([0.5, 0.5, 0.5, 0.5, 0.1]), flags(1, 1, 0, 0, 0)
        figures = ranking_metrics(similarity[None, order], relevant[order], ks=(2, 3, 4))
        expected = {"mAP": (1 / 3 + 2 / 4) / 2, "MRR": 1 / 3, "median_rank": 3, "tie_rate": 1}
        assert {name: figures[name] for name in expected} == pytest.approx(expected)
        assert [figures[f"P@{k}"] for k in (2, 3, 4)] == pytest.approx([0, 1 / 3, 2 / 4])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("level", [-0.9, 0.0, 0.3, 0.999])
def test_what_differs_by_rounding_is_a_tie_and_what_differs_by_more_is_not(level, dtype):
    def ranked(lead):
        figures = ranking_metrics(np.array([[level + lead, level]], dtype), flags(1, 0))
        return figures["MRR"], figures["tie_rate"]

    assert ranked(0) == ranked(5e-7) == ranked(-5e-7) == (1 / 2, 1)
    assert ranked(2e-6) == (1, 0)
    assert ranked(-2e-6) == (1 / 2, 0)


def test_equal_relevant_items_do_not_stand_in_each_others_way():
    assert ranking_metrics(np.full((1, 4), 0.5), np.ones(4, bool))["mAP"] == 1
    # A zero embedding ties with everything: the relevant items come last.
    figures = ranking_metrics(np.zeros((2, 5)), flags(0, 1, 0, 0, 1))
    assert figures["median_rank"] == 4 and figures["mAP"] == pytest.approx((1 / 4 + 2 / 5) / 2)
    assert figures["tie_rate"] == 1


def test_the_mean_over_queries_is_taken_last():
    # first relevant at 1, 2 and 4
    similarity = np.array([[0.9, 0.5, 0.4, 0.3], [0.5, 0.9, 0.4, 0.3], [0.1, 0.9, 0.8, 0.7]])
    figures = ranking_metrics(similarity, flags(1, 0, 0, 0), ks=(1, 2))
    assert figures["mAP"] == figures["MRR"] == pytest.approx((1 + 1 / 2 + 1 / 4) / 3)
    found = [figures[name] for name in ("median_rank", "P@1", "P@2", "R@2")]
    assert found == pytest.approx([2, 1 / 3, 1 / 3, 2 / 3])


def by_definition(similarity, relevant):
    """The same figures from the definitions, an item at a time."""
    place = np.array(
        [
            1 + sum(s >= similarity[r] - 1e-6 for s, own in zip(similarity, relevant, strict=True) if not own)
            for r in np.flatnonzero(relevant)
        ]
    )
    own = similarity[relevant]
    place += [sum(own > s) + sum(own[:i] == s) for i, s in enumerate(own)]
    precision = [np.sum(place <= p) / p for p in place]
    return np.mean(precision), 1 / place.min(), np.mean(place <= 5) * len(place) / 5, np.mean(place <= 5)


@pytest.mark.parametrize("levels", [3, 20, 10**6])  # from ties everywhere to hardly any
def test_ranking_agrees_with_its_definition(levels):
    rng = np.random.default_rng(levels)
    similarity = (rng.integers(-levels, levels + 1, (12, 40)) / levels).astype(np.float32)
    relevant = rng.random((12, 40)) < 0.2
    relevant[:, 0] = True
    for own in (relevant, relevant[0]):
        rows = np.broadcast_to(own, similarity.shape)
        expected = np.mean([by_definition(*row) for row in zip(similarity, rows, strict=True)], axis=0)
        figures = ranking_metrics(similarity, own)
        assert [figures[name] for name in ("mAP", "MRR", "P@5", "R@5")] == pytest.approx(expected)
    assert ranking_metrics(similarity[:, ::-1], relevant[:, ::-1]) == pytest.approx(
        ranking_metrics(similarity, relevant)
    )


def test_errors_say_what_does_not_fit():
    similarity, dictionary = np.zeros((2, 3)), np.eye(3)
    with pytest.raises(ValueError, match=r"2 of 2 queries have no relevant item \(first: 0\)"):
        ranking_metrics(similarity, flags(0, 0, 0))
    with pytest.raises(ValueError, match=r"1 of 2 queries have no relevant item \(first: 1\)"):
        ranking_metrics(similarity, np.array([[True, False, False], [False, False, False]]))
    with pytest.raises(ValueError, match=r"relevant is bool \(2,\); bool \(3,\) or \(2, 3\) is needed"):
        ranking_metrics(similarity, flags(0, 1))
    with pytest.raises(ValueError, match="relevant is int64"):
        ranking_metrics(similarity, np.array([0, 1, 0]))
    with pytest.raises(ValueError, match="every k must be at least 1"):
        ranking_metrics(similarity, flags(0, 1, 0), ks=(0,))
    with pytest.raises(ValueError, match=r"similarity has shape \(0, 3\)"):
        ranking_metrics(similarity[:0], flags(0, 1, 0))
    for value in (7.0, -1.5, np.nan):
        with pytest.raises(ValueError, match="cosines are needed"):
            ranking_metrics(np.array([[0.0, value]]), flags(1, 0))
    with pytest.raises(ValueError, match=r"codes has shape \(1, 2\), dictionary \(3, 3\)"):
        steer(codes([[1, 0]]), 0, 1.0, dictionary, np.zeros(3))
    with pytest.raises(ValueError, match="latent is 3; the dictionary's are 0..2"):
        steer(codes([[1, 0, 0]]), 3, 1.0, dictionary, np.zeros(3))
    with pytest.raises(ValueError, match="latent 2 of the dictionary: 1 rows are zero"):
        steer(codes([[1, 0, 0]]), 2, 1.0, np.diag([1.0, 1, 0]), np.zeros(3))
    with pytest.raises(ValueError, match=r"steered has shape \(2, 3\) and original \(1, 3\)"):
        preservation(similarity, similarity[:1])
