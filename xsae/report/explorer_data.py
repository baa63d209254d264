"""What the concept explorer shows of one trained method: its matches, what fires each, and what steering does to them.

A match is a latent of the reference modality and its partner in another one. `posthoc` has its own; a shared
autoencoder's latents are matched with themselves in the same way, so that a concept that it splits between modalities
is seen as two latents, one for each, and a latent that serves both as its own partner.

Everything is chosen on training pairs (matches, labels, noise floor, firing rates) and shown on held-out ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from xsae.alignment import Alignment
from xsae.data.store import EmbeddingStore
from xsae.evaluation import steering
from xsae.evaluation.concepts import presence_of
from xsae.evaluation.heterogeneity import direction_gap
from xsae.evaluation.labels import label_latents, purity
from xsae.evaluation.matches import noise_floor, shuffled
from xsae.evaluation.relevance import ranking_metrics
from xsae.evaluation.variants import firing_rates
from xsae.methods import Method

MOST_MATCHES, MOST_ITEMS = 500, 4000  # beyond, an even sample, which the page states
PICTURES, CAPTIONS = 9, 6  # that fire a match most, on the reference's side and on the other's
BINS = 12
NEIGHBOURS = 6
STEERED = 5  # items that a match's mAP and preservation are means of
LABELS = {"image": "concepts", "text": "mentions"}  # where pairs keep what an image holds and a caption names

Codes = Mapping[str, sparse.csr_array]


@dataclass(frozen=True)
class View:
    """One method of one seed, seen in the reference and one other modality, n matches.

    matches: one row each, by falling correlation: `latent`, `partner`, `correlation`, `gap`, and per modality
        `<modality>_rate`, `<modality>_label`, `<modality>_purity`.
    of: how many matches there are in all. floor: the noise floor of their correlation.
    top, activation: modality -> per match the items that fire it most, and how much.
    histogram, largest: modality -> (n, BINS) counts of the activations between 0 and the largest, which is (n,).
    places: (n, 4), both directions on the map. steered: per match what `_steered` returns, or nothing.
    """

    matches: pd.DataFrame
    of: int
    floor: float
    top: dict[str, list[list[int]]]
    activation: dict[str, list[list[float]]]
    histogram: dict[str, np.ndarray]
    largest: dict[str, np.ndarray]
    places: np.ndarray
    steered: list[dict[str, Any]]


def items(store: EmbeddingStore) -> pd.DataFrame:
    """The held-out pairs that are shown: every row of every modality once, `MOST_ITEMS` at most, evenly taken."""
    pairs = store.distinct("test")
    return pairs.iloc[_evenly(len(pairs), MOST_ITEMS)].reset_index(drop=True)


def view(method: Method, store: EmbeddingStore, other: str, alphas: Sequence[float], seed: int) -> View:
    """What there is to see of a method in the reference modality of a store and in `other`.

    Args:
        alphas: how far a match is steered, of embeddings of length 1. seed: of the draw of what is steered.
    """
    sides = (store.modalities[0], other)
    train, shown = store.split("train"), items(store)
    plain = {m: method.saes[m].transform(store[m]) for m in sides}
    codes = {m: plain[m][train[m].to_numpy()] for m in sides}
    alignment = method.alignments.get(other) or Alignment().fit(codes[sides[0]], codes[other])
    gaps = direction_gap(*(method.saes[m].directions for m in sides), alignment)
    every = alignment.matches().assign(gap=gaps["gap"])
    every = every.sort_values("correlation", ascending=False, kind="stable", ignore_index=True)
    matches = every.iloc[_evenly(len(every), MOST_MATCHES)].reset_index(drop=True)
    latents = {m: matches[name].to_numpy() for m, name in zip(sides, ("latent", "partner"), strict=True)}
    held_out = {m: plain[m][shown[m].to_numpy()][:, latents[m]].tocsc() for m in sides}
    for m in sides:
        matches[f"{m}_rate"] = firing_rates(codes[m])[latents[m]]
    concepts = _labelled(matches, {m: codes[m][:, latents[m]] for m in sides}, held_out, train, shown)
    tops = {m: _top(held_out[m], n) for m, n in zip(sides, (PICTURES, CAPTIONS), strict=True)}
    counts = {m: _histogram(held_out[m]) for m in sides}
    return View(
        matches,
        of=len(every),
        floor=noise_floor(Alignment().fit(codes[sides[0]], shuffled(codes[other]))),
        top={m: top for m, (top, _) in tops.items()},
        activation={m: activation for m, (_, activation) in tops.items()},
        histogram={m: count for m, (count, _) in counts.items()},
        largest={m: largest for m, (_, largest) in counts.items()},
        places=_map(*(method.saes[m].directions[latents[m]] for m in sides)),
        steered=_all_steered(method, store, matches, shown, concepts, alphas, seed),
    )


def _evenly(n: int, most: int) -> np.ndarray:
    """Rows of n, ascending: all, or `most` of them at even distances, the first and the last among them."""
    return np.arange(n) if n <= most else np.linspace(0, n - 1, most).astype(int)


def _labelled(
    matches: pd.DataFrame, codes: Codes, held_out: Codes, train: pd.DataFrame, shown: pd.DataFrame
) -> list[str]:
    """Add each side's label, of training pairs, and its purity, on held-out ones; returns all concepts, or none."""
    if not set(LABELS.values()) <= set(train) or set(codes) != set(LABELS):
        for modality in codes:
            matches[f"{modality}_label"], matches[f"{modality}_purity"] = "", np.nan
        return []
    first = train.drop_duplicates("image").index  # one caption of each image says as much, five times as fast
    columns = {m: train[name][first].tolist() for m, name in LABELS.items()}
    concepts = sorted(set.intersection(*(set().union(*labels) for labels in columns.values())))
    for modality in codes:
        found = label_latents(codes[modality][first], columns[modality], concepts)
        names = np.array([*concepts, ""], dtype=object)  # -1 is the last: no label
        matches[f"{modality}_label"] = names[found]
        labels = shown[LABELS[modality]].tolist()
        matches[f"{modality}_purity"] = purity(held_out[modality], labels, concepts, found)
    return concepts


