"""The centre point: a map that knows neither image nor model.

Whoever photographs parts puts what matters into the middle. This is what that alone is worth.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.core.explain.attribution import Attribution, Budget, Predict


@dataclass(frozen=True, slots=True)
class Centre:
    """The explainer of the method ``centre``: higher the nearer to the middle, 1 there and 0 in the corners."""

    method: str = "centre"

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
        y, x = (np.linspace(-1.0, 1.0, side) if side > 1 else np.zeros(1) for side in image.shape[:2])
        distance = np.sqrt((y[:, np.newaxis] ** 2 + x[np.newaxis, :] ** 2) / 2.0)
        yield Attribution(self.method, (1.0 - distance).astype(np.float32), passes=0)
