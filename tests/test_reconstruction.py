import numpy as np
import pytest
from scipy import sparse

from xsae.evaluation.reconstruction import reconstruction

X = np.array([[0, 0], [2, 0], [0, 0], [0, 4]], dtype=np.float32)
X_HAT = np.array([[0, 0], [1, 0], [0, 1], [0, 4]], dtype=np.float32)  # squared errors per row: 0, 1, 1, 0
CODES = sparse.csr_array(np.array([[1, 0, 0], [2, 3, 0], [0, 0, 0], [0, 1, 0]], dtype=np.float32))


def test_every_figure_by_hand():
    # batch 1: mean (1, 0), Σ‖x - mean‖² = 1 + 1 = 2, error 1 -> 1/2. batch 2: mean (0, 2), 4 + 4 = 8, error 1 -> 1/8.
    # all rows: mean (.5, 1); squared distances 1.25, 2.25 + 1 = 3.25, 1.25, .25 + 9 = 9.25, sum 15; error 2.
    assert reconstruction(X, X_HAT, codes=CODES, batch_size=2) == pytest.approx(
        {"loss": (1 / 2 + 1 / 8) / 2, "fvu": 2 / 15, "mse": 2 / 4, "l0": (1 + 2 + 0 + 1) / 4}
    )


def test_left_over_rows_join_the_last_batch_which_weighs_by_its_rows():
    # A fifth row (3, 2), reconstructed as (3, 0), error 4, joins batch 2: rows (0,0), (0,4), (3,2), mean (1, 2),
    # squared distances 1 + 4, 1 + 4, 4 + 0 = 14, error 1 + 0 + 4 = 5. Weighted: (2 · 1/2 + 3 · 5/14) / 5.
    x, x_hat = np.vstack([X, [[3, 2]]]), np.vstack([X_HAT, [[3, 0]]])
    codes = sparse.csr_array((5, 3), dtype=np.float32)
    assert reconstruction(x, x_hat, codes=codes, batch_size=2)["loss"] == pytest.approx((1 + 15 / 14) / 5)


def test_one_batch_makes_the_loss_the_fvu():
    for batch_size in (4, 1024):
        figures = reconstruction(X, X_HAT, codes=CODES, batch_size=batch_size)
        assert figures["loss"] == pytest.approx(figures["fvu"])


def test_the_mean_scores_one_and_the_embedding_itself_zero():
    x = np.random.default_rng(0).standard_normal((64, 5)).astype(np.float16)  # a store may hold float16
    codes = sparse.csr_array((64, 7), dtype=np.float32)
    mean = np.broadcast_to(x.mean(axis=0, dtype=np.float64), x.shape)
    assert reconstruction(x, mean, codes=codes)["fvu"] == pytest.approx(1.0)
    perfect = reconstruction(x, x, codes=codes, batch_size=16)
    assert perfect == {"loss": 0.0, "fvu": 0.0, "mse": 0.0, "l0": 0.0}


def test_a_stored_zero_is_no_active_latent():
    stored_zero = CODES.copy()
    stored_zero.data[stored_zero.indices == 0] = 0.0
    assert reconstruction(X, X_HAT, codes=stored_zero)["l0"] == 2 / 4


def test_errors_say_what_does_not_fit():
    with pytest.raises(ValueError, match=r"x has shape \(4, 2\) and x_hat \(3, 2\)"):
        reconstruction(X, X_HAT[:3], codes=CODES)
    with pytest.raises(ValueError, match="codes has 3 rows, x has 4"):
        reconstruction(X, X_HAT, codes=CODES[:3])
    with pytest.raises(ValueError, match=r"x is constant in rows 0\.\.3"):
        reconstruction(np.full((4, 2), 0.1), X_HAT, codes=CODES)
    with pytest.raises(ValueError, match=r"x is constant in rows 2\.\.3"):
        reconstruction(X[[0, 1, 0, 2]], X_HAT, codes=CODES, batch_size=2)
    with pytest.raises(ValueError, match="batches of 1; a variance needs at least 2"):
        reconstruction(X, X_HAT, codes=CODES, batch_size=1)
    with pytest.raises(ValueError, match="holds NaN or infinity"):
        reconstruction(X, X_HAT * np.nan, codes=CODES)
