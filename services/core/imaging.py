"""Bytes from a camera to an RGB array, with hard limits, and back.

Decided here, once, for training, serving and display:

- The format is told by content; names and content types play no part.
- EXIF (JPEG, PNG) and TIFF orientation **is applied**, all eight values, so that the array, the operator's mask and
  what a browser shows have one geometry. A damaged EXIF block counts as none.
- Grey becomes three equal channels, palettes their colours. Alpha is dropped and the stored colour kept.
- 16-bit samples are divided by a **fixed** white level. A scale taken from each image's own extremes would hide what
  exposure says and make a clean part look like a damaged one.
- CMYK is refused: it has no RGB without its ink profile. Of several pages or frames, the first is read.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, Final, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from services.core.errors import ImageAspectError, ImageError, ImageTooLargeError
from services.core.image_header import ImageHeader, probe
from services.core.types import RgbImage

#: White of 16-bit images that use their whole range.
FULL_RANGE_WHITE: Final = 65_535


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What is refused before anything is decoded.

    Attributes:
        max_bytes: Most encoded bytes.
        max_pixels: Most pixels, width times height. A decoded pixel costs 3 bytes (6 at 16 bits).
        max_aspect_ratio: Longest allowed long side, in short sides.
        min_side_px: Shortest allowed short side.
    """

    max_bytes: int = 32 * 1024 * 1024
    max_pixels: int = 32_000_000
    max_aspect_ratio: float = 50.0
    min_side_px: int = 16

    def __post_init__(self) -> None:
        if self.max_bytes < 1 or self.max_pixels < 1 or self.min_side_px < 1:
            raise ValueError(f"image limits must be at least 1, got {self}")
        if self.max_aspect_ratio < 1:
            raise ValueError(f"max_aspect_ratio must be at least 1, got {self.max_aspect_ratio}")


def decode(data: bytes, limits: ImageLimits, white_level_16bit: int = FULL_RANGE_WHITE) -> RgbImage:
    """Decode a JPEG, PNG, BMP or TIFF, of 8 or 16 bits, grey or colour.

    Args:
        data: The encoded image.
        limits: What to refuse.
        white_level_16bit: Sample value that becomes 255 in a 16-bit image, in ``1..65535``; 4095 for a 12-bit camera
            that leaves the upper bits empty. The same for every image of a camera.

    Returns:
        ``uint8``, shape ``(H, W, 3)``, RGB, contiguous, upright by its orientation tag.

    Raises:
        EmptyImageError: If there are no bytes.
        TruncatedImageError: If the data ends early.
        UnsupportedImageError: If the format or pixel type is not supported.
        ImageTooLargeError: If it has more bytes or pixels than allowed; nothing was decoded.
        ImageAspectError: If one side is absurdly longer than the other.
        ImageError: If it is too small or damaged.
        ValueError: If ``white_level_16bit`` is out of range.
    """
    if not 1 <= white_level_16bit <= FULL_RANGE_WHITE:
        raise ValueError(f"white_level_16bit must lie in 1..{FULL_RANGE_WHITE}, got {white_level_16bit}")
    if len(data) > limits.max_bytes:
        raise ImageTooLargeError(f"an image must have at most {limits.max_bytes} bytes, got {len(data)}")
    header = probe(data)
    _check_size(header, limits)
    if header.bit_depth == 16:
        # IMREAD_COLOR_RGB returns scrambled 16-bit TIFFs (OpenCV 5.0.0), so the channels are swapped here.
        deep = _decode_pixels(data, header, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
        if deep.dtype == np.uint16:
            if header.inverted:
                deep = FULL_RANGE_WHITE - deep
            deep = np.asarray(cv2.convertScaleAbs(deep, alpha=255.0 / white_level_16bit), dtype=np.uint8)
        pixels = np.asarray(cv2.cvtColor(deep, cv2.COLOR_BGR2RGB), dtype=np.uint8)
    else:
        pixels = np.asarray(_decode_pixels(data, header, cv2.IMREAD_COLOR_RGB), dtype=np.uint8)
    return _upright(pixels, header.orientation)


def encode_jpeg(image: RgbImage, quality: int = 90) -> bytes:
    """Encode an image as JPEG.

    Args:
        image: ``uint8``, shape ``(H, W, 3)``, RGB.
        quality: 1 (smallest) to 100 (best).

    Returns:
        The file's bytes.

    Raises:
        ValueError: If the image has another shape or type, or the quality is out of range.
    """
    if not 1 <= quality <= 100:
        raise ValueError(f"quality must lie in 1..100, got {quality}")
    return _encode(image, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality])


