"""The way of a frame through the detector: taken, prepared, asked about in batches, decided, written, settled.

Two threads meet here. The consumer's thread hands records over; one thread of the pipeline's own does everything else
that is not a wait: it gathers batches, decides, writes and settles. Decoding happens on the preparer's threads,
inference in Triton. What has its verdict is offered to the shadow, for which nothing here waits. State is guarded by
one lock and nothing waits while holding it.
"""

from __future__ import annotations

import contextlib
import functools
import heapq
import itertools
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future

import numpy as np

from services.adapters import codec
from services.adapters.ports import (
    InferenceClient,
    InferenceResult,
    ObjectStore,
    Record,
    RecordWriter,
    TopicPartition,
)
from services.core.errors import (
    InvalidInputError,
    MissingImageError,
    ModelFailedError,
    NotFoundError,
    SightlineError,
    UnavailableError,
)
from services.core.imaging import ImageLimits
from services.core.types import CaseKind, Frame, Inspection
from services.detector import outputs, traces
from services.detector.asking import ask
from services.detector.batcher import Batch, Batcher
from services.detector.deployments import Deployments
from services.detector.drift import DriftWatch
from services.detector.handled import DeadLetterAlarm
from services.detector.job import Answer, Job
from services.detector.measures import Measures
from services.detector.preparation import Preparer
from services.detector.settings import DetectorSettings
from services.detector.shadow import ShadowScorer
from services.runtime import metrics
from services.runtime.dependency import Dependency
from services.runtime.handled import HandledIds
from services.runtime.lifecycle import Health
from services.runtime.logging import get_logger
from services.runtime.outbox import Entry, Outbox
from services.runtime.outputs import dead_letter_output, size_bytes

LOG = get_logger(__name__)

_IDLE_S = 0.5
_ACK_POLL_S = 0.01
_MISSING_RETRY_S = 0.2
_EVENTS_PER_TURN = 64
#: Failures of a model on a batch before its frames are asked about one by one, and on one frame before the frame is
#: given up. With the pauses between, a model's process that crashed has half a minute to come back.
_ATTEMPTS_TOGETHER = 3
_ATTEMPTS_ALONE = 10


