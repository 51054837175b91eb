"""A line's record is saved, everything is lost, and the command brings it back: on a real store and a real broker."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from services.adapters.accounts import Accounts, AuditEntry
from services.adapters.caseindex import SqlCaseIndex
from services.adapters.caserecord import CaseRecord, queued_case
from services.adapters.connection import KafkaConnection, StoreConnection
from services.adapters.kafka import KafkaRecordWriter, KafkaTopicReader
from services.adapters.kafka_topics import ensure_topics, standard_topics
from services.adapters.modelregistry import ModelRegistry
from services.adapters.modelstore import ModelStore
from services.adapters.objectstore import S3ObjectStore
from services.adapters.ports import ReviewFilter, TopicPartition, VerdictToCount
from services.adapters.verdictcounts import SqlVerdictCounts
from services.cli import app
from services.core import alias as transitions
from services.core.access import Role
from services.core.imaging import encode_png
from services.core.review import Review
from services.core.statistics import Inspected
from services.core.topics import LINE_EVENTS, MODELS, VERDICTS
from services.core.types import AliasState, ExplainedCase, ImageRef, Verdict
from services.feedback.rebuild import rebuild_index
from services.local.broker import LocalBroker
from tests.support.accounts import PASSWORD, make_accounts
from tests.support.cases import START_NS, review, wrong
from tests.support.explained import explanation
from tests.support.explainer_line import make_case
from tests.support.model_versions import write_model_version

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

RUNNER = CliRunner()
CASES = 6
OFFSET = 41


@dataclass
class Site:
    """An empty bucket, an empty broker and no databases."""

    kafka: KafkaConnection
    connection: StoreConnection
    folder: Path

    @property
    def store(self) -> S3ObjectStore:
        return S3ObjectStore(self.connection)

    @property
    def index_url(self) -> str:
        return f"sqlite:///{self.folder / 'index.db'}"

    @property
    def accounts_url(self) -> str:
        return f"sqlite:///{self.folder / 'accounts.db'}"

    def run(self, *arguments: str) -> tuple[int, str]:
        answer = RUNNER.invoke(
            app,
            arguments,
            env={
                "SIGHTLINE_ACTOR": "root",
                "SIGHTLINE_KAFKA__BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
                "SIGHTLINE_OBJECT_STORE__ENDPOINT": self.connection.endpoint,
                "SIGHTLINE_OBJECT_STORE__BUCKET": self.connection.bucket,
                "SIGHTLINE_OBJECT_STORE__ACCESS_KEY": self.connection.access_key,
                "SIGHTLINE_OBJECT_STORE__SECRET_KEY": self.connection.secret_key,
                "SIGHTLINE_INDEX__URL": self.index_url,
                "SIGHTLINE_ACCOUNTS__URL": self.accounts_url,
            },
        )
        return answer.exit_code, answer.output + (f"\n{answer.exception}" if answer.exception else "")

    def registry(self, writer: KafkaRecordWriter | None = None) -> ModelRegistry:
        made = ModelRegistry(KafkaTopicReader(self.kafka, [MODELS]), writer)
        made.read_all()
        return made

    def state(self) -> AliasState:
        registry = self.registry()
        try:
            return registry.state("default")
        finally:
            registry.close()


@pytest.fixture
def connection(object_store_connection: StoreConnection, unique: Callable[[str], str]) -> StoreConnection:
    return replace(object_store_connection, bucket=unique("backup"))


@pytest.fixture
def plant(connection: StoreConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.chdir(tmp_path)
    yield from _site(connection, tmp_path / "plant")


@pytest.fixture
def new(connection: StoreConnection, tmp_path: Path) -> Iterator[Site]:
    """Another broker and no databases; the bucket is the plant's, since the record names it."""
    yield from _site(connection, tmp_path / "new")


def _site(connection: StoreConnection, folder: Path) -> Iterator[Site]:
    folder.mkdir()
    with LocalBroker(log_path=folder / "broker.log") as broker:
        site = Site(KafkaConnection(broker.bootstrap_servers), connection, folder)
        site.store.ensure_bucket()
        yield site


