"""Directions of concepts from labels: claim 1 measured where the truth is known (paper, Fig. 2, without any SAE).

    x_i ≈ a + Σ_c b_c · [row i carries c]        least squares, all concepts together
    direction of c in a modality                 b_c / ‖b_c‖

The paper reads directions off trained dictionaries, so that an unlike direction may be a latent that learnt something
else. Here labels say what a row carries, and only noise is left to tell apart from heterogeneity: that is what the
split halves of `concept_cosines` are for.

What labels cannot identify. If each row carries exactly one of several concepts (one background of sixteen), adding one
vector to all their b_c and taking it from a changes nothing. The minimum-norm solution makes their b_c sum to zero: the
direction of such a concept then points from the mean of the others to it.
"""

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
from scipy import sparse

from xsae.evaluation._ranking import unit_directions

Labels = Sequence[Collection[str]]
_FOLLOWING = "topic:"  # labels that follow from others: a pictogram's topic does from the pictogram
_COLUMNS = ("concept", "cosine", "split_half_image", "split_half_text", "ceiling", "n_image", "n_text")
_RCOND = 1e-10  # eigenvalues of the indicators' scatter below this share of the largest are rounding
_BLOCK = 65536  # rows that are float64 at one time: 268 MB at 512 dimensions


def concept_directions(x: np.ndarray, labels: Labels, concepts: Sequence[str]) -> np.ndarray:
    """Unit direction of each concept: its coefficients in the regression of the embeddings on all concepts' presence.

    All concepts together, so that one that often comes with another does not inherit its direction. Minimum-norm where
    the labels leave a choice: the module's docstring says what this means for concepts that exclude each other. Two
    concepts that are always together get one direction, for labels cannot tell them apart.

    Leave out concepts that follow from others ("red star" beside "red" and "star"): what is left of "red" is then only
    what no red star, red ring, ... accounts for.

    Args:
        x: (n, d) embeddings of one modality.
        labels: per row the concepts that it carries; others than `concepts` are ignored.
        concepts: c different ones.

    Returns:
        (c, d) float64 unit rows, in the order of `concepts`.

    Raises:
        ValueError: sizes do not fit, x holds NaN or infinity, there is no concept or one twice, or a concept is carried
            by no row or by every row, or nothing of x varies with it.
    """
    presence = presence_of(labels, concepts)
    _check(x, presence, "concept_directions: x")
    if len(concepts) == 0 or len(set(concepts)) != len(concepts):
        raise ValueError(f"concept_directions: concepts is {list(concepts)}; at least one is needed, and none twice")
    counts = presence.sum(axis=0)
    for concept, count in zip(concepts, counts, strict=True):
        if count in (0, len(x)):
            raise ValueError(
                f"concept_directions: {int(count)} of {len(x)} rows carry {concept!r}; some must, and some must not"
            )
    coefficients, _ = _regression(x, presence)
    return unit_directions(coefficients, "concept_directions: coefficients of concepts")


def concept_cosines(
    image: np.ndarray, text: np.ndarray, image_labels: Labels, text_labels: Labels, seed: int, least: int = 50
) -> pd.DataFrame:
    """Cosine of each concept's image direction with its text direction, beside the most that noise leaves to be seen.

    An estimated direction is the true one plus noise, and noise lowers a cosine. How much is measured within each
    modality: its rows are split at random into two halves, each row in one of them, and r is the cosine of the two
    halves' directions. Spearman and Brown's formula turns r into the reliability of the direction from all rows, which
    are twice as many; if the true directions were equal, the cosine of the estimates would be

        ceiling = sqrt(ρ_image · ρ_text),    ρ = 2 r / (1 + r),    r clipped to [0, 1].

    `cosine / ceiling` estimates the cosine of the true directions. It may pass 1 by its own noise, and means little
    where the ceiling is low: 0 where two halves have nothing in common.

    What the labels of one modality cannot identify is taken out of both: every image has one of the backgrounds but not
    every caption names one, so that only the differences between backgrounds can be compared.

    Args:
        image: (n, d) embeddings.
        text: (m, d) embeddings; no row need belong to a row of `image`.
        image_labels: per row of `image` the concepts that it carries.
        text_labels: likewise for `text`. Leave out those that follow from others, as in `concept_directions`.
        seed: of the halves.
        least: a concept counts if, in each half of each modality, this many rows carry it and this many do not.

    Returns:
        One row per concept, sorted: `concept`, `cosine`, `split_half_image` and `split_half_text` (the r above, not
        clipped), `ceiling`, `n_image` and `n_text` (rows that carry it).

    Raises:
        ValueError: sizes do not fit, an embedding is not finite, `least` is below 1, or no concept has that many rows.
    """
    concepts = sorted(set().union(*image_labels) & set().union(*text_labels))
    rng = np.random.default_rng(seed)
    sides, counted = [], np.ones(len(concepts), dtype=bool)
    if least < 1:
        raise ValueError(f"concept_cosines: least is {least}; at least 1 row must carry a concept")
    for x, labels, name in ((image, image_labels, "image"), (text, text_labels, "text")):
        presence = presence_of(labels, concepts)
        _check(x, presence, f"concept_cosines: {name}")
        halves = np.array_split(rng.permutation(len(x)), 2)
        for half in halves:
            carry = presence[half].sum(axis=0)
            counted &= (carry >= least) & (len(half) - carry >= least)
        sides.append((x, presence, halves))
    if image.shape[1] != text.shape[1]:
        raise ValueError(f"concept_cosines: image has {image.shape[1]} dimensions and text {text.shape[1]}")
    if not counted.any():
        raise ValueError(
            f"concept_cosines: of {len(concepts)} concepts in both image_labels and text_labels none is carried, and "
            f"left out, by {least} rows of each half of each modality; more rows or a smaller least are needed"
        )

    fits = [
        [_regression(x[rows], presence[rows][:, counted]) for rows in (slice(None), *halves)]
        for x, presence, halves in sides
    ]
    comparable = _intersection([identified for fit in fits for _, identified in fit])
    what = "concept_cosines: coefficients of concepts"
    (of_image, *image_halves), (of_text, *text_halves) = (
        [unit_directions(comparable @ coefficients, what) for coefficients, _ in fit] for fit in fits
    )
    split_image, split_text = _cosines(*image_halves), _cosines(*text_halves)
    n_image, n_text = (presence.sum(axis=0)[counted].astype(np.int64) for _, presence, _ in sides)
    return pd.DataFrame(
        {
            "concept": np.array(concepts)[counted],
            "cosine": _cosines(of_image, of_text),
            "split_half_image": split_image,
            "split_half_text": split_text,
            "ceiling": np.sqrt(_reliability(split_image) * _reliability(split_text)),
            "n_image": n_image,
            "n_text": n_text,
        }
    )


