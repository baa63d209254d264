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
]
