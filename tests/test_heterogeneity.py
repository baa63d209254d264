from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from xsae.alignment import Alignment
from xsae.evaluation.concepts import labelled_concepts
from xsae.evaluation.heterogeneity import (
    compare,
    controls,
    direction_gap,
    gap_at_equal_correlation,
    gap_by_bin,
    gap_density,
    modality_split,
)

REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "coco_val2017_clip_vitb16_500pairs.npz"


def swapped() -> Alignment:
    """Latents 0, 1 of the reference fire as latents 1, 0 of the other; latent 2 is dead on both sides."""
    codes = np.array([[1, 0, 0], [2, 0, 0], [0, 1, 0], [0, 3, 0]], dtype=np.float32)
    return Alignment().fit(sparse.csr_array(codes), sparse.csr_array(codes[:, [1, 0, 2]]))


def test_direction_gap_by_hand():
    # Match 0: (3, 0) with row 1 of b, (3, 4): cosine .6, gap .4. Match 1: (0, 2) with row 0, (0, -1): cosine -1, gap 2.
    # Latent 2 is dead and unmatched: no row, and its zero direction is no error.
    gaps = direction_gap(np.array([[3, 0], [0, 2], [0, 0]]), np.array([[0, -1], [3, 4], [0, 0]]), swapped())
    expected = pd.DataFrame({"latent": [0, 1], "correlation": np.ones(2, np.float32), "gap": [0.4, 2.0]})
    pd.testing.assert_frame_equal(gaps, expected)


def test_no_gap_between_a_dictionary_and_its_permuted_copy():
    rng = np.random.default_rng(0)
    codes = sparse.csr_array((rng.random((200, 12)) < 0.3) * rng.random((200, 12)), dtype=np.float32)
    dictionary, order = rng.standard_normal((12, 5)).astype(np.float32), rng.permutation(12)
    gaps = direction_gap(dictionary, 3 * dictionary[order], Alignment().fit(codes, codes[:, order]))
    assert len(gaps) == 12
    np.testing.assert_allclose(gaps["gap"], 0.0, atol=1e-6)


def test_direction_gap_errors():
    with pytest.raises(ValueError, match=r"dictionary_a has shape \(3, 2\) and dictionary_b \(3, 4\)"):
        direction_gap(np.ones((3, 2)), np.ones((3, 4)), swapped())
    with pytest.raises(ValueError, match=r"expected \(3, d\)"):
        direction_gap(np.ones((2, 2)), np.ones((2, 2)), swapped())
    with pytest.raises(ValueError, match="matched rows of dictionary_b: 1 rows are zero or not finite"):
        direction_gap(np.ones((3, 2)), np.array([[1, 1], [0, 0], [1, 1]]), swapped())


def test_bins_hold_their_lower_edge_and_the_last_one_its_upper():
    gaps = pd.DataFrame(
        {
            "latent": range(8),
            "correlation": np.array([-0.1, 0.0, 0.19, 0.2, 0.6, 0.8, 0.9, 1.0], dtype=np.float32),
            "gap": [9.0, 1.0, 3.0, 0.5, 0.25, 0.1, 0.2, 0.6],
        }
    )
    table = gap_by_bin(gaps)
    assert table["bin"].tolist() == ["[0.0,0.2)", "[0.2,0.4)", "[0.4,0.6)", "[0.6,0.8)", "[0.8,1.0]"]
    assert table["n"].tolist() == [2, 1, 0, 1, 3]
    assert table["n_excluded"].tolist() == [1] * 5  # the correlation of -.1
    # bin 1: 1 and 3, mean 2, ddof 1: sqrt((1 + 1) / 1) = √2. bin 5: .1, .2, .6, mean .3, median .2,
    # ddof 1: sqrt((.04 + .01 + .09) / 2) = sqrt(.07)
    np.testing.assert_allclose(table["gap_mean"], [2.0, 0.5, np.nan, 0.25, 0.3])
    np.testing.assert_allclose(table["gap_std"], [2**0.5, np.nan, np.nan, np.nan, 0.07**0.5])
    np.testing.assert_allclose(table["gap_median"], [2.0, 0.5, np.nan, 0.25, 0.2])


