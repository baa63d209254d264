"""The sparse step of a TopK autoencoder: after the encoder's product, only k of L latents are ever touched.

Plain autograd pays about five dense (batch x L) products a step. Here the forward pays one, the encoder's; the
decoder and every gradient work on the (batch, k) values and indices. Gradients are those of dense autograd. On a GPU
the parts that torch has no fast way for are those of `xsae.compute.gpu`.
"""

import warnings
from collections.abc import Callable
from types import ModuleType

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_BLOCK = 2**21  # pre-activations held at one time where rows do not depend on each other: 8 MB
# Products at chosen places exist in torch for this layout alone, which it calls a beta at the first use.
warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")


def scatter_rows(indices: Tensor, weights: Tensor, rows: Tensor, n_latents: int) -> Tensor:
    """sum over (i, j) of weights[i, j] * rows[i], added to row indices[i, j] of the result.

    indices int64 (n, k), distinct in a row, weights (n, k), rows (n, d) -> (n_latents, d). Sorted by latent, this is a
    sum over bags of rows: neither a (n, n_latents) nor a (n, k, d) tensor is ever held, unless codes are full.
    """
    if _dense_pays(weights, n_latents):
        return dense(weights, indices, n_latents).T @ rows
    if _wide(indices, n_latents):  # then most of a row is zeros, which fill it up
        held = _held(weights)
        order, starts = _ordered(indices.flatten()[held], n_latents)
        order = held[order]
    else:
        order, starts = by_latent(indices, n_latents)
    if rows.is_cuda:
        return gpu().scatter_rows(order, starts, weights, rows)[0]
    return F.embedding_bag(
        order // indices.shape[1], rows, starts[:-1], mode="sum", per_sample_weights=weights.flatten()[order]
    )


_latest: tuple = (None, None, None)  # codes, by what identifies them, and their entries by latent


def by_latent(indices: Tensor, n_latents: int) -> tuple[Tensor, Tensor]:
    """The entries of indices (n, k) in the order of their latents, and where those of each latent start (L + 1,).

    The gradients of encoder, bias and dictionary ask for the same one after the other, so the latest is kept: with the
    indices themselves, lest others come to lie in the same place.
    """
    global _latest
    known = (indices.data_ptr(), indices._version, indices.shape, indices.stride(), n_latents)
    if _latest[0] != known:
        _latest = (known, indices, _ordered(indices.flatten(), n_latents))
    return _latest[2]


def _ordered(latents: Tensor, n_latents: int) -> tuple[Tensor, Tensor]:
    """The order of latents (m,), and where in it those of each latent start (L + 1,)."""
    short = torch.int16 if n_latents < 2**15 else torch.int32  # a sort takes as long as its keys are wide
    keys = latents.to(short)
    if keys.is_cuda:
        ordered, order = keys.sort(stable=True)
    else:  # numpy sorts 16 bits by their digits, torch by comparing
        order = torch.from_numpy(np.argsort(keys.numpy(), kind="stable"))
        ordered = keys[order]
    return order, torch.searchsorted(ordered, torch.arange(n_latents + 1, device=latents.device, dtype=short))


def _held(values: Tensor) -> Tensor:
    """The places of what is not zero in a flattened code."""
    return values.flatten().nonzero().flatten()


def dense(values: Tensor, indices: Tensor, n_latents: int) -> Tensor:
    """Codes as a matrix: values (n, k) at indices (n, k), distinct in a row, of (n, n_latents), else 0."""
    return values.new_zeros(len(values), n_latents).scatter(1, indices, values)


def gpu() -> ModuleType:
    """The kernels for a GPU, imported where there is one: torch brings Triton only where it can serve one."""
    from xsae.compute import gpu

    return gpu


def _wide(indices: Tensor, n_latents: int) -> bool:
    """Whether rows are so long that dense products would be the faster ones if they were full."""
    return 32 * indices.shape[1] > n_latents  # as measured at L = 512 to 8192


def _dense_pays(values: Tensor, n_latents: int) -> bool:
    """Whether they are: the widest row of some activations has several times as many active latents as most.

    A GPU takes long rows for full ones, rather than have the processor wait for a count.
    """
    wide = _wide(values, n_latents)
    return wide and (values.is_cuda or 32 * torch.count_nonzero(values).item() > len(values) * n_latents)


