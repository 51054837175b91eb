"""How a line did over time: what is counted, by what it is grouped, and the figures that follow.

An *inspection* is one frame with its first verdict: a part that three cameras see is inspected three times. What people
found later changes no count of verdicts; it is counted beside them. docs/statistics.md says what each figure means.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Final

from services.core.errors import InvalidInputError
from services.core.escape_rate import AuditStratum, EscapeEstimate, estimate_escape_rate
from services.core.shift import QUARTER_S, ShiftPlan, find_span

#: Verdicts are counted by spans of so many seconds of capture time, and old ones by ``shift.QUARTER_S``.
SPAN_S: Final = 300
#: Most points of a curve.
MAX_POINTS: Final = 1_000
#: Longest stretch of time that is asked for at once.
MAX_WINDOW_S: Final = 800 * 86_400

_NS_PER_S: Final = 1_000_000_000


class GroupBy(enum.Enum):
    """What a row of the statistics is about."""

    LINE = "line"
    CAMERA = "camera"
    PRODUCT = "product"
    MODEL_VERSION = "model_version"
    SHIFT = "shift"
    """A shift of the plan, over all days."""
    SHIFT_OF_DAY = "shift_of_day"
    """A shift of one day."""
    SPAN = "span"
    """A point of a curve over time."""


@dataclass(frozen=True, slots=True)
class StatisticsFilter:
    """Which inspections; what is empty or 0 does not narrow."""

    line_id: str = ""
    camera_id: str = ""
    product: str = ""
    alias: str = ""
    model_version: int = 0


@dataclass(frozen=True, slots=True)
class Inspected:
    """What inspections agree in that are counted together; what is empty or 0 was not asked for."""

    line_id: str = ""
    camera_id: str = ""
    product: str = ""
    alias: str = ""
    model_version: int = 0
    """0 also where no model saw the image."""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time, in seconds since the epoch; the end does not belong to it."""

    since_s: int
    until_s: int


@dataclass(frozen=True, slots=True)
class Slots:
    """Stretches of equal length, one after the other."""

    origin_s: int
    length_s: int

    def begins_s(self, number: int) -> int:
        """When a slot begins."""
        return self.origin_s + number * self.length_s


@dataclass(frozen=True, slots=True)
class VerdictTally:
    """Inspections by verdict."""

    passed: int = 0
    failed: int = 0
    review: int = 0
    late: int = 0
    """Of all of them: not decided within the cycle time."""

    def __add__(self, other: VerdictTally) -> VerdictTally:
        return VerdictTally(
            self.passed + other.passed, self.failed + other.failed, self.review + other.review, self.late + other.late
        )

    @property
    def inspections(self) -> int:
        """All of them."""
        return self.passed + self.failed + self.review


@dataclass(frozen=True, slots=True)
class OutcomeTally:
    """Cases that people settled, by what they found."""

    reviewed: int = 0
    """People settled on PASS or FAIL, or agree that they are not sure."""
    fails_reviewed: int = 0
    """Of those: the model had said FAIL."""
    false_rejects: int = 0
    """Of the fails reviewed: good."""
    escapes: int = 0
    """Of those that had passed: defective."""
    wrong_reasons: int = 0
    """The verdict was right and its reason wrong."""

    def __add__(self, other: OutcomeTally) -> OutcomeTally:
        sums = {one.name: getattr(self, one.name) + getattr(other, one.name) for one in fields(self)}
        return replace(self, **sums)


@dataclass(frozen=True, slots=True)
class CountedVerdicts:
    """Verdicts that agree in what was asked for, in one slot."""

    of: Inspected
    slot: int
    """0 where no slots were asked for."""
    tally: VerdictTally


@dataclass(frozen=True, slots=True)
class CountedOutcomes:
    """Cases that agree in what was asked for, in one slot."""

    of: Inspected
    slot: int
    tally: OutcomeTally


@dataclass(frozen=True, slots=True)
class CountedAudits:
    """Drawn inspections that agree in everything, in one slot."""

    of: Inspected
    slot: int
    stratum: AuditStratum


@dataclass(frozen=True, slots=True)
class RowKey:
    """What a row is about; the fields that its grouping does not use are empty."""

    name: str = ""
    """Line, camera, product, alias or shift; empty for the time outside of all shifts and for points of a curve."""
    line_id: str = ""
    """Of a camera."""
    model_version: int = 0
    day: str = ""
    """ISO 8601, of a shift of one day."""
    begins_s: int = 0
    """Of a shift of one day or of a point."""
    ends_s: int = 0


