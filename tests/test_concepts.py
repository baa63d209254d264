import numpy as np
import pytest

from xsae.evaluation.concepts import concept_cosines, concept_directions

HOLDS = [{"a"}, {"a", "b"}, {"b"}, set()]


def drawn(rng, n, concepts, share=0.3):
    """Labels of n rows, each concept present by chance, and their indicators (n, c)."""
    presence = rng.random((n, len(concepts))) < share
    return [[concept for concept, holds in zip(concepts, row, strict=True) if holds] for row in presence], presence


def directions_at(rng, cosines, d):
    """Image directions and text directions (c, d), all of one modality orthogonal, at the given cosines."""
    cosines = np.asarray(cosines)[:, None]
    basis = np.linalg.qr(rng.standard_normal((d, 2 * len(cosines))))[0].T
    image, other = np.split(basis, 2)
    return image, cosines * image + np.sqrt(1 - cosines**2) * other


# --- the directions ---------------------------------------------------------------------------------------------------


def test_directions_by_hand():
    # (1, 1) plus (3, 4) where a is, plus (0, -2) where b is; c is no concept here
    x = np.array([[4, 5], [4, 3], [1, -1], [1, 1]])
    labels = [["a", "a"], ["b", "a", "c"], ["b"], []]
    np.testing.assert_allclose(concept_directions(x, labels, ["b", "a"]), [[0, -1], [0.6, 0.8]], atol=1e-12)


def test_a_concept_does_not_inherit_the_direction_of_one_that_often_comes_with_it():
    # a is (1, 0), b (0, 1); they share 8 of 10 rows each. A difference of means would point a at (1, .6).
    labels = [{"a", "b"}] * 8 + [{"a"}] * 2 + [{"b"}] * 2 + [set()] * 8
    x = np.array([["a" in row, "b" in row] for row in labels], dtype=np.float32)
    np.testing.assert_allclose(concept_directions(x, labels, ["a", "b"]), np.eye(2), atol=1e-6)


@pytest.mark.parametrize("often", [1, 50])
def test_one_of_several_exclusive_concepts_points_from_the_mean_of_the_others_to_itself(often):
    # (3, 0), (0, 3), (0, 0). a: from (0, 1.5) to (3, 0); c: from (1.5, 1.5) to (0, 0); however often a is there
    x = np.array([[3, 0]] * often + [[0, 3], [0, 0]], dtype=np.float32) + 7
    found = concept_directions(x, ["a"] * often + ["b", "c"], ["a", "b", "c"])
    expected = np.array([[2, -1], [-1, 2], [-1, -1]]) / np.sqrt([[5], [5], [2]])
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_exclusive_concepts_leave_the_others_directions_alone():
    rng = np.random.default_rng(0)
    labels, presence = drawn(rng, 400, ["red", "blue"])
    place = rng.integers(0, 4, 400)
    truth = np.linalg.qr(rng.standard_normal((20, 6)))[0].T
    x = presence @ truth[:2] + truth[2:][place] + 5
    names = ["red", "blue", *"wxyz"]
    found = concept_directions(x, [[*row, "wxyz"[at]] for row, at in zip(labels, place, strict=True)], names)
    centred = truth[2:] - truth[2:].mean(axis=0)
    np.testing.assert_allclose(found[:2], truth[:2], atol=1e-10)
    np.testing.assert_allclose(found[2:], centred / np.linalg.norm(centred, axis=1, keepdims=True), atol=1e-10)


def test_concepts_that_are_always_together_have_one_direction():
    found = concept_directions(np.array([[2.0, 0], [0, 0]]), [{"a", "b"}, set()], ["a", "b"])
    np.testing.assert_allclose(found, [[1, 0], [1, 0]], atol=1e-12)


