"""Where a training stands after an epoch, as bytes: what was cut off goes on as if it had not been.

Everything that the next epoch depends on is in it: weights, the best epoch's weights, the optimiser's memory, both
random generators and the losses so far. safetensors and JSON only; nothing is unpickled.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from services.core.errors import ModelFormatError

SCHEMA: Final = 1
_MAX_META_BYTES: Final = 4_000_000
_META: Final = "meta"

State = dict[str, Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """Where a training stands.

    Attributes:
        fingerprint: Of data, settings and network: it may go on with these only.
        epoch: Epochs that are done, ``>= 1``.
        best_epoch: The best of them.
        best_loss: Its validation loss; NaN without validation.
        losses: One row an epoch: its number and its figures.
        model: Weights.
        best: Weights of the best epoch.
        optimiser: Memory of the optimiser, by parameter and name.
        numpy_state: Of the generator of order and mirrors.
        torch_state: Of torch's generator, which draws dropout.
    """

    fingerprint: str
    epoch: int
    best_epoch: int
    best_loss: float
    losses: tuple[tuple[float, ...], ...]
    model: State
    best: State
    optimiser: dict[int, dict[str, Tensor]]
    numpy_state: Mapping[str, Any]
    torch_state: Tensor

    def to_bytes(self) -> bytes:
        """Write it; equal states give equal bytes."""
        tensors = {f"model.{name}": value for name, value in self.model.items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        for number, memory in self.optimiser.items():
            tensors |= {f"optimiser.{number}.{name}": value for name, value in memory.items()}
        tensors["random.torch"] = self.torch_state
        document = {
            "schema": SCHEMA,
            "fingerprint": self.fingerprint,
            "epoch": self.epoch,
            "best_epoch": self.best_epoch,
            # JSON has no infinity and no NaN.
            "best_loss": _written(self.best_loss),
            "losses": [[_written(value) for value in row] for row in self.losses],
            "numpy_state": self.numpy_state,
        }
        kept = {name: value.detach().cpu().contiguous() for name, value in sorted(tensors.items())}
        return safetensors.torch.save(kept, {_META: json.dumps(document, sort_keys=True)})

    @classmethod
    def from_bytes(cls, data: bytes) -> Checkpoint:
        """Read it.

        Raises:
            ModelFormatError: If it is no checkpoint, or one of another release's layout.
        """
        try:
            tensors = safetensors.torch.load(data)
            document = _meta(data)
            if document["schema"] != SCHEMA:
                raise ModelFormatError(f"a checkpoint must have schema {SCHEMA}, got {document['schema']!r}")
            optimiser: dict[int, dict[str, Tensor]] = {}
            for name in tensors:
                if name.startswith("optimiser."):
                    _, number, field = name.split(".", 2)
                    optimiser.setdefault(int(number), {})[field] = tensors[name]
            return cls(
                str(document["fingerprint"]),
                int(document["epoch"]),
                int(document["best_epoch"]),
                _read(document["best_loss"]),
                tuple(tuple(_read(value) for value in row) for row in document["losses"]),
                _below(tensors, "model."),
                _below(tensors, "best."),
                optimiser,
                dict(document["numpy_state"]),
                tensors["random.torch"],
            )
        except (safetensors.SafetensorError, LookupError, TypeError, ValueError, RuntimeError) as error:
            raise ModelFormatError(f"a checkpoint must be one that a training wrote, got {error}") from error


def _meta(data: bytes) -> dict[str, Any]:
    size = int.from_bytes(data[:8], "little")
    if not 0 < size <= min(len(data) - 8, _MAX_META_BYTES):
        raise ValueError(f"a header of {size} bytes")
    header = json.loads(data[8 : 8 + size])
    document = json.loads(header["__metadata__"][_META])
    if not isinstance(document, dict):
        raise TypeError("no object as its description")
    return document


def _below(tensors: Mapping[str, Tensor], prefix: str) -> State:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _written(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _read(value: float | str) -> float:
    return float(value)


def optimiser_memory(optimiser: torch.optim.Optimizer) -> dict[int, dict[str, Tensor]]:
    """What an optimiser remembers of each parameter: momenta, second moments, steps."""
    state: dict[int, dict[str, Any]] = optimiser.state_dict()["state"]
    return {
        number: {name: torch.as_tensor(value) for name, value in memory.items() if value is not None}
        for number, memory in state.items()
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, memory: Mapping[int, Mapping[str, Tensor]]) -> None:
    """Give an optimiser of the same kind and parameters its memory back."""
    whole = optimiser.state_dict()
    whole["state"] = {number: dict(of_one) for number, of_one in memory.items()}
    optimiser.load_state_dict(whole)
