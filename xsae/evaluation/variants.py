"""Codes as they are compared: as they are, without latents that never sleep, or centred.

A latent that fires on nearly every embedding says nothing about any of them, but weighs in every cosine.

| variant | what is compared |
|---|---|
| `raw` | the codes; what the released retrieval and steering do |
| `without frequent` | the codes without latents that fire on more than half of the images, as in released zero-shot |
| `centred` | the codes minus their mean over training embeddings of their modality, 16,384 where there are more |
"""

from collections.abc import Mapping

import numpy as np
from scipy import sparse

from xsae.evaluation._ranking import Rows

VARIANTS = ("raw", "without frequent", "centred")
FREQUENT = 0.5  # a latent that fires on a larger share of the images than this tells none of them apart


def firing_rates(codes: sparse.csr_array) -> np.ndarray:
    """How often each latent fires: (L,) shares in [0, 1] of the rows of codes (n, L).

    Raises:
        ValueError: there is no row.
    """
    if codes.shape[0] == 0:
        raise ValueError("firing_rates: codes has 0 rows; how often a latent fires needs some")
    return codes.count_nonzero(axis=0) / codes.shape[0]


def variants(
    codes: Mapping[str, sparse.csr_array], means: Mapping[str, np.ndarray], frequent: np.ndarray
) -> dict[str, dict[str, Rows]]:
    """Each of `VARIANTS` of the codes of all modalities.

    Args:
        codes: modality -> (n_m, L) sparse codes, in one order of latents.
        means: modality -> (L,) mean code of its training embeddings.
        frequent: (L,) bool, the latents to leave out of `without frequent`.

    Returns:
        variant -> modality -> rows: sparse, and for `centred` dense float32, of the latents that are ever active.

    Raises:
        ValueError: widths differ.
    """
    widths = {of.shape[1] for of in codes.values()} | {len(mean) for mean in means.values()} | {len(frequent)}
    if len(widths) > 1:
        raise ValueError(f"variants: widths {sorted(widths)} found; codes, means and frequent are of one L")
    kept = np.flatnonzero(~frequent)
    active = np.any([of.count_nonzero(axis=0) > 0 for of in codes.values()], axis=0)
    active |= np.any([np.asarray(means[m]) != 0 for m in codes], axis=0)
    centred = {m: of[:, active].toarray().astype(np.float32) - np.float32(means[m][active]) for m, of in codes.items()}
    return {"raw": dict(codes), "without frequent": {m: of[:, kept] for m, of in codes.items()}, "centred": centred}
