"""Asks the feedback service for the cases of a part."""

from __future__ import annotations

from typing import Final

from sightline.v1 import case_search_service_pb2, case_search_service_pb2_grpc

from services.adapters.codec_review import queued_case_from_message
from services.adapters.grpcpeer import GrpcPeer
from services.core.review import QueuedCase

_MAX_MESSAGE_BYTES: Final = 8_000_000


class CaseSearchClient:
    """One feedback service. Thread-safe; connects when first asked and again after an outage."""

    def __init__(self, address: str) -> None:
        """Set up; nothing is connected yet.

        Args:
            address: ``host:port``.
        """
        self._peer = GrpcPeer(address, "feedback service", max_message_bytes=_MAX_MESSAGE_BYTES)
        self._stub = case_search_service_pb2_grpc.CaseSearchServiceStub(  # type: ignore[no-untyped-call]
            self._peer.channel
        )

    def find(self, text: str, *, limit: int, timeout_s: float = 10.0) -> tuple[tuple[QueuedCase, ...], bool]:
        """Find cases by the id of a case or a frame, or by the beginning of a part's id.

        Args:
            text: What is looked for.
            limit: Most of them, 1 to 200.
            timeout_s: Deadline.

        Returns:
            The cases, and whether there are more.

        Raises:
            InvalidInputError: For a text that can be no id.
            BusyError: Too many callers wait.
            UnavailableError: The service does not answer in time, or fails.
            EventDecodeError: Its answer breaks a rule.
        """
        request = case_search_service_pb2.FindCasesRequest(text=text, limit=limit)
        response = self._peer.ask(self._stub.FindCases, request, timeout_s)
        return tuple(queued_case_from_message(one) for one in response.cases), bool(response.more)

    def close(self) -> None:
        """Cancel what is in flight and let go; idempotent."""
        self._peer.close()
