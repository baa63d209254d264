import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from xsae.fitting import fit
from xsae.methods import METHODS, TRAINED, train_saes
from xsae.run.checkpoints import load, train_or_load
from xsae.sae import SAEConfig, SparseAutoencoder
from xsae.training import TrainingConfig, aux_loss, dictionary_size, normalised_loss

SMALL = TrainingConfig(latents=64, k=2, epochs=20, batch_size=64, learning_rate=5e-3)


def concepts(n=600, seed=0):
    """Pairs of one concept each: unit vectors near one of 16 directions per modality."""
    rng = np.random.default_rng(seed)
    which = rng.integers(0, 16, n)
    arrays = {}
    for modality in ("image", "text"):
        directions = np.linalg.qr(rng.standard_normal((32, 16)))[0].T
        noisy = directions[which] + 0.02 * rng.standard_normal((n, 32))
        arrays[modality] = (noisy / np.linalg.norm(noisy, axis=1, keepdims=True)).astype(np.float32)
    return arrays, dict.fromkeys(arrays, np.arange(n))


def test_normalised_loss_by_hand():
    # mean (1, 1); squares about it 1 + 1 + 1 + 1 = 4; errors 1 + 0 -> 1/4
    x, x_hat = torch.tensor([[0.0, 0.0], [2.0, 2.0]]), torch.tensor([[1.0, 0.0], [2.0, 2.0]])
    assert normalised_loss(x_hat, x).item() == 0.25


@pytest.mark.parametrize("method", TRAINED)
def test_training_finds_the_concepts(method):
    arrays, rows = concepts()
    saes, history = train_saes(method, arrays, rows, SMALL, seed=1)
    last = history[history["epoch"] == 20].set_index("modality")["loss"]
    most = 0.25 if method == "masked_group_sparse" else 0.12  # its training losses have a fifth of the latents hidden
    assert (last < most).all() and (last < 0.3 * history[history["epoch"] == 1].set_index("modality")["loss"]).all()
    for sae in saes.values():
        if method != "vl_sae":
            np.testing.assert_allclose(np.linalg.norm(sae.directions, axis=1), 1, atol=1e-5)


def test_methods_have_equal_width_and_share_as_named():
    arrays, rows = concepts(100)
    shared, _ = train_saes("shared", arrays, rows, SMALL, seed=1)
    separated, _ = train_saes("separated", arrays, rows, SMALL, seed=1)
    assert shared["image"] is shared["text"] and len(shared["image"].directions) == 64
    assert separated["image"] is not separated["text"]
    assert [len(sae.directions) for sae in separated.values()] == [32, 32]


def test_a_modality_is_trained_alone_when_separated_but_for_the_clipping():
    """Other texts change nothing about the image side, not even one bit; gradients are clipped together."""
    arrays, rows = concepts(200)
    other = arrays | {"text": arrays["text"][::-1].copy()}
    unclipped = replace(SMALL, clip_norm=1e9)
    one, _ = train_saes("separated", arrays, rows, unclipped, seed=1)
    two, _ = train_saes("separated", other, rows, unclipped, seed=1)
    assert torch.equal(one["image"].dictionary, two["image"].dictionary)
    assert not torch.equal(one["text"].dictionary, two["text"].dictionary)


