"""Domain values to protobuf bytes and back; the only place, with the servicers, that sees generated code.

Decoding is strict: bytes that are not the message, ids that are not ids, numbers out of range and a missing picture
raise ``EventDecodeError`` with the rule and the value. It is lenient in one way only: an enum value that this release
does not know, as a newer writer may send it, becomes the value that is safe on a line (an unknown verdict is REVIEW).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, TypeVar

import numpy as np
from google.protobuf.message import DecodeError, Message
from numpy.typing import NDArray
from sightline.v1 import events_pb2

from services.core.errors import EventDecodeError, InvalidInputError
from services.core.identity import MAX_ID_LENGTH, MAX_SOURCE_BYTES, validate_frame_id, validate_id
from services.core.types import (
    AliasAction,
    AliasState,
    Case,
    CaseKind,
    Frame,
    FrameEmbedding,
    ImageRef,
    Inspection,
    OperatingPoint,
    Reason,
    RecordPosition,
    ShadowInspection,
    StageTimings,
    Verdict,
)

MAX_BUCKET_LENGTH: Final = 63
MAX_KEY_BYTES: Final = 1024

_SHA256 = re.compile(r"[0-9a-f]{64}\Z", re.ASCII)
_TRACE_ID = re.compile(r"(?:[0-9a-f]{32})?\Z", re.ASCII)

VERDICT_TO_WIRE = {
    Verdict.PASS: events_pb2.VERDICT_PASS,
    Verdict.FAIL: events_pb2.VERDICT_FAIL,
    Verdict.REVIEW: events_pb2.VERDICT_REVIEW,
}
REASON_TO_WIRE = {
    Reason.SCORE: events_pb2.VERDICT_REASON_SCORE,
    Reason.UNSURE: events_pb2.VERDICT_REASON_UNSURE,
    Reason.UNREADABLE_IMAGE: events_pb2.VERDICT_REASON_UNREADABLE_IMAGE,
    Reason.DEADLINE_MISSED: events_pb2.VERDICT_REASON_DEADLINE_MISSED,
    Reason.DISAGREEMENT: events_pb2.VERDICT_REASON_DISAGREEMENT,
}
KIND_TO_WIRE = {
    CaseKind.FAIL: events_pb2.CASE_KIND_FAIL,
    CaseKind.REVIEW: events_pb2.CASE_KIND_REVIEW,
    CaseKind.AUDIT: events_pb2.CASE_KIND_AUDIT,
    CaseKind.NEIGHBOUR: events_pb2.CASE_KIND_NEIGHBOUR,
}
_ACTION_TO_WIRE = {
    AliasAction.ADD: events_pb2.ALIAS_ACTION_ADD,
    AliasAction.PROMOTE: events_pb2.ALIAS_ACTION_PROMOTE,
    AliasAction.ROLL_BACK: events_pb2.ALIAS_ACTION_ROLL_BACK,
    AliasAction.SHADOW: events_pb2.ALIAS_ACTION_SHADOW,
    AliasAction.RETIRE: events_pb2.ALIAS_ACTION_RETIRE,
}
VERDICT_FROM_WIRE = {int(wire): value for value, wire in VERDICT_TO_WIRE.items()}
REASON_FROM_WIRE = {int(wire): value for value, wire in REASON_TO_WIRE.items()}
KIND_FROM_WIRE = {int(wire): value for value, wire in KIND_TO_WIRE.items()}
_ACTION_FROM_WIRE = {int(wire): value for value, wire in _ACTION_TO_WIRE.items()}
KIND_OF_VERDICT = {Verdict.FAIL: CaseKind.FAIL, Verdict.REVIEW: CaseKind.REVIEW, Verdict.PASS: CaseKind.AUDIT}

M = TypeVar("M", bound=Message)
T = TypeVar("T")


# ---- frames


def encode_frame(frame: Frame) -> bytes:
    """Encode a frame.

    Args:
        frame: Exactly one of ``image`` and ``image_ref`` is set.

    Raises:
        InvalidInputError: If none or both are set.
    """
    message = events_pb2.Frame(
        frame_id=frame.frame_id,
        part_id=frame.part_id,
        line_id=frame.line_id,
        camera_id=frame.camera_id,
        product=frame.product,
        sequence=frame.sequence,
        captured_at_ns=frame.captured_at_ns,
        cycle_time_ms=frame.cycle_time_ms,
        source_item=frame.source_item,
        lot=frame.lot,
    )
    _set_picture(message, frame.image, frame.image_ref)
    return message.SerializeToString()


def decode_frame(data: bytes) -> Frame:
    """Decode a frame from outside.

    An inline image may be empty: that is a bad picture of a known part, not a broken event.

    Args:
        data: Value of a record of the ``frames`` topic.

    Raises:
        EventDecodeError: If the bytes are not a frame or a field breaks its rule.
    """
    return strictly("Frame", lambda: _frame(parse(events_pb2.Frame, data)))


def _frame(message: events_pb2.Frame) -> Frame:
    image, image_ref = _picture(message)
    if len(message.source_item.encode()) > MAX_SOURCE_BYTES:
        raise InvalidInputError(f"source_item must have at most {MAX_SOURCE_BYTES} bytes, got more")
    return Frame(
        frame_id=validate_frame_id(message.frame_id),
        part_id=validate_id(message.part_id, "part_id"),
        line_id=validate_id(message.line_id, "line_id"),
        camera_id=validate_id(message.camera_id, "camera_id"),
        product=validate_id(message.product, "product"),
        sequence=at_least("sequence", message.sequence, 1),
        captured_at_ns=at_least("captured_at_ns", message.captured_at_ns, 1),
        cycle_time_ms=at_least("cycle_time_ms", message.cycle_time_ms, 0),
        source_item=message.source_item,
        lot=validate_id(message.lot, "lot") if message.lot else "",
        image=image,
        image_ref=image_ref,
    )


# ---- inspections


def encode_inspection(inspection: Inspection) -> bytes:
    """Encode a verdict. Where both places of its image are known, the object store's is written."""
    return inspection_to_message(inspection).SerializeToString()


