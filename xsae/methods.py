"""The paper's methods under one contract: codes of every modality in one order of latents.

| method | autoencoders | trained on | latents in one order because |
|---|---|---|---|
| `shared` | one | reconstruction | they are the same ones |
| `shared_bias` | one, with a decoder bias per modality | reconstruction | they are the same ones |
| `iso_energy`, `group_sparse` | one | reconstruction + a penalty on the codes of pairs | they are the same ones |
| `separated` | one per modality | reconstruction | they are not: index i means something else on each side |
| `posthoc` | those of `separated` | reconstruction | an `Alignment` re-indexes each but the first |
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from huggingface_hub import ModelCard
from scipy import sparse

from xsae import files
from xsae.alignment import Alignment
from xsae.hub import Shared, card
from xsae.paths import RunPaths
from xsae.sae import SparseAutoencoder
from xsae.training import METHODS as TRAINED
from xsae.training import load, load_saes

METHODS = (*TRAINED, "posthoc")


@dataclass
class Method(Shared):
    """Trained autoencoders by modality, the first being the reference, and the alignments of others to it, if any.

    `save_pretrained`, `push_to_hub` and `from_pretrained` are huggingface_hub's. Their folder: a checkpoint folder per
    autoencoder, `alignment/<modality>.safetensors`, and `config.json`, which says whose is which.
    """

    KIND = files.Kind("shared method", "config.json", "xsae.method.2")

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

    def _save_pretrained(self, save_directory: Path) -> None:
        places = {id(sae): "+".join(m for m in self.saes if self.saes[m] is sae) for sae in self.saes.values()}
        for sae in {id(own): own for own in self.saes.values()}.values():
            sae.save(save_directory / places[id(sae)])
        for modality, alignment in self.alignments.items():
            alignment.save(save_directory / "alignment" / f"{modality}.safetensors")
        whose = {modality: places[id(sae)] for modality, sae in self.saes.items()}
        files.seal(save_directory, self.KIND, {"modalities": whose, "aligned": list(self.alignments)})

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **_: Any) -> "Method":
        folder = Path(model_id)
        about = files.opened(folder, cls.KIND)
        saes, aligned = load_saes(folder, cls.KIND, about), about.get("aligned")
        known = [own for own in list(saes)[1:] if f"alignment/{own}.safetensors" in about["files"]]
        if not isinstance(aligned, list) or sorted(map(str, aligned)) != sorted(known):
            raise ValueError(f"{folder / cls.KIND.marker}: `aligned`: {known} expected, {aligned!r:.60} found")
        alignments = {own: Alignment.load(folder / "alignment" / f"{own}.safetensors") for own in aligned}
        for own, alignment in alignments.items():
            if len(alignment.permutation_) != saes[own].config.latents:
                raise ValueError(
                    f"{folder}: the alignment of {own} is of {len(alignment.permutation_)} latents, its autoencoder of "
                    f"{saes[own].config.latents}"
                )
        return cls(saes, alignments)

    def generate_model_card(
        self, facts: Mapping[str, Any] = MappingProxyType({}), results: Sequence[str] = (), place: str = ""
    ) -> ModelCard:
        """The card of the autoencoders together; facts: what is known of their making (`xsae.sharing` gathers it)."""
        sizes = asdict(next(iter(self.saes.values())).config)
        own = {"modalities": ", ".join(self.saes), "aligned to the first": ", ".join(self.alignments) or "none"}
        return card("Method", own | sizes | dict(facts), place, results)


def posthoc(saes: dict[str, SparseAutoencoder], codes: Mapping[str, sparse.csr_array]) -> Method:
    """`separated` autoencoders with every modality but the first aligned to it. codes: (n_pairs, L) of each modality on
    the training pairs, row i of all belonging to one."""
    reference, *others = saes
    return Method(saes, {other: Alignment().fit(codes[reference], codes[other]) for other in others})


def load_method(paths: RunPaths, *, backbone: str, method: str, bias_start: str, seed: int, data_hash: str) -> Method:
    """What a run has trained and aligned.

    Raises FileNotFoundError naming the notebook that makes what is missing, else as `training.load` and
    `Alignment.load` do.
    """
    if method == "posthoc":
        saes, _ = load(paths.checkpoint(backbone, "separated", bias_start, seed), data_hash)
        files = {other: paths.alignment(backbone, bias_start, seed, other) for other in list(saes)[1:]}
        for path in files.values():
            if not path.is_file():
                raise FileNotFoundError(f"{path}: no alignment; notebook 03_alignment makes it")
        return Method(saes, {other: Alignment.load(path) for other, path in files.items()})
    return Method(load(paths.checkpoint(backbone, method, bias_start, seed), data_hash)[0])
