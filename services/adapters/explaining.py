"""How an explanation goes over the wire, for both of its ends: parameters there, figures back.

Imports neither gRPC nor Triton, since the model's end lives in a process that has neither.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.adapters.ports import ExplanationRequest, ExplanationStep
from services.core.errors import InvalidInputError

#: Order of the numbers in the output ``FIGURES``.
FIGURES: Final = (
    "probability",
    "passes",
    "stability",
    "deletion_auc",
    "insertion_auc",
    "random_auc",
    "transplant",
    "seconds",
    "flags",
)

#: Reasons of a refusal that another server, or a later try, may not repeat.
BUSY: Final = "busy"
CANCELLED: Final = "cancelled"

_FINAL: Final = 1
_PARTIAL: Final = 2


def parse_request(parameters: Mapping[str, object]) -> ExplanationRequest:
    """Read the parameters of a request.

    Args:
        parameters: By name, as they came.

    Raises:
        InvalidInputError: If one is missing, unknown, of another type, or out of its range.
    """
    known = [field.name for field in dataclasses.fields(ExplanationRequest)]
    unknown = sorted(set(parameters) - set(known))
    if unknown or "method" not in parameters:
        raise InvalidInputError(f"parameters must be method and any of {', '.join(known)}, got {sorted(parameters)}")
    default = ExplanationRequest("")
    for name, value in parameters.items():
        wanted = type(getattr(default, name))
        if type(value) is not wanted and not (wanted is float and type(value) is int):
            raise InvalidInputError(f"{name} must be {wanted.__name__}, got {value!r}")
    request = ExplanationRequest(**parameters)  # type: ignore[arg-type]
    for name, low in (("seed", 0), ("max_passes", 1), ("content_height_px", 0), ("content_width_px", 0)):
        value = getattr(request, name)
        if value < low:
            raise InvalidInputError(f"{name} must be at least {low}, got {value}")
    if request.budget_ms < 0 or not 0 <= request.min_stability <= 1:
        rule = "budget_ms must be at least 0 and min_stability in 0..1"
        raise InvalidInputError(f"{rule}, got {request.budget_ms} and {request.min_stability}")
    return request


def pack_figures(step: ExplanationStep) -> NDArray[np.float32]:
    """Put the numbers of a step into one array, in the order of :data:`FIGURES`."""
    flags = _FINAL * step.final + _PARTIAL * step.partial
    return np.array([flags if name == "flags" else getattr(step, name) for name in FIGURES], np.float32)


def unpack(values: NDArray[np.float32], figures: NDArray[np.float32]) -> ExplanationStep:
    """Put map and figures together again.

    Args:
        values: The map.
        figures: As :func:`pack_figures` gave them.
    """
    named = dict(zip(FIGURES, figures.tolist(), strict=True))
    flags, passes = int(named.pop("flags")), int(named.pop("passes"))
    return ExplanationStep(
        map=values, passes=passes, final=bool(flags & _FINAL), partial=bool(flags & _PARTIAL), **named
    )
