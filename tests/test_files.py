"""Nothing of the user's is ever lost: what may be replaced, and what a write that ends in the middle leaves."""

import errno
import os
import signal
import stat
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import save_file
from torch import zeros

from xsae.alignment import Alignment
from xsae.data import store as stores
from xsae.data import world
from xsae.data.extraction import PART, Extraction, _Part
from xsae.data.own import from_arrays
from xsae.data.store import write_store
from xsae.disk import files, markers
from xsae.methods import Method
from xsae.run import checkpoints, results
from xsae.run.checkpoints import train_or_load
from xsae.sae import SAEConfig, SparseAutoencoder
from xsae.training import TrainingConfig

KIND = markers.Kind("thing", "thing.json", "xsae.thing.1")
SAE = SparseAutoencoder(SAEConfig(4, 8, 2))
X = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)


def thing(path, text="one"):
    with files.folder(path, KIND) as new:
        (new / "own.txt").write_text(text)
        markers.seal(new, KIND, {"said": text})


def pairs():
    return pd.DataFrame({"image": range(20), "text": range(20), "split": ["train"] * 15 + ["test"] * 5})


def trained(path):
    arrays, rows = {"image": X, "text": X}, dict.fromkeys(("image", "text"), np.arange(20))
    config = TrainingConfig(latents=16, k=2, epochs=1, batch_size=10)
    return train_or_load(path, "shared", arrays, rows, config, 1, "data")


def drawn(path):
    world.embed({"vit": path}, 40, 10)


WRITERS = {
    "from_arrays": lambda path: from_arrays(path, image=X, text=X),
    "write_store": lambda path: write_store(path, {"image": X, "text": X}, pairs(), model="m", source="s"),
    "SparseAutoencoder.save": SAE.save,
    "SparseAutoencoder.save_pretrained": SAE.save_pretrained,
    "Method.save_pretrained": Method({"image": SAE, "text": SAE}).save_pretrained,
    "train_or_load": trained,
    "world.embed": drawn,
    "part": lambda path: _Part().write(path, {"model": "m", "source": "s", "part": 0}),
}
# What stands for the work that must not begin where its folder is not free
LONG = {"train_or_load": (checkpoints, "train_saes"), "world.embed": (world, "draw")}


@pytest.fixture(params=WRITERS)
def writer(request, monkeypatch):
    if request.param in LONG:
        monkeypatch.setattr(
            *LONG[request.param], lambda *_: pytest.fail("hours of work before the folder was looked at")
        )
    return WRITERS[request.param]


def tree(folder):
    return {str(path.relative_to(folder)): path.is_file() and path.read_bytes() for path in folder.rglob("*")}


def home(folder):
    folder.mkdir()
    (folder / "thesis.tex").write_text("years of work")


def model_of_somebody_else(folder):
    folder.mkdir()
    (folder / "config.json").write_text('{"architectures": ["CLIPModel"], "format": "pt"}')
    save_file({"weight": zeros(3)}, folder / "model.safetensors")


def same_names(folder):
    folder.mkdir()
    for name in ("manifest.json", "training.json", "config.json", "part.json"):
        (folder / name).write_text('{"files": {}, "modalities": {}}')


def hidden(folder):
    (folder / ".git").mkdir(parents=True)
    (folder / ".git" / "HEAD").write_text("ref: refs/heads/main")


def deep(folder):
    (folder / "image" / "raw").mkdir(parents=True)
    (folder / "image" / "raw" / "photo.jpg").write_bytes(b"photo")


def linked(folder):
    folder.mkdir()
    (folder / "data").symlink_to(folder.parent)


def another_kind_of_ours(folder):
    thing(folder)


@pytest.mark.parametrize(
    "stands", [home, model_of_somebody_else, same_names, hidden, deep, linked, another_kind_of_ours]
)
def test_a_folder_that_is_not_ours_is_never_replaced(tmp_path, writer, stands):
    stands(tmp_path / "there")
    before = tree(tmp_path)
    with pytest.raises((FileExistsError, ValueError), match=r"there.*move (this one|it|\S+there) away") as error:
        writer(tmp_path / "there")
    assert tree(tmp_path) == before and "\n" not in str(error.value)


def test_a_file_in_the_way_is_named_and_stays(tmp_path, writer):
    (tmp_path / "there").write_text("mine")
    with pytest.raises(FileExistsError, match="there: is a file; a folder is to be written there") as error:
        writer(tmp_path / "there")
    assert tree(tmp_path) == {"there": b"mine"} and "\n" not in str(error.value)


