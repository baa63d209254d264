"""The paper's methods and others' under one contract: codes of every modality in one order of latents.

| method | autoencoders | trained on | latents in one order because |
|---|---|---|---|
| `shared` | one | reconstruction | they are the same ones |
| `shared_bias` | one, with a decoder bias per modality | reconstruction | they are the same ones |
| `iso_energy`, `group_sparse` | one | reconstruction + a penalty on the codes of pairs | they are the same ones |
| `masked_group_sparse`, `shared_encoder`, `vl_sae`, `sparc` | see `baselines` | see there | they are trained as one |
| `separated` | one per modality | reconstruction | they are not: index i means something else on each side |
| `posthoc` | those of `separated` | reconstruction | an `Alignment` re-indexes each but the first |
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import pandas as pd
from huggingface_hub import ModelCard
from scipy import sparse

from xsae.activations import BY_ROW
from xsae.alignment import Alignment
from xsae.baselines import cross_reconstruction, global_topk, masked, start_decoders
from xsae.compute.batches import check
from xsae.disk import markers
from xsae.disk.hub import Shared, card
from xsae.fitting import fit, start_at_means
from xsae.penalties import Penalty, group_sparse, iso_energy, of_codes
from xsae.sae import SAEConfig, SparseAutoencoder
from xsae.training import Encode, TrainingConfig, alone


@dataclass(frozen=True)
class Recipe:
    """What sets a method apart, and how it looks wherever it is shown.

    build: modalities, a config whose `latents` is the width of all autoencoders together, and a seed -> the untrained
    autoencoder of each modality. penalty: added to the loss, weighted by the setting of the method's name. trained_as:
    the method whose autoencoders it takes as they are, if it trains none. encode: how the codes of a training batch are
    chosen. topk: whether it is defined for exactly k active latents alone. every_start: whether a run has it from every
    start of the decoder bias, as it has what the paper compares, or from the first alone.
    """

    label: str
    colour: str  # Okabe and Ito's, then others that stay apart from these for colour-blind readers
    marker: str
    build: Callable[[Sequence[str], SAEConfig, int], dict[str, SparseAutoencoder]]
    penalty: Penalty | None = None
    trained_as: str = ""
    encode: Encode = alone
    topk: bool = False
    every_start: bool = True


def _one(modalities: Sequence[str], config: SAEConfig, seed: int, separate: Sequence[str] = ()) -> dict:
    """One autoencoder for all; `separate`: parameters that each modality has for itself."""
    first = SparseAutoencoder(config, seed=1000 * seed)
    if not separate and config.activation in BY_ROW:
        return dict.fromkeys(modalities, first)
    # Where activations are counted over a batch, every modality's are counted alone, or one would get more than k.
    return {m: first if place == 0 else first.twin(separate) for place, m in enumerate(modalities)}


def _one_with_biases(modalities: Sequence[str], config: SAEConfig, seed: int) -> dict[str, SparseAutoencoder]:
    return _one(modalities, config, seed, ["decoder_bias"])


def _one_each(modalities: Sequence[str], config: SAEConfig, seed: int) -> dict[str, SparseAutoencoder]:
    """An autoencoder per modality, with an equal share of the latents."""
    each = _share(modalities, config)
    return {m: SparseAutoencoder(each, seed=1000 * seed + place) for place, m in enumerate(modalities)}


def _one_encoder(modalities: Sequence[str], config: SAEConfig, seed: int) -> dict[str, SparseAutoencoder]:
    """One encoder, and a dictionary and a decoder bias per modality; all dictionaries together are as wide as one."""
    return _one(modalities, _share(modalities, config), seed, ["dictionary", "decoder_bias"])


def _one_encoder_of_distances(modalities: Sequence[str], config: SAEConfig, seed: int) -> dict[str, SparseAutoencoder]:
    saes = _one_encoder(modalities, replace(config, activation="distance"), seed)
    start_decoders(list(saes.values()), 1000 * seed)
    return saes


def _share(modalities: Sequence[str], config: SAEConfig) -> SAEConfig:
    return replace(config, latents=config.latents // len(modalities))


METHODS = {
    "shared": Recipe("shared", "#D55E00", "o", _one),
    "shared_bias": Recipe("shared + bias", "#009E73", "^", _one_with_biases),
    "iso_energy": Recipe("Iso-Energy", "#E69F00", "v", _one, of_codes(iso_energy)),
    "group_sparse": Recipe("group-sparse", "#CC79A7", "P", _one, of_codes(group_sparse)),
    "masked_group_sparse": Recipe(
        "masked group-sparse", "#DDCC77", "p", _one_with_biases, of_codes(group_sparse), encode=masked,
        every_start=False,
    ),
    "shared_encoder": Recipe("shared encoder", "#882255", "X", _one_encoder, every_start=False),
    "vl_sae": Recipe("VL-SAE", "#6B4C2A", "h", _one_encoder_of_distances, topk=True, every_start=False),
    "sparc": Recipe(
        "SPARC", "#332288", "*", _one_each, cross_reconstruction, encode=global_topk, topk=True, every_start=False
    ),
    "separated": Recipe("separated", "#56B4E9", "s", _one_each),
    "posthoc": Recipe("post-hoc", "#0072B2", "D", _one_each, trained_as="separated"),
}  # fmt: skip
OWN_DATA = TrainingConfig(latents=0, k=8, epochs=5, patience=3, max_steps=10_000, batch_size=256)
TRAINED = tuple(name for name, recipe in METHODS.items() if not recipe.trained_as)


def train_saes(
    method: str,
    arrays: Mapping[str, np.ndarray],
    rows: Mapping[str, np.ndarray],
    config: TrainingConfig,
    seed: int,
    progress: str | None = None,
) -> tuple[dict[str, SparseAutoencoder], pd.DataFrame]:
    """Train one method on paired modalities: the autoencoder of each modality, and the training curve.

    arrays: modality -> float (n_m, d) matrix; rows: modality -> int (n_pairs,), row i of each being one pair. With
    `shared` every modality maps to the same object. The total width, of all dictionaries, is equal whatever the method.
    `progress` is the label of a progress bar, if one is wanted. Raises ValueError, before anything is trained, for an
    unknown method or activation, or one that the method is not defined for, a k above the latents, a penalty on one
    modality, or data that are no pairs, not finite or constant.
    """
    if method not in TRAINED:
        raise ValueError(f"method: {method!r} is unknown; one of {', '.join(TRAINED)}")
    recipe, modalities = METHODS[method], list(arrays)
    if recipe.penalty and len(modalities) < 2:
        raise ValueError(f"method: {method!r} compares the codes of modalities; 1 found in `arrays`, 2 are needed")
    if recipe.topk and config.activation != "topk":
        raise ValueError(f"activation: {config.activation!r} found; {method!r} is defined for `topk` alone")
    check(arrays, rows, unit=config.normalize)
    dim = arrays[modalities[0]].shape[1]
    total = config.width(len(rows[modalities[0]]), dim)
    saes = recipe.build(modalities, SAEConfig(dim, total, config.k, config.normalize, config.activation), seed)
    data = [[of[m] for m in modalities] for of in (arrays, rows)]
    if config.bias_start == "mean":
        start_at_means(list(saes.values()), *data)
    history = fit(list(saes.values()), *data, config, seed, progress, penalty_of(method, config), recipe.encode)
    return saes, pd.DataFrame([record | {"modality": modalities[record["modality"]]} for record in history])


def penalty_of(method: str, config: TrainingConfig) -> Penalty | None:
    """A method's penalty with the weight that a config gives it; None where the method has none."""
    penalty, weight = METHODS[method].penalty, getattr(config, method, None)
    return penalty and (lambda *of_batch: weight * penalty(*of_batch))


