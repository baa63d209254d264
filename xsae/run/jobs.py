"""What notebooks have done side by side (`pool.run`): one trained method each, small arguments in, figures out."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from xsae.alignment import Alignment
from xsae.data import matched, synthetic
from xsae.data.store import STORE, EmbeddingStore, open_store
from xsae.evaluation import choice, zeroshot
from xsae.evaluation.monosemanticity import monosemanticity
from xsae.evaluation.reconstruction import reconstruction
from xsae.evaluation.recovery import collapse_rate, directions_found, recovery
from xsae.evaluation.retrieval import ranks, summary
from xsae.evaluation.steering_data import steer_method
from xsae.evaluation.variants import FREQUENT, firing_rates, variants
from xsae.methods import METHODS, Method, pair_codes, posthoc, training_data
from xsae.report import explorer_data
from xsae.run.checkpoints import fingerprint, load, train_or_load
from xsae.run.paths import RunPaths
from xsae.training import TrainingConfig

SAMPLE = 2**14  # training pairs that means of codes are taken over: they err by less than a hundredth of the spread


def train_on_store(store: Path, folder: Path, method: str, config: TrainingConfig, seed: int) -> Method:
    """`train_or_load` on the training pairs of a store: unit-norm embeddings, or raw ones without `normalize`."""
    opened = _kept(store)
    data = training_data(opened, config.normalize)
    return Method(train_or_load(folder, method, *data, config, seed, opened.fingerprint)[0])


def choose(store: Path, method: str, config: TrainingConfig) -> dict[str, float]:
    """`choice.trial` on the training pairs of a store."""
    return choice.trial(*training_data(_kept(store), config.normalize), method, config)


def reconstruct(run: str, backbone: str, bias_start: str, method: str, seed: int, batch_size: int) -> dict[str, Any]:
    """modality -> figures of `reconstruction` on held-out embeddings, with `dead` and `always_on` of the training ones,
    and the firing rates (L,) on these."""
    store, trained = loaded(run, backbone, bias_start, method, seed)
    found = {}
    for modality, sae in trained.saes.items():
        x = store[modality][store.rows(modality, "test")]
        codes = sae.transform(x)
        rates = firing_rates(sae.transform(store[modality][store.rows(modality, "train")]))
        figures = reconstruction(x, sae.inverse_transform(codes), codes=codes, batch_size=batch_size)
        figures |= {"dead": np.mean(rates == 0), "always_on": np.count_nonzero(rates > FREQUENT)}
        found[modality] = figures | {"latents": len(rates)}, rates
    return found


def retrieve(run: str, backbone: str, bias_start: str, method: str, seed: int) -> dict[tuple[str, str], tuple]:
    """(variant, direction) -> ranks (n,) and ties (n,) of the held-out queries; see `variants` and `ranks`.

    Latents count as frequent, and codes are centred, by the training embeddings.
    """
    store, trained = loaded(run, backbone, bias_start, method, seed)
    codes = trained.split_codes(store, "test")
    ids = {m: store.groups(m, "test") for m in codes}
    return {
        (variant, f"{a}_to_{b}"): ranks(rows[a], rows[b], ids[a], ids[b])
        for variant, rows in _variants(trained, store, codes).items()
        for a, b in permutations(rows, 2)
    }


def score(
    run: str, backbone: str, bias_start: str, method: str, seed: int, judges: Mapping[str, str]
) -> dict[str, np.ndarray]:
    """modality -> `monosemanticity` of the latents that have one, on held-out embeddings, the largest first.

    judges: backbone -> the backbone whose embeddings of the same rows judge its latents.
    """
    store, trained = loaded(run, backbone, bias_start, method, seed)
    judge, found = open_store(RunPaths(run).embeddings(judges[backbone])), {}
    for m in store.modalities:
        rows = store.rows(m, "test")
        scores = monosemanticity(trained.transform(m, store[m][rows]), judge[m][rows])
        found[m] = np.sort(scores[np.isfinite(scores)])[::-1]
    return found


def steer(
    run: str, backbone: str, bias_start: str, method: str, seed: int, concepts: Sequence[str], alphas: Sequence[float]
) -> pd.DataFrame:
    """`steer_method` of a method."""
    return steer_method(*loaded(run, backbone, bias_start, method, seed), method, concepts, alphas, seed)


def classify(run: str, backbone: str, bias_start: str, method: str, seed: int) -> dict[str, tuple]:
    """variant -> ranks (n,) and ties (n,) of the best right class of each image of the run's zero-shot classes.

    Latents count as frequent by the images to be classified, as in the released code.
    """
    store, trained = loaded(run, backbone, bias_start, method, seed)
    classes = open_store(RunPaths(run).classes(backbone))
    labels = classes.pairs.groupby("image")["text"].agg(set).tolist()
    codes = {m: trained.transform(m, classes[m]) for m in ("image", "text")}
    found = _variants(trained, store, codes, frequent=firing_rates(codes["image"]) > FREQUENT)
    return {name: zeroshot.ranks(rows["image"], rows["text"], labels) for name, rows in found.items()}


def ablate(store: Path, folder: Path, method: str, config: TrainingConfig, seed: int) -> dict[str, dict[str, float]]:
    """Train one setting and measure it on held-out embeddings: method -> figures; `separated` is aligned too.

    `RE`, the loss, `R@1`, `tie_rate` and `dead` are means over modalities or directions; `l0_<modality>` is each one's.
    """
    learned, opened = train_on_store(store, folder, method, config, seed), _kept(store)
    found = {method: learned}
    if method == "separated":
        found["posthoc"] = posthoc(learned.saes, pair_codes(learned, opened, raw=not config.normalize))
    x = {m: opened[m][opened.rows(m, "test")] for m in opened.modalities}
    ids = {m: opened.groups(m, "test") for m in x}
    plain = {m: learned.transform(m, x[m]) for m in x}  # an alignment moves no reconstruction
    losses = [reconstruction(x[m], learned.saes[m].inverse_transform(plain[m]), codes=plain[m]) for m in x]
    figures = {"RE": np.mean([of["loss"] for of in losses])}
    figures |= {f"l0_{m}": of["l0"] for m, of in zip(x, losses, strict=True)}
    figures["dead"] = np.mean([np.mean(firing_rates(codes) == 0) for codes in plain.values()])
    for name, aligned in found.items():
        codes = {m: aligned.transform(m, x[m]) for m in x}
        recalls = [summary(*ranks(codes[a], codes[b], ids[a], ids[b])) for a, b in permutations(codes, 2)]
        found[name] = figures | {key: np.mean([of[key] for of in recalls]) for key in ("R@1", "tie_rate")}
    return found


def theory_settings(values: Mapping[str, Any]) -> tuple[TrainingConfig, dict[str, Any]]:
    """How the paper trains on its synthetic world, and the world's `sizes` for `synthetic.generate`, by a notebook's
    parameters.

    Each modality has half as many concepts of its own as both have, and a fifth as many pairs are held out.
    """
    size = {name.removeprefix("synthetic_"): value for name, value in values.items() if name.startswith("synthetic_")}
    config = TrainingConfig(
        latents=size["latents"], k=size["k"], epochs=size["epochs"], batch_size=size["batch"], warmup=0.0, decay=False,
        bias_start="zero", sum_losses=True, device=values["device"], precision=values["precision"],
    )  # fmt: skip
    sizes = {"dim": size["dim"], "n_shared": size["concepts"], "n_train": size["pairs"], "n_test": size["pairs"] // 5}
    return config, sizes | {"n_own": dict.fromkeys(("image", "text"), size["concepts"] // 2)}


def recover(
    folder: Path, method: str, config: TrainingConfig, seed: int, cosine: float, sizes: Mapping[str, Any]
) -> dict[str, dict[str, float]]:
    """What `method` makes of the synthetic world of a seed (paper, Fig. 1): its name -> the figures of `recovery`.

    `separated` is aligned too, which adds `posthoc`. cosine: of a concept's two directions; sizes: the other arguments
    of `synthetic.generate`. The autoencoders are kept in `folder`, so an interrupted sweep goes on where it was.
    """
    data = synthetic.generate(cosine, seed, **sizes)
    return {name: recovery(fitted, data) for name, fitted in _trained(folder, method, config, seed, data).items()}


def _trained(
    folder: Path, method: str, config: TrainingConfig, seed: int, data: synthetic.SyntheticData
) -> dict[str, Method]:
    """`train_or_load` on pairs whose concepts are known: by its name, and `posthoc` beside `separated`."""
    x = data.train.embeddings
    saes, _ = train_or_load(folder, method, x, data.train.rows, config, seed, data.fingerprint)
    found = {method: Method(saes)}
    if method == "separated":
        found["posthoc"] = posthoc(saes, {m: sae.transform(x[m]) for m, sae in saes.items()})
    return found


def recover_matched(
    folder: Path, method: str, config: TrainingConfig, seed: int, n_pairs: int
) -> dict[str, dict[str, float]]:
    """What `method` makes of `xsae.data.matched`, concepts at CLIP's own geometry: its name -> figures.

    `RE`, the loss on held-out pairs, and `found`, how well the shared concepts' directions are found, are means of the
    modalities; `CR`, the share of shared concepts whose best latent is the same in both; `R@1` and `tie_rate` of
    held-out pairs, means of the directions. `separated` is aligned too, which adds `posthoc`.
    """
    data = matched.generate(seed, n_pairs, n_pairs // 5)
    methods, held_out = _trained(folder, method, config, seed, data), data.test.embeddings
    saes = methods[method].saes
    plain = {m: sae.transform(held_out[m]) for m, sae in saes.items()}
    losses = [reconstruction(held_out[m], saes[m].inverse_transform(plain[m]), codes=plain[m])["loss"] for m in saes]
    figures = {
        "RE": np.mean(losses),
        "found": np.mean([directions_found(data.shared[m], saes[m].directions) for m in saes]),
    }
    every = {}
    for name, fitted in methods.items():
        directions = [fitted.directions(m) for m in ("image", "text")]
        codes, ids = [fitted.transform(m, held_out[m]) for m in ("image", "text")], np.arange(n_pairs // 5)
        recalls = [summary(*ranks(a, b, ids, ids)) for a, b in permutations(codes)]
        every[name] = figures | {"CR": collapse_rate(*data.shared.values(), *directions)}
        every[name] |= {key: np.mean([one[key] for one in recalls]) for key in ("R@1", "tie_rate")}
    return every


def explore(
    run: str, backbone: str, bias_start: str, method: str, seed: int, alphas: Sequence[float]
) -> dict[str, explorer_data.View]:
    """modality beside the first -> what the explorer shows of a method there, matches being steered by `alphas`."""
    store, trained = loaded(run, backbone, bias_start, method, seed)
    return {other: explorer_data.view(trained, store, other, alphas, seed) for other in store.modalities[1:]}


def load_method(paths: RunPaths, *, backbone: str, method: str, bias_start: str, seed: int, data_hash: str) -> Method:
    """What a run has trained and aligned.

    Raises FileNotFoundError naming the notebook that makes what is missing, else as `checkpoints.load` and
    `Alignment.load` do: an alignment is of the autoencoders that it was fitted on, and of no others.
    """
    trained_as = METHODS[method].trained_as
    folder = paths.checkpoint(backbone, trained_as or method, bias_start, seed)
    saes, _ = load(folder, data_hash)
    if trained_as:
        files = {other: paths.alignment(backbone, bias_start, seed, other) for other in list(saes)[1:]}
        for path in files.values():
            if not path.is_file():
                raise FileNotFoundError(f"{path}: no alignment; notebook 03_alignment makes it")
        of = fingerprint(folder)
        return Method(saes, {other: Alignment.load(path, fitted_on=of) for other, path in files.items()})
    return Method(saes)


def loaded(run: str, backbone: str, bias_start: str, method: str, seed: int) -> tuple[EmbeddingStore, Method]:
    """The store of a run's backbone, and a method trained on it. Raises as `load_method`."""
    paths = RunPaths(run)
    store = _kept(paths.embeddings(backbone))
    about = {"backbone": backbone, "bias_start": bias_start, "method": method, "seed": seed}
    return store, load_method(paths, **about, data_hash=store.fingerprint)


