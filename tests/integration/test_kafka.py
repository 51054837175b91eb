"""The Kafka adapter when the broker misbehaves."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from kafka.structs import TopicPartition

from services.adapters.connection import KafkaConnection
from services.adapters.kafka import KafkaRecordConsumer, KafkaRecordWriter, KafkaTopicReader
from services.adapters.kafka_topics import TopicSpec, ensure_topics, standard_topics
from services.core import topics
from services.core.errors import UnavailableError
from services.local.broker import LocalBroker

pytestmark = pytest.mark.integration


def eventually(call: Callable[[], object], timeout_s: float = 40.0) -> object:
    end_s = time.monotonic() + timeout_s
    while True:
        try:
            return call()
        except UnavailableError:
            if time.monotonic() > end_s:
                raise
            time.sleep(0.1)


@pytest.fixture
def nobody() -> KafkaConnection:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    return KafkaConnection(f"127.0.0.1:{port}", request_timeout_ms=1_500, delivery_timeout_ms=2_000)


def test_a_broker_that_is_not_there_is_said_by_everything_that_needs_it(nobody: KafkaConnection) -> None:
    for call in (
        lambda: KafkaRecordConsumer(nobody, "g"),
        lambda: KafkaTopicReader(nobody, ["t"]),
        lambda: ensure_topics(nobody, [TopicSpec("t", 1)]),
        lambda: KafkaRecordWriter(nobody, max_block_s=1).send("t", key=b"k", value=b"v"),
    ):
        began_s = time.monotonic()
        with pytest.raises(UnavailableError):
            call()
        assert time.monotonic() - began_s < 10


def test_topics_are_made_once(kafka: object) -> None:
    connection: KafkaConnection = kafka.connection  # type: ignore[attr-defined]
    specs = standard_topics(partitions=3)
    ensure_topics(connection, specs)
    assert ensure_topics(connection, specs) == []
    assert {spec.name for spec in specs} == set(topics.ALL) | {topics.dead_letter(name) for name in topics.ALL}
    models = next(spec for spec in specs if spec.name == topics.MODELS)
    assert (models.partitions, models.configs()["cleanup.policy"]) == (1, "compact")
    days = {spec.name: (spec.retention_ms or 0) / 86_400_000 for spec in specs}
    assert (days[topics.OUTCOMES], days[topics.LINE_EVENTS]) == (1, 400), "what a line was told is a record"


def test_a_writer_goes_on_when_a_broker_that_forgot_everything_is_back(tmp_path: Path) -> None:
    with LocalBroker(log_path=tmp_path / "broker.log") as broker:
        connection = KafkaConnection(broker.bootstrap_servers, request_timeout_ms=2_000, delivery_timeout_ms=3_000)
        ensure_topics(connection, [TopicSpec("t", 1)])
        writer = KafkaRecordWriter(connection, max_block_s=2)
        for _ in range(5):
            writer.send("t", key=b"k", value=b"before").result(timeout=10)
        broker.kill()
        with pytest.raises(UnavailableError):
            writer.send("t", key=b"k", value=b"lost").result(timeout=20)
        broker.start()
        eventually(lambda: ensure_topics(connection, [TopicSpec("t", 1)]))
        eventually(lambda: writer.send("t", key=b"k", value=b"after").result(timeout=20))
        reader = KafkaTopicReader(connection, ["t"])
        assert b"after" in [record.value for record in reader.read_to_end(10)]
        reader.close()
        writer.close(5)


def test_a_record_that_the_broker_claims_to_have_but_cannot_place_is_not_acknowledged(tmp_path: Path) -> None:
    with LocalBroker(log_path=tmp_path / "broker.log") as broker:
        connection = KafkaConnection(broker.bootstrap_servers)
        ensure_topics(connection, [TopicSpec("t", 1)])
        writer = KafkaRecordWriter(connection)
        for _ in range(3):
            writer.send("t", key=b"k", value=b"first").result(timeout=10)
        # A broker that died after it took a record's number and before it wrote the record meets the number again.
        assert writer._producer is not None
        numbering = writer._producer._sender._transaction_manager
        numbering.set_sequence_number(TopicPartition("t", 0), 2)
        with pytest.raises(UnavailableError, match="where"):
            writer.send("t", key=b"k", value=b"again").result(timeout=10)
        assert writer.send("t", key=b"k", value=b"again").result(timeout=10).offset == 3
        writer.close(5)


def test_a_writer_holds_no_more_than_its_buffer(nobody: KafkaConnection, tmp_path: Path) -> None:
    with LocalBroker(log_path=tmp_path / "broker.log") as broker:
        connection = KafkaConnection(broker.bootstrap_servers, request_timeout_ms=2_000, delivery_timeout_ms=60_000)
        ensure_topics(connection, [TopicSpec("t", 1)])
        writer = KafkaRecordWriter(connection, buffer_bytes=100_000, max_block_s=0.3)
        writer.send("t", key=b"k", value=b"x").result(timeout=10)
        broker.kill()
        for _ in range(9):
            writer.send("t", key=b"k", value=bytes(10_000))
        with pytest.raises(UnavailableError, match=r"writer must have room for 20001 bytes within 0\.3 s"):
            writer.send("t", key=b"k", value=bytes(20_000))
        with pytest.raises(UnavailableError, match="flush must finish"):
            writer.close(0.2)


def test_a_record_that_is_written_while_a_time_is_looked_up_is_read(
    kafka: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection: KafkaConnection = kafka.connection  # type: ignore[attr-defined]
    ensure_topics(connection, [TopicSpec("looked-up", 1)])
    writer = KafkaRecordWriter(connection)
    reader = KafkaTopicReader(connection, ["looked-up"])
    looked_up = reader._client.offsets_for_times

    def then_one_is_written(*asked: object, **how: object) -> object:
        found = looked_up(*asked, **how)
        writer.send("looked-up", key=b"k", value=b"in between").result(timeout=20)
        return found

    monkeypatch.setattr(reader._client, "offsets_for_times", then_one_is_written)
    try:
        reader.seek_to_time(time.time_ns() // 1_000_000 - 60_000)
        assert [record.value for record in reader.read_to_end(20)] == [b"in between"]
    finally:
        reader.close()
        writer.close(5)