class Pairs(Protocol):
    """Paired embeddings, as `xsae.data.store.EmbeddingStore` has them."""

    @property
    def modalities(self) -> tuple[str, ...]: ...

    def __getitem__(self, modality: str) -> np.ndarray: ...

    def raw(self, modality: str) -> np.ndarray: ...

    def split(self, name: str) -> pd.DataFrame: ...

    def rows(self, modality: str, split: str) -> np.ndarray: ...


@dataclass(repr=False)
class Method(Shared):
    """Trained autoencoders by modality, the first being the reference, and the alignments of others to it, if any.

    `save_pretrained`, `push_to_hub` and `from_pretrained` are huggingface_hub's. Their folder: a checkpoint folder per
    autoencoder, `alignment/<modality>.safetensors`, and `config.json`, which says whose is which.
    """

    KIND = markers.Kind("shared method", "config.json", "xsae.method.2")

    saes: dict[str, SparseAutoencoder]
    alignments: Mapping[str, Alignment] = field(default_factory=dict)

    def __repr__(self) -> str:
        n = {name: len({id(getattr(sae, name)) for sae in self.saes.values()}) for name in ("encoder", "dictionary")}
        kinds = {(1, 1): "one for all", (1, len(self.saes)): "one encoder for all"}
        shared = kinds.get(tuple(n.values()), "one each")
        aligned = "".join(f"; {m} by {alignment}" for m, alignment in self.alignments.items())
        return f"Method of {', '.join(self.saes)}, {shared}: {next(iter(self.saes.values()))}{aligned}"

    def transform(self, modality: str, x: np.ndarray) -> sparse.csr_array:
        """The codes (n, L) of x (n, d), in the order of the first modality's latents if the method knows it."""
        codes = self.saes[modality].transform(x)
        return self.alignments[modality].transform(codes) if modality in self.alignments else codes

    def split_codes(self, store: Pairs, split: str) -> dict[str, sparse.csr_array]:
        """The codes of all that a split of a store uses, by modality, each row once (`store.rows`)."""
        return {m: self.transform(m, store[m][store.rows(m, split)]) for m in store.modalities}

    def directions(self, modality: str) -> np.ndarray:
        """The dictionary (L, d) of a modality, in the same order as its codes."""
        directions = self.saes[modality].directions
        aligned = self.alignments.get(modality)
        return directions if aligned is None else aligned.transform_dictionary(directions)

    def _save_pretrained(self, save_directory: Path) -> None:
        whose = save_saes(save_directory, self.saes)
        for modality, alignment in self.alignments.items():
            alignment.save(save_directory / "alignment" / f"{modality}.safetensors")
        markers.seal(save_directory, self.KIND, {"modalities": whose, "aligned": list(self.alignments)})

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **_: Any) -> "Method":
        folder = Path(model_id)
        about = markers.opened(folder, cls.KIND)
        saes, aligned = load_saes(folder, cls.KIND, about), about.get("aligned")
        known = [m for m in list(saes)[1:] if f"alignment/{m}.safetensors" in about["files"]]
        if not isinstance(aligned, list) or sorted(map(str, aligned)) != sorted(known):
            raise ValueError(f"{folder / cls.KIND.marker}: `aligned`: {known} expected, {aligned!r:.60} found")
        alignments = {m: Alignment.load(folder / "alignment" / f"{m}.safetensors") for m in aligned}
        for m, alignment in alignments.items():
            if len(alignment.permutation_) != saes[m].config.latents:
                raise ValueError(
                    f"{folder}: the alignment of {m} is of {len(alignment.permutation_)} latents, its autoencoder of "
                    f"{saes[m].config.latents}"
                )
        return cls(saes, alignments)

    def generate_model_card(
        self, facts: Mapping[str, Any] = MappingProxyType({}), results: Sequence[str] = (), place: str = ""
    ) -> ModelCard:
        """The card of the autoencoders together; facts: what is known of their making (see `xsae.run.sharing`)."""
        sizes = asdict(next(iter(self.saes.values())).config)
        header = {"modalities": ", ".join(self.saes), "aligned to the first": ", ".join(self.alignments) or "none"}
        return card("Method", header | sizes | dict(facts), place, results)


