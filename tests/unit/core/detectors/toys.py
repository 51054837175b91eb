"""Small grey parts: a ramp of light that varies a little, and one that is nothing like them."""

from __future__ import annotations

import numpy as np

from services.core.detectors.detector import Images

SHAPE = (12, 12, 3)


def good_parts(count: int, seed: int, colour: bool = False) -> Images:
    draw = np.random.default_rng(seed)
    rows, columns = np.mgrid[:12, :12]
    surface = 110 + 4 * rows + draw.normal(0, 8, (count, 1, 1)) + draw.normal(0, 2, (count, 1, 1)) * (columns - 6)
    image = (surface + draw.normal(0, 4, (count, 12, 12)))[..., np.newaxis] + np.zeros(3)
    if colour:
        image[..., 0] += 20
    return np.clip(image, 0, 255).astype(np.uint8)


def bad_part() -> Images:
    """A checkerboard, shape ``(1, 12, 12, 3)``."""
    rows, columns = np.mgrid[:12, :12]
    return np.repeat(((rows // 2 + columns // 2) % 2 * 255)[np.newaxis, ..., np.newaxis], 3, axis=3).astype(np.uint8)