@dataclass(frozen=True, slots=True)
class StatisticsRow:
    """The figures of a group. A rate is None where there is nothing to divide by."""

    key: RowKey
    verdicts: VerdictTally
    outcomes: OutcomeTally
    audit: EscapeEstimate

    @property
    def defect_rate(self) -> float | None:
        """Share of inspections with the verdict FAIL."""
        return _share(self.verdicts.failed, self.verdicts.inspections)

    @property
    def first_pass_yield(self) -> float | None:
        """Share of inspections whose first verdict was PASS."""
        return _share(self.verdicts.passed, self.verdicts.inspections)


@dataclass(frozen=True, slots=True)
class StatisticsTable:
    """Rows, and all of them together."""

    rows: tuple[StatisticsRow, ...]
    total: StatisticsRow
    span: Span
    """What was counted: the time asked for, widened to whole spans."""
    kept_since_s: int = 0
    """Before this time no verdicts are counted any more, seconds since the epoch."""


@dataclass(slots=True)
class _Group:
    verdicts: VerdictTally = field(default_factory=VerdictTally)
    outcomes: OutcomeTally = field(default_factory=OutcomeTally)
    strata: dict[tuple[Inspected, float], AuditStratum] = field(default_factory=dict)

    def add_stratum(self, of: Inspected, added: AuditStratum) -> None:
        # What was drawn in several slots with one probability is one stratum.
        key = (of, added.sampling_probability)
        known = self.strata.get(key)
        self.strata[key] = added if known is None else _merged(known, added)

    def row(self, key: RowKey) -> StatisticsRow:
        return StatisticsRow(key, self.verdicts, self.outcomes, estimate_escape_rate(self.strata.values()))


