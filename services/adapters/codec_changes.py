"""Changes of live versions to protobuf and back, as strict as the other messages (see ``codec``)."""

from __future__ import annotations

import math
from typing import Final

from sightline.v1 import changes_service_pb2, events_pb2

from services.adapters.codec import VERDICT_FROM_WIRE, VERDICT_TO_WIRE
from services.core.errors import EventDecodeError, InvalidInputError
from services.core.identity import validate_id
from services.core.manifest import validate_alias
from services.core.model_change import (
    ChangeState,
    ChangeSummary,
    ComparedFrame,
    ComparedPart,
    Correction,
    CorrectionKind,
    Flip,
    Flips,
    FrameEstimate,
    FrameStratum,
    ModelChange,
    PartCounts,
    PartOutcome,
    PartVerdict,
)
from services.core.review import validate_case_id, validate_review_id, validate_reviewer
from services.core.types import AliasAction, OperatingPoint, Verdict

_STATE_TO_WIRE: Final = {
    ChangeState.COMPARING: changes_service_pb2.CHANGE_STATE_COMPARING,
    ChangeState.DONE: changes_service_pb2.CHANGE_STATE_DONE,
    ChangeState.SUPERSEDED: changes_service_pb2.CHANGE_STATE_SUPERSEDED,
}
_KIND_TO_WIRE: Final = {
    CorrectionKind.VERDICT: changes_service_pb2.CORRECTION_KIND_VERDICT,
    CorrectionKind.DECISION: changes_service_pb2.CORRECTION_KIND_DECISION,
    CorrectionKind.REASON: changes_service_pb2.CORRECTION_KIND_REASON,
}
_OUTCOME_TO_WIRE: Final = {
    PartOutcome.NOW_RIGHT: changes_service_pb2.PART_OUTCOME_NOW_RIGHT,
    PartOutcome.STILL_RIGHT: changes_service_pb2.PART_OUTCOME_STILL_RIGHT,
    PartOutcome.ASKS: changes_service_pb2.PART_OUTCOME_ASKS,
    PartOutcome.STILL_WRONG: changes_service_pb2.PART_OUTCOME_STILL_WRONG,
    PartOutcome.NOW_WRONG: changes_service_pb2.PART_OUTCOME_NOW_WRONG,
}
_ACTION_TO_WIRE: Final = {
    AliasAction.PROMOTE: events_pb2.ALIAS_ACTION_PROMOTE,
    AliasAction.ROLL_BACK: events_pb2.ALIAS_ACTION_ROLL_BACK,
}
_STATE_FROM_WIRE: Final = {int(wire): value for value, wire in _STATE_TO_WIRE.items()}
_KIND_FROM_WIRE: Final = {int(wire): value for value, wire in _KIND_TO_WIRE.items()}
_ACTION_FROM_WIRE: Final = {int(wire): value for value, wire in _ACTION_TO_WIRE.items()}


# ---- a change


def change_to_message(change: ModelChange) -> changes_service_pb2.ModelChange:
    """The protobuf form of a change."""
    return changes_service_pb2.ModelChange(
        alias=change.alias,
        revision=change.revision,
        live_version=change.live_version,
        previous_version=change.previous_version,
        action=_ACTION_TO_WIRE.get(change.action, events_pb2.ALIAS_ACTION_UNSPECIFIED)
        if change.action
        else events_pb2.ALIAS_ACTION_UNSPECIFIED,
        actor=change.actor,
        at_ns=change.at_ns,
        note=change.note,
        state=_STATE_TO_WIRE[change.state],
        parts=[part_to_message(part) for part in change.parts],
        frames=[_frame_to_message(frame) for frame in change.frames],
        strata=[
            changes_service_pb2.FrameStratum(before=VERDICT_TO_WIRE[one.before], cases=one.cases, frames=one.frames)
            for one in change.strata
        ],
        frames_since_ns=change.frames_since_ns,
        frames_until_ns=change.frames_until_ns,
        began_at_ns=change.began_at_ns,
        ended_at_ns=change.ended_at_ns,
    )


def change_from_message(message: changes_service_pb2.ModelChange) -> ModelChange:
    """Validate a change that came from outside.

    Raises:
        EventDecodeError: If a field breaks its rule.
    """
    try:
        return _change(message)
    except InvalidInputError as error:
        raise EventDecodeError(f"ModelChange: {error}") from error


