"""Synthetic pairs whose concept directions are known (paper, theory and Fig. 1).

    x = Φᵀz_I + ε_I   (image)        y = Ψᵀz_T + ε_T   (text)        each then scaled to unit L2 norm

Rows of Φ and Ψ are concept directions. Row i < n_shared of both is one concept, with cos(φ_i, ψ_i) set; the rows after
those are concepts of the one modality. A pair's modalities have the same shared concepts active, with coefficients of
their own. There may be more modalities: each further one is to the first as Ψ is to Φ. A method that looks for concepts
can here be held against the truth.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import numpy as np
from scipy import sparse

_BLOCK = 4096  # pairs whose dense supports are held at one time: 32 MB at 1024 concepts
_STEPS = 200  # repulsion steps before giving up; the paper's sizes take 2, a bound of 0.10 at those sizes takes 10


@dataclass(frozen=True)
class Pairs:
    """Pairs of embeddings, and what made them.

    embeddings: modality -> (n_pairs, d) float32, unit rows. codes: modality -> (n_pairs, n_shared + n_own) float32
    sparse, the coefficients z before noise and scaling.
    """

    embeddings: dict[str, np.ndarray]
    codes: dict[str, sparse.csr_array]

    @property
    def rows(self) -> dict[str, np.ndarray]:
        """modality -> int (n_pairs,), the matrix row of each pair, as `methods.train_saes` asks: here 0, 1, 2, …"""
        return {modality: np.arange(len(x)) for modality, x in self.embeddings.items()}


@dataclass(frozen=True)
class SyntheticData:
    """Training and held-out pairs of one generative model, and its concept directions.

    dictionaries: modality -> (n_shared + n_own, d) float64, unit rows: Φ and Ψ. n_shared: how many rows, from the first
    on, are concepts that both modalities have.
    """

    dictionaries: dict[str, np.ndarray]
    n_shared: int
    train: Pairs
    test: Pairs

    @property
    def shared(self) -> dict[str, np.ndarray]:
        """modality -> (n_shared, d): the directions of the shared concepts, row i of each being one concept."""
        return {modality: directions[: self.n_shared] for modality, directions in self.dictionaries.items()}

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the training embeddings: names the data in a checkpoint, as an embedding store's does."""
        digest = hashlib.sha256()
        for modality, x in self.train.embeddings.items():
            digest.update(modality.encode() + np.ascontiguousarray(x).tobytes())
        return digest.hexdigest()


def generate(
    cosine: float,
    seed: int,
    *,
    dim: int = 256,
    n_shared: int = 1024,
    n_own: Mapping[str, int] = MappingProxyType({"image": 512, "text": 512}),
    n_train: int = 50_000,
    n_test: int = 10_000,
    activation: float = 0.01,
    noise: float = 0.05,
    max_interference: float = 0.30,
) -> SyntheticData:
    """Draw a generative model and pairs from it; the defaults are the paper's.

    With one seed Φ, the supports, the coefficients and the noise are the same for every `cosine`; only Ψ moves.

    Args:
        cosine: cos(φ_i, ψ_i) of every shared concept, met to rounding (the paper: to ±0.01). At 1, ψ_i = φ_i.
        seed: the same seed and sizes give the same bytes on the same machine.
        dim: embedding size d.
        n_shared: concepts of all modalities. n_own: modality -> concepts of it alone; the first is the reference, whose
            directions are Φ, and every other has a Ψ of its own at the same angles.
        n_train: training pairs. n_test: held-out pairs; neither number changes the other's pairs.
        activation: probability that a concept is active in a pair, independently. A pair in which none of a block
            (shared, and one of each modality) is active gets one of that block, drawn uniformly.
        noise: standard deviation of the Gaussian noise *per coordinate*, added before scaling. The paper's row says
            σ = 0.05 and no more; the norm of the whole vector is the other reading. Per coordinate, and with the other
            defaults, noise is about 2 % of the squared norm.
        max_interference: bound on |cos| of any two different concepts *within* a modality. Directions φ_i and ψ_j of
            different concepts are not bounded: the row says column interference, a property of one dictionary.

    Coefficients are Exp(1), drawn per modality on the common support.

    Raises:
        ValueError: an argument is out of range, or the bound is not met (too many concepts for that many dimensions).
    """
    for name, size in {"n_shared": n_shared, **{f"n_own[{m!r}]": size for m, size in n_own.items()}}.items():
        if size < 1:
            raise ValueError(f"{name}: {size} found; at least 1 is needed, for each pair has one of each block active")
    for name, size, least in (("dim", dim, 2), ("n_train", n_train, 1), ("n_test", n_test, 1)):
        if size < least:
            raise ValueError(f"{name}: {size} found; at least {least} is needed")
    if not -1 <= cosine <= 1:
        raise ValueError(f"cosine: {cosine} found; a cosine lies in [-1, 1]")
    if not 0 < activation <= 1:
        raise ValueError(f"activation: {activation} found; a probability in (0, 1] is needed")
    if not 0 <= noise < np.inf:
        raise ValueError(f"noise: {noise} found; a standard deviation of at least 0 is needed")
    if not 0 < max_interference <= 1:
        raise ValueError(f"max_interference: {max_interference} found; a bound in (0, 1] is needed")

    for_directions, for_train, for_test = map(np.random.default_rng, np.random.SeedSequence(seed).spawn(3))
    reference, *others = n_own
    start = for_directions.standard_normal((n_shared + n_own[reference], dim))
    dictionaries = {reference: _repel(unit_rows(start), unit_rows, max_interference, reference)}
    axis = dictionaries[reference][:n_shared]

    def around_axis(directions: np.ndarray) -> np.ndarray:
        """The nearest unit rows whose first n_shared lie at the angle asked for from the reference's."""
        directions = unit_rows(directions)
        both = directions[:n_shared]
        across = unit_rows(both - np.einsum("nd,nd->n", both, axis)[:, None] * axis)
        directions[:n_shared] = cosine * axis + np.sqrt(1 - cosine**2) * across
        return directions

    for other in others:
        start = for_directions.standard_normal((n_shared + n_own[other], dim))
        dictionaries[other] = _repel(around_axis(start), around_axis, max_interference, other)
    train = _pairs(dictionaries, n_shared, n_train, activation, noise, for_train)
    return SyntheticData(
        dictionaries, n_shared, train, _pairs(dictionaries, n_shared, n_test, activation, noise, for_test)
    )


