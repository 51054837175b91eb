"""Runs of the trainer to protobuf and back, as strict as the other messages (see ``codec``)."""

from __future__ import annotations

import math
import re
from typing import Final

from sightline.v1 import trainer_service_pb2

from services.adapters.codec import VERDICT_FROM_WIRE, VERDICT_TO_WIRE
from services.core.errors import EventDecodeError, InvalidInputError
from services.core.identity import validate_frame_id, validate_id
from services.core.manifest import validate_alias
from services.core.promotion import Gate, GateName, GateState, PromotionReport
from services.core.review import validate_case_id, validate_review_id, validate_reviewer
from services.core.training_run import (
    AnsweredPart,
    CandidateReport,
    Confusion,
    EpochLoss,
    FlippedPart,
    Loss,
    Recipe,
    RunOutcome,
    RunStage,
    RunTrigger,
    ShadowFigures,
    SnapshotSummary,
    TrainingRun,
    WatchFigures,
    validate_run_id,
)
from services.core.types import Verdict

_TRIGGER_TO_WIRE: Final = {
    RunTrigger.REVIEWS: trainer_service_pb2.RUN_TRIGGER_REVIEWS,
    RunTrigger.SCHEDULE: trainer_service_pb2.RUN_TRIGGER_SCHEDULE,
    RunTrigger.HAND: trainer_service_pb2.RUN_TRIGGER_HAND,
}
_STAGE_TO_WIRE: Final = {
    RunStage.WAITING: trainer_service_pb2.RUN_STAGE_WAITING,
    RunStage.SNAPSHOT: trainer_service_pb2.RUN_STAGE_SNAPSHOT,
    RunStage.TRAINING: trainer_service_pb2.RUN_STAGE_TRAINING,
    RunStage.EVALUATION: trainer_service_pb2.RUN_STAGE_EVALUATION,
    RunStage.REGISTERING: trainer_service_pb2.RUN_STAGE_REGISTERING,
    RunStage.SHADOW: trainer_service_pb2.RUN_STAGE_SHADOW,
    RunStage.DECISION: trainer_service_pb2.RUN_STAGE_DECISION,
    RunStage.WATCH: trainer_service_pb2.RUN_STAGE_WATCH,
    RunStage.ENDED: trainer_service_pb2.RUN_STAGE_ENDED,
}
_OUTCOME_TO_WIRE: Final = {
    RunOutcome.PROMOTED: trainer_service_pb2.RUN_OUTCOME_PROMOTED,
    RunOutcome.REFUSED: trainer_service_pb2.RUN_OUTCOME_REFUSED,
    RunOutcome.CANCELLED: trainer_service_pb2.RUN_OUTCOME_CANCELLED,
    RunOutcome.FAILED: trainer_service_pb2.RUN_OUTCOME_FAILED,
    RunOutcome.ROLLED_BACK: trainer_service_pb2.RUN_OUTCOME_ROLLED_BACK,
}
_GATE_TO_WIRE: Final = {
    GateState.KEPT: trainer_service_pb2.GATE_STATE_KEPT,
    GateState.BROKEN: trainer_service_pb2.GATE_STATE_BROKEN,
    GateState.NOT_MEASURED: trainer_service_pb2.GATE_STATE_NOT_MEASURED,
}
_TRIGGER_FROM_WIRE: Final = {int(wire): value for value, wire in _TRIGGER_TO_WIRE.items()}
_STAGE_FROM_WIRE: Final = {int(wire): value for value, wire in _STAGE_TO_WIRE.items()}
_OUTCOME_FROM_WIRE: Final = {int(wire): value for value, wire in _OUTCOME_TO_WIRE.items()}
_GATE_FROM_WIRE: Final = {int(wire): value for value, wire in _GATE_TO_WIRE.items()}
_SHA256: Final = re.compile(r"[0-9a-f]{64}\Z", re.ASCII)


# ---- a run


