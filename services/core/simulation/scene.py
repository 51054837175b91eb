"""What a product's painter hands back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.core.simulation.canvas import BoolImage


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A picture and the truth about each of its pixels."""

    image: NDArray[np.uint8]
    """RGB, shape ``(H, W, 3)``."""
    mask: BoolImage
    """The defect's pixels."""
    aoi: BoolImage
    """The area of interest: only what lies here can make the part bad."""
    distractors: BoolImage
    """Harmless clutter: outside the area of interest, and marks inside it that are no defect."""
