"""Kafka over TLS: a broker behind a certificate of the plant, and clients that trust the plant or somebody else."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from services.adapters.connection import KafkaConnection
from services.adapters.kafka import KafkaRecordConsumer, KafkaRecordWriter, KafkaTopicReader
from services.adapters.kafka_topics import TopicSpec, ensure_topics
from services.adapters.ports import TopicPartition
from services.core.errors import SettingsError, UnavailableError
from services.local.broker import LocalBroker
from services.runtime.settings import KafkaSettings
from tests.support.machine_certificates import Authority
from tests.support.tls_relay import TlsRelay

pytestmark = pytest.mark.integration


class _Member:
    """A member of a group that keeps nothing of its partitions."""

    def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """They go."""

    def on_assigned(self, partitions: Sequence[TopicPartition]) -> None:
        """They come."""


class EncryptedBroker:
    """Reached through its relay alone: it tells clients the relay's port."""

    def __init__(self, folder: Path, *, asks: bool = False) -> None:
        self.authority = Authority(folder, "plant")
        self.stranger = Authority(folder, "stranger")
        self.relay = TlsRelay(self.authority.sign("broker"), asks=self.authority.file if asks else None)
        self.broker = LocalBroker(log_path=folder / "broker.log", advertised_port=self.relay.port)

    def connection(self, trusts: Authority | None) -> KafkaConnection:
        """As a service has it from its settings; None speaks plain text."""
        return KafkaSettings(
            bootstrap_servers=self.relay.address,
            security_protocol="SSL" if trusts else "PLAINTEXT",
            ssl_ca_file=trusts.file if trusts else None,
            request_timeout_ms=2_000,
            delivery_timeout_ms=3_000,
            fetch_wait_ms=LocalBroker.FETCH_WAIT_MS,
            session_timeout_ms=LocalBroker.SESSION_TIMEOUT_MS,
        ).connection()


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EncryptedBroker]:
    encrypted = EncryptedBroker(tmp_path_factory.mktemp("kafka-tls"))
    with encrypted.broker, encrypted.relay:
        encrypted.relay.target = encrypted.broker.bootstrap_servers
        yield encrypted


def test_records_are_written_and_read_by_who_trusts_the_plant(encrypted: EncryptedBroker) -> None:
    connection = encrypted.connection(encrypted.authority)
    ensure_topics(connection, [TopicSpec("t", 1)])
    writer = KafkaRecordWriter(connection, max_block_s=5)
    try:
        # Larger than one TLS record.
        written = [writer.send("t", key=b"k", value=b"%d" % number * 40_000) for number in range(5)]
        positions = [each.result(timeout=15).offset for each in written]
    finally:
        writer.close(5)
    assert positions == [0, 1, 2, 3, 4]
    wanted = [b"%d" % number * 40_000 for number in range(5)]
    with contextlib.closing(KafkaTopicReader(connection, ["t"])) as reader:
        assert [record.value for record in reader.read_to_end(15)] == wanted
    with contextlib.closing(KafkaRecordConsumer(connection, "group-over-tls")) as consumer:
        consumer.subscribe(["t"], _Member())
        read: list[bytes] = []
        end_s = time.monotonic() + 20
        while len(read) < len(wanted) and time.monotonic() < end_s:
            read += [record.value for record in consumer.poll(max_records=100, timeout_s=0.2)]
        assert read == wanted


def test_who_trusts_another_authority_sends_nothing_and_is_told_why(
    encrypted: EncryptedBroker, caplog: pytest.LogCaptureFixture
) -> None:
    connection = _impatient(encrypted.connection(encrypted.stranger))
    before = encrypted.relay.handshakes
    writer = KafkaRecordWriter(connection, max_block_s=1)
    calls: list[Callable[[], object]] = [
        lambda: KafkaTopicReader(connection, ["t"]),
        lambda: ensure_topics(connection, [TopicSpec("t", 1)]),
        lambda: writer.send("t", key=b"k", value=b"v"),
    ]
    for call in calls:
        caplog.clear()
        _is_refused(call)
        assert "CERTIFICATE_VERIFY_FAILED" in caplog.text
    assert encrypted.relay.handshakes == before


def test_a_renewed_file_of_authorities_is_taken_at_the_next_connection(
    encrypted: EncryptedBroker, tmp_path: Path
) -> None:
    ensure_topics(encrypted.connection(encrypted.authority), [TopicSpec("renewed", 1)])
    file = tmp_path / "ca.pem"
    file.write_bytes(encrypted.stranger.file.read_bytes())
    writer = KafkaRecordWriter(
        replace(_impatient(encrypted.connection(encrypted.authority)), ssl_ca_file=file), max_block_s=5
    )
    _is_refused(lambda: writer.send("renewed", key=b"k", value=b"v"))
    file.write_bytes(encrypted.authority.file.read_bytes())
    try:
        assert writer.send("renewed", key=b"k", value=b"v").result(timeout=15).offset == 0
    finally:
        writer.close(5)


def test_who_speaks_plain_text_to_it_is_not_answered(encrypted: EncryptedBroker) -> None:
    connection, before = _impatient(encrypted.connection(None)), encrypted.relay.handshakes
    _is_refused(lambda: KafkaTopicReader(connection, ["t"]))
    assert encrypted.relay.handshakes == before


def test_a_broker_that_asks_for_certificates_is_written_to_with_one_and_not_without(tmp_path: Path) -> None:
    encrypted = EncryptedBroker(tmp_path, asks=True)
    with encrypted.broker, encrypted.relay:
        encrypted.relay.target = encrypted.broker.bootstrap_servers
        without = encrypted.connection(encrypted.authority)
        _is_refused(lambda: KafkaTopicReader(_impatient(without), ["t"]))
        assert encrypted.relay.handshakes == 0
        pair = encrypted.authority.sign("service")
        shown = replace(without, ssl_certificate_file=pair.certificate, ssl_key_file=pair.key)
        ensure_topics(shown, [TopicSpec("t", 1)])
        writer = KafkaRecordWriter(shown, max_block_s=5)
        try:
            assert writer.send("t", key=b"k", value=b"v").result(timeout=15).offset == 0
        finally:
            writer.close(5)


@pytest.mark.parametrize("file", ["ssl_ca_file", "ssl_certificate_file"])
def test_a_file_that_cannot_be_used_is_said_at_once_instead_of_being_waited_for(
    encrypted: EncryptedBroker, tmp_path: Path, file: str
) -> None:
    connection = replace(encrypted.connection(encrypted.authority), **{file: tmp_path / "not-there.pem"})
    began_s = time.monotonic()
    with pytest.raises(SettingsError, match=rf"kafka\.{file} .*must hold .*not-there\.pem"):
        KafkaTopicReader(connection, ["t"])
    assert time.monotonic() - began_s < 1


def _impatient(connection: KafkaConnection) -> KafkaConnection:
    return replace(connection, request_timeout_ms=1_000)


def _is_refused(call: Callable[[], object]) -> None:
    began_s = time.monotonic()
    with pytest.raises(UnavailableError, match="broker must answer in time"):
        call()
    assert time.monotonic() - began_s < 5
