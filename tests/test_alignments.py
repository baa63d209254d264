"""Each alignment on codes made by hand, and what all of them keep to."""

import numpy as np
import pytest
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
from xsae.alignments.base import Moments
from xsae.alignments.transport import transport

SPARSE = {
    "hungarian": Hungarian, "greedy": Greedy, "sinkhorn": lambda: Sinkhorn(0.01, 1), "partners": Partners,
    "partners_1": lambda: Partners(1), "both_sides": lambda: Partners(both_sides=True),
}  # fmt: skip
DENSE = {"procrustes": Procrustes, "cca": CCA, "ridge": Ridge}


def random_codes(n: int, width: int, seed: int, density: float = 0.2) -> sparse.csr_array:
    rng = np.random.default_rng(seed)
    return sparse.csr_array((rng.random((n, width)) < density) * rng.exponential(size=(n, width)))


def csr(rows) -> sparse.csr_array:
    return sparse.csr_array(np.array(rows, dtype=np.float64))


def noisy(codes: sparse.csr_array, seed: int) -> sparse.csr_array:
    """A partner of each code: about half of what is active stays, beside other activity."""
    rng = np.random.default_rng(seed)
    kept = codes.toarray() * (rng.random(codes.shape) < 0.6)
    return sparse.csr_array(kept + random_codes(*codes.shape, seed + 1, density=0.05))


@pytest.mark.parametrize("name", [*SPARSE, *DENSE])
def test_a_permuted_copy_comes_back_to_its_own_latents(name):
    codes, shuffle = random_codes(2000, 24, 0), np.random.default_rng(1).permutation(24)
    alignment = (SPARSE | DENSE)[name]().fit(codes, codes[:, shuffle])
    for found in (alignment.transform(codes[:, shuffle]), alignment.transform_reference(codes)[:, np.argsort(shuffle)]):
        found = found.toarray() if sparse.issparse(found) else found
        correlation = np.corrcoef(found.T, codes.toarray().T)[:24, 24:]
        np.testing.assert_array_equal(correlation.argmax(axis=1), np.arange(24))
        assert np.diag(correlation).min() > 0.999
    if name in ("hungarian", "greedy"):
        np.testing.assert_array_equal(alignment.transform(codes[:, shuffle]).toarray(), codes.toarray())


@pytest.mark.parametrize("name", [*SPARSE, *DENSE])
def test_the_order_of_the_others_latents_changes_nothing(name):
    a = random_codes(800, 16, 0)
    b, shuffle = noisy(a, 5), np.random.default_rng(2).permutation(16)
    make = (SPARSE | DENSE)[name]
    plain, moved = make().fit(a, b).transform(b), make().fit(a, b[:, shuffle]).transform(b[:, shuffle])
    dense = [codes.toarray() if sparse.issparse(codes) else codes for codes in (plain, moved)]
    np.testing.assert_allclose(dense[0], dense[1], atol=1e-8)


@pytest.mark.parametrize("name", SPARSE)
def test_sparse_maps_keep_to_their_number_of_partners(name):
    a = random_codes(500, 30, 0)
    b = noisy(a, 3)
    alignment = SPARSE[name]().fit(a, b)
    most = 4 if name in ("partners", "both_sides") else 1
    assert alignment.partners().max() == most and not alignment.identity_lost
    assert (alignment.weights_ != 0).nnz == (alignment.back_weights_ != 0).nnz
    np.testing.assert_array_equal(alignment.weights_.toarray() != 0, alignment.back_weights_.T.toarray() != 0)
    if name == "both_sides":
        assert np.count_nonzero(alignment.weights_.toarray(), axis=0).max() <= 4


def test_hungarian_is_the_papers_alignment():
    a = random_codes(300, 20, 0)
    b = noisy(a, 1)
    np.testing.assert_array_equal(
        Hungarian().fit(a, b).transform(b).toarray(), Alignment().fit(a, b).transform(b).toarray()
    )


