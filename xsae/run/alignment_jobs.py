"""What the notebook on alignments has done side by side: small arguments in, tables out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from xsae.alignment import Alignment
from xsae.alignments import Hungarian, LinearAlignment, Partners, Procrustes, every
from xsae.data import synthetic
from xsae.data.store import EmbeddingStore, open_store
from xsae.evaluation.aligned import (
    mapped_monosemanticity,
    recall_both_ways,
    sparsity,
    steering_directions,
    steering_figures,
)
from xsae.evaluation.labels import label_agreement
from xsae.evaluation.matches import shuffled
from xsae.evaluation.significance import against_truth, kinds, significant_matches
from xsae.evaluation.steering import carriers, steer_concepts_along
from xsae.evaluation.steering_data import concepts_of, first_captions, held_out
from xsae.methods import pair_codes
from xsae.run.checkpoints import train_or_load
from xsae.run.jobs import loaded
from xsae.run.paths import RunPaths
from xsae.training import TrainingConfig

PAIRS = (20, 100, 300, 1000, 5000)  # to align with, beside all
SHUFFLED = (0.5, 0.75, 0.9, 0.95)  # shares of the pairs whose partners are shuffled
CURVED = {"hungarian": Hungarian, "partners": Partners, "procrustes": Procrustes}


class _Codes:
    """The codes of a run's `separated` autoencoders, by modality, in their own orders of latents."""

    def __init__(self, run: str, backbone: str, bias_start: str, method: str, seed: int) -> None:
        self.store, self.method = loaded(run, backbone, bias_start, method, seed)
        self.reference, *self.others = self.store.modalities
        self.train = pair_codes(self.method, self.store)
        self.means = {m: np.asarray(codes.mean(axis=0)) for m, codes in self.train.items()}
        self.test = self.method.split_codes(self.store, "test")
        self.ids = {m: self.store.groups(m, "test") for m in self.test}

    def independent(self) -> dict[str, sparse.csr_array]:
        """The codes of one training pair of each reference embedding."""
        first = ~self.store.split("train")[self.reference].duplicated().to_numpy()
        return {m: codes[first] for m, codes in self.train.items()}

    def recall(self, alignment: LinearAlignment, other: str) -> dict[str, dict[str, float]]:
        of_modality = [{m: of[m] for m in (self.reference, other)} for of in (self.means, self.test, self.ids)]
        return recall_both_ways(alignment, *of_modality)


def align(
    run: str,
    backbone: str,
    bias_start: str,
    method: str,
    seed: int,
    judges: Mapping[str, str],
    kinds: Sequence[str],
    most: int,
    alphas: Sequence[float],
) -> pd.DataFrame:
    """Every alignment on all training pairs: `other`, `alignment`, `direction`, `metric`, `value`.

    judges: backbone -> the one that judges its latents, if any. kinds, most: as `concepts_of` takes them, of
    what is steered by `alphas`.
    """
    codes, rows = _Codes(run, backbone, bias_start, method, seed), []
    judge = open_store(RunPaths(run).embeddings(judges[backbone])) if backbone in judges else None
    for other in codes.others:
        directions = [codes.method.directions(m) for m in (codes.reference, other)]
        questions = [_judged(codes, other, judge)] if judge else []
        if "mentions" in codes.store.pairs and (codes.reference, other) == ("image", "text"):
            questions += [_agreement(codes), _steered(codes, kinds, most, alphas, seed)]
        for name, alignment in every(*directions).items():
            alignment.fit(codes.train[codes.reference], codes.train[other])
            figures = sparsity(alignment, codes.test[other])
            for ask in questions:
                figures |= ask(alignment)
            for direction, recalls in ({"": figures} | codes.recall(alignment, other)).items():
                rows += [(other, name, direction, metric, value) for metric, value in recalls.items()]
    return pd.DataFrame(rows, columns=["other", "alignment", "direction", "metric", "value"])


Question = Callable[[LinearAlignment], dict[str, float]]  # what an alignment leaves of what a latent means


def _judged(codes: _Codes, other: str, judge: EmbeddingStore) -> Question:
    """`mapped_monosemanticity` on held-out embeddings."""
    seen = judge[other][codes.store.rows(other, "test")]
    return lambda alignment: mapped_monosemanticity(alignment, codes.test[other], seen)


def _agreement(codes: _Codes) -> Question:
    """`label_agreement` of the images' latents and the mapped ones."""
    test = codes.store.split("test")
    image, text = (codes.method.transform(m, codes.store[m][test[m].to_numpy()]) for m in ("image", "text"))

    def ask(alignment: LinearAlignment) -> dict[str, float]:
        mapped = sparse.csr_array(alignment.transform(text))
        return {"label_agreement": label_agreement(image, mapped, test["concepts"], test["mentions"])["agreement"]}

    return ask


