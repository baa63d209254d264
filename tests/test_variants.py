import numpy as np
import pytest
from scipy.sparse import csr_array

from xsae.evaluation.retrieval import ranks
from xsae.evaluation.variants import FREQUENT, VARIANTS, firing_rates, variants

IMAGE = csr_array(np.array([[5.0, 1.0, 0.0], [5.0, 0.0, 2.0], [5.0, 0.0, 0.0]]))
TEXT = csr_array(np.array([[4.0, 2.0, 0.0], [4.0, 0.0, 1.0]]))
MEANS = {"image": np.array([5.0, 0.5, 1.0]), "text": np.array([4.0, 1.0, 0.5])}


def test_firing_rates_by_hand():
    assert firing_rates(IMAGE).tolist() == pytest.approx([1, 1 / 3, 1 / 3])
    stored_zero = csr_array(np.ones((4, 2)))
    stored_zero.data[stored_zero.indices == 0] = 0.0  # does not fire
    assert firing_rates(stored_zero).tolist() == [0, 1]
    with pytest.raises(ValueError, match="codes has 0 rows"):
        firing_rates(csr_array((0, 3)))


def test_the_three_variants_by_hand():
    found = variants({"image": IMAGE, "text": TEXT}, MEANS, firing_rates(IMAGE) > FREQUENT)
    assert tuple(found) == VARIANTS
    assert (found["raw"]["image"] != IMAGE).nnz == 0
    assert found["without frequent"]["image"].toarray().tolist() == [[1, 0], [0, 2], [0, 0]]
    assert found["without frequent"]["text"].toarray().tolist() == [[2, 0], [0, 1]]
    assert found["centred"]["image"].tolist() == [[0, 0.5, -1], [0, -0.5, 1], [0, -0.5, -1]]
    assert found["centred"]["text"].dtype == np.float32


def test_a_latent_that_never_sleeps_hides_the_partner_until_it_is_left_out_or_centred():
    rng = np.random.default_rng(0)
    others = rng.exponential(size=(50, 20)) * (rng.random((50, 20)) < 0.2)
    always = {m: 20 + 10 * rng.random((50, 2)) for m in ("a", "b")}  # large, and says nothing
    codes = {m: csr_array(np.hstack([always[m], others])) for m in always}
    means = {m: np.asarray(c.mean(axis=0)) for m, c in codes.items()}
    found = variants(codes, means, firing_rates(codes["a"]) > FREQUENT)
    first = {name: np.mean(ranks(v["a"], v["b"], range(50), range(50))[0] == 1) for name, v in found.items()}
    assert first["without frequent"] > 0.9 > 0.5 > first["raw"], first


def test_codes_without_a_common_width_are_refused():
    with pytest.raises(ValueError, match=r"variants: widths \[2, 3\] found"):
        variants({"image": IMAGE, "text": TEXT[:, :2]}, MEANS, np.zeros(3, bool))
