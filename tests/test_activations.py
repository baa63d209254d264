"""Each activation against its published definition: by hand, and as dense autograd in float64."""

import numpy as np
import pytest
import torch

from xsae.activations import ACTIVATIONS, BANDWIDTH, BatchTopK, Distance, JumpReLU, Matryoshka, ReLU
from xsae.fitting import fit
from xsae.sae import SAEConfig, SparseAutoencoder
from xsae.training import TrainingConfig

IDENTITY = torch.eye(3), torch.zeros(3)  # an encoder whose pre-activations are its inputs
PRE = torch.tensor([[3.0, 2.0, 1.0], [0.5, -1.0, 0.2]])


def row_codes(activation, pre, training=True):
    """What `activation` makes of pre-activations (n, 3), as a dense list."""
    values, latents, _ = activation(pre, *IDENTITY, training)
    return torch.zeros_like(pre).scatter(1, latents, values).tolist()


def trained(name, x, **settings):
    sae = SparseAutoencoder(SAEConfig(x.shape[1], 128, k=6, activation=name), seed=1)
    recipe = {"epochs": 27, "batch_size": 128, "learning_rate": 3e-3} | settings
    return sae, fit([sae], [x], [np.arange(len(x))], TrainingConfig(activation=name, **recipe), seed=1)


@pytest.fixture(scope="module")
def x():
    """Embeddings of about three concepts each, of 64."""
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((64, 32))
    codes = (rng.random((2000, 64)) < 0.05) * rng.exponential(size=(2000, 64))
    return (codes @ directions + 0.1 * rng.standard_normal((2000, 32))).astype(np.float32)


@pytest.fixture(scope="module")
def models(x):
    return {name: trained(name, x) for name in ACTIVATIONS}


def test_batch_topk_by_hand():
    activation = BatchTopK(3, k=1)
    # the two largest of the batch are both in the first row
    assert row_codes(activation, PRE) == [[3, 2, 0], [0, 0, 0]]
    assert activation.threshold == 2
    # fewer than n k are positive: no negative one is active, and 0.5 is the smallest positive one
    assert row_codes(activation, torch.tensor([[-1.0, -2.0, -1.0], [0.5, -1.0, -3.0]])) == [[0, 0, 0], [0.5, 0, 0]]
    assert activation.threshold.item() == pytest.approx(0.99 * 2 + 0.01 * 0.5)
    # outside training: all that reach the threshold 1.985, which stays as it is, and rows are on their own
    assert row_codes(activation, PRE, training=False) == [[3, 2, 0], [0, 0, 0]]
    assert row_codes(activation, PRE[1:], training=False) == [[0, 0, 0]]
    assert activation.threshold.item() == pytest.approx(1.985)
    # the smallest entry that a batch kept is the threshold, and stays kept; what is 0 is never active
    activation.threshold.fill_(2.0)
    assert row_codes(activation, PRE, training=False) == [[3, 2, 0], [0, 0, 0]]
    activation.threshold.zero_()
    assert row_codes(activation, torch.tensor([[0.0, -1.0, 0.5]]), training=False) == [[0, 0, 0.5]]


def test_batch_topk_keeps_in_use_what_it_kept_in_its_first_batch():
    x, activation = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)), BatchTopK(3, k=1)
    learned, used = (torch.tensor(row_codes(activation, x, training)) for training in (True, False))
    assert torch.equal(learned, used) and (used > 0).sum() == 40


def test_relu_by_hand():
    activation = ReLU(3, k=1)
    values, latents, sparsity = activation(PRE, *IDENTITY, True)
    np.testing.assert_allclose(torch.zeros(2, 3).scatter(1, latents, values), [[3, 2, 1], [0.5, 0, 0.2]])
    # 5 entries in 2 rows where 2 are wanted: the weight, 0.001, rises by 2.5^0.05 for good and by 2.5 for now
    assert sparsity.item() == pytest.approx(1e-3 * 2.5**1.05 * (3 + 2 + 1 + 0.5 + 0.2) / 2)
    assert activation.log_weight.exp().item() == pytest.approx(1e-3 * 2.5**0.05)
    assert activation(PRE, *IDENTITY, False)[2] == 0 and activation.log_weight.exp() > 1e-3


def test_jumprelu_by_hand():
    activation = JumpReLU(3, k=1)
    activation.threshold.data = torch.tensor([2.5, 2.5, 0.1])
    assert row_codes(activation, PRE) == [[3, 0, 1], [0, 0, pytest.approx(0.2)]]
    assert activation(PRE, *IDENTITY, True)[2].item() == pytest.approx((3 / 2 - 1) ** 2)