def _change(message: changes_service_pb2.ModelChange) -> ModelChange:
    return ModelChange(
        alias=validate_alias(message.alias),
        revision=_at_least("revision", message.revision, 1),
        live_version=_at_least("live_version", message.live_version, 1),
        previous_version=_at_least("previous_version", message.previous_version, 0),
        action=_ACTION_FROM_WIRE.get(message.action),
        actor=message.actor,
        at_ns=_at_least("at_ns", message.at_ns, 0),
        note=message.note,
        state=_state(message.state),
        parts=tuple(_part(part) for part in message.parts),
        frames=tuple(_frame(frame) for frame in message.frames),
        strata=tuple(
            FrameStratum(
                _verdict("before", one.before), _at_least("cases", one.cases, 0), _positive("frames", one.frames)
            )
            for one in message.strata
        ),
        frames_since_ns=_at_least("frames_since_ns", message.frames_since_ns, 0),
        frames_until_ns=_at_least("frames_until_ns", message.frames_until_ns, 0),
        began_at_ns=_at_least("began_at_ns", message.began_at_ns, 0),
        ended_at_ns=_at_least("ended_at_ns", message.ended_at_ns, 0),
    )


def part_to_message(part: ComparedPart) -> changes_service_pb2.ComparedPart:
    """The protobuf form of a compared part."""
    message = changes_service_pb2.ComparedPart(
        case_id=part.case_id,
        part_id=part.part_id,
        line_id=part.line_id,
        camera_id=part.camera_id,
        captured_at_ns=part.captured_at_ns,
        settled=VERDICT_TO_WIRE[part.settled],
        corrections=[
            changes_service_pb2.Correction(
                review_id=one.review_id,
                reviewer=one.reviewer,
                kind=_KIND_TO_WIRE[one.kind],
                settled=VERDICT_TO_WIRE[one.settled],
                defect_class=one.defect_class,
                reviewed_at_ns=one.reviewed_at_ns,
                withdrawn=one.withdrawn,
            )
            for one in part.corrections
        ],
        before=_part_verdict_to_message(part.before),
        left_out=part.left_out,
    )
    if part.after is not None:
        message.after.CopyFrom(_part_verdict_to_message(part.after))
    outcome = part.outcome
    if outcome is not None:
        message.outcome = _OUTCOME_TO_WIRE[outcome]
    return message


def part_from_message(message: changes_service_pb2.ComparedPart) -> ComparedPart:
    """Validate a compared part that came in an answer; raises as :func:`change_from_message`."""
    try:
        return _part(message)
    except InvalidInputError as error:
        raise EventDecodeError(f"ComparedPart: {error}") from error


def _part(message: changes_service_pb2.ComparedPart) -> ComparedPart:
    corrections = tuple(
        Correction(
            review_id=validate_review_id(one.review_id),
            reviewer=validate_reviewer(one.reviewer),
            kind=_correction_kind(one.kind),
            settled=_settled(one.settled),
            defect_class=one.defect_class,
            reviewed_at_ns=_at_least("reviewed_at_ns", one.reviewed_at_ns, 0),
            withdrawn=one.withdrawn,
        )
        for one in message.corrections
    )
    if not corrections:
        raise InvalidInputError(f"a compared part must have a correction, got none for {message.case_id}")
    return ComparedPart(
        case_id=validate_case_id(message.case_id),
        part_id=validate_id(message.part_id, "part_id"),
        line_id=validate_id(message.line_id, "line_id"),
        camera_id=validate_id(message.camera_id, "camera_id"),
        captured_at_ns=_at_least("captured_at_ns", message.captured_at_ns, 0),
        settled=_settled(message.settled),
        corrections=corrections,
        before=_part_verdict(message.before),
        # How it comes out follows from these, here as there.
        after=_part_verdict(message.after) if message.HasField("after") else None,
        left_out=message.left_out,
    )


def _part_verdict_to_message(said: PartVerdict) -> changes_service_pb2.PartVerdict:
    point = said.operating_point
    return changes_service_pb2.PartVerdict(
        verdict=VERDICT_TO_WIRE[said.verdict],
        score=said.score,
        operating_point=events_pb2.OperatingPoint(
            threshold=point.threshold, review_low=point.review_low, review_high=point.review_high
        ),
        model_version=said.model_version,
        defect_class=said.defect_class,
    )


def _part_verdict(message: changes_service_pb2.PartVerdict) -> PartVerdict:
    point = message.operating_point
    return PartVerdict(
        verdict=_verdict("verdict", message.verdict),
        score=message.score,
        operating_point=OperatingPoint(point.threshold, point.review_low, point.review_high),
        model_version=_at_least("model_version", message.model_version, 0),
        defect_class=message.defect_class,
    )


def _frame_to_message(frame: ComparedFrame) -> changes_service_pb2.ComparedFrame:
    message = changes_service_pb2.ComparedFrame(
        case_id=frame.case_id,
        sampling_probability=frame.sampling_probability,
        before=VERDICT_TO_WIRE[frame.before],
        left_out=frame.left_out,
    )
    if frame.after is not None:
        message.after = VERDICT_TO_WIRE[frame.after]
    return message