def decode_inspection(data: bytes) -> Inspection:
    """Decode a verdict from outside.

    Args:
        data: Value of a record of the ``verdicts`` topic.

    Raises:
        EventDecodeError: If the bytes are not an inspection or a field breaks its rule.
    """
    return strictly("Inspection", lambda: _inspection(parse(events_pb2.Inspection, data)))


def inspection_from_message(message: events_pb2.Inspection) -> Inspection:
    """Validate a verdict that came inside another message (a gRPC answer).

    Raises:
        EventDecodeError: If a field breaks its rule.
    """
    return strictly("Inspection", lambda: _inspection(message))


def inspection_to_message(inspection: Inspection) -> events_pb2.Inspection:
    """The protobuf form of a verdict, for servicers that answer with it."""
    point, timings = inspection.operating_point, inspection.timings
    message = events_pb2.Inspection(
        frame_id=inspection.frame_id,
        part_id=inspection.part_id,
        line_id=inspection.line_id,
        camera_id=inspection.camera_id,
        product=inspection.product,
        sequence=inspection.sequence,
        captured_at_ns=inspection.captured_at_ns,
        decided_at_ns=inspection.decided_at_ns,
        verdict=VERDICT_TO_WIRE[inspection.verdict],
        reason=REASON_TO_WIRE[inspection.reason],
        score=inspection.score,
        operating_point=events_pb2.OperatingPoint(
            threshold=point.threshold, review_low=point.review_low, review_high=point.review_high
        ),
        uncertainty=inspection.uncertainty,
        alias=inspection.alias,
        model_version=inspection.model_version,
        defect_class=inspection.defect_class,
        cycle_time_ms=inspection.cycle_time_ms,
        in_time=inspection.in_time,
        timings=events_pb2.StageTimings(
            queue_ms=timings.queue_ms,
            fetch_ms=timings.fetch_ms,
            decode_ms=timings.decode_ms,
            infer_ms=timings.infer_ms,
            total_ms=timings.total_ms,
        ),
        detail=inspection.detail,
        trace_id=inspection.trace_id,
        disagreement=inspection.disagreement,
    )
    if inspection.image_ref is not None:
        message.image_ref.CopyFrom(image_ref_to_message(inspection.image_ref))
    elif inspection.position is not None:
        place = inspection.position
        message.position.CopyFrom(
            events_pb2.RecordPosition(topic=place.topic, partition=place.partition, offset=place.offset)
        )
    return message


