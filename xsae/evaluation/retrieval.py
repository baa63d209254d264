"""Cross-modal retrieval by the cosine of codes, with the tie rule and the tie rate beside it (paper, main table).

At small k many gallery items share a similarity, zero above all. Ties count against the model here, and how many
queries they touch is reported, for a recall without its tie rule says little.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from xsae.evaluation._ranking import Rows, hit_probability, pessimistic_ranks, unit_rows

if TYPE_CHECKING:  # metrics import no torch
    from xsae.data.store import EmbeddingStore
    from xsae.methods import Method


def recall(
    queries: Rows, gallery: Rows, query_ids: Sequence, gallery_ids: Sequence, ks: Sequence[int] = (1, 5, 10)
) -> dict[str, float]:
    """Recall at k under pessimistic ranks: `summary` of `ranks`, whose arguments and errors these are.

    Returns:
        `R@k` for each k (shares in [0, 1]); `median_rank`; `tie_rate`.
    """
    return summary(*ranks(queries, gallery, query_ids, gallery_ids), ks)


def retrieve(method: Method, store: EmbeddingStore, split: str = "test") -> pd.DataFrame:
    """`recall` of every modality's rows among every other's: a row per direction, and the chance level of its R@1."""
    codes = method.split_codes(store, split)
    ids = {m: store.groups(m, split) for m in codes}
    found = {
        f"{a}_to_{b}": recall(codes[a], codes[b], ids[a], ids[b]) | {"chance R@1": chance(ids[a], ids[b], (1,))["R@1"]}
        for a, b in permutations(codes, 2)
    }
    return pd.DataFrame(found).T


def bounds(store: EmbeddingStore, split: str = "test") -> Iterator[tuple[str, str, dict[str, float]]]:
    """Between what codes lie: of each direction `dense`, the `recall` of the embeddings themselves, and `chance`."""
    x = {m: store[m][store.rows(m, split)] for m in store.modalities}
    ids = {m: store.groups(m, split) for m in x}
    for a, b in permutations(x, 2):
        yield f"{a}_to_{b}", "dense", recall(x[a], x[b], ids[a], ids[b])
        yield f"{a}_to_{b}", "chance", chance(ids[a], ids[b])


def ranks(queries: Rows, gallery: Rows, query_ids: Sequence, gallery_ids: Sequence) -> tuple[np.ndarray, np.ndarray]:
    """The pessimistic rank of every query's best own item, and whether that item is tied.

    rank = 1 + number of gallery items of other ids whose cosine reaches that of the query's best own item (within
    1e-6). A query is a hit at k if rank <= k, that is, if any of its own items is sure of a place in the top k.

    Args:
        queries: (n_queries, L) codes, sparse, or dense embeddings.
        gallery: (n_gallery, L) likewise. A row of zeros has cosine 0 to everything.
        query_ids: (n_queries,) what each query belongs to (the image id, say).
        gallery_ids: (n_gallery,) likewise; several items may own one id, as five captions own one image.

    Returns:
        ranks (n_queries,) int64, from 1; tied (n_queries,) bool, ties with at least one item of another id.

    Raises:
        ValueError: sizes do not fit, a value is not finite, or a query has no own item in the gallery.
    """
    if queries.ndim != 2 or gallery.ndim != 2 or queries.shape[1] != gallery.shape[1]:
        raise ValueError(f"recall: queries has shape {queries.shape} and gallery {gallery.shape}; widths must agree")
    query_owner, gallery_owner = _owners(query_ids, gallery_ids)
    for name, rows, owner in (("query", queries, query_owner), ("gallery", gallery, gallery_owner)):
        if rows.shape[0] != len(owner):
            raise ValueError(f"recall: {len(owner)} {name}_ids for {rows.shape[0]} rows; one id per row is needed")
    return pessimistic_ranks(
        unit_rows(queries, "recall: queries"),
        unit_rows(gallery, "recall: gallery"),
        lambda rows: query_owner[rows, None] == gallery_owner,
    )


def summary(ranks: np.ndarray, tied: np.ndarray, ks: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """`R@k` for each k >= 1, the share of queries whose rank is at most k; `median_rank`; `tie_rate`."""
    _check(ks)
    figures = {f"R@{k}": float(np.mean(ranks <= k)) for k in ks}
    return figures | {"median_rank": float(np.median(ranks)), "tie_rate": float(tied.mean())}


def chance(query_ids: Sequence, gallery_ids: Sequence, ks: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """Expected `R@k` of a ranking drawn uniformly at random, exactly.

    A query with m own items among N misses with the hypergeometric probability C(N-m, k) / C(N, k)
    = Π_{j<k} (N-m-j) / (N-j); the result is the mean over queries. Arguments and errors as for `ranks`.
    """
    _check(ks)
    query_owner, gallery_owner = _owners(query_ids, gallery_ids)
    partners = np.bincount(gallery_owner[gallery_owner >= 0])[query_owner]
    return {f"R@{k}": hit_probability(partners, len(gallery_owner), k) for k in ks}


def _check(ks: Sequence[int]) -> None:
    if any(k < 1 for k in ks):
        raise ValueError(f"retrieval: ks is {tuple(ks)}; every k must be at least 1")


def _owners(query_ids: Sequence, gallery_ids: Sequence) -> tuple[np.ndarray, np.ndarray]:
    """Both lists of ids as integers, equal where the ids are."""
    if len(query_ids) == 0:
        raise ValueError("retrieval: query_ids is empty; at least one query is needed")
    gallery_owner, ids = pd.factorize(np.asarray(gallery_ids))
    query_ids = np.asarray(query_ids)
    query_owner = pd.Index(ids).get_indexer(query_ids)
    orphans = np.flatnonzero(query_owner < 0)
    if len(orphans):
        raise ValueError(
            f"retrieval: {len(orphans)} of {len(query_owner)} query_ids have no item in gallery_ids "
            f"(first: {query_ids[orphans[0]]} at {orphans[0]}); every query needs one"
        )
    return query_owner, gallery_owner
