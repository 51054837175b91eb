from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from services.adapters.brokerprobe import tcp_probe
from services.adapters.codec import encode_inspection
from services.adapters.codec_explained import encode_explained_case
from services.adapters.codec_outcome import encode_line_event, encode_outcome
from services.adapters.memory import MemoryBroker, MemoryTopicReader
from services.core import topics
from services.core.errors import SettingsError, UnavailableError
from services.core.line_event import LineEventKind
from services.dashboard.components import Component, ComponentBoard, State
from services.dashboard.explanations import ExplanationIndex
from services.dashboard.feed import KAFKA, ExplanationFeed, OutcomeFeed, VerdictFeed
from services.dashboard.live import LiveModel
from services.dashboard.outcomes import OutcomeBook
from services.runtime.lifecycle import Health, Shutdown
from tests.support.explained import explained_case, explanation
from tests.support.lines import line_event, outcome
from tests.unit.dashboard.inspections import inspection


class Line:
    def __init__(self) -> None:
        self.broker = MemoryBroker()
        self.model = LiveModel()
        self.board = ComponentBoard([KAFKA])
        self.opened = 0

    def open_reader(self) -> MemoryTopicReader:
        self.opened += 1
        if self.broker.unavailable:
            raise UnavailableError("a broker must answer, got nothing")
        return MemoryTopicReader(self.broker, [topics.VERDICTS])

    def probe(self) -> None:
        if self.broker.unavailable:
            raise UnavailableError("a broker must answer, got nothing")

    def publish(self, *numbers: int) -> None:
        for number in numbers:
            value = encode_inspection(inspection(number))
            self.broker.append(topics.VERDICTS, key=str(number).encode(), value=value)

    def kafka(self) -> Component:
        return self.board.read()[0]

    @contextmanager
    def followed(self, lookback_s: float = 300) -> Iterator[None]:
        shutdown = Shutdown()
        feed = VerdictFeed(self.open_reader, self.probe, self.model, self.board, Health(), lookback_s=lookback_s)
        thread = threading.Thread(target=feed.run, args=(shutdown,))
        thread.start()
        try:
            yield
        finally:
            shutdown.request()
            thread.join(10)
            assert not thread.is_alive()


def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, "the condition must hold in time"
        time.sleep(0.005)


def test_the_last_minutes_and_what_comes_are_read() -> None:
    line = Line()
    line.publish(1, 2)
    with line.followed():
        until(lambda: line.model.revision == 2)
        line.publish(3)
        until(lambda: line.model.revision == 3)
        assert line.kafka().state is State.UP


def test_without_look_back_only_what_comes_is_read() -> None:
    line = Line()
    line.publish(1, 2)
    time.sleep(0.01)
    with line.followed(lookback_s=0):
        until(lambda: line.kafka().state is State.UP)
        line.publish(3)
        until(lambda: line.model.revision >= 1)
        assert line.model.revision == 1


def test_a_record_that_is_no_verdict_is_passed_over() -> None:
    line = Line()
    line.broker.append(topics.VERDICTS, key=b"x", value=b"\xff not a verdict")
    line.publish(1)
    with line.followed():
        until(lambda: line.model.revision == 1)


def test_an_outage_is_told_and_nothing_is_missed_or_doubled_after_it() -> None:
    line = Line()
    line.publish(1)
    with line.followed():
        until(lambda: line.model.revision == 1)
        line.broker.unavailable = True
        until(lambda: line.kafka().state is State.DOWN)
        assert "got nothing" in line.kafka().detail
        line.publish(2)
        line.broker.unavailable = False
        until(lambda: line.model.revision == 2)
        until(lambda: line.kafka().state is State.UP)
        assert line.opened >= 2


def test_a_broker_that_answers_without_the_topic_is_not_ready_rather_than_gone() -> None:
    line = Line()
    ready = threading.Event()

    def open_reader() -> MemoryTopicReader:
        if not ready.is_set():
            raise UnavailableError("topic must exist to read it, got none")
        return MemoryTopicReader(line.broker, [topics.VERDICTS])

    line.open_reader = open_reader  # type: ignore[method-assign]
    with line.followed():
        until(lambda: line.kafka().state is State.NOT_READY)
        ready.set()
        until(lambda: line.kafka().state is State.UP)


def test_a_probe_needs_addresses_it_can_use() -> None:
    for wrong in ("", "broker", "broker:", ":9092", "a:1,b"):
        with pytest.raises(SettingsError, match="host:port"):
            tcp_probe(wrong, 1.0)


def test_a_probe_finds_nobody_home() -> None:
    with pytest.raises(UnavailableError, match="a broker must answer"):
        tcp_probe("127.0.0.1:1", 0.5)()


class Explained:
    def __init__(self) -> None:
        self.broker = MemoryBroker()
        self.index = ExplanationIndex(max_cases=100, max_bytes=5_000_000)
        self.missing = False

    def open_reader(self) -> MemoryTopicReader:
        if self.missing or self.broker.unavailable:
            raise UnavailableError("topic must exist to read it, got none")
        return MemoryTopicReader(self.broker, [topics.EXPLAINED])

    def publish(self, *numbers: int) -> None:
        for number in numbers:
            value = encode_explained_case(explained_case(inspection(number), [explanation()]))
            self.broker.append(topics.EXPLAINED, key=b"cam-1", value=value)

    @contextmanager
    def followed(self) -> Iterator[None]:
        shutdown = Shutdown()
        feed = ExplanationFeed(self.open_reader, self.index, lookback_s=300)
        thread = threading.Thread(target=feed.run, args=(shutdown,))
        thread.start()
        try:
            yield
        finally:
            shutdown.request()
            thread.join(10)
            assert not thread.is_alive()


def test_explanations_are_read_and_broken_ones_passed_over() -> None:
    line = Explained()
    line.publish(1)
    line.broker.append(topics.EXPLAINED, key=b"x", value=b"\xff not an explained case")
    with line.followed():
        until(lambda: line.index.revision == 1)
        line.publish(2, 3)
        until(lambda: line.index.revision == 3)


def test_a_line_without_an_explainer_is_waited_for_and_nothing_is_doubled_after_an_outage() -> None:
    line = Explained()
    line.missing = True
    line.publish(1)
    with line.followed():
        time.sleep(0.1)
        line.missing = False
        until(lambda: line.index.revision == 1)
        line.broker.unavailable = True
        line.publish(2)
        line.broker.unavailable = False
        until(lambda: line.index.revision == 2)


def test_answers_and_events_are_read_from_their_topics_through_an_outage_and_past_what_is_none() -> None:
    broker, book, shutdown = MemoryBroker(), OutcomeBook(), Shutdown()

    def open_reader() -> MemoryTopicReader:
        if broker.unavailable:
            raise UnavailableError("a broker must answer, got nothing")
        return MemoryTopicReader(broker, [topics.OUTCOMES, topics.LINE_EVENTS])

    broker.unavailable = True
    feed = OutcomeFeed(open_reader, book, lookback_s=900)
    thread = threading.Thread(target=feed.run, args=(shutdown,))
    thread.start()
    try:
        broker.unavailable = False
        broker.append(topics.OUTCOMES, key=b"part-0", value=b"\xffnone")
        broker.append(topics.OUTCOMES, key=b"part-1", value=encode_outcome(outcome()))
        told = line_event(LineEventKind.ANSWERED, part_id="part-1")
        broker.append(topics.LINE_EVENTS, key=b"line-a", value=encode_line_event(told))
        until(lambda: book.revision == 2)
    finally:
        shutdown.request()
        thread.join(10)
    part = book.part("part-1")
    assert part is not None
    assert part.answered == told
