import io
import json
import os
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from runs import resealed

from xsae.data import store as stores
from xsae.data.own import from_arrays, import_file, read_npz
from xsae.data.store import open_store, write_store

COCO = Path(__file__).resolve().parents[2] / "shared/data/coco_val2017_clip_vitb16_500pairs.npz"


def rows(n, d=4, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


def pairs(n=10, n_test=2, **columns):
    split = ["train"] * (n - n_test) + ["test"] * n_test
    return pd.DataFrame({"image": np.arange(n), "text": np.arange(n), "split": split, **columns})


def store(path, **changes):
    arrays = {"image": rows(10), "text": rows(10, seed=1)} | changes
    return write_store(path, arrays, pairs(), model="m", source="s")


def test_what_is_written_is_read_back_at_unit_norm(tmp_path):
    image = rows(10)
    opened = store(tmp_path / "s", image=image)
    assert opened.modalities == ("image", "text") and opened.dim == 4
    np.testing.assert_allclose(opened["image"], image / np.linalg.norm(image, axis=1, keepdims=True), atol=1e-6)
    assert isinstance(opened["image"], np.memmap) and opened["image"].dtype == np.float32
    np.testing.assert_allclose(opened.raw("image"), image, atol=1e-6)
    assert opened.split("test")["image"].tolist() == [8, 9] and len(opened.split("train")) == 8
    assert opened.manifest["pairs"] == {"train": 8, "test": 2} and opened.manifest["model"] == "m"
    with pytest.raises(ValueError, match="read-only"):
        opened["image"][0] = 0


def test_any_number_of_modalities_under_any_name(tmp_path):
    names = ("audio", "image", "text")
    table = pairs().assign(audio=np.arange(10)[::-1])
    opened = write_store(tmp_path / "s", {name: rows(10) for name in names}, table, model="m", source="s")
    assert opened.modalities == names and opened.rows("audio", "test").tolist() == [0, 1]


def test_what_is_a_pair_is_of_one_group_in_every_modality(tmp_path):
    # pair: image, text, audio; images 0 and 2 share audio 1, image 3 stands alone
    table = pd.DataFrame(
        {"image": [2, 2, 0, 3], "text": [0, 1, 2, 3], "audio": [1, 1, 1, 0], "split": ["train"] * 4}
    )  # fmt: skip
    names = ("image", "text", "audio")
    opened = write_store(tmp_path / "s", {name: rows(10) for name in names}, table, model="m", source="s")
    rows_and_groups = {name: (opened.rows(name, "train"), opened.groups(name, "train")) for name in names}
    assert {name: indices.tolist() for name, (indices, _) in rows_and_groups.items()} == {
        "image": [0, 2, 3], "text": [0, 1, 2, 3], "audio": [0, 1],
    }  # fmt: skip
    (one, same, other) = rows_and_groups["image"][1]
    assert one == same < other  # in the order of the first modality's rows
    assert rows_and_groups["text"][1].tolist() == [one, one, one, other]
    assert rows_and_groups["audio"][1].tolist() == [other, one]


def test_same_input_same_bytes(tmp_path):
    for name in "ab":
        store(tmp_path / name)
    for file in ("image.npy", "text.npy", "pairs.parquet", "manifest.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert open_store(tmp_path / "a").fingerprint == open_store(tmp_path / "b").fingerprint
    assert store(tmp_path / "c", image=rows(10, seed=7)).fingerprint != open_store(tmp_path / "a").fingerprint


def spoil(value):
    array = rows(10)
    array[[3, 5]] = value
    return array


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": spoil(np.nan)}, "image: 2 rows are NaN or infinite, the first is row 3"),
        ({"text": spoil(np.inf)}, "text: 2 rows are NaN or infinite, the first is row 3"),
        ({"text": spoil(0)}, "text: 2 rows are zero, the first is row 3"),
        ({"text": rows(10, d=5)}, r"dimensions differ \(image 4, text 5\)"),
        ({"text": np.ones(10)}, r"text: float64 of shape \(10,\) found"),
        ({"text": np.ones((10, 4), int)}, "text: int64 of shape"),
        ({"text": rows(9)}, "column `text` must hold row numbers from 0 to 8"),
        ({"split": rows(10)}, "'split' is taken, or no name for a modality"),
        ({"image_norm": rows(10)}, "'image_norm' is taken"),  # its file is that of the images' norms
        ({"../text": rows(10)}, "'../text' is taken, or no name for a modality"),
    ],
)
def test_bad_rows_are_refused_and_nothing_is_written(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message) as raised:
        store(tmp_path / "s", **changes)
    assert "\n" not in str(raised.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pairs().drop(columns="split"), "column `split` is missing"),
        (pairs().assign(split="dev"), "split 'dev' is unknown"),
        (pairs().assign(image=-1), "column `image` must hold row numbers"),
        (pairs().assign(image=0), "image row 0 is in train and in test pairs"),
    ],
)
def test_bad_pairs_are_refused_and_nothing_is_written(tmp_path, table, message):
    with pytest.raises(ValueError, match=message):
        write_store(tmp_path / "s", {"image": rows(10), "text": rows(10)}, table, model="m", source="s")
    assert not list(tmp_path.iterdir())


