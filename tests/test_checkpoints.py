"""What is kept in folders and comes back from anywhere: everything that is altered is one line, whoever altered it."""

import json
import os
import shutil
import struct

import numpy as np
import pandas as pd
import pytest
import torch
from runs import resealed
from safetensors import safe_open
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file

from xsae.alignment import Alignment
from xsae.data.store import open_store, write_store
from xsae.disk.markers import file_about
from xsae.methods import Method
from xsae.run.checkpoints import load, save
from xsae.sae import SAEConfig, SparseAutoencoder
from xsae.training import TrainingConfig

X = np.random.default_rng(0).standard_normal((40, 4)).astype(np.float32)
SAES = {name: SparseAutoencoder(SAEConfig(4, 8, 2), seed) for seed, name in enumerate(("image", "text"))}
ALIGNMENT = Alignment().fit(*(sae.transform(X) for sae in SAES.values()))
PAIRS = pd.DataFrame({"image": range(40), "text": range(40), "split": ["train"] * 30 + ["test"] * 10})


def opened_whole(path):
    store = open_store(path)
    return store.pairs, store.raw("image")


# kind -> how it is written, its marker, how it is read
KINDS = {
    "store": (
        lambda path: write_store(path, {"image": X, "text": X}, PAIRS, model="m", source="s"),
        "manifest.json",
        opened_whole,
    ),
    "sae": (SAES["image"].save, "config.json", SparseAutoencoder.from_pretrained),
    "method": (Method(SAES, {"text": ALIGNMENT}).save_pretrained, "config.json", Method.from_pretrained),
    "training": (
        lambda path: save(path, SAES, pd.DataFrame({"loss": [1.0]}), "separated", TrainingConfig(), 1, "data"),
        "training.json",
        lambda path: load(path, "data"),
    ),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder of each kind."""
    root = tmp_path_factory.mktemp("whole")
    for name, (write, *_) in KINDS.items():
        write(root / name)
    return root


@pytest.fixture(params=KINDS)
def kind(request, whole, tmp_path):
    shutil.copytree(whole / request.param, tmp_path / request.param)
    _, marker, read = KINDS[request.param]
    return tmp_path / request.param, marker, read


def refused(read, folder, message=None):
    """That reading it is an OSError or ValueError of one line that names the folder."""
    with pytest.raises((OSError, ValueError), match=message) as error:
        read(folder)
    assert str(folder) in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 600


def test_what_is_whole_comes_back(kind):
    folder, _, read = kind
    read(folder)


@pytest.mark.parametrize("harm", ["flip", "cut", "remove", "empty", "folder", "pipe"])
def test_every_file_is_watched_over(kind, harm):
    folder, _, read = kind
    for file in [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "README.md"]:
        data = file.read_bytes()
        file.unlink()
        if harm == "flip":
            file.write_bytes(data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :])
        elif harm == "cut":
            file.write_bytes(data[:-2])  # the last byte of a marker is the end of its line
        elif harm == "empty":
            file.write_bytes(b"")
        elif harm == "folder":
            file.mkdir()
        elif harm == "pipe":
            os.mkfifo(file)
        refused(read, folder)
        if file.is_dir():
            file.rmdir()
        file.unlink(missing_ok=True)
        file.write_bytes(data)
    read(folder)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "3", '"x"', "{}", '{"format": "pt"}', "[" * 100_000, "\x00", '{"a": 1e999}', "NaN",
     '{"format": ["xsae.store.1"]}', "9" * 5000],
)  # fmt: skip
def test_a_marker_that_is_none_is_one_line(kind, text):
    folder, marker, read = kind
    (folder / marker).write_text(text)
    refused(read, folder, marker)


@pytest.mark.parametrize("data", [b"\xff\xfe", b"\x80abc"])
def test_a_marker_that_is_no_text_is_one_line(kind, data):
    folder, marker, read = kind
    (folder / marker).write_bytes(data)
    refused(read, folder, marker)


def test_every_word_of_a_marker_is_covered_by_its_checksum(kind):
    folder, marker, read = kind
    said = json.loads((folder / marker).read_text())
    for key, value in said.items():
        for other in ({name: word for name, word in said.items() if name != key}, said | {key: [value]}):
            (folder / marker).write_text(json.dumps(other))
            refused(read, folder, marker)
    (folder / marker).write_text(json.dumps(said | {"note": "mine"}))
    refused(read, folder, "altered: what it says does not fit its sha256")


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "a/../../outside", "link"])
def test_files_outside_the_folder_are_refused_even_where_they_fit(kind, tmp_path, name):
    folder, marker, read = kind
    (tmp_path / "outside").write_text("mine")
    (folder / "a").mkdir()
    (folder / "link").symlink_to(tmp_path / "outside")
    files = json.loads((folder / marker).read_text())["files"]
    resealed(folder / marker, files=files | {name: file_about(folder / name)})
    refused(read, folder, "lies outside")


@pytest.mark.parametrize("files", [[], None, 3, {"model.safetensors": 3}, {"x": {}}, {"x": {"bytes": 1}}])
def test_files_that_are_none_are_one_line(kind, files):
    folder, marker, read = kind
    resealed(folder / marker, files=files)
    refused(read, folder)


@pytest.mark.parametrize(
    "modalities",
    [None, {}, [], "image", {"image": 3}, {"image": {}}, {"../x": "../x", "text": "text"}, {"image": None},
     {"image": ["image"]}, {"image": "../image"}, {"image": {"rows": "40", "dim": 4}, "text": {}}],
)  # fmt: skip
def test_modalities_that_are_none_are_one_line(whole, tmp_path, modalities):
    for name in ("store", "method", "training"):
        shutil.copytree(whole / name, tmp_path / name)
        _, marker, read = KINDS[name]
        resealed(tmp_path / name / marker, modalities=modalities)
        refused(read, tmp_path / name)


@pytest.mark.parametrize("aligned", [None, [], "text", ["image"], ["text", "text"], [["text"]], {"text": 1}, ["../x"]])
def test_alignments_that_are_none_are_one_line(whole, tmp_path, aligned):
    shutil.copytree(whole / "method", tmp_path / "method")
    resealed(tmp_path / "method" / "config.json", aligned=aligned)
    refused(Method.from_pretrained, tmp_path / "method", "`aligned`")


@pytest.mark.parametrize("settings", [None, [], 3, {}, {"data": 3}, {"data": "other"}])
def test_settings_that_are_none_are_one_line(whole, tmp_path, settings):
    shutil.copytree(whole / "training", tmp_path / "training")
    resealed(tmp_path / "training" / "training.json", settings=settings)
    refused(KINDS["training"][2], tmp_path / "training")


# --- an autoencoder's config and weights ---


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latents": 10**9}, r"dictionary: F32 \(1000000000, 4\) expected by config.json, F32 \(8, 4\) found"),
        ({"dim": 10**12}, r"F32 \(.*1000000000000.* expected by config.json"),
        ({"latents": 10**30}, "latents"), ({"latents": 0}, "latents: 0 found"), ({"k": 9}, "k: 9 active latents"),
        ({"k": 0}, "k: 0 found"), ({"k": True}, "k: True found; int is needed"), ({"k": "2"}, "k: '2' found; int"),
        ({"k": None}, "k: None found"), ({"k": 2.0}, "k: 2.0 found"), ({"dim": -4}, "dim: -4 found"),
        ({"normalize": 1}, "normalize: 1 found; bool is needed"), ({"activation": []}, r"activation: \[\] found; str"),
        ({"activation": "gelu"}, "'gelu' is unknown"), ({"activation": "jumprelu"}, "activation.threshold"),
        ({"kk": 3}, "unknown key 'kk'"), ({"format": "xsae.sae.0"}, "format xsae.sae.1 expected"),
    ],
)  # fmt: skip
def test_a_config_that_does_not_fit_is_refused_before_memory_is_taken(whole, tmp_path, changes, message):
    shutil.copytree(whole / "sae", tmp_path / "sae")
    resealed(tmp_path / "sae" / "config.json", **changes)
    refused(SparseAutoencoder.from_pretrained, tmp_path / "sae", message)


def nan(weights):
    weights["encoder_bias"][3] = torch.nan


def long(weights):
    weights["dictionary"][2] *= 1.5


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (nan, "encoder_bias holds NaN or infinity"),
        (lambda weights: weights["encoder"][0].fill_(torch.inf), "encoder holds NaN or infinity"),
        (long, "dictionary: directions of unit norm expected, one of norm 1.5 found"),
        (lambda weights: weights["dictionary"][0].zero_(), "one of norm 0 found"),
        (lambda weights: weights.pop("decoder_bias"), "decoder_bias: F32 .* expected by config.json, nothing found"),
        (lambda weights: weights.update(more=torch.zeros(1)), "more: nothing expected by config.json"),
        (lambda weights: weights.update(encoder=torch.zeros(4, 8)), "encoder: F32"),
        (lambda weights: weights.update(encoder=weights["encoder"].double()), "encoder: F32 .* F64 .* found"),
        (lambda weights: weights.update(encoder=weights["encoder"].bfloat16()), "encoder: F32 .* BF16 .* found"),
        (lambda weights: weights.update(encoder=weights["encoder"].long()), "encoder: F32 .* I64 .* found"),
    ],
)
def test_weights_that_are_no_autoencoders_are_refused(whole, tmp_path, harm, message):
    folder = shutil.copytree(whole / "sae", tmp_path / "sae")
    weights = load_file(folder / "model.safetensors")
    harm(weights)
    save_file(weights, folder / "model.safetensors")
    resealed(folder / "config.json", files={"model.safetensors": file_about(folder / "model.safetensors")})
    refused(SparseAutoencoder.from_pretrained, folder, message)


@pytest.mark.parametrize("data", [b"", b"\x80\x04K.", struct.pack("<Q", 2**60) + b"{}", b"PK\x03\x04", bytes(100)])
def test_what_is_no_safetensors_file_is_one_line(whole, tmp_path, data):
    folder = shutil.copytree(whole / "sae", tmp_path / "sae")
    (folder / "model.safetensors").write_bytes(data)
    resealed(folder / "config.json", files={"model.safetensors": file_about(folder / "model.safetensors")})
    refused(SparseAutoencoder.from_pretrained, folder, "no readable safetensors file")
    (tmp_path / "alignment.safetensors").write_bytes(data)
    refused(Alignment.load, tmp_path / "alignment.safetensors")


def test_an_autoencoder_of_such_weights_is_not_saved(tmp_path):
    for harm in (nan, long):
        sae = SparseAutoencoder(SAEConfig(4, 8, 2))
        with torch.no_grad():
            harm(dict(sae.named_parameters()))
        with pytest.raises(ValueError, match="weights: (encoder_bias holds NaN|dictionary: directions of unit norm)"):
            sae.save(tmp_path / "sae")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["absent", "a file", "empty", "user/name/more", "", "\x00", "http://x", "a" * 300])
def test_from_pretrained_of_whatever_is_an_error_of_one_line(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "a file").write_text("mine")
    (tmp_path / "empty").mkdir()
    for kind in (SparseAutoencoder, Method):
        with pytest.raises((OSError, ValueError)) as error:
            kind.from_pretrained(place, local_files_only=True, cache_dir=tmp_path / "cache")
        assert "\n" not in str(error.value)


# --- alignments ---


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("correlation_", np.full(8, 2, np.float32), "correlation"),
        ("correlation_", np.full(8, -1.5, np.float32), "correlation"),
        ("correlation_", np.full(8, np.inf, np.float32), "correlation"),
        ("correlation_", np.full(8, -np.inf, np.float32), "correlation"),
        ("correlation_", np.full(8, np.nan, np.float32), "correlation must be finite exactly where matched"),
        ("correlation_", np.zeros(8), "correlation float32"),
        ("correlation_", np.zeros(7, np.float32), r"all of shape \(L,\)"),
        ("permutation_", np.full(8, 2**62), "not a permutation"),
        ("permutation_", np.arange(8)[:, None], r"all of shape \(L,\)"),
        ("permutation_", np.arange(9), r"all of shape \(L,\)"),
        ("permutation_", np.arange(8, dtype=np.uint64), "permutation int64"),
        ("permutation_", np.zeros(8, np.int64), "not a permutation"),
        ("matched_", ~ALIGNMENT.matched_, "correlation must be finite exactly where matched"),
        ("matched_", np.zeros(8, bool), "correlation must be finite exactly where matched"),
        ("correlation_", np.zeros((8, 1), np.float32), r"all of shape \(L,\)"),
        ("permutation_", np.arange(8, dtype=np.int64) + 1, "not a permutation"),
        ("permutation_", -np.arange(8, dtype=np.int64), "not a permutation"),
        ("permutation_", np.arange(8.0), "permutation int64"),
        ("matched_", np.ones(8, np.uint8), "matched bool"),
    ],
)
def test_an_alignment_that_is_none_is_refused(tmp_path, name, value, message):
    altered = Alignment()
    vars(altered).update(vars(ALIGNMENT) | {name: value})
    altered.save(tmp_path / "own.safetensors")
    refused(Alignment.load, tmp_path / "own.safetensors", message)


@pytest.mark.parametrize(
    "about",
    [
        {"format": "xsae.alignment.1"}, {"format": None}, {"fitted_on": None}, {"fitted_on": ["x"]}, {"fitted_on": "x"},
        {"sha256": None}, {"sha256": "0" * 64}, {"sha256": []},
    ],
)  # fmt: skip
def test_a_header_of_an_alignment_that_was_altered_is_refused(tmp_path, about):
    file = tmp_path / "own.safetensors"
    ALIGNMENT.save(file)
    with safe_open(file, framework="numpy") as opened:
        said = json.loads(opened.metadata()["xsae"])
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a dict)
    save_arrays(tensors, file, {"xsae": json.dumps(said | about)})
    refused(Alignment.load, file)


@pytest.mark.parametrize("metadata", [None, {}, {"xsae": ""}, {"xsae": "[]"}, {"xsae": "3"}, {"xsae": "{" * 5000}])
def test_a_header_that_is_no_alignments_is_refused(tmp_path, metadata):
    file = tmp_path / "own.safetensors"
    save_arrays(
        {name: getattr(ALIGNMENT, f"{name}_") for name in ("permutation", "matched", "correlation")}, file, metadata
    )
    refused(Alignment.load, file)


def test_an_alignment_of_another_width_is_refused(tmp_path):
    wide = Alignment().fit(*(SparseAutoencoder(SAEConfig(4, 16, 2), seed).transform(X) for seed in (0, 1)))
    Method(SAES, {"text": wide}).save_pretrained(tmp_path / "method")
    refused(Method.from_pretrained, tmp_path / "method", "the alignment of text is of 16 latents, its autoencoder of 8")


# --- stores ---


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("image.npy", X.astype(np.float64)), ("image.npy", X[:, :3]), ("image.npy", X[:39]), ("image.npy", X[0]),
        ("image.npy", 2 * X), ("image.npy", np.full((40, 4), np.nan, np.float32)), ("image_norm.npy", X),
        ("image_norm.npy", np.ones(40)), ("text.npy", np.zeros((40, 4), np.float32)),
    ],
)  # fmt: skip
def test_matrices_that_are_no_stores_are_one_line(whole, tmp_path, name, array):
    folder = shutil.copytree(whole / "store", tmp_path / "store")
    np.save(folder / name, array)
    said = json.loads((folder / "manifest.json").read_text())["files"]
    resealed(folder / "manifest.json", files=said | {name: file_about(folder / name)})
    refused(open_store, folder, name)


@pytest.mark.parametrize("data", [b"", b"\x80\x04K.", b"\x93NUMPY\x01\x00", b"PK\x05\x06" + bytes(18)])
def test_files_of_a_store_that_are_none_are_one_line(whole, tmp_path, data):
    for name in ("image.npy", "image_norm.npy", "pairs.parquet"):
        folder = shutil.copytree(whole / "store", tmp_path / name / "store")
        (folder / name).write_bytes(data)
        said = json.loads((folder / "manifest.json").read_text())["files"]
        resealed(folder / "manifest.json", files=said | {name: file_about(folder / name)})
        refused(opened_whole, folder, name)