def run_to_message(run: TrainingRun) -> trainer_service_pb2.TrainingRun:
    """The protobuf form of a run."""
    return trainer_service_pb2.TrainingRun(
        run_id=run.run_id,
        alias=run.alias,
        trigger=_TRIGGER_TO_WIRE[run.trigger],
        actor=run.actor,
        note=run.note,
        requested_at_ns=run.requested_at_ns,
        stage_since_ns=run.stage_since_ns,
        ended_at_ns=run.ended_at_ns,
        stage=_STAGE_TO_WIRE[run.stage],
        outcome=_OUTCOME_TO_WIRE[run.outcome] if run.outcome else trainer_service_pb2.RUN_OUTCOME_UNSPECIFIED,
        reason=run.reason,
        detail=run.detail,
        share=run.share,
        doing=run.doing,
        recipe=run.recipe.value,
        loss=run.loss.value,
        seed=run.seed,
        live_version=run.live_version,
        candidate_version=run.candidate_version,
        snapshot=_snapshot_to_message(run.snapshot) if run.snapshot else None,
        epochs=[
            trainer_service_pb2.EpochLoss(
                epoch=one.epoch,
                train_loss=one.train_loss,
                validation_loss=one.validation_loss,
                distance=one.distance,
            )
            for one in run.epochs
        ],
        report=report_to_message(run.report) if run.report else None,
        shadow=_shadow_to_message(run.shadow) if run.shadow else None,
        watch=_watch_to_message(run.watch) if run.watch else None,
        authors=run.authors,
        promotes_itself=run.promotes_itself,
        attempts=run.attempts,
    )


def run_from_message(message: trainer_service_pb2.TrainingRun) -> TrainingRun:
    """Validate a run that came from outside.

    Raises:
        EventDecodeError: If a field breaks its rule.
    """
    try:
        return _run(message)
    except InvalidInputError as error:
        raise EventDecodeError(f"TrainingRun: {error}") from error


def _run(message: trainer_service_pb2.TrainingRun) -> TrainingRun:
    stage = _stage(message.stage)
    outcome = _outcome(message.outcome)
    if (stage is RunStage.ENDED) != (outcome is not None):
        raise InvalidInputError(f"a run has an outcome when it has ended, got {stage.value} and {outcome}")
    return TrainingRun(
        run_id=validate_run_id(message.run_id),
        alias=validate_alias(message.alias),
        trigger=_trigger(message.trigger),
        actor=validate_reviewer(message.actor),
        requested_at_ns=_at_least("requested_at_ns", message.requested_at_ns, 0),
        recipe=recipe_from_text(message.recipe),
        loss=loss_from_text(message.loss),
        seed=_at_least("seed", message.seed, 0),
        promotes_itself=message.promotes_itself,
        note=message.note,
        stage=stage,
        stage_since_ns=_at_least("stage_since_ns", message.stage_since_ns, 0),
        ended_at_ns=_at_least("ended_at_ns", message.ended_at_ns, 0),
        outcome=outcome,
        reason=message.reason,
        detail=message.detail,
        share=_share("share", message.share),
        doing=message.doing,
        live_version=_at_least("live_version", message.live_version, 0),
        candidate_version=_at_least("candidate_version", message.candidate_version, 0),
        snapshot=_snapshot(message.snapshot) if message.HasField("snapshot") else None,
        epochs=tuple(
            EpochLoss(_at_least("epoch", one.epoch, 1), one.train_loss, one.validation_loss, one.distance)
            for one in message.epochs
        ),
        report=_report(message.report) if message.HasField("report") else None,
        shadow=_shadow(message.shadow) if message.HasField("shadow") else None,
        watch=_watch(message.watch) if message.HasField("watch") else None,
        authors=tuple(validate_reviewer(author) for author in message.authors),
        attempts=_at_least("attempts", message.attempts, 0),
    )


def recipe_from_text(text: str) -> Recipe:
    """Give what learns by its name.

    Raises:
        InvalidInputError: If it names none.
    """
    try:
        return Recipe(text)
    except ValueError:
        raise InvalidInputError(f"recipe must be head or finetune, got {text[:80]!a}") from None


def loss_from_text(text: str) -> Loss:
    """Give what it learns by by its name.

    Raises:
        InvalidInputError: If it names none.
    """
    try:
        return Loss(text)
    except ValueError:
        raise InvalidInputError(f"loss must be ce or ceod, got {text[:80]!a}") from None


# ---- what is learnt from


def _snapshot_to_message(summary: SnapshotSummary) -> trainer_service_pb2.SnapshotSummary:
    return trainer_service_pb2.SnapshotSummary(
        digest=summary.digest,
        parts=summary.parts,
        good=summary.good,
        reviews=summary.reviews,
        contradicted=summary.contradicted,
        left_out=dict(summary.left_out),
    )


def _snapshot(message: trainer_service_pb2.SnapshotSummary) -> SnapshotSummary:
    return SnapshotSummary(
        digest=_digest("digest", message.digest),
        parts=_at_least("parts", message.parts, 0),
        good=_at_least("good", message.good, 0),
        reviews=_at_least("reviews", message.reviews, 0),
        contradicted=_at_least("contradicted", message.contradicted, 0),
        left_out=tuple(sorted((reason, _at_least(reason, count, 0)) for reason, count in message.left_out.items())),
    )


# ---- what a candidate proved


