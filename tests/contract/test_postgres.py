"""What a database in PostgreSQL promises beyond what every database does: replicas, outages, and what is said of it."""

from __future__ import annotations

import logging
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import MetaData, inspect, text

from services.adapters import caseindex_database
from services.adapters.accounts_schema import ACCOUNTS
from services.adapters.accounts_schema import METADATA as ACCOUNTS_METADATA
from services.adapters.caseindex import SqlCaseIndex
from services.adapters.caseindex_database import CASE_INDEX, Database, Tables, migrations
from services.adapters.caseindex_schema import METADATA
from services.adapters.ports import CaseFilter, QueueOrder, TopicPartition, VerdictToCount
from services.adapters.statistics_schema import COUNTS
from services.adapters.verdictcounts import SqlVerdictCounts
from services.core.errors import InvalidInputError, UnavailableError
from services.core.statistics import GroupBy, Inspected, Span, StatisticsFilter
from services.core.types import Verdict
from tests.support.accounts import PASSWORD, add_everybody, make_accounts
from tests.support.cases import START_NS, image_ref, queued_case, review
from tests.support.postgres import USER, OwnPostgres, PostgresServer

pytestmark = pytest.mark.integration


@pytest.fixture
def index(postgres_url: str) -> Iterator[SqlCaseIndex]:
    made = SqlCaseIndex(postgres_url)
    yield made
    made.close()


@pytest.fixture
def own(postgres: PostgresServer) -> OwnPostgres:
    if not isinstance(postgres, OwnPostgres):
        pytest.skip("a server of somebody else's is not stopped")
    return postgres


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 30.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, f"{what} must come about within {timeout_s:g} s"
        time.sleep(0.01)


def with_options(url: str, options: str) -> str:
    """The URL with settings of its sessions."""
    return f"{url}?options={options.replace(' ', '%20').replace('=', '%3D')}"


# ---- tables


@pytest.mark.parametrize(("tables", "metadata"), [(CASE_INDEX, METADATA), (ACCOUNTS, ACCOUNTS_METADATA)])
def test_the_migrations_lead_to_the_tables_that_the_code_knows_and_back(
    postgres_url: str, tables: Tables, metadata: MetaData
) -> None:
    assert COUNTS.metadata is METADATA
    database = Database(postgres_url, tables)
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": tables.version_table})
        assert compare_metadata(context, metadata) == []
    config = migrations(tables)
    with database.write() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        assert inspect(connection).get_table_names() == [tables.version_table]
    database.close()


def test_accounts_and_case_index_may_share_a_database(postgres_url: str) -> None:
    for _ in range(2):
        index, accounts = SqlCaseIndex(postgres_url), make_accounts(url=postgres_url)
        index.close()
        accounts.close()


@pytest.mark.parametrize("schema", ["0001", "0002", "0003", "0004"])
def test_an_older_index_is_brought_up_to_date_with_its_cases(postgres_url: str, schema: str) -> None:
    old = SqlCaseIndex(postgres_url)
    old.add_cases([queued_case(number) for number in range(1_200)])
    old.add_review(review(queued_case(7)), published=True)
    config = migrations()
    with old.database.write() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, schema)
    old.close()
    new = SqlCaseIndex(postgres_url)
    counted = new.stats(CaseFilter())
    assert (counted.open, counted.reviewed) == (1_199, 1)
    assert [one.case_id for one in new.find_cases("PART-1199", limit=5, now_ns=0)] == [queued_case(1_199).case_id]
    new.close()


def test_a_database_of_a_newer_release_is_refused(index: SqlCaseIndex, postgres_url: str) -> None:
    with index.database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(InvalidInputError, match="got '9999': a newer release has written it"):
        SqlCaseIndex(postgres_url)


