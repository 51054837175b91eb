"""An operator's drawing, read safely: bytes from outside that must be a mask of one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

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
    drawn = drawn_pixels(data, width_px, height_px)
    pixels = int(np.count_nonzero(drawn))
    if not pixels:
        raise InvalidInputError(f"a mask must have a pixel above {_HALF}, got none")
    return ReviewMask(encode_mask(drawn), pixels)


def drawn_pixels(data: bytes, width_px: int, height_px: int) -> NDArray[np.bool_]:
    """Read what is drawn, shape ``(H, W)``; raises as :func:`decode_mask` does, but for an empty drawing."""
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
    drawn: NDArray[np.bool_] = decode(data, limits).max(axis=2) > _HALF
    return drawn


def join_drawings(drawings: Sequence[bytes], width_px: int, height_px: int) -> NDArray[np.bool_]:
    """Say where any of several drawings of one picture is.

    Args:
        drawings: PNGs, at least one.
        width_px: Of the picture.
        height_px: Likewise.

    Returns:
        Shape ``(H, W)``.

    Raises:
        InvalidInputError: If there is none, or one is no drawing of the picture.
    """
    if not drawings:
        raise InvalidInputError("drawings that are joined must be at least one, got none")
    joined = drawn_pixels(drawings[0], width_px, height_px)
    for drawing in drawings[1:]:
        joined = joined | drawn_pixels(drawing, width_px, height_px)
    return joined


def encode_mask(drawn: NDArray[np.bool_]) -> bytes:
    """Write what is drawn as a PNG: 255 there and 0 elsewhere; equal drawings have equal bytes."""
    done, encoded = cv2.imencode(".png", drawn.astype(np.uint8) * 255, [cv2.IMWRITE_PNG_COMPRESSION, 6])
    if not done:
        raise InvalidInputError(f"a mask must be a picture that can be encoded, got shape {drawn.shape}")
    return encoded.tobytes()


def _upright(header: ImageHeader) -> tuple[int, int]:
    size = (header.width_px, header.height_px)
    return size if header.orientation < 5 else (size[1], size[0])
