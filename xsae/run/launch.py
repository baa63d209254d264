"""From a command line to Snakemake: one line for whatever is wrong, before anything is written.

The order of the notebooks, what is up to date and where jobs run is Snakemake's business (see the Snakefile), whose
rules call `xsae.run.notebook`.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlencode

from xsae.run import lock
from xsae.run.commands import exit_status, which_run
from xsae.run.config import Config, load_config, run_name
from xsae.run.paths import ROOT, RunPaths, output_root

ENDING = 20  # seconds that an interrupted run has to end its jobs


def run(
    name: str,
    embeddings: str,
    modalities: str,
    latents: int | None,
    only: str,
    quick: bool,
    engine_options: list[str],
) -> int:
    """Check what is asked for, then have Snakemake run what is not up to date; returns the exit status.

    Raises ValueError or OSError, one line each, having written nothing.
    """
    # Some modules are imported where they are used: they take seconds, and most runs never need them.
    run_name(name, embeddings, only)  # names first: the longest cannot even be looked up
    if name.endswith(".yaml"):
        name = str(Path(name).resolve())
    if embeddings:
        embeddings = str(Path(embeddings).resolve())
        _check_path(embeddings)
    _check_path(str(ROOT))
    config = load_config(name, embeddings, modalities, latents, only, quick)
    paths = RunPaths(run_name(name, embeddings, only))
    dry = bool({"-n", "--dry-run", "--dryrun"} & set(engine_options))
    found = _modalities(config) if embeddings else {}
    if found and config.auto and not dry:
        _say_budget(config, found, paths.run)
    if config.sources:
        _say_plan(config, paths.run, dry)
    for folder in (paths.results, paths.figures, paths.artifacts):
        _check_writable(folder)
    asked = {option.split("=")[0] for option in engine_options}
    command = ["snakemake", "--snakefile", str(ROOT / "Snakefile")]
    command += ["--directory", str(output_root()), "--rerun-incomplete", "--nolock"]  # the lock is ours: `_run_engine`
    if not {"--cores", "-c", "--jobs", "-j", "--profile"} & asked:
        command += ["--cores", "all"]
    # Percent-encoded: the engine would read a value such as 1e5 or {a: b} as what YAML makes of it, and pass it on to
    # jobs through a shell.
    asked_for = {"name": name, "embeddings": embeddings, "modalities": modalities, "only": only}
    asked_for |= {"latents": "" if latents is None else latents, "quick": "yes" if quick else ""}
    command += ["--config", f"run={urlencode(asked_for)}", *engine_options]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    if dry:
        return subprocess.run([sys.executable, "-m", *command, "--quiet", "host"], env=environment).returncode
    elsewhere = bool({"--profile", "--executor", "-e"} & asked)
    return _run_engine(paths, command, environment, list(found), elsewhere)


def _modalities(config: Config) -> dict[str, tuple[int, int]]:
    """The modalities of one's own embeddings, the reference first, and the shape of each, once all of the file is found
    to fit together."""
    from xsae.data.classes import read_classes
    from xsae.data.own import modalities_of, read_npz

    arrays = read_npz(config.embeddings, config.modalities)
    read_classes(config.embeddings, config.modalities)
    return {name: arrays[name].shape for name in modalities_of(arrays)}


def _say_budget(config: Config, shapes: dict[str, tuple[int, int]], run: str) -> None:
    """Print what it takes to choose what the config leaves open, before anything is trained."""
    from xsae.evaluation import choice
    from xsae.training import TrainingConfig

    names = ("k", "latents", "epochs", "patience", "max_steps", "batch_size", "device")
    known = {"latents": 0} | {name: getattr(config, name) for name in names if name not in config.auto}
    rows, dims = zip(*shapes.values(), strict=True)
    trainings, seconds = choice.budget(TrainingConfig(**known), config.auto, max(rows), dims[0], len(shapes))
    print(
        f"{run}: chosen first: {', '.join(config.auto)}, by {trainings} short trainings, at most about "
        f"{seconds:.0f} s of one processor; --quick goes without",
        flush=True,
    )


def _say_plan(config: Config, run: str, dry: bool) -> None:
    """Print what a run of real sources takes. Raises ValueError or OSError for what is not there, but of a dry run."""
    print(f"{run}: what it takes, before anything is downloaded", flush=True)  # the next imports take seconds
    from xsae.data.sources import open_source
    from xsae.run.plan import plan

    for spec in [] if dry else filter(None, [*config.sources, config.classes]):
        open_source(spec)  # what is not there is said now, not after hours
    print(plan(config), end="\n\n", flush=True)


def _run_engine(
    paths: RunPaths, command: list[str], environment: dict[str, str], modalities: list[str], elsewhere: bool
) -> int:
    """Have Snakemake do it, alone in the run's folder; returns the exit status. elsewhere: on other machines."""
    log = paths.artifacts / "engine.log"
    # Unlike the engine's own lock, this one vanishes with its processes: after a kill the same command just goes on.
    with lock.alone(paths.lock) as handle, log.open("w") as engine_output:
        began = time.time()
        print(f"{paths.run}:{_last_time(paths)} tables in {paths.results}, figures in {paths.figures}", flush=True)
        if modalities:
            print(f"{paths.run}: modalities {', '.join(modalities)}; {modalities[0]} is the reference", flush=True)
        # Notebooks speak on stdout; the engine's account of the same goes to its log. Those that run on other
        # machines do not reach this terminal, so there the engine speaks.
        command = [sys.executable, "-m", "xsae.run.lock", str(paths.lock), str(os.getpid()), *command]
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        engine = subprocess.Popen(
            command, env=environment, stderr=None if elsewhere else engine_output, pass_fds=[handle], process_group=0
        )
        try:
            status = engine.wait()
        except KeyboardInterrupt:
            _end(engine)
            status = None
    if status is None:
        if not lock.wait_until_free(paths.lock, ENDING):
            raise OSError(
                f"{paths.run}: interrupted, but some of its processes still run; no other run starts till then"
            )
        print(f"\n{paths.run}: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    if status == 0:
        print(f"{paths.run}: done in {(time.time() - began) / 60:.1f} min")
        for page in ("report.html", "explorer.html"):
            if (paths.results / page).is_file():
                print(f"{paths.run}: {paths.results / page}")
    else:
        failed = [path for path in paths.notebooks.glob("*.failed.ipynb") if path.stat().st_mtime >= began]
        reason = "" if failed or elsewhere else f": {_last_line(log)}"
        account = "above" if elsewhere else f"engine log: {log}"
        print(f"{paths.run}: stopped{reason} ({account})", file=sys.stderr)
    return status


def _last_time(paths: RunPaths) -> str:
    """How long all notebooks of a run took when they were last run, here or by whoever committed it; else nothing."""
    for folder in (paths.results, ROOT / "results" / paths.run):
        if found := [json.loads(path.read_text()) for path in (folder / "manifest").glob("*.json")]:
            minutes = sum(manifest["seconds"] for manifest in found) / 60
            cores = max(manifest["hardware"]["cores"] for manifest in found)
            return f" {len(found)} notebooks, {minutes:.0f} min when last run (on {cores} cores);"
    return ""


def _end(engine: subprocess.Popen) -> None:
    """End the engine and its jobs, those on other machines too; what does not end by itself goes when it is gone."""
    os.killpg(engine.pid, signal.SIGINT)
    try:
        engine.wait(ENDING)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):  # too long for it, or for the user
        engine.kill()
        engine.wait()


def _check_path(path: str) -> None:
    """Raise ValueError for the path of a file that is no text or that the engine would read as a pattern."""
    try:
        path.encode()
    except UnicodeEncodeError:  # from a file system of another encoding
        raise ValueError(f"{os.fsencode(path)!r}: the path is not UTF-8; rename the folder that is not") from None
    if strange := sorted({"{", "}", "\n"} & set(path)):
        raise ValueError(
            f"{path!r}: the path holds {strange[0]!r}, which the engine has another use for; rename the folder"
        )


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
        prog="python -m xsae.run.launch", parents=[which_run()], description=__doc__, allow_abbrev=False
    )
    arguments, engine_options = parser.parse_known_args()
    return exit_status(lambda: run(**vars(arguments), engine_options=engine_options))


if __name__ == "__main__":
    sys.exit(main())
