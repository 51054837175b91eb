"""What the dashboard asks of the feedback service for its statistics."""

from __future__ import annotations

from typing import Protocol

from services.adapters.statisticsclient import ShiftsView
from services.core.statistics import GroupBy, StatisticsFilter, StatisticsTable


class StatisticsService(Protocol):
    """What is needed of the feedback service; see ``services.adapters.statisticsclient``."""

    def table(
        self,
        where: StatisticsFilter,
        since_ns: int,
        until_ns: int,
        group_by: GroupBy,
        *,
        span_s: int = 0,
        timeout_s: float = 10.0,
    ) -> StatisticsTable:
        """The figures of a stretch of time."""
        ...

    def shifts(self, at_ns: int = 0, timeout_s: float = 10.0) -> ShiftsView:
        """The plan of shifts, and the day and shift of a moment; 0 is the present."""
        ...