def test_bins_of_no_matches_and_bad_edges():
    empty = pd.DataFrame({"latent": [], "correlation": [], "gap": []}, dtype=float)
    table = gap_by_bin(empty, edges=(0, 0.5, 1))
    assert table["n"].tolist() == [0, 0]
    assert table["n_excluded"].tolist() == [0, 0]
    assert table["gap_mean"].isna().all()
    for edges in ((0.0,), (0.0, 0.5, 0.5)):
        with pytest.raises(ValueError, match="increasing"):
            gap_by_bin(empty, edges=edges)


def matches(correlation, gap) -> pd.DataFrame:
    return pd.DataFrame({"latent": range(len(gap)), "correlation": np.array(correlation), "gap": np.array(gap, float)})


def test_gaps_at_equal_correlation_by_hand():
    # Bins of .1. First: cross 1, .8 (mean .9), control .4, .2, .3 (.3). Second: one match of cross only, too few.
    # Third: cross .5, .6, .7 (.6), control .1, .2, .3 (.2). Fourth: control only. Weights 2 and 3, as many as of cross:
    # cross (1.8 + 1.8) / 5, control (.6 + .6) / 5. Of the cross-modal matches 6 correlate positively.
    cross = matches([0.05, 0.01, 0.15, 0.21, 0.25, 0.29, -0.1, 0.0], [1, 0.8, 9, 0.5, 0.6, 0.7, 9, 9])
    control = matches(
        [0.09, 0.02, 0.05, 0.15, 0.15, 0.2, 0.22, 0.24, 0.35, 0.36, -0.1], [0.4, 0.2, 0.3, 9, 9, 0.1, 0.2, 0.3, 9, 9, 9]
    )
    assert gap_at_equal_correlation(cross, control, least=2) == pytest.approx(
        {"difference": 0.48, "cross": 0.72, "control": 0.24, "n_cross": 5, "n_control": 6, "share": 5 / 6}
    )


def test_a_difference_that_is_all_due_to_the_correlation_is_none_at_equal_correlation():
    # The gap is 1 - correlation in both, but the control correlates more.
    low, high = np.linspace(0.005, 0.795, 80), np.linspace(0.205, 0.995, 80)
    cross, control = matches(low, 1 - low), matches(high, 1 - high)
    assert cross["gap"].mean() - control["gap"].mean() == pytest.approx(0.2)
    found = gap_at_equal_correlation(cross, control)
    assert found["difference"] == pytest.approx(0, abs=1e-9)
    assert (found["n_cross"], found["n_control"], found["share"]) == (60, 60, 0.75)
    assert gap_at_equal_correlation(matches(low, 1.3 - low), control)["difference"] == pytest.approx(0.3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("of_cross", "of_control", "together"), [(0.3, 0.35, 1), (0.3, 0.25, 0), (1, 0.95, 1), (1, 0.85, 0)]
)
def test_a_correlation_on_an_edge_belongs_to_the_bin_above_and_one_to_the_last(dtype, of_cross, of_control, together):
    cross, control = (matches(np.full(5, value, dtype), np.ones(5)) for value in (of_cross, of_control))
    assert gap_at_equal_correlation(cross, control)["n_cross"] == 5 * together


def test_where_nothing_is_comparable_the_difference_is_nan():
    few, none = matches([0.5] * 4, [1] * 4), matches([-0.5], [1])
    for cross, share in ((few, 0.0), (none, np.nan)):
        expected = {"difference": np.nan, "cross": np.nan, "control": np.nan, "n_cross": 0, "n_control": 0}
        found = gap_at_equal_correlation(cross, few)
        assert found == pytest.approx({**expected, "share": share}, nan_ok=True)
    assert gap_at_equal_correlation(few, few, width=0.3, least=4)["share"] == 1
    for width in (0.0, 1.5):
        with pytest.raises(ValueError, match="width is"):
            gap_at_equal_correlation(few, few, width=width)
    with pytest.raises(ValueError, match="least is 0"):
        gap_at_equal_correlation(few, few, least=0)


