"""Maps of one resolution brought to another, without inventing values where none are."""

from __future__ import annotations

import cv2
import numpy as np

from services.core.errors import InvalidInputError
from services.core.explain.attribution import AttributionMap


def resize_map(values: AttributionMap, height: int, width: int, *, smooth: bool = False) -> AttributionMap:
    """Bring a map to another resolution, within the range of its values.

    Args:
        values: The map, shape ``(h, w)``; NaN is undefined.
        height: Rows wanted, ``>= 1``.
        width: Columns wanted, ``>= 1``.
        smooth: Whether growing is to please the eye (cubic) rather than to keep the hottest point where it is: cubic
            interpolation overshoots beside a peak, and what is cut off there is a plateau of many hottest points.

    Returns:
        Shape ``(height, width)``; a pixel that is made mostly of undefined ones is undefined.

    Raises:
        InvalidInputError: If the map has no pixels or the size is not positive.
    """
    if values.ndim != 2 or values.size == 0:
        raise InvalidInputError(f"a map must have shape (h, w) with at least one pixel, got {values.shape}")
    if height < 1 or width < 1:
        raise InvalidInputError(f"a map's new size must be at least 1 x 1, got {height} x {width}")
    if values.shape == (height, width):
        return values.astype(np.float32)
    defined = np.isfinite(values)
    if not defined.any():
        return np.full((height, width), np.nan, dtype=np.float32)
    grows = height >= values.shape[0] and width >= values.shape[1]
    way = cv2.INTER_LINEAR if grows else cv2.INTER_AREA
    low, high = float(values[defined].min()), float(values[defined].max())
    if defined.all():
        way = cv2.INTER_CUBIC if grows and smooth else way
        plain = cv2.resize(values.astype(np.float32), (width, height), interpolation=way)
        return np.asarray(np.clip(plain, low, high), dtype=np.float32)
    filled = np.where(defined, values, 0.0).astype(np.float32)
    share = cv2.resize(defined.astype(np.float32), (width, height), interpolation=way)
    mixed = cv2.resize(filled, (width, height), interpolation=way)
    known = share > 0.5
    result = np.full((height, width), np.nan, dtype=np.float32)
    result[known] = np.clip(mixed[known] / share[known], low, high)
    return result
