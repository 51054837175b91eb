"""Asks the detector service for a verdict on one image."""

from __future__ import annotations

from typing import Final

from sightline.v1 import detector_service_pb2, detector_service_pb2_grpc

from services.adapters.codec import inspection_from_message
from services.adapters.grpcpeer import GrpcPeer
from services.core.types import Inspection

# The largest image that a detector takes, and something around it.
_MAX_MESSAGE_BYTES: Final = 64_000_000


class DetectorClient:
    """One detector service. Thread-safe; connects when first asked and again after an outage."""

    def __init__(self, address: str) -> None:
        """Set up; nothing is connected yet.

        Args:
            address: ``host:port``.
        """
        self._peer = GrpcPeer(address, "detector", max_message_bytes=_MAX_MESSAGE_BYTES, tells_deadlines=True)
        self._stub = detector_service_pb2_grpc.DetectorServiceStub(self._peer.channel)  # type: ignore[no-untyped-call]

    def inspect(self, image: bytes, *, product: str, part_id: str, timeout_s: float) -> Inspection:
        """Inspect one image with the live model of the product's alias.

        Args:
            image: Encoded.
            product: Decides the alias.
            part_id: Copied into the answer.
            timeout_s: Deadline.

        Returns:
            The verdict; it says which version gave it.

        Raises:
            InvalidInputError: The image breaks a rule.
            BusyError: Too many callers wait.
            DeadlineError: There is no answer in time.
            UnavailableError: The service does not answer, or has no live model.
            EventDecodeError: Its answer breaks a rule.
        """
        request = detector_service_pb2.InspectRequest(product=product, part_id=part_id, image=image)
        response = self._peer.ask(self._stub.Inspect, request, timeout_s)
        return inspection_from_message(response.inspection)

    def close(self) -> None:
        """Cancel what is in flight and let go; idempotent."""
        self._peer.close()
