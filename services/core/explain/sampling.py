"""RISE and InvRISE: what a model says of an image while parts of it are hidden (paper 1, section 3.3, equations 1-2).

All four estimators are read off the same sums over the masks, so one pass over the masks gives every one of them:

- ``rise``: ``S = 1/(k p) sum f m`` (Petsiuk et al. 2018, equation 6);
- ``rise-centred``: ``f - mean(f)`` in place of ``f``, the covariance of answer and visibility;
- ``invrise``: ``S = 1/P[M=0] sum (1 - f) [m = 0] P[M=m]``, equation 2 as written, with the share of masks that hide a
  pixel wholly counted pixel by pixel; a pixel that none hides is undefined;
- ``invrise-soft``: ``1 - m`` in place of ``[m = 0]``: every mask speaks of every pixel as far as it hides it.

Centring adds nothing to the last two: they are weighted means of ``1 - f``, so ``f - mean(f)`` only moves the zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from services.core.errors import ExplanationError, InvalidInputError
from services.core.explain.adjustment import AdjustedSums
from services.core.explain.attribution import (
    Attribution,
    AttributionMap,
    Budget,
    Predict,
    dice,
    hottest,
)
from services.core.explain.backdrop import hidden_pixels
from services.core.explain.masks import Design, MaskBlock, MaskGeometry, draw_blocks
from services.core.explain.temper import tempered_values

Estimator = Literal["rise", "rise-centred", "invrise", "invrise-soft"]

ESTIMATORS: Final[tuple[Estimator, ...]] = ("rise", "rise-centred", "invrise", "invrise-soft")

_VISIBLE: Final = 0.5
"""Chance of a cell to be visible (``p`` in both papers)."""

_MASK_SHIFT: Final = 7
_MASK_STEPS: Final = 1 << _MASK_SHIFT
_HALF: Final = np.float32(0.5)

_FLAT: Final = 1e-6
"""Answers that differ by less do not differ: there is nothing to be read off them but rounding."""


@dataclass(slots=True, eq=False)
class MaskedSums:
    """What was seen so far, as sums over masks; its size does not depend on their number.

    Attributes:
        geometry: Sizes of image and grid.
        count: Masks.
        answers: Sum of ``f``.
        seen: Sum of ``m``, shape ``(H, W)``.
        answers_seen: Sum of ``f m``.
        hiding: Number of masks that hide the pixel wholly.
        answers_hiding: Sum of ``f`` over those.
    """

    geometry: MaskGeometry
    count: int = 0
    answers: float = 0.0
    seen: NDArray[np.float64] = field(init=False)
    answers_seen: NDArray[np.float64] = field(init=False)
    hiding: NDArray[np.float64] = field(init=False)
    answers_hiding: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        shape = (self.geometry.height_px, self.geometry.width_px)
        self.seen, self.answers_seen = np.zeros(shape), np.zeros(shape)
        self.hiding, self.answers_hiding = np.zeros(shape), np.zeros(shape)

    def add(self, blocks: Sequence[MaskBlock], answers: NDArray[np.float32]) -> None:
        """Add masks.

        Args:
            blocks: The masks.
            answers: ``f`` of the image under each, in the same order.
        """
        if not len(answers):
            return
        f = answers.astype(np.float32)
        grids = np.concatenate([block.grids for block in blocks])
        shifts = [block.shift for block in blocks for _ in block.grids]
        self.count += len(f)
        self.answers += float(answers.sum(dtype=np.float64))
        # Up-sampling is linear, and a product of a matrix of rows, the grid and a matrix of columns: side by side,
        # those of all masks are one product.
        windows = [self.geometry.window(shift) for shift in shifts]
        rows, columns = (np.stack([window[axis] for window in windows]) for axis in (0, 1))
        self.seen += _together(rows, grids, columns)
        self.answers_seen += _together(rows, f[:, np.newaxis, np.newaxis] * grids, columns)
        # A pixel is hidden wholly where every cell that it is interpolated from is.
        corners = [self.geometry.corners(shift) for shift in shifts]
        choices = np.eye(2 * self.geometry.cells - 1, dtype=np.float32)
        rows, columns = (choices[np.stack([corner[axis] for corner in corners])] for axis in (0, 1))
        hidden = _neighbours(np.float32(1.0) - grids)
        self.hiding += _together(rows, hidden, columns)
        self.answers_hiding += _together(rows, f[:, np.newaxis, np.newaxis] * hidden, columns)

    def merged(self, other: MaskedSums) -> MaskedSums:
        """The sums over both sets of masks."""
        both = MaskedSums(self.geometry, self.count + other.count, self.answers + other.answers)
        for name in ("seen", "answers_seen", "hiding", "answers_hiding"):
            setattr(both, name, getattr(self, name) + getattr(other, name))
        return both

    def estimate(self, estimator: Estimator) -> AttributionMap:
        """Read a map off the sums; NaN where no mask tells anything."""
        k = max(1, self.count)
        if estimator == "rise":
            values = self.answers_seen / (k * _VISIBLE)
        elif estimator == "rise-centred":
            values = (self.answers_seen - self.answers / k * self.seen) / (k * _VISIBLE)
        elif estimator == "invrise":
            values = _ratio(self.hiding - self.answers_hiding, self.hiding)
        elif estimator == "invrise-soft":
            unseen = self.count - self.seen
            values = _ratio(unseen - (self.answers - self.answers_seen), unseen)
        else:
            raise InvalidInputError(f"estimator must be one of {', '.join(ESTIMATORS)}, got {estimator!r}")
        return values.astype(np.float32)


def _together(
    rows: NDArray[np.float32], grids: NDArray[np.float32], columns: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Sum over masks of ``rows @ grid @ columns.T``, for shapes ``(B, H, l)``, ``(B, l, l)`` and ``(B, W, l)``."""
    left = np.matmul(rows, grids).transpose(1, 0, 2).reshape(rows.shape[1], -1)
    return np.asarray(left @ columns.transpose(0, 2, 1).reshape(-1, columns.shape[1]), dtype=np.float32)


