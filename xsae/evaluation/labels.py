"""Whether latents taken for one carry the same concept on both sides."""

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from xsae.correlation import co_activation
from xsae.evaluation.concepts import Labels, presence_of


def label_agreement(
    codes_a: sparse.csr_array, codes_b: sparse.csr_array, labels_a: Labels, labels_b: Labels
) -> dict[str, float]:
    """Share of latents whose label is the same in both modalities.

    The label of a latent in a modality is the concept whose presence correlates most (Pearson) with its activation; a
    latent that correlates positively with none, a dead one above all, has no label and agrees with nothing.

    Args:
        codes_a: (n_pairs, L) sparse codes. codes_b: likewise, in the same order of latents.
        labels_a: per pair the concepts of the one side (what an image holds). labels_b: of the other (a caption names).

    Returns:
        `agreement`, the share among latents alive in either modality, in [0, 1]; `alive`, how many these are;
        `ceiling`, the share that could agree at most, because both sides have a label at all.

    Raises:
        ValueError: sizes do not fit, no concept occurs in both modalities, or no latent is alive.
    """
    sizes = {codes_a.shape[0], codes_b.shape[0], len(labels_a), len(labels_b)}
    if len(sizes) != 1 or codes_a.shape[1] != codes_b.shape[1]:
        raise ValueError(
            f"label_agreement: codes_a has shape {codes_a.shape}, codes_b {codes_b.shape}, with "
            f"{len(labels_a)} and {len(labels_b)} sets of labels; one row per pair and one width are needed"
        )
    concepts = sorted(set().union(*labels_a) & set().union(*labels_b))
    if not concepts:
        raise ValueError("label_agreement: no concept occurs in labels_a and in labels_b; one is needed")
    a, b = label_latents(codes_a, labels_a, concepts), label_latents(codes_b, labels_b, concepts)
    alive = (codes_a.count_nonzero(axis=0) > 0) | (codes_b.count_nonzero(axis=0) > 0)
    if not alive.any():
        raise ValueError("label_agreement: no latent is alive in codes_a or codes_b")
    both = (a >= 0) & (b >= 0)
    return {
        "agreement": float(((a == b) & both)[alive].mean()),
        "alive": float(alive.sum()),
        "ceiling": float(both[alive].mean()),
    }


def label_latents(codes: sparse.csr_array, labels: Labels, concepts: Sequence[str]) -> np.ndarray:
    """(L,) the position in `concepts` of each latent's label, -1 where it has none: see `label_agreement`."""
    correlation = co_activation(codes, presence_of(labels, concepts))
    return np.where(correlation.max(axis=1) > 0, correlation.argmax(axis=1), -1)


def purity(codes: sparse.csr_array, labels: Labels, concepts: Sequence[str], of_latents: np.ndarray) -> np.ndarray:
    """How much of a latent's activation falls on rows that carry its label.

    Args:
        codes: (n, L). labels: per row the concepts that it carries.
        concepts: all of them. of_latents: (L,), the place there of each latent's label, -1 where it has none.

    Returns:
        (L,) float64: the sum of the activations on rows that carry the label, over the sum of all, in [0, 1]; NaN for a
        latent that has no label or does not fire.
    """
    mass = (codes.T @ presence_of(labels, concepts)).toarray()
    carried, every = mass[np.arange(len(of_latents)), of_latents], np.asarray(codes.sum(axis=0), dtype=np.float64)
    known = (of_latents >= 0) & (every > 0)
    return np.divide(carried, every, out=np.full(len(carried), np.nan), where=known)
