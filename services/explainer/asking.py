"""From an image to the map of one method over it: what the stream of cases, callers and the calibration share."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from services.adapters.ports import ExplanationClient, ExplanationRequest, ExplanationStep, ExplanationSteps
from services.core.errors import ExplanationError, ImageError, UnavailableError
from services.core.imaging import ImageLimits, decode
from services.core.preprocessing import combine, placements, prepare
from services.explainer.maps import onto_source
from services.explainer.versions import Version

#: Asked of each tile for what the model answers to it; the map itself comes without a pass.
_SCORING = ExplanationRequest(method="contrast", max_passes=1, evidence=False)


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """The tile of an image that decided, ready to be explained.

    Attributes:
        pixels: ``uint8``, shape ``(H, W, 3)``, prepared.
        tile: Its number among the image's tiles.
        height_px: Rows of the image.
        width_px: Columns of the image.
    """

    pixels: NDArray[np.uint8]
    tile: int
    height_px: int
    width_px: int


class Asking:
    """Prepares images and asks explaining models about them. Thread-safe.

    Args:
        client: Asks Triton.
        limits: What is refused before it is decoded.
        grace_s: Time beyond an explanation's own budget until its call is given up.
        side_px: Longest side of a map as it is written.
    """

    def __init__(self, client: ExplanationClient, limits: ImageLimits, *, grace_s: float, side_px: int) -> None:
        self._client = client
        self._limits = limits
        self._grace_s = grace_s
        self._side_px = side_px

    def place(self, data: bytes, version: Version) -> Placed:
        """Decode an image and find the tile that decided.

        The worst tile speaks for the part, so that one is explained. Which one it is, is asked of the explaining
        model, a pass a tile: it is the same version, and the queue of verdicts is left alone.

        Args:
            data: The encoded image.
            version: Says how it is prepared.

        Raises:
            ImageError: For an image that cannot be used.
            ExplanationError: For an image that shows nothing (``blank_image``), or scores that are not finite.
            UnavailableError: When Triton does not answer.
            NotFoundError: When the model is not loaded.
        """
        try:
            image = decode(data, self._limits)
            tiles = prepare(image, version.preprocessing)
        except (cv2.error, ValueError, MemoryError) as error:
            raise ImageError(f"an image must be preparable, got {type(error).__name__}: {error}") from error
        height, width = image.shape[:2]
        if (image == image[0, 0]).all():
            # Whatever a model says of it, no place of it says more than another.
            colour = ", ".join(map(str, image[0, 0]))
            raise ExplanationError(f"an image must show something, got the colour ({colour}) everywhere", "blank_image")
        tile = 0
        if len(tiles) > 1:
            tile, _ = combine(np.array([self._score(version, each) for each in tiles], dtype=np.float32))
        return Placed(np.ascontiguousarray(tiles[tile]), tile, height, width)

    def steps(self, placed: Placed, version: Version, request: ExplanationRequest) -> ExplanationSteps:
        """Ask for a map; see ``ExplanationClient.explain``."""
        place = placements(placed.height_px, placed.width_px, version.preprocessing)[placed.tile]
        request = replace(request, content_height_px=place.height, content_width_px=place.width)
        timeout_s = request.budget_ms / 1e3 + self._grace_s
        return self._client.explain(version.model_name, placed.pixels, request, timeout_s)

    def last(
        self,
        placed: Placed,
        version: Version,
        request: ExplanationRequest,
        *,
        holding: Callable[[ExplanationSteps], None] = lambda _steps: None,
    ) -> ExplanationStep | None:
        """Ask for a map and wait for it.

        Args:
            placed: What to explain.
            version: With which model.
            request: Method and budget.
            holding: Given the call under way, for somebody else to close.

        Returns:
            The final map, or None where the call was closed before.

        Raises:
            SightlineError: See ``ExplanationClient.explain``.
        """
        steps = self.steps(placed, version, request)
        holding(steps)
        found: ExplanationStep | None = None
        with contextlib.closing(steps):
            for step in steps:
                found = step
        return found if found is not None and found.final else None

    def on_source(self, placed: Placed, version: Version, values: NDArray[np.float32]) -> NDArray[np.float16]:
        """Bring a map back onto the image, reduced to what is written."""
        return onto_source(
            values,
            version.preprocessing,
            placed.height_px,
            placed.width_px,
            tile=placed.tile,
            side_px=self._side_px,
        )

    def is_loaded(self, version: Version) -> bool:
        """Tell whether a version's explaining model can be asked."""
        return self._client.is_loaded(version.model_name)

    def _score(self, version: Version, tile: NDArray[np.uint8]) -> float:
        with contextlib.closing(self._client.explain(version.model_name, tile, _SCORING, self._grace_s)) as steps:
            for step in steps:
                if step.final:
                    return step.probability
        raise UnavailableError("Triton must answer what it was asked, got no final answer")
