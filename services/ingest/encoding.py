"""Pixels to encoded bytes, for sources that deliver pixels."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from services.ingest.settings import EncodingSettings
from services.ingest.source import SourceError


def encode_bgr(pixels: NDArray[np.uint8], settings: EncodingSettings) -> bytes:
    """Encode one picture.

    Args:
        pixels: ``uint8`` or ``uint16``, shape ``(H, W)`` or ``(H, W, 3)``, in OpenCV's BGR order.
        settings: Format and quality.

    Raises:
        SourceError: When OpenCV cannot encode what the camera gave.
    """
    try:
        if settings.format == "png":
            done, data = cv2.imencode(".png", pixels)
        else:
            done, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, settings.jpeg_quality])
    except cv2.error as error:
        raise SourceError(f"a picture must be encodable as {settings.format}, got {error}") from error
    if not done:
        raise SourceError(f"a picture must be encodable as {settings.format}, got {pixels.dtype} {pixels.shape}")
    return data.tobytes()


_SUFFIXES = (
    (b"\xff\xd8\xff", "jpg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"BM", "bmp"),
    (b"II*\x00", "tif"),
    (b"MM\x00*", "tif"),
)


def suffix_of(image: bytes) -> str:
    """The file suffix for encoded bytes, by their first bytes; ``bin`` for what is none of ours."""
    return next((suffix for magic, suffix in _SUFFIXES if image.startswith(magic)), "bin")


def content_type_of(suffix: str) -> str:
    """The media type that goes with a suffix."""
    types = {"jpg": "image/jpeg", "png": "image/png", "bmp": "image/bmp", "tif": "image/tiff"}
    return types.get(suffix, "application/octet-stream")
