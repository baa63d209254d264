import numpy as np
import pytest
from scipy.sparse import csr_array

from xsae.evaluation.labels import label_agreement, label_latents, purity

HOLDS = [{"a"}, {"a", "b"}, {"b"}, set()]


def test_a_case_done_by_hand():
    # columns: fires on a | on b | on a (image), b (text) | image only | dead
    image = csr_array(np.array([[1, 0, 1, 1, 0], [1, 1, 1, 1, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0, 0]], float))
    text = csr_array(np.array([[2, 0, 0, 0, 0], [2, 3, 1, 0, 0], [0, 3, 1, 0, 0], [0, 0, 0, 0, 0]], float))
    figures = label_agreement(image, text, HOLDS, HOLDS)
    assert figures == {"agreement": 2 / 4, "alive": 4, "ceiling": 3 / 4}


def test_concepts_of_one_side_only_are_no_labels():
    codes = csr_array(np.array([[1.0], [1.0], [0.0], [0.0]]))
    named = [{"a"}, {"a"}, {"c"}, set()]
    assert label_agreement(codes, codes, [{"a", "x"}, {"a", "x"}, set(), set()], named)["agreement"] == 1


def test_a_latent_that_is_always_on_has_no_label():
    on = csr_array(np.ones((4, 1)))
    assert label_agreement(on, on, HOLDS, HOLDS) == {"agreement": 0, "alive": 1, "ceiling": 0}


@pytest.mark.parametrize(
    ("image", "text", "image_labels", "text_labels", "message"),
    [
        (np.ones((4, 2)), np.ones((4, 3)), HOLDS, HOLDS, "one row per pair and one width"),
        (np.ones((4, 2)), np.ones((4, 2)), HOLDS[:3], HOLDS, "one row per pair and one width"),
        (np.ones((4, 2)), np.ones((4, 2)), HOLDS, [{"z"}] * 4, "no concept occurs"),
        (np.zeros((4, 2)), np.zeros((4, 2)), HOLDS, HOLDS, "no latent is alive"),
    ],
)
def test_what_does_not_fit_says_so(image, text, image_labels, text_labels, message):
    with pytest.raises(ValueError, match=message):
        label_agreement(csr_array(image), csr_array(text), image_labels, text_labels)


def test_purity_by_hand():
    # a latent labelled `a` fires 3 on rows with it and 1 on one without; one labelled `b` never where b is; one is dead
    codes = csr_array(np.array([[1, 0, 0], [2, 1, 0], [0, 0, 0], [1, 0, 0]], float))
    found = purity(codes, [{"a"}, {"a"}, {"b"}, set()], ["a", "b"], np.array([0, 1, 0]))
    np.testing.assert_array_equal(found, [3 / 4, 0, np.nan])
    assert np.isnan(purity(codes, HOLDS, ["a", "b"], np.array([-1, -1, -1]))).all()


def test_latents_are_labelled_by_what_they_correlate_with():
    codes = csr_array(np.array([[1, 0, 1], [1, 1, 1], [0, 1, 1], [0, 0, 1]], float))
    assert label_latents(codes, HOLDS, ["a", "b"]).tolist() == [0, 1, -1]
