"""From a command line to Snakemake: one line for whatever is wrong, before anything is written.

The order of the notebooks, what is up to date and where jobs run is Snakemake's business (see the Snakefile), whose
rules call `xsae.run_notebook`.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from filelock import FileLock, Timeout

from xsae.commands import exit_status, which_run
from xsae.config import load_config, run_name
from xsae.paths import ROOT, RunPaths, output_root


def run(name: str, embeddings: str, latents: int | None, only: str, engine_options: list[str]) -> int:
    """Check what is asked for, then have Snakemake run what is not up to date; returns the exit status.

    Raises ValueError or OSError, one line each, having written nothing.
    """
    # Some modules are imported where they are used: they take seconds, and most runs never need them.
    if embeddings:
        from xsae.classes import read_classes
        from xsae.embeddings import modalities, read_npz

        embeddings = str(Path(embeddings).resolve())
        found = modalities(read_npz(embeddings))
        read_classes(embeddings)
    if name.endswith(".yaml"):
        name = str(Path(name).resolve())
    config = load_config(name, embeddings, latents, only)
    paths = RunPaths(run_name(name, embeddings, only))
    dry = {"-n", "--dry-run", "--dryrun"} & set(engine_options)
    if config.sources:
        from xsae.plan import plan
        from xsae.sources import open_source

        for spec in [] if dry else filter(None, [*config.sources, config.classes]):
            open_source(spec)  # what is not there is said now, not after hours
        print(plan(config), end="\n\n", flush=True)
    for folder in (paths.results, paths.figures, paths.artifacts):
        _check_writable(folder)
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    command += ["--directory", str(output_root()), "--rerun-incomplete", "--nolock"]  # the lock is ours, see below
    asked = {option.split("=")[0] for option in engine_options}
    if not {"--cores", "-c", "--jobs", "-j", "--profile"} & asked:
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
            if embeddings:
                print(f"{paths.run}: modalities {', '.join(found)}; {found[0]} is the reference", flush=True)
            # Notebooks speak on stdout; the engine's account of the same goes to its log. Those that run on other
            # machines do not reach this terminal, so there the engine speaks.
            elsewhere = {"--profile", "--executor", "-e"} & asked
            engine = subprocess.Popen(command, env=environment, stderr=None if elsewhere else engine_output)
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
        reason = "" if failed or elsewhere else f": {_last_line(log)}"
        account = "above" if elsewhere else f"engine log: {log}"
        print(f"{paths.run}: stopped{reason} ({account})", file=sys.stderr)
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
    parser = argparse.ArgumentParser(
        prog="python -m xsae.workflow", parents=[which_run()], description=__doc__, allow_abbrev=False
    )
    arguments, engine_options = parser.parse_known_args()
    return exit_status(lambda: run(**vars(arguments), engine_options=engine_options))


if __name__ == "__main__":
    sys.exit(main())
