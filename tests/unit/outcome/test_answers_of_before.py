"""Answers of before are read back once for all partitions, and after that only what others may have added."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services.adapters.codec import encode_inspection
from services.adapters.codec_outcome import decode_outcome, encode_arrival
from services.adapters.memory import MemoryBroker, MemoryRecordWriter
from services.adapters.ports import Record, TopicPartition
from services.core import topics
from services.core.joining import JoinLimits
from services.core.outcome import Arrival, Outcome, PartPlan, PartPlans
from services.core.types import Verdict
from services.outcome.pipeline import OutcomePipeline
from services.runtime.lifecycle import Health
from tests.support.outcome_line import inspection
from tests.support.outcomes import outcome

S_MS = 1_000
START_MS = 1_790_000_000_000
REMEMBER_MS = 300_000
MARGIN_MS = 60_000
OVERLAP_MS = 5_000


class Reading:
    """A pipeline on a clock of its own, and from when on it has read answers back."""

    def __init__(self) -> None:
        self.now_ms = START_MS
        self.since_ms: list[int] = []
        self.answers: list[Outcome] = []
        self.broker = MemoryBroker()
        self.pipeline = OutcomePipeline(
            PartPlans((PartPlan("disc", frozenset({"left"})),)),
            JoinLimits(remember_s=REMEMBER_MS / 1_000),
            MemoryRecordWriter(self.broker),
            self._answers_since,
            Health(),
            clock_ns=lambda: self.now_ms * 1_000_000,
        )

    def take(self, partition: int, at_ms: int, part_id: str = "part-1") -> None:
        """A record of a partition, written at a time."""
        value = encode_arrival(Arrival(part_id, "line-1", "disc", at_ms * 1_000_000))
        self.pipeline.take([Record(topics.ARRIVALS, partition, 0, at_ms, part_id.encode(), value, ())])

    def _answers_since(self, since_ms: int) -> list[Outcome]:
        self.since_ms.append(since_ms)
        return self.answers


@pytest.fixture
def reading() -> Iterator[Reading]:
    one = Reading()
    yield one
    one.pipeline.close()


def test_partitions_that_begin_one_by_one_read_the_whole_time_once(reading: Reading) -> None:
    for partition in range(4):
        # The next one's first record is a little older.
        reading.take(partition, START_MS - partition * 10 * S_MS)
        reading.now_ms += S_MS
    assert reading.since_ms[0] == START_MS - REMEMBER_MS - MARGIN_MS
    assert reading.since_ms[1:] == [START_MS + number * S_MS - OVERLAP_MS for number in range(3)]


def test_a_partition_that_comes_back_brings_what_others_answered_meanwhile(reading: Reading) -> None:
    reading.take(0, START_MS)
    reading.pipeline.forget([TopicPartition(topics.ARRIVALS, 0)])
    reading.now_ms += 20 * S_MS
    reading.answers = [outcome(Verdict.PASS, part_id="part-2", line_id="line-1")]
    reading.take(0, reading.now_ms, "part-2")
    assert reading.since_ms[1:] == [START_MS - OVERLAP_MS]
    said = [decode_outcome(record.value) for record in reading.broker.records(topics.OUTCOMES)]
    assert said == []


def test_a_partition_that_is_far_behind_reads_further_back(reading: Reading) -> None:
    reading.take(0, START_MS)
    reading.take(1, START_MS - 3_600 * S_MS)
    assert reading.since_ms[1] == START_MS - 3_600 * S_MS - REMEMBER_MS - MARGIN_MS


def test_after_a_long_time_no_more_is_read_than_is_remembered(reading: Reading) -> None:
    reading.take(0, START_MS)
    reading.now_ms += 7_200 * S_MS
    reading.take(1, reading.now_ms)
    reading.take(2, reading.now_ms - S_MS)
    assert reading.since_ms[1] == reading.now_ms - REMEMBER_MS - MARGIN_MS
    assert reading.since_ms[2] == reading.now_ms - OVERLAP_MS, "the margin reaches to what the next one needs"


def test_a_second_partition_s_reading_does_not_make_parts_of_before_it_unknown(reading: Reading) -> None:
    reading.take(0, START_MS - 60_000)
    reading.take(1, START_MS - 60_000, "part-2")
    value = encode_inspection(inspection("part-3", at_ns=(START_MS - 60_000) * 1_000_000, product="disc"))
    reading.pipeline.take([Record(topics.VERDICTS, 1, 0, START_MS - 60_000, b"part-3", value, ())])
    written = [decode_outcome(record.value) for record in reading.broker.records(topics.OUTCOMES)]
    assert [one.revision for one in written if one.part_id == "part-3"][:1] == [1], "nobody had answered it"


def test_what_was_read_so_long_ago_that_it_is_forgotten_is_read_again(reading: Reading) -> None:
    reading.take(0, START_MS - 3_600 * S_MS)
    reading.now_ms += REMEMBER_MS + S_MS
    reading.take(1, START_MS - 3_600 * S_MS + S_MS)
    first, second = reading.since_ms
    assert second <= first + S_MS
