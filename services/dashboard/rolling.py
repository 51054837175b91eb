"""Figures over the last five minutes, in a fixed amount of memory.

Verdicts are counted into buckets by the time they were decided, so a dashboard that starts late, or catches up after
an outage, draws the same curve as one that was there all the time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.core.types import Inspection, Verdict

WINDOW_S = 300
"""Length of the window, seconds; one count bucket a second."""
POINT_S = 5
"""Width of one point of a chart, seconds."""
POINTS = WINDOW_S // POINT_S
RATE_S = 10
"""Frames per second are counted over this long."""

_NS_PER_S = 1_000_000_000
_PASS, _FAIL, _REVIEW, _LATE = range(4)
_COLUMN = {Verdict.PASS: _PASS, Verdict.FAIL: _FAIL, Verdict.REVIEW: _REVIEW}

# Latencies are kept as a histogram with logarithmic bins from half a millisecond to a minute: 128 bins, 9.6 % apart.
_BINS = 128
_LOW_MS = 0.5
_HIGH_MS = 60_000.0
_PER_BIN = math.log(_HIGH_MS / _LOW_MS) / _BINS


@dataclass(frozen=True, slots=True)
class Figures:
    """What is said of a camera, a line or everything.

    Counts and shares are over the last five minutes, ``frames_per_s`` over the last ten seconds.
    """

    seen: int
    """Verdicts since the dashboard started, its look-back included."""
    passed: int
    failed: int
    reviewed: int
    late: int
    frames_per_s: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None

    @property
    def total(self) -> int:
        """Verdicts in the window."""
        return self.passed + self.failed + self.reviewed


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a chart: the verdicts of ``POINT_S`` seconds."""

    start_s: int
    """Seconds since the epoch."""
    passed: int
    failed: int
    reviewed: int


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """The window at one instant."""

    seen: int
    counts: NDArray[np.int64]
    """By age: shape ``(WINDOW_S, 4)``, row 0 is the current second; pass, fail, review, late."""
    histogram: NDArray[np.int64]
    """Verdicts by latency, shape ``(128,)``."""


class Rolling:
    """The counts and latencies of one camera over the last ``WINDOW_S`` seconds.

    About 39 kB, whatever the rate.
    """

    def __init__(self) -> None:
        self.seen = 0
        self._counts: NDArray[np.uint32] = np.zeros((WINDOW_S, 4), np.uint32)
        self._count_second: NDArray[np.int64] = np.full(WINDOW_S, -1, np.int64)
        self._latency: NDArray[np.uint32] = np.zeros((POINTS, _BINS), np.uint32)
        self._latency_slot: NDArray[np.int64] = np.full(POINTS, -1, np.int64)

    def add(self, inspection: Inspection, now_ns: int) -> None:
        """Count one verdict; one decided before the window counts only into ``seen``."""
        self.seen += 1
        # A detector whose clock runs ahead must not write into seconds that have not come.
        second = min(inspection.decided_at_ns, now_ns) // _NS_PER_S
        if second <= now_ns // _NS_PER_S - WINDOW_S:
            return
        row = second % WINDOW_S
        if self._count_second[row] != second:
            self._count_second[row] = second
            self._counts[row] = 0
        self._counts[row, _COLUMN[inspection.verdict]] += 1
        if not inspection.in_time:
            self._counts[row, _LATE] += 1
        slot = second // POINT_S
        column = slot % POINTS
        if self._latency_slot[column] != slot:
            self._latency_slot[column] = slot
            self._latency[column] = 0
        self._latency[column, _bin(inspection.timings.total_ms)] += 1

    def sums(self, now_ns: int) -> Sums:
        """What the window holds now.

        Args:
            now_ns: The present, nanoseconds since the epoch.
        """
        now = now_ns // _NS_PER_S
        seconds = now - np.arange(WINDOW_S)
        rows = seconds % WINDOW_S
        counts = np.where((self._count_second[rows] == seconds)[:, None], self._counts[rows], np.uint32(0))
        oldest_slot = now // POINT_S - POINTS + 1
        histogram = self._latency[self._latency_slot >= oldest_slot].sum(axis=0)
        return Sums(self.seen, counts.astype(np.int64), histogram.astype(np.int64))


def add_up(parts: Sequence[Sums]) -> Sums:
    """Sum up cameras; none give zeros."""
    if not parts:
        return Sums(0, np.zeros((WINDOW_S, 4), np.int64), np.zeros(_BINS, np.int64))
    counts = np.sum([part.counts for part in parts], axis=0)
    return Sums(sum(part.seen for part in parts), counts, np.sum([part.histogram for part in parts], axis=0))


def figures(sums: Sums) -> Figures:
    """Say what the window holds in figures."""
    window = sums.counts.sum(axis=0)
    # The current second is not over yet, so the rate leaves it out.
    recent = int(sums.counts[1 : RATE_S + 1, : _REVIEW + 1].sum())
    return Figures(
        seen=sums.seen,
        passed=int(window[_PASS]),
        failed=int(window[_FAIL]),
        reviewed=int(window[_REVIEW]),
        late=int(window[_LATE]),
        frames_per_s=recent / RATE_S,
        p50_ms=_percentile(sums.histogram, 0.50),
        p95_ms=_percentile(sums.histogram, 0.95),
        p99_ms=_percentile(sums.histogram, 0.99),
    )


def points(sums: Sums, now_ns: int, last: int = POINTS) -> list[Point]:
    """The window as a curve, oldest point first; the point still being filled is left out.

    Args:
        sums: Taken at ``now_ns``.
        now_ns: The present, nanoseconds since the epoch.
        last: How many of the newest points to give, at most ``POINTS - 1``.
    """
    now = now_ns // _NS_PER_S
    current = now // POINT_S * POINT_S
    result: list[Point] = []
    for start in range(current - min(last, POINTS - 1) * POINT_S, current, POINT_S):
        age = now - start
        total = sums.counts[age - POINT_S + 1 : age + 1].sum(axis=0)
        result.append(Point(start, int(total[_PASS]), int(total[_FAIL]), int(total[_REVIEW])))
    return result


def _bin(latency_ms: float) -> int:
    # What is not a number counts as the shortest: a latency must not be able to break the wall.
    if not latency_ms > _LOW_MS:
        return 0
    return min(_BINS - 1, int(math.log(min(latency_ms, _HIGH_MS) / _LOW_MS) / _PER_BIN))


def _percentile(histogram: NDArray[np.int64], share: float) -> float | None:
    total = int(histogram.sum())
    if total == 0:
        return None
    index = int(np.searchsorted(np.cumsum(histogram), share * total))
    # The middle of the bin, on the logarithmic scale: at most 4.7 % off.
    return _LOW_MS * math.exp((min(index, _BINS - 1) + 0.5) * _PER_BIN)
