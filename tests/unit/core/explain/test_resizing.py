import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from services.core.errors import InvalidInputError
from services.core.explain.resizing import resize_map

MAPS = arrays(np.float32, (5, 7), elements=st.floats(-100, 100, width=32))
SIZES = st.integers(1, 40)


@given(MAPS, SIZES, SIZES, st.booleans())
def test_resizing_never_leaves_the_range_of_the_values(values, height, width, smooth):
    resized = resize_map(values, height, width, smooth=smooth)
    assert resized.shape == (height, width)
    assert resized.min() >= values.min()
    assert resized.max() <= values.max()


@given(MAPS)
def test_a_map_of_the_wanted_size_is_left_as_it_is(values):
    np.testing.assert_array_equal(resize_map(values, 5, 7), values)


@pytest.mark.parametrize("size", [(3, 3), (12, 12), (12, 3)])
def test_undefined_pixels_stay_undefined_and_do_not_spoil_their_neighbours(size):
    values = np.ones((6, 6), np.float32)
    values[:, :3] = np.nan
    resized = resize_map(values, *size)
    half = size[1] // 2
    assert np.isnan(resized[:, : max(1, half - 1)]).all()
    np.testing.assert_allclose(resized[:, half + 1 :], 1.0, rtol=1e-6)


def test_the_hottest_point_stays_one_point_where_it_was():
    values = np.zeros((7, 7), np.float32)
    values[3, 2], values[3, 3] = 1.0, 0.9
    resized = resize_map(values, 77, 77)
    assert np.argwhere(resized == resized.max()).tolist() == [[38, 27]]


def test_a_map_without_defined_pixels_stays_so():
    assert np.isnan(resize_map(np.full((2, 2), np.nan, np.float32), 5, 5)).all()


def test_halving_averages():
    values = np.array([[0, 2], [4, 6]], np.float32)
    assert resize_map(values, 1, 1) == pytest.approx(3.0)


@pytest.mark.parametrize("size", [(0, 4), (4, -1)])
def test_an_empty_size_is_refused(size):
    with pytest.raises(InvalidInputError, match="at least 1 x 1, got"):
        resize_map(np.ones((2, 2), np.float32), *size)


def test_a_map_without_pixels_is_refused():
    with pytest.raises(InvalidInputError, match=r"at least one pixel, got \(0, 4\)"):
        resize_map(np.ones((0, 4), np.float32), 2, 2)
