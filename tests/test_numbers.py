"""Numbers that nothing can be learned from, or with: one line each, before anything is trained."""

import math
from dataclasses import replace

import numpy as np
import pytest

from xsae.methods import train_saes
from xsae.sae import SAEConfig, SparseAutoencoder
from xsae.training import TrainingConfig

SMALL = TrainingConfig(latents=64, k=2, epochs=20, batch_size=64, learning_rate=5e-3)
X = np.random.default_rng(0).standard_normal((40, 4)).astype(np.float32)
ROWS = np.arange(40)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight_decay": math.inf}, "weight_decay: inf found; a number from 0 to below inf is needed"),
        ({"weight_decay": math.nan}, "weight_decay: nan found"),
        ({"weight_decay": -1.0}, "weight_decay: -1.0 found"),
        ({"weight_decay": 2000.0}, "weight_decay: 2000 found; at a learning rate of 0.0005 a step takes a weight away"),
        ({"learning_rate": 0.0}, "learning_rate: 0.0 found; a number above 0 and below inf is needed"),
        ({"learning_rate": math.nan}, "learning_rate: nan found"),
        ({"learning_rate": "5e-4"}, "learning_rate: '5e-4' found; a number"),
        ({"weight_decay": None}, "weight_decay: None found"),
        ({"learning_rate": -math.inf}, "learning_rate: -inf found"),
        ({"clip_norm": 0.0}, "clip_norm: 0.0 found"),
        ({"clip_norm": math.nan}, "clip_norm: nan found"),
        ({"warmup": 1.0}, "warmup: 1.0 found; a number from 0 to below 1 is needed"),
        ({"warmup": -0.1}, "warmup: -0.1 found"),
        ({"aux_coefficient": math.inf}, "aux_coefficient: inf found"),
        ({"iso_energy": math.nan}, "iso_energy: nan found"),
        ({"group_sparse": -1e-9}, "group_sparse: -1e-09 found"),
        ({"latents": -1}, "latents: -1 found; an int of at least 0 is needed"),
        ({"latents": 8.0}, "latents: 8.0 found; an int"),
        ({"k": 0}, "k: 0 found; an int of at least 1 is needed"),
        ({"k": True}, "k: True found"),
        ({"epochs": 0}, "epochs: 0 found"),
        ({"epochs": 1.5}, "epochs: 1.5 found"),
        ({"epochs": "3"}, "epochs: '3' found"),
        ({"patience": -1}, "patience: -1 found"),
        ({"max_steps": 0}, "max_steps: 0 found"),
        ({"batch_size": 1}, "batch_size: 1 found; an int of at least 2"),
        ({"batch_size": math.inf}, "batch_size: inf found"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_one_line(settings, message):
    with pytest.raises(ValueError, match=message) as error:
        TrainingConfig(**settings)
    assert "\n" not in str(error.value)


def spoiled(value, row=3, dtype=np.float32):
    x = X.astype(dtype)
    x[row] = value
    return x


@pytest.mark.parametrize("bias_start", ["mean", "zero"])
@pytest.mark.parametrize(
    ("arrays", "rows", "message"),
    [
        ({"text": np.ones((40, 4), np.float32)}, {}, "text: all 40 rows are equal; what does not vary has no features"),
        ({"text": np.outer(np.arange(1.0, 41), X[0])}, {}, "text: all 40 rows are equal"),
        ({"text": X[:, :1]}, {}, r"text: float32 of shape \(40, 1\) found; .* d at least 2 is needed"),
        ({"text": X[:, 0]}, {}, r"text: float32 of shape \(40,\) found"),
        ({"text": X[None]}, {}, r"text: float32 of shape \(1, 40, 4\) found"),
        ({"text": X[:, :3]}, {}, r"arrays: dimensions differ \(image 4, text 3\)"),
        ({"text": (9 * X).astype(int)}, {}, "text: int64 of shape"),
        ({"text": X.astype(complex)}, {}, "text: complex128 of shape"),
        ({"text": X.astype(">f4")}, {}, "text: >f4 of shape"),
        ({"text": X.astype(np.longdouble)}, {}, "text: .* of float16, float32 or float64"),
        ({"text": X.astype(str)}, {}, "text: <U"),
        ({"text": spoiled(np.nan)}, {}, "text: row 3 is zero, NaN, infinite or too long for float32"),
        ({"text": spoiled(np.inf)}, {}, "text: row 3 is"),
        ({"text": spoiled(0)}, {}, "text: row 3 is zero"),
        ({"text": spoiled(1e30)}, {}, "text: row 3 is .* too long"),
        ({"text": spoiled(1e300, dtype=np.float64)}, {}, "text: row 3 is .* too long"),
        ({"image": spoiled(np.nan, 39)}, {}, "image: row 39 is"),
        ({}, {"text": ROWS[:39]}, r"arrays: pairs differ \(image 40, text 39\)"),
        ({}, {"text": ROWS + 1}, "rows: text: row numbers .n_pairs,. from 0 to 39 are needed"),
        ({}, {"text": ROWS - 1}, "rows: text: row numbers"),
        ({}, {"text": ROWS.astype(float)}, "rows: text: row numbers"),
        ({}, {"text": ROWS[:, None]}, "rows: text: row numbers"),
        ({}, {"text": ROWS > 3}, "rows: text: row numbers"),
        ({}, {"image": ROWS[:1], "text": ROWS[:1]}, "all 1 rows are equal"),
        ({}, {"image": ROWS[:0], "text": ROWS[:0]}, "0 rows are equal"),
        ({}, {"image": ROWS * 0, "text": ROWS}, "image: all 1 rows are equal"),
        ({}, {"audio": ROWS}, "rows: of image, text, audio found; image, text needed"),
    ],
)
def test_data_that_cannot_be_learned_from_are_one_line(arrays, rows, message, bias_start, monkeypatch):
    monkeypatch.setattr("xsae.methods.fit", lambda *_: pytest.fail("it was trained on"))
    arrays, rows = {"image": X, "text": X} | arrays, {"image": ROWS, "text": ROWS} | rows
    with pytest.raises(ValueError, match=message) as error:
        train_saes("separated", arrays, rows, replace(SMALL, bias_start=bias_start), 1)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("pairs", "patience"), [(2, 1), (2, 3)])
