"""Opening the case index: its file, its schema, and what its errors say."""

from __future__ import annotations

import logging
import multiprocessing
import sqlite3
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from services.adapters.caseindex import SqlCaseIndex
from services.adapters.caseindex_database import (
    Database,
    IndexDamagedError,
    migrations,
    parse_url,
    remove_file,
    shown_url,
)
from services.adapters.caseindex_schema import METADATA
from services.adapters.ports import CaseFilter
from services.adapters.statistics_schema import COUNTS
from services.core.errors import InvalidInputError, UnavailableError
from tests.support.cases import queued_case, review


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


def test_the_migrations_lead_to_the_tables_that_the_code_knows() -> None:
    database = Database("sqlite://")
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
    assert COUNTS.metadata is METADATA
    database.close()


def test_there_is_one_newest_schema_and_the_way_back_is_whole() -> None:
    assert len(ScriptDirectory.from_config(migrations()).get_heads()) == 1
    database = Database("sqlite://")
    config = migrations()
    with database.write() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        assert inspect(connection).get_table_names() == ["alembic_version"]
    database.close()


def test_an_index_is_there_after_it_was_closed(tmp_path: Path) -> None:
    url = url_of(tmp_path / "new" / "folder" / "index.db")
    first = SqlCaseIndex(url)
    first.add_cases([queued_case()])
    first.close()
    first.close()
    second = SqlCaseIndex(url)
    assert second.find_case(queued_case().case_id) == queued_case()
    second.close()


def test_a_file_that_was_deleted_is_made_anew(tmp_path: Path) -> None:
    url = url_of(tmp_path / "index.db")
    SqlCaseIndex(url).close()
    (tmp_path / "index.db").unlink()
    again = SqlCaseIndex(url)
    assert again.stats(CaseFilter()).open == 0
    again.close()


@pytest.mark.parametrize("content", [b"this is no database at all" * 100, b"SQLite format 3\x00" + b"\xff" * 5_000])
def test_a_file_that_is_no_database_is_refused_with_what_to_do(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "index.db"
    path.write_bytes(content)
    with pytest.raises(IndexDamagedError, match="run `sightline index rebuild`") as caught:
        SqlCaseIndex(url_of(path))
    assert str(path) in str(caught.value)
    assert isinstance(caught.value, UnavailableError)
    assert not caught.value.retriable
    assert path.read_bytes() == content, "nothing may be lost before somebody says so"
    remove_file(url_of(path))
    SqlCaseIndex(url_of(path)).close()


def test_an_index_that_is_damaged_while_it_is_open_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "index.db"
    index = SqlCaseIndex(url_of(path))
    with sqlite3.connect(path) as other:
        other.execute("DROP TABLE cases")
    other.close()
    with pytest.raises(IndexDamagedError, match="run `sightline index rebuild`"):
        index.find_case(queued_case().case_id)
    index.close()


def test_a_file_is_removed_with_all_that_belongs_to_it(tmp_path: Path) -> None:
    path = tmp_path / "index.db"
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).write_bytes(b"x")
    (tmp_path / "index.db.keep").write_bytes(b"x")
    remove_file(url_of(path))
    remove_file(url_of(path))
    remove_file("sqlite://")
    assert [left.name for left in tmp_path.iterdir()] == ["index.db.keep"]


def test_a_database_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    url = url_of(tmp_path / "index.db")
    database = Database(url)
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    with pytest.raises(InvalidInputError, match="got '9999': a newer release has written it"):
        SqlCaseIndex(url)


def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UnavailableError, match="must have a folder"):
        SqlCaseIndex(url_of(tmp_path / "file" / "index.db"))


def _open_and_add(url: str, number: int) -> None:
    index = SqlCaseIndex(url)
    index.add_cases([queued_case(number)])
    index.add_review(review(queued_case(0), number), published=True)
    index.close()


def test_processes_that_open_a_new_index_at_once_do_not_collide(tmp_path: Path) -> None:
    url = url_of(tmp_path / "index.db")
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_open_and_add, args=(url, number)) for number in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * 4
    index = SqlCaseIndex(url)
    counted = index.stats(CaseFilter())
    assert (counted.open, counted.reviewed, len(index.reviews_of(queued_case(0).case_id))) == (3, 1, 4)
    index.close()


def test_a_write_that_fails_within_takes_everything_back() -> None:
    database = Database("sqlite://")

    def fail() -> None:
        with database.write() as connection:
            connection.execute(text("INSERT INTO claims VALUES ('case', 'ada', 1)"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with database.read() as connection:
        assert connection.scalar(text("SELECT COUNT(*) FROM claims")) == 0
    database.close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "must have a URL like sqlite:///FILE"),
        ("index.db", "must have a URL like sqlite:///FILE"),
        ("postgresql://ada:hunter2@host:port/base", "must have a URL like sqlite:///FILE"),
        ("mysql://ada:hunter2@host/base", "must lie in sqlite or postgresql, got mysql"),
        ("nosuch://ada:hunter2@host/base", "must lie in sqlite or postgresql, got nosuch|must have a URL like"),
    ],
)
def test_a_url_that_is_none_is_refused_without_its_password(url: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message) as caught:
        SqlCaseIndex(url)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ada:hunter2@db.local:5433/cases?sslpassword=hunter2", "postgresql://db.local:5433/cases"),
        ("postgres://ada:hunter2@db.local/cases", "postgresql://db.local/cases"),
        ("sqlite:////data/index.db", "/data/index.db"),
        ("sqlite://", "in memory"),
    ],
)
def test_a_database_is_named_without_who_asks(url: str, shown: str) -> None:
    assert shown_url(parse_url(url)) == shown


def test_what_the_database_says_is_told_without_words_of_people(caplog: pytest.LogCaptureFixture) -> None:
    database = Database("sqlite://")

    def fail() -> None:
        with database.write() as connection:
            for _ in range(2):
                connection.execute(text("INSERT INTO claims VALUES (:id, 'ada', 1)"), {"id": "hunter2"})

    caplog.set_level(logging.DEBUG)
    with pytest.raises(UnavailableError, match="the case index in memory must answer, got 'UNIQUE") as caught:
        fail()
    assert "hunter2" not in f"{caught.value} {caught.value.__cause__} {caplog.text}"
    database.close()


def test_cases_of_an_older_index_can_be_found_by_their_part(tmp_path: Path) -> None:
    url = url_of(tmp_path / "index.db")
    old = SqlCaseIndex(url)
    old.add_cases([queued_case(number) for number in range(2_500)])
    config = migrations()
    with old._database.write() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0004-1")
    old.close()
    new = SqlCaseIndex(url)
    assert [one.case_id for one in new.find_cases("PART-2499", limit=5, now_ns=0)] == [queued_case(2_499).case_id]
    new.close()
