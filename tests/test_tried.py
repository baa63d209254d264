"""The ideas that were tried do what their names say, on codes made by hand, and are asked about unseen pairs."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.special import log_softmax

from benchmarks import ideas, tried
from benchmarks.ideas import IDEAS, Idea
from xsae.evaluation.retrieval import recall

DENSE = [name for name in IDEAS if name.startswith("*") and not name.startswith("**")]


def codes(n: int, width: int, seed: int) -> sparse.csr_array:
    rng = np.random.default_rng(seed)
    return sparse.csr_array((rng.random((n, width)) < 0.3) * rng.exponential(size=(n, width)))


def partner(a: sparse.csr_array, seed: int) -> sparse.csr_array:
    """Half of what is active in a, under other indices, beside other activity."""
    rng = np.random.default_rng(seed)
    kept = a.toarray() * (rng.random(a.shape) < 0.7) + codes(*a.shape, seed + 1).toarray() * (rng.random(a.shape) < 0.1)
    return sparse.csr_array(kept[:, np.random.default_rng(9).permutation(a.shape[1])])


@pytest.mark.parametrize("name", IDEAS)
def test_every_idea_finds_the_partners_of_a_permuted_copy(name):
    a = codes(700, 12, 0)
    b = a[:, np.random.default_rng(1).permutation(12)]
    fitted, asked = {"image": a[:500], "text": b[:500]}, {"image": a[500:], "text": b[500:]}
    found = tried.recalls(IDEAS[name], fitted, asked, {m: np.arange(200) for m in asked})
    copies = recall(a[500:], a[500:], np.arange(200), np.arange(200))["R@1"]  # codes without activity are all alike
    assert list(found) == ["image to text", "text to image"] and min(found.values()) > copies - 0.06


@pytest.mark.parametrize("name", IDEAS)
def test_every_idea_but_the_dense_ones_has_at_most_four_partners_by_its_own_support(name):
    a = codes(600, 14, 0)
    forward, back = IDEAS[name].fit(a, partner(a, 3))
    assert forward.shape == (14, 14) and np.isfinite(forward).all() and np.isfinite(back).all()
    each = np.count_nonzero(forward, axis=1), np.count_nonzero(back, axis=1)
    if name in DENSE:
        assert min(map(min, each)) == 14
    elif "*text* latent" in name:
        assert each[1].max() == 4 and np.array_equal(forward != 0, back.T != 0)
    elif name.startswith(("4 partners", "the same by", "the same, cut", "the same cut")):
        assert each[0].max() == each[1].max() == 4
    else:
        assert 1 <= each[0].max() <= 4 and np.array_equal(forward != 0, back.T != 0)


def test_rotations_within_groups_are_rotations_of_groups_of_four():
    a = codes(800, 10, 0)
    forward, back = ideas.block_procrustes(a, partner(a, 3))
    np.testing.assert_allclose(forward @ forward.T, np.eye(10), atol=1e-9)
    np.testing.assert_array_equal(back, forward.T)
    assert sorted(np.count_nonzero(forward, axis=1)) == [2] * 2 + [4] * 8


def test_the_best_partners_win_by_hand():
    # b's latents 0 and 1 are halves of a's latent 0; a's latent 1 is b's 2
    rng = np.random.default_rng(0)
    a = rng.exponential(size=(4000, 2))
    half = rng.random(4000) < 0.5
    b = np.column_stack([a[:, 0] * half, a[:, 0] * ~half, a[:, 1]])
    forward, back = ideas.support_per_direction(sparse.csr_array(a), sparse.csr_array(b))
    np.testing.assert_allclose(forward, [[1, 1, 0], [0, 0, 1]], atol=0.05)
    np.testing.assert_allclose(ideas.hard_thresholding(sparse.csr_array(a), sparse.csr_array(b))[0], forward, atol=0.05)
    assert np.abs(ideas.cut_ridge(sparse.csr_array(a), sparse.csr_array(b), rank=1)[0]).max(axis=1).min() > 0


def contrastive_loss(a: sparse.csr_array, b: sparse.csr_array, maps) -> float:
    """The mean over queries of -log softmax of its own item, both ways, the cosines over .05."""
    x, total = [matrix.toarray() - matrix.mean(axis=0) for matrix in (a, b)], 0.0
    for query, gallery, weights in zip(x, x[::-1], maps, strict=True):
        rows = [of / np.linalg.norm(of, axis=1, keepdims=True) for of in (query, gallery @ weights.T)]
        total += np.mean(-np.diag(log_softmax(rows[0] @ rows[1].T / 0.05, axis=1)))
    return total


def test_learned_weights_have_a_smaller_contrastive_loss_than_those_they_start_from():
    a = codes(1000, 20, 0)
    b = partner(a, 3)
    chosen = IDEAS["**one support per image latent, λ = 5 · variance / n (chosen)**"].fit(a, b)
    learned = ideas.contrastive(a, b)
    assert contrastive_loss(a, b, learned) < contrastive_loss(a, b, chosen) - 0.1


def test_gallery_or_query_is_mapped_and_divided_by_hand():
    held = {"image": codes(40, 5, 0), "text": codes(40, 4, 1)}
    rng = np.random.default_rng(2)
    maps = rng.standard_normal((5, 4)), rng.standard_normal((4, 5))
    ids = {m: np.arange(40) for m in held}
    dense = {m: x.toarray() for m, x in held.items()}
    x = {m: of - of.mean(axis=0) for m, of in dense.items()}
    root = {m: np.sqrt(of.std(axis=0)) for m, of in dense.items()}
    for divided, of_query in ((False, False), (True, False), (False, True), (True, True)):
        found = tried.recalls(Idea(lambda *_: maps, divided, of_query), held, held, ids)
        d = root if divided else dict.fromkeys(root, 1.0)
        if of_query:
            rows = x["image"] @ maps[1].T / d["text"], x["text"] / d["text"]
        else:
            rows = x["image"] / d["image"], x["text"] @ maps[0].T / d["image"]
        assert found["image to text"] == recall(*rows, ids["image"], ids["text"])["R@1"]


class Own:
    """Six images of two captions each, whose codes are their own numbers."""

    modalities = ("image", "text")

    def __getitem__(self, modality):
        return np.arange(6 if modality == "image" else 12)

    def split(self, name):
        return pd.DataFrame({"image": np.repeat(np.arange(6), 2), "text": np.arange(12)})

    def transform(self, modality, x):
        return sparse.csr_array(np.array(x)[:, None] + 1.0)


def test_no_image_that_is_asked_about_aligns(monkeypatch):
    asked_images = []
    for fitted, asked, ids in tried.folds(Own(), Own(), 3, 3):
        image, text = (rows.toarray()[:, 0] - 1 for rows in asked.values())
        assert len(image) == 2 and len(text) == 4 and fitted["image"].shape[0] == fitted["text"].shape[0] == 8
        assert set(text) == {2 * i + j for i in image for j in (0, 1)}
        assert not set(image) & set(fitted["image"].toarray()[:, 0] - 1)
        assert ids["image"].tolist() == image.tolist() and ids["text"].tolist() == (text // 2).tolist()
        asked_images += image.tolist()
    assert sorted(asked_images) == list(range(6))
    monkeypatch.setattr(tried, "ASKED", 1)
    assert [asked["text"].shape[0] for _, asked, _ in tried.folds(Own(), Own(), 3, 1)] == [2]


def test_the_table_goes_into_the_documentation_and_nothing_else_changes():
    text = tried.DOCS.read_text()
    rows = [
        {"data": data, "idea": idea, "direction": way, "mean": value}
        for data, value in (("vit", 0.5), ("real pairs", 0.25))
        for idea in IDEAS
        for way in ("image to text", "text to image")
    ]
    changed = tried.into_docs(text, pd.DataFrame(rows))
    table = [line for line in changed.splitlines() if line.endswith("| .500 / .500 | .250 / .250 |")]
    assert [line.split(" | ")[0][2:] for line in table] == list(IDEAS) and "| idea | `vit` | real pairs |" in changed
    before, after = text.split("| idea |")
    assert changed.startswith(before) and changed.endswith(after.partition("\n\n")[2])
    assert tried.into_docs(changed, pd.DataFrame(rows)) == changed
