"""From a snapshot's items to pictures to learn from, exactly as the simulated operator of the experiments teaches.

The picture is brought to the network's input first, then judged and refuted there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from services.adapters.areas import FixedArea, fixed_areas
from services.core.errors import ImageError, InvalidInputError, NotFoundError
from services.core.explain.attribution import hottest
from services.core.explain.resizing import resize_map
from services.core.imaging import ImageLimits, decode
from services.core.manifest import GOOD
from services.core.preprocessing import Preprocessing, prepare
from services.core.review_mask import join_drawings
from services.core.selection.lessons import Judgement, Lesson, lessons_of
from services.core.selection.snapshot import LeftOutReason, SnapshotItem
from services.trainer.order import LearningSettings
from services.trainer.pictures import AnsweredPictures

#: Why nothing is learnt from a picture whose drawing is of another size.
MASK_DOES_NOT_FIT = "mask_does_not_fit"


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """An answered picture, ready to learn from.

    Attributes:
        item: Of the snapshot.
        image: Prepared, ``uint8``, shape ``(H, W, 3)``.
        region: Where the anomaly is, or what misled the model on a good part, ``bool``, shape ``(H, W)``; may be empty.
        drawn: Whether people drew it.
        area: On a defective part, where defects count: the region, else the area of interest that somebody gave, else
            that of its camera or product; likewise.
    """

    item: SnapshotItem
    image: NDArray[np.uint8]
    region: NDArray[np.bool_]
    drawn: bool
    area: NDArray[np.bool_]


@dataclass(slots=True)
class Readings:
    """What was read, and what could not be used, by reason."""

    answered: list[Answered] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def read_answered(
    items: Sequence[SnapshotItem],
    pictures: AnsweredPictures,
    preprocessing: Preprocessing,
    settings: LearningSettings,
    progress: Callable[[float], None],
) -> Readings:
    """Read answered pictures with their regions.

    Args:
        items: Of the snapshot.
        pictures: Where they lie.
        preprocessing: Of the live version.
        settings: How much of a map is a region.
        progress: Told the share that is done.

    Returns:
        What can be used. A picture that is not there or cannot be decoded, and one whose drawing does not fit it, is
        left out and counted: the answers stay on record.

    Raises:
        UnavailableError: If the record does not answer.
        NotFoundError: If the picture of a fixed area is not there.
    """
    readings = Readings()
    areas = fixed_areas(dict(settings.areas))
    for number, item in enumerate(items):
        try:
            picture = decode(pictures.image(item.image_key, item.image_sha256), ImageLimits())
        except (ImageError, NotFoundError, InvalidInputError):
            readings.left_out[LeftOutReason.NO_PICTURE.value] += 1
            continue
        try:
            whole = _region(item, picture.shape[0], picture.shape[1], pictures, settings.region_share)
        except (InvalidInputError, NotFoundError):
            readings.left_out[MASK_DOES_NOT_FIT] += 1
            continue
        image = prepare(picture, preprocessing)[0]
        region = prepared_region(whole, preprocessing)
        area = region
        if item.label == GOOD:
            area = np.zeros_like(region)
        elif not region.any():
            area = prepared_region(_area(item, picture.shape[0], picture.shape[1], areas), preprocessing)
        readings.answered.append(Answered(item, image, region, bool(item.mask_keys), area))
        progress((number + 1) / len(items))
    return readings


def _region(
    item: SnapshotItem, height_px: int, width_px: int, pictures: AnsweredPictures, share: float
) -> NDArray[np.bool_]:
    """Over the whole picture: the union of what was drawn, or what is hot in the maps that people looked at."""
    if item.mask_keys:
        return join_drawings([pictures.mask(key) for key in item.mask_keys], width_px, height_px)
    region = np.zeros((height_px, width_px), np.bool_)
    for case_id, method in item.misleading_maps if item.label == GOOD else item.accepted_maps:
        values = pictures.heat(case_id, method)
        if values is not None and np.isfinite(values).any():
            region |= hottest(resize_map(values, height_px, width_px), share)
    return region


def _area(item: SnapshotItem, height_px: int, width_px: int, areas: Mapping[str, FixedArea]) -> NDArray[np.bool_]:
    """Over the whole picture: what a person marked, else what is fixed for the camera, else for the product."""
    if item.area:
        drawn = np.zeros((height_px, width_px), np.uint8)
        cv2.fillPoly(drawn, [np.rint(np.array(item.area)).astype(np.int32)], 1)
        return drawn > 0
    fixed = areas.get(item.camera_id) or areas.get(item.product)
    return np.zeros((height_px, width_px), np.bool_) if fixed is None else fixed.over(height_px, width_px)


def prepared_region(region: NDArray[np.bool_], preprocessing: Preprocessing) -> NDArray[np.bool_]:
    """Bring a region of a picture to the network's input, by the same map; what is there stays there.

    Args:
        region: ``bool``, shape ``(H, W)``.
        preprocessing: Of whole pictures.
    """
    cover = prepare(np.repeat(region[..., None].astype(np.uint8) * 255, 3, axis=2), preprocessing)[0, ..., 0]
    moved = cover > 127
    if region.any() and not moved.any():
        # A line of a pixel or two covers half of no larger one.
        moved = cover == max(1, int(cover.max()))
    return np.asarray(moved, np.bool_)


def taught(
    one: Answered, label: int, settings: LearningSettings, backgrounds: Sequence[NDArray[np.uint8]]
) -> list[Lesson]:
    """Turn an answered picture into lessons: the picture itself first, then its refutations.

    Args:
        one: The picture.
        label: Its class, 0 = good.
        settings: Of the refutations.
        backgrounds: Good parts, prepared.
    """
    item = one.item
    # Its digest names the answer, so that the same picture is refuted alike whoever answered it and how often.
    judgement = Judgement(
        item.image_sha256,
        label,
        one.region,
        verdict_right=not item.verdict_wrong,
        reason_right=not item.verdict_wrong and not item.reason_wrong and bool(item.accepted_maps),
    )
    return lessons_of(one.image, judgement, settings.refutations, backgrounds)
