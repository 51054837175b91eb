"""Asks the ingest service for pictures of a part."""

from __future__ import annotations

from typing import Final

from sightline.v1 import ingest_service_pb2, ingest_service_pb2_grpc

from services.adapters.grpcpeer import GrpcPeer

# A trigger and its answer hold a few names.
_MAX_MESSAGE_BYTES: Final = 1_000_000


class IngestClient:
    """One ingest service. Thread-safe; connects when first asked and again after an outage."""

    def __init__(self, address: str, timeout_s: float) -> None:
        """Set up; nothing is connected yet.

        Args:
            address: ``host:port``.
            timeout_s: Deadline of each call.
        """
        self._peer = GrpcPeer(address, "ingest service", max_message_bytes=_MAX_MESSAGE_BYTES)
        self._stub = ingest_service_pb2_grpc.IngestServiceStub(self._peer.channel)  # type: ignore[no-untyped-call]
        self._timeout_s = timeout_s

    def trigger(
        self, line_id: str, part_id: str, product: str = "", lot: str = "", triggered_at_ns: int = 0
    ) -> tuple[str, ...]:
        """Ask a line's triggered cameras for one picture of a part each. Asking again is answered alike.

        Args:
            line_id: The line.
            part_id: The part; its frames carry it.
            product: Recorded in each frame; empty takes each camera's configured one.
            lot: Recorded in each frame; may be empty.
            triggered_at_ns: When the trigger came, nanoseconds since the epoch; 0 takes the time of arrival.

        Returns:
            The cameras that were asked.

        Raises:
            InvalidInputError: A name or the time breaks a rule.
            NotFoundError: The line has no triggered cameras there.
            BusyError: Too many parts wait for their picture; no camera was asked.
            UnavailableError: The service does not answer in time.
        """
        request = ingest_service_pb2.TriggerRequest(
            line_id=line_id, part_id=part_id, product=product, lot=lot, triggered_at_ns=triggered_at_ns
        )
        return tuple(self._peer.ask(self._stub.Trigger, request, self._timeout_s).camera_ids)

    def close(self) -> None:
        """Cancel what is in flight and let go; idempotent."""
        self._peer.close()
