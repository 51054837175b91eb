"""Local contrast: where an image differs from its own surroundings. It asks no model.

A fault on an even surface is a place unlike its surroundings, so this finds many of them. A map of a model that is no
better than this one says little about the model; it stands in every table as that measure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from services.core.explain.attribution import Attribution, Budget, Predict


@dataclass(frozen=True, slots=True)
class Contrast:
    """The explainer of the method ``contrast``: how far the smoothed image lies from its wider surroundings.

    Attributes:
        detail_share: Standard deviation of the smoothing, as a share of the image's shorter side; removes grain.
        surround_share: Standard deviation of the surroundings.
        spread_share: Standard deviation over which what was found is gathered.
    """

    detail_share: float = 0.006
    surround_share: float = 0.03
    spread_share: float = 0.02
    method: str = "contrast"

    def explain(
        self,
        image: NDArray[np.uint8],
        target: int,  # noqa: ARG002
        predict: Predict,  # noqa: ARG002
        *,
        seed: int,  # noqa: ARG002
        budget: Budget,  # noqa: ARG002
    ) -> Iterator[Attribution]:
        """See :class:`services.core.explain.attribution.Explainer`; the model is not asked, so no pass is spent."""
        yield Attribution(self.method, self.filtered(image), passes=0)

    def filtered(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The map, of the image's own size."""
        side = min(image.shape[:2])
        pixels = image.astype(np.float32)
        difference = _blurred(pixels, self.detail_share * side) - _blurred(pixels, self.surround_share * side)
        strength = np.sqrt((difference**2).mean(axis=2))
        return _blurred(strength, self.spread_share * side)


def _blurred(pixels: NDArray[np.float32], deviation_px: float) -> NDArray[np.float32]:
    # Mirrored at the border, where anything else would look like an edge.
    blurred = cv2.GaussianBlur(pixels, (0, 0), max(deviation_px, 0.1), borderType=cv2.BORDER_REFLECT)
    return np.asarray(blurred, dtype=np.float32)
