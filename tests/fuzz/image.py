"""Pictures from cameras, folders and clients: nothing but a refusal or pixels of the size that the header said."""

from __future__ import annotations

import itertools
import sys

import numpy as np

from tests.fuzz.harness import instrumented, refused, run

with instrumented(__name__):
    from services.core.image_header import probe
    from services.core.imaging import ImageLimits, decode

NAME = "image"
LIMITS = ImageLimits(max_bytes=1_000_000, max_pixels=250_000)


def check(data: bytes) -> None:
    image = refused(lambda: decode(data, LIMITS))
    if image is None:
        return
    header = probe(data)
    assert image.dtype == np.uint8
    assert sorted(image.shape) == sorted((header.height_px, header.width_px, 3))
    assert image.size <= 3 * LIMITS.max_pixels


def seeds() -> dict[str, bytes]:
    import cv2

    ramp = np.add.outer(np.arange(24), np.arange(32))
    made = {}
    for suffix, depth, channels in itertools.product((".png", ".jpg", ".bmp", ".tiff"), (8, 16), (1, 3)):
        if depth == 16 and suffix in (".jpg", ".bmp"):
            continue
        pixels = (ramp * (4 if depth == 8 else 1000)).astype(np.uint8 if depth == 8 else np.uint16)
        picture = pixels if channels == 1 else np.dstack([pixels] * 3)
        made[f"{depth}-{channels}{suffix}"] = cv2.imencode(suffix, picture)[1].tobytes()
    grey = np.tile((ramp * 4).astype(np.uint8)[..., None], (1, 1, 3))
    made["progressive.jpg"] = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    made["restarts.jpg"] = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_RST_INTERVAL, 1])[1].tobytes()
    return made


if __name__ == "__main__":
    sys.exit(run(NAME, check))
