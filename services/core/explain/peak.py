"""What the hottest point of a map tells by itself: how it stands out, and whether the image is unusual there.

Costs no forward pass. Most defects differ from their surroundings, so a map that points at a place where nothing does
is seldom right; on a product whose sound parts are full of contrast this says less.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from services.core.explain.attribution import AttributionMap
from services.core.explain.contrast import Contrast
from services.core.explain.resizing import resize_map

#: Images are looked at with at most this many pixels along their shorter side.
_SIDE_PX: Final = 224
_HOT: Final = 0.9


@dataclass(frozen=True, slots=True)
class Peak:
    """The hottest point of a map.

    Attributes:
        contrast_rank: Share of the image's pixels that differ less from their surroundings than the pixel there does,
            in ``[0, 1]``; NaN where the map has no hottest point.
        prominence: How far it rises above the map's 0.9 quantile, as a share of the map's range, in ``[0, 1]``; NaN for
            a flat map.
    """

    contrast_rank: float = math.nan
    prominence: float = math.nan


def peak_of(image: NDArray[np.uint8], values: AttributionMap) -> Peak:
    """Look at the hottest point of a map.

    Args:
        image: What was explained, ``uint8``, shape ``(H, W, 3)``.
        values: The map over the whole image, of any resolution.
    """
    scale = min(1.0, _SIDE_PX / min(image.shape[:2]))
    if scale < 1:
        image = np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    at_image = resize_map(values, image.shape[0], image.shape[1])
    defined = at_image[np.isfinite(at_image)]
    if defined.size == 0 or defined.max() <= defined.min():
        return Peak()
    highest, lowest = float(defined.max()), float(defined.min())
    where = np.unravel_index(np.nanargmax(at_image), at_image.shape)
    contrast = Contrast().filtered(image)
    return Peak(
        contrast_rank=float((contrast < contrast[where]).mean()),
        prominence=(highest - float(np.quantile(defined, _HOT))) / (highest - lowest),
    )
