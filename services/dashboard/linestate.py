"""The outcome service as this page needs it: how its lines are, and what a person does there.

The only module that knows the service's protocol; what it gives is ready for the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from sightline.v1 import events_pb2, outcome_service_pb2, outcome_service_pb2_grpc

from services.adapters.codec import VERDICT_FROM_WIRE
from services.adapters.codec_outcome import LIGHT_FROM_WIRE
from services.adapters.grpcpeer import GrpcPeer
from services.dashboard.views import NS_PER_MS, Json

# Every line with its alarms and connections.
_MAX_MESSAGE_BYTES: Final = 4_000_000
_HANDSHAKES: Final = {
    outcome_service_pb2.HANDSHAKE_STATE_READY: "ready",
    outcome_service_pb2.HANDSHAKE_STATE_BUSY: "busy",
    outcome_service_pb2.HANDSHAKE_STATE_RESULT: "result",
    outcome_service_pb2.HANDSHAKE_STATE_RELEASING: "releasing",
    outcome_service_pb2.HANDSHAKE_STATE_SAFE: "safe",
}
_PHASES: Final = {
    outcome_service_pb2.REFERENCE_PHASE_DUE: "due",
    outcome_service_pb2.REFERENCE_PHASE_PASSED: "passed",
    outcome_service_pb2.REFERENCE_PHASE_FAILED: "failed",
}


class LineStates(Protocol):
    """What is needed of the outcome service. Thread-safe.

    Every call raises:
        NotFoundError: There is no such line or alarm.
        InvalidInputError: The service refuses what it was asked.
        PreconditionError: It cannot be done as things stand.
        UnavailableError: The service does not answer in time, or fails.
    """

    def lines(self, timeout_s: float) -> Sequence[Json]:
        """How every line is now, by their ids."""
        ...

    def acknowledge(self, line_id: str, alarm_id: str, person: str, note: str, timeout_s: float) -> Json:
        """Acknowledge an alarm; gives it as it stands, with whoever was first."""
        ...

    def begin_reference_check(self, line_id: str, person: str, timeout_s: float) -> Json:
        """Begin a check with reference parts, or begin it anew; gives it as it stands."""
        ...


class GrpcLineStates:
    """A ``LineStates``: one outcome service. Connects when first asked and again after an outage."""

    def __init__(self, address: str) -> None:
        """Set up; nothing is connected yet.

        Args:
            address: ``host:port``.
        """
        self._peer = GrpcPeer(address, "outcome service", max_message_bytes=_MAX_MESSAGE_BYTES)
        self._stub = outcome_service_pb2_grpc.OutcomeServiceStub(self._peer.channel)

    def lines(self, timeout_s: float) -> list[Json]:
        """How every line is now, by their ids."""
        answer = self._peer.ask(self._stub.GetLines, outcome_service_pb2.GetLinesRequest(), timeout_s)
        return [line_state_json(line) for line in answer.lines]

    def acknowledge(self, line_id: str, alarm_id: str, person: str, note: str, timeout_s: float) -> Json:
        """Acknowledge an alarm; gives it as it stands, with whoever was first."""
        request = outcome_service_pb2.AcknowledgeAlarmRequest(
            line_id=line_id, alarm_id=alarm_id, person=person, note=note
        )
        return alarm_json(self._peer.ask(self._stub.AcknowledgeAlarm, request, timeout_s).alarm)

    def begin_reference_check(self, line_id: str, person: str, timeout_s: float) -> Json:
        """Begin a check with reference parts, or begin it anew; gives it as it stands."""
        request = outcome_service_pb2.BeginReferenceCheckRequest(line_id=line_id, person=person)
        return reference_json(self._peer.ask(self._stub.BeginReferenceCheck, request, timeout_s).reference)

    def close(self) -> None:
        """Cancel what is in flight and let go; idempotent."""
        self._peer.close()


def line_state_json(line: outcome_service_pb2.LineState) -> Json:
    """How one line is."""
    return {
        "line_id": line.line_id,
        "product": line.product,
        "lot": line.lot,
        "light": _light(line.light),
        "causes": [
            {"token": one.token, "about": one.about, "text": one.text, "light": _light(one.light)}
            for one in line.causes
        ],
        "connections": [connection_json(one) for one in line.connections],
        "alarms": [alarm_json(one) for one in line.alarms],
        "past_alarms": [alarm_json(one) for one in line.past_alarms],
        "reference": reference_json(line.reference),
    }


def connection_json(connection: outcome_service_pb2.ConnectionState) -> Json:
    """One connection of a line."""
    return {
        "name": connection.name,
        "kind": connection.kind,
        "address": connection.address,
        "up": connection.up,
        "handshake": _HANDSHAKES.get(connection.handshake),
        "part_id": connection.part_id,
        "error_code": connection.error_code,
        "waiting": connection.waiting,
        "oldest_waiting_ms": connection.oldest_waiting_ms,
        "detail": connection.detail,
    }


def alarm_json(alarm: outcome_service_pb2.AlarmState) -> Json:
    """One alarm."""
    return {
        "alarm_id": alarm.alarm_id,
        "rule": alarm.rule,
        "light": _light(alarm.light),
        "text": alarm.text,
        "raised_at_ms": alarm.raised_at_ns // NS_PER_MS,
        "part_id": alarm.part_id,
        "camera_id": alarm.camera_id,
        "product": alarm.product,
        "defect_class": alarm.defect_class,
        "acknowledged_by": alarm.acknowledged_by,
        "acknowledged_at_ms": _at_ms(alarm.acknowledged_at_ns),
        "note": alarm.note,
        "repeats": alarm.repeats,
    }


def reference_json(reference: outcome_service_pb2.ReferenceState) -> Json:
    """Where a check with reference parts stands; ``phase`` is null for a line that has none."""
    return {
        "phase": _PHASES.get(reference.phase),
        "occasion": reference.occasion,
        "due_at_ms": _at_ms(reference.due_at_ns),
        "ended_at_ms": _at_ms(reference.ended_at_ns),
        "parts": [
            {"part_id": one.part_id, "expected": _verdict(one.expected), "seen": _verdict(one.seen)}
            for one in reference.parts
        ],
    }


def _light(wire: events_pb2.Light) -> str | None:
    light = LIGHT_FROM_WIRE.get(wire)
    return None if light is None else light.value


def _verdict(wire: events_pb2.Verdict) -> str | None:
    verdict = VERDICT_FROM_WIRE.get(wire)
    return None if verdict is None else verdict.value


def _at_ms(at_ns: int) -> int | None:
    return at_ns // NS_PER_MS or None