class _Encode(torch.autograd.Function):
    """Entries of pre = x weight^T + bias: those whose latents (n, w), distinct in a row, `select(pre)` gives.

    `rows`: how many of them `select` is given at a time, so that they stay in a processor's cache.
    Under `torch.autocast` the product that latents are selected by has its precision, and they alone are computed again
    in that of x: a lower precision may prefer one of two nearly equal latents to the other, and changes no value.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, select: Callable, rows: int) -> tuple[Tensor, Tensor]:
        found = []
        for part in x.split(len(x) if x.is_cuda else max(rows, 1)):
            pre = torch.addmm(bias, part, weight.T)
            latents = select(pre)
            exact = pre.dtype == x.dtype
            found.append((pre.gather(1, latents) if exact else sampled(part, weight, latents) + bias[latents], latents))
        values, indices = map(torch.cat, zip(*found, strict=True))
        ctx.save_for_backward(x, weight, indices)
        ctx.mark_non_differentiable(indices)
        return values, indices

    @staticmethod
    def backward(ctx, grad: Tensor, _: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None, None]:
        return *_encode_gradients(ctx, grad), None, None


class _EncodeAt(torch.autograd.Function):
    """The entries of pre = x weight^T + bias at indices (n, w), distinct in a row; no others are computed."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, indices: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, indices)
        return sampled(x, weight, indices) + bias[indices]

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        return *_encode_gradients(ctx, grad), None


def _encode_gradients(ctx, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
    """The gradients to x, weight and bias of the entries that an encoder took, from those to the entries (n, w)."""
    x, weight, indices = ctx.saved_tensors
    if grad.is_cuda:
        grad_weight, grad_bias = gpu().scatter_rows(*by_latent(indices, len(weight)), grad, x)
    else:
        grad_weight = scatter_rows(indices, grad, x, len(weight))
        grad_bias = torch.zeros_like(weight[:, 0]).index_add_(0, indices.flatten(), grad.flatten())
    grad_x = decode(grad, indices, weight) if ctx.needs_input_grad[0] else None
    return grad_x, grad_weight, grad_bias


def sampled(rows: Tensor, dictionary: Tensor, indices: Tensor) -> Tensor:
    """The entries of rows dictionary^T at indices (n, k), and no others: (n, d), (L, d) -> (n, k).

    A (n, k, d) tensor is never held, and a (n, L) one only where k is a good part of L.
    """
    if _wide(indices, len(dictionary)):
        with torch.autocast(rows.device.type, enabled=False):  # see `_Encode`
            return (rows @ dictionary.T).gather(1, indices)
    if rows.is_cuda:
        return gpu().sampled(rows, dictionary, indices)
    n, k = indices.shape
    pattern = torch.sparse_csr_tensor(
        torch.arange(0, n * k + 1, k), indices.flatten(), rows.new_zeros(n * k), (n, len(dictionary)),
        check_invariants=False,  # columns need not be in order to have their dot products taken
    )  # fmt: skip
    return torch.sparse.sampled_addmm(pattern, rows, dictionary.T, beta=0.0).values().view(n, k)


class _Decode(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values: Tensor, indices: Tensor, dictionary: Tensor) -> Tensor:
        ctx.save_for_backward(values, indices, dictionary)
        if values.is_cuda:
            return gpu().decode(values, indices, dictionary)
        directions = dictionary.detach()  # else torch prepares for a gradient of its own
        if not _wide(indices, len(directions)):
            return F.embedding_bag(indices, directions, per_sample_weights=values, mode="sum")
        held, (n, width) = _held(values), indices.shape
        starts = torch.searchsorted(held, torch.arange(0, n * width, width))
        weights = values.flatten()[held]
        return F.embedding_bag(indices.flatten()[held], directions, starts, per_sample_weights=weights, mode="sum")

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, Tensor]:
        values, indices, dictionary = ctx.saved_tensors
        return sampled(grad, dictionary, indices), None, scatter_rows(indices, values, grad, len(dictionary))


