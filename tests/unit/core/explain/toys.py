"""Models small enough to know what their explanation must be."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from services.core.explain.attribution import Predict

Answer = Callable[[NDArray[np.uint8]], NDArray[np.float64]]


def never(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A model that must not be asked."""
    raise AssertionError(f"asked for {len(images)} images")


def two_classes(defect: Answer) -> Predict:
    """A model whose probability of the second class is given."""

    def predict(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        bad = defect(images)
        return np.stack([1.0 - bad, bad], axis=1).astype(np.float32)

    return predict


def brightness_at(weights: NDArray[np.float64]) -> Answer:
    """The weighted mean brightness of an image, in ``[0, 1]``; linear in the pixels."""

    def answer(images: NDArray[np.uint8]) -> NDArray[np.float64]:
        return np.asarray((images.mean(axis=3) / 255.0 * weights).sum(axis=(1, 2)) / weights.sum(), np.float64)

    return answer
