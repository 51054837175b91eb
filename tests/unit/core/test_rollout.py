"""Bounds on live frames, with hand-computed figures."""

from __future__ import annotations

import pytest

from services.core.errors import InvalidInputError
from services.core.rollout import ShadowBounds, WatchBounds, rise_interval, shadow_objection, watch_objection
from services.core.training_run import ShadowFigures, WatchFigures

SHADOW = ShadowBounds(max_flagged_rise=0.1, max_failed_share=0.1)
WATCH = WatchBounds(min_frames=50, max_flagged_rise=0.1, max_late_rise=0.05, confidence=0.99)


def shadow(frames: int, *, failed: int = 0, live: int = 0, candidate: int = 0) -> ShadowFigures:
    return ShadowFigures(frames, 100, failed, frames, live, candidate)


def watch(frames: int, flagged: int, before: int, before_flagged: int, late: int = 0) -> WatchFigures:
    return WatchFigures(frames, flagged, late, before, before_flagged, 0, 1)


def test_a_rise_up_to_the_bound_is_allowed() -> None:
    assert shadow_objection(shadow(100, live=5, candidate=15), SHADOW) is None
    objection = shadow_objection(shadow(100, live=5, candidate=16), SHADOW)
    assert objection is not None
    assert objection.reason == "flagged"
    assert "16 of 100 live frames, the live version for 5: a rise of 11.0%" in objection.detail


def test_a_fall_is_no_rise() -> None:
    assert shadow_objection(shadow(100, live=50, candidate=0), SHADOW) is None


def test_failures_are_a_share_of_what_was_asked() -> None:
    assert shadow_objection(shadow(90, failed=10), SHADOW) is None
    objection = shadow_objection(shadow(89, failed=11), SHADOW)
    assert objection is not None
    assert objection.reason == "failed"
    assert "no answer to 11 of 100 live frames (11.0%)" in objection.detail


def test_a_shadow_without_a_frame_says_nothing() -> None:
    with pytest.raises(InvalidInputError, match="got none"):
        shadow_objection(shadow(0), SHADOW)


def test_newcombes_interval_of_two_shares() -> None:
    # Clopper and Pearson at 95 %: 10 of 100 is .0490 to .1762, 40 of 100 is .3033 to .5028.
    low, high = rise_interval(10, 100, 40, 100, 0.95)
    assert low == pytest.approx(0.3 - ((0.4 - 0.3033) ** 2 + (0.1762 - 0.1) ** 2) ** 0.5, abs=2e-4)
    assert high == pytest.approx(0.3 + ((0.5028 - 0.4) ** 2 + (0.1 - 0.0490) ** 2) ** 0.5, abs=2e-4)


def test_the_interval_of_nothing_found_twice_holds_zero() -> None:
    low, high = rise_interval(0, 50, 0, 50, 0.95)
    assert low < 0 < high


def test_too_few_frames_of_either_version_say_nothing() -> None:
    assert watch_objection(watch(49, 49, 500, 0), WATCH) is None
    assert watch_objection(watch(500, 500, 49, 0), WATCH) is None


def test_a_clear_rise_is_objected_to_with_its_interval() -> None:
    objection = watch_objection(watch(100, 60, 100, 5), WATCH)
    assert objection is not None
    assert objection.reason == "flagged"
    assert "60 of 100 frames, before 5 of 100" in objection.detail


def test_a_rise_that_may_be_chance_is_not() -> None:
    # 16 % after 4 %: more than the bound allows, and not beyond doubt.
    assert watch_objection(watch(50, 8, 50, 2), WATCH) is None


def test_late_verdicts_have_a_bound_of_their_own() -> None:
    objection = watch_objection(watch(200, 10, 200, 10, late=60), WATCH)
    assert objection is not None
    assert objection.reason == "late"


@pytest.mark.parametrize(
    "make",
    [
        lambda: ShadowBounds(max_flagged_rise=1.1),
        lambda: ShadowBounds(max_failed_share=-0.1),
        lambda: WatchBounds(min_frames=0),
        lambda: WatchBounds(confidence=0.5),
        lambda: WatchBounds(max_late_rise=2),
    ],
)
def test_bounds_that_are_none_are_refused(make: object) -> None:
    with pytest.raises(InvalidInputError):
        make()  # type: ignore[operator]
