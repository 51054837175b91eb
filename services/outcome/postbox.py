"""What the line's connections say, on its way to Kafka: on disk first, in order, so that nothing said is lost.

A connection must not wait for the broker before it answers the line. What it says is appended to a spool on this
machine's disk, which survives ``kill -9``, and a thread writes it to its topic; while the broker is away it stays.
"""

from __future__ import annotations

import struct
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Final

from services.adapters.codec_outcome import encode_arrival, encode_line_event
from services.adapters.ports import RecordWriter
from services.adapters.spool import Spool
from services.core import topics
from services.core.errors import EventDecodeError, InvalidInputError, SightlineError, UnavailableError
from services.core.line_event import LineEvent
from services.core.outcome import Arrival
from services.core.types import RecordPosition
from services.runtime import metrics
from services.runtime.logging import get_logger
from services.runtime.retry import Backoff

LOG = get_logger(__name__)

_HEAD: Final = struct.Struct(">HH")
_BATCH: Final = 64
_ACK_S: Final = 60.0


class Postbox:
    """Takes events and arrivals, and writes them to their topics. Thread-safe.

    Args:
        spool: Where they lie until they are acknowledged; this one's alone. Its policy should be ``drop-oldest``: the
            line is answered before its record is complete.
        writer: To Kafka.
    """

    def __init__(self, spool: Spool, writer: RecordWriter) -> None:
        self._spool = spool
        self._writer = writer
        self._wake = threading.Condition()
        self._stopping = False
        self._failure: BaseException | None = None
        self._away = ""
        self._backoff = Backoff(first_s=0.1, cap_s=2.0)
        self._thread = threading.Thread(target=self._run, name="postbox", daemon=True)

    def check(self) -> None:
        """Raise what ended the writing, if anything did."""
        if self._failure is not None:
            raise self._failure

    @property
    def away(self) -> str:
        """Why nothing can be written at present; empty while all is well."""
        return self._away

    def __len__(self) -> int:
        return len(self._spool)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def tell(self, events: Sequence[LineEvent]) -> None:
        """Put events on record; they are safe from ``kill -9`` when this returns."""
        for event in events:
            self._append(topics.LINE_EVENTS, event.line_id, encode_line_event(event))
            metrics.OUTCOME_LINE_EVENTS.labels(event.line_id, event.kind.value).inc()

    def announce(self, arrival: Arrival) -> None:
        """Say that a part is before the cameras, as :meth:`tell` does."""
        self._append(topics.ARRIVALS, arrival.part_id, encode_arrival(arrival))

    def close(self, timeout_s: float) -> None:
        """Write what can be written within ``timeout_s``; the rest stays on disk. Idempotent."""
        with self._wake:
            self._wake.wait_for(lambda: not len(self._spool) or bool(self._away), timeout_s)
            self._stopping = True
            self._wake.notify_all()
        if self._thread.is_alive():
            self._thread.join(2.0)
        self._spool.close()

    def _append(self, topic: str, key: str, value: bytes) -> None:
        self._spool.append(_packed(topic, key.encode(), value))
        with self._wake:
            self._wake.notify_all()

    def _run(self) -> None:
        try:
            while self._wait_for_work():
                try:
                    self._write()
                except SightlineError as error:
                    self._hold(error)
                    with self._wake:
                        self._wake.notify_all()
                        self._wake.wait_for(lambda: self._stopping, self._backoff.next_s())
        except BaseException as error:  # noqa: BLE001 - carried to the main thread and raised there
            self._failure = error

    def _wait_for_work(self) -> bool:
        with self._wake:
            self._wake.wait_for(lambda: self._stopping or len(self._spool) > 0)
            return not self._stopping

    def _write(self) -> None:
        """Write the oldest of the spool, and take away what is acknowledged, up to the first that is not."""
        sent: deque[tuple[int, Future[RecordPosition] | None]] = deque()
        failure: SightlineError | None = None
        for record in self._spool.peek(_BATCH):
            try:
                sent.append((record.number, self._send(record.value)))
            except SightlineError as error:
                failure = error
                break
        for number, ack in sent:
            refusal = self._refusal(ack) if ack is not None else None
            if refusal is not None:
                failure = refusal
                break
            self._spool.acknowledge(number)
        if failure is not None:
            raise failure
        if self._away:
            LOG.info("events are written again")
        self._away = ""
        self._backoff.reset()
        with self._wake:
            self._wake.notify_all()

    def _send(self, packed: bytes) -> Future[RecordPosition] | None:
        """Send one record; None where it is none that can be sent."""
        try:
            topic, key, value = _unpacked(packed)
        except EventDecodeError as error:
            _leave_out(error)
            return None
        return self._writer.send(topic, key=key, value=value)

    def _refusal(self, ack: Future[RecordPosition]) -> SightlineError | None:
        """Why a record must be written again; None once it needs not."""
        try:
            refusal = ack.exception(timeout=_ACK_S)
        except TimeoutError:
            return UnavailableError(f"a record must be acknowledged within {_ACK_S:g} s, got no answer")
        if isinstance(refusal, InvalidInputError):
            # It would hold back all that comes after it, for good.
            _leave_out(refusal)
            return None
        if refusal is not None and not isinstance(refusal, SightlineError):
            raise refusal
        return refusal

    def _hold(self, error: SightlineError) -> None:
        if not self._away:
            LOG.warning("events stay on disk for now: %s", error, extra={"reason": error.reason})
        self._away = str(error) or error.reason


def _leave_out(error: SightlineError) -> None:
    LOG.error("a record of the spool is left out: %s", error)


def _packed(topic: str, key: bytes, value: bytes) -> bytes:
    name = topic.encode()
    return _HEAD.pack(len(name), len(key)) + name + key + value


def _unpacked(data: bytes) -> tuple[str, bytes, bytes]:
    if len(data) < _HEAD.size:
        raise EventDecodeError(f"a spooled event must have a head of {_HEAD.size} bytes, got {len(data)}")
    name_bytes, key_bytes = _HEAD.unpack_from(data)
    key_at = _HEAD.size + name_bytes
    value_at = key_at + key_bytes
    if value_at > len(data):
        raise EventDecodeError(f"a spooled event must be whole, got {len(data)} bytes of {value_at}")
    return data[_HEAD.size : key_at].decode("ascii", "replace"), data[key_at:value_at], data[value_at:]
