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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from services.core.errors import InvalidInputError
from services.core.explain.attribution import (
    Attribution,
    AttributionMap,
    Budget,
    Predict,
    dice,
    hottest,
    target_values,
)
from services.core.explain.masks import Design, MaskBlock, MaskGeometry, draw_blocks

Estimator = Literal["rise", "rise-centred", "invrise", "invrise-soft"]

ESTIMATORS: Final[tuple[Estimator, ...]] = ("rise", "rise-centred", "invrise", "invrise-soft")

_VISIBLE: Final = 0.5
"""Chance of a cell to be visible (``p`` in both papers)."""


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

    def add(self, block: MaskBlock, answers: NDArray[np.float32]) -> None:
        """Add masks of one shift.

        Args:
            block: The masks.
            answers: ``f`` of the image under each, shape ``(B,)``.
        """
        # Up-sampling is linear: the sums are taken on the grids and brought to the image's size once.
        f = answers.astype(np.float64)
        rows, columns = self.geometry.window(block.shift)
        self.count += len(f)
        self.answers += float(f.sum())
        grids = block.grids.astype(np.float64)
        self.seen += rows @ grids.sum(axis=0) @ columns.T
        self.answers_seen += rows @ np.einsum("b,bij->ij", f, grids) @ columns.T
        # A pixel is hidden wholly where every cell that it is interpolated from is.
        y, x = self.geometry.corners(block.shift)
        hidden = 1.0 - grids
        where = np.ix_(y, x)
        self.hiding += _pairwise(hidden, np.ones_like(f))[where]
        self.answers_hiding += _pairwise(hidden, f)[where]

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


def _pairwise(hidden: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weighted number of grids in which all cells of a corner are hidden.

    Corner ``2 i`` is cell ``i`` alone, ``2 i + 1`` lies between the cells ``i`` and ``i + 1``.

    Returns:
        Shape ``(2 cells - 1, 2 cells - 1)``.
    """
    cells = hidden.shape[1]
    wide = np.empty((len(hidden), 2 * cells - 1, cells))
    wide[:, ::2], wide[:, 1::2] = hidden, hidden[:, :-1] * hidden[:, 1:]
    full = np.empty((len(hidden), 2 * cells - 1, 2 * cells - 1))
    full[:, :, ::2], full[:, :, 1::2] = wide, wide[:, :, :-1] * wide[:, :, 1:]
    return np.asarray(np.einsum("b,bij->ij", weights, full))


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 1e-9))


class MaskPainter:
    """Makes masked copies of one image: ``x * m + fill * (1 - m)``.

    Args:
        image: ``uint8``, shape ``(H, W, 3)``.
        geometry: Of the masks.
        fill: What hidden pixels show, ``uint8``: a colour ``(3,)`` or an image.
    """

    def __init__(self, image: NDArray[np.uint8], geometry: MaskGeometry, fill: NDArray[np.uint8]) -> None:
        self._geometry = geometry
        self._shape = image.shape
        height, width, channels = image.shape
        base = np.broadcast_to(fill, image.shape).reshape(height, width * channels).astype(np.float32)
        self._difference = image.reshape(height, width * channels).astype(np.float32) - base
        # Rounds to the nearest when the fraction is cut off.
        self._base = base + 0.5

    def paint(self, blocks: Sequence[MaskBlock]) -> NDArray[np.uint8]:
        """Masked copies for all masks of some blocks, shape ``(B, H, W, 3)``."""
        height, width, channels = self._shape
        total = sum(len(block.grids) for block in blocks)
        painted = np.empty((total, height, width * channels), dtype=np.uint8)
        work = np.empty((height, width * channels), dtype=np.float32)
        number = 0
        for block in blocks:
            rows, columns = self._geometry.window(block.shift)
            # Each column three times, so that everything after runs over plain memory.
            spread = np.repeat(columns, channels, axis=0).T
            for grid in block.grids:
                np.matmul(rows @ grid, spread, out=work)
                np.multiply(work, self._difference, out=work)
                np.add(work, self._base, out=painted[number], casting="unsafe")
                number += 1
        return painted.reshape(total, height, width, channels)


@dataclass(frozen=True, slots=True)
class MaskSampling:
    """The explainer of the RISE family.

    Attributes:
        method: Which estimator.
        cells: Cells along each side of a mask (8 in paper 1).
        design: How masks are drawn; ``independent`` is the papers'.
        fill: What hidden pixels show: a colour, RGB in 0..255 (the network's mean is its zero).
        refine_every: Passes between two maps that are shown on the way.
    """

    method: Estimator = "invrise-soft"
    cells: int = 8
    design: Design = "balanced"
    fill: tuple[int, int, int] = (124, 116, 104)
    refine_every: int = 64

    def explain(
        self, image: NDArray[np.uint8], target: int, predict: Predict, *, seed: int, budget: Budget
    ) -> Iterator[Attribution]:
        """See :class:`services.core.explain.attribution.Explainer`."""
        geometry = MaskGeometry(image.shape[0], image.shape[1], self.cells)
        painter = MaskPainter(image, geometry, np.array(self.fill, np.uint8))
        halves = MaskedSums(geometry), MaskedSums(geometry)
        shown_at = 0
        for passes, blocks in _batches(draw_blocks(geometry, seed=seed, design=self.design), budget):
            answers = target_values(predict(painter.paint(blocks)), target)
            _share_out(blocks, answers, halves)
            late = budget.out_of_time()
            if passes < budget.max_passes and not late and passes - shown_at < self.refine_every:
                continue
            shown_at = passes
            step = self._read(halves)
            stable = budget.min_stability is not None and step.stability >= budget.min_stability
            final = late or stable or passes >= budget.max_passes
            yield replace(step, final=final, partial=late and not stable and passes < budget.max_passes)
            if final:
                return

    def _read(self, halves: tuple[MaskedSums, MaskedSums]) -> Attribution:
        first, second = (hottest(half.estimate(self.method)) for half in halves)
        both = halves[0].merged(halves[1])
        return Attribution(self.method, both.estimate(self.method), both.count, dice(first, second), final=False)


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
    blocks: Sequence[MaskBlock], answers: NDArray[np.float32], halves: tuple[MaskedSums, MaskedSums]
) -> None:
    """Give masks to the two halves in turn, a mask and its opposite to the same one."""
    start = 0
    for block in blocks:
        mine = answers[start : start + len(block.grids)]
        numbers = np.arange(len(mine)) + halves[0].count + halves[1].count
        start += len(mine)
        for which, half in enumerate(halves):
            chosen = numbers % 2 == which
            if chosen.any():
                half.add(MaskBlock(block.grids[chosen], block.shift), mine[chosen])
