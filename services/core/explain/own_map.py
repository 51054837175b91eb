"""The map that a detector makes by itself, through the same door as every explanation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.core.errors import ExplanationError
from services.core.explain.attribution import OWN_MAP, Attribution, AttributionMap, Budget, Predict


@dataclass(frozen=True, slots=True, eq=False)
class OwnMap:
    """The explainer of the method ``anomaly-map``.

    Attributes:
        map_of: Gives the detector's map of an image, None where it has none.
    """

    map_of: Callable[[NDArray[np.uint8]], AttributionMap | None]
    method: str = OWN_MAP

    def explain(
        self,
        image: NDArray[np.uint8],
        target: int,  # noqa: ARG002 - a detector knows one thing to look for
        predict: Predict,  # noqa: ARG002 - looks by itself
        *,
        seed: int,  # noqa: ARG002 - nothing is drawn
        budget: Budget,  # noqa: ARG002 - one look is the least there is
    ) -> Iterator[Attribution]:
        """See :class:`services.core.explain.attribution.Explainer`.

        Raises:
            ExplanationError: ``no_own_map`` if the detector finds no places.
        """
        values = self.map_of(image)
        if values is None:
            raise ExplanationError(
                "anomaly-map needs a detector that finds places, got one that has none", "no_own_map"
            )
        yield Attribution(self.method, values, passes=1)
