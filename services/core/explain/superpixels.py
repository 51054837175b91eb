"""Cuts an image into patches of like colour, so that a fault is hidden as a whole or not at all."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from services.core.errors import InvalidInputError

_ROUNDS: Final = 5


def superpixels(image: NDArray[np.uint8], across: int = 8, compactness: float = 10.0) -> NDArray[np.intp]:
    """Cut an image, beginning with a grid whose patches then move to where the colours change.

    The clustering of SLIC (Achanta et al. 2012) in colour and place together, each pixel choosing among the nine
    patches around it; patches need not be connected.

    Args:
        image: ``uint8``, shape ``(H, W, 3)``, RGB.
        across: Patches along each side, ``>= 1``; no more than there are pixels.
        compactness: How much place counts against colour, ``> 0``; large values leave the grid.

    Returns:
        The number of each pixel's patch, from 0 without gaps, shape ``(H, W)``.

    Raises:
        InvalidInputError: If ``across`` or ``compactness`` is out of range.
    """
    height, width = image.shape[:2]
    if not 1 <= across <= min(height, width) or compactness <= 0:
        raise InvalidInputError(
            f"superpixels need across in 1..{min(height, width)} and compactness > 0, got {across} and {compactness}"
        )
    y, x = np.mgrid[:height, :width]
    row, column = y * across // height, x * across // width
    # Place is measured in patches, colour in Lab, where distances are as they look.
    place = compactness * across * np.stack([y / height, x / width], axis=-1)
    pixels = np.concatenate([cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), place], axis=-1)
    pixels = pixels.reshape(-1, 5)
    around = [
        (np.clip(row + down, 0, across - 1) * across + np.clip(column + right, 0, across - 1)).ravel()
        for down in (-1, 0, 1)
        for right in (-1, 0, 1)
    ]
    labels = (row * across + column).ravel()
    centres = np.zeros((across * across, 5))
    for _ in range(_ROUNDS):
        sizes = np.bincount(labels, minlength=len(centres))
        for channel in range(5):
            sums = np.bincount(labels, weights=pixels[:, channel], minlength=len(centres))
            np.divide(sums, sizes, out=centres[:, channel], where=sizes > 0)
        distances = np.stack([((pixels - centres[number]) ** 2).sum(axis=1) for number in around])
        labels = np.take_along_axis(np.stack(around), distances.argmin(axis=0)[None], axis=0)[0]
    _, numbered = np.unique(labels, return_inverse=True)
    return np.asarray(numbered.reshape(height, width), dtype=np.intp)
