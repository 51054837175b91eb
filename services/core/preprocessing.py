"""From a decoded image of any size to the fixed-size tiles that a model takes, and back.

This is part of the model version (``model.json``): training, serving and explaining call :func:`prepare` with the same
settings, so a model never sees at work what it did not see when it was fitted. Normalisation is inside the model; what
leaves here is ``uint8``.

**The format must not give the label away.** Where good and defective parts were photographed in different sizes, a
model can read the label from the picture's format: from the stretch of a squashed image, or from how wide a flat
border is. So the aspect ratio is kept by default, and what is missing to the model's shape is filled with the image's
own mirrored surface, which has its texture and brightness, never with a constant. What is left to see is the scale
factor; ``tiles`` at ``scale = 1`` hides that too, since every size is then cut into the same squares at the same
resolution.

**Small defects must survive.** Shrinking averages over areas (no pixel is skipped), so a thin crack becomes fainter but
does not vanish between samples; where that is too faint, ``tiles`` keeps the camera's own resolution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from services.core.imaging import require_rgb
from services.core.types import RgbImage

Mode = Literal["letterbox", "squash", "tiles"]

MODES: Final[tuple[Mode, ...]] = ("letterbox", "squash", "tiles")
_MAX_SIDE_PX: Final = 8192
_MAX_TILES: Final = 1024


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How an image becomes model input.

    Attributes:
        mode: ``letterbox`` keeps the aspect ratio and fills up with mirrored surface; ``squash`` stretches to the
            shape; ``tiles`` covers the image with overlapping tiles of the shape.
        height_px: Rows of the model's input.
        width_px: Columns of the model's input.
        overlap: ``tiles`` only: least share of a tile's side that neighbours have in common, in ``[0, 0.75]``.
        scale: ``tiles`` only: resize factor before cutting, in ``(0, 4]``; 1 keeps the camera's resolution.
        max_tiles: ``tiles`` only: an image that would need more is shrunk until it does not.
    """

    mode: Mode = "letterbox"
    height_px: int = 224
    width_px: int = 224
    overlap: float = 0.25
    scale: float = 1.0
    max_tiles: int = 64

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, got {self.mode!r}")
        for name, side in (("height_px", self.height_px), ("width_px", self.width_px)):
            if not 8 <= side <= _MAX_SIDE_PX:
                raise ValueError(f"{name} must lie in 8..{_MAX_SIDE_PX}, got {side}")
        if not 0 <= self.overlap <= 0.75:
            raise ValueError(f"overlap must lie in 0..0.75, got {self.overlap}")
        if not 0 < self.scale <= 4:
            raise ValueError(f"scale must lie in (0, 4], got {self.scale}")
        if not 1 <= self.max_tiles <= _MAX_TILES:
            raise ValueError(f"max_tiles must lie in 1..{_MAX_TILES}, got {self.max_tiles}")


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one tile's content comes from. The rest of the tile is mirrored fill.

    Attributes:
        source_x: Left edge in the image, in its pixels; may be fractional.
        source_y: Top edge in the image.
        source_width: Columns of the image that the content covers.
        source_height: Rows of the image that the content covers.
        x: Left edge of the content in the tile, in pixels.
        y: Top edge of the content in the tile.
        width: Columns of the content in the tile.
        height: Rows of the content in the tile.
    """

    source_x: float
    source_y: float
    source_width: float
    source_height: float
    x: int
    y: int
    width: int
    height: int

    def to_source(self, x: float, y: float) -> tuple[float, float]:
        """Map a point of the tile to the image.

        Args:
            x: Column in the tile; pixel centres lie at ``.5``.
            y: Row in the tile.

        Returns:
            Column and row in the image; points of the fill land outside of the content's rectangle.
        """
        return (
            self.source_x + (x - self.x) * self.source_width / self.width,
            self.source_y + (y - self.y) * self.source_height / self.height,
        )


def prepare(image: RgbImage, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Turn an image into model input.

    Args:
        image: ``uint8``, shape ``(H, W, 3)``, RGB, any size.
        preprocessing: The model version's settings.

    Returns:
        ``uint8``, shape ``(T, height_px, width_px, 3)``, contiguous; ``T`` is 1 unless the mode is ``tiles``.

    Raises:
        ValueError: If the image is not ``uint8`` RGB.
    """
    require_rgb(image)
    height, width = image.shape[:2]
    settings = preprocessing
    if settings.mode == "tiles":
        return _cut_tiles(image, settings)
    inner_height, inner_width = _content_size(height, width, settings)
    content = _resize(image, inner_height, inner_width)
    return _fill_up(content, settings.height_px, settings.width_px)[np.newaxis]


def placements(height_px: int, width_px: int, preprocessing: Preprocessing) -> tuple[Placement, ...]:
    """Say where each tile of :func:`prepare` comes from.

    Args:
        height_px: Rows of the image.
        width_px: Columns of the image.
        preprocessing: The model version's settings.

    Returns:
        One entry per tile, in the order of :func:`prepare`'s first axis.
    """
    settings = preprocessing
    if settings.mode != "tiles":
        height, width = _content_size(height_px, width_px, settings)
        y, x = (settings.height_px - height) // 2, (settings.width_px - width) // 2
        return (Placement(0.0, 0.0, float(width_px), float(height_px), x, y, width, height),)
    scaled_height, scaled_width = _scaled_size(height_px, width_px, settings)
    per_row, per_column = height_px / scaled_height, width_px / scaled_width
    height, width = min(scaled_height, settings.height_px), min(scaled_width, settings.width_px)
    y, x = (settings.height_px - height) // 2, (settings.width_px - width) // 2
    return tuple(
        Placement(left * per_column, top * per_row, width * per_column, height * per_row, x, y, width, height)
        for top in _starts(scaled_height, settings.height_px, settings.overlap)
        for left in _starts(scaled_width, settings.width_px, settings.overlap)
    )


