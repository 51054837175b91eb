"""Parts small enough to fit a detector on in a test."""

from __future__ import annotations

import hashlib
import json

import numpy as np
from numpy.typing import NDArray

SIDE = 64


def good_parts(count: int, seed: int = 0, side: int = SIDE) -> NDArray[np.uint8]:
    """Grey noise with vertical lines, shape ``(count, side, side, 3)``."""
    rng = np.random.default_rng(seed)
    lines = 20 * np.sin(np.arange(side) / 3.0 + rng.uniform(0, 6, (count, 1)))
    grey = 110 + lines[:, None, :] + rng.normal(0, 8, (count, side, side))
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=3)


def with_square(parts: NDArray[np.uint8], top: int, left: int, side: int = 12) -> NDArray[np.uint8]:
    """The same parts with a bright square on each."""
    spoilt = parts.copy()
    spoilt[:, top : top + side, left : left + side] = 250
    return spoilt


def ignore(_: float, __: str) -> None:
    """Progress that nobody watches."""


def resealed(files: dict[str, bytes]) -> dict[str, bytes]:
    """Files that were changed, under a header that has their digests: what only the contents can give away."""
    header = json.loads(files["detector.json"])
    header["sha256"] = {
        name: hashlib.sha256(data).hexdigest() for name, data in files.items() if name != "detector.json"
    }
    return {**files, "detector.json": json.dumps(header).encode()}
