"""The kernels for a GPU: by Triton's interpreter where there is none. Training on one is tested where there is one."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from xsae.compute import kernels
from xsae.fitting import fit
from xsae.sae import SAEConfig, SparseAutoencoder
from xsae.training import Trainer, TrainingConfig, normalised_loss

gpu = pytest.importorskip("xsae.compute.gpu", reason="torch comes with Triton on Linux alone")
ON = "cuda" if torch.cuda.is_available() else "cpu"
needs_gpu = pytest.mark.skipif(ON == "cpu", reason="no GPU here")
# Triton interprets kernels only if it is told so before it is imported, as a process of our own can make sure.
INTERPRETED = {"TRITON_INTERPRET": "1"}
needs_kernels = pytest.mark.skipif(
    ON == "cpu" and INTERPRETED.items() - os.environ.items(), reason="no GPU here; run by the interpreter below"
)


@pytest.mark.skipif(ON == "cuda" or not INTERPRETED.items() - os.environ.items(), reason="kernels run in this process")
def test_the_kernels_by_the_interpreter():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    run = subprocess.run(command, env=os.environ | INTERPRETED, capture_output=True, text=True)
    assert run.returncode == 0 and "14 passed" in run.stdout, run.stdout[-2000:]


def distinct(n: int, k: int, latents: int) -> torch.Tensor:
    return torch.stack([torch.randperm(latents)[:k] for _ in range(n)]).to(ON)


@needs_kernels
@pytest.mark.parametrize(("n", "latents", "k"), [(5, 100, 3), (3, 1024, 8), (3, 77, 77), (3, 300, 1), (4, 33, 32)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_largest_of_the_rectified_in_order_of_place_and_of_equal_ones_the_first(n, latents, k, dtype):
    torch.manual_seed(0)
    pre = torch.randn(n, latents).to(ON, dtype)
    pre[0, : latents // 2], pre[1], pre[-1] = 1.5, 0.25, -0.25
    found = gpu.largest(pre, k)
    assert torch.equal(found, found.sort(dim=1).values) and all(len(set(row.tolist())) == k for row in found)
    chosen = pre.gather(1, found).relu().sort(dim=1, descending=True).values
    assert torch.equal(chosen, pre.topk(k, dim=1).values.relu())
    assert found[1].tolist() == list(range(k)) and found[-1].tolist() == list(range(k))


@needs_kernels
def test_the_largest_of_wide_rows_of_near_ones_and_of_infinite_ones():
    wide = torch.randn(2, 2**15 + 8).to(ON)
    assert torch.equal(gpu.largest(wide, 4).sort(dim=1).values, wide.topk(4, dim=1).indices.sort(dim=1).values)
    near = torch.tensor([[1.0, 1 + 2**-23, 1.0, 1 + 2**-22], [1e-45, 0.0, 3e-45, 1e-38]], device=ON)
    assert gpu.largest(near, 2).tolist() == [[1, 3], [2, 3]]
    odd = torch.tensor([[-torch.inf, 1.0, torch.inf, torch.nan], [torch.nan] * 4], device=ON)
    assert gpu.largest(odd, 2).tolist() == [[1, 2], [0, 1]]


@needs_kernels
@pytest.mark.parametrize(("n", "d", "latents", "k"), [(7, 37, 50, 5), (3, 1, 20, 1), (90, 20, 6, 2)])
def test_products_and_sums_at_chosen_places(n, d, latents, k):
    torch.manual_seed(0)
    rows, dictionary, weights = torch.randn(n, d, device=ON), torch.randn(latents, d, device=ON), torch.randn(n, k)
    indices, weights = distinct(n, k, latents), weights.to(ON)
    torch.testing.assert_close(gpu.sampled(rows, dictionary, indices), (rows @ dictionary.T).gather(1, indices))
    codes = kernels.dense(weights, indices, latents)
    torch.testing.assert_close(gpu.decode(weights, indices, dictionary), codes @ dictionary)
    for found, right in zip(
        gpu.scatter_rows(*kernels.by_latent(indices, latents), weights, rows),
        (codes.T @ rows, codes.sum(0)),
        strict=True,
    ):
        torch.testing.assert_close(found, right)
    indices.copy_(indices.flip(0))  # in place: what was kept of them is of no use any more
    codes = kernels.dense(weights, indices, latents)
    for found, right in zip(
        gpu.scatter_rows(*kernels.by_latent(indices, latents), weights, rows),
        (codes.T @ rows, codes.sum(0)),
        strict=True,
    ):
        torch.testing.assert_close(found, right)


def batches(n: int, config: SAEConfig, rows: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(64, config.dim, generator=generator)
    weights = torch.rand(n, rows, 64, generator=generator).pow(16)
    return list((weights @ directions + 0.1 * torch.randn(n, rows, config.dim, generator=generator)).to(ON))


@needs_gpu
@pytest.mark.parametrize("config", [SAEConfig(512, 8192, 32), SAEConfig(48, 1024, 4), SAEConfig(16, 64, 8)], ids=str)
def test_gradients_on_a_gpu_are_those_of_dense_autograd(config):
    sae, [x] = SparseAutoencoder(config).to(ON), batches(1, config, 256)
    x = sae.inputs(x)
    normalised_loss(sae(x), x).backward()
    exact = {name: tensor.detach().double().requires_grad_() for name, tensor in sae.named_parameters()}
    values, latents = sae.encode(x)
    pre = ((x.double() - exact["decoder_bias"]) @ exact["encoder"].T + exact["encoder_bias"]).relu()
    codes = torch.zeros_like(pre).scatter(1, latents, pre.gather(1, latents))
    assert (pre.topk(config.k, dim=1).values.sum(1) - codes.sum(1)).max() < 1e-5
    normalised_loss(codes @ exact["dictionary"] + exact["decoder_bias"], x.double()).backward()
    for name, tensor in sae.named_parameters():
        theirs = exact[name].grad
        assert (tensor.grad - theirs).norm() / theirs.norm() < 1e-5, name


def trained(precision: str = "float32", graph: bool = True) -> tuple[torch.Tensor, SparseAutoencoder]:
    config = SAEConfig(64, 1024, 8)
    sae = SparseAutoencoder(config).to(ON)
    trainer = Trainer([sae], TrainingConfig(device=ON, precision=precision), steps=40)
    trainer.graph = trainer.graph if graph else None
    return torch.stack([trainer.step(x) for x in batches(40, config, 256)]), sae


@needs_gpu
def test_a_repeated_graph_learns_as_single_steps_do_and_the_same_twice():
    (losses, sae), (single, other), (again, _) = trained(), trained(graph=False), trained()
    assert torch.equal(losses, single) and torch.equal(losses, again) and losses[-1] < 0.95 * losses[0]
    assert all(torch.equal(a, b) for a, b in zip(sae.parameters(), other.parameters(), strict=True))


@needs_gpu
def test_a_gpu_learns_what_a_processor_learns():
    rng, config = np.random.default_rng(0), TrainingConfig(latents=512, k=8, epochs=3, batch_size=128)
    data = [(rng.random((2000, 30)) ** 8 @ rng.standard_normal((30, 64))).astype(np.float32) for _ in range(2)]
    last = {}
    for device in ("cpu", "cuda"):
        for activation in ("topk", "matryoshka", "batch_topk", "relu", "jumprelu"):
            settings = TrainingConfig(**vars(config) | {"device": device, "activation": activation})
            saes = [SparseAutoencoder(SAEConfig(64, 256, 8, activation=activation), seed) for seed in (1, 2)]
            history = fit(saes, data, [np.arange(2000)] * 2, settings, seed=1)
            last[device, activation] = [record["loss"] for record in history]
            assert all(parameter.device.type == "cpu" for sae in saes for parameter in sae.parameters())
    for (device, activation), losses in last.items():
        np.testing.assert_allclose(losses, last["cpu", activation], rtol=1e-3, err_msg=f"{activation} on {device}")
