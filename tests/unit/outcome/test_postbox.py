"""What a line says on its way to Kafka: on disk first, in order, and nothing holds it back for good."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from services.adapters.codec_outcome import decode_arrival, decode_line_event
from services.adapters.memory import MemoryBroker, MemoryRecordWriter
from services.adapters.ports import Headers
from services.adapters.spool import Spool
from services.core import topics
from services.core.identity import line_event_id
from services.core.line_event import LineEvent, LineEventKind
from services.core.types import RecordPosition
from services.outcome import postbox as module
from services.outcome.postbox import Postbox
from tests.support.detector_line import wait_until
from tests.support.outcome_line import LINE, arrival
from tests.support.outcomes import NOW_NS

Open = Callable[[], Postbox]


def event(number: int, detail: str = "") -> LineEvent:
    at_ns = NOW_NS + number
    return LineEvent(line_event_id(LINE, "plc", "answered", at_ns), LINE, at_ns, LineEventKind.ANSWERED, detail=detail)


def ids(*numbers: int) -> list[str]:
    return [event(number).event_id for number in numbers]


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker(partitions=1)


@pytest.fixture
def writer(broker: MemoryBroker) -> MemoryRecordWriter:
    return MemoryRecordWriter(broker)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "events"


@pytest.fixture
def open_postbox(folder: Path, writer: MemoryRecordWriter) -> Iterator[Open]:
    """Opens a postbox on the folder, as each life of the service does."""
    opened: list[Postbox] = []

    def opening() -> Postbox:
        opened.append(Postbox(Spool(folder, max_bytes=1_000_000, policy="drop-oldest"), writer))
        return opened[-1]

    yield opening
    for one in opened:
        one.close(0.0)


def written(broker: MemoryBroker) -> list[str]:
    return [decode_line_event(record.value).event_id for record in broker.records(topics.LINE_EVENTS)]


def test_events_and_arrivals_are_written_to_their_topics_in_order(open_postbox: Open, broker: MemoryBroker) -> None:
    postbox = open_postbox()
    postbox.start()
    postbox.tell([event(1), event(2)])
    postbox.announce(arrival("p1", "", at_ns=NOW_NS))
    postbox.tell([event(3)])
    wait_until(lambda: len(postbox) == 0, "all is written")
    assert written(broker) == ids(1, 2, 3)
    assert {record.key for record in broker.records(topics.LINE_EVENTS)} == {LINE.encode()}
    (said,) = broker.records(topics.ARRIVALS)
    assert (said.key, decode_arrival(said.value).part_id) == (b"p1", "p1")


def test_what_was_told_survives_a_kill(open_postbox: Open, broker: MemoryBroker) -> None:
    killed = open_postbox()
    killed.tell([event(number) for number in range(100)])
    again = open_postbox()
    assert len(again) == 100
    again.start()
    wait_until(lambda: len(again) == 0, "all is written")
    assert written(broker) == ids(*range(100))


def test_while_the_writer_is_away_events_stay_on_disk_in_order(open_postbox: Open, broker: MemoryBroker) -> None:
    postbox = open_postbox()
    postbox.start()
    broker.unavailable = True
    postbox.tell([event(1)])
    wait_until(lambda: "broker must acknowledge" in postbox.away, "it says that it cannot write")
    postbox.tell([event(2), event(3)])
    assert len(postbox) == 3
    broker.unavailable = False
    wait_until(lambda: len(postbox) == 0, "all is written")
    assert written(broker) == ids(1, 2, 3)
    assert postbox.away == ""
    postbox.check()


def test_a_lost_acknowledgement_writes_the_same_ids_again(
    open_postbox: Open, broker: MemoryBroker, writer: MemoryRecordWriter
) -> None:
    writer.holding = True
    postbox = open_postbox()
    postbox.start()
    postbox.tell([event(1)])
    wait_until(lambda: written(broker) == ids(1), "it is on its way")
    assert len(postbox) == 1, "nobody has acknowledged it"
    again = open_postbox()
    writer.release()
    again.start()
    wait_until(lambda: len(again) == 0, "it is written")
    assert set(written(broker)) == set(ids(1))


def test_a_writer_that_never_answers_is_away_and_not_the_end(
    open_postbox: Open, broker: MemoryBroker, writer: MemoryRecordWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ACK_S", 0.02)
    writer.holding = True
    postbox = open_postbox()
    postbox.start()
    postbox.tell([event(1)])
    wait_until(lambda: "acknowledged within" in postbox.away, "it says that nobody answers")
    writer.release()
    wait_until(lambda: len(postbox) == 0, "it is written")
    assert set(written(broker)) == set(ids(1))
    postbox.check()


def test_a_record_that_is_none_is_left_out_once_and_holds_up_nothing(
    folder: Path, open_postbox: Open, broker: MemoryBroker, caplog: pytest.LogCaptureFixture
) -> None:
    spool = Spool(folder, max_bytes=1_000_000)
    for value in (b"\x00", b"\x00\x05\x00\x05abc"):
        spool.append(value)
    spool.close()
    postbox = open_postbox()
    postbox.start()
    wait_until(lambda: len(postbox) == 0, "they are left out")
    postbox.tell([event(1)])
    wait_until(lambda: written(broker) == ids(1), "what comes after them is written")
    assert len([line for line in caplog.messages if "left out" in line]) == 2
    assert open_postbox()._spool.torn == 0


def test_a_record_that_is_damaged_on_disk_is_left_out(folder: Path, open_postbox: Open, broker: MemoryBroker) -> None:
    open_postbox().tell([event(1), event(2), event(3)])
    (segment,) = folder.glob("*.spool")
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 0xFF
    segment.write_bytes(data)
    again = open_postbox()
    again.start()
    wait_until(lambda: len(again) == 0, "the others are written")
    assert written(broker) == ids(1, 3)


def test_a_record_that_the_broker_never_takes_holds_up_nothing(open_postbox: Open, broker: MemoryBroker) -> None:
    broker.max_message_bytes = 200
    postbox = open_postbox()
    postbox.tell([event(1), event(2, "x" * 200), event(3)])
    postbox.start()
    wait_until(lambda: len(postbox) == 0, "the others are written")
    assert written(broker) == ids(1, 3)


class BrokenWriter(MemoryRecordWriter):
    """Fails as nothing foreseen does."""

    def send(self, topic: str, *, key: bytes, value: bytes, headers: Headers = ()) -> Future[RecordPosition]:
        raise OSError(5, os.strerror(5))


def test_what_ends_the_writing_is_raised_to_whoever_checks(folder: Path, broker: MemoryBroker) -> None:
    postbox = Postbox(Spool(folder, max_bytes=1_000_000), BrokenWriter(broker))
    postbox.start()
    postbox.tell([event(1)])
    wait_until(lambda: postbox._failure is not None, "the thread ends")
    with pytest.raises(OSError, match="Input/output error"):
        postbox.check()
    postbox.close(0.0)


def test_closing_writes_what_can_be_written(open_postbox: Open, broker: MemoryBroker) -> None:
    postbox = open_postbox()
    postbox.start()
    postbox.tell([event(number) for number in range(200)])
    postbox.close(10.0)
    postbox.close(10.0)
    assert written(broker) == ids(*range(200))


def test_closing_waits_for_nobody_who_is_away(open_postbox: Open, broker: MemoryBroker) -> None:
    broker.unavailable = True
    postbox = open_postbox()
    postbox.start()
    postbox.tell([event(1)])
    wait_until(lambda: bool(postbox.away), "it says that it cannot write")
    began_s = time.monotonic()
    postbox.close(30.0)
    assert time.monotonic() - began_s < 10
    assert len(open_postbox()) == 1, "it stays on disk"


def test_many_tell_at_once_and_each_event_is_written_once(open_postbox: Open, broker: MemoryBroker) -> None:
    postbox = open_postbox()
    postbox.start()
    threads = [
        threading.Thread(target=lambda first=first: [postbox.tell([event(first + each)]) for each in range(50)])
        for first in (0, 50, 100, 150)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    wait_until(lambda: len(postbox) == 0, "all is written")
    assert sorted(written(broker)) == sorted(ids(*range(200)))
