import numpy as np
import pytest
from scipy.sparse import csr_array

from xsae.alignment import Alignment
from xsae.evaluation.matches import match_statistics


def test_figures_of_matches_by_hand():
    rng = np.random.default_rng(0)
    codes = csr_array(rng.exponential(size=(400, 5)) * (rng.random((400, 5)) < 0.3) * [1, 1, 1, 1, 0])  # 4: dead
    order = [2, 0, 1, 3, 4]
    other = csr_array(codes.toarray()[:, order] * [1, 1, 1, 0, 0])  # one more is dead on the other side
    paired, shuffled = Alignment().fit(codes, other), Alignment().fit(codes, other[rng.permutation(400)])
    figures = match_statistics(paired, shuffled, codes, other, ("picture", "sentence"))
    assert figures["latents"] == 5 and figures["alive_picture"] == 4 and figures["alive_sentence"] == 3
    assert figures["matched"] == 3 and figures["mean_correlation"] == pytest.approx(1, abs=1e-6)
    assert figures["share_correlation_above_0.6"] == 1 and figures["share_below_noise_floor"] == 0
    assert figures["noise_floor"] < 0.2
    matches = paired.matches()
    assert {(row.latent, row.partner) for row in matches.itertuples()} == {(0, 1), (1, 2), (2, 0)}
    assert (matches["correlation"] > 0.999).all()


def test_dead_codes_have_no_statistics():
    none = csr_array((10, 3))
    dead = Alignment().fit(none, none)
    with pytest.raises(ValueError, match="has no match"):
        match_statistics(dead, dead, none, none)
