"""Entropic optimal transport between latents, cut to a few partners each."""

from typing import Self

import numpy as np
from scipy import sparse
from scipy.special import logsumexp

from xsae.alignments.base import SparseMap
from xsae.alignments.partners import largest
from xsae.correlation import co_activation

_STEPS = 200
_MARGIN = 0.01  # relative error of the marginals at which the steps end


class Sinkhorn(SparseMap):
    """The transport plan between alive latents at cost -C, of which each reference latent keeps its largest entries.

        P = argmax_P Σ P C + ε H(P)    over plans with uniform marginals    (Cuturi 2013)

    Iterated on logarithms, for exp(C / ε) leaves the range of floats at a small ε. These are the few lines that we need
    of an optimal transport library. Weights are the shares of a reference latent's mass.

    Attributes:
        plan_: (alive reference, alive other) float64, the whole plan, of mass 1.
    """

    plan_: np.ndarray

    def __init__(self, epsilon: float = 0.03, partners: int = 4) -> None:
        """epsilon: strength of the entropy, in units of correlation. partners: kept by each reference latent."""
        if not epsilon > 0 or partners < 1:
            raise ValueError(f"Sinkhorn: epsilon {epsilon}, partners {partners}; above 0 and at least 1 are needed")
        self.epsilon, self.n_partners = epsilon, partners

    def fit(self, reference_codes: sparse.csr_array, other_codes: sparse.csr_array) -> Self:
        """Raises ValueError as `co_activation` does, or where no latent is alive on a side."""
        rows, columns = (np.flatnonzero(codes.count_nonzero(axis=0)) for codes in (reference_codes, other_codes))
        if 0 in (len(rows), len(columns)):
            raise ValueError("Sinkhorn: a side has no latent that fires; both need one")
        self.plan_ = transport(co_activation(reference_codes[:, rows], other_codes[:, columns]), self.epsilon)
        kept = np.where(largest(self.plan_, self.n_partners), self.plan_, 0) * len(rows)
        weights = np.zeros((reference_codes.shape[1], other_codes.shape[1]))
        weights[np.ix_(rows, columns)] = kept
        return self._set(sparse.csr_array(weights))


def transport(gain: np.ndarray, epsilon: float) -> np.ndarray:
    """The plan (a, b) of mass 1 with uniform marginals that maximises Σ P gain + ε H(P).

    Scales rows and columns in turn until the rows' sums are within 1 % of 1/a; the columns' are exact.
    """
    log_plan = gain.astype(np.float64) / epsilon
    a, b = log_plan.shape
    for _ in range(_STEPS):
        log_plan -= logsumexp(log_plan, axis=1, keepdims=True) + np.log(a)
        log_plan -= logsumexp(log_plan, axis=0, keepdims=True) + np.log(b)
        if np.abs(np.exp(logsumexp(log_plan, axis=1)) * a - 1).max() < _MARGIN:
            break
    return np.exp(log_plan)
