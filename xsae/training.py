"""A training's settings, its loss and its step; `fitting` repeats it. What sets methods apart is in `methods`."""

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from numbers import Real

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from xsae.activations import BY_ROW, Code
from xsae.compute import processes
from xsae.compute.kernels import gpu
from xsae.penalties import Penalty
from xsae.sae import SparseAutoencoder

BIAS_STARTS = ("mean", "zero")
DEVICES = ("cpu", "cuda", "auto")
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
CHECK = 100  # steps between two looks at the pairs set aside, and of the warm-up where the number of steps is not known


@dataclass(frozen=True)
class TrainingConfig:
    """The released recipe for real data: AdamW, 5 % warm-up, then a cosine to zero, gradients clipped to norm 1.

    `latents`: of all autoencoders together; 0 sizes them to the data (`dictionary_size`). `epochs`: passes over the
    training pairs. `patience`: 0 ends the training there, as published. Otherwise it goes on until it is done: see
    `fit`; `max_steps` is then the most it may take. `bias_start`: where the decoder bias starts; `mean` is the mean of
    what the autoencoder trains on, `zero` is the published start. `sum_losses`: the loss is the sum of the modalities'
    and not their mean, as in the released synthetic trainers; a penalty then weighs half as much. `aux_coefficient`:
    weight of the AuxK loss, 0 = off as published. `iso_energy`, `group_sparse`, `masked_group_sparse`, `sparc`: weight
    of the penalty of the method of that name. `decay`: whether the learning rate falls after the warm-up, or stays, as
    in the released synthetic training. `normalize`: whether rows are scaled to unit norm before all else; the released
    configs train on them as they are. `device`: `cpu`, or `cuda`, where a run is the same to the bit on the same card
    for `topk`; `auto` becomes `cuda` where there is a GPU, else `cpu`. `precision`: of the product that latents are
    chosen by in training, `float32` or `bfloat16`, several times faster on processors that have it; all else is float32
    (`benchmarks.training` has both). `auto` becomes `bfloat16` where the device has it, else `float32`: what is learned
    is equally good (`benchmarks.precision`).
    """

    latents: int = 8192
    k: int = 32
    epochs: int = 10
    patience: int = 0
    max_steps: int = 20_000
    batch_size: int = 1024
    learning_rate: float = 5.0e-4
    warmup: float = 0.05
    weight_decay: float = 1.0e-5
    clip_norm: float = 1.0
    bias_start: str = "mean"
    sum_losses: bool = False
    aux_coefficient: float = 0.0
    iso_energy: float = 1.0e-4
    group_sparse: float = 0.05
    masked_group_sparse: float = 0.05
    sparc: float = 1.0
    activation: str = "topk"
    decay: bool = True
    normalize: bool = True
    device: str = "cpu"
    precision: str = "float32"

    def width(self, n_pairs: int, dim: int) -> int:
        """Latents in all for `n_pairs` training pairs of size `dim`: `latents`, or `dictionary_size` where it is 0."""
        return self.latents or dictionary_size(n_pairs, dim)

    def __post_init__(self) -> None:
        self._check_numbers()
        if self.device == "auto":
            object.__setattr__(self, "device", "cuda" if torch.cuda.is_available() else "cpu")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ValueError("device: `cuda` found, but torch sees no GPU; `cpu` or `auto` would run here")
        if self.precision == "auto":
            object.__setattr__(self, "precision", "bfloat16" if _has_bfloat16(self.device) else "float32")
        for name, known in {"bias_start": BIAS_STARTS, "device": DEVICES, "precision": PRECISIONS}.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name}: {getattr(self, name)!r} is unknown; one of {', '.join(known)}")

    def _check_numbers(self) -> None:
        least = {"latents": 0, "k": 1, "epochs": 1, "patience": 0, "max_steps": 1, "batch_size": 2}
        for name, low in least.items():
            value = getattr(self, name)
            if type(value) is not int or value < low:
                raise ValueError(f"{name}: {value!r:.40} found; an int of at least {low} is needed")
        weights = ("weight_decay", "aux_coefficient", "iso_energy", "group_sparse", "masked_group_sparse", "sparc")
        bounds = {"warmup": (0, 1), **dict.fromkeys(weights, (0, math.inf))}
        bounds |= dict.fromkeys(("learning_rate", "clip_norm"), (sys.float_info.min, math.inf))
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if not isinstance(value, Real) or not low <= value < high:
                range_ = f"from {low} to" if low == 0 else "above 0 and"
                raise ValueError(f"{name}: {value!r:.40} found; a number {range_} below {high} is needed")
        if self.learning_rate * self.weight_decay >= 1:
            raise ValueError(
                f"weight_decay: {self.weight_decay:g} found; at a learning rate of {self.learning_rate:g} a step takes "
                "a weight away whole; less than one over that rate is needed"
            )


