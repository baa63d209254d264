"""What makes a code sparse: the activations of a sparse autoencoder, all under one contract.

    activation(x, weight, bias, training) -> values (n, w) >= 0, latents int64 (n, w), sparsity loss

x (n, d) is the centred input, weight (L, d) and bias (L,) are the encoder's; pre = x weight^T + bias. w is the largest
number of latents active in a row: rows with fewer are filled with zeros, and the latents of a row are distinct. So
everything downstream works on any activation's codes. `training` tells a training batch from codes to be used. The
sparsity loss is added to that of the reconstruction: 0 where k alone sets how many latents are active; the others find
k on average, none with a weight tuned by hand.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xsae.compute.kernels import batch_topk_encode, encode_above, threshold_encode, topk_encode

Code = tuple[Tensor, Tensor, Tensor | float]


class TopK(nn.Module):
    """The k largest of ReLU(pre) in every row (Gao et al. 2024, Eq. 2-3)."""

    levels = (None,)  # for each m here, a code's first m columns reconstruct, and the loss is their mean; None: all
    centred = True  # x is an embedding minus the decoder bias, or else the embedding itself
    unit_rows = True  # directions are held at unit norm

    def __init__(self, latents: int, k: int) -> None:
        super().__init__()
        self.k = k

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor, training: bool) -> Code:
        return *topk_encode(x, weight, bias, self.k), 0.0

    def pre(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """What latents are chosen by, of all of them: x (n, d), weight (L, d), bias (L,) -> (n, L)."""
        return torch.addmm(bias, x, weight.T)


class Matryoshka(TopK):
    """TopK whose code is nested: its largest …, k/4, k/2, k entries each reconstruct, and the loss is their mean.

    This is MSAE (Zaigrajew et al. 2025, arXiv 2502.20578), which nests levels of sparsity and was made for CLIP, with
    its uniform weights; not the nested prefixes of the dictionary of Bussmann et al. (2025, arXiv 2503.17547). MSAE's
    levels double up to the whole embedding size; here they double up to k, the code size all activations share.
    """

    def __init__(self, latents: int, k: int) -> None:
        super().__init__(latents, k)
        self.levels = (*(k >> halvings for halvings in range(k.bit_length() - 1, 0, -1)), None)

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor, training: bool) -> Code:
        return *topk_encode(x, weight, bias, self.k, ordered=True), 0.0


class Distance(TopK):
    """The encoder of VL-SAE (Shen et al. 2025, arXiv 2510.21323): how near an embedding is to a latent's direction.

        pre = 2 - ||x / ||x|| - w / ||w|| ||, from 0 to 2, and the k largest are kept

    So two embeddings that are alike have codes that are alike, whatever the decoders make of them. x is the embedding
    itself, from which no bias is subtracted; there is no encoder bias (`bias` is not read and stays as it was), and
    directions have any norm, for the entries of a code are all of nearly one size.
    """

    centred = False
    unit_rows = False

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor, training: bool) -> Code:
        # the nearest latents are those of the largest cosine; 1 more than that is never negative
        above, latents = topk_encode(F.normalize(x), F.normalize(weight), torch.ones_like(bias), self.k)
        return self._nearness(above - 1), latents, 0.0

    def pre(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return self._nearness(F.normalize(x) @ F.normalize(weight).T)

    @staticmethod
    def _nearness(cosines: Tensor) -> Tensor:
        """2 minus the distance of two unit vectors, by their cosine; where they are one, without a gradient."""
        return 2 - (2 - 2 * cosines).clamp_min(1e-12).sqrt()


class BatchTopK(TopK):
    """The n k largest of ReLU(pre) over a training batch of n rows, so that a row may have more or fewer than k.

    Outside training no row may depend on others: all that reach `threshold` are active, the mean over training batches
    of the smallest positive entry that was kept (Bussmann et al. 2024, arXiv 2412.06410), which thus stays kept. It is
    a running mean over the last hundred batches or so, for earlier ones belong to another encoder; 0 before training.
    """

    def __init__(self, latents: int, k: int) -> None:
        super().__init__(latents, k)
        self.register_buffer("threshold", torch.tensor(0.0))

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor, training: bool) -> Code:
        if not training:
            return *threshold_encode(x, weight, bias, self.threshold), 0.0
        values, latents = batch_topk_encode(x, weight, bias, self.k)
        kept = values.detach()[values > 0]
        if len(kept):
            self.threshold.lerp_(kept.min(), 0.01 if self.threshold else 1.0)
        return values, latents, 0.0


class ReLU(TopK):
    """ReLU(pre), made sparse by the weighted mean L1 norm of the codes (Bricken et al. 2023; Cunningham et al. 2023).

    Directions of unit norm keep the L1 norm from being gamed. Its weight is led, on a log scale, by how far the number
    of active latents is from k: by a running sum of that (`log_weight`), which finds the weight, and by the present
    distance, without which the number would swing about k.
    """

    def __init__(self, latents: int, k: int) -> None:
        super().__init__(latents, k)
        self.register_buffer("log_weight", torch.tensor(1e-3).log())

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor, training: bool) -> Code:
        values, latents = threshold_encode(x, weight, bias, bias.new_zeros(()))
        if not training:
            return values, latents, 0.0
        active = (values > 0).sum().item() / len(values)
        excess = math.log(min(max(active / self.k, 0.1), 10.0))
        self.log_weight += 0.05 * excess
        return values, latents, (self.log_weight + excess).exp() * values.sum(1).mean()


class JumpReLU(TopK):
    """pre where it exceeds the latent's own learned threshold, else 0 (Rajamanoharan et al. 2024, arXiv 2407.14435).

    z = pre H(pre - theta). The sparsity loss is their variant that aims at a number: (L0 / k - 1)^2, L0 the mean number
    of active latents. z and L0 jump at theta; `_Jump` has the straight-through estimators. theta (L,) is learned itself
    and not its logarithm, and starts at and is estimated over 0.05 where they have 0.001: in their 10^6 steps a
    threshold comes as far as it must, in 10^3 it does not.
    """

    def __init__(self, latents: int, k: int) -> None:
        super().__init__(latents, k)
        self.threshold = nn.Parameter(torch.full((latents,), BANDWIDTH))

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor, training: bool) -> Code:
        threshold = self.threshold.abs()
        # just below its threshold an entry is 0, but its gradient is not: in training it belongs to the code
        margin = BANDWIDTH / 2 if training else 0.0
        pre, latents = encode_above(x, weight, bias, threshold.detach() - margin)
        codes, active = _Jump.apply(pre, threshold[latents])
        sparsity = (active.sum(1).mean() / self.k - 1).square() if training else 0.0
        return codes, latents, sparsity


BANDWIDTH = 0.05


class _Jump(torch.autograd.Function):
    """pre and threshold >= 0, of one shape -> pre H(pre - threshold) and H(pre - threshold).

    The gradients to pre are exact where they exist. Those to the threshold are estimates (Rajamanoharan et al. 2024,
    Eq. 11-12), with eps = BANDWIDTH and the rectangle K(u) = 1 for |u| < 1/2, else 0:
    -(threshold / eps) K((pre - threshold) / eps) of the first, -(1 / eps) K((pre - threshold) / eps) of the second.
    """

    @staticmethod
    def forward(ctx, pre: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(pre, threshold)
        active = (pre > threshold).to(pre.dtype)
        return pre * active, active

    @staticmethod
    def backward(ctx, grad_codes: Tensor, grad_active: Tensor) -> tuple[Tensor, Tensor]:
        pre, threshold = ctx.saved_tensors
        kernel = ((pre - threshold).abs() < BANDWIDTH / 2) / BANDWIDTH
        return grad_codes * (pre > threshold), -(threshold * grad_codes + grad_active) * kernel


ACTIVATIONS = {
    "topk": TopK, "batch_topk": BatchTopK, "relu": ReLU, "jumprelu": JumpReLU, "matryoshka": Matryoshka,
    "distance": Distance,
}  # fmt: skip
BY_ROW = ("topk", "matryoshka", "distance")  # those by which a row's code depends on no other row
