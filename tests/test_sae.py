import json

import numpy as np
import pytest
import torch

from xsae.sae import SAEConfig, SparseAutoencoder


def by_hand() -> SparseAutoencoder:
    """d = 2, L = 3, k = 1; encoder = dictionary = e1, e2, (e1 + e2) / sqrt(2); biases chosen to be seen."""
    sae = SparseAutoencoder(SAEConfig(dim=2, latents=3, k=1, normalize=False))
    with torch.no_grad():
        rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5**0.5, 0.5**0.5]])
        sae.encoder.copy_(rows)
        sae.dictionary.copy_(rows)
        sae.encoder_bias.copy_(torch.tensor([0.0, 0.5, 0.0]))
        sae.decoder_bias.copy_(torch.tensor([1.0, 0.0]))
    return sae


def test_the_equation_by_hand():
    # x - b_dec = (1, 1): pre = (1, 1.5, 1.414), so latent 1 with 1.5; x^ = 1.5 * (0, 1) + (1, 0)
    # x - b_dec = (-2, -1): pre < 0 everywhere, nothing fires, x^ = b_dec
    x = np.array([[2.0, 1.0], [-1.0, -1.0]], np.float32)
    codes = by_hand().transform(x)
    assert codes.toarray().tolist() == [[0, 1.5, 0], [0, 0, 0]] and codes.nnz == 1
    assert by_hand().inverse_transform(codes).tolist() == [[1, 1.5], [1, 0]]
    assert by_hand()(torch.from_numpy(x)).tolist() == [[1, 1.5], [1, 0]]


def test_start_is_the_papers():
    sae = SparseAutoencoder(SAEConfig(dim=16, latents=64, k=4), seed=3)
    directions = sae.directions
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1, atol=1e-6)
    cosine = (directions * sae.encoder.detach().numpy()).sum(1) / sae.encoder.detach().norm(dim=1).numpy()
    np.testing.assert_allclose(cosine, 1, atol=1e-6)
    assert sae.encoder.abs().max() <= 16**-0.5 and not sae.encoder_bias.any() and not sae.decoder_bias.any()
    again, other = (SparseAutoencoder(sae.config, seed) for seed in (3, 4))
    assert torch.equal(again.encoder, sae.encoder) and not torch.equal(other.encoder, sae.encoder)


def test_normalisation_is_inside_the_model():
    x = np.random.default_rng(0).standard_normal((20, 8)).astype(np.float32)
    sae = SparseAutoencoder(SAEConfig(dim=8, latents=32, k=3))
    np.testing.assert_allclose(sae.transform(x).toarray(), sae.transform(7 * x).toarray(), atol=1e-6)


def test_codes_do_not_depend_on_the_batch():
    x = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
    sae = SparseAutoencoder(SAEConfig(dim=8, latents=32, k=3))
    whole, parts = sae.transform(x), sae.transform(x, batch_size=7)
    assert parts.shape == (50, 32) and parts.dtype == np.float32
    np.testing.assert_allclose(whole.toarray(), parts.toarray(), atol=1e-6)
    assert sae.transform(x[:0]).shape == (0, 32)


def test_save_load_gives_the_same_bits(tmp_path):
    x = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
    sae = SparseAutoencoder(SAEConfig(dim=8, latents=32, k=3, normalize=False), seed=5)
    sae.save(tmp_path / "sae")
    loaded = SparseAutoencoder.load(tmp_path / "sae")
    assert loaded.config == sae.config
    assert (loaded.transform(x) != sae.transform(x)).nnz == 0
    assert [path.name for path in tmp_path.iterdir()] == ["sae"]


def damage_weights(folder):
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-3] ^= 1
    (folder / "model.safetensors").write_bytes(data)


def truncate_weights(folder):
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:-10])


def misspell(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"kk": 3}))


@pytest.mark.parametrize(
    ("harm", "error", "message"),
    [
        (damage_weights, ValueError, r"model.safetensors: truncated or altered"),
        (truncate_weights, ValueError, r"model.safetensors: truncated or altered"),
        (misspell, ValueError, r"config.json: altered: what it says does not fit its sha256"),
        (lambda f: (f / "config.json").write_text("{"), ValueError, r"config.json: truncated or altered: not JSON"),
        (lambda f: (f / "config.json").unlink(), FileNotFoundError, r"config.json: not there"),
        (lambda f: (f / "model.safetensors").unlink(), ValueError, r"model.safetensors: .*nothing found"),
    ],
)
def test_a_harmed_checkpoint_is_refused_by_name(tmp_path, harm, error, message):
    SparseAutoencoder(SAEConfig(dim=8, latents=32, k=3)).save(tmp_path / "sae")
    harm(tmp_path / "sae")
    with pytest.raises(error, match=message) as raised:
        SparseAutoencoder.load(tmp_path / "sae")
    assert "\n" not in str(raised.value)


def test_bad_arguments_say_what_is_wrong():
    with pytest.raises(ValueError, match="k: 9 active latents asked of a dictionary of 8"):
        SAEConfig(dim=4, latents=8, k=9)
    with pytest.raises(ValueError, match="latents: 0 found"):
        SAEConfig(dim=4, latents=0, k=1)
    with pytest.raises(ValueError, match=r"shape \(5, 3\) found; \(n, 4\)"):
        SparseAutoencoder(SAEConfig(dim=4, latents=8, k=2)).transform(np.ones((5, 3), np.float32))
