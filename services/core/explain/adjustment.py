"""Soft InvRISE with less noise: what a straight line through the answers explains is put in exactly.

The noise of a map that is made of random masks is mostly *known*: each pixel's value carries what the other hidden
cells did to the answer, and how often those were hidden together with it by chance. So the answer is regressed on how
much of each place is hidden, by ridge regression. What the fit says of a pixel is then worked out from the
distribution of the masks instead of from the masks that happened to be drawn, and the sampled mean is taken only of
what the fit leaves over (a regression estimator, or control variates: Owen, "Monte Carlo theory, methods and examples",
section 8.9). However good or bad the fit, it estimates the same map as ``invrise-soft`` does; it only gets there with
fewer passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from services.core.explain.attribution import AttributionMap
from services.core.explain.masks import MaskBlock, MaskGeometry

_VARIANCE: Final = 0.25
"""Of a cell that is visible with probability one half."""


@dataclass(slots=True, eq=False)
class AdjustedSums:
    """Sums over masks that soft InvRISE with regression is read off; their size does not depend on the masks' number.

    Places are half a cell wide.

    Attributes:
        geometry: Sizes of image and grid.
        ridge: Penalty of the regression, in mean variances of a place.
        count: Masks.
        rest: Sum of ``1 - f``.
        hidden: Sum of the hidden shares, by place.
        rest_hidden: Sum of ``(1 - f)`` times the hidden shares.
        pairs: Sum of the products of hidden shares, place by place.
    """

    geometry: MaskGeometry
    ridge: float = 1.0
    count: int = 0
    rest: float = 0.0
    hidden: NDArray[np.float64] = field(init=False)
    rest_hidden: NDArray[np.float64] = field(init=False)
    pairs: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        places = (2 * self.geometry.cells) ** 2
        self.hidden, self.rest_hidden = np.zeros(places), np.zeros(places)
        self.pairs = np.zeros((places, places))

    def add(self, blocks: Sequence[MaskBlock], answers: NDArray[np.float32]) -> None:
        """Add masks.

        Args:
            blocks: The masks.
            answers: ``f`` of the image under each, in the same order.
        """
        if not len(answers):
            return
        shares = self._shares(blocks)
        rest = 1.0 - answers.astype(np.float64)
        self.count += len(rest)
        self.rest += float(rest.sum())
        self.hidden += shares.sum(axis=0)
        self.rest_hidden += rest @ shares
        self.pairs += shares.T @ shares

    def merged(self, other: AdjustedSums) -> AdjustedSums:
        """The sums over both sets of masks."""
        both = AdjustedSums(self.geometry, self.ridge, self.count + other.count, self.rest + other.rest)
        both.hidden, both.rest_hidden = self.hidden + other.hidden, self.rest_hidden + other.rest_hidden
        both.pairs = self.pairs + other.pairs
        return both

    def estimate(self) -> AttributionMap:
        """Read the map off the sums: mean of ``1 - f`` over the masks, weighted by how far they hide a pixel."""
        side, k = 2 * self.geometry.cells, max(1, self.count)
        mean_rest, mean_hidden = self.rest / k, self.hidden / k
        together = self.rest_hidden / k - mean_rest * mean_hidden
        spread = self.pairs / k - np.outer(mean_hidden, mean_hidden)
        rows, columns = _expected(self.geometry)
        penalty = self.ridge * _VARIANCE * float(np.mean(np.outer(_diagonal(rows), _diagonal(columns))))
        slope = np.linalg.solve(spread + penalty * np.eye(side * side), together)
        left = (together - spread @ slope).reshape(side, side)
        size = (self.geometry.width_px, self.geometry.height_px)
        sampled = cv2.resize(left, size, interpolation=cv2.INTER_CUBIC)
        exact = _VARIANCE * (rows @ slope.reshape(side, side) @ columns.T)
        # A pixel is hidden by one half on average, so a covariance counts twice in a mean weighted by what is hidden;
        # and that the masks drawn hid more or less than one half is taken off as well.
        level = mean_rest - float(slope @ (mean_hidden - 0.5))
        return np.asarray(level + 2.0 * (sampled + exact), dtype=np.float32)

    def _shares(self, blocks: Sequence[MaskBlock]) -> NDArray[np.float64]:
        """How much of each place every mask hides, shape ``(B, places)``."""
        places = _by_shift(self.geometry)
        grids = np.concatenate([block.grids for block in blocks])
        shifts = np.array([block.shift for block in blocks for _ in block.grids])
        visible = places[0][shifts[:, 0]] @ grids @ places[1][shifts[:, 1]].transpose(0, 2, 1)
        return np.asarray(1.0 - visible.reshape(len(grids), -1), dtype=np.float64)


def _pooled(matrix: NDArray[np.float32], places: int) -> NDArray[np.float32]:
    """Mean of the rows that lie in each of some equal stretches; what straddles two is shared out."""
    length = len(matrix)
    edges = np.linspace(0.0, length, places + 1)
    sums = np.concatenate([np.zeros((1, matrix.shape[1]), matrix.dtype), np.cumsum(matrix, axis=0, dtype=matrix.dtype)])
    low = np.minimum(edges.astype(int), length - 1)
    at = sums[low] + (edges - low)[:, np.newaxis].astype(matrix.dtype) * matrix[low]
    return np.asarray(np.diff(at, axis=0) * (places / length), dtype=np.float32)


@lru_cache(maxsize=8)
def _by_shift(geometry: MaskGeometry) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """From cells to places along rows and columns, for every shift, shapes ``(shifts, places, cells)``."""
    rows, columns = (
        np.stack([_pooled(matrix[shift : shift + length], 2 * geometry.cells) for shift in range(cell)])
        for matrix, cell, length in _sides(geometry)
    )
    return rows, columns


@lru_cache(maxsize=8)
def _expected(geometry: MaskGeometry) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How rows, and columns, of pixels go together with those of places, over all shifts, for cells of variance 1."""
    rows, columns = (
        np.mean(
            [matrix[at : at + length].astype(np.float64) @ places.T for at, places in enumerate(by_shift)],
            axis=0,
        )
        for (matrix, _, length), by_shift in zip(_sides(geometry), _by_shift(geometry), strict=True)
    )
    return rows, columns


def _sides(geometry: MaskGeometry) -> tuple[tuple[NDArray[np.float32], int, int], ...]:
    """Up-sampling, number of shifts and pixels of rows and of columns."""
    rows, columns = geometry.cell_px
    return (geometry.rows, rows, geometry.height_px), (geometry.columns, columns, geometry.width_px)


def _diagonal(pixels_places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Variance of each place along one side, of what pixels have in common with places."""
    return np.diag(_pooled(pixels_places.astype(np.float32), pixels_places.shape[1])).astype(np.float64)
