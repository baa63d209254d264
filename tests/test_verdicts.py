"""The rule of every verdict on tables made by hand."""

import pandas as pd
import pytest

from xsae.evaluation.verdicts import of_run


def rows(values, **settings):
    """One row per seed: seed 1, 2, 3 and the value of each."""
    return pd.DataFrame([settings | {"seed": seed, "value": value} for seed, value in enumerate(values, 1)])


def judged(tables, queries=None):
    return of_run(tables, queries or {}).set_index(["claim", "backbone", "bias_start"], drop=False)


def test_separated_must_reconstruct_better_than_shared_and_than_shared_with_biases_from_each_start():
    about = {"backbone": "vit", "modality": "image", "metric": "loss"}
    parts = [
        rows(values, method=method, bias_start=start, **about)
        for start, losses in {
            "mean": {"separated": [0.10, 0.11, 0.10], "shared": [0.20, 0.21, 0.20], "shared_bias": [0.10, 0.10, 0.11]},
            "zero": {"separated": [0.30, 0.31, 0.30], "shared": [0.20, 0.21, 0.20], "shared_bias": [0.4, 0.41, 0.4]},
        }.items()
        for method, values in losses.items()
    ]
    found = judged({"reconstruction": pd.concat(parts)})["verdict"]
    assert found["3 separated reconstructs better than shared (image)", "vit", "mean"] == "holds"
    assert found["3 separated reconstructs better than shared (image)", "vit", "zero"] == "the opposite holds"
    assert found["3 separated reconstructs better than shared_bias (image)", "vit", "mean"] == "does not hold"
    assert found["3 separated reconstructs better than shared_bias (image)", "vit", "zero"] == "holds"


def interval(low, high, **settings):
    figures = {"difference": (low + high) / 2, "low": low, "high": high, "seeds": 3}
    return pd.DataFrame([settings | {"metric": metric, "value": value} for metric, value in figures.items()])


def test_retrieval_is_judged_by_raw_codes_and_zero_shot_without_frequent_latents_as_published():
    same = {
        "comparison": "same start",
        "bias_start": "zero",
        "other_start": "zero",
        "other": "shared",
        "backbone": "vit",
    }
    retrieval = [
        interval(0.1, 0.2, variant="raw", direction="image_to_text", **same),
        interval(-0.2, -0.1, variant="centred", direction="image_to_text", **same),
    ]
    zero_shot = [interval(-0.2, -0.1, variant="raw", **same), interval(-0.1, 0.2, variant="without frequent", **same)]
    found = judged({"retrieval_intervals": pd.concat(retrieval), "zeroshot_intervals": pd.concat(zero_shot)})
    assert found["verdict"].tolist() == ["does not hold", "holds"]
    assert found["claim"].tolist() == [
        "4 posthoc classifies better than shared",
        "4 posthoc retrieves better than shared (image_to_text)",
    ]


def test_the_hardest_comparison_names_both_starts():
    best = {"comparison": "other's best", "bias_start": "mean", "other_start": "zero", "other": "shared"}
    table = interval(-0.3, -0.1, variant="raw", direction="image_to_text", backbone="vit", **best)
    [row] = of_run({"retrieval_intervals": table}, {}).to_dict("records")
    assert row["claim"] == "4 posthoc retrieves better than shared (image_to_text, other's best)"
    assert row["bias_start"] == "mean against zero" and row["verdict"] == "the opposite holds"


def test_separated_is_at_chance_by_the_number_of_its_queries():
    about = {"backbone": "vit", "direction": "image_to_text", "metric": "R@1", "variant": "raw"}
    chance = pd.DataFrame([about | {"method": "chance", "bias_start": None, "seed": None, "value": 0.01}])
    table = pd.concat([chance, rows([0.03, 0.01, 0.0], method="separated", bias_start="mean", **about)])
    found = {n: judged({"retrieval": table}, {("vit", "image_to_text"): n})["verdict"].iloc[0] for n in (100, 1000)}
    assert found == {100: "holds", 1000: "does not hold"}  # 3 of 100 may be luck, 30 of 1,000 is not


def test_gaps_are_compared_with_the_nearer_control_at_equal_correlation():
    parts = [rows(v, backbone="vit", control=c, metric="difference") for c, v in (("a", [0.3] * 3), ("b", [-0.1] * 3))]
    row = of_run({"gap_controls": pd.concat(parts)}, {}).iloc[0]
    assert row["verdict"] == "the opposite holds" and row["difference"] == pytest.approx(-0.1)


def test_directions_of_labels_must_lie_further_apart_than_their_halves():
    table = pd.DataFrame({"backbone": "vit", "concept": list("abc"), "cosine": [0.7, 0.8, 0.75], "ceiling": 0.99})
    assert of_run({"concept_directions": table}, {})["verdict"].tolist() == ["holds"]
    assert of_run({"concept_directions": table.assign(ceiling=0.75)}, {})["verdict"].tolist() == ["does not hold"]


