"""What every alignment is: a linear map of the other's codes to the reference's latents, and one back."""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from scipy import sparse

Map = np.ndarray | sparse.csr_array


class LinearAlignment:
    """The contract of `xsae.alignments`.

        fit(reference_codes, other_codes)     learns `weights_` and `back_weights_` from training pairs
        transform(codes)                      the other's codes in the reference's latents
        transform_reference(codes)            the reference's codes in the other's latents

    Attributes:
        weights_: (L_reference, L_other) float64; row i says which of the other's latents reference latent i is. Sparse
            csr where a latent keeps its identity, dense where it does not.
        back_weights_: (L_other, L_reference) likewise, for the way back.

    Retrieval maps the *gallery* to the latents of the query, whichever side that is: a gallery item then says which
    queries are like it, and all items count alike. Mapping the query instead makes hubs of some items (Shigeto et al.
    2015, Ridge Regression, Hubness, and Zero-Shot Learning). For one-to-one maps and rotations it is the same.
    """

    weights_: Map
    back_weights_: Map

    def fit(self, reference_codes: sparse.csr_array, other_codes: sparse.csr_array) -> Self:
        """Learn from codes (n_pairs, L_reference) and (n_pairs, L_other), row i of each of one pair."""
        raise NotImplementedError

    def transform(self, codes: sparse.csr_array) -> Map:
        """The other's codes (n, L_other) in the reference's latents: (n, L_reference), sparse where the map is.

        Raises:
            ValueError: `codes` has another number of latents.
            RuntimeError: not fitted.
        """
        return self._mapped(codes, "weights_")

    def transform_reference(self, codes: sparse.csr_array) -> Map:
        """The reference's codes (n, L_reference) in the other's latents: (n, L_other). Errors as of `transform`."""
        return self._mapped(codes, "back_weights_")

    def translated(self, dictionary: np.ndarray) -> np.ndarray:
        """What each of the other's latents is among the reference's directions: (L_other, d).

            row j = Σ_i W_ij d_i        W = `weights_`, d_i = row i of the reference's `dictionary` (L_reference, d)

        An activation of latent j is the code W e_j in the reference's latents, and this is what that code decodes to:
        to decode a mapped code is to decode the code as it was with these directions. With one partner the row is that
        partner's direction; a latent that is nobody's partner has a row of zeros.

        Raises:
            ValueError: `dictionary` has another number of rows.
            RuntimeError: not fitted.
        """
        self._check_fitted()
        if dictionary.ndim != 2 or len(dictionary) != self.weights_.shape[0]:
            expected = f"({self.weights_.shape[0]}, d)"
            raise ValueError(f"{type(self).__name__}: dictionary has shape {dictionary.shape}, expected {expected}")
        return self.weights_.T @ np.asarray(dictionary, dtype=np.float64)

    def partners(self) -> np.ndarray:
        """How many of the other's latents each reference latent is made of: (L_reference,) int.

        Raises:
            RuntimeError: not fitted.
        """
        self._check_fitted()
        return np.count_nonzero(self.weights_, axis=1) if self.identity_lost else np.diff(self.weights_.indptr)

    @property
    def identity_lost(self) -> bool:
        """Whether a latent is a mixture of all, and so means nothing by itself. Raises RuntimeError: not fitted."""
        self._check_fitted()
        return not sparse.issparse(self.weights_)

    def _mapped(self, codes: sparse.csr_array, name: str) -> Map:
        self._check_fitted()
        weights = getattr(self, name)
        if codes.ndim != 2 or codes.shape[1] != weights.shape[1]:
            raise ValueError(
                f"{type(self).__name__}: codes has shape {codes.shape}, expected (n, {weights.shape[1]}) latents"
            )
        return sparse.csr_array(codes) @ weights.T

    def _check_fitted(self) -> None:
        if not hasattr(self, "weights_"):
            raise RuntimeError(f"{type(self).__name__} is not fitted: call fit(reference_codes, other_codes) first")


class SparseMap(LinearAlignment):
    """An alignment whose way back has the same partners and weights: `back_weights_` is the transpose."""

    def _set(self, weights: sparse.sparray) -> Self:
        self.weights_ = sparse.csr_array(weights, dtype=np.float64)
        self.weights_.eliminate_zeros()
        self.back_weights_ = self.weights_.T.tocsr()
        return self


@dataclass(frozen=True)
class Moments:
    """All that a linear map needs to know of the codes of n pairs, each centred on its mean.

    reference: (L_a, L_a), other: (L_b, L_b) covariances; cross: (L_a, L_b) between them; float64.
    """

    n: int
    reference: np.ndarray
    other: np.ndarray
    cross: np.ndarray

    @classmethod
    def of(cls, reference_codes: sparse.csr_array, other_codes: sparse.csr_array) -> Self:
        """Raises ValueError: row counts differ, fewer than two pairs, or a code is not finite."""
        a, b = (sparse.csr_array(codes, dtype=np.float64) for codes in (reference_codes, other_codes))
        n = a.shape[0]
        if b.shape[0] != n:
            raise ValueError(f"reference_codes has {n} rows and other_codes {b.shape[0]}; row i of each must be a pair")
        if n < 2:
            raise ValueError(f"reference_codes and other_codes have {n} rows; a covariance needs at least 2 pairs")
        for name, codes in (("reference_codes", a), ("other_codes", b)):
            if not np.isfinite(codes.data).all():
                raise ValueError(f"{name} holds NaN or infinity; codes must be finite")
        mean_a, mean_b = np.asarray(a.mean(axis=0)), np.asarray(b.mean(axis=0))
        return cls(
            n,
            (a.T @ a).toarray() / n - np.outer(mean_a, mean_a),
            (b.T @ b).toarray() / n - np.outer(mean_b, mean_b),
            (a.T @ b).toarray() / n - np.outer(mean_a, mean_b),
        )

    @cached_property
    def back(self) -> "Moments":
        """The same with the roles exchanged."""
        return Moments(self.n, self.other, self.reference, self.cross.T)

    @cached_property
    def damped(self) -> np.ndarray:
        """(L_b, L_b) covariance of the other's codes, its diagonal raised by 5 · total variance / n.

        What a covariance of n pairs is uncertain by grows with L / n, and the damping with it. The factor was chosen on
        pairs held out of the training pairs (docs/alignments.md); between 1 and 50 little depends on it.
        """
        raised = 5 * np.trace(self.other) / self.n
        # codes that never vary have no variance to be divided by
        return self.other + (raised or 1.0) * np.eye(len(self.other))
