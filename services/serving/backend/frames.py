"""The frames on which engines are compared: a version's own reference parts, and what may happen to them.

The reference parts are good ones, and an engine that passes everything agrees on those. So most frames are variants:
surface of another part pasted in, as a fault would be, another light, blur and noise, each from none to strong, so that
some scores come to lie between and beside the thresholds, where rounding decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from services.adapters.modelfolder import read_reference
from services.core.errors import ModelFormatError
from services.core.imaging import ImageLimits, decode
from services.core.manifest import ModelManifest
from services.core.preprocessing import prepare

#: Fewest verdicts that are compared. 0.999 of a thousand is all but one.
LEAST_FRAMES: Final = 1_000


def comparison_frames(folder: Path, manifest: ModelManifest, least: int = LEAST_FRAMES) -> Iterator[NDArray[np.uint8]]:
    """Draw the frames of a version, the same ones each time.

    Args:
        folder: The version's folder, verified.
        manifest: Its manifest.
        least: Fewest frames.

    Yields:
        Prepared images, shape ``(H, W, 3)``: every part as it is, then its variants.

    Raises:
        ModelFormatError: If there are no reference parts.
        ImageError: If one of them cannot be read.
    """
    reference = read_reference(folder)
    if not reference.files:
        raise ModelFormatError("a version must have reference parts to compare engines on, got none")
    limits = ImageLimits()
    each = -(-least // len(reference.files))
    other = prepare(decode(reference.images[reference.files[-1]], limits), manifest.preprocessing)[0]
    for number, name in enumerate(reference.files):
        tiles = prepare(decode(reference.images[name], limits), manifest.preprocessing)
        for variant in range(each):
            tile = tiles[variant % len(tiles)]
            yield _vary(tile, other, variant, np.random.default_rng((number, variant)))
        other = tiles[0]


def _vary(
    image: NDArray[np.uint8], other: NDArray[np.uint8], variant: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """The image as it is for variant 0; half of the others get a fault."""
    strength = float(rng.uniform())
    if variant == 0:
        return image
    if variant % 2:
        return _paste(image, other, strength, rng)
    if variant % 4:
        gain, offset = 1 + strength * rng.uniform(-0.6, 0.6), strength * rng.uniform(-50, 50)
        return _pixels(image * gain + offset)
    blurred = cv2.GaussianBlur(image, (0, 0), 0.1 + 2 * strength)
    return _pixels(blurred + rng.normal(0, 25 * strength, image.shape))


def _paste(
    image: NDArray[np.uint8], other: NDArray[np.uint8], strength: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    height, width = (max(1, round(side * rng.uniform(0.02, 0.05 + 0.25 * strength))) for side in image.shape[:2])
    top, left, from_top, from_left = (
        int(rng.integers(0, side - length + 1))
        for side, length in 2 * list(zip(image.shape[:2], (height, width), strict=True))
    )
    changed = image.copy()
    # Turned around, or a part of the same kind would show the same there.
    changed[top : top + height, left : left + width] = other[
        from_top : from_top + height, from_left : from_left + width
    ][::-1, ::-1]
    return changed


def _pixels(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
