import numpy as np
import pytest

from xsae.data import matched
from xsae.data.own import read_npz
from xsae.evaluation.geometry import modality_statistics
from xsae.evaluation.recovery import directions_found


@pytest.fixture(scope="module")
def data():
    return matched.generate(1, 4000, 50)


def test_the_statistics_are_clips_but_for_the_misses_that_the_docs_name(data):
    found = modality_statistics({m: x.astype(np.float64) for m, x in data.train.embeddings.items()})
    near = {"matched_cosine": 0.318, "mismatched_cosine": 0.172, "modality_gap": 0.82, "within_image": 0.52}
    for name, value in near.items():
        assert abs(found[name] - value) < 0.05, name
    assert found["pattern_cosine"] < 0.75 and 40 < found["participation_image"] < 60 and found["share_95_text"] > 0.35


def test_concepts_have_two_directions_of_one_cosine_and_frequencies_of_zipf(data):
    image, text = data.shared["image"], data.shared["text"]
    np.testing.assert_allclose(np.einsum("cd,cd->c", image, text), matched.COSINE, atol=1e-9)
    for directions in data.dictionaries.values():
        np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1)
    for codes in data.train.codes.values():
        rates = np.sort(codes.count_nonzero(axis=0))[::-1] / 4000
        assert abs(rates.sum() - 14) < 0.5 and rates[0] > 30 * np.median(rates) and rates[0] <= 0.52
    shared = [codes[:, : data.n_shared] != 0 for codes in data.train.codes.values()]
    assert (shared[0] != shared[1]).nnz == 0


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(data):
    assert matched.generate(1, 4000, 50).fingerprint == data.fingerprint != matched.generate(2, 4000, 50).fingerprint


def test_the_command_writes_an_npz_that_a_run_takes(tmp_path, monkeypatch):
    file = tmp_path / "matched.npz"
    monkeypatch.setattr("sys.argv", ["matched", "--into", str(file), "--pairs", "300"])
    matched.main()
    arrays, drawn = read_npz(file), matched.generate(1, 300, 2).train
    np.testing.assert_array_equal(arrays["text"], drawn.embeddings["text"])
    held = np.flatnonzero(drawn.codes["text"].toarray()[7])
    assert arrays["caption"][7].split() == [f"c{concept}" for concept in held]


def test_the_command_says_what_is_wrong_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["matched", "--into", str(tmp_path / "m.npz"), "--pairs", "1"])
    with pytest.raises(SystemExit, match="2"):
        matched.main()
    assert capsys.readouterr().err == "error: n_train: 1 found; at least 2 is needed\n"
    assert not list(tmp_path.iterdir())


def test_no_pairs_and_no_concepts_are_refused():
    with pytest.raises(ValueError, match="^n_shared: 0 found; at least 1 is needed"):
        matched.generate(1, 10, 10, n_shared=0)


def test_directions_found_is_the_mean_of_the_largest_cosines():
    latents = np.array([[2.0, 0.0], [-1.0, 0.0], [0.0, -3.0]])
    assert directions_found(np.array([[1.0, 0.0]]), latents) == 1
    assert directions_found(np.array([[3.0, 4.0], [0.0, 1.0]]), latents) == pytest.approx((0.6 + 0) / 2)
    with pytest.raises(ValueError, match="directions_found: directions: 1 rows are zero"):
        directions_found(np.ones((1, 2)), np.zeros((1, 2)))
