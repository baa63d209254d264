import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import sparse

from xsae.evaluation.recovery import (
    bridge_score,
    code_similarity,
    collapse_rate,
    ground_truth_error,
    modality_score,
    top_1,
)
from xsae.sae import SAEConfig, SparseAutoencoder


def csr(rows: list[list[float]]) -> sparse.csr_array:
    return sparse.csr_array(np.array(rows, dtype=np.float32))


def dead(n: int, latents: int) -> sparse.csr_array:
    return sparse.csr_array((n, latents), dtype=np.float32)


def random_codes(n: int, width: int, seed: int) -> sparse.csr_array:
    rng = np.random.default_rng(seed)
    return sparse.csr_array((rng.random((n, width)) < 0.1) * rng.exponential(size=(n, width)), dtype=np.float32)


# --- CR ---

E1, E2, BETWEEN = [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]


def collapse(image, text, dictionary, other=None):
    other = dictionary if other is None else other
    return collapse_rate(np.array(image), np.array(text), np.array(dictionary), np.array(other))


def test_collapse_rate_by_hand():
    # (e1, e2): latents 0 and 1, split. (1, .8), (.8, 1): cosine with (1, 1)/√2 is .994, with e1 or e2 .781: latent 2
    assert collapse([E1, [1, 0.8]], [E2, [0.8, 1]], [E1, E2, BETWEEN]) == 0.5
    assert collapse([[1, 0.8]], [[0.8, 1]], [E1, E2]) == 0.0  # without the bisector, both sides have their own


def test_collapse_rate_is_a_matter_of_direction_not_of_length_nor_of_the_axis():
    assert collapse([[10, 8]], [[0.08, 0.1]], [[100, 0], [0, 0.01], BETWEEN]) == 1.0
    # e1 is nearest to -e1 by |cosine|, and farthest by cosine: (1, 1) is the best of both
    assert collapse([E1], [E2], [[-1, 0], BETWEEN]) == 1.0


def test_of_equally_good_latents_the_first_counts():
    assert collapse([E1], [E1], [E2, E1, E1]) == 1.0
    assert collapse([E1], [E2], [BETWEEN, BETWEEN]) == 1.0


def test_two_dictionaries_are_compared_by_index():
    assert collapse([E1, E2], [E1, E2], [E1, E2], [E2, E1]) == 0.0
    assert collapse([E1, E2], [E2, E1], [E1, E2], [E2, E1]) == 1.0  # heterogeneous, and aligned


# --- GRE ---


def test_ground_truth_error_by_hand():
    concepts = np.array([E1, E2])
    assert ground_truth_error(concepts, concepts) == 0.0
    assert ground_truth_error(concepts, np.zeros((2, 2))) == 1.0  # all latents dead, no bias
    # (.5 - 1)² + 0 and 1² + (1 - 1)²: mean .625, summed over the dimensions
    assert ground_truth_error(concepts, np.array([[0.5, 0], [1, 1]])) == 0.625


@pytest.mark.parametrize("cosine", [0.0, 0.5, 0.9])
def test_a_concept_merged_onto_its_bisector_scores_half_of_one_minus_the_cosine(cosine):
    concepts = np.array([E1, [cosine, np.sqrt(1 - cosine**2)]])
    bisector = concepts.sum(axis=0) / np.linalg.norm(concepts.sum(axis=0))
    x_hat = (concepts @ bisector)[:, None] * bisector
    assert ground_truth_error(concepts, x_hat) == pytest.approx((1 - cosine) / 2)


def test_top_1_keeps_the_first_of_the_largest_and_leaves_zero_rows():
    codes = csr([[0, 2, 3], [5, 1, 0], [4, 0, 4], [0, 0, 0]])
    np.testing.assert_array_equal(top_1(codes).toarray(), [[0, 0, 3], [5, 0, 0], [4, 0, 0], [0, 0, 0]])
    stored_zero = codes.copy()
    stored_zero.data[:2] = 0.0
    assert top_1(stored_zero).count_nonzero(axis=1).tolist() == [0, 1, 1, 0]
    assert top_1(dead(3, 4)).nnz == 0 and top_1(dead(3, 4)).shape == (3, 4)
    assert top_1(codes).dtype == np.float32


