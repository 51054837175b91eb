"""Arrivals and verdicts in, outcomes out: what may be committed, what is said again, and what a restart may not do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import pytest
from prometheus_client import REGISTRY

from services.adapters.codec import encode_inspection
from services.adapters.codec_outcome import decode_outcome, encode_arrival
from services.adapters.memory import MemoryBroker, MemoryRecordConsumer, MemoryRecordWriter, MemoryTopicReader
from services.adapters.ports import TopicPartition
from services.core import topics
from services.core.errors import InvalidInputError, UnavailableError
from services.core.joining import JoinLimits
from services.core.outcome import Arrival, Outcome, OutcomeReason
from services.core.types import Inspection, Verdict
from services.outcome.pipeline import OutcomePipeline
from services.runtime.consumer import ConsumerLoop, LoopTimes
from services.runtime.lifecycle import Health, Shutdown
from tests.support.detector_line import wait_until
from tests.support.outcome_line import CAMERAS, LINE, PLANS, Clock, arrival, inspection

Offsets = dict[TopicPartition, int]


class Bench:
    """A broker, and processes on it that live one after the other or side by side."""

    def __init__(self, partitions: int = 2) -> None:
        self.broker = MemoryBroker(partitions=partitions)
        self.writer = MemoryRecordWriter(self.broker)
        self.clock = Clock()
        self.began_ns = self.clock.now_ns
        self.committed: Offsets = {}
        self.lives: list[Life] = []

    def write(self, *told: Arrival | Inspection) -> None:
        for one in told:
            topic = topics.ARRIVALS if isinstance(one, Arrival) else topics.VERDICTS
            value = encode_arrival(one) if isinstance(one, Arrival) else encode_inspection(one)
            self.broker.append(topic, key=one.part_id.encode(), value=value)

    def arrive(self, *part_ids: str) -> None:
        """Both cameras see parts, when the bench began."""
        self.write(*(arrival(part, camera, at_ns=self.began_ns) for part in part_ids for camera in CAMERAS))

    def judge(self, part_id: str, *cameras: str, verdict: Verdict = Verdict.PASS) -> None:
        """Pictures of a part get their verdicts."""
        self.write(*(inspection(part_id, one, verdict, at_ns=self.began_ns) for one in cameras or CAMERAS))

    def life(self, **more: object) -> Life:
        one = Life(self, **more)
        self.lives.append(one)
        return one

    def outcomes(self) -> list[Outcome]:
        return [decode_outcome(record.value) for record in self.broker.records(topics.OUTCOMES)]

    def said(self) -> list[tuple[str, int, Verdict]]:
        return [(one.part_id, one.revision, one.verdict) for one in self.outcomes()]

    def partitions(self) -> list[TopicPartition]:
        return [one for name in (topics.ARRIVALS, topics.VERDICTS) for one in self.broker.partitions(name)]

    def stop(self) -> None:
        for life in self.lives:
            life.kill()


class Life:
    """One process: its pipeline, and how far it has read; it begins where the one before committed."""

    def __init__(
        self,
        bench: Bench,
        *,
        answers_since: Callable[[int], Iterable[Outcome]] | None = None,
        limits: JoinLimits | None = None,
        **more: object,
    ) -> None:
        self._bench = bench
        self._at = dict(bench.committed)
        self.health = Health()
        self.health.set_ready(True)
        self.pipeline = OutcomePipeline(
            PLANS,
            limits or JoinLimits(),
            bench.writer,
            answers_since or self.answers_since,
            self.health,
            clock_ns=bench.clock,
            **more,  # type: ignore[arg-type]
        )
        self.pipeline.start()

    def answers_since(self, since_ms: int) -> Iterator[Outcome]:
        reader = MemoryTopicReader(self._bench.broker, [topics.OUTCOMES])
        reader.seek_to_time(since_ms)
        for record in reader.read_to_end(1.0):
            yield decode_outcome(record.value)

    def read(self, *names: str) -> None:
        """Take what is there, of these topics or both."""
        for partition in self._bench.partitions():
            if not names or partition.topic in names:
                records = self._bench.broker.read(partition, self._at.get(partition, 0), 1_000)
                if records:
                    self._at[partition] = records[-1].offset + 1
                    self.pipeline.take(records)

    def commit(self) -> Offsets:
        """Commit what may be; what is committed now."""
        offsets = dict(self.pipeline.committable())
        self._bench.committed |= offsets
        self.pipeline.committed(offsets)
        return self._bench.committed

    def settled(self) -> Offsets:
        """Commit, once nothing is on its way."""
        assert self.pipeline.settle(None, 10.0)
        return self.commit()

    def unsettled(self) -> int:
        """Records that were read and are not committed."""
        at = self.commit()
        return sum(self._at.get(one, 0) - at.get(one, 0) for one in self._bench.partitions())

    def kill(self) -> None:
        self.pipeline.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.stop()


@pytest.fixture
def single() -> Iterator[Bench]:
    """With one partition: all parts in the order in which they came."""
    single = Bench(partitions=1)
    yield single
    single.stop()


def test_a_part_is_answered_once_its_views_are_in_and_then_its_records_are_committed(bench: Bench) -> None:
    life = bench.life()
    bench.arrive("p1")
    bench.judge("p1", "left")
    life.read()
    assert bench.outcomes() == []
    assert life.unsettled() == 3
    bench.judge("p1", "right", verdict=Verdict.FAIL)
    life.read()
    life.settled()
    assert bench.said() == [("p1", 1, Verdict.FAIL)]
    assert life.unsettled() == 0
    assert life.pipeline.committable() == {}


def test_nothing_is_committed_past_the_first_part_that_waits(single: Bench) -> None:
    life = single.life()
    single.arrive("p1", "p2", "p3")
    single.judge("p1")
    single.judge("p3")
    life.read()
    assert life.settled() == {TopicPartition(topics.ARRIVALS, 0): 2, TopicPartition(topics.VERDICTS, 0): 4}
    single.judge("p2")
    life.read()
    assert life.settled() == {TopicPartition(topics.ARRIVALS, 0): 6, TopicPartition(topics.VERDICTS, 0): 6}


def test_a_view_that_comes_late_supersedes_what_was_said(bench: Bench) -> None:
    life = bench.life()
    bench.arrive("p1")
    bench.judge("p1", "left")
    life.read()
    bench.clock.pass_time(1.1)
    wait_until(lambda: len(bench.outcomes()) == 1, "the answer at the deadline")
    bench.judge("p1", "right")
    life.read()
    life.settled()
    assert bench.said() == [("p1", 1, Verdict.REVIEW), ("p1", 2, Verdict.PASS)]
    first, second = bench.outcomes()
    assert (first.reason, second.reason) == (OutcomeReason.DEADLINE_MISSED, OutcomeReason.VIEWS)
    assert not second.in_time
    assert life.unsettled() == 0


def test_a_deadline_is_kept_without_any_record_coming(bench: Bench) -> None:
    life = bench.life()
    bench.arrive("p1")
    life.read()
    bench.clock.pass_time(0.96)
    assert bench.outcomes() == []
    bench.clock.pass_time(0.01)
    wait_until(lambda: bench.said() == [("p1", 1, Verdict.REVIEW)], "the answer 30 ms before the deadline")
    assert bench.outcomes()[0].in_time
    wait_until(lambda: life.unsettled() == 0, "all is committed")


def test_what_cannot_be_read_goes_to_the_dead_letters_and_holds_up_nobody(bench: Bench) -> None:
    before = REGISTRY.get_sample_value("sightline_outcome_dead_letters_total", {"reason": "event_undecodable"}) or 0
    life = bench.life()
    bench.broker.append(topics.ARRIVALS, key=b"p1", value=b"\xff\xff\xff")
    bench.broker.append(topics.VERDICTS, key=b"p1", value=b"")
    bench.arrive("p1")
    bench.judge("p1")
    life.read()
    life.settled()
    assert bench.said() == [("p1", 1, Verdict.PASS)]
    assert life.unsettled() == 0
    for topic, value in ((topics.ARRIVALS, b"\xff\xff\xff"), (topics.VERDICTS, b"")):
        (letter,) = bench.broker.records(topics.dead_letter(topic))
        headers = dict(letter.headers)
        assert letter.value == value
        assert (headers["reason"], headers["origin_topic"]) == (b"event_undecodable", topic.encode())
    after = REGISTRY.get_sample_value("sightline_outcome_dead_letters_total", {"reason": "event_undecodable"}) or 0
    assert after - before == 2


# ---- restarts


def test_a_part_that_was_open_at_a_kill_is_answered_by_the_next_life(bench: Bench) -> None:
    life = bench.life()
    bench.arrive("p1", "p2")
    bench.judge("p1")
    bench.judge("p2", "left")
    life.read()
    life.settled()
    life.kill()
    bench.judge("p2", "right", verdict=Verdict.FAIL)
    again = bench.life()
    again.read()
    again.settled()
    assert bench.said() == [("p1", 1, Verdict.PASS), ("p2", 1, Verdict.FAIL)]


def test_what_was_answered_and_not_committed_is_not_answered_again(bench: Bench) -> None:
    life = bench.life()
    parts = [f"p{number}" for number in range(20)]
    bench.arrive(*parts)
    for part in parts:
        bench.judge(part, "left")
    life.read()
    bench.clock.pass_time(1.0)
    wait_until(lambda: len(bench.outcomes()) == 20, "answers at the deadline")
    life.kill()
    again = bench.life()
    again.read()
    for part in parts:
        bench.judge(part, "right")
    again.read()
    again.settled()
    first = [one for one in bench.outcomes() if one.revision == 1]
    assert sorted(one.part_id for one in first) == sorted(parts)
    assert {one.verdict for one in first} == {Verdict.REVIEW}
    assert sorted(one.part_id for one in bench.outcomes() if one.revision == 2) == sorted(parts)


def test_after_a_long_time_without_anybody_what_was_answered_is_not_answered_again(single: Bench) -> None:
    life = single.life(limits=JoinLimits(remember_s=10))
    single.arrive("p1", "p2")
    single.judge("p2")
    life.read()
    life.settled()
    life.kill()
    single.clock.pass_time(3_600)
    again = single.life(limits=JoinLimits(remember_s=10))
    again.read()
    again.settled()
    assert single.said() == [("p2", 1, Verdict.PASS), ("p1", 1, Verdict.REVIEW)]


def test_after_a_long_time_without_anybody_a_part_gets_a_first_answer_whatever_is_read_first(bench: Bench) -> None:
    bench.arrive("p1")
    bench.judge("p1")
    bench.clock.pass_time(3_600)
    life = bench.life(limits=JoinLimits(remember_s=10))
    life.read(topics.VERDICTS)
    life.read(topics.ARRIVALS)
    life.settled()
    assert bench.said()[0] == ("p1", 1, Verdict.REVIEW)
    assert bench.said()[-1][2] is Verdict.PASS, "the late verdicts supersede it"


def test_answers_that_cannot_be_read_back_are_waited_for(bench: Bench) -> None:
    asked = threading.Semaphore(0)
    away = threading.Event()

    def answers_since(_since_ms: int) -> list[Outcome]:
        asked.release()
        if not away.is_set():
            raise UnavailableError("broker must answer in time, got no answer")
        return []

    life = bench.life(answers_since=answers_since)
    bench.arrive("p1")
    bench.judge("p1")
    reading = threading.Thread(target=life.read, daemon=True)
    reading.start()
    assert asked.acquire(timeout=10)
    wait_until(lambda: not life.health.ready, "it says that it cannot go on")
    assert bench.outcomes() == []
    away.set()
    reading.join(10)
    life.settled()
    assert bench.said() == [("p1", 1, Verdict.PASS)]
    assert life.health.ready


def test_a_stop_ends_the_wait_for_answers(bench: Bench) -> None:
    def answers_since(_since_ms: int) -> list[Outcome]:
        raise UnavailableError("broker must answer in time, got no answer")

    shutdown = Shutdown()
    life = bench.life(answers_since=answers_since, stopping=lambda: shutdown.requested)
    bench.arrive("p1")
    shutdown.request()
    with pytest.raises(UnavailableError, match="broker must answer"):
        life.read()


# ---- partitions that come and go


def test_who_has_a_part_s_partition_next_answers_it(bench: Bench) -> None:
    first, second = bench.life(), bench.life()
    bench.arrive("p1")
    bench.judge("p1", "left")
    first.read()
    first.pipeline.forget(bench.partitions())
    assert first.pipeline.committable() == {}
    second.read()
    bench.clock.pass_time(1.0)
    wait_until(lambda: len(bench.outcomes()) == 1, "the answer at the deadline")
    bench.judge("p1", "right")
    second.read()
    second.settled()
    assert bench.said() == [("p1", 1, Verdict.REVIEW), ("p1", 2, Verdict.PASS)]


def test_what_one_member_answered_the_next_one_does_not_answer_again(bench: Bench) -> None:
    first, second = bench.life(), bench.life()
    second.read()
    bench.arrive("p1")
    bench.judge("p1", "left")
    first.read()
    bench.clock.pass_time(1.0)
    wait_until(lambda: len(bench.outcomes()) == 1, "the answer at the deadline")
    first.pipeline.forget(bench.partitions())
    second.read()
    second.settled()
    assert bench.said() == [("p1", 1, Verdict.REVIEW)]


def test_an_outcome_on_its_way_holds_the_commit_back_though_its_partition_left_and_came_back(bench: Bench) -> None:
    bench.writer.holding = True
    life = bench.life()
    bench.arrive("p1")
    bench.judge("p1")
    life.read()
    life.pipeline.forget(bench.partitions())
    life._at.clear()
    life.read()
    assert life.unsettled() == 4, "nobody has acknowledged the part's answer yet"
    bench.writer.release()
    life.settled()
    assert life.unsettled() == 0
    assert bench.said() == [("p1", 1, Verdict.PASS)]


def test_two_members_of_a_group_answer_each_part_once_while_one_comes_and_goes() -> None:
    bench = Bench(partitions=4)
    parts = [f"p{number}" for number in range(60)]

    def member() -> tuple[Life, Shutdown, threading.Thread]:
        life, shutdown = bench.life(), Shutdown()
        loop = ConsumerLoop(
            MemoryRecordConsumer(bench.broker, "outcome"),
            life.pipeline,
            topics=[topics.ARRIVALS, topics.VERDICTS],
            health=life.health,
            shutdown=shutdown,
            times=LoopTimes(poll_s=0.01, commit_every_s=0.02, settle_on_revoke_s=2.0, drain_s=5.0),
        )
        thread = threading.Thread(target=loop.run, daemon=True)
        thread.start()
        return life, shutdown, thread

    def answered() -> int:
        return len({one.part_id for one in bench.outcomes()})

    first = member()
    bench.arrive(*parts[:30])
    for part in parts[:20]:
        bench.judge(part)
    wait_until(lambda: answered() == 20, "the first alone")
    second = member()
    wait_until(lambda: len(bench.broker.group("outcome").owners) == 8, "both have partitions")
    for part in parts[20:30]:
        bench.judge(part)
    bench.arrive(*parts[30:])
    for part in parts[30:45]:
        bench.judge(part)
    wait_until(lambda: answered() == 45, "both together")
    first[1].request()
    first[2].join(10)
    for part in parts[45:]:
        bench.judge(part)
    wait_until(lambda: answered() == 60, "the second alone")
    second[1].request()
    second[2].join(10)
    bench.stop()
    assert sorted(bench.said()) == sorted((part, 1, Verdict.PASS) for part in parts)
    ends = {one: bench.broker.end(one) for one in bench.partitions()}
    assert {one: bench.broker.committed("outcome", one) for one in ends} == ends


# ---- a writer that is away


def test_while_nothing_can_be_written_outcomes_wait_in_order_and_are_written_once_it_can(bench: Bench) -> None:
    parts = [f"p{number}" for number in range(5)]
    life = bench.life()
    for number, part in enumerate(parts):
        bench.write(arrival(part, at_ns=bench.began_ns + number))
    life.read()
    bench.broker.unavailable = True
    bench.clock.pass_time(1.0)
    wait_until(lambda: not life.health.ready, "it says that outcomes are not written")
    assert life.unsettled() == 5
    assert not life.pipeline.settle(None, 0.05)
    bench.broker.unavailable = False
    assert life.pipeline.settle(None, 10.0)
    wait_until(lambda: life.health.ready, "outcomes are written again")
    by_partition = {one.partition: 0 for one in bench.broker.records(topics.OUTCOMES)}
    for record in bench.broker.records(topics.OUTCOMES):
        number = parts.index(record.key.decode())
        assert number >= by_partition[record.partition], "in their order"
        by_partition[record.partition] = number
    assert sorted(part for part, _, _ in bench.said()) == parts
    assert life.unsettled() == 0


def test_an_acknowledgement_that_is_lost_writes_the_same_ids_again(bench: Bench) -> None:
    bench.writer.holding = True
    life = bench.life()
    bench.arrive("p1", "p2")
    bench.judge("p1")
    bench.judge("p2")
    life.read()
    wait_until(lambda: len(bench.outcomes()) == 2, "both are on their way")
    bench.writer.holding = False
    bench.writer.fail_held(UnavailableError("the acknowledgement must come, it did not"))
    life.settled()
    ids = [one.outcome_id for one in bench.outcomes()]
    assert len(set(ids)) == 2
    assert len(ids) > 2
    assert life.unsettled() == 0


def test_an_outcome_that_the_broker_never_takes_ends_the_service(bench: Bench) -> None:
    life = bench.life()
    bench.arrive("p1")
    life.read()
    life.pipeline.check()
    bench.broker.max_message_bytes = 10
    bench.clock.pass_time(1.0)
    wait_until(lambda: life.pipeline._failure is not None, "the thread ends")
    with pytest.raises(InvalidInputError, match="at most 10 bytes"):
        life.pipeline.check()


# ---- bounds and clocks


def test_no_more_records_are_taken_than_may_be_open(bench: Bench) -> None:
    life = bench.life(max_open_records=4)
    assert life.pipeline.room() == 4
    bench.arrive("p1", "p2")
    life.read()
    assert life.pipeline.room() == 0
    assert life.pipeline.wait_for_room(0.01) == 0
    bench.clock.pass_time(1.0)
    assert life.pipeline.wait_for_room(10.0) > 0


def test_a_camera_s_clock_that_is_ahead_is_told_once_in_a_while(bench: Bench) -> None:
    told: list[tuple[str, str, float]] = []
    life = bench.life(max_skew_s=2.0, on_skew=lambda *skew: told.append(skew))
    ahead = bench.began_ns + 60 * 1_000_000_000
    for number in range(5):
        bench.write(arrival(f"p{number}", at_ns=ahead), arrival(f"p{number}", "right", at_ns=bench.began_ns))
    late = replace(arrival("p9", "right", at_ns=bench.began_ns), arrived_at_ns=1)
    bench.write(late)
    life.read()
    ((line, camera, skew_s),) = told
    assert (line, camera) == (LINE, "left")
    assert skew_s == pytest.approx(60, abs=10)
    bench.clock.pass_time(1.0)
    wait_until(lambda: len(bench.outcomes()) == 6, "a clock that is ahead puts no answer off")
