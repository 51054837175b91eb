import importlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.errors import InvalidInputError
from services.core.explain import overlap


def mask_of(rows, columns, shape=(10, 10)):
    mask = np.zeros(shape, bool)
    mask[rows, columns] = True
    return mask


ROW = np.zeros((10, 10), np.float32)
ROW[0] = np.arange(10, 0, -1)


def test_dice_and_jaccard_by_hand():
    # The hottest tenth is the first row; the mask is half of it and five pixels elsewhere.
    mask = mask_of(0, slice(0, 5)) | mask_of(9, slice(0, 5))
    assert overlap.dice(ROW, mask) == pytest.approx(2 * 5 / 20)
    assert overlap.jaccard(ROW, mask) == pytest.approx(5 / 15)


def test_dice_at_the_defects_own_area_by_hand():
    # Five pixels: the five hottest, of which four lie on the mask.
    mask = mask_of(0, slice(1, 6))
    assert overlap.dice_at_own_area(ROW, mask) == pytest.approx(0.8)
    assert overlap.dice(ROW, mask) == pytest.approx(2 * 5 / 15)
    assert overlap.dice_ceiling(mask) == pytest.approx(2 * 5 / 15)


def test_a_hit_is_the_maximum_on_the_defect():
    assert overlap.hit(ROW, mask_of(0, 0)) == 1.0
    assert overlap.hit(ROW, mask_of(0, slice(1, 10))) == 0.0


def test_a_flat_map_hits_with_the_defects_share_only():
    mask = mask_of(slice(0, 2), slice(0, 10))
    flat = np.zeros((10, 10), np.float32)
    assert overlap.hit(flat, mask) == pytest.approx(0.2)
    assert overlap.pixel_auroc(flat, mask) == pytest.approx(0.5)


def test_pixel_auroc_by_hand():
    values = np.array([[4, 3], [2, 1]], np.float32)
    mask = np.array([[True, False], [True, False]])
    # Of the pairs (4, 3), (4, 1), (2, 3), (2, 1) three are in order.
    assert overlap.pixel_auroc(values, mask) == pytest.approx(0.75)


def test_undefined_pixels_are_the_coldest():
    values = ROW.copy()
    values[0, :5] = np.nan
    assert overlap.hit(values, mask_of(0, slice(0, 5))) == 0.0
    assert overlap.hit(values, mask_of(0, 5)) == 1.0
    assert overlap.pixel_auroc(values, mask_of(0, slice(0, 5))) == 0.0
    nothing = np.full((10, 10), np.nan, np.float32)
    assert overlap.hit(nothing, mask_of(0, 0)) == overlap.dice(nothing, mask_of(0, 0)) == 0.0


def test_a_map_of_another_resolution_is_brought_to_the_mask():
    coarse = np.zeros((5, 5), np.float32)
    coarse[1, 3] = 1.0
    mask = np.kron(coarse, np.ones((8, 8))).astype(bool)
    assert overlap.hit(coarse, mask) == 1.0
    assert overlap.pixel_auroc(coarse, mask) > 0.98
    assert overlap.dice_at_own_area(coarse, mask) > 0.85


@given(st.integers(0, 10_000), st.integers(1, 99))
def test_figures_stay_in_their_range_and_dice_below_its_ceiling(seed, area):
    random = np.random.default_rng(seed)
    values = random.normal(size=(10, 10)).astype(np.float32)
    mask = (random.permutation(100) < area).reshape(10, 10)
    ceiling = overlap.dice_ceiling(mask)
    assert 0 <= overlap.jaccard(values, mask) <= overlap.dice(values, mask) <= ceiling + 1e-9
    assert 0 <= overlap.pixel_auroc(values, mask) <= 1
    assert overlap.dice(mask.astype(np.float32), mask) == pytest.approx(ceiling)
    assert overlap.dice_at_own_area(mask.astype(np.float32), mask) == 1.0
    assert overlap.pixel_auroc(-values, mask) == pytest.approx(1 - overlap.pixel_auroc(values, mask))


def test_pixel_auroc_agrees_with_scikit_learn():
    metrics = importlib.import_module("sklearn.metrics")
    random = np.random.default_rng(0)
    values = random.integers(0, 9, (10, 10)).astype(np.float32)
    mask = random.random((10, 10)) < 0.3
    assert overlap.pixel_auroc(values, mask) == pytest.approx(metrics.roc_auc_score(mask.ravel(), values.ravel()))


def test_a_defect_that_covers_everything_has_no_auroc():
    assert np.isnan(overlap.pixel_auroc(ROW, np.ones((10, 10), bool)))


@pytest.mark.parametrize("mask", [np.zeros((4, 4), bool), np.ones((4, 4), np.uint8), np.ones(4, bool)])
def test_a_mask_without_a_defect_or_of_another_type_is_refused(mask):
    with pytest.raises(InvalidInputError, match="a mask must be bool"):
        overlap.dice(np.zeros((4, 4), np.float32), mask)


def test_a_point_beside_a_defect_is_near_it_and_no_hit():
    mask = np.zeros((100, 60), dtype=bool)
    mask[50, 30] = True
    for distance, near in ((0, 1.0), (5, 1.0), (6, 0.0)):
        values = np.zeros((100, 60), np.float32)
        values[50, 30 + distance] = 1
        assert overlap.near(values, mask) == near
        assert overlap.hit(values, mask) == (distance == 0)
