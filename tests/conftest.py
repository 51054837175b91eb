"""Servers that speak the real protocols, started once for a whole test run.

``SIGHTLINE_TEST_KAFKA=host:port`` and ``SIGHTLINE_TEST_S3=http://key:secret@host:port`` point the same tests at an
Apache Kafka and an S3 store instead of the stand-ins of this machine, and
``SIGHTLINE_TEST_POSTGRES=postgresql://user:password@host/database`` at another PostgreSQL than the one that is started
here; its user must be allowed to create databases.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from services.adapters.connection import KafkaConnection, StoreConnection

if TYPE_CHECKING:
    from tests.support.postgres import PostgresServer

TEST_KAFKA = os.environ.get("SIGHTLINE_TEST_KAFKA", "")
TEST_S3 = os.environ.get("SIGHTLINE_TEST_S3", "")
TEST_POSTGRES = os.environ.get("SIGHTLINE_TEST_POSTGRES", "")


@dataclass(frozen=True)
class KafkaServer:
    """A broker to test against."""

    connection: KafkaConnection
    is_standin: bool

    def topic(self, name: str = "t", *, partitions: int = 4, compacted: bool = False) -> str:
        """A fresh topic that exists."""
        from services.adapters.kafka_topics import TopicSpec, ensure_topics

        spec = TopicSpec(
            f"{name}-{uuid.uuid4().hex[:8]}", partitions, compacted=compacted, max_message_bytes=30_000_000
        )
        ensure_topics(self.connection, [spec])
        return spec.name


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """A broker for the whole session: records live in memory, topics are made by the tests."""
    if TEST_KAFKA:
        yield KafkaServer(KafkaConnection(TEST_KAFKA), is_standin=False)
        return
    from services.local.broker import LocalBroker

    with LocalBroker(log_path=tmp_path_factory.mktemp("broker") / "broker.log") as broker:
        yield KafkaServer(KafkaConnection(broker.bootstrap_servers), is_standin=True)


@pytest.fixture(scope="session")
def object_store_connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreConnection]:
    """An S3 store for the whole session, with a bucket of its own."""
    bucket = f"test-{uuid.uuid4().hex[:12]}"
    if TEST_S3:
        url = urlsplit(TEST_S3)
        yield StoreConnection(
            endpoint=f"{url.hostname}:{url.port or (443 if url.scheme == 'https' else 80)}",
            bucket=bucket,
            access_key=url.username or "",
            secret_key=url.password or "",
            secure=url.scheme == "https",
        )
        return
    from services.local.store import LocalStore

    directory: Path = tmp_path_factory.mktemp("store")
    with LocalStore(directory) as store:
        store.ensure_bucket(bucket)
        yield StoreConnection(store.endpoint, bucket, store.access_key, store.secret_key)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL for the whole session, of each of pytest-xdist's processes its own."""
    from tests.support.postgres import OwnPostgres, PostgresServer

    if TEST_POSTGRES:
        yield PostgresServer(TEST_POSTGRES)
        return
    with OwnPostgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """An empty database of the test's own."""
    with postgres.database() as url:
        yield url


@pytest.fixture(params=["memory", "file", pytest.param("postgres", marks=pytest.mark.integration)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of the test's own: SQLite in memory and on disk, and PostgreSQL."""
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return "sqlite://" if request.param == "memory" else f"sqlite:///{tmp_path / 'index.db'}"


@pytest.fixture
def unique() -> Callable[[str], str]:
    """Names that no other test has used."""
    return lambda prefix: f"{prefix}-{uuid.uuid4().hex[:8]}"
