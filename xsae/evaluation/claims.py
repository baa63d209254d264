"""Verdicts on the paper's claims (holds, does not hold, not testable), and intervals for differences."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import binomtest, bootstrap

AT_CHANCE_P = 0.01  # below it, a recall is above what a random ranking gives


def verdict(claim: str, differences: Sequence[float], test: str, **settings: str) -> dict:
    """A claim that some difference is positive holds when it is positive in every seed.

    differences: one per seed, paired, positive in favour of the claim. The margin is the smallest of them, so that a
    claim which holds on average and fails in one seed is reported as not holding.
    """
    n = len(differences)
    mean, margin = (sum(differences) / n, min(differences)) if n else (None, None)
    outcome = "not testable" if n < 2 else _outcome(margin > 0)
    return {"claim": claim, **settings, "verdict": outcome, "mean": mean, "margin": margin, "seeds": n, "test": test}


def at_chance(claim: str, recalls: Sequence[float], chance: float, n_queries: int, **settings: str) -> dict:
    """A claim that a recall is at chance holds when no seed's is significantly above a random ranking's.

    Exact one-sided binomial test per seed, level 0.01. Below chance counts as at chance: ties count against the model.
    The margin is the smallest p minus the level.
    """
    p = [binomtest(round(r * n_queries), n_queries, chance, alternative="greater").pvalue for r in recalls]
    mean, margin, n = sum(recalls) / len(recalls) - chance, min(p) - AT_CHANCE_P, len(recalls)
    test = f"recall above chance ({chance:.5f})? exact binomial, smallest p over seeds against {AT_CHANCE_P}"
    outcome = _outcome(margin >= 0)
    return {"claim": claim, **settings, "verdict": outcome, "mean": mean, "margin": margin, "seeds": n, "test": test}


def interval(differences: np.ndarray, units: Sequence, resamples: int = 2000) -> dict[str, float]:
    """Mean of paired differences, and its 95 % bootstrap interval (percentiles), `low` to `high`.

    differences (n,): of two methods on the same query or concept; units (n,): what was drawn from the world, and so is
    resampled as a whole, such as the image that owns five captions, under every seed. The same values give the same
    interval. The interval is NaN where there are fewer than two units. Raises ValueError where lengths differ.
    """
    if len(differences) != len(units):
        raise ValueError(f"interval: {len(differences)} differences and {len(units)} units; one unit each is needed")
    own = pd.Series(differences, dtype=float).groupby(np.asarray(units)).mean().to_numpy()
    low, high = np.nan, np.nan
    if len(own) > 1:
        low, high = bootstrap(
            (own,), np.mean, n_resamples=resamples, batch=100, method="percentile", rng=np.random.default_rng(0)
        ).confidence_interval
    return {"difference": float(own.mean()), "low": float(low), "high": float(high)}


def paired(frame: pd.DataFrame, better: str, worse: str) -> list[float]:
    """value(better) - value(worse) per seed, for a tidy frame that holds one row per method and seed."""
    table = frame.pivot(index="seed", columns="method", values="value")
    return (table[better] - table[worse]).tolist()


def _outcome(holds: bool) -> str:
    return "holds" if holds else "does not hold"
