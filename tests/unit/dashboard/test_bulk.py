"""Many cases answered at once, and the cases of a part."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.core.errors import ConflictError, InvalidInputError, SightlineError, UnavailableError
from services.core.review import Answer, CaseState, QueuedCase, Review, ReviewAction, answer_for
from services.core.types import Verdict
from tests.unit.dashboard.reviewing import OWN, REVIEW_ID, UNDO_ID, UNKNOWN, Feedback, Site


class Choosy(Feedback):
    """Refuses some cases."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: dict[str, SightlineError] = {}

    def submit(self, review: Review, mask_png: bytes, timeout_s: float = 10.0) -> tuple[Review, CaseState]:
        taken = super().submit(review, mask_png, timeout_s)
        if review.case_id in self.refused:
            raise self.refused[review.case_id]
        return taken


class Search:
    """Finds what it is told."""

    def __init__(self, *found: QueuedCase) -> None:
        self.found = found
        self.asked: list[tuple[str, int]] = []

    def find(self, text: str, *, limit: int, timeout_s: float = 10.0) -> tuple[tuple[QueuedCase, ...], bool]:
        self.asked.append((text, limit))
        if text == "..":
            raise InvalidInputError("text must start with a letter or digit")
        return self.found, True


def ids(count: int) -> list[str]:
    return [f"0189abcd-0000-7000-8000-{number:012x}" for number in range(count)]


def body(action: str, case_ids: list[str], **more: Any) -> dict[str, Any]:
    answers = [{"review_id": str(uuid.uuid4()), "case_id": one, **more} for one in case_ids]
    return {"reviewer": "Ada", "action": action, "answers": answers, "said_at_ms": 1_800_000_000_000}


@pytest.mark.parametrize(
    ("action", "seen", "right", "corrected"),
    [
        ("good", "fail", Answer.NO, Verdict.PASS),
        ("good", "pass", Answer.YES, None),
        ("good", "review", Answer.YES, Verdict.PASS),
        ("defective", "fail", Answer.YES, None),
        ("defective", "pass", Answer.NO, Verdict.FAIL),
        ("defective", "review", Answer.YES, Verdict.FAIL),
    ],
)
def test_a_part_is_settled_whichever_verdict_the_model_gave(
    tmp_path: Path, action: str, seen: str, right: Answer, corrected: Verdict | None
) -> None:
    made = Site(tmp_path, Feedback())
    answer = made.post("/reviews/bulk", body(action, [UNKNOWN], verdict=seen))
    assert answer.status_code == 200
    assert answer.json()["results"][0]["state"] == "reviewed"
    (asked,) = made.feedback.asked
    review = asked[1]
    assert (review.verdict_right, review.corrected_verdict) == (right, corrected)
    assert (review.reason_right, review.shown_method, review.reviewer) == (Answer.NOT_ASKED, "", "Ada")
    assert review.said_at_ns == 1_800_000_000_000_000_000
    assert answer_for(Verdict.PASS if action == "good" else Verdict.FAIL, Verdict(seen)) == (right, corrected)


def test_cases_are_put_aside_together(tmp_path: Path) -> None:
    made = Site(tmp_path, Feedback())
    assert made.post("/reviews/bulk", body("skip", ids(3))).json()["taken"] == 3
    assert {asked[1].action for asked in made.feedback.asked} == {ReviewAction.SKIP}
    assert {asked[1].verdict_right for asked in made.feedback.asked} == {Answer.NOT_ASKED}


def test_each_case_is_told_what_became_of_it(tmp_path: Path) -> None:
    feedback = Choosy()
    made = Site(tmp_path, feedback)
    some = ids(4)
    feedback.refused = {some[1]: InvalidInputError("a rule"), some[2]: ConflictError("an id was used")}
    told = made.post("/reviews/bulk", body("good", some, verdict="fail")).json()
    assert (told["taken"], told["refused"]) == (2, 2)
    assert [one["ok"] for one in told["results"]] == [True, False, False, True]
    assert [one["case_id"] for one in told["results"]] == some
    assert told["results"][1]["error"] == {"reason": "invalid_input", "message": "a rule"}
    assert told["results"][1]["retriable"] is False


def test_once_the_service_is_away_the_others_do_not_wait_for_it_too(tmp_path: Path) -> None:
    feedback = Choosy()
    made = Site(tmp_path, feedback)
    some = ids(50)
    feedback.refused = {some[3]: UnavailableError("away")}
    told = made.post("/reviews/bulk", body("good", some, verdict="fail")).json()
    assert (told["taken"], told["refused"]) == (3, 47)
    assert feedback.count("submit") == 4
    assert {one["error"]["reason"] for one in told["results"][3:]} == {"unavailable"}
    assert all(one["retriable"] for one in told["results"][3:])


