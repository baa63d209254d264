"""Gaps between ours and all others, on tables made by hand."""

import pandas as pd
import pytest

from xsae.evaluation.beyond import gaps
from xsae.evaluation.claims import interval

WAYS = ("image_to_text", "text_to_image")


def seeds(values, **settings):
    return pd.DataFrame([settings | {"seed": seed, "value": value} for seed, value in enumerate(values, 1)])


def alignments(start="mean", other="text", ways=WAYS):
    about = {"backbone": "vit", "bias_start": start, "method": "separated", "other": other}
    recalls = {"hungarian": [0.1, 0.2], "partners": [0.3, 0.5], "greedy": [0.1, 0.1]}
    parts = [
        seeds(values, alignment=name, direction=way, metric="R@1", **about)
        for name, values in recalls.items()
        for way in ways
    ]
    parts += [seeds([4, 4], alignment="partners", direction="", metric="partners", **about)]
    parts += [seeds([9, 9], alignment="partners", direction="", metric="l0", **about)]
    return pd.concat(parts, ignore_index=True)


def value(table, **where):
    for name, wanted in where.items():
        table = table[table[name] == wanted]
    [found] = table["value"]
    return found


def test_alignments_alone_have_their_recall_and_their_lead_by_hand():
    found = gaps({"alignments": pd.concat([alignments(), alignments("zero")])}, "mean")
    about = {"backbone": "vit", "other": "text", "direction": "image_to_text"}
    assert value(found, method="partners", metric="R@1", **about) == pytest.approx(0.4)
    expected = interval([0.2, 0.3]) | {"seeds": 2}
    for metric, figure in expected.items():
        assert value(found, method="hungarian", metric=metric, **about) == pytest.approx(figure)
    assert value(found, method="partners", direction="", metric="partners") == 4
    assert set(found["method"]) == {"partners", "hungarian"} and "l0" not in set(found["metric"])
    assert "difference" not in set(found[found["method"] == "partners"]["metric"])
    assert found.equals(gaps({"alignments": alignments().replace("", None)}, "mean"))  # as it is read back


def test_methods_bring_centred_recall_and_what_they_pay():
    about = {"backbone": "vit", "bias_start": "mean"}
    recall = [
        seeds(values, method=method, variant=variant, metric="R@1", direction=way, **about)
        for method, variant, values in (
            ("sparc", "centred", [0.6, 0.7]), ("sparc", "raw", [0, 0]), ("posthoc", "centred", [0, 0])
        )
        for way in (*WAYS, "audio_to_text")
    ]  # fmt: skip
    losses = [
        seeds([value] * 2, method=method, modality=modality, metric="loss", **about)
        for method, value in (("sparc", 0.5), ("separated", 0.3), ("shared", 0.9))
        for modality in ("image", "text")
    ]
    scores = [seeds([0.8] * 2, method="sparc", modality=m, metric="ms_mean", **about) for m in ("image", "text")]
    curves = pd.concat([seeds([0.4, 0.2], method="sparc", preservation=p, **about) for p in (0.65, 0.7)])
    tables = {
        "alignments": alignments(), "retrieval": pd.concat(recall), "reconstruction": pd.concat(losses),
        "label_agreement": seeds([0.1, 0.3], method="sparc", metric="agreement", **about),
        "monosemanticity": pd.concat(scores),
        "steering_curves": curves.rename(columns={"value": "mAP"}).assign(gallery="captions", reached=1.0),
    }  # fmt: skip
    found = gaps(tables, "mean")
    way = {"method": "sparc", "direction": "text_to_image"}
    assert value(found, metric="R@1", **way) == pytest.approx(0.65)
    assert value(found, metric="difference", **way) == pytest.approx(-0.25)
    paid = {
        "partners": 1, "loss_image": 0.5, "loss_text": 0.5, "label_agreement": 0.2, "ms_mean": 0.8,
        "mAP_captions_kept": 0.3,
    }  # fmt: skip
    for metric, figure in paid.items():
        assert value(found, method="sparc", direction="", metric=metric) == pytest.approx(figure)
    for name in ("partners", "hungarian"):  # an alignment reconstructs as what it aligns
        assert value(found, method=name, direction="", metric="loss_text") == pytest.approx(0.3)
    assert not set(found["method"]) & {"posthoc", "shared", "separated"}
    assert set(found["direction"]) == {"", *WAYS}


def test_each_other_modality_is_held_against_its_own():
    three = pd.concat([alignments(), alignments(other="audio", ways=("image_to_audio", "audio_to_image"))])
    about = {"backbone": "vit", "bias_start": "mean", "method": "separated", "metric": "loss"}
    losses = pd.concat([seeds([n / 10], modality=m, **about) for n, m in enumerate(("image", "text", "audio"), 1)])
    found = gaps({"alignments": three, "reconstruction": losses}, "mean").query("method == 'partners'")
    for other, expected in (
        ("text", {"loss_image": 0.1, "loss_text": 0.2}),
        ("audio", {"loss_image": 0.1, "loss_audio": 0.3}),
    ):
        rows = found[(found["other"] == other) & found["metric"].str.startswith("loss")]
        assert rows.set_index("metric")["value"].to_dict() == pytest.approx(expected)
