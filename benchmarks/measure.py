"""Contestants that take turns, their peak memory, and the table with the machine they ran on."""

import gc
import json
import multiprocessing
import multiprocessing.connection
import platform
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import torch
from tqdm.auto import tqdm

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "numpy", "scipy", "overcomplete", "sae-lens", "dictionary-learning", "eai-sparsify")


def alternate(contestants: Mapping[str, Callable[[], object]], repeats: int, warm_up: int = 2) -> dict[str, float]:
    """Median seconds of each, over `repeats` rounds in which every contestant has its turn."""
    for run in contestants.values():
        for _ in range(warm_up):
            run()
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in tqdm(range(repeats), "rounds"):
        for name, run in contestants.items():
            began = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - began)
    return {name: float(np.median(times)) for name, times in taken.items()}


def peak_memory(make: Callable[[], Callable], small: Callable[[], Callable], times: int = 3) -> float:
    """Megabytes that a contestant adds at its highest, made and run `times` times in a process of its own.

    `small` makes it at a trifling size, which is run first so that what it imports does not count. Both must be
    picklable, such as a functools.partial of a module's function.
    """
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_highest, args=(make, small, times, send))
    process.start()
    send.close()  # so that a process that fails ends the waiting for it, by EOFError
    before, highest = receive.recv(), 0
    watched = psutil.Process(process.pid)
    while not receive.poll(0.002):
        highest = max(highest, watched.memory_info().rss)
    process.join()
    return (max(highest, receive.recv()) - before) / 1e6


def _highest(make: Callable, small: Callable, times: int, send: multiprocessing.connection.Connection) -> None:
    small()()
    gc.collect()
    send.send(psutil.Process().memory_info().rss)
    run = make()
    for _ in range(times):
        run()
    send.send(psutil.Process().memory_info().rss)


def write(table: pd.DataFrame, name: str) -> None:
    """Print a table and write it to results/NAME.csv, with the machine beside it in results/NAME.json."""
    RESULTS.mkdir(exist_ok=True)
    table.to_csv(RESULTS / f"{name}.csv", index=False, float_format="%.4g")
    (RESULTS / f"{name}.json").write_text(json.dumps(machine(), indent=2) + "\n")
    print(table.to_string(index=False, float_format="{:.4g}".format))


def machine() -> dict:
    """What the figures depend on."""
    names = [line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else "not measured: no device",
        "python": platform.python_version(),
        "packages": versions,
    }


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.is_file() else []