@pytest.mark.parametrize("name", [name for name in WRITERS if name not in LONG])
def test_an_empty_folder_and_one_of_ours_are_written_and_nothing_else_is_left(tmp_path, name):
    (tmp_path / "there").mkdir()
    for _ in range(2):
        WRITERS[name](tmp_path / "there")
        assert [path.name for path in tmp_path.iterdir()] == ["there"]
    (tmp_path / "there" / "thesis.tex").write_text("years of work")
    before = tree(tmp_path)
    with pytest.raises(FileExistsError, match="there: holds thesis.tex, which is not of this .*; move it away"):
        WRITERS[name](tmp_path / "there")
    assert tree(tmp_path) == before


def test_a_training_of_other_settings_replaces_ours_alone(tmp_path):
    trained(tmp_path / "there")
    (tmp_path / "there" / "image+text" / "notes.txt").write_text("mine")
    before = tree(tmp_path)
    with pytest.raises(FileExistsError, match=r"holds image\+text/notes.txt"):
        checkpoints.save(tmp_path / "there", {"image": SAE}, pd.DataFrame(), "shared", TrainingConfig(), 2, "data")
    assert tree(tmp_path) == before


def test_the_classes_within_a_store_are_no_strangers_to_it(tmp_path):
    WRITERS["write_store"](tmp_path / "s")
    WRITERS["write_store"](tmp_path / "s" / "classes")
    WRITERS["write_store"](tmp_path / "s")
    assert not (tmp_path / "s" / "classes").exists()


def test_an_extraction_looks_at_its_folder_before_a_model_is_loaded(tmp_path, monkeypatch):
    home(tmp_path / "there")
    monkeypatch.setattr("xsae.data.extraction.Encoder.load", lambda *_: pytest.fail("a model was loaded"))
    extraction = Extraction("clip-b32", ["scenes:10"], tmp_path / "there")
    with pytest.raises(FileExistsError, match="there: holds thesis.tex, and is no embedding store"):
        extraction.extract(workers=0)
    extraction.out = tmp_path / "store"
    home(tmp_path / "store.parts")
    deep(extraction.folder(0, 0))
    with pytest.raises(FileExistsError, match="0-00000: holds image/raw/photo.jpg"):
        extraction.extract(workers=0)


def test_parts_go_without_what_lies_beside_them(tmp_path):
    extraction = Extraction("clip-b32", ["scenes:10"], tmp_path / "store")
    _Part().write(extraction.folder(0, 0), {"model": "m", "source": "s", "part": 0})
    (tmp_path / "store.parts" / "notes.txt").write_text("mine")
    extraction._remove_parts()
    assert list(tree(tmp_path)) == ["store.parts", "store.parts/notes.txt"]
    (tmp_path / "store.parts" / "notes.txt").unlink()
    extraction._remove_parts()
    assert not tree(tmp_path)


def test_only_what_is_ours_is_removed(tmp_path):
    home(tmp_path / "there")
    with pytest.raises(FileExistsError, match="thesis.tex"):
        files.remove(tmp_path / "there", PART)
    thing(tmp_path / "ours")
    files.remove(tmp_path / "ours", KIND)
    files.remove(tmp_path / "ours", KIND)
    assert list(tree(tmp_path)) == ["there", "there/thesis.tex"]


# --- whole or not at all ---


def test_an_error_in_the_middle_leaves_what_was_there(tmp_path):
    thing(tmp_path / "there", "one")
    before = tree(tmp_path)
    with pytest.raises(RuntimeError), files.folder(tmp_path / "there", KIND) as new:
        (new / "own.txt").write_text("two")
        raise RuntimeError
    (tmp_path / "file").write_text("one")
    with pytest.raises(RuntimeError), files.file(tmp_path / "file") as new:
        new.write_text("two")
        raise RuntimeError
    assert tree(tmp_path) == before | {"file": b"one"}


def test_a_folder_that_was_never_sealed_gets_no_name(tmp_path):
    with pytest.raises(FileNotFoundError, match="thing.json: not there"), files.folder(tmp_path / "there", KIND):
        pass
    assert not tree(tmp_path)


def test_what_is_put_there_meanwhile_stays(tmp_path):
    with pytest.raises(FileExistsError, match="thesis.tex"), files.folder(tmp_path / "there", KIND) as new:
        markers.seal(new, KIND, {})
        home(tmp_path / "there")
    assert list(tree(tmp_path)) == ["there", "there/thesis.tex"]


def test_a_folder_where_a_file_is_to_be_is_named(tmp_path):
    home(tmp_path / "there")
    with pytest.raises(IsADirectoryError, match="there: is a folder; a file is"), files.file(tmp_path / "there"):
        pytest.fail("began")
    assert (tmp_path / "there" / "thesis.tex").exists()


