"""What an alignment found, against what it finds where there is nothing to find (paper, section Method)."""

import numpy as np
from scipy import sparse

from xsae.alignment import Alignment

STRONG = 0.6  # the correlation from which the authors call a match strong


def match_statistics(
    alignment: Alignment,
    shuffled: Alignment,
    reference_codes: sparse.csr_array,
    other_codes: sparse.csr_array,
    names: tuple[str, str] = ("image", "text"),
) -> dict[str, float]:
    """Figures of the table `alignment`.

    Args:
        alignment: fitted on pairs of codes.
        shuffled: fitted on the same codes with their partners shuffled.
        reference_codes, other_codes: (n_pairs, L), the codes of the pairs.
        names: of the two modalities.

    Returns:
        `latents`, L; `alive_<name>`, how many fire at all; `matched`, how many have a partner; `mean_correlation` of
        the matches; `noise_floor`, the 95th percentile of the correlations of `shuffled`;
        `share_correlation_above_0.6` and `share_below_noise_floor`, of the matches.

    Raises:
        ValueError: there is no match.
    """
    found, noise = (own.correlation_[own.matched_] for own in (alignment, shuffled))
    if 0 in (len(found), len(noise)):
        raise ValueError("match_statistics: alignment or shuffled has no match; both need latents that fire")
    floor = np.quantile(noise, 0.95)
    alive = [float(np.count_nonzero(codes.count_nonzero(axis=0))) for codes in (reference_codes, other_codes)]
    return {
        "latents": len(alignment.permutation_),
        **{f"alive_{name}": own for name, own in zip(names, alive, strict=True)},
        "matched": len(found),
        "mean_correlation": found.mean(),
        "noise_floor": floor,
        f"share_correlation_above_{STRONG}": (found >= STRONG).mean(),
        "share_below_noise_floor": (found < floor).mean(),
    }
