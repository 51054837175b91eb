"""The way of an explained case into the queue: its picture and itself on record, then in the index, then committed.

What the model saw in it goes along, and what it saw in frames that are no cases comes the same way, without a record.

The consumer's thread hands records over; one thread of the pipeline's own works through them in batches, and a few more
wait for the object store. Everything is written under the case's own id, so that what comes twice changes nothing, and
what could not be written is simply written again.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from services.adapters.caserecord import CaseRecord
from services.adapters.codec import decode_frame_embedding
from services.adapters.codec_explained import decode_explained_case
from services.adapters.ports import CaseIndex, KeptEmbedding, ObjectStore, Record, RecordWriter, TopicPartition
from services.core import topics
from services.core.errors import (
    InvalidInputError,
    MissingImageError,
    NotFoundError,
    SightlineError,
)
from services.core.review import QueuedCase
from services.core.types import Case, ExplainedCase
from services.feedback.embeddings import EmbeddingIntake
from services.feedback.keeping import keep_case
from services.feedback.settings import FeedbackSettings
from services.runtime import metrics, tracing
from services.runtime.images import fetch_image
from services.runtime.lifecycle import Health
from services.runtime.logging import get_logger
from services.runtime.outbox import Entry, Outbox
from services.runtime.outputs import dead_letter_output
from services.runtime.retry import Backoff

LOG = get_logger(__name__)

_IDLE_S: Final = 0.25
_ACK_POLL_S: Final = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """A record that was taken."""

    record: Record
    entry: Entry


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    """What came of a job: the case on record, or what is kept of a frame, or why it never will be."""

    job: _Job
    case: QueuedCase | None = None
    embedding: KeptEmbedding | None = None
    """What the model saw in the case, or in a frame that is none."""
    refusal: InvalidInputError | None = None


class FeedbackPipeline:
    """Puts explained cases on record and into the index; the processor of the service's consumer loop.

    Args:
        settings: The service's settings.
        index: Where queues are read from.
        record: Where everything is kept.
        store: Pictures by reference.
        writer: Writes dead letters.
        health: Held while the object store, the index or Kafka is away.
        intake: Takes what the model saw.
        alongside: Raises what ended another thread of the service, for the consumer's thread to end it.
        backoff: Waits between tries while one of them is.
    """

    def __init__(
        self,
        settings: FeedbackSettings,
        index: CaseIndex,
        record: CaseRecord,
        store: ObjectStore,
        writer: RecordWriter,
        health: Health,
        *,
        intake: EmbeddingIntake,
        alongside: Callable[[], None] = lambda: None,
        backoff: Backoff | None = None,
    ) -> None:
        self._settings = settings
        self._index = index
        self._record = record
        self._store = store
        self._health = health
        self._intake = intake
        self._alongside = alongside
        self._backoff = backoff or Backoff(cap_s=5.0)
        self._lock = threading.RLock()
        self._moved = threading.Condition(self._lock)
        self._outbox = Outbox(writer)
        self._ready: deque[_Job] = deque()
        self._writing = False
        self._writer_held = False
        self._retry_at_s = 0.0
        self._away_since_s = 0.0
        self._failure: BaseException | None = None
        self._stopping = False
        self._pool = ThreadPoolExecutor(settings.workers, thread_name_prefix="record")
        self._thread = threading.Thread(target=self._run, name="pipeline", daemon=True)

    # ---- life

    def start(self) -> None:
        """Begin to work."""
        metrics.FEEDBACK_DEPENDENCY_UP.labels("cases").set(1)
        self._thread.start()

    def close(self, timeout_s: float = 5.0) -> None:
        """Stop the threads; what is not settled is left to whoever reads it next. Idempotent."""
        with self._moved:
            self._stopping = True
            self._moved.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        self._pool.shutdown(wait=False, cancel_futures=True)

    # ---- the consumer loop's side (services.runtime.consumer.RecordProcessor)

    def check(self) -> None:
        """Raise what ended the pipeline's thread, if anything did."""
        if self._failure is not None:
            raise self._failure
        self._alongside()

    def room(self) -> int:
        """How many records may be handed over now; 0 while the object store, the index or Kafka is away."""
        with self._lock:
            if self._blocked() or self._outbox.open_bytes >= self._settings.max_in_flight_bytes:
                return 0
            return max(0, self._settings.max_in_flight_cases - self._outbox.open_entries)

    def wait_for_room(self, timeout_s: float) -> int:
        """Wait until there is room, at most ``timeout_s``, and return it."""
        with self._moved:
            self._moved.wait_for(lambda: self.room() > 0 or self._failure is not None, timeout_s)
            return self.room()

    def take(self, records: Sequence[Record]) -> None:
        """Take records of the topics ``explained`` and ``embeddings``."""
        with self._moved:
            self._ready.extend(_Job(record, self._outbox.open(record)) for record in records)
            self._moved.notify_all()

    def committable(self) -> Mapping[TopicPartition, int]:
        """Next offsets to read, where they moved since the last commit."""
        with self._lock:
            return self._outbox.committable()

    def committed(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Note what was committed."""
        with self._lock:
            self._outbox.committed(offsets)

    def settle(self, partitions: Collection[TopicPartition] | None, timeout_s: float) -> bool:
        """Finish what was taken; while something is away it is left to whoever reads it next."""
        with self._moved:
            self._moved.wait_for(
                lambda: not self._outbox.unsettled(partitions) or self._blocked() or self._failure is not None,
                timeout_s,
            )
            left = self._outbox.unsettled(partitions)
            if left:
                LOG.info("%s cases are left to whoever reads them next", left)
            return not left

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        """Drop what is in flight for partitions that are no longer ours."""
        with self._moved:
            self._outbox.forget(partitions)
            self._ready = deque(job for job in self._ready if not job.entry.dropped)
            self._moved.notify_all()

    def _blocked(self) -> bool:
        return self._retry_at_s > 0 or bool(self._outbox.writer_away)

    # ---- the pipeline's own thread

    def _run(self) -> None:
        try:
            while not self._stopping:
                jobs = self._next()
                if jobs:
                    self._work(jobs)
                self._pump()
        except Exception as error:  # noqa: BLE001 - carried to the consumer's thread, which ends the service
            with self._moved:
                self._failure = error
                self._moved.notify_all()

    def _next(self) -> list[_Job]:
        """The oldest records, at most a batch; none while it is not yet time to try again."""
        with self._moved:
            pause_s = max(0.0, self._retry_at_s - time.monotonic())
            if pause_s or not self._ready:
                idle_s = _ACK_POLL_S if self._writing else _IDLE_S
                self._moved.wait(min(idle_s, pause_s) if pause_s else idle_s)
            if self._stopping or not self._ready or time.monotonic() < self._retry_at_s:
                return []
            # After an outage one finds out whether it is over, instead of a whole batch of timeouts.
            most = 1 if self._retry_at_s else self._settings.batch_cases
            return [self._ready.popleft() for _ in range(min(most, len(self._ready)))]

    def _work(self, jobs: Sequence[_Job]) -> None:
        try:
            kept = list(self._pool.map(self._keep, jobs))
            cases = [one.case for one in kept if one.case is not None]
            if cases:
                with self._indexing([one.job for one in kept if one.case is not None]):
                    self._index.add_cases(cases)
            self._intake.put([one.embedding for one in kept if one.embedding is not None])
        except SightlineError as error:
            if not error.retriable:
                raise
            self._on_away(jobs, error)
            return
        with self._moved:
            self._on_answered()
            for one in kept:
                self._settle(one)
            self._moved.notify_all()

    @contextlib.contextmanager
    def _indexing(self, jobs: Sequence[_Job]) -> Iterator[None]:
        """A batch's write into the index, in each of its cases' traces that is written down."""
        with contextlib.ExitStack() as spans:
            for job in jobs:
                spans.enter_context(tracing.consumed("add case to index", job.record.headers))
            yield

    def _settle(self, kept: _Kept) -> None:
        job = kept.job
        if kept.refusal is None:
            case = kept.case
            self._outbox.complete(job.entry, (), lambda: _count(case) if case else None)
            return
        self._writing = True
        self._outbox.complete(job.entry, (dead_letter_output(job.record, kept.refusal),))

    def _on_away(self, jobs: Sequence[_Job], error: SightlineError) -> None:
        metrics.FEEDBACK_RETRIES.labels(error.reason).inc()
        now_s = time.monotonic()
        with self._moved:
            self._ready.extendleft(job for job in reversed(jobs) if not job.entry.dropped)
            if not self._retry_at_s:
                self._away_since_s = now_s
                LOG.warning("cases wait to be put on record: %s", error, extra={"reason": error.reason})
                metrics.FEEDBACK_DEPENDENCY_UP.labels("cases").set(0)
            self._retry_at_s = now_s + self._backoff.next_s()
            self._health.hold("record of cases", str(error))
            self._moved.notify_all()

    def _on_answered(self) -> None:
        if self._retry_at_s:
            LOG.info("cases are put on record again after %.1f s", time.monotonic() - self._away_since_s)
            self._retry_at_s = 0.0
            self._backoff.reset()
            self._health.release("record of cases")
            metrics.FEEDBACK_DEPENDENCY_UP.labels("cases").set(1)

    def _pump(self) -> None:
        with self._moved:
            before = self._outbox.open_entries
            self._writing = self._outbox.pump()
            if self._outbox.writer_away:
                self._health.hold("kafka writer", self._outbox.writer_away)
                self._writer_held = True
            elif self._writer_held:
                self._health.release("kafka writer")
                self._writer_held = False
            metrics.FEEDBACK_IN_FLIGHT.set(self._outbox.open_entries)
            if before != self._outbox.open_entries:
                self._moved.notify_all()

    # ---- one record, on a thread of the pool

    def _keep(self, job: _Job) -> _Kept:
        """Put a case and its picture on record, or read what the model saw; raises only what may heal."""
        record = job.record
        try:
            if record.topic == topics.EMBEDDINGS:
                return _Kept(job, embedding=self._intake.of_frame(decode_frame_embedding(record.value)))
            explained = decode_explained_case(record.value)
            told = {"sightline.case_id": explained.case.case_id}
            with tracing.consumed("put case on record", record.headers, told):
                return _Kept(job, self.put(explained), self._intake.of_case(explained.case))
        except InvalidInputError as error:
            LOG.warning(
                "a record is not what its topic promises and goes to the dead letters: %s",
                error,
                extra={
                    "reason": error.reason,
                    "topic": record.topic,
                    "partition": record.partition,
                    "offset": record.offset,
                },
            )
            metrics.FEEDBACK_DEAD_LETTERS.labels(error.reason).inc()
            return _Kept(job, refusal=error)

    def put(self, explained: ExplainedCase) -> QueuedCase:
        """Put a case and its picture on record; the same again changes nothing.

        Raises:
            InvalidInputError: When it has no picture, or another one than it says.
            UnavailableError: When the object store does not answer.
        """
        return keep_case(self._record, explained, self._image(explained.case))

    def _image(self, case: Case) -> bytes:
        if case.image is not None:
            return case.image
        try:
            return fetch_image(self._store, case.image_ref, max_bytes=self._settings.limits.max_image_bytes)
        except NotFoundError as error:
            raise MissingImageError(str(error)) from error


def _count(case: QueuedCase) -> None:
    metrics.FEEDBACK_CASES.labels(case.kind.value).inc()
    metrics.FEEDBACK_CASE_SECONDS.observe(max(0.0, time.time() - case.explained_at_ns / 1e9))
    metrics.FEEDBACK_LAST_SUCCESS.set_to_current_time()
