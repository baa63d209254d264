"""Others' methods against their papers' equations: by hand, and as dense autograd over a whole training."""

import copy
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch

from xsae.baselines import HIDDEN, cross_reconstruction, global_topk, masked
from xsae.methods import METHODS, Method, penalty_of, train_saes
from xsae.run.checkpoints import load, train_or_load
from xsae.sae import SAEConfig, SparseAutoencoder
from xsae.training import Trainer, TrainingConfig, aux_loss

BASELINES = ("masked_group_sparse", "shared_encoder", "vl_sae", "sparc")
SMALL = TrainingConfig(latents=96, k=4, epochs=10, batch_size=64, learning_rate=3e-3)


def pairs(n=300, names=("image", "text"), seed=0):
    """Embeddings (n, 24) of a few of 40 concepts, each with a direction of its own in every modality."""
    rng = np.random.default_rng(seed)
    codes = rng.exponential(size=(n, 40)) * (rng.random((n, 40)) < 0.1)
    return {
        m: (codes @ rng.standard_normal((40, 24)) + 0.1 * rng.standard_normal((n, 24))).astype(np.float32)
        for m in names
    }


def train(method, x, config=SMALL):
    return train_saes(method, x, {m: np.arange(len(matrix)) for m, matrix in x.items()}, config, seed=1)


def plain(pre, k=1):
    """An autoencoder whose pre-activations of the input `pre` (L,) are these, biases and all."""
    sae = SparseAutoencoder(SAEConfig(dim=len(pre), latents=len(pre), k=k, normalize=False))
    with torch.no_grad():
        sae.encoder.copy_(torch.eye(len(pre)))
        sae.dictionary.copy_(torch.eye(len(pre)))
    return sae


def test_global_topk_chooses_by_the_sum_and_keeps_each_its_own_values_by_hand():
    # sums 2, 4, 3, 5: latents 3 and 1, though the image alone would have 0 and 3, the text 2 and 1
    image, text = torch.tensor([[3.0, -1.0, 0.0, 6.0]]), torch.tensor([[-1.0, 5.0, 3.0, -1.0]])
    found = global_topk([plain(image[0], 2), plain(text[0], 2)], [image, text], None)
    whole = [torch.zeros(1, 4).scatter(1, latents, values).tolist() for values, latents, _ in found]
    assert whole == [[[0, 0, 0, 6]], [[0, 5, 0, 0]]]


def test_cross_reconstruction_by_hand():
    # x_t = (0, 0), (2, 2): squares about their mean (1, 1) add up to 4
    one, other = (SparseAutoencoder(SAEConfig(dim=2, latents=2, k=1, normalize=False)) for _ in range(2))
    with torch.no_grad():
        one.dictionary.copy_(torch.eye(2))
        other.dictionary.copy_(torch.eye(2).flip(0))
        other.decoder_bias.copy_(torch.tensor([0.0, 1.0]))
    first = torch.tensor([[1.0], [2.0]]), torch.tensor([[0], [0]])
    second = torch.tensor([[3.0], [2.0]]), torch.tensor([[1], [1]])
    x = [torch.tensor([[0.0, 0.0], [2.0, 2.0]])] * 2
    # first to second: (0, 1) + (0, 1) and (0, 2) + (0, 1), errors 4 and 4 + 1; second to first: (0, 3), (0, 2): 9 and 4
    assert cross_reconstruction([first, second], [one, other], x).item() == pytest.approx((9 / 4 + 13 / 4) / 2)


def test_a_mask_hides_the_same_latents_from_every_modality_and_others_at_the_next_step():
    x = {m: torch.from_numpy(matrix) for m, matrix in pairs(400).items()}
    saes = list(METHODS["masked_group_sparse"].build(list(x), SAEConfig(24, 96, 4), 1).values())
    inputs = [sae.inputs(part) for sae, part in zip(saes, x.values(), strict=True)]
    generator, same = np.random.default_rng(5), np.random.default_rng(5)
    drawn = []
    for _ in range(50):
        hidden = torch.from_numpy(same.random(96) < 0.2)
        for sae, part, (values, latents, _) in zip(saes, inputs, masked(saes, inputs, generator), strict=True):
            pre = ((part - sae.decoder_bias) @ sae.encoder.T + sae.encoder_bias).relu() * ~hidden
            codes = torch.zeros_like(pre).scatter(1, latents, values)
            expected = torch.zeros_like(pre).scatter(1, pre.topk(4).indices, pre.topk(4).values)
            torch.testing.assert_close(codes, expected, atol=1e-5, rtol=0)
            assert not codes[:, hidden].any()
        drawn.append(hidden)
    shares = torch.stack(drawn).float().mean(0)
    assert shares.mean().item() == pytest.approx(HIDDEN, abs=0.02) and shares.min() > 0 and shares.max() < 0.6