def trained(*modalities, seeds=(1, 2)):
    """Codes and directions by seed and modality: latents 0 and 1 fire on two pairs of four each, latent 2 is dead.

    Seed 2 has latents 0 and 1 the other way round; the directions of modality number m are turned by m · 60°.
    """
    fires = np.array([[1, 0, 0], [2, 0, 0], [0, 1, 0], [0, 3, 0]], dtype=np.float32)
    codes, directions = ({seed: {} for seed in seeds} for _ in range(2))
    for turn, modality in enumerate(modalities):
        angle = np.radians(60 * turn)
        rows = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)], [1, 0]])
        for seed, order in zip(seeds, ([0, 1, 2], [1, 0, 2]), strict=False):
            codes[seed][modality] = sparse.csr_array(fires[:, order])
            directions[seed][modality] = rows[order]
    return codes, directions


def test_every_seed_is_compared_across_modalities_and_every_two_seeds_within_one():
    found = list(compare(*trained("image", "text")))
    assert [tuple(settings.values()) for settings, _, _ in found] == [
        ("cross_modal", "text", 1, 1),
        ("cross_modal", "text", 2, 2),
        ("same_modality_image", "image", 1, 2),
        ("same_modality_text", "text", 1, 2),
    ]
    assert list(found[0][0]) == ["comparison", "modality", "seed", "other_seed"]
    for settings, gaps, _ in found:  # turned by 60°, cosine .5; two seeds are one dictionary in another order
        gap = 0.5 if settings["comparison"] == "cross_modal" else 0.0
        assert gaps["latent"].tolist() == [0, 1]
        np.testing.assert_allclose(gaps["correlation"], 1.0)
        np.testing.assert_allclose(gaps["gap"], gap, atol=1e-12)


def test_densities_are_over_all_pairs_of_alive_latents():
    # Latent 0 with 0 and 1 with 1: correlation 1, gap .5. Latents 0 and 1 exclude each other, which is a negative
    # correlation and no bin. Latent 2 is dead.
    _, _, density = next(compare(*trained("image", "text")))
    held = density[density["n"] > 0]
    assert held[["bin", "n"]].to_numpy().tolist() == [["[0.8,1.0]", 2]]
    assert held["low"].item() <= 0.5 + 1e-9 and held["high"].item() >= 0.5 - 1e-9


def test_more_modalities_are_compared_with_the_first_and_one_seed_has_no_control():
    settings = [settings for settings, _, _ in compare(*trained("audio", "image", "text", seeds=(3,)))]
    expected = [{"comparison": "cross_modal", "modality": m, "seed": 3, "other_seed": 3} for m in ("image", "text")]
    assert settings == expected


def compared(comparison, modality, seed, other_seed, correlation, gap):
    about = {"comparison": comparison, "modality": modality, "seed": seed, "other_seed": other_seed}
    return matches([correlation] * 5, [gap] * 5).assign(**about)


def test_the_control_of_a_seed_is_every_two_seeds_that_it_is_part_of():
    gaps = pd.concat(
        [
            *(compared("cross_modal", "text", seed, seed, 0.55, 0.5 + seed / 10) for seed in (1, 2, 3)),
            compared("same_modality_image", "image", 1, 2, 0.55, 0.1),
            compared("same_modality_image", "image", 1, 3, 0.55, 0.2),
            compared("same_modality_image", "image", 2, 3, 0.55, 0.3),
            compared("same_modality_text", "text", 1, 2, 0.55, 0.4),
            compared("same_modality_text", "text", 1, 3, 0.95, 0.4),  # correlates more: nothing to compare with
            compared("same_modality_text", "text", 2, 3, 0.55, 0.4),
        ]
    )
    found = list(controls(gaps.drop(columns="modality"), ("image", "text")))
    assert [tuple(settings.values()) for settings, _ in found] == [
        (f"same_modality_{name}", "text", seed) for name in ("image", "text") for seed in (1, 2, 3)
    ]
    assert [settings.keys() for settings, _ in found] == [{"control", "modality", "seed"}] * 6
    # image: .6 less the mean of .1 and .2, .7 less that of .1 and .3, .8 less that of .2 and .3; text: less .4 always
    differences = [figures["difference"] for _, figures in found]
    assert differences == pytest.approx([0.45, 0.5, 0.55, 0.2, 0.3, 0.4])
    assert [figures["n_control"] for _, figures in found] == [10, 10, 10, 5, 10, 5]


