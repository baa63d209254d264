"""Training over real processes, started by torchrun, against training in one."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from xsae.data.store import write_store
from xsae.methods import train_saes
from xsae.run.checkpoints import load
from xsae.training import TrainingConfig

COMMON = {"latents": 96, "k": 4, "epochs": 6, "batch_size": 60, "learning_rate": 2e-3}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    rng = np.random.default_rng(0)
    concepts = rng.exponential(size=(700, 20)) * (rng.random((700, 20)) < 0.15)
    x = {m: concepts @ rng.standard_normal((20, 12)) + 0.01 * rng.standard_normal((700, 12)) for m in ("image", "text")}
    pairs = pd.DataFrame({"image": range(700), "text": range(700), "split": ["train"] * 600 + ["test"] * 100})
    return write_store(tmp_path_factory.mktemp("data") / "store", x, pairs, model="drawn", source="drawn")


def torchrun(store, processes, method, out, **settings):
    options = [part for name, value in settings.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes),
         "-m", "xsae.run.distributed", "--store", str(store.path), "--method", method, "--seed", "1", "--out", str(out),
         *options],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("processes", "method", "settings"),
    [
        (2, "separated", {}),
        (3, "shared", {"activation": "matryoshka", "clip_norm": 0.05}),
        (2, "shared", {"aux_coefficient": 0.5, "latents": 384, "k": 2}),
        (2, "iso_energy", {"iso_energy": 0.5}),
        (2, "group_sparse", {"group_sparse": 0.01}),
        (2, "masked_group_sparse", {"masked_group_sparse": 0.01}),
        (2, "vl_sae", {}),
        (2, "sparc", {"learning_rate": 6e-3}),
    ],
)
def test_several_processes_give_the_loss_curve_of_one(store, tmp_path, processes, method, settings):
    done = torchrun(store, processes, method, tmp_path / "saes", **COMMON | settings)
    assert done.returncode == 0, done.stderr
    saes, history = load(tmp_path / "saes", store.fingerprint)
    arrays = {m: store[m] for m in store.modalities}
    rows = {m: store.split("train")[m].to_numpy() for m in store.modalities}
    alone, expected = train_saes(method, arrays, rows, TrainingConfig(**COMMON | settings), seed=1)
    assert len(history) == len(expected) == 12
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-4)
    assert expected["loss"].iloc[-1] < 0.8 * expected["loss"].iloc[0]  # it did learn
    for modality, sae in saes.items():
        np.testing.assert_allclose(sae.directions, alone[modality].directions, atol=2e-3)
    about = json.loads((tmp_path / "saes" / "training.json").read_text())["settings"]
    assert about["processes"] == processes and sorted(path.name for path in tmp_path.iterdir()) == ["saes"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"activation": "batch_topk"}, "'batch_topk' depends on the whole batch, which 2 processes do not see"),
        ({"batch_size": 61}, "batch_size: 61 pairs cannot be shared evenly by 2 processes"),
    ],
)
def test_what_would_not_be_the_same_is_refused_once(store, tmp_path, settings, message):
    done = torchrun(store, 2, "shared", tmp_path / "saes", **COMMON | settings)
    assert done.returncode != 0 and done.stderr.count("error: " + message.split(":")[0].split("'")[0]) <= 1
    assert message in done.stderr and not list(tmp_path.iterdir())
