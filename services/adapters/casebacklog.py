"""How many cases wait for a person, and since when, from the case index's tables, behind the ``CaseBacklog`` port.

Each bucket knows how many cases it holds, and the oldest of a bucket is the first entry of an index: what is asked
costs what the few buckets cost, however many cases wait.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, select

from services.adapters.caseindex_database import Database
from services.adapters.caseindex_schema import BUCKETS, CASES
from services.adapters.ports import OpenCases
from services.core.review import CaseState


class SqlCaseBacklog:
    """A ``CaseBacklog`` in the case index's database. Thread-safe.

    Args:
        database: Where it lies; closed by whoever opened it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def open_cases(self) -> Sequence[OpenCases]:
        """Count what waits; see ``CaseBacklog.open_cases``."""
        oldest = (
            select(func.min(CASES.c.captured_at_ns)).where(CASES.c.bucket_id == BUCKETS.c.bucket_id).scalar_subquery()
        )
        buckets = (
            select(BUCKETS.c.line_id, BUCKETS.c.cases, oldest.label("oldest_ns"))
            .where(BUCKETS.c.state == CaseState.OPEN.value, BUCKETS.c.cases > 0)
            .subquery()
        )
        statement = (
            select(
                buckets.c.line_id,
                func.sum(buckets.c.cases).label("cases"),
                func.min(buckets.c.oldest_ns).label("oldest_ns"),
            )
            .group_by(buckets.c.line_id)
            .order_by(buckets.c.line_id)
        )
        with self._database.read() as connection:
            return [OpenCases(row.line_id, int(row.cases), int(row.oldest_ns)) for row in connection.execute(statement)]
