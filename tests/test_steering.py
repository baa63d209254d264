import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from xsae.evaluation.claims import interval
from xsae.evaluation.relevance import ranking_metrics
from xsae.evaluation.steering import (
    METRICS,
    HeldOut,
    best_partner,
    carriers,
    concept_latent,
    images_without,
    nearest,
    preservation,
    steer,
    steer_along,
    steer_concepts,
    steer_concepts_along,
    steerable,
)
from xsae.evaluation.steering_curves import at_levels, at_preservation, lead, leads, means, over_levels


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


def test_the_best_partner_is_the_image_latent_that_correlates_most_by_hand():
    # With text latent 1, which fires on pairs 0 and 1: image latent 0 on 0 only, r = 1 / sqrt(3); latent 1 on both and
    # as strongly, r = 1; latent 2 on the others, r = -1; latent 3 never. Its scale does not count.
    image = codes([[9, 1, 0, 0], [0, 1, 0, 0], [0, 0, 5, 0], [0, 0, 5, 0]])
    text = codes([[0, 2, 3], [0, 2, 0], [1, 0, 0], [1, 0, 0]])
    assert [best_partner(image, text, latent) for latent in range(3)] == [2, 1, 0]


def test_two_text_latents_may_have_one_best_partner():
    image, text = codes([[1, 0], [1, 0], [0, 1], [0, 0]]), codes([[1, 2], [1, 2], [0, 0], [0, 0]])
    assert [best_partner(image, text, latent) for latent in range(2)] == [0, 0]


def test_no_partner_is_made_up():
    image, text = codes([[1, 0], [0, 0]]), codes([[0, 1, 0], [2, 1, 0]])
    for latent in range(3):  # excludes latent 0, is always on, is dead
        with pytest.raises(
            ValueError, match=f"no latent of image_codes correlates positively with text latent {latent}"
        ):
            best_partner(image, text, latent)
    for latent in (-1, 3):
        with pytest.raises(ValueError, match=rf"latent is {latent}; those of text_codes are 0\.\.2"):
            best_partner(image, text, latent)
    with pytest.raises(ValueError, match="image_codes|reference_codes has 2 rows"):
        best_partner(image, text[:1], 0)


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


def test_steering_along_a_direction_by_hand():
    # v = (0, 1): (.6, .8) + .6 v = (.6, 1.4); (0, -1) + v is nothing
    x = np.array([[0.6, 0.8], [0, -1]], dtype=np.float32)
    pushed = steer_along(x, np.array([0, 5.0]), 0.6)
    np.testing.assert_allclose(pushed, [np.array([0.6, 1.4]) / 2.32**0.5, [0, -1]], rtol=1e-6)
    assert pushed.dtype == np.float32
    np.testing.assert_allclose(steer_along(x, np.array([1, 0]), 0.0), x, rtol=1e-6)
    np.testing.assert_array_equal(steer_along(x, np.array([0, 1]), 1.0)[1], [0, 0])


def test_steering_along_a_latents_direction_is_steering_what_is_reconstructed_exactly():
    rng = np.random.default_rng(0)
    dictionary, image = rng.standard_normal((6, 4)), rng.random((5, 6))
    x = image @ dictionary
    length = np.linalg.norm(x, axis=1, keepdims=True)
    steered = steer(sparse.csr_array(image / length), 2, 0.5, dictionary, np.zeros(4))
    np.testing.assert_allclose(steer_along(x / length, dictionary[2], 0.5), steered, rtol=1e-12)


# --- at equal preservation --------------------------------------------------------------------------------------------


def test_scores_at_preservation_levels_by_hand():
    curve = np.array([0.9, 0.8, 0.6]), np.array([0.1, 0.3, 0.7])
    found = at_preservation(*curve, [0.95, 0.9, 0.85, 0.7, 0.6, 0.5])
    np.testing.assert_allclose(found, [np.nan, 0.1, 0.2, 0.5, 0.7, np.nan])
    np.testing.assert_allclose(at_preservation([0.9], [0.4], [0.9, 0.8]), [0.4, np.nan])


def test_a_stronger_push_that_preserves_more_is_passed_over():
    # .7 comes at α 1, the .8 after it is above: .8 is read off between .9 and .7, .6 between .7 and .5
    found = at_preservation([0.9, 0.7, 0.8, 0.5], [0.0, 0.2, 9.0, 0.6], [0.8, 0.6])
    np.testing.assert_allclose(found, [0.1, 0.4])
    # of two pushes that preserve the same the weaker counts
    np.testing.assert_allclose(at_preservation([0.9, 0.9, 0.5], [0.1, 9.0, 0.3], [0.9, 0.7]), [0.1, 0.2])
    # pushes that only bring the reconstruction nearer reach no level below it
    np.testing.assert_allclose(at_preservation([0.7, 0.8, 0.9], [0.1, 0.2, 0.3], [0.9, 0.7]), [np.nan, 0.1])


