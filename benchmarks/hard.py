"""Whole runs under ill treatment: one process killed at ten moments, and four runs at once from one checkout.

    python -m benchmarks.hard kills side_by_side

Every run is a small one, of two backbones to the retrieval of notebook 04, and its tables must be the bytes of the same
run left alone. `kills`: a kill -9 of the workflow, of the engine, of a notebook's process or of its kernel in turn, at
ten moments spread over the run; then whether anything runs on, and the same command again. `side_by_side`: two configs,
and one of them with `--only` either backbone, started together, five times.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import yaml
from tqdm.auto import tqdm

from benchmarks.measure import write

MOMENTS, TIMES = 10, 5
UNTIL = ("--until", "04_retrieval")
SMALL = {"extends": "smoke", "n_train_scenes": 200, "n_test_scenes": 40, "latents": 64, "k": 4, "epochs": 2}
# What tells the processes of a run: words of the command, and whether it is the one that holds the lock
KINDS: Mapping[str, Callable[[str], bool]] = {
    "workflow": lambda command: "xsae.run.launch" in command and "xsae.run.lock" not in command,
    "engine": lambda command: " snakemake " in command and "xsae.run.lock" in command,
    "notebook": lambda command: "xsae.run.notebook" in command and "xsae.run.lock" in command,
    "kernel": lambda command: "ipykernel" in command,
}


def start(root: Path, *arguments: object) -> subprocess.Popen:
    """Begin a run whose results go to `root`."""
    root.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "xsae.run.launch", *map(str, arguments)]
    environment = os.environ | {"XSAE_ROOT": str(root)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def tables(root: Path) -> dict[str, bytes]:
    """The tables of every run in `root`."""
    return {str(table.relative_to(root)): table.read_bytes() for table in sorted(root.glob("results/*/*.csv"))}


def processes(root: Path) -> dict[int, str]:
    """Process -> command, of those that work in `root`."""
    found = {}
    for process in psutil.process_iter():
        try:
            if process.environ().get("XSAE_ROOT") == str(root):
                found[process.pid] = " ".join(process.cmdline())
        except psutil.Error:  # gone, or somebody else's
            continue
    return found


def config(folder: Path, name: str, **changes: object) -> Path:
    """A small config of that name."""
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(SMALL | changes))
    return path


def kills(folder: Path) -> pd.DataFrame:
    """A line per kill: when, of what, how long until nothing ran any more, and what the next run ended with."""
    small = config(folder, "small")
    began = time.monotonic()
    if start(folder / "whole", small, *UNTIL).wait():
        raise RuntimeError("a run that nobody disturbed failed")
    whole, expected = time.monotonic() - began, tables(folder / "whole")
    rng, lines = np.random.default_rng(0), []
    for place in tqdm(range(MOMENTS), "kills"):
        kind, root = list(KINDS)[place % len(KINDS)], folder / f"killed{place}"
        began, moment = time.monotonic(), (place + rng.random()) / MOMENTS * 0.95 * whole
        with start(root, small, *UNTIL) as process:
            time.sleep(moment)
            while not (found := [pid for pid, command in processes(root).items() if KINDS[kind](command)]):
                if process.poll() is not None:
                    break
                time.sleep(0.05)
            if not found:
                raise RuntimeError(f"the run ended before a {kind} could be killed at {moment:.0f} s")
            psutil.Process(found[0]).kill()
            killed = time.monotonic()
            while processes(root) and time.monotonic() < killed + 60:
                time.sleep(0.05)
        left, ended = len(processes(root)), time.monotonic()
        status = start(root, small, *UNTIL).wait()
        lines.append(
            {"killed": kind, "after_s": killed - began, "of_s": whole, "ran_on_s": ended - killed, "left": left,
             "next_status": status, "next_s": time.monotonic() - ended, "same_bytes": tables(root) == expected}
        )  # fmt: skip
    return pd.DataFrame(lines)


def side_by_side(folder: Path) -> pd.DataFrame:
    """A line per run of each time: how it ended, how long it took, and whether its tables are those of it alone."""
    one, other = config(folder, "one"), config(folder, "other", backbones=["resnet"])
    together = {"one": (one,), "other": (other,)}
    together |= {f"one-{name}": (one, "--only", name) for name in ("vit", "resnet")}
    alone = folder / "alone"
    for arguments in tqdm(together.values(), "alone"):
        if start(alone, *arguments, *UNTIL).wait():
            raise RuntimeError(f"{arguments} failed by itself")
    expected, lines = tables(alone), []
    for time_ in tqdm(range(TIMES), "together"):
        root, began = folder / f"together{time_}", time.monotonic()
        runs = {name: start(root, *arguments, *UNTIL) for name, arguments in together.items()}
        for name, run in runs.items():
            status, prefix = run.wait(), f"results/{name}/"
            same = [{path: table for path, table in found.items() if path.startswith(prefix)}
                    for found in (tables(root), expected)]  # fmt: skip
            lines.append({"time": time_ + 1, "run": name, "status": status, "looked_at_s": time.monotonic() - began,
                          "tables": len(same[0]), "same_bytes": same[0] == same[1]})  # fmt: skip
    return pd.DataFrame(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    measures = {"kills": kills, "side_by_side": side_by_side}
    parser.add_argument("what", nargs="+", choices=measures)
    for name in parser.parse_args().what:
        with tempfile.TemporaryDirectory() as folder:
            write(measures[name](Path(folder)), name)


if __name__ == "__main__":
    sys.exit(main())
