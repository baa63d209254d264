"""Maps that mix all latents: what retrieval could reach if a latent need not mean anything.

They are upper bounds, not alignments of latents: after them, index i is no concept of either side.
"""

from typing import Self

import numpy as np
from scipy import sparse

from xsae.alignments.base import LinearAlignment, Moments


class Procrustes(LinearAlignment):
    """The rotation R that minimises Σ‖a - R b‖² of centred codes: R = U Vᵀ of the covariance's U S Vᵀ.

    Schönemann 1966. Lengths and angles among the other's codes stay; what a single latent means is gone.
    """

    def fit(self, reference_codes: sparse.csr_array, other_codes: sparse.csr_array) -> Self:
        """Raises ValueError: the widths or row counts differ, fewer than two pairs, or a code is not finite."""
        if reference_codes.shape[1] != other_codes.shape[1]:
            raise ValueError(
                f"Procrustes: {reference_codes.shape[1]} and {other_codes.shape[1]} latents; a rotation needs one width"
            )
        left, _, right = np.linalg.svd(Moments.of(reference_codes, other_codes).cross)
        self.weights_ = left @ right
        self.back_weights_ = self.weights_.T
        return self


class Ridge(LinearAlignment):
    """F = argmin E‖a - F b‖² + λ‖F‖² of centred codes, and the same back; λ as in `Moments.damped`."""

    def fit(self, reference_codes: sparse.csr_array, other_codes: sparse.csr_array) -> Self:
        """Raises ValueError: row counts differ, fewer than two pairs, or a code is not finite."""
        moments = Moments.of(reference_codes, other_codes)
        self.weights_, self.back_weights_ = (
            np.linalg.solve(way.damped, way.cross.T).T for way in (moments, moments.back)
        )
        return self


class CCA(LinearAlignment):
    """Prediction through the first canonical pairs (Hotelling 1936):

        A^-½ C B^-½ = U S Vᵀ        F = A^½ U_r S_r V_rᵀ B^-½        and the same back

    A and B are the damped covariances of both sides, C that between them. U_r, S_r, V_r are the first `components`.
    """

    def __init__(self, components: int = 128) -> None:
        """components: canonical pairs that are kept, all of them where there are fewer."""
        if components < 1:
            raise ValueError(f"CCA: components is {components}; at least 1 is needed")
        self.components = components

    def fit(self, reference_codes: sparse.csr_array, other_codes: sparse.csr_array) -> Self:
        """Raises ValueError: row counts differ, fewer than two pairs, or a code is not finite."""
        moments = Moments.of(reference_codes, other_codes)
        (root_a, inverse_a), (root_b, inverse_b) = map(_roots, (moments.back.damped, moments.damped))
        left, values, right = np.linalg.svd(inverse_a @ moments.cross @ inverse_b, full_matrices=False)
        kept = slice(self.components)
        core = (left[:, kept] * values[kept]) @ right[kept]
        self.weights_, self.back_weights_ = root_a @ core @ inverse_b, root_b @ core.T @ inverse_a
        return self


def _roots(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The square root of a positive definite matrix, and the inverse of that root."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(values)) @ vectors.T, (vectors / np.sqrt(values)) @ vectors.T
