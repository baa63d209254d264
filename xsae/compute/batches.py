"""Batches of pairs from matrices that need not fit in memory."""

from collections.abc import Iterator, Mapping, Sequence
from mmap import MADV_DONTNEED

import numpy as np
import torch
from torch import Tensor

_BLOCK = 2**17  # pairs shuffled in memory at one time: 537 MB of two modalities at d = 512
_LOOK = 2**14  # rows that are checked at one time: 34 MB at d = 512, and as much again a few times
_RUN = 256  # neighbouring pairs that a block takes together, for a disk reads these as fast as one


def check(arrays: Mapping[str, np.ndarray], rows: Mapping[str, np.ndarray], unit: bool) -> None:
    """Raise ValueError, one line, for what no autoencoder can be trained on; arguments as in `methods.train_saes`.

    unit: whether rows will be scaled to unit norm. Every row that is used is looked at once, as float32.
    """
    if not arrays or set(arrays) != set(rows):
        raise ValueError(f"rows: of {', '.join(rows) or 'nothing'} found; {', '.join(arrays) or 'modalities'} needed")
    for name, array in arrays.items():
        if array.ndim != 2 or array.dtype not in (np.float16, np.float32, np.float64) or array.shape[1] < 2:
            needed = "a matrix (n, d) of float16, float32 or float64 with d at least 2 is needed"
            raise ValueError(f"{name}: {array.dtype} of shape {array.shape} found; {needed}")
        ids = rows[name]
        if ids.ndim != 1 or ids.dtype.kind not in "iu" or (len(ids) and (ids.min() < 0 or ids.max() >= len(array))):
            raise ValueError(f"rows: {name}: row numbers (n_pairs,) from 0 to {len(array) - 1} are needed")
    for what, found in (
        ("dimensions", {name: array.shape[1] for name, array in arrays.items()}),
        ("pairs", {name: len(ids) for name, ids in rows.items()}),
    ):
        if len(set(found.values())) > 1:
            raise ValueError(f"arrays: {what} differ ({', '.join(f'{name} {n}' for name, n in found.items())})")
    for name, array in arrays.items():
        _check_values(name, array, np.unique(rows[name]), unit)


def _check_values(name: str, array: np.ndarray, rows: np.ndarray, unit: bool) -> None:
    first, varies = None, False
    for start in range(0, len(rows), _LOOK):
        ids = rows[start : start + _LOOK]
        with np.errstate(over="ignore"):
            block = np.asarray(array[ids], np.float32)
            squares = np.einsum("nd,nd->n", block, block)
        _forget(array)
        bad = ~np.isfinite(squares) | (unit & (squares == 0))
        if bad.any():
            raise ValueError(
                f"{name}: row {ids[bad.argmax()]} is {'zero, ' if unit else ''}NaN, infinite or too long for float32"
            )
        if not varies:
            block = block / np.sqrt(squares)[:, None] if unit else block
            first = block[0] if first is None else first
            varies = bool((np.abs(block - first) > 1e-6 * np.abs(first).max()).any())
    if not varies:
        raise ValueError(f"{name}: all {len(rows)} rows are equal; what does not vary has no features to learn")


def epoch(
    arrays: Sequence[np.ndarray | Tensor], rows: Sequence[np.ndarray], batch: int, generator: np.random.Generator
) -> Iterator[Tensor]:
    """Every pair once, in a new random order: batches x (n_modalities * batch, d), one modality after the other.

    arrays: per modality a float (n_m, d) matrix (memory-mapped is fine), or a tensor on any device, where the batches
    then are; rows: per modality int (n_pairs,), the matrix row of each pair. The last n_pairs % batch pairs of an order
    are left out. Of tensors, and up to 131,072 pairs, every order is as likely as any other. More are shuffled as runs
    of 256 neighbours, then row by row within blocks of 131,072, which are read in one go and then forgotten: a random
    read per row would wait for the disk each time, and would hold all of the file in memory before long.
    """
    n_pairs = len(rows[0])
    if n_pairs <= _BLOCK or isinstance(arrays[0], Tensor):
        order = generator.permutation(n_pairs)
        if isinstance(arrays[0], Tensor):  # what a batch is taken by lies where they do, and nothing waits for it
            order, *rows = (torch.from_numpy(np.array(ids)).to(arrays[0].device) for ids in (order, *rows))
        for start in range(0, n_pairs - batch + 1, batch):
            yield _gather(arrays, rows, order[start : start + batch])
        return
    starts = generator.permutation(np.arange(0, n_pairs, _RUN))
    order = (starts[:, None] + np.arange(_RUN)).ravel()
    order = order[order < n_pairs]
    block = _BLOCK - _BLOCK % batch
    for begin in range(0, n_pairs, block):
        pairs = order[begin : begin + block]
        held = [a[r[pairs]] for a, r in zip(arrays, rows, strict=True)]
        for array in arrays:
            _forget(array)
        inside = generator.permutation(len(pairs))
        for start in range(0, len(pairs) - batch + 1, batch):
            yield _gather(held, [np.arange(len(pairs))] * len(held), inside[start : start + batch])


def _gather(arrays: Sequence[np.ndarray | Tensor], rows: Sequence[np.ndarray], pairs: np.ndarray) -> Tensor:
    return torch.cat([torch.as_tensor(a[r[pairs]]) for a, r in zip(arrays, rows, strict=True)])


def _forget(array: np.ndarray) -> None:
    """Give back the memory of a memory-mapped file's pages; they are read again when asked for."""
    if isinstance(array, np.memmap) and array.mode == "r":
        array._mmap.madvise(MADV_DONTNEED)
