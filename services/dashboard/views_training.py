"""The JSON of training runs, as ``views`` has that of the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.core.promotion import Gate
from services.core.training_run import (
    AnsweredPart,
    CandidateReport,
    Confusion,
    EpochLoss,
    FlippedPart,
    RunOutcome,
    ShadowFigures,
    SnapshotSummary,
    TrainingRun,
    WatchFigures,
)
from services.dashboard.models import KnownAlias
from services.dashboard.views import NS_PER_MS, Json, number
from services.dashboard.views_models import state_json


def trained_alias_json(alias: KnownAlias) -> Json:
    """What an alias points to, without its history."""
    return {**state_json(alias.state), "alias": alias.state.alias}


def run_json(run: TrainingRun) -> Json:
    """One run, with whatever it has by now."""
    return {
        "run_id": run.run_id,
        "alias": run.alias,
        "trigger": run.trigger.value,
        "actor": run.actor,
        "note": run.note,
        "requested_at_ms": run.requested_at_ns // NS_PER_MS,
        "stage_since_ms": run.stage_since_ns // NS_PER_MS,
        "ended_at_ms": run.ended_at_ns // NS_PER_MS or None,
        "stage": run.stage.value,
        "outcome": None if run.outcome is None else run.outcome.value,
        "reason": run.reason,
        "detail": run.detail,
        "share": number(run.share),
        "doing": run.doing,
        "recipe": run.recipe.value,
        "loss": run.loss.value,
        # As a text: a seed may have more digits than a JavaScript number keeps.
        "seed": str(run.seed),
        "live_version": run.live_version,
        "candidate_version": run.candidate_version,
        "snapshot": None if run.snapshot is None else _snapshot_json(run.snapshot),
        "epochs": [_epoch_json(one) for one in run.epochs],
        "report": None if run.report is None else _report_json(run.report),
        "shadow": None if run.shadow is None else _shadow_json(run.shadow),
        "watch": None if run.watch is None else _watch_json(run.watch),
        "authors": list(run.authors),
        "promotes_itself": run.promotes_itself,
        "attempts": run.attempts,
    }


def runs_json(runs: Sequence[TrainingRun], following: str, new_reviews: Mapping[str, int], wanted: int) -> Json:
    """One page of runs.

    Args:
        runs: The newest first.
        following: Token of the next page; empty where nothing follows.
        new_reviews: Answers since the last run, by alias.
        wanted: Answers after which a run begins by itself; 0 for never.
    """
    return {
        "runs": [run_json(one) for one in runs],
        "next": following or None,
        "new_reviews": dict(new_reviews),
        "reviews_wanted": wanted,
    }


def notice_json(run: TrainingRun, author: str) -> Json | None:
    """What somebody should know of a run that carries their answers; None where there is nothing.

    Args:
        run: One that has ended, whole.
        author: Whose answers.
    """
    answered = () if run.report is None else run.report.answered
    missed = [one for one in answered if author in one.reviewers and not one.is_honoured]
    refused = run.outcome is RunOutcome.REFUSED
    if not refused and (run.outcome is not RunOutcome.PROMOTED or not missed):
        return None
    return {
        "kind": "refused" if refused else "not_honoured",
        "run_id": run.run_id,
        "alias": run.alias,
        "ended_at_ms": run.ended_at_ns // NS_PER_MS,
        "reason": run.reason,
        "detail": run.detail,
        "candidate_version": run.candidate_version,
        "missed": len(missed),
        "mine": sum(author in one.reviewers for one in answered),
    }


def _snapshot_json(snapshot: SnapshotSummary) -> Json:
    return {
        "digest": snapshot.digest,
        "parts": snapshot.parts,
        "good": snapshot.good,
        "reviews": snapshot.reviews,
        "contradicted": snapshot.contradicted,
        "left_out": [{"reason": reason, "parts": parts} for reason, parts in snapshot.left_out],
    }


def _epoch_json(epoch: EpochLoss) -> Json:
    return {
        "epoch": epoch.epoch,
        "train_loss": number(epoch.train_loss),
        "validation_loss": number(epoch.validation_loss),
        "distance": number(epoch.distance),
    }


def _report_json(report: CandidateReport) -> Json:
    return {
        "live_version": report.live_version,
        "may_go_live": report.promotion.may_go_live,
        "gates": [_gate_json(one) for one in report.promotion.gates],
        "live": None if report.live is None else _confusion_json(report.live),
        "candidate": _confusion_json(report.candidate),
        "flips": [_flip_json(one) for one in report.flips],
        "answered": [_answered_json(one) for one in report.answered],
        "train_parts": report.train_parts,
        "lessons": report.lessons,
        "holdout_parts": report.holdout_parts,
    }


def _gate_json(gate: Gate) -> Json:
    """A bound that is infinite is none, and null as a figure that was not measured is."""
    return {
        "name": gate.name.value,
        "state": gate.state.value,
        "live": number(gate.live),
        "candidate": number(gate.candidate),
        "bound": number(gate.bound),
        "low": number(gate.low),
        "high": number(gate.high),
        "parts": gate.n,
    }


def _confusion_json(confusion: Confusion) -> Json:
    return {
        "good": {"pass": confusion.good_pass, "review": confusion.good_review, "fail": confusion.good_fail},
        "defective": {
            "pass": confusion.defective_pass,
            "review": confusion.defective_review,
            "fail": confusion.defective_fail,
        },
    }


def _flip_json(flip: FlippedPart) -> Json:
    return {
        "part_id": flip.part_id,
        "frame_id": flip.frame_id or None,
        "product": flip.product,
        "label": flip.label,
        "before": flip.before.value,
        "after": flip.after.value,
        "before_score": number(flip.before_score),
        "after_score": number(flip.after_score),
    }


def _answered_json(part: AnsweredPart) -> Json:
    return {
        "image_sha256": part.image_sha256,
        "part_id": part.part_id,
        "case_ids": list(part.case_ids),
        "reviewers": list(part.reviewers),
        "label": part.label,
        "verdict": part.verdict.value,
        "score": number(part.score),
        "verdict_corrected": part.verdict_corrected,
        "verdict_right": part.verdict_right,
        "region_corrected": part.region_corrected,
        "region_right": part.region_right,
        "honoured": part.is_honoured,
    }


def _shadow_json(shadow: ShadowFigures) -> Json:
    return {
        "frames": shadow.frames,
        "wanted": shadow.wanted,
        "failed": shadow.failed,
        "agreed": shadow.agreed,
        "live_flagged": shadow.live_flagged,
        "candidate_flagged": shadow.candidate_flagged,
        "flips": [_flip_json(one) for one in shadow.flips],
    }


def _watch_json(watch: WatchFigures) -> Json:
    return {
        "frames": watch.frames,
        "flagged": watch.flagged,
        "late": watch.late,
        "before_frames": watch.before_frames,
        "before_flagged": watch.before_flagged,
        "before_late": watch.before_late,
        "until_ms": watch.until_ns // NS_PER_MS,
    }