@pytest.mark.parametrize("name", [".there.partial", ".there.former", ".there.mine.partial", "there.partial"])
def test_names_that_look_like_ours_are_the_users(tmp_path, name):
    home(tmp_path / name)
    thing(tmp_path / "there", "one")
    thing(tmp_path / "there", "two")
    assert (tmp_path / name / "thesis.tex").read_text() == "years of work"


def test_a_link_stays_a_link_and_what_it_names_is_written(tmp_path):
    thing(tmp_path / "disk" / "real", "one")
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "real")
    thing(tmp_path / "link", "two")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "disk" / "real" / "own.txt").read_text() == "two"


CHILD = """
import sys, time
from pathlib import Path
from xsae.disk import files, markers
KIND = markers.Kind("thing", "thing.json", "xsae.thing.1")
with files.folder(Path(sys.argv[1]), KIND) as new:
    (new / "own.txt").write_text("killed")
    print("writes", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def child(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path / "there")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "writes\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_what_a_killed_process_left_goes_with_the_next_write_and_not_before_it_is_dead(tmp_path, child):
    thing(tmp_path / "there", "one")
    assert len(list(tmp_path.glob(".there.*.partial"))) == 1  # in use
    child.send_signal(signal.SIGKILL)
    child.wait()
    thing(tmp_path / "there", "two")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert (tmp_path / "there" / "own.txt").read_text() == "two"


def test_a_kill_between_two_renames_loses_nothing(tmp_path, monkeypatch):
    thing(tmp_path / "there", "one")
    replace, rmtree = os.replace, files.shutil.rmtree

    def killed(source, target):
        if str(target) == str(tmp_path / "there"):
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed)
    monkeypatch.setattr(files.shutil, "rmtree", lambda *_, **__: None)  # nor does a killed process clean up
    with pytest.raises(KeyboardInterrupt):
        thing(tmp_path / "there", "two")
    assert not (tmp_path / "there").exists()
    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(files.shutil, "rmtree", rmtree)
    with pytest.raises(RuntimeError), files.folder(tmp_path / "there", KIND):
        raise RuntimeError
    assert (tmp_path / "there" / "own.txt").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_files_get_the_users_permissions_whatever_library_wrote_them(tmp_path, umask):
    former = os.umask(umask)
    try:
        Method({"image": SAE, "text": SAE}).save_pretrained(tmp_path / "method")
        Alignment().fit(SAE.transform(X), SAE.transform(X)).save(tmp_path / "a.safetensors")
    finally:
        os.umask(former)
    made = [tmp_path / "a.safetensors", tmp_path / "method", *(tmp_path / "method").rglob("*")]
    assert len(made) == 7
    for path in made:
        assert stat.S_IMODE(path.stat().st_mode) == (0o777 if path.is_dir() else 0o666) & ~umask, path


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
        RuntimeError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_names_what_was_not_written(tmp_path, monkeypatch, error):
    def full(*_, **__):
        raise error

    monkeypatch.setenv("XSAE_ROOT", str(tmp_path))
    monkeypatch.setattr(pd.DataFrame, "to_csv", full)
    monkeypatch.setattr(stores.np, "save", full)
    for name, write in {
        "results/own/retrieval.csv": lambda _: results.write_table("own", "retrieval", pd.DataFrame()),
        "store": WRITERS["from_arrays"],
    }.items():
        with pytest.raises(OSError, match=f"{tmp_path / name}: not written, the disk is full; make room") as raised:
            write(tmp_path / name)
        assert "\n" not in str(raised.value) and not (tmp_path / name).exists()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_process_that_is_overtaken_between_its_two_renames_comes_last(tmp_path, monkeypatch):
    replace, there = os.replace, tmp_path / "there"

    def overtaken(source, target):
        if str(target) == str(there) and not there.exists():
            monkeypatch.setattr(os, "replace", replace)  # once
            with files.folder(there, KIND) as new:
                (new / "first").write_text("other")
                markers.seal(new, KIND, {})
        replace(source, target)

    monkeypatch.setattr(os, "replace", overtaken)
    with files.folder(there, KIND) as new:
        (new / "second").write_text("own")
        markers.seal(new, KIND, {})
    assert list(markers.opened(there, KIND)["files"]) == ["second"] and [path.name for path in tmp_path.iterdir()] == [
        "there"
    ]


def test_two_processes_that_write_the_same_folder_leave_one_whole(tmp_path):
    script = CHILD.replace("time.sleep(60)", "time.sleep(0.2); markers.seal(new, KIND, {})")
    command = [sys.executable, "-c", script, str(tmp_path / "there")]
    both = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    assert markers.opened(tmp_path / "there", KIND)["files"] and [path.name for path in tmp_path.iterdir()] == ["there"]
