"""The entry as a user calls it: own processes, own folders, real runs."""

import json
import os
import re
import signal
import subprocess
import time

import numpy as np
import pandas as pd
import pytest
from runs import call, command, tables, tiny
from test_extraction import small_clip
from test_sources import picture

from xsae.data import matched
from xsae.data.store import open_store
from xsae.run import lock
from xsae.run.checkpoints import load
from xsae.run.config import load_config
from xsae.run.notebooks import (
    MADE_BY,
    OF_CLASSES,
    OF_JUDGES,
    OF_LABELS,
    OF_THE_THEORY,
    OF_THE_WORLD,
    SYNTHETIC,
    left_out,
)
from xsae.run.paths import ROOT

COCO = ROOT.parent / "shared/data/coco_val2017_clip_vitb16_500pairs.npz"


def test_a_dry_run_names_the_jobs_and_writes_nothing(tmp_path):
    status, output = call(tmp_path, "smoke", "-n")
    assert status == 0 and "08_paper" in output
    assert not (tmp_path / "results").exists() and not (tmp_path / "artifacts").exists()


@pytest.mark.parametrize(("device", "asked"), [("cpu", {"gpu=0"}), ("cuda", {"gpu=1"}), ("auto", {"gpu=1"})])
def test_jobs_ask_for_a_gpu_where_the_config_would_use_one(tmp_path, device, asked):
    status, output = call(tmp_path, tiny(tmp_path, device=device), "-n")
    assert status == 0 and set(re.findall(r"gpu=\d", output)) == asked


