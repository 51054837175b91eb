from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import pytest

from services.adapters.codec import decode_frame
from services.adapters.codec_outcome import decode_arrival
from services.adapters.memory import MemoryBroker, MemoryObjectStore, MemoryRecordWriter
from services.adapters.ports import Headers
from services.adapters.spool import Spool
from services.core import topics
from services.core.errors import InvalidInputError, UnavailableError
from services.core.outcome import Arrival
from services.core.types import ImageRef, RecordPosition
from services.ingest.entry import Receipt
from services.ingest.outbox import Outbox
from services.ingest.outgoing import Outgoing
from tests.unit.ingest.conftest import MakeOutbox, a_frame, wait_until

LARGE = b"\xff\xd8\xff" + b"x" * 200


class ToldWriter(MemoryRecordWriter):
    """Knows the order over all topics, and may refuse one topic for good."""

    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(broker)
        self.topics: list[str] = []
        self.never_takes = ""

    def send(self, topic: str, *, key: bytes, value: bytes, headers: Headers = ()) -> Future[RecordPosition]:
        self.topics.append(topic)
        if topic == self.never_takes:
            refused: Future[RecordPosition] = Future()
            refused.set_exception(InvalidInputError("a record must be one that this broker takes"))
            return refused
        return super().send(topic, key=key, value=value, headers=headers)


@pytest.fixture
def writer(broker: MemoryBroker) -> ToldWriter:
    return ToldWriter(broker)


def arrivals(broker: MemoryBroker) -> list[Arrival]:
    return [decode_arrival(record.value) for record in broker.records(topics.ARRIVALS)]


def parts(broker: MemoryBroker) -> list[str]:
    return [arrival.part_id for arrival in arrivals(broker)]


def frames(broker: MemoryBroker) -> list[int]:
    return [decode_frame(record.value).sequence for record in broker.records(topics.FRAMES)]


def submit(outbox: Outbox, *numbers: int, image: bytes = b"\xff\xd8\xffimage") -> list[Receipt]:
    receipts: list[Receipt] = []
    for number in numbers:
        outbox.submit(Outgoing(a_frame(number, image)), receipts.append)
    return receipts


def test_word_of_the_part_goes_ahead_of_each_frame(
    make_outbox: MakeOutbox, broker: MemoryBroker, writer: ToldWriter
) -> None:
    outbox = make_outbox()
    frame = replace(a_frame(1), cycle_time_ms=500, lot="L-7")
    outbox.submit(Outgoing(frame, (("traceparent", b"00-1"),)), lambda _: None)
    assert writer.topics == [topics.ARRIVALS, topics.FRAMES]
    (record,) = broker.records(topics.ARRIVALS)
    assert (record.key, list(record.headers)) == (b"p-1", [("traceparent", b"00-1")])
    assert decode_arrival(record.value) == Arrival(
        part_id="p-1",
        line_id="line-1",
        product="disc",
        arrived_at_ns=frame.captured_at_ns,
        cycle_time_ms=500,
        lot="L-7",
        camera_id="cam-1",
        frame_id=frame.frame_id,
    )
    outbox.close(1)


def test_a_refused_frame_s_part_is_told_of_with_the_reason(make_outbox: MakeOutbox, broker: MemoryBroker) -> None:
    outbox = make_outbox()
    outbox.submit(Outgoing(a_frame(1, b""), (), "at most 5 bytes, got 9", "image_too_large"), lambda _: None)
    outbox.submit(Outgoing(a_frame(2, b""), (), "x" * 9_000, "file_unreadable"), lambda _: None)
    assert [arrival.refusal for arrival in arrivals(broker)] == ["at most 5 bytes, got 9", "x" * 500]
    outbox.close(1)


def test_a_frame_that_the_broker_refuses_is_told_of_once_more_with_the_reason(
    make_outbox: MakeOutbox, broker: MemoryBroker
) -> None:
    broker.max_message_bytes = 500
    outbox = make_outbox()
    outbox.submit(Outgoing(a_frame(1, b"x" * 600)), lambda _: None)
    wait_until(lambda: len(broker.records(topics.dead_letter(topics.FRAMES))) == 1)
    assert arrivals(broker)[0].refusal == ""
    assert "at most 500 bytes" in arrivals(broker)[-1].refusal
    outbox.close(1)


def test_without_the_setting_no_part_is_told_of(make_outbox: MakeOutbox, broker: MemoryBroker) -> None:
    outbox = make_outbox(arrivals=False)
    assert submit(outbox, 1, 2) == [Receipt(spooled=False)] * 2
    broker.unavailable = True
    submit(outbox, 3)
    broker.unavailable = False
    wait_until(lambda: frames(broker) == [1, 2, 3])
    assert arrivals(broker) == []
    outbox.close(1)


