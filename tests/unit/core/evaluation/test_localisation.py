import math

import numpy as np
import pytest

from services.core.errors import InvalidInputError
from services.core.evaluation.localisation import aupro, pooled_pixel_auroc
from services.core.evaluation.metrics import auroc


def image(values: list[float], defect: list[int]):
    return np.array([values], np.float32), np.array([defect], bool)


def test_pixels_of_a_good_image_count_against_a_map_that_glows_on_it() -> None:
    bad_map, bad_mask = image([0.5, 0.1, 0.1, 0.1], [1, 0, 0, 0])
    good_map, good_mask = image([0.9, 0.9, 0.1, 0.1], [0, 0, 0, 0])

    assert pooled_pixel_auroc([bad_map], [bad_mask]) == 1
    assert pooled_pixel_auroc([bad_map, good_map], [bad_mask, good_mask]) == pytest.approx(5 / 7)


def test_the_pooled_figure_is_the_auroc_of_all_pixels_ties_included() -> None:
    rng = np.random.default_rng(1)
    maps = list(rng.integers(0, 9, (3, 6, 7)).astype(np.float32))
    masks = list(rng.random((3, 6, 7)) < 0.3)

    assert pooled_pixel_auroc(maps, masks) == pytest.approx(auroc(np.ravel(maps), np.ravel(masks)))


def test_a_small_defect_weighs_as_much_as_a_large_one_in_the_overlap() -> None:
    # The large defect of eight pixels is found, the small one of one pixel is colder than all else.
    values, mask = image([1.0] * 8 + [0.05 * n for n in range(1, 11)] + [0.0], [1] * 8 + [0] * 10 + [1])

    assert aupro([values], [mask]) == pytest.approx(0.5)
    assert pooled_pixel_auroc([values], [mask]) == pytest.approx(8 / 9)


def test_a_perfect_map_overlaps_wholly_and_a_random_one_hardly() -> None:
    rng = np.random.default_rng(0)
    mask = np.zeros((200, 200), bool)
    mask[20:120, 30:130] = True

    assert aupro([mask.astype(np.float32)], [mask]) == pytest.approx(1)
    assert aupro([rng.random((200, 200), dtype=np.float32)], [mask]) == pytest.approx(0.15, abs=0.01)


def test_a_flat_map_is_worth_its_luck() -> None:
    values, mask = image([0.3] * 10, [1] * 3 + [0] * 7)

    assert pooled_pixel_auroc([values], [mask]) == 0.5
    assert aupro([values], [mask]) == pytest.approx(0.15)


def test_without_a_defect_there_is_no_figure() -> None:
    values, mask = image([0.1, 0.2], [0, 0])

    assert math.isnan(pooled_pixel_auroc([values], [mask]))
    assert math.isnan(aupro([values], [mask]))


def test_maps_and_masks_of_different_shapes_are_refused() -> None:
    values, mask = image([0.1, 0.2], [0, 1])

    with pytest.raises(InvalidInputError, match="same shapes"):
        pooled_pixel_auroc([values, values], [mask])