def _neighbours(hidden: NDArray[np.float32]) -> NDArray[np.float32]:
    """Which corners are hidden: ``2 i`` is cell ``i`` alone, ``2 i + 1`` lies between the cells ``i`` and ``i + 1``.

    Returns:
        Shape ``(B, 2 cells - 1, 2 cells - 1)``.
    """
    count, cells = hidden.shape[:2]
    wide = np.empty((count, 2 * cells - 1, cells), dtype=np.float32)
    wide[:, ::2], wide[:, 1::2] = hidden, hidden[:, :-1] * hidden[:, 1:]
    full = np.empty((count, 2 * cells - 1, 2 * cells - 1), dtype=np.float32)
    full[:, :, ::2], full[:, :, 1::2] = wide, wide[:, :, :-1] * wide[:, :, 1:]
    return full


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 1e-9))


class MaskPainter:
    """Makes masked copies of one image: ``x * m + fill * (1 - m)``.

    Pixels are mixed in whole numbers, with the mask in steps of 1/128: what is wholly visible or hidden is exact, what
    lies between is right to one level in 255.

    Args:
        image: ``uint8``, shape ``(H, W, 3)``.
        geometry: Of the masks.
        fill: What hidden pixels show, ``uint8``: a colour ``(3,)`` or an image.
    """

    def __init__(self, image: NDArray[np.uint8], geometry: MaskGeometry, fill: NDArray[np.uint8]) -> None:
        self._geometry = geometry
        # One plane a channel, so that one mask is multiplied into all of them without being copied.
        planes = np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.int16)
        self._base = np.ascontiguousarray(np.broadcast_to(fill, image.shape).transpose(2, 0, 1)).astype(np.int16)
        self._difference = planes - self._base

    def paint(self, blocks: Sequence[MaskBlock]) -> NDArray[np.uint8]:
        """Masked copies for all masks of some blocks, shape ``(B, H, W, 3)``."""
        channels, height, width = self._base.shape
        total = sum(len(block.grids) for block in blocks)
        painted = np.empty((total, height, width, channels), dtype=np.uint8)
        mixed = np.empty(self._base.shape, dtype=np.int16)
        number = 0
        for block in blocks:
            rows, columns = self._geometry.window(block.shift)
            for grid in block.grids:
                # Whole numbers of 16 bits are half of the memory that floats are, and few passes go over it: the
                # largest product, 255 * 128 and a half, just fits. The weights of an up-sampling sum to 1, so the half
                # that rounds can be put into the grid.
                mask = ((rows @ (grid * _MASK_STEPS + _HALF)) @ columns.T).astype(np.int16)
                np.multiply(self._difference, mask, out=mixed)
                mixed += _MASK_STEPS // 2
                mixed >>= _MASK_SHIFT
                mixed += self._base
                cv2.merge(tuple(mixed.astype(np.uint8)), dst=painted[number])
                number += 1
        return painted


