"""The figures of a stretch of time, put together from counted verdicts and from what people found."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from services.adapters.ports import CaseOutcomes, VerdictCounts
from services.core.shift import ShiftPlan, ShiftSpan
from services.core.statistics import GroupBy, StatisticsFilter, StatisticsTable, slots_of, tabulate, whole_spans

_NS_PER_S: Final = 1_000_000_000
_SECONDS_OF_DAY: Final = 86_400


@dataclass(frozen=True, slots=True)
class ShiftsNow:
    """The plan, and where a moment lies in it."""

    plan: ShiftPlan
    day_begins_s: int
    shift: ShiftSpan | None


class Statistics:
    """Answers what the statistics page asks. Thread-safe.

    Args:
        counts: Counted verdicts.
        outcomes: What people found.
        plan: The shifts.
        merge_after_days: Age from which counts are merged into quarters of an hour.
        keep_days: Age from which counts are dropped.
        clock_ns: Wall clock.
    """

    def __init__(
        self,
        counts: VerdictCounts,
        outcomes: CaseOutcomes,
        plan: ShiftPlan,
        *,
        merge_after_days: int,
        keep_days: int,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._counts = counts
        self._outcomes = outcomes
        self._plan = plan
        self._merge_after_s = merge_after_days * _SECONDS_OF_DAY
        self._keep_s = keep_days * _SECONDS_OF_DAY
        self._clock_ns = clock_ns

    def table(
        self, where: StatisticsFilter, since_ns: int, until_ns: int, group_by: GroupBy, span_s: int = 0
    ) -> StatisticsTable:
        """Give the figures.

        Args:
            where: Which inspections.
            since_ns: Captured at or after this time.
            until_ns: Captured before this time.
            group_by: What a row is about.
            span_s: Length of a point, for ``GroupBy.SPAN``.

        Raises:
            InvalidInputError: For a time or a length that breaks a rule.
            UnavailableError: While the index is away.
        """
        now_s = self._clock_ns() // _NS_PER_S
        merged_before_s = now_s - self._merge_after_s
        span = whole_spans(since_ns, until_ns, merged_before_s)
        slots = slots_of(group_by, span, span_s, merged_before_s)
        return tabulate(
            group_by,
            span,
            slots,
            self._plan,
            verdicts=self._counts.read(where, span, group_by, slots),
            outcomes=self._outcomes.outcomes(where, span, group_by, slots),
            audits=self._outcomes.audits(where, span, slots),
            kept_since_s=max(0, now_s - self._keep_s),
        )

    def shifts(self, at_ns: int = 0) -> ShiftsNow:
        """Give the plan, and the day and shift of a moment; 0 is the present."""
        moment_s = (at_ns or self._clock_ns()) // _NS_PER_S
        day_begins_s = self._plan.day_begins_s(self._plan.day_of(moment_s))
        return ShiftsNow(self._plan, day_begins_s, self._plan.at(moment_s))
