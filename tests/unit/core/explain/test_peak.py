import math

import numpy as np
import pytest

from services.core.explain.peak import peak_of


def scratched(side_px=64):
    """A grey surface with one bright spot, its place, and a map that is hottest there."""
    image = np.full((side_px, side_px, 3), 90, np.uint8)
    image[40:44, 20:24] = 250
    values = np.zeros((side_px, side_px), np.float32)
    values[40:44, 20:24] = 1.0
    return image, values


def test_a_map_that_points_at_the_one_unusual_place_stands_at_the_top():
    image, values = scratched()
    peak = peak_of(image, values)
    assert peak.contrast_rank > 0.98
    assert peak.prominence == 1.0


def test_a_map_that_points_at_plain_surface_does_not():
    image, values = scratched()
    assert peak_of(image, values[::-1, ::-1].copy()).contrast_rank < 0.9


def test_prominence_by_hand():
    image = np.full((10, 10, 3), 90, np.uint8)
    values = np.arange(100, dtype=np.float32).reshape(10, 10)
    # The highest is 99, the lowest 0, the 0.9 quantile 89.1.
    assert peak_of(image, values).prominence == pytest.approx(9.9 / 99)


def test_a_coarse_map_of_a_large_image_points_at_the_same_place():
    image, values = scratched(640)
    large = peak_of(np.ascontiguousarray(image), values)
    coarse = peak_of(image, values.reshape(80, 8, 80, 8).mean(axis=(1, 3)))
    assert large.contrast_rank == pytest.approx(coarse.contrast_rank, abs=0.02)


@pytest.mark.parametrize("values", [np.zeros((8, 8), np.float32), np.full((8, 8), np.nan, np.float32)])
def test_a_map_without_a_hottest_point_has_no_peak(values):
    peak = peak_of(scratched()[0], values)
    assert math.isnan(peak.contrast_rank)
    assert math.isnan(peak.prominence)


def test_what_is_undefined_is_never_the_hottest():
    image, values = scratched()
    values[:10] = np.nan
    assert peak_of(image, values).contrast_rank > 0.98
