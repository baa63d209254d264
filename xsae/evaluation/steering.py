"""Concept steering: push images along one latent and rank what they then resemble (paper, steering experiment).

    concept latent   argmax_j of mean z_T,j over captions that name the concept - mean z_T,j over as many others
    steered image    x^ = normalise(W_decᵀ (z_I + α / ‖w_j‖ · e_j) + b_dec),    α of `ALPHAS`

z_T are the text codes in the image SAE's order of latents: re-indexed by the alignment for `posthoc`, as they are for
every other method. Then all captions and all images are ranked by cosine with x^ in the joint embedding; relevant are
those that carry the concept. Steering works if they move up while x^ stays close to the original (`preservation`).
Images and captions are the paper's: any modality whose latents are in that order can name concepts, or be steered.

Here the concept latent is chosen on training captions; the released code chooses it on the test captions it then ranks.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from xsae.correlation import co_activation
from xsae.evaluation._ranking import unit_directions, unit_rows
from xsae.evaluation.relevance import ranking_metrics

ALPHAS = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0)
METRICS = ("mAP", "MRR", "NDCG@10", "P@10", "R@10", "median_rank", "tie_rate", "preservation")
N_IMAGES = 100


@dataclass(frozen=True)
class HeldOut:
    """What is steered and what is ranked: n held-out images, and one caption of each.

    `images`, `captions`: (n, d) unit rows. `shown`, `named`: concept -> bool (n,), which images hold it, and which
    captions name it; at least one of each, and not all images.
    """

    images: np.ndarray
    captions: np.ndarray
    shown: Mapping[str, np.ndarray]
    named: Mapping[str, np.ndarray]


def carriers(labels: Sequence[Sequence[str]], concepts: Sequence[str]) -> dict[str, np.ndarray]:
    """Which of n rows carry each concept: concept -> bool (n,). labels: per row the concepts that it carries."""
    sets = [frozenset(row) for row in labels]
    return {concept: np.array([concept in row for row in sets], dtype=bool) for concept in concepts}


def steerable(*labels: Sequence[Sequence[str]], least: int = 1) -> list[str]:
    """The concepts, sorted, that at least `least` rows carry and not all, in every one of several columns of `labels`.

    A mean average precision over a few relevant items is mostly chance.
    """
    counts = [Counter(concept for row in rows for concept in set(row)) for rows in labels]
    common = set.intersection(*map(set, counts))
    return sorted(
        concept
        for concept in common
        if all(least <= count[concept] < len(rows) for count, rows in zip(counts, labels, strict=True))
    )


def steer_concepts(
    *,
    latents: Mapping[str, int],
    codes: sparse.csr_array,
    dictionary: np.ndarray,
    bias: np.ndarray,
    held_out: HeldOut,
    alphas: Sequence[float],
    seed: int,
) -> pd.DataFrame:
    """The paper's protocol for one method: steer images towards each concept, rank captions and images, measure.

    Args:
        latents: concept -> the image latent to push, of `concept_latent` or `best_partner`.
        codes: (n, L) codes of `held_out.images`. dictionary: (L, d) and bias: (d,), of the image SAE.
        held_out: what is steered and ranked; it knows every concept of `latents`.
        alphas: how far to push.
        seed: of the choice of images, `images_without`; methods of one seed are compared on the same images.

    Returns:
        One row per concept, α and gallery: `concept`, `alpha`, `gallery` (`captions` or `images`), then `METRICS`:
        those of `ranking_metrics` that we report, and `preservation`, which the galleries have in common.

    Raises:
        ValueError: as `images_without`, `steer` and `ranking_metrics`.
    """

    def push(concept: str, rows: np.ndarray, alpha: float) -> np.ndarray:
        return steer(codes[rows], latents[concept], alpha, dictionary, bias)

    return _measured(push, list(latents), held_out, alphas, seed)


def steer_concepts_along(
    *,
    directions: Mapping[str, np.ndarray],
    held_out: HeldOut,
    alphas: Sequence[float],
    seed: int,
    pushed: np.ndarray | None = None,
) -> pd.DataFrame:
    """As `steer_concepts`, but embeddings themselves are pushed, along a direction per concept.

    directions: concept -> (d,). With those that labels give (`xsae.evaluation.concepts.concept_directions`) this is the
    ceiling. pushed: (n, d) what is pushed in the images' place, such as their reconstructions; preservation is of the
    images all the same.
    """
    start = held_out.images if pushed is None else pushed

    def push(concept: str, rows: np.ndarray, alpha: float) -> np.ndarray:
        return steer_along(start[rows], directions[concept], alpha)

    return _measured(push, list(directions), held_out, alphas, seed)


def _measured(
    push: Callable[[str, np.ndarray, float], np.ndarray],
    concepts: Sequence[str],
    held_out: HeldOut,
    alphas: Sequence[float],
    seed: int,
) -> pd.DataFrame:
    """What `steer_concepts` returns, of what `push(concept, rows, alpha)` makes of the images."""
    galleries = {
        "captions": (torch.from_numpy(held_out.captions).float().T, held_out.named),
        "images": (torch.from_numpy(held_out.images).float().T, held_out.shown),
    }
    measured = []
    for concept in concepts:
        rows = images_without(held_out.shown[concept], seed)
        for alpha in alphas:
            steered = push(concept, rows, alpha)
            kept = preservation(steered, held_out.images[rows])
            for gallery, (items, relevant) in galleries.items():
                similarity = torch.from_numpy(steered).float() @ items  # torch's, for `pool` gives it one thread
                figures = ranking_metrics(similarity.numpy(), relevant[concept], ks=(10,)) | {"preservation": kept}
                measured.append({"concept": concept, "alpha": alpha, "gallery": gallery} | figures)
    return pd.DataFrame(measured, columns=["concept", "alpha", "gallery", *METRICS])


def concept_latent(codes: sparse.csr_array, names: np.ndarray, seed: int) -> int:
    """The latent that tells captions naming a concept from others: of the largest difference, of equal ones the first.

    Arguments as of `differences`, the codes in the image SAE's order of latents. Raises ValueError as it does, or where
    no latent fires more on captions that name the concept.
    """
    difference = differences(codes, names, seed)
    latent = int(np.argmax(difference))
    if not difference[latent] > 0:
        raise ValueError("concept_latent: no latent of codes fires more on captions that name the concept")
    return latent


def differences(codes: sparse.csr_array, names: np.ndarray, seed: int) -> np.ndarray:
    """How much more each latent fires on captions that name a concept than on others: a difference of means, (L,).

    Args:
        codes: (n, L) codes of captions.
        names: (n,) bool, which captions name the concept.
        seed: of the draw of the other captions, as many as name it, or all there are if they are fewer.

    Raises:
        ValueError: sizes do not fit, or every caption names the concept or none does.
    """
    names = _flags(names, "differences: names", codes.shape[0])
    naming, others = np.flatnonzero(names), np.flatnonzero(~names)
    if 0 in (len(naming), len(others)):
        raise ValueError(f"differences: names is true for {len(naming)} of {len(names)} captions; some must differ")
    drawn = np.random.default_rng(seed).choice(others, min(len(naming), len(others)), replace=False)
    return codes[naming].mean(axis=0) - codes[np.sort(drawn)].mean(axis=0)


def best_partner(image_codes: sparse.csr_array, text_codes: sparse.csr_array, latent: int) -> int:
    """The image latent that correlates most with one text latent. Our own variant: the paper steers with the match.

    A one-to-one match may have had to leave its best partner to another latent; steering needs no one-to-one map.

    Args:
        image_codes: (n, L_a) codes of the training pairs. text_codes: (n, L_b); row i of each belongs to pair i.
        latent: of the text codes, in the order that these have here, 0..L_b-1.

    Returns:
        Index of the image latent whose Pearson correlation with it is largest; of equal ones the first.

    Raises:
        ValueError: sizes do not fit, a code is not finite, there is no such latent, or no image latent correlates
            positively with it.
    """
    if not 0 <= latent < text_codes.shape[1]:
        raise ValueError(f"best_partner: latent is {latent}; those of text_codes are 0..{text_codes.shape[1] - 1}")
    correlation = co_activation(image_codes, text_codes[:, [latent]])[:, 0]
    partner = int(np.argmax(correlation))
    if not correlation[partner] > 0:
        raise ValueError(f"best_partner: no latent of image_codes correlates positively with text latent {latent}")
    return partner


def images_without(carries: np.ndarray, seed: int) -> np.ndarray:
    """The images to steer: rows, ascending, of up to `N_IMAGES` that do not carry the concept, drawn at random.

    Args:
        carries: (n,) bool, which images carry it.
        seed: of the draw.

    Raises:
        ValueError: every image carries the concept.
    """
    free = np.flatnonzero(~_flags(carries, "images_without: carries", len(carries)))
    if len(free) == 0:
        raise ValueError(f"images_without: carries is true for all {len(carries)} images; steering needs others")
    return np.sort(np.random.default_rng(seed).choice(free, min(N_IMAGES, len(free)), replace=False))


def steer(codes: sparse.csr_array, latent: int, alpha: float, dictionary: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Add α / ‖w_latent‖ to one latent of the codes, decode, renormalise.

    Args:
        codes: (n, L) image codes.
        latent: which one, 0..L-1.
        alpha: α, a length in the embedding space, whose embeddings have length 1; 0 gives the reconstructions.
        dictionary: (L, d) directions of the image SAE.
        bias: (d,) its decoder bias.

    Returns:
        (n, d) unit rows of the dictionary's dtype; a row that decodes to zero stays zero.

    Raises:
        ValueError: sizes do not fit, there is no such latent, or its direction is zero or not finite.
    """
    if codes.shape[1] != len(dictionary) or dictionary.shape[1:] != bias.shape:
        raise ValueError(
            f"steer: codes has shape {codes.shape}, dictionary {dictionary.shape} and bias {bias.shape}; "
            "(n, L), (L, d) and (d,) are needed"
        )
    if not 0 <= latent < len(dictionary):
        raise ValueError(f"steer: latent is {latent}; the dictionary's are 0..{len(dictionary) - 1}")
    direction = unit_directions(dictionary[[latent]], f"steer: latent {latent} of the dictionary")
    steered = unit_rows(codes @ dictionary + bias + alpha * direction, "steer: the decoded codes")
    return steered.astype(dictionary.dtype)