def test_greedy_takes_the_largest_correlation_where_hungarian_takes_the_largest_sum():
    # Correlations .9, .8; .4, -.1: greedy takes .9, and -.1 is no match; Hungarian takes .8 + .4
    a = np.random.default_rng(0).standard_normal((50, 5))
    a = np.linalg.qr(np.column_stack([np.ones(50), a]))[0][:, 1:]  # orthonormal, and of mean 0
    first = 0.9 * a[:, 0] + 0.4 * a[:, 1] + np.sqrt(1 - 0.97) * a[:, 2]
    second = 0.8 * a[:, 0] - 0.1 * a[:, 1] + np.sqrt(1 - 0.65) * a[:, 3]
    reference, other = csr(np.column_stack([a[:, 0], a[:, 1]])), csr(np.column_stack([first, second]))
    np.testing.assert_array_equal(Greedy().fit(reference, other).weights_.toarray(), [[1, 0], [0, 0]])
    np.testing.assert_array_equal(Hungarian().fit(reference, other).weights_.toarray(), [[0, 1], [1, 0]])


def test_decoder_cosine_sees_directions_alone_and_leaves_out_the_dead():
    directions = np.eye(3)
    other = np.array([[0.0, 2.0, 0.1], [0.0, 0.0, 5.0], [1.0, 0.0, 0.0]])  # unit norm is not asked for
    codes = csr([[1, 1, 1], [2, 1, 3]])
    found = DecoderCosine(directions, other).fit(codes, codes)
    np.testing.assert_array_equal(found.weights_.toarray(), [[0, 0, 1], [1, 0, 0], [0, 1, 0]])
    dead = csr([[1, 1, 0], [2, 1, 0]])
    found = DecoderCosine(directions, other).fit(codes, dead)
    np.testing.assert_array_equal(found.weights_.toarray()[:, 2], 0)
    with pytest.raises(ValueError, match="2 reference_directions for 3 latents"):
        DecoderCosine(directions[:2], other).fit(codes, codes)
    with pytest.raises(ValueError, match="other_directions of latents that fire hold zero rows"):
        DecoderCosine(directions, 0 * other).fit(codes, codes)


def test_the_transport_plan_has_its_marginals_and_the_form_of_the_optimum():
    gain = np.random.default_rng(0).random((5, 7))
    plan = transport(gain, 0.1)
    np.testing.assert_allclose(plan.sum(axis=0), 1 / 7, rtol=1e-9)
    np.testing.assert_allclose(plan.sum(axis=1), 1 / 5, rtol=0.01)
    # At the optimum log P - gain / ε is a sum of a row's and a column's number: every 2 x 2 minor of it vanishes.
    scaled = np.log(plan) - gain / 0.1
    np.testing.assert_allclose(scaled[1:, 1:] - scaled[1:, :1] - scaled[:1, 1:] + scaled[0, 0], 0, atol=1e-8)
    assert np.isfinite(transport(gain, 1e-4)).all()  # exp(gain / ε) would be infinite


def test_damped_moments_are_the_equation():
    a, b = random_codes(50, 4, 0), random_codes(50, 3, 1)
    found = Moments.of(a, b)
    np.testing.assert_allclose(found.cross, np.cov(a.toarray().T, b.toarray().T, bias=True)[:4, 4:], atol=1e-12)
    other = np.cov(b.toarray().T, bias=True)
    np.testing.assert_allclose(found.damped, other + 5 * np.trace(other) / 50 * np.eye(3), atol=1e-12)


def test_ridge_solves_the_damped_normal_equations_and_partners_are_ridge_where_all_are_allowed():
    a = random_codes(200, 6, 0)
    b, ridge = noisy(a, 1), Ridge()
    ridge.fit(a, b)
    x, y = (codes.toarray() - codes.toarray().mean(axis=0) for codes in (b, a))
    damping = 5 * x.var(axis=0).sum() / 200
    expected = np.linalg.solve(x.T @ x / 200 + damping * np.eye(6), x.T @ y / 200).T
    np.testing.assert_allclose(ridge.weights_, expected, atol=1e-10)
    partners = Partners(6).fit(a, b)
    np.testing.assert_allclose(partners.weights_.toarray(), ridge.weights_, atol=1e-10)
    np.testing.assert_allclose(partners.back_weights_.toarray(), ridge.back_weights_, atol=1e-10)