def data_url(image: RgbImage, quality: int = 88) -> str:
    """A picture as text inside a page: a ``data:`` URL of a JPEG; see :func:`encode_jpeg`."""
    return "data:image/jpeg;base64," + base64.b64encode(encode_jpeg(image, quality)).decode()


def encode_png(image: RgbImage, compression: int = 1) -> bytes:
    """Encode an image as PNG, without loss.

    Args:
        image: ``uint8``, shape ``(H, W, 3)``, RGB.
        compression: 0 (fastest) to 9 (smallest).

    Returns:
        The file's bytes.

    Raises:
        ValueError: If the image has another shape or type, or the compression is out of range.
    """
    if not 0 <= compression <= 9:
        raise ValueError(f"compression must lie in 0..9, got {compression}")
    return _encode(image, ".png", [cv2.IMWRITE_PNG_COMPRESSION, compression])


def thumbnail(image: RgbImage, max_side_px: int) -> RgbImage:
    """Shrink an image to fit a square, keeping its aspect ratio; one that fits already is returned as it is.

    Args:
        image: ``uint8``, shape ``(H, W, 3)``, RGB.
        max_side_px: Longest side of the result, ``>= 1``.

    Returns:
        The image, its long side at most ``max_side_px`` and its short side at least 1.

    Raises:
        ValueError: If ``max_side_px`` is below 1 or the image has another shape or type.
    """
    if max_side_px < 1:
        raise ValueError(f"max_side_px must be at least 1, got {max_side_px}")
    require_rgb(image)
    height, width = image.shape[:2]
    scale = max_side_px / max(height, width)
    if scale >= 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def require_rgb(image: RgbImage) -> None:
    """Refuse an array that is not an RGB image.

    Args:
        image: Any array.

    Raises:
        ValueError: If it is not ``uint8`` of shape ``(H, W, 3)`` with at least one pixel.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"an image must be uint8 of shape (H, W, 3), got {image.dtype} of shape {image.shape}")


def _check_size(header: ImageHeader, limits: ImageLimits) -> None:
    width, height = header.width_px, header.height_px
    if width * height > limits.max_pixels:
        raise ImageTooLargeError(f"an image must have at most {limits.max_pixels} pixels, got {width} x {height}")
    short, long = sorted((width, height))
    if long > limits.max_aspect_ratio * short:
        raise ImageAspectError(
            f"an image's long side must be at most {limits.max_aspect_ratio:g} short sides, got {width} x {height}"
        )
    if short < limits.min_side_px:
        raise ImageError(f"an image's sides must be at least {limits.min_side_px} px, got {width} x {height}")


def _decode_pixels(data: bytes, header: ImageHeader, flags: int) -> NDArray[np.integer[Any]]:
    if header.patches:
        patched = bytearray(data)
        for offset, replacement in header.patches:
            patched[offset : offset + len(replacement)] = replacement
        data = bytes(patched)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise ImageError(f"the {header.format} must be decodable, got {error.err or error}") from error
    if pixels is None:
        raise ImageError(f"the {header.format} must be decodable, got damaged or unusual data of {len(data)} bytes")
    if pixels.shape != (header.height_px, header.width_px, 3):
        expected = (header.height_px, header.width_px, 3)
        raise ImageError(f"the {header.format} must decode to the shape {expected} of its header, got {pixels.shape}")
    return cast("NDArray[np.integer[Any]]", pixels)


def _upright(image: NDArray[np.uint8], orientation: int) -> RgbImage:
    if orientation == 1:
        return image
    if orientation >= 5:
        image = image.transpose(1, 0, 2)
    # After the transposition 5..8 need what 1, 2, 4 and 3 need: nothing, a mirror, ...
    mirror_columns = orientation in (2, 3, 6, 7)
    mirror_rows = orientation in (3, 4, 7, 8)
    return np.ascontiguousarray(image[:: -1 if mirror_rows else 1, :: -1 if mirror_columns else 1])


def _encode(image: RgbImage, suffix: str, parameters: list[int]) -> bytes:
    require_rgb(image)
    done, encoded = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), parameters)
    if not done:
        raise ImageError(f"an image of shape {image.shape} must be encodable as {suffix}, got a refusal of the encoder")
    return bytes(encoded)


__all__ = [
    "FULL_RANGE_WHITE",
    "ImageHeader",
    "ImageLimits",
    "data_url",
    "decode",
    "encode_jpeg",
    "encode_png",
    "probe",
    "require_rgb",
    "thumbnail",
]
