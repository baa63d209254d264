"""Whole or not at all: the only place of temporary names, renames and replaced folders.

A file or folder is written in a private folder beside it, `.NAME.*.partial`, and gets its name when all of it is on
the disk. What a killed process left there goes when the same name is written again.

Nothing but a folder that holds a marker of ours (`markers`) is ever replaced, and only where it holds no file that its
markers don't name.
"""

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from xsae.disk.markers import README, Kind, found_marker, opened

_FULL = ("No space left", "quota exceeded")  # what libraries say of a full disk, each in an error of its own kind


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
    there = [entry for entry in sorted(path.rglob("*")) if entry.is_symlink() or not entry.is_dir()]
    there = [entry for entry in there if not _temporary(entry.relative_to(path))]
    if not there:
        return
    marker = found_marker(path / kind.marker)
    if marker is None or marker["format"] != kind.format:
        raise FileExistsError(
            f"{path}: holds {there[0].relative_to(path)}, and is no {kind.what} that this version wrote; "
            "choose another folder, or move this one away"
        )
    ours = {path / README}
    for entry in there:
        if entry.suffix == ".json" and (marker := found_marker(entry)):
            ours |= {entry, *(entry.parent / name for name in marker["files"])}
    if strangers := [entry for entry in there if entry not in ours]:
        raise FileExistsError(
            f"{path}: holds {strangers[0].relative_to(path)}, which is not of this {kind.what}; move it away"
        )


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
    for entry in [path, *path.rglob("*")] if path.is_dir() else [path]:
        if entry.is_file():
            entry.chmod(mode & 0o666)  # some libraries leave 0600
            with entry.open("rb") as handle:
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
