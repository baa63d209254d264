"""Post-hoc alignment: which latent of one SAE means what a latent of another SAE means (paper, section Method).

Fitted once, on the codes of the SAEs' training pairs, and reused for every evaluation:

    C[i, j] = Pearson correlation of reference latent i and other latent j over the pairs
    π       = argmax over one-to-one maps of Σ_i C[i, π(i)],  among the latents that fire at least once on their side

The other side's latents are then re-indexed by π. Nothing is retrained and no direction changes: reconstruction stays.

C (`co_activation`) is dense up to 8192 x 8192 latents. Beyond that its positive entries alone are held, which only
latents that fire together can have.
"""

import hashlib
import json
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from scipy import sparse
from scipy.optimize import linear_sum_assignment
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from xsae.correlation import co_activation, positive_co_activation, standardised
from xsae.disk import files, markers

_FORMAT = "xsae.alignment.2"
_DTYPES = {"permutation": "I64", "matched": "BOOL", "correlation": "F32"}  # as safetensors names them
_DENSE = 8192**2  # correlations that are held as one dense matrix: 268 MB; its assignment is exact


def _assign(reference: sparse.csr_array, other: sparse.csr_array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Matches of alive latents: their columns in `reference` and in `other`, and their correlations."""
    correlation = co_activation(reference, other)
    rows, columns = linear_sum_assignment(correlation, maximize=True)
    return rows, columns, correlation[rows, columns]


def _assign_sparse(reference: sparse.csr_array, other: sparse.csr_array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`_assign` on the positive correlations, then on what they leave."""
    if reference.shape[1] > other.shape[1]:
        columns, rows, correlation = _assign_sparse(other, reference)
        return rows, columns, correlation
    # A full matching at least cost 2 - C, in which a latent may also go to a place of its own, worth C = 0.
    gain = positive_co_activation(reference, other)
    gain.data = 2.0 - gain.data
    alone = sparse.diags_array(np.full(gain.shape[0], 2.0, dtype=np.float32))
    rows, columns = min_weight_full_bipartite_matching(sparse.hstack([gain, alone], format="csr"))
    found = columns < other.shape[1]
    # What is left has products of means to lose: the latents that fire most go to those that fire least.
    left = _by_rate(reference, rows[~found])[::-1]
    free = _by_rate(other, np.setdiff1d(np.arange(other.shape[1]), columns[found]))
    rows, columns = np.append(rows[found], left), np.append(columns[found], free[: len(left)])
    (a, mean_a), (b, mean_b) = standardised(reference[:, rows], other[:, columns])
    correlation = np.asarray(a.multiply(b).sum(axis=0)) - a.shape[0] * mean_a * mean_b
    return rows, columns, np.clip(correlation, -1.0, 1.0).astype(np.float32)


def _by_rate(codes: sparse.csr_array, latents: np.ndarray) -> np.ndarray:
    """`latents` in the order of how often they fire."""
    return latents[np.argsort(codes[:, latents].count_nonzero(axis=0), kind="stable")]


class Alignment:
    """A one-to-one map from the latents of an SAE to those of a reference SAE of the same width L.

    Attributes:
        permutation_: (L,) int64, a bijection: latent i of the aligned other codes is other latent `permutation_[i]`.
        matched_: (L,) bool, true where the assignment paired two alive latents; min(alive, alive) of them.
        correlation_: (L,) float32 co-activation correlation of each match, NaN where there is none.

    The latents left over by the assignment fill the left-over places in ascending order. The side with fewer alive
    latents is matched in full, so of two left-over partners at least one is dead: nothing false is paired.
    """

    permutation_: np.ndarray
    matched_: np.ndarray
    correlation_: np.ndarray

    def __repr__(self) -> str:
        if not hasattr(self, "permutation_"):
            return "Alignment, not fitted"
        matched = self.correlation_[self.matched_]
        median = f", median correlation {np.median(matched):.2f}" if len(matched) else ""
        return f"Alignment of {len(self.permutation_)} latents, {len(matched)} matched{median}"

    def fit(self, reference_codes: sparse.csr_array, other_codes: sparse.csr_array) -> Self:
        """Match the latents of `other_codes` to those of `reference_codes`, both (n_pairs, L), by co-activation.

        The objective is the summed signed correlation: two latents that exclude each other are not one concept. Above
        8192 alive latents a side it is reached among the positive correlations; latents without a positive partner left
        are matched last, which falls short of the exact optimum by no more than what `correlation_` of these sums to.

        Raises:
            ValueError: the shapes differ, there is no row, or a code is not finite.
        """
        if reference_codes.shape[1] != other_codes.shape[1]:
            raise ValueError(
                f"Alignment.fit: reference_codes has {reference_codes.shape[1]} latents and other_codes "
                f"{other_codes.shape[1]}; a permutation needs two SAEs of one width"
            )
        reference_alive, other_alive = (
            np.flatnonzero(sparse.csr_array(codes).count_nonzero(axis=0)) for codes in (reference_codes, other_codes)
        )
        assign = _assign if len(reference_alive) * len(other_alive) <= _DENSE else _assign_sparse
        rows, columns, correlation = assign(reference_codes[:, reference_alive], other_codes[:, other_alive])
        reference, other = reference_alive[rows], other_alive[columns]

        every = np.arange(reference_codes.shape[1])
        self.permutation_ = np.empty(len(every), dtype=np.int64)
        self.permutation_[reference] = other
        self.permutation_[np.setdiff1d(every, reference)] = np.setdiff1d(every, other)
        self.matched_ = np.isin(every, reference)
        self.correlation_ = np.full(len(every), np.nan, dtype=np.float32)
        self.correlation_[reference] = correlation
        return self

    def transform(self, codes: sparse.csr_array) -> sparse.csr_array:
        """Other codes (n, L) with their latents in the reference's order, (n, L); values and dtype unchanged.

        Raises:
            ValueError: `codes` has another number of latents.
            RuntimeError: not fitted.
        """
        self._check_fitted()
        if codes.ndim != 2 or codes.shape[1] != len(self.permutation_):
            raise ValueError(
                f"Alignment.transform: codes has shape {codes.shape}, expected (n, {len(self.permutation_)})"
            )
        codes = sparse.csr_array(codes)
        place = np.argsort(self.permutation_)  # the inverse: other latent j goes to place[j]
        moved = sparse.csr_array((codes.data.copy(), place[codes.indices], codes.indptr.copy()), shape=codes.shape)
        moved.sort_indices()
        return moved

    def transform_dictionary(self, dictionary: np.ndarray) -> np.ndarray:
        """The other SAE's dictionary (L, d) with its rows in the reference's order, (L, d); no direction changes.

        Raises:
            ValueError: `dictionary` has another number of rows.
            RuntimeError: not fitted.
        """
        self._check_fitted()
        if dictionary.ndim != 2 or dictionary.shape[0] != len(self.permutation_):
            raise ValueError(
                f"Alignment.transform_dictionary: dictionary has shape {dictionary.shape}, "
                f"expected ({len(self.permutation_)}, d)"
            )
        return dictionary[self.permutation_]

    def matches(self) -> pd.DataFrame:
        """One row per match, in the order of the reference's latents: `latent`, its `partner`, their `correlation`.

        Raises:
            RuntimeError: not fitted.
        """
        self._check_fitted()
        latents = np.flatnonzero(self.matched_)
        about = {"latent": latents, "partner": self.permutation_[latents], "correlation": self.correlation_[latents]}
        return pd.DataFrame(about)

    def save(self, path: str | Path, fitted_on: str = "") -> None:
        """Write one safetensors file: the three attributes and, as JSON in its header, the format, `fitted_on` and the
        sha256 of all this.

        fitted_on: names the autoencoders whose codes it was fitted on, as a checkpoint's fingerprint does; `load` asks
        for it. Empty where the file stays beside them.

        Raises:
            RuntimeError: not fitted.
        """
        self._check_fitted()
        tensors = {name: getattr(self, f"{name}_") for name in _DTYPES}
        # One key: the order of several is not fixed by safetensors, and equal alignments should be equal files.
        about = {"format": _FORMAT, "fitted_on": fitted_on, "sha256": _digest(tensors, fitted_on)}
        metadata = {"xsae": json.dumps(about)}
        with files.file(Path(path)) as partial:
            save_file(tensors, partial, metadata)

    @classmethod
    def load(cls, path: str | Path, fitted_on: str = "") -> Self:
        """Read what `save` wrote with the same `fitted_on`.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is truncated, altered, something else or of other autoencoders; the message names it.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"{path}: no such file; Alignment.save writes one")
        shapes = markers.tensor_shapes(path)
        try:
            with safe_open(path, framework="numpy") as file:
                about = json.loads((file.metadata() or {}).get("xsae", "{}"))
                problem = _problem_of_header(about, shapes)
                tensors = {} if problem else {name: file.get_tensor(name) for name in shapes}
        except (SafetensorError, ValueError, RecursionError) as error:
            reason = " ".join(str(error).split())[:100]
            raise ValueError(f"{path}: not a readable alignment file ({reason}); fit and save it again") from None
        problem = problem or _problem(about, tensors)
        if not problem and about["fitted_on"] != fitted_on:
            of, wanted = ((name or "nothing that is named")[:12] for name in (about["fitted_on"], fitted_on))
            problem = f"fitted on other autoencoders ({of}) than those it is to align ({wanted})"
        if problem:
            raise ValueError(f"{path}: {problem}; fit and save the alignment again")
        alignment = cls()
        for name, tensor in tensors.items():
            setattr(alignment, f"{name}_", tensor)
        return alignment

    def _check_fitted(self) -> None:
        if not hasattr(self, "permutation_"):
            raise RuntimeError("Alignment is not fitted: call fit(reference_codes, other_codes) or load(path) first")


def _digest(tensors: dict[str, np.ndarray], fitted_on: str) -> str:
    digest = hashlib.sha256(f"{fitted_on}\n".encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tensors[name].shape}\n".encode())
        digest.update(np.ascontiguousarray(tensors[name]).tobytes())
    return digest.hexdigest()


def _problem_of_header(about: object, found: dict[str, tuple[str, tuple[int, ...]]]) -> str:
    """What in a file's header keeps it from being an alignment's, in words; empty if nothing does."""
    if not isinstance(about, dict) or about.get("format") != _FORMAT or not isinstance(about.get("fitted_on"), str):
        return f"no alignment: its header does not say format {_FORMAT}"
    shapes = {shape for _, shape in found.values()}
    if {name: kind for name, (kind, _) in found.items()} != _DTYPES or len(shapes) != 1 or len(min(shapes)) != 1:
        return "no alignment: expected permutation int64, matched bool and correlation float32, all of shape (L,)"
    return ""


def _problem(about: dict, tensors: dict[str, np.ndarray]) -> str:
    """What keeps these tensors from being an alignment, in words; empty if nothing does."""
    if about.get("sha256") != _digest(tensors, about["fitted_on"]):
        return "contents do not fit the recorded sha256 (altered after saving)"
    if not np.array_equal(np.sort(tensors["permutation"]), np.arange(len(tensors["permutation"]))):
        return "permutation is not a permutation of 0..L-1"
    if not np.array_equal(np.isfinite(tensors["correlation"]), tensors["matched"]):
        return "correlation must be finite exactly where matched is true"
    if np.nanmax(np.abs(tensors["correlation"]), initial=0) > 1:
        return "correlations must lie from -1 to 1"
    return ""