def test_top_1_does_not_depend_on_the_order_of_storage():
    codes = sparse.csr_array(([4.0, 1.0, 4.0], [2, 1, 0], [0, 3]), shape=(1, 3))  # latents stored 2, 1, 0
    np.testing.assert_array_equal(top_1(codes).toarray(), [[4, 0, 0]])


def test_top_1_codes_are_those_of_the_same_weights_with_k_1():
    """Decoder bias, encoder bias and input scaling included: they act before the k are chosen."""
    wide = SparseAutoencoder(SAEConfig(dim=8, latents=32, k=6), seed=3)
    narrow = SparseAutoencoder(SAEConfig(dim=8, latents=32, k=1))
    with torch.no_grad():
        wide.decoder_bias += 0.1 * torch.arange(8)
        wide.encoder_bias -= 0.2 + 0.01 * torch.arange(32)
    narrow.load_state_dict(wide.state_dict())
    x = 5 * np.random.default_rng(0).standard_normal((50, 8))
    np.testing.assert_allclose(top_1(wide.transform(x)).toarray(), narrow.transform(x).toarray(), rtol=1e-6)
    np.testing.assert_allclose(
        wide.inverse_transform(top_1(wide.transform(x))), narrow(torch.tensor(x).float()).detach(), atol=1e-6
    )


# --- ESim, FSim ---


def test_code_similarity_by_hand():
    # equal up to length: 1; (1, 0)·(1, 1) / √2; disjoint: 0; zero on one side, zero on both: 0
    image = csr([[2, 4], [1, 0], [1, 0], [0, 0], [0, 0]])
    text = csr([[1, 2], [1, 1], [0, 3], [1, 0], [0, 0]])
    assert code_similarity(image, text) == pytest.approx((1 + 2**-0.5) / 5)
    assert code_similarity(image[:1], text[:1]) == pytest.approx(1.0)
    assert code_similarity(dead(3, 2), dead(3, 2)) == 0.0


# --- modality score ---


def test_modality_score_by_hand():
    # image means (1, 0, 2, 0, 0), text means (3, 1, 0, 0, .5)
    image, text = csr([[2, 0, 0, 0, 0], [0, 0, 4, 0, 0]]), csr([[4, 0, 0, 0, 1], [2, 2, 0, 0, 0]])
    np.testing.assert_allclose(modality_score(image, text), [0.25, 0.0, 1.0, np.nan, 0.0])
    assert np.isnan(modality_score(dead(2, 3), dead(4, 3))).all()


def test_modality_score_is_of_means_so_that_captions_may_outnumber_images():
    image, text = csr([[1, 2]]), csr([[1, 1], [1, 3], [1, 2], [1, 2]])
    np.testing.assert_allclose(modality_score(image, text), [0.5, 0.5])


# --- bridge score ---


def test_bridge_score_by_hand():
    # E[z_Iᵀ z_T] = ½ ([1, 2]ᵀ[3, 0] + [0, 4]ᵀ[0, 1]) = [[1.5, 0], [3, 2]]
    # image directions e1, e2; text (1, 1)/√2, -e2: cosines [[r, 0], [r, -1]], r = √½
    r = 0.5**0.5
    score = bridge_score(csr([[1, 2], [0, 4]]), csr([[3, 0], [0, 1]]), np.eye(2), np.array([[5, 5], [0, -2]]))
    np.testing.assert_allclose(score.toarray(), [[1.5 * r, 0], [3 * r, -2]])
    assert bridge_score(dead(2, 2), csr([[3, 0], [0, 1]]), np.eye(2), np.eye(2)).nnz == 0


