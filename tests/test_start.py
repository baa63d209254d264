"""What a start imports: nobody waits for torch to read a page of help or a list of jobs."""

import os
import subprocess
import sys

import numpy as np
import pytest

from xsae.run.paths import ROOT

LARGE = {"torch", "open_clip", "torchvision", "transformers", "matplotlib.pyplot"}


def imported(*command, **environment):
    """The modules that a command and all that it starts import, which must end well, and what it says."""
    environment = os.environ | {"PYTHONPROFILEIMPORTTIME": "1"} | environment
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, timeout=300)
    lines = [line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")]
    said = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert done.returncode == 0, said
    return set(lines), done.stdout


def own(folder):
    rng = np.random.default_rng(0)
    arrays = {name: rng.standard_normal((20, 4)) for name in ("image", "text", "class_text", "class_image")}
    np.savez(folder / "own.npz", **arrays, class_label=np.arange(20))
    return folder / "own.npz"


@pytest.mark.parametrize(
    "arguments",
    [
        lambda _: ["--help"],
        lambda _: ["smoke", "-n"],
        lambda _: ["laptop", "--only", "vit", "--until", "04_retrieval", "-n"],
        lambda folder: ["smoke", "--embeddings", own(folder), "--latents", "32", "-n"],
    ],
    ids=["help", "dry run", "one backbone", "own embeddings"],
)
def test_help_and_a_dry_run_import_nothing_large(tmp_path, arguments):
    found, said = imported(sys.executable, "-m", "xsae.run.launch", *arguments(tmp_path), XSAE_ROOT=str(tmp_path))
    assert said and "argparse" in found and not LARGE & found


def test_what_runs_a_notebook_imports_nothing_large():
    """It waits beside the kernel, which has all of it in memory already."""
    found, said = imported(sys.executable, "-m", "xsae.run.notebook", "--help")
    assert "--notebook" in said and "papermill" in found and not (LARGE | {"pandas"}) & found


def test_the_package_itself_imports_nothing_large():
    found, _ = imported(sys.executable, "-c", "import xsae")
    assert "xsae" in found and not LARGE & found and "numpy" not in found


# --- the conda way: an environment that is used as it is ---


@pytest.fixture
def conda(tmp_path):
    """A folder like a conda environment's, whose Python is this one, and a folder that it looks into first."""
    (tmp_path / "env" / "bin").mkdir(parents=True)
    python = tmp_path / "env" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (tmp_path / "first").mkdir()
    return {"CONDA_PREFIX": str(tmp_path / "env"), "PYTHONPATH": str(tmp_path / "first"), "XSAE_ROOT": str(tmp_path)}


def distribution(folder, name, version, *needs):
    """What an installer says of a package, without the package."""
    (folder / f"{name}-{version}.dist-info").mkdir(parents=True)
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        f"Version: {version}",
        *(f"Requires-Dist: {need}" for need in needs),
    ]
    (folder / f"{name}-{version}.dist-info" / "METADATA").write_text("\n".join(lines) + "\n")


def test_a_start_in_a_conda_environment_imports_nothing_large(conda):
    found, said = imported(ROOT / "run_all.sh", "smoke", "-n", **conda)
    assert "08_paper" in said and "snakemake" in found and not LARGE & found


@pytest.mark.parametrize(
    ("torch", "needs", "told"),
    [("2.9.0+cpu", "torch (==2.9.0)", False), ("2.8.0", "torch==2.9.0", False), ("2.9.0", "torch==2.9.0", True)],
)
def test_torch_and_torchvision_that_do_not_match_are_found_and_said(conda, tmp_path, torch, needs, told):
    """Where what they say of themselves does not fit, or not for sure, they are imported to see."""
    distribution(tmp_path / "first", "torch", torch)
    distribution(tmp_path / "first", "torchvision", "0.24.0", needs)
    (tmp_path / "first" / "open_clip.py").write_text("raise ImportError('operator torchvision::nms does not exist')")
    done = subprocess.run(
        [str(ROOT / "run_all.sh"), "smoke", "-n"], env=os.environ | conda, capture_output=True, text=True, timeout=300
    )
    assert (done.returncode == 0) == told, done.stderr
    assert told or (done.returncode == 2 and "torch and torchvision do not match?" in done.stderr)
