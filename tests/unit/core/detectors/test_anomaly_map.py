from __future__ import annotations

import numpy as np
import pytest

from services.core.detectors.anomaly_map import hottest_mean, spread_over_image


def test_a_hot_patch_is_hottest_at_the_middle_of_what_it_covers() -> None:
    grid = np.zeros((4, 6))
    grid[1, 4] = 1.0
    values = spread_over_image(grid, 32, 48, 2.0)
    row, column = np.unravel_index(int(values.argmax()), values.shape)
    assert values.shape == (32, 48)
    assert abs(row - 11.5) <= 0.5
    assert abs(column - 35.5) <= 0.5


def test_bilinear_values_are_those_computed_by_hand() -> None:
    values = spread_over_image(np.array([[0.0, 4.0]]), 1, 4, 0.0)
    assert values.tolist() == [[0.0, 1.0, 3.0, 4.0]]


def test_an_even_map_stays_even_up_to_its_border() -> None:
    assert np.allclose(spread_over_image(np.full((3, 3), 2.5), 24, 24, 4.0), 2.5)


def test_smoothing_never_leaves_the_range_of_the_patches() -> None:
    grid = np.random.default_rng(0).random((7, 5))
    values = spread_over_image(grid, 56, 40, 4.0)
    assert grid.min() <= values.min()
    assert values.max() <= grid.max()


@pytest.mark.parametrize(("share", "expected"), [(0.0, 8.0), (0.25, 7.5), (0.5, 6.5), (1.0, 4.5)])
def test_the_score_is_the_mean_of_the_hottest_share(share: float, expected: float) -> None:
    values = np.array([[1.0, 5.0, 3.0, 7.0], [8.0, 2.0, 6.0, 4.0]])
    assert hottest_mean(values, share) == expected