@dataclass(frozen=True, slots=True)
class MaskSampling:
    """The explainer of the RISE family.

    What hidden pixels show is part of the question. Under one colour the coarse edges of the mask may be what the model
    reacts to; with a ``backdrop`` hidden parts show what a good part looks like there, and without one, with
    ``surroundings_share``, the image itself, blurred until small faults are gone.

    Attributes:
        method: Which estimator.
        cells: Cells along each side of a mask (8 in paper 1).
        design: How masks are drawn; ``independent`` is the papers'.
        fill: What hidden pixels show: a colour, RGB in 0..255 (the network's mean is its zero).
        backdrop: An image of the same size that takes the colour's place, see :mod:`services.core.explain.backdrop`.
        surroundings_share: Standard deviation of the blur that takes the colour's place where there is no backdrop,
            as a share of the image's shorter side; None for the colour.
        temper: Which root of the odds is explained, see :mod:`services.core.explain.temper`; 1 for the confidence.
        adjusted: ``invrise-soft`` only: whether the estimate is helped by regression, see
            :mod:`services.core.explain.adjustment`.
        smoothing_cells: Standard deviation over which the map is smoothed, in cells of the mask; 0 leaves it.
        refine_every: Least passes between two maps that are shown on the way; later on every map takes a quarter more
            passes than the one before.
    """

    method: Estimator = "invrise-soft"
    cells: int = 8
    design: Design = "independent"
    fill: tuple[int, int, int] = (124, 116, 104)
    backdrop: NDArray[np.uint8] | None = field(default=None, compare=False)
    surroundings_share: float | None = None
    temper: float = 1.0
    adjusted: bool = False
    smoothing_cells: float = 0.0
    refine_every: int = 32

    def __post_init__(self) -> None:
        if self.adjusted and self.method != "invrise-soft":
            raise InvalidInputError(f"adjusted must be off in every method but invrise-soft, got {self.method}")
        if not self.temper >= 1:
            raise InvalidInputError(f"temper must be at least 1, got {self.temper}")

    def explain(
        self, image: NDArray[np.uint8], target: int, predict: Predict, *, seed: int, budget: Budget
    ) -> Iterator[Attribution]:
        """See :class:`services.core.explain.attribution.Explainer`.

        Raises:
            ExplanationError: ``flat_map`` if the answer is the same whatever is hidden, ``nan_scores`` if it is no
                number.
        """
        geometry = MaskGeometry(image.shape[0], image.shape[1], self.cells)
        painter = MaskPainter(image, geometry, self._hidden(image))
        halves = self._sums(geometry), self._sums(geometry)
        shown_at, lowest, highest = 0, math.inf, -math.inf
        for passes, blocks in _batches(draw_blocks(geometry, seed=seed, design=self.design), budget):
            answers = tempered_values(predict(painter.paint(blocks)), target, self.temper)
            lowest, highest = min(lowest, float(answers.min())), max(highest, float(answers.max()))
            _share_out(blocks, answers, halves)
            late = budget.out_of_time()
            spent = passes >= budget.max_passes
            # Often at first, when each step changes much; reading a map is not free.
            if not (spent or late) and passes < max(shown_at + self.refine_every, 1.25 * shown_at):
                continue
            shown_at = passes
            flat = highest - lowest < _FLAT
            if flat and (spent or late):
                raise ExplanationError(
                    f"the answer must change with what is hidden, got {highest:.6g} whatever was", "flat_map"
                )
            step = self._read(halves)
            # Two halves that know nothing agree on their ties.
            step = replace(step, stability=0.0) if flat else step
            stable = budget.min_stability is not None and step.stability >= budget.min_stability
            final = late or stable or spent
            yield replace(step, final=final, partial=late and not stable and not spent)
            if final:
                return

    def _hidden(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self.backdrop is not None:
            return hidden_pixels(self.backdrop, image.shape)
        if self.surroundings_share is None:
            return np.array(self.fill, np.uint8)
        deviation_px = self.surroundings_share * min(image.shape[:2])
        return np.asarray(cv2.GaussianBlur(image, (0, 0), deviation_px, borderType=cv2.BORDER_REFLECT_101), np.uint8)

    def _sums(self, geometry: MaskGeometry) -> MaskedSums | AdjustedSums:
        return AdjustedSums(geometry) if self.adjusted else MaskedSums(geometry)

    def _map(self, sums: MaskedSums | AdjustedSums, stride: int = 1) -> AttributionMap:
        values = sums.estimate() if isinstance(sums, AdjustedSums) else sums.estimate(self.method)
        values = np.ascontiguousarray(values[::stride, ::stride])
        deviation_px = self.smoothing_cells * min(sums.geometry.cell_px) / stride
        if not deviation_px:
            return values
        return np.asarray(cv2.GaussianBlur(values, (0, 0), deviation_px, borderType=cv2.BORDER_REFLECT), np.float32)

    def _read(self, halves: tuple[MaskedSums | AdjustedSums, MaskedSums | AdjustedSums]) -> Attribution:
        first, second = halves
        # Maps are smooth: an eighth of a cell shows what is hottest as well as every pixel, and is sorted sooner.
        stride = max(1, min(first.geometry.cell_px) // 8)
        stability = dice(hottest(self._map(first, stride)), hottest(self._map(second, stride))) if second.count else 0.0
        # Both are of one kind, which the type of the pair does not say.
        both = first.merged(second)  # type: ignore[arg-type]
        return Attribution(self.method, self._map(both), both.count, stability, final=False)


def _batches(blocks: Iterator[MaskBlock], budget: Budget) -> Iterator[tuple[int, list[MaskBlock]]]:
    """Cut blocks into batches of the budget's size; gives the number of masks so far with each."""
    taken, batch, room = 0, list[MaskBlock](), min(budget.batch_size, budget.max_passes)
    for block in blocks:
        start = 0
        while start < len(block.grids):
            part = block.grids[start : start + room]
            batch.append(MaskBlock(part, block.shift))
            start, room, taken = start + len(part), room - len(part), taken + len(part)
            if room == 0:
                yield taken, batch
                batch, room = [], min(budget.batch_size, budget.max_passes - taken)
                if room == 0:
                    return


def _share_out(
    blocks: Sequence[MaskBlock],
    answers: NDArray[np.float32],
    halves: tuple[MaskedSums | AdjustedSums, MaskedSums | AdjustedSums],
) -> None:
    """Give masks to the two halves in turn."""
    single = [MaskBlock(grid[np.newaxis], block.shift) for block in blocks for grid in block.grids]
    first = (halves[0].count + halves[1].count) % 2
    for start in (0, 1):
        halves[(first + start) % 2].add(single[start::2], answers[start::2])