def test_killed_in_the_middle_it_goes_on_and_ends_with_the_same_bytes(tmp_path):
    (tmp_path / "whole").mkdir()
    config, until = tiny(tmp_path), ("--until", "01_heterogeneity")
    assert call(tmp_path / "whole", config, *until)[0] == 0

    root = tmp_path / "killed"
    root.mkdir()
    process = subprocess.Popen(
        command(config, *until), env=os.environ | {"XSAE_ROOT": str(root)}, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    done = root / "artifacts/tiny/00_embeddings.done"
    deadline = time.time() + 300
    while not done.exists() and time.time() < deadline:
        time.sleep(0.1)
    time.sleep(4)  # into the second notebook
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (root / "artifacts/tiny/01_heterogeneity.done").exists()
    stamp = done.stat().st_mtime_ns

    status, output = call(root, config, *until)
    assert status == 0, output
    assert done.stat().st_mtime_ns == stamp and "00_embeddings" not in output
    assert tables(root, "tiny") == tables(tmp_path / "whole", "tiny")


def test_a_failing_notebook_is_named_with_its_cell_and_error(tmp_path):
    config = tiny(tmp_path, backbones=["vit", "clip"])
    status, output = call(tmp_path, config, "--until", "00_embeddings")
    assert status != 0
    assert "00_embeddings, cell " in output and "ValueError: backbone: 'clip' is unknown; one of vit, resnet" in output
    assert "Traceback" not in output and "RuleException" not in output
    assert (tmp_path / "results/tiny/notebooks/00_embeddings.failed.ipynb").is_file()
    assert not (tmp_path / "results/tiny/notebooks/00_embeddings.ipynb").exists()


def test_real_clip_embeddings_and_a_third_modality_run_from_end_to_end_and_apart(tmp_path):
    if not COCO.is_file():
        pytest.skip("the shared CLIP embeddings are not on this machine")
    with np.load(COCO) as data:
        arrays = dict(data)
    # Classes of the captions' own words: a class's direction is the mean of the captions that name it.
    words = ("bathroom", "cat", "kitchen", "motorcycle")
    named = np.array([[word in caption.lower().split() for word in words] for caption in arrays["caption"]])
    one = np.flatnonzero(named.sum(axis=1) == 1)
    # The third: the captions as another encoder might see them, which turns the space a little and adds noise.
    d, rng = arrays["text"].shape[1], np.random.default_rng(0)
    turn = np.linalg.qr(np.eye(d) + rng.normal(0, 0.3 / np.sqrt(d), (d, d)))[0]
    turn *= np.sign(np.diag(turn))
    audio = arrays["text"] @ turn + rng.normal(0, 0.3 / np.sqrt(d), arrays["text"].shape)
    file = npz(
        tmp_path, **arrays, audio=audio, class_text=(named.T @ arrays["text"]) / named.sum(axis=0)[:, None],
        class_image=arrays["image"][one], class_label=named[one].argmax(axis=1),
    )  # fmt: skip
    root = tmp_path / "root"
    root.mkdir()
    status, output = call(root, "smoke", "--quick", "--embeddings", file, "--modalities", "image, text,audio")
    assert status == 0, output
    assert [path.name for path in (root / "results").iterdir()] == ["smoke-own"]
    results = root / "results/smoke-own"
    embeddings = pd.read_csv(results / "embeddings.csv").set_index(["modality", "metric"])["value"]
    assert embeddings["text", "n_pairs"] == embeddings["audio", "n_pairs"] == 100
    assert embeddings["text", "matched_cosine"] == pytest.approx(0.31, abs=0.02)
    reconstruction = pd.read_csv(results / "reconstruction.csv")
    assert set(reconstruction["modality"]) == {"image", "text", "audio"}
    assert set(reconstruction["latents"]) == {128, 42}  # sized to 400 training pairs: 128 in all, a third a modality
    alignment = pd.read_csv(results / "alignment.csv")
    assert set(alignment["modality"]) == {"text", "audio"}  # to the first, image
    assert set(pd.read_csv(results / "explorer.csv")["modality"]) == {"text", "audio"}
    report = (results / "report.html").read_text()
    assert "Figure 1." in report and "Steering" not in report  # nothing is said of what cannot be made
    retrieval = pd.read_csv(results / "retrieval.csv").query("metric == 'R@10' and variant == 'raw'")
    assert retrieval["direction"].nunique() == 6
    # audio and text were never aligned with each other, but each with images
    recall = retrieval.query("direction == 'audio_to_text'").groupby("method")["value"].mean()
    assert recall["dense"] > recall["posthoc"] > recall["separated"]
    zeroshot = pd.read_csv(results / "zeroshot.csv").query("metric == 'top-1' and variant == 'raw'")
    zeroshot = zeroshot.set_index("method")["value"]
    assert zeroshot["dense"] > 0.9 and zeroshot["chance"] == 0.25
    assert (root / "figures/smoke-own/retrieval.png").is_file()
    left = {*OF_THE_WORLD, *OF_THE_THEORY, "ablations", "choices"}
    assert {path.stem for path in results.glob("*.csv")} == set(MADE_BY) - left


def test_what_a_run_chooses_is_what_it_trains_and_it_chooses_once(tmp_path):
    data = matched.generate(1, 300, 2).train.embeddings
    options = ["smoke", "--embeddings", npz(tmp_path, **data), "--until", "01_heterogeneity"]
    root = tmp_path / "root"
    root.mkdir()
    status, output = call(root, *options)
    assert status == 0 and "chosen first: k, latents, by 10 short trainings, at most about " in output, output
    table = pd.read_csv(root / "results/smoke-own/choices.csv")
    last = table[table["chosen"]].groupby("axis", sort=False)[["k", "latents"]].first().iloc[-1].to_dict()
    artifacts = root / "artifacts/smoke-own"
    assert json.loads((artifacts / "choices.json").read_text()) == last
    sae = load(artifacts / "checkpoints/own/separated-mean-seed1", open_store(artifacts / "embeddings/own").fingerprint)
    assert (sae[0]["text"].config.k, 2 * sae[0]["text"].config.latents) == (last["k"], last["latents"])
    status, output = call(root, *options)
    assert status == 0 and "01_heterogeneity:" not in output, output


def test_own_embeddings_without_classes_are_not_asked_for_zero_shot(tmp_path):
    rng = np.random.default_rng(0)
    without_classes = npz(tmp_path, image=rng.standard_normal((20, 4)), text=rng.standard_normal((20, 4)))
    with_classes = tmp_path / "with.npz"
    with np.load(without_classes) as data:
        np.savez(with_classes, **data, class_text=np.eye(4), class_image=np.eye(4), class_label=np.arange(4))
    for file, asked in ((without_classes, False), (with_classes, True)):
        status, output = call(tmp_path, "smoke", "--latents", "16", "--embeddings", file, "-n", "--detailed-summary")
        assert status == 0 and ("zeroshot.csv" in output) == asked, output


def test_real_sources_are_embedded_by_jobs_merged_and_classified(tmp_path):
    model, images = small_clip(tmp_path / "clip"), tmp_path / "val"
    for synset in ("n01440764", "n01443537"):
        (images / synset).mkdir(parents=True)
        (images / synset / "a.png").write_bytes(picture(0, file_format="PNG"))
    config = tiny(
        tmp_path, sources=["scenes:60"], models={"tiny": model}, backbones=["tiny"], classes=f"imagenet:{images}",
        extraction_jobs=2, latents=32, kinds=["colour"],
    )  # fmt: skip
    status, output = call(tmp_path, config, "--until", "00_embeddings")
    assert status == 0, output
    assert "embed, GPU h" in output and set(tables(tmp_path, "tiny")) == {"embeddings.csv"}
    classes = open_store(tmp_path / "artifacts/tiny/embeddings/tiny/classes")
    assert len(classes["text"]) == 2 and classes.pairs["text"].tolist() == [0, 1]
    manifest = json.loads((tmp_path / "artifacts/tiny/embeddings/tiny/manifest.json").read_text())
    assert manifest["model"] == model and manifest["modalities"]["image"]["rows"] == 66


def test_the_papers_plan_needs_neither_network_nor_data(tmp_path):
    status, output = call(tmp_path, "paper", "--dry-run")
    assert status == 0, output
    assert all(name in output for name in load_config("paper").backbones) and "2,905,954 images" in output
    assert "extract" in output and "64" in output  # eight jobs for each of eight models
    status, output = call(tmp_path, "paper", "--only", "clip-b32", "--dry-run")
    assert status == 0 and "metaclip" not in output and "siglip" not in output
    assert [path.name for path in tmp_path.iterdir()] == [".snakemake"]


def test_what_cannot_be_made_of_what_is_given_is_left_out():
    config = load_config("paper")
    assert left_out(config) == {"choices"}  # nothing is `auto`
    assert left_out(config.model_copy(update={"backbones": ["clip-b32"], "k": "auto"})) == set(OF_JUDGES)
    sourced = config.model_copy(update={"sources": ["cc3m"], "classes": "", "k": "auto"})
    assert left_out(sourced) == {*OF_LABELS, *OF_CLASSES}
    assert left_out(load_config("paper-synthetic")) == set(MADE_BY) - set(SYNTHETIC)
    assert left_out(load_config("laptop")) == {"choices"}


def npz(folder, **arrays):
    np.savez(folder / "own.npz", **arrays)
    return folder / "own.npz"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (lambda f: ["nothing"], "config: 'nothing' is unknown; one of laptop, paper, paper-synthetic, smoke"),
        (lambda f: [tiny(f, sources=["coco:/absent"], backbones=["clip-b32"])], "Karpathy's split, is not there"),
        (lambda f: ["paper", "--only", "clip-b23"], "'clip-b23' is none of its backbones; they are clip-b32,"),
        (lambda f: [tiny(f, epoch=3)], "unknown parameter `epoch`; did you mean `epochs`?"),
        (lambda f: ["smoke", "--embeddings", f / "no.npz"], "no.npz: no such file"),
        (lambda f: ["smoke", "--embeddings", npz(f, image=np.ones((20, 4)) * np.nan, text=np.ones((20, 4)))], "NaN"),
        (lambda f: ["smoke", "--embeddings", npz(f, image=np.zeros((20, 4)), text=np.ones((20, 4)))], "are zero"),
        (
            lambda f: ["smoke", "--embeddings", npz(f, image=np.ones((20, 4)), text=np.ones((19, 4)))],
            "image has 20 rows",
        ),
        (
            lambda f: ["smoke", "--embeddings", npz(f, image=np.ones((20, 4)), text=np.ones((20, 5)))],
            "(image 4, text 5); one joint space has one",
        ),
        (lambda f: ["smoke", "--latents", "10"], "k: 8 exceeds the 5 latents"),
        (
            lambda f: ["smoke", "--embeddings", npz(f, **dict.fromkeys(("image", "text", "pca"), np.eye(20)))],
            "own.npz: pca, a float matrix (20, 20) beside image and text, may be a modality or not: --modalities",
        ),
        (lambda f: ["smoke", "--modalities", "image,text"], "modalities: of no use without --embeddings FILE.npz"),
    ],
)
def test_bad_input_gets_one_line_and_writes_nothing(tmp_path, arguments, message):
    inputs, root = tmp_path / "inputs", tmp_path / "root"
    inputs.mkdir()
    root.mkdir()
    status, output = call(root, *arguments(inputs))
    lines = [line for line in output.splitlines() if line != "tiny: what it takes, before anything is downloaded"]
    assert status != 0 and len(lines) == 1 and lines[0].startswith("error: ") and message in lines[0]
    assert not list(root.iterdir())


def test_an_output_folder_that_cannot_be_written_gets_one_line(tmp_path):
    (tmp_path / "results").write_text("a file where the folder should be")
    status, output = call(tmp_path, "smoke")
    assert status != 0 and output.startswith("error: ") and "is a file" in output and output.count("\n") == 1


def test_a_second_run_of_the_same_name_is_refused(tmp_path):
    config = tiny(tmp_path)
    with lock.shared(tmp_path / "artifacts/tiny/run.lock"):
        status, output = call(tmp_path, config)
    assert status != 0 and "another process is running it" in output
