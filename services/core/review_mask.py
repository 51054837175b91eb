"""An operator's drawing, read safely: bytes from outside that must be a mask of one picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from services.core.errors import InvalidInputError
from services.core.image_header import ImageHeader, probe
from services.core.imaging import ImageLimits, decode

#: Largest drawing that is read.
MAX_MASK_BYTES: Final = 8_000_000

_HALF: Final = 127


@dataclass(frozen=True, slots=True)
class ReviewMask:
    """A drawing as it is kept.

    Attributes:
        png: 8-bit grey, 255 on what is drawn and 0 elsewhere; equal drawings have equal bytes.
        pixels: How many are drawn; at least one.
    """

    png: bytes
    pixels: int


def upright_size_px(image: bytes) -> tuple[int, int]:
    """Width and height of an encoded picture as people see it: turned as its EXIF says.

    Raises:
        ImageError: If it is no picture that is read here.
    """
    return _upright(probe(image))


def decode_mask(data: bytes, width_px: int, height_px: int) -> ReviewMask:
    """Decode a drawing.

    Args:
        data: A PNG.
        width_px: Of the picture that it is of.
        height_px: Likewise.

    Returns:
        What is brighter than half of white in any channel, as drawn.

    Raises:
        InvalidInputError: If it is too large, no PNG, of another size than the picture, or empty.
    """
    if len(data) > MAX_MASK_BYTES:
        raise InvalidInputError(f"a mask must have at most {MAX_MASK_BYTES} bytes, got {len(data)}")
    header = probe(data)
    if header.format != "png":
        raise InvalidInputError(f"a mask must be a PNG, got {header.format}")
    # Upright, as it is decoded: a drawing that its EXIF turns would else become a mask of another size.
    size = _upright(header)
    if size != (width_px, height_px):
        raise InvalidInputError(
            f"a mask must have its picture's size of {width_px} x {height_px} px, got {size[0]} x {size[1]}"
        )
    limits = ImageLimits(
        max_bytes=MAX_MASK_BYTES,
        max_pixels=max(1, width_px * height_px),
        max_aspect_ratio=float(max(width_px, height_px)),
        min_side_px=1,
    )
    drawn = decode(data, limits).max(axis=2) > _HALF
    pixels = int(np.count_nonzero(drawn))
    if not pixels:
        raise InvalidInputError(f"a mask must have a pixel above {_HALF}, got none")
    done, encoded = cv2.imencode(".png", drawn.astype(np.uint8) * 255, [cv2.IMWRITE_PNG_COMPRESSION, 6])
    if not done:
        raise InvalidInputError(f"a mask must be a picture that can be encoded, got {width_px} x {height_px} px")
    return ReviewMask(encoded.tobytes(), pixels)


def _upright(header: ImageHeader) -> tuple[int, int]:
    size = (header.width_px, header.height_px)
    return size if header.orientation < 5 else (size[1], size[0])
