"""Your own embeddings as a store: arrays in memory, or an `.npz`, checked before anything is written."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from xsae.data import pictures
from xsae.data.checks import BLOCK, check_names, check_rows, is_matrix
from xsae.data.npz import headers, opened, read
from xsae.data.store import STORE, EmbeddingStore, groups_of, write_store
from xsae.disk import files

_FEW = "at least 10 that share no row are needed to train and hold out"


def from_arrays(
    path: Path,
    *,
    caption: np.ndarray | None = None,
    held_out: float = 0.2,
    seed: int = 0,
    source: str = "arrays",
    **arrays: np.ndarray | None,
) -> EmbeddingStore:
    """Make a store of your own embeddings, `image=…, text=…, audio=…`, and split it.

    arrays: float matrices of one d, two modalities or more, under any names. Row i of each belongs to pair i, unless
    `<name>_index`, int (n_pairs,), says which row of modality `name` is in each pair: `image_index`, say, where images
    have several texts each. `image` is the reference where there is one, else the first. `caption`: (n_pairs,).

    Pairs that share a row, directly or by way of others, are one group, and stay on one side. `held_out`: share of the
    groups (rounded, at least one on each side) that goes to `test`. Rows may be in no pair. Raises ValueError, having
    written nothing, for what does not fit together.
    """
    return _write_own(path, arrays | {"caption": caption}, held_out, seed, source)


def import_file(
    path: Path, file: Path, *, held_out: float, seed: int = 0, modalities: Sequence[str] = ()
) -> EmbeddingStore:
    """Make a store of your own `.npz` in one line: `read_npz`, then as `from_arrays`."""
    return _write_own(path, read_npz(file, modalities), held_out, seed, Path(file).name)


def read_npz(file: Path, modalities: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Read and check your own `.npz`: what `from_arrays` takes, the reference first.

    modalities: the float matrices (n, d) that are modalities. Where none are named, all are that are no arrays of the
    classes (`xsae.data.classes`), and there must be two: a third may be of anything. Other arrays are not read. Raises
    FileNotFoundError or ValueError, one line naming the file and what is wrong. Nothing is unpickled.
    """
    with opened(file) as data:
        about = {name: header for name, header in headers(data, file).items() if not name.startswith("class_")}
        named = _named(about, modalities, file)
        # an index of a matrix that is left out is left out with it
        left = {f"{name}_index" for name in about if name not in named}
        wanted = [n for n in about if n in named or n == "caption" or (n.endswith("_index") and n not in left)]
        shapes = _check_shapes({name: about[name] for name in wanted}, str(file))  # before any is read
        reference = next(iter(shapes))
        pictures.check(about, shapes[reference][0], reference, file)
        arrays = {name: read(data, file, name) for name in wanted}
    return _check_own(arrays, str(file))


def _named(
    about: Mapping[str, tuple[tuple[int, ...], np.dtype]], modalities: Sequence[str], file: Path
) -> Sequence[str]:
    """Those arrays of an `.npz` that are modalities: the ones that were named, or the only two that can be."""
    possible = [name for name in modalities_of(about) if name in ("image", "text") or is_matrix(about[name])]
    if missing := [name for name in modalities if name not in possible]:
        raise ValueError(
            f"{file}: no float matrix `{missing[0]:.60}`, which is to be a modality; found {', '.join(possible)}"
        )
    if modalities or len(possible) <= 2:
        return modalities or possible
    two = ["image", "text"] if {"image", "text"} <= set(possible) else possible[:2]
    [stray, *_] = (name for name in possible if name not in two)
    raise ValueError(
        f"{file}: {stray}, a float matrix {about[stray][0]} beside {' and '.join(two)}, may be a modality or not: "
        f"--modalities {','.join(two)} leaves it out, --modalities {','.join(possible)} takes all"
    )


def modalities_of(names: Iterable[str]) -> list[str]:
    """Those names of arrays of your own that are modalities, the reference first: `image`, or else the first."""
    found = [name for name in names if name != "caption" and not name.endswith("_index")]
    return sorted(found, key=lambda name: name != "image")


def _write_own(
    path: Path, arrays: Mapping[str, np.ndarray | None], held_out: float, seed: int, source: str
) -> EmbeddingStore:
    files.check_free(path, STORE)
    arrays = _check_own(arrays, "arrays")
    if not 0 < held_out < 1:
        raise ValueError(f"held_out: {held_out} found; a share between 0 and 1 is needed")
    rows = _rows(arrays)
    groups = groups_of(list(rows.values()))
    every = np.unique(groups)
    n_test = min(max(round(held_out * len(every)), 1), len(every) - 1)
    test = np.random.default_rng(seed).permutation(every)[:n_test]
    pairs = pd.DataFrame({**rows, "split": np.where(np.isin(groups, test), "test", "train")})
    if "caption" in arrays:
        pairs["caption"] = arrays["caption"]
    return write_store(path, {name: arrays[name] for name in rows}, pairs, model="own embeddings", source=source)


