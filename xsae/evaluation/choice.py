"""k, latents and penalties chosen by a run itself, which the paper leaves to its reader and names as future work.

Only training pairs are looked at, and of them only what `separated`, the paper's method, reconstructs: a tenth of the
pairs is set aside, the rest is trained on. No retrieval, no label, no comparison of methods can have a part in it.

One axis at a time: the latents at the middle k, then k at those latents, every setting by short trainings with two
seeds. Each time the one-standard-error rule (Breiman et al. 1984, 3.4.3) chooses: a loss is known to a standard error,
so whatever is within one of the smallest is as good, and of what is as good the sparsest is the easiest to read.
Successive halving of all nine settings takes as long. But it carries on what has the smallest loss, the densest, and
so leaves the rule nothing sparser to prefer; and its first, very short trainings favour many latents. Even so more
active latents reconstruct better almost without end: where pairs are many, and so the standard error is small, the k
that is chosen is the largest there is to choose from.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from xsae.evaluation.recovery import directions_found
from xsae.fitting import BLOCK, held_out_errors, set_aside
from xsae.methods import train_saes
from xsae.training import TrainingConfig

KS = (4, 8, 16)  # the middle one is what own embeddings have without a search
WEIGHTS = (1e-4, 1e-3, 1e-2, 1e-1)  # decades about the two weights of the paper's methods, 1e-4 and .05
PENALISED = ("iso_energy", "group_sparse", "masked_group_sparse")
SEEDS = (1, 2)
STEPS = 250  # of a training, at most

# Methods and configs that are to be tried -> what `trial` finds of each
Trials = Callable[[Sequence[tuple[str, TrainingConfig]]], Sequence[Mapping[str, float]]]


def trial(
    arrays: Mapping[str, np.ndarray], rows: Mapping[str, np.ndarray], method: str, config: TrainingConfig
) -> dict[str, float]:
    """Train a method for `steps_of` the config with each of two seeds, and measure it on the pairs that were set aside.

    arrays, rows: as in `methods.train_saes`, which raises what there is to raise. A training shorter than a pass sees
    as many pairs as it has steps for. The pairs set aside are the same whatever the method and config.

    Returns `loss`, mean of the modalities and seeds, and its `standard_error` (see there), an image with several texts
    being one case; and `stability`: the mean, over the latents of one seed, of the largest cosine that a direction of
    the other has with its own. Dead latents count, and lower it.
    """
    held, rest = set_aside(list(rows.values()), np.random.default_rng(0))
    held = [ids[:BLOCK] for ids in held]
    config, rest = _shortened(config, rest)
    one, other = (train_saes(method, arrays, dict(zip(rows, rest, strict=True)), config, seed)[0] for seed in SEEDS)
    x = {m: arrays[m][ids] for m, ids in zip(rows, held, strict=True)}
    errors = [np.mean([held_out_errors(saes[m], x[m]).numpy() for m in x], axis=0) for saes in (one, other)]
    _, case, sizes = np.unique(held[0], return_inverse=True, return_counts=True)
    errors = np.array([np.bincount(case, squares) / sizes for squares in errors])
    alike = [directions_found(one[m].directions, other[m].directions) for m in x]
    return {
        "loss": float(errors.mean()), "standard_error": standard_error(errors), "stability": float(np.mean(alike)),
    }  # fmt: skip


def _shortened(config: TrainingConfig, rows: Sequence[np.ndarray]) -> tuple[TrainingConfig, Sequence[np.ndarray]]:
    """The config and the pairs of a training of `steps_of` steps, to a pass."""
    n, steps = len(rows[0]), steps_of(config, len(rows[0]))
    batch = min(config.batch_size, max(n // 4, 2))
    pairs = np.random.default_rng(0).permutation(n)[: steps * batch]
    return replace(config, patience=0, epochs=max(steps // (n // batch), 1)), [of[pairs] for of in rows]


def steps_of(config: TrainingConfig, n_pairs: int) -> int:
    """Steps of a training to choose by: `STEPS`, but no more than a quarter of what the run's own may take."""
    whole = config.max_steps if config.patience else config.epochs * max(n_pairs // config.batch_size, 1)
    return max(min(STEPS, whole // 4), 4)


def standard_error(errors: np.ndarray) -> float:
    """The standard error of the mean of errors (n_seeds, n): over the n cases, whose mean over seeds is taken, and over
    the seeds; the two are independent, so their squares add. One case has none."""
    both = [errors.mean(axis=0), errors.mean(axis=1)]
    return float(np.hypot.reduce([sample.std(ddof=1) / np.sqrt(len(sample)) for sample in both if len(sample) > 1]))


def axes(config: TrainingConfig, auto: Sequence[str], n_pairs: int, dim: int, n_modalities: int) -> dict:
    """What there is to choose from: `latents` and `k`, each with three values where it is `auto`, else its own.

    The latents in all are `dictionary_size` of the training pairs, half and twice of it; a k that some modality's share
    of the fewest latents does not hold is left out, and so are latents that do not hold the config's own. Raises
    ValueError where nothing is left.
    """
    usual = config.width(n_pairs, dim)
    widths = [usual // 2, usual, 2 * usual] if "latents" in auto else [usual]
    ks = KS if "k" in auto else [config.k]
    most = widths[-1] // n_modalities
    if min(ks) > most:
        raise ValueError(f"k: {min(ks)} exceeds the {most} latents that a modality gets at most")
    widths = [width for width in widths if min(ks) <= width // n_modalities]
    return {"latents": widths, "k": [k for k in ks if k <= widths[0] // n_modalities]}


def search(config: TrainingConfig, found_on: Mapping[str, Sequence[int]], trials: Trials) -> pd.DataFrame:
    """Choose latents, then k. found_on: the `axes`.

    Returns a line per axis and setting: `method`, `axis`, `k`, `latents`, what `trial` found, and `chosen`. The line
    that is chosen on the last axis has both.
    """
    tables, tried, ks = [], {}, found_on["k"]
    config = replace(config, k=ks[len(ks) // 2])
    for axis, values in found_on.items():
        configs = [replace(config, **{axis: value}) for value in values]
        new = [config for config in configs if config not in tried]
        tried |= zip(new, trials([("separated", config) for config in new]), strict=True)
        table = _lines("separated", axis, configs, [tried[config] for config in configs])
        place = one_standard_error(table)
        table.loc[place, "chosen"] = True
        tables.append(table)
        config = configs[place]
    return pd.concat(tables, ignore_index=True)


def _lines(
    method: str, axis: str, configs: Iterable[TrainingConfig], found: Iterable[Mapping[str, float]]
) -> pd.DataFrame:
    about = [
        {"method": method, "axis": axis, "k": config.k, "latents": config.latents, "chosen": False}
        for config in configs
    ]
    return pd.DataFrame([of | dict(loss) for of, loss in zip(about, found, strict=True)])


def one_standard_error(table: pd.DataFrame) -> int:
    """The line to choose: of those whose loss is within one standard error of the smallest, the sparsest, then the most
    stable, then the narrowest. table: `loss`, `standard_error`, `k`, `stability`, `latents`."""
    best = table.loc[table["loss"].idxmin()]
    as_good = table[table["loss"] <= best["loss"] + best["standard_error"]]
    return as_good.sort_values(["k", "stability", "latents"], ascending=[True, False, True]).index[0]


def search_weight(method: str, config: TrainingConfig, trials: Trials) -> pd.DataFrame:
    """Choose the weight of a method's penalty: the largest that costs no reconstruction. As `search`, with `weight`.

    A penalty is there for what it does to the codes of pairs, which no reconstruction shows, and choosing by retrieval
    would tune a method by what methods are compared by. So it has all the weight that is free: the largest whose loss
    is within one standard error of that without any. Where none is free it is 0.
    """
    configs = {weight: replace(config, **{method: weight}) for weight in (0.0, *WEIGHTS)}
    table = _lines(method, "weight", configs.values(), trials([(method, config) for config in configs.values()]))
    table["weight"] = list(configs)
    table.loc[largest_free(table), "chosen"] = True
    return table


def largest_free(table: pd.DataFrame) -> int:
    """The line of the largest `weight` whose `loss` is within one `standard_error` of that of weight 0."""
    without = table[table["weight"] == 0].iloc[0]
    return table.loc[table["loss"] <= without["loss"] + without["standard_error"], "weight"].idxmax()


def budget(config: TrainingConfig, auto: Sequence[str], n_pairs: int, dim: int, n_modalities: int) -> tuple[int, float]:
    """How many trainings there are to choose by, and the seconds that they take at most on one processor.

    Arguments as in `axes`. Reckoned as if all were as large as the largest, from twenty steps of it on random numbers:
    what is chosen depends on steps, never on a clock.
    """
    found_on = axes(config, auto, n_pairs, dim, n_modalities)
    settings = sum(map(len, found_on.values())) - 1 + sum(name in PENALISED for name in auto) * (1 + len(WEIGHTS))
    largest = replace(config, k=max(found_on["k"]), latents=max(found_on["latents"]), patience=0)
    rows = dict.fromkeys(map(str, range(n_modalities)), np.arange(4 * config.batch_size))
    rng = np.random.default_rng(0)
    arrays = {m: rng.standard_normal((len(ids), dim), dtype=np.float32) for m, ids in rows.items()}
    for epochs in (1, 5):  # the first is for what is slow but once
        began = time.perf_counter()
        train_saes("separated", arrays, rows, replace(largest, epochs=epochs), seed=1)
    step = (time.perf_counter() - began) / 20
    return settings * len(SEEDS), settings * len(SEEDS) * steps_of(config, n_pairs) * step