def fill(site: Site) -> list[Review]:
    """A line's life: cases with pictures and answers, a model that decides, an account, counted verdicts."""
    ensure_topics(site.kafka, standard_topics())
    record = CaseRecord(site.store)
    reviews = []
    for number in range(CASES):
        picture = encode_png(np.random.default_rng(number).integers(0, 256, (48, 48, 3)).astype(np.uint8))
        ref: ImageRef = record.add_image(picture)
        made = make_case(number, ref)
        explained = ExplainedCase(made, (explanation(),), START_NS)
        record.add_case(explained)
        case = queued_case(explained, 48, 48)
        reviews.append(record.add_review(wrong(case) if number % 2 else review(case)))
    write_model_version(site.folder / "version")
    ModelStore(site.store).upload(site.folder / "version")
    writer = KafkaRecordWriter(site.kafka)
    registry = site.registry(writer)
    registry.change("default", lambda now: transitions.add(now, 1, actor="ada", at_ns=START_NS, note=""))
    registry.change("default", lambda now: transitions.promote(now, 1, actor="ada", at_ns=START_NS, note="go"))
    registry.close()
    writer.send(LINE_EVENTS, key=b"line-1", value=b"told", timestamp_ms=START_NS // 1_000_000).result(10)
    writer.close(10)
    index = SqlCaseIndex(site.index_url)
    rebuild_index(index, record)
    counts = SqlVerdictCounts(index.database)
    counts.add(
        [
            VerdictToCount(
                TopicPartition(VERDICTS, 0),
                OFFSET,
                START_NS // 1_000_000,
                Inspected("line-1", "cam-1", "disc", "default", 1),
                START_NS // 1_000_000_000,
                Verdict.PASS,
            )
        ]
    )
    index.close()
    accounts = make_accounts(url=site.accounts_url)
    accounts.add("Ada", Role.ADMIN, PASSWORD)
    accounts.close()
    return sorted(reviews, key=lambda one: one.review_id)


def lose(site: Site) -> None:
    """Empty the bucket; that the broker and the databases are gone too is that the new site has others."""
    site.store.delete([stat.key for stat in site.store.list("")])
    assert not objects_of(site)


def objects_of(site: Site) -> dict[str, bytes]:
    return {stat.key: site.store.get(stat.key) for stat in site.store.list("")}


def tables_of(site: Site) -> list[list[str]]:
    """What the index counts, and what it knows of every case."""
    index = SqlCaseIndex(site.index_url)
    with index.database.read() as connection:
        found = [
            sorted(str(tuple(row)) for row in connection.execute(text(f"SELECT * FROM {table}")))
            for table in ("inspected", "verdict_counts", "cases", "case_parts")
        ]
    index.close()
    return found


def test_a_line_that_lost_everything_has_its_record_its_model_and_its_people_again(
    plant: Site, new: Site, tmp_path: Path
) -> None:
    reviews = fill(plant)
    before, state, tables = objects_of(plant), plant.state(), tables_of(plant)
    folder = str(tmp_path / "backups")
    code, said = plant.run("backup", "--to", folder, "--json")
    assert code == 0, said
    saved = json.loads(said.splitlines()[-1])
    assert saved["objects"] == len(before)
    lose(plant)

    code, said = new.run("restore", "--from", folder, "--json")
    assert code == 0, said
    assert json.loads(said.splitlines()[-1])["objects"] == len(before)
    code, said = new.run("index", "rebuild")
    assert (code, said.strip()) == (0, f"{CASES} cases and {CASES} reviews are in the index")

    assert objects_of(new) == before
    assert new.state() == state
    assert new.state().live_version == 1
    assert ModelStore(new.store).install("default", 1, tmp_path / "installed").is_dir()
    assert tables_of(new) == tables
    index = SqlCaseIndex(new.index_url)
    found = index.list_reviews(ReviewFilter(), limit=100)
    assert sorted(one.review_id for one in found.reviews) == [one.review_id for one in reviews]
    assert not SqlVerdictCounts(index.database).counted_to(VERDICTS), "a new broker's offsets begin anew"
    index.close()
    accounts = Accounts(new.accounts_url)
    assert accounts.sign_in("Ada", PASSWORD) is not None
    accounts.close()
    reader = KafkaTopicReader(new.kafka, [LINE_EVENTS])
    [event] = reader.read_to_end(10)
    reader.close()
    assert (event.key, event.value, event.timestamp_ms) == (b"line-1", b"told", START_NS // 1_000_000)


def test_what_is_there_is_replaced_only_when_it_is_told(plant: Site, tmp_path: Path) -> None:
    fill(plant)
    before = objects_of(plant)
    folder = str(tmp_path / "backups")
    assert plant.run("backup", "--to", folder)[0] == 0
    changed = next(key for key in before if key.startswith("record/cases/"))
    plant.store.put(changed, b"x" * len(before[changed]))
    code, said = plant.run("restore", "--from", folder)
    assert code == 1
    assert re.search(r"must be empty, or --over be given, got something in .*record/reviews/.*models/", said)
    code, said = plant.run("restore", "--from", folder, "--over", "--same-broker", "--json")
    assert code == 0, said
    done = json.loads(said.splitlines()[-1])
    assert (done["moved_objects"], done["records"]) == (1, 0)
    assert objects_of(plant) == before
    index = SqlCaseIndex(plant.index_url)
    counted = SqlVerdictCounts(index.database).counted_to(VERDICTS)
    index.close()
    assert counted[TopicPartition(VERDICTS, 0)].offset == OFFSET + 1, "it counts on from where it stood"


def test_accounts_that_are_not_there_are_not_saved_as_none(plant: Site, tmp_path: Path) -> None:
    ensure_topics(plant.kafka, standard_topics())
    SqlCaseIndex(plant.index_url).close()
    code, said = plant.run("backup", "--to", str(tmp_path / "backups"))
    assert code == 1
    assert "--without accounts?" in said
    assert not Path(plant.accounts_url.removeprefix("sqlite:///")).exists()
    assert plant.run("backup", "--to", str(tmp_path / "backups"), "--without", "accounts")[0] == 0


@pytest.mark.parametrize("ways", [("sqlite", "postgres"), ("postgres", "sqlite")])
def test_accounts_move_between_sqlite_and_postgresql(ways: tuple[str, str], postgres_url: str, tmp_path: Path) -> None:
    from services.adapters.accounts_schema import ACCOUNTS, AUDIT, SESSIONS, USERS
    from services.adapters.caseindex_database import Database
    from services.adapters.tablecopy import TableCopy

    urls = {"sqlite": f"sqlite:///{tmp_path / 'accounts.db'}", "postgres": postgres_url}
    first, second = (Database(urls[way], ACCOUNTS) for way in ways)
    accounts = make_accounts(url=urls[ways[0]])
    accounts.add("Åda", Role.ADMIN, PASSWORD)
    accounts.append(AuditEntry(START_NS, "Åda", "admin", "test", "", "", "ok"))
    assert accounts.sign_in("Åda", PASSWORD) is not None
    accounts.close()
    source, target = (TableCopy(one, (USERS, AUDIT), (SESSIONS,)) for one in (first, second))
    lines = [json.loads(json.dumps(row)) for row in source.rows()]
    assert target.load((name, row) for name, row in lines) == len(lines) == source.count()
    again = make_accounts(url=urls[ways[1]])
    assert again.sign_in("Åda", PASSWORD) is not None
    kept = again.entries()
    again.append(AuditEntry(START_NS, "Ada", "admin", "test", "", "", "ok"))
    assert again.entries()[1:] == kept, "the log counts on from where it stood"
    again.close()
    first.close()
    second.close()
