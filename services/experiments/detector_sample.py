"""Parts as detectors see them, and which of them are fitted, calibrated and tested on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from services.core.detectors.detector import Images
from services.core.detectors.scale import MIN_PARTS
from services.core.errors import InvalidInputError
from services.core.evaluation.splits import split_by_group
from services.core.manifest import GOOD
from services.core.preprocessing import Placement, Preprocessing, placements, prepare
from services.experiments.parts import Part

SHARES: Final = {"fit": 0.6, "calibrate": 0.2, "test": 0.2}
"""Shares of the good groups; groups with a defect are all tested."""

_MOST_IMAGE_BYTES: Final = 4_000_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Parts as detectors see them.

    Attributes:
        images: Prepared images, ``uint8`` RGB, shape ``(N, S, S, 3)``.
        groups: What a split keeps together.
        defective: Shape ``(N,)``.
        places: Where each picture lies in its prepared image.
        masks: Of each part in the resolution of its place: where the defect is, nowhere on a good part; None of a
            defective part that nobody drew.
    """

    images: Images
    groups: tuple[str, ...]
    defective: NDArray[np.bool_]
    places: tuple[Placement, ...]
    masks: tuple[NDArray[np.bool_] | None, ...]


def prepare_sample(parts: Sequence[Part], size_px: int) -> Sample:
    """Bring parts into the shape that detectors take: letterbox with mirrored fill, as a model version does.

    Args:
        parts: All of them.
        size_px: Rows and columns of the prepared images.

    Raises:
        InvalidInputError: If the prepared images would take too much memory.
    """
    needed = len(parts) * size_px * size_px * 3
    if needed > _MOST_IMAGE_BYTES:
        raise InvalidInputError(
            f"prepared images must fit into {_MOST_IMAGE_BYTES} bytes, got {len(parts)} images that need {needed}"
        )
    preprocessing = Preprocessing(height_px=size_px, width_px=size_px)
    places = tuple(placements(part.image.shape[0], part.image.shape[1], preprocessing)[0] for part in parts)
    return Sample(
        images=np.stack([prepare(part.image, preprocessing)[0] for part in parts]),
        groups=tuple(part.group for part in parts),
        defective=np.array([part.defective for part in parts], dtype=bool),
        places=places,
        masks=tuple(_mask(part, place) for part, place in zip(parts, places, strict=True)),
    )


def split_good(groups: Sequence[str], defective: NDArray[np.bool_], seed: int) -> dict[str, NDArray[np.intp]]:
    """Split parts so that nothing of a tested part was fitted or calibrated on.

    Args:
        groups: What must stay together, one for each part.
        defective: True where the part is, shape ``(N,)``.
        seed: Of the split.

    Returns:
        Rows of ``fit``, ``calibrate`` and ``test``. Groups without a defect are dealt out by :data:`SHARES`; a group
        with one is tested whole, its good pictures too.

    Raises:
        InvalidInputError: If nothing is defective, or too few good groups are there to calibrate on.
    """
    spoiled = {group for group, bad in zip(groups, defective, strict=True) if bad}
    if not spoiled:
        raise InvalidInputError("detectors are compared on good and defective parts, got no defective one")
    good = np.array([row for row, group in enumerate(groups) if group not in spoiled], dtype=np.intp)
    own = [groups[row] for row in good]
    least = math.ceil(MIN_PARTS / SHARES["calibrate"])
    if len(set(own)) < least:
        raise InvalidInputError(
            f"at least {least} good parts (groups without a defect) are needed, got {len(set(own))}"
        )
    sides = {name: good[rows] for name, rows in split_by_group(own, [GOOD] * len(own), SHARES, seed).items()}
    calibrating = len({groups[row] for row in sides["calibrate"]})
    if calibrating < MIN_PARTS:
        raise InvalidInputError(f"at least {MIN_PARTS} good groups must be there to calibrate on, got {calibrating}")
    mixed = np.array([row for row, group in enumerate(groups) if group in spoiled], dtype=np.intp)
    return sides | {"test": np.sort(np.concatenate([sides["test"], mixed]))}


def _mask(part: Part, place: Placement) -> NDArray[np.bool_] | None:
    if not part.defective:
        return np.zeros((place.height, place.width), dtype=bool)
    if part.mask is None:
        return None
    share = cv2.resize(part.mask.astype(np.float32), (place.width, place.height), interpolation=cv2.INTER_AREA)
    # A thin crack covers no pixel by half here: then those that it covers most.
    return np.asarray(share >= min(0.5, float(share.max())), dtype=bool)