def test_controls_keep_modalities_apart_and_are_nan_without_a_second_seed():
    gaps = pd.concat(
        [compared("cross_modal", other, 1, 1, 0.55, gap) for other, gap in (("image", 0.6), ("text", 0.9))]
        + [compared("same_modality_audio", "audio", 1, 2, 0.55, 0.1)]
        + [compared("same_modality_text", "text", 1, 2, 0.55, 0.2)]
    )
    found = [
        (settings["modality"], settings["control"], of["difference"])
        for settings, of in controls(gaps, ("audio", "image", "text"))
    ]
    assert [row[:2] for row in found] == [
        (other, f"same_modality_{control}") for other in ("image", "text") for control in ("audio", other)
    ]
    assert [row[2] for row in found] == pytest.approx([0.5, np.nan, 0.8, 0.7], nan_ok=True)
    alone = list(controls(gaps[gaps["comparison"] == "cross_modal"], ("audio", "image", "text")))
    assert [(figures["n_cross"], figures["share"]) for _, figures in alone] == [(0, 0.0)] * 4


def labelled(n_images, rng):
    """Two captions per image; red is axis 0 of 20 in both modalities, star axis 1 in images and axis 2 in captions.

    A caption names what its image holds, but of its star nothing in every other caption. Rows of embeddings are in
    another order than pairs.
    """
    held = rng.random((n_images, 2)) < 0.5
    owner = np.repeat(np.arange(n_images), 2)
    named = held[owner] & np.array([[True, i % 2 == 0] for i in range(2 * n_images)])
    names = np.array(["colour:red", "shape:star"])
    pairs = pd.DataFrame(
        {
            "image": n_images - 1 - owner,
            "text": 2 * n_images - 1 - np.arange(2 * n_images),
            "concepts": [names[held[image]].tolist() for image in owner],
            "mentions": [names[row].tolist() for row in named],
        }
    )
    image = held @ np.eye(20)[[0, 1]] + 0.01 * rng.standard_normal((n_images, 20))
    text = named @ np.eye(20)[[0, 2]] + 0.01 * rng.standard_normal((2 * n_images, 20))
    return image[::-1], text[::-1], pairs, held, named


def test_known_concepts_by_kind_each_image_and_each_caption_once():
    image, text, pairs, held, named = labelled(200, np.random.default_rng(0))
    twice = pd.concat([pairs, pairs.tail(100)])  # pairs of their own, as where a caption has two images
    table = labelled_concepts(image, text, twice)
    assert table[["kind", "concept"]].to_numpy().tolist() == [["colour", "colour:red"], ["shape", "shape:star"]]
    np.testing.assert_allclose(table["cosine"], [1, 0], atol=0.01)
    np.testing.assert_allclose(table["ceiling"], 1, atol=0.01)
    assert table["n_image"].tolist() == held.sum(axis=0).tolist()
    assert table["n_text"].tolist() == named.sum(axis=0).tolist()


def test_concepts_that_noise_hides_are_left_out_and_too_few_rows_are_no_error():
    rng = np.random.default_rng(1)
    image, text, pairs, *_ = labelled(200, rng)
    hidden = text.copy()
    hidden[:, 2:] = rng.standard_normal((len(text), 18))  # of the star in captions nothing is left
    assert labelled_concepts(image, hidden, pairs)["concept"].tolist() == ["colour:red"]
    assert len(labelled_concepts(image, hidden, pairs, ceiling=0)) == 2
    few = labelled_concepts(image, text, pairs.head(40))
    assert few.empty and list(few) == list(labelled_concepts(image, text, pairs))
    nothing = pairs.assign(mentions=[[]] * len(pairs))
    assert labelled_concepts(image, text, nothing).empty