def combine(scores: NDArray[np.floating]) -> tuple[int, float]:
    """Make one score of a frame's tiles: the worst tile speaks for the part.

    Args:
        scores: Anomaly scores of the tiles, shape ``(T,)`` with ``T >= 1``; higher is worse.

    Returns:
        Index of the deciding tile (the first of equals) and its score; NaN if any score is NaN, so that a tile that
        could not be scored is never outvoted by one that could.

    Raises:
        ValueError: If there are no scores.
    """
    if scores.ndim != 1 or scores.size == 0:
        raise ValueError(f"scores must have shape (T >= 1,), got {scores.shape}")
    index = int(np.argmax(scores))
    return index, float(scores[index])


def map_back(
    maps: NDArray[np.floating], preprocessing: Preprocessing, height_px: int, width_px: int
) -> NDArray[np.float32]:
    """Bring maps over tiles back onto the image, without the mirrored fill.

    Args:
        maps: One map per tile of :func:`prepare`, shape ``(T, h, w)``, of any resolution; each spans its whole tile.
        preprocessing: The settings that the tiles were made with.
        height_px: Rows of the image.
        width_px: Columns of the image.

    Returns:
        ``float32``, shape ``(height_px, width_px)``; where tiles overlap, the larger value.

    Raises:
        ValueError: If there is not one map for each tile.
    """
    where = placements(height_px, width_px, preprocessing)
    if maps.ndim != 3 or maps.shape[0] != len(where):
        raise ValueError(f"maps must have shape (T, h, w) with T = {len(where)}, got {maps.shape}")
    merged = np.full((height_px, width_px), -np.inf, np.float32)
    per_column, per_row = maps.shape[2] / preprocessing.width_px, maps.shape[1] / preprocessing.height_px
    for values, place in zip(maps, where, strict=True):
        left, right = _pixels(place.source_x, place.source_width, width_px)
        top, bottom = _pixels(place.source_y, place.source_height, height_px)
        # Centres of the covered image pixels, in the tile and then in the map's own grid.
        x = place.x + (np.arange(left, right) + 0.5 - place.source_x) * place.width / place.source_width
        y = place.y + (np.arange(top, bottom) + 0.5 - place.source_y) * place.height / place.source_height
        columns, rows = np.meshgrid((x * per_column - 0.5).astype(np.float32), (y * per_row - 0.5).astype(np.float32))
        patch = cv2.remap(values.astype(np.float32), columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        region = merged[top:bottom, left:right]
        np.maximum(region, patch, out=region)
    return merged


def _pixels(start: float, length: float, limit: int) -> tuple[int, int]:
    # Outward to whole pixels: neighbouring tiles must leave no seam uncovered.
    return max(0, math.floor(start + 1e-6)), min(limit, math.ceil(start + length - 1e-6))


def _content_size(height: int, width: int, settings: Preprocessing) -> tuple[int, int]:
    if settings.mode == "squash":
        return settings.height_px, settings.width_px
    scale = min(settings.height_px / height, settings.width_px / width)
    return (
        min(settings.height_px, max(1, round(height * scale))),
        min(settings.width_px, max(1, round(width * scale))),
    )


def _scaled_size(height: int, width: int, settings: Preprocessing) -> tuple[int, int]:
    scale = settings.scale
    while True:
        scaled = max(1, round(height * scale)), max(1, round(width * scale))
        rows = len(_starts(scaled[0], settings.height_px, settings.overlap))
        columns = len(_starts(scaled[1], settings.width_px, settings.overlap))
        if rows * columns <= settings.max_tiles:
            return scaled
        # Ends: at a scale small enough one tile covers everything.
        scale *= 0.95


def _starts(length: int, tile: int, overlap: float) -> list[int]:
    """Spread tiles evenly from edge to edge, neighbours sharing at least ``overlap`` of a tile."""
    if length <= tile:
        return [0]
    step = max(1.0, tile * (1 - overlap))
    count = math.ceil((length - tile) / step) + 1
    return [round(index * (length - tile) / (count - 1)) for index in range(count)]


def _cut_tiles(image: RgbImage, settings: Preprocessing) -> NDArray[np.uint8]:
    height, width = _scaled_size(image.shape[0], image.shape[1], settings)
    content = _resize(image, height, width)
    return np.stack(
        [
            _fill_up(
                content[top : top + settings.height_px, left : left + settings.width_px],
                settings.height_px,
                settings.width_px,
            )
            for top in _starts(height, settings.height_px, settings.overlap)
            for left in _starts(width, settings.width_px, settings.overlap)
        ]
    )


def _resize(image: RgbImage, height: int, width: int) -> RgbImage:
    """Average over areas where a side shrinks, interpolate where it grows; each side by its own rule."""
    shrunk = min(height, image.shape[0]), min(width, image.shape[1])
    if shrunk != image.shape[:2]:
        image = np.asarray(cv2.resize(image, shrunk[::-1], interpolation=cv2.INTER_AREA), dtype=np.uint8)
    if (height, width) != shrunk:
        image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
    return image


def _fill_up(content: RgbImage, height: int, width: int) -> RgbImage:
    missing_rows, missing_columns = height - content.shape[0], width - content.shape[1]
    if not missing_rows and not missing_columns:
        return content
    top, left = missing_rows // 2, missing_columns // 2
    filled = cv2.copyMakeBorder(
        content, top, missing_rows - top, left, missing_columns - left, borderType=cv2.BORDER_REFLECT
    )
    return np.asarray(filled, dtype=np.uint8)
