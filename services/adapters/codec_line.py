"""How a line is, as protobuf messages and back; strict as ``codec.py`` is."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

from sightline.v1 import events_pb2, outcome_service_pb2

from services.adapters.codec import VERDICT_FROM_WIRE, VERDICT_TO_WIRE, at_least, class_name, strictly
from services.adapters.codec_outcome import LIGHT_FROM_WIRE, LIGHT_TO_WIRE, short_text
from services.core.alarm import Alarm
from services.core.alarm_rule import AlarmKind, Counted
from services.core.errors import InvalidInputError
from services.core.identity import validate_frame_id, validate_id
from services.core.line_event import Light
from services.core.line_state import ConnectionState, LineState
from services.core.plc import HandshakeState
from services.core.reference_check import ReferencePartState, ReferencePhase, ReferenceState
from services.core.stack_light import LightCause
from services.core.types import Verdict

_HANDSHAKE_TO_WIRE: Final = {
    state: getattr(outcome_service_pb2, f"HANDSHAKE_STATE_{state.name}") for state in HandshakeState
}
_HANDSHAKE_FROM_WIRE: Final = {int(wire): state for state, wire in _HANDSHAKE_TO_WIRE.items()}
_PHASE_TO_WIRE: Final = {
    phase: getattr(outcome_service_pb2, f"REFERENCE_PHASE_{phase.name}") for phase in ReferencePhase
}
_PHASE_FROM_WIRE: Final = {int(wire): phase for phase, wire in _PHASE_TO_WIRE.items()}
_KINDS: Final = {kind.value: kind for kind in AlarmKind}
_COUNTED: Final = {counted.value for counted in Counted}
_TOKEN: Final = re.compile(r"[a-z][a-z0-9_]{0,31}\Z", re.ASCII)


# ---- a line


def line_state_to_message(line: LineState) -> outcome_service_pb2.LineState:
    """The protobuf form of how a line is, for servicers that answer with it."""
    return outcome_service_pb2.LineState(
        line_id=line.line_id,
        product=line.product,
        lot=line.lot,
        light=LIGHT_TO_WIRE[line.light],
        causes=[
            outcome_service_pb2.LightCause(
                token=cause.token, about=cause.about, text=cause.text, light=LIGHT_TO_WIRE[cause.light]
            )
            for cause in line.causes
        ],
        connections=[_connection_to_message(one) for one in line.connections],
        alarms=[alarm_to_message(alarm) for alarm in line.alarms],
        reference=reference_to_message(line.reference),
        past_alarms=[alarm_to_message(alarm) for alarm in line.past_alarms],
    )


def line_state_from_message(message: outcome_service_pb2.LineState) -> LineState:
    """Validate how a line is, as it came from outside.

    A light that is not said, or that this release does not know, is RED: it must not be shown as if all were well.

    Raises:
        EventDecodeError: If a field breaks its rule.
    """
    return strictly("LineState", lambda: _line_state(message))


def _line_state(message: outcome_service_pb2.LineState) -> LineState:
    return LineState(
        line_id=validate_id(message.line_id, "line_id"),
        light=_light(message.light),
        product=validate_id(message.product, "product") if message.product else "",
        lot=validate_id(message.lot, "lot") if message.lot else "",
        causes=tuple(_cause(one) for one in message.causes),
        connections=tuple(_connection(one) for one in message.connections),
        alarms=tuple(_alarm(one, message.line_id) for one in message.alarms),
        reference=_reference(message.reference),
        past_alarms=tuple(_alarm(one, message.line_id) for one in message.past_alarms),
    )


def _cause(message: outcome_service_pb2.LightCause) -> LightCause:
    if _TOKEN.match(message.token) is None:
        raise InvalidInputError(
            f"a cause's token must be 1..32 lower-case letters, digits or '_', got {ascii(message.token)[:80]}"
        )
    return LightCause(
        token=message.token,
        about=short_text("about", message.about),
        text=short_text("text", message.text),
        light=_light(message.light),
    )


def _light(wire: int) -> Light:
    return LIGHT_FROM_WIRE.get(wire, Light.RED)


# ---- a connection


def _connection_to_message(connection: ConnectionState) -> outcome_service_pb2.ConnectionState:
    handshake = connection.handshake
    return outcome_service_pb2.ConnectionState(
        name=connection.name,
        kind=connection.kind,
        address=connection.address,
        up=connection.up,
        handshake=_HANDSHAKE_TO_WIRE[handshake] if handshake else outcome_service_pb2.HANDSHAKE_STATE_UNSPECIFIED,
        part_id=connection.part_id,
        error_code=connection.error_code,
        waiting=connection.waiting,
        oldest_waiting_ms=connection.oldest_waiting_ms,
        detail=connection.detail,
    )


def _connection(message: outcome_service_pb2.ConnectionState) -> ConnectionState:
    return ConnectionState(
        name=validate_id(message.name, "connection"),
        kind=validate_id(message.kind, "kind"),
        address=short_text("address", message.address),
        up=message.up,
        handshake=_HANDSHAKE_FROM_WIRE.get(message.handshake),
        part_id=validate_id(message.part_id, "part_id") if message.part_id else "",
        error_code=at_least("error_code", message.error_code, 0),
        waiting=at_least("waiting", message.waiting, 0),
        oldest_waiting_ms=at_least("oldest_waiting_ms", message.oldest_waiting_ms, 0),
        detail=short_text("detail", message.detail),
    )


# ---- an alarm


def alarm_to_message(alarm: Alarm) -> outcome_service_pb2.AlarmState:
    """The protobuf form of an alarm."""
    return outcome_service_pb2.AlarmState(
        alarm_id=alarm.alarm_id,
        rule=alarm.rule,
        light=LIGHT_TO_WIRE[alarm.light],
        text=alarm.text,
        raised_at_ns=alarm.raised_at_ns,
        part_id=alarm.part_id,
        camera_id=alarm.camera_id,
        product=alarm.product,
        defect_class=alarm.defect_class,
        acknowledged_by=alarm.acknowledged_by,
        acknowledged_at_ns=alarm.acknowledged_at_ns,
        note=alarm.note,
        repeats=alarm.repeats,
        kind=alarm.kind.value if alarm.kind is not None else "",
        count=alarm.count,
        of=alarm.of,
        window_s=alarm.window_s,
        counted=[one.value for one in alarm.counted],
    )


def alarm_from_message(message: outcome_service_pb2.AlarmState, line_id: str) -> Alarm:
    """Validate an alarm that came from outside.

    Args:
        message: The alarm.
        line_id: The line that it is of, already validated.

    Raises:
        EventDecodeError: If a field breaks its rule.
    """
    return strictly("AlarmState", lambda: _alarm(message, line_id))


def _alarm(message: outcome_service_pb2.AlarmState, line_id: str) -> Alarm:
    if bool(message.acknowledged_by) != bool(message.acknowledged_at_ns):
        raise InvalidInputError(
            "acknowledged_by and acknowledged_at_ns must be set together, got "
            f"{message.acknowledged_by[:80]!r} and {message.acknowledged_at_ns}"
        )
    return Alarm(
        alarm_id=validate_frame_id(message.alarm_id),
        line_id=line_id,
        rule=validate_id(message.rule, "rule"),
        light=_light(message.light),
        text=short_text("text", message.text),
        raised_at_ns=at_least("raised_at_ns", message.raised_at_ns, 1),
        part_id=validate_id(message.part_id, "part_id"),
        camera_id=validate_id(message.camera_id, "camera_id") if message.camera_id else "",
        product=validate_id(message.product, "product") if message.product else "",
        defect_class=class_name(message.defect_class),
        acknowledged_by=short_text("acknowledged_by", message.acknowledged_by),
        acknowledged_at_ns=at_least("acknowledged_at_ns", message.acknowledged_at_ns, 0),
        note=short_text("note", message.note),
        repeats=at_least("repeats", message.repeats, 0),
        # A newer release may count in a way that is not known here; its text still tells.
        kind=_KINDS.get(message.kind),
        count=at_least("count", message.count, 0),
        of=at_least("of", message.of, 0),
        window_s=at_least("window_s", message.window_s, 0),
        counted=_counted(message.counted),
    )


def _counted(names: Collection[str]) -> tuple[Counted, ...]:
    # With one left out that a newer release knows, it would be told as something else than it is.
    if not _COUNTED.issuperset(names):
        return ()
    return tuple(one for one in Counted if one.value in names)


# ---- the check with reference parts


def reference_to_message(reference: ReferenceState) -> outcome_service_pb2.ReferenceState:
    """The protobuf form of a check with reference parts."""
    phase = reference.phase
    return outcome_service_pb2.ReferenceState(
        phase=_PHASE_TO_WIRE[phase] if phase else outcome_service_pb2.REFERENCE_PHASE_UNSPECIFIED,
        occasion=reference.occasion,
        due_at_ns=reference.due_at_ns,
        ended_at_ns=reference.ended_at_ns,
        parts=[
            outcome_service_pb2.ReferencePartState(
                part_id=part.part_id,
                expected=VERDICT_TO_WIRE[part.expected],
                seen=VERDICT_TO_WIRE[part.seen] if part.seen else events_pb2.VERDICT_UNSPECIFIED,
            )
            for part in reference.parts
        ],
    )


def reference_from_message(message: outcome_service_pb2.ReferenceState) -> ReferenceState:
    """Validate a check with reference parts that came from outside.

    Raises:
        EventDecodeError: If a field breaks its rule.
    """
    return strictly("ReferenceState", lambda: _reference(message))


def _reference(message: outcome_service_pb2.ReferenceState) -> ReferenceState:
    return ReferenceState(
        phase=_PHASE_FROM_WIRE.get(message.phase),
        occasion=short_text("occasion", message.occasion),
        due_at_ns=at_least("due_at_ns", message.due_at_ns, 0),
        ended_at_ns=at_least("ended_at_ns", message.ended_at_ns, 0),
        parts=tuple(_reference_part(part) for part in message.parts),
    )


def _reference_part(message: outcome_service_pb2.ReferencePartState) -> ReferencePartState:
    expected = VERDICT_FROM_WIRE.get(message.expected)
    if expected not in {Verdict.PASS, Verdict.FAIL}:
        raise InvalidInputError(f"expected must be PASS or FAIL, got {message.expected}")
    validate_id(message.part_id.removesuffix("*"), "part_id")
    return ReferencePartState(message.part_id, expected, VERDICT_FROM_WIRE.get(message.seen))