def test_a_database_that_does_not_keep_every_letter_is_refused(postgres: PostgresServer) -> None:
    with (
        postgres.database(encoding="SQL_ASCII") as url,
        pytest.raises(InvalidInputError, match="must be encoded in UTF8, got SQL_ASCII"),
    ):
        SqlCaseIndex(url)


# ---- replicas


def _open_and_add(url: str, first: int) -> None:
    index = SqlCaseIndex(url)
    for number in range(first, first + 40):
        index.add_cases([queued_case(number)])
        index.add_review(review(queued_case(number // 2), number), published=False)
    counts = SqlVerdictCounts(index.database)
    of = Inspected("line-1", "cam-1", "disc", "default", 3)
    for offset in range(30):
        # Each says everything that the other says.
        said = VerdictToCount(TopicPartition("verdicts", 0), offset, offset, of, 1_000_000, Verdict.PASS, True)
        counts.add([said])
    index.close()


def test_processes_that_open_and_fill_a_new_index_at_once_count_each_thing_once(postgres_url: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_open_and_add, args=(postgres_url, first)) for first in (0, 20)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    index = SqlCaseIndex(postgres_url)
    counted = index.stats(CaseFilter())
    assert (counted.open + counted.reviewed, counted.reviewed) == (60, 30)
    said = [review_ for number in range(60) for review_ in index.reviews_of(queued_case(number).case_id)]
    assert len(said) == len({one.review_id for one in said}) == len(index.unpublished(1_000)) == 60
    with index.database.read() as connection:
        wrong = (
            "SELECT COUNT(*) FROM buckets b WHERE cases <> "
            "(SELECT COUNT(*) FROM cases c WHERE c.bucket_id = b.bucket_id)"
        )
        assert connection.scalar(text(wrong)) == 0
    (row,) = SqlVerdictCounts(index.database).read(StatisticsFilter(), Span(0, 2_000_000), GroupBy.LINE, None)
    assert row.tally.passed == 30
    index.close()


@pytest.mark.parametrize("default", ["read committed", "repeatable read", "serializable"])
def test_writers_take_turns_whatever_isolation_is_the_default(
    index: SqlCaseIndex, postgres: PostgresServer, postgres_url: str, default: str
) -> None:
    postgres.command(
        f"ALTER DATABASE {postgres_url.rsplit('/', 1)[1]} SET default_transaction_isolation TO '{default}'"
    )
    replicas = [SqlCaseIndex(postgres_url), SqlCaseIndex(postgres_url)]
    case = queued_case()
    index.add_cases([case])
    failures: list[Exception] = []

    def answer(replica: SqlCaseIndex, first: int) -> None:
        try:
            for number in range(first, first + 25):
                replica.add_review(review(case, number, f"person {number}"), published=True)
        except Exception as error:  # noqa: BLE001 - looked at below
            failures.append(error)

    threads = [threading.Thread(target=answer, args=(each, 100 * at)) for at, each in enumerate(replicas)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(index.reviews_of(case.case_id)) == 50
    assert index.stats(CaseFilter()).reviewed == 1
    for replica in replicas:
        replica.close()


def test_readers_do_not_wait_for_a_writer_and_see_one_state(index: SqlCaseIndex, postgres_url: str) -> None:
    index.add_cases([queued_case(0)])
    other = SqlCaseIndex(postgres_url)
    with index.database.read() as connection:
        before = connection.scalar(text("SELECT COUNT(*) FROM cases"))
        other.add_cases([queued_case(1)])
        assert connection.scalar(text("SELECT COUNT(*) FROM cases")) == before == 1
    with index.database.write():
        assert len(other.list_cases(CaseFilter(), QueueOrder.NEWEST, limit=5, now_ns=START_NS).cases) == 2
    other.close()


def test_a_writer_that_waits_too_long_for_its_turn_says_so_and_gets_it_later(
    index: SqlCaseIndex, postgres_url: str
) -> None:
    hasty = SqlCaseIndex(with_options(postgres_url, "-c statement_timeout=200ms"))
    with index.database.write(), pytest.raises(UnavailableError, match="canceling statement due to statement timeout"):
        hasty.add_cases([queued_case()])
    hasty.add_cases([queued_case()])
    assert index.stats(CaseFilter()).open == 1
    hasty.close()


def test_an_index_is_emptied_however_long_that_takes(index: SqlCaseIndex, postgres_url: str) -> None:
    hasty = SqlCaseIndex(with_options(postgres_url, "-c statement_timeout=300ms"))
    hasty.add_cases([queued_case()])
    slow = (
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.6); RETURN OLD; END';"
        "CREATE TRIGGER slow BEFORE DELETE ON cases FOR EACH ROW EXECUTE FUNCTION slow()"
    )
    with index.database.write() as connection:
        connection.exec_driver_sql(slow)
    hasty.clear()
    assert index.stats(CaseFilter()).open == 0
    hasty.close()


def test_a_writer_that_falls_silent_keeps_the_others_out_for_a_while_only(
    index: SqlCaseIndex, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caseindex_database, "_IDLE_WRITER_S", 0.3)
    silent = Database(postgres_url)

    def fall_silent() -> None:
        with silent.write() as connection:
            # Waits for the turn until the silent one has lost it.
            index.add_cases([queued_case()])
            connection.execute(text("DELETE FROM cases"))

    with pytest.raises(UnavailableError, match="idle-in-transaction timeout"):
        fall_silent()
    assert index.stats(CaseFilter()).open == 1
    # Its connection is another one now.
    with silent.write() as connection:
        connection.execute(text("SELECT 1"))
    silent.close()


# ---- outages


def test_a_server_that_comes_back_is_used_again_without_a_restart(own: OwnPostgres, index: SqlCaseIndex) -> None:
    accounts = make_accounts(url=own.url("postgres"))
    index.add_cases([queued_case(0)])
    for end in (own.stop, own.crash):
        end()
        try:
            for _ in range(2):
                with pytest.raises(UnavailableError, match="must answer, got"):
                    index.add_cases([queued_case(1)])
                with pytest.raises(UnavailableError, match="must answer, got"):
                    index.find_case(queued_case(0).case_id)
                with pytest.raises(UnavailableError, match=r"accounts database .* must answer, got"):
                    accounts.users()
        finally:
            own.start()
        assert index.find_case(queued_case(0).case_id) == queued_case(0)
        assert accounts.users() == ()
    index.add_cases([queued_case(1)])
    assert index.stats(CaseFilter()).open == 2
    accounts.close()


def test_a_server_that_goes_in_the_middle_of_a_write_leaves_nothing_of_it(
    own: OwnPostgres, index: SqlCaseIndex, caplog: pytest.LogCaptureFixture
) -> None:
    index.add_cases([queued_case(0)])

    def write() -> None:
        with index.database.write() as connection:
            connection.execute(text("DELETE FROM cases"))
            own.crash()
            connection.execute(text("DELETE FROM buckets"))

    caplog.set_level(logging.DEBUG)
    try:
        with pytest.raises(UnavailableError, match="must answer, got"):
            write()
    finally:
        own.start()
    assert index.stats(CaseFilter()).open == 1
    assert own.password not in caplog.text


def test_a_connection_that_an_administrator_ends_is_replaced(
    index: SqlCaseIndex, postgres: PostgresServer, postgres_url: str
) -> None:
    index.add_cases([queued_case(0)])
    name = postgres_url.rsplit("/", 1)[1]
    ended = postgres.command(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    assert ended
    index.add_cases([queued_case(1)])
    assert index.stats(CaseFilter()).open == 2


# ---- what is said of it


def test_what_the_database_says_is_told_without_words_of_people(
    index: SqlCaseIndex, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        with index.database.write() as connection:
            for _ in range(2):
                connection.execute(text("INSERT INTO claims VALUES (:id, 'ada', 1)"), {"id": "hunter2"})

    caplog.set_level(logging.DEBUG)
    with pytest.raises(UnavailableError, match="must answer, got 'duplicate key value") as caught:
        fail()
    assert "hunter2" not in f"{caught.value} {caught.value.__cause__} {caplog.text}"
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("method", ["a\0b", "a\ud800b"])
def test_what_no_column_keeps_is_refused_for_good(index: SqlCaseIndex, method: str) -> None:
    with pytest.raises(InvalidInputError, match=r"must fit its columns|must be Unicode") as caught:
        index.add_cases([queued_case(0), queued_case(1, shown_method=method)])
    assert not caught.value.retriable
    assert index.stats(CaseFilter()).open == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((f"//{USER}:", f"//{USER}:wrong-"), "password authentication failed"),
        (("/test_", "/none_"), "does not exist"),
        (("?", "?"), "must answer"),
    ],
    ids=["password", "database", "port"],
)
def test_why_it_cannot_be_opened_is_said_without_the_password(
    own: OwnPostgres, postgres_url: str, caplog: pytest.LogCaptureFixture, change: tuple[str, str], message: str
) -> None:
    url = postgres_url.replace(*change)
    if url == postgres_url:
        url = url.replace(f":{own.port}/", ":9/")
    caplog.set_level(logging.DEBUG)
    with pytest.raises(UnavailableError, match=message) as caught:
        SqlCaseIndex(url)
    told = f"{caught.value} {caught.value.__cause__} {caught.value.__context__} {caplog.text}"
    assert own.password not in told
    assert "wrong-" not in told


def test_encryption_is_asked_for_as_the_url_says(own: OwnPostgres, postgres_url: str) -> None:
    # The server of the tests has none, so that asking for it is refused.
    with pytest.raises(UnavailableError, match="server does not support SSL"):
        SqlCaseIndex(f"{postgres_url}?sslmode=require")


def test_whoever_may_not_make_tables_is_told_so(postgres: PostgresServer, postgres_url: str) -> None:
    name = postgres_url.rsplit("/", 1)[1]
    postgres.command(f"CREATE ROLE guest_{name} LOGIN PASSWORD 'hunter2'")
    try:
        guest = f"postgresql://guest_{name}:hunter2@{postgres_url.rsplit('@', 1)[1]}"
        with pytest.raises(UnavailableError, match="permission denied for schema public"):
            SqlCaseIndex(guest)
        # What docs/feedback.md says is needed is enough.
        postgres.command(f"ALTER DATABASE {name} OWNER TO guest_{name}")
        index, accounts = SqlCaseIndex(guest), make_accounts(url=guest)
        index.add_cases([queued_case()])
        add_everybody(accounts)
        assert accounts.sign_in("Ada", PASSWORD) is not None
        index.clear()
        index.close()
        accounts.close()
    finally:
        postgres.command(f"ALTER DATABASE {name} OWNER TO CURRENT_USER")
        postgres.command(f"REASSIGN OWNED BY guest_{name} TO CURRENT_USER", name)
        postgres.command(f"DROP OWNED BY guest_{name}", name)
        postgres.command(f"DROP ROLE guest_{name}")


# ---- what is large


def test_large_cases_and_the_latest_time_come_back_whole(index: SqlCaseIndex) -> None:
    large = queued_case(1, detail="\u6f22" * 3_000_000, image_ref=image_ref("elsewhere", 2**62))
    last_ns = (1 << 63) - 1
    latest = queued_case(2, captured_at_ns=last_ns, decided_at_ns=last_ns, explained_at_ns=last_ns)
    index.add_cases([large, latest])
    for order in QueueOrder:
        page = index.list_cases(CaseFilter(), order, limit=5, now_ns=START_NS)
        assert {one.case_id: one for one in page.cases} == {large.case_id: large, latest.case_id: latest}
