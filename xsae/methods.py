"""The paper's methods under one contract: codes of every modality in one order of latents.

| method | autoencoders | trained on | latents in one order because |
|---|---|---|---|
| `shared` | one | reconstruction | they are the same ones |
| `iso_energy`, `group_sparse` | one | reconstruction + a penalty on the codes of pairs | they are the same ones |
| `separated` | one per modality | reconstruction | they are not: index i means something else on each side |
| `posthoc` | those of `separated` | reconstruction | an `Alignment` re-indexes each but the first |
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy import sparse

from xsae.alignment import Alignment
from xsae.paths import RunPaths
from xsae.sae import SparseAutoencoder
from xsae.training import METHODS as TRAINED
from xsae.training import load

METHODS = (*TRAINED, "posthoc")


@dataclass(frozen=True)
class Method:
    """Trained autoencoders by modality, the first being the reference, and the alignments of others to it, if any."""

    saes: dict[str, SparseAutoencoder]
    alignments: Mapping[str, Alignment] = field(default_factory=dict)

    def transform(self, modality: str, x: np.ndarray) -> sparse.csr_array:
        """The codes (n, L) of x (n, d), in the order of the first modality's latents if the method knows it."""
        codes = self.saes[modality].transform(x)
        return self.alignments[modality].transform(codes) if modality in self.alignments else codes

    def directions(self, modality: str) -> np.ndarray:
        """The dictionary (L, d) of a modality, in the same order as its codes."""
        directions = self.saes[modality].directions
        aligned = self.alignments.get(modality)
        return directions if aligned is None else aligned.transform_dictionary(directions)


def posthoc(saes: dict[str, SparseAutoencoder], codes: Mapping[str, sparse.csr_array]) -> Method:
    """`separated` autoencoders with every modality but the first aligned to it. codes: (n_pairs, L) of each modality on
    the training pairs, row i of all belonging to one."""
    reference, *others = saes
    return Method(saes, {other: Alignment().fit(codes[reference], codes[other]) for other in others})


def load_method(paths: RunPaths, backbone: str, method: str, seed: int, data_hash: str) -> Method:
    """What a run has trained and aligned.

    Raises FileNotFoundError naming the notebook that makes what is missing, else as `training.load` and
    `Alignment.load` do.
    """
    if method == "posthoc":
        saes, _ = load(paths.checkpoint(backbone, "separated", seed), data_hash)
        files = {other: paths.alignment(backbone, seed, other) for other in list(saes)[1:]}
        for path in files.values():
            if not path.is_file():
                raise FileNotFoundError(f"{path}: no alignment; notebook 03_alignment makes it")
        return Method(saes, {other: Alignment.load(path) for other, path in files.items()})
    return Method(load(paths.checkpoint(backbone, method, seed), data_hash)[0])