def whole_spans(since_ns: int, until_ns: int, merged_before_s: int) -> Span:
    """Widen a stretch of time to whole spans of what is counted.

    Args:
        since_ns: Its beginning, nanoseconds since the epoch.
        until_ns: Its end.
        merged_before_s: Spans before this were merged into quarters of an hour; seconds since the epoch.

    Raises:
        InvalidInputError: If it ends before it begins or is too long.
    """
    if not 0 <= since_ns < until_ns:
        raise InvalidInputError(f"since must lie before until and after 1970, got {since_ns} and {until_ns} ns")
    step_s = QUARTER_S if since_ns // _NS_PER_S < merged_before_s else SPAN_S
    since_s = since_ns // _NS_PER_S // step_s * step_s
    until_s = -(-until_ns // (_NS_PER_S * step_s)) * step_s
    if until_s - since_s > MAX_WINDOW_S:
        raise InvalidInputError(
            f"at most {MAX_WINDOW_S // 86_400} days may be asked for at once, got {(until_s - since_s) // 86_400}"
        )
    return Span(since_s, until_s)


def slots_of(group_by: GroupBy, span: Span, span_s: int, merged_before_s: int) -> Slots | None:
    """Say by which slots of time must be counted; None for none.

    Args:
        group_by: What rows are about.
        span: As :func:`whole_spans` gives it.
        span_s: Length of a point, for ``GroupBy.SPAN``; not read otherwise.
        merged_before_s: As in :func:`whole_spans`.

    Raises:
        InvalidInputError: If a point's length is no whole number of spans, or there would be too many points. Where
            spans were merged, a point becomes as long as whole quarters of an hour need.
    """
    if group_by in {GroupBy.SHIFT, GroupBy.SHIFT_OF_DAY}:
        # Shifts begin and end at quarters of an hour.
        return Slots(span.since_s // QUARTER_S * QUARTER_S, QUARTER_S)
    if group_by is not GroupBy.SPAN:
        return None
    if span_s < SPAN_S or span_s % SPAN_S:
        raise InvalidInputError(f"span_s must be a multiple of {SPAN_S}, got {span_s}")
    if span.since_s < merged_before_s:
        span_s = -(-span_s // QUARTER_S) * QUARTER_S
    if (span.until_s - span.since_s) / span_s > MAX_POINTS:
        raise InvalidInputError(
            f"a curve must have at most {MAX_POINTS} points, got {span.until_s - span.since_s} s by {span_s} s"
        )
    return Slots(span.since_s, span_s)


def tabulate(
    group_by: GroupBy,
    span: Span,
    slots: Slots | None,
    plan: ShiftPlan,
    *,
    verdicts: Iterable[CountedVerdicts],
    outcomes: Iterable[CountedOutcomes],
    audits: Iterable[CountedAudits],
    kept_since_s: int = 0,
) -> StatisticsTable:
    """Put counts together into the rows of a table.

    Args:
        group_by: What a row is about.
        span: The time that was counted.
        slots: By which it was counted.
        plan: The shifts.
        verdicts: Counted verdicts.
        outcomes: Counted cases.
        audits: What was drawn.
        kept_since_s: Before this time no verdicts are counted any more.

    Returns:
        Rows in order: those of time by time, others by name. Points of a curve are complete, shifts and others have a
        row where anything was counted.
    """
    keys = _Keys(group_by, span, slots, plan)
    groups: Mapping[RowKey, _Group] = defaultdict(_Group)
    total = _Group()
    for key in keys.all_points():
        groups[key]
    for counted in verdicts:
        for group in (groups[keys.of(counted.of, counted.slot)], total):
            group.verdicts += counted.tally
    for found in outcomes:
        for group in (groups[keys.of(found.of, found.slot)], total):
            group.outcomes += found.tally
    for drawn in audits:
        for group in (groups[keys.of(drawn.of, drawn.slot)], total):
            group.add_stratum(drawn.of, drawn.stratum)
    ordered = sorted(groups, key=lambda key: (key.begins_s, keys.place(key.name), key.line_id, key.model_version))
    rows = tuple(groups[key].row(key) for key in ordered)
    return StatisticsTable(rows, total.row(RowKey(begins_s=span.since_s, ends_s=span.until_s)), span, kept_since_s)


class _Keys:
    """Which row a count belongs to."""

    def __init__(self, group_by: GroupBy, span: Span, slots: Slots | None, plan: ShiftPlan) -> None:
        self._group_by = group_by
        self._span = span
        self._slots = slots
        self._spans = plan.spans(span.since_s, span.until_s) if slots else []
        self._order = {shift.name: f"{index:02d}" for index, shift in enumerate(plan.shifts)}
        self._known: dict[int, RowKey] = {}

    def all_points(self) -> Sequence[RowKey]:
        """The points of a curve, those of which nothing is known too."""
        if self._group_by is not GroupBy.SPAN or self._slots is None:
            return ()
        count = -(-(self._span.until_s - self._span.since_s) // self._slots.length_s)
        return [self._in_time(number) for number in range(count)]

    def place(self, name: str) -> str:
        """By what rows of one time are ordered: shifts as the plan has them."""
        return self._order.get(name, name or "~") if self._group_by is GroupBy.SHIFT else name

    def of(self, inspected: Inspected, slot: int) -> RowKey:
        """The row."""
        match self._group_by:
            case GroupBy.LINE:
                return RowKey(inspected.line_id)
            case GroupBy.CAMERA:
                return RowKey(inspected.camera_id, line_id=inspected.line_id)
            case GroupBy.PRODUCT:
                return RowKey(inspected.product)
            case GroupBy.MODEL_VERSION:
                return RowKey(inspected.alias, model_version=inspected.model_version)
            case _:
                return self._in_time(slot)

    def _in_time(self, number: int) -> RowKey:
        known = self._known.get(number)
        if known is None:
            known = self._known[number] = self._find(number)
        return known

    def _find(self, number: int) -> RowKey:
        if self._slots is None:
            return RowKey()
        begins_s = self._slots.begins_s(number)
        if self._group_by is GroupBy.SPAN:
            return RowKey(begins_s=begins_s, ends_s=min(begins_s + self._slots.length_s, self._span.until_s))
        found = find_span(self._spans, begins_s)
        if self._group_by is GroupBy.SHIFT:
            return RowKey(found.name if found else "")
        if found is None:
            return RowKey()
        return RowKey(found.name, day=found.day.isoformat(), begins_s=found.begins_s, ends_s=found.ends_s)


def _merged(one: AuditStratum, other: AuditStratum) -> AuditStratum:
    return AuditStratum(
        one.sampling_probability,
        one.drawn + other.drawn,
        one.reviewed + other.reviewed,
        one.escapes + other.escapes,
        one.undecided + other.undecided,
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
