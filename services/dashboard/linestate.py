"""The outcome service as this page needs it: how its lines are, and what a person does there, ready for the page.

``web/src/api/lines.ts`` says the same in TypeScript.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from services.adapters.outcomeclient import OutcomeClient
from services.core.alarm import Alarm
from services.core.line_state import ConnectionState, LineState
from services.core.reference_check import ReferenceState
from services.dashboard.views import NS_PER_MS, Json


class LineStates(Protocol):
    """What is needed of the outcome service. Thread-safe; every call has a deadline.

    Every call raises:
        NotFoundError: There is no such line or alarm.
        InvalidInputError: The service refuses what it was asked.
        PreconditionError: It cannot be done as things stand.
        BusyError: Too many callers wait.
        UnavailableError: The service does not answer in time, or fails.
        EventDecodeError: Its answer breaks a rule.
    """

    def lines(self) -> Sequence[Json]:
        """How every line is now, by their ids."""
        ...

    def acknowledge(self, line_id: str, alarm_id: str, person: str, note: str) -> Json:
        """Acknowledge an alarm; gives it as it stands, with whoever was first."""
        ...

    def begin_reference_check(self, line_id: str, person: str) -> Json:
        """Begin a check with reference parts, or begin it anew; gives it as it stands."""
        ...


class GrpcLineStates:
    """A ``LineStates``: one outcome service. Connects when first asked and again after an outage."""

    def __init__(self, address: str, timeout_s: float) -> None:
        """Set up; nothing is connected yet.

        Args:
            address: ``host:port``.
            timeout_s: Deadline of every call.
        """
        self._client = OutcomeClient(address, timeout_s)

    def lines(self) -> list[Json]:
        """How every line is now, by their ids."""
        return [line_state_json(line) for line in self._client.lines()]

    def acknowledge(self, line_id: str, alarm_id: str, person: str, note: str) -> Json:
        """Acknowledge an alarm; gives it as it stands, with whoever was first."""
        return alarm_json(self._client.acknowledge_alarm(line_id, alarm_id, person, note))

    def begin_reference_check(self, line_id: str, person: str) -> Json:
        """Begin a check with reference parts, or begin it anew; gives it as it stands."""
        return reference_json(self._client.begin_reference_check(line_id, person))

    def close(self) -> None:
        """Cancel what is in flight and let go; idempotent."""
        self._client.close()


def line_state_json(line: LineState) -> Json:
    """How one line is."""
    return {
        "line_id": line.line_id,
        "product": line.product,
        "lot": line.lot,
        "light": line.light.value,
        "causes": [
            {"token": one.token, "about": one.about, "text": one.text, "light": one.light.value} for one in line.causes
        ],
        "connections": [connection_json(one) for one in line.connections],
        "alarms": [alarm_json(one) for one in line.alarms],
        "past_alarms": [alarm_json(one) for one in line.past_alarms],
        "reference": reference_json(line.reference),
    }


def connection_json(connection: ConnectionState) -> Json:
    """One connection of a line; ``handshake`` is null for one that only tells."""
    return {
        "name": connection.name,
        "kind": connection.kind,
        "address": connection.address,
        "up": connection.up,
        "handshake": None if connection.handshake is None else connection.handshake.value,
        "part_id": connection.part_id,
        "error_code": connection.error_code,
        "waiting": connection.waiting,
        "oldest_waiting_ms": connection.oldest_waiting_ms,
        "detail": connection.detail,
    }


def alarm_json(alarm: Alarm) -> Json:
    """One alarm; ``kind`` and ``counted`` are empty where the service did not tell how its rule counts."""
    return {
        "alarm_id": alarm.alarm_id,
        "rule": alarm.rule,
        "light": alarm.light.value,
        "text": alarm.text,
        "kind": "" if alarm.kind is None else alarm.kind.value,
        "count": alarm.count,
        "of": alarm.of,
        "window_s": alarm.window_s,
        "counted": [one.value for one in alarm.counted],
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


def reference_json(reference: ReferenceState) -> Json:
    """Where a check with reference parts stands; ``phase`` is null for a line that has none."""
    return {
        "phase": None if reference.phase is None else reference.phase.value,
        "occasion": reference.occasion,
        "due_at_ms": _at_ms(reference.due_at_ns),
        "ended_at_ms": _at_ms(reference.ended_at_ns),
        "parts": [
            {
                "part_id": one.part_id,
                "expected": one.expected.value,
                "seen": None if one.seen is None else one.seen.value,
            }
            for one in reference.parts
        ],
    }


def _at_ms(at_ns: int) -> int | None:
    return at_ns // NS_PER_MS or None