def labelled_concepts(
    image: np.ndarray, text: np.ndarray, pairs: pd.DataFrame, seed: int = 0, least: int = 10, ceiling: float = 0.7
) -> pd.DataFrame:
    """`concept_cosines` of the concepts that labels name: whether a known concept has one direction in two modalities.

    Image directions come from what images hold, each image once; text directions from what captions name, each caption
    once. Topics are left out, for they follow from the pictograms.

    Args:
        image: (n, d) embeddings. text: (m, d).
        pairs: with `image` and `text`, the rows of a pair; `concepts`, labels `kind:name` that hold in its image; and
            `mentions`, those that its caption names.
        seed, least: as in `concept_cosines`. `least` is small, for the ceiling tells what too few rows leave unknown.
        ceiling: concepts below it, of which noise hides too much, are left out.

    Returns:
        What `concept_cosines` does, after the column `kind`; empty where no label is carried by 5 · `least` rows of
        each modality.

    Raises:
        ValueError: an embedding is not finite.
    """
    owners = {"image": pairs.drop_duplicates("image"), "text": pairs.drop_duplicates("text")}
    columns = (owners["image"]["concepts"], owners["text"]["mentions"])
    labels = [[[label for label in row if not label.startswith(_FOLLOWING)] for row in column] for column in columns]
    counts = pd.concat([pd.Series(column).explode().value_counts() for column in labels], axis=1).min(
        axis=1, skipna=False
    )
    if not (counts >= 5 * least).any():  # so many that each half has `least` of them
        return pd.DataFrame(columns=["kind", *_COLUMNS])
    table = concept_cosines(image[owners["image"]["image"]], text[owners["text"]["text"]], *labels, seed, least)
    table.insert(0, "kind", table["concept"].str.partition(":")[0])
    return table[table["ceiling"] >= ceiling].reset_index(drop=True)


def presence_of(labels: Labels, concepts: Sequence[str]) -> sparse.csr_array:
    """(n, c) float64: 1 where a row carries a concept."""
    place = {concept: column for column, concept in enumerate(concepts)}
    rows = [sorted({place[label] for label in row if label in place}) for row in labels]
    pointers = np.cumsum([0, *map(len, rows)])
    columns = np.array([column for row in rows for column in row], dtype=np.int64)
    return sparse.csr_array((np.ones(len(columns)), columns, pointers), shape=(len(rows), len(concepts)))


def _check(x: np.ndarray, presence: sparse.csr_array, what: str) -> None:
    if x.ndim != 2 or len(x) != presence.shape[0] or len(x) < 2:
        raise ValueError(
            f"{what} has shape {x.shape}, with labels of {presence.shape[0]} rows; (n, d) and n are needed, n > 1"
        )
    if not np.isfinite(x).all():
        raise ValueError(f"{what} holds NaN or infinity; every value must be finite")


def _regression(x: np.ndarray, presence: sparse.csr_array) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients (c, d), minimum-norm, of x on presence and an intercept, and (c, c) what they identify.

    The latter projects coefficients on those combinations of indicators that vary over the rows. Normal equations: c is
    small and the indicators are 0 or 1, so that nothing is lost by them, and n is passed over once.
    """
    n, mean = len(x), presence.mean(axis=0)
    scatter = (presence.T @ presence).toarray() - n * np.outer(mean, mean)
    inverse = np.linalg.pinv(scatter, rcond=_RCOND, hermitian=True)
    total, covariance = np.zeros(x.shape[1]), np.zeros((presence.shape[1], x.shape[1]))
    for start in range(0, n, _BLOCK):
        block = x[start : start + _BLOCK].astype(np.float64)
        total += block.sum(axis=0)
        covariance += presence[start : start + _BLOCK].T @ block
    # Σ (h - mean h)(x - mean x) = Σ h x - mean h · Σ x: no centred copy is needed
    covariance -= np.outer(mean, total)
    return inverse @ covariance, inverse @ scatter


def _intersection(projectors: list[np.ndarray]) -> np.ndarray:
    """The projector (c, c) on what all these orthogonal projectors leave unchanged."""
    kept, vectors = np.linalg.eigh(sum(projectors) / len(projectors))
    vectors = vectors[:, kept > 1 - 1e-6]
    return vectors @ vectors.T


def _cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.clip(np.einsum("cd,cd->c", a, b), -1.0, 1.0)


def _reliability(split_half: np.ndarray) -> np.ndarray:
    """Spearman and Brown: what r of two halves says of the whole; nothing is left of a negative r."""
    r = np.clip(split_half, 0.0, 1.0)
    return 2 * r / (1 + r)
