"""Weights and the checkpoint of a training that goes on: tensors and JSON, nothing that is run."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

from tests.fuzz.harness import cut, instrumented, refused, run

with instrumented(__name__):
    from services.core.models.state import load_state
    from services.core.training.checkpoint import Checkpoint

NAME = "weights"


def check(data: bytes) -> None:
    way, body = cut(data, 2)
    if way:
        refused(lambda: load_state(_network(), body))
        return
    found = refused(lambda: Checkpoint.from_bytes(body))
    if found is not None:
        assert Checkpoint.from_bytes(found.to_bytes()).fingerprint == found.fingerprint


@cache
def _network() -> Any:
    from torch import nn

    network = nn.Linear(2, 2)
    for one in network.parameters():
        nn.init.zeros_(one)
    return network


def seeds() -> dict[str, bytes]:
    import torch

    from services.core.models.state import save_state

    whole = Checkpoint(
        fingerprint="f",
        epoch=1,
        best_epoch=0,
        best_loss=0.5,
        losses=((0.5, 0.6),),
        model={"w": torch.zeros(2)},
        best={"w": torch.ones(2)},
        optimiser={0: {"step": torch.tensor(1.0)}},
        numpy_state={"bit_generator": "PCG64"},
        torch_state=torch.zeros(4, dtype=torch.uint8),
    )
    return {"checkpoint": b"\x00" + whole.to_bytes(), "weights": b"\x01" + save_state(_network())}


if __name__ == "__main__":
    sys.exit(run(NAME, check))
