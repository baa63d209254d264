"""One run of a name at a time, of which nothing goes on unseen: with processes that do nothing else."""

import os
import signal
import subprocess
import sys
import time

import pytest

from xsae.run import lock

# A process of a run: it says so and sleeps; as an engine it starts another of the kind first, its job.
SLEEPER = """
import os, subprocess, sys, time
if sys.argv[1] == "engine":
    job = [sys.executable, "-m", "xsae.run.lock", sys.argv[2], str(os.getpid()), "sleeper", "job", sys.argv[2]]
    subprocess.Popen(job)
with open("pids", "a") as out:
    print(os.getpid(), file=out)
time.sleep(60)
"""
WORKFLOW = """
import os, subprocess, sys, time
from pathlib import Path
from xsae.run import lock
file = Path("run.lock")
with lock.alone(file) as handle:
    command = [sys.executable, "-m", "xsae.run.lock", str(file), str(os.getpid()), "sleeper", "engine", str(file)]
    subprocess.Popen(command, pass_fds=[handle], process_group=0)
    with open("pids", "a") as out:
        print(os.getpid(), file=out)
    time.sleep(60)
"""


@pytest.fixture
def run(tmp_path):
    """The pids of a workflow, its engine and its job, once all three run."""
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    (tmp_path / "workflow.py").write_text(WORKFLOW)
    where = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", os.getcwd())])
    options = {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": where}, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([sys.executable, "workflow.py"], **options)
    deadline = time.monotonic() + 30
    while len(pids := (tmp_path / "pids").read_text().split() if (tmp_path / "pids").exists() else []) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield process, tmp_path / "run.lock", sorted(map(int, pids))
    for pid in map(int, pids):
        if alive(pid):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] != "Z"


def test_while_any_process_lives_no_other_run_starts_and_when_the_workflow_is_killed_none_lives_on(run):
    process, file, pids = run
    os.kill(process.pid, signal.SIGSTOP)  # seen or not, it holds the lock
    with pytest.raises(OSError, match="another process is running it; wait for it, or end it"), lock.alone(file):
        pytest.fail("began")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not lock.wait_until_free(file, 0)
    with lock.alone(file):  # which waits for the orphans; a busy system takes a moment to end what it has killed
        deadline = time.monotonic() + 2
        while any(map(alive, pids)) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not any(map(alive, pids))


def test_a_killed_engine_takes_its_job_along(run):
    process, _, pids = run
    engine, job = (pid for pid in pids if pid != process.pid)
    os.kill(engine, signal.SIGKILL)
    deadline = time.monotonic() + 2 * lock.GRACE
    while alive(job) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(job)


def test_a_process_that_begins_when_its_parent_is_already_gone_ends(tmp_path):
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    where = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", os.getcwd())])
    command = [sys.executable, "-m", "xsae.run.lock", "run.lock", str(gone.pid), "sleeper", "job", "run.lock"]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": where}, stderr=subprocess.DEVNULL, timeout=30
    )
    assert done.returncode != 0


def test_several_processes_share_a_lock_and_a_start_waits_for_none_of_them(tmp_path):
    file = tmp_path / "own" / "run.lock"
    with lock.shared(file), lock.shared(file):
        file.write_text(str(os.getpid()))
        with pytest.raises(OSError, match="^own: another process is running it"), lock.alone(file):
            pytest.fail("began")
        assert not lock.wait_until_free(file, 0.2)
    with lock.alone(file), lock.shared(file):
        pass
    assert lock.wait_until_free(file, 0)