def flip(file):
    data = bytearray(file.read_bytes())
    data[-4] ^= 1  # the lowest bit of a matrix's last value
    file.write_bytes(data)


def shorten(file):
    file.write_bytes(file.read_bytes()[:-8])


@pytest.mark.parametrize("file", ["image.npy", "text.npy", "pairs.parquet"])
@pytest.mark.parametrize(("harm", "message"), [(flip, "altered"), (shorten, "bytes expected"), (os.remove, "nothing")])
def test_a_harmed_file_is_refused_by_name(tmp_path, file, harm, message):
    store(tmp_path / "s")
    harm(tmp_path / "s" / file)
    with pytest.raises(ValueError, match=f"{file}.*{message}") as raised:
        open_store(tmp_path / "s")
    assert "\n" not in str(raised.value)


def test_a_manifest_that_does_not_fit_is_refused(tmp_path):
    store(tmp_path / "s")
    path = tmp_path / "s" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["modalities"]["text"]["rows"] = 11
    path.write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"manifest.json: altered: what it says does not fit its sha256"):
        open_store(tmp_path / "s")
    resealed(path, modalities=manifest["modalities"])
    with pytest.raises(ValueError, match=r"text.npy: .*11, 4.* expected, .*10, 4.* found"):
        open_store(tmp_path / "s")
    path.write_text(path.read_text()[:50])
    with pytest.raises(ValueError, match="manifest.json: truncated or altered"):
        open_store(tmp_path / "s")


def test_large_stores_are_hashed_on_request_only(tmp_path, monkeypatch):
    store(tmp_path / "s")
    flip(tmp_path / "s" / "image.npy")
    monkeypatch.setattr(stores, "ALWAYS_HASHED", 10)
    open_store(tmp_path / "s")
    with pytest.raises(ValueError, match="altered"):
        open_store(tmp_path / "s", verify=True)


def test_rows_without_unit_norm_are_found_in_a_large_store(tmp_path, monkeypatch):
    store(tmp_path / "s")
    monkeypatch.setattr(stores, "ALWAYS_HASHED", 10)
    array = np.lib.format.open_memmap(tmp_path / "s" / "image.npy", mode="r+")
    array[4] *= 2
    array.flush()
    with pytest.raises(ValueError, match="image.npy: rows of unit norm expected, one of norm 2 found"):
        open_store(tmp_path / "s")


def test_a_failure_while_replacing_leaves_the_former_store(tmp_path, monkeypatch):
    before = store(tmp_path / "s").fingerprint
    replace = os.replace

    def fails_on_the_new_one(source, target):
        if Path(source).parent.name == "new":
            raise OSError("disk full")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fails_on_the_new_one)
    with pytest.raises(OSError, match="disk full"):
        store(tmp_path / "s", image=rows(10, seed=9))
    assert open_store(tmp_path / "s").fingerprint == before
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_a_missing_store_names_what_makes_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="notebook 00_embeddings makes it"):
        open_store(tmp_path / "nothing")


def test_texts_of_one_image_stay_on_one_side(tmp_path):
    index = np.random.default_rng(3).integers(0, 40, 200)
    captions = [f"caption {i}" for i in range(200)]
    opened = from_arrays(
        tmp_path / "s", image=rows(50), text=rows(200), image_index=index, caption=captions, held_out=0.25
    )
    train, test = opened.split("train"), opened.split("test")
    assert len(train) + len(test) == 200 and not set(train["image"]) & set(test["image"])
    assert test["image"].nunique() == round(0.25 * len(np.unique(index)))
    assert (test["image"].to_numpy() == index[test["text"]]).all()
    assert test["caption"].iloc[0] == captions[test["text"].iloc[0]]
    again = from_arrays(tmp_path / "t", image=rows(50), text=rows(200), image_index=index, held_out=0.25)
    assert again.split("test")["text"].tolist() == test["text"].tolist()


