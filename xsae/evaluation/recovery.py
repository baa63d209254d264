"""What an SAE recovers of known concepts (paper, Fig. 1: CR, GRE; λ sweep: ESim, FSim), and its latents by modality.

RE, the fourth figure of that sweep, is `loss` of `xsae.evaluation.reconstruction` on held-out pairs, averaged over the
two modalities. Here stand the figures that need ground truth, and two per-latent scores of Papadimitriou et al. 2025.
"""

import numpy as np
from scipy import sparse

from xsae.evaluation._ranking import unit_directions
from xsae.evaluation.reconstruction import reconstruction

_BLOCK = 512  # rows of the bridge score whose cosines are dense at one time: 32 MB at 8192 latents


def recovery(method, data) -> dict[str, float]:
    """What a trained method makes of known concepts: the figures of the cos sweep and of the λ sweep.

    Args:
        method: an `xsae.methods.Method`, for its autoencoders, its codes and its directions.
        data: the `xsae.theory.SyntheticData` whose training pairs it was trained on.

    Returns:
        `CR`, `RE`, `GRE`, `ESim` and `FSim` as defined below; RE and GRE are means of the modalities, RE the normalised
        loss on held-out pairs; the others compare each further modality with the first, and are means of these.
    """
    held_out, re, gre = data.test.embeddings, [], []
    for modality, sae in method.saes.items():
        x, concepts = held_out[modality], data.dictionaries[modality].astype(np.float32)
        codes = sae.transform(x)
        re.append(reconstruction(x, sae.inverse_transform(codes), codes=codes)["loss"])
        gre.append(ground_truth_error(concepts, sae.inverse_transform(top_1(sae.transform(concepts)))))
    reference, *others = method.saes
    shared = {modality: directions.astype(np.float32) for modality, directions in data.shared.items()}
    figures = [
        {
            "CR": collapse_rate(shared[reference], shared[m], method.directions(reference), method.directions(m)),
            "ESim": code_similarity(*(method.transform(own, held_out[own]) for own in (reference, m))),
            "FSim": code_similarity(*(method.transform(own, shared[own]) for own in (reference, m))),
        }
        for m in others
    ]
    mean = {name: float(np.mean([own[name] for own in figures])) for name in figures[0]}
    return {"CR": mean["CR"], "RE": float(np.mean(re)), "GRE": float(np.mean(gre)), **mean}


def collapse_rate(
    image_concepts: np.ndarray, text_concepts: np.ndarray, image_directions: np.ndarray, text_directions: np.ndarray
) -> float:
    """CR, the share of shared concepts whose best latent has the same index in both modalities, in [0, 1].

        CR = mean_i [ argmax_j cos(φ_i, image direction j) = argmax_j cos(ψ_i, text direction j) ]

    With one shared dictionary this is the collapse of two directions onto one latent. With two dictionaries indices
    agree by chance (1/L) before alignment; after it, this is the share of concepts the alignment puts together.

    Args:
        image_concepts: (n_shared, d) ground-truth directions φ_i.
        text_concepts: (n_shared, d) ground-truth directions ψ_i, row i the same concept.
        image_directions: (L, d) dictionary of the image SAE. Dead latents count: the paper does not leave them out.
        text_directions: (L, d) dictionary of the text SAE; with a shared SAE the same one.

    Of equally good latents the first one counts. The cosine is signed: a latent pointing away is not the concept's.

    Raises:
        ValueError: shapes do not fit, or a row is zero or not finite.
    """
    if image_concepts.shape != text_concepts.shape or len(image_concepts) == 0:
        raise ValueError(
            f"collapse_rate: image_concepts has shape {image_concepts.shape} and text_concepts {text_concepts.shape}; "
            "both must be the same (n_shared, d) with at least 1 concept"
        )
    if image_directions.shape != text_directions.shape:
        raise ValueError(
            f"collapse_rate: image_directions has shape {image_directions.shape} and text_directions "
            f"{text_directions.shape}; both must be the same (L, d)"
        )
    image = _best(image_concepts, image_directions, "image")
    return float(np.mean(image == _best(text_concepts, text_directions, "text")))


