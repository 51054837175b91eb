"""Whether a model really looks at what a map shows: change the image in the map's order and watch the answer.

*Deletion* hides the image from its hottest place on; *insertion* shows it from its hottest place on (Petsiuk et al.
2018, section 3.3). A faithful map makes the answer fall at once, or rise at once. Both are areas under the curve of
answers over the share of changed pixels, in ``[0, 1]``.

Neither figure means much by itself: it depends on the model, the part and what hidden pixels show. So both are measured
for the same map *put in the wrong place* too, turned around and moved by a quarter to three quarters of the image: a
random order with the map's own coarseness, where a random order of single pixels would only make noise of the image.

*Transplant* asks of the hottest point alone: what is around it, in four growing discs, is put into a good part, and the
answer tells whether it takes its fault along. It is what tells maps that point at a defect from those that do not; see
:mod:`services.core.explain.grade`. It tells nothing of a detector that has learned what good surfaces look like, patch
by patch: to that the seam of anything that is put in is an anomaly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.core.errors import ExplanationError, InvalidInputError
from services.core.explain.attribution import AttributionMap, Predict, dice, hottest
from services.core.explain.backdrop import hidden_pixels
from services.core.explain.resizing import resize_map
from services.core.explain.temper import tempered_values

DEFAULT_STEPS: Final = 8

#: Radii of what is transplanted, as shares of the image's longer side, and the width over which its edge fades.
TRANSPLANT_RADII: Final = (0.036, 0.054, 0.08, 0.116)
_FADE_SHARE: Final = 0.018


@dataclass(frozen=True, slots=True)
class Faithfulness:
    """What changing the image in the map's order did.

    Attributes:
        deletion_auc: In ``[0, 1]``; lower is better.
        insertion_auc: In ``[0, 1]``; higher is better.
        random_auc: Mean of both for the map in the wrong place; a faithful map's deletion lies below it and its
            insertion above.
        passes: Forward passes spent.
        transplant: Mean rise of the answer to a good part into which the surroundings of the map's hottest point are
            put, in ``[-1, 1]``; higher is better. NaN where hidden pixels show a colour and no good part.
    """

    deletion_auc: float
    insertion_auc: float
    random_auc: float
    passes: int
    transplant: float = math.nan


def measure(
    image: NDArray[np.uint8],
    values: AttributionMap,
    target: int,
    predict: Predict,
    *,
    hidden: Sequence[int] | NDArray[np.uint8],
    seed: int,
    batch_size: int,
    steps: int = DEFAULT_STEPS,
    temper: float = 1.0,
    transplants: bool = True,
) -> Faithfulness:
    """Measure deletion and insertion against a misplaced map.

    Pixels of equal value come in a random order, so a flat map is no better than chance; undefined ones come last.

    Args:
        image: Prepared, ``uint8``, shape ``(H, W, 3)``.
        values: The map, of any resolution, over the whole image.
        target: As in :class:`services.core.explain.attribution.Explainer`.
        predict: The model.
        hidden: What hidden pixels show: a colour, RGB in 0..255, or an image, such as a good part.
        seed: Of the misplacement and of ties.
        batch_size: Images of one forward pass.
        steps: Steps of a curve, ``>= 2``; they are finer where the hottest pixels go, since defects are small.
        temper: Which root of the odds is watched, see :mod:`services.core.explain.temper`: the confidence of a network
            that is too sure stays where it is until everything is gone.
        transplants: Whether the transplant tells anything of the model.

    Returns:
        The figures, after ``4 * steps - 2`` passes, and one more for each disc where a good part is shown.

    Raises:
        InvalidInputError: If ``steps`` or ``batch_size`` is too small.
        ExplanationError: If no pixel of the map is defined, or the model answers NaN.
    """
    if steps < 2 or batch_size < 1:
        raise InvalidInputError(f"steps must be >= 2 and batch_size >= 1, got {steps} and {batch_size}")
    if not np.isfinite(values).any():
        raise ExplanationError("a map must have defined pixels, got none", "flat_map")
    random = np.random.Generator(np.random.Philox(seed))
    ranks = _ranks(resize_map(values, *image.shape[:2]), random)
    misplaced = _misplaced(ranks, random)
    shares = (np.arange(1, steps) / steps) ** 2
    shown = hidden_pixels(hidden, image.shape)

    discs = _discs(values, image.shape[:2]) if transplants and np.ndim(hidden) == 3 else []

    def changed() -> Iterator[NDArray[np.uint8]]:
        yield image
        yield shown
        for disc in discs:
            yield _put_into(shown, image, disc)
        for order in (ranks, misplaced):
            for share in shares:
                gone = (order < share)[..., None]
                yield np.where(gone, shown, image)
                yield np.where(gone, image, shown)

    answers = _answers(changed(), target, predict, batch_size, temper)
    whole, nothing = answers[0], answers[1]
    rises = answers[2 : 2 + len(discs)] - nothing
    curves = answers[2 + len(discs) :].reshape(2, steps - 1, 2)
    at = np.concatenate([[0.0], shares, [1.0]])

    def area(curve: NDArray[np.float64], start: float, end: float) -> float:
        return float(np.trapezoid(np.concatenate([[start], curve, [end]]), at))

    deletions = [area(curve[:, 0], whole, nothing) for curve in curves]
    insertions = [area(curve[:, 1], nothing, whole) for curve in curves]
    return Faithfulness(
        deletions[0],
        insertions[0],
        (deletions[1] + insertions[1]) / 2,
        len(answers),
        float(rises.mean()) if discs else math.nan,
    )


def transplant(
    image: NDArray[np.uint8],
    values: AttributionMap,
    target: int,
    predict: Predict,
    *,
    good: NDArray[np.uint8],
    temper: float = 1.0,
) -> Faithfulness:
    """Measure the transplant alone, where there is no time for the curves.

    Args:
        image: Prepared, ``uint8``, shape ``(H, W, 3)``.
        values: The map, of any resolution, over the whole image.
        target: As in :class:`services.core.explain.attribution.Explainer`.
        predict: The model.
        good: A good part, of the image's shape.
        temper: As in :func:`measure`.

    Returns:
        The figures, of which only ``transplant`` is measured, after one pass for the good part and one for each disc.

    Raises:
        ExplanationError: If no pixel of the map is defined, or the model answers NaN.
    """
    if not np.isfinite(values).any():
        raise ExplanationError("a map must have defined pixels, got none", "flat_map")
    shown = hidden_pixels(good, image.shape)
    mixed = [_put_into(shown, image, disc) for disc in _discs(values, image.shape[:2])]
    answers = tempered_values(predict(np.stack([shown, *mixed])), target, temper).astype(np.float64)
    return Faithfulness(math.nan, math.nan, math.nan, len(answers), float(answers[1:].mean() - answers[0]))


def agreement(first: AttributionMap, second: AttributionMap) -> float:
    """Say how far two maps point to the same place.

    Args:
        first: A map.
        second: Another of the same image, of any resolution.

    Returns:
        Dice of their hottest tenths, in ``[0, 1]``; about 0.1 for unrelated maps.
    """
    height = max(first.shape[0], second.shape[0])
    width = max(first.shape[1], second.shape[1])
    return dice(hottest(resize_map(first, height, width)), hottest(resize_map(second, height, width)))


def _discs(values: AttributionMap, size: tuple[int, int]) -> list[NDArray[np.float32]]:
    """How much of each pixel is put in, ``(H, W, 1)``, for discs around the map's hottest point."""
    at_image = resize_map(values, *size)
    row, column = np.unravel_index(np.nanargmax(at_image), size)
    rows, columns = np.ogrid[: size[0], : size[1]]
    distance = np.hypot(rows - row, columns - column).astype(np.float32)
    side = max(size)
    fade = max(1.0, _FADE_SHARE * side)
    return [np.clip(0.5 + (share * side - distance) / fade, 0, 1)[..., np.newaxis] for share in TRANSPLANT_RADII]


