from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from services.adapters.feedbackclient import FeedbackClient
from services.adapters.ports import CaseFilter, QueueOrder, ReviewFilter
from services.core.errors import (
    BusyError,
    ConflictError,
    DeadlineError,
    EventDecodeError,
    InvalidInputError,
    NotFoundError,
    SightlineError,
    UnavailableError,
)
from services.core.imaging import encode_jpeg
from services.core.review import Answer, AreaPoint, CaseState, Review, ReviewAction
from services.core.types import CaseKind, ImageRef, Verdict
from services.local.process import free_port
from tests.support.explained import explanation
from tests.unit.dashboard.inspections import NOW_NS, inspection
from tests.unit.dashboard.reviewing import ANSWER, GETS, JPEG, MASK, POSTS, REVIEW_ID, UNDO_ID, Feedback, Site, reason


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path, Feedback())
    yield made
    made.context.picture_pool.shutdown()
    made.context.reviewing.close()


# ---- asking


def test_the_queue_tells_all_that_a_card_shows(site: Site) -> None:
    case = site.add(claimed_by="Ada", claimed_until_ns=NOW_NS + 60_000_000_000, settled_verdict=Verdict.PASS)
    site.feedback.next_token = "there is more"
    answer = site.get("/queue")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert answer.json()["next"] == "there is more"
    [shown] = answer.json()["cases"]
    assert shown.pop("inspection")["frame_id"] == case.inspection.frame_id
    assert shown == {
        "case_id": case.case_id,
        "kind": "fail",
        "uncertainty": 0.25,
        "image": {"width": 120, "height": 90},
        "sampling_probability": 1.0,
        "shown_method": "invrise-soft",
        "shown_grade": "B",
        "gain": 0.25,
        "state": "open",
        "settled_verdict": "pass",
        "claimed_by": "Ada",
        "claimed_until_ms": NOW_NS // 1_000_000 + 60_000,
        "explained_at_ms": NOW_NS // 1_000_000,
    }


def test_what_is_not_known_of_a_case_is_null(site: Site) -> None:
    unsure = inspection(3, verdict=Verdict.REVIEW, score=float("nan"), uncertainty=float("nan"))
    site.add(3, inspection=unsure, shown_grade=None, shown_method="")
    answer = site.get("/queue").json()
    [shown] = answer["cases"]
    assert (shown["uncertainty"], shown["inspection"]["score"], shown["gain"]) == (None, None, 1.0)
    assert (shown["shown_grade"], shown["settled_verdict"], shown["claimed_until_ms"]) == (None, None, None)
    assert (shown["shown_method"], shown["claimed_by"], answer["next"]) == ("", "", None)


def test_the_queue_is_asked_for_as_the_address_says(site: Site) -> None:
    everything = (
        "line=l-1&camera=c-1&product=disc&verdict=fail&kind=audit&alias=default&model_version=3&since_ms=5&until_ms=9"
        "&defect_class=scratch&answered_by=Ada&state=disputed"
    )
    page = "&order=oldest&after=t0ken&limit=7&hide_held_from=Ada%20L"
    assert site.get(f"/queue?{everything}{page}").status_code == 200
    where = CaseFilter(
        "l-1",
        "c-1",
        "disc",
        Verdict.FAIL,
        CaseKind.AUDIT,
        "default",
        3,
        5_000_000,
        9_000_000,
        "scratch",
        "Ada",
        CaseState.DISPUTED,
    )
    assert site.feedback.asked == [("queue", where, QueueOrder.OLDEST, 7, "t0ken", "Ada L", 5.0)]
    site.feedback.asked.clear()
    assert site.get(f"/queue/stats?{everything}").status_code == 200
    assert site.feedback.asked == [("stats", where, 5.0)]


def test_what_is_left_empty_in_an_address_narrows_nothing(site: Site) -> None:
    empty = "line=&verdict=&kind=&model_version=&since_ms=&defect_class=&answered_by=&state=&order=&after=&limit="
    assert site.get(f"/queue?{empty}&hide_held_from=").status_code == 200
    assert site.get("/queue").status_code == 200
    nothing = ("queue", CaseFilter(), QueueOrder.BY_GAIN, 50, "", "", 5.0)
    assert site.feedback.asked == [nothing, nothing]


