"""Which matches are real: the chance that two latents fire together as often by accident, and what holds of the truth.

An assignment finds a partner for every latent, also where there is none. Under the null hypothesis pairs are shuffled:
which texts go with which images says nothing. Of n pairs, image latent i fires in n_i and text latent j in n_j; the
number T of pairs in which both fire is then hypergeometric, exactly, whatever the rates:

    p_ij = P(T >= t_ij),  T ~ Hypergeometric(n, n_i, n_j)

A match was chosen among all m alive partners, so p_i = min(1, m p_iπ(i)) (Bonferroni); of all matches those are
significant that the false discovery rate of Benjamini and Hochberg (1995) allows. How strongly they fire is not used.
"""

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.stats import false_discovery_control, hypergeom

from xsae.alignment import Alignment
from xsae.correlation import co_activation

RATE = 0.05  # of significant matches, the share that may be false
CARRIED = 0.2  # correlation with a concept's coefficient from which a latent carries the concept
KINDS = ("matched", "modality-only", "dead")


def co_firing_p(reference_codes: sparse.csr_array, other_codes: sparse.csr_array, matches: pd.DataFrame) -> np.ndarray:
    """p of each row of `matches` (`latent`, `partner`): the chance of firing together so often; exact, not corrected.

    Codes (n_pairs, L), row i of each of one pair. Pairs must be independent: of an image with several captions, one.

    Raises:
        ValueError: the row counts differ, or there is no row.
    """
    n = reference_codes.shape[0]
    if n == 0 or other_codes.shape[0] != n:
        raise ValueError(
            f"co_firing_p: reference_codes has {n} rows and other_codes {other_codes.shape[0]}; row i must be a pair"
        )
    a = (reference_codes[:, matches["latent"].to_numpy()] != 0).astype(np.float64)
    b = (other_codes[:, matches["partner"].to_numpy()] != 0).astype(np.float64)
    together = np.asarray(a.multiply(b).sum(axis=0))
    return hypergeom.sf(together - 1, n, np.asarray(a.sum(axis=0)), np.asarray(b.sum(axis=0)))


def significant_matches(
    alignment: Alignment, reference_codes: sparse.csr_array, other_codes: sparse.csr_array
) -> pd.DataFrame:
    """`alignment.matches()` with their p, corrected for the choice of the partner, q of Benjamini and Hochberg, and
    whether q <= `RATE`: columns `latent`, `partner`, `correlation`, `p`, `q`, `significant`. Errors as above.
    """
    matches = alignment.matches()
    choices = np.count_nonzero(other_codes.count_nonzero(axis=0))
    p = np.minimum(1.0, choices * co_firing_p(reference_codes, other_codes, matches))
    q = false_discovery_control(p) if len(p) else p
    return matches.assign(p=p, q=q, significant=q <= RATE)


def kinds(codes: sparse.csr_array, matched: np.ndarray) -> dict[str, int]:
    """How many latents of codes (n, L) are of each of `KINDS`; matched: the latents with a significant match.

    A latent that fires without one is of its modality only, as far as these pairs can tell.
    """
    alive = int(np.count_nonzero(codes.count_nonzero(axis=0)))
    return dict(zip(KINDS, (len(matched), alive - len(matched), codes.shape[1] - alive), strict=True))


def against_truth(
    matches: pd.DataFrame,
    reference_codes: sparse.csr_array,
    other_codes: sparse.csr_array,
    reference_truth: sparse.csr_array,
    other_truth: sparse.csr_array,
    n_shared: int,
) -> dict[str, float]:
    """Precision and recall of significant matches where the concepts of every pair are known.

    Args:
        matches: as `significant_matches` gives them.
        reference_codes, other_codes: (n_pairs, L).
        reference_truth, other_truth: (n_pairs, concepts) coefficients; of the columns the first `n_shared` are of
            concepts that both modalities have.

    Returns:
        `significant`, how many; `precision`, the share of these whose latents carry a common shared concept (each
        correlates at least `CARRIED` with its coefficient); `same_first`, the share whose latents have the same concept
        of largest correlation, which merged latents need not have; `recall`, the share of shared concepts that some
        significant match has as the first concept of both sides; `all_precision`, the precision of all matches.
    """
    a = co_activation(reference_codes, reference_truth)[matches["latent"]]
    b = co_activation(other_codes, other_truth)[matches["partner"]]
    common = ((a >= CARRIED)[:, :n_shared] & (b >= CARRIED)[:, :n_shared]).any(axis=1)
    first = a.argmax(axis=1)
    same = (first == b.argmax(axis=1)) & (first < n_shared)
    called = matches["significant"].to_numpy()
    return {
        "significant": float(called.sum()),
        "precision": float(common[called].mean()) if called.any() else np.nan,
        "same_first": float(same[called].mean()) if called.any() else np.nan,
        "recall": len(np.unique(first[called & same])) / n_shared,
        "all_precision": float(common.mean()),
    }
