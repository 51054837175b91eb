"""Parameters of the CEOD loss, for those who order a training and do not run one: nothing here needs torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from services.core.errors import InvalidInputError

Variant = Literal["repaired", "paper"]


@dataclass(frozen=True, slots=True)
class CeodSettings:
    """Parameters of the loss.

    Attributes:
        omega: Weight of the overlap distance, ``>= 0``; the paper's is 0.001.
        epsilon: Of the clip or the floor, in ``(0, 0.5)``; the paper gives none.
        quantile: Share of the map that is not hot, in ``[0, 1)``; the paper gives none.
        softness: Width of the soft cut at the quantile, on a map whose maximum is 1, ``> 0``; not used by ``paper``.
        kernel_value: Each of the kernel's nine values in ``paper``, ``> 0``.
        variant: Which reading.
    """

    omega: float = 1e-3
    epsilon: float = 1e-3
    quantile: float = 0.9
    softness: float = 0.05
    kernel_value: float = 0.5
    variant: Variant = "repaired"

    def __post_init__(self) -> None:
        if not (self.omega >= 0 and math.isfinite(self.omega)):
            raise InvalidInputError(f"omega must be finite and >= 0, got {self.omega}")
        if not 0 < self.epsilon < 0.5:
            raise InvalidInputError(f"epsilon must lie between 0 and 0.5, got {self.epsilon}")
        if not 0 <= self.quantile < 1:
            raise InvalidInputError(f"quantile must lie in [0, 1), got {self.quantile}")
        if not (self.softness > 0 and self.kernel_value > 0):
            raise InvalidInputError(
                f"softness and kernel_value must be above 0, got {self.softness} and {self.kernel_value}"
            )
        if self.variant not in get_args(Variant):
            raise InvalidInputError(f"variant must be one of {', '.join(get_args(Variant))}, got {self.variant!r}")
