"""How many pictograms a linear probe on an image embedding tells from all others, of the encoders that ship.

    python -m benchmarks.probe

For each pictogram a linear regression, with a ridge of 1, of whether a scene holds it on the scene's unit-norm
embedding. Told are those whose area under the ROC curve is at least .95 on scenes that no regression has seen, and that
`LEAST` of these hold. All scenes are others than those that encoders and autoencoders learn from.
"""

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from benchmarks.measure import write
from xsae.data import drawing, scenes
from xsae.data.pictograms import pictograms
from xsae.data.scene_encoders import BACKBONES, embed_images, load
from xsae.run.pool import run

SEEDS = range(100, 124)  # of as many parts of the scenes; a third of the parts is held out
SIZE, LEAST, TOLD = 2500, 10, 0.95


def embedded(seed: int) -> tuple[np.ndarray, ...]:
    """A part of the scenes: which pictograms each holds, bool (n, icons), and an embedding (n, d) of each backbone."""
    drawn = scenes.sample(SIZE, seed)
    held = np.zeros((SIZE, len(pictograms()) + 1), dtype=bool)
    held[np.arange(SIZE)[:, None], drawn.icon] = True  # an empty slot is -1, the column that is left out
    return held[:, :-1], *embed_images([load(name) for name in BACKBONES], drawing.batches(drawn), SIZE)


def areas(x: np.ndarray, held: np.ndarray, train: int) -> np.ndarray:
    """The area under the ROC curve (icons,) of each label `held` on the rows of x (n, d) from `train` on, ties counting
    half; NaN where fewer than `LEAST` of them hold it."""
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    x, y = x - x[:train].mean(axis=0), held.astype(np.float32)
    seen = x[:train]
    weights = np.linalg.solve(seen.T @ seen + np.eye(x.shape[1]), seen.T @ (y[:train] - y[:train].mean(axis=0)))
    ranks, positive = rankdata(x[train:] @ weights, axis=0), held[train:]
    n = positive.sum(axis=0)
    ahead = (ranks * positive).sum(axis=0) - n * (n + 1) / 2
    return np.where(n < LEAST, np.nan, ahead / np.maximum(n * (len(positive) - n), 1))


def main() -> None:
    held, *embeddings = map(np.concatenate, zip(*run(embedded, [(seed,) for seed in SEEDS], "scenes"), strict=True))
    train, lines = len(held) * 2 // 3, []
    for name, x in zip(BACKBONES, embeddings, strict=True):
        found = areas(x, held, train)
        told = int((found >= TOLD).sum())
        lines.append({"backbone": name, "pictograms": len(found), "told": told, "median": np.nanmedian(found)})
    write(pd.DataFrame(lines), "probe")


if __name__ == "__main__":
    main()
