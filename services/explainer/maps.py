"""From a map over a model's input to a small one over the source image."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from services.core.preprocessing import Preprocessing, placements

#: Points that are read along each side of a written pixel.
_FINE: Final = 4
_FLOAT16_MAX = float(np.finfo(np.float16).max)


def onto_source(
    values: NDArray[np.float32],
    preprocessing: Preprocessing,
    height_px: int,
    width_px: int,
    *,
    tile: int = 0,
    side_px: int = 96,
) -> NDArray[np.float16]:
    """Bring the map of one tile back onto the image, reduced.

    The same geometry as ``core.preprocessing.map_back``, read at the points of a small grid: no array of the image's
    size is made, however large the image is.

    Args:
        values: Map over the whole tile, shape ``(h, w)``, of any resolution; NaN is undefined.
        preprocessing: The settings that the tile was made with.
        height_px: Rows of the image.
        width_px: Columns of the image.
        tile: Which tile of ``prepare`` the map is of.
        side_px: Longest side of the result.

    Returns:
        ``float16``; NaN where the map is undefined, and outside of the tile.
    """
    place = placements(height_px, width_px, preprocessing)[tile]
    scale = min(1.0, side_px / max(height_px, width_px))
    height, width = max(1, round(height_px * scale)), max(1, round(width_px * scale))
    y = (np.arange(height * _FINE) + 0.5) * height_px / (height * _FINE)
    x = (np.arange(width * _FINE) + 0.5) * width_px / (width * _FINE)
    inside = np.logical_and.outer(
        (y >= place.source_y) & (y <= place.source_y + place.source_height),
        (x >= place.source_x) & (x <= place.source_x + place.source_width),
    )
    # Points in the tile, then in the map's own grid.
    rows = (place.y + (y - place.source_y) * place.height / place.source_height) * values.shape[0]
    columns = (place.x + (x - place.source_x) * place.width / place.source_width) * values.shape[1]
    at_x, at_y = np.meshgrid(
        (columns / preprocessing.width_px - 0.5).astype(np.float32),
        (rows / preprocessing.height_px - 0.5).astype(np.float32),
    )
    defined = np.isfinite(values)
    weight = _read(defined.astype(np.float32), at_x, at_y) * inside
    total = _read(np.where(defined, values, 0).astype(np.float32), at_x, at_y) * inside
    weight, total = _mean(weight, height, width), _mean(total, height, width)
    # Half of a written pixel must be known, or it is not.
    means = np.divide(total, weight, out=np.full_like(total, np.nan), where=weight >= 0.5)
    return np.clip(means, -_FLOAT16_MAX, _FLOAT16_MAX).astype(np.float16)


def _read(values: NDArray[np.float32], at_x: NDArray[np.float32], at_y: NDArray[np.float32]) -> NDArray[np.float32]:
    found = cv2.remap(values, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found, dtype=np.float32)


def _mean(values: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    return np.asarray(values.reshape(height, _FINE, width, _FINE).mean(axis=(1, 3)), dtype=np.float32)
