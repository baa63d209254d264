"""What an alignment of `xsae.alignments` retrieves, and what it leaves of the meaning of a latent."""

from collections.abc import Mapping, Sequence
from itertools import permutations

import numpy as np
from scipy import sparse

from xsae.alignments import LinearAlignment
from xsae.evaluation.retrieval import ranks, summary


def recall_both_ways(
    alignment: LinearAlignment,
    means: Mapping[str, np.ndarray],
    codes: Mapping[str, sparse.csr_array],
    ids: Mapping[str, Sequence],
) -> dict[str, dict[str, float]]:
    """`retrieval.summary` of each direction, of centred codes, the gallery mapped to the latents of the query.

    Args:
        alignment: fitted.
        means: modality -> (L,) mean code of its training embeddings; the reference first, then the other.
        codes: modality -> (n_m, L) codes of the held-out embeddings, as the autoencoders give them.
        ids: modality -> (n_m,) what each belongs to.

    Returns:
        `<query>_to_<gallery>` -> figures.

    Raises:
        ValueError: as `ranks` and `transform` do.
    """
    reference = next(iter(codes))
    found = {}
    for query, gallery in permutations(codes):
        to_query = alignment.transform if query == reference else alignment.transform_reference
        mean = to_query(sparse.csr_array(means[gallery][None]))
        found[f"{query}_to_{gallery}"] = summary(
            *ranks(
                _centred(codes[query], means[query]),
                _centred(to_query(codes[gallery]), _dense(mean)[0]),
                ids[query],
                ids[gallery],
            )
        )
    return found


def sparsity(alignment: LinearAlignment, codes: sparse.csr_array) -> dict[str, float]:
    """How far a latent is still one thing, with codes (n, L) of the other.

    Returns:
        `partners`, the mean number of partners of the reference latents that have any, and `partners_max`, the largest;
        `shared_by_max`, the most reference latents that one latent of the other's is partner of; `l0`, how many latents
        are active in a mapped code.
    """
    partners, shared = alignment.partners(), np.count_nonzero(_dense(alignment.weights_), axis=0)
    return {
        "partners": float(partners[partners > 0].mean()) if partners.any() else 0.0,
        "partners_max": float(partners.max()),
        "shared_by_max": float(shared.max()),
        "l0": np.count_nonzero(_dense(alignment.transform(codes))) / codes.shape[0],
    }


def _centred(codes: np.ndarray | sparse.csr_array, mean: np.ndarray) -> np.ndarray:
    return _dense(codes).astype(np.float32) - mean.astype(np.float32)


def _dense(codes: np.ndarray | sparse.csr_array) -> np.ndarray:
    return codes.toarray() if sparse.issparse(codes) else codes
