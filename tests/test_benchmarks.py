"""The benchmarks compare equals, and their memory figure is one."""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import alignments, precision, probe, retrieval, training, walltime
from benchmarks.codes import paired_codes
from benchmarks.measure import peak_memory
from xsae.data import synthetic
from xsae.training import TrainingConfig


def test_the_training_steps_learn_the_same():
    shape = training.Shape(dim=16, latents=256, k=3, batch=64)
    ours, dense = training.ours(shape), training.dense(shape)
    losses = torch.stack([torch.stack([ours()[0], dense()]) for _ in range(50)])
    torch.testing.assert_close(losses[:, 0], losses[:, 1], rtol=0, atol=1e-4)
    assert losses[-8:].mean() < losses[:8].mean()


def test_the_references_of_the_evaluations_find_the_same():
    assert (retrieval.ours(40)() == retrieval.dense(40)()).mean() > 0.99  # float32 may order a tie otherwise
    np.testing.assert_allclose(retrieval.ours_ms(200)(), retrieval.matrix_ms(200)(), atol=1e-5)


def test_paired_codes_fire_unevenly_and_share_what_is_asked_for():
    for common, same in ((1.0, True), (0.0, False)):
        a, b = paired_codes(2000, 64, 4, common=common)
        counts = np.sort(np.asarray((a > 0).sum(axis=0)))
        assert a.shape == b.shape == (2000, 64) and counts[-8:].sum() > 3 * counts[:8].sum()
        # with everything in common, a latent of one side fires exactly where its partner does
        matches = ((a > 0).astype(int).T @ (b > 0).astype(int)).toarray().max(axis=1)
        assert (matches == np.asarray((a > 0).sum(axis=0))).all() == same


def test_every_alignment_is_fitted_to_the_same_codes():
    fits = alignments.fits(pairs=300, latents=16, k=3)
    assert next(iter(fits)) == "hungarian" and len(fits) == 10
    for name, fit in fits.items():
        mapped = fit().transform(fits["hungarian"].args[1])
        assert mapped.shape == (300, 16) and fit().identity_lost == (name in ("procrustes", "cca", "ridge"))


def _allocate(megabytes):
    return lambda: np.ones(megabytes * 125_000)


def test_peak_memory_is_what_the_run_adds():
    assert 190 < peak_memory(partial(_allocate, 200), partial(_allocate, 1)) < 260


def test_the_table_of_times_goes_into_the_lines_of_readme_that_name_the_commands():
    table = pd.DataFrame(
        [{"config": "laptop", "minutes": 599.6, "main_job": 399.4, "memory_gb": 99.94}]
    )  # never README's
    text = (walltime.ROOT / "README.md").read_text()
    changed = walltime.into_readme(text, table)
    lines = [(a, b) for a, b in zip(text.splitlines(), changed.splitlines(), strict=True) if a != b]
    assert [b.rpartition(" | ")[2] for _, b in lines] == ["600 min, 99.9 GB |", "399 min of these |"]
    assert all(a.split("|")[:-2] == b.split("|")[:-2] for a, b in lines)
    assert walltime.into_readme(changed, table) == changed


@pytest.mark.parametrize("method", ["separated", "shared"])
def test_bfloat16_learns_what_float32_learns_over_three_seeds(method):
    sizes = {"dim": 24, "n_shared": 48, "n_own": {"image": 24, "text": 24}, "n_train": 1200, "n_test": 400}
    config = TrainingConfig(latents=256, k=4, epochs=30, batch_size=64, learning_rate=2e-3)
    found = {name: [] for name in precision.PRECISIONS}
    for seed in (1, 2, 3):
        data = synthetic.generate(0.6, seed, **sizes, max_interference=0.9)
        for name, of in found.items():
            config = replace(config, precision=name)
            of.append(precision.trained(method, data.train.embeddings, data.test.embeddings, config, seed))
    exact, rounded = (pd.DataFrame(of) for of in found.values())
    np.testing.assert_allclose(rounded["loss"], exact["loss"], rtol=0.02)
    assert not np.allclose(rounded["loss"], exact["loss"], rtol=1e-9)
    assert abs(rounded["R@1"].mean() - exact["R@1"].mean()) < 0.02


def test_a_probe_tells_what_lies_along_a_direction_and_nothing_that_few_scenes_hold():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 4)).astype(np.float32)
    apart, none, rare = x[:, 0] > 0.5, rng.random(600) < 0.3, np.arange(600) >= 591
    found = probe.areas(x, np.stack([apart, none, rare], axis=1), 400)
    assert found[0] > 0.95 and 0.3 < found[1] < 0.7 and np.isnan(found[2])
    held = np.zeros((8, 1), dtype=bool)
    held[[0, 1, 4, 5]] = True  # of the last four, rows 4 and 5
    line = np.array([[1, 1], [1, 1], [-1, 1], [-1, 1], [1, 1], [-1, 1], [0, 1], [-1, 1]], dtype=np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe, "LEAST", 2)
        [area] = probe.areas(line, held, 4)
    assert area == pytest.approx((1 + 1 + 0 + 0.5) / 4)  # 1 beats 0 and -1; -1 loses to 0 and ties with -1
