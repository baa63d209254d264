"""Maps between latents that were tried: each is fitted on codes of pairs and gives a map either way.

F (L_a, L_b) says what each latent of a is in those of b, B (L_b, L_a) the way back; dense, float64.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from scipy import sparse

from xsae.alignment import Alignment
from xsae.alignments import Hungarian, LinearAlignment, Partners, Procrustes, Ridge, Sinkhorn
from xsae.alignments.base import Moments
from xsae.alignments.partners import largest, restricted
from xsae.correlation import co_activation

Codes = sparse.csr_array
Maps = tuple[np.ndarray, np.ndarray]
PARTNERS, RANK = 4, 48


@dataclass(frozen=True)
class Idea:
    """fit: codes of a and of b (n, L), row i of each of one pair -> F and B.

    divided: whether all is compared in latents divided by the root of their deviation. of_query: whether the query is
    mapped and not, as elsewhere, the gallery.
    """

    fit: Callable[[Codes, Codes], Maps]
    divided: bool = False
    of_query: bool = False


def _of(make: Callable[[], LinearAlignment]) -> Callable[[Codes, Codes], Maps]:
    """An alignment of the package."""

    def fit(a: Codes, b: Codes) -> Maps:
        fitted = make().fit(a, b)
        maps = (fitted.weights_, fitted.back_weights_)
        return tuple(matrix.toarray() if sparse.issparse(matrix) else matrix for matrix in maps)

    return fit


def weighted_hungarian(a: Codes, b: Codes) -> Maps:
    """The paper's matches, each weighted by its correlation."""
    matches = Alignment().fit(a, b).matches()
    weights = np.zeros((a.shape[1], b.shape[1]))
    weights[matches["latent"], matches["partner"]] = matches["correlation"]
    return weights, weights.T


def block_procrustes(a: Codes, b: Codes) -> Maps:
    """The paper's matches in groups of four that fire together, and a rotation within each group.

    The match of the largest correlation and the three left whose latents of a correlate most with its own are a group.
    """
    matches = Alignment().fit(a, b).matches().sort_values("correlation", ascending=False, kind="stable")
    latents, partners = matches["latent"].to_numpy(), matches["partner"].to_numpy()
    near, cross = co_activation(a[:, latents], a[:, latents]), Moments.of(a, b).cross
    weights, left = np.zeros(cross.shape), np.ones(len(latents), dtype=bool)
    while left.any():
        first = int(left.argmax())
        left[first] = False
        others = np.flatnonzero(left)
        group = np.append(first, others[np.argsort(-near[first, others], kind="stable")[: PARTNERS - 1]])
        left[group] = False
        block = np.ix_(latents[group], partners[group])
        u, _, v = np.linalg.svd(cross[block])
        weights[block] = u @ v
    return weights, weights.T


def most_correlated(a: Codes, b: Codes) -> Maps:
    """The four most correlated partners of each latent of a, weighted by their correlation."""
    correlation = co_activation(a, b).astype(np.float64)
    weights = np.where(largest(correlation, PARTNERS), correlation, 0)
    return weights, weights.T


def ridge_on_correlated(a: Codes, b: Codes) -> Maps:
    """The same partners, weights by ridge regression either way."""
    return _both_restricted(a, b, largest(co_activation(a, b), PARTNERS))


def cut_procrustes(a: Codes, b: Codes) -> Maps:
    """The four largest entries of each row of the rotation."""
    rotation = Procrustes().fit(a, b).weights_
    weights = np.where(largest(np.abs(rotation), PARTNERS), rotation, 0)
    return weights, weights.T


def support_per_direction(a: Codes, b: Codes) -> Maps:
    """Four partners of each mapped latent, by what each moves in the dense ridge; then ridge on these alone."""
    moments, dense = _ridge(a, b)
    supports = (
        largest(_moved(matrix, of), PARTNERS) for matrix, of in zip(dense, (moments, moments.back), strict=True)
    )
    both = zip((moments, moments.back), supports, strict=True)
    return tuple(restricted(of, support).toarray() for of, support in both)


def cut_ridge(a: Codes, b: Codes, rank: int | None = None, positive: bool = False) -> Maps:
    """The four entries of each row of the dense ridge that move most; of its best approximation of a `rank`, if any, or
    of its `positive` entries alone."""
    moments, dense = _ridge(a, b)
    maps = []
    for matrix, of in zip(dense, (moments, moments.back), strict=True):
        if rank is not None:  # of the predictions: reduced-rank regression
            first = np.linalg.eigh(matrix @ of.other @ matrix.T)[1][:, -rank:]
            matrix = first @ (first.T @ matrix)
        matrix = np.maximum(matrix, 0) if positive else matrix
        maps.append(np.where(largest(_moved(matrix, of), PARTNERS), matrix, 0))
    return tuple(maps)


def support_per_text_latent(a: Codes, b: Codes) -> Maps:
    """`Partners` with the sides exchanged: a latent of b is at most four of a's."""
    return _of(Partners)(b, a)[::-1]


