"""Asks the explainer service for maps that become better while they are looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import grpc
from sightline.v1 import explainer_service_pb2, explainer_service_pb2_grpc

from services.adapters.codec_explained import explanation_from_message
from services.adapters.grpcpeer import GrpcPeer
from services.core.errors import (
    ExplanationError,
)
from services.core.types import Explanation

_MAX_MESSAGE_BYTES: Final = 64_000_000


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

    def __init__(self, responses: Any, peer: GrpcPeer) -> None:
        self._responses = responses
        self._peer = peer
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
            raise self._peer.error(error) from error
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
        self._peer = GrpcPeer(
            address,
            "explainer service",
            max_message_bytes=_MAX_MESSAGE_BYTES,
            tells_deadlines=True,
            failure=ExplanationError,
        )
        self._stub = explainer_service_pb2_grpc.ExplainerServiceStub(self._peer.channel)  # type: ignore[no-untyped-call]

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
        return ExplanationStream(self._stub.Explain(request, timeout=timeout_s), self._peer)

    def close(self) -> None:
        """Cancel what is in flight and let go; idempotent."""
        self._peer.close()
