"""Paired embeddings on disk: one unit-norm matrix per modality, the pairs that join their rows, and a manifest.

<store>/image.npy, text.npy, …   float32 (n_modality, d), unit rows; two modalities or more of any names, the first of
                                 which is the reference that others are aligned to
<store>/image_norm.npy, …        float32 (n_modality,), the norm that each row had before
<store>/pairs.parquet            a row per pair: one column per modality (its matrix row), `split`, captions, labels
<store>/manifest.json            format, model, source, shapes, software versions, sha256 of every file and of all this
<store>/classes/                 where there are any: the classes of zero-shot classification (see `classes`)
"""

import hashlib
import json
import lzma
import math
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from xsae import files

SPLITS = ("train", "test")
STORE = files.Kind("embedding store", "manifest.json", "xsae.store.1")
ALWAYS_HASHED = 512 * 2**20  # bytes: larger stores are hashed on request only, so that they open in under a second
BLOCK = 65536  # rows that are looked at or written at one time
LONGEST = 1e18  # norm of a row: beyond it, and below its inverse, float32 cannot square it
_FEW = "at least 10 that share no row are needed to train and hold out"
NORM_SAMPLE = 1000  # rows per modality whose norm is checked on opening


class EmbeddingStore:
    """An opened store, memory-mapped and read-only; made by `open_store`, `write_store` or `from_arrays`.

    `store["image"]` is the (n, d) matrix; `pairs` the DataFrame of all pairs; `manifest` the dict on disk.
    """

    def __init__(self, path: Path, manifest: dict, arrays: dict[str, np.ndarray], norms: dict[str, np.ndarray]) -> None:
        self.path, self.manifest = path, manifest
        self._arrays, self._norms = arrays, norms

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {len(array):,} x {self.dim}" for name, array in self._arrays.items())
        counts = ", ".join(f"{count:,} {split} pairs" for split, count in self.manifest["pairs"].items())
        return f"EmbeddingStore {self.path}: {shapes}; {counts}"

    @cached_property
    def pairs(self) -> pd.DataFrame:
        """All pairs, read when first asked for. Raises ValueError where they do not fit the matrices."""
        try:
            pairs = pd.read_parquet(self.path / "pairs.parquet")
        except (pa.ArrowException, ValueError) as error:
            reason = " ".join(str(error).split())[:100]
            raise ValueError(f"{self.path / 'pairs.parquet'}: no readable table ({reason})") from None
        _check_pairs(
            pairs, {name: len(array) for name, array in self._arrays.items()}, str(self.path / "pairs.parquet")
        )
        return pairs

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities, in the order they were written: the reference, then the others."""
        return tuple(self._arrays)

    @property
    def dim(self) -> int:
        """d, the size of an embedding."""
        return self._arrays[self.modalities[0]].shape[1]

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the data files' hashes: equal for equal embeddings and pairs."""
        hashes = {name: about["sha256"] for name, about in self.manifest["files"].items()}
        return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()

    def __getitem__(self, modality: str) -> np.ndarray:
        if modality not in self._arrays:
            raise KeyError(f"modality: {modality!r} is not in {self.path}; one of {', '.join(self.modalities)}")
        return self._arrays[modality]

    def raw(self, modality: str) -> np.ndarray:
        """The (n, d) matrix as it was before its rows were scaled to unit norm, float32, in memory."""
        return self[modality] * self._norms[modality][:, None]

    def split(self, name: str) -> pd.DataFrame:
        """The pairs of split `train` or `test`, renumbered from 0."""
        if name not in SPLITS:
            raise ValueError(f"split: {name!r} is unknown; one of {', '.join(SPLITS)}")
        return self.pairs[self.pairs["split"] == name].reset_index(drop=True)

    def rows(self, modality: str, split: str) -> np.ndarray:
        """The matrix rows of a modality that a split uses, each once, ascending."""
        return np.unique(self.split(split)[modality])

    def groups(self, modality: str, split: str) -> np.ndarray:
        """int, what each of `rows` belongs to: rows of any two modalities that are a pair have one number.

        So has what shares a pair with them: an image and its five captions are one group.
        """
        pairs = self.split(split)
        _, first = np.unique(pairs[modality], return_index=True)
        return _groups([pairs[name].to_numpy() for name in self.modalities])[first]


