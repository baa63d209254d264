"""What an alignment of `xsae.alignments` retrieves, and what it leaves of the meaning of a latent."""

from collections.abc import Mapping, Sequence
from itertools import permutations

import numpy as np
import pandas as pd
from scipy import sparse

from xsae.alignments import LinearAlignment
from xsae.evaluation.monosemanticity import monosemanticity
from xsae.evaluation.retrieval import ranks, summary
from xsae.evaluation.steering import differences
from xsae.evaluation.steering_curves import at_levels

KEPT = 0.65  # preservation that alignments are compared at; in notebook 05 the largest that every method comes down to


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


def mapped_monosemanticity(alignment: LinearAlignment, codes: sparse.csr_array, judge: np.ndarray) -> dict[str, float]:
    """How alike the inputs are that a mapped latent fires on: `monosemanticity` of the mapped codes, where positive.

    A map may have negative weights; there a latent does not fire. For a one-to-one map these are the other's own
    scores, those of latents that have no partner left out.

    Args:
        alignment: fitted.
        codes: (n, L) of the other. judge: (n, d') embeddings of the same rows by another encoder.

    Returns:
        `ms_mean` of the latents that have a score, NaN where none has, and `ms_scored`, how many these are.
    """
    scores = pd.Series(monosemanticity(sparse.csr_array(alignment.transform(codes)).maximum(0), judge))
    return {"ms_mean": float(scores.mean()), "ms_scored": float(scores.count())}


def steering_directions(
    alignment: LinearAlignment,
    codes: sparse.csr_array,
    naming: Mapping[str, np.ndarray],
    dictionary: np.ndarray,
    seed: int,
) -> dict[str, np.ndarray]:
    """Where to push an image for the concept that a latent of the other names: concept -> (d,).

        j = argmax_j of mean z_j over captions that name the concept - mean z_j over as many others
        v = Σ_i W_ij d_i                                                x^ = normalise(D^T z_I + b + α v / ‖v‖)

    j is a latent of the text autoencoder itself, so every alignment is asked about the same latents, and what differs
    is what it makes of them: the image latents whose partner j is, each pushed as far as the map W says
    (`LinearAlignment.translated`). With one partner this is the paper's steering. A latent that is nobody's partner
    moves nothing, and is not chosen; a concept that none of the others tells is left out.

    Args:
        alignment: fitted.
        codes: (n, L) of training captions, as the autoencoder gives them.
        naming: concept -> bool (n,), which captions name it.
        dictionary: (L, d) of the images, the reference.
        seed: of the draw of the other captions.

    Raises:
        ValueError: as `differences` and `translated`.
    """
    directions = alignment.translated(dictionary)
    known = directions.any(axis=1)
    found = {}
    for concept, names in naming.items():
        told = np.where(known, differences(codes, names, seed), 0)
        if told.max() > 0:
            found[concept] = directions[told.argmax()]
    return found


def steering_figures(rows: pd.DataFrame) -> dict[str, float]:
    """What steering came to, with rows of `steer_concepts_along`: means over concepts.

    Returns:
        `mAP_captions` and `mAP_images`, of either gallery, and `preservation`, at the largest α; the same mAP where
        preservation has come down to `KEPT`, as `mAP_captions_kept` and `mAP_images_kept`, NaN unless every concept's
        curve comes there; `steered`, the number of concepts. That alone where there is none.
    """
    figures = {"steered": rows["concept"].nunique()}
    if rows.empty:
        return figures
    pushed = rows[rows["alpha"] == rows["alpha"].max()]
    figures |= {f"mAP_{gallery}": scores["mAP"].mean() for gallery, scores in pushed.groupby("gallery", sort=False)}
    figures["preservation"] = pushed["preservation"].mean()
    for gallery, scores in at_levels(rows, (KEPT,)).groupby("gallery", sort=False):
        figures[f"mAP_{gallery}_kept"] = scores["mAP"].mean(skipna=False)
    return {name: float(value) for name, value in figures.items()}


def _centred(codes: np.ndarray | sparse.csr_array, mean: np.ndarray) -> np.ndarray:
    return _dense(codes).astype(np.float32) - mean.astype(np.float32)


def _dense(codes: np.ndarray | sparse.csr_array) -> np.ndarray:
    return codes.toarray() if sparse.issparse(codes) else codes
