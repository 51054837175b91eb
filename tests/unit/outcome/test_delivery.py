"""One receiver: everything in order, each until it has it, and nothing lost while it is away."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from services.adapters.codec_outcome import encode_line_event, encode_outcome
from services.adapters.memory import MemoryBroker, MemoryRecordConsumer, MemorySink
from services.adapters.ports import Record as KafkaRecord
from services.adapters.ports import TopicPartition
from services.core import topics
from services.core.errors import UnavailableError
from services.core.identity import line_event_id
from services.core.line_event import LineEvent, LineEventKind
from services.core.outcome import Outcome
from services.outcome.delivery import Delivery
from services.runtime.consumer import ConsumerLoop, LoopTimes
from services.runtime.lifecycle import Health, Shutdown
from tests.support.detector_line import wait_until
from tests.support.outcome_line import LINE, Clock, Record
from tests.support.outcomes import NOW_NS, S_NS, outcome

Kind = LineEventKind
OUT = TopicPartition(topics.OUTCOMES, 0)
EVENTS = TopicPartition(topics.LINE_EVENTS, 0)
ANSWERED = LineEvent(line_event_id(LINE, "plc", "answered", NOW_NS), LINE, NOW_NS, Kind.ANSWERED, part_id="part-1")


class Bench:
    """A delivery with its receiver, and the records of two topics with one partition each."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.clock.now_ns = NOW_NS + 60 * S_NS
        self.record = Record()
        self.sink = MemorySink()
        self.offsets = {OUT: 0, EVENTS: 0}
        self.delivery = Delivery(LINE, "mes", self.sink, max_age_s=3_600, tell=self.record.tell, clock_ns=self.clock)

    def records(self, *told: Outcome | LineEvent | bytes) -> list[KafkaRecord]:
        made = []
        for one in told:
            place = EVENTS if isinstance(one, LineEvent) else OUT
            if isinstance(one, bytes):
                value = one
            else:
                value = encode_outcome(one) if isinstance(one, Outcome) else encode_line_event(one)
            at_ms = NOW_NS // 1_000_000
            made.append(KafkaRecord(place.topic, place.partition, self.offsets[place], at_ms, b"key", value))
            self.offsets[place] += 1
        return made

    def take(self, *told: Outcome | LineEvent | bytes) -> None:
        self.delivery.take(self.records(*told))

    def done(self) -> None:
        assert self.delivery.settle(None, 10.0)

    @property
    def told(self) -> list[str]:
        return [one.part_id for one in self.sink.told]


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    bench.delivery.start()
    yield bench
    bench.delivery.close()
    bench.delivery.close()
    assert bench.sink.closed


def parts(*numbers: int, **changes: Any) -> list[Outcome]:
    return [outcome(number=number, **changes) for number in numbers]


def test_outcomes_and_events_are_delivered_in_order_and_may_then_be_committed(bench: Bench) -> None:
    bench.take(*parts(1, 2), ANSWERED, *parts(3))
    bench.done()
    assert bench.told == ["part-1", "part-2", "part-1", "part-3"]
    assert bench.delivery.committable() == {OUT: 3, EVENTS: 1}
    bench.delivery.committed({OUT: 3, EVENTS: 1})
    assert bench.delivery.committable() == {}
    assert (bench.delivery.waiting, bench.delivery.oldest_waiting_ms, bench.delivery.away) == (0, 0, "")
    assert bench.record.events == []


