"""One camera: reads its source, makes frames, hands them to its outbox; fails and recovers on its own."""

from __future__ import annotations

import threading
import time
from typing import Final

from services.core.errors import SightlineError
from services.core.identity import derive_frame_id
from services.core.types import Frame
from services.ingest.entry import Receipt
from services.ingest.outbox import ClosedError, Outbox
from services.ingest.outgoing import Outgoing
from services.ingest.parts import PartNames, checked_item_name
from services.ingest.settings import CameraSettings, FolderWatchSource
from services.ingest.source import Cursor, Item, Source
from services.ingest.state import CameraState
from services.ingest.triggers import TriggerQueue
from services.runtime import metrics, tracing
from services.runtime.logging import get_logger
from services.runtime.retry import Backoff

LOG = get_logger(__name__)

_READ_S: Final = 0.2
_TRACER = tracing.tracer(__name__)


class Camera:
    """Runs one source on a thread of its own."""

    def __init__(
        self,
        settings: CameraSettings,
        source: Source,
        outbox: Outbox,
        state: CameraState,
        parts: PartNames,
        *,
        triggers: TriggerQueue | None = None,
        retry_cap_s: float = 30.0,
    ) -> None:
        """Wire it; nothing is read yet.

        Args:
            settings: The camera's.
            source: Gives its pictures.
            outbox: Takes its frames.
            state: Its sequence and its place.
            parts: Names the parts where no trigger does.
            triggers: Told of the pictures that were taken for a trigger; None where the camera runs freely.
            retry_cap_s: Longest time between two tries to open the source.
        """
        self._settings = settings
        self._source = source
        self._outbox = outbox
        self._state = state
        self._parts = parts
        self._triggers = triggers
        self._backoff = Backoff(first_s=0.5, cap_s=retry_cap_s)
        self._stopping = threading.Event()
        self._cursor: Cursor = state.cursor
        self._thread = threading.Thread(target=self._run, name=f"camera-{settings.camera_id}", daemon=True)
        self._log = {"camera": settings.camera_id}

    @property
    def camera_id(self) -> str:
        """The camera."""
        return self._settings.camera_id

    @property
    def finished(self) -> bool:
        """Whether its source is at its end and everything of it was handed over."""
        return self._source.exhausted and not self._thread.is_alive()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Take no more from the source; waits for the item at hand."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        up = metrics.INGEST_SOURCE_UP.labels(self.camera_id)
        up.set(0)
        metrics.INGEST_LAST_FRAME.labels(self.camera_id).set_to_current_time()
        while not self._stopping.is_set() and not self._source.exhausted:
            try:
                self._source.open(self._cursor)
                if self._triggers is not None or isinstance(self._settings.source, FolderWatchSource):
                    # Its first picture may be long in coming, and nothing is wrong with that.
                    up.set(1)
                while not self._stopping.is_set() and not self._source.exhausted:
                    item = self._source.read(_READ_S)
                    if item is not None:
                        up.set(1)
                        self._backoff.reset()
                        self._take(item)
            except ClosedError:
                break
            except SightlineError as error:
                self._failed(str(error))
            except Exception:
                # One camera's surprise must not stop the others.
                LOG.exception("a camera failed", extra=self._log)
                self._failed("an unexpected error, see above")
            finally:
                self._close_source()
        up.set(0)
        if self._source.exhausted:
            LOG.info("the source is at its end", extra=self._log)
            # No further frame is waited for.
            metrics.INGEST_LAST_FRAME.remove(self.camera_id)
            metrics.INGEST_SOURCE_UP.remove(self.camera_id)
            if self._triggers is not None:
                self._triggers.end()

    def _failed(self, why: str) -> None:
        metrics.INGEST_SOURCE_UP.labels(self.camera_id).set(0)
        delay_s = self._backoff.next_s()
        LOG.warning("camera is tried again in %.1f s: %s", delay_s, why, extra=self._log)
        self._stopping.wait(delay_s)

    def _close_source(self) -> None:
        try:
            self._source.close()
        except Exception:
            LOG.exception("a camera could not be closed", extra=self._log)

    def _take(self, item: Item) -> None:
        sequence = self._state.next_sequence()
        with _TRACER.start_as_current_span("ingest.frame"):
            outgoing = self._outgoing(item, sequence, tuple(tracing.inject()))
        metrics.INGEST_FRAMES.labels(self.camera_id).inc()
        metrics.INGEST_LAST_FRAME.labels(self.camera_id).set_to_current_time()
        if item.trigger is not None and self._triggers is not None:
            self._triggers.taken(item.trigger, self._settings.cycle_time_ms)
        if item.refusal:
            metrics.INGEST_REFUSED.labels(self.camera_id, item.refusal_reason).inc()
            LOG.warning(
                "a frame was refused: %s",
                item.refusal,
                extra={**self._log, "frame_id": outgoing.frame.frame_id, "reason": item.refusal_reason},
            )

        def safe(_receipt: Receipt) -> None:
            self._source.safe(item)
            self._state.safe(sequence, item.cursor)

        self._outbox.submit(outgoing, safe)
        # Only now: after an error the source goes on with what was not handed over.
        self._cursor = item.cursor

    def _outgoing(self, item: Item, sequence: int, headers: tuple[tuple[str, bytes], ...]) -> Outgoing:
        settings, trigger = self._settings, item.trigger
        if trigger is None:
            frame_id = derive_frame_id(settings.camera_id, item.source_item, item.pass_number, item.item_time_ns)
        else:
            # The same trigger makes the same frame, whatever picture was taken for it.
            frame_id = derive_frame_id(settings.camera_id, trigger.part_id, 0, trigger.triggered_at_ns)
        frame = Frame(
            frame_id=frame_id,
            part_id=self._parts.part_id(item, sequence) if trigger is None else trigger.part_id,
            line_id=settings.line_id,
            camera_id=settings.camera_id,
            product=(trigger.product if trigger is not None else "") or settings.product,
            sequence=sequence,
            captured_at_ns=max(1, min(item.captured_at_ns, time.time_ns())),
            cycle_time_ms=settings.cycle_time_ms,
            source_item=checked_item_name(item.source_item),
            lot=trigger.lot if trigger is not None else "",
            image=item.image,
        )
        return Outgoing(frame, headers, item.refusal, item.refusal_reason)
