"""Asks the feedback service what new models changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sightline.v1 import changes_service_pb2, changes_service_pb2_grpc

from services.adapters.codec_changes import part_from_message, summary_from_message
from services.adapters.grpcpeer import GrpcPeer
from services.core.model_change import ChangeSummary, ComparedPart

# Some thousand parts.
_MAX_MESSAGE_BYTES: Final = 16_000_000


@dataclass(frozen=True, slots=True)
class ChangePage:
    """One page of changes, the newest first."""

    changes: tuple[ChangeSummary, ...]
    next_token: str
    """For the next page; empty where nothing follows."""
    compares: bool
    """Whether the service compares: False where it knows no detector to ask."""


class ChangesClient:
    """One feedback service. Thread-safe; connects when first asked and again after an outage.

    Every call raises:
        InvalidInputError: The service refuses what it was asked.
        NotFoundError: There is no such change.
        BusyError: Too many callers wait.
        UnavailableError: The service does not answer in time, or fails.
        EventDecodeError: Its answer breaks a rule.
    """

    def __init__(self, address: str) -> None:
        """Set up; nothing is connected yet.

        Args:
            address: ``host:port``.
        """
        self._peer = GrpcPeer(address, "feedback service", max_message_bytes=_MAX_MESSAGE_BYTES)
        self._stub = changes_service_pb2_grpc.ChangesServiceStub(self._peer.channel)  # type: ignore[no-untyped-call]

    def list_changes(
        self, *, alias: str = "", reviewer: str = "", limit: int = 0, token: str = "", timeout_s: float = 10.0
    ) -> ChangePage:
        """One page of changes.

        Args:
            alias: Of which alias; empty takes all.
            reviewer: Whose corrections are counted; empty counts everyone's.
            limit: Most of them, 1 to 50; 0 leaves it to the service.
            token: Of an earlier page; empty for the first.
            timeout_s: Deadline.
        """
        request = changes_service_pb2.ListChangesRequest(
            alias=alias, reviewer=reviewer, page_size=limit, page_token=token
        )
        response = self._peer.ask(self._stub.ListChanges, request, timeout_s)
        changes = tuple(summary_from_message(one) for one in response.changes)
        return ChangePage(changes, response.next_page_token, bool(response.compares))

    def get_change(
        self, alias: str, revision: int, reviewer: str = "", timeout_s: float = 10.0
    ) -> tuple[ChangeSummary, tuple[ComparedPart, ...]]:
        """One change with its parts, the newest correction first."""
        request = changes_service_pb2.GetChangeRequest(alias=alias, revision=revision, reviewer=reviewer)
        response = self._peer.ask(self._stub.GetChange, request, timeout_s)
        return summary_from_message(response.summary), tuple(part_from_message(one) for one in response.parts)

    def close(self) -> None:
        """Cancel what is in flight and let go; idempotent."""
        self._peer.close()