def report_to_message(report: CandidateReport) -> trainer_service_pb2.CandidateReport:
    """The protobuf form of a report."""
    return trainer_service_pb2.CandidateReport(
        live_version=report.live_version,
        gates=[
            trainer_service_pb2.Gate(
                name=gate.name.value,
                state=_GATE_TO_WIRE[gate.state],
                live=gate.live,
                candidate=gate.candidate,
                bound=gate.bound,
                low=gate.low,
                high=gate.high,
                parts=gate.n,
            )
            for gate in report.promotion.gates
        ],
        live=_confusion_to_message(report.live) if report.live else None,
        candidate=_confusion_to_message(report.candidate),
        flips=[_flipped_to_message(one) for one in report.flips],
        answered=[_answered_to_message(one) for one in report.answered],
        train_parts=report.train_parts,
        lessons=report.lessons,
        holdout_parts=report.holdout_parts,
    )


def report_from_message(message: trainer_service_pb2.CandidateReport) -> CandidateReport:
    """Validate a report that came in an answer; raises as :func:`run_from_message`."""
    try:
        return _report(message)
    except InvalidInputError as error:
        raise EventDecodeError(f"CandidateReport: {error}") from error


def _report(message: trainer_service_pb2.CandidateReport) -> CandidateReport:
    if not message.HasField("candidate"):
        raise InvalidInputError("a report must have the candidate's confusion, got none")
    return CandidateReport(
        live_version=_at_least("live_version", message.live_version, 0),
        promotion=PromotionReport(tuple(_gate(one) for one in message.gates)),
        live=_confusion(message.live) if message.HasField("live") else None,
        candidate=_confusion(message.candidate),
        flips=tuple(_flipped(one) for one in message.flips),
        answered=tuple(_answered(one) for one in message.answered),
        train_parts=_at_least("train_parts", message.train_parts, 0),
        lessons=_at_least("lessons", message.lessons, 0),
        holdout_parts=_at_least("holdout_parts", message.holdout_parts, 0),
    )


def _gate(message: trainer_service_pb2.Gate) -> Gate:
    try:
        name = GateName(message.name)
    except ValueError:
        raise InvalidInputError(f"a gate must be one that is known, got {message.name[:80]!a}") from None
    if message.state not in _GATE_FROM_WIRE:
        raise InvalidInputError(f"state must be a state of a gate, got {message.state}")
    return Gate(
        name,
        _GATE_FROM_WIRE[message.state],
        message.live,
        message.candidate,
        message.bound,
        message.low,
        message.high,
        _at_least("parts", message.parts, 0),
    )


def _confusion_to_message(confusion: Confusion) -> trainer_service_pb2.Confusion:
    return trainer_service_pb2.Confusion(
        good_pass=confusion.good_pass,
        good_review=confusion.good_review,
        good_fail=confusion.good_fail,
        defective_pass=confusion.defective_pass,
        defective_review=confusion.defective_review,
        defective_fail=confusion.defective_fail,
    )


def _confusion(message: trainer_service_pb2.Confusion) -> Confusion:
    return Confusion(
        _at_least("good_pass", message.good_pass, 0),
        _at_least("good_review", message.good_review, 0),
        _at_least("good_fail", message.good_fail, 0),
        _at_least("defective_pass", message.defective_pass, 0),
        _at_least("defective_review", message.defective_review, 0),
        _at_least("defective_fail", message.defective_fail, 0),
    )


def _flipped_to_message(part: FlippedPart) -> trainer_service_pb2.FlippedPart:
    return trainer_service_pb2.FlippedPart(
        part_id=part.part_id,
        frame_id=part.frame_id,
        product=part.product,
        label=part.label,
        before=VERDICT_TO_WIRE[part.before],
        after=VERDICT_TO_WIRE[part.after],
        before_score=part.before_score,
        after_score=part.after_score,
    )


def _flipped(message: trainer_service_pb2.FlippedPart) -> FlippedPart:
    return FlippedPart(
        part_id=validate_id(message.part_id, "part_id"),
        product=message.product,
        label=message.label,
        before=_verdict("before", message.before),
        after=_verdict("after", message.after),
        before_score=message.before_score,
        after_score=message.after_score,
        frame_id=validate_frame_id(message.frame_id) if message.frame_id else "",
    )


def _answered_to_message(part: AnsweredPart) -> trainer_service_pb2.AnsweredPart:
    return trainer_service_pb2.AnsweredPart(
        image_sha256=part.image_sha256,
        part_id=part.part_id,
        case_ids=part.case_ids,
        review_ids=part.review_ids,
        reviewers=part.reviewers,
        label=part.label,
        verdict=VERDICT_TO_WIRE[part.verdict],
        score=part.score,
        verdict_corrected=part.verdict_corrected,
        verdict_right=part.verdict_right,
        region_corrected=part.region_corrected,
        region_right=part.region_right,
    )


