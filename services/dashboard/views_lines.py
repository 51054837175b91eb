"""The JSON of the lines' answers. ``web/src/api/lines.ts`` says the same in TypeScript."""

from __future__ import annotations

from services.core.line_event import LineEvent
from services.core.outcome import Outcome, OutcomeView
from services.dashboard.outcomes import COUNTED_S, Counts, CycleTimes, PartAnswers
from services.dashboard.views import NS_PER_MS, Json, number


def part_answers_json(part: PartAnswers) -> Json:
    """One part with all its revisions, the oldest first, and what the line was told."""
    first = part.revisions[0]
    return {
        "part_id": first.part_id,
        "line_id": first.line_id,
        "product": first.product,
        "lot": first.lot,
        "revisions": [outcome_json(one) for one in part.revisions],
        "answered": None if part.answered is None else line_event_json(part.answered),
    }


def outcome_json(outcome: Outcome) -> Json:
    """One answer; ``spare_ms`` is what was left until the deadline, negative where it came too late."""
    due = outcome.deadline_at_ns
    return {
        "outcome_id": outcome.outcome_id,
        "revision": outcome.revision,
        "verdict": outcome.verdict.value,
        "reason": outcome.reason.value,
        "in_time": outcome.in_time,
        "began_at_ms": outcome.began_at_ns // NS_PER_MS,
        "deadline_at_ms": due // NS_PER_MS if due else None,
        "decided_at_ms": outcome.decided_at_ns // NS_PER_MS,
        "took_ms": _ms(outcome.decided_at_ns - outcome.began_at_ns),
        "spare_ms": _ms(due - outcome.decided_at_ns) if due else None,
        "views": [_view_json(view) for view in outcome.views],
        "missing_cameras": list(outcome.missing_cameras),
        "defect_class": outcome.defect_class,
        "detail": outcome.detail,
    }


def line_event_json(event: LineEvent) -> Json:
    """One thing that happened on a line."""
    return {
        "event_id": event.event_id,
        "line_id": event.line_id,
        "at_ms": event.at_ns // NS_PER_MS,
        "kind": event.kind.value,
        "connection": event.connection,
        "part_id": event.part_id,
        "revision": event.revision,
        "verdict": None if event.verdict is None else event.verdict.value,
        "error_code": event.error_code,
        "product": event.product,
        "lot": event.lot,
        "actor": event.actor,
        "detail": event.detail,
        "alarm_id": event.alarm_id,
        "light": None if event.light is None else event.light.value,
    }


def counts_json(counts: Counts) -> Json:
    """First answers of the last minutes."""
    return {
        "window_s": COUNTED_S,
        "passed": counts.passed,
        "failed": counts.failed,
        "reviewed": counts.reviewed,
        "late": counts.late,
    }


def cycle_times_json(times: CycleTimes) -> Json:
    """How long first answers took; each bar has where it begins, and how many were in time and late."""
    return {
        "parts": times.parts,
        "p50_ms": None if times.p50_ms is None else round(times.p50_ms, 2),
        "p99_ms": None if times.p99_ms is None else round(times.p99_ms, 2),
        "due": times.due,
        "in_time": times.in_time,
        "deadlines_ms": [round(one, 2) for one in times.deadlines_ms],
        "bar_ms": times.bar_ms,
        "bars": [[round(one.from_ms, 3), one.in_time, one.late] for one in times.bars],
    }


def _view_json(view: OutcomeView) -> Json:
    return {
        "camera_id": view.camera_id,
        "frame_id": view.frame_id,
        "verdict": view.verdict.value,
        "reason": view.reason.value,
        "score": number(view.score),
        "alias": view.alias,
        "model_version": view.model_version,
        "captured_at_ms": view.captured_at_ns // NS_PER_MS,
        "decided_at_ms": view.decided_at_ns // NS_PER_MS,
        "defect_class": view.defect_class,
        "expected": view.expected,
    }


def _ms(span_ns: int) -> float:
    return round(span_ns / NS_PER_MS, 2)
