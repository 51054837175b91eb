"""The local-contrast baseline."""

from __future__ import annotations

import numpy as np

from services.core.explain.attribution import Attribution, Budget
from services.core.explain.contrast import Contrast
from tests.unit.core.explain.toys import never


def explain(image: np.ndarray) -> Attribution:
    (made,) = Contrast().explain(image, 1, never, seed=0, budget=Budget())
    assert made.final
    assert made.passes == 0
    assert made.values.shape == image.shape[:2]
    return made


def test_an_even_image_has_no_contrast_anywhere() -> None:
    assert np.abs(explain(np.full((64, 64, 3), 90, np.uint8)).values).max() < 1e-3


def test_the_hottest_point_lies_on_the_spot_that_differs_whether_dark_or_bright() -> None:
    for shade in (20, 220):
        image = np.full((96, 96, 3), 120, np.uint8)
        image[60:66, 20:26] = shade
        y, x = np.unravel_index(explain(image).values.argmax(), (96, 96))
        assert 58 <= y < 68
        assert 18 <= x < 28


def test_a_slow_change_of_light_is_colder_than_a_small_spot() -> None:
    image = np.tile(np.linspace(60, 180, 128, dtype=np.uint8)[:, None, None], (1, 128, 3))
    image[30:34, 90:94] -= 40
    values = explain(image).values
    assert values[32, 92] > 5 * np.median(values)


def test_a_mirrored_image_gives_the_mirrored_map() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    np.testing.assert_allclose(explain(image[:, ::-1].copy()).values, explain(image).values[:, ::-1], atol=1e-3)
