"""How well anomaly maps find drawn defects, over the pixels of all test images together.

A detector's maps share one unit, so the pixels of good images count too: a map that glows on a sound part is as wrong
as one that is dark on a crack. Large defects outweigh small ones in the pixel AUROC and do not in the AUPRO (Bergmann
et al., "Uninformed Students", CVPR 2020), which gives each connected defect one vote.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from services.core.errors import InvalidInputError

Map = NDArray[np.float32]
Mask = NDArray[np.bool_]

#: Up to this share of false pixels the per-region overlap is averaged.
FALSE_LIMIT: Final = 0.3
_STEPS: Final = 300


def pooled_pixel_auroc(maps: Sequence[Map], masks: Sequence[Mask]) -> float:
    """Measure the chance that a pixel of a defect is hotter than any other pixel of the set; ties count half.

    Args:
        maps: One for each image, in one unit, finite.
        masks: True on defects, each of its map's shape; empty of a good image.

    Returns:
        In 0..1; NaN where no pixel is defective, or all are.
    """
    _check(maps, masks)
    sound = _sorted_sound(maps, masks)
    hot = np.concatenate([values[mask] for values, mask in zip(maps, masks, strict=True)])
    if not len(hot) or not len(sound):
        return math.nan
    # Millions of sound pixels are sorted once; ranking all pixels would take several times the memory.
    colder = np.searchsorted(sound, hot, side="left") + np.searchsorted(sound, hot, side="right")
    return float(np.mean(colder) / 2 / len(sound))


def aupro(maps: Sequence[Map], masks: Sequence[Mask], limit: float = FALSE_LIMIT) -> float:
    """Measure the area under the per-region overlap up to a share of false pixels, divided by that share.

    Args:
        maps: One for each image, in one unit, finite.
        masks: True on defects, each of its map's shape; empty of a good image.
        limit: Largest share of sound pixels that is hot, in ``(0, 1]``.

    Returns:
        In 0..1; about half of ``limit`` for maps that say nothing. NaN without a defect, or without a sound pixel.
    """
    _check(maps, masks)
    sound = _sorted_sound(maps, masks)
    regions = [np.sort(region) for values, mask in zip(maps, masks, strict=True) for region in _regions(values, mask)]
    if not regions or not len(sound):
        return math.nan
    wanted = np.linspace(0.0, limit, _STEPS + 1)
    # A place is hot above the threshold; the highest sound value leaves none of the sound pixels hot.
    thresholds = sound[len(sound) - 1 - np.minimum((wanted * len(sound)).astype(int), len(sound) - 1)]
    below = int(np.searchsorted(sound, thresholds[-1]))
    # The first step beyond the limit, which the curve's last piece leads to.
    thresholds = np.append(thresholds, sound[below - 1] if below else -np.inf)
    false = 1 - np.searchsorted(sound, thresholds, side="right") / len(sound)
    found = [1 - np.searchsorted(region, thresholds, side="right") / len(region) for region in regions]
    overlap = np.mean(found, axis=0)
    # Ties can leave steps of the curve far apart: it is read where it was asked for, on straight lines between.
    kept = np.unique(false, return_index=True)[1]
    curve = np.interp(wanted, false[kept], overlap[kept])
    return float(np.sum((curve[1:] + curve[:-1]) / 2 * np.diff(wanted)) / limit)


def _sorted_sound(maps: Sequence[Map], masks: Sequence[Mask]) -> Map:
    return np.sort(np.concatenate([values[~mask] for values, mask in zip(maps, masks, strict=True)]))


def _regions(values: Map, mask: Mask) -> list[Map]:
    if not mask.any():
        return []
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    return [values[labels == number] for number in range(1, count)]


def _check(maps: Sequence[Map], masks: Sequence[Mask]) -> None:
    if not maps or [one.shape for one in maps] != [one.shape for one in masks]:
        raise InvalidInputError(f"maps and masks must have the same shapes, got {len(maps)} maps, {len(masks)} masks")