@pytest.mark.parametrize(
    "query",
    [
        "line=../x",
        "camera=%00",
        "product=a%20b",
        "alias=" + "a" * 300,
        "verdict=good",
        "kind=FAIL",
        "state=closed",
        "order=random",
        "model_version=-1",
        "since_ms=1e400",
        "until_ms=-5",
        "since_ms=" + "9" * 30,
        "since_ms=" + "9" * 5_000,
        "limit=0",
        "limit=201",
        "after=" + "x" * 5_000,
        "defect_class=" + "x" * 65,
        "answered_by=%20Ada",
        "hide_held_from=" + "x" * 65,
        "hide_held_from=a%0ab",
    ],
)
def test_a_filter_that_breaks_a_rule_is_refused_without_asking(site: Site, query: str) -> None:
    answer = site.get(f"/queue?{query}")
    assert reason(answer) == (422, "invalid_input")
    assert 0 < len(answer.json()["error"]["message"]) < 400
    assert site.feedback.asked == []


def test_the_figures_are_counts(site: Site) -> None:
    assert site.get("/queue/stats").json() == {
        "open": 1,
        "reviewed": 2,
        "disputed": 3,
        "verdict_right": 4,
        "false_rejects": 5,
        "escapes": 6,
        "wrong_reason": 7,
    }


def test_a_case_comes_with_its_explanations_and_all_that_was_said(site: Site) -> None:
    case = site.add()
    site.said(
        case,
        verdict_right=Answer.NO,
        reason_right=Answer.NOT_ASKED,
        corrected_verdict=Verdict.PASS,
        area=(AreaPoint(1, 2), AreaPoint(3.5, 2), AreaPoint(3, 4)),
        note="dust",
        mask_ref=site.store.put("record/mask.png", MASK),
        mask_pixels=12,
        said_at_ns=NOW_NS - 5_000_000,
        alias="default",
        model_version=2,
        shown_method="rise",
        disagrees_with=UNDO_ID,
    )
    body = site.get(f"/cases/{case.case_id}").json()
    assert body["case"]["case_id"] == case.case_id
    assert body["explained"] == {
        "state": "explained",
        "at_ms": NOW_NS // 1_000_000,
        "agreement": 0.5,
        "methods": [],
    }
    assert [one["method"] for one in body["explanations"]] == ["invrise-soft", "gradcam"]
    assert body["reviews"] == [
        {
            "review_id": REVIEW_ID,
            "case_id": case.case_id,
            "frame_id": case.inspection.frame_id,
            "action": "answer",
            "verdict_right": "no",
            "reason_right": "not_asked",
            "corrected_verdict": "pass",
            "defect_class": "",
            "has_mask": True,
            "mask_pixels": 12,
            "area": [[1, 2], [3.5, 2], [3, 4]],
            "note": "dust",
            "reviewer": "Ada",
            "reviewed_at_ms": NOW_NS // 1_000_000,
            "said_at_ms": NOW_NS // 1_000_000 - 5,
            "alias": "default",
            "model_version": 2,
            "shown_method": "rise",
            "supersedes": None,
            "disagrees_with": UNDO_ID,
        }
    ]


def test_the_history_is_asked_for_as_the_address_says(site: Site) -> None:
    case = site.add()
    site.said(case)
    answer = site.get("/reviews?reviewer=Ada&line=l-1&since_ms=1&until_ms=2&standing=true&after=t&limit=3")
    assert [one["review_id"] for one in answer.json()["reviews"]] == [REVIEW_ID]
    assert (answer.json()["next"], answer.json()["reviews"][0]["said_at_ms"]) == (None, None)
    [listed] = answer.json()["reviews"]
    assert (listed["part_id"], listed["verdict"]) == (case.inspection.part_id, case.inspection.verdict.value)
    assert site.feedback.asked == [("reviews", ReviewFilter("Ada", "l-1", 1_000_000, 2_000_000, True), 3, "t", 5.0)]
    site.get("/reviews?standing=false&reviewer=")
    assert site.feedback.asked[-1] == ("reviews", ReviewFilter(), 50, "", 5.0)
    # Of a case that the index does not have yet, or of a service that sends no cases.
    site.feedback.unlisted.add(case.case_id)
    [listed] = site.get("/reviews").json()["reviews"]
    assert (listed["part_id"], listed["verdict"]) == (None, None)
    for query in ("reviewer=%20", "line=..", "standing=perhaps", "limit=0", "until_ms=x"):
        assert reason(site.get(f"/reviews?{query}")) == (422, "invalid_input")