def top_1(codes: sparse.csr_array) -> sparse.csr_array:
    """Codes (n, L) with only the largest value of each row, the first of equals; a row of zeros stays one.

    The k largest hold the largest, so these are the codes of the same SAE with k = 1, whatever its k.
    """
    codes = sparse.csr_array(codes)
    largest, latents = codes.max(axis=1).toarray(), codes.argmax(axis=1)
    rows = np.flatnonzero(largest)
    return sparse.csr_array((largest[rows], (rows, latents[rows])), shape=codes.shape)


def ground_truth_error(concepts: np.ndarray, x_hat: np.ndarray) -> float:
    """GRE, the mean squared error of each ground-truth direction passed through the SAE with top-1.

        GRE = mean_i ‖x̂(φ_i) - φ_i‖²        x̂ = sae.inverse_transform(top_1(sae.transform(concepts)))

    Summed over the d dimensions, as `mse` is in `reconstruction`: 0 is recovered, 1 is what the zero vector scores, and
    a concept merged onto the bisector of φ_i and ψ_i scores (1 - cos(φ_i, ψ_i)) / 2. One modality at a time; the
    paper's figure is the mean of both.

    Args:
        concepts: (n, d) unit directions: all of a modality's, shared and its own.
        x_hat: (n, d) their top-1 reconstructions. The SAE scales its inputs, so only unit directions can be compared.

    Raises:
        ValueError: shapes differ, there is no row, a direction is not of unit norm, or a value is not finite.
    """
    if concepts.ndim != 2 or concepts.shape != x_hat.shape or len(concepts) == 0:
        raise ValueError(
            f"ground_truth_error: concepts has shape {concepts.shape} and x_hat {x_hat.shape}; "
            "both must be the same (n, d) with at least 1 row"
        )
    norms = np.linalg.norm(concepts, axis=1)
    if not (np.abs(norms - 1) < 1e-3).all():
        worst = np.argmax(np.where(np.isfinite(norms), np.abs(norms - 1), np.inf))
        raise ValueError(f"ground_truth_error: concepts has norm {norms[worst]:.3f} in row {worst}; 1 is needed")
    error = np.square(x_hat - concepts.astype(np.float64)).sum(axis=1).mean()
    if not np.isfinite(error):
        raise ValueError("ground_truth_error: x_hat holds NaN or infinity; it must be finite")
    return float(error)


def code_similarity(image_codes: sparse.csr_array, text_codes: sparse.csr_array) -> float:
    """Mean cosine of the codes of the two sides, row by row, in [0, 1] for codes >= 0.

    On held-out pairs this is ESim; on the shared concepts' directions, (φ_i, ψ_i), encoded at the SAE's own k, it is
    FSim. For `posthoc`, align the text codes first. A row of zeros on either side has cosine 0 and counts.

    Args:
        image_codes: (n, L) sparse codes.
        text_codes: (n, L) sparse codes, row i of the same pair or concept.

    Raises:
        ValueError: shapes differ, there is no row, or a code is not finite.
    """
    if image_codes.shape != text_codes.shape or image_codes.shape[0] == 0:
        raise ValueError(
            f"code_similarity: image_codes has shape {image_codes.shape} and text_codes {text_codes.shape}; "
            "both must be the same (n, L) with at least 1 row"
        )
    image, text = (
        _finite(image_codes, "code_similarity: image_codes"),
        _finite(text_codes, "code_similarity: text_codes"),
    )
    dot = np.asarray(image.multiply(text).sum(axis=1))
    norms = np.sqrt(np.asarray(image.power(2).sum(axis=1)) * np.asarray(text.power(2).sum(axis=1)))
    return float(np.divide(dot, norms, out=np.zeros_like(dot), where=norms > 0).mean())


