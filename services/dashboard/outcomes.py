"""The answers of recent parts and what happened on their lines, in memory: what the line's page shows.

Pure, as the live model: values go in, values come out. Every bound is a number of parts, events or spans of time, so
that memory does not grow with the line.
"""

from __future__ import annotations

import threading
from bisect import insort
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from services.core.line_event import LineEvent, LineEventKind
from services.core.outcome import Outcome
from services.core.types import Verdict

#: What a line's counts tell of.
COUNTED_S: Final = 900
_BUCKET_NS: Final = 15_000_000_000
_BUCKETS: Final = COUNTED_S * 1_000_000_000 // _BUCKET_NS
#: Bars of a histogram of cycle times; the last one holds whatever took longer.
BARS: Final = 32
_NS_PER_MS: Final = 1_000_000
_MOST_DEADLINES: Final = 4
_MOST_REVISIONS: Final = 32
_ROUND: Final = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)


@dataclass(frozen=True, slots=True)
class OutcomeBounds:
    """How much is kept.

    Attributes:
        max_lines: Lines; the longest silent go.
        parts_per_line: Latest parts in a line's list.
        events_per_line: Latest events of a line.
        cycles_per_line: First answers that a line's cycle times are taken from.
        max_parts: Parts of all lines whose answers can be looked up.
    """

    max_lines: int = 512
    parts_per_line: int = 200
    events_per_line: int = 500
    cycles_per_line: int = 1_000
    max_parts: int = 5_000


@dataclass(frozen=True, slots=True)
class PartAnswers:
    """What is known of one part's answer."""

    revisions: tuple[Outcome, ...]
    """The oldest first; never empty."""
    answered: LineEvent | None
    """What the line was told; None while that is not known."""


@dataclass(frozen=True, slots=True)
class Counts:
    """First answers of a line over the last ``COUNTED_S`` seconds."""

    passed: int = 0
    failed: int = 0
    reviewed: int = 0
    late: int = 0


@dataclass(frozen=True, slots=True)
class Bar:
    """First answers that took between two times."""

    from_ms: float
    in_time: int
    late: int


@dataclass(frozen=True, slots=True)
class CycleTimes:
    """How long a line's first answers took from the part's first capture or trigger."""

    parts: int
    p50_ms: float | None
    """None without parts."""
    p99_ms: float | None
    due: int
    """Parts of these with a deadline."""
    in_time: int
    """Parts of those that were answered before it."""
    deadlines_ms: tuple[float, ...]
    """Those that there were, shortest first; the most frequent ones where there were many."""
    bar_ms: float
    """Width of a bar; the last one is open to the right."""
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class _Cycle:
    took_ms: float
    due_ms: float
    """0 = no deadline."""
    in_time: bool


_PartKey = tuple[str, str]
_OrderKey = tuple[int, str]
"""When a part began, and which it is."""


class _Part:
    __slots__ = ("answered", "began_at_ns", "revisions")

    def __init__(self, began_at_ns: int, answered: LineEvent | None) -> None:
        self.began_at_ns = began_at_ns
        self.revisions: dict[int, Outcome] = {}
        self.answered = answered

    def view(self) -> PartAnswers:
        return PartAnswers(tuple(self.revisions[revision] for revision in sorted(self.revisions)), self.answered)


