from itertools import permutations

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from scipy import sparse

from xsae.alignment import Alignment
from xsae.correlation import co_activation, positive_co_activation


def random_codes(n: int, width: int, seed: int, density: float = 0.2) -> sparse.csr_array:
    rng = np.random.default_rng(seed)
    return sparse.csr_array((rng.random((n, width)) < density) * rng.exponential(size=(n, width)), dtype=np.float32)


def csr(rows: list[list[float]]) -> sparse.csr_array:
    return sparse.csr_array(np.array(rows, dtype=np.float32))


def test_co_activation_is_pearson_by_hand():
    # a = (1, 0, 2), mean 1, centred (0, -1, 1); b = (0, 1, 2), mean 1, centred (-1, 0, 1): sum 1, norms √2 √2 -> 1/2
    # c = (2, 3, 1), mean 2, centred (0, 1, -1) -> with a: (0 - 1 - 1) / (√2 √2) = -1
    reference, other = csr([[1], [0], [2]]), csr([[0, 2, 0], [1, 3, 0], [2, 1, 0]])
    np.testing.assert_allclose(co_activation(reference, other), [[0.5, -1.0, 0.0]], atol=1e-7)


def test_co_activation_equals_dense_corrcoef_in_float64():
    reference, other = random_codes(300, 700, seed=0), random_codes(300, 40, seed=1)  # 700: more than one block
    dense = np.corrcoef(reference.toarray().astype(np.float64).T, other.toarray().astype(np.float64).T)[:700, 700:]
    found = co_activation(reference, other)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, dense, atol=1e-6)


def test_latents_without_variance_correlate_zero():
    # 0.7 on in all of 1001 rows leaves Σx² - n·mean² = 3e-11, not 0: residues must not become a correlation.
    n = 1001
    constant = np.full(n, 0.7, dtype=np.float32)
    codes = sparse.csr_array(np.stack([constant, np.zeros(n, np.float32), np.arange(n, dtype=np.float32)], axis=1))
    np.testing.assert_array_equal(co_activation(codes, codes), [[0, 0, 0], [0, 0, 0], [0, 0, 1]])


def test_inputs_are_left_as_they_were():
    codes = sparse.csr_array(random_codes(50, 6, seed=0), dtype=np.float64)
    before = codes.toarray()
    Alignment().fit(codes, codes).transform(codes).data[:] = 7.0
    np.testing.assert_array_equal(codes.toarray(), before)


def test_a_permuted_copy_aligns_back_exactly():
    codes = random_codes(400, 64, seed=0)
    shuffle = np.random.default_rng(1).permutation(64)
    shuffled = codes[:, shuffle]  # its latent j is latent shuffle[j] of `codes`
    alignment = Alignment().fit(codes, shuffled)
    np.testing.assert_array_equal(alignment.permutation_, np.argsort(shuffle))
    np.testing.assert_array_equal(alignment.transform(shuffled).toarray(), codes.toarray())
    np.testing.assert_allclose(alignment.correlation_, 1.0, atol=1e-6)
    assert alignment.matched_.all()
    np.testing.assert_array_equal(Alignment().fit(codes, codes).permutation_, np.arange(64))


def test_permuting_the_other_side_permutes_the_permutation():
    reference, other = random_codes(400, 32, seed=0), random_codes(400, 32, seed=1)
    shuffle = np.random.default_rng(2).permutation(32)
    plain, shuffled = Alignment().fit(reference, other), Alignment().fit(reference, other[:, shuffle])
    np.testing.assert_array_equal(shuffle[shuffled.permutation_], plain.permutation_)
    np.testing.assert_allclose(shuffled.correlation_, plain.correlation_, atol=1e-6)


def test_the_summed_signed_correlation_is_maximal_over_all_permutations():
    reference, other = random_codes(12, 5, seed=6), random_codes(12, 5, seed=1006)
    correlation = co_activation(reference, other)
    best = max(permutations(range(5)), key=lambda p: correlation[range(5), p].sum())
    greedy, left = [-1] * 5, correlation.copy()
    for _ in range(5):
        i, j = np.unravel_index(left.argmax(), left.shape)
        greedy[i], left[i, :], left[:, j] = int(j), -np.inf, -np.inf
    assert tuple(greedy) != best, "this case must tell the assignment from a greedy one"
    np.testing.assert_array_equal(Alignment().fit(reference, other).permutation_, best)


def test_latents_that_exclude_each_other_are_not_matched():
    # r0 = 1100, r1 = 1001; o0 = 0011, o1 = 1010. r0 and o0 exclude each other: -1. Every other couple shares one pair
    # where two of four each fire: 0. Straight -1 + 0, crossed 0 + 0: crossed. |correlation| would have gone straight.
    reference, other = csr([[1, 1], [1, 0], [0, 0], [0, 1]]), csr([[0, 1], [0, 0], [1, 1], [1, 0]])
    np.testing.assert_allclose(co_activation(reference, other), [[-1, 0], [0, 0]], atol=1e-7)
    np.testing.assert_array_equal(Alignment().fit(reference, other).permutation_, [1, 0])


