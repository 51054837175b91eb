"""Reviews and queued cases to protobuf and back, as strict as the other events (see ``codec``).

Lenient in one way: an answer that this release does not know, as a newer writer may send it, is "not sure", and an
action that it does not know is a skip: neither corrects anything.
"""

from __future__ import annotations

import math
from typing import Final

from google.protobuf.message import DecodeError
from sightline.v1 import events_pb2, feedback_service_pb2

from services.adapters.codec import (
    KIND_FROM_WIRE,
    KIND_OF_VERDICT,
    KIND_TO_WIRE,
    VERDICT_FROM_WIRE,
    VERDICT_TO_WIRE,
    image_ref_from_message,
    image_ref_to_message,
    inspection_from_message,
    inspection_to_message,
)
from services.adapters.codec_explained import GRADE_FROM_WIRE, GRADE_TO_WIRE
from services.core.errors import EventDecodeError, InvalidInputError
from services.core.review import (
    MAX_AREA_POINTS,
    Answer,
    AreaPoint,
    CaseState,
    QueuedCase,
    Review,
    ReviewAction,
    validate_case_id,
    validate_review_id,
    validate_reviewer,
)

ANSWER_TO_WIRE: Final = {
    Answer.YES: events_pb2.ANSWER_YES,
    Answer.NO: events_pb2.ANSWER_NO,
    Answer.NOT_SURE: events_pb2.ANSWER_NOT_SURE,
    Answer.NOT_ASKED: events_pb2.ANSWER_NOT_ASKED,
}
ACTION_TO_WIRE: Final = {
    ReviewAction.ANSWER: events_pb2.REVIEW_ACTION_ANSWER,
    ReviewAction.SKIP: events_pb2.REVIEW_ACTION_SKIP,
    ReviewAction.UNDO: events_pb2.REVIEW_ACTION_UNDO,
}
STATE_TO_WIRE: Final = {
    CaseState.OPEN: feedback_service_pb2.CASE_STATE_OPEN,
    CaseState.REVIEWED: feedback_service_pb2.CASE_STATE_REVIEWED,
    CaseState.DISPUTED: feedback_service_pb2.CASE_STATE_DISPUTED,
}
STATE_FROM_WIRE: Final = {int(wire): state for state, wire in STATE_TO_WIRE.items()}
_ANSWER_FROM_WIRE: Final = {int(wire): answer for answer, wire in ANSWER_TO_WIRE.items()}
_ACTION_FROM_WIRE: Final = {int(wire): action for action, wire in ACTION_TO_WIRE.items()}


def encode_review(review: Review) -> bytes:
    """Encode a review."""
    return review_to_message(review).SerializeToString()


def decode_review(data: bytes) -> Review:
    """Decode a review from outside.

    Args:
        data: Value of a record of the ``reviews`` topic.

    Raises:
        EventDecodeError: If the bytes are not a review or a field breaks its rule.
    """
    try:
        message = events_pb2.Review.FromString(data)
    except DecodeError as error:
        raise EventDecodeError(f"a Review must be a protobuf message, got {len(data)} bytes that are none") from error
    return review_from_message(message)


def review_to_message(review: Review) -> events_pb2.Review:
    """The protobuf form of a review."""
    message = events_pb2.Review(
        review_id=review.review_id,
        case_id=review.case_id,
        frame_id=review.frame_id,
        action=ACTION_TO_WIRE[review.action],
        verdict_right=ANSWER_TO_WIRE[review.verdict_right],
        reason_right=ANSWER_TO_WIRE[review.reason_right],
        defect_class=review.defect_class,
        mask_pixels=review.mask_pixels,
        area=[events_pb2.AreaPoint(x_px=point.x_px, y_px=point.y_px) for point in review.area],
        note=review.note,
        reviewer=review.reviewer,
        reviewed_at_ns=review.reviewed_at_ns,
        said_at_ns=review.said_at_ns,
        alias=review.alias,
        model_version=review.model_version,
        shown_method=review.shown_method,
        supersedes=review.supersedes,
        disagrees_with=review.disagrees_with,
    )
    if review.corrected_verdict is not None:
        message.corrected_verdict = VERDICT_TO_WIRE[review.corrected_verdict]
    if review.mask_ref is not None:
        message.mask_ref.CopyFrom(image_ref_to_message(review.mask_ref))
    return message


def review_from_message(message: events_pb2.Review) -> Review:
    """Validate a review that came inside another message, or from the record.

    Raises:
        EventDecodeError: If a field breaks its rule.
    """
    try:
        return _review(message)
    except InvalidInputError as error:
        raise EventDecodeError(f"Review: {error}") from error