def dense_codes(method, x, models, k, hidden):
    """The codes (n, L) of every modality by the papers' equations, with plain autograd."""
    if method == "vl_sae":
        pre = [
            2 - torch.cdist(part, torch.nn.functional.normalize(p["encoder"]))
            for part, p in zip(x, models, strict=True)
        ]
    else:
        pre = [
            (part - p["decoder_bias"]) @ p["encoder"].T + p["encoder_bias"] for part, p in zip(x, models, strict=True)
        ]
    if method == "masked_group_sparse":
        pre = [values.relu() * ~hidden for values in pre]
    chosen = [(sum(pre) if method == "sparc" else values).topk(k).indices for values in pre]
    return [
        values.relu() * torch.zeros_like(values).scatter(1, at, 1.0) for values, at in zip(pre, chosen, strict=True)
    ]


def dense_loss(method, x, models, codes):
    """The mean of the reconstructions' losses, and what else the method adds; and each modality's own loss."""

    def loss(z, p, target):
        x_hat = z @ p["dictionary"] + p["decoder_bias"]
        return (x_hat - target).square().sum() / (target - target.mean(0)).square().sum()

    losses = [loss(*of) for of in zip(codes, models, x, strict=True)]
    total = sum(losses) / len(losses)
    if method == "sparc":
        every = [loss(codes[s], models[t], x[t]) for s, t in permutations(range(len(x)), 2)]
        total = total + sum(every) / len(every)
    if method == "masked_group_sparse":
        squares = sum(z.square() for z in codes)
        total = total + 0.01 * squares.where(squares > 0, 1).sqrt().where(squares > 0, 0).sum(1).mean()
    return total, losses


@pytest.mark.parametrize("names", [("image", "text"), ("image", "text", "sound")], ids=["two", "three"])
@pytest.mark.parametrize("method", BASELINES)
def test_a_training_has_the_losses_of_the_papers_objective_under_dense_autograd(method, names):
    config = TrainingConfig(
        latents=48 * len(names), k=4, learning_rate=3e-3, decay=False, warmup=0.0, masked_group_sparse=0.01
    )
    saes = list(METHODS[method].build(names, SAEConfig(24, config.latents, 4), 1).values())
    models = [dict(sae.named_parameters()) for sae in copy.deepcopy(saes)]  # in one go: what is shared stays shared
    unique = list(dict.fromkeys(p for model in models for p in model.values()))
    optimiser = torch.optim.AdamW(unique, lr=config.learning_rate, weight_decay=config.weight_decay)
    trainer = Trainer(
        saes, config, 150, penalty_of(method, config), 1000, METHODS[method].encode, np.random.default_rng(3)
    )
    masks, batches = np.random.default_rng(3), pairs(150 * 32, names)
    ours, exact = [], []
    for start in range(0, 150 * 32, 32):
        x = [torch.nn.functional.normalize(torch.from_numpy(matrix[start : start + 32])) for matrix in batches.values()]
        ours.append(trainer.step(torch.cat(x)).tolist())
        hidden = torch.from_numpy(masks.random(saes[0].config.latents) < HIDDEN)
        total, losses = dense_loss(method, x, models, dense_codes(method, x, models, 4, hidden))
        optimiser.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(unique, config.clip_norm)
        optimiser.step()
        exact.append([loss.item() for loss in losses])
        if method != "vl_sae":
            with torch.no_grad():
                for dictionary in {id(model["dictionary"]): model["dictionary"] for model in models}.values():
                    dictionary /= dictionary.norm(dim=1, keepdim=True)
    np.testing.assert_allclose(ours, exact, rtol=1e-3)
    assert np.mean(ours[-1]) < 0.9 * np.mean(ours[0])


@pytest.mark.parametrize("method", BASELINES)
def test_at_use_a_modality_is_encoded_without_the_others_and_nothing_is_hidden(method):
    x = pairs()
    saes, _ = train(method, x)
    for m, sae in saes.items():
        p = {key: tensor.detach() for key, tensor in sae.named_parameters()}
        inputs = sae.inputs(torch.from_numpy(x[m]))
        [expected] = dense_codes("vl_sae" if method == "vl_sae" else "shared", [inputs], [p], 4, None)
        np.testing.assert_allclose(sae.transform(x[m]).toarray(), expected, atol=1e-5)