def write_store(
    path: Path,
    embeddings: Mapping[str, np.ndarray | Sequence[np.ndarray]],
    pairs: pd.DataFrame,
    *,
    model: str,
    source: str,
    about: Mapping[str, Any] = MappingProxyType({}),
) -> EmbeddingStore:
    """Validate, normalise and write a store; one that was there is replaced when the new one is whole, anything else
    never (`files.check_free`).

    embeddings: modality -> (n, d), any float type, or such a matrix in pieces that need not fit in memory together;
    pairs: see the module's head; about: what else the manifest is to say. Equal input gives equal bytes.
    Raises ValueError, having written nothing, for rows that are NaN, infinite or zero, dimensions that differ, pairs
    that point outside a matrix, unknown splits, a row that is in train and test pairs at once, or a modality whose name
    is none for a file or is taken.
    """
    files.check_free(path, STORE)
    _check_names(embeddings, "embeddings")
    pieces = {name: _in_blocks(own) if isinstance(own, np.ndarray) else list(own) for name, own in embeddings.items()}
    dims = {name: {np.shape(piece)[-1] for piece in own if np.ndim(piece)} for name, own in pieces.items()}
    for name, own in pieces.items():  # before anything is written, a piece in memory at a time
        start = 0
        for piece in own:
            start += len(checked(name, piece, start))
    if len(set().union(*dims.values())) != 1:
        shown = ", ".join(f"{name} {' and '.join(map(str, sorted(own)))}" for name, own in dims.items())
        raise ValueError(
            f"embeddings: dimensions differ ({shown}); one joint space has one" if dims else "embeddings: none"
        )
    [dim] = set().union(*dims.values())
    rows = {name: sum(map(len, own)) for name, own in pieces.items()}
    _check_pairs(pairs, rows, "pairs")
    with files.folder(path, STORE) as partial:
        for name, own in pieces.items():
            norms = []
            with (partial / f"{name}.npy").open("wb") as file:  # mapped, a full disk would end the process unheard
                about_array = {"descr": "<f4", "fortran_order": False, "shape": (rows[name], dim)}
                np.lib.format.write_array_header_1_0(file, about_array)
                for piece in own:
                    array = checked(name, piece)
                    norms.append(np.linalg.norm(array, axis=1))
                    file.write((array / norms[-1][:, None]).data)
            np.save(partial / f"{name}_norm.npy", np.concatenate(norms))
        pq.write_table(pa.Table.from_pandas(pairs, preserve_index=False), partial / "pairs.parquet")
        manifest = {
            "model": model,
            "source": source,
            **about,
            "modalities": {name: {"rows": rows[name], "dim": dim} for name in pieces},
            "dtype": "float32",
            "pairs": {split: int((pairs["split"] == split).sum()) for split in SPLITS},
            "software": {package: version(package) for package in ("numpy", "torch", "open_clip_torch")},
        }
        files.seal(partial, STORE, manifest)
    return open_store(path)


def _in_blocks(array: np.ndarray) -> list[np.ndarray]:
    """A matrix in pieces, so that what is made of it needs the memory of a piece; whatever is no matrix as it is."""
    whole = array.ndim != 2 or len(array) <= BLOCK
    return [array] if whole else [array[start : start + BLOCK] for start in range(0, len(array), BLOCK)]