def test_bridge_score_equals_the_dense_formula_and_holds_only_latents_that_meet():
    image, text = random_codes(30, 1100, seed=0), random_codes(30, 70, seed=1)  # 1100: more than one block
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((1100, 5)), rng.standard_normal((70, 5))
    cosine = (a / np.linalg.norm(a, axis=1, keepdims=True)) @ (b / np.linalg.norm(b, axis=1, keepdims=True)).T
    together = image.toarray().astype(np.float64).T @ text.toarray().astype(np.float64) / 30
    score = bridge_score(image, text, a, b)
    np.testing.assert_allclose(score.toarray(), together * cosine, atol=1e-12)
    assert score.nnz == np.count_nonzero(together) < 0.5 * together.size


def test_inputs_are_left_as_they_were():
    codes, directions = random_codes(20, 6, seed=0).astype(np.float64), np.random.default_rng(0).random((6, 3))
    before = codes.toarray(), directions.copy()
    top_1(codes).data[:] = 7.0
    bridge_score(codes, codes, directions, directions).data[:] = 7.0
    collapse_rate(directions, directions, directions, directions)
    code_similarity(codes, codes)
    modality_score(codes, codes)
    np.testing.assert_array_equal(codes.toarray(), before[0])
    np.testing.assert_array_equal(directions, before[1])


def test_recovery_and_theory_need_no_torch():
    code = "import sys, xsae.data.synthetic, xsae.evaluation.recovery; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_errors_name_what_does_not_fit():
    square, codes = np.eye(3), random_codes(4, 3, seed=0)
    nan = codes * np.float32(np.nan)
    cases = [
        (lambda: collapse_rate(square, square[:2], square, square), r"concepts_a has shape \(3, 3\) and concepts_b"),
        (lambda: collapse_rate(square[:0], square[:0], square, square), "at least 1 concept"),
        (lambda: collapse_rate(square, square, square, square[:2]), r"directions_b \(2, 3\); both must be the same"),
        (lambda: collapse_rate(square, square, np.eye(2), np.eye(2)), r"directions_a \(2, 2\); \(n_shared, d\)"),
        (lambda: collapse_rate(square, square, square[:0], square[:0]), r"directions_a \(0, 3\)"),
        (lambda: collapse_rate(square, square * 0, square, square), "concepts_b: 3 rows are zero or not finite"),
        (lambda: ground_truth_error(square, square[:2]), r"concepts has shape \(3, 3\) and x_hat \(2, 3\)"),
        (lambda: ground_truth_error(square * [1, 2, 1], square), "norm 2.000 in row 1; 1 is needed"),
        (lambda: ground_truth_error(square, square * np.nan), "x_hat holds NaN"),
        (lambda: code_similarity(codes, codes[:3]), r"shape \(4, 3\) and codes_b \(3, 3\)"),
        (lambda: code_similarity(codes[:0], codes[:0]), "at least 1 row"),
        (lambda: code_similarity(codes, nan), "code_similarity: codes_b holds NaN"),
        (
            lambda: modality_score(codes, codes[:, :2]),
            r"codes_b \(4, 2\); both must have the same number of latents",
        ),
        (lambda: modality_score(codes[:0], codes), "at least 1 row"),
        (lambda: modality_score(nan, codes), "modality_score: codes_a holds NaN"),
        (lambda: bridge_score(codes, codes[:3], square, square), "codes_a has 4 rows and codes_b 3"),
        (lambda: bridge_score(codes, codes, square, square[:2]), "codes_b has 3 latents and directions_b 2"),
        (lambda: bridge_score(codes, codes, square, square * 0), "directions_b: 3 rows are zero"),
        (lambda: bridge_score(nan, codes, square, square), "bridge_score: codes_a holds NaN"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message) as refused:
            call()
        assert "\n" not in str(refused.value)
