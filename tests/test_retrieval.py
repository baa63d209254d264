from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from xsae.evaluation import _ranking
from xsae.evaluation.retrieval import bounds, chance, recall

REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "coco_val2017_clip_vitb16_500pairs.npz"


@pytest.fixture(params=[np.asarray, sparse.csr_array], ids=["dense", "sparse"])
def rows(request):
    return lambda values: request.param(np.array(values, dtype=np.float32))


def test_ranks_by_hand(rows):
    # gallery directions: a (1,0), b (0,1), c (.6,.8). Queries with their cosines to a, b, c:
    #   (2,0) of a: 1, 0, .6       own 1, none reaches it          rank 1
    #   (0,3) of c: 0, 1, .8       own .8, b above                 rank 2
    #   (4,3) of b: .8, .6, .96    own .6, a and c above           rank 3
    queries, gallery = rows([[2, 0], [0, 3], [4, 3]]), rows([[5, 0], [0, 1], [3, 4]])
    assert recall(queries, gallery, ["a", "c", "b"], ["a", "b", "c"], ks=(1, 2, 3)) == pytest.approx(
        {"R@1": 1 / 3, "R@2": 2 / 3, "R@3": 1.0, "median_rank": 2.0, "tie_rate": 0.0}
    )


def test_ties_count_against_the_model(rows):
    # The query's own item and two others are the same row: rank 1 + 2 = 3, wherever they stand in the gallery.
    gallery = [[1, 1], [1, 1], [1, 1], [1, 0]]
    for item in range(3):
        figures = recall(rows([[1, 1]]), rows(gallery), [item], [0, 1, 2, 3], ks=(1, 2, 3))
        assert figures == {"R@1": 0.0, "R@2": 0.0, "R@3": 1.0, "median_rank": 3.0, "tie_rate": 1.0}


def test_rounding_does_not_break_a_tie(rows):
    # One direction in many latents, at 200 lengths: equal cosines whose float sums differ in the last digits.
    direction = np.random.default_rng(0).random(300)
    gallery = rows(direction * np.linspace(0.01, 50, 200)[:, None])
    figures = recall(rows([direction] * 200), gallery, np.arange(200), np.arange(200))
    assert figures == {"R@1": 0.0, "R@5": 0.0, "R@10": 0.0, "median_rank": 200.0, "tie_rate": 1.0}


def test_a_zero_code_ties_with_everything_it_does_not_oppose(rows):
    # A zero query has cosine 0 to all three items: rank 3. A query whose own item is the zero row: cosine 0, tied with
    # the orthogonal item, ahead of nothing else (the third has cosine 1): rank 3.
    gallery = rows([[0, 0], [0, 1], [1, 0]])
    assert recall(rows([[0, 0]]), gallery, [1], [0, 1, 2])["median_rank"] == 3
    assert recall(rows([[1, 0]]), gallery, [0], [0, 1, 2]) == pytest.approx(
        {"R@1": 0.0, "R@5": 1.0, "R@10": 1.0, "median_rank": 3.0, "tie_rate": 1.0}
    )
    dead = recall(rows(np.zeros((3, 2))), rows(np.zeros((3, 2))), [0, 1, 2], [0, 1, 2], ks=(1, 2, 3))
    assert dead == {"R@1": 0.0, "R@2": 0.0, "R@3": 1.0, "median_rank": 3.0, "tie_rate": 1.0}


def test_of_several_own_items_the_best_counts_and_the_others_do_not_stand_in_its_way(rows):
    # cosines to (1, 0): own .6 and 1 and 1, other .8. Best own 1, nothing of another id reaches it: rank 1, no tie.
    gallery = rows([[3, 4], [4, 3], [1, 0], [2, 0]])
    assert recall(rows([[1, 0]]), gallery, [7], [7, 8, 7, 7], ks=(1,)) == {"R@1": 1, "median_rank": 1, "tie_rate": 0}
    # Turned round, several queries own one item, (1, 0): (4, 3) has .8 with it but .96 with (3, 4); the others hit.
    assert recall(gallery, rows([[3, 4], [1, 0]]), [0, 1, 1, 1], [0, 1], ks=(1,))["R@1"] == 3 / 4


def test_sparse_dense_mixed_and_blocked_agree(monkeypatch):
    rng = np.random.default_rng(0)
    codes = [np.where(rng.random((n, 20)) < 0.2, rng.random((n, 20)), 0) for n in (30, 90)]
    ids = np.arange(30), np.repeat(np.arange(30), 3)
    dense = recall(*codes, *ids)
    monkeypatch.setattr(_ranking, "_BLOCK_VALUES", 200)  # two queries at a time
    for wrap_queries in (np.asarray, sparse.csr_array):
        for wrap_gallery in (np.asarray, sparse.csr_array):
            assert recall(wrap_queries(codes[0]), wrap_gallery(codes[1]), *ids) == dense


