from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from services.adapters.codec import decode_frame
from services.adapters.memory import MemoryBroker, MemoryObjectStore, MemoryRecordWriter
from services.adapters.spool import Spool
from services.core import topics
from services.core.errors import UnavailableError
from services.ingest.entry import Receipt
from services.ingest.outbox import ClosedError, Outbox
from services.ingest.outgoing import Outgoing
from tests.unit.ingest.conftest import MakeOutbox, a_frame, wait_until


def sequences(broker: MemoryBroker) -> list[int]:
    return [decode_frame(record.value).sequence for record in broker.records(topics.FRAMES)]


def submit(outbox: Outbox, *numbers: int) -> list[Receipt]:
    receipts: list[Receipt] = []
    for number in numbers:
        outbox.submit(Outgoing(a_frame(number)), receipts.append)
    return receipts


def test_a_frame_goes_straight_when_all_is_well(make_outbox: MakeOutbox, broker: MemoryBroker) -> None:
    outbox = make_outbox()
    assert submit(outbox, 1, 2, 3) == [Receipt(spooled=False)] * 3
    assert sequences(broker) == [1, 2, 3]
    assert {record.key for record in broker.records(topics.FRAMES)} == {b"cam-1"}
    outbox.close(1)


def test_frames_wait_on_disk_while_the_broker_is_away_and_follow_in_order(
    make_outbox: MakeOutbox, broker: MemoryBroker, spool: Spool
) -> None:
    outbox = make_outbox()
    submit(outbox, 1)
    broker.unavailable = True
    receipts = submit(outbox, *range(2, 30))
    wait_until(lambda: len(receipts) == 28)
    assert receipts[-1] == Receipt(spooled=True)
    assert outbox.outage
    assert sequences(broker) == [1]
    broker.unavailable = False
    wait_until(lambda: not outbox.outage)
    submit(outbox, 30, 31)
    assert sequences(broker) == list(range(1, 32))
    assert (len(spool), spool.size_bytes) == (0, 0)
    outbox.close(1)


def test_an_object_store_that_is_away_holds_large_images_back_and_loses_none(
    make_outbox: MakeOutbox, broker: MemoryBroker, store: MemoryObjectStore
) -> None:
    outbox = make_outbox(inline_limit_bytes=100)
    store.unavailable = True
    receipts: list[Receipt] = []
    for number in range(1, 6):
        outbox.submit(Outgoing(a_frame(number, b"\xff\xd8\xff" + b"x" * 200)), receipts.append)
    assert receipts == [Receipt(spooled=True)] * 5
    assert broker.records(topics.FRAMES) == []
    store.unavailable = False
    wait_until(lambda: not outbox.outage)
    frames = [decode_frame(record.value) for record in broker.records(topics.FRAMES)]
    assert [frame.sequence for frame in frames] == [1, 2, 3, 4, 5]
    for frame in frames:
        assert frame.image_ref is not None
        assert store.get(frame.image_ref.key) == b"\xff\xd8\xff" + b"x" * 200
        assert frame.image_ref.key.startswith("frames/line-1/cam-1/")
        assert frame.image_ref.key.endswith(f"/{frame.frame_id}.jpg")
    outbox.close(1)


@pytest.mark.parametrize("image_bytes", range(600, 1_001, 50))
def test_the_inline_limit_is_a_limit_on_the_whole_message(
    make_outbox: MakeOutbox, broker: MemoryBroker, image_bytes: int
) -> None:
    outbox = make_outbox(inline_limit_bytes=1_000)
    outbox.submit(Outgoing(a_frame(1, b"x" * image_bytes), (("trace", b"y" * 50),)), lambda _: None)
    (record,) = broker.records(topics.FRAMES)
    size = len(record.value) + len(record.key) + sum(len(name) + len(value) for name, value in record.headers)
    assert size <= 1_000
    assert (decode_frame(record.value).image is None) == (image_bytes > 850)
    outbox.close(1)


def test_an_empty_image_travels_inline_whatever_the_limit(make_outbox: MakeOutbox, broker: MemoryBroker) -> None:
    outbox = make_outbox(inline_limit_bytes=0)
    outbox.submit(Outgoing(a_frame(1, b"")), lambda _: None)
    assert decode_frame(broker.records(topics.FRAMES)[0].value).image == b""
    outbox.close(1)


def test_a_refused_frame_goes_to_the_dead_letters_with_the_reason(
    make_outbox: MakeOutbox, broker: MemoryBroker
) -> None:
    outbox = make_outbox()
    outbox.submit(Outgoing(a_frame(1, b""), (), "at most 5 bytes, got 9", "image_too_large"), lambda _: None)
    (record,) = broker.records(topics.dead_letter(topics.FRAMES))
    headers = dict(record.headers)
    assert headers["reason"] == b"image_too_large"
    assert headers["detail"] == b"at most 5 bytes, got 9"
    assert decode_frame(record.value).sequence == 1
    assert broker.records(topics.FRAMES) == []
    outbox.close(1)


