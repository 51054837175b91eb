"""What every writer, consumer, topic reader and fetcher promises, on the memory broker and on a real one."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pytest

from services.adapters.kafka import (
    KafkaRecordConsumer,
    KafkaRecordFetcher,
    KafkaRecordWriter,
    KafkaTopicReader,
)
from services.adapters.memory import (
    MemoryBroker,
    MemoryRecordConsumer,
    MemoryRecordFetcher,
    MemoryRecordWriter,
    MemoryTopicReader,
)
from services.adapters.ports import Record, RecordConsumer, RecordFetcher, RecordWriter, TopicPartition, TopicReader
from services.core.errors import ConflictError, InvalidInputError, NotFoundError
from services.core.types import RecordPosition


class Brokers(Protocol):
    name: str

    def topic(self, partitions: int = 4) -> str: ...
    def writer(self) -> RecordWriter: ...
    def consumer(self, group: str) -> RecordConsumer: ...
    def reader(self, *topics: str) -> TopicReader: ...
    def fetcher(self) -> RecordFetcher: ...


class InMemory:
    name = "memory"

    def __init__(self, unique: Callable[[str], str]) -> None:
        self._broker = MemoryBroker()
        self._unique = unique

    def topic(self, partitions: int = 4) -> str:
        name = self._unique("topic")
        self._broker.create_topic(name, partitions)
        return name

    def writer(self) -> RecordWriter:
        return MemoryRecordWriter(self._broker)

    def consumer(self, group: str) -> RecordConsumer:
        return MemoryRecordConsumer(self._broker, group)

    def reader(self, *topics: str) -> TopicReader:
        return MemoryTopicReader(self._broker, topics)

    def fetcher(self) -> RecordFetcher:
        return MemoryRecordFetcher(self._broker)


class OnKafka:
    def __init__(self, server: Any) -> None:
        self.name = "stand-in" if server.is_standin else "kafka"
        self._server = server
        # The shortest session that Kafka allows by default: joins and departures are noticed soon.
        self._connection = dataclasses.replace(server.connection, session_timeout_ms=6_000)
        self._open: list[Any] = []

    def topic(self, partitions: int = 4) -> str:
        return self._server.topic("contract", partitions=partitions)  # type: ignore[no-any-return]

    def _kept(self, thing: Any) -> Any:
        self._open.append(thing)
        return thing

    def writer(self) -> RecordWriter:
        writer = KafkaRecordWriter(self._connection)
        self._open.append(_Closing(lambda: writer.close(5)))
        return writer

    def consumer(self, group: str) -> RecordConsumer:
        return self._kept(KafkaRecordConsumer(self._connection, group))  # type: ignore[no-any-return]

    def reader(self, *topics: str) -> TopicReader:
        return self._kept(KafkaTopicReader(self._connection, topics))  # type: ignore[no-any-return]

    def fetcher(self) -> RecordFetcher:
        return self._kept(KafkaRecordFetcher(self._connection))  # type: ignore[no-any-return]

    def close(self) -> None:
        for thing in reversed(self._open):
            thing.close()


@dataclass
class _Closing:
    close: Callable[[], None]


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.integration)])
def brokers(request: pytest.FixtureRequest, unique: Callable[[str], str]) -> Iterator[Brokers]:
    if request.param == "memory":
        yield InMemory(unique)
        return
    real = OnKafka(request.getfixturevalue("kafka"))
    yield real
    real.close()


@dataclass
class Member:
    """A consumer and what it was told; a listener that commits what it has read of what leaves."""

    consumer: RecordConsumer
    records: list[Record] = field(default_factory=list)
    revoked: list[TopicPartition] = field(default_factory=list)
    assigned: list[TopicPartition] = field(default_factory=list)
    commits_on_revoke: bool = True
    refused: list[Exception] = field(default_factory=list)

    def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        self.revoked.extend(partitions)
        if self.commits_on_revoke:
            offsets = {each: offset for each, offset in self.read_up_to().items() if each in partitions}
            self.consumer.commit(offsets)

    def on_assigned(self, partitions: Sequence[TopicPartition]) -> None:
        self.assigned.extend(partitions)

    def read_up_to(self) -> dict[TopicPartition, int]:
        return {record.topic_partition: record.offset + 1 for record in self.records}

    def poll(self, timeout_s: float = 0.2) -> None:
        self.records.extend(self.consumer.poll(max_records=100, timeout_s=timeout_s))


def joined(brokers: Brokers, topic: str, group: str, **changes: Any) -> Member:
    consumer = brokers.consumer(group)
    member = Member(consumer, **changes)
    consumer.subscribe([topic], member)
    poll_until(lambda: bool(consumer.assignment()), member)
    return member


def poll_until(condition: Callable[[], bool], *members: Member, timeout_s: float = 60.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, f"not within {timeout_s} s"
        for member in members:
            member.poll()


def write(writer: RecordWriter, topic: str, count: int, keys: int = 8) -> list[RecordPosition]:
    futures = [
        writer.send(topic, key=b"k%d" % (number % keys), value=b"%d" % number, headers=[("n", b"%d" % number)])
        for number in range(count)
    ]
    return [future.result(timeout=20) for future in futures]


def test_a_record_comes_back_whole_from_the_place_that_was_told(brokers: Brokers) -> None:
    topic = brokers.topic()
    writer = brokers.writer()
    places = write(writer, topic, 20)
    assert len(set(places)) == 20
    fetcher = brokers.fetcher()
    for number in (0, 7, 19):
        record = fetcher.fetch(places[number], 10)
        assert (record.position, record.key, record.value) == (places[number], b"k%d" % (number % 8), b"%d" % number)
        assert list(record.headers) == [("n", b"%d" % number)]
        assert abs(record.timestamp_ms - time.time() * 1000) < 600_000


def test_records_of_one_key_keep_their_order_in_one_partition(brokers: Brokers) -> None:
    topic = brokers.topic()
    places = write(brokers.writer(), topic, 50, keys=3)
    for key in range(3):
        own = places[key::3]
        assert len({place.partition for place in own}) == 1
        assert [place.offset for place in own] == sorted(place.offset for place in own)


def test_a_record_that_is_too_large_is_refused_for_good(brokers: Brokers) -> None:
    future = brokers.writer().send(brokers.topic(), key=b"k", value=bytes(31_000_000))
    with pytest.raises(InvalidInputError):
        future.result(timeout=20)


def test_a_place_that_holds_nothing_is_not_found(brokers: Brokers) -> None:
    topic = brokers.topic(partitions=1)
    write(brokers.writer(), topic, 3)
    fetcher = brokers.fetcher()
    for place in (RecordPosition(topic, 0, 99), RecordPosition(topic, 7, 0)):
        with pytest.raises(NotFoundError):
            fetcher.fetch(place, 5)


def test_a_topic_is_read_to_its_end_and_then_on(brokers: Brokers) -> None:
    topic = brokers.topic()
    writer = brokers.writer()
    write(writer, topic, 12, keys=12)
    reader = brokers.reader(topic)
    assert sorted(int(record.value) for record in reader.read_to_end(20)) == list(range(12))
    assert reader.poll(max_records=10, timeout_s=0.2) == []
    writer.send(topic, key=b"new", value=b"12").result(timeout=20)
    found: list[Record] = []
    end_s = time.monotonic() + 10
    while not found and time.monotonic() < end_s:
        found = reader.poll(max_records=10, timeout_s=0.5)
    assert [record.value for record in found] == [b"12"]


def test_the_ends_of_batches_are_read_to(brokers: Brokers) -> None:
    topic = brokers.topic(partitions=1)
    write(brokers.writer(), topic, 500)
    assert len(list(brokers.reader(topic).read_to_end(20))) == 500


def test_an_empty_topic_ends_at_once(brokers: Brokers) -> None:
    assert list(brokers.reader(brokers.topic()).read_to_end(10)) == []


def test_what_was_skipped_does_not_come(brokers: Brokers) -> None:
    topic = brokers.topic(partitions=1)
    writer = brokers.writer()
    writer.send(topic, key=b"k", value=b"old").result(timeout=20)
    reader = brokers.reader(topic)
    reader.seek_to_end()
    writer.send(topic, key=b"k", value=b"new").result(timeout=20)
    found: list[Record] = []
    end_s = time.monotonic() + 10
    while not found and time.monotonic() < end_s:
        found = reader.poll(max_records=10, timeout_s=0.5)
    assert [record.value for record in found] == [b"new"]


def test_reading_from_a_time_leaves_out_what_is_older(brokers: Brokers) -> None:
    topic = brokers.topic(partitions=2)
    writer = brokers.writer()
    writer.send(topic, key=b"k", value=b"old").result(timeout=20)
    # A broker may know times to the second only.
    time.sleep(2.1)
    writer.send(topic, key=b"k", value=b"new").result(timeout=20)
    reader = brokers.reader(topic)
    reader.seek_to_time(time.time_ns() // 1_000_000 - 1_000)
    found: list[Record] = []
    end_s = time.monotonic() + 10
    while not found and time.monotonic() < end_s:
        found = reader.poll(max_records=10, timeout_s=0.5)
    assert [record.value for record in found] == [b"new"]


def test_reading_from_a_time_to_come_begins_with_what_is_written_next(brokers: Brokers) -> None:
    topic = brokers.topic(partitions=1)
    writer = brokers.writer()
    writer.send(topic, key=b"k", value=b"old").result(timeout=20)
    reader = brokers.reader(topic)
    reader.seek_to_time(time.time_ns() // 1_000_000 + 60_000)
    writer.send(topic, key=b"k", value=b"new").result(timeout=20)
    found: list[Record] = []
    end_s = time.monotonic() + 10
    while not found and time.monotonic() < end_s:
        found = reader.poll(max_records=10, timeout_s=0.5)
    assert [record.value for record in found] == [b"new"]


def test_what_was_written_in_between_is_read_and_nothing_else(brokers: Brokers) -> None:
    topic = brokers.topic()
    writer = brokers.writer()
    times = []
    for step in range(3):
        times.append(time.time_ns() // 1_000_000)
        time.sleep(0.05)
        for number in range(40):
            writer.send(topic, key=b"k%d" % (number % 8), value=b"%d-%d" % (step, number)).result(timeout=20)
        time.sleep(0.05)
    reader = brokers.reader(topic)
    middle = {record.value for record in reader.read_between(times[1], times[2], 20)}
    assert middle == {b"1-%d" % number for number in range(40)}
    assert len(list(reader.read_between(times[0], times[2], 20))) == 80, "a reader may be asked again"
    assert len(list(reader.read_between(times[1], times[2] + 3_600_000, 20))) == 80


def test_what_was_written_together_is_read_to_its_last_record(brokers: Brokers) -> None:
    topic = brokers.topic(partitions=1)
    writer = brokers.writer()
    for round_number in range(3):
        sent = [writer.send(topic, key=b"k", value=b"%d-%d" % (round_number, number)) for number in range(10)]
        for future in sent:
            future.result(timeout=20)
        until_ms = time.time_ns() // 1_000_000 + 1_000
        assert len(list(brokers.reader(topic).read_between(0, until_ms, 20))) == 10 * (round_number + 1)


def test_a_time_without_records_is_empty(brokers: Brokers) -> None:
    topic = brokers.topic()
    write(brokers.writer(), topic, 20)
    now_ms = time.time_ns() // 1_000_000
    assert list(brokers.reader(topic).read_between(now_ms - 7_200_000, now_ms - 3_600_000, 10)) == []
    assert list(brokers.reader(topic).read_between(now_ms + 60_000, now_ms + 120_000, 10)) == []


def test_a_group_goes_on_where_it_committed(brokers: Brokers, unique: Callable[[str], str]) -> None:
    topic, group = brokers.topic(partitions=2), unique("group")
    write(brokers.writer(), topic, 30)
    first = joined(brokers, topic, group, commits_on_revoke=False)
    poll_until(lambda: len(first.records) == 30, first)
    by_partition: dict[TopicPartition, list[int]] = {}
    for record in first.records:
        by_partition.setdefault(record.topic_partition, []).append(record.offset)
    assert all(offsets == sorted(offsets) for offsets in by_partition.values())
    # All but the last record of each partition.
    first.consumer.commit({each: offsets[-1] for each, offsets in by_partition.items()})
    first.consumer.close()
    second = joined(brokers, topic, group)
    poll_until(lambda: len(second.records) >= len(by_partition), second)
    assert {record.topic_partition: record.offset for record in second.records} == {
        each: offsets[-1] for each, offsets in by_partition.items()
    }


def test_a_paused_partition_is_silent_until_it_is_resumed(brokers: Brokers, unique: Callable[[str], str]) -> None:
    topic = brokers.topic(partitions=1)
    member = joined(brokers, topic, unique("group"))
    (partition,) = member.consumer.assignment()
    member.consumer.pause([partition])
    writer = brokers.writer()
    for _ in range(5):
        write(writer, topic, 1)
    member.poll(0.7)
    assert member.records == []
    assert member.consumer.lag().get(partition) == 5, "the lag grows also while nothing is fetched"
    member.consumer.resume([partition])
    poll_until(lambda: len(member.records) == 5, member)
    member.consumer.seek(partition, 3)
    member.records.clear()
    poll_until(lambda: len(member.records) == 2, member)
    assert [record.offset for record in member.records] == [3, 4]
    assert member.consumer.lag().get(partition) == 0


def test_two_members_share_and_the_one_that_stays_takes_over_without_loss_or_repeat(
    brokers: Brokers, unique: Callable[[str], str]
) -> None:
    topic, group = brokers.topic(partitions=4), unique("group")
    writer = brokers.writer()
    first = joined(brokers, topic, group)
    write(writer, topic, 40, keys=40)
    poll_until(lambda: len(first.records) == 40, first)
    second = Member(brokers.consumer(group))
    second.consumer.subscribe([topic], second)
    poll_until(lambda: len(second.consumer.assignment()) == 2 and len(first.consumer.assignment()) == 2, first, second)
    assert not first.consumer.assignment() & second.consumer.assignment()
    # What moved was committed while it was revoked, so the new owner does not read it again.
    assert second.records == []
    foreign = next(iter(second.consumer.assignment()))
    with pytest.raises(ConflictError):
        first.consumer.commit({foreign: 1})
    write(writer, topic, 40, keys=40)
    poll_until(lambda: len(first.records) + len(second.records) == 80, first, second)
    second.consumer.close()
    assert len(second.revoked) == 2
    poll_until(lambda: len(first.consumer.assignment()) == 4, first)
    write(writer, topic, 40, keys=40)
    poll_until(lambda: len(first.records) + len(second.records) >= 120, first)
    places = [record.position for record in first.records + second.records]
    assert len(places) == len(set(places)) == 120


def test_a_join_that_ends_while_nobody_polls_counts(
    brokers: Brokers, unique: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    topic = brokers.topic(partitions=1)
    member = Member(brokers.consumer(unique("group")))
    member.consumer.subscribe([topic], member)
    with caplog.at_level(logging.INFO, "kafka.coordinator"):
        member.poll(0.5)
        # At work on something else for longer than a group waits for its first members.
        time.sleep(0 if brokers.name == "memory" else 4.5)
        begun = caplog.text.count("(Re-)joining")
        poll_until(lambda: bool(member.consumer.assignment()), member)
        assert caplog.text.count("(Re-)joining") == begun


def test_what_a_listener_raises_comes_out_of_poll(brokers: Brokers, unique: Callable[[str], str]) -> None:
    class Failing(Member):
        def on_assigned(self, partitions: Sequence[TopicPartition]) -> None:
            raise RuntimeError("listener broke")

    topic = brokers.topic(partitions=1)
    member = Failing(brokers.consumer(unique("group")))
    member.consumer.subscribe([topic], member)
    with pytest.raises(RuntimeError, match="listener broke"):
        poll_until(lambda: False, member, timeout_s=20)
