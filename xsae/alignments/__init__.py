"""Ways to say what a latent of one SAE means in the latents of another: one contract, from one partner to all.

| alignment | partners of a latent | keeps what a latent means | source |
|---|---|---|---|
| `hungarian` | 1 | yes | the paper: `xsae.alignment.Alignment` |
| `greedy` | 1 | yes | the largest correlation first |
| `decoder_cosine` | 1 | yes | Hungarian on the cosines of directions |
| `sinkhorn` | ≤ 4 | yes | entropic optimal transport (Cuturi 2013), its largest entries |
| `partners` | ≤ 4 | yes | ours: ridge regression both ways on one sparse support |
| `procrustes`, `cca`, `ridge` | all | **no** | upper bounds: every latent becomes a mixture of all |

None of them changes a weight of an autoencoder, so reconstruction stays what it is.
"""

import numpy as np

from xsae.alignments.base import LinearAlignment
from xsae.alignments.dense import CCA, Procrustes, Ridge
from xsae.alignments.one_to_one import DecoderCosine, Greedy, Hungarian
from xsae.alignments.partners import Partners
from xsae.alignments.transport import Sinkhorn

__all__ = [
    "CCA",
    "DecoderCosine",
    "Greedy",
    "Hungarian",
    "LinearAlignment",
    "Partners",
    "Procrustes",
    "Ridge",
    "Sinkhorn",
    "every",
]


def every(reference_directions: np.ndarray, other_directions: np.ndarray) -> dict[str, LinearAlignment]:
    """All of them by name, not fitted, as they are compared. Dictionaries (L_reference, d) and (L_other, d)."""
    return {
        "hungarian": Hungarian(),
        "greedy": Greedy(),
        "decoder_cosine": DecoderCosine(reference_directions, other_directions),
        "sinkhorn": Sinkhorn(),
        "partners_1": Partners(1),
        "partners": Partners(),
        "partners_both_sides": Partners(both_sides=True),
        "procrustes": Procrustes(),
        "cca": CCA(),
        "ridge": Ridge(),
    }