def test_the_split_of_images_and_their_texts_is_the_one_drawn_over_images(tmp_path):
    """As it always was: a permutation of the images that have a text, of which the first are held out."""
    index = np.random.default_rng(3).integers(0, 40, 60)
    opened = from_arrays(tmp_path / "s", image=rows(50), text=rows(60), image_index=index, held_out=0.3, seed=5)
    images = np.unique(index)
    held_out = np.random.default_rng(5).permutation(images)[: round(0.3 * len(images))]
    assert opened.pairs.columns.tolist() == ["image", "text", "split"]
    assert (opened.pairs["image"] == index).all() and (opened.pairs["text"] == np.arange(60)).all()
    assert ((opened.pairs["split"] == "test") == np.isin(index, held_out)).all()


def test_any_modalities_come_in_the_reference_first(tmp_path):
    arrays = {name: rows(20, seed=seed) for seed, name in enumerate(("audio", "image", "depth"))}
    opened = from_arrays(tmp_path / "s", **arrays)
    assert opened.modalities == ("image", "audio", "depth")
    assert (opened.pairs[["image", "audio", "depth"]].to_numpy() == np.arange(20)[:, None]).all()
    np.testing.assert_allclose(opened.raw("depth"), arrays["depth"], atol=1e-6)
    assert from_arrays(tmp_path / "t", audio=rows(20), text=rows(20)).modalities == ("audio", "text")


