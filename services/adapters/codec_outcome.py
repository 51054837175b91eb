"""Arrivals, outcomes and line events as protobuf bytes and back; strict as ``codec.py`` is."""

from __future__ import annotations

from sightline.v1 import events_pb2

from services.adapters.codec import (
    REASON_FROM_WIRE,
    REASON_TO_WIRE,
    VERDICT_FROM_WIRE,
    VERDICT_TO_WIRE,
    at_least,
    class_name,
    parse,
    strictly,
)
from services.core.errors import InvalidInputError
from services.core.identity import MAX_SOURCE_BYTES, validate_frame_id, validate_id
from services.core.line_event import Light, LineEvent, LineEventKind
from services.core.outcome import MAX_VIEWS, Arrival, Outcome, OutcomeReason, OutcomeView
from services.core.types import Reason, Verdict

_OUTCOME_REASON_TO_WIRE = {
    OutcomeReason.VIEWS: events_pb2.OUTCOME_REASON_VIEWS,
    OutcomeReason.DEADLINE_MISSED: events_pb2.OUTCOME_REASON_DEADLINE_MISSED,
    OutcomeReason.UNKNOWN_PRODUCT: events_pb2.OUTCOME_REASON_UNKNOWN_PRODUCT,
    OutcomeReason.OVERLOADED: events_pb2.OUTCOME_REASON_OVERLOADED,
}
_OUTCOME_REASON_FROM_WIRE = {int(wire): value for value, wire in _OUTCOME_REASON_TO_WIRE.items()}
_KIND_TO_WIRE = {kind: getattr(events_pb2, f"LINE_EVENT_KIND_{kind.name}") for kind in LineEventKind}
_KIND_FROM_WIRE = {int(wire): value for value, wire in _KIND_TO_WIRE.items()}
LIGHT_TO_WIRE = {light: getattr(events_pb2, f"LIGHT_{light.name}") for light in Light}
LIGHT_FROM_WIRE = {int(wire): value for value, wire in LIGHT_TO_WIRE.items()}


# ---- arrivals


def encode_arrival(arrival: Arrival) -> bytes:
    """Encode the word that a part is before the cameras."""
    return events_pb2.Arrival(
        part_id=arrival.part_id,
        line_id=arrival.line_id,
        product=arrival.product,
        lot=arrival.lot,
        arrived_at_ns=arrival.arrived_at_ns,
        cycle_time_ms=arrival.cycle_time_ms,
        camera_id=arrival.camera_id,
        frame_id=arrival.frame_id,
        refusal=arrival.refusal,
    ).SerializeToString()


def decode_arrival(data: bytes) -> Arrival:
    """Decode the word that a part is before the cameras.

    Raises:
        EventDecodeError: If the bytes are not an arrival or a field breaks its rule.
    """
    return strictly("Arrival", lambda: _arrival(parse(events_pb2.Arrival, data)))


def _arrival(message: events_pb2.Arrival) -> Arrival:
    if bool(message.camera_id) != bool(message.frame_id):
        raise InvalidInputError(
            f"camera_id and frame_id must be set together, got {message.camera_id[:80]!r} and {message.frame_id[:80]!r}"
        )
    return Arrival(
        part_id=validate_id(message.part_id, "part_id"),
        line_id=validate_id(message.line_id, "line_id"),
        product=validate_id(message.product, "product"),
        lot=validate_id(message.lot, "lot") if message.lot else "",
        arrived_at_ns=at_least("arrived_at_ns", message.arrived_at_ns, 1),
        cycle_time_ms=at_least("cycle_time_ms", message.cycle_time_ms, 0),
        camera_id=validate_id(message.camera_id, "camera_id") if message.camera_id else "",
        frame_id=validate_frame_id(message.frame_id) if message.frame_id else "",
        refusal=short_text("refusal", message.refusal),
    )


# ---- outcomes


