"""What people found, counted for statistics from the case index's tables, behind the ``CaseOutcomes`` port.

Cases are counted by bucket first, within the index of their times, and buckets get their names afterwards: so a day of
a million cases costs what a day holds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Column, ColumnElement, Row, Select, func, select

from services.adapters.caseindex import Outcome
from services.adapters.caseindex_database import Database
from services.adapters.caseindex_schema import BUCKETS, CASES
from services.adapters.verdictcounts import DIMENSIONS, of_filter, slot_number
from services.core.escape_rate import AuditStratum
from services.core.review import CaseState
from services.core.statistics import (
    CountedAudits,
    CountedOutcomes,
    GroupBy,
    Inspected,
    OutcomeTally,
    Slots,
    Span,
    StatisticsFilter,
)
from services.core.types import CaseKind, Verdict

_NS_PER_S: Final = 1_000_000_000
_INSPECTED: Final = ("line_id", "camera_id", "product", "alias", "model_version")


class SqlCaseOutcomes:
    """A ``CaseOutcomes`` in the case index's database. Thread-safe.

    Args:
        database: Where it lies; closed by whoever opened it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def outcomes(
        self, where: StatisticsFilter, span: Span, group_by: GroupBy, slots: Slots | None
    ) -> Sequence[CountedOutcomes]:
        """Count cases that people are done with; see ``CaseOutcomes.outcomes``."""
        done = (BUCKETS.c.state == CaseState.REVIEWED.value, *of_filter(BUCKETS, where))
        named = [BUCKETS.c[name] for name in DIMENSIONS.get(group_by, ())]
        rows = self._count((BUCKETS.c.verdict, BUCKETS.c.outcome, *named), done, span, slots, by_probability=False)
        return [
            CountedOutcomes(
                Inspected(**{column.name: getattr(row, column.name) for column in named}), int(row.slot), _tally(row)
            )
            for row in rows
        ]

    def audits(self, where: StatisticsFilter, span: Span, slots: Slots | None) -> Sequence[CountedAudits]:
        """Count what was drawn; see ``CaseOutcomes.audits``."""
        drawn = (BUCKETS.c.kind == CaseKind.AUDIT.value, *of_filter(BUCKETS, where))
        named = [BUCKETS.c[name] for name in _INSPECTED]
        rows = self._count((BUCKETS.c.state, BUCKETS.c.outcome, *named), drawn, span, slots, by_probability=True)
        found: dict[tuple[Inspected, int, float], list[Row[Any]]] = defaultdict(list)
        for row in rows:
            of = Inspected(**{name: getattr(row, name) for name in _INSPECTED})
            found[of, int(row.slot), float(row.sampling_probability)].append(row)
        return [CountedAudits(of, slot, _stratum(probability, some)) for (of, slot, probability), some in found.items()]

    def _count(
        self,
        grouped: Sequence[Column[Any]],
        conditions: Sequence[ColumnElement[bool]],
        span: Span,
        slots: Slots | None,
        *,
        by_probability: bool,
    ) -> Sequence[Row[Any]]:
        since_ns, until_ns = span.since_s * _NS_PER_S, span.until_s * _NS_PER_S
        wanted = select(BUCKETS.c.bucket_id).where(
            BUCKETS.c.cases > 0, BUCKETS.c.last_ns >= since_ns, BUCKETS.c.first_ns < until_ns, *conditions
        )
        slot: list[ColumnElement[Any]] = []
        if slots:
            origin_ns, length_ns = slots.origin_s * _NS_PER_S, slots.length_s * _NS_PER_S
            slot = [slot_number(CASES.c.captured_at_ns, origin_ns, length_ns).label("slot")]
        probability = [CASES.c.sampling_probability] if by_probability else []
        in_time = (CASES.c.captured_at_ns >= since_ns, CASES.c.captured_at_ns < until_ns)
        counted = (
            select(CASES.c.bucket_id, *slot, *probability, func.count().label("cases"))
            .where(CASES.c.bucket_id.in_(wanted), *in_time)
            .group_by(CASES.c.bucket_id, *slot, *probability)
            .subquery()
        )
        columns = [*grouped, *(column for column in counted.c if column.name in {"slot", "sampling_probability"})]
        statement: Select[Any] = (
            select(*columns, *([] if slots else [_no_slot()]), func.sum(counted.c.cases).label("cases"))
            .join_from(counted, BUCKETS, BUCKETS.c.bucket_id == counted.c.bucket_id)
            .group_by(*columns)
        )
        with self._database.read() as connection:
            return connection.execute(statement).all()


def _no_slot() -> ColumnElement[int]:
    return func.min(0).label("slot")


def _tally(row: Row[Any]) -> OutcomeTally:
    cases = int(row.cases)
    failed = row.verdict == Verdict.FAIL.value

    def if_found(outcome: Outcome) -> int:
        return cases if row.outcome == outcome.value else 0

    return OutcomeTally(
        reviewed=cases,
        # A fail that nobody was sure of says nothing of false rejects.
        fails_reviewed=cases if failed and row.outcome != Outcome.NONE.value else 0,
        false_rejects=if_found(Outcome.FALSE_REJECT),
        escapes=if_found(Outcome.ESCAPE),
        wrong_reasons=if_found(Outcome.WRONG_REASON),
    )


def _stratum(probability: float, rows: Sequence[Row[Any]]) -> AuditStratum:
    drawn = reviewed = escapes = undecided = 0
    for row in rows:
        cases = int(row.cases)
        drawn += cases
        if row.outcome != Outcome.NONE.value:
            reviewed += cases
        elif row.state != CaseState.OPEN.value:
            undecided += cases
        if row.outcome == Outcome.ESCAPE.value:
            escapes += cases
    return AuditStratum(probability, drawn, reviewed, escapes, undecided)
