"""Paired embeddings on disk: one unit-norm matrix per modality, the pairs that join their rows, and a manifest.

<store>/image.npy, text.npy, …   float32 (n_modality, d), unit rows; two modalities or more of any names, the first of
                                 which is the reference that others are aligned to
<store>/image_norm.npy, …        float32 (n_modality,), the norm that each row had before
<store>/pairs.parquet            a row per pair: one column per modality (its matrix row), `split`, captions, labels
<store>/manifest.json            format, model, source, shapes, software versions, sha256 of every file and of all this
<store>/classes/                 where there are any: the classes of zero-shot classification (see `classes`)
"""

from collections.abc import Mapping, Sequence
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

from xsae.data.checks import BLOCK, SPLITS, check_names, check_pairs, checked
from xsae.disk import files, markers

STORE = markers.Kind("embedding store", "manifest.json", "xsae.store.1")
ALWAYS_HASHED = 512 * 2**20  # bytes: larger stores are hashed on request only, so that they open in under a second
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
        check_pairs(pairs, {name: len(array) for name, array in self._arrays.items()}, str(self.path / "pairs.parquet"))
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
        return markers.fingerprint(self.manifest)

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

    def distinct(self, split: str) -> pd.DataFrame:
        """Those pairs of a split, the first ones, of which no two share a row of any modality."""
        pairs = self.split(split)
        for modality in self.modalities:
            pairs = pairs.drop_duplicates(modality)
        return pairs

    def rows(self, modality: str, split: str) -> np.ndarray:
        """The matrix rows of a modality that a split uses, each once, ascending."""
        return np.unique(self.split(split)[modality])

    def groups(self, modality: str, split: str) -> np.ndarray:
        """int, what each of `rows` belongs to: rows of any two modalities that are a pair have one number.

        So has what shares a pair with them: an image and its five captions are one group.
        """
        pairs = self.split(split)
        _, first = np.unique(pairs[modality], return_index=True)
        return groups_of([pairs[name].to_numpy() for name in self.modalities])[first]


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
    check_names(embeddings, "embeddings")
    pieces = {
        name: _in_blocks(matrix) if isinstance(matrix, np.ndarray) else list(matrix)
        for name, matrix in embeddings.items()
    }
    dims = {name: {np.shape(piece)[-1] for piece in blocks if np.ndim(piece)} for name, blocks in pieces.items()}
    for name, blocks in pieces.items():  # before anything is written, a piece in memory at a time
        start = 0
        for piece in blocks:
            start += len(checked(name, piece, start))
    if len(set().union(*dims.values())) != 1:
        shown = ", ".join(f"{name} {' and '.join(map(str, sorted(widths)))}" for name, widths in dims.items())
        raise ValueError(
            f"embeddings: dimensions differ ({shown}); one joint space has one" if dims else "embeddings: none"
        )
    [dim] = set().union(*dims.values())
    rows = {name: sum(map(len, blocks)) for name, blocks in pieces.items()}
    check_pairs(pairs, rows, "pairs")
    with files.folder(path, STORE) as partial:
        for name, blocks in pieces.items():
            norms = []
            with (partial / f"{name}.npy").open("wb") as file:  # mapped, a full disk would end the process unheard
                about_array = {"descr": "<f4", "fortran_order": False, "shape": (rows[name], dim)}
                np.lib.format.write_array_header_1_0(file, about_array)
                for piece in blocks:
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
        markers.seal(partial, STORE, manifest)
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
    manifest = markers.opened(path, STORE, hashed=False)  # sizes first: a large store is not read to be refused
    if verify or sum(about["bytes"] for about in manifest["files"].values()) <= ALWAYS_HASHED:
        manifest = markers.opened(path, STORE)
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
    check_names(found, str(where))
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


def groups_of(rows: Sequence[np.ndarray]) -> np.ndarray:
    """int (n_pairs,): pairs that share a row, directly or by way of others, have one number, ascending with the first.

    rows: per modality the matrix row of each pair.
    """
    offsets = np.cumsum([0, *(numbers.max() + 1 for numbers in rows)])
    first, *others = (numbers + offset for numbers, offset in zip(rows, offsets, strict=False))
    edges = np.tile(first, len(others)), np.concatenate(others)
    graph = sparse.coo_array((np.ones(len(edges[0]), bool), edges), shape=(offsets[-1], offsets[-1]))
    return connected_components(graph, directed=False)[1][first]
