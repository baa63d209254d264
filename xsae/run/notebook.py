"""Run one notebook with a config's values, by papermill: what the Snakefile's rules call.

python -m xsae.run.notebook laptop --notebook 03_alignment
"""

import argparse
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import papermill
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config as TraitletsConfig

from xsae.disk import files
from xsae.run import lock, provenance
from xsae.run.commands import exit_status, which_run
from xsae.run.config import Config, load_config, run_name
from xsae.run.notebooks import settled
from xsae.run.paths import ROOT, TERMINAL, RunPaths


class _Kernel(AsyncKernelManager):
    """A kernel that holds the run's lock as long as it lives, knows its terminal, and whose end can be looked at."""

    lock: ClassVar[int]
    process: ClassVar[subprocess.Popen | None] = None

    async def _async_launch_kernel(self, kernel_cmd: list[str], **options: Any) -> None:
        handles = [self.lock]
        if sys.stderr.isatty():
            handles.append(os.dup(sys.stderr.fileno()))  # a kernel puts a pipe in the place of its own standard error
            options["env"] = {**options["env"], TERMINAL: str(handles[-1])}
        await super()._async_launch_kernel(kernel_cmd, **options, pass_fds=handles)
        _Kernel.process = self.provisioner.process

    _launch_kernel = _async_launch_kernel


def _interrupted(*_: Any) -> None:
    """End the kernel at once: asked to, it would finish its cell, and complain of its sockets."""
    if _Kernel.process:
        _Kernel.process.kill()
    raise KeyboardInterrupt


def execute(notebook: str, config: Config, run: str) -> None:
    """Run one notebook into results/<run>/notebooks/, under its name only when all of it ran.

    Raises RuntimeError, one line with notebook, cell and error; the copy as far as it came is kept as `*.failed.ipynb`.
    OSError where a file cannot be written.
    """
    logging.getLogger("papermill").setLevel(logging.ERROR)
    for silent in ("traitlets", "asyncio"):  # of a kernel that died this says more
        logging.getLogger(silent).setLevel(logging.CRITICAL)
    folder = RunPaths(run).notebooks
    failed = folder / f"{notebook}.failed.ipynb"
    failed.unlink(missing_ok=True)
    with files.file(folder / f"{notebook}.ipynb") as copy, lock.shared(RunPaths(run).lock) as handle:
        _Kernel.lock = handle
        try:
            with _sockets() as kernel:
                papermill.execute_notebook(
                    str(ROOT / "notebooks" / f"{notebook}.ipynb"),
                    str(copy),
                    settled(notebook, config, run),
                    kernel_name="python3",
                    progress_bar={"desc": notebook, "leave": False},
                    kernel_manager_class=_Kernel,
                    config=TraitletsConfig(KernelManager=kernel),
                    cwd=str(ROOT / "notebooks"),
                )
        except (PapermillExecutionError, DeadKernelError) as error:
            with files.file(failed) as kept:
                shutil.copyfile(copy, kept)
            raise RuntimeError(f"{notebook}, {_what(error, copy)}\n  see {failed}") from None


@contextmanager
def _sockets() -> Iterator[dict[str, str]]:
    """What lets a kernel be talked to by sockets that are files in a private folder, not by ports of the machine.

    The names of such files have at most 107 bytes, so that a long folder for temporary files is of no use.
    """
    parent = Path(tempfile.gettempdir())
    with files.private(parent if len(os.fsencode(parent)) < 60 else Path("/tmp"), "xsae-") as room:
        yield {"transport": "ipc", "connection_file": str(room / "kernel.json")}


def _what(error: PapermillExecutionError | DeadKernelError, copy: Path) -> str:
    """The cell that failed, and why."""
    if isinstance(error, PapermillExecutionError):
        return f"cell {error.exec_count}: {error.ename}: {(str(error.evalue).splitlines() or [''])[0]}"
    cells = [cell for cell in json.loads(copy.read_text())["cells"] if cell["cell_type"] == "code"]
    begun = [i for i, cell in enumerate(cells, 1) if cell["metadata"]["papermill"]["start_time"]]
    status = _Kernel.process.poll()
    if status == -signal.SIGKILL:
        reason = "killed by SIGKILL; most likely the memory ran out: end other programs, or take a smaller config"
    else:
        reason = f"by {signal.Signals(-status).name}" if status and status < 0 else f"with status {status}"
    return f"cell {begun[-1] if begun else '?'}: the kernel died, {reason}"


def _run(notebook: str, **asked: Any) -> int:
    config = load_config(**asked)
    began, run = time.time(), run_name(asked["name"], asked["embeddings"], asked["only"])
    execute(notebook, config, run)
    provenance.record(run, notebook, settled(notebook, config, run), time.time() - began)
    print(f"{notebook}: {time.time() - began:.0f} s", flush=True)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(
        parents=[which_run()], description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--notebook", required=True)
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, _interrupted)
    signal.signal(signal.SIGTERM, _interrupted)
    return exit_status(lambda: _run(**vars(arguments)))


if __name__ == "__main__":
    sys.exit(main())
