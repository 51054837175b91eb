"""One camera's way to Kafka: in order, bounded, onto disk while the broker or the object store is away.

As long as all is well a frame goes straight to the writer. When an acknowledgement stays out for ``outage_after_s``,
or the writer or the store says that it is away, an outage begins: what is unacknowledged and everything that follows
goes to the spool, in order. One thread tries the oldest frame until it gets through, drains the rest in order, and
ends the outage when the spool is empty. What was in flight when the outage began may arrive twice, with the same id.

A frame is one record or two: ahead of its own goes the word of its part (``arrivals.py``), which does not wait for the
upload of a large image. A frame is safe only once both are acknowledged. While the store alone is away the word still
goes at once and only the frames wait on disk: whoever answers for the part must know of it in time.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Final

from services.adapters.ports import ObjectStore, RecordWriter
from services.adapters.spool import Spool, SpooledRecord
from services.core.errors import EventDecodeError, InvalidInputError, SightlineError, SpoolFullError, UnavailableError
from services.core.types import RecordPosition
from services.ingest.arrivals import Arrivals, is_final
from services.ingest.entry import Entry, OnSafe, Receipt
from services.ingest.outgoing import Outgoing, OutgoingRecord, from_disk, to_disk, to_record
from services.runtime import metrics
from services.runtime.logging import get_logger
from services.runtime.retry import Backoff

LOG = get_logger(__name__)

_TICK_S: Final = 0.1
_DRAIN_FRAMES: Final = 64
_DRAIN_BYTES: Final = 8 * 1024 * 1024


class ClosedError(UnavailableError):
    """The outbox is closing and takes nothing more."""

    reason = "closing"


class _StoreAwayError(UnavailableError):
    """The store does not take an image; it says nothing of the broker."""


class Outbox:
    """Takes a camera's frames and lets go of each when it is safe. Thread-safe; frames keep the order of the calls."""

    def __init__(
        self,
        camera_id: str,
        writer: RecordWriter,
        store: ObjectStore,
        spool: Spool,
        *,
        inline_limit_bytes: int,
        in_flight_frames: int = 128,
        in_flight_bytes: int = 16_000_000,
        outage_after_s: float = 2.0,
        retry_cap_s: float = 5.0,
        arrivals: bool = True,
    ) -> None:
        """Wire it and start its thread.

        Args:
            camera_id: For metrics and logs.
            writer: Shared by all cameras.
            store: Takes large images.
            spool: This camera's own; what an earlier run left in it goes first.
            inline_limit_bytes: Bound of a message with its image inside.
            in_flight_frames: Frames that may wait for their acknowledgement.
            in_flight_bytes: Bytes of those frames; one larger frame may wait alone.
            outage_after_s: Without an acknowledgement for this long, frames go to disk.
            retry_cap_s: Longest time between two tries during an outage.
            arrivals: Whether the word of its part goes ahead of each frame.
        """
        self._camera_id = camera_id
        self._writer = writer
        self._arrivals = Arrivals(writer, enabled=arrivals)
        self._store = store
        self._spool = spool
        self._inline_limit_bytes = inline_limit_bytes
        self._in_flight_frames = in_flight_frames
        self._in_flight_bytes = in_flight_bytes
        self._pending_bytes = 0
        self._outage_after_s = outage_after_s
        self._backoff = Backoff(first_s=0.1, cap_s=retry_cap_s)
        #: Held while the order of frames is decided; never taken by the writer's thread.
        self._order = threading.RLock()
        #: Guards what follows; held for moments only.
        self._state = threading.Condition(threading.Lock())
        self._pending: deque[Entry] = deque()
        self._left: deque[Entry] = deque()
        self._spooled: dict[int, Entry] = {}
        self._told_full = False
        self._probing = True
        #: Whether arrivals go at once although frames go to disk: only the store is away.
        self._ahead = False
        self._closing = False
        self._direct = len(spool) == 0
        self._dropped_told = 0
        self._last_bytes = (0, 0)
        metrics.INGEST_OUTAGE.labels(camera_id).set(0 if self._direct else 1)
        if not self._direct:
            LOG.info("frames of an earlier run wait on disk", extra={"camera": camera_id, "frames": len(spool)})
        self._tell_gauges()
        self._thread = threading.Thread(target=self._run, name=f"outbox-{camera_id}", daemon=True)
        self._thread.start()

    @property
    def outage(self) -> bool:
        """Whether frames go to disk at present."""
        return not self._direct

    # ---- taking frames

    def submit(self, outgoing: Outgoing, on_safe: OnSafe) -> None:
        """Take one frame; waits while too many are in flight or the spool is full and may not drop.

        Args:
            outgoing: The frame.
            on_safe: Called once, in order, from any thread, when the frame is acknowledged or on disk; must be quick.

        Raises:
            ClosedError: When the outbox closes before the frame is safe.
        """
        entry = Entry(outgoing, on_safe)
        # With the order held, so that another stream's frame of this camera does not overtake during the upload.
        with self._order:
            if self._direct and self._send(entry):
                return
            while not self._put_on_disk(entry):
                self._wait_for_room()
                if self._direct and self._send(entry):
                    return

    def _send(self, entry: Entry) -> bool:
        """Send it straight; False when an outage began instead."""
        if not self._wait_for_window(entry.outgoing.size_bytes):
            return False
        try:
            self._dispatch(entry)
        except InvalidInputError as error:
            return self._send(Entry(_refused(entry.outgoing, error), entry.on_safe))
        except SightlineError as error:
            self._begin_outage(str(error), ahead=isinstance(error, _StoreAwayError))
            return False
        return True

    def _dispatch(self, entry: Entry) -> None:
        # Before the image, whose upload may take its time.
        entry.arrival = self._arrivals.send(entry.outgoing)
        record = self._record(entry.outgoing)
        entry.image_ref = record.image_ref
        began_s = time.monotonic()
        frame = self._writer.send(record.topic, key=record.key, value=record.value, headers=record.headers)
        sent = [frame] if entry.arrival is None else [entry.arrival, frame]
        entry.sent_s = began_s
        with self._state:
            entry.unsettled = len(sent)
            self._pending.append(entry)
            self._pending_bytes += entry.outgoing.size_bytes
        for future in sent:
            future.add_done_callback(lambda done: self._settled(entry, done))

    def _record(self, outgoing: Outgoing) -> OutgoingRecord:
        try:
            return to_record(outgoing, self._store, inline_limit_bytes=self._inline_limit_bytes)
        except InvalidInputError:
            raise
        except SightlineError as error:
            raise _StoreAwayError(str(error)) from error

    def _settled(self, entry: Entry, future: Future[RecordPosition]) -> None:
        error = future.exception()
        if future is entry.arrival and is_final(error):
            error = None
        safe: list[tuple[OnSafe, Receipt]] = []
        with self._state:
            entry.unsettled -= 1
            if error is not None:
                entry.error = error if isinstance(error, SightlineError) else UnavailableError(f"write failed: {error}")
            elif entry.acknowledged:
                metrics.INGEST_PUBLISHED.labels(self._camera_id).inc()
                metrics.INGEST_PUBLISH_SECONDS.observe(time.monotonic() - entry.sent_s)
            while self._pending and self._pending[0].acknowledged:
                done = self._pending.popleft()
                self._pending_bytes -= done.outgoing.size_bytes
                if done.on_safe is not None:
                    safe.append((done.on_safe, Receipt(spooled=False, image_ref=done.image_ref)))
                    done.on_safe = None
            self._state.notify_all()
        for on_safe, receipt in safe:
            on_safe(receipt)

    def _wait_for_window(self, size_bytes: int) -> bool:
        end_s = time.monotonic() + self._outage_after_s
        with self._state:
            while self._direct and self._window_full(size_bytes):
                self._check_open()
                left_s = end_s - time.monotonic()
                if left_s <= 0:
                    break
                self._state.wait(min(left_s, _TICK_S))
            self._check_open()
            full = self._window_full(size_bytes)
        if full and self._direct:
            self._begin_outage(f"no acknowledgement for {self._outage_after_s} s")
        return self._direct

    def _window_full(self, size_bytes: int) -> bool:
        if len(self._pending) >= self._in_flight_frames:
            return True
        return bool(self._pending) and self._pending_bytes + size_bytes > self._in_flight_bytes

    def _check_open(self) -> None:
        if self._closing:
            raise ClosedError("an outbox must be open to take a frame, got a closing one")

    def _put_on_disk(self, entry: Entry) -> bool:
        with self._state:
            self._check_open()
            if self._left:
                return False
        try:
            self._append(entry)
        except SpoolFullError as error:
            if not self._told_full:
                LOG.warning("the spool is full and the camera waits: %s", error, extra={"camera": self._camera_id})
            self._told_full = True
            return False
        self._told_full = False
        return True

    def _append(self, entry: Entry) -> None:
        number = self._spool.append(to_disk(entry.outgoing))
        if entry.arrival is None and self._ahead:
            entry.arrival = self._tell_ahead(entry.outgoing)
        if entry.arrival is not None:
            self._arrivals.keep(number, entry.arrival)
        with self._state:
            if entry.sent_s:
                # It may arrive yet; then the drain leaves it out.
                self._spooled[number] = entry
            on_safe, entry.on_safe = entry.on_safe, None
        self._tell_gauges()
        if on_safe is not None:
            on_safe(Receipt(spooled=True))

    def _tell_ahead(self, outgoing: Outgoing) -> Future[RecordPosition] | None:
        try:
            return self._arrivals.send(outgoing)
        except SightlineError:
            # Now the broker is away too: the word waits with its frame.
            self._ahead = False
            return None

    def _wait_for_room(self) -> None:
        # The drain needs the order now and then; give it up while waiting.
        self._order.release()
        try:
            with self._state:
                self._state.wait(_TICK_S)
        finally:
            self._order.acquire()

    # ---- outage

    def _begin_outage(self, why: str, *, ahead: bool = False) -> None:
        with self._order:
            if not self._direct:
                return
            self._direct = False
            self._ahead = ahead
            metrics.INGEST_OUTAGE.labels(self._camera_id).set(1)
            with self._state:
                # Frames in flight may fail yet: they go to disk first, so that nothing overtakes them.
                self._left.extend(self._pending)
                self._pending.clear()
                self._pending_bytes = 0
                self._probing = True
            LOG.warning("frames go to disk: %s", why, extra={"camera": self._camera_id, "in_flight": len(self._left)})
            self._spool_left()

    def _spool_left(self) -> None:
        with contextlib.suppress(SpoolFullError):
            while self._left:
                if not self._left[0].acknowledged:
                    self._append(self._left[0])
                elif (on_safe := self._left[0].on_safe) is not None:
                    self._left[0].on_safe = None
                    on_safe(Receipt(spooled=False, image_ref=self._left[0].image_ref))
                with self._state:
                    self._left.popleft()

    def _run(self) -> None:
        while True:
            with self._state:
                if self._closing:
                    return
                self._state.wait(_TICK_S)
            try:
                self._turn()
            except SightlineError as error:
                LOG.info("still away: %s", error, extra={"camera": self._camera_id})
                self._pause()
            except Exception:
                # A disk that fails, say: the camera's frames stay where they are, and the next turn tries again.
                LOG.exception("the outbox stumbled", extra={"camera": self._camera_id})
                self._pause()

    def _pause(self) -> None:
        end_s = time.monotonic() + self._backoff.next_s()
        with self._state:
            while not self._closing and (left_s := end_s - time.monotonic()) > 0:
                self._state.wait(left_s)

    def _turn(self) -> None:
        if self._direct:
            why = self._overdue()
            if why:
                self._begin_outage(why)
            return
        self._spool_left_if_free()
        if self._in_flight_unsettled():
            return
        while not self._closing:
            entries = self._oldest()
            if not entries:
                break
            self._drain(entries)
        self._end_outage()

    def _overdue(self) -> str:
        with self._state:
            failed = next((entry.error for entry in self._pending if entry.error is not None), None)
            if failed is not None:
                return str(failed)
            if self._pending and time.monotonic() - self._pending[0].sent_s > self._outage_after_s:
                return f"no acknowledgement for {self._outage_after_s} s"
        return ""

    def _spool_left_if_free(self) -> None:
        if self._left and self._order.acquire(timeout=_TICK_S):
            try:
                self._spool_left()
            finally:
                self._order.release()

    def _in_flight_unsettled(self) -> bool:
        """Frames that were in flight when the outage began must fail or arrive before the drain sends them again."""
        with self._state:
            return any(entry.under_way for entry in [*self._spooled.values(), *self._left])

    def _oldest(self) -> list[tuple[int, Entry | None]]:
        """The oldest frames: of the spool, or of memory when the disk takes nothing."""
        found: list[tuple[int, Entry | None]] = []
        size_bytes = 0
        for record in self._spool.peek(1 if self._probing else _DRAIN_FRAMES):
            size_bytes += len(record.value)
            if found and size_bytes > _DRAIN_BYTES:
                break
            found.append((record.number, self._from_disk(record)))
        if not found and self._left:
            found.append((0, self._left[0]))
        return found

    def _from_disk(self, record: SpooledRecord) -> Entry | None:
        known = self._spooled.get(record.number)
        if known is not None and known.acknowledged:
            return known
        try:
            return Entry(from_disk(record.value), None)
        except EventDecodeError:
            LOG.exception("a spooled frame cannot be read and is left out", extra={"camera": self._camera_id})
            metrics.INGEST_REFUSED.labels(self._camera_id, "spool_undecodable").inc()
            return None

    def _drain(self, entries: Sequence[tuple[int, Entry | None]]) -> None:
        """Send them in order; take away those that arrived before the first that did not."""
        # Here, and not where frames are put on disk: it was read from there a moment ago.
        oldest = next((entry.outgoing.frame for number, entry in entries if number and entry is not None), None)
        if oldest is not None:
            metrics.INGEST_SPOOL_OLDEST.labels(self._camera_id).set(oldest.captured_at_ns / 1e9)
        sent: list[tuple[int, Entry | None, Future[RecordPosition] | None]] = []
        failure: SightlineError | None = None
        for number, entry in entries:
            try:
                done = entry is None or entry.acknowledged
                sent.append((number, entry, None if done or entry is None else self._resend(number, entry)))
            except SightlineError as error:
                failure = error
                break
        for number, entry, frame in sent:
            try:
                if entry is not None and frame is not None:
                    self._await(entry, frame)
                    metrics.INGEST_PUBLISHED.labels(self._camera_id).inc()
            except InvalidInputError as error:
                # Only the broker's own limit can say so this late: the word of it goes instead.
                if entry is not None:
                    refused = Entry(_refused(entry.outgoing, error), None)
                    self._await(refused, self._resend(0, refused))
            except SightlineError as error:
                failure = error
                break
            self._arrived(number, entry)
        self._probing = failure is not None
        if failure is not None:
            reached = bool(sent) or self._arrivals.told(entries[0][0])
            self._ahead = reached and isinstance(failure, _StoreAwayError)
            raise failure
        self._backoff.reset()

    def _await(self, entry: Entry, frame: Future[RecordPosition]) -> None:
        for future in (entry.arrival, frame):
            error = None if future is None else self._error_of(future)
            if error is not None and not (future is entry.arrival and is_final(error)):
                raise error

    def _error_of(self, future: Future[RecordPosition]) -> BaseException | None:
        while not self._closing:
            with contextlib.suppress(TimeoutError):
                return future.exception(timeout=_TICK_S)
        raise ClosedError("an outbox must be open to drain its spool, got a closing one")

    def _resend(self, number: int, entry: Entry) -> Future[RecordPosition]:
        """Send a frame again, and the word of its part unless that is known to have arrived; 0 = not on disk."""
        entry.arrival = None if number and self._arrivals.told(number) else self._arrivals.send(entry.outgoing)
        if number and entry.arrival is not None:
            self._arrivals.keep(number, entry.arrival)
        try:
            record = self._record(entry.outgoing)
        except InvalidInputError as error:
            refused = _refused(entry.outgoing, error)
            entry.arrival = self._arrivals.send(refused)
            record = to_record(refused, self._store, inline_limit_bytes=0)
        entry.image_ref = record.image_ref
        return self._writer.send(record.topic, key=record.key, value=record.value, headers=record.headers)

    def _arrived(self, number: int, entry: Entry | None) -> None:
        if number:
            self._spool.acknowledge(number)
            self._arrivals.forget(number)
            with self._state:
                for each in [each for each in self._spooled if each <= number]:
                    del self._spooled[each]
                self._state.notify_all()
            self._tell_gauges()
            return
        with self._state:
            self._left.popleft()
            self._state.notify_all()
        if entry is not None and entry.on_safe is not None:
            on_safe, entry.on_safe = entry.on_safe, None
            on_safe(Receipt(spooled=False, image_ref=entry.image_ref))

    def _end_outage(self) -> None:
        if not self._order.acquire(timeout=_TICK_S):
            return
        try:
            if len(self._spool) == 0 and not self._left and not self._closing:
                self._direct = True
                self._ahead = False
                metrics.INGEST_OUTAGE.labels(self._camera_id).set(0)
                self._spooled.clear()
                LOG.info("frames go straight again", extra={"camera": self._camera_id})
        finally:
            self._order.release()

    def _tell_gauges(self) -> None:
        frames, size_bytes = len(self._spool), self._spool.size_bytes
        metrics.INGEST_SPOOL_FRAMES.inc(frames - self._last_bytes[0])
        metrics.INGEST_SPOOL_BYTES.inc(size_bytes - self._last_bytes[1])
        self._last_bytes = (frames, size_bytes)
        if frames == 0:
            metrics.INGEST_SPOOL_OLDEST.labels(self._camera_id).set(0)
        dropped = self._spool.dropped
        if dropped > self._dropped_told:
            metrics.INGEST_DROPPED.labels(self._camera_id).inc(dropped - self._dropped_told)
            self._dropped_told = dropped

    # ---- the end

    def close(self, timeout_s: float) -> None:
        """Wait for what is in flight; what is not acknowledged by then goes to disk. Idempotent."""
        end_s = time.monotonic() + timeout_s
        with self._state:
            while self._pending and not any(entry.error for entry in self._pending):
                left_s = end_s - time.monotonic()
                if left_s <= 0 or not self._direct:
                    break
                self._state.wait(min(left_s, _TICK_S))
            unsafe = len(self._pending)
        if unsafe:
            self._begin_outage("ingest stops")
        with self._state:
            self._closing = True
            self._state.notify_all()
        self._thread.join(max(1.0, end_s - time.monotonic()))
        if self._left:
            self._spool_left()
        if self._left:
            LOG.error("frames could not be put on disk at the stop", extra={"frames": len(self._left)})
        self._spool.close()


def _refused(outgoing: Outgoing, error: InvalidInputError) -> Outgoing:
    frame = replace(outgoing.frame, image=b"", image_ref=None)
    metrics.INGEST_REFUSED.labels(frame.camera_id, error.reason).inc()
    LOG.warning("a frame was refused: %s", error, extra={"frame_id": frame.frame_id, "reason": error.reason})
    return Outgoing(frame, outgoing.headers, str(error), error.reason)
