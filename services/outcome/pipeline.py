"""Arrivals and verdicts in, outcomes out: the joiner behind a consumer loop, and a thread that keeps its deadlines.

A record is settled, and may be committed, once the outcome of its part is acknowledged; so what was read and not
answered is read again by whoever comes next. Before the first record of a partition is looked at, the answers that were
given to its parts are read back from ``outcomes``: no part gets a second first answer.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from services.adapters.codec import decode_inspection
from services.adapters.codec_outcome import decode_arrival, encode_outcome
from services.adapters.ports import Headers, Record, RecordWriter, TopicPartition
from services.core import topics
from services.core.errors import SightlineError
from services.core.joining import JoinLimits, PartJoiner
from services.core.outcome import Outcome, PartPlans
from services.runtime import metrics, tracing
from services.runtime.lifecycle import Health
from services.runtime.logging import get_logger
from services.runtime.outbox import Outbox, Output
from services.runtime.outputs import dead_letter_output
from services.runtime.retry import Backoff

LOG = get_logger(__name__)

_NS_PER_MS: Final = 1_000_000
#: Longest sleep of the deadlines' thread.
_IDLE_S: Final = 0.25
#: Its sleep while acknowledgements are waited for.
_PUMP_S: Final = 0.005
#: What another replica wrote just before answers were read may carry its clock's time.
_ANSWERS_OVERLAP_MS: Final = 5_000
#: Answers are read back from so much earlier: the next partition's first record may be older than this one's.
_ANSWERS_MARGIN_MS: Final = 60_000
#: A clock that is off by this much is told of, once in a while.
_SKEW_EVERY_S: Final = 60.0
_MAX_SKEWED: Final = 1_000
_OUT: Final = TopicPartition(topics.OUTCOMES, 0)

AnswersSince = Callable[[int], Iterable[Outcome]]
OnSkew = Callable[[str, str, float], None]


@dataclass(slots=True)
class _Lane:
    """One partition that is read: records that are not settled, and what comes after the last one."""

    open: dict[int, None] = field(default_factory=dict)
    """Offsets, in their order."""
    next_offset: int = 0


@dataclass(frozen=True, slots=True)
class _Place:
    partition: TopicPartition
    offset: int


class OutcomePipeline:
    """The processor of a consumer loop over ``arrivals`` and ``verdicts``. Thread-safe.

    Args:
        plans: What is expected of each product.
        limits: How long and how much is waited for.
        writer: Where outcomes go.
        answers_since: Outcomes that were written at or after a time (ms since the epoch), as far as they are now.
        health: Told while answers cannot be read back, or outcomes not written.
        max_open_records: Records that may be unsettled; at this number polling pauses.
        max_skew_s: Clocks of cameras and brokers that differ by more are told of.
        on_skew: Takes line, camera and difference in seconds (positive: the camera's clock is ahead).
        stopping: Whether the stop was asked for: then answers that cannot be read back are waited for no longer.
        clock_ns: Wall clock.
    """

    def __init__(
        self,
        plans: PartPlans,
        limits: JoinLimits,
        writer: RecordWriter,
        answers_since: AnswersSince,
        health: Health,
        *,
        max_open_records: int = 400_000,
        max_skew_s: float = 2.0,
        on_skew: OnSkew = lambda _line, _camera, _skew_s: None,
        stopping: Callable[[], bool] = lambda: False,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._joiner = PartJoiner(plans, limits)
        self._remember_ms = int(limits.remember_s * 1_000)
        self._outbox = Outbox(writer)
        self._answers_since = answers_since
        self._health = health
        self._max_open_records = max_open_records
        self._max_skew_s = max_skew_s
        self._on_skew = on_skew
        self._stop_wanted = stopping
        self._skew_told_s: dict[str, float] = {}
        self._clock_ns = clock_ns
        self._lanes: dict[TopicPartition, _Lane] = {}
        self._committed: dict[TopicPartition, int] = {}
        self._restored: set[TopicPartition] = set()
        self._known_ms: tuple[int, int] | None = None
        """From when to when all answers were read back, of all partitions; None before the first time."""
        self._known_at_ms = 0
        """When that was begun anew: what was read then is remembered for a while only."""
        self._of_part: dict[str, list[_Place]] = {}
        self._under_way: dict[str, list[_Place]] = {}
        """By part: what is settled once the part's last outcome is acknowledged."""
        self._open_records = 0
        self._written = 0
        self._work = threading.Condition(threading.RLock())
        self._stopping = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="deadlines", daemon=True)

    # ---- life

    def start(self) -> None:
        """Begin to keep deadlines."""
        self._thread.start()

    def close(self) -> None:
        """Stop keeping deadlines; idempotent."""
        with self._work:
            self._stopping = True
            self._work.notify_all()
        if self._thread.is_alive():
            self._thread.join(5.0)

    def check(self) -> None:
        """Raise what ended the deadlines' thread, if anything did."""
        if self._failure is not None:
            raise self._failure

    # ---- records

    def room(self) -> int:
        """How many records may be handed over now."""
        with self._work:
            return max(0, self._max_open_records - self._open_records)

    def wait_for_room(self, timeout_s: float) -> int:
        """Wait until there is room, at most ``timeout_s``."""
        with self._work:
            self._work.wait_for(lambda: self._stopping or self._open_records < self._max_open_records, timeout_s)
        return self.room()

    def take(self, records: Sequence[Record]) -> None:
        """Join records; what is complete is answered at once."""
        self._read_answers_of(records)
        with self._work:
            for record in records:
                self._take(record)
            self._outbox.pump()
            self._work.notify_all()
        metrics.OUTCOME_OPEN_PARTS.set(self._joiner.open_parts)

    def committable(self) -> Mapping[TopicPartition, int]:
        """Next offsets to read, where they moved since the last commit."""
        with self._work:
            places = {one: next(iter(lane.open), lane.next_offset) for one, lane in self._lanes.items()}
            return {one: at for one, at in places.items() if self._committed.get(one) != at}

    def committed(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Note what was committed."""
        with self._work:
            self._committed.update({one: at for one, at in offsets.items() if one in self._lanes})

    def settle(self, partitions: Collection[TopicPartition] | None, timeout_s: float) -> bool:
        """Wait until outcomes that are on their way are acknowledged.

        Parts that are still open are left: whoever reads their records next answers them.
        """
        del partitions
        with self._work:
            return self._work.wait_for(lambda: self._outbox.open_entries == 0 or self._stopping, timeout_s)

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        """Drop what is in flight for partitions that are no longer ours."""
        gone = set(partitions)
        with self._work:
            for partition in gone:
                lane = self._lanes.pop(partition, None)
                self._open_records -= len(lane.open) if lane is not None else 0
                self._committed.pop(partition, None)
            self._restored -= gone
            theirs = [
                part_id for part_id, places in self._of_part.items() if any(place.partition in gone for place in places)
            ]
            for part_id in theirs:
                del self._of_part[part_id]
            self._joiner.drop(theirs)

    def _take(self, record: Record) -> None:
        place = _Place(record.topic_partition, record.offset)
        lane = self._lanes.setdefault(place.partition, _Lane())
        lane.open[record.offset] = None
        lane.next_offset = record.offset + 1
        self._open_records += 1
        now_ns = self._clock_ns()
        headers: Headers = ()
        try:
            if record.topic == topics.ARRIVALS:
                arrival = decode_arrival(record.value)
                part_id = arrival.part_id
                self._watch_clock(arrival.line_id, arrival.camera_id, arrival.arrived_at_ns, record.timestamp_ms)
                outcomes = self._joiner.arrive(arrival, now_ns)
            else:
                inspection = decode_inspection(record.value)
                part_id = inspection.part_id
                with tracing.consumed("join view", record.headers, {"sightline.part_id": part_id}) as headers:
                    outcomes = self._joiner.inspect(inspection, now_ns)
        except SightlineError as error:
            metrics.OUTCOME_RECORDS.labels("undecodable").inc()
            metrics.OUTCOME_DEAD_LETTERS.labels(error.reason).inc()
            LOG.warning("a record cannot be used, at %s: %s", record.position, error, extra={"reason": error.reason})
            self._write(dead_letter_output(record, error), [place])
            return
        metrics.OUTCOME_RECORDS.labels("joined").inc()
        self._of_part.setdefault(part_id, []).append(place)
        # Of a part's views, the trace that goes on is that of the last one.
        self._publish(outcomes, headers)
        if not self._joiner.is_open(part_id):
            self._settle_with_part(part_id, self._of_part.pop(part_id, []))

    def _settle_with_part(self, part_id: str, places: list[_Place]) -> None:
        """Settle what changed nothing: with the outcome of its part, where that is still on its way."""
        under_way = self._under_way.get(part_id)
        if under_way is None:
            self._settle_places(places)
        else:
            # Read again, because its partition left and came back: only the acknowledgement makes it safe to commit.
            under_way.extend(places)

    def _watch_clock(self, line_id: str, camera_id: str, at_ns: int, written_ms: int) -> None:
        ahead_s = (at_ns // _NS_PER_MS - written_ms) / 1_000
        # What was captured long ago may have waited on a spool; only a clock that is ahead is surely wrong.
        if ahead_s <= self._max_skew_s:
            return
        metrics.OUTCOME_CLOCK_SKEW.labels(line_id).inc()
        now_s = time.monotonic()
        if now_s - self._skew_told_s.get(camera_id, -_SKEW_EVERY_S) >= _SKEW_EVERY_S:
            if len(self._skew_told_s) >= _MAX_SKEWED:
                self._skew_told_s.clear()
            self._skew_told_s[camera_id] = now_s
            self._on_skew(line_id, camera_id, ahead_s)

    # ---- answers of before

    def _read_answers_of(self, records: Sequence[Record]) -> None:
        """Read back the answers of partitions that begin; goes on trying while the broker is away."""
        with self._work:
            fresh = {record.topic_partition for record in records} - self._restored
        if not fresh:
            return
        first_ms = min(record.timestamp_ms for record in records if record.topic_partition in fresh)
        now_ms = self._clock_ns() // _NS_PER_MS
        wanted_ms = max(0, min(first_ms, now_ms) - self._remember_ms)
        since_ms = self._unknown_since(wanted_ms, now_ms)
        backoff = Backoff(cap_s=2.0)
        while True:
            try:
                answers = list(self._answers_since(since_ms))
                break
            except SightlineError as error:
                if not error.retriable or self._stopping or self._stop_wanted():
                    raise
                self._health.hold("answers", str(error))
                self._health.turned()
                with self._work:
                    self._work.wait(backoff.next_s())
        self._health.release("answers")
        with self._work:
            if not self._adds_to_known(since_ms):
                self._joiner.restore_since(since_ms * _NS_PER_MS)
            for answer in answers:
                self._joiner.restore(answer, self._clock_ns())
            self._restored |= fresh
        self._note_known(since_ms, now_ms)
        LOG.info("%d answers of before are known", len(answers))

    def _unknown_since(self, wanted_ms: int, now_ms: int) -> int:
        """From when on answers must be read, where all from ``wanted_ms`` on must be known.

        Partitions begin one by one, and each reading is of all of them: it need not be done again for each.
        """
        known = self._known_ms
        if known is None or wanted_ms < known[0] or now_ms - self._known_at_ms > self._remember_ms:
            return max(0, wanted_ms - _ANSWERS_MARGIN_MS)
        return max(wanted_ms, known[1] - _ANSWERS_OVERLAP_MS)

    def _adds_to_known(self, since_ms: int) -> bool:
        return self._known_ms is not None and self._known_ms[0] <= since_ms <= self._known_ms[1]

    def _note_known(self, since_ms: int, until_ms: int) -> None:
        if self._known_ms is not None and self._adds_to_known(since_ms):
            self._known_ms = (self._known_ms[0], until_ms)
        else:
            self._known_ms, self._known_at_ms = (since_ms, until_ms), until_ms

    # ---- outcomes

    def _publish(self, outcomes: Sequence[Outcome], headers: Headers = ()) -> None:
        for outcome in outcomes:
            # Outcomes are acknowledged in their order: with this one, all before it are.
            places = self._of_part.pop(outcome.part_id, [])
            self._under_way[outcome.part_id] = places
            output = Output(topics.OUTCOMES, outcome.part_id.encode(), encode_outcome(outcome), headers)
            self._write(output, places, outcome=outcome)

    def _write(self, output: Output, places: list[_Place], outcome: Outcome | None = None) -> None:
        self._written += 1
        entry = self._outbox.open(
            Record(_OUT.topic, _OUT.partition, self._written, 0, output.key, output.value, output.headers)
        )

        def settled() -> None:
            self._settle_places(places)
            if outcome is not None:
                if self._under_way.get(outcome.part_id) is places:
                    del self._under_way[outcome.part_id]
                _count(outcome)

        self._outbox.complete(entry, (output,), settled)

    def _settle_places(self, places: Iterable[_Place]) -> None:
        for place in places:
            lane = self._lanes.get(place.partition)
            if lane is not None and place.offset in lane.open:
                del lane.open[place.offset]
                self._open_records -= 1

    def _run(self) -> None:
        try:
            while True:
                with self._work:
                    if self._stopping:
                        return
                    self._publish(self._joiner.due(self._clock_ns()))
                    under_way = self._outbox.pump()
                    self._work.notify_all()
                    self._tell_health()
                    self._work.wait(self._sleep_s(under_way=under_way))
        except BaseException as error:  # noqa: BLE001 - carried to the consumer's thread and raised there
            self._failure = error
            with contextlib.suppress(RuntimeError):
                self._work.notify_all()

    def _tell_health(self) -> None:
        if self._outbox.writer_away:
            self._health.hold("outcomes", self._outbox.writer_away)
        else:
            self._health.release("outcomes")

    def _sleep_s(self, *, under_way: bool) -> float:
        longest_s = _PUMP_S if under_way else _IDLE_S
        due_ns = self._joiner.next_due_ns
        if due_ns is None:
            return longest_s
        return max(0.0, min(longest_s, (due_ns - self._clock_ns()) / 1e9))


def _count(outcome: Outcome) -> None:
    metrics.OUTCOME_OUTCOMES.labels(outcome.line_id, outcome.product, outcome.verdict.value, outcome.reason.value).inc()
    if outcome.revision > 1:
        metrics.OUTCOME_REVISIONS.labels(outcome.line_id).inc()
        return
    metrics.OUTCOME_SECONDS.labels(outcome.line_id).observe((outcome.decided_at_ns - outcome.began_at_ns) / 1e9)
    if not outcome.in_time:
        metrics.OUTCOME_LATE.labels(outcome.line_id).inc()