def _rows(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """modality -> int64 (n_pairs,), the matrix row of each pair, of arrays that fit together."""
    return {
        name: arrays.get(f"{name}_index", np.arange(len(arrays[name]))).astype(np.int64)
        for name in modalities_of(arrays)
    }


def _check_varies(name: str, array: np.ndarray) -> None:
    """Raise ValueError for rows that are all of one direction."""
    first = array[:1] / np.linalg.norm(array[:1].astype(np.float64))
    for start in range(0, len(array), BLOCK):
        block = array[start : start + BLOCK].astype(np.float64)
        if (np.abs(block / np.linalg.norm(block, axis=1, keepdims=True) - first) > 1e-6).any():
            return
    raise ValueError(f"{name}: all {len(array)} rows have one direction; what does not vary has nothing to learn from")


def _check_own(arrays: Mapping[str, np.ndarray | None], where: str) -> dict[str, np.ndarray]:
    """What a user hands in, without the absent arrays and the reference first, once it fits together."""
    given = {name: np.asarray(array) for name, array in arrays.items() if array is not None}
    names = modalities_of(given)
    kept = {name: given[name] for name in (*names, *(other for other in given if other not in names))}
    check_names(names, where)
    shapes = _check_shapes({name: (array.shape, array.dtype) for name, array in kept.items()}, where)
    try:
        for name in names:
            check_rows(name, kept[name])
            _check_varies(name, kept[name])
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    for name, array in kept.items():
        modality = name.removesuffix("_index")
        if modality != name and (array.min() < 0 or array.max() >= shapes[modality][0]):
            raise ValueError(
                f"{where}: {name} goes from {array.min()} to {array.max()}; 0 to {shapes[modality][0] - 1} is valid"
            )
    if "caption" in kept:
        kept["caption"] = _text(kept["caption"], f"{where}: caption")
    if (n := len(np.unique(groups_of(list(_rows(kept).values()))))) < 10:
        raise ValueError(f"{where}: {n} groups of pairs; {_FEW}")
    return kept


def _text(array: np.ndarray, where: str) -> np.ndarray:
    """Captions as text: str as it is, bytes as the UTF-8 that they must be."""
    if array.dtype.kind not in "USO":
        raise ValueError(f"{where}: {array.dtype} found; text is needed")
    texts = []
    for row, value in enumerate(array.tolist()):
        try:
            text = value.decode() if isinstance(value, bytes) else value
            if not isinstance(text, str):
                raise ValueError(f"{where}: row {row} is {type(text).__name__}; text is needed")
            text.encode()  # half a surrogate pair is no text that a file could hold
        except UnicodeError:
            raise ValueError(f"{where}: row {row} is not UTF-8: {value!r:.60}") from None
        texts.append(text)
    return np.array(texts, dtype=str)


def _check_shapes(about: Mapping[str, tuple[tuple[int, ...], np.dtype]], where: str) -> dict[str, tuple[int, ...]]:
    """The shapes of the modalities among arrays of one's own, once all arrays are found to fit together.

    about: name -> shape and dtype, which is all that is looked at. Raises ValueError, one line that names the array.
    """
    names = modalities_of(about)
    for name in names:
        if not is_matrix(about[name]):
            shape, dtype = about[name]
            raise ValueError(f"{where}: {name}: {dtype} of shape {shape} found; a float matrix (n, d) is needed")
    shapes = {name: about[name][0] for name in names}
    if thin := [name for name, (_, dim) in shapes.items() if dim < 2]:
        raise ValueError(f"{where}: {thin[0]} has dimension {shapes[thin[0]][1]}; a direction needs 2 or more")
    if len(names) < 2:
        found = f"`{names[0]}` alone" if names else "none"
        raise ValueError(f"{where}: {found} found; at least two modalities, such as `image` and `text`, are needed")
    if len({dim for _, dim in shapes.values()}) != 1:
        shown = ", ".join(f"{name} {dim}" for name, (_, dim) in shapes.items())
        raise ValueError(f"{where}: dimensions differ ({shown}); one joint space has one")

    index = {name.removesuffix("_index"): rows for name, rows in about.items() if name.endswith("_index")}
    if unknown := [name for name in index if name not in names]:
        raise ValueError(f"{where}: {unknown[0]}_index is of no modality; found {', '.join(names)}")
    counts = {name: n for name, (n, _) in shapes.items() if name not in index}
    if len(set(counts.values())) > 1:
        shown = ", ".join(
            f"{name} has {n} rows" if i == 0 else f"{name} {n}" for i, (name, n) in enumerate(counts.items())
        )
        raise ValueError(f"{where}: {shown}; equal counts or an `{next(iter(counts))}_index` are needed")
    n_pairs = next(iter(counts.values())) if counts else max(math.prod(shape) for shape, _ in index.values())
    if n_pairs < 10:
        raise ValueError(f"{where}: {n_pairs} pairs; {_FEW}")
    for name, (shape, dtype) in index.items():
        if shape != (n_pairs,) or not np.issubdtype(dtype, np.integer):
            raise ValueError(f"{where}: {name}_index is {dtype} {shape}; integers ({n_pairs},) are needed")
    if "caption" in about and about["caption"][0] != (n_pairs,):
        raise ValueError(f"{where}: caption has shape {about['caption'][0]}; one per pair, ({n_pairs},), is needed")
    return shapes
