"""``DetectorService``: a verdict for a caller that waits for it, on the same path as the stream's frames."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol

import grpc
from sightline.v1 import detector_service_pb2, detector_service_pb2_grpc

from services.adapters import codec
from services.core.errors import BusyError, DeadlineError, InvalidInputError, SightlineError
from services.core.identity import id_from_idempotency_key, validate_id
from services.core.types import Frame
from services.detector.job import Answer
from services.runtime import metrics

#: What an image that comes by a call, from no line and no camera, is filed under.
CALLER = "inspect"
_NO_PRODUCT = "unspecified"


class Inspects(Protocol):
    """What the servicer needs of the pipeline."""

    def inspect(self, frame: Frame) -> Future[Answer]:
        """Ask about one image outside of the stream."""
        ...


class DetectorServicer(detector_service_pb2_grpc.DetectorServiceServicer):
    """Answers calls; waits no longer than the caller does, and lets only so many wait at once.

    Args:
        pipeline: Does the work.
        max_waiting: Most callers at once.
        timeout_s: Longest wait of a caller without a deadline.
        clock_ns: Wall clock.
    """

    def __init__(
        self,
        pipeline: Inspects,
        *,
        max_waiting: int,
        timeout_s: float,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._pipeline = pipeline
        self._max_waiting = max_waiting
        self._timeout_s = timeout_s
        self._clock_ns = clock_ns
        self._places = threading.BoundedSemaphore(max_waiting)

    def Inspect(  # noqa: N802 - the name of the call
        self, request: detector_service_pb2.InspectRequest, context: grpc.ServicerContext
    ) -> detector_service_pb2.InspectResponse:
        """Inspect one image with the live model of the product's alias.

        Raises:
            InvalidInputError: For an image that breaks a rule.
            UnavailableError: While no model is live or Triton is away.
            BusyError: When too many callers wait.
            DeadlineError: When the call's own deadline passes.
        """
        if not self._places.acquire(blocking=False):
            metrics.DETECTOR_INSPECT.labels("busy").inc()
            raise BusyError(f"at most {self._max_waiting} callers may wait at once, got one more")
        try:
            answer = self._wait(self._pipeline.inspect(self._frame(request)), context.time_remaining())
        except SightlineError as error:
            metrics.DETECTOR_INSPECT.labels(error.reason).inc()
            raise
        finally:
            self._places.release()
        metrics.DETECTOR_INSPECT.labels("answered").inc()
        return detector_service_pb2.InspectResponse(
            inspection=codec.inspection_to_message(answer.inspection),
            probabilities=[float(value) for value in answer.probabilities],
            classes=answer.classes,
            embedding=[float(value) for value in answer.embedding] if request.with_embedding else (),
        )

    def _wait(self, future: Future[Answer], remaining_s: float | None) -> Answer:
        timeout_s = self._timeout_s if remaining_s is None else min(self._timeout_s, max(0.0, remaining_s))
        try:
            return future.result(timeout_s)
        except TimeoutError as error:
            # What nobody waits for is not worth a place in a batch.
            future.cancel()
            raise DeadlineError(f"an answer must come within the caller's {timeout_s:.3f} s, it did not") from error

    def _frame(self, request: detector_service_pb2.InspectRequest) -> Frame:
        if not request.image:
            raise InvalidInputError("image must not be empty")
        now_ns = self._clock_ns()
        frame_id = id_from_idempotency_key(CALLER, uuid.uuid4().hex, now_ns)
        return Frame(
            frame_id=frame_id,
            part_id=validate_id(request.part_id, "part_id") if request.part_id else frame_id,
            line_id=CALLER,
            camera_id=CALLER,
            product=validate_id(request.product, "product") if request.product else _NO_PRODUCT,
            sequence=1,
            captured_at_ns=now_ns,
            image=request.image,
        )
