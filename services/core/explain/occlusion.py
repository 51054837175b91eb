"""Occlusion: how far the answer falls while one window of the image is hidden (Zeiler and Fergus 2014, section 2.1).

The plain baseline of every method that hides parts: nothing random, one window at a time, so faults that are larger
than a window, or that there are several of, are missed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.core.explain.attribution import Attribution, AttributionMap, Budget, Predict, target_values

_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


@dataclass(frozen=True, slots=True)
class Occlusion:
    """The explainer of the method ``occlusion``.

    As many windows are laid as the budget has passes for, evenly, at most one for every ``stride_px`` pixels.

    Attributes:
        window_share: Side of the window as a share of the image's, in ``(0, 1]``.
        stride_px: Least distance between two windows.
        fill: What hidden pixels show: a colour, RGB in 0..255.
        refine_every: Passes between two maps that are shown on the way.
    """

    window_share: float = 1 / 8
    stride_px: int = 7
    fill: tuple[int, int, int] = (124, 116, 104)
    refine_every: int = 128
    method: str = "occlusion"

    def explain(
        self,
        image: NDArray[np.uint8],
        target: int,
        predict: Predict,
        *,
        seed: int,  # noqa: ARG002
        budget: Budget,
    ) -> Iterator[Attribution]:
        """See :class:`services.core.explain.attribution.Explainer`; a pixel that no window hid yet is undefined."""
        height, width = image.shape[:2]
        sides = max(1, round(height * self.window_share)), max(1, round(width * self.window_share))
        windows = self._windows((height, width), sides, budget.max_passes - 1)
        base = float(target_values(predict(image[np.newaxis]), target)[0])
        falls, counts = np.zeros((height, width)), np.zeros((height, width))
        done, shown_at, late = 0, 0, budget.out_of_time()
        while done < len(windows) and not late:
            some = windows[done : done + budget.batch_size]
            answers = target_values(predict(self._hide(image, some, sides)), target)
            for (y, x), answer in zip(some, answers, strict=True):
                falls[y : y + sides[0], x : x + sides[1]] += base - float(answer)
                counts[y : y + sides[0], x : x + sides[1]] += 1
            done, late = done + len(some), budget.out_of_time()
            if done < len(windows) and not late and done - shown_at >= self.refine_every:
                shown_at = done
                yield Attribution(self.method, _mean(falls, counts), done + 1, final=False)
        yield Attribution(self.method, _mean(falls, counts), done + 1, partial=done < len(windows))

    def _hide(
        self, image: NDArray[np.uint8], windows: list[tuple[int, int]], sides: tuple[int, int]
    ) -> NDArray[np.uint8]:
        hidden = np.repeat(image[np.newaxis], len(windows), axis=0)
        for copy, (y, x) in zip(hidden, windows, strict=True):
            copy[y : y + sides[0], x : x + sides[1]] = self.fill
        return hidden

    def _windows(self, shape: tuple[int, int], sides: tuple[int, int], most: int) -> list[tuple[int, int]]:
        """Top left corners, in an order in which any first part of them lies spread over the image."""
        free = shape[0] - sides[0], shape[1] - sides[1]
        rows, columns = (1 + free[axis] // self.stride_px for axis in (0, 1))
        shrink = min(1.0, math.sqrt(max(1, most) / (rows * columns)))
        rows, columns = max(1, int(rows * shrink)), max(1, int(columns * shrink))
        ys, xs = (np.linspace(0, free[axis], count).round() for axis, count in ((0, rows), (1, columns)))
        if most < 1:
            return []
        places = [(int(y), int(x)) for y in ys for x in xs][:most]
        order = np.argsort(np.arange(len(places)) * _GOLDEN % 1.0, kind="stable")
        return [places[index] for index in order]


def _mean(falls: NDArray[np.float64], counts: NDArray[np.float64]) -> AttributionMap:
    mean = np.divide(falls, counts, out=np.full(falls.shape, np.nan), where=counts > 0)
    return np.asarray(mean, dtype=np.float32)
