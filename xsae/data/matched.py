"""Pairs at CLIP's own geometry whose concepts are known: the theory's generator, matched to statistics of CLIP B/32.

    x = o_I + Φᵀz_I,    y = o_T + Ψᵀz_T,    each scaled to unit norm

as in `synthetic`, but for what real embeddings have. Concepts are common and rare by Zipf's law. Their
directions share few dimensions: they are drawn from a covariance whose eigenvalues fall as (j + 8)^-1.45. Each modality
has an offset of its own, the *modality gap*. And there are four times as many concepts as dimensions.

The numbers were chosen to meet CLIP's statistics, never the outcome of a comparison of methods: docs/embedded-world.md
has both beside each other. As one more backbone, for all notebooks that need no labels:

    python -m xsae.data.matched --into matched.npz
    ./run_all.sh laptop --embeddings matched.npz
"""

import argparse
from pathlib import Path

import numpy as np
from scipy import sparse

from xsae.data.synthetic import Pairs, SyntheticData, unit_rows
from xsae.disk import files

DIM = 512
COSINE = 0.45  # of a shared concept's two directions
_OFFSET, _OFFSET_COSINE = 0.71, 0.33  # norm of a modality's offset, and the cosine of the two
_ZIPF, _ACTIVE = 0.8, 14  # exponent of the concepts' frequencies; how many are active in an embedding, on average
_SHAPE = 8  # of the coefficients' gamma distribution, of mean 1: how little they vary
_BLOCK = 4096  # pairs whose dense supports are held at one time: 62 MB


def generate(seed: int, n_train: int, n_test: int, n_shared: int = 1500, n_own: int = 400) -> SyntheticData:
    """Draw a generative model and pairs from it: d = 512, modalities `image` and `text`.

    n_train, n_test: pairs. n_shared: concepts of both modalities; n_own: of each alone. Coefficients are drawn per
    modality on the common support of the shared concepts. The same arguments give the same bytes on one machine. Raises
    ValueError for fewer than 2 pairs, or no concepts.
    """
    for name, value in {"n_train": n_train, "n_test": n_test, "n_shared": n_shared, "n_own": n_own}.items():
        least = 1 if name in ("n_shared", "n_own") else 2  # one pair has no variance to give it
        if value < least:
            raise ValueError(f"{name}: {value} found; at least {least} is needed")
    rng = np.random.default_rng([seed, 15])
    spectrum = np.sqrt((np.arange(DIM) + 8.0) ** -1.45)

    def directions(n: int) -> np.ndarray:
        return unit_rows(rng.standard_normal((n, DIM)) * spectrum)

    shared = directions(n_shared)
    across = directions(n_shared)
    across = unit_rows(across - np.einsum("nd,nd->n", across, shared)[:, None] * shared)
    other = COSINE * shared + np.sqrt(1 - COSINE**2) * across
    dictionaries = {"image": np.vstack([shared, directions(n_own)]), "text": np.vstack([other, directions(n_own)])}
    a, b = unit_rows(rng.standard_normal((2, DIM)))
    b = b - (a @ b) * a
    b /= np.linalg.norm(b)
    offsets = {"image": _OFFSET * a, "text": _OFFSET * (_OFFSET_COSINE * a + np.sqrt(1 - _OFFSET_COSINE**2) * b)}
    # rare and common concepts are spread over both blocks alike
    rates = {"shared": _rates(n_shared, n_shared + n_own), "own": _rates(n_own, n_shared + n_own)}
    train, test = (_pairs(dictionaries, offsets, rates, n, rng) for n in (n_train, n_test))
    return SyntheticData(dictionaries, n_shared, train, test)


def _rates(n: int, n_all: int) -> np.ndarray:
    """How often each of n concepts is active, if `n_all` like them are `_ACTIVE` at a time: Zipf's law, up to .5."""
    weights = np.linspace(1, n_all, n) ** -_ZIPF
    return np.minimum(weights * (_ACTIVE * n / n_all / weights.sum()), 0.5)


def _pairs(
    dictionaries: dict[str, np.ndarray], offsets: dict[str, np.ndarray], rates: dict[str, np.ndarray], n: int,
    rng: np.random.Generator,
) -> Pairs:  # fmt: skip
    shared = _support(n, rates["shared"], rng)
    embeddings, codes = {}, {}
    for modality, directions in dictionaries.items():
        z = sparse.hstack([shared, _support(n, rates["own"], rng)], format="csr", dtype=np.float32)
        z.data[:] = rng.gamma(_SHAPE, 1 / _SHAPE, size=z.nnz)
        signal = z @ directions
        signal -= signal.mean(axis=0)  # the offset alone is the mean
        signal *= np.sqrt((1 - _OFFSET**2) / np.square(signal).sum(axis=1).mean())
        embeddings[modality], codes[modality] = unit_rows(offsets[modality] + signal).astype(np.float32), z
    return Pairs(embeddings, codes)


def _support(n: int, rates: np.ndarray, rng: np.random.Generator) -> sparse.csr_array:
    """Which concepts are active, each independently at its rate: sparse bool (n, len(rates))."""
    blocks = (rng.random((min(_BLOCK, n - start), len(rates))) < rates for start in range(0, n, _BLOCK))
    return sparse.vstack([sparse.csr_array(block) for block in blocks], format="csr")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, required=True, help="the .npz to write")
    parser.add_argument("--pairs", type=int, default=20_000, help="20000 if left out")
    parser.add_argument("--seed", type=int, default=1, help="of the model and of the pairs; 1 if left out")
    arguments = parser.parse_args()
    try:
        drawn = generate(arguments.seed, arguments.pairs, 2).train
        names = [[f"c{concept}" for concept in row.indices] for row in drawn.codes["text"]]
        with files.file(arguments.into) as partial, partial.open("wb") as opened:
            np.savez(opened, **drawn.embeddings, caption=np.array([" ".join(of_text) for of_text in names]))
    except (ValueError, OSError) as error:
        parser.exit(2, f"error: {error}\n")
    print(f"{arguments.into}: {arguments.pairs} pairs")


if __name__ == "__main__":
    main()
