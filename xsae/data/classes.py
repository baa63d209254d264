"""The classes of zero-shot classification: images to classify, and an embedding for each class.

They are a store like any other, whose texts are the classes and whose pairs join an image with each class that is
right for it. All of it is held out. In an `.npz` of your own, beside at least `image` and `text`, they are three
arrays, all or none:

    class_text (c, d)     an embedding per class: the unit-norm mean of its prompts' (`average_templates`)
    class_image (p, d)    the images to classify
    class_label (p,)      int, the row of `class_text` that is right for each image
"""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from xsae.data.checks import checked
from xsae.data.npz import read_arrays
from xsae.data.store import EmbeddingStore, write_store

ARRAYS = ("class_text", "class_image", "class_label")


def average_templates(embeddings: np.ndarray) -> np.ndarray:
    """One embedding per class: the unit-norm mean of its prompts' unit-norm embeddings (Radford et al. 2021, 3.1.4).

    Args:
        embeddings: (c, t, d), the text embeddings of t prompts for each of c classes. Rows are normalised here.

    Returns:
        (c, d) float32 unit rows.

    Raises:
        ValueError: another number of axes, no prompt, or an embedding, or a class's mean, is zero or not finite.
    """
    if embeddings.ndim != 3 or 0 in embeddings.shape:
        raise ValueError(
            f"average_templates: embeddings has shape {embeddings.shape}; (classes, templates, d) is needed"
        )
    c, t, d = embeddings.shape
    prompts = checked("average_templates: embeddings of the prompts", embeddings.reshape(c * t, d)).astype(np.float64)
    mean = (prompts / np.linalg.norm(prompts, axis=1, keepdims=True)).reshape(c, t, d).mean(axis=1)
    mean[np.linalg.norm(mean, axis=1) < 1e-6] = 0  # prompts that cancel leave a residue of rounding, no direction
    mean = checked("average_templates: means of the classes", mean)
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def write_classes(
    path: Path, images: np.ndarray, classes: np.ndarray, labels: Sequence[Collection[int]], *, model: str, source: str
) -> EmbeddingStore:
    """Write images (p, d) and classes (c, d) as a store. labels: p collections of rows of `classes`.

    Raises ValueError as `write_store` does.
    """
    owner = np.repeat(np.arange(len(labels)), [len(several) for several in labels])
    right = np.array([row for several in labels for row in sorted(several)], np.int64)
    pairs = pd.DataFrame({"image": owner, "text": right, "split": "test"})
    return write_store(path, {"image": images, "text": classes}, pairs, model=model, source=source)


def read_classes(file: Path, modalities: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Read and check the classes of your own `.npz`: the three arrays, or none.

    modalities: those that the file is read for (`read_npz`); where `image` and `text` are not among them, it has none.

    Raises FileNotFoundError or ValueError, one line naming the file and what is wrong.
    """
    arrays = {} if modalities and not {"image", "text"} <= set(modalities) else read_arrays(file, ARRAYS)
    if not arrays:
        return {}
    embeddings = read_arrays(file, ("image", "text"))
    if missing := [name for name in (*ARRAYS, "image", "text") if name not in arrays | embeddings]:
        raise ValueError(f"{file}: array `{missing[0]}` is missing; zero-shot needs {', '.join(ARRAYS)}, image, text")
    for name in ARRAYS:
        if not arrays[name].size:
            raise ValueError(
                f"{file}: {name} is empty, of shape {arrays[name].shape}; leave out all of {', '.join(ARRAYS)}"
            )
    for name in ARRAYS[:2]:
        try:
            checked(name, arrays[name])
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None
        if arrays[name].shape[1] != embeddings["image"].shape[1]:
            raise ValueError(
                f"{file}: {name} has {arrays[name].shape[1]} dimensions, image {embeddings['image'].shape[1]}"
            )
    classes, images, label = (arrays[name] for name in ARRAYS)
    if label.shape != (len(images),) or not np.issubdtype(label.dtype, np.integer):
        raise ValueError(f"{file}: class_label is {label.dtype} {label.shape}; integers ({len(images)},) are needed")
    if label.min() < 0 or label.max() >= len(classes):
        raise ValueError(
            f"{file}: class_label goes from {label.min()} to {label.max()}; 0 to {len(classes) - 1} is valid"
        )
    return arrays


def import_classes(path: Path, file: Path, modalities: Sequence[str] = ()) -> EmbeddingStore | None:
    """Make a store of the classes of your own `.npz`; None where it holds none, as `read_classes` reads it."""
    arrays = read_classes(file, modalities)
    if not arrays:
        return None
    classes, images, label = (arrays[name] for name in ARRAYS)
    return write_classes(path, images, classes, label[:, None], model="own embeddings", source=Path(file).name)
