"""Paired embeddings on disk: one unit-norm matrix per modality, the pairs that join their rows, and a manifest.

<store>/image.npy, text.npy, …   float32 (n_modality, d), unit rows, any modality names
<store>/image_norm.npy, …        float32 (n_modality,), the norm that each row had before
<store>/pairs.parquet            a row per pair: one column per modality (its matrix row), `split`, captions, labels
<store>/manifest.json            model, source, shapes, size and sha256 of every file, software versions
<store>/classes/                 where there are any: the classes of zero-shot classification (see `classes`)
"""

import hashlib
import json
import os
import shutil
import zipfile
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

SPLITS = ("train", "test")
ALWAYS_HASHED = 512 * 2**20  # bytes: larger stores are hashed on request only, so that they open in under a second
NORM_SAMPLE = 1000  # rows per modality whose norm is checked on opening


class EmbeddingStore:
    """An opened store, memory-mapped and read-only; made by `open_store`, `write_store` or `from_arrays`.

    `store["image"]` is the (n, d) matrix; `pairs` the DataFrame of all pairs; `manifest` the dict on disk.
    """

    def __init__(self, path: Path, manifest: dict, arrays: dict[str, np.ndarray], norms: dict[str, np.ndarray]) -> None:
        self.path, self.manifest = path, manifest
        self._arrays, self._norms = arrays, norms

    @cached_property
    def pairs(self) -> pd.DataFrame:
        """All pairs, read when first asked for. Raises ValueError where they do not fit the matrices."""
        pairs = pd.read_parquet(self.path / "pairs.parquet")
        _check_pairs(
            pairs, {name: len(array) for name, array in self._arrays.items()}, str(self.path / "pairs.parquet")
        )
        return pairs

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities, in the order they were written."""
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


def write_store(
    path: Path,
    embeddings: Mapping[str, np.ndarray | Sequence[np.ndarray]],
    pairs: pd.DataFrame,
    *,
    model: str,
    source: str,
    about: Mapping[str, Any] = MappingProxyType({}),
) -> EmbeddingStore:
    """Validate, normalise and write a store; one that was there is replaced when the new one is whole.

    embeddings: modality -> (n, d), any float type, or such a matrix in pieces that need not fit in memory together;
    pairs: see the module's head; about: what else the manifest is to say. Equal input gives equal bytes.
    Raises ValueError, having written nothing, for rows that are NaN, infinite or zero, dimensions that differ, pairs
    that point outside a matrix, unknown splits, or a row that is in train and test pairs at once.
    """
    path = Path(path)
    pieces = {name: [own] if isinstance(own, np.ndarray) else list(own) for name, own in embeddings.items()}
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
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
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
            "files": {file.name: file_about(file) for file in sorted(partial.iterdir())},
            "software": {package: version(package) for package in ("numpy", "torch", "open_clip_torch")},
        }
        (partial / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
        replace_folder(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return open_store(path)


def replace_folder(partial: Path, path: Path) -> None:
    """Give a finished folder its name; what had it goes, but not before."""
    former = path.with_name(f".{path.name}.former")
    shutil.rmtree(former, ignore_errors=True)
    if path.exists():
        os.replace(path, former)
    try:
        os.replace(partial, path)
    except OSError:
        if former.exists():
            os.replace(former, path)
        raise
    shutil.rmtree(former, ignore_errors=True)


def open_store(path: Path, verify: bool = False) -> EmbeddingStore:
    """Open a store, memory-mapped.

    Checks sizes, dtypes and shapes against the manifest, and norms of a sample of rows; and every file's sha256 when
    the store is at most 512 MB or `verify` is true (3 million pairs open in under a second otherwise). Raises
    FileNotFoundError or ValueError, naming the file, what was expected and what was found.
    """
    path = Path(path)
    if not (path / "manifest.json").is_file():
        raise FileNotFoundError(
            f"{path}: no embedding store; notebook 00_embeddings makes it, or xsae.embeddings.from_arrays"
        )
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        files, modalities = manifest["files"], manifest["modalities"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path / 'manifest.json'}: truncated or altered ({error!r}); make the store again") from None
    hashed = verify or sum(about["bytes"] for about in files.values()) <= ALWAYS_HASHED
    for name, about in files.items():
        size = (path / name).stat().st_size if (path / name).is_file() else None
        if size != about["bytes"]:
            found = "nothing" if size is None else f"{size} bytes"
            raise ValueError(f"{path / name}: {about['bytes']} bytes expected, {found} found; make the store again")
        if hashed and (found := _sha256(path / name)) != about["sha256"]:
            raise ValueError(f"{path / name}: altered: sha256 {about['sha256'][:12]}… expected, {found[:12]}… found")
    arrays, norms = {}, {}
    for name, about in modalities.items():
        array = _mapped(path / f"{name}.npy", (about["rows"], about["dim"]))
        norms[name] = _mapped(path / f"{name}_norm.npy", (about["rows"],))
        sample = np.linalg.norm(array[:: max(len(array) // NORM_SAMPLE, 1)], axis=1)
        if not np.allclose(sample, 1, atol=1e-3):
            worst = sample[np.abs(sample - 1).argmax()]
            raise ValueError(f"{path / name}.npy: rows of unit norm expected, one of norm {worst:.3g} found")
        arrays[name] = array
    return EmbeddingStore(path, manifest, arrays, norms)


def _mapped(file: Path, shape: tuple[int, ...]) -> np.ndarray:
    array = np.load(file, mmap_mode="r") if file.is_file() else np.empty(0)
    if (found := (array.dtype.name, array.shape)) != ("float32", shape):
        raise ValueError(f"{file}: {('float32', shape)} expected, {found} found; make the store again")
    return array


# --- your own embeddings ---


def from_arrays(
    path: Path,
    *,
    image: np.ndarray,
    text: np.ndarray,
    captions: np.ndarray | None = None,
    image_index: np.ndarray | None = None,
    held_out: float = 0.2,
    seed: int = 0,
    source: str = "arrays",
) -> EmbeddingStore:
    """Make a store of image (n, d) and text (m, d) embeddings and split it, all texts of an image on one side.

    image_index: int (m,), the image of each text; without it row i of both is a pair. `held_out`: share of the images
    that have a text (rounded, at least one on each side) that goes to `test`. Images without a text are in no pair.
    """
    arrays = _check_own({"image": image, "text": text, "caption": captions, "image_index": image_index}, "arrays")
    if not 0 < held_out < 1:
        raise ValueError(f"held_out: {held_out} found; a share between 0 and 1 is needed")
    owner = arrays.get("image_index", np.arange(len(text))).astype(np.int64)
    images = np.unique(owner)
    n_test = min(max(round(held_out * len(images)), 1), len(images) - 1)
    test = np.random.default_rng(seed).permutation(images)[:n_test]
    split = np.where(np.isin(owner, test), "test", "train")
    pairs = pd.DataFrame({"image": owner, "text": np.arange(len(owner)), "split": split})
    if "caption" in arrays:
        pairs["caption"] = arrays["caption"].astype(str)
    return write_store(path, {"image": image, "text": text}, pairs, model="own embeddings", source=source)


def read_npz(file: Path) -> dict[str, np.ndarray]:
    """Read and check your own `.npz`: `image` (n, d), `text` (m, d), optional `caption` (m,), `image_index` (m,).

    Raises FileNotFoundError or ValueError, one line naming the file and what is wrong. Nothing is unpickled.
    """
    arrays = read_arrays(file, ("image", "text", "caption", "image_index"))
    if missing := {"image", "text"} - set(arrays):
        raise ValueError(
            f"{file}: array `{min(missing)}` is missing; found {', '.join(arrays) or 'none that is known'}"
        )
    return _check_own(arrays, str(file))


def read_arrays(file: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Those of the arrays `names` that an `.npz` holds. Nothing is unpickled.

    Raises FileNotFoundError or ValueError, one line naming the file.
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file; the path of an .npz with arrays `image` and `text` is needed")
    try:
        data = np.load(file, allow_pickle=False)
        if not isinstance(data, np.lib.npyio.NpzFile):
            raise ValueError("a single array, not an .npz with arrays `image` and `text`")
        with data:
            return {name: data[name] for name in names if name in data.files}
    except (zipfile.BadZipFile, EOFError, OSError, ValueError) as error:
        raise ValueError(f"{file}: not readable: {str(error).splitlines()[0]}") from None


def import_file(path: Path, file: Path, *, held_out: float, seed: int = 0) -> EmbeddingStore:
    """Make a store of your own `.npz` in one line: `read_npz`, then `from_arrays`."""
    arrays = read_npz(file)
    captions = arrays.pop("caption", None)
    return from_arrays(path, **arrays, captions=captions, held_out=held_out, seed=seed, source=Path(file).name)


# --- checks ---


def checked(name: str, array: np.ndarray, first: int = 0) -> np.ndarray:
    """The matrix as float32, once its rows are known to be finite and not zero; `first` is the number of its row 0."""
    array = np.asarray(array)
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"{name}: {array.dtype} of shape {array.shape} found; a float matrix (n, d) is needed")
    array = array.astype(np.float32)
    norms = np.linalg.norm(array, axis=1)
    for what, bad in (("NaN or infinite", ~np.isfinite(norms)), ("zero", norms == 0)):
        if bad.any():
            raise ValueError(
                f"{name}: {bad.sum()} rows are {what}, the first is row {first + bad.argmax()}; remove them"
            )
    return array


def _check_own(arrays: Mapping[str, np.ndarray | None], where: str) -> dict[str, np.ndarray]:
    """What a user hands in, without the absent arrays, once it fits together."""
    own = {name: np.asarray(array) for name, array in arrays.items() if array is not None}
    try:
        image, text = checked("image", own["image"]), checked("text", own["text"])
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if image.shape[1] != text.shape[1]:
        raise ValueError(
            f"{where}: image has {image.shape[1]} dimensions, text {text.shape[1]}; one joint space has one"
        )
    index = own.get("image_index")
    if index is None and len(image) != len(text):
        raise ValueError(
            f"{where}: image has {len(image)} rows, text {len(text)}; equal counts or an `image_index` are needed"
        )
    if index is not None:
        if index.shape != (len(text),) or not np.issubdtype(index.dtype, np.integer):
            raise ValueError(f"{where}: image_index is {index.dtype} {index.shape}; integers ({len(text)},) are needed")
        if index.min() < 0 or index.max() >= len(image):
            raise ValueError(
                f"{where}: image_index goes from {index.min()} to {index.max()}; 0 to {len(image) - 1} is valid"
            )
    if "caption" in own and own["caption"].shape != (len(text),):
        raise ValueError(f"{where}: caption has shape {own['caption'].shape}; one per text, ({len(text)},), is needed")
    if (owned := len(np.unique(index)) if index is not None else len(image)) < 10:
        raise ValueError(f"{where}: {owned} images with a text; at least 10 are needed to train and hold out")
    return own


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


def file_about(file: Path) -> dict:
    """Size and sha256 of a file."""
    return {"bytes": file.stat().st_size, "sha256": _sha256(file)}


def _sha256(file: Path) -> str:
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()
