"""Many small jobs side by side: each in a process of its own, with one thread.

A small autoencoder trains no faster on two threads than on one, so two at once are twice as fast. One thread each also
means the same bytes whatever the number of processors.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from typing import Any

import torch
from tqdm.auto import tqdm


def run(work: Callable, jobs: Sequence[tuple], label: str, side_by_side: bool = True) -> list[Any]:
    """What `work(*job)` returns for every job, in the order of the jobs, with a progress bar named `label`.

    `work` must be a function of a module, and jobs and results must be small: they are sent between processes. As many
    run at once as this process has threads; without `side_by_side`, on a GPU, one after the other in this process. The
    first error ends them all.
    """
    workers = min(torch.get_num_threads(), len(jobs)) if side_by_side else 0
    if not workers:
        return [work(*job) for job in tqdm(jobs, label)]
    futures = [_workers(workers).submit(work, *job) for job in jobs]
    try:
        return [future.result() for future in tqdm(futures, label)]
    except BaseException:
        for future in futures:
            future.cancel()
        raise


@cache
def _workers(n: int) -> ProcessPoolExecutor:
    """n fresh processes (a copy would have this one's locks as they are now), which stay, for they start slowly."""
    return ProcessPoolExecutor(n, mp_context=multiprocessing.get_context("spawn"), initializer=_alone)


def _alone() -> None:
    """One thread for a worker, which ends with the process that started it, even if that is killed, and not before."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a kernel that stops is interrupted with all that it started
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