def test_straight_through_estimators_by_hand():
    # theta = 1: of latent 0's pre-activations 1.01 and 0.99 lie within the band, 1.2 and 0.5 outside
    activation = JumpReLU(3, k=1)
    activation.threshold.data = torch.tensor([1.0, 9.0, 9.0])
    pre = torch.tensor([[1.01, 0, 0], [0.99, 0, 0], [1.2, 0, 0], [0.5, 0, 0]])
    values, _, sparsity = activation(pre, *IDENTITY, True)
    # each in the band adds -theta / eps to the gradient of sum z
    (grad,) = torch.autograd.grad(values.sum(), activation.threshold, retain_graph=True)
    assert grad.tolist() == pytest.approx([-2 / BANDWIDTH, 0, 0])
    # and -1 / eps to that of L0, a mean over four rows: L0 = 1/2, so (L0 / k - 1)^2 has the slope -1 there
    (grad,) = torch.autograd.grad(sparsity, activation.threshold)
    assert grad.tolist() == pytest.approx([2 / BANDWIDTH / 4, 0, 0])


def test_distance_by_hand():
    # of (4, 3), to the directions of (2, 0), (0, 3) and (-1, 0): cosines .8, .6, -.8, so distances
    # sqrt(2 - 1.6), sqrt(2 - 1.2), sqrt(2 + 1.6)
    directions, distances = torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]]), [0.4**0.5, 0.8**0.5, 3.6**0.5]
    activation, x, bias = Distance(3, k=2), torch.tensor([[4.0, 3.0]]), torch.full((3,), 5.0)
    values, latents, sparsity = activation(x, directions, bias, True)
    assert dict(zip(latents[0].tolist(), values[0].tolist(), strict=True)) == pytest.approx(
        {0: 2 - distances[0], 1: 2 - distances[1]}
    )
    assert sparsity == 0 and activation.pre(x, directions, bias).tolist() == [pytest.approx([2 - d for d in distances])]
    # an embedding on a direction is at distance 0, where the distance has no gradient
    dictionary = directions.clone().requires_grad_()
    activation(torch.tensor([[1.0, 0.0]]), dictionary, bias, True)[0].sum().backward()
    assert dictionary.grad.isfinite().all()


def test_matryoshka_nests_levels_of_k():
    levels = {k: Matryoshka(32, k).levels for k in (1, 2, 8, 10)}
    assert levels == {1: (None,), 2: (1, None), 8: (1, 2, 4, None), 10: (1, 2, 5, None)}
    values, latents, _ = Matryoshka(3, k=2)(PRE[:, [2, 0, 1]], *IDENTITY, True)
    assert values.tolist()[0] == [3, 2] and latents.tolist()[0] == [1, 2]  # the largest come first


def test_matryoshka_reconstructs_from_less_than_k(x, models):
    """What it is for: cut to their largest 1 or 3 entries, its codes lose less than those of TopK."""
    for m in (1, 3):
        errors = {}
        for name in ("topk", "matryoshka"):
            sae = models[name][0]
            values, latents = sae.encode(torch.from_numpy(x))
            order = values.argsort(1, descending=True)[:, :m]
            x_hat = sae.decode(values.gather(1, order), latents.gather(1, order))
            errors[name] = (x_hat - sae.inputs(torch.from_numpy(x))).square().sum().item()
        assert errors["matryoshka"] < 0.95 * errors["topk"], (m, errors)


def dense_reference(name, sae, x, k):
    """Loss and gradients by the definition: dense codes, float64, plain autograd. -> (loss, gradients by name)"""
    p = {key: value.detach().double().requires_grad_() for key, value in sae.named_parameters()}
    pre = (x.double() - p["decoder_bias"]) @ p["encoder"].T + p["encoder_bias"]
    positive, sparsity = pre.relu(), 0.0
    if name == "relu":
        z, l0 = positive, (positive > 0).double().sum(1).mean().item() / k
        sparsity = 1e-3 * l0**1.05 * positive.abs().sum(1).mean() if l0 else 0.0
    elif name == "jumprelu":
        theta = p["activation.threshold"]
        band, moved = ((pre - theta).abs() < BANDWIDTH / 2).double() / BANDWIDTH, theta - theta.detach()
        z = pre * (pre > theta) - (theta.detach() * band).detach() * moved
        sparsity = (((pre > theta).double() - band.detach() * moved).sum(1).mean() / k - 1).square()
    elif name == "distance":
        near = 2 - torch.cdist(x.double() / x.double().norm(dim=1, keepdim=True),
                               p["encoder"] / p["encoder"].norm(dim=1, keepdim=True))  # fmt: skip
        z = torch.zeros_like(near).scatter(1, near.topk(k).indices, near.topk(k).values)
    elif name == "batch_topk":
        kept = positive.flatten().topk(k * len(x))
        z = torch.zeros_like(positive.flatten()).scatter(0, kept.indices, kept.values).view_as(positive)
    else:
        z = torch.zeros_like(positive).scatter(1, *positive.topk(k).indices[None], positive.topk(k).values)
    parts = [z]
    if name == "matryoshka":
        parts = [torch.zeros_like(z).scatter(1, z.topk(m).indices, z.topk(m).values) for m in (1, 2, 4)]
    errors = [(part @ p["dictionary"] + p["decoder_bias"] - x).square().sum() for part in parts]
    loss = sum(errors) / len(errors) + 100 * sparsity
    loss.backward()
    return loss, {key: value.grad for key, value in p.items()}


