from __future__ import annotations

from dataclasses import replace

import pytest

from services.core.types import Inspection
from tests.bench.swap import _figures, _growth
from tests.unit.dashboard.inspections import NOW_NS, inspection

SECOND_NS = 1_000_000_000


def decided_after(number: int, at_s: float, took_ms: float) -> Inspection:
    captured_at_ns = NOW_NS + int(at_s * SECOND_NS)
    return replace(inspection(number), captured_at_ns=captured_at_ns, decided_at_ns=captured_at_ns + int(took_ms * 1e6))


def span(began_s: float, ended_s: float) -> tuple[int, int]:
    return NOW_NS + int(began_s * SECOND_NS), NOW_NS + int(ended_s * SECOND_NS)


def test_frames_of_swaps_are_held_against_those_of_the_steady_stretches() -> None:
    steady = [decided_after(number, number / 10, 20) for number in range(100)]
    slow = [decided_after(100 + number, 20 + number / 10, 50) for number in range(50)]
    between = [decided_after(200, 15, 9_999)]
    found = _figures(steady + slow + between, {"steady": [span(0, 10)], "swapping": [span(20, 22), span(22, 25)]})
    assert (found["rows"]["steady"]["frames"], found["rows"]["swapping"]["frames"]) == (100, 50)
    assert found["p99_ratio"] == pytest.approx(2.5)
    assert found["swap_s"] == {"median": 2.5, "longest": 3.0}


def test_growth_is_between_the_first_and_the_last_quarter_and_not_between_two_samples() -> None:
    assert _growth([100, 101, 160, 100, 102, 103, 104, 90])["growth"] == pytest.approx(97 - 100.5)
