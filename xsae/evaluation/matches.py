"""What an alignment found, against what it finds where there is nothing to find (paper, section Method)."""

import numpy as np
from scipy import sparse

from xsae.alignment import Alignment

STRONG = 0.6  # the correlation from which the authors call a match strong


def shuffled(codes: sparse.csr_array) -> sparse.csr_array:
    """The rows of codes (n_pairs, L) in another order, one for all: pairs with these have nothing in common."""
    return codes[np.random.default_rng(0).permutation(codes.shape[0])]


def noise_floor(alignment: Alignment) -> float:
    """The 95th percentile of the correlations of an alignment's matches; it is to be fitted on `shuffled` pairs."""
    return float(np.quantile(alignment.correlation_[alignment.matched_], 0.95))


def match_statistics(
    alignment: Alignment,
    noise: Alignment,
    reference_codes: sparse.csr_array,
    other_codes: sparse.csr_array,
    names: tuple[str, str] = ("image", "text"),
) -> dict[str, float]:
    """Figures of the table `alignment`.

    Args:
        alignment: fitted on pairs of codes.
        noise: fitted on the same codes with their partners `shuffled`.
        reference_codes, other_codes: (n_pairs, L), the codes of the pairs.
        names: of the two modalities.

    Returns:
        `latents`, L; `alive_<name>`, how many fire at all; `matched`, how many have a partner; `mean_correlation` of
        the matches; `noise_floor`, that of `noise` (see there);
        `share_correlation_above_0.6` and `share_below_noise_floor`, of the matches.

    Raises:
        ValueError: there is no match.
    """
    found = alignment.correlation_[alignment.matched_]
    if 0 in (len(found), np.count_nonzero(noise.matched_)):
        raise ValueError("match_statistics: alignment or noise has no match; both need latents that fire")
    floor = noise_floor(noise)
    alive = [float(np.count_nonzero(codes.count_nonzero(axis=0))) for codes in (reference_codes, other_codes)]
    return {
        "latents": len(alignment.permutation_),
        **{f"alive_{name}": flags for name, flags in zip(names, alive, strict=True)},
        "matched": len(found),
        "mean_correlation": found.mean(),
        "noise_floor": floor,
        f"share_correlation_above_{STRONG}": (found >= STRONG).mean(),
        "share_below_noise_floor": (found < floor).mean(),
    }
