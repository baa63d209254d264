"""What an SAE recovers of known concepts (paper, Fig. 1: CR, GRE; λ sweep: ESim, FSim), and its latents by modality.

RE, the fourth figure of that sweep, is `loss` of `xsae.evaluation.reconstruction` on held-out pairs, averaged over the
modalities. Here stand the figures that need ground truth, and two per-latent scores of Papadimitriou et al. 2025.
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
        data: the `xsae.data.synthetic.SyntheticData` whose training pairs it was trained on.

    Returns:
        `CR`, `RE`, `GRE`, `ESim` and `FSim` as defined below; RE and GRE are means of the modalities, RE the normalised
        loss on held-out pairs, GRE that of the shared concepts; the others compare each further modality with the
        first, and are means of these.
    """
    held_out, re, gre = data.test.embeddings, [], []
    for modality, sae in method.saes.items():
        x, concepts = held_out[modality], data.shared[modality].astype(np.float32)
        codes = sae.transform(x)
        re.append(reconstruction(x, sae.inverse_transform(codes), codes=codes)["loss"])
        gre.append(ground_truth_error(concepts, sae.inverse_transform(top_1(sae.transform(concepts)))))
    reference, *others = method.saes
    shared = {modality: directions.astype(np.float32) for modality, directions in data.shared.items()}
    figures = [
        {
            "CR": collapse_rate(shared[reference], shared[m], method.directions(reference), method.directions(m)),
            "ESim": code_similarity(*(method.transform(side, held_out[side]) for side in (reference, m))),
            "FSim": code_similarity(*(method.transform(side, shared[side]) for side in (reference, m))),
        }
        for m in others
    ]
    mean = {name: float(np.mean([seen[name] for seen in figures])) for name in figures[0]}
    return {"CR": mean["CR"], "RE": float(np.mean(re)), "GRE": float(np.mean(gre)), **mean}


def directions_found(concepts: np.ndarray, directions: np.ndarray) -> float:
    """How well concepts' directions are found: the mean over them of the largest cosine with any latent's direction.

    concepts: (n, d) ground-truth directions. directions: (L, d) dictionary. Signed: a latent pointing away finds none.
    Raises ValueError for a row that is zero or not finite.
    """
    concepts = unit_directions(concepts, "directions_found: concepts")
    return float((concepts @ unit_directions(directions, "directions_found: directions").T).max(axis=1).mean())


def collapse_rate(
    concepts_a: np.ndarray, concepts_b: np.ndarray, directions_a: np.ndarray, directions_b: np.ndarray
) -> float:
    """CR, the share of shared concepts whose best latent has the same index in both modalities, in [0, 1].

        CR = mean_i [ argmax_j cos(φ_i, direction j of a) = argmax_j cos(ψ_i, direction j of b) ]

    With one shared dictionary this is the collapse of two directions onto one latent. With two dictionaries indices
    agree by chance (1/L) before alignment; after it, this is the share of concepts the alignment puts together.

    Args:
        concepts_a: (n_shared, d) ground-truth directions φ_i of one modality.
        concepts_b: (n_shared, d) those of another, ψ_i, row i the same concept.
        directions_a: (L, d) dictionary of the one's SAE. Dead latents count: the paper does not leave them out.
        directions_b: (L, d) dictionary of the other's; with a shared SAE the same one.

    Of equally good latents the first one counts. The cosine is signed: a latent pointing away is not the concept's.

    Raises:
        ValueError: shapes do not fit, or a row is zero or not finite.
    """
    if concepts_a.shape != concepts_b.shape or len(concepts_a) == 0:
        raise ValueError(
            f"collapse_rate: concepts_a has shape {concepts_a.shape} and concepts_b {concepts_b.shape}; "
            "both must be the same (n_shared, d) with at least 1 concept"
        )
    if directions_a.shape != directions_b.shape:
        raise ValueError(
            f"collapse_rate: directions_a has shape {directions_a.shape} and directions_b "
            f"{directions_b.shape}; both must be the same (L, d)"
        )
    a = _best(concepts_a, directions_a, "a")
    return float(np.mean(a == _best(concepts_b, directions_b, "b")))


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
        concepts: (n, d) unit directions.
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


def code_similarity(codes_a: sparse.csr_array, codes_b: sparse.csr_array) -> float:
    """Mean cosine of the codes of the two sides, row by row, in [0, 1] for codes >= 0.

    On held-out pairs this is ESim; on the shared concepts' directions, (φ_i, ψ_i), encoded at the SAE's own k, it is
    FSim. For `posthoc`, align the codes first. A row of zeros on either side has cosine 0 and counts.

    Args:
        codes_a: (n, L) sparse codes.
        codes_b: (n, L) sparse codes, row i of the same pair or concept.

    Raises:
        ValueError: shapes differ, there is no row, or a code is not finite.
    """
    if codes_a.shape != codes_b.shape or codes_a.shape[0] == 0:
        raise ValueError(
            f"code_similarity: codes_a has shape {codes_a.shape} and codes_b {codes_b.shape}; "
            "both must be the same (n, L) with at least 1 row"
        )
    a, b = (
        _finite(codes_a, "code_similarity: codes_a"),
        _finite(codes_b, "code_similarity: codes_b"),
    )
    dot = np.asarray(a.multiply(b).sum(axis=1))
    norms = np.sqrt(np.asarray(a.power(2).sum(axis=1)) * np.asarray(b.power(2).sum(axis=1)))
    return float(np.divide(dot, norms, out=np.zeros_like(dot), where=norms > 0).mean())