def _has_bfloat16(device: str) -> bool:
    """Whether a device multiplies in bfloat16 itself, and not by way of something slower."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return any(has is True for name, has in torch.cpu.get_capabilities().items() if name.endswith("bf16"))


def dictionary_size(n_pairs: int, dim: int) -> int:
    """Latents in all for `n_pairs` training pairs: the power of two at or below half the pairs, from 64 to 16 d.

    16 d is the paper's own 8192 at d = 512; below it, a latent needs pairs of its own to be learned from.
    """
    return min(max(64, 2 ** int(math.log2(max(n_pairs, 2) / 2))), 16 * dim)


def normalised_loss(x_hat: Tensor, x: Tensor) -> Tensor:
    """||x^ - x||^2 / ||x - mean(x)||^2, sums over the batch (paper, Method). x, x_hat (n, d) -> scalar.

    Of several processes, each of which has as many rows, this one's part of it: the parts add up to the loss.
    """
    mean = processes.total(x.mean(0) / processes.count())
    variance = processes.total(F.mse_loss(x, mean.expand_as(x), reduction="sum"))
    return F.mse_loss(x_hat, x, reduction="sum") / variance.clamp_min(1e-12)


def aux_loss(sae: SparseAutoencoder, x: Tensor, x_hat: Tensor, dead: Tensor) -> Tensor:
    """AuxK (Gao et al. 2024, A.2): the d/2 largest dead latents reconstruct what the model misses.

    x = `sae.inputs(...)` and its reconstruction x_hat, (n, d); dead: indices of the dead latents (m,), m >= 1. The
    target is the detached residual x - x_hat, so no bias enters; the loss is 0 where dead latents predict it exactly.
    """
    residual = (x - x_hat).detach()
    pre = sae.activation.pre(x - sae.offset.detach(), sae.encoder[dead], sae.encoder_bias[dead]).relu()
    values, latents = pre.topk(min(sae.config.dim // 2, len(dead)), dim=1)
    codes = torch.zeros_like(pre).scatter(1, latents, values)
    missed = processes.total(residual.square().sum()).clamp_min(1e-12)
    return (codes @ sae.dictionary[dead] - residual).square().sum() / missed


# The codes of a training batch: autoencoders, the inputs (n, d) of each, and what draws at random -> a code for each in
# turn, computed when it is asked for.
Encode = Callable[[Sequence[SparseAutoencoder], Sequence[Tensor], np.random.Generator | None], Iterator[Code]]


def alone(saes: Sequence[SparseAutoencoder], x: Sequence[Tensor], _: np.random.Generator | None) -> Iterator[Code]:
    """What most methods do: no modality's code depends on another's."""
    for sae, part in zip(saes, x, strict=True):
        yield sae.activate(part, training=True)


def clip(parameters: Sequence[Tensor], most: float) -> None:
    """Scale the gradients to a norm of `most` over all, in place; those of a smaller norm stay as they are."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if norm.is_cuda or norm > most:  # a GPU multiplies by 1 rather than have the processor wait for the norm
        torch.nn.utils.clip_grads_with_norm_(parameters, most, norm)


