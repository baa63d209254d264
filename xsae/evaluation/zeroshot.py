"""Zero-shot classification in code space: image codes against the codes of prompted classes (paper, main table).

A class is a set of prompts. Their text embeddings are averaged and normalised (`xsae.classes`), then encoded by
the text SAE, and the class whose code has the largest cosine with the image's is the answer. An image that holds
several objects has several right classes, any of which is a right answer. The paper reports two variants: raw, and
without the latents that fire on more than half of the images, whose columns are then left out of both:

    kept = drop_frequent(image_codes)
    accuracy(image_codes[:, kept], class_codes[:, kept], labels)
"""

from collections.abc import Collection, Sequence

import numpy as np
from scipy import sparse

from xsae.evaluation._ranking import Rows, hit_probability, pessimistic_ranks, unit_rows

FREQUENT = 0.5  # a latent that fires on a larger share of the images than this tells none of them apart


def drop_frequent(codes_reference: sparse.csr_array) -> np.ndarray:
    """Which latents stay: (L,) bool, false for those that fire on more than half of the rows of codes (n, L).

    Raises:
        ValueError: there is no row.
    """
    if codes_reference.shape[0] == 0:
        raise ValueError("drop_frequent: codes_reference has 0 rows; how often a latent fires needs some")
    return codes_reference.count_nonzero(axis=0) <= FREQUENT * codes_reference.shape[0]


def accuracy(
    images: Rows, classes: Rows, labels: Sequence[int | Collection[int]], ks: Sequence[int] = (1, 5)
) -> dict[str, float]:
    """Accuracy under pessimistic ranks.

    rank = 1 + number of wrong classes whose cosine reaches that of the best right class (within 1e-6). An image is
    right at k if rank <= k, that is, if any of its classes is sure of a place among its k first.

    Args:
        images: (n, L) codes, sparse, or dense embeddings. A row of zeros has cosine 0 to everything.
        classes: (c, L) likewise.
        labels: (n,) what holds in each image: a row of `classes`, or a set of rows.
        ks: cut-offs, at least 1.

    Returns:
        `top-k` for each k (shares in [0, 1]); `tie_rate`, the share of images whose best right class ties with at
        least one wrong class.

    Raises:
        ValueError: sizes do not fit, a value is not finite, a k is below 1, or an image has no class or an unknown one.
    """
    if images.ndim != 2 or classes.ndim != 2 or images.shape[1] != classes.shape[1]:
        raise ValueError(f"accuracy: images has shape {images.shape} and classes {classes.shape}; widths must agree")
    right = _right_classes(labels, classes.shape[0], ks)
    if images.shape[0] != len(labels):
        raise ValueError(f"accuracy: {len(labels)} labels for {images.shape[0]} images; one per row is needed")
    ranks, tied = pessimistic_ranks(
        unit_rows(images, "accuracy: images"),
        unit_rows(classes, "accuracy: classes"),
        lambda rows: right[rows].toarray(),
    )
    return {f"top-{k}": float(np.mean(ranks <= k)) for k in ks} | {"tie_rate": float(tied.mean())}


def chance(labels: Sequence[int | Collection[int]], n_classes: int, ks: Sequence[int] = (1, 5)) -> dict[str, float]:
    """Expected `top-k` of answers drawn uniformly at random, exactly.

    An image with m right classes among c misses with the hypergeometric probability C(c-m, k) / C(c, k); the result is
    the mean over images. Arguments and errors as for `accuracy`.
    """
    right = _right_classes(labels, n_classes, ks).count_nonzero(axis=1)
    return {f"top-{k}": hit_probability(right, n_classes, k) for k in ks}


def _right_classes(labels: Sequence[int | Collection[int]], n_classes: int, ks: Sequence[int]) -> sparse.csr_array:
    """The labels as a bool (n, c) array."""
    if len(labels) == 0:
        raise ValueError("zeroshot: labels is empty; at least one image is needed")
    if any(k < 1 for k in ks):
        raise ValueError(f"zeroshot: ks is {tuple(ks)}; every k must be at least 1")
    sets = [sorted(set(own)) if isinstance(own, Collection) else [own] for own in labels]
    for row, own in enumerate(sets):
        if not own:
            raise ValueError(f"zeroshot: labels has no class in row {row}; leave images without one out")
        if own[0] < 0 or own[-1] >= n_classes:
            raise ValueError(f"zeroshot: labels has {own} in row {row}; classes are 0..{n_classes - 1}")
    columns = np.concatenate(sets)
    pointers = np.cumsum([0, *map(len, sets)])
    return sparse.csr_array((np.ones(len(columns), bool), columns, pointers), shape=(len(sets), n_classes))
