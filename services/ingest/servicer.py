"""``IngestService``: frames pushed over gRPC, answered in order once they are safe; and a line's triggers."""

from __future__ import annotations

import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, Final

import grpc
from sightline.v1 import ingest_service_pb2, ingest_service_pb2_grpc

from services.adapters.codec import image_ref_to_message
from services.core.errors import EmptyImageError, ImageTooLargeError, InvalidInputError, NotFoundError, SightlineError
from services.core.identity import id_from_idempotency_key, id_from_text, validate_id
from services.core.types import Frame
from services.ingest.entry import Receipt
from services.ingest.outbox import Outbox
from services.ingest.outgoing import Outgoing
from services.ingest.settings import CameraSettings
from services.ingest.source import PartTrigger
from services.ingest.state import CameraState
from services.ingest.triggers import TriggerDesk
from services.runtime import metrics, tracing
from services.runtime.logging import get_logger

LOG = get_logger(__name__)

_MAX_KEY_LENGTH: Final = 200
_POLL_S: Final = 0.2
_TRACER = tracing.tracer(__name__)


class _Answer:
    """What will be told of one frame; shared by repeats of its key."""

    def __init__(self, frame_id: str, sequence: int) -> None:
        self.frame_id = frame_id
        self.sequence = sequence
        self.receipt: Receipt | None = None
        self.error: SightlineError | None = None
        self.done = threading.Event()

    def safe(self, receipt: Receipt) -> None:
        self.receipt = receipt
        self.done.set()

    def failed(self, error: SightlineError) -> None:
        self.error = error
        self.done.set()


class PushCamera:
    """A camera whose frames come over gRPC."""

    def __init__(
        self,
        settings: CameraSettings,
        outbox: Outbox,
        state: CameraState,
        *,
        max_image_bytes: int,
        remembered_keys: int,
    ) -> None:
        self._settings = settings
        self._outbox = outbox
        self._state = state
        self._max_image_bytes = max_image_bytes
        self._remembered_keys = remembered_keys
        self._lock = threading.Lock()
        self._answers: OrderedDict[str, _Answer] = OrderedDict()

    def publish(self, request: ingest_service_pb2.PublishRequest) -> _Answer:
        """Take one frame; waits while the outbox is full.

        Raises:
            InvalidInputError: When the request breaks a rule.
            SightlineError: When the service stops.
        """
        key = request.idempotency_key
        if not 0 < len(key) <= _MAX_KEY_LENGTH:
            raise InvalidInputError(f"idempotency_key must have 1 to {_MAX_KEY_LENGTH} characters, got {len(key)}")
        # The order of the camera's frames is the order in which this lock is had.
        with self._lock:
            known = self._answers.get(key)
            if known is not None:
                self._answers.move_to_end(key)
                return known
            frame = self._frame(request)
            answer = _Answer(frame.frame_id, frame.sequence)
            with _TRACER.start_as_current_span("ingest.frame"):
                outgoing = Outgoing(frame, tuple(tracing.inject()))
            metrics.INGEST_FRAMES.labels(frame.camera_id).inc()
            metrics.INGEST_LAST_FRAME.labels(frame.camera_id).set_to_current_time()
            self._remember(key, answer)
            try:
                self._outbox.submit(outgoing, lambda receipt: self._safe(answer, receipt))
            except SightlineError as error:
                self._answers.pop(key, None)
                answer.failed(error)
                raise
            return answer

    def _safe(self, answer: _Answer, receipt: Receipt) -> None:
        self._state.safe(answer.sequence, {})
        answer.safe(receipt)

    def _remember(self, key: str, answer: _Answer) -> None:
        self._answers[key] = answer
        while len(self._answers) > self._remembered_keys and next(iter(self._answers.values())).done.is_set():
            self._answers.popitem(last=False)

    def _frame(self, request: ingest_service_pb2.PublishRequest) -> Frame:
        settings = self._settings
        if not request.image:
            raise EmptyImageError("an image must not be empty, got 0 bytes")
        if len(request.image) > self._max_image_bytes:
            raise ImageTooLargeError(
                f"an image must have at most {self._max_image_bytes} bytes, got {len(request.image)}"
            )
        if request.captured_at_ns < 0:
            raise InvalidInputError(f"captured_at_ns must be >= 0, got {request.captured_at_ns}")
        line_id = validate_id(request.line_id or settings.line_id, "line_id")
        product = validate_id(request.product or settings.product, "product")
        captured_at_ns = request.captured_at_ns or time.time_ns()
        frame_id = id_from_idempotency_key(settings.camera_id, request.idempotency_key, captured_at_ns)
        part_id = id_from_text(request.part_id, "part_id") if request.part_id else f"part-{frame_id}"
        return Frame(
            frame_id=frame_id,
            part_id=part_id,
            line_id=line_id,
            camera_id=settings.camera_id,
            product=product,
            sequence=self._state.next_sequence(),
            captured_at_ns=captured_at_ns,
            cycle_time_ms=settings.cycle_time_ms,
            source_item=request.idempotency_key,
            lot=validate_id(request.lot, "lot") if request.lot else "",
            image=request.image,
        )