def interference(directions: np.ndarray) -> float:
    """The largest |cos| of two different rows of unit `directions` (n, d), n >= 2. Holds an (n, n) matrix."""
    return float(np.abs(_overlaps(directions)).max())


def _overlaps(directions: np.ndarray) -> np.ndarray:
    overlaps = directions @ directions.T
    np.fill_diagonal(overlaps, 0.0)
    return overlaps


def _repel(
    directions: np.ndarray, constrain: Callable[[np.ndarray], np.ndarray], bound: float, modality: str
) -> np.ndarray:
    """Push apart the rows whose |cos| passes the bound, until none does.

    Projected gradient steps on ½ Σ_{i<j} max(|cos_ij| - 0.95 bound, 0)²: pairs far enough apart stay as drawn, and the
    5 % let the steps end. `constrain` puts the rows back onto the set they must lie in.
    """
    for _ in range(_STEPS):
        overlaps = _overlaps(directions)
        worst = np.abs(overlaps).max()
        if worst <= bound:
            return directions
        excess = overlaps - np.clip(overlaps, -0.95 * bound, 0.95 * bound)
        directions = constrain(directions - 0.5 * excess @ directions)
    raise ValueError(
        f"max_interference: {bound} not met by {len(directions)} {modality} directions in {directions.shape[1]} "
        f"dimensions ({worst:.3f} after {_STEPS} steps); allow more, or ask for fewer concepts"
    )


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Rows over their norm; a row of zeros (nothing across an axis, at cosine 1) stays."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(float).tiny)


def _pairs(
    dictionaries: dict[str, np.ndarray],
    n_shared: int,
    n_pairs: int,
    activation: float,
    noise: float,
    rng: np.random.Generator,
) -> Pairs:
    shared = _support(n_pairs, n_shared, activation, rng)
    embeddings, codes = {}, {}
    for modality, directions in dictionaries.items():
        alone = _support(n_pairs, len(directions) - n_shared, activation, rng)
        z = sparse.hstack([shared, alone], format="csr", dtype=np.float32)
        z.data[:] = rng.exponential(size=z.nnz)
        x = unit_rows(z @ directions + noise * rng.standard_normal((n_pairs, directions.shape[1])))
        embeddings[modality], codes[modality] = x.astype(np.float32), z
    return Pairs(embeddings, codes)


def _support(n_pairs: int, n_concepts: int, activation: float, rng: np.random.Generator) -> sparse.csr_array:
    """Which concepts of a block are active: sparse bool (n_pairs, n_concepts), at least one per row."""
    blocks = []
    for start in range(0, n_pairs, _BLOCK):
        active = rng.random((min(_BLOCK, n_pairs - start), n_concepts)) < activation
        empty = np.flatnonzero(~active.any(axis=1))
        active[empty, rng.integers(n_concepts, size=len(empty))] = True
        blocks.append(sparse.csr_array(active))
    return sparse.vstack(blocks, format="csr")
