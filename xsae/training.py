"""One training loop; the methods are its arguments.

`shared` is one autoencoder that sees every modality; `separated` is one autoencoder per modality with an equal share of
the latents. Both are trained on reconstruction alone. `posthoc` is `separated` plus an `Alignment`, fitted afterwards.
`iso_energy` and `group_sparse` are `shared` plus a penalty on the codes of pairs, weighted by the setting of that name.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from xsae import files, processes
from xsae.batches import epoch
from xsae.penalties import PENALTIES
from xsae.sae import SAEConfig, SparseAutoencoder

METHODS = ("shared", "separated", *PENALTIES)
CHECKPOINT = files.Kind("training's checkpoint", "training.json", "xsae.training.1")
DEVICES = ("cpu", "cuda", "auto")
BY_ROW = ("topk", "matryoshka")  # the activations of which a row's code depends on no other row
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class TrainingConfig:
    """The paper's recipe for real data (paper.md, Experiments): AdamW, 5 % warm-up then cosine to zero, clip 1.

    `latents`: of all autoencoders together; 0 sizes them to the data (`dictionary_size`). `min_steps`: small data are
    repeated past `epochs` until that many steps. `aux_coefficient`: weight of the AuxK loss, 0 = off as published.
    `iso_energy`, `group_sparse`: weight of the penalty of the method of that name. `decay`: whether the learning rate
    falls after the warm-up, or stays, as in the paper's synthetic training. `normalize`: whether rows are scaled to
    unit norm before all else; the paper's code trains on them as they are. `device`: `cpu`, or `cuda`, where runs are
    not the same to the bit; `auto` becomes `cuda` where there is a GPU, else `cpu`. `precision`: of the product that
    latents are chosen by in training, `float32` or `bfloat16`, several times faster on processors that have it; all
    else is float32 (`benchmarks.training` has both).
    """

    latents: int = 8192
    k: int = 32
    epochs: int = 10
    min_steps: int = 0
    batch_size: int = 1024
    learning_rate: float = 5.0e-4
    warmup: float = 0.05
    weight_decay: float = 1.0e-5
    clip_norm: float = 1.0
    aux_coefficient: float = 0.0
    iso_energy: float = 1.0e-4
    group_sparse: float = 0.05
    activation: str = "topk"
    decay: bool = True
    normalize: bool = True
    device: str = "cpu"
    precision: str = "float32"

    def __post_init__(self) -> None:
        if self.device == "auto":
            object.__setattr__(self, "device", "cuda" if torch.cuda.is_available() else "cpu")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ValueError("device: `cuda` found, but torch sees no GPU; `cpu` or `auto` would run here")
        for name, known in {"device": DEVICES, "precision": PRECISIONS}.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name}: {getattr(self, name)!r} is unknown; one of {', '.join(known)}")


def dictionary_size(n_pairs: int, dim: int) -> int:
    """Latents in all for `n_pairs` training pairs: the power of two at or below half the pairs, from 64 to 16 d.

    16 d is the paper's own 8192 at d = 512; below it, a latent needs pairs of its own to be learned from.
    """
    return min(max(64, 2 ** int(math.log2(max(n_pairs, 2) / 2))), 16 * dim)


def normalised_loss(x_hat: Tensor, x: Tensor) -> Tensor:
    """||x^ - x||^2 / ||x - mean(x)||^2, sums over the batch (paper.md, Method). x, x_hat (n, d) -> scalar.

    Of several processes, each of which has as many rows, this one's part of it: the parts add up to the loss.
    """
    mean = processes.total(x.mean(0) / processes.count())
    return (x_hat - x).square().sum() / processes.total((x - mean).square().sum()).clamp_min(1e-12)


def reconstruction_loss(x_hats: Sequence[Tensor], x: Tensor, n_modalities: int) -> tuple[Tensor, list[Tensor]]:
    """The mean of the modalities' normalised losses, to be minimised, and these losses for a look at each.

    x (n_modalities * batch, d), one modality after the other; x_hats: its reconstructions, of which the last is that of
    the whole codes. The first result is the mean over all (Matryoshka has several), the second is of the last alone.
    """
    levels = [
        [normalised_loss(*part) for part in zip(x_hat.chunk(n_modalities), x.chunk(n_modalities), strict=True)]
        for x_hat in x_hats
    ]
    return sum(map(sum, levels)) / (len(levels) * n_modalities), levels[-1]


def aux_loss(sae: SparseAutoencoder, x: Tensor, x_hat: Tensor, dead: Tensor) -> Tensor:
    """AuxK (Gao et al. 2024, A.2): the d/2 largest dead latents reconstruct what the model misses.

    x = `sae.inputs(...)` and its reconstruction x_hat, (n, d); dead: indices of the dead latents (m,), m >= 1. The
    target is the detached residual x - x_hat, so no bias enters; the loss is 0 where dead latents predict it exactly.
    """
    residual = (x - x_hat).detach()
    pre = torch.addmm(sae.encoder_bias[dead], x - sae.decoder_bias.detach(), sae.encoder[dead].T).relu()
    values, latents = pre.topk(min(sae.config.dim // 2, len(dead)), dim=1)
    codes = torch.zeros_like(pre).scatter(1, latents, values)
    missed = processes.total(residual.square().sum()).clamp_min(1e-12)
    return (codes @ sae.dictionary[dead] - residual).square().sum() / missed


def clip(parameters: Sequence[Tensor], most: float) -> None:
    """Scale the gradients to a norm of `most` over all, in place; those of a smaller norm are not touched at all."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if norm > most:
        torch.nn.utils.clip_grads_with_norm_(parameters, most, norm)


