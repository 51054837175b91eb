"""Masks that hide parts of an image: coarse random grids, smoothly up-sampled, shifted by less than a cell.

RISE (Petsiuk et al. 2018, section 3.2) draws every cell of every mask independently. Any map that is made of such masks
carries the noise of all other cells into each one. ``design="balanced"`` draws the same masks, each cell visible with
probability one half, but in blocks whose cells are uncorrelated (the columns of a Hadamard matrix, in random order and
with random signs), so that this noise cancels within a block.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from services.core.errors import InvalidInputError

Design = Literal["independent", "balanced"]


@dataclass(frozen=True)
class MaskGeometry:
    """How a grid becomes a mask.

    Attributes:
        height_px: Rows of the image.
        width_px: Columns of the image.
        cells: Cells along each side (``l`` in paper 1, 8 there).
    """

    height_px: int
    width_px: int
    cells: int = 8

    @property
    def cell_px(self) -> tuple[int, int]:
        """Rows and columns of a cell, rounded up."""
        return -(-self.height_px // self.cells), -(-self.width_px // self.cells)

    @cached_property
    def rows(self) -> NDArray[np.float32]:
        """Linear up-sampling of a grid's column, shape ``((cells + 1) * cell, cells)``."""
        return _upsampling((self.cells + 1) * self.cell_px[0], self.cells)

    @cached_property
    def columns(self) -> NDArray[np.float32]:
        """Linear up-sampling of a grid's row, shape ``((cells + 1) * cell, cells)``."""
        return _upsampling((self.cells + 1) * self.cell_px[1], self.cells)

    def corners(self, shift: tuple[int, int]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Between which cells each row and column lies: ``2 i`` on cell ``i``, ``2 i + 1`` after it."""
        y, x = shift
        return _corner(self.rows[y : y + self.height_px]), _corner(self.columns[x : x + self.width_px])

    def window(self, shift: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Up-sampling of rows ``(H, cells)`` and of columns ``(W, cells)`` at a shift in pixels below a cell."""
        y, x = shift
        return self.rows[y : y + self.height_px], self.columns[x : x + self.width_px]


@dataclass(frozen=True, slots=True, eq=False)
class MaskBlock:
    """Grids that share one shift.

    Attributes:
        grids: 1 visible, 0 hidden, ``float32``, shape ``(B, cells, cells)``.
        shift: Rows and columns, in pixels, below a cell.
    """

    grids: NDArray[np.float32]
    shift: tuple[int, int]


#: Balanced designs need a Hadamard matrix with a column for every cell.
_LARGEST_CELLS: Final = 32


def draw_blocks(geometry: MaskGeometry, *, seed: int, design: Design = "balanced") -> Iterator[MaskBlock]:
    """Draw masks without end; equal seeds give equal masks.

    Args:
        geometry: Sizes.
        seed: Of the drawing, ``>= 0``.
        design: ``independent`` draws every cell and every shift by itself (one mask a block); ``balanced`` see above.

    Yields:
        Blocks; every cell is visible with probability one half.
    """
    random = np.random.Generator(np.random.Philox(seed))
    if design == "independent":
        while True:
            grid = random.integers(0, 2, (1, geometry.cells, geometry.cells)).astype(np.float32)
            yield MaskBlock(grid, _random_shift(geometry, random))
    if geometry.cells > _LARGEST_CELLS:
        raise InvalidInputError(f"cells must be at most {_LARGEST_CELLS} in balanced masks, got {geometry.cells}")
    signs = _hadamard(geometry.cells**2)
    start = random.random(2)
    numbers = itertools.count()
    while True:
        for pair in _balanced(signs, geometry.cells, random):
            yield MaskBlock(pair, _spread_shift(geometry, start, next(numbers)))


def _hadamard(columns: int) -> NDArray[np.int8]:
    """Sylvester's matrix of ones and minus ones with orthogonal columns, of the least order that has enough of them."""
    signs = np.ones((1, 1), dtype=np.int8)
    while len(signs) < columns:
        signs = np.block([[signs, signs], [signs, -signs]])
    return signs


def _balanced(signs: NDArray[np.int8], cells: int, random: np.random.Generator) -> NDArray[np.float32]:
    """One block of ``order`` grids: columns in random order with random signs, so that each row is a fair draw."""
    order = len(signs)
    columns = random.permutation(order)[: cells**2]
    drawn = signs[random.permutation(order)][:, columns] * random.choice((-1, 1), cells**2).astype(np.int8)
    return (drawn.reshape(order, 1, cells, cells) > 0).astype(np.float32)


def _random_shift(geometry: MaskGeometry, random: np.random.Generator) -> tuple[int, int]:
    rows, columns = geometry.cell_px
    return int(random.integers(rows)), int(random.integers(columns))


def _spread_shift(geometry: MaskGeometry, start: NDArray[np.float64], number: int) -> tuple[int, int]:
    """The shift of a block: few of them must cover a cell evenly, so they follow a low-discrepancy sequence.

    Additive recurrence with the plastic number's powers (Roberts 2018, "The unreasonable effectiveness of
    quasirandom sequences").
    """
    rows, columns = geometry.cell_px
    y, x = (start + number * np.array([0.7548776662466927, 0.5698402909980532])) % 1.0
    return int(y * rows), int(x * columns)


def _upsampling(length: int, cells: int) -> NDArray[np.float32]:
    """Linear interpolation from cell centres to pixel centres, constant beyond the outermost centres."""
    at = (np.arange(length) + 0.5) * cells / length - 0.5
    low = np.clip(np.floor(at), 0, cells - 1).astype(int)
    high = np.minimum(low + 1, cells - 1)
    share = np.clip(at - low, 0.0, 1.0)
    matrix = np.zeros((length, cells), dtype=np.float32)
    matrix[np.arange(length), low] += 1.0 - share
    matrix[np.arange(length), high] += share
    return matrix


def _corner(weights: NDArray[np.float32]) -> NDArray[np.intp]:
    used = weights > 0
    first = used.argmax(axis=1)
    return np.asarray(2 * first + (used.sum(axis=1) > 1), dtype=np.intp)
