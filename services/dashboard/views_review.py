"""The JSON of reviewing, as ``views`` has that of the rest."""

from __future__ import annotations

from collections.abc import Sequence

from services.adapters.ports import ReviewPage, ReviewStats
from services.core.review import QueuedCase, Review
from services.dashboard.explanations import KeptExplanations
from services.dashboard.views import NS_PER_MS, Json, explanations_json, inspection_json, number


def queued_case_json(case: QueuedCase) -> Json:
    """A case as a queue shows it."""
    return {
        "case_id": case.case_id,
        "kind": case.kind.value,
        "inspection": inspection_json(case.inspection),
        "uncertainty": number(case.inspection.uncertainty),
        "image": {"width": case.image_width_px, "height": case.image_height_px},
        "sampling_probability": number(case.sampling_probability),
        "shown_method": case.shown_method,
        "shown_grade": None if case.shown_grade is None else case.shown_grade.value,
        "gain": number(case.gain),
        "state": case.state.value,
        "settled_verdict": None if case.settled_verdict is None else case.settled_verdict.value,
        "claimed_by": case.claimed_by,
        "claimed_until_ms": _time_or_none(case.claimed_until_ns),
        "explained_at_ms": case.explained_at_ns // NS_PER_MS,
    }


def case_json(case: QueuedCase, explained: KeptExplanations, reviews: Sequence[Review]) -> Json:
    """One case's page.

    Args:
        case: The case.
        explained: Its explanations.
        reviews: Everything that was said of it, in order.
    """
    return {
        "case": queued_case_json(case),
        **explanations_json("explained", explained, ()),
        "reviews": [review_json(one) for one in reviews],
    }


def review_json(review: Review) -> Json:
    """What somebody said of a case; its mask is a picture."""
    return {
        "review_id": review.review_id,
        "case_id": review.case_id,
        "frame_id": review.frame_id,
        "action": review.action.value,
        "verdict_right": review.verdict_right.value,
        "reason_right": review.reason_right.value,
        "corrected_verdict": None if review.corrected_verdict is None else review.corrected_verdict.value,
        "defect_class": review.defect_class,
        "has_mask": review.mask_ref is not None,
        "mask_pixels": review.mask_pixels,
        "area": [[point.x_px, point.y_px] for point in review.area],
        "note": review.note,
        "reviewer": review.reviewer,
        "reviewed_at_ms": review.reviewed_at_ns // NS_PER_MS,
        "said_at_ms": _time_or_none(review.said_at_ns),
        "alias": review.alias,
        "model_version": review.model_version,
        "shown_method": review.shown_method,
        "supersedes": review.supersedes or None,
        "disagrees_with": review.disagrees_with or None,
    }


def listed_reviews_json(page: ReviewPage) -> list[Json]:
    """Reviews of different cases, each with the part and the model's verdict; null where the case is not known."""
    seen = {case.case_id: case.inspection for case in page.cases}
    return [
        {
            **review_json(one),
            "part_id": seen[one.case_id].part_id if one.case_id in seen else None,
            "verdict": seen[one.case_id].verdict.value if one.case_id in seen else None,
        }
        for one in page.reviews
    ]


def stats_of_reviews_json(stats: ReviewStats) -> Json:
    """Counts of cases, and of what people settled on."""
    return {
        "open": stats.open,
        "reviewed": stats.reviewed,
        "disputed": stats.disputed,
        "verdict_right": stats.verdict_right,
        "false_rejects": stats.false_rejects,
        "escapes": stats.escapes,
        "wrong_reason": stats.wrong_reason,
    }


def _time_or_none(at_ns: int) -> int | None:
    return at_ns // NS_PER_MS if at_ns else None
