from pathlib import Path

import numpy as np
import pytest

from xsae.data.own import from_arrays
from xsae.evaluation import geometry
from xsae.evaluation.geometry import mean_similarity, modality_statistics, pattern_cosine

REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "coco_val2017_clip_vitb16_500pairs.npz"


def test_modality_statistics_by_hand():
    # After unit norm: image (1,0), (0,1), (-1,0); text (0,1), (0,1), (.6,.8).
    # matched: 0, 1, -.6 -> .4 / 3. Sums: image (0, 1), text (.6, 2.8), product 2.8; mismatched (2.8 - .4) / 6 = .4.
    # means (0, 1/3) and (.2, 2.8/3): distance sqrt(.04 + .36).
    # image variance: x 1 + 0 + 1 = 2, y 4/9 + 1/9 + 1/9 = 2/3, uncorrelated: 75 % and 25 % -> 2 dimensions.
    # text lies on the line from (0, 1) to (.6, .8) -> 1 dimension.
    image, text = np.array([[2, 0], [0, 1], [-3, 0]]), np.array([[0, 1], [0, 5], [3, 4]], dtype=np.float32)
    # Mean cosine of two rows: image (0 - 1 + 0) / 3, text (1 + .8 + .8) / 3. Image variances 2 and 2/3.
    found = modality_statistics({"image": image, "text": text})
    d_prime, pattern = found.pop("d_prime"), found.pop("pattern_cosine")
    expected = {
        "matched_cosine": 0.4 / 3,
        "mismatched_cosine": 0.4,
        "modality_gap": 0.4**0.5,
        "dims_95_image": 2,
        "dims_95_text": 1,
        "share_95_image": 1.0,
        "share_95_text": 0.5,
        "top10_image": 1.0,
        "top10_text": 1.0,
        "participation_image": (8 / 3) ** 2 / (4 + 4 / 9),
        "participation_text": 1.0,
        "within_image": -1 / 3,
        "within_text": 2.6 / 3,
    }
    assert found == pytest.approx(expected)
    matched, others = [0, 1, -0.6], [0, 0.6, 1, 0.8, 0, 0]
    assert d_prime == pytest.approx((np.mean(matched) - 0.4) / np.sqrt((np.var(matched) + np.var(others)) / 2))
    assert -1 <= pattern <= 1


def test_the_mean_similarity_is_that_of_different_rows():
    assert mean_similarity(np.array([[1.0, 0], [0, 1], [0.6, 0.8]])) == pytest.approx((0 + 0.6 + 0.8) / 3)


def test_patterns_have_the_cosine_of_the_directions_that_are_shared():
    # A shared signal moves images along e0 and texts along another direction; both have noise of their own elsewhere.
    rng = np.random.default_rng(0)
    signal, noise = rng.standard_normal((4000, 1)), 0.3 * rng.standard_normal((2, 4000, 6))
    for cosine in (1.0, 0.6, -0.5):
        direction = np.array([cosine, np.sqrt(1 - cosine**2), 0, 0, 0, 0])
        first, second = signal * np.eye(6)[0] + noise[0], signal * direction + noise[1]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(geometry, "PATTERNS", 1)
            assert pattern_cosine(first, second) == pytest.approx(cosine, abs=0.03)
            assert pattern_cosine(second, first) == pytest.approx(cosine, abs=0.03)


def test_modality_statistics_equal_the_n_by_n_way_and_ignore_rotations():
    rng = np.random.default_rng(0)
    image, text = rng.standard_normal((40, 6)) * [4, 3, 2, 1, 0.1, 0.1] + 1, rng.standard_normal((40, 6))
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (image, text)]
    cosines = unit[0] @ unit[1].T
    found = modality_statistics({"image": image, "sound": text})
    assert "dims_95_sound" in found and "share_95_sound" in found
    assert found["mismatched_cosine"] == pytest.approx(cosines[~np.eye(40, dtype=bool)].mean())
    variance = np.linalg.svd(unit[0] - unit[0].mean(axis=0), compute_uv=False) ** 2
    assert variance[: found["dims_95_image"]].sum() >= 0.95 * variance.sum()
    assert variance[: found["dims_95_image"] - 1].sum() < 0.95 * variance.sum()
    rotation = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    assert modality_statistics({"image": image @ rotation, "sound": text @ rotation}) == pytest.approx(found)


def test_a_stores_statistics_are_of_held_out_pairs_that_share_no_embedding(tmp_path):
    rng = np.random.default_rng(0)
    image = rng.standard_normal((40, 6)).astype(np.float32)
    text = np.repeat(image, 2, axis=0) + 0.01 * rng.standard_normal((80, 6)).astype(np.float32)
    store = from_arrays(tmp_path / "s", image=image, text=text, image_index=np.repeat(np.arange(40), 2), held_out=0.5)
    found, test = geometry.statistics(store, "text"), store.distinct("test")
    assert found["n_pairs"] == len(test) == 20 and found["R@1 image_to_text"] == found["R@1 text_to_image"] == 1
    x = {m: store[m][test[m].to_numpy()] for m in ("image", "text")}
    assert modality_statistics(x).items() <= found.items()


def test_modality_statistics_errors():
    varied = np.eye(3)
    with pytest.raises(ValueError, match=r"image has shape \(3, 3\) and text \(2, 3\)"):
        modality_statistics({"image": varied, "text": varied[:2]})
    with pytest.raises(ValueError, match="at least 2 pairs"):
        modality_statistics({"image": varied[:1], "text": varied[:1]})
    with pytest.raises(ValueError, match="sound is one direction in all 3 rows"):
        modality_statistics({"image": varied, "sound": np.full((3, 3), 0.1)})
    with pytest.raises(ValueError, match=r"image: 1 rows are zero or not finite \(first: 2\)"):
        modality_statistics({"image": varied * [[1], [1], [0]], "text": varied})


@pytest.mark.skipif(not REAL.exists(), reason=f"real CLIP embeddings not at {REAL}")
def test_modality_statistics_of_real_clip_embeddings():
    with np.load(REAL, allow_pickle=False) as data:
        found = modality_statistics({name: data[name] for name in ("image", "text")})
    assert found["matched_cosine"] == pytest.approx(0.310, abs=0.005)
    assert found["mismatched_cosine"] == pytest.approx(0.162, abs=0.005)
    assert found["modality_gap"] == pytest.approx(0.851, abs=0.005)
