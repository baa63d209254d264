"""Zero-shot classification in code space: image codes against the codes of prompted classes (paper, main table).

A class is a set of prompts. Their text embeddings are averaged and normalised (`xsae.data.classes`), then encoded by
the text SAE, and the class whose code has the largest cosine with the image's is the answer. An image that holds
several objects has several right classes, any of which is a right answer. `xsae.evaluation.variants` has what is
compared; the released code leaves out the latents that fire on more than half of the images.
"""

from collections.abc import Collection, Sequence

import numpy as np
from scipy import sparse

from xsae.evaluation._ranking import Rows, hit_probability, pessimistic_ranks, unit_rows


def accuracy(
    images: Rows, classes: Rows, labels: Sequence[int | Collection[int]], ks: Sequence[int] = (1, 5)
) -> dict[str, float]:
    """Accuracy under pessimistic ranks: `summary` of `ranks`, whose arguments and errors these are."""
    return summary(*ranks(images, classes, labels), ks)


def ranks(images: Rows, classes: Rows, labels: Sequence[int | Collection[int]]) -> tuple[np.ndarray, np.ndarray]:
    """The pessimistic rank of every image's best right class, and whether that class is tied.

    rank = 1 + number of wrong classes whose cosine reaches that of the best right class (within 1e-6). An image is
    right at k if rank <= k, that is, if any of its classes is sure of a place among its k first.

    Args:
        images: (n, L) codes, sparse, or dense embeddings. A row of zeros has cosine 0 to everything.
        classes: (c, L) likewise.
        labels: (n,) what holds in each image: a row of `classes`, or a set of rows.

    Returns:
        ranks (n,) int64, from 1; tied (n,) bool, ties with at least one wrong class.

    Raises:
        ValueError: sizes do not fit, a value is not finite, or an image has no class or an unknown one.
    """
    if images.ndim != 2 or classes.ndim != 2 or images.shape[1] != classes.shape[1]:
        raise ValueError(f"accuracy: images has shape {images.shape} and classes {classes.shape}; widths must agree")
    right = _right_classes(labels, classes.shape[0])
    if images.shape[0] != len(labels):
        raise ValueError(f"accuracy: {len(labels)} labels for {images.shape[0]} images; one per row is needed")
    return pessimistic_ranks(
        unit_rows(images, "accuracy: images"),
        unit_rows(classes, "accuracy: classes"),
        lambda rows: right[rows].toarray(),
    )


def summary(ranks: np.ndarray, tied: np.ndarray, ks: Sequence[int] = (1, 5)) -> dict[str, float]:
    """`top-k` for each k >= 1, the share of images whose rank is at most k; `tie_rate`."""
    if any(k < 1 for k in ks):
        raise ValueError(f"zeroshot: ks is {tuple(ks)}; every k must be at least 1")
    return {f"top-{k}": float(np.mean(ranks <= k)) for k in ks} | {"tie_rate": float(tied.mean())}


def chance(labels: Sequence[int | Collection[int]], n_classes: int, ks: Sequence[int] = (1, 5)) -> dict[str, float]:
    """Expected `top-k` of answers drawn uniformly at random, exactly.

    An image with m right classes among c misses with the hypergeometric probability C(c-m, k) / C(c, k); the result is
    the mean over images. Arguments and errors as for `accuracy`.
    """
    if any(k < 1 for k in ks):
        raise ValueError(f"zeroshot: ks is {tuple(ks)}; every k must be at least 1")
    right = _right_classes(labels, n_classes).count_nonzero(axis=1)
    return {f"top-{k}": hit_probability(right, n_classes, k) for k in ks}


def _right_classes(labels: Sequence[int | Collection[int]], n_classes: int) -> sparse.csr_array:
    """The labels as a bool (n, c) array."""
    if len(labels) == 0:
        raise ValueError("zeroshot: labels is empty; at least one image is needed")
    sets = [sorted(set(classes)) if isinstance(classes, Collection) else [classes] for classes in labels]
    for row, classes in enumerate(sets):
        if not classes:
            raise ValueError(f"zeroshot: labels has no class in row {row}; leave images without one out")
        if classes[0] < 0 or classes[-1] >= n_classes:
            raise ValueError(f"zeroshot: labels has {classes} in row {row}; classes are 0..{n_classes - 1}")
    columns = np.concatenate(sets)
    pointers = np.cumsum([0, *map(len, sets)])
    return sparse.csr_array((np.ones(len(columns), bool), columns, pointers), shape=(len(sets), n_classes))
