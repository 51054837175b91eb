"""Counts the verdicts of the line: the way from their topic into the index's database, each once.

The consumer's thread hands records over; one thread of the counter's own decodes them, leaves out what was said before,
and adds them a batch at a time. How far a partition is counted lies with the counts, so this reads from there and not
from the group's offsets, which are committed for whoever watches the lag.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

from services.adapters.codec import decode_inspection
from services.adapters.ports import (
    RebalanceListener,
    Record,
    RecordConsumer,
    TopicPartition,
    VerdictCounts,
    VerdictToCount,
)
from services.core.errors import InvalidInputError, SightlineError
from services.core.statistics import Inspected
from services.core.types import Inspection
from services.runtime import metrics
from services.runtime.background import BackgroundThread
from services.runtime.consumer import ConsumerLoop
from services.runtime.handled import HandledIds
from services.runtime.lifecycle import Health, Shutdown
from services.runtime.logging import get_logger
from services.runtime.retry import Backoff, until_available

LOG = get_logger(__name__)

#: Frames of each partition that are remembered, and read again after a start so that they are.
REMEMBERED: Final = 2_000

_IDLE_S: Final = 0.25
_BATCH: Final = 2_000
_WAITING: Final = 20_000
_TIDY_EVERY_S: Final = 3_600.0
_NS_PER_S: Final = 1_000_000_000


class VerdictCounter:
    """Counts verdicts; the processor of a consumer loop of its own.

    Args:
        counts: Where they are counted.
        health: Held while the index is away.
        merge_after_s: Age from which spans are merged into quarters of an hour.
        keep_s: Age from which spans are dropped.
        every_s: Longest time that verdicts wait to be counted together.
        remembered: Frames of each partition that are remembered.
        backoff: Waits between tries while the index is away.
        clock_s: Wall clock, seconds since the epoch.
    """

    def __init__(
        self,
        counts: VerdictCounts,
        health: Health,
        *,
        merge_after_s: float,
        keep_s: float,
        every_s: float = 1.0,
        remembered: int = REMEMBERED,
        backoff: Backoff | None = None,
        clock_s: Callable[[], float] = time.time,
    ) -> None:
        self._counts = counts
        self._health = health
        self._merge_after_s = merge_after_s
        self._keep_s = keep_s
        self._every_s = every_s
        self._backoff = backoff or Backoff(cap_s=5.0)
        self._clock_s = clock_s
        self._moved = threading.Condition(threading.RLock())
        self._waiting: deque[Record] = deque()
        self._working: frozenset[TopicPartition] = frozenset()
        self._handled = HandledIds(remembered)
        self._reached: dict[TopicPartition, int] = {}
        self._committed: dict[TopicPartition, int] = {}
        self._away = False
        self._hurry = False
        self._stopping = False
        self._next_tidy_s = 0.0
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="counter", daemon=True)

    # ---- life

    def start(self) -> None:
        """Begin to work."""
        metrics.FEEDBACK_DEPENDENCY_UP.labels("counts").set(1)
        self._thread.start()

    def close(self, timeout_s: float = 5.0) -> None:
        """Stop; what is not counted is read again by whoever comes next. Idempotent."""
        with self._moved:
            self._stopping = True
            self._moved.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    # ---- the consumer loop's side (services.runtime.consumer.RecordProcessor)

    def check(self) -> None:
        """Raise what ended the counter's thread, if anything did."""
        if self._failure is not None:
            raise self._failure

    def room(self) -> int:
        """How many records may be handed over now; 0 while the index is away."""
        with self._moved:
            return 0 if self._away else max(0, _WAITING - len(self._waiting))

    def wait_for_room(self, timeout_s: float) -> int:
        """Wait until there is room, at most ``timeout_s``, and return it."""
        with self._moved:
            self._moved.wait_for(lambda: self.room() > 0 or self._failure is not None, timeout_s)
            return self.room()

    def take(self, records: Sequence[Record]) -> None:
        """Take records of the ``verdicts`` topic."""
        with self._moved:
            self._waiting.extend(records)
            self._moved.notify_all()

    def committable(self) -> Mapping[TopicPartition, int]:
        """Next offsets to read, where they moved since the last commit."""
        with self._moved:
            return {one: at for one, at in self._reached.items() if self._committed.get(one) != at}

    def committed(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Note what was committed."""
        with self._moved:
            self._committed.update({one: at for one, at in offsets.items() if one in self._reached})

    def settle(self, partitions: Collection[TopicPartition] | None, timeout_s: float) -> bool:
        """Count what was taken, without waiting for more; while the index is away it is left to who reads it next."""
        with self._moved:
            self._hurry = True
            self._moved.notify_all()
            self._moved.wait_for(
                lambda: not self._open(partitions) or self._away or self._failure is not None, timeout_s
            )
            self._hurry = False
            return not self._open(partitions)

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        """Drop what is known of partitions that are no longer ours."""
        gone = frozenset(partitions)
        with self._moved:
            # A batch that is being counted may still be: its place is written with it.
            self._waiting = deque(record for record in self._waiting if record.topic_partition not in gone)
            self._handled.forget(gone)
            for one in gone:
                self._reached.pop(one, None)
                self._committed.pop(one, None)
            self._moved.notify_all()

    def _open(self, partitions: Collection[TopicPartition] | None) -> bool:
        if partitions is None:
            return bool(self._waiting or self._working)
        wanted = frozenset(partitions)
        return bool(wanted & self._working) or any(record.topic_partition in wanted for record in self._waiting)

    # ---- the counter's own thread

    def _run(self) -> None:
        try:
            while not self._stopping:
                verdicts = self._next()
                if verdicts:
                    self._count(verdicts)
                self._tidy()
        except Exception as error:  # noqa: BLE001 - carried to the consumer's thread, which ends the service
            with self._moved:
                self._failure = error
                self._moved.notify_all()

    def _next(self) -> list[VerdictToCount]:
        """The oldest records, decoded, once there are enough of them or they have waited long enough."""
        with self._moved:
            if not self._waiting:
                self._moved.wait(_IDLE_S)
            if self._waiting:
                # A second's verdicts in one transaction: the others who write have the database meanwhile.
                self._moved.wait_for(
                    lambda: len(self._waiting) >= _BATCH or self._hurry or self._stopping, self._every_s
                )
            records = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
            self._working = frozenset(record.topic_partition for record in records)
            return [self._to_count(record) for record in records]

    def _to_count(self, record: Record) -> VerdictToCount:
        inspection = self._read(record)
        if inspection is None:
            return VerdictToCount(record.topic_partition, record.offset, record.timestamp_ms, None)
        return VerdictToCount(
            record.topic_partition,
            record.offset,
            record.timestamp_ms,
            Inspected(
                inspection.line_id,
                inspection.camera_id,
                inspection.product,
                inspection.alias,
                inspection.model_version,
            ),
            inspection.captured_at_ns // _NS_PER_S,
            inspection.verdict,
            inspection.in_time,
        )

    def _read(self, record: Record) -> Inspection | None:
        """The verdict; None where it cannot be read or the frame has one already: the first counts."""
        try:
            inspection = decode_inspection(record.value)
        except InvalidInputError as error:
            LOG.warning(
                "a record is no verdict and is not counted: %s",
                error,
                extra={"reason": error.reason, "partition": record.partition, "offset": record.offset},
            )
            metrics.FEEDBACK_VERDICTS.labels("unreadable").inc()
            return None
        # Not the version: a detector that dies while a version is promoted says the frame's verdict anew with it.
        if not self._handled.add(record.topic_partition, f"{inspection.frame_id} {inspection.alias}"):
            metrics.FEEDBACK_VERDICTS.labels("repeated").inc()
            return None
        return inspection

    def _count(self, verdicts: Sequence[VerdictToCount]) -> None:
        while not self._stopping:
            try:
                counted = self._counts.add(verdicts)
            except SightlineError as error:
                if not error.retriable:
                    raise
                self._wait_out(error)
                continue
            metrics.FEEDBACK_VERDICTS.labels("counted").inc(counted)
            with self._moved:
                self._answered()
                self._reached.update({one.partition: one.offset + 1 for one in verdicts})
                self._working = frozenset()
                self._moved.notify_all()
            return

    def _wait_out(self, error: SightlineError) -> None:
        metrics.FEEDBACK_RETRIES.labels(error.reason).inc()
        with self._moved:
            if not self._away:
                self._away = True
                LOG.warning("verdicts wait to be counted: %s", error, extra={"reason": error.reason})
                metrics.FEEDBACK_DEPENDENCY_UP.labels("counts").set(0)
            self._health.hold("counts", str(error))
            self._moved.notify_all()
            self._moved.wait_for(lambda: self._stopping, self._backoff.next_s())

    def _answered(self) -> None:
        if self._away:
            self._away = False
            LOG.info("verdicts are counted again")
            self._backoff.reset()
            self._health.release("counts")
            metrics.FEEDBACK_DEPENDENCY_UP.labels("counts").set(1)

    def _tidy(self) -> None:
        if self._stopping or time.monotonic() < self._next_tidy_s:
            return
        self._next_tidy_s = time.monotonic() + _TIDY_EVERY_S
        now_s = self._clock_s()
        try:
            self._counts.tidy(merge_before_s=int(now_s - self._merge_after_s), drop_before_s=int(now_s - self._keep_s))
        except SightlineError as error:
            if not error.retriable:
                raise
            LOG.warning("old counts wait to be merged: %s", error, extra={"reason": error.reason})


class CountedConsumer:
    """A ``RecordConsumer`` that reads each partition from where it is counted, and a little before.

    What lies before is passed over by ``VerdictCounts.add`` and only remembered, so that a frame which a detector says
    anew is recognised across a restart too. A partition of which nothing is counted is read from its beginning.

    Args:
        consumer: The one that it stands for.
        counts: Knows how far.
        remembered: Records before that place.
    """

    def __init__(self, consumer: RecordConsumer, counts: VerdictCounts, *, remembered: int = REMEMBERED) -> None:
        self._consumer = consumer
        self._counts = counts
        self._remembered = remembered
        self._listener: RebalanceListener | None = None
        self._to_seek: set[TopicPartition] = set()

    def subscribe(self, topics: Sequence[str], listener: RebalanceListener) -> None:
        """Join the group for these topics."""
        self._listener = listener
        self._consumer.subscribe(topics, self)

    def on_assigned(self, partitions: Sequence[TopicPartition]) -> None:
        """These are ours."""
        self._to_seek.update(partitions)
        if self._listener is not None:
            self._listener.on_assigned(partitions)

    def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """These are no longer."""
        self._to_seek.difference_update(partitions)
        if self._listener is not None:
            self._listener.on_revoked(partitions)

    def poll(self, *, max_records: int, timeout_s: float) -> list[Record]:
        """Fetch what is there."""
        self._seek()
        records = self._consumer.poll(max_records=max_records, timeout_s=timeout_s)
        # What came with the partition itself was read from the group's place.
        return [record for record in records if record.topic_partition not in self._to_seek]

    def _seek(self) -> None:
        for topic in {partition.topic for partition in self._to_seek}:
            counted = self._counts.counted_to(topic)
            for partition in [one for one in self._to_seek if one.topic == topic]:
                there = counted.get(partition)
                self._consumer.seek(partition, max(0, there.offset - self._remembered) if there else 0)
                self._to_seek.discard(partition)

    def assignment(self) -> frozenset[TopicPartition]:
        """Partitions that are ours now."""
        return self._consumer.assignment()

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Fetch nothing more from these until resumed."""
        self._consumer.pause(partitions)

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Fetch from these again."""
        self._consumer.resume(partitions)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Read this partition from ``offset`` next."""
        self._consumer.seek(partition, offset)

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit the next offset to read for each partition."""
        self._consumer.commit(offsets)

    def lag(self) -> Mapping[TopicPartition, int]:
        """Records behind the end of each assigned partition."""
        return self._consumer.lag()

    def close(self) -> None:
        """Leave the group; idempotent."""
        self._consumer.close()


class CountingThread:
    """The counter's consumer loop on a thread of its own; what ends it ends the service.

    Args:
        make_loop: Connects and builds the loop; tried again while it raises a retriable error.
        shutdown: Ends it.
        startup_wait_s: Longest time to go on trying.
    """

    def __init__(self, make_loop: Callable[[], ConsumerLoop], shutdown: Shutdown, startup_wait_s: float) -> None:
        self._make_loop = make_loop
        self._shutdown = shutdown
        self._startup_wait_s = startup_wait_s
        self._thread = BackgroundThread("counting", self._run)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def check(self) -> None:
        """Raise what ended the thread, if anything did."""
        self._thread.check()

    def close(self, timeout_s: float) -> None:
        """Wait until it has drained, if the stop was asked for. Idempotent."""
        if self._shutdown.requested:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            loop = until_available(
                "the broker, for verdicts", self._make_loop, shutdown=self._shutdown, deadline_s=self._startup_wait_s
            )
            loop.run()
        except Exception:
            if not self._shutdown.requested:
                raise