def encode_outcome(outcome: Outcome) -> bytes:
    """Encode a part's answer."""
    return outcome_to_message(outcome).SerializeToString()


def outcome_to_message(outcome: Outcome) -> events_pb2.Outcome:
    """The protobuf form of a part's answer, for servicers that answer with it."""
    return events_pb2.Outcome(
        outcome_id=outcome.outcome_id,
        part_id=outcome.part_id,
        line_id=outcome.line_id,
        product=outcome.product,
        lot=outcome.lot,
        revision=outcome.revision,
        verdict=VERDICT_TO_WIRE[outcome.verdict],
        reason=_OUTCOME_REASON_TO_WIRE[outcome.reason],
        in_time=outcome.in_time,
        views=[
            events_pb2.OutcomeView(
                camera_id=view.camera_id,
                frame_id=view.frame_id,
                verdict=VERDICT_TO_WIRE[view.verdict],
                reason=REASON_TO_WIRE[view.reason],
                score=view.score,
                defect_class=view.defect_class,
                alias=view.alias,
                model_version=view.model_version,
                captured_at_ns=view.captured_at_ns,
                decided_at_ns=view.decided_at_ns,
                expected=view.expected,
            )
            for view in outcome.views
        ],
        missing_cameras=outcome.missing_cameras,
        began_at_ns=outcome.began_at_ns,
        deadline_at_ns=outcome.deadline_at_ns,
        decided_at_ns=outcome.decided_at_ns,
        defect_class=outcome.defect_class,
        detail=outcome.detail,
    )


def decode_outcome(data: bytes) -> Outcome:
    """Decode a part's answer.

    Raises:
        EventDecodeError: If the bytes are not an outcome or a field breaks its rule.
    """
    return strictly("Outcome", lambda: _outcome(parse(events_pb2.Outcome, data)))


def outcome_from_message(message: events_pb2.Outcome) -> Outcome:
    """Validate a part's answer that came inside another message.

    Raises:
        EventDecodeError: If a field breaks its rule.
    """
    return strictly("Outcome", lambda: _outcome(message))


def _outcome(message: events_pb2.Outcome) -> Outcome:
    if len(message.views) > MAX_VIEWS or len(message.missing_cameras) > MAX_VIEWS:
        raise InvalidInputError(
            f"an outcome must have at most {MAX_VIEWS} views, got {len(message.views)} and "
            f"{len(message.missing_cameras)} missing"
        )
    verdict = VERDICT_FROM_WIRE.get(message.verdict, Verdict.REVIEW)
    missing = tuple(validate_id(camera, "missing_cameras") for camera in message.missing_cameras)
    if verdict is Verdict.PASS and missing:
        raise InvalidInputError(f"a PASS must have every expected view, got {', '.join(missing)} missing")
    return Outcome(
        outcome_id=validate_frame_id(message.outcome_id),
        part_id=validate_id(message.part_id, "part_id"),
        line_id=validate_id(message.line_id, "line_id"),
        product=validate_id(message.product, "product"),
        lot=validate_id(message.lot, "lot") if message.lot else "",
        revision=at_least("revision", message.revision, 1),
        verdict=verdict,
        reason=_OUTCOME_REASON_FROM_WIRE.get(message.reason, OutcomeReason.VIEWS),
        in_time=message.in_time,
        views=tuple(_view(view) for view in message.views),
        missing_cameras=missing,
        began_at_ns=at_least("began_at_ns", message.began_at_ns, 1),
        deadline_at_ns=at_least("deadline_at_ns", message.deadline_at_ns, 0),
        decided_at_ns=at_least("decided_at_ns", message.decided_at_ns, 1),
        defect_class=class_name(message.defect_class),
        detail=short_text("detail", message.detail),
    )