def posthoc(saes: dict[str, SparseAutoencoder], codes: Mapping[str, sparse.csr_array]) -> Method:
    """`separated` autoencoders with every modality but the first aligned to it. codes: (n_pairs, L) of each modality on
    the training pairs, row i of all belonging to one."""
    reference, *others = saes
    return Method(saes, {other: Alignment().fit(codes[reference], codes[other]) for other in others})


def training_data(store: Pairs, normalize: bool) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The `arrays` and `rows` of `train_saes`: a store's training pairs, unit-norm or, without `normalize`, raw."""
    pairs = store.split("train")
    arrays = {m: store[m] if normalize else store.raw(m) for m in store.modalities}
    return arrays, {m: pairs[m].to_numpy() for m in store.modalities}


def pair_codes(method: Method, store: Pairs, raw: bool = False) -> dict[str, sparse.csr_array]:
    """The codes (n_pairs, L) of a store's training pairs, by modality, row i of each of one pair."""
    pairs, embeddings = store.split("train"), store.raw if raw else store.__getitem__
    return {m: method.transform(m, embeddings(m))[pairs[m].to_numpy()] for m in store.modalities}


def train(store: Pairs, method: str = "posthoc", config: TrainingConfig = OWN_DATA, seed: int = 1) -> Method:
    """Train a method on a store's training pairs, and align it where it is `posthoc`, with progress bars.

    By default the number of latents fits the data and the training goes on until it is done. Nothing is kept:
    `Method.save_pretrained` does that. Raises ValueError as `train_saes` does.
    """
    if method not in METHODS:
        raise ValueError(f"method: {method!r} is unknown; one of {', '.join(METHODS)}")
    trained_as = METHODS[method].trained_as
    trained = trained_as or method
    learned = Method(train_saes(trained, *training_data(store, config.normalize), config, seed, progress=trained)[0])
    return posthoc(learned.saes, pair_codes(learned, store, raw=not config.normalize)) if trained_as else learned


def save_saes(folder: Path, saes: Mapping[str, SparseAutoencoder]) -> dict[str, str]:
    """Save every autoencoder once in a folder of its own: modality -> the name of that folder."""
    places = {id(sae): "+".join(m for m in saes if saes[m] is sae) for sae in saes.values()}
    for sae in {id(sae): sae for sae in saes.values()}.values():
        sae.save(folder / places[id(sae)])
    return {modality: places[id(sae)] for modality, sae in saes.items()}


def load_saes(folder: Path, kind: markers.Kind, about: Mapping[str, Any]) -> dict[str, SparseAutoencoder]:
    """The autoencoder of each modality in a folder whose marker says where they are, as `modalities`.

    Raises ValueError where it says no such thing, or as `SparseAutoencoder.load` does.
    """
    places = about.get("modalities")
    whole = isinstance(places, dict) and bool(places)
    if not whole or any(f"{place}/{SparseAutoencoder.KIND.marker}" not in about["files"] for place in places.values()):
        raise ValueError(f"{folder / kind.marker}: `modalities` must say whose folder is which, {places!r:.60} found")
    loaded = {place: SparseAutoencoder.load(folder / place) for place in sorted(set(places.values()))}
    if len({(sae.config.dim, sae.config.latents) for sae in loaded.values()}) > 1:
        raise ValueError(f"{folder}: its autoencoders are not of one d and one number of latents")
    return {modality: loaded[place] for modality, place in places.items()}