def test_while_the_receiver_is_away_all_waits_and_is_delivered_in_order_when_it_is_back(bench: Bench) -> None:
    bench.take(*parts(1))
    bench.done()
    bench.sink.unavailable = True
    bench.take(*parts(2, 3, 4))
    wait_until(lambda: bool(bench.delivery.away), "it is away")
    assert bench.delivery.waiting == 3
    assert bench.delivery.oldest_waiting_ms == 60_000
    assert bench.delivery.committable() == {OUT: 1}
    wait_until(lambda: bench.delivery._backoff.next_s() >= 0.2, "it was tried more than once")
    bench.sink.unavailable = False
    wait_until(lambda: not bench.delivery.away, "it is back")
    bench.done()
    assert bench.told == [f"part-{number}" for number in (1, 2, 3, 4)]
    assert bench.record.kinds == [Kind.CONNECTION_LOST, Kind.CONNECTION_BACK], "once each"
    lost, back = bench.record.events
    assert (lost.connection, back.connection) == ("mes", "mes")
    assert "must answer in time" in lost.detail


def test_what_waits_for_a_receiver_that_was_never_there_is_where_the_group_begins(bench: Bench) -> None:
    bench.sink.unavailable = True
    bench.offsets[OUT] = 7
    bench.take(*parts(1, 2))
    assert bench.delivery.committable() == {OUT: 7}
    bench.delivery.committed({OUT: 7})
    assert bench.delivery.committable() == {}


def test_a_receiver_that_is_away_holds_up_no_stop(bench: Bench) -> None:
    bench.sink.unavailable = True
    bench.take(*parts(1))
    assert bench.delivery.settle(None, 10.0)
    assert bench.told == []


def test_an_outcome_that_is_too_old_when_the_receiver_is_back_is_passed_over_and_on_record(bench: Bench) -> None:
    bench.sink.unavailable = True
    bench.take(*parts(1), ANSWERED)
    wait_until(lambda: bool(bench.delivery.away), "it is away")
    bench.clock.pass_time(4_000)
    bench.take(outcome(number=2, decided_at_ns=bench.clock.now_ns))
    bench.sink.unavailable = False
    wait_until(lambda: not bench.delivery.away, "it is back")
    bench.done()
    assert [type(one) for one in bench.sink.told] == [LineEvent, Outcome], "events are of use however old they are"
    assert bench.told == ["part-1", "part-2"]
    (event,) = bench.record.of(Kind.UNDELIVERED)
    assert (event.part_id, event.revision, event.detail) == ("part-1", 1, "it is older than 3600 s")
    assert bench.delivery.committable() == {OUT: 2, EVENTS: 1}


def test_what_the_receiver_refuses_is_passed_over_and_on_record(bench: Bench) -> None:
    one, other = parts(1, 2)
    bench.sink.refused = {one.outcome_id, ANSWERED.event_id}
    bench.take(one, ANSWERED, other)
    bench.done()
    assert bench.told == ["part-2"]
    (event,) = bench.record.events
    assert (event.kind, event.part_id) == (Kind.UNDELIVERED, "part-1")
    assert "must take" in event.detail
    assert bench.delivery.committable() == {OUT: 2, EVENTS: 1}


def test_what_other_lines_say_and_what_is_nothing_is_passed_over(bench: Bench) -> None:
    bench.take(*parts(1, line_id="line-2"), b"\xff", *parts(2))
    bench.done()
    assert bench.told == ["part-2"]
    assert bench.delivery.committable() == {OUT: 3}
    assert bench.record.events == []


def test_no_more_is_taken_than_may_wait(bench: Bench) -> None:
    bench.sink.unavailable = True
    assert bench.delivery.room() == 200
    bench.take(*parts(*range(1, 251)))
    assert bench.delivery.room() == 0
    assert bench.delivery.wait_for_room(0.01) == 0
    bench.sink.unavailable = False
    assert bench.delivery.wait_for_room(10.0) > 0
    wait_until(lambda: not bench.delivery.away, "it is back")
    bench.done()
    assert bench.told == [f"part-{number}" for number in range(1, 251)]


def test_partitions_that_leave_take_what_waits_with_them(bench: Bench) -> None:
    bench.sink.unavailable = True
    bench.take(*parts(1, 2), ANSWERED)
    wait_until(lambda: bool(bench.delivery.away), "it is away")
    bench.delivery.forget([OUT])
    assert bench.delivery.waiting == 1
    bench.sink.unavailable = False
    wait_until(lambda: not bench.delivery.away, "it is back")
    bench.done()
    assert bench.sink.told == [ANSWERED]
    assert bench.delivery.committable() == {EVENTS: 1}