def test_what_has_no_turn_in_time_was_not_taken_and_says_so(tmp_path: Path) -> None:
    feedback = Feedback()
    made = Site(tmp_path, feedback, timeout_s=0.000_001)
    told = made.post("/reviews/bulk", body("good", ids(3), verdict="fail")).json()
    assert (told["taken"], feedback.count("submit")) == (0, 0)
    assert all(one["retriable"] for one in told["results"])


def test_many_answers_are_taken_back_each_being_ones_own_that_stands(tmp_path: Path) -> None:
    made = Site(tmp_path, Feedback())
    mine, others, nobodys = (made.add(number) for number in (1, 2, 3))
    made.said(mine, reviewer="Ada", verdict_right=Answer.YES)
    made.said(others, reviewer="Bob", verdict_right=Answer.YES)
    told = made.post("/reviews/bulk", body("undo", [mine.case_id, others.case_id, nobodys.case_id])).json()
    assert [one["ok"] for one in told["results"]] == [True, False, False]
    assert told["results"][1]["error"]["reason"] == "not_found"
    (undone,) = [asked for asked in made.feedback.asked if asked[0] == "undo"]
    assert undone[2:4] == (REVIEW_ID, "Ada")


def test_taking_back_twice_with_the_same_id_is_once(tmp_path: Path) -> None:
    made = Site(tmp_path, Feedback())
    case = made.add(1)
    first = made.said(case, reviewer="Ada", verdict_right=Answer.YES)
    made.said(case, review_id=UNDO_ID, reviewer="Ada", action=ReviewAction.UNDO, supersedes=first.review_id)
    again = {"reviewer": "Ada", "action": "undo", "answers": [{"review_id": UNDO_ID, "case_id": case.case_id}]}
    assert made.post("/reviews/bulk", again).json()["taken"] == 1
    assert made.feedback.asked[-1][1:3] == (UNDO_ID, REVIEW_ID)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        body("right", [UNKNOWN], verdict="fail"),
        body("good", [], verdict="fail"),
        body("good", ids(201), verdict="fail"),
        body("good", [UNKNOWN]),
        body("good", [UNKNOWN, UNKNOWN], verdict="fail"),
        body("good", ["x"], verdict="fail"),
        body("good", [UNKNOWN], verdict="bad"),
        body("good", [UNKNOWN], verdict="fail") | {"reviewer": " "},
        body("good", [UNKNOWN], verdict="fail") | {"more": 1},
        body("good", ids(2), verdict="fail", review_id=REVIEW_ID),
    ],
)
def test_a_body_that_breaks_a_rule_is_refused_whole(tmp_path: Path, wrong: Any) -> None:
    made = Site(tmp_path, Feedback())
    answer = made.post("/reviews/bulk", wrong)
    assert (answer.status_code, answer.json()["error"]["reason"]) == (422, "invalid_input")
    assert made.feedback.asked == []


def test_only_the_page_itself_may_answer(tmp_path: Path) -> None:
    made = Site(tmp_path, Feedback())
    foreign = {"Sec-Fetch-Site": "cross-site"}
    assert made.post("/reviews/bulk", body("good", [UNKNOWN], verdict="fail"), foreign).status_code == 403
    assert made.client.post("/api/v1/reviews/bulk", json={}).status_code == 403
    large = "x" * 70_000
    assert made.client.post("/api/v1/reviews/bulk", content=large, headers=OWN).status_code == 413
    assert made.feedback.asked == []


def test_a_part_is_searched_for(tmp_path: Path) -> None:
    case = Site(tmp_path, Feedback()).add(1)
    search = Search(replace(case, state=CaseState.DISPUTED))
    made = Site(tmp_path, Feedback(), search=search)
    told = made.get("/search?text=%20LOT7%20&limit=5").json()
    assert (told["more"], [one["case_id"] for one in told["cases"]]) == (True, [case.case_id])
    assert told["cases"][0]["state"] == "disputed"
    assert search.asked == [("LOT7", 5)]
    assert made.get("/search?text=..").status_code == 422
    assert made.get("/search?text=").status_code == 422
    assert made.get("/search?text=x&limit=0").status_code == 422
    assert Site(tmp_path, Feedback()).get("/search?text=x").json()["error"]["reason"] == "no_feedback"