def test_each_setting_of_the_ablations_is_judged_alone_and_raw_training_is_none():
    parts = []
    for variant, norm, shared in (("k = 4", "unit", 0.3), ("k = 8", "unit", 0.1), ("k = 8, raw", "raw", 0.9)):
        about = {"backbone": "vit", "variant": variant, "norm": norm}
        for method, loss in (("shared", shared), ("shared_bias", 0.4), ("separated", 0.2), ("posthoc", 0.2)):
            parts += [rows([loss] * 3, method=method, metric=metric, **about) for metric in ("RE", "R@1")]
    found = of_run({"ablations": pd.concat(parts)}, {}).set_index("claim")["verdict"]
    assert found["5 separated reconstructs better than shared (k = 4)"] == "holds"
    assert found["5 separated reconstructs better than shared (k = 8)"] == "the opposite holds"
    assert (
        found["5 posthoc retrieves better than shared (k = 8)"] == "holds" and not found.index.str.contains("raw").any()
    )


def test_the_synthetic_claims_hold_where_shared_pays_and_collapses():
    parts = [
        rows(values, method=method, metric=metric, cosine=cosine)
        for method, metric, cosine, values in (
            ("shared", "RE", 0.0, [0.3, 0.3, 0.31]), ("separated", "RE", 0.0, [0.2, 0.2, 0.2]),
            ("shared", "RE", 1.0, [0.1, 0.1, 0.1]), ("separated", "RE", 1.0, [0.2, 0.2, 0.2]),
            ("shared", "CR", 0.0, [0.0, 0.0, 0.0]), ("shared", "CR", 1.0, [1.0, 1.0, 1.0]),
        )
    ]  # fmt: skip
    assert of_run({"cos_sweep": pd.concat(parts)}, {})["verdict"].tolist() == ["holds", "holds"]


def test_a_few_partners_are_held_against_one_and_against_a_rotation():
    about = {
        "metric": "R@1",
        "backbone": "vit",
        "bias_start": "mean",
        "direction": "image_to_text",
        "method": "separated",
    }
    values = {
        "hungarian": [0.1, 0.11, 0.1], "partners": [0.2, 0.21, 0.2], "partners_both_sides": [0.1, 0.12, 0.09],
        "procrustes": [0.3, 0.31, 0.3], "cca": [0.3, 0.31, 0.3], "ridge": [0.2, 0.1, 0.3],
    }  # fmt: skip
    table = pd.concat([rows(value, alignment=name, **about) for name, value in values.items()])
    found = judged({"alignments": table})["verdict"]
    assert found["6 partners retrieves better than hungarian (image_to_text)", "vit", "mean"] == "holds"
    assert found["6 partners retrieves better than procrustes (image_to_text)", "vit", "mean"] == "the opposite holds"
    both = "6 partners_both_sides retrieves better than hungarian (image_to_text)"
    assert found[both, "vit", "mean"] == "does not hold"
    assert found["6 partners retrieves better than ridge (image_to_text)", "vit", "mean"] == "does not hold"
    everywhere = "6 partners retrieves better than hungarian everywhere (every backbone, both ways)"
    row = judged({"alignments": table}).xs(everywhere).iloc[0]
    assert row["verdict"] == "holds" and row["backbone"] == "all" and row["difference"] == pytest.approx(0.1)
    behind = table.assign(backbone="resnet", direction="text_to_image", value=0.1)
    row = judged({"alignments": pd.concat([table, behind])}).xs(everywhere).iloc[0]
    assert row["verdict"] == "does not hold" and row["difference"] == 0  # one case of one backbone is enough


def test_a_few_partners_are_held_against_methods_that_are_trained_as_one():
    table = pd.concat(
        [
            interval(-0.3, -0.1, backbone="vit", direction="image_to_text", method="sparc"),
            interval(0.1, 0.3, backbone="vit", direction="image_to_text", method="vl_sae"),
            interval(0.1, 0.3, backbone="vit", direction="image_to_text", method="ridge"),  # judged as an alignment
            rows([1.0], backbone="vit", direction=None, method="sparc", metric="partners"),
        ]
    )
    found = of_run({"beyond": table}, {}).set_index("claim")["verdict"].to_dict()
    assert found == {
        "6 partners retrieves better than sparc (image_to_text)": "the opposite holds",
        "6 partners retrieves better than vl_sae (image_to_text)": "holds",
    }


def test_at_most_one_significant_match_of_twenty_may_be_false():
    parts = [rows(values, metric="precision", pairs=pairs) for pairs, values in ((100, [1, None, 1]), (300, [1, 1, 1]))]
    parts += [
        rows([0.95, 0.97, 0.9], metric="precision", pairs=1000),
        rows([0.9, 0.91, 0.9], metric="same_first", pairs=300),
    ]
    found = of_run({"matches_truth": pd.concat(parts)}, {}).set_index("claim")["verdict"].to_dict()
    assert found == {
        "6 at most 5 % of significant matches are false (300 pairs)": "holds",
        "6 at most 5 % of significant matches are false (1000 pairs)": "does not hold",
        "6 at most 5 % of significant matches are false by the stricter count (300 pairs)": "the opposite holds",
    }
