"""Sums over the processes of a training, which in one process are the values themselves."""

import torch
import torch.distributed as dist
from torch import Tensor


def count() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def first() -> bool:
    """Whether this process is the one that speaks and writes."""
    return not dist.is_initialized() or dist.get_rank() == 0


def total(x: Tensor) -> Tensor:
    """The sum of x over the processes; no gradient passes."""
    if count() == 1:
        return x
    x = x.detach().clone()
    dist.all_reduce(x)
    return x


def share(x: Tensor, n_modalities: int) -> Tensor:
    """This process's rows of a batch (n_modalities * batch, d), the same pairs of every modality."""
    if count() == 1:
        return x
    return x.unflatten(0, (n_modalities, -1))[:, dist.get_rank() :: count()].flatten(0, 1)


@torch.no_grad()
def add_gradients(parameters: list[Tensor]) -> None:
    """Every gradient is its sum over the processes, in place; one message for all of them."""
    if count() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = total(torch.cat([gradient.flatten() for gradient in gradients]))
    for gradient, summed in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(summed.view_as(gradient))