def curve(kept, scores, **settings):
    return pd.DataFrame({"alpha": [0.0, 1.0, 2.0], **dict.fromkeys(METRICS, 0.0)}).assign(
        preservation=kept, mAP=scores, **settings
    )


def test_every_curve_is_read_at_its_own_levels_and_keeps_its_settings():
    rows = pd.concat(
        [
            curve([0.9, 0.7, 0.5], [0.1, 0.3, 0.5], method="posthoc", concept="red", gallery="images", seed=1),
            curve([1.0, 0.8, 0.7], [0.2, 0.4, 0.5], method="direction", concept="red", gallery="images", seed=pd.NA),
        ]
    ).astype({"seed": "Int64"})
    found = at_levels(rows[::-1], [0.6, 0.8, 0.95])  # in whatever order the α come
    assert list(found) == ["method", "concept", "gallery", "seed", "preservation", "mAP"]
    found = found.set_index(["method", "preservation"])["mAP"]
    np.testing.assert_allclose(found["posthoc"], [0.4, 0.2, np.nan])
    np.testing.assert_allclose(found["direction"], [np.nan, 0.4, 0.25])


def test_the_lead_is_the_mean_over_the_levels_that_both_reach():
    levels = pd.DataFrame(
        [
            (method, seed, concept, level, score)
            for method, seed, concept, scores in (
                ("posthoc", 1, "red", [0.5, 0.3, 0.2]), ("shared", 1, "red", [0.1, 0.2, np.nan]),
                ("posthoc", 2, "red", [np.nan, 0.3, 0.2]), ("shared", 2, "red", [0.9, 0.4, 0.4]),
                ("posthoc", 1, "blue", [0.5, np.nan, np.nan]), ("shared", 1, "blue", [0.1, 0.1, 0.1]),
                ("posthoc", 2, "blue", [0.5, np.nan, np.nan]), ("shared", 2, "blue", [np.nan, 0.1, 0.1]),
            )
            for level, score in zip([0.5, 0.7, 0.9], scores, strict=True)
        ],
        columns=["method", "seed", "concept", "preservation", "mAP"],
    )  # fmt: skip
    # red: seed 1 at .5 and .7, (.4 + .1) / 2; seed 2 at .7 and .9, (-.1 - .2) / 2. blue: nowhere in seed 2, left out.
    np.testing.assert_allclose(lead(levels, "posthoc", "shared", "preservation"), [[0.25], [-0.15]])
    np.testing.assert_allclose(lead(levels, "shared", "posthoc", "preservation"), [[-0.25], [0.15]])
    largest = levels[levels["preservation"] == 0.5].assign(alpha=2.0)
    assert lead(largest, "posthoc", "shared", "alpha").shape == (2, 0)  # red lacks seed 2, blue too: nothing to compare


# --- the protocol -----------------------------------------------------------------------------------------------------


def steered(method, seed, concept, scores, kept=(0.9, 0.7)):
    """A curve of two α as `steer_concepts` has it, with the settings that a run adds."""
    rows = pd.DataFrame({"concept": concept, "alpha": [0.0, 1.0], "gallery": "images", "mAP": scores})
    rows = rows.assign(**dict.fromkeys([name for name in METRICS if name != "mAP"], 0.5), method=method, seed=seed)
    return rows.assign(preservation=kept, backbone="vit", bias_start="mean", kind=concept.split(":")[0])


def test_means_are_of_all_concepts_and_of_each_kind():
    rows = pd.concat([steered("posthoc", 1, "icon:a", (0.1, 0.5)), steered("posthoc", 1, "topic:b", (0.3, 0.9))])
    found = means(rows).set_index(["kind", "alpha", "metric"])["value"]
    assert [found[kind, 1.0, "mAP"] for kind in ("all", "icon", "topic")] == pytest.approx([0.7, 0.5, 0.9])
    assert found["all", 0.0, "MRR"] == 0.5 and ("icon", 0.0, "MRR") not in found.index
    assert len(found) == 2 * (len(METRICS) + 2 * 2)


def test_a_level_has_the_mean_of_the_concepts_that_reach_it_and_their_share():
    rows = pd.concat(
        [steered("posthoc", 1, "icon:a", (0.1, 0.5)), steered("posthoc", 1, "icon:b", (0.3, 0.9), (0.9, 0.8))]
    )
    found = over_levels(at_levels(rows)).set_index("preservation")
    assert found.loc[0.8, "mAP"] == pytest.approx((0.3 + 0.9) / 2) and found.loc[0.8, "reached"] == 1
    assert found.loc[0.7, "mAP"] == pytest.approx(0.5) and found.loc[0.7, "reached"] == 0.5
    assert found.index.min() == 0.7