def _frame(message: changes_service_pb2.ComparedFrame) -> ComparedFrame:
    if not 0 < message.sampling_probability <= 1:
        raise InvalidInputError(f"sampling_probability must lie in (0, 1], got {message.sampling_probability}")
    return ComparedFrame(
        case_id=validate_case_id(message.case_id),
        sampling_probability=message.sampling_probability,
        before=_verdict("before", message.before),
        after=_verdict("after", message.after) if message.after else None,
        left_out=message.left_out,
    )


# ---- a change as a list shows it


def summary_to_message(summary: ChangeSummary) -> changes_service_pb2.ChangeSummary:
    """The protobuf form of a summary."""
    counts, found = summary.counts, summary.flips
    message = changes_service_pb2.ChangeSummary(
        change=change_to_message(summary.change),
        counts=changes_service_pb2.PartCounts(
            parts=counts.parts,
            now_right=counts.now_right,
            still_right=counts.still_right,
            asks=counts.asks,
            still_wrong=counts.still_wrong,
            now_wrong=counts.now_wrong,
            left_out=counts.left_out,
            waiting=counts.waiting,
        ),
        flips=[
            changes_service_pb2.Flip(
                before=VERDICT_TO_WIRE[kind.before],
                after=VERDICT_TO_WIRE[kind.after],
                flipped=kind.flipped,
                compared=kind.compared,
                estimate=_estimate_to_message(kind.estimate),
            )
            for kind in found.kinds
        ],
        frames=found.frames,
        frames_compared=found.compared,
        planned=summary.planned,
        settled=summary.settled,
        waits_for=summary.waits_for,
    )
    if found.flipped is not None:
        message.flipped.CopyFrom(_estimate_to_message(found.flipped))
    return message


def summary_from_message(message: changes_service_pb2.ChangeSummary) -> ChangeSummary:
    """Validate a summary that came in an answer; raises as :func:`change_from_message`."""
    counts = message.counts
    change = change_from_message(message.change)
    try:
        kinds = tuple(
            Flip(
                _verdict("before", one.before),
                _verdict("after", one.after),
                one.flipped,
                one.compared,
                _estimate(one.estimate),
            )
            for one in message.flips
        )
    except InvalidInputError as error:
        raise EventDecodeError(f"ChangeSummary: {error}") from error
    return ChangeSummary(
        change=change,
        counts=PartCounts(
            parts=counts.parts,
            now_right=counts.now_right,
            still_right=counts.still_right,
            asks=counts.asks,
            still_wrong=counts.still_wrong,
            now_wrong=counts.now_wrong,
            left_out=counts.left_out,
            waiting=counts.waiting,
        ),
        flips=Flips(
            kinds=kinds,
            flipped=_estimate(message.flipped) if message.HasField("flipped") else None,
            frames=message.frames,
            compared=message.frames_compared,
        ),
        planned=message.planned,
        settled=message.settled,
        waits_for=message.waits_for,
    )


def _estimate_to_message(estimate: FrameEstimate) -> changes_service_pb2.FrameEstimate:
    return changes_service_pb2.FrameEstimate(value=estimate.value, low=estimate.low, high=estimate.high)


def _estimate(message: changes_service_pb2.FrameEstimate) -> FrameEstimate:
    return FrameEstimate(message.value, message.low, message.high)


# ---- values


def _verdict(name: str, wire: int) -> Verdict:
    # As everywhere: what this release does not know is REVIEW.
    if not wire:
        raise InvalidInputError(f"{name} must be a verdict, got none")
    return VERDICT_FROM_WIRE.get(wire, Verdict.REVIEW)


def _settled(wire: int) -> Verdict:
    verdict = _verdict("settled", wire)
    if verdict is Verdict.REVIEW:
        raise InvalidInputError("settled must be pass or fail, got review")
    return verdict


def _state(wire: int) -> ChangeState:
    if wire not in _STATE_FROM_WIRE:
        raise InvalidInputError(f"state must be a state of a change, got {wire}")
    return _STATE_FROM_WIRE[wire]


def _correction_kind(wire: int) -> CorrectionKind:
    if wire not in _KIND_FROM_WIRE:
        raise InvalidInputError(f"kind must be a kind of correction, got {wire}")
    return _KIND_FROM_WIRE[wire]


def _at_least(name: str, value: int, least: int) -> int:
    if value < least:
        raise InvalidInputError(f"{name} must be >= {least}, got {value}")
    return value


def _positive(name: str, value: float) -> float:
    if not math.isfinite(value) or value < 0:
        raise InvalidInputError(f"{name} must be a number >= 0, got {value}")
    return value