def test_gap_density_by_hand():
    # Gaps of (1, 0) and (0, 2) with (3, 0) and (3, 4): 0, .4; 1, .2. The third rows are dead: no pair, and no error.
    a, b = np.array([[1, 0], [0, 2], [0, 0]]), np.array([[0, 0], [3, 0], [3, 4]])
    correlation = np.array([[0, 0.2, 0.9], [0, -0.2, 1.0], [0, 0, 0]], dtype=np.float32)
    alive_a, alive_b = np.array([True, True, False]), np.array([False, True, True])
    table = gap_density(a, b, correlation, alive_a, alive_b, gap_edges=(0, 0.3, 1, 2))
    assert list(table) == ["bin", "low", "high", "n", "density"]
    assert (
        table["bin"].tolist()
        == np.repeat(["[0.0,0.2)", "[0.2,0.4)", "[0.4,0.6)", "[0.6,0.8)", "[0.8,1.0]"], 3).tolist()
    )
    assert table["low"].tolist() == [0, 0.3, 1] * 5 and table["high"].tolist() == [0.3, 1, 2] * 5
    # [.2, .4) holds the pair of gap 0; [.8, 1] those of .2 and .4; that of gap 1 correlates negatively
    assert table["n"].tolist() == [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0]
    nan = [np.nan] * 3
    np.testing.assert_allclose(table["density"], [*nan, 1 / 0.3, 0, 0, *nan, *nan, 0.5 / 0.3, 0.5 / 0.7, 0])


def test_gap_density_is_the_histogram_of_all_pairs_and_integrates_to_one():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((600, 6)).astype(np.float32), rng.standard_normal((90, 6)).astype(np.float32)
    correlation = rng.uniform(-1, 1, (600, 90)).astype(np.float32)
    alive_a, alive_b = rng.random(600) < 0.9, rng.random(90) < 0.9
    table = gap_density(a, b, correlation, alive_a, alive_b)
    assert len(table) == 5 * 40
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (a[alive_a], b[alive_b])]
    gap, of_alive = 1 - unit[0] @ unit[1].T, correlation[alive_a][:, alive_b]
    for low, (_, group) in zip((0, 0.2, 0.4, 0.6, 0.8), table.groupby("bin"), strict=True):
        inside = gap[(of_alive >= low) & (of_alive < low + 0.2)]
        np.testing.assert_array_equal(group["n"], np.histogram(inside, np.linspace(0, 2, 41))[0])
        assert (group["density"] * (group["high"] - group["low"])).sum() == pytest.approx(1)


def test_gap_density_says_what_does_not_fit():
    eye, alive = np.eye(2), np.ones(2, dtype=bool)
    with pytest.raises(ValueError, match=r"correlation \(2, 3\); \(L_a, d\), \(L_b, d\) and \(L_a, L_b\) are needed"):
        gap_density(eye, eye, np.zeros((2, 3)), alive, alive)
    with pytest.raises(ValueError, match=r"alive_b is bool \(3,\); bool \(2,\) is needed"):
        gap_density(eye, eye, eye, alive, np.ones(3, dtype=bool))
    with pytest.raises(ValueError, match="alive_a is int64"):
        gap_density(eye, eye, eye, np.array([0, 1]), alive)
    with pytest.raises(ValueError, match="alive rows of dictionary_b: 1 rows are zero"):
        gap_density(eye, np.diag([1, 0]), eye, alive, alive)
    for name in ("correlation_edges", "gap_edges"):
        with pytest.raises(ValueError, match=f"{name} is .*increasing"):
            gap_density(eye, eye, eye, alive, alive, **{name: (0, 0)})


def test_modality_split_by_hand():
    # Mean activations: image 1, 1, .5, 0, 0; text 0, 1, 1.5, 1, 0. Scores 1, .5, .25, 0; the last latent is dead.
    a = sparse.csr_array([[2, 0, 1, 0, 0], [0, 2, 0, 0, 0]], dtype=np.float32)
    b = sparse.csr_array([[0, 0, 3, 2, 0], [0, 2, 0, 0, 0]], dtype=np.float32)
    # Together, halved for two pairs: latent 0 with 2 (3) and 3 (2), 2 with 2 (1.5) and 3 (1), 1 with 1 (2). Cosines:
    # 1 of each with itself, .6 of 0 with 2, -1 of 0 with 3, which is no positive bridge, -.6 of 2 with 3, likewise.
    directions = np.array([[1, 0], [0, 1], [3, 4], [-1, 0], [1, 1]])
    score, figures = modality_split(a, b, directions, directions)
    np.testing.assert_allclose(score, [1, 0.5, 0.25, 0])
    assert list(figures.values()) == pytest.approx([4, 0.5, 0.25, 3.5 / (3.5 + 3 * 0.6)])
    assert np.isnan(modality_split(a[:1, :2], b[:1, :2], directions[:2], directions[:2])[1]["bridge within one latent"])
