"""The penalties against their definitions, written out on dense float64 codes."""

import pytest
import torch

from xsae.penalties import group_sparse, iso_energy
from xsae.sae import SAEConfig, SparseAutoencoder

LATENTS = 30
PENALTIES = {"iso_energy": iso_energy, "group_sparse": group_sparse}


def code(*rows):
    """Rows of {latent: value} -> values and latents, filled up with latents of value 0."""
    width = max(map(len, rows))
    filled = [row | dict.fromkeys([j for j in range(LATENTS) if j not in row][: width - len(row)], 0.0) for row in rows]
    return torch.tensor([list(row.values()) for row in filled]), torch.tensor([list(row) for row in filled])


def dense(values, latents):
    return torch.zeros(len(values), LATENTS, dtype=torch.float64).scatter(1, latents, values.detach().double())


def dense_iso_energy(image, text):
    tops = [z.argmax(1, keepdim=True) for z in (image, text)]
    image, text = (z.scatter(1, tops[0], 0).scatter(1, tops[1], 0) for z in (image, text))
    left = (image > 0).any(1) & (text > 0).any(1)
    return -torch.cosine_similarity(image[left], text[left]).sum() / len(image)


def dense_group_sparse(image, text):
    squares = image.square() + text.square()
    return squares[squares > 0].sqrt().sum() / len(image)


DENSE = {"iso_energy": dense_iso_energy, "group_sparse": dense_group_sparse}


def test_iso_energy_by_hand():
    # pair 1: without the largest {1: 3, 2: 4} and {1: 3}: cosine 9 / (5 * 3) = 0.6
    # pair 2: {1: 1} and {1: 2}, cosine 1, although the largest latents 0 and 2 differ
    # pair 3: nothing is left of the image's code
    # pair 4: the largest of either leave both codes: {2: 4} and {2: 3}; its own alone would give 12 / (5 * √13)
    image = code({0: 9.0, 1: 3.0, 2: 4.0}, {0: 3.0, 1: 1.0}, {5: 2.0}, {0: 5.0, 1: 3.0, 2: 4.0})
    text = code({7: 8.0, 1: 3.0}, {2: 5.0, 1: 2.0}, {5: 2.0, 6: 1.0}, {1: 6.0, 0: 2.0, 2: 3.0})
    assert iso_energy(image, text).item() == pytest.approx(-(0.6 + 1 + 0 + 1) / 4)


def test_group_sparse_by_hand():
    # pair 1 shares latent 0: sqrt(9 + 16) = 5, alone are 1 with 2 and 4 with 3: 10
    # pair 2 shares nothing: 1 + 2; pair 3: the image's code is empty: 6
    image, text = code({0: 3.0, 1: 2.0}, {0: 1.0}, {}), code({0: 4.0, 4: 3.0}, {1: 2.0}, {2: 6.0})
    assert group_sparse(image, text).item() == pytest.approx((10 + 3 + 6) / 3)


def random_code(n, k, rng, zeros=0.0):
    latents = torch.stack([torch.randperm(LATENTS, generator=rng)[:k] for _ in range(n)])
    values = torch.rand(n, k, generator=rng) + 0.1
    return values * (torch.rand(n, k, generator=rng) >= zeros), latents


def pairs(kind):
    rng = torch.Generator().manual_seed(0)
    image, text = random_code(40, 6, rng), random_code(40, 9 if kind == "other width" else 6, rng)
    if kind == "same support":
        order = torch.rand(40, 6, generator=rng).argsort(1)
        text = text[0], image[1].gather(1, order)
    if kind == "no common latent":
        image, text = (image[0], image[1] % 15), (text[0], text[1] % 15 + 15)
        image, text = ((v[:, :1], latents[:, :1]) for v, latents in (image, text))
    if kind == "padded":
        image, text = random_code(40, 6, rng, zeros=0.6), random_code(40, 6, rng, zeros=0.6)
    if kind == "empty":
        image, text = (image[0] * 0, image[1]), (text[0] * (torch.arange(40) % 2)[:, None], text[1])
    return image, text