class IngestServicer(ingest_service_pb2_grpc.IngestServiceServicer):
    """Reads requests on a thread for each stream and answers them in order."""

    def __init__(self, cameras: Mapping[str, PushCamera], triggers: TriggerDesk, *, unanswered: int) -> None:
        """Wire it.

        Args:
            cameras: The push cameras by id.
            triggers: Asks the triggered cameras.
            unanswered: Frames of one stream that may wait for their answer before reading stops.
        """
        self._cameras = cameras
        self._triggers = triggers
        self._unanswered = unanswered

    def Publish(  # noqa: N802 - the service's own name
        self, request_iterator: Iterator[ingest_service_pb2.PublishRequest], context: grpc.ServicerContext
    ) -> Iterator[ingest_service_pb2.PublishResponse]:
        """Take frames until the client has no more."""
        waiting: queue.Queue[tuple[str, _Answer | SightlineError] | None] = queue.Queue()
        room = threading.Semaphore(self._unanswered)
        gone = threading.Event()
        context.add_callback(gone.set)
        threading.Thread(
            target=self._read, args=(request_iterator, waiting, room, gone), name="publish", daemon=True
        ).start()
        while not gone.is_set():
            try:
                entry = waiting.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            if entry is None:
                return
            key, answer = entry
            if isinstance(answer, _Answer):
                while not answer.done.wait(_POLL_S):
                    if gone.is_set():
                        return
            yield _response(key, answer)
            room.release()

    def Trigger(  # noqa: N802 - the service's own name
        self, request: ingest_service_pb2.TriggerRequest, context: grpc.ServicerContext
    ) -> ingest_service_pb2.TriggerResponse:
        """Ask a line's triggered cameras for a picture."""
        del context
        now_ns = time.time_ns()
        if request.triggered_at_ns < 0:
            raise InvalidInputError(f"triggered_at_ns must be >= 0, got {request.triggered_at_ns}")
        trigger = PartTrigger(
            part_id=validate_id(request.part_id, "part_id"),
            product=validate_id(request.product, "product") if request.product else "",
            lot=validate_id(request.lot, "lot") if request.lot else "",
            triggered_at_ns=request.triggered_at_ns or now_ns,
            asked_at_ns=now_ns,
        )
        asked = self._triggers.trigger(validate_id(request.line_id, "line_id"), trigger)
        return ingest_service_pb2.TriggerResponse(camera_ids=asked)

    def _read(
        self,
        requests: Iterator[ingest_service_pb2.PublishRequest],
        waiting: queue.Queue[tuple[str, _Answer | SightlineError] | None],
        room: threading.Semaphore,
        gone: threading.Event,
    ) -> None:
        try:
            for request in requests:
                while not room.acquire(timeout=_POLL_S):
                    if gone.is_set():
                        return
                waiting.put((request.idempotency_key, self._take(request)))
        except Exception as error:  # noqa: BLE001 - grpc raises a bare Exception when the client is gone
            LOG.info("a push stream broke off: %s", error)
        finally:
            waiting.put(None)

    def _take(self, request: ingest_service_pb2.PublishRequest) -> _Answer | SightlineError:
        camera = self._cameras.get(request.camera_id)
        try:
            if camera is None:
                raise NotFoundError(f"camera_id must be a configured push camera, got {request.camera_id[:80]!a}")
            return camera.publish(request)
        except SightlineError as error:
            if not error.retriable:
                name = request.camera_id if camera is not None else "unknown"
                metrics.INGEST_REFUSED.labels(name, error.reason).inc()
                LOG.warning("a pushed frame was refused: %s", error, extra={"camera": name, "reason": error.reason})
            return error


def _response(key: str, answer: _Answer | SightlineError) -> ingest_service_pb2.PublishResponse:
    error = answer if isinstance(answer, SightlineError) else answer.error
    if error is not None:
        told = ingest_service_pb2.PublishError(reason=error.reason, message=str(error))
        return ingest_service_pb2.PublishResponse(idempotency_key=key, error=told)
    values: dict[str, Any] = {}
    if isinstance(answer, _Answer) and answer.receipt is not None:
        ref = answer.receipt.image_ref
        values = {
            "frame_id": answer.frame_id,
            "sequence": answer.sequence,
            "spooled": answer.receipt.spooled,
            "image_ref": None if ref is None else image_ref_to_message(ref),
        }
    return ingest_service_pb2.PublishResponse(idempotency_key=key, ack=ingest_service_pb2.PublishAck(**values))
