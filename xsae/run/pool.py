"""Many small jobs side by side: each in a process of its own, with one thread.

A small autoencoder gains little from a second thread (4.9 ms a step with one, 4.3 with two, 2.8 with two at once, at
d = 128, L = 1024), and loses much where others want it. One thread each also means the same bytes on any machine.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import cache
from typing import Any
from unittest.mock import patch

import torch
import tqdm.auto
from tqdm import tqdm as text_bar

from xsae.run.paths import TERMINAL

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def run(work: Callable, jobs: Sequence[tuple], label: str, side_by_side: bool = True) -> list[Any]:
    """What `work(*job)` returns for every job, in the order of the jobs, with a progress bar named `label`.

    `work` must be a function of a module, and jobs and results must be small: they are sent between processes. As many
    run at once as this process has threads; without `side_by_side`, on a GPU, one after the other in this process. The
    first error ends them all.
    """
    workers = min(torch.get_num_threads(), len(jobs)) if side_by_side else 0
    if not workers:
        return list(_shown((work(*job) for job in jobs), len(jobs), label))
    with patch.dict(os.environ, dict.fromkeys(_THREADS, "1")):  # numpy reads these when it is imported
        futures = [_workers(workers).submit(work, *job) for job in jobs]
    try:
        return list(_shown((future.result() for future in futures), len(jobs), label))
    except BaseException:
        for future in futures:
            future.cancel()
        raise


def _shown(results: Iterable[Any], total: int, label: str) -> Iterator[Any]:
    """The results, with a progress bar in the notebook and, within a run, one on the terminal it was started from."""
    with ExitStack() as ends:
        bars = [ends.enter_context(tqdm.auto.tqdm(total=total, desc=label))]
        if TERMINAL in os.environ:
            file = ends.enter_context(os.fdopen(os.dup(int(os.environ[TERMINAL])), "w"))
            bars.append(ends.enter_context(text_bar(total=total, desc=label, file=file, leave=False, position=0)))
        for result in results:
            yield result
            for bar in bars:
                bar.update()


@cache
def _workers(n: int) -> ProcessPoolExecutor:
    """n processes, which stay: copies of a fresh one that has imported what jobs need.

    A copy of this process would have its locks as they are now; fresh ones would each import for seconds.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["xsae.run.jobs"])
    return ProcessPoolExecutor(n, mp_context=context, initializer=_alone)


def _alone() -> None:
    """One thread for a worker, which ends with the process that started it, even if that is killed, and not before."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a kernel that stops is interrupted with all that it started
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
