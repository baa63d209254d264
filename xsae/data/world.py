"""The embedded world as stores: the scenes of each split, their captions and labels, embedded with every backbone."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import open_clip
import pandas as pd
from tqdm.auto import tqdm

from xsae.data import captions, drawing, scene_encoders, scenes
from xsae.data.captions import CAPTIONS_PER_IMAGE
from xsae.data.classes import average_templates, write_classes
from xsae.data.store import STORE, EmbeddingStore, write_store
from xsae.disk import files


def draw(n_train: int, n_test: int) -> tuple[dict[str, scenes.Scenes], pd.DataFrame]:
    """The embedded world: the scenes of each split, and its pairs, five captions to an image.

    The pairs' columns: `image`, `text` (matrix rows, train first), `split`, `caption`, `mentions` (labels that the
    caption names) and `concepts` (labels that hold in the image).
    """
    splits, frames, images, told = {}, [], 0, 0
    for split, n in (("train", n_train), ("test", n_test)):
        splits[split] = scenes.sample(n, scenes.SPLIT_SEEDS[split])
        texts, mentions = captions.captions(splits[split], CAPTIONS_PER_IMAGE, scenes.SPLIT_SEEDS[split])
        concepts = [splits[split].concepts(row) for row in range(n)]
        owner = np.repeat(np.arange(n), CAPTIONS_PER_IMAGE)
        frames.append(
            pd.DataFrame(
                {
                    "image": images + owner,
                    "text": told + np.arange(len(owner)),
                    "split": split,
                    "caption": [text for of_image in texts for text in of_image],
                    "mentions": [labels for named in mentions for labels in named],
                    "concepts": [concepts[row] for row in owner],
                }
            )
        )
        images, told = images + n, told + len(owner)
    return splits, pd.concat(frames, ignore_index=True)


def embed(
    folders: Mapping[str, Path], n_train: int, n_test: int, weights: Path = scene_encoders.WEIGHTS
) -> dict[str, EmbeddingStore]:
    """Draw the world once and embed it with every backbone: backbone -> store, written to `folders[backbone]`.

    Each store's `classes` holds the test images with the classes of `captions.prompts` that are right for them.
    `weights` is the folder of the encoders' weights. Raises ValueError or FileNotFoundError for an unknown backbone.
    """
    for folder in folders.values():
        files.check_free(folder, STORE)  # before minutes of drawing
    models: dict[str, open_clip.CLIP] = {name: scene_encoders.load(name, weights) for name in folders}
    splits, pairs = draw(n_train, n_test)
    total = sum(-(-len(scenes) // drawing.BATCH) for scenes in splits.values())
    drawn = (batch for scenes in splits.values() for batch in drawing.batches(scenes))
    bar = tqdm(drawn, "draw and embed scenes", total)
    images = scene_encoders.embed_images(list(models.values()), bar, n_train + n_test)
    prompts = captions.prompts()
    place = {label: row for row, label in enumerate(prompts)}
    labels = [
        {place[label] for label in splits["test"].concepts(row) if label in place} for row in range(len(splits["test"]))
    ]
    stores = {}
    for (name, model), image in zip(tqdm(models.items(), "embed captions"), images, strict=True):
        stores[name] = write_store(
            folders[name],
            {"image": image, "text": scene_encoders.embed_texts(model, pairs["caption"].tolist())},
            pairs,
            model=f"xsae {name}",
            source=f"scenes, {n_train} train and {n_test} test images, {CAPTIONS_PER_IMAGE} captions each",
        )
        asked = scene_encoders.embed_texts(model, [text for texts in prompts.values() for text in texts])
        write_classes(
            folders[name] / "classes",
            image[n_train:],
            average_templates(asked.reshape(len(prompts), -1, asked.shape[1])),
            labels,
            model=f"xsae {name}",
            source=f"every pictogram, {len(prompts)} classes",
        )
    return stores
