"""What a folder of ours says of itself: a marker, with the size and sha256 of every file in it.

A marker is a JSON file that names the folder's format, its files, and as `sha256` the hash of all else that it says.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from safetensors import SafetensorError, safe_open

README = "README.md"  # beside a marker it is the user's to edit: never hashed, never lost


@dataclass(frozen=True)
class Kind:
    """A kind of folder: what it is called, the marker file in it, and the format which that names."""

    what: str
    marker: str
    format: str


def seal(folder: Path, kind: Kind, about: Mapping[str, Any]) -> None:
    """Write a folder's marker: its format, what `about` says, and the hash of every file that is there and of all this.

    Equal files and equal `about` give equal bytes.
    """
    found = sorted(entry for entry in folder.rglob("*") if entry.is_file() and entry != folder / README)
    files = {
        entry.relative_to(folder).as_posix(): file_about(entry) for entry in found if entry != folder / kind.marker
    }
    said = {"format": kind.format, **about, "files": files}
    (folder / kind.marker).write_text(json.dumps(said | {"sha256": digest(said)}, indent=2) + "\n")


def found_marker(file: Path) -> dict | None:
    """What a marker of ours says; None where the file is none."""
    try:
        said = json.loads(file.read_text()) if file.is_file() else None
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or not str(said.get("format")).startswith("xsae."):
        return None
    return said if isinstance(said.get("files"), dict) else None


def opened(folder: Path, kind: Kind, hashed: bool = True) -> dict[str, Any]:
    """What a folder's marker says, once every file is found to be what was written.

    hashed: whether files are hashed, or only their sizes compared. Raises FileNotFoundError where there is no marker,
    ValueError where it or a file is not what was written, one line that names the file.
    """
    folder = Path(folder)
    marker = folder / kind.marker
    if not marker.is_file():
        raise FileNotFoundError(f"{marker}: not there; a {kind.what} holds it")
    try:
        said = json.loads(marker.read_text())
    except (ValueError, RecursionError) as error:  # of JSON, of its encoding, of lists in lists in lists
        raise ValueError(f"{marker}: truncated or altered: not JSON ({' '.join(str(error).split())[:100]})") from None
    if not isinstance(said, dict) or said.get("format") != kind.format:
        found = f"format {said['format']!r:.60}" if isinstance(said, dict) and "format" in said else "none"
        raise ValueError(f"{marker}: format {kind.format} expected, {found} found; this is no {kind.what} of ours")
    if said.pop("sha256", None) != digest(said):
        raise ValueError(f"{marker}: altered: what it says does not fit its sha256")
    if not isinstance(said.get("files"), dict):
        raise ValueError(f"{marker}: `files` is missing; no {kind.what} of ours")
    for name, about in said["files"].items():
        _check_file(folder, name, about, hashed)
    return said


def _check_file(folder: Path, name: str, about: Any, hashed: bool) -> None:
    file = folder / name
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or not _within(file, folder):
        raise ValueError(f"{file}: lies outside {folder}; a folder of ours names its own files alone")
    if not isinstance(about, dict) or set(about) != {"bytes", "sha256"}:
        raise ValueError(f"{folder}: no size and sha256 of {name}")
    if not file.is_file() or (size := file.stat().st_size) != about["bytes"]:
        found = f"{size} bytes" if file.is_file() else "nothing"
        raise ValueError(f"{file}: truncated or altered: {about['bytes']} bytes expected, {found} found; make it again")
    if hashed and (found := sha256(file)) != about["sha256"]:
        expected = f"{str(about['sha256'])[:12]}…"
        raise ValueError(
            f"{file}: truncated or altered: sha256 {expected} expected, {found[:12]}… found; make it again"
        )


def _within(file: Path, folder: Path) -> bool:
    """Whether a file is in the folder, links followed. The hub's cache is made of links into its `blobs`."""
    home = folder.resolve()
    blobs = [home.parents[1] / "blobs"] if home.parent.name == "snapshots" else []
    return any(file.resolve().is_relative_to(place) for place in (home, *blobs))


def fingerprint(said: Mapping[str, Any]) -> str:
    """sha256 of the hashes of the files that a marker names: equal for equal files."""
    return digest({name: about["sha256"] for name, about in said["files"].items()})


def tensor_shapes(file: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """name -> (type, such as F32, and shape) of a safetensors file's tensors, from its header, before any is read.

    Raises ValueError, one line that names the file, where it is no such file.
    """
    try:
        with safe_open(file, framework="numpy") as tensors:
            parts = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118 (not a dict)
            return {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in parts.items()}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file}: no readable safetensors file ({' '.join(str(error).split())[:100]})") from None


def file_about(file: Path) -> dict[str, Any]:
    """Size and sha256 of a file."""
    return {"bytes": file.stat().st_size, "sha256": sha256(file)}


def sha256(file: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def digest(said: Mapping[str, Any]) -> str:
    """The sha256 of what a marker says but for its own `sha256`, in whatever order."""
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