def test_an_index_of_any_modality_says_its_row_and_what_it_joins_stays_on_one_side(tmp_path):
    # twelve texts in a row are four images and three sounds, and share none with the next twelve
    texts = np.arange(144)
    arrays = {"image": rows(48), "text": rows(144), "audio": rows(36)}
    index = {"image_index": texts // 3, "audio_index": texts // 4}
    np.savez(tmp_path / "own.npz", **arrays, **index)
    opened = import_file(tmp_path / "s", tmp_path / "own.npz", held_out=0.25, modalities=["text", "image", "audio"])
    assert opened.modalities == ("image", "text", "audio")
    assert (opened.pairs["image"] == texts // 3).all() and (opened.pairs["audio"] == texts // 4).all()
    sides = (opened.pairs["split"] == "test").to_numpy().reshape(12, 12)
    assert (sides.all(axis=1) | ~sides.any(axis=1)).all() and sides.all(axis=1).sum() == 3
    with pytest.raises(ValueError, match="6 groups of pairs; at least 10 that share no row"):
        from_arrays(tmp_path / "t", **arrays, image_index=texts // 3, audio_index=texts // 24)


def test_other_arrays_of_a_file_are_not_read(tmp_path):
    """As they never were: columns, tables of integers, and objects, which would have to be unpickled."""
    more = {"score": rows(12)[:, 0], "size": np.ones((12, 2), int), "about": np.array([{}] * 12), "class_text": rows(3)}
    np.savez(tmp_path / "own.npz", **GOOD, **more)
    assert list(read_npz(tmp_path / "own.npz")) == ["image", "text"]


@pytest.mark.parametrize(
    ("stray", "message"),
    [
        (
            {"pca": rows(12)},
            r"pca, a float matrix \(12, 4\) beside image and text, may be .* or not: --modalities image,text ",
        ),
        ({"pca": rows(3, d=2)}, r"pca, .* leaves it out, --modalities image,text,pca takes all"),
        (
            {"pca": rows(12).astype(np.float16), "umap": rows(12, d=2)},
            "pca, .*--modalities image,text,pca,umap takes all",
        ),
        ({"pca": rows(12), "pca_index": np.arange(12)}, "pca, a float matrix"),
    ],
)
def test_a_float_matrix_that_nobody_named_is_asked_about(tmp_path, stray, message):
    np.savez(tmp_path / "own.npz", **GOOD, **stray)
    with pytest.raises(ValueError, match=f"own.npz: {message}") as raised:
        import_file(tmp_path / "s", tmp_path / "own.npz", held_out=0.2)
    assert "\n" not in str(raised.value) and not (tmp_path / "s").exists()
    named = import_file(tmp_path / "s", tmp_path / "own.npz", held_out=0.2, modalities=["image", "text"])
    assert named.modalities == ("image", "text")  # its index, which is of no modality now, is left out with it


def test_three_matrices_of_any_names_are_asked_about(tmp_path):
    np.savez(tmp_path / "own.npz", audio=rows(12), text=rows(12), video=rows(12))
    with pytest.raises(ValueError, match=r"video, a float matrix \(12, 4\) beside audio and text"):
        read_npz(tmp_path / "own.npz")
    assert list(read_npz(tmp_path / "own.npz", ["text", "video"])) == ["text", "video"]


@pytest.mark.parametrize(
    ("modalities", "message"),
    [
        (["image", "txt"], "no float matrix `txt`, which is to be a modality; found image, text"),
        (["image", ""], "no float matrix ``"),
        (["image"], "`image` alone found; at least two"),
        (["image", "caption"], "no float matrix `caption`"),
        (["image", "image_index"], "no float matrix `image_index`"),
        (["image", "class_text"], "no float matrix `class_text`"),
        (["image", "size"], "no float matrix `size`"),
        (["image", "../text"], "no float matrix `../text`"),
    ],
)
def test_modalities_that_a_file_has_not_are_named(tmp_path, modalities, message):
    more = {"image_index": np.arange(12), "class_text": rows(3), "size": np.ones((12, 2), int)}
    np.savez(tmp_path / "own.npz", **GOOD, **more, caption=np.array(["x"] * 12))
    with pytest.raises(ValueError, match=f"own.npz: {message}") as raised:
        read_npz(tmp_path / "own.npz", modalities)
    assert "\n" not in str(raised.value)


def spoiled(row, value, n=12):
    array = rows(n)
    array[row] = value
    return array


GOOD = {"image": rows(12), "text": rows(12, seed=1)}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"image": rows(12)}, "`image` alone found; at least two modalities, such as `image` and `text`, are needed"),
        ({"caption": np.array(["a"])}, "none found; at least two modalities"),
        (GOOD | {"text": rows(11)}, "image has 12 rows, text 11; equal counts or an `image_index`"),
        (GOOD | {"text": rows(12, d=3)}, r"dimensions differ \(image 4, text 3\); one joint space has one"),
        (GOOD | {"image": np.ones((12, 4)) * np.nan}, "image: 12 rows are NaN"),
        (GOOD | {"image_index": np.arange(11)}, r"image_index is int64 \(11,\); integers \(12,\)"),
        (GOOD | {"image_index": np.arange(12.0)}, "image_index is float64"),
        (GOOD | {"image_index": np.arange(12) + 1}, "image_index goes from 1 to 12; 0 to 11 is valid"),
        (GOOD | {"caption": np.array(["a"])}, r"caption has shape \(1,\); one per pair, \(12,\)"),
        (GOOD | {"thumbnail": np.zeros((12, 4, 4, 3))}, r"thumbnail: float64 of shape .* found; uint8 \(12, height"),
        (GOOD | {"image_path": np.array(["a.png"])}, r"image_path: .* of shape \(1,\) found; text \(12,\) is needed"),
        (GOOD | {"image_path": np.arange(12)}, r"image_path: int64 .* a path for each image"),
        ({"image": rows(9), "text": rows(9)}, "9 pairs; at least 10 that share no row"),
        (GOOD | {"image_index": np.arange(12) % 9}, "9 groups of pairs; at least 10 that share no row"),
        (GOOD | {"audio": rows(11)}, "image has 12 rows, text 12, audio 11; equal counts or an `image_index`"),
        (GOOD | {"audio": rows(12, d=5)}, r"dimensions differ \(image 4, text 4, audio 5\)"),
        (GOOD | {"audio": spoiled([3, 5], 0)}, "audio: 2 rows are zero, the first is row 3"),
        (GOOD | {"audo_index": np.arange(12)}, "audo_index is of no modality; found image, text"),
        (GOOD | {"text": np.ones((12, 4), int)}, "text: int64 of shape"),
        (GOOD | {"text-2": rows(12)}, "'text-2' is taken, or no name for a modality"),
        (GOOD | {"caption": np.array([{}] * 12)}, "not readable"),  # objects would have to be unpickled
    ],
)
def test_bad_files_of_ones_own_get_one_line(tmp_path, arrays, message):
    np.savez(tmp_path / "own.npz", **arrays)
    matrices = [name for name, array in arrays.items() if np.ndim(array) == 2]
    with pytest.raises(ValueError, match=message) as raised:
        read_npz(tmp_path / "own.npz", matrices if len(matrices) > 2 else ())
    assert "own.npz" in str(raised.value) and "\n" not in str(raised.value)


