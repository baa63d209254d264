"""Training from more data than fits in memory: what reading it costs, of time and of memory.

    python -m benchmarks.pipeline [--folder WHERE] [--pairs 3000000]

Writes two float32 matrices of random unit rows, 2 KB a row each (12.3 GB at 3 million pairs), trains `shared` on them
from the files, and deletes them. A batch is waited for in the loader, the rest of the time is the step's.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import torch
from tqdm.auto import tqdm

from benchmarks.measure import write
from xsae.compute.batches import epoch
from xsae.sae import SAEConfig, SparseAutoencoder
from xsae.training import Trainer, TrainingConfig

DIM, LATENTS, K, BATCH = 512, 8192, 32, 1024


def store(folder: Path, pairs: int) -> list[np.ndarray]:
    """Both matrices, written and then memory-mapped."""
    generator = np.random.default_rng(0)
    for name in ("image", "text"):
        array = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float32, (pairs, DIM))
        for start in tqdm(range(0, pairs, 100_000), f"writing {name}"):
            block = generator.standard_normal((min(100_000, pairs - start), DIM), dtype=np.float32)
            array[start : start + len(block)] = block / np.linalg.norm(block, axis=1, keepdims=True)
        array.flush()
        del array
    return [np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("image", "text")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where to write; the system's temporary folder by default")
    parser.add_argument("--pairs", type=int, default=3_000_000)
    parser.add_argument("--steps", type=int, default=384, help="three blocks of 131,072 pairs")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        arrays = store(Path(folder), arguments.pairs)
        rows = [np.arange(arguments.pairs)] * 2
        sae = SparseAutoencoder(SAEConfig(DIM, LATENTS, K), seed=0)
        trainer = Trainer([sae, sae], TrainingConfig(), steps=arguments.steps)
        batches = epoch(arrays, rows, BATCH, np.random.default_rng(0))
        waiting = learning = peak = 0.0
        for _ in tqdm(range(arguments.steps), "steps"):
            began = time.perf_counter()
            x = next(batches)
            got = time.perf_counter()
            trainer.step(x)
            waiting, learning = waiting + got - began, learning + time.perf_counter() - got
            peak = max(peak, psutil.Process().memory_info().rss / 1e6)
    table = {
        "pairs": arguments.pairs, "d": DIM, "L": LATENTS, "k": K, "batch": BATCH, "steps": arguments.steps,
        "file_gb": 2 * arguments.pairs * DIM * 4 / 1e9, "ms_per_step": 1e3 * learning / arguments.steps,
        "ms_waiting_per_step": 1e3 * waiting / arguments.steps, "share_waiting": waiting / (waiting + learning),
        "peak_resident_mb": peak,
    }  # fmt: skip
    write(pd.DataFrame([table]), "pipeline")


if __name__ == "__main__":
    main()
