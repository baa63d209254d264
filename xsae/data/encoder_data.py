"""What the scene encoders are trained on: shards of drawn scenes with their captions as tokens, made by all cores.

A shard is a safetensors file and a pure function of its number, so that an interrupted drawing goes on where it stopped
and two encoders read the same files.
"""

import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tqdm.auto import tqdm

from xsae.data import captions, drawing, scenes
from xsae.data.captions import CAPTIONS_PER_IMAGE
from xsae.data.pictograms import pictograms
from xsae.data.tokenizer import Tokenizer
from xsae.disk import files

SHARD = 5_000  # scenes; the last shard has what is left
_FIRST_SEED = 10_000  # of shard 0; the scenes that autoencoders see have smaller seeds
_TABLES = (len(pictograms()), len(scenes.COLOURS), len(scenes.BACKGROUNDS), len(scenes.WEATHERS))
N_LABELS = sum(_TABLES)


def labels(world: scenes.Scenes) -> np.ndarray:
    """The labels of each scene as codes: int16 (n, 12), in [0, N_LABELS), or N_LABELS where there is no object.

    First come the pictograms, then colours, backgrounds and weathers.
    """
    starts = np.cumsum((0, *_TABLES))
    columns = (world.icon, world.colour, world.background[:, None], world.weather[:, None])
    codes = [np.where(column < 0, N_LABELS, column + start) for column, start in zip(columns, starts, strict=False)]
    return np.concatenate(codes, axis=1).astype(np.int16)


def draw_shard(folder: Path, number: int, size: int) -> Path:
    """Write shard `number`: `images` uint8 (n, 64, 64, 3), `tokens` int16 (n, 5, 28), `labels` int16 (n, 12)."""
    path = folder / f"shard-{number:04d}-{size}.safetensors"
    if not path.is_file():
        world = scenes.sample(size, _FIRST_SEED + number)
        texts, _ = captions.captions(world, CAPTIONS_PER_IMAGE, _FIRST_SEED + number)
        tokens = Tokenizer()([text for of_image in texts for text in of_image]).astype(np.int16)
        arrays = {
            "images": np.concatenate(list(drawing.batches(world))),
            "tokens": tokens.reshape(size, CAPTIONS_PER_IMAGE, -1),
            "labels": labels(world),
        }
        with files.file(path) as partial_path:
            save_file(arrays, partial_path)
    return path


def draw(folder: Path, n_scenes: int, processes: int | None = None) -> list[Path]:
    """The shards that hold `n_scenes` scenes, drawn by all cores where they are not there yet."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    sizes = [min(SHARD, n_scenes - first) for first in range(0, n_scenes, SHARD)]
    with ProcessPoolExecutor(processes or os.cpu_count(), mp_context=get_context("spawn")) as pool:
        made = pool.map(partial(draw_shard, folder), range(len(sizes)), sizes)
        return list(tqdm(made, "draw", len(sizes), mininterval=5))