def open_store(path: Path, verify: bool = False) -> EmbeddingStore:
    """Open a store, memory-mapped.

    Checks sizes, dtypes and shapes against the manifest, and norms of a sample of rows; and every file's sha256 when
    the store is at most 512 MB or `verify` is true (3 million pairs open in under a second otherwise). Raises
    FileNotFoundError or ValueError, naming the file, what was expected and what was found.
    """
    path = Path(path)
    if not (path / "manifest.json").is_file():
        raise FileNotFoundError(
            f"{path}: no embedding store; notebook 00_embeddings makes it, or xsae.data.store.from_arrays"
        )
    manifest = files.opened(path, STORE, hashed=False)  # sizes first: a large store is not read to be refused
    if verify or sum(about["bytes"] for about in manifest["files"].values()) <= ALWAYS_HASHED:
        manifest = files.opened(path, STORE)
    arrays, norms = {}, {}
    for name, (rows, dim) in _shapes(path, manifest).items():
        array = _mapped(path / f"{name}.npy", (rows, dim))
        norms[name] = _mapped(path / f"{name}_norm.npy", (rows,))
        sample = np.linalg.norm(array[:: max(len(array) // NORM_SAMPLE, 1)], axis=1)
        if not np.allclose(sample, 1, atol=1e-3):
            worst = sample[np.abs(sample - 1).argmax()]
            raise ValueError(f"{path / name}.npy: rows of unit norm expected, one of norm {worst:.3g} found")
        arrays[name] = array
    return EmbeddingStore(path, manifest, arrays, norms)


def _shapes(path: Path, manifest: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """modality -> (rows, d) as a manifest has them, once it is found to be a store's."""
    where, found = path / STORE.marker, manifest.get("modalities")
    if not isinstance(found, dict) or len(found) < 2:
        raise ValueError(f"{where}: `modalities` must name two or more, {found!r:.60} found")
    _check_names(found, str(where))
    for name, about in found.items():
        if not isinstance(about, dict) or [type(about.get(key)) for key in ("rows", "dim")] != [int, int]:
            raise ValueError(f"{where}: rows and dim of {name} must be numbers, {about!r:.60} found")
    if missing := {"pairs.parquet", *(f"{name}.npy" for name in found)} - set(manifest["files"]):
        raise ValueError(f"{where}: {min(missing)} is not among its files")
    return {name: (about["rows"], about["dim"]) for name, about in found.items()}


def _mapped(file: Path, shape: tuple[int, ...]) -> np.ndarray:
    try:
        array = np.load(file, mmap_mode="r") if file.is_file() else np.empty(0)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{file}: no readable array ({str(error).splitlines()[0][:100]})") from None
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{file}: an archive found; one array is needed")
    if (found := (array.dtype.name, array.shape)) != ("float32", shape):
        raise ValueError(f"{file}: {('float32', shape)} expected, {found} found; make the store again")
    return array


# --- your own embeddings ---


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


def _write_own(
    path: Path, arrays: Mapping[str, np.ndarray | None], held_out: float, seed: int, source: str
) -> EmbeddingStore:
    files.check_free(path, STORE)
    arrays = _check_own(arrays, "arrays")
    if not 0 < held_out < 1:
        raise ValueError(f"held_out: {held_out} found; a share between 0 and 1 is needed")
    rows = _rows(arrays)
    groups = _groups(list(rows.values()))
    every = np.unique(groups)
    n_test = min(max(round(held_out * len(every)), 1), len(every) - 1)
    test = np.random.default_rng(seed).permutation(every)[:n_test]
    pairs = pd.DataFrame({**rows, "split": np.where(np.isin(groups, test), "test", "train")})
    if "caption" in arrays:
        pairs["caption"] = arrays["caption"]
    return write_store(path, {name: arrays[name] for name in rows}, pairs, model="own embeddings", source=source)


def modalities_of(names: Iterable[str]) -> list[str]:
    """Those names of arrays of your own that are modalities, the reference first: `image`, or else the first."""
    found = [name for name in names if name != "caption" and not name.endswith("_index")]
    return sorted(found, key=lambda name: name != "image")


def _rows(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """modality -> int64 (n_pairs,), the matrix row of each pair, of arrays that fit together."""
    return {
        name: arrays.get(f"{name}_index", np.arange(len(arrays[name]))).astype(np.int64)
        for name in modalities_of(arrays)
    }


def _groups(rows: Sequence[np.ndarray]) -> np.ndarray:
    """int (n_pairs,): pairs that share a row, directly or by way of others, have one number, ascending with the first.

    rows: per modality the matrix row of each pair.
    """
    offsets = np.cumsum([0, *(own.max() + 1 for own in rows)])
    first, *others = (own + offset for own, offset in zip(rows, offsets, strict=False))
    edges = np.tile(first, len(others)), np.concatenate(others)
    graph = sparse.coo_array((np.ones(len(edges[0]), bool), edges), shape=(offsets[-1], offsets[-1]))
    return connected_components(graph, directed=False)[1][first]


def read_npz(file: Path, modalities: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Read and check your own `.npz`: what `from_arrays` takes, the reference first.

    modalities: the float matrices (n, d) that are modalities. Where none are named, all are that are no arrays of the
    classes (`xsae.data.classes`), and there must be two: a third may be of anything. Other arrays are not read. Raises
    FileNotFoundError or ValueError, one line naming the file and what is wrong. Nothing is unpickled.
    """
    with _opened(file) as data:
        about = {name: own for name, own in _headers(data, file).items() if not name.startswith("class_")}
        named = _named(about, modalities, file)
        # an index of a matrix that is left out is left out with it
        left = {f"{name}_index" for name in about if name not in named}
        own = [n for n in about if n in named or n == "caption" or (n.endswith("_index") and n not in left)]
        _check_shapes({name: about[name] for name in own}, str(file))  # before any is read
        arrays = {name: _read(data, file, name) for name in own}
    return _check_own(arrays, str(file))


def _named(
    about: Mapping[str, tuple[tuple[int, ...], np.dtype]], modalities: Sequence[str], file: Path
) -> Sequence[str]:
    """Those arrays of an `.npz` that are modalities: the ones that were named, or the only two that can be."""
    possible = [name for name in modalities_of(about) if name in ("image", "text") or _is_matrix(about[name])]
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


def read_arrays(file: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Those of the arrays `names` that an `.npz` holds. Nothing is unpickled.

    Raises FileNotFoundError or ValueError, one line naming the file.
    """
    with _opened(file) as data:
        found = _headers(data, file)
        return {name: _read(data, file, name) for name in names if name in found}


@contextmanager
def _opened(file: Path) -> Iterator[np.lib.npyio.NpzFile]:
    """An `.npz`, open; whatever cannot be read of it within the block becomes one line."""
    file, needed = Path(file), "an .npz with an array for each modality, such as `image` and `text`"
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file; the path of {needed}, is needed")
    try:
        data = np.load(file, allow_pickle=False)
        if not isinstance(data, np.lib.npyio.NpzFile):
            raise ValueError(f"a single array, not {needed}")
        with data:
            yield data
    except _UNREADABLE as error:
        if str(error).startswith(f"{file}: "):  # of an array, and in one line already
            raise
        raise ValueError(f"{file}: not readable: {_first_line(error)}") from None


# What zipfile, its decompressors and numpy raise of files that are damaged, encrypted or none of theirs
_UNREADABLE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, RuntimeError, MemoryError)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _headers(data: np.lib.npyio.NpzFile, file: Path) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """name -> shape and dtype of the arrays of an `.npz`, from their headers; of no array but those is anything read.

    Raises ValueError where an array is there twice, or is not of the size that its header states.
    """
    found = {}
    for member in data.zip.infolist():
        name = member.filename.removesuffix(".npy")
        if name == member.filename:
            continue  # whatever else is in the archive
        if name in found:
            raise ValueError(f"{file}: {name} is there twice; one array of a name is needed")
        try:
            with data.zip.open(member) as content:
                if np.lib.format.read_magic(content) != (1, 0):  # long headers, those of tables: no arrays of ours
                    continue
                shape, _, dtype = np.lib.format.read_array_header_1_0(content)
                size = content.tell() + math.prod(shape) * dtype.itemsize
        except _UNREADABLE as error:
            raise ValueError(f"{file}: {name}: not readable: {_first_line(error)}") from None
        if size != member.file_size and not dtype.hasobject:
            raise ValueError(
                f"{file}: {name}: {member.file_size} bytes found where shape {shape} of {dtype} needs {size}; the file "
                "is damaged"
            )
        found[name] = (shape, dtype)
    return found


def _read(data: np.lib.npyio.NpzFile, file: Path, name: str) -> np.ndarray:
    """An array of an `.npz`. Raises ValueError, one line that names file and array, where it cannot be read."""
    try:
        return data[name]
    except _UNREADABLE as error:
        raise ValueError(f"{file}: {name}: not readable: {_first_line(error)}") from None


def _is_matrix(about: tuple[tuple[int, ...], np.dtype]) -> bool:
    """Whether an array is a float matrix (n, d), by its header."""
    shape, dtype = about
    return len(shape) == 2 and np.issubdtype(dtype, np.floating)


# --- checks ---


def checked(name: str, array: np.ndarray, first: int = 0) -> np.ndarray:
    """The matrix as float32, once its rows are known to have a direction; `first` is the number of its row 0."""
    array = np.asarray(array)
    _check_rows(name, array, first)
    return array.astype(np.float32, copy=False)


def _check_rows(name: str, array: np.ndarray, first: int = 0) -> None:
    """Raise ValueError for what is no float matrix, and for rows that no unit norm can be given, a block at a time."""
    if not _is_matrix((array.shape, array.dtype)):
        raise ValueError(f"{name}: {array.dtype} of shape {array.shape} found; a float matrix (n, d) is needed")
    reasons = ("NaN or infinite", "zero", f"longer than {LONGEST:g}", f"shorter than {1 / LONGEST:g}")
    found = {reason: [0, 0] for reason in reasons}  # how many rows, and the first of them
    for start in range(0, len(array), BLOCK):
        block = array[start : start + BLOCK]
        with np.errstate(over="ignore", invalid="ignore"):
            norms = np.linalg.norm(block.astype(np.float64), axis=1)
        finite, zero = np.isfinite(block).all(axis=1), ~block.any(axis=1)
        held = (~finite, zero, finite & ~(norms <= LONGEST), ~zero & (norms < 1 / LONGEST))
        for own, bad in zip(found.values(), held, strict=True):
            if bad.any() and not own[0]:
                own[1] = first + start + int(bad.argmax())
            own[0] += int(bad.sum())
    for reason, (count, row) in found.items():
        if count:
            raise ValueError(f"{name}: {count} rows are {reason}, the first is row {row}; remove them")


def _check_varies(name: str, array: np.ndarray) -> None:
    """Raise ValueError for rows that are all of one direction."""
    first = array[:1] / np.linalg.norm(array[:1].astype(np.float64))
    for start in range(0, len(array), BLOCK):
        block = array[start : start + BLOCK].astype(np.float64)
        if (np.abs(block / np.linalg.norm(block, axis=1, keepdims=True) - first) > 1e-6).any():
            return
    raise ValueError(f"{name}: all {len(array)} rows have one direction; what does not vary has nothing to learn from")


def _check_names(names: Iterable[str], where: str) -> None:
    """A modality is a file and a column of a store, so that its name must be that of neither yet."""
    for name in names:
        taken = name in ("split", "caption") or name.startswith("class_")
        if not name.isidentifier() or taken or (name.endswith("_norm") and name.removesuffix("_norm") in names):
            raise ValueError(
                f"{where}: {name!r} is taken, or no name for a modality; letters, digits and _ are, such as audio"
            )


def _check_own(arrays: Mapping[str, np.ndarray | None], where: str) -> dict[str, np.ndarray]:
    """What a user hands in, without the absent arrays and the reference first, once it fits together."""
    given = {name: np.asarray(array) for name, array in arrays.items() if array is not None}
    names = modalities_of(given)
    own = {name: given[name] for name in (*names, *(other for other in given if other not in names))}
    _check_names(names, where)
    shapes = _check_shapes({name: (array.shape, array.dtype) for name, array in own.items()}, where)
    try:
        for name in names:
            _check_rows(name, own[name])
            _check_varies(name, own[name])
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    for name, array in own.items():
        modality = name.removesuffix("_index")
        if modality != name and (array.min() < 0 or array.max() >= shapes[modality][0]):
            raise ValueError(
                f"{where}: {name} goes from {array.min()} to {array.max()}; 0 to {shapes[modality][0] - 1} is valid"
            )
    if "caption" in own:
        own["caption"] = _text(own["caption"], f"{where}: caption")
    if (n := len(np.unique(_groups(list(_rows(own).values()))))) < 10:
        raise ValueError(f"{where}: {n} groups of pairs; {_FEW}")
    return own


def _text(array: np.ndarray, where: str) -> np.ndarray:
    """Captions as text: str as it is, bytes as the UTF-8 that they must be."""
    if array.dtype.kind not in "USO":
        raise ValueError(f"{where}: {array.dtype} found; text is needed")
    texts = []
    for row, own in enumerate(array.tolist()):
        try:
            text = own.decode() if isinstance(own, bytes) else own
            if not isinstance(text, str):
                raise ValueError(f"{where}: row {row} is {type(text).__name__}; text is needed")
            text.encode()  # half a surrogate pair is no text that a file could hold
        except UnicodeError:
            raise ValueError(f"{where}: row {row} is not UTF-8: {own!r:.60}") from None
        texts.append(text)
    return np.array(texts, dtype=str)


def _check_shapes(about: Mapping[str, tuple[tuple[int, ...], np.dtype]], where: str) -> dict[str, tuple[int, ...]]:
    """The shapes of the modalities among arrays of one's own, once all arrays are found to fit together.

    about: name -> shape and dtype, which is all that is looked at. Raises ValueError, one line that names the array.
    """
    names = modalities_of(about)
    for name in names:
        if not _is_matrix(about[name]):
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

    index = {name.removesuffix("_index"): own for name, own in about.items() if name.endswith("_index")}
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


def _check_pairs(pairs: pd.DataFrame, counts: Mapping[str, int], where: str) -> None:
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
