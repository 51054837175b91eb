"""Several processes that train one network together, each on its share of every batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import torch
from torch import Tensor, nn


class Peers(Protocol):
    """The processes of one training, as one of them sees them.

    All of them are given the same data, settings and starting weights, so that what each does by itself, such as the
    order of the images, comes out alike.
    """

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        ...

    @property
    def size(self) -> int:
        """How many there are, ``>= 1``."""
        ...

    def sum_in_place(self, values: Tensor) -> None:
        """Put the sum over all processes in place of a tensor; each waits until all have called."""
        ...


class Alone:
    """One process that trains by itself."""

    rank: Final = 0
    size: Final = 1

    def sum_in_place(self, values: Tensor) -> None:
        """Nothing to add."""


ALONE: Final = Alone()


def sum_gradients(parameters: Sequence[nn.Parameter], share: float, peers: Peers) -> None:
    """Give every process the gradient of the whole batch.

    Args:
        parameters: What is trained.
        share: Of the batch that this process has had, 0 to 1; the shares of all add up to 1.
        peers: The others.
    """
    if peers.size == 1:
        return
    # What had no gradient here may have had one elsewhere, and all must send alike.
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients]) * share
    peers.sum_in_place(flat)
    start = 0
    for gradient in gradients:
        gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
        start += gradient.numel()


@torch.no_grad()
def average_norms(model: nn.Module, peers: Peers) -> None:
    """Give every process the mean of the running figures that batch norm has taken of its own share."""
    if peers.size == 1:
        return
    for name, figures in model.named_buffers():
        if figures.is_floating_point() and name.rsplit(".", 1)[-1] in ("running_mean", "running_var"):
            peers.sum_in_place(figures)
            figures.div_(peers.size)
