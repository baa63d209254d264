"""What a run chooses by itself: the rules on hand-made tables, the search where the answer is known."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from xsae.evaluation import choice
from xsae.fitting import set_aside
from xsae.training import TrainingConfig

SMALL = TrainingConfig(latents=64, k=4, epochs=100, batch_size=64, learning_rate=1e-2)


def table(*lines):
    return pd.DataFrame(lines, columns=["k", "latents", "loss", "standard_error", "stability"])


@pytest.mark.parametrize(
    ("lines", "chosen"),
    [
        # the smallest loss is .50 ± .02: .53 is not as good, whatever its own error
        ([(4, 64, 0.53, 0.09, 0.9), (8, 64, 0.52, 0.02, 0.1), (16, 64, 0.50, 0.02, 0.9)], 1),
        # equally sparse: the more stable, though it is wider and its loss larger
        ([(8, 64, 0.50, 0.02, 0.3), (8, 128, 0.51, 0.02, 0.4)], 1),
        # sparse goes before stable, and narrow decides last
        ([(16, 64, 0.50, 0.02, 0.9), (8, 256, 0.51, 0.02, 0.2), (8, 128, 0.51, 0.02, 0.2)], 2),
        # nothing is as good as the best
        ([(4, 64, 0.60, 0.01, 0.9), (8, 64, 0.50, 0.01, 0.1)], 1),
        # exactly one standard error is within it
        ([(4, 64, 0.75, 0.01, 0.9), (8, 64, 0.50, 0.25, 0.1)], 0),
    ],
)
def test_the_sparsest_within_one_standard_error_of_the_best_then_the_most_stable(lines, chosen):
    shuffled = table(*lines).sample(frac=1, random_state=0)
    assert choice.one_standard_error(shuffled) == chosen


@pytest.mark.parametrize(
    ("losses", "chosen"),
    [
        ([0.50, 0.49, 0.52, 0.53], 0.01),  # .02 is one standard error of the loss without a penalty
        ([0.50, 0.60, 0.61, 0.70], 0.0),  # none is free
        ([0.50, 0.60, 0.51, 0.70], 0.01),
    ],
)
def test_a_penalty_has_the_largest_weight_that_is_free(losses, chosen):
    frame = pd.DataFrame({"weight": [0.0, 1e-3, 1e-2, 1e-1], "loss": losses, "standard_error": [0.02, 9, 9, 9]})
    assert frame.loc[choice.largest_free(frame), "weight"] == chosen


def test_the_standard_error_is_over_pairs_and_over_seeds_by_hand():
    assert choice.standard_error(np.array([[1.0, 3.0]])) == pytest.approx(1)  # deviation √2, two pairs
    # means of the pairs 2 and 4, and of the seeds 2.5 and 3.5: √2 / √2 and √.5 / √2
    assert choice.standard_error(np.array([[1.5, 3.5], [2.5, 4.5]])) == pytest.approx(np.hypot(1, 0.5))


def test_latents_are_chosen_at_the_middle_k_then_k_at_those_latents_and_nothing_twice():
    wanted = []

    def trials(jobs):  # by hand: 128 latents are best, and then k = 4 is as good as 16
        wanted.extend((method, config.k, config.latents) for method, config in jobs)
        losses = [abs(config.latents - 128) / 100 + {4: 0.305, 8: 0.40, 16: 0.30}[config.k] for _, config in jobs]
        return [{"loss": loss, "standard_error": 0.01, "stability": 0.5} for loss in losses]

    found = choice.search(SMALL, {"latents": [64, 128, 256], "k": [4, 8, 16]}, trials)
    assert wanted == [("separated", *sizes) for sizes in [(8, 64), (8, 128), (8, 256), (4, 128), (16, 128)]]
    assert found["axis"].tolist() == ["latents"] * 3 + ["k"] * 3
    assert found.loc[found["chosen"], ["k", "latents"]].values.tolist() == [[8, 128], [4, 128]]


def world(n, active=3, odd=0, dim=32):
    """Pairs of `active` concepts each, of orthogonal directions and coefficients of their own per modality; the `odd`
    last ones are long vectors of noise."""
    rng = np.random.default_rng(0)
    on = np.argsort(rng.random((n, dim)), axis=1) < active
    arrays = {}
    for modality in ("image", "text"):
        directions = np.linalg.qr(rng.standard_normal((dim, dim)))[0]
        x = (on * rng.uniform(0.5, 1.5, (n, dim))) @ directions
        x[n - odd :] = 20 * rng.standard_normal((odd, dim))
        arrays[modality] = x.astype(np.float32)
    return arrays, dict.fromkeys(arrays, np.arange(n))


def searched(arrays, rows, config=SMALL):
    found_on = choice.axes(config, ("k",), len(rows["image"]), 32, 2)
    table = choice.search(config, found_on, lambda jobs: [choice.trial(arrays, rows, *job) for job in jobs])
    return table[table["chosen"]].iloc[-1]


def test_of_embeddings_with_many_concepts_each_the_search_takes_a_large_k():
    assert searched(*world(1200, active=14))["k"] == 16


def test_where_a_few_odd_pairs_decide_the_loss_the_search_takes_the_smallest_k():
    chosen = searched(*world(300, odd=9), replace(SMALL, epochs=50, normalize=False))
    assert chosen["k"] == 4 and chosen["standard_error"] > 0.3 * chosen["loss"]


def test_a_trial_never_trains_on_what_it_measures_on():
    arrays, rows = world(200)
    rows["image"] = rows["image"] // 2  # two texts each: an image is set aside with both
    config = replace(SMALL, epochs=20, bias_start="zero", normalize=False)
    one = choice.trial(arrays, rows, "separated", config)
    [image, text], _ = set_aside(list(rows.values()), np.random.default_rng(0))
    assert len(text) == 20 and set(image) == set(text // 2)
    arrays["image"][image], arrays["text"][text] = arrays["image"][image][:, ::-1], 7.0
    two = choice.trial(arrays, rows, "separated", config)
    assert two["stability"] == one["stability"] and two["loss"] > 1.5 * one["loss"]


@pytest.mark.parametrize(
    ("config", "auto", "n_modalities", "found"),
    [
        ({}, ("k", "latents"), 2, {"latents": [128, 256, 512], "k": [4, 8, 16]}),
        ({"k": 40}, ("latents",), 2, {"latents": [128, 256, 512], "k": [40]}),
        ({"k": 100}, ("latents",), 2, {"latents": [256, 512], "k": [100]}),
        ({"latents": 24}, ("k",), 2, {"latents": [24], "k": [4, 8]}),
        ({"latents": 24}, ("k",), 3, {"latents": [24], "k": [4, 8]}),
    ],
)
def test_there_is_to_choose_from_what_the_latents_hold(config, auto, n_modalities, found):
    config = replace(SMALL, **{"latents": 0} | config)
    assert choice.axes(config, auto, 512, 32, n_modalities) == found


def test_a_k_that_no_latents_hold_is_one_line():
    with pytest.raises(ValueError, match="^k: 300 exceeds the 256 latents that a modality gets at most$"):
        choice.axes(replace(SMALL, k=300, latents=0), ("latents",), 512, 32, 2)
    with pytest.raises(ValueError, match="^k: 4 exceeds the 3 latents"):
        choice.axes(replace(SMALL, latents=6), ("k",), 512, 32, 2)


@pytest.mark.parametrize(
    ("config", "n_pairs", "steps"),
    [
        (replace(SMALL, batch_size=64, epochs=100), 640, 250),
        (replace(SMALL, batch_size=64, epochs=10), 640, 25),
        (replace(SMALL, batch_size=64, epochs=10, patience=3, max_steps=400), 640, 100),
        (replace(SMALL, batch_size=64), 64_000, 250),
    ],
)
def test_a_training_to_choose_by_is_short(config, n_pairs, steps):
    assert choice.steps_of(config, n_pairs) == steps
    shortened, [rows] = choice._shortened(config, [np.arange(n_pairs)])
    batch = config.batch_size
    assert steps - len(rows) // batch < shortened.epochs * (len(rows) // batch) <= steps and not shortened.patience


def test_the_budget_counts_every_training():
    trainings, seconds = choice.budget(replace(SMALL, latents=0), ("k", "latents", "iso_energy"), 512, 32, 2)
    assert trainings == 2 * (5 + 5) and 0 < seconds < 60
