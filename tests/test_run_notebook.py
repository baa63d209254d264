"""One notebook in a kernel of its own: where its sockets lie, and what is said when it does not end well."""

import errno
import os
import pty
import sys

import nbformat
import pytest

from xsae.run import notebook as run_notebook
from xsae.run.notebook import execute
from xsae.run.paths import RunPaths

SIDE = "import os, ipykernel\nprint(sorted(os.listdir()), os.path.dirname(ipykernel.get_connection_file()))"


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """Write a notebook of some cells, in a checkout of its own, and run it."""

    def run(*cells):
        made = [nbformat.v4.new_code_cell(cell) for cell in cells]
        nbformat.write(nbformat.v4.new_notebook(cells=made), tmp_path / "code" / "notebooks" / "own.ipynb")
        execute("own", None, "own")
        return nbformat.read(RunPaths("own").notebooks / "own.ipynb", 4)

    (tmp_path / "code" / "notebooks").mkdir(parents=True)
    monkeypatch.setenv("XSAE_ROOT", str(tmp_path / "root"))
    monkeypatch.setattr(run_notebook, "ROOT", tmp_path / "code")
    monkeypatch.setattr(run_notebook, "settled", lambda *_: {})
    return run


@pytest.mark.parametrize("temporary", ["short", "long" * 20])
def test_sockets_lie_in_a_private_folder_and_go_with_the_run(notebook, tmp_path, monkeypatch, temporary):
    (tmp_path / temporary).mkdir()
    monkeypatch.setattr(run_notebook.tempfile, "tempdir", str(tmp_path / temporary) if temporary != "short" else None)
    beside, sockets = notebook(SIDE).cells[0].outputs[0].text.rsplit(maxsplit=1)
    assert beside == "['own.ipynb']"  # so that the folder may be read-only, and two runs may share it
    assert sockets.startswith(("/tmp/xsae-", os.environ.get("TMPDIR", "/tmp"))) and not os.path.exists(sockets)
    assert sorted(path.name for path in RunPaths("own").notebooks.iterdir()) == ["own.ipynb"]


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("os.kill(os.getpid(), 9)", "killed by SIGKILL; most likely the memory ran out"),
        ("os.abort()", "by SIGABRT"),
        ("os._exit(3)", "with status 3"),
    ],
)
def test_a_kernel_that_dies_is_named_with_its_notebook_cell_and_reason(notebook, end, reason):
    with pytest.raises(RuntimeError, match=f"^own, cell 2: the kernel died, {reason}") as error:
        notebook("import os", end, "1")
    [kept] = RunPaths("own").notebooks.iterdir()
    assert kept.name == "own.failed.ipynb" and str(error.value).count("\n") == 1
    assert str(error.value).endswith(f"see {kept}")


def test_a_cell_that_fails_is_named_and_the_copy_kept(notebook):
    with pytest.raises(RuntimeError, match="^own, cell 1: ValueError: first line\n  see .*own.failed.ipynb$"):
        notebook("raise ValueError('first line\\nsecond')")


def test_a_full_disk_names_the_notebook_and_the_path(notebook, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(run_notebook.papermill, "execute_notebook", full)
    with pytest.raises(
        OSError, match=r"notebooks/own.ipynb: not written, the disk is full; make room and run it again"
    ):
        notebook("1")
    assert not list(RunPaths("own").notebooks.iterdir())


def test_a_long_cell_shows_its_own_bar_on_the_terminal_and_not_elsewhere(notebook, monkeypatch):
    cell = "import time\nfrom xsae.run import pool\npool.run(time.sleep, [(0.2,)] * 3, 'slowly', side_by_side=False)"
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        notebook(cell)
    shown = os.read(ours, 100_000).decode()
    assert "slowly:  67%" in shown and "it/s" in shown.split("slowly:  67%")[1]
    with open(os.devnull, "w") as file:
        monkeypatch.setattr(sys, "stderr", file)
        asked = notebook("import os\nfrom xsae.run.paths import TERMINAL\nprint(os.environ.get(TERMINAL))")
    assert asked.cells[0].outputs[0].text == "None\n"
