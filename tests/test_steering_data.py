"""What a store has to steer by, on a few rows made by hand."""

import numpy as np
import pandas as pd
import pytest
import torch

from xsae.evaluation.steering_data import (
    LEAST,
    PARTNER,
    concepts_of,
    first_captions,
    held_out,
    steer_by_labels,
    steer_method,
)  # fmt: skip
from xsae.methods import Method
from xsae.sae import SAEConfig, SparseAutoencoder


class Store(dict):
    """Two images of two captions each in a split, the second image first."""

    def split(self, name):
        return pd.DataFrame(
            {
                "image": [1, 1, 0, 0],
                "text": [2, 3, 0, 1],
                "concepts": [["icon:a", "colour:x"]] * 2 + [["icon:b"]] * 2,
                "mentions": [["icon:a"], ["colour:x"], ["icon:b"], []],
            }
        )


def test_an_image_has_its_first_caption_and_images_are_in_order():
    assert first_captions(Store(), "test")["text"].tolist() == [0, 2]


def test_held_out_images_and_captions_lie_row_by_row_with_their_labels():
    own = held_out(Store(image=np.eye(2), text=np.arange(8.0).reshape(4, 2)), ["icon:a", "colour:x"])
    np.testing.assert_array_equal(own.images, np.eye(2))
    np.testing.assert_array_equal(own.captions, [[0, 1], [4, 5]])
    assert {name: flags.tolist() for name, flags in own.shown.items()} == {
        "icon:a": [False, True], "colour:x": [False, True]
    }  # fmt: skip
    assert {name: flags.tolist() for name, flags in own.named.items()} == {
        "icon:a": [False, True], "colour:x": [False, False]
    }  # fmt: skip


def labelled(n, **held):
    """n rows, of which `held` says how many hold and name a concept."""
    rows = [[f"icon:{name}" for name, count in held.items() if row < count] for row in range(n)]
    return pd.DataFrame({"concepts": rows, "mentions": rows})


def test_concepts_are_carried_by_enough_rows_of_every_table_and_not_by_all():
    few, many = labelled(300, a=3, b=2, c=300, d=9), labelled(5000, a=3, b=50, c=50, d=50)
    assert concepts_of([few, many], ["icon"], 9) == ["icon:a", "icon:d"]  # a hundredth of the smallest: 3
    assert concepts_of([many], ["icon"], 9) == ["icon:b", "icon:c", "icon:d"] and LEAST == 20
    assert concepts_of([few], ["colour"], 9) == []


def test_of_a_kind_the_concepts_that_most_captions_name_are_steered():
    train, test = labelled(300, a=3, b=9, c=5, d=9), labelled(100, a=3, b=1, c=9, d=2)  # named 6, 10, 14 and 11 times
    assert concepts_of([train, test], ["icon"], 2) == ["icon:c", "icon:d"]
    even = labelled(100, b=5, c=5, a=5)
    assert concepts_of([even], ["icon"], 2) == ["icon:a", "icon:b"]
    table = pd.concat([even, even.map(lambda held: [name.replace("icon", "colour") for name in held])])
    assert concepts_of([table], ["icon", "colour"], 1) == ["colour:a", "icon:a"]


class Plane(dict):
    """Embeddings on the axes of a plane, each with its caption: east is (1, 0) and `icon:east`, north `icon:north`."""

    def __init__(self):
        x = np.tile(np.eye(2, dtype=np.float32), (4, 1))
        super().__init__(image=x, text=x)

    def split(self, name):
        labels = [["icon:east"], ["icon:north"]] * 4
        return pd.DataFrame({"image": range(8), "text": range(8), "concepts": labels, "mentions": labels})


@pytest.fixture
def plane_method():
    """A latent for either axis in both modalities; text's are the other way round, and no alignment knows."""
    saes = {m: SparseAutoencoder(SAEConfig(dim=2, latents=2, k=1)) for m in ("image", "text")}
    with torch.no_grad():
        for sae, rows in zip(saes.values(), (torch.eye(2), torch.eye(2).flip(0)), strict=True):
            sae.encoder.copy_(rows)
            sae.dictionary.copy_(rows)
    return Method(saes)


CONCEPTS, ALPHAS = ["icon:east", "icon:north"], [0.0, 2.0]


def test_the_latent_that_captions_choose_is_pushed_and_of_posthoc_its_best_partner_as_well(plane_method):
    found = steer_method(Plane(), plane_method, "posthoc", CONCEPTS, ALPHAS, seed=1)
    latents = found.drop_duplicates(["method", "concept"]).set_index(["method", "concept"])["latent"]
    assert latents.to_dict() == {
        ("posthoc", "icon:east"): 1, ("posthoc", "icon:north"): 0, (PARTNER, "icon:east"): 0, (PARTNER, "icon:north"): 1
    }  # fmt: skip
    pushed = found[(found["alpha"] == 2) & (found["gallery"] == "images")].groupby("method")["mAP"].mean()
    assert pushed[PARTNER] == 1 > pushed["posthoc"]
    other = steer_method(Plane(), plane_method, "separated", CONCEPTS, ALPHAS, seed=1)
    assert set(other["method"]) == {"separated"} and set(other["latent"]) == {0, 1}


def test_the_directions_of_labels_steer_to_what_they_name():
    found = steer_by_labels(Plane(), CONCEPTS, ALPHAS, seed=1)
    assert found[found["alpha"] == 2]["mAP"].tolist() == [1] * 4 and (found[found["alpha"] == 0]["mAP"] < 1).all()
    assert found["concept"].drop_duplicates().tolist() == CONCEPTS
