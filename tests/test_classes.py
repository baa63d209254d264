import numpy as np
import pytest

from xsae.data.classes import average_templates, import_classes, read_classes, write_classes
from xsae.data.own import import_file
from xsae.data.store import open_store


def rows(n, d=4, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


GOOD = {"image": rows(12), "text": rows(12, seed=1)}
CLASSES = {"class_text": rows(2), "class_image": rows(3), "class_label": np.array([1, 0, 1])}


def test_classes_come_in_as_a_store_within_the_store_and_go_with_it(tmp_path):
    np.savez(tmp_path / "with.npz", **GOOD, **CLASSES)
    np.savez(tmp_path / "without.npz", **GOOD)
    import_file(tmp_path / "s", tmp_path / "with.npz", held_out=0.2)
    classes = import_classes(tmp_path / "s/classes", tmp_path / "with.npz")
    assert classes.pairs[["image", "text"]].to_numpy().tolist() == [[0, 1], [1, 0], [2, 1]]
    assert set(classes.pairs["split"]) == {"test"}
    unit = CLASSES["class_image"] / np.linalg.norm(CLASSES["class_image"], axis=1, keepdims=True)
    np.testing.assert_allclose(classes["image"], unit, rtol=1e-6)
    open_store(tmp_path / "s", verify=True)  # the classes within are no part of it

    import_file(tmp_path / "s", tmp_path / "without.npz", held_out=0.2)
    assert read_classes(tmp_path / "without.npz") == {}
    assert import_classes(tmp_path / "s/classes", tmp_path / "without.npz") is None
    assert not (tmp_path / "s/classes").exists()


def test_an_image_with_several_classes_is_in_several_pairs(tmp_path):
    store = write_classes(tmp_path / "c", rows(3), rows(4), [{2, 0}, {1}, set()], model="m", source="s")
    assert store.pairs[["image", "text"]].to_numpy().tolist() == [[0, 0], [0, 2], [1, 1]]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (GOOD | {"class_text": rows(2)}, "`class_image` is missing; zero-shot needs class_text, class_image"),
        (
            {"audio": rows(12), "text": rows(12), **CLASSES},
            "`image` is missing; zero-shot needs class_text, .*, image, text",
        ),
        (GOOD | CLASSES | {"class_text": np.zeros((2, 4))}, "class_text: 2 rows are zero"),
        (GOOD | CLASSES | {"class_image": np.ones((3, 5))}, "class_image has 5 dimensions, image 4"),
        (GOOD | CLASSES | {"class_label": np.array([0, 1])}, r"class_label is int64 \(2,\); integers \(3,\)"),
        (GOOD | CLASSES | {"class_label": np.array([0, 1, 2])}, "class_label goes from 0 to 2; 0 to 1 is valid"),
    ],
)
def test_classes_that_do_not_fit_get_one_line(tmp_path, arrays, message):
    np.savez(tmp_path / "own.npz", **arrays)
    with pytest.raises(ValueError, match=message) as raised:
        read_classes(tmp_path / "own.npz")
    assert "own.npz" in str(raised.value) and "\n" not in str(raised.value)


def test_templates_are_averaged_as_directions():
    # Class 0: (1, 0) and (0, 1), at lengths 10 and 1, average to the diagonal. Class 1: the same prompt twice.
    embeddings = np.array([[[10, 0], [0, 1]], [[3, 4], [3, 4]]], np.float32)
    average = average_templates(embeddings)
    np.testing.assert_allclose(average, [[0.5**0.5, 0.5**0.5], [0.6, 0.8]], rtol=1e-6)
    assert average.dtype == np.float32


def test_prompts_without_a_direction_are_refused():
    with pytest.raises(ValueError, match=r"embeddings has shape \(2, 3\)"):
        average_templates(np.ones((2, 3)))
    with pytest.raises(ValueError, match="embeddings of the prompts: 1 rows are zero, the first is row 2"):
        average_templates(np.array([[[1.0, 0], [1, 0]], [[0, 0], [1, 0]]]))
    with pytest.raises(ValueError, match="means of the classes: 1 rows are zero"):
        average_templates(np.array([[[0.1, 0.3], [-0.3, -0.9]]]))  # opposite but for rounding


@pytest.mark.parametrize("name", ["class_text", "class_image", "class_label"])
def test_empty_classes_are_named(tmp_path, name):
    arrays = {"class_text": np.eye(4), "class_image": np.eye(4), "class_label": np.arange(4)}
    arrays[name] = arrays[name][:0]
    np.savez(tmp_path / "own.npz", image=np.eye(20, 4) + 1, text=np.eye(20, 4) + 1, **arrays)
    with pytest.raises(ValueError, match=rf"own.npz: {name} is empty, of shape \(0"):
        read_classes(tmp_path / "own.npz")