def _steered(codes: _Codes, kinds: Sequence[str], most: int, alphas: Sequence[float], seed: int) -> Question:
    """`steering_figures` of the protocol of notebook 05, pushed where the alignment says."""
    train, test = (first_captions(codes.store, split) for split in ("train", "test"))
    concepts = concepts_of([train, test], kinds, most)
    naming, images = carriers(train["mentions"], concepts), held_out(codes.store, concepts)
    text = codes.method.transform("text", codes.store["text"][train["text"].to_numpy()])
    image, dictionary = codes.method.saes["image"], codes.method.directions("image")
    decoded = image.inverse_transform(image.transform(images.images))

    def ask(alignment: LinearAlignment) -> dict[str, float]:
        pushed = steering_directions(alignment, text, naming, dictionary, seed)
        return steering_figures(
            steer_concepts_along(directions=pushed, held_out=images, alphas=alphas, seed=seed, pushed=decoded)
        )

    return ask


def judge(run: str, backbone: str, bias_start: str, method: str, seed: int) -> pd.DataFrame:
    """How many matches are significant, and the kinds of latents: `other`, `pairs`, `side`, `metric`, `value`.

    `pairs`: `paired`, or `shuffled`, where there is nothing to find.
    """
    codes, rows = _Codes(run, backbone, bias_start, method, seed), []
    codes_apart = codes.independent()
    a = codes_apart[codes.reference]
    for other in codes.others:
        for pairs, b in (("paired", codes_apart[other]), ("shuffled", shuffled(codes_apart[other]))):
            matches = significant_matches(Alignment().fit(a, b), a, b)
            called = matches[matches["significant"]]
            rows.append((other, pairs, "", "matches", len(matches)))
            for side, latents, on in ((codes.reference, "latent", a), (other, "partner", b)):
                rows += [(other, pairs, side, kind, n) for kind, n in kinds(on, called[latents].to_numpy()).items()]
    return pd.DataFrame(rows, columns=["other", "pairs", "side", "metric", "value"])


def curve(run: str, backbone: str, bias_start: str, method: str, seed: int) -> pd.DataFrame:
    """R@1 by how many independent pairs align, and by the share of them that is shuffled."""
    codes, rows = _Codes(run, backbone, bias_start, method, seed), []
    train = codes.independent()
    for pairs, share, chosen, partners in _samples(train[codes.reference].shape[0]):
        for other in codes.others:
            for name, alignment in CURVED.items():
                fitted = alignment().fit(train[codes.reference][chosen], train[other][partners])
                rows += [
                    (other, name, pairs, share, direction, recalls["R@1"])
                    for direction, recalls in codes.recall(fitted, other).items()
                ]
    return pd.DataFrame(rows, columns=["other", "alignment", "pairs", "shuffled", "direction", "value"])


def _samples(n: int) -> Iterator[tuple[int, float, np.ndarray, np.ndarray]]:
    """Pairs to align with: how many, the share shuffled, rows of the reference, rows of the other."""
    order = np.random.default_rng(0).permutation(n)
    for pairs in (*(size for size in PAIRS if size < n), n):
        yield pairs, 0.0, order[:pairs], order[:pairs]
    for share in SHUFFLED:
        moved = order.copy()
        moved[: round(share * n)] = np.roll(moved[: round(share * n)], 1)
        yield n, share, order, moved


def theory(folder: Path, config: TrainingConfig, seed: int, cosine: float, sizes: Mapping[str, Any]) -> pd.DataFrame:
    """Matches of the synthetic world of a seed against the truth, by the number of pairs: `pairs`, `metric`, `value`.

    Arguments as of `jobs.recover`, whose autoencoders in `folder` are taken where they are there.
    """
    data = synthetic.generate(cosine, seed, **sizes)
    x = data.train.embeddings
    saes, _ = train_or_load(folder, "separated", x, data.train.rows, config, seed, data.fingerprint)
    (a, b), truth = (sae.transform(x[m]) for m, sae in saes.items()), data.train.codes.values()
    rows, n = [], a.shape[0]
    for pairs in (*(size for size in PAIRS if size < n), n):
        matches = significant_matches(Alignment().fit(a[:pairs], b[:pairs]), a[:pairs], b[:pairs])
        figures = against_truth(matches, a, b, *truth, data.n_shared) | {"shared": data.n_shared}
        rows += [(pairs, metric, value) for metric, value in figures.items()]
    return pd.DataFrame(rows, columns=["pairs", "metric", "value"])