def test_too_few_pairs_beside_those_set_aside_are_one_line(pairs, patience):
    """It looked for a first batch for ever."""
    arrays, rows = {"image": X, "text": X}, {"image": ROWS[:pairs], "text": ROWS[:pairs]}
    with pytest.raises(ValueError, match="rows: 1 pairs to train on beside those set aside; at least 2 are needed"):
        train_saes("separated", arrays, rows, replace(SMALL, patience=patience), 1)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_any_float_type_trains_as_float32(dtype):
    """float64 stopped at the first product, of two types."""
    rows, config = {"image": ROWS, "text": ROWS}, replace(SMALL, epochs=2)
    as_given = {m: matrix.astype(dtype) for m, matrix in {"image": X, "text": X[::-1]}.items()}
    as_float32 = {m: matrix.astype(np.float32) for m, matrix in as_given.items()}
    found = [
        train_saes("separated", arrays, rows, config, 1)[0]["text"].directions for arrays in (as_given, as_float32)
    ]
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (spoiled(np.nan), "x: row 3 is NaN, infinite or too long for float32"),
        (spoiled(np.nan, 39), "x: row 39 is NaN"),
        (spoiled(-np.inf), "x: row 3 is NaN"),
        (spoiled(1e30), "x: row 3 is .* too long for float32"),
        (spoiled(1e300, dtype=np.float64), "x: row 3 is .* too long for float32"),
        (spoiled(np.nan, dtype=np.float16), "x: row 3 is NaN"),
        (X[:, 0], r"x: shape \(40,\) found; \(n, 4\) is what"),
        (X[None], r"x: shape \(1, 40, 4\) found"),
        (X[:, :3], r"x: shape \(40, 3\) found"),
        (X.astype(complex), "x: complex64|x: complex128 found; real numbers"),
        (X.astype(str), "x: <U32 found; real numbers"),
        (X.astype(object), "x: object found"),
        (X > 0, "x: bool found"),
        (None, "x: object found"),
        (3.0, r"x: shape \(\) found"),
    ],
)
def test_embeddings_that_have_no_code_are_one_line(x, message):
    """NaN became the codes of a latent, infinity and 1e30 those of a zero row."""
    with pytest.raises(ValueError, match=message) as error:
        SparseAutoencoder(SAEConfig(4, 8, 2)).transform(x, batch_size=16)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ">f4", np.int64])
def test_any_real_numbers_have_the_codes_of_their_float32(dtype):
    sae, x = SparseAutoencoder(SAEConfig(4, 8, 2)), (100 * X).astype(dtype)
    assert (sae.transform(x) != sae.transform(x.astype(np.float32))).nnz == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dim": 4.0}, "dim: 4.0 found; an int of at least 1 is needed"),
        ({"dim": math.nan}, "dim: nan found"),
        ({"latents": "8"}, "latents: '8' found"),
        ({"latents": None}, "latents: None found"),
        ({"latents": -8}, "latents: -8 found"),
        ({"k": True}, "k: True found"),
        ({"k": 0}, "k: 0 found"),
    ],
)
def test_a_size_that_is_none_is_one_line(settings, message):
    with pytest.raises(ValueError, match=message) as error:
        SAEConfig(**{"dim": 4, "latents": 8, "k": 2} | settings)
    assert "\n" not in str(error.value)
