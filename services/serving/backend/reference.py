"""The good parts that a version brings along, as something to show where parts of an image are hidden."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.adapters.modelfolder import Reference, read_reference
from services.core.decision import decide
from services.core.explain.backdrop import GoodParts
from services.core.imaging import ImageLimits, decode
from services.core.manifest import ModelManifest
from services.core.preprocessing import prepare
from services.core.types import Verdict

#: Prepared images that are kept; neighbours of one another's parts are few.
_KEPT: Final = 32
#: Most tiles that are looked at where a version cuts images into tiles: each costs a pass, once.
_MOST_TILES: Final = 128

Embed = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""From prepared images ``(B, H, W, 3)`` to embeddings ``(B, D)``."""


def good_parts(folder: Path, manifest: ModelManifest, embed: Embed) -> GoodParts | None:
    """Take the reference parts that the version itself passes.

    Whole images are chosen by the embeddings that lie in the version, and read when they are needed. Of tiles the
    version keeps none, so tiles of some of the parts are embedded here.

    Args:
        folder: The version's folder, verified.
        manifest: Its manifest.
        embed: The version's network.

    Returns:
        None if the version passes none of its reference parts.

    Raises:
        ModelFormatError: If the reference parts do not fit each other.
        ImageError: If a tile's part cannot be read.
    """
    reference = read_reference(folder)
    rows = [
        row
        for row, score in enumerate(reference.scores)
        if decide(float(score), manifest.operating_point).verdict is Verdict.PASS
    ]
    if not rows:
        return None
    if manifest.preprocessing.mode == "tiles":
        return _tiles(reference, rows, manifest, embed)

    @lru_cache(maxsize=_KEPT)
    def image(row: int) -> NDArray[np.uint8]:
        return _prepared(reference, rows[row], manifest)[0]

    return GoodParts(reference.embeddings[rows], image)


def _tiles(reference: Reference, rows: list[int], manifest: ModelManifest, embed: Embed) -> GoodParts:
    tiles: list[NDArray[np.uint8]] = []
    for row in rows:
        tiles.extend(_prepared(reference, row, manifest)[: _MOST_TILES - len(tiles)])
        if len(tiles) >= _MOST_TILES:
            break
    stacked = np.stack(tiles)
    embeddings = np.concatenate([embed(stacked[start : start + 1]) for start in range(len(stacked))])
    return GoodParts(embeddings, lambda row: stacked[row])


def _prepared(reference: Reference, row: int, manifest: ModelManifest) -> NDArray[np.uint8]:
    return prepare(decode(reference.images[reference.files[row]], ImageLimits()), manifest.preprocessing)
