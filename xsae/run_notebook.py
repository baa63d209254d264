"""Run one notebook with a config's values, by papermill: what the Snakefile's rules call.

python -m xsae.run_notebook laptop --notebook 03_alignment
"""

import argparse
import logging
import os
import sys
import time

import papermill
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config as TraitletsConfig

from xsae import results
from xsae.commands import exit_status, which_run
from xsae.config import Config, load_config, run_name
from xsae.notebooks import parameters
from xsae.paths import ROOT, RunPaths


def execute(notebook: str, config: Config, run: str) -> None:
    """Run one notebook into results/<run>/notebooks/, under its name only when all of it ran.

    Raises RuntimeError, one line with notebook, cell and error; the copy as far as it came is kept as `*.failed.ipynb`.
    """
    logging.getLogger("papermill").setLevel(logging.ERROR)
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


def _run(notebook: str, name: str, embeddings: str, latents: int | None, only: str) -> int:
    config = load_config(name, embeddings, latents, only)
    began, run = time.time(), run_name(name, embeddings, only)
    execute(notebook, config, run)
    results.record(run, notebook, parameters(notebook, config, run), time.time() - began)
    print(f"{notebook}: {time.time() - began:.0f} s", flush=True)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(
        parents=[which_run()], description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--notebook", required=True)
    arguments = parser.parse_args()
    return exit_status(lambda: _run(**vars(arguments)))


if __name__ == "__main__":
    sys.exit(main())
