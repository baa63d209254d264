"""What made a result: the manifests of a run, one per notebook.

The process that runs a notebook writes them. It imports no torch, no pandas: these take seconds and half a gigabyte.
"""

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from xsae.disk import files, markers
from xsae.run.notebooks import MADE_BY
from xsae.run.paths import ROOT, RunPaths

PACKAGES = ("torch", "open_clip_torch", "numpy", "scipy", "pandas", "matplotlib", "snakemake", "papermill")


def record(run: str, notebook: str, parameters: Mapping[str, Any], seconds: float) -> None:
    """Write the provenance of what a notebook made, results/<run>/manifest/<notebook>.json.

    parameters: the notebook's own; seconds: how long it took. Its inputs are the run's embedding stores, by their hash.
    """
    paths = RunPaths(run)
    names = parameters.get("backbones", [])
    stores = {name: markers.found_marker(paths.embeddings(name) / "manifest.json") for name in names}
    manifest = {
        "results": sorted(name for name, made_by in MADE_BY.items() if made_by == notebook),
        "parameters": dict(parameters),
        "inputs": {name: markers.fingerprint(store) for name, store in stores.items() if store},
        "seconds": round(seconds, 1),
        **_here(),
    }
    with files.file(paths.results / "manifest" / f"{notebook}.json") as partial:
        partial.write_text(json.dumps(manifest, indent=2) + "\n")


def _here() -> dict[str, Any]:
    """What makes results here and now."""
    return {
        "date": date.today().isoformat(),
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "packages": {package: version(package) for package in PACKAGES},
        "hardware": {"processor": _processor(), "cores": os.cpu_count()} | _gpu(),
    }


def facts(run: str) -> dict[str, Any]:
    """What a page says of a run, from its manifests, or of here and now where it has none yet.

    `run`; `smoke`, whether it is a smoke run; `parameters`, of all notebooks together; `commit`, `date` and `machine`,
    in words; `minutes`, of all notebooks together.
    """
    found = [json.loads(path.read_text()) for path in sorted((RunPaths(run).results / "manifest").glob("*.json"))]
    made = found or [_here()]
    hardware = sorted({_machine(manifest["hardware"]) for manifest in made})
    dates = sorted({manifest.get("date", "") for manifest in made} - {""})
    return {
        "run": run,
        "smoke": run.split("-")[0] == "smoke",
        "parameters": {name: value for manifest in found for name, value in manifest["parameters"].items()},
        "commit": ", ".join(
            dict.fromkeys(manifest["git_commit"][:10] + manifest["git_commit"][40:] for manifest in made)
        ),
        "date": " to ".join(dict.fromkeys((dates[0], dates[-1]))) if dates else "not recorded",
        "machine": "; ".join(hardware),
        "minutes": sum(manifest["seconds"] for manifest in found) / 60,
    }


def _machine(hardware: Mapping[str, Any]) -> str:
    """A machine in words."""
    gpu = f" and one {hardware['gpu']}" if "gpu" in hardware else ""
    return f"{hardware['processor']}, {hardware['cores']} cores{gpu}"


def _git_commit() -> str:
    """The commit of the code, with `+changes` where the working tree differs; `unknown` outside a checkout."""
    try:
        options = {"cwd": ROOT, "capture_output": True, "text": True, "check": True}
        commit = subprocess.run(["git", "rev-parse", "HEAD"], **options).stdout.strip()
        code = ["xsae", "notebooks", "configs", "Snakefile"]
        changed = subprocess.run(["git", "status", "--porcelain", "--", *code], **options).stdout.strip()
        return commit + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _gpu() -> dict[str, str]:
    """The first GPU, where there is one, as its driver names it; a driver that fails says so in the names' place."""
    if not shutil.which("nvidia-smi"):
        return {}
    asked = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    done = subprocess.run(asked, capture_output=True, text=True)
    return {"gpu": done.stdout.splitlines()[0].strip()} if done.stdout and not done.returncode else {}
