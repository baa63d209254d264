"""The training loop: batches, steps, when it ends, and where the decoder bias starts."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from xsae.activations import BY_ROW
from xsae.compute import processes
from xsae.compute.batches import epoch
from xsae.penalties import Penalty
from xsae.sae import SparseAutoencoder
from xsae.training import CHECK, Encode, Trainer, TrainingConfig, alone

LEAST_GAIN = 0.005  # a loss that falls by a smaller share of itself has not fallen
BLOCK = 2**16  # embeddings held in memory at one time, and the most that are set aside: 134 MB at d = 512
SUMMED = 2**12  # embeddings added up in single precision, before their sum is added in double


def fit(
    saes: Sequence[SparseAutoencoder],
    arrays: Sequence[np.ndarray],
    rows: Sequence[np.ndarray],
    config: TrainingConfig,
    seed: int,
    progress: str | None = None,
    penalty: Penalty | None = None,
    encode: Encode = alone,
) -> list[dict]:
    """Train the autoencoders in place on paired modalities; one modality is a list of one.

    saes, arrays, rows: per modality its autoencoder, a (n_m, d) matrix (memory-mapped is fine), and int (n_pairs,), the
    matrix row of each pair. The loss is the mean of the modalities' normalised losses, a batch being the same pairs in
    each, plus `penalty` of the codes of all modalities, if any. `encode`: how codes of a batch are chosen.

    With `config.patience` a tenth of the pairs is set aside, and their loss is looked at every `CHECK` steps, from
    `epochs` passes on. When it has not fallen by half a percent for `patience` looks, the learning rate falls to zero
    over a quarter of the steps so far, and the training ends; `max_steps` bounds it all.

    Returns one record per epoch and modality: `epoch`, `step`, `modality` (its position), the mean training `loss`, of
    the reconstruction alone, and `set_aside`, the latest loss of the pairs set aside, NaN where there are none.
    """
    activation, generator, aside = saes[0].config.activation, np.random.default_rng(seed), []
    if config.patience:
        held, rows = set_aside(rows, generator)
        aside = [array[ids[:BLOCK]] for array, ids in zip(arrays, held, strict=True)]
    if len(rows[0]) < 2:
        beside = " beside those set aside" if config.patience else ""
        raise ValueError(f"rows: {len(rows[0])} pairs to train on{beside}; at least 2 are needed")
    batch = min(config.batch_size, max(len(rows[0]) // 4, 2))
    if batch % processes.count():
        raise ValueError(f"batch_size: {batch} pairs cannot be shared evenly by {processes.count()} processes")
    if processes.count() > 1 and activation not in BY_ROW:
        raise ValueError(
            f"activation: {activation!r} depends on the whole batch, which {processes.count()} processes do not see; "
            f"one of {', '.join(BY_ROW)} is needed"
        )
    per_epoch = len(rows[0]) // batch
    planned = config.epochs * per_epoch
    for sae in saes:
        sae.to(config.device)
    arrays = [_on_device(array, config.device, len(arrays)) for array in arrays]
    steps, draws = None if config.patience else planned, generator.spawn(1)[0]  # its draws leave the pairs' order alone
    trainer = Trainer(saes, config, steps, penalty, per_epoch, encode, draws)
    ending = _Ending(
        trainer, config, planned, lambda: [held_out_errors(*of).mean().item() for of in zip(saes, aside, strict=True)]
    )
    history = []
    bar = tqdm(total=ending.steps, desc=progress, disable=progress is None, mininterval=1)
    while trainer.done < ending.steps:
        losses = []
        for x in epoch(arrays, rows, batch, generator):
            losses.append(trainer.step(processes.share(x, len(arrays))))
            bar.update()
            if ending.reached():
                break
        means = torch.stack(losses).double().mean(0).tolist()
        about = {"epoch": math.ceil(trainer.done / per_epoch), "step": trainer.done}
        history += [
            about | {"modality": i, "loss": loss, "set_aside": aside_loss}
            for i, (loss, aside_loss) in enumerate(zip(means, ending.losses or [math.nan] * len(means), strict=True))
        ]
        bar.total = ending.steps
        bar.set_postfix(loss=f"{sum(means) / len(means):.4f}", refresh=False)
    bar.close()
    for sae in saes:
        sae.to("cpu")
    if not all(torch.isfinite(parameter).all() for parameter in trainer.parameters):
        raise ValueError(f"learning_rate: training diverged to NaN at {config.learning_rate}; take a smaller one")
    return history


def set_aside(rows: Sequence[np.ndarray], generator: np.random.Generator) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The rows of a tenth of the pairs, and those of the others: per modality int, as in `fit`.

    An embedding of the first modality that belongs to several pairs goes with all of them.
    """
    owners = generator.permutation(np.unique(rows[0]))
    held = np.isin(rows[0], owners[: max(len(owners) // 10, 1)])
    return [row[held] for row in rows], [row[~held] for row in rows]


@torch.inference_mode()
def held_out_errors(sae: SparseAutoencoder, array: np.ndarray) -> Tensor:
    """The squared error of each of n embeddings (n, d) over their variance, (n,): the mean is the normalised loss."""
    x = sae.inputs(torch.from_numpy(np.array(array)).to(sae.encoder))
    return (sae(x) - x).square().sum(1) * len(x) / (x - x.mean(0)).square().sum().clamp_min(1e-12)


class _Ending:
    """When a training ends: after the planned steps, or by `patience` (see `fit`)."""

    def __init__(self, trainer: Trainer, config: TrainingConfig, planned: int, look: Callable[[], list[float]]) -> None:
        self.trainer, self.config, self.planned, self.look = trainer, config, planned, look
        self.steps = max(config.max_steps, planned) if config.patience else planned
        self.losses: list[float] = []  # of the pairs set aside
        self.best, self.in_vain, self.falling = math.inf, 0, not config.patience

    def reached(self) -> bool:
        """Whether the step just made was the last one."""
        done = self.trainer.done
        if self.config.patience and done % CHECK == 0:
            self.losses = self.look()
            mean = sum(self.losses) / len(self.losses)
            better = mean < (1 - LEAST_GAIN) * self.best
            self.best, self.in_vain = (mean, 0) if better else (self.best, self.in_vain + 1)
            full = 1.25 * done >= self.steps
            if not self.falling and done >= self.planned and (self.in_vain >= self.config.patience or full):
                self.falling = True
                self.steps = min(done + done // 4, self.steps)
                if self.config.decay:
                    self.trainer.decay_over(self.steps - done)
        return done >= self.steps


def _on_device(array: np.ndarray, device: str, n_arrays: int) -> np.ndarray | Tensor:
    """A matrix on the device whole, where `n_arrays` of its size leave half of the free memory there."""
    if device == "cpu" or 2 * n_arrays * array.nbytes > torch.cuda.mem_get_info()[0]:
        return array
    return torch.from_numpy(np.array(array)).to(device)


@torch.no_grad()
def start_at_means(saes: Sequence[SparseAutoencoder], arrays: Sequence[np.ndarray], rows: Sequence[np.ndarray]) -> None:
    """Set every decoder bias to the mean of what it is subtracted from, in place; arguments as in `fit`."""
    means = [_mean(*of) for of in zip(saes, arrays, rows, strict=True)]
    for bias in {id(sae.decoder_bias): sae.decoder_bias for sae in saes}.values():
        bias.copy_(
            torch.stack([mean for sae, mean in zip(saes, means, strict=True) if sae.decoder_bias is bias]).mean(0)
        )


def _mean(sae: SparseAutoencoder, array: np.ndarray, rows: np.ndarray) -> Tensor:
    """The mean (d,) of a modality's training embeddings, as its autoencoder sees them."""
    total = torch.zeros(array.shape[1], dtype=torch.float64)
    for block in np.array_split(rows, -(-len(rows) // SUMMED)):
        total += sae.inputs(torch.from_numpy(np.array(array[block], np.float32))).sum(0)
    return (total / len(rows)).float()