@pytest.mark.parametrize("method", BASELINES)
def test_what_is_trained_is_kept_and_read_back_with_the_same_codes(method, tmp_path):
    x = pairs()
    rows = {m: np.arange(len(matrix)) for m, matrix in x.items()}
    saes, _ = train_or_load(tmp_path / "c", method, x, rows, SMALL, 1, "data")
    again, _ = load(tmp_path / "c", "data")
    Method(saes).save_pretrained(tmp_path / "m")
    for found in (again, Method.from_pretrained(tmp_path / "m").saes):
        for m, sae in saes.items():
            assert (found[m].transform(x[m]) != sae.transform(x[m])).nnz == 0 and found[m].config == sae.config
            np.testing.assert_array_equal(found[m].directions, sae.directions)
    if method in ("shared_encoder", "vl_sae"):  # kept once for each modality, in two files of equal values
        assert torch.equal(again["image"].encoder, again["text"].encoder)


@pytest.mark.parametrize("names", [("image", "text"), ("image", "text", "sound")], ids=["two", "three"])
@pytest.mark.parametrize("method", BASELINES)
def test_dictionaries_are_equally_wide_together_and_every_modality_learns(method, names):
    saes, history = train(method, pairs(600, names), replace(SMALL, latents=96, epochs=30))
    dictionaries = {id(sae.dictionary): len(sae.directions) for sae in saes.values()}
    assert sum(dictionaries.values()) == 96 and list(saes) == list(names)
    first, last = (history.groupby("modality")["loss"].agg(which) for which in ("first", "last"))
    assert (last < 0.8 * first).all()


def test_a_shared_encoder_is_one_and_dictionaries_start_alike_and_part():
    names = ["image", "text"]
    saes = METHODS["shared_encoder"].build(names, SAEConfig(24, 96, 4), 1)
    one, other = saes.values()
    assert one.encoder is other.encoder and one.encoder_bias is other.encoder_bias and one.config.latents == 48
    assert one.dictionary is not other.dictionary and torch.equal(one.dictionary, other.dictionary)
    saes, _ = train("shared_encoder", pairs())
    one, other = saes.values()
    assert one.encoder is other.encoder and not torch.equal(one.dictionary, other.dictionary)
    assert repr(Method(saes)).startswith("Method of image, text, one encoder for all: ")


def test_the_decoders_of_vl_sae_start_at_random_and_keep_their_norms():
    one, other = METHODS["vl_sae"].build(["image", "text"], SAEConfig(24, 96, 4), 1).values()
    for sae in (one, other):
        assert 0.9 * 48**-0.5 < sae.dictionary.abs().max() <= 48**-0.5
    assert one.encoder is other.encoder and not torch.equal(one.dictionary, other.dictionary)
    saes, _ = train("vl_sae", pairs())
    assert np.abs(np.linalg.norm(saes["image"].directions, axis=1) - 1).max() > 0.05


def test_the_auxk_loss_reads_distances_where_the_encoder_does():
    sae = SparseAutoencoder(SAEConfig(dim=4, latents=8, k=1, normalize=False, activation="distance"))
    x = torch.tensor([[0.0, 0.0, 3.0, 0.0]])
    with torch.no_grad():
        sae.encoder[5] = torch.tensor([0.0, 0.0, 7.0, 0.0])  # at distance 0: its entry is 2, whatever its length
        sae.dictionary[5] = torch.tensor([0.0, 0.0, 0.5, 0.0])
        sae.decoder_bias.fill_(9.0)  # of no effect on what is encoded
    assert aux_loss(sae, x, x - torch.tensor([0.0, 0.0, 1.0, 0.0]), torch.tensor([5])).item() == pytest.approx(
        0, abs=1e-4
    )


@pytest.mark.parametrize("method", ["vl_sae", "sparc"])
def test_what_a_method_is_not_defined_for_is_refused_in_one_line(method):
    x = pairs(100)
    with pytest.raises(ValueError, match=f"activation: 'batch_topk' found; '{method}' is defined for `topk` alone"):
        train(method, x, replace(SMALL, activation="batch_topk"))
    if method == "sparc":
        with pytest.raises(ValueError, match="method: 'sparc' compares the codes of modalities; 1 found in `arrays`"):
            train(method, {"image": x["image"]})
