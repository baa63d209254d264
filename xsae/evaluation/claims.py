"""Verdicts on the paper's claims, their intervals, and who is compared with whom.

A claim says that some difference is positive. It *holds* when the 95 % interval of the difference over seeds and draws
lies above zero; *the opposite holds* when it lies below; else it *does not hold*. With fewer than two seeds nothing is
testable. Tests were fixed before results were seen.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest, t

from xsae.methods import METHODS

AT_CHANCE_P = 0.01  # below it, a recall is above what a random ranking gives


def verdict(claim: str, found: Mapping[str, float], seeds: int | None, test: str, **settings: str) -> dict:
    """The verdict on `claim`.

    found: `difference`, `low` and `high`, as `interval` gives them, positive in its favour; seeds: how many it is over,
    None where no seed is involved.
    """
    low, high = found["low"], found["high"]
    outcome = "holds" if low > 0 else "the opposite holds" if high < 0 else "does not hold"
    if (seeds is not None and seeds < 2) or np.isnan(low):
        outcome = "not testable"
    about = {name: found[name] for name in ("difference", "low", "high")}
    return {"claim": claim, **settings, "verdict": outcome, **about, "seeds": seeds, "test": test}


def over_seeds(claim: str, differences: Sequence[float], test: str, **settings: str) -> dict:
    """`verdict` on one difference per seed, positive in favour of the claim."""
    nothing = {"difference": np.nan, "low": np.nan, "high": np.nan}
    return verdict(claim, interval(differences) if len(differences) else nothing, len(differences), test, **settings)


def at_chance(claim: str, recalls: Sequence[float], chance: float, n_queries: int, **settings: str) -> dict:
    """A claim that a recall is at chance holds when no seed's is significantly above a random ranking's.

    Exact one-sided binomial test per seed, level 0.01. Below chance counts as at chance: ties count against the model.
    `difference` is how far the mean recall lies above chance.
    """
    p = [binomtest(round(r * n_queries), n_queries, chance, alternative="greater").pvalue for r in recalls]
    test = (
        f"recall above chance ({chance:.5f})? exact binomial, smallest p over seeds {min(p):.3g} against {AT_CHANCE_P}"
    )
    found = {"difference": sum(recalls) / len(recalls) - chance, "low": np.nan, "high": np.nan}
    outcome = "holds" if min(p) >= AT_CHANCE_P else "does not hold"
    return {"claim": claim, **settings, "verdict": outcome, **found, "seeds": len(recalls), "test": test}


def interval(differences: np.ndarray, units: Sequence | None = None) -> dict[str, float]:
    """Mean of a difference, and its 95 % interval over seeds and draws, `low` to `high`.

        SE² = s²_seeds / S + s²_units / U          mean ± t(.975, df) SE,   df by Welch and Satterthwaite

    S seeds are other autoencoders; U units are what was drawn from the world and would be others in another draw. What
    both would change, both add to the error. Where a part has a single member it adds nothing.

    Args:
        differences: (S,) one figure per seed; or (S, n), of two methods on the same n queries or concepts, per seed.
        units: (n,) what each column was drawn with, such as the image that owns five captions; its columns are averaged
            first. None: the columns are the units; needed for (S, n) where columns belong together.

    Returns:
        `difference`, the mean; `low` and `high`, NaN where there is one seed and at most one unit.

    Raises:
        ValueError: lengths differ, or there is nothing.
    """
    table = np.asarray(differences, dtype=float)
    table = table[:, None] if table.ndim == 1 else table
    if units is not None and len(units) != table.shape[1]:
        raise ValueError(f"interval: {table.shape[1]} differences and {len(units)} units; one unit each is needed")
    if 0 in table.shape:
        raise ValueError(f"interval: differences has shape {table.shape}; at least one is needed")
    if units is not None:
        codes, names = pd.factorize(np.asarray(units))
        sums = np.zeros((len(table), len(names)))
        for row, scores in zip(sums, table, strict=True):
            np.add.at(row, codes, scores)
        table = sums / np.bincount(codes)
    parts = [part for part in (table.mean(axis=1), table.mean(axis=0)) if len(part) > 1]
    mean, squares = float(table.mean()), [part.var(ddof=1) / len(part) for part in parts]
    if not parts:
        return {"difference": mean, "low": np.nan, "high": np.nan}
    error = np.sqrt(sum(squares))
    if error == 0:
        return {"difference": mean, "low": mean, "high": mean}
    freedom = sum(squares) ** 2 / sum(square**2 / (len(of) - 1) for square, of in zip(squares, parts, strict=True))
    margin = float(t.ppf(0.975, freedom) * error)
    return {"difference": mean, "low": mean - margin, "high": mean + margin}


def leads(
    scores: Iterable[tuple[Mapping[str, Any], np.ndarray]],
    losses: Mapping[tuple[str, str, str], float],
    units: Callable[[dict[str, Any]], Sequence] | None = None,
    ours: str = "posthoc",
) -> Iterator[tuple[dict[str, Any], dict[str, float]]]:
    """By how much `ours` leads every other method, with intervals: at equal starts, and at everybody's best.

    Args:
        scores: what is scored, and the scores (n,) of its n queries, larger being better: `backbone`, `method`,
            `bias_start`, `seed`, and what else tells one comparison from another.
        losses: (backbone, method, bias start) -> reconstruction loss of what is trained, by which a method's best start
            is chosen.
        units: what each of the n queries was drawn with, as `interval` takes them, by what tells one comparison from
            another; without it each query is a draw of its own.

    Yields:
        What tells one comparison from another, then `comparison`, `bias_start` (of ours), `other`, `other_start`; and
        `interval` of the difference, with the number of `seeds`. Comparisons are "same start"; "best start", each
        method at the start that it reconstructs best from; and "other's best", where the other has the start at which
        it scores best, and ours still the one that it reconstructs best from. A method that has not all starts is
        compared at those it has.
    """
    apart: dict[tuple, dict] = {}
    for about, score in scores:
        where = tuple((name, value) for name, value in about.items() if name not in ("method", "bias_start", "seed"))
        of_method = apart.setdefault(where, {}).setdefault((about["method"], about["bias_start"]), {})
        of_method[about["seed"]] = score
    for where, by_seed in ((dict(where), by_seed) for where, by_seed in apart.items()):
        found = {
            name: np.stack([scored[seed] for seed in sorted(scored)]).astype(float) for name, scored in by_seed.items()
        }
        loss = {(m, start): losses[where["backbone"], METHODS[m].trained_as or m, start] for m, start in found}
        drawn = units(where) if units else None
        for start, other, other_start, comparison in _compared(found, loss, ours):
            about = {"comparison": comparison, "bias_start": start, "other": other, "other_start": other_start}
            ahead = found[ours, start] - found[other, other_start]
            yield where | about, interval(ahead, drawn) | {"seeds": len(ahead)}


def _compared(
    scores: Mapping[tuple[str, str], np.ndarray], losses: Mapping[tuple[str, str], float], ours: str
) -> Iterator[tuple[str, str, str, str]]:
    """Who is compared: our start, another method, its start, and the comparison that this is."""
    starts = [start for method, start in scores if method == ours]
    own_best = min(starts, key=lambda start: losses[ours, start])
    for other in dict.fromkeys(method for method, _ in scores if method != ours):
        theirs = [start for start in starts if (other, start) in scores]
        by_loss = min(theirs, key=lambda start: losses[other, start])
        by_score = max(theirs, key=lambda start: scores[other, start].mean())
        yield from ((start, other, start, "same start") for start in theirs)
        if len(starts) > 1:
            yield own_best, other, by_loss, "best start"
            yield own_best, other, by_score, "other's best"


def paired(frame: pd.DataFrame, better: str, worse: str) -> list[float]:
    """value(better) - value(worse) per seed, for a tidy frame that holds one row per method and seed."""
    table = frame.pivot(index="seed", columns="method", values="value")
    return (table[better] - table[worse]).tolist()
