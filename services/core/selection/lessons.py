"""What a network is trained on after an answer: the part itself, and its refutations (algorithm 1, lines 4-7 and 27).

The trainer of a running line and the simulated operator of an experiment both come through here, so that what is
measured is what is shipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.core.errors import InvalidInputError
from services.core.selection.refutations import Image, Lineage, Mask, RefutationSettings, refute


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """What an operator says of one part.

    Attributes:
        answer_id: Of the answer: a review's id, or a number of the simulation.
        label: The class, 0 = good.
        region: Where the anomaly is: drawn, or the explanation's hot region where that was accepted. Of a good part
            what misled the model; empty where nothing did. ``bool``, shape ``(H, W)``.
        verdict_right: Whether the model had said so.
        reason_right: Whether its explanation was accepted.
    """

    answer_id: str
    label: int
    region: Mask
    verdict_right: bool
    reason_right: bool

    def __post_init__(self) -> None:
        if self.label < 0:
            raise InvalidInputError(f"label must be >= 0, got {self.label}")
        if self.reason_right and not self.verdict_right:
            raise InvalidInputError(
                "a reason can be right only where the verdict is, got a right one of a wrong verdict"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """One picture to learn from.

    Attributes:
        image: ``uint8``, shape ``(H, W, 3)``.
        label: 0 = good.
        area: Where to look for the defect, ``bool``, shape ``(H, W)``; empty on a good part, where heat has no place,
            and where nobody has said.
        answer_id: Of the answer that it goes with.
        lineage: What was done to the answered picture; None for that picture itself.
    """

    image: Image
    label: int
    area: Mask
    answer_id: str
    lineage: Lineage | None = None


def lessons_of(
    image: Image,
    judgement: Judgement,
    settings: RefutationSettings | None,
    backgrounds: Sequence[Image] = (),
) -> list[Lesson]:
    """Turn one answer into what is learnt from it.

    Args:
        image: The part, ``uint8``, shape ``(H, W, 3)``.
        judgement: What was said of it.
        settings: Of its refutations; None makes none, as plain active learning does.
        backgrounds: Good parts that a region is pasted on.

    Returns:
        The part first, then its refutations.

    Raises:
        InvalidInputError: If the region does not fit the picture.
    """
    lessons = [Lesson(image, judgement.label, _area(judgement.region, judgement.label), judgement.answer_id)]
    if settings is None:
        if judgement.region.shape != image.shape[:2]:
            raise InvalidInputError(
                f"a region must be of its image's size {image.shape[:2]}, got {judgement.region.shape}"
            )
        return lessons
    made = refute(image, judgement.region, judgement.answer_id, settings, backgrounds)
    return lessons + [
        Lesson(one.image, judgement.label, _area(one.region, judgement.label), judgement.answer_id, one.lineage)
        for one in made
    ]


def _area(region: Mask, label: int) -> Mask:
    return region if label else np.zeros_like(region)