def _put_into(good: NDArray[np.uint8], image: NDArray[np.uint8], disc: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.asarray(np.rint(image * disc + good * (1 - disc)), dtype=np.uint8)


def _ranks(values: AttributionMap, random: np.random.Generator) -> NDArray[np.float64]:
    """Share of pixels that are hotter, in ``[0, 1)``; ties in random order, undefined pixels last."""
    flat = np.where(np.isfinite(values), values, -np.inf).ravel()
    order = np.lexsort((random.random(flat.size), -flat))
    ranks = np.empty(flat.size)
    ranks[order] = np.arange(flat.size) / flat.size
    return ranks.reshape(values.shape)


def _misplaced(ranks: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    height, width = ranks.shape
    moved = ranks[:: 1 if random.random() < 0.5 else -1, :: 1 if random.random() < 0.5 else -1]
    down = round(height * random.uniform(0.25, 0.75))
    right = round(width * random.uniform(0.25, 0.75))
    return np.roll(moved, (down, right), axis=(0, 1))


def _answers(
    images: Iterator[NDArray[np.uint8]], target: int, predict: Predict, batch_size: int, temper: float
) -> NDArray[np.float64]:
    answers: list[NDArray[np.float32]] = []
    batch: list[NDArray[np.uint8]] = []
    for image in images:
        batch.append(image)
        if len(batch) == batch_size:
            answers.append(tempered_values(predict(np.stack(batch)), target, temper))
            batch = []
    if batch:
        answers.append(tempered_values(predict(np.stack(batch)), target, temper))
    return np.concatenate(answers).astype(np.float64)