def topk_encode(x: Tensor, weight: Tensor, bias: Tensor, k: int, ordered: bool = False) -> tuple[Tensor, Tensor]:
    """The k largest of ReLU(x weight^T + bias) per row: values (n, k) >= 0 and their latents int64 (n, k).

    x (n, d), weight (L, d), bias (L,). A row with fewer than k positive pre-activations is filled with zeros. The
    largest come first where `ordered`; else in no order, which is faster.
    """

    def select(pre: Tensor) -> Tensor:
        if pre.is_cuda and not ordered:
            return gpu().largest(pre, k)
        return pre.topk(k, dim=1, sorted=ordered).indices

    values, indices = _Encode.apply(x, weight, bias, select, _BLOCK // len(weight))
    return values.relu(), indices  # rectified after the selection: a rectified pre-activation has the same largest


def encode_at(x: Tensor, weight: Tensor, bias: Tensor, indices: Tensor) -> Tensor:
    """ReLU(x weight^T + bias) at latents chosen before, indices int64 (n, w), distinct in a row: values (n, w) >= 0."""
    return _EncodeAt.apply(x, weight, bias, indices).relu()


def batch_topk_encode(x: Tensor, weight: Tensor, bias: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The n k largest of ReLU(x weight^T + bias) over the whole batch: values (n, w) >= 0, latents int64 (n, w).

    w is the largest number that any row holds; the other rows are filled with zeros. Latents of a row are distinct.
    """

    def select(pre: Tensor) -> Tensor:
        # at least n k entries reach the smallest of the rows' k largest: the search for the cutoff can start there
        candidates = pre[pre >= pre.topk(k, dim=1, sorted=False).values.min()]
        return _marked(pre >= _cutoff(candidates, k * len(pre)))

    values, indices = _Encode.apply(x, weight, bias, select, len(x))
    # once more among the values themselves: in a lower precision many entries tie at the cutoff
    return torch.where(values >= _cutoff(values.detach().flatten(), k * len(x)), values, 0).relu(), indices


def _cutoff(values: Tensor, n: int) -> Tensor:
    """The n-th largest of a vector."""
    return values.kthvalue(len(values) - n + 1).values


def threshold_encode(x: Tensor, weight: Tensor, bias: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
    """All of ReLU(x weight^T + bias) that reaches one `threshold` >= 0: values (n, w) >= 0, latents int64 (n, w)."""
    values, indices = _Encode.apply(x, weight, bias, lambda pre: _marked((pre >= threshold) & (pre > 0)), len(x))
    return torch.where(values >= threshold, values, 0).relu(), indices


def encode_above(x: Tensor, weight: Tensor, bias: Tensor, floor: Tensor) -> tuple[Tensor, Tensor]:
    """All of pre = x weight^T + bias above `floor`, a scalar or (L,): pre (n, w) there, and latents int64 (n, w).

    w is the largest number that any row holds, at least 1. The other rows are filled with entries at or below it.
    """

    return _Encode.apply(x, weight, bias, lambda pre: _marked(pre > floor), len(x))


def _marked(keep: Tensor) -> Tensor:
    """The latents that `keep` (n, L) marks in each row, in order, as many as in the row that has most: (n, w), w >= 1.

    Rows with fewer are filled with their first unmarked latents, which `keep` then marks too. Among the first w there
    are always enough, since a row without m of its w latents has at most w - m marks there.
    """
    counts = keep.sum(1, keepdim=True)
    width = max(counts.flatten().tolist(), default=0) or 1
    idle = ~keep[:, :width]
    keep[:, :width] |= idle & (idle.cumsum(1) <= width - counts)
    return keep.nonzero()[:, 1].view(len(keep), width)


def decode(values: Tensor, indices: Tensor, dictionary: Tensor) -> Tensor:
    """sum over j of values[:, j] * dictionary[indices[:, j]]: (n, k), (n, k), (L, d) -> (n, d).

    The indices of a row are distinct.
    """
    if _dense_pays(values, len(dictionary)):
        return dense(values, indices, len(dictionary)) @ dictionary
    return _Decode.apply(values, indices, dictionary)
