"""Counted verdicts in the case index's database, behind the ``VerdictCounts`` port.

Delivery is at least once; counting is exactly once, because how far a partition is counted is written in the same
transaction as the counts, and a record before that place is passed over. Two owners of a partition that overlap for a
moment, or a process that dies between the transaction and the commit of its offsets, therefore count nothing twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple
from itertools import groupby
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Table,
    and_,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    select,
    update,
)

from services.adapters.caseindex_database import Database
from services.adapters.ports import CountedTo, TopicPartition, VerdictToCount
from services.adapters.statistics_schema import COUNTS, INSPECTED, POSITIONS
from services.core.shift import QUARTER_S
from services.core.statistics import (
    SPAN_S,
    CountedVerdicts,
    GroupBy,
    Inspected,
    Slots,
    Span,
    StatisticsFilter,
    VerdictTally,
)
from services.core.types import Verdict

_COUNTED: Final = ("passed", "failed", "review", "late")
_ONE: Final = {
    (verdict, in_time): VerdictTally(
        passed=verdict is Verdict.PASS,
        failed=verdict is Verdict.FAIL,
        review=verdict is Verdict.REVIEW,
        late=not in_time,
    )
    for verdict in Verdict
    for in_time in (True, False)
}
#: By which columns rows of a grouping are told apart.
DIMENSIONS: Final[Mapping[GroupBy, tuple[str, ...]]] = {
    GroupBy.LINE: ("line_id",),
    GroupBy.CAMERA: ("line_id", "camera_id"),
    GroupBy.PRODUCT: ("product",),
    GroupBy.MODEL_VERSION: ("alias", "model_version"),
}
# Rows of one transaction of tidying: others wait for its end.
_TIDIED: Final = 5_000


class SqlVerdictCounts:
    """A ``VerdictCounts`` in a database; see ``SqlCaseIndex.database``. Thread-safe.

    Args:
        database: Where it lies; closed by whoever opened it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def counted_to(self, topic: str) -> Mapping[TopicPartition, CountedTo]:
        """How far each partition of a topic is counted; see ``VerdictCounts.counted_to``."""
        with self._database.read() as connection:
            rows = connection.execute(select(POSITIONS).where(POSITIONS.c.topic == topic)).all()
        return {TopicPartition(row.topic, row.partition): CountedTo(row.next_offset, row.timestamp_ms) for row in rows}

    def add(self, verdicts: Sequence[VerdictToCount]) -> int:
        """Count records; see ``VerdictCounts.add``."""
        if not verdicts:
            return 0
        counted = 0
        tallies: dict[tuple[int, Inspected], VerdictTally] = {}
        ordered = sorted(verdicts, key=lambda one: one.partition)
        with self._database.write() as connection:
            for partition, some in groupby(ordered, key=lambda one: one.partition):
                for one in _to_count(connection, partition, list(some)):
                    if one.of is None:
                        continue
                    key = (one.captured_at_s // SPAN_S * SPAN_S, one.of)
                    tallies[key] = tallies.get(key, VerdictTally()) + _ONE[one.verdict, one.in_time]
                    counted += 1
            ids = {of: _inspected_id(connection, of) for of in {of for _, of in tallies}}
            _add(connection, {(begins_s, ids[of]): tally for (begins_s, of), tally in tallies.items()})
        return counted

    def read(
        self, where: StatisticsFilter, span: Span, group_by: GroupBy, slots: Slots | None
    ) -> Sequence[CountedVerdicts]:
        """Sums over spans; see ``VerdictCounts.read``."""
        named = [INSPECTED.c[name] for name in DIMENSIONS.get(group_by, ())]
        in_slots = [slot_number(COUNTS.c.begins_s, slots.origin_s, slots.length_s).label("slot")] if slots else []
        sums = [func.sum(COUNTS.c[name]).label(name) for name in _COUNTED]
        # Sums by number first, so that names are looked up once for each group and not for each span.
        by_number = (
            select(COUNTS.c.inspected_id, *in_slots, *sums)
            .where(COUNTS.c.begins_s >= span.since_s, COUNTS.c.begins_s < span.until_s, *_of(where))
            .group_by(COUNTS.c.inspected_id, *in_slots)
            .subquery()
        )
        grouped: list[ColumnElement[Any]] = [*named, *([by_number.c.slot] if slots else [])]
        statement = select(*grouped, *(func.sum(by_number.c[name]).label(name) for name in _COUNTED)).join_from(
            by_number, INSPECTED, INSPECTED.c.inspected_id == by_number.c.inspected_id
        )
        with self._database.read() as connection:
            rows = connection.execute(statement.group_by(*grouped)).mappings().all()
        return [
            CountedVerdicts(
                Inspected(**{column.name: row[column.name] for column in named}),
                int(row["slot"]) if slots else 0,
                VerdictTally(*(int(row[name]) for name in _COUNTED)),
            )
            for row in rows
            # Without groups there is one row of nothing.
            if row["passed"] is not None
        ]

    def tidy(self, *, merge_before_s: int, drop_before_s: int) -> None:
        """Merge and drop old spans; see ``VerdictCounts.tidy``."""
        off_quarter = and_(COUNTS.c.begins_s < merge_before_s, COUNTS.c.begins_s % QUARTER_S != 0)
        while True:
            with self._database.write() as connection:
                connection.execute(delete(COUNTS).where(COUNTS.c.begins_s < drop_before_s))
                rows = connection.execute(
                    select(COUNTS).where(off_quarter).order_by(COUNTS.c.begins_s).limit(_TIDIED)
                ).all()
                merged: dict[tuple[int, int], VerdictTally] = {}
                for row in rows:
                    key = (row.begins_s // QUARTER_S * QUARTER_S, row.inspected_id)
                    tally = VerdictTally(*(getattr(row, name) for name in _COUNTED))
                    merged[key] = merged.get(key, VerdictTally()) + tally
                _add(connection, merged)
                if rows:
                    gone = and_(COUNTS.c.begins_s == bindparam("at"), COUNTS.c.inspected_id == bindparam("of"))
                    connection.execute(
                        delete(COUNTS).where(gone), [{"at": row.begins_s, "of": row.inspected_id} for row in rows]
                    )
            if len(rows) < _TIDIED:
                return


def _of(where: StatisticsFilter) -> list[ColumnElement[bool]]:
    narrowed = of_filter(INSPECTED, where)
    return [COUNTS.c.inspected_id.in_(select(INSPECTED.c.inspected_id).where(*narrowed))] if narrowed else []


def of_filter(table: Table, where: StatisticsFilter) -> list[ColumnElement[bool]]:
    """The conditions of a filter on a table with columns that are named as its fields."""
    wanted = {
        "line_id": where.line_id,
        "camera_id": where.camera_id,
        "product": where.product,
        "alias": where.alias,
        "model_version": where.model_version,
    }
    return [table.c[name] == value for name, value in wanted.items() if value]


def slot_number(place: Column[Any], origin: int, length: int) -> ColumnElement[Any]:
    """The number of the slot that a place lies in. Written out: PostgreSQL groups by no parameter."""
    return (place - literal_column(str(origin), BigInteger)) // literal_column(str(length), BigInteger)


def _to_count(
    connection: Connection, partition: TopicPartition, verdicts: Sequence[VerdictToCount]
) -> Iterable[VerdictToCount]:
    """Those of one partition that are not counted yet; notes that they are."""
    here = and_(POSITIONS.c.topic == partition.topic, POSITIONS.c.partition == partition.partition)
    known = connection.execute(select(POSITIONS).where(here)).one_or_none()
    begin, latest_ms = 0, -1
    if known is not None:
        # What was counted was written by then, so a record of a lower offset and a later time was not: another topic.
        anew = (
            one.offset for one in verdicts if one.offset < known.next_offset and one.timestamp_ms > known.timestamp_ms
        )
        begin, latest_ms = next(anew, known.next_offset), known.timestamp_ms
    new = [one for one in verdicts if one.offset >= begin]
    if not new:
        return new
    latest_ms = max(latest_ms, *(one.timestamp_ms for one in new))
    reached = {"next_offset": new[-1].offset + 1, "timestamp_ms": latest_ms}
    if known is None:
        named = {"topic": partition.topic, "partition": partition.partition}
        connection.execute(insert(POSITIONS), named | reached)
    else:
        connection.execute(update(POSITIONS).where(here), reached)
    return new


def _inspected_id(connection: Connection, of: Inspected) -> int:
    values = dict(zip(("line_id", "camera_id", "product", "alias", "model_version"), astuple(of), strict=True))
    same = (INSPECTED.c[name] == value for name, value in values.items())
    found = connection.scalar(select(INSPECTED.c.inspected_id).where(*same))
    if found is None:
        found = connection.scalar(insert(INSPECTED).returning(INSPECTED.c.inspected_id), values)
    return int(found)


def _add(connection: Connection, tallies: Mapping[tuple[int, int], VerdictTally]) -> None:
    """Add to counts that are there, and make those that are not; writers take turns, so none comes in between."""
    more = {name: COUNTS.c[name] + bindparam(f"more_{name}") for name in _COUNTED}
    of_one = and_(COUNTS.c.begins_s == bindparam("at"), COUNTS.c.inspected_id == bindparam("of"))
    statement = update(COUNTS).where(of_one).values(more)
    for (begins_s, inspected_id), tally in tallies.items():
        counted = dict(zip(_COUNTED, astuple(tally), strict=True))
        there = connection.execute(
            statement, {"at": begins_s, "of": inspected_id, **{f"more_{name}": by for name, by in counted.items()}}
        )
        if not there.rowcount:
            connection.execute(insert(COUNTS), {"begins_s": begins_s, "inspected_id": inspected_id, **counted})