def _answered(message: trainer_service_pb2.AnsweredPart) -> AnsweredPart:
    return AnsweredPart(
        image_sha256=_digest("image_sha256", message.image_sha256),
        part_id=validate_id(message.part_id, "part_id"),
        review_ids=tuple(validate_review_id(one) for one in message.review_ids),
        label=message.label,
        verdict=_verdict("verdict", message.verdict),
        score=message.score,
        verdict_corrected=message.verdict_corrected,
        verdict_right=message.verdict_right,
        region_corrected=message.region_corrected,
        region_right=message.region_right,
        case_ids=tuple(validate_case_id(one) for one in message.case_ids),
        reviewers=tuple(validate_reviewer(one) for one in message.reviewers),
    )


# ---- beside the live version, and after it


def _shadow_to_message(figures: ShadowFigures) -> trainer_service_pb2.ShadowFigures:
    return trainer_service_pb2.ShadowFigures(
        frames=figures.frames,
        wanted=figures.wanted,
        failed=figures.failed,
        agreed=figures.agreed,
        live_flagged=figures.live_flagged,
        candidate_flagged=figures.candidate_flagged,
        flips=[_flipped_to_message(one) for one in figures.flips],
    )


def _shadow(message: trainer_service_pb2.ShadowFigures) -> ShadowFigures:
    return ShadowFigures(
        frames=_at_least("frames", message.frames, 0),
        wanted=_at_least("wanted", message.wanted, 0),
        failed=_at_least("failed", message.failed, 0),
        agreed=_at_least("agreed", message.agreed, 0),
        live_flagged=_at_least("live_flagged", message.live_flagged, 0),
        candidate_flagged=_at_least("candidate_flagged", message.candidate_flagged, 0),
        flips=tuple(_flipped(one) for one in message.flips),
    )


def _watch_to_message(figures: WatchFigures) -> trainer_service_pb2.WatchFigures:
    return trainer_service_pb2.WatchFigures(
        frames=figures.frames,
        flagged=figures.flagged,
        late=figures.late,
        before_frames=figures.before_frames,
        before_flagged=figures.before_flagged,
        before_late=figures.before_late,
        until_ns=figures.until_ns,
    )


def _watch(message: trainer_service_pb2.WatchFigures) -> WatchFigures:
    return WatchFigures(
        frames=_at_least("frames", message.frames, 0),
        flagged=_at_least("flagged", message.flagged, 0),
        late=_at_least("late", message.late, 0),
        before_frames=_at_least("before_frames", message.before_frames, 0),
        before_flagged=_at_least("before_flagged", message.before_flagged, 0),
        before_late=_at_least("before_late", message.before_late, 0),
        until_ns=_at_least("until_ns", message.until_ns, 0),
    )


# ---- values


def _trigger(wire: int) -> RunTrigger:
    if wire not in _TRIGGER_FROM_WIRE:
        raise InvalidInputError(f"trigger must be what sets a run off, got {wire}")
    return _TRIGGER_FROM_WIRE[wire]


def _stage(wire: int) -> RunStage:
    if wire not in _STAGE_FROM_WIRE:
        raise InvalidInputError(f"stage must be a stage of a run, got {wire}")
    return _STAGE_FROM_WIRE[wire]


def _outcome(wire: int) -> RunOutcome | None:
    if not wire:
        return None
    if wire not in _OUTCOME_FROM_WIRE:
        raise InvalidInputError(f"outcome must be an outcome of a run, got {wire}")
    return _OUTCOME_FROM_WIRE[wire]


def _verdict(name: str, wire: int) -> Verdict:
    # As everywhere: what this release does not know is REVIEW.
    if not wire:
        raise InvalidInputError(f"{name} must be a verdict, got none")
    return VERDICT_FROM_WIRE.get(wire, Verdict.REVIEW)


def _digest(name: str, value: str) -> str:
    if _SHA256.match(value) is None:
        raise InvalidInputError(f"{name} must be 64 lower-case hex digits, got {value[:80]!a}")
    return value


def _share(name: str, value: float) -> float:
    if not (math.isfinite(value) and 0 <= value <= 1):
        raise InvalidInputError(f"{name} must lie in [0, 1], got {value}")
    return value


def _at_least(name: str, value: int, least: int) -> int:
    if value < least:
        raise InvalidInputError(f"{name} must be >= {least}, got {value}")
    return value
