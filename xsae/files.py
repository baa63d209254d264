"""Whole or not at all: the only place of temporary names, renames, replaced folders and hashes of files.

A file or folder is written in a private folder beside it, `.NAME.*.partial`, and gets its name when all of it is on
the disk. What a killed process left there goes when the same name is written again.

A folder of ours holds a `Kind`'s marker: a JSON file that names its format, the size and sha256 of every file, and as
`sha256` the hash of all else that it says. Nothing but such a folder is ever replaced, and only where it holds no file
that its markers don't name.
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from safetensors import SafetensorError, safe_open

README = "README.md"  # beside a marker it is the user's to edit: never hashed, never lost
_FULL = ("No space left", "quota exceeded")  # what libraries say of a full disk, each in an error of its own kind


@dataclass(frozen=True)
class Kind:
    """A kind of folder: what it is called, the marker file in it, and the format which that names."""

    what: str
    marker: str
    format: str


# --- writing ---


@contextmanager
def file(path: Path) -> Iterator[Path]:
    """A path to write to; what is written there gets the name `path` when the block ends without an error.

    Raises IsADirectoryError where a folder has that name, OSError, one line, where the disk is full.
    """
    path = _followed(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a folder; a file is to be written there")
    with _beside(path) as new:
        yield new
        _settle(new)
        os.replace(new, path)


@contextmanager
def folder(path: Path, kind: Kind) -> Iterator[Path]:
    """A new folder to write to and to `seal`; it gets the name `path` when the block ends without an error.

    What had the name goes, but not before. Raises FileExistsError before the block as `check_free` does, and OSError,
    one line, where the disk is full.
    """
    path = _followed(path)
    check_free(path, kind)
    with _beside(path) as new:
        new.mkdir()
        if (path / README).is_file():
            shutil.copy2(path / README, new / README)
        yield new
        opened(new, kind, hashed=False)  # a folder without its marker could never be replaced again
        _settle(new)
        former = new.parents[1] / "former"
        while True:
            check_free(path, kind)  # the block may have taken hours
            if former.exists():
                shutil.rmtree(former)
            with suppress(FileNotFoundError):
                os.replace(path, former)
            try:
                os.replace(new, path)
                break
            except OSError as error:
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST):  # another process was faster: its folder goes then
                    continue
                if former.exists():
                    os.replace(former, path)
                raise


def seal(folder: Path, kind: Kind, about: Mapping[str, Any]) -> None:
    """Write a folder's marker: its format, what `about` says, and the hash of every file that is there and of all this.

    Equal files and equal `about` give equal bytes.
    """
    found = sorted(own for own in folder.rglob("*") if own.is_file() and own != folder / README)
    files = {own.relative_to(folder).as_posix(): file_about(own) for own in found if own != folder / kind.marker}
    said = {"format": kind.format, **about, "files": files}
    (folder / kind.marker).write_text(json.dumps(said | {"sha256": digest(said)}, indent=2) + "\n")


def remove(path: Path, kind: Kind) -> None:
    """Remove a folder of ours, if it is there, and what killed processes left of it. Raises FileExistsError as
    `check_free` does."""
    check_free(path, kind)
    if not path.parent.is_dir():
        return
    with private(path.parent, f".{path.name}.") as room, suppress(FileNotFoundError):
        os.replace(path, room / "gone")  # a folder that is half removed would be taken for somebody else's


def check_free(path: Path, kind: Kind) -> None:
    """Whether a folder of this kind may be written to `path`: nothing is there, an empty folder, or one of the kind.

    Raises FileExistsError, one line, that names what is in the way. Call it before long work.
    """
    path = Path(path)
    if not path.exists():
        return
    if not path.is_dir():
        raise FileExistsError(f"{path}: is a file; a folder is to be written there; choose another name")
    there = [own for own in sorted(path.rglob("*")) if own.is_symlink() or not own.is_dir()]
    there = [own for own in there if not _temporary(own.relative_to(path))]
    if not there:
        return
    marker = _marker(path / kind.marker)
    if marker is None or marker["format"] != kind.format:
        raise FileExistsError(
            f"{path}: holds {there[0].relative_to(path)}, and is no {kind.what} that this version wrote; "
            "choose another folder, or move this one away"
        )
    ours = {path / README}
    for own in there:
        if own.suffix == ".json" and (marker := _marker(own)):
            ours |= {own, *(own.parent / name for name in marker["files"])}
    if strangers := [own for own in there if own not in ours]:
        raise FileExistsError(
            f"{path}: holds {strangers[0].relative_to(path)}, which is not of this {kind.what}; move it away"
        )


def _marker(file: Path) -> dict | None:
    """What a marker of ours says; None where the file is none."""
    try:
        said = json.loads(file.read_text()) if file.is_file() else None
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or not str(said.get("format")).startswith("xsae."):
        return None
    return said if isinstance(said.get("files"), dict) else None


def _temporary(path: Path) -> bool:
    """Whether a relative path lies in a folder that `private` made."""
    return any(part.startswith(".") and part.endswith(".partial") for part in path.parts)


def _followed(path: Path) -> Path:
    """Where a path leads, so that a link stays a link and what it names is written."""
    path = Path(path)
    return path.resolve() if path.is_symlink() else path.absolute()


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A path of the same name in a private folder beside `path`, on the same disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _full_disk(path), private(path.parent, f".{path.name}.") as room:
        (room / "new").mkdir()
        yield room / "new" / path.name


@contextmanager
def private(parent: Path, prefix: str) -> Iterator[Path]:
    """A new folder `<parent>/<prefix>*.partial` that only this user may enter, removed at the end.

    Those that killed processes left go first.
    """
    _sweep_all(parent, prefix)
    while True:
        room = Path(tempfile.mkdtemp(".partial", prefix, parent))
        held = os.open(room, os.O_RDONLY)
        with suppress(OSError):  # some network disks have no locks: there nothing is ever swept
            fcntl.flock(held, fcntl.LOCK_EX)
        if room.exists():  # else another process swept it before it was locked
            break
        os.close(held)
    try:
        yield room
    finally:
        shutil.rmtree(room, ignore_errors=True)
        os.close(held)


def sweep(path: Path) -> None:
    """Remove what killed processes left beside `path` in writing it."""
    _sweep_all(path.parent, f".{path.name}.")


def _sweep_all(parent: Path, prefix: str) -> None:
    """Remove the private folders of a prefix that are not in use: a lock that dies with its process tells them."""
    for left in parent.glob("*.partial"):
        if left.name.startswith(prefix) and len(left.name) == len(prefix) + len("xxxxxxxx.partial"):
            _sweep(left, parent / prefix.strip("."))


def _sweep(room: Path, path: Path) -> None:
    """Remove a private folder unless it is in use. A kill between two renames left `path` without its name: it gets it
    back."""
    try:
        held = os.open(room, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:  # gone, somebody else's, or no folder
        return
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if (room / "former").exists() and not path.exists():
            os.replace(room / "former", path)
        shutil.rmtree(room, ignore_errors=True)
    except OSError:  # in use
        return
    finally:
        os.close(held)


def _settle(path: Path) -> None:
    """All of a file or folder on the disk, with the permissions that the user's umask gives."""
    mode = path.parent.stat().st_mode & 0o777  # a new folder's; to read the umask itself, one must set it
    for own in [path, *path.rglob("*")] if path.is_dir() else [path]:
        if own.is_file():
            own.chmod(mode & 0o666)  # some libraries leave 0600
            with own.open("rb") as handle:
                os.fsync(handle.fileno())


@contextmanager
def _full_disk(path: Path) -> Iterator[None]:
    """Whatever a library raises where a disk is full becomes one line that names the file or folder."""
    try:
        yield
    except Exception as error:
        if any(text in str(error) for text in _FULL):
            raise OSError(f"{path}: not written, the disk is full; make room and run it again") from error
        raise


# --- reading ---


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
    return any(file.resolve().is_relative_to(own) for own in (home, *blobs))


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