def test_posthoc_is_compared_with_each_other_method_but_the_ceiling():
    values = {
        ("posthoc", 1): (0.2, 0.6),
        ("posthoc", 2): (0.2, 0.8),
        ("shared", 1): (0.2, 0.5),
        ("shared", 2): (0.2, 0.4),
    }
    rows = [steered(method, seed, f"icon:{name}", scores) for (method, seed), scores in values.items() for name in "ab"]
    rows.append(steered("direction", pd.NA, "icon:a", (0.2, 1.0)))
    rows = pd.concat(rows, ignore_index=True).astype({"seed": "Int64"})
    found = {about["measure"]: (about["other"], figures) for about, figures in leads(rows, at_levels(rows))}
    assert set(found) == {"largest alpha", "equal preservation"} and {other for other, _ in found.values()} == {
        "shared"
    }
    expected = interval(np.array([[0.1, 0.1], [0.4, 0.4]])) | {"seeds": 2, "concepts": 2}
    assert found["largest alpha"][1] == pytest.approx(expected)
    # between the two α the lead grows in step with the push: at .9, .85, .8, .75, .7 it is 0 to all of it
    assert found["equal preservation"][1]["difference"] == pytest.approx(0.25 / 2)


def test_the_nearest_come_first():
    gallery = np.array([[0, 1], [1, 0], [0.6, 0.8], [1, 0]])
    assert nearest(np.array([[1.0, 0]]), gallery).tolist() == [1, 3, 2, 0]


def test_carriers_and_what_can_be_steered():
    images, captions = [["red", "star"], ["blue"], ["red", "blue"]], [["red"], [], ["blue", "round"]]
    assert {c: flags_.tolist() for c, flags_ in carriers(images, ["red", "moon"]).items()} == {
        "red": [True, False, True], "moon": [False, False, False],
    }  # fmt: skip
    assert steerable(images) == ["blue", "red", "star"]
    assert steerable(images, captions) == ["blue", "red"]  # no caption names a star, no image is round
    assert steerable(images, captions, [["red", "blue"], ["red"]]) == ["blue"]  # all of these are red
    assert steerable([["a", "b"], ["a", "a"], ["c"], ["b"]], least=2) == ["a", "b"]
    assert steerable([["a", "a"], ["c"]], least=2) == []  # one row, though it names it twice


def axes_world():
    """Four images and captions on the axes of a plane with 2 concepts: east is (1, 0), north (0, 1)."""
    east, north = [1.0, 0], [0, 1.0]
    x = np.array([east, north, east, north], np.float32)
    flags_of = {"east": flags(1, 0, 1, 0), "north": flags(0, 1, 0, 1)}
    return HeldOut(
        images=x, captions=x[::-1].copy(), shown=flags_of, named={c: ~flags_ for c, flags_ in flags_of.items()}
    )


def test_the_protocol_by_hand():
    held_out = axes_world()
    sae = {"codes": sparse.csr_array(held_out.images), "dictionary": np.eye(2, dtype=np.float32), "bias": np.zeros(2)}
    found = steer_concepts(latents={"east": 0}, held_out=held_out, alphas=[0.0, 2.0], seed=1, **sae)
    assert list(found) == ["concept", "alpha", "gallery", *METRICS]
    assert found[["concept", "alpha", "gallery"]].to_numpy().tolist() == [
        ["east", 0.0, "captions"], ["east", 0.0, "images"], ["east", 2.0, "captions"], ["east", 2.0, "images"],
    ]  # fmt: skip
    # Both images that are not east stand north: before, what is east comes last, at places 3 and 4; at (2, 1), first.
    assert found["mAP"].tolist() == pytest.approx([(1 / 3 + 2 / 4) / 2] * 2 + [1, 1])
    assert found["preservation"].tolist() == pytest.approx([1, 1, 5**-0.5, 5**-0.5])
    wrong = steer_concepts(latents={"east": 1}, held_out=held_out, alphas=[2.0], seed=1, **sae)  # another latent
    assert wrong["mAP"].tolist() == pytest.approx([(1 / 3 + 2 / 4) / 2] * 2)


def test_pushing_along_true_directions_is_the_protocol_of_an_autoencoder_that_loses_nothing():
    held_out, alphas = axes_world(), [0.0, 0.3, 1.0, 2.0]
    sae = {"codes": sparse.csr_array(held_out.images), "dictionary": np.eye(2, dtype=np.float32), "bias": np.zeros(2)}
    steered = steer_concepts(latents={"east": 0, "north": 1}, held_out=held_out, alphas=alphas, seed=1, **sae)
    directions = {"east": np.array([3.0, 0]), "north": np.array([0, 1.0])}
    pd.testing.assert_frame_equal(
        steer_concepts_along(directions=directions, held_out=held_out, alphas=alphas, seed=1), steered
    )


