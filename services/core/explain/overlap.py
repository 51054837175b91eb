"""How well a map finds a defect whose place is known (paper 1, section 4.1).

The paper's figures take the hottest tenth of the map. For a defect of another size no map can reach a Dice of 1 with a
tenth, so :func:`dice_ceiling` stands beside it, and :func:`dice_at_own_area` and :func:`pixel_auroc` do not depend on
it. Every function takes the map in any resolution and the mask in its own, which the map is brought to. An undefined
pixel is colder than any other; a map without a defined pixel finds nothing.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from services.core.errors import InvalidInputError
from services.core.evaluation.metrics import auroc
from services.core.explain.attribution import TOP_SHARE, AttributionMap, hottest
from services.core.explain.attribution import dice as region_dice
from services.core.explain.resizing import resize_map

Mask = NDArray[np.bool_]

#: How close to a defect a map's hottest point must lie to lead to it; masks have cells of an eighth.
NEAR_SHARE: Final = 0.05


def dice(values: AttributionMap, mask: Mask, share: float = TOP_SHARE) -> float:
    """Measure Dice of the hottest share of a map and the defect.

    Args:
        values: The map, ``(h, w)``.
        mask: True on the defect, ``(H, W)``; not empty.
        share: Of all pixels, in ``(0, 1]``.

    Returns:
        In ``[0, 1]``.
    """
    return region_dice(hottest(_fitted(values, mask), share), mask)


def jaccard(values: AttributionMap, mask: Mask, share: float = TOP_SHARE) -> float:
    """Measure intersection over union of the hottest share of a map and the defect; see :func:`dice`."""
    found = hottest(_fitted(values, mask), share)
    return int((found & mask).sum()) / int((found | mask).sum())


def hit(values: AttributionMap, mask: Mask) -> float:
    """Say whether the map's maximum lies on the defect.

    Args:
        values: The map, ``(h, w)``.
        mask: True on the defect, ``(H, W)``; not empty.

    Returns:
        1 or 0; where several pixels share the maximum, the share of them that lies on the defect, which is the chance
        that one drawn of them does (so a flat map is worth its luck and no more).
    """
    fitted = _fitted(values, mask)
    defined = np.isfinite(fitted)
    if not defined.any():
        return 0.0
    hottest_pixels = fitted == fitted[defined].max()
    return float(mask[hottest_pixels].mean())


def near(values: AttributionMap, mask: Mask, share: float = NEAR_SHARE) -> float:
    """Say whether the map's maximum lies on the defect or close to it; see :func:`hit`.

    Args:
        values: The map, ``(h, w)``.
        mask: True on the defect, ``(H, W)``; not empty.
        share: How close, as a share of the mask's longer side.
    """
    _area(mask)
    away = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return hit(values, away <= share * max(mask.shape))


def pixel_auroc(values: AttributionMap, mask: Mask) -> float:
    """Measure the chance that a pixel of the defect is hotter than one beside it; ties count half.

    Args:
        values: The map, ``(h, w)``.
        mask: True on the defect, ``(H, W)``; not empty.

    Returns:
        In ``[0, 1]``; NaN where the defect covers everything.
    """
    fitted = _fitted(values, mask)
    return auroc(np.where(np.isfinite(fitted), fitted, -np.inf).ravel(), mask.ravel())


def dice_at_own_area(values: AttributionMap, mask: Mask) -> float:
    """Measure Dice where as many of the hottest pixels are taken as the defect has; see :func:`dice`."""
    return dice(values, mask, float(mask.mean()))


def dice_ceiling(mask: Mask, share: float = TOP_SHARE) -> float:
    """Say what Dice a perfect map would reach.

    Args:
        mask: True on the defect, ``(H, W)``; not empty.
        share: Of all pixels that is taken as hot, in ``(0, 1]``.

    Returns:
        In ``(0, 1]``.
    """
    area = _area(mask)
    taken = max(1, round(share * mask.size))
    return 2.0 * min(area, taken) / (area + taken)


def _fitted(values: AttributionMap, mask: Mask) -> AttributionMap:
    _area(mask)
    return resize_map(values, *mask.shape)


def _area(mask: Mask) -> int:
    if mask.ndim != 2 or mask.dtype != np.bool_ or not mask.any():
        raise InvalidInputError(
            f"a mask must be bool (H, W) with a defect in it, got {mask.dtype} {mask.shape} with {int(mask.sum())}"
        )
    return int(mask.sum())
