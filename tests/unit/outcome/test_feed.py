"""Outcomes to the lines, through outages: nothing left out, and what comes twice has the same ids."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import pytest

from services.adapters.codec_outcome import encode_outcome
from services.adapters.memory import MemoryBroker, MemoryTopicReader
from services.core import topics
from services.core.errors import InvalidInputError, UnavailableError
from services.core.outcome import Outcome
from services.outcome import feed as module
from services.outcome.feed import OutcomeFeed
from services.runtime.lifecycle import Shutdown
from tests.support.detector_line import wait_until
from tests.support.outcomes import outcome


class Bench:
    """A broker with outcomes, and a feed that reads them."""

    def __init__(self) -> None:
        self.broker = MemoryBroker(partitions=2)
        self.broker.partitions(topics.OUTCOMES)
        self.taken: list[Outcome] = []
        self.shutdown = Shutdown()
        self.opened = 0
        self.fails: Exception | None = None

    def write(self, *numbers: int) -> None:
        for number in numbers:
            one = outcome(number=number)
            self.broker.append(topics.OUTCOMES, key=one.part_id.encode(), value=encode_outcome(one))

    def start(self, lookback_s: float = 300.0, ahead_s: float = 0.0) -> OutcomeFeed:
        self.feed = OutcomeFeed(
            self._open,
            self._probe,
            self._take,
            lookback_s=lookback_s,
            clock_ns=lambda: time.time_ns() + round(ahead_s * 1e9),
        )
        assert self.feed.away == "nothing was read yet"
        self.feed.start(self.shutdown)
        return self.feed

    def _open(self) -> MemoryTopicReader:
        self.opened += 1
        return MemoryTopicReader(self.broker, [topics.OUTCOMES])

    def _probe(self) -> None:
        if self.broker.unavailable:
            raise UnavailableError("broker must answer at 127.0.0.1:1, got no answer")

    def _take(self, outcomes: Sequence[Outcome]) -> None:
        if self.fails is not None:
            raise self.fails
        self.taken += outcomes

    @property
    def parts(self) -> set[str]:
        return {one.part_id for one in self.taken}

    def stop(self) -> None:
        self.shutdown.request()
        self.feed.join(10)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(module, "_POLL_S", 0.01)
    monkeypatch.setattr(module, "_PROBE_EVERY_S", 0.02)
    bench = Bench()
    yield bench
    bench.stop()


def names(*numbers: int) -> set[str]:
    return {f"part-{number}" for number in numbers}


def test_outcomes_of_the_last_minutes_and_those_that_come_are_handed_on(bench: Bench) -> None:
    bench.write(1, 2)
    feed = bench.start()
    wait_until(lambda: bench.parts == names(1, 2), "those of before")
    bench.write(3)
    wait_until(lambda: bench.parts == names(1, 2, 3), "what comes")
    assert len(bench.taken) == 3
    assert feed.away == ""
    feed.check()


def test_what_is_older_than_it_looks_back_is_left(bench: Bench) -> None:
    bench.write(1)
    bench.start(lookback_s=10, ahead_s=60)
    wait_until(lambda: bench.feed.away == "", "it reads")
    bench.write(2)
    wait_until(lambda: bool(bench.taken), "what comes")
    assert bench.parts == names(2)


def test_while_the_broker_is_away_it_says_so_and_afterwards_nothing_is_left_out(bench: Bench) -> None:
    bench.write(1)
    feed = bench.start()
    wait_until(lambda: bench.parts == names(1), "the first")
    bench.broker.unavailable = True
    wait_until(lambda: "got no answer" in feed.away, "a silent line is not a silent broker")
    bench.write(2, 3)
    bench.broker.unavailable = False
    wait_until(lambda: bench.parts == names(1, 2, 3), "all of them")
    assert feed.away == ""
    assert bench.opened > 1
    assert len({one.outcome_id for one in bench.taken}) == 3, "what comes twice is the same"


def test_a_broker_that_is_not_there_at_the_start_is_waited_for(bench: Bench) -> None:
    bench.broker.unavailable = True
    feed = bench.start()
    wait_until(lambda: "got no answer" in feed.away, "it says so")
    bench.write(1)
    bench.broker.unavailable = False
    wait_until(lambda: bench.parts == names(1), "what was written meanwhile")


def test_a_reader_is_opened_anew_once_in_a_while(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REOPEN_EVERY_S", 0.02)
    bench.write(1)
    bench.start()
    wait_until(lambda: bench.opened >= 3, "it is opened again")
    bench.write(2)
    wait_until(lambda: bench.parts == names(1, 2), "and still reads")


def test_what_is_no_outcome_is_left_out(bench: Bench) -> None:
    bench.broker.append(topics.OUTCOMES, key=b"p", value=b"\xff")
    bench.write(1)
    feed = bench.start()
    wait_until(lambda: bench.parts == names(1), "the other")
    feed.check()


def test_what_ends_it_is_raised_to_whoever_checks(bench: Bench) -> None:
    bench.fails = InvalidInputError("a rule must hold, got one that does not")
    bench.write(1)
    feed = bench.start()
    wait_until(lambda: feed._failure is not None, "it ends")
    with pytest.raises(InvalidInputError, match="a rule must hold"):
        feed.check()
