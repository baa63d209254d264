"""Batches of pairs: each pair once an epoch, in memory or from a file larger than what is held of it."""

from itertools import count

import numpy as np
import pytest
import torch

from xsae.compute import batches


def in_turn(arrays, rows, batch, seed=0):
    """The image rows' numbers, in the order they come, with every batch checked to be of pairs."""
    seen = []
    for x in batches.epoch(arrays, rows, batch, np.random.default_rng(seed)):
        image, text = x.chunk(2)
        assert len(image) == batch and torch.equal(text, -image)
        seen += image[:, 0].long().tolist()
    return seen


@pytest.fixture(params=["matrix", "file", "tensor"])
def pairs(request, tmp_path, monkeypatch):
    """1,000 pairs whose text is minus the image, at rows in another order; only 128 fit in memory, in runs of 16."""
    monkeypatch.setattr(batches, "_BLOCK", 128)
    monkeypatch.setattr(batches, "_RUN", 16)
    image = np.repeat(np.arange(1000, dtype=np.float32)[:, None], 3, axis=1)
    rows = [np.arange(1000), np.arange(1000)[::-1]]
    arrays = [image, -image[::-1].copy()]
    if request.param == "file":
        for place, array in zip(count(), arrays):
            np.save(tmp_path / f"{place}.npy", array)
        arrays = [np.load(tmp_path / f"{place}.npy", mmap_mode="r") for place in range(2)]
    if request.param == "tensor":
        arrays = [torch.from_numpy(array) for array in arrays]
    return arrays, rows


def test_every_pair_comes_once_but_for_an_incomplete_last_batch(pairs):
    seen = in_turn(*pairs, batch=24)
    assert len(seen) == len(set(seen)) == 1000 // 24 * 24


def test_an_order_is_random_and_one_seeds_own(pairs):
    first, again, other = (in_turn(*pairs, batch=20, seed=seed) for seed in (1, 1, 2))
    assert first == again != other and sorted(first) == sorted(other) == list(range(1000))
    # neighbours of a run do not stay together, and a batch has pairs from many runs
    assert np.mean(np.diff(first) == 1) < 0.1
    assert len({pair // 16 for pair in first[:20]}) >= 5


def test_what_fits_in_memory_is_shuffled_whole():
    x = np.arange(100, dtype=np.float32)[:, None]
    seen = in_turn([x, -x], [np.arange(100)] * 2, 100)
    assert seen == np.random.default_rng(0).permutation(100).tolist()
