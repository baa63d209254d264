from itertools import permutations

import numpy as np
import pytest
from scipy import sparse

from xsae.evaluation.variants import FREQUENT, firing_rates
from xsae.evaluation.zeroshot import accuracy, chance


@pytest.fixture(params=[np.asarray, sparse.csr_array], ids=["dense", "sparse"])
def rows(request):
    return lambda values: request.param(np.array(values, dtype=np.float32))


CLASSES = [[5, 0], [0, 1], [3, 4]]  # directions (1, 0), (0, 1), (.6, .8)


def test_accuracy_by_hand(rows):
    # cosines to the three classes        right   rank
    # (2, 0): 1, 0, .6                    0       1
    # (0, 3): 0, 1, .8                    2       2
    # (4, 3): .8, .6, .96                 1       3
    images = rows([[2, 0], [0, 3], [4, 3]])
    expected = {"top-1": 1 / 3, "top-2": 2 / 3, "top-3": 1.0, "tie_rate": 0.0}
    assert accuracy(images, rows(CLASSES), [0, 2, 1], ks=(1, 2, 3)) == pytest.approx(expected)
    assert accuracy(images, rows(CLASSES), np.array([0, 2, 1]), ks=(1, 2, 3)) == pytest.approx(expected)
    assert accuracy(images, rows(CLASSES), [{0}, {2}, {1}], ks=(1, 2, 3)) == pytest.approx(expected)


def test_any_of_an_images_classes_is_right(rows):
    # (4, 3): .8, .6, .96. With {0, 1} right the best is .8, one wrong class above: rank 2; with {1, 2}, rank 1.
    assert accuracy(rows([[4, 3]]), rows(CLASSES), [{0, 1}], ks=(1, 2)) == {"top-1": 0, "top-2": 1, "tie_rate": 0}
    assert accuracy(rows([[4, 3]]), rows(CLASSES), [[1, 2, 2]], ks=(1,)) == {"top-1": 1, "tie_rate": 0}
    # A right class that ties with the best right one does not stand in its way.
    assert accuracy(rows([[1, 0]]), rows([[1, 0], [2, 0], [0, 1]]), [{0, 1}], ks=(1,))["top-1"] == 1


def test_ties_count_against_the_model(rows):
    # Three classes of one direction: the right one is third, wherever it stands.
    for label in range(3):
        assert accuracy(rows([[1, 1]]), rows([[1, 1], [2, 2], [1, 1]]), [label], ks=(1, 2, 3)) == {
            "top-1": 0.0, "top-2": 0.0, "top-3": 1.0, "tie_rate": 1.0,
        }  # fmt: skip


def test_all_dead_codes_are_right_only_where_no_class_is_wrong(rows):
    images, classes = rows(np.zeros((3, 2))), rows(np.zeros((3, 2)))
    figures = accuracy(images, classes, [{0}, {0, 1}, {0, 1, 2}], ks=(1, 2, 3))
    assert figures == pytest.approx({"top-1": 1 / 3, "top-2": 2 / 3, "top-3": 1.0, "tie_rate": 2 / 3})


def test_dropping_a_latent_that_fires_everywhere_lets_the_others_speak():
    # Latent 0 is 9 in every image and in class 0 alone: raw, class 0 wins everywhere.
    images = sparse.csr_array(np.array([[9, 1, 0], [9, 0, 1]], float))
    classes = sparse.csr_array(np.array([[9, 1, 0], [0, 0, 1]], float))
    kept = firing_rates(images) <= FREQUENT
    assert accuracy(images, classes, [0, 1], ks=(1,))["top-1"] == 0.5
    assert accuracy(images[:, kept], classes[:, kept], [0, 1], ks=(1,))["top-1"] == 1.0
    # All dropped: nothing is left to tell classes apart, and every one is a tie.
    none = np.zeros(3, bool)
    dropped = accuracy(images[:, none], classes[:, none], [0, 1], ks=(1, 2))
    assert dropped == {"top-1": 0, "top-2": 1, "tie_rate": 1}


@pytest.mark.parametrize("right", [1, 2, 4])
@pytest.mark.parametrize("k", [1, 2, 5, 9])
def test_chance_equals_the_count_over_all_orders(right, k):
    orders = list(permutations(range(5)))
    hits = sum(any(answer < right for answer in order[:k]) for order in orders) / len(orders)
    assert chance([set(range(right))], 5, ks=(k,)) == pytest.approx({f"top-{k}": hits})


def test_chance_averages_over_images_and_is_what_random_codes_score():
    # one right class of 4, and three: at k = 1 (1/4 + 3/4) / 2; at k = 2 (2/4 + 1) / 2
    assert chance([2, {0, 1, 3}], 4, ks=(1, 2)) == pytest.approx({"top-1": 0.5, "top-2": 0.75})
    rng = np.random.default_rng(0)
    labels = [set(rng.choice(30, size=rng.integers(1, 4), replace=False)) for _ in range(3000)]
    found = accuracy(rng.standard_normal((3000, 16)), rng.standard_normal((30, 16)), labels)
    for name, value in chance(labels, 30).items():
        assert found[name] == pytest.approx(value, abs=0.03), name


def test_errors_say_what_does_not_fit(rows):
    two = rows([[1, 0], [0, 1]])
    with pytest.raises(ValueError, match=r"images has shape \(2, 2\) and classes \(1, 3\)"):
        accuracy(two, rows([[1, 0, 0]]), [0, 0])
    with pytest.raises(ValueError, match="1 labels for 2 images"):
        accuracy(two, two, [0])
    with pytest.raises(ValueError, match="labels has no class in row 1"):
        accuracy(two, two, [{0}, set()])
    with pytest.raises(ValueError, match=r"labels has \[0, 2\] in row 1; classes are 0..1"):
        accuracy(two, two, [{0}, {2, 0}])
    with pytest.raises(ValueError, match=r"labels has \[-1\] in row 0"):
        chance([-1], 2)
    with pytest.raises(ValueError, match="labels is empty"):
        chance([], 2)
    with pytest.raises(ValueError, match="every k must be at least 1"):
        accuracy(two, two, [0, 1], ks=(0, 1))
    with pytest.raises(ValueError, match=r"accuracy: classes holds NaN or infinity \(first in row 1\)"):
        accuracy(two, rows([[1, 0], [np.nan, 1]]), [0, 1])
