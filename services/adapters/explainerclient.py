"""Asks the explainer service for maps that become better while they are looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import grpc
from sightline.v1 import explainer_service_pb2, explainer_service_pb2_grpc

from services.adapters.codec_explained import explanation_from_message
from services.core.errors import (
    BusyError,
    DeadlineError,
    ExplanationError,
    InvalidInputError,
    NotFoundError,
    SightlineError,
    UnavailableError,
)
from services.core.types import Explanation

_MAX_MESSAGE_BYTES: Final = 64_000_000
_ERRORS: Final[dict[grpc.StatusCode, Callable[[str], SightlineError]]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidInputError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.UNIMPLEMENTED: UnavailableError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: BusyError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineError,
}


@dataclass(frozen=True, slots=True)
class ExplainCall:
    """What the service is asked.

    Attributes:
        image: Encoded: JPEG, PNG, BMP or TIFF.
        alias: The model.
        model_version: Its version.
        method: Name of the method; empty takes the service's default.
        frame_id: Seeds what is drawn.
    """

    image: bytes
    alias: str
    model_version: int
    method: str
    frame_id: str


class ExplanationStream:
    """The answers to one call, in their order. ``cancel`` may be called from any thread and ends the work."""

    def __init__(self, responses: Any) -> None:
        self._responses = responses
        self._cancelled = False

    def next(self) -> tuple[Explanation, bool] | None:
        """Wait for the next map.

        Returns:
            The map and whether it is the last one; None when nothing follows.

        Raises:
            UnavailableError: The service does not answer, or breaks off.
            NotFoundError: The model version is not loaded.
            InvalidInputError: The service refuses what it was asked.
            BusyError: Too many callers wait.
            DeadlineError: The deadline passed.
            ExplanationError: The service failed.
        """
        try:
            response = next(self._responses, None)
        except grpc.RpcError as error:
            if self._cancelled:
                return None
            raise _domain_error(error) from error
        if response is None:
            return None
        return explanation_from_message(response.explanation), bool(response.final)

    def cancel(self) -> None:
        """End the call; idempotent."""
        self._cancelled = True
        self._responses.cancel()


class GrpcExplainer:
    """One explainer service. Thread-safe; connects when first asked and again after an outage."""

    def __init__(self, address: str) -> None:
        """Set up; nothing is connected yet.

        Args:
            address: ``host:port``.
        """
        options = [
            ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
            ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
            ("grpc.max_reconnect_backoff_ms", 3_000),
        ]
        self._channel = grpc.insecure_channel(address, options=options)
        self._stub = explainer_service_pb2_grpc.ExplainerServiceStub(self._channel)  # type: ignore[no-untyped-call]

    def explain(self, call: ExplainCall, timeout_s: float) -> ExplanationStream:
        """Begin to explain one image.

        Args:
            call: What to explain.
            timeout_s: Deadline of the whole stream.
        """
        request = explainer_service_pb2.ExplainRequest(
            image=call.image,
            alias=call.alias,
            model_version=call.model_version,
            method=call.method,
            frame_id=call.frame_id,
        )
        return ExplanationStream(self._stub.Explain(request, timeout=timeout_s))

    def close(self) -> None:
        """Cancel what is in flight and let go; idempotent."""
        self._channel.close()


def _domain_error(error: grpc.RpcError) -> SightlineError:
    code = error.code() if isinstance(error, grpc.Call) else grpc.StatusCode.UNKNOWN
    said = (error.details() if isinstance(error, grpc.Call) else "") or "nothing"
    make = _ERRORS.get(code)
    if make is None:
        return ExplanationError(f"the explainer service must answer, got {code.name}: {said}")
    if make is UnavailableError:
        return UnavailableError(f"the explainer service must answer, got {code.name}: {said}")
    return make(said)
