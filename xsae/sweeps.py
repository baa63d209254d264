"""One training of the synthetic sweeps: drawn, trained or read back, and held against the truth (paper, Fig. 1)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xsae import theory
from xsae.evaluation.recovery import recovery
from xsae.methods import Method, posthoc
from xsae.training import TrainingConfig, train_or_load


def recover(
    folder: Path, method: str, config: TrainingConfig, seed: int, cosine: float, sizes: Mapping[str, Any]
) -> dict[str, dict[str, float]]:
    """What `method` makes of the synthetic world of a seed: its name -> the figures of `recovery`.

    `separated` is aligned too, which adds `posthoc`. cosine: of a concept's two directions; sizes: the other arguments
    of `theory.generate`. The autoencoders are kept in `folder`, so an interrupted sweep goes on where it was.
    """
    data = theory.generate(cosine, seed, **sizes)
    x = data.train.embeddings
    saes, _ = train_or_load(folder, method, x, data.train.rows, config, seed, data.fingerprint)
    found = {method: Method(saes)}
    if method == "separated":
        found["posthoc"] = posthoc(saes, {m: sae.transform(x[m]) for m, sae in saes.items()})
    return {name: recovery(own, data) for name, own in found.items()}
