"""Explaining what the camera saw: the rest of a letterboxed input is its mirror image.

An image that is not of the input's shape is filled up with its own mirrored surface, so a fault may lie in the input
two or four times. Hiding one of the copies changes little, since the model still sees the others. So the explanation
is of the picture alone: every picture that is masked is filled up again before the model sees it, and a place is hidden
together with all of its mirror images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from services.core.errors import InvalidInputError
from services.core.explain.attribution import Attribution, AttributionMap, Budget, Explainer, Predict
from services.core.explain.resizing import resize_map


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """Where the picture lies in a model's input, in the middle of it.

    Attributes:
        rows: Which row of the picture each row of the input shows.
        columns: Which column.
        height_px: Rows of the picture.
        width_px: Columns of the picture.
    """

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    height_px: int
    width_px: int

    @classmethod
    def centred(cls, input_px: tuple[int, int], content_px: tuple[int, int]) -> Content:
        """Of a picture in the middle, as :func:`services.core.preprocessing.prepare` puts it there.

        Args:
            input_px: Rows and columns of the input.
            content_px: Rows and columns of the picture in it.

        Raises:
            InvalidInputError: If the picture is larger than the input, or empty.
        """
        if not all(1 <= inner <= outer for inner, outer in zip(content_px, input_px, strict=True)):
            raise InvalidInputError(f"a picture must lie within its input of {input_px} pixels, got {content_px}")
        rows, columns = (_mirrored(*sides) for sides in zip(input_px, content_px, strict=True))
        return cls(rows, columns, *content_px)

    @property
    def is_whole(self) -> bool:
        """Whether the picture is all of the input."""
        return (len(self.rows), len(self.columns)) == (self.height_px, self.width_px)

    def crop(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Take the picture out of an input ``(H, W, 3)``."""
        if image.shape[:2] != (len(self.rows), len(self.columns)):
            raise InvalidInputError(
                f"an input must have {len(self.rows)}x{len(self.columns)} pixels, got {image.shape}"
            )
        return np.ascontiguousarray(image[self._inside])

    def fill(self, pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Make inputs ``(B, H, W, 3)`` of pictures ``(B, h, w, 3)``."""
        if self.is_whole:
            return pictures
        # Row by row, and contiguous; one indexing by both would lay batches out the other way around.
        return np.take(np.take(pictures, self.rows, axis=1), self.columns, axis=2)

    def predict(self, predict: Predict) -> Predict:
        """The same model, asked by pictures."""
        return predict if self.is_whole else lambda pictures: predict(self.fill(pictures))

    def spread(self, values: AttributionMap) -> AttributionMap:
        """Lay a map of the picture, of any resolution, over the whole input."""
        if self.is_whole:
            return values
        return resize_map(values, self.height_px, self.width_px)[self.rows[:, np.newaxis], self.columns]

    def crop_map(self, values: AttributionMap) -> AttributionMap:
        """Take what lies over the picture out of a map of the whole input, of any resolution."""
        return values if self.is_whole else resize_map(values, len(self.rows), len(self.columns))[self._inside]

    @property
    def _inside(self) -> tuple[slice, slice]:
        top, left = (len(self.rows) - self.height_px) // 2, (len(self.columns) - self.width_px) // 2
        return slice(top, top + self.height_px), slice(left, left + self.width_px)


@dataclass(frozen=True, slots=True, eq=False)
class OverContent:
    """An explainer that hides parts of the picture together with their mirror images.

    Attributes:
        explainer: Explains pictures by nothing but the model's answers.
        content: Where they lie.
    """

    explainer: Explainer
    content: Content

    def explain(
        self, image: NDArray[np.uint8], target: int, predict: Predict, *, seed: int, budget: Budget
    ) -> Iterator[Attribution]:
        """See :class:`services.core.explain.attribution.Explainer`."""
        picture, ask = self.content.crop(image), self.content.predict(predict)
        for found in self.explainer.explain(picture, target, ask, seed=seed, budget=budget):
            yield replace(found, values=self.content.spread(found.values))


def _mirrored(length: int, inner: int) -> NDArray[np.intp]:
    """Which of ``inner`` places each of ``length`` shows: the mirror repeats the outermost one."""
    turn = (np.arange(length) - (length - inner) // 2) % (2 * inner)
    return np.asarray(np.where(turn < inner, turn, 2 * inner - 1 - turn), dtype=np.intp)