# ---- pictures


def test_a_case_s_picture_comes_from_the_record_and_is_kept_by_the_browser(site: Site) -> None:
    case = site.add()
    answer = site.get(f"/cases/{case.case_id}/image")
    assert (answer.content, answer.headers["content-type"]) == (JPEG, "image/jpeg")
    assert "immutable" in answer.headers["cache-control"]
    site.store.unavailable = True
    again = site.get(f"/cases/{case.case_id}/image", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_thumbnails_of_a_queue_need_no_further_questions(site: Site) -> None:
    cases = [site.add(number) for number in range(3)]
    site.get("/queue")
    for case in cases:
        for size in (160, 320, 640):
            answer = site.get(f"/cases/{case.case_id}/thumbnail?size={size}")
            assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    assert [question[0] for question in site.feedback.asked] == ["queue"]
    bad = {site.get(f"/cases/{cases[0].case_id}/thumbnail?size={size}").status_code for size in ("0", "161", "x")}
    assert bad == {422}


def test_other_bytes_than_the_record_names_are_not_shown(site: Site) -> None:
    case = site.add()
    site.store.put("record/1.jpg", encode_jpeg(np.zeros((90, 120, 3), np.uint8)))
    for path in ("image", "thumbnail"):
        assert reason(site.get(f"/cases/{case.case_id}/{path}")) == (415, "image_invalid")


def test_a_picture_in_another_bucket_is_not_read(site: Site) -> None:
    ref = site.add().image_ref
    foreign = site.add(image_ref=ImageRef("secrets", ref.key, ref.size_bytes, ref.sha256))
    assert site.get(f"/cases/{foreign.case_id}/image").status_code == 415


def test_a_picture_says_whether_it_will_come_back(site: Site) -> None:
    case = site.add()
    site.store.unavailable = True
    assert reason(site.get(f"/cases/{case.case_id}/image")) == (503, "unavailable")
    site.store.unavailable = False
    site.store.delete(["record/1.jpg"])
    assert reason(site.get(f"/cases/{case.case_id}/image")) == (410, "image_expired")


def test_a_map_is_drawn_from_the_case_that_was_just_opened(site: Site) -> None:
    case = site.add()
    at_ms = site.get(f"/cases/{case.case_id}").json()["explained"]["at_ms"]
    url = f"/cases/{case.case_id}/explanations/invrise-soft.png"
    answer = site.get(f"{url}?at={at_ms}")
    assert (answer.content[:8], answer.headers["content-type"]) == (MASK[:8], "image/png")
    assert "immutable" in answer.headers["cache-control"]
    assert site.feedback.count("case") == 1
    for other in (url, f"{url}?at=1"):
        assert "immutable" not in site.get(other).headers["cache-control"]


def test_a_case_that_was_explained_anew_shows_its_new_map(site: Site) -> None:
    case = site.add()
    url = f"/cases/{case.case_id}/explanations/rise.png"
    site.get(f"/cases/{case.case_id}")
    assert reason(site.get(f"{url}?at={NOW_NS // 1_000_000}")) == (404, "not_found")
    view = site.feedback.views[case.case_id]
    anew = replace(view, case=replace(case, explained_at_ns=NOW_NS + 1_000_000), explanations=(explanation("rise"),))
    site.feedback.views[case.case_id] = anew
    answer = site.get(f"{url}?at={NOW_NS // 1_000_000 + 1}")
    assert (answer.status_code, "immutable" in answer.headers["cache-control"]) == (200, True)


def test_a_method_without_a_map_has_no_picture(site: Site) -> None:
    case = site.add()
    assert reason(site.get(f"/cases/{case.case_id}/explanations/gradcam.png")) == (404, "not_found")
    for method in ("..%2f..%2fetc", "%00", "a" * 300, "RISE", ".png"):
        assert site.get(f"/cases/{case.case_id}/explanations/{method}.png").status_code in (404, 422)


def test_a_mask_comes_from_the_record_whenever_it_was_drawn(site: Site) -> None:
    case = site.add()
    site.get(f"/cases/{case.case_id}")
    site.said(case, mask_ref=site.store.put("record/mask.png", MASK), mask_pixels=3)
    url = f"/cases/{case.case_id}/reviews/{REVIEW_ID}/mask.png"
    answer = site.get(url)
    assert (answer.content, answer.headers["content-type"]) == (MASK, "image/png")
    assert "immutable" in answer.headers["cache-control"]
    site.get(url)
    assert site.feedback.count("case") == 2


def test_a_mask_that_is_not_there_or_is_no_png_is_not_shown(site: Site) -> None:
    case = site.add()
    site.said(case)
    url = f"/cases/{case.case_id}/reviews/{{}}/mask.png"
    for review_id in (REVIEW_ID, UNDO_ID):
        assert reason(site.get(url.format(review_id))) == (404, "not_found")
    site.said(case, review_id=UNDO_ID, mask_ref=site.store.put("record/mask.png", b"<svg onload=alert(1)>"))
    assert site.get(url.format(UNDO_ID)).status_code == 415
    site.store.put("record/mask.png", MASK)
    assert site.get(url.format(UNDO_ID)).status_code == 415


# ---- saying


def test_an_answer_is_taken_with_its_mask(site: Site) -> None:
    case = site.add()
    answer = site.post(f"/cases/{case.case_id}/reviews", ANSWER)
    assert answer.status_code == 201
    body = answer.json()
    assert (body["state"], body["review"]["review_id"], body["review"]["reviewed_at_ms"]) == (
        "reviewed",
        REVIEW_ID,
        NOW_NS // 1_000_000,
    )
    [(_, review, mask, timeout_s)] = site.feedback.asked
    assert (mask, timeout_s) == (MASK, 5.0)
    assert review == Review(
        REVIEW_ID,
        case.case_id,
        "",
        ReviewAction.ANSWER,
        "Ada L",
        0,
        verdict_right=Answer.YES,
        reason_right=Answer.NO,
        defect_class="scratch",
        area=(AreaPoint(1, 2.5), AreaPoint(30, 2), AreaPoint(30, 40)),
        note="beside the map\n",
        said_at_ns=1_800_000_000_123_000_000,
        shown_method="invrise-soft",
    )


def test_a_skip_says_only_who_put_the_case_aside(site: Site) -> None:
    case = site.add()
    skip = {"review_id": REVIEW_ID, "action": "skip", "reviewer": "Ada", "mask_png": None}
    assert site.post(f"/cases/{case.case_id}/reviews", skip).status_code == 201
    [(_, review, mask, _)] = site.feedback.asked
    assert (review.action, review.verdict_right, mask) == (ReviewAction.SKIP, Answer.NOT_ASKED, b"")


def test_a_review_is_taken_back(site: Site) -> None:
    said = {"review_id": UNDO_ID, "reviewer": "Ada", "said_at_ms": 7}
    answer = site.post(f"/reviews/{REVIEW_ID}/undo", said)
    assert (answer.status_code, answer.json()["state"]) == (201, "open")
    assert answer.json()["review"] | {"action": "undo", "supersedes": REVIEW_ID} == answer.json()["review"]
    assert site.feedback.asked == [("undo", UNDO_ID, REVIEW_ID, "Ada", 7_000_000, 5.0)]


def test_a_case_is_claimed_and_given_back(site: Site) -> None:
    case = site.add()
    claimed = site.post(f"/cases/{case.case_id}/claim", {"reviewer": "Ada"})
    assert (claimed.status_code, claimed.json()) == (200, {"until_ms": NOW_NS // 1_000_000})
    released = site.post(f"/cases/{case.case_id}/release", {"reviewer": "Ada"})
    assert (released.status_code, released.json()) == (200, {})
    assert site.feedback.asked == [("claim", case.case_id, "Ada", 5.0), ("release", case.case_id, "Ada", 5.0)]


ERRORS: list[tuple[Exception, int, str]] = [
    (NotFoundError("a case must be known, got another"), 404, "not_found"),
    (ConflictError("the case must be free, held by Bob"), 409, "conflict"),
    (InvalidInputError("a rule, got else"), 422, "invalid_input"),
    (UnavailableError("the record must answer, got nothing"), 503, "unavailable"),
    (DeadlineError("deadline exceeded"), 503, "unavailable"),
    (BusyError("too many"), 503, "unavailable"),
    (EventDecodeError("Review: a rule, got else"), 503, "unavailable"),
]


@pytest.mark.parametrize(("error", "status", "token"), ERRORS)
def test_what_the_service_says_becomes_a_status(site: Site, error: SightlineError, status: int, token: str) -> None:
    site.feedback.error = error
    answers = [site.get(path) for path in GETS] + [site.post(*post) for post in POSTS]
    assert {reason(answer) for answer in answers} == {(status, token)}
    assert {answer.json()["error"]["message"] for answer in answers} == {str(error)}
    if status == 503:
        assert {answer.headers["retry-after"] for answer in answers} == {"2"}


def test_a_service_that_does_not_run_is_said_to_be_unavailable(tmp_path: Path) -> None:
    client = FeedbackClient(f"127.0.0.1:{free_port()}")
    site = Site(tmp_path, client, timeout_s=2.0)
    try:
        answers = [site.get("/queue"), site.post(*POSTS[2])]
        assert {reason(answer) for answer in answers} == {(503, "unavailable")}
    finally:
        client.close()


def test_an_error_that_is_ours_does_not_show_its_insides(site: Site) -> None:
    site.feedback.error = SightlineError("secret place")
    for answer in [site.get(path) for path in GETS] + [site.post(*post) for post in POSTS]:
        assert answer.json() == {"error": {"reason": "error", "message": "the request failed"}}
        assert answer.status_code == 500


def test_without_a_feedback_service_every_route_says_so(tmp_path: Path) -> None:
    site = Site(tmp_path, None)
    answers = [site.get(path) for path in GETS] + [site.post(*post) for post in POSTS]
    assert {reason(answer) for answer in answers} == {(503, "no_feedback")}


# ---- the interface's description


def test_every_route_is_described_with_its_body(site: Site) -> None:
    paths = site.get("/openapi.json").json()["paths"]
    described = {
        f"{method} {path.removeprefix('/api/v1')}"
        for path, methods in paths.items()
        for method in methods
        if path.removeprefix("/api/v1").startswith(("/queue", "/cases", "/reviews"))
    }
    assert described >= {
        "get /queue",
        "get /queue/stats",
        "get /cases/{case_id}",
        "get /cases/{case_id}/image",
        "get /cases/{case_id}/thumbnail",
        "get /cases/{case_id}/explanations/{method}.png",
        "get /cases/{case_id}/reviews/{review_id}/mask.png",
        "get /cases/{case_id}/neighbours",
        "get /cases/{case_id}/neighbours/{neighbour_id}/image",
        "get /cases/{case_id}/neighbours/{neighbour_id}/thumbnail",
        "post /cases/{case_id}/neighbours",
        "post /cases/{case_id}/claim",
        "post /cases/{case_id}/release",
        "post /cases/{case_id}/reviews",
        "post /reviews/{review_id}/undo",
        "get /reviews",
        "post /reviews/bulk",
    }
    for path in ("/api/v1/reviews/bulk", "/api/v1/exports"):
        assert "$ref" not in str(paths[path]["post"]["requestBody"])
    body = paths["/api/v1/cases/{case_id}/reviews"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert (set(body["properties"]), body["additionalProperties"]) == (set(ANSWER), False)
    assert "$ref" not in str(body)
    asked = {one["name"] for one in paths["/api/v1/queue"]["get"]["parameters"]}
    assert {"line", "order", "hide_held_from", "after", "limit", "answered_by"} <= asked