@pytest.mark.parametrize(
    ("latents", "shift"),
    [(40, 0.0), (40, -0.7), (2000, -1.8)],
    ids=["full codes", "rows with few or none active", "sparse codes"],  # full ones take dense products
)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_loss_and_every_gradient_equal_dense_autograd(name, latents, shift):
    torch.manual_seed(0)
    k = 4
    sae = SparseAutoencoder(SAEConfig(12, latents, k, normalize=False, activation=name))
    with torch.no_grad():
        sae.encoder_bias.uniform_(-0.1, 0.1).add_(shift)
        sae.decoder_bias.uniform_(-0.1, 0.1)
    x = torch.randn(64, 12)
    values, active, sparsity = sae.activate(x, training=True)
    assert (32 * values.shape[1] > latents) == (latents == 40)
    x_hats = [sae.decode(values[:, :m], active[:, :m]) for m in sae.activation.levels]
    loss = sum((x_hat - x).square().sum() for x_hat in x_hats) / len(x_hats) + 100 * sparsity
    loss.backward()
    exact, gradients = dense_reference(name, sae, x, k)
    torch.testing.assert_close(loss.double(), exact, atol=0, rtol=1e-5)
    for key, parameter in sae.named_parameters():
        if gradients[key] is None:  # a parameter that the activation does not read
            assert parameter.grad is None and (name, key) == ("distance", "encoder_bias")
            continue
        error = (parameter.grad - gradients[key]).norm() / gradients[key].norm()
        assert error < 1e-5, (key, error)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_codes_keep_the_contract(name, x, models):
    """Non-negative, latents distinct in a row, dense and sparse agree, and no row depends on the others."""
    sae = models[name][0]
    batch = torch.from_numpy(x[:300])
    with torch.no_grad():
        values, latents = sae.encode(batch)
        assert (values >= 0).all() and values.shape == latents.shape
        assert all(len(set(row)) == len(row) for row in latents.tolist())
        codes = torch.zeros(300, 128).scatter(1, latents, values)
        torch.testing.assert_close(sae(batch), codes @ sae.dictionary + sae.decoder_bias)
    transformed = sae.transform(x[:300], batch_size=7)
    np.testing.assert_allclose(transformed.toarray(), codes, atol=1e-6)
    assert (transformed.data > 0).all() and sae.transform(x[:0]).shape == (0, 128)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_training_lowers_the_loss_and_reaches_k(name, x, models):
    sae, history = models[name]
    assert history[-1]["loss"] < 0.5
    if name != "relu":  # which starts with half of its latents active, and so with a small loss
        assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    assert sae.transform(x).nnz / len(x) == pytest.approx(6, rel=0.08)
    if name != "distance":  # whose directions have norms of their own
        np.testing.assert_allclose(np.linalg.norm(sae.directions, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_save_load_gives_the_same_bits(name, x, models, tmp_path):
    sae = models[name][0]
    sae.save(tmp_path / "sae")
    loaded = SparseAutoencoder.load(tmp_path / "sae")
    assert loaded.config == sae.config and loaded.config.activation == name
    assert (loaded.transform(x) != sae.transform(x)).nnz == 0
    np.testing.assert_array_equal(loaded(torch.from_numpy(x)).detach(), sae(torch.from_numpy(x)).detach())


def test_an_unknown_activation_is_refused_by_name():
    with pytest.raises(
        ValueError, match="activation: 'gelu' is unknown; one of topk, batch_topk, relu, jumprelu, matryoshka"
    ):
        SAEConfig(dim=4, latents=8, k=2, activation="gelu")
