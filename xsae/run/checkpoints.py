"""What is trained, kept on disk: the one format of a training's checkpoint.

<folder>/<modality or modalities>/   an autoencoder each (`SparseAutoencoder.save`)
<folder>/history.csv                 the training curve
<folder>/training.json               all that decides these bytes, whose autoencoder is where, every file's sha256
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from xsae.compute import processes
from xsae.disk import files, markers
from xsae.methods import METHODS, load_saes, save_saes, train_saes
from xsae.sae import SparseAutoencoder
from xsae.training import TrainingConfig

CHECKPOINT = markers.Kind("training's checkpoint", "training.json", "xsae.training.1")


def train_or_load(
    folder: Path,
    method: str,
    arrays: Mapping[str, np.ndarray],
    rows: Mapping[str, np.ndarray],
    config: TrainingConfig,
    seed: int,
    data_hash: str,
    progress: str | None = None,
) -> tuple[dict[str, SparseAutoencoder], pd.DataFrame]:
    """`train_saes`, kept in `folder`: what was trained with the same settings on the same data is read back instead.

    `data_hash` names the data (a store's manifest has it). The folder appears under its name only when it is whole.
    """
    if is_trained(folder, method, config, seed, data_hash):
        return load(folder, data_hash)
    files.check_free(folder, CHECKPOINT)  # before hours of training
    saes, history = train_saes(method, arrays, rows, config, seed, progress)
    save(folder, saes, history, method, config, seed, data_hash)
    return saes, history


def is_trained(folder: Path, method: str, config: TrainingConfig, seed: int, data_hash: str) -> bool:
    """Whether `folder` holds what was trained with these settings on these data."""
    return _settings(folder) == _describe(method, config, seed, data_hash)


def save(
    folder: Path,
    saes: Mapping[str, SparseAutoencoder],
    history: pd.DataFrame,
    method: str,
    config: TrainingConfig,
    seed: int,
    data_hash: str,
) -> None:
    """Keep what `train_saes` gave in `folder`, whole or not at all, with all that decides its bytes."""
    about = {"settings": _describe(method, config, seed, data_hash)}
    with files.folder(folder, CHECKPOINT) as partial:
        about["modalities"] = save_saes(partial, saes)
        history.to_csv(partial / "history.csv", index=False)
        markers.seal(partial, CHECKPOINT, about)


def _describe(method: str, config: TrainingConfig, seed: int, data_hash: str) -> dict:
    """All that decides what a training gives; the weight of a penalty does for its own method alone."""
    about = {"method": method, "seed": seed, "data": data_hash}
    if processes.count() > 1:
        about["processes"] = processes.count()
    return about | {name: value for name, value in asdict(config).items() if name not in METHODS or name == method}


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
    about = markers.opened(folder, CHECKPOINT)
    return load_saes(folder, CHECKPOINT, about), pd.read_csv(folder / "history.csv")


def fingerprint(folder: Path) -> str:
    """sha256 of all that a checkpoint holds: settings, weights and training curve. Errors as `load` has them."""
    return markers.digest(markers.opened(folder, CHECKPOINT, hashed=False))


def _settings(folder: Path) -> dict | None:
    try:
        settings = markers.opened(folder, CHECKPOINT, hashed=False).get("settings")
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{error}; move {folder} away to train again") from None
    if not isinstance(settings, dict) or "data" not in settings:
        raise ValueError(f"{folder / CHECKPOINT.marker}: `settings` do not say of which data; train again")
    return settings
