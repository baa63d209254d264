"""Names are data, and a run that is ended ends: as a user calls it."""

import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from runs import call, command, tables, tiny

from benchmarks.hard import KINDS, processes
from xsae.run import lock
from xsae.run.config import LONGEST, checked_name, run_name


def own(file):
    rng = np.random.default_rng(0)
    np.savez(file, **{name: rng.standard_normal((60, 8)) for name in ("image", "text", "pca")})
    return file


@pytest.mark.parametrize(
    "stem",
    [
        "my data",
        "emb (1)",
        "it's",
        "größe",
        "gro\u0308ße",
        "数据",
        "a,b",
        "a=b",
        "a@b",
        "1e5",
        "true",
        "a+b",
        "v1.2",
        "-n",
    ],
)
def test_these_names_are_fine(stem):
    assert run_name("smoke", f"/somewhere/{stem}.npz") == f"smoke-{stem}"


@pytest.mark.parametrize(
    ("stem", "found"),
    [
        ("a$(touch X)", "'\\$'"), ("a`touch X`", "'`'"), ('a"b', "'\"'"), ("a{b}", "'{'"), ("a\nb", r"'\\n'"),
        ("a;b", "';'"), ("a|b", r"'\|'"), ("a&b", "'&'"), ("a*", r"'\*'"), ("a?", r"'\?'"), ("a[1]", r"'\['"),
        ("a<b>", "'<'"), ("a\\b", r"'\\\\'"), ("a\tb", r"'\\t'"), ("a\udce4", r"'\\udce4'"), ("a\u202eb", r"'\\u202e'"),
        ("a:b", "':'"), ("a#b", "'#'"), ("a%b", "'%'"), ("a!b", "'!'"), ("~a", "'~'"), ("a^b", r"'\^'"),
    ],
)  # fmt: skip
def test_these_names_are_refused_with_what_is_wrong_and_what_is_fine(stem, found):
    for arguments in (("smoke", f"/somewhere/{stem}.npz"), (f"/somewhere/{stem}.yaml",)):
        with pytest.raises(ValueError, match=f"the name of the file holds {found}; letters, digits, spaces") as error:
            run_name(*arguments)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["", " ", ".", "..", ".hidden", " a"])
def test_a_backbones_name_leads_nowhere_else(name):
    with pytest.raises(ValueError, match="backbones: a name"):
        checked_name(name, "backbones: a name")


@pytest.mark.parametrize("stem", ["a" * 300, "ä" * 150])
def test_a_name_that_is_too_long_is_refused_first(tmp_path, stem):
    with pytest.raises(ValueError, match=rf"has \d+ bytes; at most {LONGEST} are fine, so rename the file"):
        run_name("smoke", f"{stem}.npz")
    status, output = call(tmp_path, "smoke", "--embeddings", f"{stem}.npz")
    assert status == 2 and output.startswith("error: ") and output.count("\n") == 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("part", ["{a}", "a\nb", b"\xe4".decode(errors="surrogateescape")])
def test_a_folder_that_the_engine_cannot_name_is_refused(tmp_path, part):
    (tmp_path / "in" / part).mkdir(parents=True)
    (tmp_path / "root").mkdir()
    status, output = call(tmp_path / "root", "smoke", "--embeddings", own(tmp_path / "in" / part / "own.npz"))
    assert status == 2 and "rename the folder" in output and output.count("\n") == 1
    assert not list((tmp_path / "root").iterdir())


def test_names_that_a_shell_would_run_are_carried_as_they_are(tmp_path):
    folder = tmp_path / 'it\'s $(touch X) `touch X`; touch X "q" (1)'
    folder.mkdir()
    (tmp_path / "root").mkdir()
    file = own(folder / "größe (1) it's.npz")
    options = ["--modalities", "image, text", "--latents", 16, "--until", "00_embeddings"]
    status, output = call(tmp_path / "root", "smoke", "--embeddings", file, *options)
    assert status == 0 and "modalities image, text; image is the reference" in output, output
    assert set(tables(tmp_path / "root", "smoke-größe (1) it's")) == {"embeddings.csv"}
    assert not list(tmp_path.rglob("X"))


# --- nothing runs on ---


@pytest.fixture
def run(tmp_path):
    """A run in the middle of its first notebook, and its folder."""
    root = tmp_path / "root"
    root.mkdir()
    arguments = command(tiny(tmp_path), "--until", "00_embeddings")
    with (tmp_path / "said").open("w") as said:
        options = {"env": os.environ | {"XSAE_ROOT": str(root)}, "stdout": said, "stderr": said}
        process = subprocess.Popen(arguments, start_new_session=True, **options)
    deadline = time.monotonic() + 120
    while not any(KINDS["kernel"](line) for line in processes(root).values()):
        assert time.monotonic() < deadline and process.poll() is None, (tmp_path / "said").read_text()
        time.sleep(0.1)
    time.sleep(1)
    yield process, root
    for pid in processes(root):
        os.kill(pid, signal.SIGKILL)
    process.wait()


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are found in /proc")
@pytest.mark.parametrize(
    ("part", "how"),
    [("workflow", signal.SIGTERM), *((part, signal.SIGKILL) for part in KINDS)],
)
def test_whatever_process_of_a_run_is_ended_nothing_runs_on(run, tmp_path, part, how):
    process, root = run
    [pid] = [pid for pid, line in processes(root).items() if KINDS[part](line)]
    os.kill(pid, how)
    process.wait(timeout=60)
    assert lock.wait_until_free(root / "artifacts/tiny/run.lock", 3 * lock.GRACE)
    deadline = time.monotonic() + 5  # a process gives the lock back a moment before it is gone
    while processes(root) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not processes(root)
    said = (tmp_path / "said").read_text()
    if how == signal.SIGTERM:
        assert process.returncode == 130 and "tiny: interrupted; the same command goes on from here" in said
        assert not list(root.rglob("*.partial")) and "Traceback" not in said
    if part == "kernel":
        assert "error: 00_embeddings, cell " in said and "most likely the memory ran out" in said
