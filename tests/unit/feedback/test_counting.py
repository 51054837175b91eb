"""Counting verdicts on a broker in memory and a real index: each once, whatever dies or comes twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest

from services.adapters.caseindex import SqlCaseIndex
from services.adapters.codec import encode_inspection
from services.adapters.memory import MemoryBroker, MemoryRecordConsumer
from services.adapters.ports import RecordConsumer, VerdictToCount
from services.adapters.verdictcounts import SqlVerdictCounts
from services.core import topics
from services.core.errors import UnavailableError
from services.core.statistics import GroupBy, Span, StatisticsFilter, VerdictTally
from services.core.types import Inspection, Verdict
from services.feedback.counting import CountedConsumer, CountingThread, VerdictCounter
from services.runtime.consumer import ConsumerLoop, LoopTimes
from services.runtime.lifecycle import Health, Shutdown
from services.runtime.retry import Backoff
from tests.support.cases import queued_case

ALWAYS = Span(0, 4_000_000_000)


class FailingCounts(SqlVerdictCounts):
    """Counts that can be away, and that can lose the answer to a transaction that went through."""

    unavailable = False
    die_after_add = False
    additions = 0

    def add(self, verdicts: Sequence[VerdictToCount]) -> int:
        if self.unavailable:
            raise UnavailableError("the case index must answer, got 'disk is full'")
        counted = super().add(verdicts)
        self.additions += 1
        if self.die_after_add:
            raise UnavailableError("the case index must answer, got 'connection reset'")
        return counted


class Counting:
    """A counter with its loop on threads of their own."""

    def __init__(self, line: Line) -> None:
        self.health, self.shutdown = Health(), Shutdown()
        self.counter = VerdictCounter(
            line.counts,
            self.health,
            merge_after_s=7 * 86_400,
            keep_s=10**9,
            every_s=0.01,
            remembered=line.remembered,
            backoff=Backoff(first_s=0.01, cap_s=0.02),
        )
        self.consumer = MemoryRecordConsumer(line.broker, "statistics")
        self.thread = CountingThread(
            lambda: ConsumerLoop(
                CountedConsumer(self.consumer, line.counts, remembered=line.remembered),
                self.counter,
                topics=[topics.VERDICTS],
                health=self.health,
                shutdown=self.shutdown,
                times=LoopTimes(poll_s=0.01, room_s=0.01, commit_every_s=0.01, drain_s=5.0),
            ),
            self.shutdown,
            5.0,
        )
        self.counter.start()
        self.thread.start()

    def stop(self) -> None:
        self.shutdown.request()
        self.thread.close(10)
        self.counter.close()
        self.counter.check()
        self.thread.check()

    def crash(self) -> None:
        """Be gone without committing or leaving."""
        self.consumer.commit = lambda _offsets: None  # type: ignore[method-assign]
        self.counter.settle = lambda *_: False  # type: ignore[method-assign]
        self.counter.close()
        self.shutdown.request()
        self.consumer.crash()
        self.thread.close(10)


class Line:
    """Topic and index; counters come and go."""

    def __init__(self, remembered: int = 100) -> None:
        self.remembered = remembered
        self.broker = MemoryBroker(partitions=2)
        self.broker.create_topic(topics.VERDICTS, 2)
        self.index = SqlCaseIndex("sqlite://")
        self.counts = FailingCounts(self.index.database)
        self.running: list[Counting] = []

    def start(self) -> Counting:
        self.running.append(Counting(self))
        return self.running[-1]

    def say(self, *numbers: int, verdict: Verdict = Verdict.PASS, **changes: object) -> None:
        for number in numbers:
            self.write(replace(queued_case(number, verdict).inspection, **changes))

    def write(self, inspection: Inspection) -> None:
        self.broker.append(topics.VERDICTS, key=inspection.part_id.encode(), value=encode_inspection(inspection))

    @property
    def tally(self) -> VerdictTally:
        found = self.counts.read(StatisticsFilter(), ALWAYS, GroupBy.SPAN, None)
        return found[0].tally if found else VerdictTally()

    def committed(self) -> int:
        return sum(self.broker.committed("statistics", one) or 0 for one in self.broker.partitions(topics.VERDICTS))

    def counted_to(self) -> int:
        return sum(one.offset for one in self.counts.counted_to(topics.VERDICTS).values())

    def stop(self) -> None:
        for one in self.running:
            one.stop()
        self.index.close()


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line()
    yield made
    made.stop()


def wait_until(holds: Callable[[], bool], what: str, timeout_s: float = 10.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end_s, what
        time.sleep(0.005)


def test_verdicts_are_counted_and_their_offsets_committed(line: Line) -> None:
    line.say(*range(20))
    line.say(20, 21, verdict=Verdict.FAIL, in_time=False)
    line.start()
    wait_until(lambda: line.committed() == 22, "all offsets are committed")
    assert line.tally == VerdictTally(passed=20, failed=2, late=2)


def test_a_frame_that_is_said_twice_counts_with_its_first_verdict(line: Line) -> None:
    line.say(1, 2, 3)
    line.say(2, verdict=Verdict.FAIL)
    line.say(3, model_version=9)
    line.say(3, alias="second")
    line.start()
    wait_until(lambda: line.committed() == 6, "all offsets are committed")
    # Of another alias it is another inspection; of another version of the same one it is the same.
    assert line.tally == VerdictTally(passed=4)


def test_a_frame_that_is_said_again_after_a_restart_is_still_recognised(line: Line) -> None:
    line.say(1, 2, 3)
    first = line.start()
    wait_until(lambda: line.committed() == 3, "all offsets are committed")
    first.stop()
    line.say(2, 3, 4)
    line.start()
    wait_until(lambda: line.committed() == 6, "all offsets are committed")
    assert line.tally.passed == 4


def test_what_lies_further_back_than_is_remembered_counts_again() -> None:
    line = Line(remembered=1)
    line.say(1, part_id="same")
    line.say(*range(2, 10), part_id="same")
    line.say(1, part_id="same")
    line.start()
    wait_until(lambda: line.committed() == 10, "all offsets are committed")
    assert line.tally.passed == 10
    line.stop()


def test_dying_between_the_counts_and_the_commit_counts_nothing_twice(line: Line) -> None:
    line.say(*range(50))
    first = line.start()
    first.consumer.commit = lambda _offsets: None  # type: ignore[method-assign]
    wait_until(lambda: line.tally.passed == 50, "all are counted")
    assert line.committed() == 0
    first.crash()
    line.running.clear()
    line.say(*range(50, 60))
    line.start()
    wait_until(lambda: line.committed() == 60, "all offsets are committed")
    assert line.tally.passed == 60


def test_a_lost_answer_to_a_transaction_counts_nothing_twice(line: Line) -> None:
    line.counts.die_after_add = True
    line.say(*range(30))
    line.start()
    wait_until(lambda: line.counts.additions >= 2, "it is tried again")
    line.counts.die_after_add = False
    wait_until(lambda: line.committed() == 30, "all offsets are committed")
    assert line.tally.passed == 30


def test_an_index_that_is_away_is_waited_for_and_the_service_is_told(line: Line) -> None:
    line.counts.unavailable = True
    line.say(*range(10))
    counting = line.start()
    wait_until(lambda: counting.counter.room() == 0, "no more is taken")
    assert line.tally == VerdictTally()
    line.counts.unavailable = False
    wait_until(lambda: line.committed() == 10, "all offsets are committed")
    assert (line.tally.passed, counting.counter.room() > 0) == (10, True)


def test_what_is_no_verdict_is_passed_over(line: Line) -> None:
    line.broker.append(topics.VERDICTS, key=b"x", value=b"\xff not a verdict")
    line.say(1)
    line.start()
    wait_until(lambda: line.committed() == 2, "all offsets are committed")
    assert line.tally.passed == 1


def test_a_fresh_index_is_counted_from_the_topic_s_beginning_whatever_the_group_has_committed(line: Line) -> None:
    line.say(*range(12))
    first = line.start()
    wait_until(lambda: line.committed() == 12, "all offsets are committed")
    first.stop()
    line.running.clear()
    line.index.close()
    line.index = SqlCaseIndex("sqlite://")
    line.counts = FailingCounts(line.index.database)
    line.start()
    wait_until(lambda: line.tally.passed == 12, "all are counted again")


def test_partitions_that_move_between_two_counters_are_counted_once(line: Line) -> None:
    stop = threading.Event()
    said = 0

    def speak() -> None:
        nonlocal said
        while not stop.wait(0.001):
            line.say(said)
            said += 1

    line.start()
    speaker = threading.Thread(target=speak)
    speaker.start()
    wait_until(lambda: line.tally.passed > 20, "counting has begun")
    second = line.start()
    wait_until(lambda: bool(second.consumer.assignment()), "a partition moves")
    before = line.tally.passed
    wait_until(lambda: line.tally.passed > before + 20, "counting goes on")
    second.stop()
    line.running.remove(second)
    stop.set()
    speaker.join()
    wait_until(lambda: line.counted_to() == said, "all are counted")
    assert line.tally.passed == said


def test_what_ends_the_loop_is_raised_for_the_service_to_end() -> None:
    class Broken:
        def subscribe(self, *_: object) -> None:
            raise RuntimeError("no such group")

        def close(self) -> None:
            pass

    def make_loop() -> ConsumerLoop:
        consumer: RecordConsumer = Broken()  # type: ignore[assignment]
        counter = VerdictCounter(Line().counts, Health(), merge_after_s=1, keep_s=1)
        return ConsumerLoop(consumer, counter, topics=["t"], health=Health(), shutdown=shutdown)

    shutdown = Shutdown()
    thread = CountingThread(make_loop, shutdown, 1.0)
    thread.start()

    def failed() -> bool:
        try:
            thread.check()
        except RuntimeError:
            return True
        return False

    wait_until(failed, "the failure is told")
