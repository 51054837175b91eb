"""The processes that ``torchrun`` has started, as the training sees them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import torch
import torch.distributed as dist
from torch import Tensor

from services.core.errors import InvalidInputError
from services.core.training.peers import ALONE, Peers

_NAMES: Final = ("RANK", "WORLD_SIZE", "LOCAL_RANK")


class TorchPeers:
    """Processes that speak through ``torch.distributed``; see :func:`started_together`."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank: Final = rank
        self.size: Final = size

    def sum_in_place(self, values: Tensor) -> None:
        """Add up over all processes."""
        dist.all_reduce(values)


@contextmanager
def started_together(environment: Mapping[str, str] = os.environ) -> Iterator[tuple[Peers, str]]:
    """Join the processes that were started together with this one.

    Args:
        environment: As ``torchrun`` leaves it: ``RANK``, ``WORLD_SIZE``, ``LOCAL_RANK``, and where to meet.

    Yields:
        The processes, and the device of this one: ``cuda:N`` where there is a GPU for each, else ``cpu``. A process
        that was started by itself is alone.

    Raises:
        InvalidInputError: If the numbers are none, or do not fit each other.
    """
    if "WORLD_SIZE" not in environment:
        yield ALONE, "cuda" if torch.cuda.is_available() else "cpu"
        return
    try:
        rank, size, local = (int(environment[name]) for name in _NAMES)
    except (KeyError, ValueError) as error:
        got = {name: environment.get(name) for name in _NAMES}
        raise InvalidInputError(f"torchrun must set whole numbers for {', '.join(_NAMES)}, got {got}") from error
    if not (0 <= rank < size and local >= 0):
        raise InvalidInputError(
            f"RANK must lie in 0..WORLD_SIZE - 1 and LOCAL_RANK from 0, got {rank}, {size}, {local}"
        )
    gpu = torch.cuda.is_available() and local < torch.cuda.device_count()
    if gpu:
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if gpu else "gloo", rank=rank, world_size=size)
    try:
        yield TorchPeers(rank, size), f"cuda:{local}" if gpu else "cpu"
    finally:
        dist.destroy_process_group()
