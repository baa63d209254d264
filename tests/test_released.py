"""Our training against a restatement of the released objective: dense codes, plain autograd, torch's own clipping.

Written anew from the paper's method and what is known of the released code: one optimiser and one clipping over all
autoencoders; the loss is the mean of the modalities' on real data, and their sum on synthetic data. From equal weights,
on the same batches, the two must give the same losses.
"""

import copy
import math

import numpy as np
import pytest
import torch

from xsae.methods import METHODS, penalty_of
from xsae.sae import SAEConfig
from xsae.training import Trainer, TrainingConfig

DIM, LATENTS, K, BATCH, STEPS = 24, 96, 4, 64, 300
RELEASED = (
    "shared",
    "shared_bias",
    "iso_energy",
    "group_sparse",
    "separated",
)  # tests/test_baselines.py has the others
WEIGHTS = {"iso_energy": 0.05, "group_sparse": 0.002}


def batches():
    rng = np.random.default_rng(0)
    directions = [rng.standard_normal((40, DIM)) for _ in range(2)]
    for _ in range(STEPS):
        which = rng.random((BATCH, 40)) < 0.1
        pair = [
            (which * rng.exponential(size=which.shape)) @ dictionary + 0.1 * rng.standard_normal((BATCH, DIM))
            for dictionary in directions
        ]
        yield [torch.nn.functional.normalize(torch.tensor(x, dtype=torch.float32), dim=1) for x in pair]


def code(x, model):
    """ReLU of the pre-activations, and of these the k largest."""
    pre = torch.relu((x - model["decoder_bias"]) @ model["encoder"].T + model["encoder_bias"])
    kept = torch.zeros_like(pre, dtype=torch.bool).scatter(1, pre.topk(K, dim=1).indices, True)
    return torch.where(kept, pre, 0.0)


def penalty(name, image, text):
    """group_sparse: the mean over pairs of the L2 norms of the latents' two activations, summed over the latents.
    iso_energy: minus the mean cosine, once the largest latent of the image and that of the text are 0 in both codes."""
    if name == "group_sparse":
        squares = image.square() + text.square()
        return torch.where(squares > 0, squares.where(squares > 0, 1).sqrt(), 0).sum(1).mean()
    keep = torch.ones_like(image)
    for codes in (image, text):
        keep = keep.scatter(1, codes.argmax(1, keepdim=True), 0.0)
    return -torch.cosine_similarity(image * keep, text * keep, dim=1).mean()


def restated(method, models, unique, config, pairs):
    """The losses of a training, step by step: AdamW, warm-up and cosine, one clipping over all that is trained."""
    optimiser = torch.optim.AdamW(unique, lr=config.learning_rate, weight_decay=config.weight_decay)
    curve = []
    for step, batch in enumerate(pairs):
        warm = round(config.warmup * STEPS)
        share = (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * (step - warm) / (STEPS - warm)))
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * (1.0 if config.sum_losses else share)
        codes = [code(x, model) for x, model in zip(batch, models, strict=True)]
        losses = [
            (z @ model["dictionary"] + model["decoder_bias"] - x).square().sum() / (x - x.mean(0)).square().sum()
            for z, x, model in zip(codes, batch, models, strict=True)
        ]
        total = losses[0] + losses[1] if config.sum_losses else (losses[0] + losses[1]) / 2
        if method in WEIGHTS:
            total = total + WEIGHTS[method] * penalty(method, *codes)
        optimiser.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(unique, config.clip_norm)
        optimiser.step()
        with torch.no_grad():
            for dictionary in {id(model["dictionary"]): model["dictionary"] for model in models}.values():
                dictionary /= dictionary.norm(dim=1, keepdim=True)
        curve.append([loss.item() for loss in losses])
    return np.array(curve)


@pytest.mark.parametrize("sums", [False, True], ids=["mean, as on real data", "sum, as on synthetic data"])
@pytest.mark.parametrize("method", RELEASED)
def test_every_method_has_the_losses_of_the_released_objective(method, sums):
    # a clipping that is felt, and on synthetic data a constant rate
    config = TrainingConfig(
        latents=LATENTS, k=K, learning_rate=3e-3, clip_norm=0.2, sum_losses=sums, decay=not sums,
        warmup=0.0 if sums else 0.05, **WEIGHTS,
    )  # fmt: skip
    saes = list(METHODS[method].build(["image", "text"], SAEConfig(DIM, LATENTS, K), 1).values())
    copies = copy.deepcopy(saes)  # in one go: what is shared stays shared
    models = [dict(sae.named_parameters()) for sae in copies]
    unique = list(dict.fromkeys(parameter for model in models for parameter in model.values()))
    trainer = Trainer(saes, config, STEPS, penalty_of(method, config))
    ours = np.array([trainer.step(torch.cat(batch)).tolist() for batch in batches()])
    np.testing.assert_allclose(ours, restated(method, models, unique, config, batches()), atol=1e-4)
    assert ours[-1].mean() < 0.7 * ours[0].mean()