def _kept(folder: Path) -> EmbeddingStore:
    """`open_store`, once for the jobs of a process that ask for the same store one after the other, until it is written
    anew: to hash it and to read its pairs takes a second at 100,000."""
    manifest = folder / STORE.marker
    return _opened(folder, manifest.stat().st_mtime_ns if manifest.is_file() else None)


@lru_cache(maxsize=1)  # one: jobs come a backbone after the other, and its pairs take memory
def _opened(folder: Path, _: int | None) -> EmbeddingStore:
    return open_store(folder)


def _variants(
    fitted: Method, store: EmbeddingStore, codes: Mapping[str, csr_array], frequent: np.ndarray | None = None
) -> dict[str, dict]:
    """The variants of codes, by what training pairs say, evenly spaced ones where there are more than `SAMPLE`;
    `frequent`: other latents to leave out."""
    pairs = store.split("train")
    pairs = pairs.iloc[:: max(len(pairs) // SAMPLE, 1)]
    trained = {m: fitted.transform(m, store[m][pairs[m].to_numpy()]) for m in store.modalities}
    if frequent is None:
        frequent = firing_rates(trained[store.modalities[0]]) > FREQUENT
    return variants(codes, {m: np.asarray(trained[m].mean(axis=0)) for m in codes}, frequent)
