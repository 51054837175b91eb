"""The loop that owns a consumer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import pytest

from services.adapters.memory import MemoryBroker, MemoryRecordConsumer
from services.adapters.ports import Record, TopicPartition
from services.core.errors import UnavailableError
from services.runtime.consumer import ConsumerLoop, LoopTimes
from services.runtime.lifecycle import Health, Shutdown
from tests.support.detector_line import wait_until

TIMES = LoopTimes(
    poll_s=0.01, room_s=0.01, commit_every_s=0.01, settle_on_revoke_s=0.2, drain_s=0.5, probe_every_s=0.05
)


class Recorder:
    """A processor that settles at once, or when it is told to."""

    def __init__(self) -> None:
        self.taken: list[Record] = []
        self.free = 100
        self.settling = True
        self.failure: Exception | None = None
        self.forgotten: list[TopicPartition] = []
        self.settled_for: list[Collection[TopicPartition] | None] = []
        self._committed: dict[TopicPartition, int] = {}

    def check(self) -> None:
        if self.failure is not None:
            raise self.failure

    def room(self) -> int:
        return self.free

    def wait_for_room(self, timeout_s: float) -> int:
        return self.free

    def take(self, records: Sequence[Record]) -> None:
        self.taken.extend(records)

    def committable(self) -> Mapping[TopicPartition, int]:
        if not self.settling:
            return {}
        ends = {record.topic_partition: record.offset + 1 for record in self.taken}
        return {partition: at for partition, at in ends.items() if self._committed.get(partition) != at}

    def committed(self, offsets: Mapping[TopicPartition, int]) -> None:
        self._committed.update(offsets)

    def settle(self, partitions: Collection[TopicPartition] | None, timeout_s: float) -> bool:
        self.settled_for.append(partitions)
        return self.settling

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        self.forgotten.extend(partitions)


class Stage:
    def __init__(self) -> None:
        self.broker = MemoryBroker(partitions=2)
        self.broker.create_topic("in", 2)
        self.consumer = MemoryRecordConsumer(self.broker, "group")
        self.processor = Recorder()
        self.health = Health()
        self.health.set_ready(True)
        self.shutdown = Shutdown()
        self.paused: list[bool] = []
        self.lag: list[int] = []
        self.errors: list[BaseException] = []
        self.polls = 0
        self._poll = self.consumer.poll
        self.consumer.poll = self._counting  # type: ignore[method-assign]
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _counting(self, *, max_records: int, timeout_s: float) -> list[Record]:
        self.polls += 1
        return self._poll(max_records=max_records, timeout_s=timeout_s)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        loop = ConsumerLoop(
            self.consumer,
            self.processor,
            topics=["in"],
            health=self.health,
            shutdown=self.shutdown,
            times=TIMES,
            max_records=7,
            on_lag=self.lag.append,
            on_paused=self.paused.append,
        )
        try:
            loop.run()
        except Exception as error:  # noqa: BLE001 - looked at by the test
            self.errors.append(error)

    def send(self, count: int) -> None:
        for number in range(count):
            self.broker.append("in", key=str(number).encode(), value=b"x")

    def committed(self) -> int:
        return sum(self.broker.committed("group", each) or 0 for each in self.broker.partitions("in"))

    def end(self) -> None:
        self.shutdown.request()
        self._thread.join(5)
        assert not self._thread.is_alive()


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.end()


def met(condition: Callable[[], bool], what: str) -> None:
    wait_until(condition, what, 5.0)


def test_settled_records_are_committed(stage: Stage) -> None:
    stage.start()
    stage.send(20)
    met(lambda: len(stage.processor.taken) == 20, "all taken")
    met(lambda: stage.committed() == 20, "all committed")


def test_unsettled_records_are_not_committed_when_the_loop_ends(stage: Stage) -> None:
    stage.processor.settling = False
    stage.start()
    stage.send(5)
    met(lambda: len(stage.processor.taken) == 5, "all taken")
    stage.end()
    assert stage.committed() == 0


def test_a_full_processor_pauses_the_partitions_and_the_membership_lives(stage: Stage) -> None:
    stage.processor.free = 0
    stage.start()
    met(lambda: stage.paused == [True] and len(stage.consumer.assignment()) == 2, "paused with its partitions")
    stage.send(20)
    polls = stage.polls
    met(lambda: stage.polls > polls + 3, "polling goes on")
    assert not stage.processor.taken
    assert len(stage.consumer.assignment()) == 2

    stage.processor.free = 100

    met(lambda: len(stage.processor.taken) == 20, "all taken")
    assert stage.paused == [True, False]


def test_no_poll_brings_more_than_there_is_room_for(stage: Stage) -> None:
    stage.processor.free = 3
    asked: list[int] = []
    poll = stage.consumer.poll

    def noting(*, max_records: int, timeout_s: float) -> list[Record]:
        asked.append(max_records)
        return poll(max_records=max_records, timeout_s=timeout_s)

    stage.consumer.poll = noting  # type: ignore[method-assign]
    stage.start()
    stage.send(10)
    met(lambda: len(stage.processor.taken) == 10, "all taken")
    assert set(asked) == {3}


def test_partitions_that_leave_are_settled_committed_and_forgotten(stage: Stage) -> None:
    stage.start()
    stage.send(10)
    met(lambda: len(stage.processor.taken) == 10, "all taken")
    other = MemoryRecordConsumer(stage.broker, "group")
    other.subscribe(["in"], _Nobody())
    stage.processor.forgotten.clear()
    met(lambda: len(stage.processor.forgotten) == 1, "one partition left")
    assert stage.committed() == 10
    assert stage.processor.settled_for[-1] == stage.processor.forgotten
    other.crash()


def test_a_broker_that_does_not_take_commits_is_waited_for(stage: Stage) -> None:
    commit = stage.consumer.commit

    def away(_offsets: Mapping[TopicPartition, int]) -> None:
        raise UnavailableError("the broker must answer, it does not")

    stage.consumer.commit = away  # type: ignore[method-assign]
    stage.start()
    stage.send(4)
    met(lambda: not stage.health.ready, "not ready")
    stage.consumer.commit = commit  # type: ignore[method-assign]
    met(lambda: stage.committed() == 4, "committed after all")
    met(lambda: stage.health.ready, "ready again")


def test_an_idle_loop_learns_that_the_broker_is_away(stage: Stage) -> None:
    stage.start()
    stage.send(4)
    met(lambda: stage.committed() == 4, "all committed")
    stage.broker.unavailable = True
    met(lambda: not stage.health.ready, "not ready")
    stage.broker.unavailable = False
    met(lambda: stage.health.ready, "ready again")


def test_what_ends_the_processor_ends_the_loop_and_the_group_is_left(stage: Stage) -> None:
    stage.start()
    met(lambda: bool(stage.consumer.assignment()), "assigned")
    stage.processor.failure = RuntimeError("broken")
    met(lambda: bool(stage.errors), "the loop ended")
    assert str(stage.errors[0]) == "broken"
    assert not stage.consumer.assignment()


def test_draining_says_not_ready_first(stage: Stage) -> None:
    ready_at_settle: list[bool] = []
    settle = stage.processor.settle

    def noting(partitions: Collection[TopicPartition] | None, timeout_s: float) -> bool:
        ready_at_settle.append(stage.health.ready)
        return settle(partitions, timeout_s)

    stage.processor.settle = noting  # type: ignore[method-assign]
    stage.start()
    stage.send(3)
    met(lambda: len(stage.processor.taken) == 3, "taken")
    stage.end()
    assert ready_at_settle == [False]
    assert stage.committed() == 3


class _Nobody:
    def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        pass

    def on_assigned(self, partitions: Sequence[TopicPartition]) -> None:
        pass