def _review(message: events_pb2.Review) -> Review:
    if len(message.area) > MAX_AREA_POINTS:
        raise InvalidInputError(f"an area must have at most {MAX_AREA_POINTS} corners, got {len(message.area)}")
    if not all(math.isfinite(point.x_px) and math.isfinite(point.y_px) for point in message.area):
        raise InvalidInputError("an area's corners must be finite, got one that is not")
    for name in ("mask_pixels", "reviewed_at_ns", "said_at_ns", "model_version"):
        if getattr(message, name) < 0:
            raise InvalidInputError(f"{name} must be >= 0, got {getattr(message, name)}")
    corrected = VERDICT_FROM_WIRE.get(message.corrected_verdict) if message.corrected_verdict else None
    return Review(
        review_id=validate_review_id(message.review_id),
        case_id=validate_case_id(message.case_id),
        frame_id=message.frame_id,
        action=_ACTION_FROM_WIRE.get(message.action, ReviewAction.SKIP),
        reviewer=validate_reviewer(message.reviewer),
        reviewed_at_ns=message.reviewed_at_ns,
        verdict_right=_ANSWER_FROM_WIRE.get(message.verdict_right, _unknown(message.verdict_right)),
        reason_right=_ANSWER_FROM_WIRE.get(message.reason_right, _unknown(message.reason_right)),
        corrected_verdict=corrected,
        defect_class=message.defect_class,
        mask_ref=image_ref_from_message(message.mask_ref) if message.HasField("mask_ref") else None,
        mask_pixels=message.mask_pixels,
        area=tuple(AreaPoint(point.x_px, point.y_px) for point in message.area),
        note=message.note,
        said_at_ns=message.said_at_ns,
        alias=message.alias,
        model_version=message.model_version,
        shown_method=message.shown_method,
        supersedes=validate_review_id(message.supersedes) if message.supersedes else "",
        disagrees_with=validate_review_id(message.disagrees_with) if message.disagrees_with else "",
    )


def _unknown(answer: int) -> Answer:
    return Answer.NOT_SURE if answer else Answer.NOT_ASKED


def queued_case_to_message(case: QueuedCase) -> feedback_service_pb2.QueuedCase:
    """The protobuf form of a case in a queue."""
    message = feedback_service_pb2.QueuedCase(
        case_id=case.case_id,
        kind=KIND_TO_WIRE[case.kind],
        inspection=inspection_to_message(case.inspection),
        image_ref=image_ref_to_message(case.image_ref),
        image_width_px=case.image_width_px,
        image_height_px=case.image_height_px,
        shown_method=case.shown_method,
        gain=case.gain,
        state=STATE_TO_WIRE[case.state],
        claimed_by=case.claimed_by,
        claimed_until_ns=case.claimed_until_ns,
        explained_at_ns=case.explained_at_ns,
        sampling_probability=case.sampling_probability,
    )
    if case.shown_grade is not None:
        message.shown_grade = GRADE_TO_WIRE[case.shown_grade]
    if case.settled_verdict is not None:
        message.settled_verdict = VERDICT_TO_WIRE[case.settled_verdict]
    return message


def queued_case_from_message(message: feedback_service_pb2.QueuedCase) -> QueuedCase:
    """Validate a case of a queue that came in an answer.

    Raises:
        EventDecodeError: If a field breaks its rule.
    """
    try:
        inspection = inspection_from_message(message.inspection)
        return QueuedCase(
            case_id=validate_case_id(message.case_id),
            kind=KIND_FROM_WIRE.get(message.kind, KIND_OF_VERDICT[inspection.verdict]),
            inspection=inspection,
            image_ref=image_ref_from_message(message.image_ref),
            image_width_px=message.image_width_px,
            image_height_px=message.image_height_px,
            sampling_probability=message.sampling_probability,
            explained_at_ns=message.explained_at_ns,
            shown_method=message.shown_method,
            shown_grade=GRADE_FROM_WIRE.get(message.shown_grade),
            state=STATE_FROM_WIRE.get(message.state, CaseState.OPEN),
            settled_verdict=VERDICT_FROM_WIRE.get(message.settled_verdict) if message.settled_verdict else None,
            claimed_by=message.claimed_by,
            claimed_until_ns=message.claimed_until_ns,
        )
    except InvalidInputError as error:
        raise EventDecodeError(f"QueuedCase: {error}") from error
