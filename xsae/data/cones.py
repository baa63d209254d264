"""Where CLIP's embeddings lie, and how those of an encoder are moved there: images in one cone, captions in another.

In CLIP two images have a mean cosine of .52, two captions of .50, and the two means a cosine of .33. An encoder whose
embeddings lie elsewhere is moved by what its own weights can take up: a bias, and a product with its projection.
"""

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor, nn

_FLATTER = 0.8  # variances v of captions become v to this power
_NEAR = 0.7  # share of the images' mean in the direction that is wanted for captions; a cosine of .3 is left of it
_PRICE = 10.0  # of the variance of images along that direction, in units of their mean variance


@torch.inference_mode()
def place_images(visual: nn.Module, features: Tensor, seed: int) -> None:
    """Move a transformer's image features along one drawn direction, as far as they spread about their mean.

    That takes the place of their mean: two images then have a mean cosine of about a half. features (n, width): as
    they are before the projection.
    """
    shift = features.var(0).sum().sqrt() * _drawn(features.shape[1], seed).to(features)
    visual.ln_post.bias += shift - features.mean(0)


@torch.inference_mode()
def place_captions(model: open_clip.CLIP, captions: Tensor, images: Tensor, seed: int) -> None:
    """Spread captions over more dimensions, and move them likewise, along a direction near that of the images' mean.

    Of those within the text tower's reach it is one along which images hardly vary: no image is then nearer to all
    captions than others are. captions (n, d): as they are embedded; images (m, d): unit rows.
    """
    variances, axes = torch.linalg.eigh(torch.cov(captions.T))
    power = (_FLATTER - 1) / 2
    flatter = (axes * (variances / variances.max()).clamp(min=1e-5) ** power) @ axes.T
    captions, reach = captions @ flatter, model.text_projection @ flatter
    model.text_projection.copy_(reach)
    varied = torch.cov(images.T)
    near = _NEAR * F.normalize(images.mean(0), dim=0)
    wanted = near + (1 - near.square().sum()).sqrt() * _drawn(len(varied), seed).to(near)
    # the b of least ||b reach - wanted||^2 + _PRICE (the variance of images along b reach) / (their mean variance)
    price = torch.eye(len(varied)).to(varied) + _PRICE * varied / varied.diagonal().mean()
    bias = torch.linalg.solve(reach @ price @ reach.T, reach @ wanted)
    bias *= captions.var(0).sum().sqrt() / (bias @ reach).norm()
    model.ln_final.bias += bias - captions.mean(0) @ torch.linalg.pinv(reach)


def _drawn(dim: int, seed: int) -> Tensor:
    """A direction (dim,), the same in every process."""
    return F.normalize(torch.randn(dim, generator=torch.Generator().manual_seed(seed)), dim=0)