def _top(codes: sparse.csc_array, most: int) -> tuple[list[list[int]], list[list[float]]]:
    """Per latent the rows that fire it most, of equal ones the first, and their activations; fewer where fewer do."""
    rows, values = [], []
    for column in range(codes.shape[1]):
        entries = slice(*codes.indptr[column : column + 2])
        order = np.lexsort((codes.indices[entries], -codes.data[entries]))[:most]
        rows.append(codes.indices[entries][order].tolist())
        values.append(codes.data[entries][order].tolist())
    return rows, values


def _histogram(codes: sparse.csc_array) -> tuple[np.ndarray, np.ndarray]:
    """(L, BINS) counts of each latent's activations above 0, and (L,) the largest of them."""
    largest = codes.max(axis=0).toarray()
    latent = np.repeat(np.arange(codes.shape[1]), np.diff(codes.indptr))
    bin = np.minimum((codes.data / largest[latent] * BINS).astype(int), BINS - 1)
    counts = np.bincount(latent * BINS + bin, minlength=codes.shape[1] * BINS)
    return counts.reshape(-1, BINS), largest


def _map(reference: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(n, 4): x and y of both directions of each match, on the two principal axes of all directions together."""
    stacked = np.concatenate([reference, other]).astype(np.float64)
    stacked -= stacked.mean(axis=0)
    axes = np.linalg.svd(stacked, full_matrices=False)[2][:2]
    axes *= np.sign(np.take_along_axis(axes, abs(axes).argmax(axis=1)[:, None], axis=1))  # one sign on any machine
    places = stacked @ axes.T
    return np.concatenate([places[: len(reference)], places[len(reference) :]], axis=1)


def _all_steered(
    method: Method,
    store: EmbeddingStore,
    matches: pd.DataFrame,
    shown: pd.DataFrame,
    concepts: Sequence[str],
    alphas: Sequence[float],
    seed: int,
) -> list[dict[str, Any]]:
    reference = store.modalities[0]
    sae, x = method.saes[reference], store[reference][shown[reference].to_numpy()]
    codes = sae.transform(x)
    decoder = sae.directions, sae.decoder_bias.detach().numpy()
    holds = presence_of(shown[LABELS[reference]].tolist(), concepts).toarray().astype(bool) if concepts else None
    found = []
    for latent, label in zip(matches["latent"], matches[f"{reference}_label"], strict=True):
        carries = holds[:, concepts.index(label)] if label else codes[:, [latent]].toarray()[:, 0] > 0
        found.append({} if carries.all() else _steered(x, codes, latent, decoder, carries, label != "", alphas, seed))
    return found


def _steered(
    x: np.ndarray,
    codes: sparse.csr_array,
    latent: int,
    decoder: tuple[np.ndarray, np.ndarray],
    carries: np.ndarray,
    labelled: bool,
    alphas: Sequence[float],
    seed: int,
) -> dict[str, Any]:
    """Steer `STEERED` items that do not carry the concept along one latent.

    carries: (n,) which items of x (n, d) hold the latent's label, or else fire it.

    Returns:
        `start`, one of them; `before`, its nearest others; `after`, per α the nearest others of what it becomes;
        `preservation`, per α; `mAP`, per α, of ranking all by the cosine to it, where the latent has a label.
    """
    ranked = labelled and carries.any()
    free = steering.images_without(carries, seed)
    rows = free[_evenly(len(free), STEERED)]
    start = latent % len(rows)  # not one and the same item for all latents
    chosen = codes[rows]
    steered = np.stack([steering.steer(chosen, latent, alpha, *decoder) for alpha in alphas])  # (alphas, rows, d)
    similarity = (steered.reshape(-1, x.shape[1]) @ x.T).reshape(*steered.shape[:2], len(x))
    return {
        "start": int(rows[start]),
        "before": _nearest(x @ x[rows[start]], rows[start]),
        "after": [_nearest(to_all[start], rows[start]) for to_all in similarity],
        "preservation": [steering.preservation(pushed, x[rows]) for pushed in steered],
        "mAP": [ranking_metrics(to_all, carries, ks=())["mAP"] for to_all in similarity] if ranked else [],
    }


def _nearest(similarity: np.ndarray, itself: int) -> list[int]:
    """The rows of the largest similarities (n,), without the one that was steered."""
    order = np.argsort(-similarity, kind="stable")[: NEIGHBOURS + 1]
    return order[order != itself][:NEIGHBOURS].tolist()