def _view(message: events_pb2.OutcomeView) -> OutcomeView:
    verdict = VERDICT_FROM_WIRE.get(message.verdict, Verdict.REVIEW)
    fallback = Reason.UNSURE if verdict is Verdict.REVIEW else Reason.SCORE
    return OutcomeView(
        camera_id=validate_id(message.camera_id, "camera_id"),
        frame_id=validate_frame_id(message.frame_id),
        verdict=verdict,
        reason=REASON_FROM_WIRE.get(message.reason, fallback),
        score=message.score,
        alias=validate_id(message.alias, "alias") if message.alias else "",
        model_version=at_least("model_version", message.model_version, 0),
        captured_at_ns=at_least("captured_at_ns", message.captured_at_ns, 1),
        decided_at_ns=at_least("decided_at_ns", message.decided_at_ns, 1),
        defect_class=class_name(message.defect_class),
        expected=message.expected,
    )


# ---- line events


def encode_line_event(event: LineEvent) -> bytes:
    """Encode what happened on a line."""
    return line_event_to_message(event).SerializeToString()


def line_event_to_message(event: LineEvent) -> events_pb2.LineEvent:
    """The protobuf form of what happened on a line, for servicers that answer with it."""
    return events_pb2.LineEvent(
        event_id=event.event_id,
        line_id=event.line_id,
        at_ns=event.at_ns,
        kind=_KIND_TO_WIRE[event.kind],
        connection=event.connection,
        part_id=event.part_id,
        revision=event.revision,
        verdict=VERDICT_TO_WIRE[event.verdict] if event.verdict is not None else events_pb2.VERDICT_UNSPECIFIED,
        error_code=event.error_code,
        product=event.product,
        lot=event.lot,
        actor=event.actor,
        detail=event.detail,
        alarm_id=event.alarm_id,
        light=LIGHT_TO_WIRE[event.light] if event.light is not None else events_pb2.LIGHT_UNSPECIFIED,
    )


def decode_line_event(data: bytes) -> LineEvent:
    """Decode what happened on a line.

    Raises:
        EventDecodeError: If the bytes are not an event, or of a kind that this release does not know.
    """
    return strictly("LineEvent", lambda: _line_event(parse(events_pb2.LineEvent, data)))


def line_event_from_message(message: events_pb2.LineEvent) -> LineEvent:
    """Validate what happened on a line, as it came inside another message.

    Raises:
        EventDecodeError: If a field breaks its rule, or it is of a kind that this release does not know.
    """
    return strictly("LineEvent", lambda: _line_event(message))


def _line_event(message: events_pb2.LineEvent) -> LineEvent:
    kind = _KIND_FROM_WIRE.get(message.kind)
    if kind is None:
        raise InvalidInputError(f"kind must be one that this release knows, got {message.kind}")
    return LineEvent(
        event_id=validate_id(message.event_id, "event_id"),
        line_id=validate_id(message.line_id, "line_id"),
        at_ns=at_least("at_ns", message.at_ns, 1),
        kind=kind,
        connection=validate_id(message.connection, "connection") if message.connection else "",
        part_id=validate_id(message.part_id, "part_id") if message.part_id else "",
        revision=at_least("revision", message.revision, 0),
        verdict=VERDICT_FROM_WIRE.get(message.verdict),
        error_code=at_least("error_code", message.error_code, 0),
        product=validate_id(message.product, "product") if message.product else "",
        lot=validate_id(message.lot, "lot") if message.lot else "",
        actor=short_text("actor", message.actor),
        detail=short_text("detail", message.detail),
        alarm_id=validate_id(message.alarm_id, "alarm_id") if message.alarm_id else "",
        light=LIGHT_FROM_WIRE.get(message.light),
    )


def short_text(name: str, value: str) -> str:
    """Let a text for people through only if it is not too long; raises ``InvalidInputError``."""
    if len(value.encode()) > MAX_SOURCE_BYTES:
        raise InvalidInputError(f"{name} must have at most {MAX_SOURCE_BYTES} bytes, got more")
    return value
