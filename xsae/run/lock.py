"""One run of a name at a time, of which nothing goes on unseen.

The lock belongs to the processes that write: each holds it for as long as it lives, however it ends. The workflow must
first have it alone, so that it starts only where none of an earlier run is left.

    python -m xsae.run.lock FILE PARENT MODULE [ARGUMENTS]

runs a module as a process of a run: it holds the lock FILE, and ends when its parent, the process PARENT, is gone.
"""

import fcntl
import os
import runpy
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

POLL, GRACE = 0.5, 5  # seconds: how often a process looks for its parent, and how long it has to end once that is gone


@contextmanager
def alone(file: Path) -> Iterator[int]:
    """Start a run: the handle of its lock, for children to inherit. Raises OSError where another one still lives.

    Processes whose workflow was killed are waited for, since they are about to end.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with _open(file) as handle:
        deadline = time.monotonic() + 3 * GRACE  # an engine takes one, its job another, and both some looks
        while not (free := _hold(handle, fcntl.LOCK_EX)) and not _lives(file) and time.monotonic() < deadline:
            time.sleep(0.1)
        # Alone for a moment; then with its own processes.
        if not (free and _hold(handle, fcntl.LOCK_SH)):
            raise OSError(f"{file.parent.name}: another process is running it; wait for it, or end it")
        file.write_text(f"{os.getpid()}\n")
        yield handle


def _lives(file: Path) -> bool:
    """Whether the workflow that last had a lock alone lives, as far as this machine can tell."""
    try:
        os.kill(int(file.read_text()), 0)
    except PermissionError:  # another user's
        return True
    except (ValueError, ProcessLookupError):  # none so far, or gone
        return False
    return True


@contextmanager
def shared(file: Path) -> Iterator[int]:
    """Belong to a run: the handle of its lock, for children to inherit. Raises OSError while it is being started."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with _open(file) as handle:
        if not _hold(handle, fcntl.LOCK_SH):
            raise OSError(f"{file.parent.name}: another process is starting it; wait for it, or end it")
        yield handle


def wait_until_free(file: Path, seconds: float) -> bool:
    """Whether all processes of a run are gone, at the latest after some seconds."""
    deadline = time.monotonic() + seconds
    with _open(file) as handle:
        while not (free := _hold(handle, fcntl.LOCK_EX)) and time.monotonic() < deadline:
            time.sleep(0.1)
    return free


@contextmanager
def _open(file: Path) -> Iterator[int]:
    handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        yield handle
    finally:
        os.close(handle)


def _hold(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _end_with(parent: int) -> None:
    """Interrupt this process when its parent is another than `parent`, and end it if that does not.

    Looking is the portable way: Linux alone can signal it, and then when the thread ends that started the process.
    """
    while os.getppid() == parent:
        time.sleep(POLL)
    leads = os.getpgrp() == os.getpid()  # the engine: its jobs are of its group
    (os.killpg if leads else os.kill)(os.getpid(), signal.SIGINT)
    time.sleep(GRACE)
    os._exit(1)


def main() -> None:
    file, parent, module, *_ = sys.argv[1:]
    threading.Thread(target=_end_with, args=(int(parent),), daemon=True).start()
    del sys.argv[1:4]
    with shared(Path(file)):
        runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
