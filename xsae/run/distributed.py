"""Training over several processes, on one machine or many: the batch is shared out, the sums go round.

    torchrun --nproc-per-node 2 -m xsae.run.distributed --store STORE --method separated --seed 1 --out FOLDER --k 32

The fields of `TrainingConfig` are options; `batch_size` is that of all processes together, and the loss curve that of
one process to rounding. FOLDER is a checkpoint as notebook 02 writes it, for `checkpoints.load`. The messages go by
gloo, or by NCCL with `--device cuda`, a GPU for each process, which has never run.

Not torch's DistributedDataParallel: that averages the gradients of losses that are means over each process's rows, and
runs them through a module's forward. Our loss is normalised by the whole batch, so its sums are what must go round; the
gradients are then just added.
"""

import argparse
import os
import sys
from dataclasses import fields
from pathlib import Path

import torch
import torch.distributed as dist

from xsae.compute import processes
from xsae.data.store import open_store
from xsae.disk import files
from xsae.methods import TRAINED, train_saes
from xsae.run.checkpoints import CHECKPOINT, save
from xsae.training import TrainingConfig


def run(store: Path, method: str, seed: int, out: Path, config: TrainingConfig) -> None:
    """What one of the processes does. Raises ValueError or OSError, one line, in all of them alike."""
    files.check_free(out, CHECKPOINT)
    opened = open_store(store)
    rows = {modality: opened.split("train")[modality].to_numpy() for modality in opened.modalities}
    arrays = {modality: opened[modality] for modality in opened.modalities}
    progress = method if processes.first() else None
    saes, history = train_saes(method, arrays, rows, config, seed, progress)
    if processes.first():
        save(out, saes, history, method, config, seed, opened.fingerprint)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True, help="folder of an embedding store")
    parser.add_argument("--method", required=True, choices=TRAINED)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint")
    for field in fields(TrainingConfig):
        if isinstance(field.default, bool):
            kind = lambda text: {"true": True, "false": False}[text]  # noqa: E731
        else:
            kind = type(field.default)
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default)
    given = vars(parser.parse_args())
    asked = {name: given.pop(name) for name in ("store", "method", "seed", "out")}
    if given["device"] != "cpu" and torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    dist.init_process_group()  # NCCL between GPUs, gloo between processors
    try:
        run(**asked, config=TrainingConfig(**given))
        return 0
    except (ValueError, OSError) as error:
        if processes.first():
            print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main())