def _inspection(message: events_pb2.Inspection) -> Inspection:
    # What a newer writer means by a verdict that is not known here, a person decides.
    verdict = VERDICT_FROM_WIRE.get(message.verdict, Verdict.REVIEW)
    fallback = Reason.UNSURE if verdict is Verdict.REVIEW else Reason.SCORE
    timings = message.timings
    if _TRACE_ID.match(message.trace_id) is None:
        raise InvalidInputError(f"trace_id must be empty or 32 lower-case hex digits, got {message.trace_id[:80]!r}")
    if not 0 <= message.disagreement <= 1:
        raise InvalidInputError(f"disagreement must lie in 0..1, got {message.disagreement}")
    picture = message.WhichOneof("picture")
    return Inspection(
        frame_id=validate_frame_id(message.frame_id),
        part_id=validate_id(message.part_id, "part_id"),
        line_id=validate_id(message.line_id, "line_id"),
        camera_id=validate_id(message.camera_id, "camera_id"),
        product=validate_id(message.product, "product"),
        sequence=at_least("sequence", message.sequence, 1),
        captured_at_ns=at_least("captured_at_ns", message.captured_at_ns, 1),
        decided_at_ns=at_least("decided_at_ns", message.decided_at_ns, 1),
        verdict=verdict,
        reason=REASON_FROM_WIRE.get(message.reason, fallback),
        score=message.score,
        operating_point=_operating_point(message.operating_point),
        uncertainty=message.uncertainty,
        alias=validate_id(message.alias, "alias"),
        model_version=at_least("model_version", message.model_version, 0),
        defect_class=class_name(message.defect_class),
        cycle_time_ms=at_least("cycle_time_ms", message.cycle_time_ms, 0),
        in_time=message.in_time,
        timings=StageTimings(
            queue_ms=timings.queue_ms,
            fetch_ms=timings.fetch_ms,
            decode_ms=timings.decode_ms,
            infer_ms=timings.infer_ms,
            total_ms=timings.total_ms,
        ),
        image_ref=image_ref_from_message(message.image_ref) if picture == "image_ref" else None,
        position=_position(message.position) if picture == "position" else None,
        detail=message.detail,
        trace_id=message.trace_id,
        disagreement=message.disagreement,
    )


def class_name(value: str) -> str:
    """Let a defect's class through only if it is short and printable; raises ``InvalidInputError``."""
    # A model's classes are ids; what comes from elsewhere must at least fit into an index of a database.
    if len(value) > MAX_ID_LENGTH or not value.isprintable():
        raise InvalidInputError(
            f"defect_class must have at most {MAX_ID_LENGTH} printable characters, got {ascii(value)[:80]}"
        )
    return value


def _operating_point(message: events_pb2.OperatingPoint) -> OperatingPoint:
    point = OperatingPoint(message.threshold, message.review_low, message.review_high)
    # Where no model saw the image the cuts are NaN, which no comparison refuses.
    if point.review_low > point.threshold or point.threshold > point.review_high:
        raise InvalidInputError(f"operating_point must keep review_low <= threshold <= review_high, got {point}")
    return point


def _position(message: events_pb2.RecordPosition) -> RecordPosition:
    return RecordPosition(
        topic=validate_id(message.topic, "position.topic"),
        partition=at_least("position.partition", message.partition, 0),
        offset=at_least("position.offset", message.offset, 0),
    )


# ---- cases


def encode_case(case: Case) -> bytes:
    """Encode a case.

    Args:
        case: Exactly one of ``image`` and ``image_ref`` is set; the embedding has one dimension.

    Raises:
        InvalidInputError: If none or both are set, or the embedding has another shape.
    """
    return case_to_message(case).SerializeToString()


def case_to_message(case: Case) -> events_pb2.Case:
    """The protobuf form of a case, for events that carry it.

    Raises:
        InvalidInputError: If none or both places of the image are set, or the embedding has more than one dimension.
    """
    message = events_pb2.Case(
        case_id=case.case_id,
        kind=KIND_TO_WIRE[case.kind],
        inspection=inspection_to_message(case.inspection),
        sampling_probability=case.sampling_probability,
        embedding_f16=_half_bytes(case.embedding),
    )
    _set_picture(message, case.image, case.image_ref)
    return message


def decode_case(data: bytes) -> Case:
    """Decode a case from outside.

    Args:
        data: Value of a record of the ``cases`` topic.

    Raises:
        EventDecodeError: If the bytes are not a case or a field breaks its rule.
    """
    return strictly("Case", lambda: _case(parse(events_pb2.Case, data)))


def case_from_message(message: events_pb2.Case) -> Case:
    """Validate a case that came inside another message.

    Raises:
        EventDecodeError: If a field breaks its rule.
    """
    return strictly("Case", lambda: _case(message))


