"""From distances on a grid of patches to a map over the image, and from the map to a score."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

DEFAULT_SMOOTHING_PX: Final = 4.0


def spread_over_image(grid: NDArray[np.floating], height: int, width: int, smoothing_px: float) -> NDArray[np.float32]:
    """Bring the distances of patches to the image's resolution (PatchCore, Roth et al. 2022, section 3.3).

    Args:
        grid: One value for each patch, shape ``(h, w)``.
        height: Rows of the image.
        width: Columns of the image.
        smoothing_px: Standard deviation of the Gaussian that smooths the enlarged map; 0 smooths nothing.

    Returns:
        Shape ``(height, width)``, within the range of the grid's values: interpolation is bilinear, and beyond the
        border the map goes on as its mirror image.
    """
    large = cv2.resize(grid.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    if smoothing_px > 0:
        large = cv2.GaussianBlur(large, (0, 0), smoothing_px, borderType=cv2.BORDER_REFLECT)
    return np.asarray(large, dtype=np.float32)


def hottest_mean(values: NDArray[np.floating], share: float) -> float:
    """Average the hottest share of a map.

    Args:
        values: Shape ``(h, w)``.
        share: Of all pixels, in ``[0, 1]``; at least one pixel counts, so 0 gives the maximum.

    Returns:
        The score.
    """
    count = max(1, round(share * values.size))
    flat = values.astype(np.float64).ravel()
    return float(np.partition(flat, flat.size - count)[flat.size - count :].mean())
