"""Asks the agents beside the Tritons how far a model version has come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sightline.v1 import serving_service_pb2, serving_service_pb2_grpc

from services.adapters.grpcpeer import GrpcPeer
from services.core.errors import SightlineError

_MAX_MESSAGE_BYTES: Final = 4_000_000


@dataclass(frozen=True, slots=True)
class BroughtUp:
    """What the agents say of one version.

    Attributes:
        agents: That were asked.
        answered: Of these.
        warm: Of these have it warm.
        failures: Why the others could not bring it up, one an agent that failed.
    """

    agents: int
    answered: int
    warm: int
    failures: tuple[str, ...]


class ServingAgents:
    """Every agent of a line. Thread-safe; connects when first asked and again after an outage.

    Args:
        addresses: ``host:port`` of each; none asks nobody.
        timeout_s: Longest wait for one answer.
    """

    def __init__(self, addresses: Sequence[str], timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._peers = [GrpcPeer(one, "serving agent", max_message_bytes=_MAX_MESSAGE_BYTES) for one in addresses]
        self._stubs = [
            serving_service_pb2_grpc.ServingServiceStub(peer.channel)  # type: ignore[no-untyped-call]
            for peer in self._peers
        ]

    def brought_up(self, alias: str, version: int) -> BroughtUp:
        """How far a version has come everywhere; an agent that does not answer is none that failed."""
        answered = warm = 0
        failures: list[str] = []
        request = serving_service_pb2.GetStatusRequest(alias=alias)
        for peer, stub in zip(self._peers, self._stubs, strict=True):
            try:
                status = peer.ask(stub.GetStatus, request, self._timeout_s)
            except SightlineError:
                continue
            answered += 1
            for one in status.versions:
                if (one.alias, one.version) != (alias, version):
                    continue
                warm += one.state == serving_service_pb2.VERSION_STATE_WARM
                if one.state == serving_service_pb2.VERSION_STATE_FAILED:
                    failures.append(one.detail or "no reason given")
        return BroughtUp(len(self._peers), answered, warm, tuple(failures))

    def close(self) -> None:
        """Let go; idempotent."""
        for peer in self._peers:
            peer.close()
