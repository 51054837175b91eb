"""The way of a case through the explainer: taken, explained, written, settled.

Three kinds of threads meet here. The consumer's thread hands records over; workers explain one case at a time, waiting
for Triton; one thread of the pipeline's own writes and settles. State is guarded by one lock and nothing waits for the
world outside while holding it.
"""

from __future__ import annotations

import functools
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence

from services.adapters import codec
from services.adapters.ports import Record, RecordWriter, TopicPartition
from services.core.errors import InvalidInputError
from services.core.types import Case, Explanation, triton_explainer_name
from services.explainer.explaining import STORE, TRITON, CaseExplainer
from services.explainer.job import AwayError, CaseJob, ModelMissingError
from services.explainer.settings import ExplainerSettings
from services.runtime import metrics, tracing
from services.runtime.dependency import Dependency
from services.runtime.handled import HandledIds
from services.runtime.lifecycle import Health
from services.runtime.logging import get_logger
from services.runtime.outbox import Outbox, Output
from services.runtime.outputs import dead_letter_output

LOG = get_logger(__name__)

_IDLE_S = 0.25
_ACK_POLL_S = 0.01
_MODEL_LOOK_S = 1.0


class ExplainerPipeline:
    """Turns cases into explained cases; the processor of the explainer's consumer loop.

    Args:
        settings: The explainer's settings.
        explainer: Does the work of one case.
        writer: Writes outputs.
        health: Held while Triton, the object store or Kafka is away.
    """

    def __init__(
        self, settings: ExplainerSettings, explainer: CaseExplainer, writer: RecordWriter, health: Health
    ) -> None:
        self._settings = settings
        self._explainer = explainer
        self._health = health
        self._lock = threading.RLock()
        self._moved = threading.Condition(self._lock)
        self._work = threading.Condition(self._lock)
        self._outbox = Outbox(writer)
        self._handled = HandledIds(settings.recent_ids)
        self._ready: deque[CaseJob] = deque()
        self._later: list[tuple[float, CaseJob]] = []
        self._running: set[CaseJob] = set()
        self._triton: Dependency[CaseJob] = Dependency(TRITON, health, on_change=_tell_up("triton"))
        self._store: Dependency[CaseJob] = Dependency(STORE, health, on_change=_tell_up("object_store"))
        self._missing_s: dict[str, tuple[float, float]] = {}
        self._lag = 0
        self._failure: BaseException | None = None
        self._stopping = False
        self._draining = False
        self._writing = False
        self._writer_held = False
        self._threads = [threading.Thread(target=self._run_writer, name="pipeline", daemon=True)]
        self._threads += [
            threading.Thread(target=self._run_worker, name=f"explain-{number}", daemon=True)
            for number in range(settings.workers)
        ]

    # ---- life

    def start(self) -> None:
        """Begin to work."""
        for thread in self._threads:
            thread.start()

    def close(self, timeout_s: float = 5.0) -> None:
        """Stop the threads; what is not settled is left to whoever reads it next."""
        with self._lock:
            self._stopping = True
            self._work.notify_all()
            self._moved.notify_all()
            self._cancel(self._running)
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout_s)

    # ---- the consumer loop's side (services.runtime.consumer.RecordProcessor)

    def check(self) -> None:
        """Raise what ended one of the pipeline's threads, if anything did."""
        if self._failure is not None:
            raise self._failure

    def room(self) -> int:
        """How many cases may be handed over now; 0 while a dependency is away."""
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
        """Take records of the ``cases`` topic."""
        with self._lock:
            self._lag = max(0, self._lag - len(records))
            for record in records:
                self._take(record)
            self._moved.notify_all()
            self._work.notify_all()

    def committable(self) -> Mapping[TopicPartition, int]:
        """Next offsets to read, where they moved since the last commit."""
        with self._lock:
            return self._outbox.committable()

    def committed(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Note what was committed."""
        with self._lock:
            self._outbox.committed(offsets)

    def settle(self, partitions: Collection[TopicPartition] | None, timeout_s: float) -> bool:
        """Finish the cases that are being explained; those that only wait are left to whoever reads them next."""
        with self._moved:
            self._draining = self._draining or partitions is None
            mine = {job for job in self._running if partitions is None or job.entry.partition in partitions}
            self._moved.wait_for(
                lambda: (
                    (not mine & self._running and not self._writing) or self._blocked() or self._failure is not None
                ),
                timeout_s,
            )
            left = self._outbox.unsettled(partitions)
            if left:
                LOG.info("%s cases are left to whoever reads them next", left)
            return not mine & self._running

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        """Drop what is in flight for partitions that are no longer ours."""
        with self._lock:
            self._outbox.forget(partitions)
            self._handled.forget(partitions)
            self._ready = deque(job for job in self._ready if not job.abandoned)
            self._later = [item for item in self._later if not item[1].abandoned]
            self._triton.drop(lambda job: job.abandoned)
            self._store.drop(lambda job: job.abandoned)
            self._cancel([job for job in self._running if job.abandoned])
            self._work.notify_all()

    # ---- the backlog

    def set_lag(self, cases: int) -> None:
        """Take how many cases wait in Kafka; what is taken from now on is counted off."""
        with self._lock:
            self._lag = cases
        metrics.EXPLAINER_LAG.set(cases)

    @property
    def waiting(self) -> int:
        """Cases that wait, here and in Kafka."""
        return self._lag + self._outbox.open_entries

    @property
    def busy(self) -> bool:
        """Whether a case waits or is being explained."""
        with self._lock:
            return bool(self._running or self._ready)

    # ---- taking

    def _blocked(self) -> bool:
        return self._triton.away or self._store.away or bool(self._outbox.writer_away)

    def _take(self, record: Record) -> None:
        entry = self._outbox.open(record)
        try:
            case = codec.decode_case(record.value)
        except InvalidInputError as error:
            LOG.warning(
                "a record is no case and goes to the dead letters: %s",
                error,
                extra={"reason": error.reason, "partition": record.partition, "offset": record.offset},
            )
            metrics.EXPLAINER_DEAD_LETTERS.labels(error.reason).inc()
            self._outbox.complete(entry, (dead_letter_output(record, error),))
            return
        if not self._handled.add(entry.partition, case.case_id):
            metrics.EXPLAINER_REPLAYED.inc()
            LOG.info("a case came again and is not said again", extra={"case_id": case.case_id})
            self._outbox.complete(entry, ())
            return
        self._ready.append(CaseJob(case, record, entry))

    # ---- explaining

    def _run_worker(self) -> None:
        try:
            while (job := self._next()) is not None:
                self._explain(job)
        except Exception as error:  # noqa: BLE001 - carried to the consumer's thread, which ends the service
            self._fail(error)

    def _next(self) -> CaseJob | None:
        with self._lock:
            while not self._stopping:
                job = None if self._draining else self._due(time.monotonic())
                if job is not None:
                    self._running.add(job)
                    return job
                self._work.wait(_IDLE_S)
        return None

    def _due(self, now_s: float) -> CaseJob | None:
        if self._triton.away or self._store.away:
            # One case finds out whether it is back; the others keep their places.
            return self._triton.next_try() or self._store.next_try()
        for index, (due_s, job) in enumerate(self._later):
            if due_s <= now_s:
                del self._later[index]
                return job
        return self._ready.popleft() if self._ready else None

    def _explain(self, job: CaseJob) -> None:
        output: Output | None = None
        problem: AwayError | ModelMissingError | None = None
        case = job.case
        told = {"sightline.case_id": case.case_id, "sightline.camera": case.inspection.camera_id}
        try:
            with tracing.consumed("explain case", job.record.headers, told) as headers:
                job.headers = headers
                output = self._explainer.explain(job, self.waiting)
        except (AwayError, ModelMissingError) as error:
            problem = error
        with self._lock:
            self._running.discard(job)
            if job.abandoned or self._stopping:
                self._triton.inconclusive()
                self._store.inconclusive()
            elif isinstance(problem, AwayError):
                self._on_away(job, problem)
            else:
                self._on_answered()
                if problem is not None:
                    self._on_missing(job, problem)
                elif output is not None:
                    self._complete(job, output)
                else:
                    self._ready.appendleft(job)
            self._moved.notify_all()
            self._work.notify_all()

    def _on_away(self, job: CaseJob, problem: AwayError) -> None:
        to_triton = problem.dependency == TRITON
        metrics.EXPLAINER_RETRIES.labels("triton" if to_triton else "object_store").inc()
        other, mine = (self._store, self._triton) if to_triton else (self._triton, self._store)
        other.inconclusive()
        mine.failed(job, problem.error)

    def _on_answered(self) -> None:
        for dependency in (self._triton, self._store):
            self._ready.extendleft(reversed(dependency.answered()))

    def _on_missing(self, job: CaseJob, problem: ModelMissingError) -> None:
        now_s = time.monotonic()
        wait_s = self._settings.model_wait_s
        since_s, seen_s = self._missing_s.get(problem.model_name, (now_s, now_s))
        if now_s - seen_s > wait_s + _MODEL_LOOK_S:
            # Nobody asked for so long that this is another absence.
            since_s = now_s
        self._missing_s[problem.model_name] = (since_s, now_s)
        if now_s - since_s < wait_s:
            self._later.append((now_s + min(_MODEL_LOOK_S, wait_s), job))
            return
        LOG.warning("cases of %s go without maps: it was not loaded for %.0f s", problem.model_name, wait_s)
        job.gone = f"the model {problem.model_name} must be loaded to explain, it was not for {wait_s:.0f} s"
        self._ready.appendleft(job)

    def _complete(self, job: CaseJob, output: Output) -> None:
        if any(finding.raw is not None for finding in job.findings.values()):
            # Its model is there: whoever misses it next has the whole wait before him.
            self._missing_s.pop(_model_name(job.case), None)
        self._writing = True
        self._outbox.complete(job.entry, (output,), functools.partial(_settled, job.case, job.said))

    def _cancel(self, jobs: Collection[CaseJob]) -> None:
        for job in jobs:
            steps = job.steps
            if steps is not None:
                steps.close()

    # ---- the writing thread

    def _run_writer(self) -> None:
        try:
            with self._moved:
                while not self._stopping:
                    self._moved.wait(_ACK_POLL_S if self._writing else _IDLE_S)
                    before = (self._outbox.open_entries, self._writing)
                    self._writing = self._outbox.pump()
                    self._watch_writer()
                    metrics.EXPLAINER_IN_FLIGHT.set(self._outbox.open_entries)
                    metrics.EXPLAINER_BACKLOG.set(self.waiting)
                    if before != (self._outbox.open_entries, self._writing):
                        self._moved.notify_all()
        except Exception as error:  # noqa: BLE001 - carried to the consumer's thread, which ends the service
            self._fail(error)

    def _watch_writer(self) -> None:
        if self._outbox.writer_away:
            self._health.hold("kafka writer", self._outbox.writer_away)
            self._writer_held = True
        elif self._writer_held:
            self._health.release("kafka writer")
            self._writer_held = False

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            self._failure = self._failure or error
            self._moved.notify_all()
            self._work.notify_all()


def _model_name(case: Case) -> str:
    return triton_explainer_name(case.inspection.alias, case.inspection.model_version)


def _settled(case: Case, explanations: Sequence[Explanation]) -> None:
    """Count a case whose record is acknowledged."""
    metrics.EXPLAINER_CASES.labels(case.kind.value).inc()
    for each in explanations:
        metrics.EXPLAINER_EXPLANATIONS.labels(each.method, each.status.value).inc()
        if each.reason:
            metrics.EXPLAINER_FAILURES.labels(each.method, each.reason).inc()
        else:
            metrics.EXPLAINER_SECONDS.labels(each.method).observe(each.seconds)
            metrics.EXPLAINER_PASSES.labels(each.method).observe(each.passes)
        if each.grade is not None:
            metrics.EXPLAINER_GRADES.labels(each.method, each.grade.value).inc()
    metrics.EXPLAINER_AGE_SECONDS.observe(max(0.0, time.time() - case.inspection.decided_at_ns / 1e9))
    metrics.EXPLAINER_LAST_SUCCESS.set_to_current_time()


def _tell_up(dependency: str) -> Callable[[bool], None]:
    gauge = metrics.EXPLAINER_DEPENDENCY_UP.labels(dependency)
    gauge.set(1)
    return lambda up: gauge.set(1 if up else 0)