def steer_along(x: np.ndarray, direction: np.ndarray, alpha: float) -> np.ndarray:
    """Push the embeddings themselves, normalise(x + α v): no autoencoder, hence nothing lost in reconstruction.

    With the direction that labels give a concept (`xsae.evaluation.concepts`) this is the ceiling of what steering
    could do.

    Args:
        x: (n, d) embeddings, or their reconstructions.
        direction: (d,) v; normalised here.
        alpha: α, as in `steer`; 0 gives x back, with rows of unit norm.

    Returns:
        (n, d) unit rows of x's dtype; a row that the push cancels stays zero.

    Raises:
        ValueError: sizes do not fit, or the direction is zero or not finite.
    """
    if x.ndim != 2 or direction.shape != x.shape[1:]:
        raise ValueError(
            f"steer_along: x has shape {x.shape} and direction {direction.shape}; (n, d) and (d,) are needed"
        )
    unit = unit_directions(direction[None], "steer_along: direction")
    return unit_rows(x + alpha * unit, "steer_along: the pushed embeddings").astype(x.dtype)


def nearest(x: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """The rows of gallery (n, d) by their cosine with one embedding x (1, d), both of unit norm; of equal ones the
    first."""
    return np.argsort(-(x @ gallery.T)[0], kind="stable")


def preservation(steered: np.ndarray, original: np.ndarray) -> float:
    """Mean cosine of the steered embeddings (n, d) to the originals (n, d), row by row; a zero row has cosine 0.

    Raises:
        ValueError: shapes differ, there is no row, or a value is not finite.
    """
    if steered.ndim != 2 or steered.shape != original.shape or len(steered) == 0:
        raise ValueError(
            f"preservation: steered has shape {steered.shape} and original {original.shape}; "
            "both must be the same (n, d) with at least 1 row"
        )
    steered, original = unit_rows(steered, "preservation: steered"), unit_rows(original, "preservation: original")
    return float(np.einsum("nd,nd->", steered, original) / len(steered))


def _flags(flags: np.ndarray, what: str, n: int) -> np.ndarray:
    flags = np.asarray(flags)
    if flags.dtype != bool or flags.shape != (n,):
        raise ValueError(f"{what} is {flags.dtype} {flags.shape}; bool ({n},) is needed, one per row")
    return flags