def test_partners_find_the_parts_that_a_latent_was_split_into():
    # Reference latent i is split into two of the other's, each half of the time: 2 partners, of equal weight.
    a = random_codes(4000, 8, 0).toarray()
    half = np.random.default_rng(1).random(a.shape) < 0.5
    b = np.hstack([a * half, a * ~half])
    weights = Partners(2).fit(csr(a), csr(b)).weights_.toarray()
    np.testing.assert_allclose(weights, np.hstack([np.eye(8), np.eye(8)]), atol=0.03)
    assert (np.count_nonzero(weights, axis=1) == 2).all()


def test_procrustes_is_a_rotation_that_undoes_a_rotation():
    a = random_codes(300, 6, 0)
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((6, 6)))[0]
    b = csr(a.toarray() @ rotation)
    found = Procrustes().fit(a, b)
    np.testing.assert_allclose(found.weights_ @ found.weights_.T, np.eye(6), atol=1e-10)
    np.testing.assert_allclose(found.transform(b), a.toarray(), atol=1e-9)
    assert found.identity_lost


def test_cca_with_all_components_is_ridge_of_a_damped_target_and_with_one_has_rank_one():
    a = random_codes(500, 5, 0)
    b = noisy(a, 2)
    # A^½ (A^-½ C B^-½) B^-½ = C B^-1, the ridge regression
    np.testing.assert_allclose(CCA(5).fit(a, b).weights_, Ridge().fit(a, b).weights_, atol=1e-10)
    assert np.linalg.matrix_rank(CCA(1).fit(a, b).weights_) == 1


def test_dead_latents_have_no_partner():
    a = random_codes(200, 6, 0).toarray()
    a[:, 2] = 0
    b = noisy(csr(a), 1).toarray()
    b[:, 4] = 0
    for name, make in SPARSE.items():
        weights = make().fit(csr(a), csr(b)).weights_.toarray()
        assert not weights[2].any() and not weights[:, 4].any(), name
    assert np.isfinite(Partners().fit(csr(0 * a), csr(0 * b)).weights_.toarray()).all()


@pytest.mark.parametrize("name", [*SPARSE, *DENSE])
def test_errors_name_what_is_wrong(name):
    a, make = random_codes(20, 4, 0), (SPARSE | DENSE)[name]
    with pytest.raises(RuntimeError, match=r"is not fitted: call fit"):
        make().transform(a)
    with pytest.raises(ValueError, match=r"20 rows and other_codes (has )?19"):
        make().fit(a, a[:19])
    with pytest.raises(ValueError, match=r"shape \(20, 3\), expected \(n, 4\)"):
        make().fit(a, a).transform(a[:, :3])
    with pytest.raises(ValueError, match="NaN or infinity"):
        make().fit(a, a * np.inf)


def test_settings_that_mean_nothing_are_refused():
    for make, message in (
        (lambda: Partners(0), "k is 0"),
        (lambda: Sinkhorn(0.0), "epsilon 0.0"),
        (lambda: Sinkhorn(partners=0), "partners 0"),
        (lambda: CCA(0), "components is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


def test_directions_are_translated_by_hand():
    class Fixed(LinearAlignment):
        weights_ = csr([[2, 0, 0.5], [0, 0, 1]])
        back_weights_ = weights_.T.tocsr()

    # latent 0 is twice the first direction, latent 1 nobody's partner, latent 2 half of the first and the second
    dictionary = np.array([[1.0, 0], [0, 3]], np.float32)
    np.testing.assert_array_equal(Fixed().translated(dictionary), [[2, 0], [0, 0], [0.5, 3]])
    with pytest.raises(ValueError, match=r"Fixed: dictionary has shape \(3, 2\), expected \(2, d\)"):
        Fixed().translated(np.ones((3, 2)))
    with pytest.raises(RuntimeError, match="Partners is not fitted"):
        Partners().translated(dictionary)


@pytest.mark.parametrize("name", [*SPARSE, *DENSE])
def test_a_mapped_code_decodes_to_what_the_code_decodes_to_by_translated_directions(name):
    a = random_codes(400, 12, 0)
    b, dictionary = noisy(a, 3), np.random.default_rng(1).standard_normal((12, 5))
    alignment = (SPARSE | DENSE)[name]().fit(a, b)
    np.testing.assert_allclose(alignment.transform(b) @ dictionary, b @ alignment.translated(dictionary), atol=1e-9)
