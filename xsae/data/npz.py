"""Reading arrays of an `.npz` of anybody's: nothing is unpickled, and headers are looked at before any array is."""

import lzma
import math
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

# What zipfile, its decompressors and numpy raise of files that are damaged, encrypted or none of theirs
_UNREADABLE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, RuntimeError, MemoryError)


def read_arrays(file: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Those of the arrays `names` that an `.npz` holds. Nothing is unpickled.

    Raises FileNotFoundError or ValueError, one line naming the file.
    """
    with opened(file) as data:
        found = headers(data, file)
        return {name: read(data, file, name) for name in names if name in found}


@contextmanager
def opened(file: Path) -> Iterator[np.lib.npyio.NpzFile]:
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


def headers(data: np.lib.npyio.NpzFile, file: Path) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
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


def read(data: np.lib.npyio.NpzFile, file: Path, name: str) -> np.ndarray:
    """An array of an `.npz`. Raises ValueError, one line that names file and array, where it cannot be read."""
    try:
        return data[name]
    except _UNREADABLE as error:
        raise ValueError(f"{file}: {name}: not readable: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
