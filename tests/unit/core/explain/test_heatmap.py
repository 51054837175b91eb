import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from services.core.errors import InvalidInputError
from services.core.explain.heatmap import UNCALIBRATED, HeatScale, calibrate, colour


def good_maps(count=40, seed=0, noise=0.1):
    random = np.random.default_rng(seed)
    return [random.normal(0.3, noise, (24, 24)).astype(np.float32) for _ in range(count)]


def alpha(values, scale, size=24):
    return colour(values, scale, size, size)[..., 3]


def test_a_clean_part_is_drawn_almost_nowhere_and_a_defect_where_it_is():
    scale = calibrate(good_maps())
    fresh = good_maps(50, seed=1)
    assert np.mean([(alpha(values, scale) > 0).mean() for values in fresh]) < 0.01
    defect = fresh[0].copy()
    defect[4:8, 10:14] += 2.0
    drawn = alpha(defect, scale) > 0
    assert drawn[4:8, 10:14].all()
    assert drawn.sum() == 16


def test_nineteen_good_parts_in_twenty_stay_below_the_scale_on_nearly_all_of_their_area():
    maps = good_maps(200)
    scale = calibrate(maps)
    calm = [(values - np.median(values) <= scale.low).mean() >= 0.989 for values in maps]
    assert 0.93 <= np.mean(calm) <= 0.97


def test_the_scale_by_hand():
    # 101 pixels: median 50, 0.99 quantile 99, so 49 above the median.
    ramp = np.arange(101, dtype=np.float32).reshape(1, 101)
    assert calibrate([ramp, ramp + 7]) == HeatScale(49.0, 98.0)


@given(st.floats(0.125, 8, width=32), st.floats(-4, 4, width=32))
def test_the_scale_follows_the_maps_unit_and_does_not_care_for_their_level(unit, level):
    maps = good_maps(10)
    plain, other = calibrate(maps), calibrate([np.float32(unit) * values + np.float32(level) for values in maps])
    assert other.low == pytest.approx(unit * plain.low, rel=1e-3)
    assert other.high == pytest.approx(unit * plain.high, rel=1e-3)


@given(
    arrays(np.float32, (6, 6), elements=st.floats(-10, 10, width=32)),
    st.floats(0, 5, width=32),
    st.floats(0.0625, 5, width=32),
)
def test_nothing_is_drawn_below_the_scale(values, low, span):
    rise = values - np.median(values)
    assert (alpha(values, HeatScale(low, low + span), 6)[rise < low] == 0).all()


@given(
    arrays(np.float32, (6, 6), elements=st.floats(-10, 10, width=32)),
    st.floats(0, 5, width=32),
    st.floats(0, 5, width=32),
)
def test_a_hotter_pixel_is_never_drawn_fainter(values, low, span):
    drawn = alpha(values, HeatScale(low, low + span), 6).ravel().astype(int)
    assert (np.diff(drawn[np.argsort(values.ravel())]) >= 0).all()


def test_a_far_stronger_map_is_stretched_so_that_its_hottest_place_can_be_told():
    values = np.zeros((8, 8), np.float32)
    values[0, :4] = 100.0, 50.0, 30.0, 3.0
    drawn = alpha(values, HeatScale(1.0, 2.0), 8)
    assert drawn[0, 0] == drawn.max()
    assert 0 < drawn[0, 1] < drawn[0, 0]
    assert drawn[0, 2] == drawn[0, 3] == 0


def test_undefined_pixels_are_transparent_at_any_size():
    values = np.zeros((8, 8), np.float32)
    values[:, 4:] = 5.0
    values[:4] = np.nan
    picture = colour(values, HeatScale(1.0, 2.0), 64, 32)
    assert picture.shape == (64, 32, 4)
    assert picture.dtype == np.uint8
    assert (picture[:31, :, 3] == 0).all()
    assert (picture[33:, 18:, 3] > 0).all()


def test_a_map_without_defined_pixels_is_transparent():
    assert (alpha(np.full((3, 3), np.nan, np.float32), HeatScale(0.0, 1.0)) == 0).all()
    assert (alpha(np.full((3, 3), np.nan, np.float32), UNCALIBRATED) == 0).all()


def test_without_a_calibration_only_the_hottest_tenth_is_drawn_and_faintly():
    values = np.arange(100, dtype=np.float32).reshape(10, 10)
    drawn = alpha(values, UNCALIBRATED, 10)
    assert (drawn > 0).sum() <= 10
    assert drawn[-1, -1] == drawn.max()
    assert 0 < drawn.max() <= 0.4 * alpha(values, HeatScale(1.0, 2.0), 10).max()


@pytest.mark.parametrize("scale", [UNCALIBRATED, HeatScale(0.5, 0.5), HeatScale(np.nan, 1.0), HeatScale(0.0, np.inf)])
def test_a_scale_that_does_not_rise_is_not_calibrated(scale):
    assert not scale.is_calibrated
    colour(good_maps(1)[0], scale, 8, 8)


def test_a_flat_map_is_transparent_on_every_scale():
    for scale in (UNCALIBRATED, HeatScale(0.0, 1.0)):
        assert (alpha(np.full((5, 5), 0.7, np.float32), scale) == 0).all()


def test_good_parts_whose_maps_are_flat_give_no_scale_and_rare_spots_give_one():
    flat = [np.zeros((20, 20), np.float32)] * 3
    assert calibrate(flat) == UNCALIBRATED
    spot = np.zeros((20, 20), np.float32)
    spot[3, 3] = 2.0
    assert calibrate([*flat, spot]) == HeatScale(0.0, 2.0)


def test_calibration_leaves_undefined_pixels_out_and_needs_a_defined_one():
    values = good_maps(1)[0]
    gapped = np.vstack([values, np.full((4, 24), np.nan, np.float32)])
    assert calibrate([gapped]) == calibrate([values])
    with pytest.raises(InvalidInputError, match="got 1 maps without one"):
        calibrate([np.full((3, 3), np.nan, np.float32)])


def test_colours_become_lighter_as_they_become_hotter_so_that_any_eye_can_order_them():
    values = np.linspace(0, 1, 256, dtype=np.float32).reshape(1, 256)
    # Many cold pixels keep the median at 0, so that heat runs along the whole ramp.
    values = np.vstack([values, np.zeros((3, 256), np.float32)])
    picture = colour(values, HeatScale(0.0001, 1.0), 4, 256)[0]
    shown = picture[picture[:, 3] > 0][:, :3].astype(float) / 255
    linear = np.where(shown <= 0.04045, shown / 12.92, ((shown + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance[::8]) > 0).all()
    # As a protanope and a deuteranope see it, red and green say the same; blue to yellow must be left.
    assert shown[0, 2] > shown[0, 1]
    assert shown[-1, 2] < shown[-1, 1]


def test_a_proven_map_is_drawn_even_where_it_lies_below_the_scale_and_its_rest_is_not():
    values = np.zeros((16, 16), np.float32)
    values[4, 4], values[10, 10] = 0.5, 0.2
    scale = HeatScale(1.0, 2.0)
    assert not colour(values, scale, 16, 16)[..., 3].any()
    drawn = colour(values, scale, 16, 16, proven=True)[..., 3] > 0
    assert drawn[4, 4]
    assert not drawn[10, 10]


def test_a_proven_map_that_is_strong_anyway_looks_the_same():
    values = np.zeros((16, 16), np.float32)
    values[4:7, 4:7] = 5.0
    scale = HeatScale(1.0, 2.0)
    np.testing.assert_array_equal(colour(values, scale, 16, 16), colour(values, scale, 16, 16, proven=True))