def modality_score(codes_a: sparse.csr_array, codes_b: sparse.csr_array) -> np.ndarray:
    """Modality score of each latent: E_a / (E_a + E_b), E the mean activation over a modality's embeddings.

    Papadimitriou et al. 2025 (2504.11695), where a are images and b texts. 1 fires for a alone, 0 for b alone, ½
    equally for both. The numbers of rows may differ; the widths must not.

    Args:
        codes_a: (n_a, L) sparse codes of one modality.
        codes_b: (n_b, L) sparse codes of another, of the same SAE or aligned ones.

    Returns:
        (L,) float64 in [0, 1], NaN for latents dead on both sides.

    Raises:
        ValueError: widths differ, a side has no row, or a code is not finite.
    """
    if codes_a.shape[1] != codes_b.shape[1] or 0 in (codes_a.shape[0], codes_b.shape[0]):
        raise ValueError(
            f"modality_score: codes_a has shape {codes_a.shape} and codes_b {codes_b.shape}; "
            "both must have the same number of latents and at least 1 row"
        )
    a = np.asarray(_finite(codes_a, "modality_score: codes_a").mean(axis=0))
    b = np.asarray(_finite(codes_b, "modality_score: codes_b").mean(axis=0))
    return np.divide(a, a + b, out=np.full_like(a, np.nan), where=a + b > 0)


def bridge_score(
    codes_a: sparse.csr_array,
    codes_b: sparse.csr_array,
    directions_a: np.ndarray,
    directions_b: np.ndarray,
) -> sparse.csr_array:
    """Bridge score of every two latents: E[z_aᵀ z_b] ⊙ D_a D_bᵀ, large where they fire together and point alike.

    Papadimitriou et al. 2025 (2504.11695), there with one dictionary D on both sides.

    Args:
        codes_a: (n_pairs, L_a) sparse codes.
        codes_b: (n_pairs, L_b) sparse codes; row i of each belongs to pair i.
        directions_a: (L_a, d) dictionary of the one's SAE; rows are normalised here.
        directions_b: (L_b, d) dictionary of the other's.

    Returns:
        (L_a, L_b) float64 sparse: an entry per two latents that fire together in some pair (k² per pair at most), zero
        elsewhere. No dense (L_a, L_b) matrix is held.

    Raises:
        ValueError: sizes do not fit, there is no row, a code is not finite, or a direction is zero or not finite.
    """
    if codes_a.shape[0] != codes_b.shape[0] or codes_a.shape[0] == 0:
        raise ValueError(
            f"bridge_score: codes_a has {codes_a.shape[0]} rows and codes_b {codes_b.shape[0]}; "
            "row i of each must belong to one pair, at least 1"
        )
    for side, codes, directions in (("a", codes_a, directions_a), ("b", codes_b, directions_b)):
        if codes.shape[1] != len(directions):
            raise ValueError(
                f"bridge_score: codes_{side} has {codes.shape[1]} latents and directions_{side} {len(directions)} "
                "rows; a direction per latent is needed"
            )
    a = unit_directions(directions_a, "bridge_score: directions_a")
    b = unit_directions(directions_b, "bridge_score: directions_b")
    together = _finite(codes_a, "bridge_score: codes_a").T @ _finite(codes_b, "bridge_score: codes_b")
    score = sparse.csr_array(together) / codes_a.shape[0]
    for start in range(0, len(a), _BLOCK):
        stop = min(start + _BLOCK, len(a))
        cosine = a[start:stop] @ b.T
        entries = slice(score.indptr[start], score.indptr[stop])
        rows = np.repeat(np.arange(stop - start), np.diff(score.indptr[start : stop + 1]))
        score.data[entries] *= cosine[rows, score.indices[entries]]
    return score


def _best(concepts: np.ndarray, directions: np.ndarray, side: str) -> np.ndarray:
    if concepts.ndim != 2 or directions.ndim != 2 or concepts.shape[1] != directions.shape[1] or len(directions) == 0:
        raise ValueError(
            f"collapse_rate: concepts_{side} has shape {concepts.shape} and directions_{side} {directions.shape}; "
            "(n_shared, d) and (L, d) are needed"
        )
    # a concept's own norm does not move its argmax; a zero one has none
    concepts = unit_directions(concepts, f"collapse_rate: concepts_{side}")
    return (concepts @ unit_directions(directions, f"collapse_rate: directions_{side}").T).argmax(axis=1)


def _finite(codes: sparse.csr_array, what: str) -> sparse.csr_array:
    codes = sparse.csr_array(codes, dtype=np.float64)
    if not np.isfinite(codes.data).all():
        raise ValueError(f"{what} holds NaN or infinity; codes must be finite")
    return codes
