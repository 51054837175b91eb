"""Order, acknowledgement and repetition of outputs."""

from __future__ import annotations

import pytest

from services.adapters.memory import MemoryBroker, MemoryRecordWriter
from services.adapters.ports import Record, TopicPartition
from services.core.errors import InvalidInputError, UnavailableError
from services.runtime.outbox import Outbox, Output
from services.runtime.retry import Backoff

FIRST = TopicPartition("in", 0)
SECOND = TopicPartition("in", 1)


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def record(offset: int, partition: TopicPartition = FIRST, value: bytes = b"12345") -> Record:
    return Record(partition.topic, partition.partition, offset, 0, b"key", value)


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker(partitions=1)


@pytest.fixture
def writer(broker: MemoryBroker) -> MemoryRecordWriter:
    return MemoryRecordWriter(broker)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def outbox(writer: MemoryRecordWriter, clock: Clock) -> Outbox:
    return Outbox(writer, clock=clock, backoff=Backoff(first_s=1.0, cap_s=1.0))


def said(broker: MemoryBroker) -> list[bytes]:
    return [item.value for item in broker.records("out")]


def say(text: bytes) -> list[Output]:
    return [Output("out", b"key", text)]


def test_outputs_are_written_in_the_order_in_which_records_were_taken(outbox: Outbox, broker: MemoryBroker) -> None:
    entries = [outbox.open(record(offset)) for offset in range(3)]
    outbox.complete(entries[2], say(b"c"))
    outbox.complete(entries[1], say(b"b"))
    outbox.pump()
    assert said(broker) == [], "the first one is not done yet"

    outbox.complete(entries[0], say(b"a"))
    outbox.pump()

    assert said(broker) == [b"a", b"b", b"c"]


def test_partitions_do_not_wait_for_each_other(outbox: Outbox, broker: MemoryBroker) -> None:
    outbox.open(record(0, FIRST))
    other = outbox.open(record(7, SECOND))
    outbox.complete(other, say(b"x"))
    outbox.pump()

    assert said(broker) == [b"x"]
    assert outbox.committable() == {SECOND: 8}


def test_only_what_is_acknowledged_without_a_gap_may_be_committed(outbox: Outbox, writer: MemoryRecordWriter) -> None:
    writer.holding = True
    entries = [outbox.open(record(offset)) for offset in range(3)]
    for entry in entries[:2]:
        outbox.complete(entry, say(b"x"))
    assert outbox.pump(), "something is on its way"
    assert outbox.committable() == {}

    writer.release()
    outbox.pump()

    assert outbox.committable() == {FIRST: 2}
    outbox.committed({FIRST: 2})
    assert outbox.committable() == {}
    assert (outbox.open_entries, outbox.open_bytes) == (1, 5)


def test_a_record_without_outputs_settles_in_its_turn(outbox: Outbox) -> None:
    first, second = outbox.open(record(4)), outbox.open(record(5))
    outbox.complete(second, ())
    outbox.pump()
    assert outbox.committable() == {}
    outbox.complete(first, ())
    outbox.pump()
    assert outbox.committable() == {FIRST: 6}


def test_settled_is_told_once_after_every_output_is_acknowledged(outbox: Outbox, writer: MemoryRecordWriter) -> None:
    told: list[int] = []
    writer.holding = True
    entry = outbox.open(record(0))
    outbox.complete(entry, say(b"verdict") + say(b"case"), lambda: told.append(1))
    outbox.pump()
    assert told == []
    writer.release()
    outbox.pump()
    outbox.pump()
    assert told == [1]


def test_what_was_not_acknowledged_is_written_again_with_all_that_follows(
    outbox: Outbox, writer: MemoryRecordWriter, broker: MemoryBroker, clock: Clock
) -> None:
    writer.holding = True
    for offset, text in enumerate((b"a", b"b")):
        outbox.complete(outbox.open(record(offset)), say(text))
    outbox.pump()
    writer.fail_held(UnavailableError("the acknowledgement must come, it did not"))
    outbox.pump()
    assert outbox.writer_away
    assert outbox.committable() == {}

    writer.holding = False
    outbox.pump()
    assert said(broker) == [b"a", b"b"], "not before the pause is over"
    clock.now_s += 2.0
    outbox.pump()

    assert said(broker) == [b"a", b"b", b"a", b"b"]
    assert outbox.committable() == {FIRST: 2}
    assert not outbox.writer_away


def test_a_full_writer_goes_on_with_the_output_it_stopped_at(
    outbox: Outbox, writer: MemoryRecordWriter, broker: MemoryBroker, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = writer.send

    def full(topic: str, **fields: object) -> object:
        if fields["value"] == b"case":
            raise UnavailableError("there must be room, there is none")
        return send(topic, **fields)  # type: ignore[arg-type]

    monkeypatch.setattr(writer, "send", full)
    outbox.complete(outbox.open(record(0)), say(b"verdict") + say(b"case"))
    outbox.pump()
    assert said(broker) == [b"verdict"]

    monkeypatch.setattr(writer, "send", send)
    clock.now_s += 2.0
    outbox.pump()

    assert said(broker) == [b"verdict", b"case"]
    assert outbox.committable() == {FIRST: 1}


def test_a_record_that_the_broker_never_takes_ends_the_service(outbox: Outbox, broker: MemoryBroker) -> None:
    broker.max_message_bytes = 3
    outbox.complete(outbox.open(record(0)), say(b"four"))
    with pytest.raises(InvalidInputError, match="at most 3 bytes"):
        outbox.pump()
    assert outbox.committable() == {}


def test_a_partition_that_left_is_forgotten_with_all_that_was_in_flight(outbox: Outbox, broker: MemoryBroker) -> None:
    entry = outbox.open(record(0))
    outbox.open(record(3, SECOND))
    outbox.forget([FIRST])
    assert entry.dropped
    outbox.complete(entry, say(b"too late"))
    outbox.pump()

    assert said(broker) == []
    assert (outbox.unsettled(), outbox.unsettled([FIRST]), outbox.unsettled([SECOND])) == (1, 0, 1)
