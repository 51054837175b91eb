from __future__ import annotations

from dataclasses import replace

import pytest

from services.core.types import StageTimings, Verdict
from services.dashboard.rolling import POINT_S, POINTS, WINDOW_S, Rolling, add_up, figures, points
from tests.unit.dashboard.inspections import NOW_NS, SECOND_NS, inspection


def filled(*ages_s: float, **changes: object) -> Rolling:
    rolling = Rolling()
    for age_s in ages_s:
        rolling.add(inspection(age_s=age_s, **changes), NOW_NS)
    return rolling


def test_nothing_seen_gives_zeros_and_no_latency() -> None:
    found = figures(add_up([]))
    assert (found.seen, found.total, found.frames_per_s, found.p50_ms) == (0, 0, 0.0, None)


def test_verdicts_are_counted_by_kind_and_lateness() -> None:
    rolling = filled(1.0, 2.0)
    rolling.add(inspection(verdict=Verdict.FAIL, in_time=False), NOW_NS)
    rolling.add(inspection(verdict=Verdict.REVIEW), NOW_NS)
    found = figures(rolling.sums(NOW_NS))
    assert (found.passed, found.failed, found.reviewed, found.late, found.total) == (2, 1, 1, 1, 4)


def test_a_verdict_leaves_the_window_but_not_the_total() -> None:
    rolling = filled(1.0)
    later_ns = NOW_NS + WINDOW_S * SECOND_NS
    found = figures(rolling.sums(later_ns))
    assert (found.total, found.seen, found.p50_ms) == (0, 1, None)


def test_a_verdict_older_than_the_window_is_not_counted_into_it() -> None:
    found = figures(filled(WINDOW_S + 1.0).sums(NOW_NS))
    assert (found.total, found.seen) == (0, 1)


def test_a_second_is_used_again_a_window_later_without_the_old_counts() -> None:
    rolling = filled(1.0, 1.0, 1.0)
    later_ns = NOW_NS + WINDOW_S * SECOND_NS
    rolling.add(replace(inspection(), decided_at_ns=later_ns - SECOND_NS), later_ns)
    assert figures(rolling.sums(later_ns)).passed == 1


def test_a_clock_that_runs_ahead_counts_as_now() -> None:
    found = figures(filled(-3_600.0).sums(NOW_NS))
    assert found.total == 1


def test_the_rate_is_over_ten_whole_seconds() -> None:
    rolling = filled(*[1.5 + 0.5 * index for index in range(18)], 0.0, 30.0)
    assert figures(rolling.sums(NOW_NS)).frames_per_s == pytest.approx(1.8)


def test_percentiles_are_within_five_percent() -> None:
    rolling = Rolling()
    for milliseconds in range(1, 1_001):
        rolling.add(inspection(timings=StageTimings(total_ms=float(milliseconds))), NOW_NS)
    found = figures(rolling.sums(NOW_NS))
    assert found.p50_ms == pytest.approx(500, rel=0.05)
    assert found.p99_ms == pytest.approx(990, rel=0.05)


@pytest.mark.parametrize("total_ms", [0.0, -5.0, float("nan"), float("inf"), 1e12])
def test_absurd_latencies_are_counted_and_break_nothing(total_ms: float) -> None:
    assert figures(filled(1.0, timings=StageTimings(total_ms=total_ms)).sums(NOW_NS)).p50_ms is not None


def test_the_curve_sums_cameras_and_leaves_out_the_point_that_is_still_filled() -> None:
    sums = add_up([filled(0.5, 6.5, 7.0).sums(NOW_NS), filled(7.5, verdict=Verdict.FAIL).sums(NOW_NS)])
    curve = points(sums, NOW_NS)
    now_s = NOW_NS // SECOND_NS
    assert len(curve) == POINTS - 1
    assert [point.start_s for point in curve[-2:]] == [now_s - 2 * POINT_S, now_s - POINT_S]
    assert (curve[-2].passed, curve[-2].failed) == (2, 1)
    assert curve[-1].passed == 1
