"""What a store has to steer by, on a few rows made by hand."""

import numpy as np
import pandas as pd

from xsae.evaluation.steering_data import LEAST, concepts_of, first_captions, held_out


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
    assert concepts_of([few, many], ["icon"]) == ["icon:a", "icon:d"]  # a hundredth of the smallest: 3
    assert concepts_of([many], ["icon"]) == ["icon:b", "icon:c", "icon:d"] and LEAST == 20
    assert concepts_of([few], ["colour"]) == []