def test_pairs_are_read_through_their_rows():
    """Images stored once and owned by several texts train as if they were repeated."""
    arrays, _ = concepts(120)
    rows = {"image": np.arange(120) // 3, "text": np.arange(120)}
    repeated = {"image": arrays["image"][rows["image"]], "text": arrays["text"]}
    one, _ = train_saes("shared", arrays, rows, SMALL, seed=1)
    two, _ = train_saes("shared", repeated, dict.fromkeys(rows, np.arange(120)), SMALL, seed=1)
    assert torch.equal(one["image"].dictionary, two["image"].dictionary)


def test_same_seed_same_bits_other_seed_others():
    arrays, rows = concepts(150)
    one, two, other = (train_saes("shared", arrays, rows, SMALL, seed)[0]["image"].directions for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)


def test_shared_bias_has_one_dictionary_and_a_bias_of_each_modality():
    arrays, rows = concepts(200)
    arrays["text"] = arrays["text"] + 0.5 * np.eye(32, dtype=np.float32)[0]
    saes, _ = train_saes("shared_bias", arrays, rows, SMALL, seed=1)
    image, text = saes.values()
    assert image.dictionary is text.dictionary and image.encoder is text.encoder
    assert text.decoder_bias[0] > image.decoder_bias[0] + 0.2


@pytest.mark.parametrize("method", TRAINED)
def test_the_bias_starts_at_the_mean_of_what_an_autoencoder_trains_on(method):
    arrays, _ = concepts(90)
    rows = {"image": np.arange(90) // 3, "text": np.arange(90)}  # an image that has several texts counts as often
    still = replace(SMALL, learning_rate=1e-12, weight_decay=0.0, epochs=1)
    means = {m: arrays[m][rows[m]].mean(axis=0) for m in arrays}
    if method in ("shared", "iso_energy", "group_sparse"):  # which have one bias for all
        means = dict.fromkeys(means, (means["image"] + means["text"]) / 2)
    for modality, sae in train_saes(method, arrays, rows, still, seed=1)[0].items():
        np.testing.assert_allclose(sae.decoder_bias.detach().numpy(), means[modality], atol=1e-6)
    for sae in train_saes(method, arrays, rows, replace(still, bias_start="zero"), seed=1)[0].values():
        np.testing.assert_allclose(sae.decoder_bias.detach().numpy(), 0, atol=1e-6)


def test_where_activations_are_counted_over_a_batch_each_modality_has_its_own_count():
    config = SAEConfig(8, 16, 2, activation="batch_topk")
    one, other = METHODS["shared"].build(["image", "text"], config, 1).values()
    assert one.encoder is other.encoder and one.decoder_bias is other.decoder_bias
    assert one.activation.threshold is not other.activation.threshold
    assert len(set(METHODS["shared"].build(["image", "text"], replace(config, activation="topk"), 1).values())) == 1


@pytest.mark.parametrize("activation", ["batch_topk", "jumprelu", "relu"])
def test_a_shared_autoencoder_gives_no_modality_more_active_latents(activation):
    arrays, rows = concepts(600)
    arrays["text"] = arrays["text"] + 0.3 * np.random.default_rng(1).standard_normal((600, 32)).astype(np.float32)
    config = replace(SMALL, latents=64, k=4, epochs=60, activation=activation)
    saes, _ = train_saes("shared", arrays, rows, config, seed=1)
    active = {m: saes[m].transform(arrays[m]).nnz / 600 for m in arrays}
    assert active["image"] == pytest.approx(active["text"], rel=0.25), active


def noisy(n):
    """Pairs of nothing but noise: there is little to learn, and soon nothing."""
    rng = np.random.default_rng(0)
    arrays = {modality: rng.standard_normal((n, 8)).astype(np.float32) for modality in ("image", "text")}
    return arrays, dict.fromkeys(arrays, np.arange(n))


def test_with_patience_a_training_ends_when_pairs_set_aside_gain_no_more():
    config = replace(SMALL, latents=16, epochs=1, patience=3, max_steps=5000)
    _, history = train_saes("shared", *noisy(400), config, seed=1)
    assert 400 <= history["step"].max() < 5000 and history["set_aside"].iloc[-1] > history["loss"].iloc[-1]
    looks = history.groupby("step")["set_aside"].mean().dropna()
    assert looks.iloc[-1] <= 1.05 * looks.min()


def test_with_patience_a_cap_holds_and_the_epochs_are_the_least():
    arrays, rows = concepts(400)
    config = replace(SMALL, epochs=1, patience=3, max_steps=300)
    assert train_saes("shared", arrays, rows, config, seed=1)[1]["step"].max() <= 300
    _, history = train_saes("shared", *noisy(400), replace(config, latents=16, epochs=200), seed=1)
    assert history["step"].max() >= 200 * 5


def test_pairs_set_aside_are_not_trained_on_nor_is_their_image_with_another_text():
    arrays, _ = concepts(300)
    rows = {"image": np.arange(300) // 3, "text": np.arange(300)}
    config = replace(SMALL, epochs=3, patience=1, max_steps=30, normalize=False)
    one, _ = train_saes("separated", arrays, rows, replace(config, bias_start="zero"), seed=1)
    first = np.random.default_rng(1).permutation(np.unique(rows["image"]))[:10]
    for modality, gone in (("image", first), ("text", np.flatnonzero(np.isin(rows["image"], first)))):
        arrays[modality][gone] = 7.0
    two, _ = train_saes("separated", arrays, rows, replace(config, bias_start="zero"), seed=1)
    assert torch.equal(one["image"].dictionary, two["image"].dictionary)
    assert torch.equal(one["text"].dictionary, two["text"].dictionary)


def test_aux_loss_is_zero_when_a_dead_latent_predicts_the_residual():
    sae = SparseAutoencoder(SAEConfig(dim=4, latents=8, k=1, normalize=False))
    residual = torch.tensor([0.0, 0.0, 3.0, 0.0])
    with torch.no_grad():
        sae.encoder[5] = sae.dictionary[5] = torch.tensor([0.0, 0.0, 1.0, 0.0])
    x = torch.tensor([[1.0, 2.0, 3.0, 0.0]])
    x_hat = (x - residual).requires_grad_()
    loss = aux_loss(sae, x, x_hat, torch.tensor([5]))
    assert loss.item() == 0
    loss.backward()
    assert x_hat.grad is None  # the residual is a target: no gradient reaches the live reconstruction
    # a latent that points elsewhere leaves the whole residual: loss 1
    with torch.no_grad():
        sae.encoder[5] = torch.tensor([0.0, 0.0, -1.0, 0.0])
    assert aux_loss(sae, x, x_hat, torch.tensor([5])).item() == 1


def test_aux_revives_dead_latents():
    x = np.random.default_rng(0).standard_normal((600, 16)).astype(np.float32)
    alive = {}
    for coefficient in (0.0, 0.1):
        sae = SparseAutoencoder(SAEConfig(dim=16, latents=128, k=2))
        with torch.no_grad():
            sae.encoder_bias[64:] = -0.25  # half of the latents start out too weak to be among the k
        config = TrainingConfig(epochs=40, batch_size=64, learning_rate=3e-3, aux_coefficient=coefficient)
        fit([sae], [x], [np.arange(600)], config, seed=1)
        alive[coefficient] = int((sae.transform(x).count_nonzero(axis=0)[64:] > 0).sum())
    assert alive[0.0] < 10 and alive[0.1] > alive[0.0] + 20, alive


@pytest.mark.parametrize(
    ("n_pairs", "dim", "latents"), [(400, 512, 128), (1200, 512, 512), (2_850_000, 512, 8192), (20, 64, 64)]
)
def test_dictionary_is_sized_to_the_data(n_pairs, dim, latents):
    assert dictionary_size(n_pairs, dim) == latents


def test_checkpoint_is_read_back_only_for_the_same_settings_and_data(tmp_path):
    arrays, rows = concepts(100)
    call = ("separated", arrays, rows)
    first, history = train_or_load(tmp_path / "c", *call, SMALL, 1, "data-a")
    stamp = (tmp_path / "c" / "training.json").stat().st_mtime_ns
    again, same = train_or_load(tmp_path / "c", *call, SMALL, 1, "data-a")
    assert (tmp_path / "c" / "training.json").stat().st_mtime_ns == stamp
    np.testing.assert_allclose(same["loss"], history["loss"])
    for modality in arrays:
        assert torch.equal(first[modality].dictionary, again[modality].dictionary)
    train_or_load(tmp_path / "c", *call, SMALL, 1, "data-b")
    assert (tmp_path / "c" / "training.json").stat().st_mtime_ns != stamp
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_shared_is_kept_once_and_loads_as_one(tmp_path):
    arrays, rows = concepts(100)
    train_or_load(tmp_path / "c", "shared", arrays, rows, SMALL, 1, "data")
    saes, _ = load(tmp_path / "c", "data")
    assert saes["image"] is saes["text"] and (tmp_path / "c" / "image+text").is_dir()


def test_errors_name_the_thing(tmp_path):
    arrays, rows = concepts(100)
    with pytest.raises(ValueError, match="method: 'joint' is unknown; one of shared, shared_bias,"):
        train_saes("joint", arrays, rows, SMALL, 1)
    with pytest.raises(ValueError, match="k: 40 active latents asked of a dictionary of 32"):
        train_saes("separated", arrays, rows, TrainingConfig(latents=64, k=40), 1)
    with pytest.raises(FileNotFoundError, match="notebook 02_sae_training makes them"):
        load(tmp_path / "nothing", "data")
    train_or_load(tmp_path / "c", "shared", arrays, rows, SMALL, 1, "data")
    with pytest.raises(ValueError, match="trained on other embeddings"):
        load(tmp_path / "c", "other")
    (tmp_path / "c" / "training.json").write_text('{"settings": {')
    with pytest.raises(
        ValueError, match="training.json: truncated or altered: not JSON .*; move .* away to train again"
    ):
        load(tmp_path / "c", "data")


def test_divergence_is_an_error_not_a_result():
    arrays, rows = concepts(100)
    with pytest.raises(ValueError, match="diverged"):
        train_saes("shared", arrays, rows, replace(SMALL, learning_rate=1e38, weight_decay=0.0), 1)


def dense_curve(x, config, seed):
    """The loss of each epoch of the same training as one writes it first: dense codes, plain autograd and AdamW."""
    sae = SparseAutoencoder(SAEConfig(x.shape[1], config.latents, config.k), seed)
    parameters = encoder, bias, dictionary, offset = list(sae.parameters())
    per_epoch = len(x) // config.batch_size
    steps = config.epochs * per_epoch
    optimiser = torch.optim.AdamW(parameters, config.learning_rate, weight_decay=config.weight_decay)
    warmup = max(round(config.warmup * steps), 1)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda s: (s + 1) / warmup if s < warmup else 0.5 * (1 + math.cos(math.pi * (s - warmup) / (steps - warmup))),
    )
    generator, curve = np.random.default_rng(seed), []
    for _ in range(config.epochs):
        order, losses = generator.permutation(len(x)), []
        for start in range(0, per_epoch * config.batch_size, config.batch_size):
            batch = torch.from_numpy(x[order[start : start + config.batch_size]])
            batch = batch / batch.norm(dim=1, keepdim=True)
            pre = ((batch - offset) @ encoder.T + bias).relu()
            values, latents = pre.topk(config.k, dim=1)
            loss = normalised_loss(torch.zeros_like(pre).scatter(1, latents, values) @ dictionary + offset, batch)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, config.clip_norm)
            optimiser.step()
            rate.step()
            sae.normalize_dictionary()
            losses.append(loss.item())
        curve.append(np.mean(losses))
    return np.array(curve)


@pytest.mark.parametrize("latents", [64, 512], ids=["full codes", "sparse codes"])
def test_the_loss_curve_is_that_of_dense_autograd(latents):
    x = concepts(1200)[0]["image"]
    config = TrainingConfig(latents=latents, k=4, epochs=10, batch_size=128, learning_rate=2e-3)
    sae = SparseAutoencoder(SAEConfig(32, latents, 4), seed=3)
    history = fit([sae], [x], [np.arange(len(x))], config, seed=3)
    np.testing.assert_allclose([record["loss"] for record in history], dense_curve(x, config, 3), atol=1e-4)


@pytest.mark.parametrize("activation", ["topk", "batch_topk", "relu", "jumprelu", "matryoshka"])
def test_a_bfloat16_product_costs_next_to_nothing(activation):
    x = concepts(1200)[0]["image"]
    losses = {}
    for precision in ("float32", "bfloat16"):
        sae = SparseAutoencoder(SAEConfig(32, 512, 4, activation=activation), seed=3)
        config = TrainingConfig(
            epochs=10, batch_size=128, learning_rate=2e-3, precision=precision, activation=activation
        )
        losses[precision] = fit([sae], [x], [np.arange(len(x))], config, seed=3)[-1]["loss"]
    assert losses["bfloat16"] < 1.03 * losses["float32"]
    assert losses["bfloat16"] != losses["float32"]


def test_raw_training_sees_the_norms_and_unit_training_does_not():
    arrays, rows = concepts(200)
    raw = {modality: x * np.linspace(1, 9, len(x), dtype=np.float32)[:, None] for modality, x in arrays.items()}
    directions = {
        (name, normalize): train_saes("shared", data, rows, replace(SMALL, normalize=normalize), 1)[0][
            "image"
        ].directions
        for name, data in (("unit", arrays), ("raw", raw))
        for normalize in (True, False)
    }
    np.testing.assert_allclose(directions["raw", True], directions["unit", True], atol=1e-3)
    np.testing.assert_allclose(directions["unit", False], directions["unit", True], atol=1e-3)
    assert np.abs(directions["raw", False] - directions["raw", True]).max() > 0.1


@pytest.mark.parametrize(("name", "value"), [("device", "tpu"), ("precision", "float16"), ("bias_start", "median")])
def test_a_setting_that_is_not_there_is_named(name, value):
    with pytest.raises(ValueError, match=f"{name}: '{value}' is unknown"):
        TrainingConfig(**{name: value})


def test_auto_is_bfloat16_where_the_processor_multiplies_in_it(monkeypatch):
    for found, precision in (({"avx512_bf16": True}, "bfloat16"), ({"avx512_bf16": False, "avx2": True}, "float32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=found: found)
        assert TrainingConfig(precision="auto").precision == precision


def test_auto_is_a_gpu_where_there_is_one_and_asking_for_one_that_is_not_there_is_one_line():
    assert TrainingConfig(device="auto").device == ("cuda" if torch.cuda.is_available() else "cpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="device: `cuda` found, but torch sees no GPU; `cpu` or `auto` would run"):
            TrainingConfig(device="cuda")
