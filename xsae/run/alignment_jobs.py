"""What the notebook on alignments has done side by side: small arguments in, tables out."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from xsae.alignment import Alignment
from xsae.alignments import (
    CCA,
    DecoderCosine,
    Greedy,
    Hungarian,
    LinearAlignment,
    Partners,
    Procrustes,
    Ridge,
    Sinkhorn,
)
from xsae.checkpoints import train_or_load
from xsae.data import synthetic
from xsae.evaluation.aligned import recall_both_ways, sparsity
from xsae.evaluation.labels import label_agreement
from xsae.evaluation.matches import shuffled
from xsae.evaluation.significance import against_truth, kinds, significant_matches
from xsae.methods import pair_codes
from xsae.run.jobs import loaded
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
        own = [{m: of[m] for m in (self.reference, other)} for of in (self.means, self.test, self.ids)]
        return recall_both_ways(alignment, *own)


def align(run: str, backbone: str, bias_start: str, method: str, seed: int) -> pd.DataFrame:
    """Every alignment on all training pairs: `other`, `alignment`, `direction`, `metric`, `value`."""
    codes, rows = _Codes(run, backbone, bias_start, method, seed), []
    for other in codes.others:
        directions = [codes.method.directions(m) for m in (codes.reference, other)]
        for name, alignment in {
            "hungarian": Hungarian(), "greedy": Greedy(), "decoder_cosine": DecoderCosine(*directions),
            "sinkhorn": Sinkhorn(), "partners_1": Partners(1), "partners": Partners(),
            "partners_both_sides": Partners(both_sides=True),
            "procrustes": Procrustes(), "cca": CCA(), "ridge": Ridge(),
        }.items():  # fmt: skip
            alignment.fit(codes.train[codes.reference], codes.train[other])
            figures = {"": sparsity(alignment, codes.test[other]) | _agreement(alignment, codes, other)}
            for direction, own in (figures | codes.recall(alignment, other)).items():
                rows += [(other, name, direction, metric, value) for metric, value in own.items()]
    return pd.DataFrame(rows, columns=["other", "alignment", "direction", "metric", "value"])


def _agreement(alignment: LinearAlignment, codes: _Codes, other: str) -> dict[str, float]:
    """`label_agreement` of the reference's latents and the mapped ones, where pairs have labels."""
    test = codes.store.split("test")
    if "mentions" not in test or (codes.reference, other) != ("image", "text"):
        return {}
    x = {m: codes.method.transform(m, codes.store[m][test[m].to_numpy()]) for m in ("image", "text")}
    mapped = sparse.csr_array(alignment.transform(x["text"]))
    return {"label_agreement": label_agreement(x["image"], mapped, test["concepts"], test["mentions"])["agreement"]}


def judge(run: str, backbone: str, bias_start: str, method: str, seed: int) -> pd.DataFrame:
    """How many matches are significant, and the kinds of latents: `other`, `pairs`, `side`, `metric`, `value`.

    `pairs`: `paired`, or `shuffled`, where there is nothing to find.
    """
    codes, rows = _Codes(run, backbone, bias_start, method, seed), []
    own = codes.independent()
    a = own[codes.reference]
    for other in codes.others:
        for pairs, b in (("paired", own[other]), ("shuffled", shuffled(own[other]))):
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
                    (other, name, pairs, share, direction, own["R@1"])
                    for direction, own in codes.recall(fitted, other).items()
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