def modality_score(image_codes: sparse.csr_array, text_codes: sparse.csr_array) -> np.ndarray:
    """Modality score of each latent: E_img / (E_img + E_txt), E the mean activation over a modality's embeddings.

    Papadimitriou et al. 2025 (2504.11695). 1 fires for images alone, 0 for texts alone, ½ equally for both. The
    numbers of images and texts may differ; the widths must not.

    Args:
        image_codes: (n_images, L) sparse codes.
        text_codes: (n_texts, L) sparse codes of the same SAE, or aligned ones.

    Returns:
        (L,) float64 in [0, 1], NaN for latents dead on both sides.

    Raises:
        ValueError: widths differ, a side has no row, or a code is not finite.
    """
    if image_codes.shape[1] != text_codes.shape[1] or 0 in (image_codes.shape[0], text_codes.shape[0]):
        raise ValueError(
            f"modality_score: image_codes has shape {image_codes.shape} and text_codes {text_codes.shape}; "
            "both must have the same number of latents and at least 1 row"
        )
    image = np.asarray(_finite(image_codes, "modality_score: image_codes").mean(axis=0))
    text = np.asarray(_finite(text_codes, "modality_score: text_codes").mean(axis=0))
    return np.divide(image, image + text, out=np.full_like(image, np.nan), where=image + text > 0)


def bridge_score(
    image_codes: sparse.csr_array,
    text_codes: sparse.csr_array,
    image_directions: np.ndarray,
    text_directions: np.ndarray,
) -> sparse.csr_array:
    """Bridge score of every two latents: E[z_Iᵀ z_T] ⊙ D_I D_Tᵀ, large where they fire together and point alike.

    Papadimitriou et al. 2025 (2504.11695), there with one dictionary D on both sides.

    Args:
        image_codes: (n_pairs, L_I) sparse codes.
        text_codes: (n_pairs, L_T) sparse codes; row i of each belongs to pair i.
        image_directions: (L_I, d) dictionary of the image SAE; rows are normalised here.
        text_directions: (L_T, d) dictionary of the text SAE.

    Returns:
        (L_I, L_T) float64 sparse: an entry per two latents that fire together in some pair (k² per pair at most), zero
        elsewhere. No dense (L_I, L_T) matrix is held.

    Raises:
        ValueError: sizes do not fit, there is no row, a code is not finite, or a direction is zero or not finite.
    """
    if image_codes.shape[0] != text_codes.shape[0] or image_codes.shape[0] == 0:
        raise ValueError(
            f"bridge_score: image_codes has {image_codes.shape[0]} rows and text_codes {text_codes.shape[0]}; "
            "row i of each must belong to one pair, at least 1"
        )
    for side, codes, directions in (("image", image_codes, image_directions), ("text", text_codes, text_directions)):
        if codes.shape[1] != len(directions):
            raise ValueError(
                f"bridge_score: {side}_codes has {codes.shape[1]} latents and {side}_directions {len(directions)} "
                "rows; a direction per latent is needed"
            )
    image = unit_directions(image_directions, "bridge_score: image_directions")
    text = unit_directions(text_directions, "bridge_score: text_directions")
    together = _finite(image_codes, "bridge_score: image_codes").T @ _finite(text_codes, "bridge_score: text_codes")
    score = sparse.csr_array(together) / image_codes.shape[0]
    for start in range(0, len(image), _BLOCK):
        stop = min(start + _BLOCK, len(image))
        cosine = image[start:stop] @ text.T
        entries = slice(score.indptr[start], score.indptr[stop])
        rows = np.repeat(np.arange(stop - start), np.diff(score.indptr[start : stop + 1]))
        score.data[entries] *= cosine[rows, score.indices[entries]]
    return score


def _best(concepts: np.ndarray, directions: np.ndarray, side: str) -> np.ndarray:
    if concepts.ndim != 2 or directions.ndim != 2 or concepts.shape[1] != directions.shape[1] or len(directions) == 0:
        raise ValueError(
            f"collapse_rate: {side}_concepts has shape {concepts.shape} and {side}_directions {directions.shape}; "
            "(n_shared, d) and (L, d) are needed"
        )
    # a concept's own norm does not move its argmax; a zero one has none
    concepts = unit_directions(concepts, f"collapse_rate: {side}_concepts")
    return (concepts @ unit_directions(directions, f"collapse_rate: {side}_directions").T).argmax(axis=1)


def _finite(codes: sparse.csr_array, what: str) -> sparse.csr_array:
    codes = sparse.csr_array(codes, dtype=np.float64)
    if not np.isfinite(codes.data).all():
        raise ValueError(f"{what} holds NaN or infinity; codes must be finite")
    return codes