def test_files_that_are_no_npz_get_one_line(tmp_path):
    np.savez(tmp_path / "cut.npz", **GOOD)
    data = (tmp_path / "cut.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(data[: len(data) // 2])
    np.save(tmp_path / "one.npy", rows(3))
    (tmp_path / "words.npz").write_text("hello")
    for name in ("cut.npz", "one.npy", "words.npz"):
        with pytest.raises(ValueError, match=f"{name}: not readable") as raised:
            read_npz(tmp_path / name)
        assert "\n" not in str(raised.value)
    with pytest.raises(FileNotFoundError, match="nothing.npz: no such file"):
        read_npz(tmp_path / "nothing.npz")


def test_real_clip_embeddings_come_in(tmp_path):
    if not COCO.is_file():
        pytest.skip("the shared CLIP embeddings are not on this machine")
    opened = import_file(tmp_path / "s", COCO, held_out=0.2)
    assert (len(opened.split("train")), len(opened.split("test")), opened.dim) == (400, 100, 512)
    image, text = np.asarray(opened["image"]), np.asarray(opened["text"])
    similarity = image @ text.T
    assert np.diag(similarity).mean() == pytest.approx(0.310, abs=0.005)
    assert (similarity.sum() - np.trace(similarity)) / (500 * 499) == pytest.approx(0.162, abs=0.005)


# --- arrays of one's own that mean harm, or were harmed ---


def npy(shape, dtype="<f8", data=b""):
    """An .npy file whose header states what its data needn't be."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue() + data


def archive(path, compression=zipfile.ZIP_STORED, **members):
    with zipfile.ZipFile(path, "w", compression) as out:
        for name, array in members.items():
            content = io.BytesIO()
            if not isinstance(array, bytes):
                np.save(content, array)
            out.writestr(f"{name}.npy", array if isinstance(array, bytes) else content.getvalue())


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"image": npy((10**12, 4))}, r"image: \d+ bytes found where shape \(1000000000000, 4\) of float64 needs"),
        ({"text": npy((12, 4), data=b"x" * 100)}, r"text: \d+ bytes found where shape \(12, 4\) of float64 needs \d+"),
        ({"image": npy((12, 4), data=b"x" * 400)}, "image: .* the file is damaged"),
        ({"image": b"\x93NUMPY\x01\x00"}, "image: not readable"),
        ({"image": b""}, "image: not readable"),
        ({"image": b"hello"}, "image: not readable"),
        ({"image": npy((-1, 4))}, "image: "),
        ({"image": spoiled(3, 1e30)}, r"image: 1 rows are longer than 1e\+18, the first is row 3; remove them"),
        ({"image": spoiled(3, 1e300)}, r"image: 1 rows are longer than 1e\+18"),
        ({"image": spoiled(3, 1e-30)}, "image: 1 rows are shorter than 1e-18, the first is row 3"),
        ({"image": spoiled(3, 0)}, "image: 1 rows are zero"),
        ({"image": spoiled(3, np.inf)}, "image: 1 rows are NaN or infinite"),
        ({"image": spoiled(3, np.nan).astype(np.float16)}, "image: 1 rows are NaN or infinite"),
        ({"image": rows(12).astype(complex)}, "image: complex128 of shape"),
        ({"image": rows(12)[:, 0]}, r"image: float64 of shape \(12,\) found; a float matrix"),
        ({"image": np.ones((12, 0))}, "image has dimension 0; a direction needs 2 or more"),
        ({"image": np.array(1.0)}, r"image: float64 of shape \(\) found"),
        ({"image": np.ones((12, 4), bool)}, "image: bool of shape"),
        ({"caption": np.array([b"\xff\xfe"] * 12)}, "caption: row 0 is not UTF-8"),
        ({"caption": np.array(["fine"] * 11 + ["\ud83d"])}, "caption: row 11 is not UTF-8"),
        ({"caption": np.arange(12)}, "caption: int64 found; text is needed"),
        ({"caption": np.zeros(12)}, "caption: float64 found; text is needed"),
        ({"caption": np.array([["a"]] * 12)}, r"caption has shape \(12, 1\)"),
        ({"caption": np.array([{}] * 12)}, "caption: not readable: Object arrays cannot be loaded"),
        ({"image_index": np.arange(12).astype(np.uint64) + 2**63}, "image_index goes from 9223372036854775808"),
        ({"image_index": np.arange(12) - 1}, "image_index goes from -1 to 10"),
        ({"image_index": np.zeros((12, 1), int)}, r"image_index is int64 \(12, 1\)"),
        ({"image_index": np.array(3)}, r"image_index is int64 \(\)"),
    ],
)
def test_arrays_that_mean_harm_are_named_in_one_line(tmp_path, arrays, message):
    archive(tmp_path / "own.npz", **GOOD | arrays)
    with pytest.raises(ValueError, match=f"own.npz: .*{message}") as raised, warnings.catch_warnings():
        warnings.simplefilter("error")
        import_file(tmp_path / "s", tmp_path / "own.npz", held_out=0.2)
    assert "\n" not in str(raised.value) and [path.name for path in tmp_path.iterdir()] == ["own.npz"]


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_compression_is_named_with_its_array(tmp_path, compression):
    archive(tmp_path / "own.npz", compression, **GOOD)
    data = bytearray((tmp_path / "own.npz").read_bytes())
    for place in range(80, 300):  # in the first array, its header left alone or not
        data[place] ^= 0x5A
    (tmp_path / "own.npz").write_bytes(data)
    with pytest.raises(ValueError, match="own.npz: image: ") as raised:
        read_npz(tmp_path / "own.npz")
    assert "\n" not in str(raised.value)


def test_an_encrypted_archive_and_an_array_that_is_there_twice_are_named(tmp_path):
    archive(tmp_path / "own.npz", **GOOD)
    data = bytearray((tmp_path / "own.npz").read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + flags] |= 1
    (tmp_path / "own.npz").write_bytes(data)
    with pytest.raises(ValueError, match="own.npz: image: not readable: .*encrypted"):
        read_npz(tmp_path / "own.npz")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(tmp_path / "twice.npz", "w") as out:
            for _ in range(2):
                out.writestr("image.npy", npy((12, 4), data=bytes(384)))
    with pytest.raises(ValueError, match="twice.npz: image is there twice"):
        read_npz(tmp_path / "twice.npz")


def test_captions_may_be_bytes_and_of_any_language(tmp_path):
    words = ["größe", "数据", "🙂", "nul\0in the middle", ""] + ["x"] * 7
    for captions in (np.array([word.encode() for word in words]), np.array(words), np.array(words, object)):
        store = from_arrays(tmp_path / "s", **GOOD, caption=captions)
        assert store.pairs["caption"].tolist() == words


def test_a_file_that_inflates_costs_its_own_size_and_what_does_not_fit_is_not_read(tmp_path):
    """Zeros compress a thousandfold: 160 MB in a file of 0.2 MB, which are refused as zero."""
    archive(tmp_path / "own.npz", zipfile.ZIP_DEFLATED, image=np.zeros((1_000_000, 10)), text=np.zeros((1_000_000, 10)))
    tracemalloc.start()
    with pytest.raises(ValueError, match="image: 1000000 rows are zero"):
        read_npz(tmp_path / "own.npz")
    _, peak = tracemalloc.get_traced_memory()
    assert peak < 1.6 * 160e6
    archive(tmp_path / "own.npz", zipfile.ZIP_DEFLATED, image=np.zeros((1_000_000, 10)), text=np.zeros((10, 10)))
    tracemalloc.reset_peak()
    with pytest.raises(ValueError, match="image has 1000000 rows, text 10"):
        read_npz(tmp_path / "own.npz")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20e6


def test_a_matrix_written_in_blocks_is_the_same_store(tmp_path, monkeypatch):
    whole = from_arrays(tmp_path / "a", **GOOD)
    monkeypatch.setattr(stores, "BLOCK", 5)
    assert from_arrays(tmp_path / "b", **GOOD).fingerprint == whole.fingerprint
