"""Asks the feedback service for cases as an archive."""

from __future__ import annotations

from typing import Any, Final

import grpc
from sightline.v1 import export_service_pb2, export_service_pb2_grpc

from services.adapters.exportorder import LABELS_TO_WIRE, LAYOUT_TO_WIRE, ExportOrder, ExportPiece
from services.adapters.feedbackclient import case_filter_to_message
from services.adapters.grpcpeer import GrpcPeer

# Ten thousand ids, and pieces of 256 KiB.
_MAX_MESSAGE_BYTES: Final = 4_000_000


class ExportStream:
    """The pieces of one archive, in their order. ``cancel`` may be called from any thread and ends the work."""

    def __init__(self, responses: Any, peer: GrpcPeer) -> None:
        self._responses = responses
        self._peer = peer
        self._cancelled = False

    def next(self) -> ExportPiece | None:
        """Wait for the next piece.

        Returns:
            The piece; None when nothing follows: the archive is whole, unless it was cancelled.

        Raises:
            InvalidInputError: The service refuses what it was asked.
            BusyError: As many exports run as may.
            UnavailableError: The service does not answer, or breaks off.
        """
        try:
            response = next(self._responses, None)
        except grpc.RpcError as error:
            if self._cancelled:
                return None
            raise self._peer.error(error) from error
        if response is None:
            return None
        return ExportPiece(response.data, response.cases_done, response.cases_expected)

    def cancel(self) -> None:
        """End the call; idempotent."""
        self._cancelled = True
        self._responses.cancel()


class ExportClient:
    """One feedback service. Thread-safe; connects when first asked and again after an outage."""

    def __init__(self, address: str) -> None:
        """Set up; nothing is connected yet.

        Args:
            address: ``host:port``.
        """
        self._peer = GrpcPeer(
            address, "feedback service", max_message_bytes=_MAX_MESSAGE_BYTES, duty="give the whole archive"
        )
        self._stub = export_service_pb2_grpc.ExportServiceStub(self._peer.channel)  # type: ignore[no-untyped-call]

    def export(self, order: ExportOrder) -> ExportStream:
        """Begin an export. It has no deadline: how long it may take depends on how much there is.

        Args:
            order: What the archive holds.
        """
        request = export_service_pb2.ExportRequest(
            filter=case_filter_to_message(order.where),
            case_ids=order.case_ids,
            layout=LAYOUT_TO_WIRE[order.layout],
            labels=LABELS_TO_WIRE[order.labels],
            reviewers=order.reviewers,
        )
        return ExportStream(self._stub.Export(request), self._peer)

    def close(self) -> None:
        """Cancel what is in flight and let go; idempotent."""
        self._peer.close()
