"""Rows of a database as plain values and back, the same for SQLite and PostgreSQL.

Whole tables in one transaction that sees them as of one moment; so a backup of one kind of database can be restored
into the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Table, delete, func, insert, select

from services.adapters.caseindex_database import Database
from services.core.errors import ConflictError, InvalidInputError

_ROWS: Final = 500

Row = tuple[str, dict[str, Any]]
"""A table's name, and the values of a row by column."""


class TableCopy:
    """Some tables of one database.

    Args:
        database: Where they lie.
        tables: Those that are kept, in the order in which rows may be added.
        cleared: Further tables that are emptied when rows replace others.
    """

    def __init__(self, database: Database, tables: Sequence[Table], cleared: Sequence[Table] = ()) -> None:
        self._database = database
        self._tables = {table.name: table for table in tables}
        self._cleared = tuple(cleared)

    def rows(self) -> Iterator[Row]:
        """Every row, as of one moment."""
        with self._database.read() as connection:
            for name, table in self._tables.items():
                found = connection.execution_options(yield_per=_ROWS).execute(
                    select(table).order_by(*table.primary_key.columns)
                )
                for row in found:
                    yield name, dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name

    def count(self) -> int:
        """How many rows there are."""
        with self._database.read() as connection:
            return sum(
                int(connection.scalar(select(func.count()).select_from(table)) or 0) for table in self._tables.values()
            )

    def load(self, rows: Iterable[Row], *, over: bool = False) -> int:
        """Add rows, all or none of them.

        Args:
            rows: By table, as :meth:`rows` gives them.
            over: Remove what is there first; else the tables must be empty.

        Returns:
            How many.

        Raises:
            ConflictError: If there are rows already.
            InvalidInputError: If a row has other columns than this release's table.
        """
        added = 0
        with self._database.write(unhurried=True) as connection:
            for table in (*self._cleared, *reversed(self._tables.values())):
                if over:
                    connection.execute(delete(table))
                elif table.name in self._tables and connection.execute(select(table).limit(1)).first() is not None:
                    raise ConflictError(f"table {table.name} of {self._database} must be empty, got one with rows")
            waiting: dict[str, list[dict[str, Any]]] = {name: [] for name in self._tables}
            for name, values in rows:
                self._check(name, values)
                waiting[name].append(values)
                if len(waiting[name]) == _ROWS:
                    connection.execute(insert(self._tables[name]), waiting[name])
                    waiting[name] = []
                added += 1
            for name, left in waiting.items():
                if left:
                    connection.execute(insert(self._tables[name]), left)
            if connection.dialect.name == "postgresql":
                # Numbers that were given leave a sequence where it was: it would give them out again.
                for table in self._tables.values():
                    _count_on(connection, table)
        return added

    def _check(self, name: str, values: dict[str, Any]) -> None:
        if name not in self._tables:
            raise InvalidInputError(f"a row must be of {', '.join(self._tables)}, got one of {name!r}")
        columns = set(self._tables[name].columns.keys())
        if set(values) != columns:
            raise InvalidInputError(
                f"rows of {name} must have the columns {', '.join(sorted(columns))}, got {', '.join(sorted(values))}: "
                "restore with the release that made the backup, then upgrade"
            )


def _count_on(connection: Connection, table: Table) -> None:
    column = table.autoincrement_column
    if column is None:
        return
    sequence = func.pg_get_serial_sequence(table.name, column.name)
    connection.execute(select(func.setval(sequence, select(func.max(column)).scalar_subquery())))