class Trainer:
    """The optimiser of one autoencoder, a step at a time: what `train_sae` repeats and `benchmarks.training` times.

    `steps`: of the whole training, which the learning rate is planned over; `n_modalities`: how many batches of pairs
    `step` is given one after the other; `penalty`: the name of one of `PENALTIES`, or none; `patience`: steps without
    firing after which a latent counts as dead for the AuxK loss.
    """

    def __init__(
        self,
        sae: SparseAutoencoder,
        config: TrainingConfig,
        steps: int,
        n_modalities: int = 1,
        penalty: str = "",
        patience: int = 1000,
    ) -> None:
        self.sae, self.config, self.n_modalities, self.penalty, self.patience = (
            sae, config, n_modalities, penalty, patience
        )  # fmt: skip
        warmup = max(round(config.warmup * steps), 1)

        def rate(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            if not config.decay:
                return 1.0
            return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))

        self.optimiser = torch.optim.AdamW(
            sae.parameters(), config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, rate)
        self.idle = torch.zeros(sae.config.latents, dtype=torch.int64, device=sae.encoder.device)  # steps since firing

    def step(self, x: Tensor) -> Tensor:
        """Learn from x (n_modalities * batch, d), one modality after the other; its losses (n_modalities,)."""
        sae, config = self.sae, self.config
        x = sae.inputs(x.to(sae.encoder.device))
        precision = PRECISIONS[config.precision]
        with torch.autocast(x.device.type, precision, enabled=precision != x.dtype):
            values, latents, sparsity = sae.activate(x, training=True)
        x_hats = [sae.decode(values[:, :m], latents[:, :m]) for m in sae.activation.levels]
        loss, losses = reconstruction_loss(x_hats, x, self.n_modalities)
        loss = loss + sparsity
        if self.penalty:
            codes = zip(values.chunk(self.n_modalities), latents.chunk(self.n_modalities), strict=True)
            loss = loss + getattr(config, self.penalty) / processes.count() * PENALTIES[self.penalty](*codes)
        if config.aux_coefficient:
            self.idle += 1
            fired = torch.zeros_like(self.idle)
            fired[latents[values > 0]] = 1
            self.idle[processes.total(fired) > 0] = 0
            dead = torch.nonzero(self.idle >= self.patience).flatten()
            if len(dead):
                loss = loss + config.aux_coefficient * aux_loss(sae, x, x_hats[-1], dead)
        loss.backward()
        processes.add_gradients(list(sae.parameters()))
        clip(list(sae.parameters()), config.clip_norm)
        self.optimiser.step()
        self.optimiser.zero_grad()  # now, so that gradients are not held beside the next product
        self.schedule.step()
        sae.normalize_dictionary()
        return processes.total(torch.stack(losses).detach())