def test_a_part_is_told_of_before_its_large_image_is_uploaded(
    make_outbox: MakeOutbox, broker: MemoryBroker, store: MemoryObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    told_before_the_upload: list[list[str]] = []
    put: Callable[..., ImageRef] = store.put

    def slow_put(*args: object, **named: object) -> ImageRef:
        told_before_the_upload.append(parts(broker))
        return put(*args, **named)

    monkeypatch.setattr(store, "put", slow_put)
    outbox = make_outbox(inline_limit_bytes=100)
    submit(outbox, 1, image=LARGE)
    assert told_before_the_upload == [["p-1"]]
    outbox.close(1)


def test_a_frame_is_safe_only_once_its_arrival_is_acknowledged_too(
    make_outbox: MakeOutbox, broker: MemoryBroker, writer: ToldWriter
) -> None:
    outbox = make_outbox(outage_after_s=30)
    writer.holding = True
    receipts = submit(outbox, 1)
    with writer._lock:
        (arrival, told), frame = writer._held
        writer._held = [(arrival, told)]
    frame[0].set_result(frame[1])
    assert receipts == []
    writer.release()
    assert receipts == [Receipt(spooled=False)]
    outbox.close(1)


def test_arrivals_and_frames_both_follow_an_outage_in_order(
    make_outbox: MakeOutbox, broker: MemoryBroker, writer: ToldWriter
) -> None:
    outbox = make_outbox()
    submit(outbox, 1)
    broker.unavailable = True
    receipts = submit(outbox, *range(2, 30))
    wait_until(lambda: len(receipts) == 28)
    assert parts(broker) == ["p-1"]
    broker.unavailable = False
    wait_until(lambda: not outbox.outage)
    submit(outbox, 30)
    assert frames(broker) == list(range(1, 31))
    assert parts(broker) == [f"p-{number}" for number in range(1, 31)]
    assert writer.topics[-2:] == [topics.ARRIVALS, topics.FRAMES]
    outbox.close(1)


def test_a_replay_of_the_spool_tells_the_same(make_outbox: MakeOutbox, broker: MemoryBroker, tmp_path: Path) -> None:
    frame = replace(a_frame(1), lot="L-7", cycle_time_ms=500)
    broker.unavailable = True
    first = make_outbox(spool=Spool(tmp_path / "q", max_bytes=100_000))
    first.submit(Outgoing(frame), lambda _: None)
    first.close(0.1)
    broker.unavailable = False
    second = make_outbox(spool=Spool(tmp_path / "q", max_bytes=100_000))
    second.submit(Outgoing(frame), lambda _: None)
    wait_until(lambda: not second.outage)
    assert len(broker.records(topics.ARRIVALS)) == 2
    assert len({record.value for record in broker.records(topics.ARRIVALS)}) == 1
    second.close(1)


def test_while_only_the_store_is_away_parts_are_told_of_at_once_and_once(
    make_outbox: MakeOutbox, broker: MemoryBroker, store: MemoryObjectStore
) -> None:
    outbox = make_outbox(inline_limit_bytes=100)
    store.unavailable = True
    receipts = submit(outbox, 1, 2, 3, 4, image=LARGE)
    assert receipts == [Receipt(spooled=True)] * 4
    assert (frames(broker), parts(broker)) == ([], ["p-1", "p-2", "p-3", "p-4"])
    store.unavailable = False
    wait_until(lambda: not outbox.outage)
    assert frames(broker) == [1, 2, 3, 4]
    assert parts(broker) == ["p-1", "p-2", "p-3", "p-4"]
    outbox.close(1)


def test_parts_wait_with_their_frames_when_the_broker_goes_away_after_the_store(
    make_outbox: MakeOutbox, broker: MemoryBroker, store: MemoryObjectStore
) -> None:
    outbox = make_outbox(inline_limit_bytes=100)
    store.unavailable = True
    submit(outbox, 1, image=LARGE)
    broker.unavailable = True
    submit(outbox, 2, 3, image=LARGE)
    assert parts(broker) == ["p-1"]
    store.unavailable = broker.unavailable = False
    wait_until(lambda: not outbox.outage)
    assert frames(broker) == [1, 2, 3]
    assert parts(broker) == ["p-1", "p-2", "p-3"]
    outbox.close(1)


def test_an_arrival_that_the_broker_never_takes_does_not_hold_up_the_frames(
    make_outbox: MakeOutbox, broker: MemoryBroker, writer: ToldWriter
) -> None:
    writer.never_takes = topics.ARRIVALS
    outbox = make_outbox()
    assert submit(outbox, 1) == [Receipt(spooled=False)]
    broker.unavailable = True
    submit(outbox, 2)
    broker.unavailable = False
    wait_until(lambda: frames(broker) == [1, 2])
    outbox.close(1)


def test_an_arrival_whose_acknowledgement_was_lost_comes_again_with_its_frame(
    make_outbox: MakeOutbox, broker: MemoryBroker, writer: ToldWriter
) -> None:
    outbox = make_outbox()
    writer.holding = True
    submit(outbox, 1)
    wait_until(lambda: outbox.outage)
    writer.holding = False
    writer.fail_held(UnavailableError("no answer"))
    wait_until(lambda: not outbox.outage)
    assert parts(broker) == ["p-1", "p-1"]
    assert frames(broker) == [1, 1]
    outbox.close(1)