def test_a_record_that_the_broker_never_takes_does_not_hold_up_the_line(
    make_outbox: MakeOutbox, broker: MemoryBroker
) -> None:
    broker.max_message_bytes = 500
    outbox = make_outbox()
    outbox.submit(Outgoing(a_frame(1, b"x" * 600)), lambda _: None)
    wait_until(lambda: len(broker.records(topics.dead_letter(topics.FRAMES))) == 1)
    submit(outbox, 2)
    wait_until(lambda: sequences(broker) == [2])
    outbox.close(1)


def test_without_an_acknowledgement_frames_become_safe_on_disk_and_none_arrives_twice(
    make_outbox: MakeOutbox, broker: MemoryBroker, writer: MemoryRecordWriter
) -> None:
    outbox = make_outbox(in_flight_frames=3)
    writer.holding = True
    receipts = submit(outbox, 1, 2, 3)
    assert receipts == []
    wait_until(lambda: len(receipts) == 3, "an outage")
    assert receipts == [Receipt(spooled=True)] * 3
    more = submit(outbox, 4)
    writer.release()
    wait_until(lambda: not outbox.outage)
    assert more == [Receipt(spooled=True)]
    assert sequences(broker) == [1, 2, 3, 4]
    outbox.close(1)


def test_frames_whose_acknowledgement_was_lost_arrive_again_with_the_same_id(
    make_outbox: MakeOutbox, broker: MemoryBroker, writer: MemoryRecordWriter
) -> None:
    outbox = make_outbox()
    writer.holding = True
    submit(outbox, 1, 2)
    wait_until(lambda: outbox.outage)
    writer.holding = False
    writer.fail_held(UnavailableError("no answer"))
    wait_until(lambda: not outbox.outage)
    assert sequences(broker) == [1, 2, 1, 2]
    assert len({decode_frame(record.value).frame_id for record in broker.records(topics.FRAMES)}) == 2
    outbox.close(1)


def test_a_full_spool_that_blocks_holds_the_camera_up_and_nothing_is_lost(
    make_outbox: MakeOutbox, broker: MemoryBroker, tmp_path: Path
) -> None:
    outbox = make_outbox(spool=Spool(tmp_path / "small", max_bytes=1_000), in_flight_frames=2)
    broker.unavailable = True
    receipts: list[Receipt] = []
    feeder = threading.Thread(
        target=lambda: [outbox.submit(Outgoing(a_frame(n)), receipts.append) for n in range(1, 21)], daemon=True
    )
    feeder.start()
    wait_until(lambda: len(receipts) > 2)
    feeder.join(0.5)
    assert feeder.is_alive()
    assert len(receipts) < 10
    broker.unavailable = False
    feeder.join(10)
    assert not feeder.is_alive()
    wait_until(lambda: sequences(broker) == list(range(1, 21)))
    outbox.close(1)


def test_a_full_spool_that_drops_goes_on_with_the_newest(
    make_outbox: MakeOutbox, broker: MemoryBroker, tmp_path: Path
) -> None:
    spool = Spool(tmp_path / "small", max_bytes=2_000, policy="drop-oldest")
    outbox = make_outbox(spool=spool)
    broker.unavailable = True
    receipts = submit(outbox, *range(1, 51))
    wait_until(lambda: len(receipts) == 50)
    assert spool.dropped > 0
    broker.unavailable = False
    wait_until(lambda: not outbox.outage)
    assert sequences(broker) == list(range(51 - len(sequences(broker)), 51))
    assert len(sequences(broker)) == 50 - spool.dropped
    outbox.close(1)


def test_what_an_earlier_run_left_on_disk_goes_first(
    make_outbox: MakeOutbox, broker: MemoryBroker, tmp_path: Path
) -> None:
    broker.unavailable = True
    first = make_outbox(spool=Spool(tmp_path / "q", max_bytes=100_000))
    receipts = submit(first, 1, 2, 3)
    wait_until(lambda: len(receipts) == 3)
    # What is on disk at this moment is what a kill -9 would leave.
    shutil.copytree(tmp_path / "q", tmp_path / "left")
    first.close(0.1)
    broker.unavailable = False
    second = make_outbox(spool=Spool(tmp_path / "left", max_bytes=100_000))
    submit(second, 4)
    wait_until(lambda: not second.outage)
    assert sequences(broker) == [1, 2, 3, 4]
    second.close(1)


def test_closing_puts_on_disk_what_is_not_acknowledged(
    make_outbox: MakeOutbox, writer: MemoryRecordWriter, tmp_path: Path
) -> None:
    outbox = make_outbox(outage_after_s=30, spool=Spool(tmp_path / "q", max_bytes=100_000))
    writer.holding = True
    receipts = submit(outbox, 1, 2)
    outbox.close(0.1)
    assert receipts == [Receipt(spooled=True)] * 2
    assert len(Spool(tmp_path / "q", max_bytes=100_000)) == 2
    with pytest.raises(ClosedError):
        submit(outbox, 3)


def test_a_spooled_frame_that_cannot_be_read_does_not_hold_up_the_rest(
    make_outbox: MakeOutbox, broker: MemoryBroker, tmp_path: Path
) -> None:
    spool = Spool(tmp_path / "q", max_bytes=100_000)
    spool.append(b"\x00\x00\x00\x02{}not a frame")
    outbox = make_outbox(spool=spool)
    submit(outbox, 1)
    wait_until(lambda: sequences(broker) == [1])
    outbox.close(1)
