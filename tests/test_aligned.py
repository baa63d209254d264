"""What an alignment retrieves, and that a gallery is read in the latents of the query."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from xsae.alignment import Alignment
from xsae.alignments import Hungarian, LinearAlignment, Partners, Procrustes
from xsae.evaluation.aligned import (
    KEPT,
    mapped_monosemanticity,
    recall_both_ways,
    sparsity,
    steering_directions,
    steering_figures,
)
from xsae.evaluation.monosemanticity import monosemanticity
from xsae.evaluation.retrieval import recall
from xsae.evaluation.steering import HeldOut, concept_latent, steer_concepts, steer_concepts_along


class Fixed(LinearAlignment):
    def __init__(self, weights, back):
        self.weights_, self.back_weights_ = sparse.csr_array(weights), sparse.csr_array(back)


def codes(n: int, width: int, seed: int) -> sparse.csr_array:
    rng = np.random.default_rng(seed)
    return sparse.csr_array((rng.random((n, width)) < 0.3) * rng.exponential(size=(n, width)))


def test_each_direction_maps_its_gallery():
    held = {"image": codes(40, 5, 0), "text": codes(40, 4, 1)}
    rng = np.random.default_rng(2)
    forward, back = rng.standard_normal((5, 4)), rng.standard_normal((4, 5))
    means = {m: rng.random(x.shape[1]) for m, x in held.items()}
    ids = {m: np.arange(40) for m in held}
    found = recall_both_ways(Fixed(forward, back), means, held, ids)
    x = {m: held[m].toarray() - means[m] for m in held}
    expected = {
        "image_to_text": recall(x["image"], x["text"] @ forward.T, ids["image"], ids["text"]),
        "text_to_image": recall(x["text"], x["image"] @ back.T, ids["text"], ids["image"]),
    }
    assert found == expected


def test_rotations_and_permutations_retrieve_alike_whichever_side_is_mapped():
    a, b = codes(300, 6, 0), codes(300, 6, 0)[:, [3, 1, 5, 0, 2, 4]]
    means = {"image": np.asarray(a.mean(axis=0)), "text": np.asarray(b.mean(axis=0))}
    ids = {"image": np.arange(300), "text": np.arange(300)}
    for alignment in (Hungarian(), Procrustes()):
        found = recall_both_ways(alignment.fit(a, b), means, {"image": a, "text": b}, ids)
        mapped = alignment.transform(b)
        mapped = mapped.toarray() if sparse.issparse(mapped) else mapped
        gallery = a.toarray() - means["image"]
        other = recall(mapped - mapped.mean(axis=0), gallery, ids["text"], ids["image"])
        assert found["text_to_image"]["R@1"] == pytest.approx(other["R@1"], abs=0.01)


def test_sparsity_by_hand():
    weights = np.array([[1.0, 0.5, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 0.0]])
    figures = sparsity(Fixed(weights, weights.T), sparse.csr_array(np.array([[0.0, 1, 0], [0, 0, 1]])))
    # partners 2, 1 and none; latent 1 serves two; the first code fires latents 0 and 1, the second none
    assert figures == {"partners": 1.5, "partners_max": 2, "shared_by_max": 2, "l0": 1.0}


def test_partners_retrieve_better_than_one_partner_where_latents_are_split():
    rng = np.random.default_rng(0)
    a = codes(2000, 12, 1)
    half = rng.random(a.shape) < 0.5
    b = np.hstack([a.toarray() * half, a.toarray() * ~half])
    b = sparse.csr_array(b + 0.1 * rng.standard_normal(b.shape))
    a = sparse.csr_array(np.hstack([a.toarray(), np.zeros(a.shape)]))  # of one width, as Hungarian asks
    train, test = slice(1500), slice(1500, None)
    means = {"image": np.asarray(a[train].mean(axis=0)), "text": np.asarray(b[train].mean(axis=0))}
    held, ids = {"image": a[test], "text": b[test]}, {"image": np.arange(500), "text": np.arange(500)}
    few, one = (
        recall_both_ways(alignment.fit(a[train], b[train]), means, held, ids) for alignment in (Partners(), Hungarian())
    )
    for direction in few:
        assert few[direction]["R@1"] > one[direction]["R@1"] + 0.1


def test_monosemanticity_of_mapped_latents_by_hand():
    # Mapped latent 0 is latents 0 and 1 together: it fires on three rows. Latent 1 is 2 minus 0: on the third alone,
    # for what is negative does not fire, and so it has no score. Latent 2 is nobody.
    weights = np.array([[1.0, 1, 0], [-1, 0, 1], [0, 0, 0]])
    other = sparse.csr_array(np.array([[2.0, 0, 1], [0, 2, 0], [1, 1, 3], [0, 0, 0]]))
    judge = np.array([[1.0, 0], [0, 1], [1, 0], [1, 0]])  # of three pairs of rows, all equally active, one is alike
    found = mapped_monosemanticity(Fixed(weights, weights.T), other, judge)
    assert found == {"ms_mean": pytest.approx(1 / 3), "ms_scored": 1}
    nothing = mapped_monosemanticity(Fixed(0 * weights, weights.T), other, judge)
    assert np.isnan(nothing["ms_mean"]) and nothing["ms_scored"] == 0


def test_one_partner_leaves_the_scores_of_the_others_own_latents():
    a, b = codes(200, 6, 0), codes(200, 6, 1)
    judge = np.random.default_rng(2).standard_normal((200, 4))
    found = mapped_monosemanticity(Hungarian().fit(a, b), b, judge)
    assert found == {"ms_mean": pytest.approx(monosemanticity(b, judge).mean()), "ms_scored": 6}


def test_a_concept_is_pushed_where_the_map_says_by_hand():
    text = sparse.csr_array(np.array([[5.0, 2, 0], [5, 2, 0], [0, 0, 1], [0, 0, 1]]))
    naming = {"a": np.array([True, True, False, False]), "b": np.array([False, False, True, True])}
    dictionary = np.array([[1.0, 0], [0, 1]])
    # Latent 0 tells `a` best, but is nobody's partner; 1 is. Latent 2 is partner of both image latents.
    weights = np.array([[0, 3.0, 1], [0, 0, 2]])
    found = steering_directions(Fixed(weights, weights.T), text, naming, dictionary, seed=0)
    np.testing.assert_array_equal(found["a"], [3, 0])
    np.testing.assert_array_equal(found["b"], [1, 2])
    only_b = np.array([[0, 0, 1.0], [0, 0, 0]])  # and nothing that has a partner tells `a`
    assert list(steering_directions(Fixed(only_b, only_b.T), text, naming, dictionary, seed=0)) == ["b"]


def test_with_one_partner_it_is_the_papers_steering():
    rng = np.random.default_rng(0)
    image, text, dictionary = codes(60, 8, 0), codes(60, 8, 1), rng.standard_normal((8, 5))
    x = rng.standard_normal((60, 5))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    flags = {name: rng.random(60) < 0.4 for name in "ab"}
    held_out = HeldOut(x, x[::-1].copy(), flags, flags)
    to_paper, bias = Alignment().fit(image, text).transform(text), np.ones(5)
    latents = {name: concept_latent(to_paper, names, 3) for name, names in flags.items()}
    about = {"held_out": held_out, "alphas": (0.0, 0.5, 2.0), "seed": 3}
    expected = steer_concepts(latents=latents, codes=image, dictionary=dictionary, bias=bias, **about)
    pushed = steering_directions(Hungarian().fit(image, text), text, flags, dictionary, seed=3)
    found = steer_concepts_along(directions=pushed, pushed=image @ dictionary + bias, **about)
    pd.testing.assert_frame_equal(found, expected)


def test_figures_of_steering_by_hand():
    about = [("a", 0.0, 0.75, 0.1), ("a", 2.0, 0.55, 0.3), ("b", 0.0, 0.7, 0.2), ("b", 2.0, 0.6, 0.4)]
    rows = pd.DataFrame(about, columns=["concept", "alpha", "preservation", "mAP"]).assign(gallery="images")
    # .65 is half of the way for either concept
    expected = {"steered": 2, "mAP_images": 0.35, "preservation": 0.575, "mAP_images_kept": 0.25}
    assert KEPT == 0.65 and steering_figures(rows) == pytest.approx(expected)
    short = rows.assign(preservation=rows["preservation"].replace(0.6, 0.66))  # b is never pushed so far
    assert np.isnan(steering_figures(short)["mAP_images_kept"])
    assert steering_figures(rows.iloc[:0]) == {"steered": 0}