def hard_thresholding(a: Codes, b: Codes, steps: int = 50) -> Maps:
    """Gradient steps of the ridge, after each of which the four entries that move most are kept (Blumensath 2009)."""
    moments = Moments.of(a, b)
    maps = []
    for of in (moments, moments.back):
        damped = of.damped
        matrix, rate = np.zeros(of.cross.shape), 1 / np.linalg.norm(damped, 2)
        for _ in range(steps):
            matrix = matrix + rate * (of.cross - matrix @ damped)
            matrix = np.where(largest(_moved(matrix, of), PARTNERS), matrix, 0)
        maps.append(matrix)
    return tuple(maps)


def contrastive(a: Codes, b: Codes, steps: int = 400, batch: int = 1024) -> Maps:
    """`Partners`, its weights then learned: the symmetric contrastive loss of batches of pairs, at temperature .05."""
    start = _of(Partners)(a, b)
    supports = [torch.from_numpy((matrix != 0).astype(np.float32)) for matrix in start]
    weights = [torch.from_numpy(matrix.astype(np.float32)).requires_grad_() for matrix in start]
    means = [torch.from_numpy(np.asarray(codes.mean(axis=0), dtype=np.float32)) for codes in (a, b)]
    optimiser, rng = torch.optim.Adam(weights, lr=1e-3), np.random.default_rng(0)
    for _ in range(steps):
        rows = rng.choice(a.shape[0], min(batch, a.shape[0]), replace=False)
        x = [torch.from_numpy(codes[rows].toarray()).float() - mean for codes, mean in zip((a, b), means, strict=True)]
        loss = torch.zeros(())
        for query, gallery, weight, support in zip(x, x[::-1], weights, supports, strict=True):
            mapped = torch.nn.functional.normalize(gallery @ (weight * support).T)
            similarity = torch.nn.functional.normalize(query) @ mapped.T / 0.05
            loss = loss + torch.nn.functional.cross_entropy(similarity, torch.arange(len(rows)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return tuple(
        (weight * support).detach().double().numpy() for weight, support in zip(weights, supports, strict=True)
    )


def loose_ridge(a: Codes, b: Codes) -> Maps:
    """The dense ridge at λ = .1 of the mean variance, whatever the number of pairs."""
    moments = Moments.of(a, b)
    return tuple(
        np.linalg.solve(of.other + 0.1 * np.trace(of.other) / len(of.other) * np.eye(len(of.other)), of.cross.T).T
        for of in (moments, moments.back)
    )


def _ridge(a: Codes, b: Codes) -> tuple[Moments, Maps]:
    """The moments, and the dense ridge either way."""
    moments = Moments.of(a, b)
    return moments, tuple(np.linalg.solve(of.damped, of.cross.T).T for of in (moments, moments.back))


def _moved(weights: np.ndarray, moments: Moments) -> np.ndarray:
    """|F_ij σ_j|: how much of latent i its partner j moves."""
    return np.abs(weights) * np.sqrt(np.diag(moments.damped))


def _both_restricted(a: Codes, b: Codes, support: np.ndarray) -> Maps:
    moments = Moments.of(a, b)
    return restricted(moments, support).toarray(), restricted(moments.back, support.T).toarray()


IDEAS = {
    "Hungarian, centred (the paper's)": Idea(_of(Hungarian)),
    "Hungarian weighted by its correlations": Idea(weighted_hungarian),
    "Hungarian, latents divided by the root of their deviation": Idea(_of(Hungarian), divided=True),
    "block Procrustes: rotations within groups of four latents that fire together": Idea(block_procrustes),
    "Sinkhorn, largest 4": Idea(_of(Sinkhorn)),
    "the 4 most correlated partners, weighted by correlation": Idea(most_correlated),
    "the same partners, weights by ridge": Idea(ridge_on_correlated),
    "the 4 largest entries of Procrustes": Idea(cut_procrustes),
    "4 partners by ridge, a support per direction (each mapped latent has 4)": Idea(support_per_direction),
    "the same by iterative hard thresholding": Idea(hard_thresholding),
    "the same, cut from the dense ridge without a second fit": Idea(cut_ridge),
    "the same cut, latents divided by the root of their deviation": Idea(cut_ridge, divided=True),
    "the same cut of a ridge of rank 48, divided alike": Idea(partial(cut_ridge, rank=RANK), divided=True),
    "the same cut, positive weights alone, divided alike": Idea(partial(cut_ridge, positive=True), divided=True),
    "one support per *text* latent": Idea(support_per_text_latent),
    "**one support per image latent, λ = 5 · variance / n (chosen)**": Idea(_of(Partners)),
    "the chosen support, weights learned by a contrastive loss": Idea(contrastive),
    "*Procrustes*": Idea(_of(Procrustes)),
    "*ridge, λ = 5 · variance / n*": Idea(_of(Ridge)),
    "*ridge, λ = .1 of the mean variance*": Idea(loose_ridge),
    "*ridge, λ = 5 · variance / n; the query is mapped*": Idea(_of(Ridge), of_query=True),
}  # as the table of docs/alignments.md names them
