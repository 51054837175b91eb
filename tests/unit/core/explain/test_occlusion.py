"""Occlusion, window by window."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from services.core.errors import ExplanationError
from services.core.explain.attribution import SCORE_TARGET, Budget
from services.core.explain.occlusion import Occlusion
from tests.unit.core.explain.toys import brightness_at, two_classes

BLACK = (0, 0, 0)


def test_two_windows_side_by_side_show_what_each_half_is_worth() -> None:
    # Half of the weight lies on the left half of a white image, none on the right.
    weights = np.array([[1.0, 0.0], [1.0, 0.0]])
    occlusion = Occlusion(window_share=0.5, stride_px=1, fill=BLACK)
    image = np.full((2, 2, 3), 255, np.uint8)
    predict = two_classes(brightness_at(weights))
    (made,) = occlusion.explain(image, SCORE_TARGET, predict, seed=0, budget=Budget(max_passes=5))
    np.testing.assert_allclose(made.values, [[0.5, 0.0], [0.5, 0.0]], atol=1e-6)
    assert made.passes == 5
    assert not made.partial
    assert np.isnan(made.stability)


def test_overlapping_windows_are_averaged() -> None:
    weights = np.array([[1.0, 2.0, 1.0]])
    occlusion = Occlusion(window_share=0.6, stride_px=1, fill=BLACK)
    image = np.full((1, 3, 3), 255, np.uint8)
    (made,) = occlusion.explain(image, 1, two_classes(brightness_at(weights)), seed=0, budget=Budget())
    # Two windows of two pixels: each hides three quarters of the weight.
    np.testing.assert_allclose(made.values, [[0.75, 0.75, 0.75]], atol=1e-6)


@pytest.mark.parametrize("most", [1, 2, 7, 50, 64, 10_000])
def test_no_more_passes_are_spent_than_allowed(most: int) -> None:
    asked = 0

    def counting(images: NDArray[np.uint8]) -> NDArray[np.float64]:
        nonlocal asked
        assert len(images) <= 8
        asked += len(images)
        return np.full(len(images), 0.5)

    image = np.zeros((64, 48, 3), np.uint8)
    *_, last = Occlusion().explain(image, 1, two_classes(counting), seed=0, budget=Budget(most, batch_size=8))
    assert last.final
    assert last.passes == asked <= most
    # Windows of 8 by 6 pixels at a stride of 7: 9 by 7 places, and one pass for the image itself.
    assert asked >= 0.6 * min(most, 64)


def test_a_map_is_shown_on_the_way_and_time_that_runs_out_leaves_a_part() -> None:
    calls = iter([False, False, False, True])
    budget = Budget(max_passes=400, batch_size=16, out_of_time=lambda: next(calls))
    predict = two_classes(brightness_at(np.ones((64, 64))))
    steps = list(
        Occlusion(stride_px=3, refine_every=16).explain(
            np.full((64, 64, 3), 200, np.uint8), 1, predict, seed=0, budget=budget
        )
    )
    assert [step.final for step in steps] == [False, False, True]
    assert [step.passes for step in steps] == [17, 33, 49]
    assert steps[-1].partial
    assert 0 < steps[0].coverage < steps[-1].coverage < 1


def test_an_answer_that_is_no_number_ends_with_its_reason() -> None:
    def broken(images: NDArray[np.uint8]) -> NDArray[np.float64]:
        return np.full(len(images), np.nan)

    with pytest.raises(ExplanationError) as caught:
        list(Occlusion().explain(np.zeros((16, 16, 3), np.uint8), 1, two_classes(broken), seed=0, budget=Budget()))
    assert caught.value.reason == "nan_scores"
