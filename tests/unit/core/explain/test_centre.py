"""The centre point."""

from __future__ import annotations

import numpy as np
import pytest

from services.core.explain.attribution import Budget
from services.core.explain.centre import Centre
from tests.unit.core.explain.toys import never


@pytest.mark.parametrize(("height", "width"), [(5, 9), (8, 8), (1, 1), (1, 7)])
def test_the_middle_is_one_and_it_falls_towards_the_corners(height: int, width: int) -> None:
    (made,) = Centre().explain(np.zeros((height, width, 3), np.uint8), 1, never, seed=0, budget=Budget())
    assert made.final
    assert made.passes == 0
    assert made.values.shape == (height, width)
    assert made.values.argmax() in {
        y * width + x for y in ((height - 1) // 2, height // 2) for x in ((width - 1) // 2, width // 2)
    }
    np.testing.assert_allclose(made.values, made.values[::-1, ::-1], atol=1e-6)
    if min(height, width) > 1:
        assert made.values[0, 0] == pytest.approx(0.0, abs=1e-6)
