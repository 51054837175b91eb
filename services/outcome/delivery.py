"""One receiver's outcomes and events, delivered one after the other and each until the receiver has it.

The queue is Kafka itself: the receiver's own consumer group stands at what it has delivered, so that nothing is lost
while the receiver is away or the service is killed, and what waits needs no memory here. What is delivered again after
a kill has the same id.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from services.adapters.codec_outcome import decode_line_event, decode_outcome
from services.adapters.ports import OutcomeSink, Record, TopicPartition
from services.core import topics
from services.core.errors import EventDecodeError, SightlineError
from services.core.identity import line_event_id
from services.core.line_event import LineEvent, LineEventKind
from services.core.outcome import Outcome
from services.runtime import metrics
from services.runtime.logging import get_logger
from services.runtime.retry import Backoff

LOG = get_logger(__name__)

_NS_PER_S: Final = 1_000_000_000
_MAX_WAITING: Final = 200


class Delivery:
    """The processor of a consumer loop over ``outcomes`` and ``line-events``, for one connection. Thread-safe.

    Args:
        line_id: What other lines say is passed over.
        connection: As settings name it.
        sink: The receiver.
        max_age_s: An outcome that is older when the receiver is back is passed over, and that is on record.
        tell: Puts events on record.
        clock_ns: Wall clock.
    """

    def __init__(
        self,
        line_id: str,
        connection: str,
        sink: OutcomeSink,
        *,
        max_age_s: float,
        tell: Callable[[Sequence[LineEvent]], None],
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._line_id = line_id
        self._connection = connection
        self._sink = sink
        self._max_age_s = max_age_s
        self._tell = tell
        self._clock_ns = clock_ns
        self._waiting: deque[Record] = deque()
        self._places: dict[TopicPartition, int] = {}
        self._committed: dict[TopicPartition, int] = {}
        self._busy = False
        self._work = threading.Condition()
        self._stopping = False
        self._away = ""
        self._failure: BaseException | None = None
        self._backoff = Backoff(first_s=0.1, cap_s=2.0)
        labels = (line_id, connection)
        self._up = metrics.OUTCOME_CONNECTION_UP.labels(*labels)
        self._waits = metrics.OUTCOME_WAITING.labels(*labels)
        self._oldest = metrics.OUTCOME_OLDEST_SECONDS.labels(*labels)
        self._thread = threading.Thread(target=self._run, name=f"deliver-{connection}", daemon=True)

    # ---- life

    def start(self) -> None:
        """Begin to deliver."""
        self._up.set(1)
        self._thread.start()

    def close(self) -> None:
        """Stop delivering and let the receiver go; idempotent."""
        with self._work:
            self._stopping = True
            self._work.notify_all()
        if self._thread.is_alive():
            self._thread.join(10.0)
        self._sink.close()

    # ---- what it is

    @property
    def name(self) -> str:
        """As settings name it."""
        return self._connection

    @property
    def away(self) -> str:
        """Why the receiver does not take anything at present; empty while it does."""
        return self._away

    @property
    def waiting(self) -> int:
        """Read and not delivered; more may wait in Kafka while this is at its bound."""
        return len(self._waiting)

    @property
    def oldest_waiting_ms(self) -> int:
        """Age of the oldest that waits, in milliseconds; 0 while none does."""
        with self._work:
            if not self._waiting:
                return 0
            return max(0, self._clock_ns() // 1_000_000 - self._waiting[0].timestamp_ms)

    # ---- records

    def check(self) -> None:
        """Raise what ended the delivery's thread, if anything did."""
        if self._failure is not None:
            raise self._failure

    def room(self) -> int:
        """How many records may be handed over now."""
        return max(0, _MAX_WAITING - len(self._waiting))

    def wait_for_room(self, timeout_s: float) -> int:
        """Wait until there is room, at most ``timeout_s``."""
        with self._work:
            self._work.wait_for(lambda: self.room() > 0, timeout_s)
        return self.room()

    def take(self, records: Sequence[Record]) -> None:
        """Take records over."""
        with self._work:
            self._waiting.extend(records)
            for record in records:
                # Where it begins is committed too: a group that has committed nothing begins with what is new, and
                # what waits for a receiver that was never there would be passed over after a kill.
                self._places.setdefault(record.topic_partition, record.offset)
            self._work.notify_all()

    def committable(self) -> Mapping[TopicPartition, int]:
        """Next offsets to read, where they moved since the last commit."""
        with self._work:
            return {one: at for one, at in self._places.items() if self._committed.get(one) != at}

    def committed(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Note what was committed."""
        with self._work:
            self._committed.update(offsets)

    def settle(self, partitions: Collection[TopicPartition] | None, timeout_s: float) -> bool:
        """Wait until what was taken is delivered; at once while the receiver is away."""
        with self._work:
            return self._work.wait_for(lambda: bool(self._away) or not self._open(partitions), timeout_s)

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        """Drop what is in flight for partitions that are no longer ours."""
        gone = set(partitions)
        with self._work:
            self._waiting = deque(record for record in self._waiting if record.topic_partition not in gone)
            for partition in gone:
                self._places.pop(partition, None)
                self._committed.pop(partition, None)

    def _open(self, partitions: Collection[TopicPartition] | None) -> bool:
        return self._busy or any(partitions is None or record.topic_partition in partitions for record in self._waiting)

    # ---- delivering

    def _run(self) -> None:
        try:
            while (record := self._next()) is not None:
                if self._deliver(record):
                    self._done(record)
        except BaseException as error:  # noqa: BLE001 - carried to the consumer's thread and raised there
            self._failure = error

    def _next(self) -> Record | None:
        """The oldest that waits; it stays where it is until it is delivered."""
        with self._work:
            self._busy = False
            self._work.notify_all()
            self._work.wait_for(lambda: self._stopping or bool(self._waiting))
            if self._stopping:
                return None
            self._busy = True
            self._waits.set(len(self._waiting))
            return self._waiting[0]

    def _done(self, record: Record) -> None:
        with self._work:
            # Its partition may have left meanwhile, and the record with it.
            if self._waiting and self._waiting[0] is record:
                self._waiting.popleft()
                self._places[record.topic_partition] = record.offset + 1
            self._waits.set(len(self._waiting))

    def _deliver(self, record: Record) -> bool:
        """Deliver one; False where it must be tried again."""
        told = self._decoded(record)
        if told is None or told.line_id != self._line_id:
            return True
        self._oldest.set(max(0.0, self._clock_ns() / _NS_PER_S - record.timestamp_ms / 1_000))
        if isinstance(told, Outcome) and self._clock_ns() - told.decided_at_ns > self._max_age_s * _NS_PER_S:
            self._pass_over(told, "too_old", f"it is older than {self._max_age_s:g} s")
            return True
        try:
            self._sink.deliver(told)
        except SightlineError as error:
            if error.retriable:
                self._hold(error)
                return False
            LOG.error("the receiver %s refuses what it is told: %s", self._connection, error)  # noqa: TRY400
            self._pass_over(told, "refused", str(error))
            return True
        self._release()
        metrics.OUTCOME_DELIVERED.labels(self._line_id, self._connection, "delivered").inc()
        return True

    def _decoded(self, record: Record) -> Outcome | LineEvent | None:
        try:
            return decode_outcome(record.value) if record.topic == topics.OUTCOMES else decode_line_event(record.value)
        except EventDecodeError as error:
            LOG.warning("a record cannot be delivered, at %s: %s", record.position, error)
            return None

    def _pass_over(self, told: Outcome | LineEvent, what: str, why: str) -> None:
        metrics.OUTCOME_DELIVERED.labels(self._line_id, self._connection, what).inc()
        # An event about an event that cannot be told would have one of its own, without end.
        if isinstance(told, Outcome):
            self._say(LineEventKind.UNDELIVERED, why, told.part_id, told.revision)

    def _hold(self, error: SightlineError) -> None:
        if not self._away:
            LOG.warning("%s is away: %s", self._connection, error, extra={"reason": error.reason})
            self._say(LineEventKind.CONNECTION_LOST, str(error))
        self._away = str(error) or error.reason
        self._up.set(0)
        with self._work:
            self._busy = False
            self._work.notify_all()
            self._work.wait_for(lambda: self._stopping, self._backoff.next_s())

    def _release(self) -> None:
        if self._away:
            LOG.info("%s delivers again", self._connection)
            self._away = ""
            self._up.set(1)
            self._say(LineEventKind.CONNECTION_BACK, "")
        self._backoff.reset()

    def _say(self, kind: LineEventKind, detail: str, part_id: str = "", revision: int = 0) -> None:
        at_ns = self._clock_ns()
        event = LineEvent(
            event_id=line_event_id(self._line_id, self._connection, f"{kind.value}:{part_id}:{revision}", at_ns),
            line_id=self._line_id,
            at_ns=at_ns,
            kind=kind,
            connection=self._connection,
            part_id=part_id,
            revision=revision,
            detail=detail[:500],
        )
        self._tell((event,))
