"""From a command line to executed notebooks: `run` checks and calls Snakemake, whose rules call `notebook`.

The order of the notebooks, what is up to date and where jobs run is Snakemake's business (see the Snakefile); running a
notebook is papermill's. What is here: one line for whatever is wrong, before anything is written.
"""

import argparse
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import papermill
from filelock import FileLock, Timeout
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config as TraitletsConfig

from xsae.classes import read_classes
from xsae.config import Config, load_config, run_name
from xsae.embeddings import read_npz
from xsae.paths import ROOT, RunPaths, output_root
from xsae.results import MADE_BY, OF_CLASSES, OF_JUDGES, OF_LABELS, OF_THE_WORLD, SYNTHETIC


def parameters(notebook: str, config: Config, run: str) -> dict[str, Any]:
    """The values of a run for the names that the notebook's parameters cell declares.

    Raises ValueError for a declared name that no config has.
    """
    logging.getLogger("papermill").setLevel(logging.ERROR)
    declared = papermill.inspect_notebook(str(ROOT / "notebooks" / f"{notebook}.ipynb"))
    values = {"run": run, **config.model_dump()}
    if unknown := sorted(set(declared) - set(values)):
        raise ValueError(f"{notebook}: parameter `{unknown[0]}` is declared, but no config has it")
    return {name: values[name] for name in declared}


def execute(notebook: str, config: Config, run: str) -> None:
    """Run one notebook into results/<run>/notebooks/, under its name only when all of it ran.

    Raises RuntimeError, one line with notebook, cell and error; the copy as far as it came is kept as `*.failed.ipynb`.
    """
    folder = RunPaths(run).notebooks
    folder.mkdir(parents=True, exist_ok=True)
    partial, failed = folder / f".{notebook}.partial.ipynb", folder / f"{notebook}.failed.ipynb"
    failed.unlink(missing_ok=True)
    try:
        papermill.execute_notebook(
            str(ROOT / "notebooks" / f"{notebook}.ipynb"),
            str(partial),
            parameters(notebook, config, run),
            kernel_name="python3",
            progress_bar={"desc": notebook, "leave": False},
            config=TraitletsConfig(KernelManager={"transport": "ipc"}),  # talk to the kernel by files, not TCP
            cwd=str(ROOT / "notebooks"),
        )
    except PapermillExecutionError as error:
        os.replace(partial, failed)
        lines = str(error.evalue).splitlines() or [""]
        raise RuntimeError(f"{notebook}, cell {error.exec_count}: {error.ename}: {lines[0]}\n  see {failed}") from None
    os.replace(partial, folder / f"{notebook}.ipynb")


def left_out(config: Config) -> set[str]:
    """The tables that a run cannot make of what it is given."""
    if config.embeddings:
        return {*OF_THE_WORLD, *SYNTHETIC, *(() if read_classes(config.embeddings) else OF_CLASSES)}
    if not config.backbones:
        return set(MADE_BY) - set(SYNTHETIC)
    if not config.sources:
        return set()
    labelled = any(spec.startswith(("coco:", "scenes:")) for spec in config.sources)
    missing = {OF_LABELS: not labelled, OF_JUDGES: len(config.backbones) < 2, OF_CLASSES: not config.classes}
    return {table for tables, absent in missing.items() if absent for table in tables}


def run(name: str, embeddings: str, latents: int | None, only: str, engine_options: list[str]) -> int:
    """Check what is asked for, then have Snakemake run what is not up to date; returns the exit status.

    Raises ValueError or OSError, one line each, having written nothing.
    """
    if embeddings:
        embeddings = str(Path(embeddings).resolve())
        read_npz(embeddings)
        read_classes(embeddings)
    if name.endswith(".yaml"):
        name = str(Path(name).resolve())
    config = load_config(name, embeddings, latents, only)
    paths = RunPaths(run_name(name, embeddings, only))
    dry = {"-n", "--dry-run", "--dryrun"} & set(engine_options)
    if config.sources:
        from xsae.plan import plan  # here, for these take seconds to import and most runs never need them
        from xsae.sources import open_source

        for spec in [] if dry else filter(None, [*config.sources, config.classes]):
            open_source(spec)  # what is not there is said now, not after hours
        print(plan(config), end="\n\n", flush=True)
    for folder in (paths.results, paths.figures, paths.artifacts):
        _check_writable(folder)
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    command += ["--directory", str(output_root()), "--rerun-incomplete", "--nolock"]  # the lock is ours, see below
    if not {"--cores", "-c", "--jobs", "-j", "--profile"} & {option.split("=")[0] for option in engine_options}:
        command += ["--cores", "all"]
    command += ["--config", f"name={name}"]
    command += [f"embeddings={embeddings}"] if embeddings else []
    command += [f"latents={latents}"] if latents is not None else []
    command += [f"only={only}"] if only else []
    command += engine_options
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    if dry:
        return subprocess.run([*command, "--quiet", "host"], env=environment).returncode

    paths.artifacts.mkdir(parents=True, exist_ok=True)
    log = paths.artifacts / "engine.log"
    # Unlike the engine's own lock, this one vanishes with its process: after a kill the same command just goes on.
    try:
        with FileLock(paths.artifacts / "run.lock", timeout=0), log.open("w") as engine_output:
            began = time.time()
            print(f"{paths.run}: tables in {paths.results}, figures in {paths.figures}", flush=True)
            # Notebooks speak on stdout; the engine's account of the same goes to its log.
            engine = subprocess.Popen(command, env=environment, stderr=engine_output)
            try:
                status = engine.wait()
            except KeyboardInterrupt:
                engine.send_signal(signal.SIGINT)
                engine.wait()
                print(f"\n{paths.run}: interrupted; the same command goes on from here", file=sys.stderr)
                return 130
    except Timeout:
        raise OSError(f"{paths.run}: another process is running it; wait for it, or end it") from None
    if status == 0:
        print(f"{paths.run}: done in {(time.time() - began) / 60:.1f} min")
    else:
        failed = [path for path in paths.notebooks.glob("*.failed.ipynb") if path.stat().st_mtime >= began]
        reason = "" if failed else f": {_last_line(log)}"
        print(f"{paths.run}: stopped{reason} (engine log: {log})", file=sys.stderr)
    return status


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text().splitlines() if line.strip()]
    return next((line for line in reversed(lines) if "Error" in line), lines[-1] if lines else "no word of the engine")


def _check_writable(folder: Path) -> None:
    """Raise OSError where `folder` could not be made or written to; makes nothing itself."""
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise OSError(f"{folder}: is a file; a folder for the results is needed there")
    if not os.access(folder, os.W_OK) or os.statvfs(folder).f_flag & os.ST_RDONLY:
        raise OSError(f"{folder}: is read-only; make it writable, or set XSAE_ROOT to a folder that is")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m xsae.workflow", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for command in ("run", "notebook"):
        sub = commands.add_parser(command, allow_abbrev=False)
        if command == "notebook":
            sub.add_argument("notebook")
        sub.add_argument("name")
        sub.add_argument("--embeddings", default="")
        sub.add_argument("--latents", type=int)
        sub.add_argument("--only", default="")
    arguments, engine_options = parser.parse_known_args()
    try:
        if arguments.command == "run":
            return run(arguments.name, arguments.embeddings, arguments.latents, arguments.only, engine_options)
        config = load_config(arguments.name, arguments.embeddings, arguments.latents, arguments.only)
        began = time.time()
        execute(arguments.notebook, config, run_name(arguments.name, arguments.embeddings, arguments.only))
        print(f"{arguments.notebook}: {time.time() - began:.0f} s", flush=True)
        return 0
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
