"""An upgrade and the way back, step by step, on tables with rows in them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, Table, insert, inspect, select

from services.adapters.accounts_schema import ACCOUNTS
from services.adapters.caseindex import SqlCaseIndex
from services.adapters.caseindex_database import CASE_INDEX, Database, Tables, migrations
from services.adapters.ports import CaseFilter, ReviewFilter
from services.core.access import Role
from tests.support.accounts import PASSWORD, make_accounts
from tests.support.cases import queued_case, review

CASES = [queued_case(number) for number in range(3)]


def revisions(tables: Tables) -> list[str]:
    """Every revision, the oldest first."""
    script = ScriptDirectory.from_config(migrations(tables))
    return [each.revision for each in reversed(list(script.walk_revisions()))]


def move(database: Database, tables: Tables, to: str, *, back: bool = False) -> None:
    config = migrations(tables)
    with database.write(unhurried=True) as connection:
        config.attributes["connection"] = connection
        (command.downgrade if back else command.upgrade)(config, to)


def filled_index(path: Path) -> str:
    url = f"sqlite:///{path}"
    index = SqlCaseIndex(url)
    index.add_cases(CASES)
    index.add_review(review(CASES[0]), published=True)
    index.close()
    return url


def told(url: str) -> list[object]:
    """What an index says of what it was filled with."""
    index = SqlCaseIndex(url)
    found = [
        [index.find_case(case.case_id) for case in CASES],
        index.list_reviews(ReviewFilter(), limit=9).reviews,
        index.stats(CaseFilter()),
        index.find_cases("part-1", limit=9, now_ns=0),
    ]
    index.close()
    assert all(found)
    return found


def rows(connection: Connection, table: Table) -> list[tuple[Any, ...]]:
    return sorted(tuple(row) for row in connection.execute(select(table)))


def reflected(connection: Connection) -> MetaData:
    """The tables as they are, not as this release knows them."""
    found = MetaData()
    found.reflect(connection)
    return found


@pytest.mark.parametrize("revision", revisions(CASE_INDEX)[:-1])
def test_an_index_goes_back_to_each_earlier_schema_and_forward_again_with_its_cases_and_answers(
    revision: str, tmp_path: Path
) -> None:
    url = filled_index(tmp_path / "index.db")
    before = told(url)
    database = Database(url)
    move(database, CASE_INDEX, revision, back=True)
    with database.read() as connection:
        cases = reflected(connection).tables["cases"]
        assert len(rows(connection, cases)) == len(CASES)
    database.close()
    assert told(url) == before


@pytest.mark.parametrize(("before", "after"), list(itertools.pairwise(revisions(CASE_INDEX))))
def test_what_the_release_before_writes_fits_the_next_schema_of_the_index(
    before: str, after: str, tmp_path: Path
) -> None:
    database = Database(filled_index(tmp_path / "index.db"))
    move(database, CASE_INDEX, before, back=True)
    with database.read() as connection:
        old = reflected(connection)
        kept = {name: rows(connection, table) for name, table in old.tables.items()}
    move(database, CASE_INDEX, after)
    with database.write() as connection:
        for name, table in old.tables.items():
            if name == CASE_INDEX.version_table:
                continue
            # The older release names its own columns alone, to read and to write.
            assert rows(connection, table) == kept[name], f"{name} must be readable as it was"
            for row in kept[name]:
                values = dict(zip(table.columns.keys(), row, strict=True))
                connection.execute(
                    table.delete().where(*(column == values[column.name] for column in table.primary_key))
                )
                connection.execute(insert(table), values)
            assert rows(connection, table) == kept[name], f"{name} must take what is written as before"
    database.close()


def test_accounts_go_back_to_nothing_and_forward_to_tables_that_work(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'accounts.db'}"
    database = Database(url, ACCOUNTS)
    move(database, ACCOUNTS, "base", back=True)
    with database.read() as connection:
        assert inspect(connection).get_table_names() == [ACCOUNTS.version_table]
    database.close()
    accounts = make_accounts(url=url)
    accounts.add("Ada", Role.ADMIN, PASSWORD)
    assert accounts.sign_in("Ada", PASSWORD) is not None
    accounts.close()