def _case(message: events_pb2.Case) -> Case:
    if not message.HasField("inspection"):
        raise InvalidInputError("inspection must be set, got none")
    if not 0 < message.sampling_probability <= 1:
        raise InvalidInputError(f"sampling_probability must lie in (0, 1], got {message.sampling_probability}")
    embedding = _half_floats(message.embedding_f16)
    inspection = _inspection(message.inspection)
    image, image_ref = _picture(message)
    return Case(
        case_id=validate_frame_id(message.case_id),
        kind=KIND_FROM_WIRE.get(message.kind, KIND_OF_VERDICT[inspection.verdict]),
        inspection=inspection,
        sampling_probability=message.sampling_probability,
        embedding=embedding,
        image=image,
        image_ref=image_ref,
    )


# ---- embeddings of frames that became no case


def encode_frame_embedding(frame: FrameEmbedding) -> bytes:
    """Encode what the model saw in a frame.

    Raises:
        InvalidInputError: If the embedding has more than one dimension.
    """
    return events_pb2.FrameEmbedding(
        inspection=inspection_to_message(frame.inspection), embedding_f16=_half_bytes(frame.embedding)
    ).SerializeToString()


def decode_frame_embedding(data: bytes) -> FrameEmbedding:
    """Decode what a model saw in a frame, from outside.

    What the numbers are worth is not looked at: see ``services.core.neighbours.flaw_of``.

    Args:
        data: Value of a record of the ``embeddings`` topic.

    Raises:
        EventDecodeError: If the bytes are not that or a field breaks its rule.
    """
    return strictly("FrameEmbedding", lambda: _frame_embedding(parse(events_pb2.FrameEmbedding, data)))


def _frame_embedding(message: events_pb2.FrameEmbedding) -> FrameEmbedding:
    return FrameEmbedding(_inspection(message.inspection), _half_floats(message.embedding_f16))


def _half_bytes(embedding: NDArray[np.float16]) -> bytes:
    if embedding.ndim != 1:
        raise InvalidInputError(f"embedding must have shape (D,), got {embedding.shape}")
    return embedding.astype("<f2", copy=False).tobytes()


def _half_floats(data: bytes) -> NDArray[np.float16]:
    if len(data) % 2:
        raise InvalidInputError(f"embedding_f16 must hold whole half floats, an even number of bytes, got {len(data)}")
    return np.frombuffer(data, dtype="<f2").astype(np.float16, copy=False)


# ---- what the shadow says


def encode_shadow_inspection(said: ShadowInspection) -> bytes:
    """Encode what the version in the shadow says of a frame."""
    return events_pb2.ShadowInspection(
        shadow=inspection_to_message(said.shadow),
        live_verdict=VERDICT_TO_WIRE[said.live_verdict],
        live_score=said.live_score,
        live_version=said.live_version,
        detail=said.detail,
    ).SerializeToString()


def decode_shadow_inspection(data: bytes) -> ShadowInspection:
    """Decode what a version in the shadow says, from outside.

    Args:
        data: Value of a record of the ``shadow`` topic.

    Raises:
        EventDecodeError: If the bytes are not that or a field breaks its rule.
    """
    return strictly("ShadowInspection", lambda: _shadow_inspection(parse(events_pb2.ShadowInspection, data)))


def _shadow_inspection(message: events_pb2.ShadowInspection) -> ShadowInspection:
    if not message.HasField("shadow"):
        raise InvalidInputError("shadow must be set, got none")
    shadow = _inspection(message.shadow)
    at_least("shadow.model_version", shadow.model_version, 1)
    if message.detail and shadow.verdict is not Verdict.REVIEW:
        raise InvalidInputError(f"a shadow that gave no answer must say REVIEW, got {shadow.verdict.name}")
    return ShadowInspection(
        shadow=shadow,
        live_verdict=VERDICT_FROM_WIRE.get(message.live_verdict, Verdict.REVIEW),
        live_score=message.live_score,
        live_version=at_least("live_version", message.live_version, 1),
        detail=message.detail,
    )


# ---- aliases


def encode_alias_state(state: AliasState) -> bytes:
    """Encode the whole state of an alias."""
    return alias_state_to_message(state).SerializeToString()


def alias_state_to_message(state: AliasState) -> events_pb2.AliasState:
    """The protobuf form of an alias' state, for servicers that answer with it."""
    return events_pb2.AliasState(
        alias=state.alias,
        revision=state.revision,
        live_version=state.live_version,
        previous_version=state.previous_version,
        shadow_version=state.shadow_version,
        candidate_versions=state.candidate_versions,
        action=_ACTION_TO_WIRE[state.action],
        actor=state.actor,
        at_ns=state.at_ns,
        note=state.note,
    )


