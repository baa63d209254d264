"""Penalties on the codes of pairs, which pull a shared autoencoder's modalities onto the same latents.

A code is what `SparseAutoencoder.encode` gives: values (n, w) >= 0 and latents int64 (n, w), distinct in a row. Row i
of all modalities is one pair. No (n, L) matrix is made, and gradients are those of dense autograd.
"""

from collections.abc import Callable, Sequence
from itertools import combinations

import torch
from torch import Tensor

from xsae.compute import processes

Code = tuple[Tensor, Tensor]
# of the codes, the autoencoder and the inputs (n, d) of each modality; of several processes, this one's part
Penalty = Callable[[Sequence[Code], Sequence, Sequence[Tensor]], Tensor]


def of_codes(penalty: Callable[..., Tensor]) -> Penalty:
    """A penalty that reads nothing but the codes of all modalities, and is a mean over the pairs of the batch."""
    return lambda codes, saes, x: penalty(*codes) / processes.count()


def iso_energy(*codes: Code) -> Tensor:
    """Minus the mean cosine of the pairs' codes, both without the largest latent of either (as in the released code).

    Of more than two modalities, the mean over all pairs of them. Where nothing is left of a code, the cosine is 0 and
    has no gradient.
    """
    tops = [latents.gather(1, values.argmax(1, keepdim=True)) for values, latents in codes]
    cosines = []
    for a, b in combinations(range(len(codes)), 2):
        one, other = (
            (values.masked_fill((latents == tops[a]) | (latents == tops[b]), 0), latents)
            for values, latents in (codes[a], codes[b])
        )
        dot = (one[0] * _at(one[1], other)[0]).sum(1)
        squares = one[0].square().sum(1) * other[0].square().sum(1)
        cosines.append(_divide_by_root(dot, squares).mean())
    return -torch.stack(cosines).mean()


def group_sparse(*codes: Code) -> Tensor:
    """Mean over the pairs of sum_j sqrt(z_image,j^2 + z_text,j^2) (as in the released code): an L2,1 norm.

    Of more modalities, all stand under the root. Its subgradient at 0 is 0.
    """
    parts = []
    for first, (values, latents) in enumerate(codes):
        squares = values.square()
        for other in codes[first + 1 :]:
            squares = squares + _at(latents, other)[0].square()
        for earlier in codes[:first]:  # which has counted the latents that it holds
            squares = squares.masked_fill(_at(latents, earlier)[1], 0)
        parts.append(squares)
    squares = torch.cat(parts, 1)
    return _divide_by_root(squares, squares).sum(1).mean()


def _at(latents: Tensor, code: Code) -> tuple[Tensor, Tensor]:
    """The values that `code` has at other `latents` (n, w), 0 where it does not hold them, and whether it does."""
    ordered, order = code[1].sort(dim=1)
    place = torch.searchsorted(ordered, latents.contiguous()).clamp_max(ordered.shape[1] - 1)
    held = ordered.gather(1, place) == latents
    return code[0].gather(1, order.gather(1, place)).masked_fill(~held, 0), held


def _divide_by_root(numerator: Tensor, squares: Tensor) -> Tensor:
    """numerator / sqrt(squares), and 0 with gradient 0 where squares is 0."""
    positive = squares > 0
    return torch.where(positive, numerator / squares.where(positive, 1).sqrt(), 0)
