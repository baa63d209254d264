"""What an alignment retrieves, and that a gallery is read in the latents of the query."""

import numpy as np
import pytest
from scipy import sparse

from xsae.alignments import Hungarian, LinearAlignment, Partners, Procrustes
from xsae.evaluation.aligned import recall_both_ways, sparsity
from xsae.evaluation.retrieval import recall


class Fixed(LinearAlignment):
    def __init__(self, weights, back):
        self.weights_, self.back_weights_ = sparse.csr_array(weights), sparse.csr_array(back)


def codes(n: int, width: int, seed: int) -> sparse.csr_array:
    rng = np.random.default_rng(seed)
    return sparse.csr_array((rng.random((n, width)) < 0.3) * rng.exponential(size=(n, width)))


def test_each_direction_maps_its_gallery():
    own = {"image": codes(40, 5, 0), "text": codes(40, 4, 1)}
    rng = np.random.default_rng(2)
    forward, back = rng.standard_normal((5, 4)), rng.standard_normal((4, 5))
    means = {m: rng.random(x.shape[1]) for m, x in own.items()}
    ids = {m: np.arange(40) for m in own}
    found = recall_both_ways(Fixed(forward, back), means, own, ids)
    x = {m: own[m].toarray() - means[m] for m in own}
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
    few, one = (recall_both_ways(own.fit(a[train], b[train]), means, held, ids) for own in (Partners(), Hungarian()))
    for direction in few:
        assert few[direction]["R@1"] > one[direction]["R@1"] + 0.1