def decode_alias_state(data: bytes) -> AliasState:
    """Decode an alias' state from outside.

    Args:
        data: Value of a record of the ``models`` topic.

    Raises:
        EventDecodeError: If the bytes are not an alias state or a field breaks its rule.
    """
    return strictly("AliasState", lambda: _alias_state(parse(events_pb2.AliasState, data)))


def alias_state_from_message(message: events_pb2.AliasState) -> AliasState:
    """Validate an alias' state that came in an answer; raises as :func:`decode_alias_state`."""
    return strictly("AliasState", lambda: _alias_state(message))


def _alias_state(message: events_pb2.AliasState) -> AliasState:
    candidates = tuple(message.candidate_versions)
    if any(version < 1 for version in candidates) or list(candidates) != sorted(set(candidates)):
        raise InvalidInputError(f"candidate_versions must be >= 1, ascending and distinct, got {candidates}")
    return AliasState(
        alias=validate_id(message.alias, "alias"),
        revision=at_least("revision", message.revision, 1),
        live_version=at_least("live_version", message.live_version, 0),
        previous_version=at_least("previous_version", message.previous_version, 0),
        shadow_version=at_least("shadow_version", message.shadow_version, 0),
        candidate_versions=candidates,
        # The versions above say what holds; the action only tells people how it came about.
        action=_ACTION_FROM_WIRE.get(message.action, AliasAction.ADD),
        actor=message.actor,
        at_ns=at_least("at_ns", message.at_ns, 0),
        note=message.note,
    )


# ---- shared parts


def image_ref_to_message(ref: ImageRef) -> events_pb2.ImageRef:
    """The protobuf form of a reference, for servicers that answer with it."""
    return events_pb2.ImageRef(bucket=ref.bucket, key=ref.key, size_bytes=ref.size_bytes, sha256=ref.sha256)


def image_ref_from_message(message: events_pb2.ImageRef) -> ImageRef:
    """Validate a reference that came inside another message.

    Raises:
        InvalidInputError: If a field breaks its rule.
    """
    if not 0 < len(message.bucket) <= MAX_BUCKET_LENGTH:
        raise InvalidInputError(
            f"image_ref.bucket must have 1 to {MAX_BUCKET_LENGTH} characters, got {len(message.bucket)}"
        )
    if not 0 < len(message.key.encode()) <= MAX_KEY_BYTES:
        raise InvalidInputError(f"image_ref.key must have 1 to {MAX_KEY_BYTES} bytes, got {len(message.key.encode())}")
    if _SHA256.match(message.sha256) is None:
        raise InvalidInputError(f"image_ref.sha256 must be 64 lower-case hex digits, got {message.sha256[:80]!r}")
    size_bytes = at_least("image_ref.size_bytes", message.size_bytes, 1)
    return ImageRef(message.bucket, message.key, size_bytes, message.sha256)


def _picture(message: events_pb2.Frame | events_pb2.Case) -> tuple[bytes | None, ImageRef | None]:
    which = message.WhichOneof("picture")
    if which is None:
        raise InvalidInputError("picture must be set, as image or image_ref, got none")
    return (message.image, None) if which == "image" else (None, image_ref_from_message(message.image_ref))


def _set_picture(message: events_pb2.Frame | events_pb2.Case, image: bytes | None, image_ref: ImageRef | None) -> None:
    if image is not None and image_ref is None:
        message.image = image
    elif image is None and image_ref is not None:
        message.image_ref.CopyFrom(image_ref_to_message(image_ref))
    else:
        both = "both" if image is not None else "none"
        raise InvalidInputError(f"exactly one of image and image_ref must be set, got {both}")


def parse(kind: type[M], data: bytes) -> M:
    """Read bytes as a message; raises ``InvalidInputError`` where they are none."""
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise InvalidInputError(f"bytes must be a protobuf message, got {len(data)} bytes: {error}") from error


def strictly(name: str, build: Callable[[], T]) -> T:
    """Build a value; a rule that its fields break becomes an ``EventDecodeError`` with the event's name."""
    try:
        return build()
    except InvalidInputError as error:
        raise EventDecodeError(f"{name}: {error}") from error


def at_least(field: str, value: int, least: int) -> int:
    """Let a number through only if it is not too small; raises ``InvalidInputError`` with the field's name."""
    if value < least:
        raise InvalidInputError(f"{field} must be >= {least}, got {value}")
    return value