# Latents 1 and 3 of `full` (0 and 2 of `few`) fire on the same pairs.
FULL = [[0, 1, 0, 0], [1, 1, 0, 0], [1, 0, 0, 1], [0, 0, 1, 2], [0, 0, 1, 0]]
FEW = [[1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 2, 0], [0, 0, 0, 0]]


def test_fewer_alive_on_the_other_side():
    # alive 4 and 2: full 1 <- few 0 and full 3 <- few 2 at correlation 1; dead 1, 3 go to the left-over places 0, 2.
    alignment = Alignment().fit(csr(FULL), csr(FEW))
    np.testing.assert_array_equal(alignment.permutation_, [1, 0, 3, 2])
    np.testing.assert_array_equal(alignment.matched_, [False, True, False, True])
    np.testing.assert_allclose(alignment.correlation_, [np.nan, 1, np.nan, 1], atol=1e-6)


def test_fewer_alive_on_the_reference_side():
    # alive 2 and 4: few 0 <- full 1 and few 2 <- full 3; the left-over full 0, 2 take the dead places 1, 3 in order.
    alignment = Alignment().fit(csr(FEW), csr(FULL))
    np.testing.assert_array_equal(alignment.permutation_, [1, 0, 3, 2])
    np.testing.assert_array_equal(alignment.matched_, [True, False, True, False])
    moved = alignment.transform(csr(FULL)).toarray()
    np.testing.assert_array_equal(moved[:, [0, 2]], np.array(FULL)[:, [1, 3]])


@pytest.mark.parametrize("dead_side", ["reference", "other", "both"])
def test_an_all_dead_side_matches_nothing(dead_side):
    dead, alive = sparse.csr_array((5, 4), dtype=np.float32), csr(FULL)
    alignment = Alignment().fit(alive if dead_side == "other" else dead, alive if dead_side == "reference" else dead)
    np.testing.assert_array_equal(alignment.permutation_, np.arange(4))
    assert not alignment.matched_.any()
    assert np.isnan(alignment.correlation_).all()


def test_stored_zeros_do_not_make_a_latent_alive():
    codes = csr(FULL)
    codes.data[codes.indices == 2] = 0.0
    assert not Alignment().fit(codes, csr(FULL)).matched_[2]


def test_transform_dictionary_moves_rows_and_leaves_each_as_it_was():
    codes = random_codes(100, 16, seed=0)
    other = codes[:, np.random.default_rng(1).permutation(16)]
    dictionary = np.random.default_rng(2).standard_normal((16, 8)).astype(np.float32)
    alignment = Alignment().fit(codes, other)
    moved = alignment.transform_dictionary(dictionary)
    np.testing.assert_array_equal(
        np.linalg.norm(moved, axis=1), np.linalg.norm(dictionary, axis=1)[alignment.permutation_]
    )
    # codes and dictionary moved together: the reconstruction is the one from before
    np.testing.assert_allclose(alignment.transform(other) @ moved, other @ dictionary, atol=1e-5)


def test_errors_name_what_does_not_fit():
    three, four = random_codes(5, 3, seed=0), random_codes(5, 4, seed=0)
    with pytest.raises(ValueError, match="reference_codes has 5 rows and other_codes has 4; row i"):
        co_activation(four, four[:4])
    with pytest.raises(ValueError, match="0 rows"):
        co_activation(four[:0], four[:0])
    with pytest.raises(ValueError, match="other_codes holds NaN"):
        co_activation(four, four * np.float32(np.nan))
    with pytest.raises(ValueError, match="reference_codes has 3 latents and other_codes 4"):
        Alignment().fit(three, four)
    with pytest.raises(ValueError, match=r"codes has shape \(5, 3\), expected \(n, 4\)"):
        Alignment().fit(four, four).transform(three)
    with pytest.raises(ValueError, match=r"dictionary has shape \(3, 2\), expected \(4, d\)"):
        Alignment().fit(four, four).transform_dictionary(np.ones((3, 2)))
    for call in (lambda a: a.transform(four), lambda a: a.transform_dictionary(np.eye(4)), lambda a: a.save("never")):
        with pytest.raises(RuntimeError, match="not fitted"):
            call(Alignment())


# --- many latents: positive correlations alone ---


