from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from xsae.alignment import Alignment
from xsae.evaluation.heterogeneity import direction_gap, gap_by_bin, modality_statistics

REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "coco_val2017_clip_vitb16_500pairs.npz"


def swapped() -> Alignment:
    """Latents 0, 1 of the reference fire as latents 1, 0 of the other; latent 2 is dead on both sides."""
    codes = np.array([[1, 0, 0], [2, 0, 0], [0, 1, 0], [0, 3, 0]], dtype=np.float32)
    return Alignment().fit(sparse.csr_array(codes), sparse.csr_array(codes[:, [1, 0, 2]]))


def test_direction_gap_by_hand():
    # Match 0: (3, 0) with row 1 of b, (3, 4): cosine .6, gap .4. Match 1: (0, 2) with row 0, (0, -1): cosine -1, gap 2.
    # Latent 2 is dead and unmatched: no row, and its zero direction is no error.
    gaps = direction_gap(np.array([[3, 0], [0, 2], [0, 0]]), np.array([[0, -1], [3, 4], [0, 0]]), swapped())
    expected = pd.DataFrame({"latent": [0, 1], "correlation": np.ones(2, np.float32), "gap": [0.4, 2.0]})
    pd.testing.assert_frame_equal(gaps, expected)


def test_no_gap_between_a_dictionary_and_its_permuted_copy():
    rng = np.random.default_rng(0)
    codes = sparse.csr_array((rng.random((200, 12)) < 0.3) * rng.random((200, 12)), dtype=np.float32)
    dictionary, order = rng.standard_normal((12, 5)).astype(np.float32), rng.permutation(12)
    gaps = direction_gap(dictionary, 3 * dictionary[order], Alignment().fit(codes, codes[:, order]))
    assert len(gaps) == 12
    np.testing.assert_allclose(gaps["gap"], 0.0, atol=1e-6)


def test_direction_gap_errors():
    with pytest.raises(ValueError, match=r"dictionary_a has shape \(3, 2\) and dictionary_b \(3, 4\)"):
        direction_gap(np.ones((3, 2)), np.ones((3, 4)), swapped())
    with pytest.raises(ValueError, match=r"expected \(3, d\)"):
        direction_gap(np.ones((2, 2)), np.ones((2, 2)), swapped())
    with pytest.raises(ValueError, match="matched rows of dictionary_b: 1 rows are zero or not finite"):
        direction_gap(np.ones((3, 2)), np.array([[1, 1], [0, 0], [1, 1]]), swapped())


def test_bins_hold_their_lower_edge_and_the_last_one_its_upper():
    gaps = pd.DataFrame(
        {
            "latent": range(8),
            "correlation": np.array([-0.1, 0.0, 0.19, 0.2, 0.6, 0.8, 0.9, 1.0], dtype=np.float32),
            "gap": [9.0, 1.0, 3.0, 0.5, 0.25, 0.1, 0.2, 0.6],
        }
    )
    table = gap_by_bin(gaps)
    assert table["bin"].tolist() == ["[0.0,0.2)", "[0.2,0.4)", "[0.4,0.6)", "[0.6,0.8)", "[0.8,1.0]"]
    assert table["n"].tolist() == [2, 1, 0, 1, 3]
    assert table["n_excluded"].tolist() == [1] * 5  # the correlation of -.1
    # bin 1: 1 and 3, mean 2, ddof 1: sqrt((1 + 1) / 1) = √2. bin 5: .1, .2, .6, mean .3, median .2,
    # ddof 1: sqrt((.04 + .01 + .09) / 2) = sqrt(.07)
    np.testing.assert_allclose(table["mean"], [2.0, 0.5, np.nan, 0.25, 0.3])
    np.testing.assert_allclose(table["std"], [2**0.5, np.nan, np.nan, np.nan, 0.07**0.5])
    np.testing.assert_allclose(table["median"], [2.0, 0.5, np.nan, 0.25, 0.2])


def test_bins_of_no_matches_and_bad_edges():
    empty = pd.DataFrame({"latent": [], "correlation": [], "gap": []}, dtype=float)
    table = gap_by_bin(empty, edges=(0, 0.5, 1))
    assert table["n"].tolist() == [0, 0]
    assert table["n_excluded"].tolist() == [0, 0]
    assert table["mean"].isna().all()
    for edges in ((0.0,), (0.0, 0.5, 0.5)):
        with pytest.raises(ValueError, match="increasing"):
            gap_by_bin(empty, edges=edges)


def test_modality_statistics_by_hand():
    # After unit norm: image (1,0), (0,1), (-1,0); text (0,1), (0,1), (.6,.8).
    # matched: 0, 1, -.6 -> .4 / 3. Sums: image (0, 1), text (.6, 2.8), product 2.8; mismatched (2.8 - .4) / 6 = .4.
    # means (0, 1/3) and (.2, 2.8/3): distance sqrt(.04 + .36).
    # image variance: x 1 + 0 + 1 = 2, y 4/9 + 1/9 + 1/9 = 2/3, uncorrelated: 75 % and 25 % -> 2 dimensions.
    # text lies on the line from (0, 1) to (.6, .8) -> 1 dimension.
    image, text = np.array([[2, 0], [0, 1], [-3, 0]]), np.array([[0, 1], [0, 5], [3, 4]], dtype=np.float32)
    assert modality_statistics({"image": image, "text": text}) == pytest.approx(
        {
            "matched_cosine": 0.4 / 3,
            "mismatched_cosine": 0.4,
            "modality_gap": 0.4**0.5,
            "dims_95_image": 2,
            "dims_95_text": 1,
            "share_95_image": 1.0,
            "share_95_text": 0.5,
        }
    )


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
