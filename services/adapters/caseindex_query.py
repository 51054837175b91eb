"""The questions that are put to the case index's tables: pages of cases and of reviews, and counts."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Table,
    and_,
    exists,
    func,
    literal,
    or_,
    select,
    true,
    tuple_,
    union,
)

from services.adapters.caseindex_schema import BUCKETS, CASES, CLAIMS, CLASS, NAMES, REVIEWER, REVIEWS
from services.adapters.ports import CaseFilter, QueueOrder, ReviewFilter
from services.core.review import queue_rank

#: The last time that the tables hold.
_MAX_NS: Final = (1 << 63) - 1
#: Up to so many buckets are read one by one, in order, and merged.
_MERGED_BUCKETS: Final = 24
#: Up to so many cases of more buckets than that are read and sorted.
_SORTED_CASES: Final = 4_000


# ---- pages


class CaseQueue:
    """One page's question: which cases, in which order, after which place."""

    def __init__(
        self,
        where: CaseFilter,
        order: QueueOrder,
        not_held_from: str,
        now_ns: int,
        *,
        after: tuple[float, str] | None,
        most: int,
    ) -> None:
        self._where = where
        self._not_held_from = not_held_from
        self._now_ns = now_ns
        self._after = after
        self._most = most
        self._rising = order is QueueOrder.OLDEST
        self.column = "rank" if order is QueueOrder.BY_GAIN else "captured_at_ns"

    def ordering(self, table: Any) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
        """The order of rows that have the place's column and a ``case_id``."""
        place, case_id = table.c[self.column], table.c.case_id
        return (place.asc(), case_id.asc()) if self._rising else (place.desc(), case_id.desc())

    def keys(self, connection: Connection) -> Any:
        """A subquery of places and ids, at most as many as were asked for; None where there are none."""
        where = self._where
        if where.reviewer:
            parts = [self._by_name(REVIEWER, where.reviewer)]
        else:
            parts = self._by_bucket(connection)
            if where.defect_class:
                parts.append(self._by_name(CLASS, where.defect_class))
        if not parts:
            return None
        if len(parts) == 1:
            return parts[0].subquery()
        merged = union(*(select(part.subquery()) for part in parts)).subquery()
        return select(merged).order_by(*self.ordering(merged)).limit(self._most).subquery()

    def _by_bucket(self, connection: Connection) -> list[Select[Any]]:
        """Choose how to read: by what the buckets hold, never by what the database's planner guesses."""
        ids = select(BUCKETS.c.bucket_id).where(BUCKETS.c.cases > 0, *_of_bucket(self._where))
        fitting = ids.add_columns(BUCKETS.c.cases, BUCKETS.c.first_ns, BUCKETS.c.last_ns).subquery()
        of_all = (func.count(), func.sum(fitting.c.cases), func.min(fitting.c.first_ns), func.max(fitting.c.last_ns))
        buckets, cases, first_ns, last_ns = connection.execute(select(*of_all).select_from(fitting)).one()
        if not buckets:
            return []
        # A version, or a line that is new, has its cases in a span of time: the others are not even looked at.
        span = (first_ns, min(last_ns + 1, _MAX_NS))
        if buckets <= _MERGED_BUCKETS:
            return [self._part(CASES, CASES.c.bucket_id == one, span=span) for one in connection.scalars(ids)]
        if cases <= _SORTED_CASES:
            return [self._part(CASES, CASES.c.bucket_id.in_(ids), span=span, sort=True)]
        # The cases are many, so that all of them, read in order, soon give a page. "+ 0" keeps the planner from going
        # bucket by bucket and sorting them.
        return [self._part(CASES, (CASES.c.bucket_id + 0).in_(ids), span=span)]

    def _by_name(self, what: int, name: str) -> Select[Any]:
        return self._part(NAMES, _named(self._where, what, name))

    def _part(
        self,
        table: Table,
        condition: ColumnElement[bool],
        *,
        span: tuple[int, int] = (0, 0),
        sort: bool = False,
    ) -> Select[Any]:
        """One part of the answer.

        Args:
            table: That has the place, the time and the ``case_id``.
            condition: Which rows, but for time, place and claims.
            span: Time of the first row that fits, and a time after the last; 0 where it is not known.
            sort: Find them by the condition and sort them, instead of reading all in order until there are enough.
        """
        place, case_id = table.c[self.column], table.c.case_id
        # "+ 0" keeps the planner from reading all cases in order: these are few.
        sorted_by = place + 0 if sort else place
        conditions = [condition, *_captured(table, self._where), *self._bounds(place, span)]
        if self._after is not None:
            here, there = tuple_(sorted_by, case_id), tuple_(literal(self._after[0]), literal(self._after[1]))
            conditions.append(here > there if self._rising else here < there)
        if self._not_held_from:
            held = (CLAIMS.c.case_id == case_id, CLAIMS.c.reviewer != self._not_held_from)
            conditions.append(~exists().where(*held, CLAIMS.c.until_ns > self._now_ns))
        ordering = (sorted_by.asc(), case_id.asc()) if self._rising else (sorted_by.desc(), case_id.desc())
        return select(place, case_id).where(*conditions).order_by(*ordering).limit(self._most)

    def _bounds(self, place: ColumnElement[Any], known: tuple[int, int]) -> list[ColumnElement[bool]]:
        """Bounds of the place, one at each end, so that an index goes to where the page begins."""
        since_ns = max(self._where.since_ns, known[0])
        until_ns = min((end for end in (self._where.until_ns, known[1]) if end), default=0)
        low: float | None = since_ns or None
        high: float | None = until_ns or None
        if self.column == "rank":
            # A gain lies in 0..1, so a span of time is a span of ranks.
            low = queue_rank(0.0, until_ns) if until_ns else None
            high = queue_rank(1.0, since_ns) if since_ns else None
        if self._after is not None:
            here = self._after[0]
            if self._rising:
                low = here if low is None else max(low, here)
            else:
                high = here if high is None else min(high, here)
        return [
            *([place >= low] if low is not None else []),
            *([place <= high] if high is not None else []),
        ]


