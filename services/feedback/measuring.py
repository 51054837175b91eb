"""Figures of the queue and of the audit sample, looked up now and then for whoever watches over the line."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Final

from services.adapters.ports import CaseBacklog, CaseOutcomes
from services.core.errors import SightlineError
from services.core.escape_rate import AuditStratum, estimate_escape_rate
from services.core.statistics import Span, StatisticsFilter
from services.runtime import metrics
from services.runtime.background import BackgroundThread
from services.runtime.logging import get_logger

LOG = get_logger(__name__)

_NS_PER_S: Final = 1_000_000_000
_SECONDS_OF_DAY: Final = 86_400


class CaseMeasures:
    """One thread that keeps the gauges of open and audited cases current.

    Args:
        backlog: Tells what waits.
        outcomes: Tells what people found.
        interval_s: Time between two looks at what waits.
        audit_interval_s: Time between two looks at the audit sample.
        audit_days: Length of the stretch of time whose sample counts.
        clock_ns: Wall clock.
    """

    def __init__(
        self,
        backlog: CaseBacklog,
        outcomes: CaseOutcomes,
        *,
        interval_s: float,
        audit_interval_s: float,
        audit_days: float,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._backlog = backlog
        self._outcomes = outcomes
        self._interval_s = interval_s
        self._audit_interval_s = audit_interval_s
        self._audit_s = audit_days * _SECONDS_OF_DAY
        self._clock_ns = clock_ns
        self._lines: set[str] = set()
        self._audited_lines: set[str] = set()
        self._stop = threading.Event()
        self._thread = BackgroundThread("case measures", self._run)

    def start(self) -> None:
        """Begin, with a first look at once."""
        self._thread.start()

    def check(self) -> None:
        """Raise what ended the thread, if anything did."""
        self._thread.check()

    def close(self, timeout_s: float = 5.0) -> None:
        """Stop; idempotent."""
        self._stop.set()
        self._thread.join(timeout_s)

    def look_at_backlog(self) -> None:
        """Set the gauges of what waits.

        Raises:
            UnavailableError: While the index is away; the gauges stay as they were.
        """
        waiting = {one.line_id: one for one in self._backlog.open_cases()}
        for line_id, one in waiting.items():
            metrics.FEEDBACK_OPEN_CASES.labels(line_id).set(one.cases)
            metrics.FEEDBACK_OLDEST_OPEN.labels(line_id).set(one.oldest_captured_at_ns / _NS_PER_S)
        for line_id in self._lines - set(waiting):
            # None waits: that is a count, but no age.
            metrics.FEEDBACK_OPEN_CASES.labels(line_id).set(0)
            metrics.FEEDBACK_OLDEST_OPEN.remove(line_id)
        self._lines = set(waiting)

    def look_at_audits(self) -> None:
        """Set the gauges of what people found in the audit sample.

        Raises:
            UnavailableError: While the index is away; the gauges stay as they were.
        """
        until_s = self._clock_ns() // _NS_PER_S + 1
        strata: dict[str, list[AuditStratum]] = defaultdict(list)
        for counted in self._outcomes.audits(StatisticsFilter(), Span(until_s - round(self._audit_s), until_s), None):
            strata[counted.of.line_id].append(counted.stratum)
        for line_id, some in strata.items():
            estimate = estimate_escape_rate(some)
            metrics.FEEDBACK_AUDITED.labels(line_id).set(estimate.reviewed)
            metrics.FEEDBACK_AUDIT_ESCAPES.labels(line_id).set(estimate.escapes)
            # Without a settled part it is NaN, which is what is known.
            metrics.FEEDBACK_ESCAPE.labels(line_id).set(estimate.rate)
            metrics.FEEDBACK_ESCAPE_LOW.labels(line_id).set(estimate.low)
        for line_id in self._audited_lines - set(strata):
            for gauge in (
                metrics.FEEDBACK_AUDITED,
                metrics.FEEDBACK_AUDIT_ESCAPES,
                metrics.FEEDBACK_ESCAPE,
                metrics.FEEDBACK_ESCAPE_LOW,
            ):
                gauge.remove(line_id)
        self._audited_lines = set(strata)

    def _run(self) -> None:
        audits_at_s = 0.0
        while not self._stop.is_set():
            try:
                self.look_at_backlog()
                if time.monotonic() >= audits_at_s:
                    self.look_at_audits()
                    audits_at_s = time.monotonic() + self._audit_interval_s
            except SightlineError as error:
                if not error.retriable:
                    raise
                LOG.warning("figures of the cases come later: %s", error, extra={"reason": error.reason})
            self._stop.wait(self._interval_s)
