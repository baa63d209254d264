"""Concept steering: push images along one latent and rank what they then resemble (paper, steering experiment).

    concept latent   argmax_j of mean z_T,j over captions that name the concept - mean z_T,j over as many others
    steered image    x^ = normalise(W_decᵀ (z_I + α / ‖w_j‖ · e_j) + b_dec),    α of `ALPHAS`

z_T are the text codes in the image SAE's order of latents: re-indexed by the alignment for `posthoc`, as they are for
every other method. Then all captions and all images are ranked by cosine with x^ in the joint embedding; relevant are
those that carry the concept. Steering works if they move up while x^ stays close to the original (`preservation`).
Images and captions are the paper's: any modality whose latents are in that order can name concepts, or be steered.
"""

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from xsae.evaluation._ranking import TOLERANCE, unit_directions, unit_rows

ALPHAS = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0)
N_IMAGES = 100
_NDCG_DEPTH = 10
_UNIT = 2**29  # 1.0 as the integer of `ranking_metrics`: 2e-9 apart, and twice it still fits int32
_MARGIN = round(TOLERANCE * _UNIT)


def concept_latent(codes: sparse.csr_array, names: np.ndarray, seed: int) -> int:
    """The latent that tells captions naming a concept from others: the largest difference of mean activations.

    Args:
        codes: (n, L) codes of captions, in the image SAE's order of latents.
        names: (n,) bool, which captions name the concept.
        seed: of the draw of the other captions, as many as name it, or all there are if they are fewer.

    Returns:
        Index of the latent; of equal differences the first.

    Raises:
        ValueError: sizes do not fit, every caption names the concept or none does, or no latent fires more on those
            that do.
    """
    names = _flags(names, "concept_latent: names", codes.shape[0])
    naming, others = np.flatnonzero(names), np.flatnonzero(~names)
    if 0 in (len(naming), len(others)):
        raise ValueError(f"concept_latent: names is true for {len(naming)} of {len(names)} captions; some must differ")
    drawn = np.random.default_rng(seed).choice(others, min(len(naming), len(others)), replace=False)
    difference = codes[naming].mean(axis=0) - codes[np.sort(drawn)].mean(axis=0)
    latent = int(np.argmax(difference))
    if not difference[latent] > 0:
        raise ValueError("concept_latent: no latent of codes fires more on captions that name the concept")
    return latent


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


def ranking_metrics(similarity: np.ndarray, relevant: np.ndarray, ks: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """How well a ranking by similarity brings the relevant items up, ties counting against the model.

    An item's place counts every irrelevant one whose similarity reaches its own (within 1e-6), and every relevant one
    that is strictly ahead of it; equal relevant items take places one after the other.

    Args:
        similarity: (q, n) cosines of q queries with n items.
        relevant: bool, (n,) for all queries alike or (q, n); at least one item per query.
        ks: cut-offs, at least 1.

    Returns:
        Means over the queries: `mAP`, the mean over relevant items of the share of relevant ones down to its place;
        `MRR`, 1 / place of the first relevant item; `NDCG@10`, gains 1 / log2(1 + place) of the first 10 places over
        the most these can hold; `P@k`, the share of relevant items in the first k places; `R@k`, the share of the
        relevant items that is there (a share of all, not the hit rate that retrieval calls so). Also `median_rank`, the
        median place of the first relevant item, and `tie_rate`, the share of queries where it ties with an irrelevant
        one.

    Raises:
        ValueError: shapes do not fit, a similarity is no cosine, a k is below 1, or a query has no relevant item.
    """
    if similarity.ndim != 2 or 0 in similarity.shape:
        raise ValueError(f"ranking_metrics: similarity has shape {similarity.shape}; (queries, items) is needed")
    q, n = similarity.shape
    if relevant.dtype != bool or relevant.shape not in ((n,), (q, n)):
        raise ValueError(
            f"ranking_metrics: relevant is {relevant.dtype} {relevant.shape}; bool ({n},) or ({q}, {n}) is needed"
        )
    if any(k < 1 for k in ks):
        raise ValueError(f"ranking_metrics: ks is {tuple(ks)}; every k must be at least 1")
    counts = np.broadcast_to(np.count_nonzero(relevant, axis=-1), q)
    if not counts.all():
        raise ValueError(
            f"ranking_metrics: {np.count_nonzero(counts == 0)} of {q} queries have no relevant item "
            f"(first: {np.argmin(counts)}); every query needs one"
        )
    if not (similarity.min() >= -1.001 and similarity.max() <= 1.001):
        raise ValueError("ranking_metrics: similarity holds values outside [-1, 1] or NaN; cosines are needed")

    # One sort of integers ranks a block of queries, where sorting indices would take six times as long. The key is the
    # negated similarity in fixed point, its last bit the item's relevance; relevant items are put back by the
    # tolerance, and by that bit: behind every irrelevant item that reaches them.
    keys = np.multiply(similarity, np.float32(-_UNIT)).astype(np.int32)
    keys *= 2
    keys += relevant * np.int32(2 * _MARGIN + 1)
    keys.sort(axis=1)
    query, place = np.nonzero((keys & 1).astype(bool))  # of the relevant items, in order; places from 0

    first = np.cumsum(counts) - counts
    found = np.arange(1, len(place) + 1) - np.repeat(first, counts)  # relevant items down to this one
    average_precision = np.add.reduceat(found / (place + 1), first) / counts
    first_place = place[first]
    ahead = keys[np.arange(q), first_place - 1]  # irrelevant, the nearest of those that reach the first relevant item
    tied = (first_place > 0) & (keys[np.arange(q), first_place] - ahead <= 4 * _MARGIN + 1)
    gains = 1 / np.log2(np.arange(_NDCG_DEPTH) + 2)
    top = place < _NDCG_DEPTH
    gained = np.bincount(query[top], gains[place[top]], minlength=q)
    most = np.cumsum(gains)[np.minimum(counts, _NDCG_DEPTH) - 1]
    in_top = {k: np.bincount(query[place < k], minlength=q) for k in ks}
    return {
        "mAP": float(average_precision.mean()),
        "MRR": float(np.mean(1 / (first_place + 1))),
        f"NDCG@{_NDCG_DEPTH}": float(np.mean(gained / most)),
        **{f"P@{k}": float(np.mean(in_top[k] / k)) for k in ks},
        **{f"R@{k}": float(np.mean(in_top[k] / counts)) for k in ks},
        "median_rank": float(np.median(first_place + 1)),
        "tie_rate": float(tied.mean()),
    }


def _flags(flags: np.ndarray, what: str, n: int) -> np.ndarray:
    flags = np.asarray(flags)
    if flags.dtype != bool or flags.shape != (n,):
        raise ValueError(f"{what} is {flags.dtype} {flags.shape}; bool ({n},) is needed, one per row")
    return flags