class Trainer:
    """The optimiser of the autoencoders of all modalities, a step at a time: what `fit` repeats, benchmarks time.

    saes: one per modality; modalities may have one in common, or autoencoders with parameters in common. There is one
    optimiser over all parameters, and their gradients are clipped together, as in the released code. `steps`: of the
    whole training, which the learning rate is planned over, or None where they are not known: the rate then stays until
    `decay_over` is called. `penalty`: of the codes of all modalities, added to the loss. `idle_limit`: steps without
    firing after which a latent counts as dead for the AuxK loss. `encode`: how the codes of a batch are chosen, with
    the random draws of `generator`.

    The dictionary's gradient keeps its part along the directions, which scaling them to unit norm then undoes: the
    published recipe scales, and says nothing of projecting it onto the sphere's tangent first. With the projection the
    held-out loss is smaller by 0.1 to 0.3 % of itself, where seeds differ by 2 to 7 % (`benchmarks.projection`).
    """

    def __init__(
        self,
        saes: Sequence[SparseAutoencoder],
        config: TrainingConfig,
        steps: int | None,
        penalty: Penalty | None = None,
        idle_limit: int = 1000,
        encode: Encode = alone,
        generator: np.random.Generator | None = None,
    ) -> None:
        self.config, self.penalty, self.idle_limit, self.done = config, penalty, idle_limit, 0
        self.encode, self.generator = encode, generator
        self.saes, self.n_modalities = saes, len(saes)
        # neighbours that are one autoencoder encode together: one product in the place of several
        self.groups = [(sae, len(list(same))) for sae, same in groupby(saes, key=lambda sae: sae)]
        self.parameters = list(dict.fromkeys(parameter for sae in saes for parameter in sae.parameters()))
        self.dictionaries = list({id(sae.dictionary): sae for sae in saes}.values())
        # steps since a latent fired
        self.idle = {sae.encoder: torch.zeros_like(sae.encoder_bias, dtype=torch.int64) for sae in saes}
        self.warmup = max(round(config.warmup * steps), 1) if steps else CHECK
        self.falls = (self.warmup, steps) if steps and config.decay else (sys.maxsize - 1, sys.maxsize)
        rate, on_gpu = config.learning_rate, self.parameters[0].is_cuda
        self.optimiser = torch.optim.AdamW(
            self.parameters, torch.tensor(rate).cuda() if on_gpu else rate, weight_decay=config.weight_decay,
            fused=True, capturable=on_gpu,
        )  # fmt: skip
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, self._rate)
        # where no number that the processor must know comes up in a step, a GPU repeats it as one graph
        fixed = all(sae.config.activation in BY_ROW for sae in saes) and not config.aux_coefficient
        fixed &= encode is alone  # else it may draw at random, and a graph would repeat one draw
        self.graph = gpu().Graph(self._learn) if on_gpu and fixed and processes.count() == 1 else None

    def _rate(self, step: int) -> float:
        """The learning rate of a step as a share of its peak."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        start, stop = self.falls
        return 0.5 * (1 + math.cos(math.pi * max(step - start, 0) / max(stop - start, 1)))

    def decay_over(self, steps: int) -> None:
        """Let the learning rate fall to zero over the next `steps`."""
        self.falls = (self.done, self.done + steps)

    def step(self, x: Tensor) -> Tensor:
        """Learn from x (n_modalities * batch, d), one modality after the other; its losses (n_modalities,)."""
        x = x.to(self.parameters[0])  # its device, and its dtype
        losses = self.graph(x) if self.graph else self._learn(x)
        self.done += 1
        self.schedule.step()
        return losses

    def _learn(self, x: Tensor) -> Tensor:
        """All of a step but what the processor keeps count of."""
        config, batch = self.config, len(x) // self.n_modalities
        each = 1.0 if config.sum_losses else 1 / self.n_modalities  # a modality's weight in the loss
        loss, losses, codes, seen, inputs = 0.0, [], [], [], []
        parts = x.split([n * batch for _, n in self.groups])
        parts = [sae.inputs(part) for (sae, _), part in zip(self.groups, parts, strict=True)]
        encoded = self.encode([sae for sae, _ in self.groups], parts, self.generator)
        for (sae, n), part in zip(self.groups, parts, strict=True):
            precision = PRECISIONS[config.precision]
            with torch.autocast(x.device.type, precision, enabled=precision != x.dtype):
                values, latents, sparsity = next(encoded)
            for m in sae.activation.levels:  # Matryoshka has several, of which the last is the whole code
                x_hat = sae.decode(values[:, :m], latents[:, :m])
                of_part = [normalised_loss(*both) for both in zip(x_hat.chunk(n), part.chunk(n), strict=True)]
                loss = loss + each * sum(of_part) / len(sae.activation.levels)
            loss = loss + n * each * sparsity
            losses += of_part
            codes += zip(values.chunk(n), latents.chunk(n), strict=True)
            inputs += part.chunk(n)
            seen.append((sae, n * each, part, x_hat, values, latents))
        if self.penalty:
            loss = loss + self.penalty(codes, self.saes, inputs)
        if config.aux_coefficient:
            loss = loss + config.aux_coefficient * self._aux(seen)
        loss.backward()
        processes.add_gradients(self.parameters)
        clip(self.parameters, config.clip_norm)
        self.optimiser.step()
        self.optimiser.zero_grad()  # now, so that gradients are not held beside the next product
        for sae in self.dictionaries:
            sae.normalize_dictionary()
        return processes.total(torch.stack(losses).detach())

    def _aux(self, seen: list[tuple]) -> Tensor | float:
        """The AuxK loss of every autoencoder, with its weight; a latent is dead when it is for all that have it."""
        for encoder, idle in self.idle.items():
            fired = torch.zeros_like(idle)
            for sae, *_, values, latents in seen:
                if sae.encoder is encoder:
                    fired[latents[values > 0]] = 1
            self.idle[encoder] = (idle + 1).masked_fill(processes.total(fired) > 0, 0)
        loss = 0.0
        for sae, weight, x, x_hat, *_ in seen:
            dead = torch.nonzero(self.idle[sae.encoder] >= self.idle_limit).flatten()
            if len(dead):
                loss = loss + weight * aux_loss(sae, x, x_hat, dead)
        return loss
