"""The smoke run as jobs of a real SLURM: one node, its daemons started here in a folder of their own."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from runs import call, command, tables, tiny

from xsae.run.notebooks import MADE_BY
from xsae.run.paths import ROOT

DAEMONS = ("munged", "slurmctld", "slurmd")
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
missing = [name for name in (*DAEMONS, "sbatch", "srun") if not shutil.which(name, path=PATH)]
pytestmark = [
    pytest.mark.skipif(bool(missing), reason=f"no {', '.join(missing)} here (Debian: slurm-wlm, munge)"),
    pytest.mark.skipif(os.getuid() != 0, reason="SLURM's daemons are started as root"),
]

CPUS = len(os.sched_getaffinity(0))
OPTIONS = (
    "--profile", ROOT / "profiles/slurm", "--max-threads", CPUS, "--latency-wait", 10, "--default-resources",
    "mem_mb=1000", "runtime=30", "--slurm-status-command", "squeue", "--slurm-no-account",
    "--slurm-init-seconds-before-status-checks", 1,
)  # fmt: skip
# proctrack and task plugins that need no control groups; accounting off
CONFIGURATION = """
ClusterName=xsae
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthInfo=socket={folder}/munge/socket
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,batch_sched_delay=0
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ReturnToService=2
KillWait=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=2000
PartitionName=main Nodes=ALL Default=YES
"""
# Within a job the executor starts srun without most of SLURM's variables, the one that names this cluster among them.
SRUN = """#!/bin/sh
SLURM_CONF={folder}/slurm.conf exec {real} "$@"
"""
# The executor asks for the states of its jobs at intervals that grow by ten seconds. Here its question is answered when
# another job has ended than when it asked last, or after half a minute: the same answers, sooner.
SQUEUE = """#!/bin/sh
case "$*" in *--states=all*)
    for _ in $(seq 150); do
        ended=$({real} "$@" | grep -Ev "RUNNING|PENDING|COMPLETING" | sort)
        [ "$ended" = "$(cat {folder}/ended 2>/dev/null)" ] || break
        sleep 0.2
    done
    echo "$ended" >{folder}/ended;;
esac
exec {real} "$@"
"""


@pytest.fixture(scope="module")
def cluster():
    """A SLURM of one node, which the environment names. Not in pytest's folder: munged wants one open to all."""
    folder = Path(tempfile.mkdtemp(prefix="slurm"))
    for part in (folder, folder / "munge", folder / "state", folder / "spool"):
        part.mkdir(exist_ok=True)
        part.chmod(0o755)
    key = folder / "munge/key"
    key.write_bytes(os.urandom(64))
    key.chmod(0o400)
    host = socket.gethostname().partition(".")[0]
    (folder / "slurm.conf").write_text(CONFIGURATION.format(host=host, ports=free_ports(2), folder=folder, cpus=CPUS))
    munge = {name: folder / "munge" / name for name in ("socket", "key-file", "pid-file", "log-file", "seed-file")}
    munge["key-file"] = key
    commands = folder / "bin"
    commands.mkdir()
    for name, script in (("srun", SRUN), ("squeue", SQUEUE)):
        (commands / name).write_text(script.format(folder=folder, real=shutil.which(name, path=PATH)))
        (commands / name).chmod(0o755)
    environment = {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": f"{commands}:{PATH}"}
    started = []
    try:
        for arguments in (
            ["munged", "--force", "--foreground", *(f"--{name}={path}" for name, path in munge.items())],
            ["slurmctld", "-D"],
            ["slurmd", "-D"],
        ):
            with (folder / f"{arguments[0]}.out").open("w") as out:
                daemon = subprocess.Popen(arguments, env=os.environ | environment, stdout=out, stderr=out)
            started.append(daemon)
            if arguments[0] == "munged":
                wait_until(munge["socket"].exists, "munged opens its socket")
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            wait_until(lambda: "idle" in slurm("sinfo", "-ho", "%t"), f"the node is idle (logs: {folder}/*.out)")
            yield
            slurm("scancel", "-u", "root")
            wait_until(lambda: not slurm("squeue", "-h"), "no job is left")
    finally:
        for daemon in reversed(started):
            daemon.send_signal(signal.SIGTERM)
        for daemon in started:
            daemon.wait(timeout=30)
    shutil.rmtree(folder)


def free_ports(count):
    opened = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in opened]
    for server in opened:
        server.close()
    return ports


def wait_until(condition, what, seconds=60):
    deadline = time.time() + seconds
    while not condition():
        assert time.time() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.2)


def slurm(*arguments):
    return subprocess.run(arguments, capture_output=True, text=True, timeout=30).stdout.strip()


def running(rule):
    """The id of the job that runs `rule`, once it has run for some seconds; else nothing."""
    for line in slurm("squeue", "-ht", "running", "-o", "%i %k %M").splitlines():
        job, comment, elapsed = line.split()
        if comment == f"rule_{rule}" and elapsed >= "0:05":
            return job


def test_the_main_job_as_slurm_jobs_one_of_them_cancelled_is_the_local_run_byte_for_byte(cluster, smoke, tmp_path):
    local, last = tables(smoke[0], "smoke"), "04_retrieval"
    said = tmp_path / "said"
    with said.open("w") as out:
        options = {"env": os.environ | {"XSAE_ROOT": str(tmp_path)}, "cwd": tmp_path, "stdout": out, "stderr": out}
        process = subprocess.Popen(command("smoke", *OPTIONS, "--until", last), **options)
    try:
        victim = "02_sae_training"
        wait_until(lambda: process.poll() is not None or running(victim), f"{victim} runs", 300)
        cancelled = running(victim)
        assert cancelled, said.read_text()
        slurm("scancel", cancelled)
        process.wait(timeout=1200)
    finally:
        process.kill()
    output = said.read_text()
    assert process.returncode == 0, output
    assert "CANCELLED" in output and "Trying to restart job" in output
    made = tables(tmp_path, "smoke")
    assert made.items() <= local.items() and {f"{name}.csv" for name, by in MADE_BY.items() if by == last} <= set(made)
    assert not list(tmp_path.rglob("*.partial*"))


def test_a_notebook_that_fails_on_a_node_is_named_with_its_cell_and_error(cluster, tmp_path):
    config = tiny(tmp_path, backbones=["vit", "clip"])
    status, output = call(tmp_path, config, *OPTIONS, "--retries", "0", "--until", "00_embeddings")
    assert status != 0
    assert "00_embeddings, cell " in output and "ValueError: backbone: 'clip' is unknown; one of vit, resnet" in output