def test_more_rows_than_are_read_at_one_time_give_the_same(monkeypatch):
    rng = np.random.default_rng(1)
    labels, _ = drawn(rng, 50, list("abc"))
    x = rng.standard_normal((50, 4)).astype(np.float16)
    whole = concept_directions(x, labels, list("abc"))
    monkeypatch.setattr("xsae.evaluation.concepts._BLOCK", 7)
    np.testing.assert_allclose(concept_directions(x, labels, list("abc")), whole, atol=1e-12)
    design = np.column_stack([[[name in row for name in "abc"] for row in labels], np.ones(50)])
    dense = np.linalg.lstsq(design.astype(float), x.astype(float))[0][:3]
    np.testing.assert_allclose(whole, dense / np.linalg.norm(dense, axis=1, keepdims=True), atol=1e-10)


@pytest.mark.parametrize(
    ("x", "labels", "concepts", "message"),
    [
        (np.eye(3), HOLDS, ["a"], r"x has shape \(3, 3\), with labels of 4 rows"),
        (np.ones(4), HOLDS, ["a"], r"x has shape \(4,\)"),
        (np.diag([1, 1, 1, np.nan]), HOLDS, ["a"], "x holds NaN or infinity"),
        (np.eye(4), HOLDS, [], "at least one is needed"),
        (np.eye(4), HOLDS, ["a", "a"], "none twice"),
        (np.eye(4), HOLDS, ["a", "z"], "0 of 4 rows carry 'z'"),
        (np.eye(4), [{"a"}] * 4, ["a"], "4 of 4 rows carry 'a'"),
        (np.zeros((4, 2)), HOLDS, ["a"], "1 rows are zero"),
    ],
)
def test_directions_say_what_does_not_fit(x, labels, concepts, message):
    with pytest.raises(ValueError, match=message):
        concept_directions(x, labels, concepts)


# --- image against text -----------------------------------------------------------------------------------------------


def test_without_noise_the_cosine_is_exact_and_the_ceiling_one():
    # image: a along (3, 4), b along (1, 0); text: a along (1, 0), b along (1, 0). Cosines .6 and 1.
    image = np.array([[3, 4], [4, 4], [1, 0], [0, 0]] * 4)
    text = np.array([[2, 1], [3, 1], [1, 1], [0, 1]] * 6)
    table = concept_cosines(image, text, [*HOLDS] * 4, [{*row, "only text"} for row in HOLDS] * 6, seed=0, least=2)
    assert table["concept"].tolist() == ["a", "b"]
    np.testing.assert_allclose(table["cosine"], [0.6, 1.0])
    for column in ("split_half_image", "split_half_text", "ceiling"):
        np.testing.assert_allclose(table[column], 1.0)
    assert table["n_image"].tolist() == [8, 8] and table["n_text"].tolist() == [12, 12]


def test_cosine_over_ceiling_is_the_true_cosine_through_noise():
    rng = np.random.default_rng(0)
    true = np.linspace(0.2, 1.0, 9)
    directions, names = directions_at(rng, true, 256), [f"c{i}" for i in range(9)]
    (image_labels, held), (text_labels, named) = drawn(rng, 2000, names), drawn(rng, 6000, names, share=0.1)
    image = held @ directions[0] + 0.6 * rng.standard_normal((2000, 256)) + 3
    text = named @ directions[1] + 0.6 * rng.standard_normal((6000, 256))
    table = concept_cosines(image, text, image_labels, text_labels, seed=0)
    assert table["ceiling"].between(0.75, 0.9).all()
    assert (true[5:] - table["cosine"][5:] > 0.05).all()  # what the plain cosine would claim to be heterogeneity
    np.testing.assert_allclose(table["cosine"] / table["ceiling"], true, atol=0.1)


def test_equal_directions_reach_the_ceiling_and_no_more():
    rng = np.random.default_rng(1)
    direction, names = np.linalg.qr(rng.standard_normal((96, 40)))[0].T, [f"c{i:02}" for i in range(40)]
    (image_labels, held), (text_labels, named) = drawn(rng, 1500, names), drawn(rng, 3000, names)
    noise = rng.standard_normal((4500, 96))
    image, text = held @ direction + 0.75 * noise[:1500], named @ direction + noise[1500:]
    table = concept_cosines(image, text, image_labels, text_labels, seed=0)
    assert table["cosine"].mean() < 0.9
    assert (table["cosine"] / table["ceiling"]).mean() == pytest.approx(1, abs=0.02)