class SlowSink(MemorySink):
    """Takes its time."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()
        self.go_on = threading.Event()

    def deliver(self, told: Outcome | LineEvent) -> None:
        self.begun.set()
        assert self.go_on.wait(10)
        super().deliver(told)


def test_a_partition_that_leaves_during_a_delivery_is_not_committed_by_it() -> None:
    bench = Bench()
    sink = SlowSink()
    delivery = Delivery(LINE, "mes", sink, max_age_s=3_600, tell=bench.record.tell, clock_ns=bench.clock)
    delivery.start()
    delivery.take(bench.records(*parts(1)))
    assert sink.begun.wait(10)
    assert not delivery.settle(None, 0.01), "it is under way"
    delivery.forget([OUT])
    sink.go_on.set()
    assert delivery.settle(None, 10.0)
    assert delivery.committable() == {}
    delivery.close()


def test_what_ends_the_delivery_is_raised_to_whoever_checks(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_told: object) -> None:
        raise OSError("no room on the disk")

    monkeypatch.setattr(bench.sink, "deliver", broken)
    bench.take(*parts(1))
    wait_until(lambda: bench.delivery._failure is not None, "the thread ends")
    with pytest.raises(OSError, match="no room"):
        bench.delivery.check()


class DyingSink(MemorySink):
    """Is killed with the service after some deliveries, before anything more is committed."""

    def __init__(self, told: list[Outcome | LineEvent], dies_after: int) -> None:
        super().__init__()
        self.told = told
        self.dies_at = len(told) + dies_after

    def deliver(self, told: Outcome | LineEvent) -> None:
        if len(self.told) >= self.dies_at:
            raise UnavailableError("killed")
        super().deliver(told)


def test_killed_again_and_again_every_outcome_is_delivered_in_order_of_their_first_delivery() -> None:
    broker = MemoryBroker(partitions=1)
    broker.create_topic(topics.LINE_EVENTS, 1)
    for one in parts(*range(1, 101)):
        broker.append(topics.OUTCOMES, key=one.part_id.encode(), value=encode_outcome(one))
    told: list[Outcome | LineEvent] = []
    record = Record()
    clock = Clock()
    clock.now_ns = NOW_NS + 60 * S_NS

    def live(sink: MemorySink, until: Any, *, kill: bool) -> None:
        consumer = MemoryRecordConsumer(broker, "outcome-line-1-mes")
        shutdown = Shutdown()
        delivery = Delivery(LINE, "mes", sink, max_age_s=3_600, tell=record.tell, clock_ns=clock)
        delivery.start()
        loop = ConsumerLoop(
            consumer,
            delivery,
            topics=[topics.OUTCOMES, topics.LINE_EVENTS],
            health=Health(),
            shutdown=shutdown,
            times=LoopTimes(poll_s=0.005, commit_every_s=0.005, drain_s=5.0),
        )
        thread = threading.Thread(target=loop.run, daemon=True)
        thread.start()
        wait_until(until, "its life is over")
        if kill:
            loop._commit = lambda **_: None  # type: ignore[method-assign]
        shutdown.request()
        thread.join(10)
        delivery.close()

    for dies_after in (1, 7, 13, 30):
        sink = DyingSink(told, dies_after)
        live(sink, lambda sink=sink: len(told) >= sink.dies_at, kill=True)
    last = MemorySink()
    last.told = told
    live(last, lambda: broker.committed("outcome-line-1-mes", OUT) == 100, kill=False)
    first_seen: Sequence[str] = list(dict.fromkeys(one.part_id for one in told))
    assert list(first_seen) == [f"part-{number}" for number in range(1, 101)]
