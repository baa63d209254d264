"""The sparse step's own parts as Triton kernels, for a GPU: selection, decoding, products and sums at chosen places;
and a step of them as one graph.

`kernels` has what they compute, and a processor's way of doing it. Nothing here adds in an order that may change, so
that the same input gives the same bytes; and nothing waits for the processor, so that a step can be a CUDA graph.
"""

from collections.abc import Callable

import torch
import triton
import triton.language as tl
from torch import Tensor

MOST_LATENTS = 2**15  # whose row one program holds, and whose counts fit into half an int
_TILE = 4096  # numbers of gathered rows that a program holds at one time


@triton.jit
def _largest(pre, found, n_latents, k, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    number = tl.load(pre + row * n_latents + at, mask=at < n_latents, other=0.0).to(tl.float32)
    number = tl.where(number > 0, tl.minimum(number, 3e38), 0.0)  # NaN is 0
    number = tl.where(at < n_latents, number, -1.0)
    # k or more reach `low`; fewer reach `high`, but where that is the largest of all: halved until just k reach `low`,
    # or no float lies between the two
    low, high, reached = 0.0, tl.max(number, 0), n_latents
    middle = high * 0.5
    while (reached != k) & (low < middle) & (middle < high):
        count = tl.sum((number >= middle).to(tl.int32), 0)
        enough = count >= k
        low = tl.where(enough, middle, low)
        high = tl.where(enough, high, middle)
        reached = tl.where(enough, count, reached)
        middle = (low + high) * 0.5
    low = tl.where(tl.sum((number >= high).to(tl.int32), 0) >= k, high, low)
    more, equal = number > low, number == low
    wanted = k - tl.sum(more.to(tl.int32), 0)  # of those that are tied
    counts = tl.cumsum(more.to(tl.int32) + equal.to(tl.int32) * 65536, 0)  # two running counts in one int
    n_more, n_equal = counts & 65535, counts >> 16
    kept = more | (equal & (n_equal <= wanted))
    tl.store(found + row * k + n_more + tl.minimum(n_equal, wanted) - 1, at.to(tl.int64), mask=kept)


def largest(pre: Tensor, k: int) -> Tensor:
    """The places int64 (n, k) of the k largest in every row of ReLU(pre) (n, L), ascending; of equal ones the first."""
    n, n_latents = pre.shape
    if n_latents > MOST_LATENTS:
        return pre.topk(k, dim=1, sorted=False).indices
    found = torch.empty(n, k, dtype=torch.int64, device=pre.device)
    _largest[(n,)](pre.contiguous(), found, n_latents, k, BLOCK=triton.next_power_of_2(n_latents), num_warps=4)
    return found


@triton.jit
def _decode(values, indices, dictionary, sums, dim, k, K: tl.constexpr, D: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, D)
    total = tl.zeros([D], tl.float32)
    for first in range(0, k, K):
        column = first + tl.arange(0, K)
        latent = tl.load(indices + row * k + column, mask=column < k, other=0)
        value = tl.load(values + row * k + column, mask=column < k, other=0.0)
        inside = (column < k)[:, None] & (at < dim)[None, :]
        gathered = tl.load(dictionary + latent[:, None] * dim + at[None, :], mask=inside, other=0.0)
        total += tl.sum(value[:, None] * gathered, 0)
    tl.store(sums + row * dim + at, total, mask=at < dim)


def decode(values: Tensor, indices: Tensor, dictionary: Tensor) -> Tensor:
    """sum over j of values[:, j] * dictionary[indices[:, j]]: (n, k), int64 (n, k), (L, d) -> (n, d)."""
    (n, k), dim = indices.shape, dictionary.shape[1]
    sums = dictionary.new_empty(n, dim)
    _decode[(n,)](values.contiguous(), indices.contiguous(), dictionary, sums, dim, k, **_tile(k, dim))
    return sums


@triton.jit
def _sampled(rows, dictionary, indices, products, dim, k, K: tl.constexpr, D: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, D)
    x = tl.load(rows + row * dim + at, mask=at < dim, other=0.0)
    for first in range(0, k, K):
        column = first + tl.arange(0, K)
        latent = tl.load(indices + row * k + column, mask=column < k, other=0)
        inside = (column < k)[:, None] & (at < dim)[None, :]
        gathered = tl.load(dictionary + latent[:, None] * dim + at[None, :], mask=inside, other=0.0)
        tl.store(products + row * k + column, tl.sum(gathered * x[None, :], 1), mask=column < k)


def sampled(rows: Tensor, dictionary: Tensor, indices: Tensor) -> Tensor:
    """The entries of rows dictionary^T at indices: (n, d), (L, d), int64 (n, k) -> (n, k)."""
    (n, k), dim = indices.shape, rows.shape[1]
    products = rows.new_empty(n, k)
    _sampled[(n,)](rows.contiguous(), dictionary, indices.contiguous(), products, dim, k, **_tile(k, dim))
    return products


def _tile(k: int, dim: int) -> dict[str, int]:
    """How many gathered rows a program holds at one time, and how long they are: powers of two."""
    width = triton.next_power_of_2(dim)
    return {"K": max(min(_TILE // width, triton.next_power_of_2(k)), 1), "D": width}


@triton.jit
def _add_rows(order, starts, weights, rows, sums, totals, dim, k, N: tl.constexpr, D: tl.constexpr):
    latent = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * D + tl.arange(0, D)
    stop = tl.load(starts + latent + 1)
    total, sum_ = tl.zeros([D], tl.float32), 0.0
    for first in range(tl.load(starts + latent), stop, N):
        entry = first + tl.arange(0, N)
        place = tl.load(order + entry, mask=entry < stop, other=0)
        weight = tl.load(weights + place, mask=entry < stop, other=0.0)
        inside = (entry < stop)[:, None] & (at < dim)[None, :]
        gathered = tl.load(rows + (place // k)[:, None] * dim + at[None, :], mask=inside, other=0.0)
        total += tl.sum(weight[:, None] * gathered, 0)
        sum_ += tl.sum(weight, 0)
    tl.store(sums + latent * dim + at, total, mask=at < dim)
    if tl.program_id(1) == 0:
        tl.store(totals + latent, sum_)


def scatter_rows(order: Tensor, starts: Tensor, weights: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """sum over (i, j) of weights[i, j] * rows[i], added to the row of the latent of (i, j) of the first result (L, d),
    and of weights[i, j] alone, added to its entry of the second (L,).

    order, starts: of `kernels.by_latent`; weights (n, k), rows (n, d). A latent's rows are added in their order, by one
    program.
    """
    n_latents, dim, block = len(starts) - 1, rows.shape[1], min(triton.next_power_of_2(rows.shape[1]), 128)
    sums, totals = rows.new_empty(n_latents, dim), rows.new_empty(n_latents)
    _add_rows[(n_latents, triton.cdiv(dim, block))](
        order, starts, weights.contiguous(), rows.contiguous(), sums, totals, dim, weights.shape[1],
        N=8, D=block, num_warps=1,
    )  # fmt: skip
    return sums, totals


class Graph:
    """A function of one tensor of one shape, on a GPU: run as it is at first, then recorded once, and repeated.

    A step of a hundred small kernels takes the processor longer to start than the GPU to do; recorded, it is started
    as one. Nothing it does may depend on a value that the processor would have to wait for.
    """

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self.function, self.calls, self.graph = function, 0, torch.cuda.CUDAGraph()
        self.stream = torch.cuda.Stream()  # recording needs what is not the default one

    def __call__(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls < 4:  # by then the optimiser has its state, and kernels are compiled
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                result = self.function(x)
            torch.cuda.current_stream().wait_stream(self.stream)
            return result
        if self.calls == 4:
            self.input = x.clone()
            with torch.cuda.graph(self.graph, stream=self.stream):
                self.result = self.function(self.input)
        self.input.copy_(x)
        self.graph.replay()
        return self.result.clone()