def test_the_ceiling_is_its_formula_and_noise_alone_has_none():
    rng = np.random.default_rng(2)
    names = [f"c{i:02}" for i in range(30)]
    (image_labels, _), (text_labels, _) = drawn(rng, 500, names), drawn(rng, 500, names)
    image, text = rng.standard_normal((500, 50)), rng.standard_normal((500, 50))
    table = concept_cosines(image, text, image_labels, text_labels, seed=0)
    for column in ("split_half_image", "split_half_text"):  # a row in both halves would make them alike
        assert abs(table[column].mean()) < 0.06 and (table[column] < 0).any()
    r = table[["split_half_image", "split_half_text"]].clip(0, 1)
    np.testing.assert_allclose(table["ceiling"], np.sqrt((2 * r / (1 + r)).prod(axis=1)))


def test_what_images_cannot_identify_is_not_compared_with_text():
    # Each image has one of four places, half of the captions name it. Any caption that does moves along `named` too, as
    # far as along the place itself; images cannot tell this from their mean.
    rng = np.random.default_rng(3)
    basis = np.linalg.qr(rng.standard_normal((12, 5)))[0].T
    places, named = basis[:4], basis[4]
    place, said = rng.integers(0, 4, 4000), rng.random(4000) < 0.5
    image, text = places[place], said[:, None] * (places[place] + named)
    image_labels = [["wxyz"[at]] for at in place]
    text_labels = [row if speaks else [] for row, speaks in zip(image_labels, said, strict=True)]
    np.testing.assert_allclose(concept_cosines(image, text, image_labels, text_labels, seed=0)["cosine"], 1.0)
    image_direction = concept_directions(image, image_labels, list("wxyz"))
    text_direction = concept_directions(text, text_labels, list("wxyz"))
    assert ((image_direction * text_direction).sum(axis=1) < 0.65).all()  # sqrt(3) / 2 / sqrt(2) = .61


def test_a_concept_counts_if_enough_rows_of_each_half_have_it_and_enough_have_not():
    rng = np.random.default_rng(4)
    x, row = rng.standard_normal((400, 8)), np.arange(400)
    flags = {"half": row % 2 == 0, "rare": row % 20 == 0, "usual": row % 20 != 0}
    rarely = {**flags, "half": row % 20 == 1}
    labels, text_labels = ([[name for name in carried if carried[name][i]] for i in row] for carried in (flags, rarely))
    assert concept_cosines(x, x, labels, labels, seed=0)["concept"].tolist() == ["half"]
    assert concept_cosines(x, x, labels, labels, seed=0, least=4)["concept"].tolist() == ["half", "rare", "usual"]
    with pytest.raises(ValueError, match="of 3 concepts in both image_labels and text_labels none is carried"):
        concept_cosines(x, x, labels, text_labels, seed=0)


def test_the_same_seed_gives_the_same_table_and_another_other_halves():
    rng = np.random.default_rng(5)
    labels, _ = drawn(rng, 300, ["a", "b"])
    x = rng.standard_normal((300, 4))
    first, again, other = (concept_cosines(x, x, labels, labels, seed, least=20) for seed in (0, 0, 1))
    assert first.equals(again)
    assert first["cosine"].equals(other["cosine"]) and not first["ceiling"].equals(other["ceiling"])


def test_cosines_say_what_does_not_fit():
    x = np.eye(4)
    with pytest.raises(ValueError, match=r"text has shape \(4, 4\), with labels of 3 rows"):
        concept_cosines(x, x, HOLDS, HOLDS[:3], seed=0, least=1)
    with pytest.raises(ValueError, match="image has 4 dimensions and text 3"):
        concept_cosines(x, x[:, :3], HOLDS, HOLDS, seed=0, least=1)
    with pytest.raises(ValueError, match="least is 0"):
        concept_cosines(x, x, HOLDS, HOLDS, seed=0, least=0)
    with pytest.raises(ValueError, match="of 0 concepts in both"):
        concept_cosines(x, x, HOLDS, [{"z"}] * 4, seed=0, least=1)
