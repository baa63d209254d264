"""What others have proposed for one order of latents in all modalities, each by its own paper's equations.

| method | its own | arXiv |
|---|---|---|
| `shared_encoder` | one encoder, a dictionary and a decoder bias per modality | `vl_sae` without distances |
| `vl_sae` | the same with `activations.Distance` for encoder | Shen et al. 2025, 2510.21323 |
| `sparc` | one set of latents for a pair; its codes reconstruct each other too | Nasiri-Sarvi et al. 2025, 2507.06265 |
| `masked_group_sparse` | a bias per modality; latents hidden at random | Kaushik et al. 2026, 2601.20028 |

Here is what is theirs alone; `methods.METHODS` puts it together, and docs/methods.md says what we do otherwise.
"""

from collections.abc import Iterator, Sequence
from itertools import permutations

import numpy as np
import torch
from torch import Tensor

from xsae.activations import Code
from xsae.compute.kernels import encode_at
from xsae.sae import SparseAutoencoder
from xsae.training import normalised_loss

HIDDEN = 0.2  # share of the latents that a mask hides: the p of the paper's image and text experiments
OUT_OF_REACH = -1e9  # a pre-activation that no activation lets through; minus infinity times 0 would be NaN


def global_topk(
    saes: Sequence[SparseAutoencoder], x: Sequence[Tensor], _: np.random.Generator | None
) -> Iterator[Code]:
    """The codes of pairs by SPARC's Global TopK: one set of latents for all modalities of a pair.

        S     = the k largest of sum_m pre_m,        pre_m = W_enc,m (x_m - b_dec,m) + b_enc,m
        z_m,j = ReLU(pre_m,j) for j in S, else 0

    saes, x: an autoencoder and inputs (n, d) per modality, row i of each being one pair. Only training knows pairs: at
    use each embedding has the k largest of its own pre-activations. So does the authors' code before it evaluates
    retrieval, as S would tell a query its answer: by S it has a recall of .99.
    """
    pairs = list(zip(saes, x, strict=True))
    with torch.no_grad():
        pre = sum(sae.activation.pre(inputs - sae.offset, sae.encoder, sae.encoder_bias) for sae, inputs in pairs)
        latents = pre.topk(saes[0].config.k, dim=1, sorted=False).indices
    for sae, inputs in pairs:
        yield encode_at(inputs - sae.offset, sae.encoder, sae.encoder_bias, latents), latents, 0.0


def cross_reconstruction(
    codes: Sequence[tuple[Tensor, Tensor]], saes: Sequence[SparseAutoencoder], x: Sequence[Tensor]
) -> Tensor:
    """SPARC's cross-reconstruction loss: the code of each modality, decoded to every other one.

        mean over ordered pairs (s, t) of different modalities of ||W_dec,t^T z_s + b_dec,t - x_t||^2 / ||x_t - mean||^2

    The normalisation is our loss's; theirs divides by ||x_t||^2. Their weight of it is 1. Of several processes, this
    one's part.
    """
    every = [normalised_loss(saes[t].decode(*codes[s]), x[t]) for s, t in permutations(range(len(saes)), 2)]
    return torch.stack(every).mean()


def masked(saes: Sequence[SparseAutoencoder], x: Sequence[Tensor], generator: np.random.Generator) -> Iterator[Code]:
    """The codes of a batch under cross-modal random masking: the same latents are hidden from all modalities.

        z_m = TopK(r * ReLU(pre_m)),        r_j = 0 with probability p = .2, else 1, drawn anew at every step

    Codes are chosen from what the mask leaves, so other latents get their turn; at use nothing is hidden.
    """
    hidden = torch.from_numpy(generator.random(saes[0].config.latents) < HIDDEN).to(x[0].device)
    for sae, inputs in zip(saes, x, strict=True):
        bias = sae.encoder_bias.masked_fill(hidden, OUT_OF_REACH)
        yield sae.activation(inputs - sae.offset, sae.encoder, bias, True)


@torch.no_grad()
def start_decoders(saes: Sequence[SparseAutoencoder], seed: int) -> None:
    """Start dictionaries (L, d) as VL-SAE does, in place: each uniform within 1 / sqrt(L), as nn.Linear's weights."""
    for place, sae in enumerate(saes):
        bound = sae.config.latents**-0.5
        sae.dictionary.uniform_(-bound, bound, generator=torch.Generator().manual_seed(seed + 1 + place))
