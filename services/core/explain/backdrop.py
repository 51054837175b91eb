"""What hidden parts of an image show: the most similar good part.

A masked image asks what the model would say *if this place were good*. A grey patch or a blur does not ask that: both
are faults of their own to a model that has never seen any, and a model that answers *defect* to every masked image
teaches nothing about places. Another good part of the same product, seen by the same camera, shows what the place looks
like where nothing is wrong with it (replacing features by those of real reference data: Lundberg and Lee 2017, "A
unified approach to interpreting model predictions", section 4; Agarwal and Nguyen 2020, "Explaining image classifiers
by removing input features using generative models"). The figures are in ``docs/explaining.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.core.errors import InvalidInputError


@dataclass(frozen=True, slots=True, eq=False)
class GoodParts:
    """Good parts that a backdrop is chosen from.

    Attributes:
        embeddings: What the model makes of them, any float type, shape ``(N, D)``.
        image: Gives the prepared image of a row, ``uint8``, shape ``(H, W, 3)``.
    """

    embeddings: NDArray[np.floating]
    image: Callable[[int], NDArray[np.uint8]]

    def backdrop(self, image: NDArray[np.uint8], embedding: NDArray[np.floating]) -> NDArray[np.uint8] | None:
        """Choose the good part that is most similar to an image, by the cosine of embeddings (paper 1, equation 3).

        Args:
            image: The image to be explained, prepared, ``uint8``, shape ``(H, W, 3)``.
            embedding: What the model makes of it, shape ``(D,)``.

        Returns:
            The good part's image; None if there is none but the image itself.

        Raises:
            InvalidInputError: If the sizes of embeddings differ.
        """
        if embedding.shape != self.embeddings.shape[1:]:
            raise InvalidInputError(f"an embedding must have shape {self.embeddings.shape[1:]}, got {embedding.shape}")
        for row in np.argsort(-_cosines(self.embeddings, embedding), kind="stable"):
            found = self.image(int(row))
            # A good part that is itself explained, to find where colour begins, would be hidden under itself.
            if found.shape == image.shape and not np.array_equal(found, image):
                return found
        return None


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


def _cosines(rows: NDArray[np.floating], one: NDArray[np.floating]) -> NDArray[np.float64]:
    wide = rows.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1) * np.linalg.norm(one.astype(np.float64))
    return np.asarray(wide @ one.astype(np.float64) / np.maximum(lengths, 1e-12))
