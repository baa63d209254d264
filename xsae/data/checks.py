"""What a store holds must be: float matrices whose rows have a direction, named modalities, splits that are apart."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

SPLITS = ("train", "test")
BLOCK = 65536  # rows that are looked at or written at one time
LONGEST = 1e18  # norm of a row: beyond it, and below its inverse, float32 cannot square it


def is_matrix(about: tuple[tuple[int, ...], np.dtype]) -> bool:
    """Whether an array is a float matrix (n, d), by its header."""
    shape, dtype = about
    return len(shape) == 2 and np.issubdtype(dtype, np.floating)


def checked(name: str, array: np.ndarray, first: int = 0) -> np.ndarray:
    """The matrix as float32, once its rows are known to have a direction; `first` is the number of its row 0."""
    array = np.asarray(array)
    check_rows(name, array, first)
    return array.astype(np.float32, copy=False)


def check_rows(name: str, array: np.ndarray, first: int = 0) -> None:
    """Raise ValueError for what is no float matrix, and for rows that no unit norm can be given, a block at a time."""
    if not is_matrix((array.shape, array.dtype)):
        raise ValueError(f"{name}: {array.dtype} of shape {array.shape} found; a float matrix (n, d) is needed")
    reasons = ("NaN or infinite", "zero", f"longer than {LONGEST:g}", f"shorter than {1 / LONGEST:g}")
    found = {reason: [0, 0] for reason in reasons}  # how many rows, and the first of them
    for start in range(0, len(array), BLOCK):
        block = array[start : start + BLOCK]
        with np.errstate(over="ignore", invalid="ignore"):
            norms = np.linalg.norm(block.astype(np.float64), axis=1)
        finite, zero = np.isfinite(block).all(axis=1), ~block.any(axis=1)
        held = (~finite, zero, finite & ~(norms <= LONGEST), ~zero & (norms < 1 / LONGEST))
        for count, bad in zip(found.values(), held, strict=True):
            if bad.any() and not count[0]:
                count[1] = first + start + int(bad.argmax())
            count[0] += int(bad.sum())
    for reason, (count, row) in found.items():
        if count:
            raise ValueError(f"{name}: {count} rows are {reason}, the first is row {row}; remove them")


def check_names(names: Iterable[str], where: str) -> None:
    """A modality is a file and a column of a store, so that its name must be that of neither yet."""
    for name in names:
        taken = name in ("split", "caption") or name.startswith("class_")
        if not name.isidentifier() or taken or (name.endswith("_norm") and name.removesuffix("_norm") in names):
            raise ValueError(
                f"{where}: {name!r} is taken, or no name for a modality; letters, digits and _ are, such as audio"
            )


def check_pairs(pairs: pd.DataFrame, counts: Mapping[str, int], where: str) -> None:
    """Raise ValueError, one line that begins with `where`, for pairs that are none of matrices with `counts` rows.

    counts: modality -> rows. There is a column per modality with row numbers, and `split`; no row is in both splits.
    """
    if missing := [name for name in (*counts, "split") if name not in pairs]:
        raise ValueError(f"{where}: column `{missing[0]}` is missing; found {', '.join(map(str, pairs.columns))}")
    if unknown := set(pairs["split"]) - set(SPLITS):
        raise ValueError(f"{where}: split {sorted(unknown)[0]!r} is unknown; one of {', '.join(SPLITS)}")
    test = pairs["split"] == "test"
    for name, count in counts.items():
        rows = pairs[name]
        if not pd.api.types.is_integer_dtype(rows) or (len(rows) and not (rows.min() >= 0 and rows.max() < count)):
            raise ValueError(f"{where}: column `{name}` must hold row numbers from 0 to {count - 1}")
        if len(both := np.intersect1d(rows[test], rows[~test])):
            raise ValueError(
                f"{where}: {name} row {both[0]} is in train and in test pairs; the splits must be disjoint"
            )
