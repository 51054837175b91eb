"""Maps as pictures to lay over a part. The colours themselves are given by ``services.core.explain.heatmap`` alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from services.core.explain.grade import is_proven
from services.core.explain.heatmap import HeatScale, colour
from services.core.types import Explanation
from services.dashboard.explanations import KeptExplanations
from services.dashboard.pictures import ByteCache, Picture

#: Longest side of an overlay. A map has at most 96 places a side; the browser enlarges what is smooth already.
SIDE_PX = 512

_LEGEND_PX = (16, 320)
# Overlays are flat and smooth: the fastest level is within a tenth of the best in size.
_COMPRESSION = 1


@dataclass(frozen=True, slots=True)
class MapSummary:
    """What a map says, in figures that words are made from."""

    hottest_x: float
    """Middle of the hottest place, as a share of the picture's width."""
    hottest_y: float
    """The same of its height."""
    coloured_share: float | None
    """Share of the picture that is coloured; None where the scale is not calibrated."""


class Overlays:
    """Draws overlays and keeps them up to a bound. Thread-safe."""

    def __init__(self, cache_bytes: int) -> None:
        self._cache = ByteCache(cache_bytes)
        self._legend = _legend_png()

    def draw(self, case: KeptExplanations, explanation: Explanation) -> Picture:
        """The overlay of one map.

        Args:
            case: What the map belongs to; names it in the cache.
            explanation: Has a map.
        """
        name = f"{case.frame_id}/{case.alias}/{case.model_version}/{explanation.method}/{case.explained_at_ns}"
        key = (name, SIDE_PX)
        picture = self._cache.get(key)
        if picture is None:
            picture = Picture(explanation_png(explanation), "image/png")
            self._cache.put(key, picture)
        return picture

    @property
    def legend(self) -> Picture:
        """The colours from the scale's low end (left) to its high end."""
        return Picture(self._legend, "image/png")


def explanation_png(explanation: Explanation) -> bytes:
    """Draw a map as a PNG with transparency, of the source image's shape.

    Args:
        explanation: Has a map.
    """
    height, width = explanation.map.shape
    enlarged = SIDE_PX / max(height, width)
    return _png(_coloured(explanation, max(1, round(height * enlarged)), max(1, round(width * enlarged))))


def _coloured(explanation: Explanation, height_px: int, width_px: int) -> NDArray[np.uint8]:
    scale = HeatScale(explanation.scale_low, explanation.scale_high)
    values = explanation.map.astype(np.float32)
    return colour(values, scale, height_px, width_px, proven=is_proven(explanation.grade))


def _png(rgba: NDArray[np.uint8]) -> bytes:
    bgra = cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGRA)
    done, data = cv2.imencode(".png", bgra, [cv2.IMWRITE_PNG_COMPRESSION, _COMPRESSION])
    if not done:
        raise RuntimeError(f"an overlay must be encodable, got shape {rgba.shape}")
    return data.tobytes()


def summary(explanation: Explanation) -> MapSummary | None:
    """Say where a map is hottest and how much of it is coloured; None without a map that is defined anywhere."""
    values = explanation.map.astype(np.float32)
    defined = np.isfinite(values)
    if not defined.any():
        return None
    row, column = np.unravel_index(int(np.argmax(np.where(defined, values, -np.inf))), values.shape)
    height, width = values.shape
    # Asked of the picture itself, so that words and colours cannot disagree.
    drawn = _coloured(explanation, height, width)[..., 3] > 0
    return MapSummary(
        hottest_x=(int(column) + 0.5) / width,
        hottest_y=(int(row) + 0.5) / height,
        coloured_share=float(drawn.mean()) if is_calibrated(explanation) else None,
    )


def is_calibrated(explanation: Explanation) -> bool:
    """Tell whether colours mean the same on every part."""
    low, high = explanation.scale_low, explanation.scale_high
    return math.isfinite(low) and math.isfinite(high) and HeatScale(low, high).is_calibrated


def _legend_png() -> bytes:
    """The colours in the order in which a map gets them.

    Colours tell how far a map rises above its median, so most of the map that is drawn here is flat. Its scale begins
    close to its end, as no rise then lies beyond the scale, where colours would be stretched.
    """
    height_px, width_px = _LEGEND_PX
    low, high = 0.9, 1.0
    row = np.concatenate([np.zeros(2 * width_px, np.float32), np.linspace(low, high, width_px, dtype=np.float32)])
    rgba = colour(np.tile(row, (height_px, 1)), HeatScale(low, high), height_px, row.size)
    return _png(rgba[:, 2 * width_px :])
