"""Many cases answered at once: each answer is an ordinary review, and each is told by itself what became of it."""

from __future__ import annotations

import time
from typing import Protocol

from services.core.errors import NotFoundError, SightlineError, UnavailableError
from services.core.review import (
    Answer,
    CaseState,
    QueuedCase,
    Review,
    ReviewAction,
    answer_for,
    standing_reviews,
)
from services.core.types import Verdict
from services.dashboard.reviewing import FeedbackService
from services.dashboard.routes.bulk_forms import BulkAnswer, BulkForm
from services.dashboard.views import NS_PER_MS, Json, error_json

_SETTLED = {"good": Verdict.PASS, "defective": Verdict.FAIL}


class CaseSearch(Protocol):
    """What is needed of the case search; see ``services.adapters.searchclient``."""

    def find(self, text: str, *, limit: int, timeout_s: float = 10.0) -> tuple[tuple[QueuedCase, ...], bool]:
        """Cases by a part's, a frame's or their own id, and whether there are more."""
        ...


def answer_all(feedback: FeedbackService, form: BulkForm, timeout_s: float) -> Json:
    """Give many answers, one after the other.

    Args:
        feedback: Takes them.
        form: What was said.
        timeout_s: Longest time for all together. What has no turn by then was not taken, and may be sent again.

    Returns:
        What became of each, in their order.
    """
    ends_s = time.monotonic() + timeout_s
    results: list[Json] = []
    away: SightlineError | None = None
    for one in form.answers:
        told: Json = {"case_id": one.case_id, "review_id": one.review_id}
        left_s = ends_s - time.monotonic()
        if away is None and left_s <= 0:
            away = UnavailableError(f"answers must be taken within {timeout_s:g} s, got no turn for this one")
        try:
            if away is not None:
                raise away
            review, state = _give(feedback, form, one, left_s)
            results.append(told | {"ok": True, "state": state.value, "taken_id": review.review_id})
        except SightlineError as error:
            if error.retriable:
                # The others would only wait as long.
                away = error
            results.append(told | {"ok": False, "retriable": error.retriable, **error_json(error.reason, str(error))})
    taken = sum(result["ok"] for result in results)
    return {"results": results, "taken": taken, "refused": len(results) - taken}


def _give(feedback: FeedbackService, form: BulkForm, one: BulkAnswer, timeout_s: float) -> tuple[Review, CaseState]:
    said_at_ns = (form.said_at_ms or 0) * NS_PER_MS
    if form.action == "undo":
        return _take_back(feedback, form, one, said_at_ns, timeout_s)
    right, corrected = Answer.NOT_ASKED, None
    if form.action != "skip":
        right, corrected = answer_for(_SETTLED[form.action], one.seen)
    review = Review(
        review_id=one.review_id,
        case_id=one.case_id,
        frame_id="",
        action=ReviewAction.SKIP if form.action == "skip" else ReviewAction.ANSWER,
        reviewer=form.reviewer,
        reviewed_at_ns=0,
        verdict_right=right,
        corrected_verdict=corrected,
        said_at_ns=said_at_ns,
    )
    return feedback.submit(review, b"", timeout_s=timeout_s)


def _take_back(
    feedback: FeedbackService, form: BulkForm, one: BulkAnswer, said_at_ns: int, timeout_s: float
) -> tuple[Review, CaseState]:
    """Take back what this person said last of a case and still stands; the same again is the same."""
    view = feedback.get_case(one.case_id, timeout_s=timeout_s)
    known = next((review for review in view.reviews if review.review_id == one.review_id), None)
    if known is not None and known.action is ReviewAction.UNDO:
        undone_id = known.supersedes
    else:
        mine = [review for review in standing_reviews(view.reviews) if review.reviewer == form.reviewer]
        if not mine:
            raise NotFoundError(f"an answer of {form.reviewer} must stand to be taken back, got none of {one.case_id}")
        undone_id = mine[-1].review_id
    return feedback.undo(one.review_id, undone_id, form.reviewer, said_at_ns, timeout_s=timeout_s)
