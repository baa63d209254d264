"""How well a ranking brings relevant items up, where a query has many: mAP and its kin."""

from collections.abc import Sequence

import numpy as np

from xsae.evaluation._ranking import TOLERANCE

_NDCG_DEPTH = 10
_UNIT = 2**29  # 1.0 as an integer: 2e-9 apart, and twice it still fits int32
_MARGIN = round(TOLERANCE * _UNIT)


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
        median place of the relevant items of all queries together, as the paper's released code takes it, and
        `tie_rate`, the share of queries where the first relevant item ties with an irrelevant one.

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
    # of the relevant items, in order, places from 0; numpy finds them flat in a third of the time
    query, place = np.divmod(np.flatnonzero((keys & 1).astype(bool)), n)

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
        "median_rank": float(np.median(place + 1)),
        "tie_rate": float(tied.mean()),
    }