class DetectorPipeline:
    """Turns frames into verdicts and cases; the processor of the detector's consumer loop.

    Args:
        settings: The detector's settings.
        deployments: Which version answers.
        inference: Asks Triton.
        writer: Writes outputs.
        store: Images by reference, and images of cases that are too large with them inline.
        health: Held while Triton or the object store is away.
        shadow: Takes frames that have their verdict; without, no version is asked beside the live one.
        drift: Told of every frame that a model has scored; without, drift is not looked for.
        tracing_on: Whether spans are made; without, a frame's trace context is passed on as it came.
    """

    def __init__(
        self,
        settings: DetectorSettings,
        deployments: Deployments,
        inference: InferenceClient,
        writer: RecordWriter,
        store: ObjectStore,
        health: Health,
        *,
        shadow: ShadowScorer | None = None,
        drift: DriftWatch | None = None,
        tracing_on: bool = False,
    ) -> None:
        self._settings = settings
        self._deployments = deployments
        self._inference = inference
        self._health = health
        self._shadow = shadow
        self._drift = drift
        self._tracing_on = tracing_on
        self._lock = threading.RLock()
        self._moved = threading.Condition(self._lock)
        self._events: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._outbox = Outbox(writer)
        self._batcher = Batcher(settings.batch.max_frames, settings.batch.max_wait_ms / 1e3)
        self._again: deque[Batch] = deque()
        self._triton: Dependency[Batch] = Dependency("triton", health, on_change=_tell_up("triton"))
        self._store: Dependency[Job] = Dependency("object store", health, on_change=_tell_up("object_store"))
        self._no_model: list[Job] = []
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._in_flight = 0
        self._handled = HandledIds(settings.recent_ids)
        self._alarm = DeadLetterAlarm(
            settings.dead_letter_alarm_count, settings.dead_letter_alarm_window_s, time.monotonic
        )
        self._measures = Measures()
        self._failure: BaseException | None = None
        self._stopping = False
        self._writing = False
        self._writer_held = False
        limits = settings.limits
        self._preparer = Preparer(
            store,
            ImageLimits(
                max_bytes=limits.max_image_bytes,
                max_pixels=limits.max_image_pixels,
                max_aspect_ratio=limits.max_aspect_ratio,
            ),
            threads=settings.decode_threads,
            deliver=self._deliver,
        )
        self._thread = threading.Thread(target=self._run, name="pipeline", daemon=True)
        deployments.set_on_flip(lambda: self._events.put(self._on_flip))

    # ---- life

    def start(self) -> None:
        """Begin to work."""
        self._preparer.start()
        self._thread.start()
        if self._shadow is not None:
            self._shadow.start()

    def close(self, timeout_s: float = 5.0) -> None:
        """Stop the threads; what is not settled is left to whoever reads it next."""
        self._stopping = True
        self._events.put(_nothing)
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        if self._shadow is not None:
            self._shadow.close()
        self._preparer.close()

    # ---- the consumer loop's side (services.runtime.consumer.RecordProcessor)

    def check(self) -> None:
        """Raise what ended the pipeline's thread, if anything did."""
        if self._failure is not None:
            raise self._failure

    def room(self) -> int:
        """How many frames may be handed over now; 0 while a dependency is away or no model answers."""
        with self._lock:
            return self._room()

    def wait_for_room(self, timeout_s: float) -> int:
        """Wait until there is room, at most ``timeout_s``, and return it."""
        with self._moved:
            self._moved.wait_for(lambda: self._room() > 0 or self._failure is not None, timeout_s)
            return self._room()

    def take(self, records: Sequence[Record]) -> None:
        """Take records of the ``frames`` topic."""
        now_ns = time.time_ns()
        with self._lock:
            for record in records:
                self._take(record, now_ns)
        self._events.put(_nothing)

    def committable(self) -> Mapping[TopicPartition, int]:
        """Next offsets to read, where they moved since the last commit."""
        with self._lock:
            return self._outbox.committable()

    def committed(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Note what was committed."""
        with self._lock:
            self._outbox.committed(offsets)

    def settle(self, partitions: Collection[TopicPartition] | None, timeout_s: float) -> bool:
        """Wait until what was taken is settled; gives up at once on what waits for a dependency that is away."""
        with self._moved:
            self._moved.wait_for(
                lambda: not self._outbox.unsettled(partitions) or self._blocked() or self._failure is not None,
                timeout_s,
            )
            return not self._outbox.unsettled(partitions)

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        """Drop what is in flight for partitions that are no longer ours."""
        with self._lock:
            self._outbox.forget(partitions)
            self._handled.forget(partitions)
            self._no_model = [job for job in self._no_model if not job.abandoned]
            self._store.drop(lambda job: job.abandoned)
            self._triton.drop(lambda batch: all(job.abandoned for job in batch.jobs))

    # ---- the caller's side

    def inspect(self, frame: Frame) -> Future[Answer]:
        """Ask about one image outside of the stream; cancel the future when nobody waits any more.

        Args:
            frame: Its image is inline.

        Returns:
            Resolves to the answer, or to the domain error that says why there is none.
        """
        answer: Future[Answer] = Future()
        job = Job(frame, self._settings.alias_of(frame.product), time.time_ns(), answer=answer)
        with self._lock:
            if self._failure is not None or self._stopping:
                raise UnavailableError("the detector must be running to inspect, got a call while it stops")
            self._begin(job)
        return answer

    # ---- taking

    def _room(self) -> int:
        if self._blocked():
            return 0
        settings, outbox = self._settings, self._outbox
        if outbox.open_bytes >= settings.max_in_flight_bytes:
            return 0
        room = settings.max_in_flight_frames - outbox.open_entries
        # A few frames of room are no room yet: many small polls cost more than they bring.
        return room if room * 4 >= settings.max_in_flight_frames else 0

    def _blocked(self) -> bool:
        if self._triton.away or self._store.away or self._outbox.writer_away:
            return True
        return not any(self._deployments.live(alias) for alias in self._settings.aliases)

    def _take(self, record: Record, now_ns: int) -> None:
        entry = self._outbox.open(record)
        try:
            frame = codec.decode_frame(record.value)
        except InvalidInputError as error:
            self._reject(record, entry, error)
            return
        self._measures.taken(frame.camera_id)
        if not self._handled.add(entry.partition, frame.frame_id):
            metrics.DETECTOR_REPLAYED.inc()
            LOG.info("a frame came again and is not said again", extra={"frame_id": frame.frame_id})
            self._outbox.complete(entry, ())
            return
        job = Job(frame, self._settings.alias_of(frame.product), now_ns, record, entry)
        if self._tracing_on:
            traces.begin(job)
        elif record.headers:
            traces.pass_on(job)
        self._begin(job)

    def _begin(self, job: Job) -> None:
        job.deployment = self._deployments.live(job.alias)
        if job.deployment is not None:
            self._preparer.prepare(job)
        elif job.answer is not None:
            job.answer.set_exception(UnavailableError(f"alias {job.alias} must have a live version, got none"))
        else:
            self._no_model.append(job)

    def _on_flip(self) -> None:
        waiting, self._no_model = self._no_model, []
        for job in waiting:
            self._begin(job)

    # ---- preparing

    def _deliver(self, job: Job, error: BaseException | None) -> None:
        self._events.put(functools.partial(self._on_prepared, job, error))

    def _on_prepared(self, job: Job, error: BaseException | None) -> None:
        if job.abandoned:
            self._store.inconclusive()
            return
        if error is None or isinstance(error, NotFoundError | InvalidInputError):
            self._on_store_answered(job)
        if error is None:
            if job.pending_case is not None:
                self._finish(job, *job.pending_case)
            else:
                self._batcher.add(job, time.monotonic())
        elif isinstance(error, InvalidInputError):
            self._unusable(job, error)
        elif isinstance(error, NotFoundError):
            self._on_missing(job)
        elif isinstance(error, SightlineError) and error.retriable:
            metrics.DETECTOR_RETRIES.labels("object_store").inc()
            self._store.failed(job, error)
        else:
            raise error

    def _on_store_answered(self, job: Job) -> None:
        if self._store.away and (job.frame.image is None or job.case_ref is not None):
            for waiting in self._store.answered():
                self._prepare_again(waiting)

    def _prepare_again(self, job: Job) -> None:
        if job.pending_case is not None:
            self._preparer.put_case_image(job)
        else:
            self._begin(job)

    def _on_missing(self, job: Job) -> None:
        now_s = time.monotonic()
        if job.missing_since_s is None:
            job.missing_since_s = now_s
        if now_s - job.missing_since_s < self._settings.image_missing_wait_s:
            self._at(now_s + _MISSING_RETRY_S, functools.partial(self._begin, job))
            return
        ref = job.frame.image_ref
        self._unusable(job, MissingImageError(f"the image must lie at its reference, got nothing at {ref and ref.key}"))

    # ---- asking

    def _dispatch(self, now_s: float) -> None:
        while self._in_flight < self._settings.batch.in_flight:
            if self._triton.away:
                batch = self._triton.next_try()
            elif self._again:
                batch = self._again.popleft()
            else:
                # With Triton idle, waiting for company gains nothing.
                batch = self._batcher.pop(now_s, at_once=self._in_flight == 0 and self._settings.batch.max_wait_ms == 0)
            if batch is None:
                return
            self._send(batch)

    def _send(self, batch: Batch) -> None:
        batch.jobs = [job for job in batch.jobs if not job.abandoned and job.rows is not None]
        if not batch.jobs:
            self._triton.inconclusive()
            return
        batch.rows = sum(len(job.rows) for job in batch.jobs if job.rows is not None)
        batch.sent_at_s = time.monotonic()
        self._in_flight += 1
        with traces.batch(batch.jobs) if self._tracing_on else contextlib.nullcontext():
            future = ask(
                self._inference,
                batch.deployment.model_name,
                batch.tensor(),
                self._settings.batch.max_frames,
                self._settings.triton.timeout_s,
            )
        future.add_done_callback(lambda done: self._events.put(functools.partial(self._on_answer, batch, done)))

    def _on_answer(self, batch: Batch, done: Future[InferenceResult]) -> None:
        self._in_flight -= 1
        error = done.exception()
        if error is None:
            if self._triton.away:
                self._again.extend(self._triton.answered())
            self._judge(batch, done.result())
        elif not isinstance(error, SightlineError):
            raise error
        else:
            self._on_no_answer(batch, error)

    def _judge(self, batch: Batch, result: InferenceResult) -> None:
        infer_s = time.monotonic() - batch.sent_at_s
        self._measures.answered(len(batch.jobs), infer_s)
        row = 0
        now_ns = time.time_ns()
        for job in batch.jobs:
            answer = outputs.judge(job, result, row, infer_s * 1e3, now_ns)
            rows, job.rows = job.rows, None
            row += len(rows) if rows is not None else 0
            if job.answer is not None:
                _resolve(job.answer, answer)
                continue
            if self._drift is not None:
                self._drift.observe(answer.inspection, answer.embedding)
            kind = outputs.case_kind(answer.inspection, self._settings.audit_share)
            wanted = kind is not None or outputs.keeps_embedding(
                answer.inspection, answer.embedding, self._settings.embedding_share
            )
            self._finish(job, answer.inspection, kind, answer.embedding if wanted else None)
            if self._shadow is not None and not job.abandoned:
                self._shadow.offer(job, answer.inspection, rows)

    def _on_no_answer(self, batch: Batch, error: SightlineError) -> None:
        if isinstance(error, InvalidInputError):
            self._on_refused(batch, error)
            return
        if not error.retriable and not isinstance(error, NotFoundError):
            raise error
        for job in batch.jobs:
            if job.answer is not None:
                _refuse(job.answer, UnavailableError(f"Triton must answer, got: {error}"))
        batch.jobs = [job for job in batch.jobs if job.answer is None]
        if not batch.jobs:
            self._triton.inconclusive()
            return
        current = self._deployments.live(batch.deployment.alias)
        if isinstance(error, NotFoundError) and current is not None and current != batch.deployment:
            # Unloaded meanwhile: the version that answers now prepares its own rows.
            self._triton.inconclusive()
            for job in batch.jobs:
                job.rows = None
                self._begin(job)
            return
        batch.attempts += 1
        if isinstance(error, ModelFailedError) and self._is_to_blame(batch, error):
            return
        metrics.DETECTOR_RETRIES.labels("triton").inc()
        self._triton.failed(batch, error)

    def _is_to_blame(self, batch: Batch, error: ModelFailedError) -> bool:
        """Find the frame on which a model fails that answers otherwise; else it would stop the line for good."""
        if len(batch.jobs) > 1 and batch.attempts >= _ATTEMPTS_TOGETHER:
            for job in batch.jobs:
                self._triton.failed(Batch(batch.deployment, [job], 0, batch.attempts), error)
            return True
        if len(batch.jobs) == 1 and batch.attempts >= _ATTEMPTS_ALONE:
            self._triton.inconclusive()
            self._unusable(batch.jobs[0], error)
            return True
        return False

    def _on_refused(self, batch: Batch, error: InvalidInputError) -> None:
        self._again.extend(self._triton.answered())
        if len(batch.jobs) > 1:
            # One frame must not take its batch mates with it.
            for job in batch.jobs:
                self._again.append(Batch(batch.deployment, [job], 0))
            return
        for job in batch.jobs:
            self._unusable(job, error)

    # ---- saying

    def _finish(self, job: Job, inspection: Inspection, kind: CaseKind | None, embedding: np.ndarray | None) -> None:
        said = [outputs.verdict_of(inspection, job)]
        if kind is not None:
            case = outputs.case_of(job, inspection, kind, self._settings.audit_share, embedding)
            too_large = size_bytes((case,)) > self._settings.limits.inline_limit_bytes
            if too_large and job.frame.image and job.case_ref is None:
                job.pending_case = (inspection, kind, embedding)
                self._preparer.put_case_image(job)
                return
            said.append(case)
        elif embedding is not None:
            said.append(outputs.embedding_of(job, inspection, embedding))
        if job.dead_letter is not None:
            said.append(job.dead_letter)
        self._complete(job, inspection, kind, said)

    def _complete(
        self, job: Job, inspection: Inspection, kind: CaseKind | None, said: Sequence[outputs.Output]
    ) -> None:
        if job.entry is None:
            raise ValueError(f"only a record's outcome is written, got {job.frame.frame_id} without one")
        written_at_s = time.monotonic()
        if job.span is not None:
            traces.end(job, inspection)
        self._outbox.complete(
            job.entry, said, functools.partial(self._measures.settled, inspection, kind, written_at_s)
        )

    def _unusable(self, job: Job, error: SightlineError) -> None:
        if job.answer is not None:
            _refuse(job.answer, error)
            return
        if job.record is None:
            raise ValueError(f"a frame must have a record or a caller, got {job.frame.frame_id} without")
        LOG.warning(
            "a frame's image cannot be used, its part is for review: %s",
            error,
            extra={"reason": error.reason, "frame_id": job.frame.frame_id, "camera": job.frame.camera_id},
        )
        self._count_dead_letter(error)
        job.dead_letter = dead_letter_output(job.record, error)
        self._finish(job, outputs.unreadable(job, error, time.time_ns()), CaseKind.REVIEW, None)

    def _reject(self, record: Record, entry: Entry, error: SightlineError) -> None:
        LOG.warning(
            "a record is no frame and goes to the dead letters: %s",
            error,
            extra={"reason": error.reason, "partition": record.partition, "offset": record.offset},
        )
        self._count_dead_letter(error)
        self._outbox.complete(entry, (dead_letter_output(record, error),))

    def _count_dead_letter(self, error: SightlineError) -> None:
        metrics.DETECTOR_DEAD_LETTERS.labels(error.reason).inc()
        self._alarm.note()

    # ---- the pipeline's thread

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._turn(self._wait_s())
        except Exception as error:  # noqa: BLE001 - carried to the consumer's thread, which ends the service
            with self._moved:
                self._failure = error
                self._moved.notify_all()

    def _turn(self, wait_s: float) -> None:
        try:
            event: Callable[[], None] | None = self._events.get(timeout=wait_s) if wait_s > 0 else None
        except queue.Empty:
            event = None
        with self._moved:
            before = self._outbox.open_entries
            for _ in range(_EVENTS_PER_TURN):
                if event is not None:
                    event()
                try:
                    event = self._events.get_nowait()
                except queue.Empty:
                    break
            else:
                if event is not None:
                    event()
            self._advance(time.monotonic())
            if self._outbox.open_entries != before or self._blocked():
                self._moved.notify_all()

    def _advance(self, now_s: float) -> None:
        """Do everything that is due and needs no event."""
        while self._later and self._later[0][0] <= now_s:
            heapq.heappop(self._later)[2]()
        probe = self._store.next_try()
        if probe is not None:
            self._prepare_again(probe)
        self._dispatch(now_s)
        self._writing = self._outbox.pump()
        self._watch_writer()
        metrics.DETECTOR_IN_FLIGHT.set(self._outbox.open_entries)
        if self._alarm.raised:
            self._alarm.check()

    def _watch_writer(self) -> None:
        if self._outbox.writer_away:
            self._health.hold("kafka writer", self._outbox.writer_away)
            self._writer_held = True
        elif self._writer_held:
            self._health.release("kafka writer")
            self._writer_held = False

    def _wait_s(self) -> float:
        with self._lock:
            due = [_IDLE_S]
            now_s = time.monotonic()
            if self._writing:
                due.append(_ACK_POLL_S)
            if self._later:
                due.append(self._later[0][0] - now_s)
            retries_s = (self._triton.retry_at_s(), self._store.retry_at_s())
            due.extend(max(retry_at_s - now_s, 0.001) for retry_at_s in retries_s if retry_at_s is not None)
            if self._in_flight < self._settings.batch.in_flight and not self._triton.away:
                batch_due_s = self._batcher.next_due_s()
                if self._again:
                    due.append(0.0)
                elif batch_due_s is not None:
                    due.append(batch_due_s - now_s)
            return max(0.0, min(due))

    def _at(self, due_s: float, work: Callable[[], None]) -> None:
        heapq.heappush(self._later, (due_s, next(self._count), work))


def _resolve(answer: Future[Answer], value: Answer) -> None:
    if answer.set_running_or_notify_cancel():
        answer.set_result(value)


def _refuse(answer: Future[Answer], error: SightlineError) -> None:
    if answer.set_running_or_notify_cancel():
        answer.set_exception(error)


def _tell_up(dependency: str) -> Callable[[bool], None]:
    gauge = metrics.DETECTOR_DEPENDENCY_UP.labels(dependency)
    gauge.set(1)
    return lambda up: gauge.set(1 if up else 0)


def _nothing() -> None:
    """An event that only wakes the pipeline's thread."""