@pytest.mark.parametrize("name", PENALTIES)
@pytest.mark.parametrize("kind", ["usual", "other width", "same support", "no common latent", "padded", "empty"])
def test_value_and_gradient_equal_dense_autograd(name, kind):
    image, text = pairs(kind)
    for values, _ in (image, text):
        values.requires_grad_()
    ours = PENALTIES[name](image, text)
    ours.backward()
    z_image, z_text = (dense(*c).requires_grad_() for c in (image, text))
    exact = DENSE[name](z_image, z_text)
    exact.backward()
    torch.testing.assert_close(ours.double(), exact, atol=1e-6, rtol=1e-6)
    for (values, latents), z in ((image, z_image), (text, z_text)):
        expected = z.grad.gather(1, latents)
        assert (values.grad - expected).norm() <= 1e-5 * expected.norm()


@pytest.mark.parametrize("name", PENALTIES)
def test_gradient_through_the_autoencoder_equals_dense_autograd(name):
    """From the penalty to every parameter of the encoder, for a TopK autoencoder with rows that fire less than k."""
    torch.manual_seed(0)
    sae = SparseAutoencoder(SAEConfig(dim=8, latents=LATENTS, k=6, normalize=False))
    with torch.no_grad():
        sae.encoder_bias.uniform_(-0.4, 0.0)
    x = torch.randn(2, 50, 8)
    PENALTIES[name](*(sae.encode(part) for part in x)).backward()

    weight, bias, centre = (
        p.detach().double().requires_grad_() for p in (sae.encoder, sae.encoder_bias, torch.zeros(8))
    )
    codes = []
    for part in x.double():
        pre = ((part - centre) @ weight.T + bias).relu()
        codes.append(pre * torch.zeros_like(pre).scatter(1, pre.topk(6).indices, 1))
    assert (codes[0] > 0).sum(1).min() < 6
    DENSE[name](*codes).backward()
    for mine, exact in ((sae.encoder, weight), (sae.encoder_bias, bias), (sae.decoder_bias, centre)):
        assert (mine.grad - exact.grad).norm() <= 1e-5 * exact.grad.norm()


def test_of_three_modalities_iso_energy_is_the_mean_of_its_pairs():
    one, two, three = (
        code({0: 9.0, 1: 3.0}, {1: 1.0, 2: 4.0}),
        code({7: 8.0, 1: 3.0}, {1: 2.0}),
        code({1: 5.0, 2: 6.0}, {}),
    )
    apart = [iso_energy(*pair) for pair in ((one, two), (one, three), (two, three))]
    assert iso_energy(one, two, three).item() == pytest.approx(sum(apart).item() / 3)


def test_of_three_modalities_group_sparse_has_all_under_the_root_by_hand():
    # latent 0 is in all: sqrt(4 + 9 + 36) = 7; latent 1 in the last two: sqrt(9 + 16) = 5; latent 5 alone: 2
    codes = code({0: 2.0, 5: 2.0}), code({1: 3.0, 0: 3.0}), code({0: 6.0, 1: 4.0})
    assert group_sparse(*codes).item() == pytest.approx(7 + 5 + 2)


@pytest.mark.parametrize("name", PENALTIES)
def test_gradients_of_three_modalities_are_those_of_dense_float64(name):
    rng = torch.Generator().manual_seed(1)
    codes = [random_code(20, 6, rng, zeros=0.2) for _ in range(3)]
    for values, _ in codes:
        values.requires_grad_()
    PENALTIES[name](*codes).backward()
    double = [values.detach().double().requires_grad_() for values, _ in codes]
    whole = [
        torch.zeros(20, LATENTS, dtype=torch.float64).scatter(1, latents, v)
        for v, (_, latents) in zip(double, codes, strict=True)
    ]
    if name == "group_sparse":
        squares = sum(z.square() for z in whole)
        expected = squares.where(squares > 0, 1).sqrt().where(squares > 0, 0).sum() / 20
    else:
        pairs_of = ((whole[0], whole[1]), (whole[0], whole[2]), (whole[1], whole[2]))
        expected = sum(dense_iso_energy(*pair) for pair in pairs_of) / 3
    expected.backward()
    for (values, _), exact in zip(codes, double, strict=True):
        torch.testing.assert_close(values.grad.double(), exact.grad, rtol=1e-5, atol=1e-7)
