"""What ``sightline experiment ceod`` measures where nobody says otherwise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from services.core.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class CeodPreset:
    """Values of options.

    Attributes:
        data: Labelled folder, or ``simulated:PRODUCT``.
        area: Where defects count.
        arms: Losses, comma-separated.
        networks: Comma-separated.
        seeds: Splits and trainings.
        size: Rows and columns of the input.
        parts: Most parts; 0 for all.
        epochs: Most passes.
        patience: Epochs without a lower validation loss.
        omega: Weight of the overlap distance.
    """

    data: str = ""
    area: str = "masks"
    arms: str = "ce,ceod"
    networks: str = "customnet"
    seeds: int = 1
    size: str = "224"
    parts: int = 0
    epochs: int = 100
    patience: int = 20
    omega: float = 0.3


PRESETS: Final[dict[str, CeodPreset]] = {
    "": CeodPreset(),
    # A strip is twice as high as wide; a tooth is four pixels high.
    "quick": CeodPreset(
        data="simulated:zipper",
        seeds=3,
        size="96x48",
        parts=400,
        epochs=20,
        patience=8,
    ),
    # Paper 2, section 5: epochs beyond the most that it gives, omega as it gives it.
    "paper": CeodPreset(
        data="simulated:zipper",
        arms="ce,ceod,ceod-paper",
        networks="customnet,efficientnet-b0:tl,efficientnet-b0:ft,efficientnet-lite0:ft",
        seeds=5,
        parts=400,
        epochs=1000,
        patience=50,
        omega=0.001,
    ),
}


def choose_preset(name: str, given: dict[str, Any]) -> CeodPreset:
    """Take a preset's values, and in their place those that were given.

    Args:
        name: Of :data:`PRESETS`.
        given: Values by option; None where nobody gave one.

    Raises:
        InvalidInputError: If there is no such preset, or no data.
    """
    if name not in PRESETS:
        raise InvalidInputError(f"--preset must be one of {', '.join(filter(None, PRESETS))}, got {name!r}")
    chosen = replace(PRESETS[name], **{option: value for option, value in given.items() if value is not None})
    if not chosen.data:
        raise InvalidInputError("--data must be given where no --preset brings its own, got none")
    return chosen
