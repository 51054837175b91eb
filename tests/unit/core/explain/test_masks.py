"""Masks: seeded, fair, in range, and balanced where the design says so."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.core.errors import InvalidInputError
from services.core.explain.masks import Design, MaskGeometry, draw_blocks

DESIGNS: tuple[Design, ...] = ("independent", "balanced")


def grids(geometry: MaskGeometry, count: int, *, seed: int, design: Design) -> NDArray[np.float32]:
    return np.concatenate([block.grids for block in islice(draw_blocks(geometry, seed=seed, design=design), count)])


def test_a_grid_of_two_cells_is_interpolated_between_their_centres() -> None:
    # Two cells of two pixels, and one cell more for the shift: centres lie 3 pixels apart.
    geometry = MaskGeometry(4, 4, cells=2)
    rows, columns = geometry.window((0, 0))
    mask = rows @ np.array([[1.0, 0.0], [0.0, 0.0]], np.float32) @ columns.T
    along = np.array([1.0, 1.0, 2 / 3, 1 / 3])
    np.testing.assert_allclose(mask, np.outer(along, along), atol=1e-6)
    shifted, _ = geometry.window((1, 0))
    np.testing.assert_allclose(shifted[:, 0], [1.0, 2 / 3, 1 / 3, 0.0], atol=1e-6)


@pytest.mark.parametrize("design", DESIGNS)
def test_equal_seeds_give_equal_masks_and_others_do_not(design: Design) -> None:
    geometry = MaskGeometry(32, 48)
    first, again, other = (list(islice(draw_blocks(geometry, seed=s, design=design), 20)) for s in (5, 5, 6))
    assert all(np.array_equal(a.grids, b.grids) and a.shift == b.shift for a, b in zip(first, again, strict=True))
    assert any(not np.array_equal(a.grids, b.grids) for a, b in zip(first, other, strict=True))


@given(
    height=st.integers(8, 70),
    width=st.integers(8, 70),
    cells=st.integers(1, 8),
    seed=st.integers(0, 2**32),
    design=st.sampled_from(DESIGNS),
)
def test_every_mask_lies_between_hidden_and_visible_and_covers_the_image(
    height: int, width: int, cells: int, seed: int, design: Design
) -> None:
    geometry = MaskGeometry(height, width, cells)
    for block in islice(draw_blocks(geometry, seed=seed, design=design), 3):
        assert 0 <= block.shift[0] < geometry.cell_px[0]
        assert 0 <= block.shift[1] < geometry.cell_px[1]
        rows, columns = geometry.window(block.shift)
        assert rows.shape == (height, cells)
        assert columns.shape == (width, cells)
        np.testing.assert_allclose(rows.sum(axis=1), 1.0, atol=1e-5)
        assert set(np.unique(block.grids)) <= {0.0, 1.0}


def test_in_balanced_masks_every_cell_is_visible_half_of_the_time_and_no_two_go_together() -> None:
    signs = 2 * grids(MaskGeometry(32, 32, 4), 16, seed=1, design="balanced").reshape(16, 16) - 1
    # All but one column of Sylvester's matrix have as many ones as minus ones.
    assert (signs.sum(axis=0) == 0).sum() >= 15
    np.testing.assert_array_equal(signs.T @ signs, 16 * np.eye(16))


@pytest.mark.parametrize("design", DESIGNS)
def test_single_masks_are_fair_draws(design: Design) -> None:
    geometry = MaskGeometry(16, 16, 3)
    first = np.concatenate([grids(geometry, 1, seed=seed, design=design) for seed in range(2000)]).reshape(2000, 9)
    # Five standard deviations of a fair coin.
    assert np.abs(first.mean(axis=0) - 0.5).max() < 5 * 0.5 / np.sqrt(2000)
    three_at_once = first[:, 0] * first[:, 1] * first[:, 3]
    assert abs(three_at_once.mean() - 1 / 8) < 5 * np.sqrt(7 / 64 / 2000)


def test_few_shifts_of_balanced_masks_already_cover_a_cell() -> None:
    geometry = MaskGeometry(224, 224)
    shifts = np.array([block.shift for block in islice(draw_blocks(geometry, seed=3), 64)])
    counts = np.histogram2d(shifts[:, 0], shifts[:, 1], bins=4, range=((0, 28), (0, 28)))[0]
    assert counts.min() >= 2


def test_a_balanced_design_is_refused_for_grids_whose_matrix_would_be_huge() -> None:
    with pytest.raises(InvalidInputError, match=r"at most 32 .* got 33"):
        next(draw_blocks(MaskGeometry(330, 330, 33), seed=0))


@pytest.mark.parametrize(("height", "width"), [(224, 224), (225, 101), (8, 8)])
def test_corners_name_the_cells_that_a_pixel_is_interpolated_from(height: int, width: int) -> None:
    geometry = MaskGeometry(height, width)
    for shift in ((0, 0), (geometry.cell_px[0] - 1, 0)):
        rows, _ = geometry.window(shift)
        corners, _ = geometry.corners(shift)
        for weights, corner in zip(rows, corners, strict=True):
            used = set(np.flatnonzero(weights))
            assert used == ({corner // 2} if corner % 2 == 0 else {corner // 2, corner // 2 + 1})