def test_the_galleries_are_judged_by_their_own_labels():
    held_out = axes_world()
    only = HeldOut(held_out.images, held_out.captions, held_out.shown, {"east": flags(0, 1, 0, 0)})
    found = steer_concepts_along(directions={"east": np.array([1.0, 0])}, held_out=only, alphas=[2.0], seed=1)
    # The two captions at east tie and one of them names it: behind the other, which counts against the method.
    assert found.set_index("gallery")["mAP"].to_dict() == pytest.approx({"captions": 1 / 2, "images": 1.0})


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
            "median_rank": 3.0, "tie_rate": 0.0,
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
        expected = {"mAP": (1 / 3 + 2 / 4) / 2, "MRR": 1 / 3, "median_rank": 3.5, "tie_rate": 1}
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
    assert figures["median_rank"] == 4.5 and figures["mAP"] == pytest.approx((1 / 4 + 2 / 5) / 2)
    assert figures["tie_rate"] == 1


def test_the_mean_over_queries_is_taken_last():
    # first relevant at 1, 2 and 4
    similarity = np.array([[0.9, 0.5, 0.4, 0.3], [0.5, 0.9, 0.4, 0.3], [0.1, 0.9, 0.8, 0.7]])
    figures = ranking_metrics(similarity, flags(1, 0, 0, 0), ks=(1, 2))
    assert figures["mAP"] == figures["MRR"] == pytest.approx((1 + 1 / 2 + 1 / 4) / 3)
    found = [figures[name] for name in ("median_rank", "P@1", "P@2", "R@2")]
    assert found == pytest.approx([2, 1 / 3, 1 / 3, 2 / 3])


def test_the_median_rank_is_over_the_relevant_items_of_all_queries_together():
    # places 1, 2, 3 of the first query and 5 of the second: median 2.5. Of the first ones, 1 and 5, it were 3; of the
    # queries' own medians, 2 and 5, 3.5.
    similarity = np.array([[0.9, 0.8, 0.7, 0.6, 0.5], [0.9, 0.8, 0.7, 0.6, 0.5]])
    relevant = np.array([[1, 1, 1, 0, 0], [0, 0, 0, 0, 1]], dtype=bool)
    assert ranking_metrics(similarity, relevant)["median_rank"] == 2.5


def by_definition(similarity, relevant):
    """The same figures from the definitions, an item at a time."""
    place = np.array(
        [
            1 + sum(s >= similarity[r] - 1e-6 for s, holds in zip(similarity, relevant, strict=True) if not holds)
            for r in np.flatnonzero(relevant)
        ]
    )
    found_at = similarity[relevant]
    place += [sum(found_at > s) + sum(found_at[:i] == s) for i, s in enumerate(found_at)]
    precision = [np.sum(place <= p) / p for p in place]
    figures = np.mean(precision), 1 / place.min(), np.mean(place <= 5) * len(place) / 5, np.mean(place <= 5)
    return figures, place


@pytest.mark.parametrize("levels", [3, 20, 10**6])  # from ties everywhere to hardly any
def test_ranking_agrees_with_its_definition(levels):
    rng = np.random.default_rng(levels)
    similarity = (rng.integers(-levels, levels + 1, (12, 40)) / levels).astype(np.float32)
    relevant = rng.random((12, 40)) < 0.2
    relevant[:, 0] = True
    for flags_ in (relevant, relevant[0]):
        rows = np.broadcast_to(flags_, similarity.shape)
        expected, places = zip(*(by_definition(*row) for row in zip(similarity, rows, strict=True)), strict=True)
        figures, expected = ranking_metrics(similarity, flags_), np.mean(expected, axis=0)
        assert figures["median_rank"] == np.median(np.concatenate(places))
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
    with pytest.raises(ValueError, match=r"x has shape \(2, 3\) and direction \(2,\)"):
        steer_along(similarity, np.ones(2), 1.0)
    with pytest.raises(ValueError, match="steer_along: direction: 1 rows are zero"):
        steer_along(similarity, np.zeros(3), 1.0)
    with pytest.raises(ValueError, match=r"preservation has shape \(2,\) and score \(1,\)"):
        at_preservation([0.9, 0.8], [0.1], [0.8])
    with pytest.raises(ValueError, match="at least 1 point"):
        at_preservation([], [], [0.8])
    with pytest.raises(ValueError, match="preservation or score holds NaN"):
        at_preservation([0.9, 0.8], [0.1, np.nan], [0.8])
    with pytest.raises(ValueError, match=r"steered has shape \(2, 3\) and original \(1, 3\)"):
        preservation(similarity, similarity[:1])