def train_sae(
    arrays: Sequence[np.ndarray],
    rows: Sequence[np.ndarray],
    sae: SparseAutoencoder,
    config: TrainingConfig,
    seed: int,
    progress: str | None = None,
    penalty: str = "",
) -> list[dict]:
    """Train `sae` in place on paired modalities; one modality is a list of one.

    arrays: per modality a (n_m, d) matrix (memory-mapped is fine); rows: per modality int (n_pairs,), the matrix row of
    each pair. The loss is the mean of the modalities' normalised losses, a batch being the same pairs in each, plus the
    one of `PENALTIES` that `penalty` names, if any. Returns one record per epoch and modality: `epoch`, `step`,
    `modality` (its position) and the mean training `loss`, of the reconstruction alone.
    """
    n_pairs = len(rows[0])
    batch = min(config.batch_size, max(n_pairs // 4, 2))
    if batch % processes.count():
        raise ValueError(f"batch_size: {batch} pairs cannot be shared evenly by {processes.count()} processes")
    if processes.count() > 1 and sae.config.activation not in BY_ROW:
        raise ValueError(
            f"activation: {sae.config.activation!r} depends on the whole batch, which {processes.count()} processes "
            f"do not see; one of {', '.join(BY_ROW)} is needed"
        )
    per_epoch = n_pairs // batch
    steps = max(config.epochs * per_epoch, config.min_steps)
    sae.to(config.device)
    arrays = [_on_device(array, config.device, len(arrays)) for array in arrays]
    trainer = Trainer(sae, config, steps, len(arrays), penalty, patience=per_epoch)
    generator = np.random.default_rng(seed)
    history, done = [], 0
    bar = tqdm(total=steps, desc=progress, disable=progress is None, mininterval=1)
    while done < steps:
        losses = []
        for x in islice(epoch(arrays, rows, batch, generator), steps - done):
            losses.append(trainer.step(processes.share(x, len(arrays))))
            bar.update()
        done += len(losses)
        means = torch.stack(losses).double().mean(0).tolist()
        history += [
            {"epoch": math.ceil(done / per_epoch), "step": done, "modality": i, "loss": loss}
            for i, loss in enumerate(means)
        ]
        bar.set_postfix(loss=f"{sum(means) / len(means):.4f}", refresh=False)
    bar.close()
    sae.to("cpu")
    if not all(torch.isfinite(parameter).all() for parameter in sae.parameters()):
        raise ValueError(f"learning_rate: training diverged to NaN at {config.learning_rate}; take a smaller one")
    return history


def _on_device(array: np.ndarray, device: str, n_arrays: int) -> np.ndarray | Tensor:
    """A matrix on the device whole, where `n_arrays` of its size leave half of the free memory there."""
    if device == "cpu" or 2 * n_arrays * array.nbytes > torch.cuda.mem_get_info()[0]:
        return array
    return torch.from_numpy(np.array(array)).to(device)


def train(
    method: str,
    arrays: Mapping[str, np.ndarray],
    rows: Mapping[str, np.ndarray],
    config: TrainingConfig,
    seed: int,
    progress: Callable[[str], str] | None = None,
) -> tuple[dict[str, SparseAutoencoder], pd.DataFrame]:
    """Train one method on paired modalities: the autoencoder of each modality, and the training curve.

    arrays: modality -> (n_m, d) unit-norm matrix; rows: modality -> int (n_pairs,), row i of each being one pair. With
    all but `separated` every modality maps to the same object. The total width is equal whatever the method. `progress`
    makes a progress bar's label of a modality's name. Raises ValueError for an unknown method or activation, a k above
    the latents, or a penalty on one modality.
    """
    if method not in METHODS:
        raise ValueError(f"method: {method!r} is unknown; one of {', '.join(METHODS)}")
    modalities = list(arrays)
    if method in PENALTIES and len(modalities) < 2:
        raise ValueError(f"method: {method!r} compares the codes of modalities; 1 found in `arrays`, 2 are needed")
    groups = [[modality] for modality in modalities] if method == "separated" else [modalities]
    dim = arrays[modalities[0]].shape[1]
    total = config.latents or dictionary_size(len(rows[modalities[0]]), dim)
    saes, history = {}, []
    for position, group in enumerate(groups):
        # each autoencoder of a seed starts elsewhere, and no two seeds share a start
        sae_config = SAEConfig(dim, total // len(groups), config.k, config.normalize, config.activation)
        sae = SparseAutoencoder(sae_config, seed=1000 * seed + position)
        label = progress(" + ".join(group)) if progress else None
        penalty = method if method in PENALTIES else ""
        records = train_sae([arrays[m] for m in group], [rows[m] for m in group], sae, config, seed, label, penalty)
        history += [record | {"modality": group[record["modality"]]} for record in records]
        saes |= dict.fromkeys(group, sae)
    return saes, pd.DataFrame(history)


def train_or_load(
    folder: Path,
    method: str,
    arrays: Mapping[str, np.ndarray],
    rows: Mapping[str, np.ndarray],
    config: TrainingConfig,
    seed: int,
    data_hash: str,
    progress: Callable[[str], str] | None = None,
) -> tuple[dict[str, SparseAutoencoder], pd.DataFrame]:
    """`train`, kept in `folder`: what was trained with the same settings on the same data is read back instead.

    `data_hash` names the data (a store's manifest has it). The folder appears under its name only when it is whole.
    """
    if _settings(folder) == _describe(method, config, seed, data_hash):
        return load(folder, data_hash)
    files.check_free(folder, CHECKPOINT)  # before hours of training
    saes, history = train(method, arrays, rows, config, seed, progress)
    save(folder, saes, history, method, config, seed, data_hash)
    return saes, history


def save(
    folder: Path,
    saes: Mapping[str, SparseAutoencoder],
    history: pd.DataFrame,
    method: str,
    config: TrainingConfig,
    seed: int,
    data_hash: str,
) -> None:
    """Keep what `train` gave in `folder`, whole or not at all, with all that decides its bytes."""
    places = {id(sae): "+".join(m for m in saes if saes[m] is sae) for sae in saes.values()}
    about = {"settings": _describe(method, config, seed, data_hash)}
    about["modalities"] = {modality: places[id(sae)] for modality, sae in saes.items()}
    with files.folder(folder, CHECKPOINT) as partial:
        for sae in {id(own): own for own in saes.values()}.values():
            sae.save(partial / places[id(sae)])
        history.to_csv(partial / "history.csv", index=False)
        files.seal(partial, CHECKPOINT, about)


def _describe(method: str, config: TrainingConfig, seed: int, data_hash: str) -> dict:
    """All that decides the bytes of a training."""
    about = {"method": method, "seed": seed, "data": data_hash, "threads": torch.get_num_threads()}
    if processes.count() > 1:
        about["processes"] = processes.count()
    return about | asdict(config)


def load(folder: Path, data_hash: str) -> tuple[dict[str, SparseAutoencoder], pd.DataFrame]:
    """What `train_or_load` kept: the autoencoder of each modality, and the training curve.

    Raises FileNotFoundError where nothing is kept, ValueError where it was trained on other data or was altered.
    """
    folder = Path(folder)
    settings = _settings(folder)
    if settings is None:
        raise FileNotFoundError(f"{folder}: no trained autoencoders; notebook 02_sae_training makes them")
    if settings["data"] != data_hash:
        raise ValueError(f"{folder}: trained on other embeddings than the store now holds; run 02_sae_training again")
    about = files.opened(folder, CHECKPOINT)
    return load_saes(folder, CHECKPOINT, about), pd.read_csv(folder / "history.csv")


def load_saes(folder: Path, kind: files.Kind, about: Mapping[str, Any]) -> dict[str, SparseAutoencoder]:
    """The autoencoder of each modality in a folder whose marker says where they are, as `modalities`.

    Raises ValueError where it says no such thing, or as `SparseAutoencoder.load` does.
    """
    places = about.get("modalities")
    whole = isinstance(places, dict) and bool(places)
    if not whole or any(f"{place}/{SparseAutoencoder.KIND.marker}" not in about["files"] for place in places.values()):
        raise ValueError(f"{folder / kind.marker}: `modalities` must say whose folder is which, {places!r:.60} found")
    loaded = {place: SparseAutoencoder.load(folder / place) for place in sorted(set(places.values()))}
    if len({(sae.config.dim, sae.config.latents) for sae in loaded.values()}) > 1:
        raise ValueError(f"{folder}: its autoencoders are not of one d and one number of latents")
    return {modality: loaded[place] for modality, place in places.items()}


def _settings(folder: Path) -> dict | None:
    try:
        settings = files.opened(folder, CHECKPOINT, hashed=False).get("settings")
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{error}; move {folder} away to train again") from None
    if not isinstance(settings, dict) or "data" not in settings:
        raise ValueError(f"{folder / CHECKPOINT.marker}: `settings` do not say of which data; train again")
    return settings
