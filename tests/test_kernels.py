"""The sparse step against plain autograd in float64."""

import pytest
import torch

from xsae.compute.kernels import decode, encode_above, encode_at, scatter_rows, topk_encode


def dense(x, weight, bias, dictionary, k):
    pre = (x @ weight.T + bias).relu()
    values, indices = pre.topk(k, dim=1)
    return torch.zeros_like(pre).scatter(1, indices, values) @ dictionary


@pytest.mark.parametrize(
    ("n", "d", "latents", "k", "shift"),
    [
        (64, 16, 400, 4, 0.0), (64, 16, 40, 4, 0.0), (1, 8, 120, 3, 0.0), (20, 6, 10, 10, 0.0), (50, 8, 300, 8, -2.5),
        (9, 4, 100, 2, -50.0),
    ],
    ids=["usual", "full", "batch of one", "k = L", "rows with fewer than k positive", "nothing fires"],
)  # fmt: skip
def test_output_and_every_gradient_equal_dense_autograd(n, d, latents, k, shift):
    torch.manual_seed(n)
    x, weight, dictionary = torch.randn(n, d), torch.randn(latents, d), torch.randn(latents, d)
    bias = torch.randn(latents) * 0.1 + shift
    ours = [t.clone().requires_grad_() for t in (x, weight, bias, dictionary)]
    exact = [t.double().clone().requires_grad_() for t in (x, weight, bias, dictionary)]
    target = torch.randn(n, d)
    values, indices = topk_encode(*ours[:3], k)
    out = decode(values, indices, ours[3])
    (out - target).square().sum().backward()
    reference = dense(*exact, k)
    (reference - target).square().sum().backward()
    torch.testing.assert_close(out.double(), reference, atol=1e-5, rtol=1e-5)
    for mine, theirs in zip(ours, exact, strict=True):
        error = (mine.grad - theirs.grad).norm() / theirs.grad.norm().clamp_min(1e-30)
        assert error < 1e-5


def test_duplicate_maxima_keep_k_and_their_gradient_is_one_of_them():
    x = torch.eye(3)
    weight = torch.tensor([[1.0, 0, 0], [1.0, 0, 0], [0, 1.0, 0]], requires_grad=True)
    values, indices = topk_encode(x, weight, torch.zeros(3), 1)
    assert values.flatten().tolist() == [1, 1, 0]
    assert indices[0].item() in (0, 1) and indices[1].item() == 2
    values.sum().backward()
    assert weight.grad[:2].sum(0).tolist() == [1, 0, 0]  # to one of the two equal latents, not to both


@pytest.mark.parametrize("latents", [4, 100], ids=["full", "sparse"])
def test_scatter_rows_adds_by_latent(latents):
    indices, weights = torch.tensor([[0, 2], [2, 1]]), torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    # latent 0: 1*row0; 1: 4*row1; 2: 2*row0 + 3*row1; from 3 on: nothing
    added = scatter_rows(indices, weights, rows, latents)
    assert added[:3].tolist() == [[1, 0], [0, 4], [2, 3]] and not added[3:].any()


@pytest.mark.parametrize("active", [1, 90], ids=["one wide row, the others nearly empty", "most rows wide"])
def test_wide_rows_are_right_however_many_of_their_entries_are_zero(active):
    torch.manual_seed(0)
    n, latents, width, d = 40, 100, 50, 6
    indices = torch.stack([torch.randperm(latents)[:width] for _ in range(n)])
    values = torch.randn(n, width, dtype=torch.float64)
    values[1:] *= torch.rand(n - 1, width) < active / 100
    dictionary, values = torch.randn(latents, d, dtype=torch.float64).requires_grad_(), values.requires_grad_()
    target = torch.randn(n, d, dtype=torch.float64)
    found = torch.autograd.grad((decode(values, indices, dictionary) * target).sum(), (values, dictionary))
    codes = torch.zeros(n, latents, dtype=torch.float64).scatter(1, indices, values)
    right = torch.autograd.grad((codes @ dictionary * target).sum(), (values, dictionary))
    for ours, exact in zip(found, right, strict=True):
        torch.testing.assert_close(ours, exact)
    torch.testing.assert_close(decode(values, indices, dictionary), codes @ dictionary)


def test_rows_with_fewer_above_the_floor_are_filled_with_others_each_once():
    pre = torch.tensor([[0.0, 9.0, 8.0, 7.0, 0.0], [5.0, 0.0, 0.0, 0.0, 6.0], [0.0] * 5])
    values, latents = encode_above(pre, torch.eye(5), torch.zeros(5), torch.tensor(1.0))
    assert latents.tolist() == [[1, 2, 3], [0, 1, 4], [0, 1, 2]]
    assert values.tolist() == [[9, 8, 7], [5, 0, 6], [0, 0, 0]]
    for n in (0, 2):  # none above the floor, and no row
        assert encode_above(pre[:n], torch.eye(5), torch.zeros(5), torch.tensor(99.0))[1].shape == (n, 1)


def test_latents_that_never_fire_get_no_gradient():
    torch.manual_seed(0)
    weight, bias = torch.randn(200, 4, requires_grad=True), torch.zeros(200)
    bias[5:] = -100
    values, indices = topk_encode(torch.randn(8, 4), weight, bias, 3)
    values.sum().backward()
    assert (weight.grad[5:] == 0).all() and (weight.grad[:5] != 0).any()


@pytest.mark.parametrize("k", [3, 100], ids=["sparse", "k = L"])
def test_a_bfloat16_product_chooses_but_its_values_are_float32(k):
    torch.manual_seed(0)
    x, weight, bias = torch.randn(20, 16), torch.randn(100, 16), torch.randn(100) * 0.1
    with torch.autocast("cpu", torch.bfloat16):
        values, indices = topk_encode(x, weight, bias, k)
    exact = torch.addmm(bias, x, weight.T).relu()
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, exact.gather(1, indices), rtol=1e-5, atol=1e-5)
    # what it misses of the largest is within the rounding of eight bits
    assert (exact.topk(k, dim=1).values.sum(1) - values.sum(1)).max() < 0.02 * values.sum(1).max()


@pytest.mark.parametrize("latents", [40, 400], ids=["full", "sparse"])
def test_entries_at_latents_chosen_before_and_their_gradients_are_those_of_dense_autograd(latents):
    torch.manual_seed(0)
    given = torch.randn(30, 8), torch.randn(latents, 8), torch.randn(latents)
    chosen = torch.rand(30, latents).topk(3, dim=1).indices  # of any sign
    ours, exact = [t.clone().requires_grad_() for t in given], [t.double().requires_grad_() for t in given]
    values, weights = encode_at(*ours, chosen), torch.randn(30, 3)
    (values * weights).sum().backward()
    dense = (exact[0] @ exact[1].T + exact[2]).relu().gather(1, chosen)
    (dense * weights.double()).sum().backward()
    torch.testing.assert_close(values.double(), dense, atol=1e-5, rtol=1e-5)
    assert (values == 0).any()
    for mine, theirs in zip(ours, exact, strict=True):
        assert (mine.grad - theirs.grad).norm() < 1e-5 * theirs.grad.norm()
