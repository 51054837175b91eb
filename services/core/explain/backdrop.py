"""What hidden parts of an image show: the good part that looks most like it.

A masked image asks what the model would say *if this place were good*. A grey patch or a blur does not ask that: both
are faults of their own to a model that has never seen any, and a model that answers *defect* to every masked image
teaches nothing about places. Another good part of the same product, seen by the same camera, shows what the place looks
like where nothing is wrong with it (replacing features by those of real reference data: Lundberg and Lee 2017, "A
unified approach to interpreting model predictions", section 4; Agarwal and Nguyen 2020, "Explaining image classifiers
by removing input features using generative models"). The figures are in ``docs/explaining.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from services.core.errors import InvalidInputError

_SIDE_PX: Final = 16
"""Of the thumbnails that are compared: the part's place and shading show, its surface does not."""

_MOST_DIFFERENCE: Final = 30.0
"""Levels of 255 beyond which a pixel is as different as it gets, so that a large fault does not choose the part."""


@dataclass(frozen=True, slots=True, eq=False)
class GoodParts:
    """Good parts that a backdrop is chosen from.

    Attributes:
        thumbnails: From :func:`thumbnail`, shape ``(N, 768)``.
        image: Gives the prepared image of a row, ``uint8``, shape ``(H, W, 3)``.
    """

    thumbnails: NDArray[np.float32]
    image: Callable[[int], NDArray[np.uint8]]

    @classmethod
    def of(cls, images: Iterable[NDArray[np.uint8]], image: Callable[[int], NDArray[np.uint8]]) -> GoodParts:
        """Look at each good part once.

        Args:
            images: All of them, prepared.
            image: Gives one of them again.

        Raises:
            InvalidInputError: If there is none.
        """
        thumbnails = [thumbnail(one) for one in images]
        if not thumbnails:
            raise InvalidInputError("a backdrop must be chosen from at least one good part, got none")
        return cls(np.stack(thumbnails), image)

    def backdrop(self, image: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
        """Choose the good part that looks most like an image.

        Args:
            image: The image to be explained, prepared, ``uint8``, shape ``(H, W, 3)``.

        Returns:
            The good part under the image's light; None if there is none but the image itself.
        """
        difference = np.minimum(np.abs(self.thumbnails - thumbnail(image)), _MOST_DIFFERENCE).mean(axis=1)
        for row in np.argsort(difference, kind="stable"):
            found = self.image(int(row))
            # A good part that is itself explained, to find where colour begins, would be hidden under itself.
            if found.shape == image.shape and not np.array_equal(found, image):
                return _under_light_of(image, found)
        return None


def thumbnail(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Shrink an image to what is compared, shape ``(768,)``, without its usual brightness, which light may change."""
    small = cv2.resize(image, (_SIDE_PX, _SIDE_PX), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    return np.asarray(small - np.median(small), dtype=np.float32)


def _under_light_of(image: NDArray[np.uint8], part: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Match a part's brightness and contrast, channel by channel, so that a mask's edge shows no step of light.

    By the median, which a fault does not move, and by no more than a quarter in contrast, which it does.
    """
    ours, theirs = image.reshape(-1, 3).astype(np.float32), part.reshape(-1, 3).astype(np.float32)
    contrast = np.clip(ours.std(axis=0) / np.maximum(theirs.std(axis=0), 1.0), 0.8, 1.25)
    middle = np.median(theirs, axis=0)
    matched = (theirs - middle) * contrast + np.median(ours, axis=0)
    return np.asarray(np.clip(np.rint(matched), 0, 255).reshape(part.shape), dtype=np.uint8)


def hidden_pixels(hidden: Sequence[int] | NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """What hidden pixels show, for every pixel.

    Args:
        hidden: A colour, RGB in 0..255, or an image.
        shape: Of the image, ``(H, W, 3)``.

    Raises:
        InvalidInputError: If ``hidden`` is neither.
    """
    shown = np.asarray(hidden, dtype=np.uint8)
    if shown.shape not in ((3,), shape):
        raise InvalidInputError(f"hidden pixels must show a colour or an image of shape {shape}, got {shown.shape}")
    return np.broadcast_to(shown, shape)
