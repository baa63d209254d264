"""How much of the embeddings an SAE keeps, and with how many latents (paper, Method: the training loss; column MSE)."""

import numpy as np
from scipy import sparse


def reconstruction(
    x: np.ndarray, x_hat: np.ndarray, *, codes: sparse.csr_array, batch_size: int = 1024
) -> dict[str, float]:
    """Reconstruction figures of one modality.

    Args:
        x: (n, d) embeddings as the SAE sees them (unit norm, unless its config says otherwise).
        x_hat: (n, d) reconstructions.
        codes: (n, L) sparse codes that made them.
        batch_size: rows per batch of `loss`. Left-over rows join the last batch: a mean over a few rows would take a
            large part of their variance with it, and a single row has none.

    Returns:
        `loss`: the paper's loss: Σ‖x̂ - x‖² / Σ‖x - mean(x)‖² of each batch, averaged with the batches' rows as weights.
        `fvu`: the same ratio over all rows with their one mean (fraction of variance unexplained).
        `mse`: mean over rows of ‖x̂ - x‖², summed (not averaged) over the d dimensions.
        `l0`: mean number of non-zero latents in a row.

    Raises:
        ValueError: shapes differ, x is constant over all rows or within a batch, or a value is not finite.
    """
    if x.ndim != 2 or x.shape != x_hat.shape:
        raise ValueError(f"reconstruction: x has shape {x.shape} and x_hat {x_hat.shape}; both must be the same (n, d)")
    if codes.shape[0] != len(x):
        raise ValueError(f"reconstruction: codes has {codes.shape[0]} rows, x has {len(x)}; they must be the same rows")
    if len(x) == 0 or batch_size < 2:
        raise ValueError(f"reconstruction: {len(x)} rows in batches of {batch_size}; a variance needs at least 2")

    mean = x.mean(axis=0, dtype=np.float64)
    starts = np.arange(0, max(len(x) - batch_size, 0) + 1, batch_size)
    weighted_loss, squared_error, variance = 0.0, 0.0, 0.0
    for start, stop in zip(starts, [*starts[1:], len(x)], strict=True):
        batch = x[start:stop].astype(np.float64)
        if (batch == batch[0]).all():
            raise ValueError(f"reconstruction: x is constant in rows {start}..{stop - 1}; it must vary")
        batch_error = np.square(x_hat[start:stop] - batch).sum()
        weighted_loss += (stop - start) * batch_error / np.square(batch - batch.mean(axis=0)).sum()
        squared_error += batch_error
        variance += np.square(batch - mean).sum()
    if not np.isfinite(squared_error + variance):
        raise ValueError("reconstruction: x or x_hat holds NaN or infinity; both must be finite")
    return {
        "loss": float(weighted_loss / len(x)),
        "fvu": float(squared_error / variance),
        "mse": float(squared_error / len(x)),
        "l0": float(codes.count_nonzero() / len(x)),
    }