@dataclass(slots=True)
class _Line:
    bounds: OutcomeBounds
    parts: list[_OrderKey] = field(default_factory=list)
    """Oldest first: partitions are read one after the other at the start, so answers do not come in their order."""
    events: deque[LineEvent] = field(init=False)
    event_ids: deque[str] = field(init=False)
    cycles: deque[_Cycle] = field(init=False)
    buckets: OrderedDict[int, list[int]] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        self.events = deque(maxlen=self.bounds.events_per_line)
        self.event_ids = deque(maxlen=self.bounds.events_per_line)
        self.cycles = deque(maxlen=self.bounds.cycles_per_line)

    def count(self, outcome: Outcome) -> None:
        due_ms = max(0, outcome.deadline_at_ns - outcome.began_at_ns) / _NS_PER_MS if outcome.deadline_at_ns else 0.0
        took_ms = max(0, outcome.decided_at_ns - outcome.began_at_ns) / _NS_PER_MS
        self.cycles.append(_Cycle(took_ms, due_ms, outcome.in_time))
        bucket = self.buckets.setdefault(outcome.decided_at_ns // _BUCKET_NS, [0, 0, 0, 0])
        bucket[_PLACES[outcome.verdict]] += 1
        bucket[3] += not outcome.in_time
        while len(self.buckets) > _BUCKETS + 1:
            del self.buckets[min(self.buckets)]


_PLACES: Final = {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.REVIEW: 2}


class OutcomeBook:
    """Answers and events by line. Every method takes one lock, none of them waits."""

    def __init__(self, bounds: OutcomeBounds = OutcomeBounds()) -> None:
        """Set up, empty.

        Args:
            bounds: How much is kept.
        """
        self._bounds = bounds
        self._lock = threading.Lock()
        self._lines: OrderedDict[str, _Line] = OrderedDict()
        self._parts: OrderedDict[_PartKey, _Part] = OrderedDict()
        # The word that the line was told may be read before the answer itself: they come on two topics.
        self._told: OrderedDict[_PartKey, LineEvent] = OrderedDict()
        self._revision = 0

    @property
    def revision(self) -> int:
        """Moves with every answer and event that was new."""
        return self._revision

    def add(self, outcomes: Iterable[Outcome] = (), events: Iterable[LineEvent] = ()) -> None:
        """Take answers and events in; what is known already changes nothing.

        Args:
            outcomes: In any order.
            events: In any order; the list of a line keeps the order in which they come.
        """
        with self._lock:
            for outcome in outcomes:
                self._add_outcome(outcome)
            for event in events:
                self._add_event(event)

    def outcomes(self, line_id: str, *, before: str = "", limit: int = 50) -> tuple[PartAnswers, ...]:
        """The latest parts of a line, newest first.

        Args:
            line_id: Which line; one that is not known has none.
            before: Only parts that began before this one; empty begins with the newest, a part that is no longer in
                the list has none before it.
            limit: Most parts.
        """
        with self._lock:
            line = self._lines.get(line_id)
            newest_first = [] if line is None else [part_id for _, part_id in reversed(line.parts)]
            if before:
                place = newest_first.index(before) + 1 if before in newest_first else len(newest_first)
                newest_first = newest_first[place:]
            found = (self._parts.get((line_id, part_id)) for part_id in newest_first)
            return tuple(part.view() for part in islice((one for one in found if one is not None), limit))

    def part(self, part_id: str, line_id: str | None = None) -> PartAnswers | None:
        """What is known of one part; None where nothing is, or no longer.

        Args:
            part_id: Which part.
            line_id: On which line; None takes the one that answered it last, as two lines may count alike.
        """
        with self._lock:
            if line_id is not None:
                found = self._parts.get((line_id, part_id))
                return None if found is None else found.view()
            several = [self._parts[line, part_id] for line in self._lines if (line, part_id) in self._parts]
            return max(several, key=lambda one: one.began_at_ns).view() if several else None

    def newest(self, line_id: str) -> PartAnswers | None:
        """The part of a line that was answered last; None before the first."""
        found = self.outcomes(line_id, limit=1)
        return found[0] if found else None

    def events(self, line_id: str) -> tuple[LineEvent, ...]:
        """The latest events of a line, newest first; one that is not known has none."""
        with self._lock:
            line = self._lines.get(line_id)
            return () if line is None else tuple(reversed(line.events))

    def counts(self, line_id: str, now_ns: int) -> Counts:
        """First answers of a line over the last ``COUNTED_S`` seconds.

        Args:
            line_id: Which line.
            now_ns: The present, nanoseconds since the epoch.
        """
        oldest = now_ns // _BUCKET_NS - _BUCKETS
        with self._lock:
            line = self._lines.get(line_id)
            fresh = [] if line is None else [one for start, one in line.buckets.items() if start > oldest]
            passed, failed, reviewed, late = (sum(one[place] for one in fresh) for place in range(4))
        return Counts(passed, failed, reviewed, late)

    def cycle_times(self, line_id: str) -> CycleTimes:
        """How long the last first answers of a line took; one that is not known has none."""
        with self._lock:
            line = self._lines.get(line_id)
            cycles = [] if line is None else list(line.cycles)
        return _cycle_times(cycles)

    def _add_outcome(self, outcome: Outcome) -> None:
        key = (outcome.line_id, outcome.part_id)
        part = self._parts.get(key)
        known = None if part is None else part.revisions.get(outcome.revision)
        # The same again, or an earlier showing of a part with this id.
        if known is not None and outcome.began_at_ns <= known.began_at_ns:
            return
        line = self._line(outcome.line_id)
        if part is None or (outcome.revision == 1 and known is not None):
            part = self._new_part(outcome, line)
        if outcome.revision == 1:
            line.count(outcome)
        part.revisions[outcome.revision] = outcome
        while len(part.revisions) > _MOST_REVISIONS:
            # What the line was told stays.
            del part.revisions[sorted(part.revisions)[1]]
        self._revision += 1

    def _new_part(self, outcome: Outcome, line: _Line) -> _Part:
        key = (outcome.line_id, outcome.part_id)
        self._parts.pop(key, None)
        told = self._told.get(key)
        part = _Part(outcome.began_at_ns, told if told is not None and told.at_ns >= outcome.began_at_ns else None)
        self._parts[key] = part
        line.parts = [one for one in line.parts if one[1] != outcome.part_id]
        insort(line.parts, (outcome.began_at_ns, outcome.part_id))
        del line.parts[: -self._bounds.parts_per_line]
        while len(self._parts) > self._bounds.max_parts:
            self._parts.popitem(last=False)
        return part

    def _add_event(self, event: LineEvent) -> None:
        line = self._line(event.line_id)
        if event.event_id in line.event_ids:
            return
        line.events.append(event)
        line.event_ids.append(event.event_id)
        if event.kind is LineEventKind.ANSWERED and event.part_id:
            self._tell(event)
        self._revision += 1

    def _tell(self, event: LineEvent) -> None:
        key = (event.line_id, event.part_id)
        self._told[key] = event
        self._told.move_to_end(key)
        while len(self._told) > self._bounds.max_parts:
            self._told.popitem(last=False)
        part = self._parts.get(key)
        if part is not None and event.at_ns >= part.began_at_ns:
            part.answered = event

    def _line(self, line_id: str) -> _Line:
        line = self._lines.setdefault(line_id, _Line(self._bounds))
        self._lines.move_to_end(line_id)
        while len(self._lines) > self._bounds.max_lines:
            self._lines.popitem(last=False)
        return line


def _cycle_times(cycles: Sequence[_Cycle]) -> CycleTimes:
    if not cycles:
        return CycleTimes(0, None, None, 0, 0, (), 0.0, ())
    took = sorted(one.took_ms for one in cycles)
    due = [one for one in cycles if one.due_ms > 0]
    deadlines: dict[float, int] = {}
    for one in due:
        deadlines[one.due_ms] = deadlines.get(one.due_ms, 0) + 1
    frequent = sorted(deadlines, key=lambda ms: -deadlines[ms])[:_MOST_DEADLINES]
    # Half as far again as the deadline, so that it is seen how late the late ones are; the last bar has the rest.
    bar_ms = _round_up(max(_at(took, 0.99) * 1.1, max(frequent, default=0.0) * 1.5, 1.0) / (BARS - 1))
    counted = [[0, 0] for _ in range(BARS)]
    for one in cycles:
        counted[min(BARS - 1, int(one.took_ms / bar_ms))][0 if one.in_time else 1] += 1
    return CycleTimes(
        parts=len(cycles),
        p50_ms=_at(took, 0.5),
        p99_ms=_at(took, 0.99),
        due=len(due),
        in_time=sum(one.in_time for one in due),
        deadlines_ms=tuple(sorted(frequent)),
        bar_ms=bar_ms,
        bars=tuple(Bar(place * bar_ms, *counts) for place, counts in enumerate(counted)),
    )


def _at(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least this share does not exceed."""
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]


def _round_up(value: float) -> float:
    power = 10.0
    while power > value:
        power /= 10
    while power * 10 <= value:
        power *= 10
    return next(step * power for step in _ROUND if step * power >= value)
