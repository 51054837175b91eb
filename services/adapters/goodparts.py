"""The good parts that a version brings along, as something to show where parts of an image are hidden."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.adapters.modelfolder import read_reference
from services.core.decision import decide
from services.core.explain.backdrop import GoodParts
from services.core.imaging import ImageLimits, decode
from services.core.manifest import ModelManifest
from services.core.preprocessing import prepare
from services.core.types import Verdict

#: Parts whose prepared images are kept; the parts that are chosen again and again are few.
_KEPT: Final = 32
#: Most images (or tiles, of a version that cuts images into tiles) that are compared.
_MOST: Final = 512


def good_parts(folder: Path, manifest: ModelManifest) -> GoodParts | None:
    """Take the reference parts that the version itself passes.

    Args:
        folder: The version's folder, verified.
        manifest: Its manifest.

    Returns:
        None if the version passes none of its reference parts.

    Raises:
        ModelFormatError: If the reference parts do not fit each other.
        ImageError: If one of them cannot be read.
    """
    reference = read_reference(folder)

    @lru_cache(maxsize=_KEPT)
    def prepared(name: str) -> NDArray[np.uint8]:
        return prepare(decode(reference.images[name], ImageLimits()), manifest.preprocessing)

    places: list[tuple[str, int]] = []
    for name, score in zip(reference.files, reference.scores, strict=True):
        if len(places) < _MOST and decide(float(score), manifest.operating_point).verdict is Verdict.PASS:
            places.extend((name, tile) for tile in range(len(prepared(name))))
    if not places:
        return None

    def image(row: int) -> NDArray[np.uint8]:
        name, tile = places[row]
        return np.asarray(prepared(name)[tile])

    return GoodParts.of((image(row) for row in range(len(places))), image)