def _captured(table: Any, where: CaseFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if where.since_ns:
        conditions.append(table.c.captured_at_ns >= where.since_ns)
    if where.until_ns:
        conditions.append(table.c.captured_at_ns < where.until_ns)
    return conditions


def _of_bucket(where: CaseFilter, *, read_state: bool = True, read_class: bool = True) -> list[ColumnElement[bool]]:
    """The conditions on buckets: all of the filter but times and reviewer."""
    wanted: dict[str, object] = {
        "line_id": where.line_id,
        "camera_id": where.camera_id,
        "product": where.product,
        "verdict": where.verdict and where.verdict.value,
        "kind": where.kind and where.kind.value,
        "alias": where.alias,
        "model_version": where.model_version,
        "defect_class": where.defect_class if read_class else "",
        "state": where.state.value if read_state and where.state else "",
    }
    return [BUCKETS.c[name] == value for name, value in wanted.items() if value]


def _named(where: CaseFilter, what: int, name: str, *, read_state: bool = True) -> ColumnElement[bool]:
    """The conditions on a row of ``NAMES``, but for its times."""
    fits = _in_bucket(where, read_state=read_state, read_class=False)
    if where.defect_class and what == REVIEWER:
        other = NAMES.alias("named_class")
        by_person = exists().where(
            other.c.what == CLASS, other.c.name == where.defect_class, other.c.case_id == NAMES.c.case_id
        )
        fits = or_(_in_bucket(where, read_state=read_state), and_(fits, by_person))
    return and_(NAMES.c.what == what, NAMES.c.name == name, fits)


def _in_bucket(where: CaseFilter, **of_bucket: bool) -> ColumnElement[bool]:
    return NAMES.c.bucket_id.in_(select(BUCKETS.c.bucket_id).where(*_of_bucket(where, **of_bucket)))


# ---- counts


def count_statements(where: CaseFilter) -> list[Select[Any]]:
    """Give statements that each answer with state, outcome and number of cases; the sum of all is the count."""
    if where.reviewer:
        return [_count_by_name(where, REVIEWER, where.reviewer)]
    found = [_count_buckets(where)]
    if where.since_ns or where.until_ns:
        found.append(_count_in_time(where))
    if where.defect_class:
        # Those that only people call so: the two never overlap.
        found.append(_count_by_name(where, CLASS, where.defect_class))
    return found


def _count_buckets(where: CaseFilter) -> Select[Any]:
    """Count the cases of whole buckets: those within the filter's time, all where it has none."""
    grouped = (BUCKETS.c.state, BUCKETS.c.outcome)
    whole = (*_of_bucket(where, read_state=False), _whole(where))
    return select(*grouped, func.sum(BUCKETS.c.cases)).where(*whole).group_by(*grouped)


def _whole(where: CaseFilter) -> ColumnElement[bool]:
    begins = [BUCKETS.c.first_ns >= where.since_ns] if where.since_ns else []
    ends = [BUCKETS.c.last_ns < where.until_ns] if where.until_ns else []
    return and_(true(), *begins, *ends)


def _count_in_time(where: CaseFilter) -> Select[Any]:
    """Count the cases of buckets that lie in the filter's time in part, one by one."""
    partly = [~_whole(where), BUCKETS.c.last_ns >= where.since_ns]
    if where.until_ns:
        partly.append(BUCKETS.c.first_ns < where.until_ns)
    wanted = select(BUCKETS.c.bucket_id).where(*_of_bucket(where, read_state=False), *partly)
    counted = (
        select(CASES.c.bucket_id, func.count().label("cases"))
        .where(CASES.c.bucket_id.in_(wanted), *_captured(CASES, where))
        .group_by(CASES.c.bucket_id)
        .subquery()
    )
    grouped = (BUCKETS.c.state, BUCKETS.c.outcome)
    joined = select(*grouped, func.sum(counted.c.cases)).join(counted, counted.c.bucket_id == BUCKETS.c.bucket_id)
    return joined.group_by(*grouped)


def _count_by_name(where: CaseFilter, what: int, name: str) -> Select[Any]:
    grouped = (BUCKETS.c.state, BUCKETS.c.outcome)
    return (
        select(*grouped, func.count())
        .select_from(NAMES)
        .join(BUCKETS, BUCKETS.c.bucket_id == NAMES.c.bucket_id)
        .where(_named(where, what, name, read_state=False), *_captured(NAMES, where))
        .group_by(*grouped)
    )


# ---- reviews


def review_statement(where: ReviewFilter, *, after: tuple[int, str] | None, most: int) -> Select[Any]:
    """One page of reviews, the newest first."""
    place = (REVIEWS.c.reviewed_at_ns, REVIEWS.c.review_id)
    conditions: list[ColumnElement[bool]] = []
    if where.reviewer:
        conditions.append(REVIEWS.c.reviewer == where.reviewer)
    if where.line_id:
        conditions.append(REVIEWS.c.line_id == where.line_id)
    if where.since_ns:
        conditions.append(REVIEWS.c.reviewed_at_ns >= where.since_ns)
    if where.until_ns:
        conditions.append(REVIEWS.c.reviewed_at_ns < where.until_ns)
    if where.standing_only:
        conditions.append(REVIEWS.c.standing == true())
    if after is not None:
        conditions.append(tuple_(*place) < tuple_(literal(after[0]), literal(after[1])))
    newest_first = (column.desc() for column in place)
    return select(*place, REVIEWS.c.review).where(*conditions).order_by(*newest_first).limit(most)