def test_scaling_and_reordering_change_nothing(rows):
    rng = np.random.default_rng(1)
    queries, gallery = rng.random((20, 6)), rng.random((40, 6))
    ids, owners = np.arange(20), np.repeat(np.arange(20), 2)
    order = rng.permutation(40)
    scaled = gallery * rng.uniform(0.1, 10, (40, 1))
    assert recall(rows(queries), rows(gallery), ids, owners) == recall(
        rows(queries), rows(scaled[order]), ids, owners[order]
    )


@pytest.mark.parametrize("n", [1, 2, 4])
@pytest.mark.parametrize("k", [1, 2, 5, 9])
def test_chance_equals_the_count_over_all_orders(n, k):
    gallery_ids = [0] * n + list(range(1, 6 - n))  # 5 items, `n` of them of id 0
    orders = list(permutations(gallery_ids))
    hits = sum(0 in order[:k] for order in orders) / len(orders)
    assert chance([0], gallery_ids, ks=(k,)) == pytest.approx({f"R@{k}": hits})


def test_chance_averages_over_queries_and_is_what_random_codes_score():
    # id "a" owns 1 of 4, id "b" owns 3 of 4: at k = 1 (1/4 + 3/4) / 2; at k = 2 (2/4 + 1) / 2
    assert chance(["a", "b"], ["b", "a", "b", "b"], ks=(1, 2)) == pytest.approx({"R@1": 0.5, "R@2": 0.75})
    rng = np.random.default_rng(0)
    ids = np.arange(2000)
    found = recall(rng.standard_normal((2000, 16)), rng.standard_normal((200, 16)), ids % 40, np.arange(200) % 40)
    expected = chance(ids % 40, np.arange(200) % 40)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=0.03), name


def test_errors_say_what_does_not_fit(rows):
    two = rows([[1, 0], [0, 1]])
    with pytest.raises(ValueError, match=r"queries has shape \(2, 2\) and gallery \(1, 3\)"):
        recall(two, rows([[1, 0, 0]]), [0, 1], [0])
    with pytest.raises(ValueError, match="1 gallery_ids for 2 rows"):
        recall(two, two, [0, 0], [0])
    with pytest.raises(ValueError, match=r"1 of 2 query_ids have no item in gallery_ids \(first: 5 at 1\)"):
        recall(two, two, [0, 5], [0, 1])
    with pytest.raises(ValueError, match="no item in gallery_ids"):
        chance(["a"], ["b"])
    with pytest.raises(ValueError, match="every k must be at least 1"):
        recall(two, two, [0, 1], [0, 1], ks=(0, 1))
    with pytest.raises(ValueError, match="query_ids is empty"):
        recall(two[:0], two, [], [0, 1])
    with pytest.raises(ValueError, match=r"gallery holds NaN or infinity \(first in row 1\)"):
        recall(two, rows([[1, 0], [np.nan, 1]]), [0, 1], [0, 1])


@pytest.mark.skipif(not REAL.exists(), reason=f"real CLIP embeddings not at {REAL}")
def test_dense_recall_on_real_clip_embeddings():
    with np.load(REAL, allow_pickle=False) as data:
        image, text = data["image"], data["text"]
    ids = np.arange(len(image))
    assert recall(image, text, ids, ids)["R@1"] == pytest.approx(0.55, abs=0.005)
    assert recall(text, image, ids, ids)["R@1"] == pytest.approx(0.51, abs=0.005)


def test_codes_lie_between_what_embeddings_retrieve_and_a_random_order():
    # Captions 0 and 1 are of image 0, caption 2 of image 1; caption 1 is nearer to image 1 than to its own.
    class Store(dict):
        modalities = ("image", "text")

        def rows(self, modality, split):
            return np.arange(len(self[modality]))

        def groups(self, modality, split):
            return np.array([0, 1] if modality == "image" else [0, 0, 1])

    store = Store(image=np.eye(2), text=np.array([[1, 0], [0.6, 0.8], [0, 1.0]]))
    found = {(direction, name): figures["R@1"] for direction, name, figures in bounds(store)}
    assert found == pytest.approx(
        {
            ("image_to_text", "dense"): 1.0, ("image_to_text", "chance"): (2 / 3 + 1 / 3) / 2,
            ("text_to_image", "dense"): 2 / 3, ("text_to_image", "chance"): 1 / 2,
        }
    )  # fmt: skip
