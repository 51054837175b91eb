"""The only place where attributions become colours.

**A clean part looks calm.** A map has no unit of its own that a person could judge: spread over its own smallest and
largest value, the noise of a clean part is as red as a defect. So colour begins where the maps of known good parts end.
:func:`calibrate` looks at every good part's map *above its own median* (the level of a map, for example the mean answer
under masks, says nothing of places) and takes

- ``low``: 19 good parts in 20 stay below it on 99 % of their area (the 0.95 quantile, over parts, of each part's 0.99
  quantile). Below it nothing is drawn;
- ``high``: twice ``low``. There colour is full. (Where good parts do not leave their median at all on 99 % of their
  area, ``low`` is 0 and ``high`` the highest value of any of them.)

A map that rises far beyond ``high`` is stretched upwards: full colour moves to its own peak, and colour begins at no
less than 40 % of the peak, so that the hottest places of a strong map can still be told apart. It is never stretched
downwards, so a calm map stays calm, with one exception: **a map that was proven** is drawn from 60 % of its peak on
even where that lies below ``low``. Its spot makes a good part a defect (grade A or B), which no clean part's does, so
there is something to see.

**Without a calibration** nothing is known of good parts. Then only the hottest tenth is drawn, faintly (at most 40 % of
the usual opacity), and whoever shows it should say so (:attr:`HeatScale.is_calibrated`).

**Colours** are the upper part of *plasma*: its lightness rises steadily from violet to yellow, so it reads the same
with any kind of colour blindness and in grey, and it is saturated throughout, so it stands out from grey metal.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from services.core.errors import InvalidInputError
from services.core.explain.attribution import TOP_SHARE, AttributionMap
from services.core.explain.resizing import resize_map

_AREA_QUANTILE: Final = 0.99
_PARTS_QUANTILE: Final = 0.95
_HIGH_OVER_LOW: Final = 2.0
_SHARE_OF_PEAK: Final = 0.4
_SHARE_OF_PROVEN_PEAK: Final = 0.6
_MOST_OPAQUE: Final = 200
_UNCALIBRATED_OPACITY: Final = 0.4
_FIRST_COLOUR: Final = 64
"""Of plasma's 256: the darkest quarter is too dark to see on dark parts."""


@dataclass(frozen=True, slots=True)
class HeatScale:
    """Where colour begins and where it is full, in a map's own unit, above the map's median.

    Attributes:
        low: Nothing is drawn below.
        high: Full colour; not above ``low`` means that the scale is not calibrated.
    """

    low: float = 0.0
    high: float = 0.0

    @property
    def is_calibrated(self) -> bool:
        """Whether the scale comes from good parts."""
        return math.isfinite(self.low) and math.isfinite(self.high) and self.high > self.low


UNCALIBRATED: Final = HeatScale()


def calibrate(maps: Sequence[AttributionMap]) -> HeatScale:
    """Find the scale on which good parts look calm.

    Args:
        maps: Of good parts, by one method on one model version, each ``(h, w)`` of any size; twenty or more are wanted.

    Returns:
        The scale; :data:`UNCALIBRATED` where no good part's map ever leaves its median.

    Raises:
        InvalidInputError: If no map has a defined pixel.
    """
    rises = [_above_median(values) for values in maps]
    rises = [rise[np.isfinite(rise)] for rise in rises]
    rises = [rise for rise in rises if rise.size]
    if not rises:
        raise InvalidInputError(f"a heat scale needs a map with defined pixels, got {len(maps)} maps without one")
    low = float(np.quantile([np.quantile(rise, _AREA_QUANTILE) for rise in rises], _PARTS_QUANTILE))
    high = _HIGH_OVER_LOW * low if low > 0 else max(float(rise.max()) for rise in rises)
    return HeatScale(low, high) if high > low else UNCALIBRATED


def colour(
    values: AttributionMap, scale: HeatScale, height_px: int, width_px: int, *, proven: bool = False
) -> NDArray[np.uint8]:
    """Paint a map, to be laid over the image.

    Args:
        values: The map; NaN is undefined and stays transparent.
        scale: From :func:`calibrate`.
        height_px: Rows of the picture.
        width_px: Columns of the picture.
        proven: Whether its grade says that the defect lies where it is hottest, see
            :func:`services.core.explain.grade.is_proven`.

    Returns:
        RGBA, ``uint8``, shape ``(height_px, width_px, 4)``; alpha is 0 where nothing is drawn and not premultiplied.
    """
    rise = resize_map(_above_median(values), height_px, width_px, smooth=True)
    heat = np.nan_to_num(_heat(rise, scale, proven=proven), nan=0.0)
    opacity = 1.0 if scale.is_calibrated else _UNCALIBRATED_OPACITY
    picture = np.zeros((height_px, width_px, 4), dtype=np.uint8)
    picture[..., :3] = _ramp()[np.rint(heat * 255).astype(np.intp)]
    # The root lets the rim of a hot region be seen without making its middle opaque.
    picture[..., 3] = np.rint(_MOST_OPAQUE * opacity * np.sqrt(heat)).astype(np.uint8)
    return picture


def lay_over(
    picture: NDArray[np.uint8], values: AttributionMap, scale: HeatScale, *, proven: bool = False
) -> NDArray[np.uint8]:
    """Paint a map over its picture, which turns grey so that only the map has colour.

    Args:
        picture: ``uint8``, shape ``(H, W, 3)``, RGB.
        values: The map over all of it, of any resolution.
        scale: From :func:`calibrate`.
        proven: See :func:`colour`.

    Returns:
        A picture of the same shape.
    """
    layer = colour(values, scale, *picture.shape[:2], proven=proven).astype(np.float32)
    share = layer[..., 3:] / 255
    grey = picture.mean(axis=2, keepdims=True)
    return np.asarray(np.rint(layer[..., :3] * share + grey * (1 - share)), dtype=np.uint8)


def _above_median(values: AttributionMap) -> AttributionMap:
    defined = values[np.isfinite(values)]
    if not defined.size:
        return np.full(values.shape, np.nan, dtype=np.float32)
    return np.asarray(np.where(np.isfinite(values), values - np.median(defined), np.nan), dtype=np.float32)


def _heat(rise: AttributionMap, scale: HeatScale, *, proven: bool) -> NDArray[np.float32]:
    """From 0 (nothing to see) to 1; NaN where the map is undefined."""
    defined = rise[np.isfinite(rise)]
    if not defined.size:
        return rise
    peak = float(defined.max())
    if scale.is_calibrated:
        high = max(scale.high, peak)
        low = max(scale.low, _SHARE_OF_PEAK * peak)
        if proven and low > _SHARE_OF_PROVEN_PEAK * peak:
            high, low = peak, _SHARE_OF_PROVEN_PEAK * peak
    else:
        high, low = peak, float(np.quantile(defined, 1 - TOP_SHARE))
    if not high > low:
        return np.zeros_like(rise)
    return np.asarray(np.clip((rise - low) / (high - low), 0.0, 1.0), dtype=np.float32)


@functools.cache
def _ramp() -> NDArray[np.uint8]:
    steps = np.linspace(_FIRST_COLOUR, 255, 256).round().astype(np.uint8).reshape(-1, 1)
    return np.asarray(cv2.applyColorMap(steps, cv2.COLORMAP_PLASMA)[:, 0, ::-1], dtype=np.uint8)
