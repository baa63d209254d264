"""How long whole runs take and how much memory, from nothing but an installed environment; README's table of it.

    python -m benchmarks.walltime smoke laptop

runs each config in a folder of its own, one after the other, and writes the table with the machine beside it, then the
lines of README that have these figures. `--into FOLDER` keeps what the runs make there. The main job is the sum of its
notebooks within the same run. Memory is the highest sum over all processes of the run, what they share counted once
(PSS), looked at every two seconds; `most_in` is the notebook that ran then.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import psutil

from benchmarks.measure import RESULTS, machine, write

ROOT = Path(__file__).parent.parent
MAIN_JOB = ("00_embeddings", "01_heterogeneity", "02_sae_training", "03_alignment", "04_retrieval")


def measured(config: str, folder: str) -> dict[str, float | str]:
    """Minutes of a run into a folder, its main job and every notebook; its memory in GB, and where that was.

    Raises RuntimeError if the run fails.
    """
    began, highest = time.time(), (0, "")
    environment = os.environ | {"XSAE_ROOT": folder}
    with subprocess.Popen([ROOT / "run_all.sh", config], env=environment) as process:
        while process.poll() is None:
            highest = max(highest, _memory(process.pid))
            time.sleep(2)
    if process.returncode:
        raise RuntimeError(f"{config}: the run ended with status {process.returncode}")
    minutes = (time.time() - began) / 60
    manifests = Path(folder, "results", config, "manifest").glob("*.json")
    each = {path.stem: json.loads(path.read_text())["seconds"] / 60 for path in manifests}
    main_job = sum(each[name] for name in MAIN_JOB if name in each)
    found = {"minutes": minutes, "main_job": main_job, "memory_gb": highest[0] / 1e9, "most_in": highest[1]}
    return found | dict(sorted(each.items()))


def _memory(pid: int) -> tuple[int, str]:
    """Bytes of a process and all that it started, and the notebook among them."""
    total, notebook = 0, ""
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
            named = re.search(r"--notebook (\S+)", " ".join(process.cmdline()))
            notebook = named[1] if named else notebook
        except psutil.Error:  # it has just ended
            continue
    return total, notebook


def into_readme(text: str, table: pd.DataFrame) -> str:
    """README with the times of the runs in the table: the last cell of a line that names a run's command."""
    for run in table.itertuples():
        cells = {f"./run_all.sh {run.config}": f"{run.minutes:.0f} min, {run.memory_gb:.1f} GB"}
        if run.main_job:
            cells[f"./run_all.sh {run.config} --until 04_retrieval"] = f"{run.main_job:.0f} min of these"
        for command, cell in cells.items():
            text = re.sub(rf"(?m)^(\| `{re.escape(command)}`.*\|)[^|\n]*\|$", rf"\1 {cell} |", text)
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="+")
    parser.add_argument("--into", help="an empty folder for tables, figures and artifacts; they are thrown away else")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as thrown_away:
        into = arguments.into or thrown_away
        table = pd.DataFrame([{"config": name} | measured(name, into) for name in arguments.configs])
    if (RESULTS / "walltime.json").is_file() and json.loads((RESULTS / "walltime.json").read_text()) == machine():
        before = pd.read_csv(RESULTS / "walltime.csv")  # of the same machine: other runs' lines stay
        table = pd.concat([before[~before["config"].isin(arguments.configs)], table], ignore_index=True)
    write(table, "walltime")
    readme = ROOT / "README.md"
    readme.write_text(into_readme(readme.read_text(), table))


if __name__ == "__main__":
    sys.exit(main())
