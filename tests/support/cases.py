"""Queued cases and reviews for tests, with every field settable."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import fields, replace
from typing import Any

from services.core.identity import case_id as derive_case_id
from services.core.identity import derive_frame_id
from services.core.review import Answer, QueuedCase, Review, ReviewAction
from services.core.types import CaseKind, ImageRef, Inspection, OperatingPoint, Reason, StageTimings, Verdict

START_NS = 1_790_000_000_000_000_000
SECOND_NS = 1_000_000_000
HOUR_NS = 3_600 * SECOND_NS

_KIND = {Verdict.FAIL: CaseKind.FAIL, Verdict.REVIEW: CaseKind.REVIEW, Verdict.PASS: CaseKind.AUDIT}
_OF_THE_CASE = {field.name for field in fields(QueuedCase)}


def image_ref(text: str, size_bytes: int = 30_000) -> ImageRef:
    """Where an image would lie that has this text."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    return ImageRef("sightline", f"cases/{digest}.jpg", size_bytes, digest)


def queued_case(number: int = 0, verdict: Verdict = Verdict.FAIL, **changes: Any) -> QueuedCase:
    """Case ``number``, captured that many seconds after the start; equal arguments give the same case.

    Args:
        number: Tells cases apart.
        verdict: That the model gave; the kind follows it.
        changes: Fields of the case, or of its inspection.
    """
    captured_at_ns = changes.get("captured_at_ns", START_NS + number * SECOND_NS)
    camera_id = changes.get("camera_id", "cam-1")
    frame_id = derive_frame_id(camera_id, f"item-{number}", 0, START_NS + number * SECOND_NS)
    inspection = Inspection(
        frame_id=frame_id,
        part_id=f"part-{number}",
        line_id="line-1",
        camera_id=camera_id,
        product="disc",
        sequence=number + 1,
        captured_at_ns=captured_at_ns,
        decided_at_ns=captured_at_ns + 40_000_000,
        verdict=verdict,
        reason=Reason.UNSURE if verdict is Verdict.REVIEW else Reason.SCORE,
        score=0.93,
        operating_point=OperatingPoint(0.6, 0.5, 0.7),
        uncertainty=0.1,
        alias="default",
        model_version=1,
        defect_class="scratch",
        cycle_time_ms=250,
        timings=StageTimings(total_ms=40.0),
    )
    inspection = replace(inspection, **{key: value for key, value in changes.items() if key not in _OF_THE_CASE})
    case = QueuedCase(
        case_id=derive_case_id(frame_id, inspection.alias, inspection.model_version),
        kind=_KIND[verdict],
        inspection=inspection,
        image_ref=image_ref(f"picture-{number}"),
        image_width_px=320,
        image_height_px=240,
        sampling_probability=0.01 if verdict is Verdict.PASS else 1.0,
        explained_at_ns=captured_at_ns + SECOND_NS,
        shown_method="invrise-soft",
    )
    return replace(case, **{key: value for key, value in changes.items() if key in _OF_THE_CASE})


def review(case: QueuedCase, number: int = 0, reviewer: str = "ada", **changes: Any) -> Review:
    """Review ``number`` of a case: the verdict and the reason are right, unless the changes say otherwise.

    Args:
        case: What it is about.
        number: Tells reviews apart and gives their order in time.
        reviewer: Who says it.
        changes: Fields of the review.
    """
    answers = changes.get("action", ReviewAction.ANSWER) is ReviewAction.ANSWER
    made = Review(
        review_id=str(uuid.uuid5(uuid.NAMESPACE_OID, f"{case.case_id} {reviewer} {number}")),
        case_id=case.case_id,
        frame_id=case.inspection.frame_id,
        action=ReviewAction.ANSWER,
        reviewer=reviewer,
        reviewed_at_ns=case.inspection.captured_at_ns + HOUR_NS + number * SECOND_NS,
        verdict_right=Answer.YES if answers else Answer.NOT_ASKED,
        reason_right=Answer.YES if answers else Answer.NOT_ASKED,
        alias=case.inspection.alias,
        model_version=case.inspection.model_version,
        shown_method=case.shown_method,
    )
    return replace(made, **changes)


def wrong(case: QueuedCase, number: int = 0, reviewer: str = "ada", **changes: Any) -> Review:
    """An answer that the verdict PASS or FAIL is wrong."""
    opposite = Verdict.PASS if case.inspection.verdict is Verdict.FAIL else Verdict.FAIL
    said = {"verdict_right": Answer.NO, "reason_right": Answer.NOT_ASKED, "corrected_verdict": opposite}
    return review(case, number, reviewer, **said | changes)


def undo(case: QueuedCase, undone: Review, number: int = 0, reviewer: str = "ada", **changes: Any) -> Review:
    """A review that takes another one back."""
    said = {"action": ReviewAction.UNDO, "supersedes": undone.review_id}
    return review(case, number, reviewer, **said | changes)
