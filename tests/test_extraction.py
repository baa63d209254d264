import io
import json
import multiprocessing
import os
import resource
import signal
import time

import numpy as np
import open_clip
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from test_sources import picture, tar

from xsae.data.encoders import Encoder
from xsae.data.extraction import Extraction, _Images
from xsae.data.samples import Sample
from xsae.data.store import open_store
from xsae.run.embed import embed

PROCESSES = multiprocessing.get_context("forkserver")  # children that have imported everything and run nothing yet
PROCESSES.set_forkserver_preload(["xsae.run.embed"])


def small_clip(folder):
    """A CLIP of one layer a tower with random weights, as a local open_clip folder."""
    folder.mkdir()
    config = {
        "embed_dim": 256,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
    }
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    torch.manual_seed(0)
    weights = open_clip.create_model(f"local-dir:{folder}", load_weights=False).state_dict()
    save_file(weights, folder / "open_clip_model.safetensors")
    return f"local-dir:{folder}"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return small_clip(tmp_path_factory.mktemp("clip") / "small")


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Forty shards of one sample: much to interrupt."""
    folder = tmp_path_factory.mktemp("shards")
    for row in range(40):
        tar(folder / f"{row:02d}.tar", {f"{row:03d}.jpg": picture(row), f"{row:03d}.txt": f"scene {row}".encode()})
    return f"webdataset:{folder}/*.tar"


@pytest.fixture(scope="module")
def whole(model, shards, tmp_path_factory):
    """The store that an extraction makes which nothing disturbs, and the seconds it takes."""
    folder = tmp_path_factory.mktemp("whole")
    assert extract(model, shards, folder / "first").exitcode == 0  # the children's imports are not counted
    began = time.time()
    assert extract(model, shards, folder / "store").exitcode == 0
    return open_store(folder / "store", verify=True), time.time() - began


def extract(model, source, out, kill_after=None, **options):
    """`embed` in a process of its own, which is killed after some seconds if it still lives then."""
    process = PROCESSES.Process(target=_in_a_child, args=(model, source, out, options))
    process.start()
    process.join(kill_after)
    if process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    return process


def _in_a_child(model, source, out, options):
    limit = options.pop("largest_file", None)
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        embed(model, [source], out, workers=0, **options)
    except OSError as error:
        (out.parent / "error").write_text(str(error))
        raise SystemExit(2) from None


def fingerprint(out):
    return open_store(out, verify=True).fingerprint


def test_what_cannot_be_read_is_skipped_listed_and_counted_and_the_rest_is_what_the_model_gives(model, tmp_path):
    gray, cmyk = picture(1, "L", "PNG"), picture(2, "CMYK")
    members = {
        "cut.jpg": picture(0)[:700], "cut.txt": b"one", "gray.png": gray, "gray.txt": b"two", "cmyk.jpg": cmyk,
        "cmyk.txt": b"three", "zero.jpg": b"", "zero.txt": b"four", "mute.jpg": picture(3), "mute.txt": b"  ",
        "text.jpg": b"<html>gone</html>", "text.txt": b"five", "alone.txt": b"six", "last.jpg": picture(4),
        "last.txt": b"seven",
    }  # fmt: skip
    tar(tmp_path / "0.tar", members)
    line = embed(model, [f"webdataset:{tmp_path}/*.tar"], tmp_path / "store", workers=1)
    assert "3 images, 3 texts, d = 256, 5 samples skipped" in line
    store = open_store(tmp_path / "store", verify=True)
    assert store.pairs["key"].tolist() == ["gray", "cmyk", "last"]
    assert store.pairs["caption"].tolist() == ["two", "three", "seven"]
    skipped = store.manifest["skipped"]
    assert skipped["count"] == 5
    found = {key: reason for *_, key, reason in skipped["samples"]}
    assert found.pop("cut").startswith("damaged image")
    assert found == {
        "zero": "empty file",
        "mute": "empty caption",
        "text": "not an image",
        "alone": "0 images in the sample",
    }
    encoder = Encoder.load(model, "cpu")
    for row, data in enumerate((gray, cmyk, picture(4))):
        alone = encoder.images(encoder.preprocess(Image.open(io.BytesIO(data)))[None])[0]
        np.testing.assert_allclose(store.raw("image")[row], alone, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(store.raw("text")[2], encoder.texts(["seven"])[0], rtol=1e-4, atol=1e-5)


def test_an_image_keeps_its_captions_but_for_the_empty_ones(model, tmp_path):
    (tmp_path / "a.png").write_bytes(picture(0, file_format="PNG"))
    rows = [{"file_name": "a.png", "captions": ["one", "", "three"]}, {"file_name": "gone.png", "captions": ["four"]}]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    embed(model, [f"folder:{tmp_path}/own.jsonl@train"], tmp_path / "store", workers=0)
    store = open_store(tmp_path / "store")
    assert store.pairs[["image", "text", "caption"]].values.tolist() == [[0, 0, "one"], [0, 1, "three"]]
    assert store.manifest["skipped"]["reasons"] == {"empty caption": 1, "no such file": 1}


def test_killed_at_ten_random_moments_and_gone_on_with_the_store_has_the_same_hash(model, shards, whole, tmp_path):
    store, seconds = whole
    interrupted = 0
    for trial, moment in enumerate(np.random.default_rng(0).uniform(0.2, 1, 10) * seconds):
        out = tmp_path / str(trial) / "store"
        extract(model, shards, out, kill_after=moment)
        finished = list(out.with_name("store.parts").glob("0-*/part.json"))
        times = {file: file.stat().st_mtime_ns for file in finished}
        interrupted += 0 < len(finished) < 40
        child = extract(model, shards, out, kill_after=moment) if trial % 2 else None  # and once more
        assert all(file.stat().st_mtime_ns == then for file, then in times.items() if file.exists())
        assert child is None or child.exitcode in (0, -signal.SIGKILL)
        assert extract(model, shards, out).exitcode == 0
        assert fingerprint(out) == store.fingerprint
        assert [path.name for path in out.parent.iterdir()] == ["store"]
    assert interrupted, "no kill came while parts were made; the moments are ill chosen"


def test_a_merge_clears_what_a_kill_left_beside_a_part_that_is_finished(model, shards, whole, tmp_path):
    out = tmp_path / "store"
    work = Extraction(model, [shards], out)
    work.extract(workers=1)
    left = out.with_name("store.parts") / ".0-00003.abcdefgh.partial" / "new" / "0-00003"
    left.mkdir(parents=True)  # the part has its name, its private folder was not removed yet
    (left / "image.npy").write_bytes(b"half")
    (tmp_path / ".store.abcdefgh.partial").mkdir()  # and so did the store's
    (tmp_path / ".store.mine.partial").mkdir()  # no name of ours
    work.merge()
    assert {path.name for path in tmp_path.iterdir()} == {"store", ".store.mine.partial"}
    left.mkdir(parents=True)
    (tmp_path / ".store.abcdefgh.partial").mkdir()
    work.merge()
    assert {path.name for path in tmp_path.iterdir()} == {"store", ".store.mine.partial"}


def test_jobs_in_any_order_then_one_merge_make_the_same_store(model, shards, whole, tmp_path):
    out = tmp_path / "store"
    for job in ("2/3", "0/3"):
        assert "the same call without --job merges" in embed(model, [shards], out, job, workers=0)
    with pytest.raises(FileNotFoundError, match=r"0-00001: not there yet; run the job that makes it"):
        Extraction(model, [shards], out).merge()
    embed(model, [shards], out, "1/3", workers=0)
    made = sorted(path.name for path in out.with_name("store.parts").iterdir())
    assert made == [f"0-{part:05d}" for part in range(40)] and not out.exists()
    embed(model, [shards], out, workers=0)
    assert fingerprint(out) == whole[0].fingerprint


def test_a_finished_store_is_left_as_it_is_and_another_models_is_refused(model, shards, whole):
    store, _ = whole
    before = (store.path / "manifest.json").stat().st_mtime_ns
    embed(model, [shards], store.path, workers=0)
    assert (store.path / "manifest.json").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="holds local-dir:.* choose another folder, or remove it"):
        embed(model, ["scenes:10"], store.path, workers=0)


def test_two_sources_join_in_one_store_each_with_its_split(model, shards, tmp_path):
    embed(model, [shards, "scenes:10@test"], tmp_path / "store", workers=0)
    store = open_store(tmp_path / "store")
    assert len(store.split("train")) == 40 and len(store.rows("image", "test")) == 1
    assert store.split("test")["concepts"].map(len).all() and not store.split("train")["concepts"].map(len).any()
    assert store.split("test")["image"].tolist() == [40] * 5


def test_an_altered_part_is_refused_by_name(model, shards, tmp_path):
    extraction = Extraction(model, [shards], tmp_path / "store")
    extraction.extract(workers=0)
    file = extraction.folder(0, 3) / "image.npy"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(ValueError, match=r"0-00003/image.npy: truncated or altered: sha256 .*; remove .*0-00003 and"):
        extraction.merge()
    assert not (tmp_path / "store").exists()


def test_a_full_disk_is_one_line_and_keeps_what_is_done(model, shards, whole, tmp_path):
    out = tmp_path / "store"
    assert extract(model, shards, out, largest_file=20_000).exitcode == 2  # a part's files are smaller, the store's not
    assert "File too large" in (tmp_path / "error").read_text()
    assert not out.exists() and len(list(out.with_name("store.parts").glob("0-*"))) == 40
    assert extract(model, shards, out).exitcode == 0
    assert fingerprint(out) == whole[0].fingerprint


def test_a_folder_that_cannot_be_written_is_one_line(model, shards, capsys):
    with pytest.raises(OSError, match="/proc/absent"):
        embed(model, [shards], "/proc/absent/store", workers=0)


@pytest.mark.parametrize("job", ["3/3", "x/2", "1", "0/0"])
def test_a_job_that_is_none_is_refused(job, model, shards, tmp_path):
    with pytest.raises(ValueError, match="job"):
        embed(model, [shards], tmp_path / "store", job)
    assert not list(tmp_path.iterdir())


def test_the_pairs_of_a_part_say_where_they_come_from(whole):
    pairs = pd.read_parquet(whole[0].path / "pairs.parquet")
    assert pairs["key"].tolist() == [f"{row:03d}" for row in range(40)]
    assert "concepts" not in pairs and whole[0].manifest["source"].startswith("webdataset:")


# --- pictures that mean harm, or were harmed ---


def encoded(array, file_format="PNG", **options):
    file = io.BytesIO()
    (array if isinstance(array, Image.Image) else Image.fromarray(array)).save(file, file_format, **options)
    return file.getvalue()


def seen(image):
    """What becomes of a picture: its pixels, or why there are none."""
    found = _Images(lambda opened: np.asarray(opened.convert("RGB")))[Sample("a", image, ("x",), "train")]
    return found


RAMP = np.linspace(0, 255, 64).astype(np.uint8).reshape(8, 8)


def test_sixteen_bits_are_the_same_picture_as_eight():
    wide = encoded((RAMP.astype(np.uint16) << 8) + 77)
    assert Image.open(io.BytesIO(wide)).mode.startswith("I")
    np.testing.assert_array_equal(seen(wide), seen(encoded(RAMP)))


def test_of_a_moving_picture_the_first_frame_is_taken():
    frames = [Image.fromarray(np.full((8, 8), value, np.uint8)) for value in (10, 200)]
    moving = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (seen(moving) == 10).all()


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_these_formats_are_read(file_format):
    assert seen(encoded(RAMP, file_format)).shape == (8, 8, 3)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n", "not an image"),
        (encoded(Image.fromarray(RAMP), "EPS"), "not an image"),
        (encoded(RAMP, "PPM"), "not an image"),
        (encoded(Image.fromarray(RAMP), "PDF"), "not an image"),
        (encoded(RAMP, "ICO"), "not an image"),
        (b"", "empty file"),
        (b"<svg/>", "not an image"),
        (encoded(RAMP.astype(np.float32), "TIFF"), "damaged image: F pixels of 32 bits"),
        (encoded(RAMP.astype(np.int32), "TIFF"), "damaged image: I pixels of 32 bits"),
        (encoded(RAMP)[:60], "damaged image"),
    ],
)
def test_what_is_no_picture_of_these_formats_is_said_so(image, reason):
    found = seen(image)
    assert isinstance(found, str) and found.startswith(reason)


def test_a_pipe_or_folder_in_the_place_of_a_picture_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    assert seen(str(tmp_path / "pipe.png")) == seen(str(tmp_path)) == "not a file"
    assert seen(str(tmp_path / "absent.png")) == "no such file"