def test_positive_co_activation_is_the_positive_part():
    reference, other = random_codes(300, 700, seed=0, density=0.02), random_codes(300, 40, seed=1, density=0.02)
    positive = positive_co_activation(reference, other)
    np.testing.assert_allclose(positive.toarray(), np.maximum(co_activation(reference, other), 0), atol=1e-7)
    assert positive.dtype == np.float32 and (positive.data > 0).all()


@pytest.mark.parametrize(("wide", "narrow"), [("reference", "other"), ("other", "reference"), (None, None)])
def test_many_latents_are_matched_as_well_as_few(monkeypatch, wide, narrow):
    codes = {name: random_codes(200, 60, seed=seed, density=0.03) for seed, name in enumerate(("reference", "other"))}
    if narrow:  # its last 20 latents are dead
        codes[narrow] = sparse.csr_array(codes[narrow].toarray() * (np.arange(60) < 40))
    exact = Alignment().fit(**{f"{name}_codes": code for name, code in codes.items()})
    monkeypatch.setattr("xsae.alignment._DENSE", 0)
    found = Alignment().fit(**{f"{name}_codes": code for name, code in codes.items()})
    correlation = co_activation(codes["reference"], codes["other"])
    np.testing.assert_array_equal(np.sort(found.permutation_), np.arange(60))
    assert found.matched_.sum() == exact.matched_.sum() == (40 if narrow else 60)
    matched = np.flatnonzero(found.matched_)
    np.testing.assert_allclose(
        found.correlation_[matched], correlation[matched, found.permutation_[matched]], atol=1e-6
    )
    # short of the optimum by no more than the matches without a positive correlation lose
    shortfall = np.nansum(exact.correlation_) - np.nansum(found.correlation_)
    assert -1e-5 <= shortfall <= -np.minimum(found.correlation_[matched], 0).sum() + 1e-5


def test_many_latents_a_permuted_copy_aligns_back_exactly(monkeypatch):
    monkeypatch.setattr("xsae.alignment._DENSE", 0)
    codes, shuffle = random_codes(400, 64, seed=0), np.random.default_rng(1).permutation(64)
    np.testing.assert_array_equal(Alignment().fit(codes, codes[:, shuffle]).permutation_, np.argsort(shuffle))


def test_save_and_load_give_the_same_alignment_and_the_same_bytes(tmp_path):
    alignment = Alignment().fit(csr(FULL), csr(FEW))
    first, second = tmp_path / "new" / "alignment.safetensors", tmp_path / "again"
    alignment.save(first)
    loaded = Alignment.load(first)
    for name in ("permutation_", "matched_", "correlation_"):
        saved, read = getattr(alignment, name), getattr(loaded, name)
        np.testing.assert_array_equal(saved, read)
        assert saved.dtype == read.dtype
    loaded.save(second)
    assert first.read_bytes() == second.read_bytes()
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "again",
        "alignment.safetensors",
        "new",
    ]  # no left-overs


def test_a_truncated_or_altered_file_is_refused_by_name(tmp_path):
    path = tmp_path / "alignment.safetensors"
    Alignment().fit(csr(FULL), csr(FEW)).save(path)
    whole = path.read_bytes()
    for position in range(len(whole)):
        for broken in (whole[:position], whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :]):
            path.write_bytes(broken)
            with pytest.raises(ValueError, match=r"alignment\.safetensors: ") as refused:
                Alignment.load(path)
            assert "\n" not in str(refused.value)
    with pytest.raises(FileNotFoundError):
        Alignment.load(tmp_path / "absent")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("permutation_", np.array([0, 0, 2, 3]), "not a permutation"),
        ("correlation_", np.zeros(4, np.float32), "finite exactly where matched"),
        ("matched_", np.zeros(3, bool), "all of shape"),
        ("permutation_", np.arange(4, dtype=np.int32), "permutation int64"),
    ],
)
def test_a_well_formed_file_that_holds_no_alignment_is_refused(tmp_path, name, value, message):
    alignment = Alignment().fit(csr(FULL), csr(FEW))
    setattr(alignment, name, value)
    alignment.save(tmp_path / "wrong")
    with pytest.raises(ValueError, match=f"wrong: .*{message}"):
        Alignment.load(tmp_path / "wrong")


def test_the_file_is_plain_safetensors_and_another_one_is_refused(tmp_path):
    Alignment().fit(csr(FULL), csr(FEW)).save(tmp_path / "ours")
    tensors = load_file(tmp_path / "ours")
    np.testing.assert_array_equal(tensors["permutation"], [1, 0, 3, 2])
    save_file(tensors, tmp_path / "other")
    with pytest.raises(ValueError, match="other: no alignment: its header"):
        Alignment.load(tmp_path / "other")


def test_an_interrupted_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "alignment.safetensors"
    Alignment().fit(csr(FULL), csr(FEW)).save(path)
    before = path.read_bytes()

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Alignment().fit(csr(FULL), csr(FULL)).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
