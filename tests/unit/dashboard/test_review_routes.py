from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient

from services.adapters.memory import MemoryBroker, MemoryObjectStore, MemoryRecordFetcher, MemoryTopicReader
from services.adapters.ports import CaseFilter, CasePage, QueueOrder, ReviewFilter, ReviewPage, ReviewStats
from services.core import topics
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
from services.core.identity import case_id
from services.core.imaging import encode_jpeg, encode_png
from services.core.review import Answer, AreaPoint, CaseState, QueuedCase, Review, ReviewAction
from services.core.types import CaseKind, Explanation, Grade, ImageRef, Verdict
from services.dashboard.app import make_app, make_context
from services.dashboard.components import ComponentBoard
from services.dashboard.explanations import ExplanationIndex
from services.dashboard.live import LiveModel
from services.dashboard.posted import MAX_ANSWER_BYTES, MAX_SMALL_BYTES
from services.dashboard.reviewing import Recent
from services.dashboard.settings import DashboardSettings, FeedbackSettings
from tests.support.explained import explanation, failed
from tests.unit.dashboard.inspections import NOW_NS, inspection

JPEG = encode_jpeg(np.random.default_rng(1).integers(0, 255, (90, 120, 3), dtype=np.uint8))
MASK = encode_png(np.zeros((90, 120, 3), np.uint8))
OWN = {"X-Sightline": "1", "Content-Type": "application/json"}
REVIEW_ID = "6ba7b810-9dad-41d1-80b4-00c04fd430c8"
UNDO_ID = "7ba7b810-9dad-41d1-80b4-00c04fd430c8"
UNKNOWN = "0189abcd-0000-7000-8000-00000000000f"
HOSTILE_CASES = ["x", "..%2f..%2fetc%2fpasswd", "%00", "a" * 10_000, UNKNOWN.upper(), f"{UNKNOWN}%0a", "' OR 1=1"]
HOSTILE_REVIEWS = [*HOSTILE_CASES, f"{{{REVIEW_ID}}}", REVIEW_ID.replace("-", "")]
ANSWER: dict[str, Any] = {
    "review_id": REVIEW_ID,
    "action": "answer",
    "verdict_right": "yes",
    "reason_right": "no",
    "corrected_verdict": None,
    "defect_class": "scratch",
    "area": [[1, 2.5], [30, 2], [30, 40]],
    "note": "beside the map\n",
    "reviewer": "Ada L",
    "said_at_ms": 1_800_000_000_123,
    "shown_method": "invrise-soft",
    "mask_png": base64.b64encode(MASK).decode(),
}


@dataclass(frozen=True, slots=True)
class View:
    """One case as the service gives it."""

    case: QueuedCase
    explanations: tuple[Explanation, ...] = ()
    agreement: float = float("nan")
    reviews: tuple[Review, ...] = ()


class Feedback:
    """A feedback service that answers as it is told and remembers what it was asked."""

    def __init__(self) -> None:
        self.views: dict[str, View] = {}
        self.error: Exception | None = None
        self.asked: list[tuple[Any, ...]] = []
        self.gate: threading.Event | None = None
        self.next_token = ""

    def _on(self, *question: Any) -> None:
        self.asked.append(question)
        if self.gate is not None:
            self.gate.wait(10)
        if self.error is not None:
            raise self.error

    def count(self, kind: str) -> int:
        return sum(question[0] == kind for question in self.asked)

    def list_queue(
        self,
        where: CaseFilter,
        order: QueueOrder,
        *,
        limit: int,
        token: str = "",
        not_held_from: str = "",
        timeout_s: float = 10.0,
    ) -> CasePage:
        self._on("queue", where, order, limit, token, not_held_from, timeout_s)
        return CasePage(tuple(view.case for view in self.views.values()), self.next_token)

    def get_case(self, case_id: str, timeout_s: float = 10.0) -> View:
        self._on("case", case_id, timeout_s)
        if case_id not in self.views:
            raise NotFoundError(f"a case must be known, got {case_id}")
        return self.views[case_id]

    def claim(self, case_id: str, reviewer: str, *, release: bool = False, timeout_s: float = 10.0) -> int:
        self._on("release" if release else "claim", case_id, reviewer, timeout_s)
        return 0 if release else NOW_NS

    def submit(self, review: Review, mask_png: bytes, timeout_s: float = 10.0) -> tuple[Review, CaseState]:
        self._on("submit", review, mask_png, timeout_s)
        return replace(review, frame_id=UNKNOWN, reviewed_at_ns=NOW_NS), CaseState.REVIEWED

    def undo(
        self, review_id: str, undone_review_id: str, reviewer: str, said_at_ns: int, timeout_s: float = 10.0
    ) -> tuple[Review, CaseState]:
        self._on("undo", review_id, undone_review_id, reviewer, said_at_ns, timeout_s)
        undone = Review(review_id, UNKNOWN, UNKNOWN, ReviewAction.UNDO, reviewer, NOW_NS, supersedes=undone_review_id)
        return undone, CaseState.OPEN

    def list_reviews(self, where: ReviewFilter, *, limit: int, token: str = "", timeout_s: float = 10.0) -> ReviewPage:
        self._on("reviews", where, limit, token, timeout_s)
        return ReviewPage(tuple(one for view in self.views.values() for one in view.reviews), self.next_token)

    def stats(self, where: CaseFilter, timeout_s: float = 10.0) -> ReviewStats:
        self._on("stats", where, timeout_s)
        return ReviewStats(1, 2, 3, 4, 5, 6, 7)


class Site:
    def __init__(self, static_dir: Path, feedback: Feedback | None, **settings: Any) -> None:
        self.store = MemoryObjectStore()
        broker = MemoryBroker()
        self.feedback = feedback or Feedback()
        self.context = make_context(
            DashboardSettings(feedback=FeedbackSettings(**{"timeout_s": 5.0, **settings})),
            model=LiveModel(),
            board=ComponentBoard(["kafka"]),
            store=self.store,
            fetcher=MemoryRecordFetcher(broker),
            open_reader=lambda: MemoryTopicReader(broker, [topics.VERDICTS]),
            explanations=ExplanationIndex(max_cases=10, max_bytes=1_000_000),
            open_explained=lambda: MemoryTopicReader(broker, [topics.EXPLAINED]),
            feedback=feedback,
            version="1.2.3",
            static_dir=static_dir,
        )
        self.app = make_app(self.context)
        self.client = TestClient(self.app, base_url="http://127.0.0.1")

    def add(self, number: int = 1, **changes: Any) -> QueuedCase:
        """A case whose picture lies in the record."""
        one = inspection(number, verdict=Verdict.FAIL, score=0.9, uncertainty=0.25)
        case = QueuedCase(
            case_id=case_id(one.frame_id, one.alias, one.model_version),
            kind=CaseKind.FAIL,
            inspection=one,
            image_ref=self.store.put(f"record/{number}.jpg", JPEG),
            image_width_px=120,
            image_height_px=90,
            sampling_probability=1.0,
            explained_at_ns=NOW_NS,
            shown_method="invrise-soft",
            shown_grade=Grade.B,
        )
        case = replace(case, **changes)
        self.feedback.views[case.case_id] = View(case, (explanation(), failed()), 0.5)
        return case

    def said(self, case: QueuedCase, **changes: Any) -> Review:
        """A review of a case, added to it."""
        review = Review(REVIEW_ID, case.case_id, case.inspection.frame_id, ReviewAction.ANSWER, "Ada", NOW_NS)
        review = replace(review, **changes)
        view = self.feedback.views[case.case_id]
        self.feedback.views[case.case_id] = replace(view, reviews=(*view.reviews, review))
        return review

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.client.get(f"/api/v1{path}", **more)

    def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> httpx.Response:
        return self.client.post(f"/api/v1{path}", json=body, headers=OWN | (headers or {}))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path, Feedback())
    yield made
    made.context.picture_pool.shutdown()
    made.context.reviewing.close()


def reason(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["reason"]


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
    assert site.feedback.asked == [("reviews", ReviewFilter("Ada", "l-1", 1_000_000, 2_000_000, True), 3, "t", 5.0)]
    site.get("/reviews?standing=false&reviewer=")
    assert site.feedback.asked[-1] == ("reviews", ReviewFilter(), 50, "", 5.0)
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


POSTS = [
    (f"/cases/{UNKNOWN}/claim", {"reviewer": "Ada"}),
    (f"/cases/{UNKNOWN}/release", {"reviewer": "Ada"}),
    (f"/cases/{UNKNOWN}/reviews", ANSWER),
    (f"/reviews/{REVIEW_ID}/undo", {"review_id": UNDO_ID, "reviewer": "Ada"}),
]
GETS = [
    "/queue",
    "/queue/stats",
    "/reviews",
    f"/cases/{UNKNOWN}",
    f"/cases/{UNKNOWN}/image",
    f"/cases/{UNKNOWN}/thumbnail",
    f"/cases/{UNKNOWN}/explanations/rise.png",
    f"/cases/{UNKNOWN}/reviews/{REVIEW_ID}/mask.png",
]
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


def test_an_error_that_is_ours_does_not_show_its_insides(site: Site) -> None:
    site.feedback.error = SightlineError("secret place")
    for answer in [site.get(path) for path in GETS] + [site.post(*post) for post in POSTS]:
        assert answer.json() == {"error": {"reason": "error", "message": "the request failed"}}
        assert answer.status_code == 500


def test_without_a_feedback_service_every_route_says_so(tmp_path: Path) -> None:
    site = Site(tmp_path, None)
    answers = [site.get(path) for path in GETS] + [site.post(*post) for post in POSTS]
    assert {reason(answer) for answer in answers} == {(503, "no_feedback")}


# ---- who may say something


@pytest.mark.parametrize(("path", "body"), POSTS)
def test_another_page_cannot_send_anything(site: Site, path: str, body: dict[str, Any]) -> None:
    foreign = [{"Sec-Fetch-Site": site} for site in ("cross-site", "same-site", "Cross-Site", "rubbish", "")]
    for headers in [*foreign, {"X-Sightline": "0"}, {"X-Sightline": ""}]:
        assert reason(site.post(path, body, headers)) == (403, "foreign_page"), headers
    without = {"Content-Type": "application/json"}
    assert reason(site.client.post(f"/api/v1{path}", json=body, headers=without)) == (403, "foreign_page")
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""):
        assert reason(site.post(path, body, {"Content-Type": content_type})) == (403, "foreign_page"), content_type
    assert site.feedback.asked == []
    for headers in ({"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}):
        assert site.post(path, body, headers).status_code in (200, 201)
    assert site.post(path, body, {"Content-Type": "Application/JSON; charset=utf-8"}).status_code in (200, 201)


def test_a_preflight_from_elsewhere_is_not_allowed(site: Site) -> None:
    asked = {
        "Origin": "https://evil.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-sightline,content-type",
    }
    answer = site.client.options(f"/api/v1/cases/{UNKNOWN}/claim", headers=asked)
    assert answer.status_code == 405
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_nothing_is_said_by_looking(site: Site) -> None:
    for path, _ in POSTS:
        if not path.endswith("/reviews"):
            assert site.get(path).status_code in (404, 405)
    for method in ("put", "delete", "patch"):
        assert getattr(site.client, method)(f"/api/v1/cases/{UNKNOWN}/reviews", headers=OWN).status_code == 405
    assert site.feedback.asked == []


# ---- what may be said


@pytest.mark.parametrize(("path", "body"), POSTS)
def test_a_body_over_its_bound_is_refused_declared_or_not(site: Site, path: str, body: dict[str, Any]) -> None:
    most = MAX_ANSWER_BYTES if body is ANSWER else MAX_SMALL_BYTES
    sent = 0

    def chunks() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(2 * most // 65_536 + 2):
            sent += 65_536
            yield b" " * 65_536

    declared = site.client.post(f"/api/v1{path}", content=b" " * (most + 1), headers=OWN)
    chunked = site.client.post(f"/api/v1{path}", content=chunks(), headers=OWN)
    assert (reason(declared), reason(chunked)) == ((413, "too_large"), (413, "too_large"))
    huge = {"Content-Length": "9" * 5_000}
    assert reason(site.client.post(f"/api/v1{path}", content=b"{}", headers=OWN | huge)) == (413, "too_large")
    assert (site.feedback.asked, site.context.bodies.held_bytes) == ([], 0)


def test_a_mask_within_the_bound_is_taken(site: Site) -> None:
    mask = MASK + bytes(8_900_000)
    body = ANSWER | {"mask_png": base64.b64encode(mask).decode()}
    assert site.post(f"/cases/{UNKNOWN}/reviews", body).status_code == 201
    assert (site.feedback.asked[0][2] == mask, site.context.bodies.held_bytes) == (True, 0)


RUBBISH = [
    b"",
    b"{",
    b"null",
    b"[]",
    b'"text"',
    b"\xff\xfe",
    b"NaN",
    b"[" * 60_000,
    b'{"a":' * 10_000,
    b'{"reviewer": "\\ud800"}',
    b"[" + b"0," * 25_000 + b"0]",
    b"{" + b",".join(b'"k%d":0' % number for number in range(5_000)) + b"}",
]


@pytest.mark.parametrize(("path", "body"), POSTS)
@pytest.mark.parametrize("rubbish", RUBBISH, ids=lambda rubbish: repr(rubbish[:12]))
def test_rubbish_is_refused_in_a_short_sentence(site: Site, path: str, body: dict[str, Any], rubbish: bytes) -> None:
    answer = site.client.post(f"/api/v1{path}", content=rubbish, headers=OWN)
    assert reason(answer) == (422, "invalid_input")
    assert 0 < len(answer.json()["error"]["message"]) < 1_000
    assert site.feedback.asked == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"review_id": REVIEW_ID.upper()}, "review_id must be a lower-case UUID"),
        ({"review_id": 5}, "review_id: Input should be a valid string"),
        ({"action": "undo"}, "action: Input should be 'answer' or 'skip'"),
        ({"verdict_right": "maybe"}, "verdict_right: Input should be 'yes', 'no', 'not_sure' or 'not_asked'"),
        ({"reason_right": True}, "reason_right: Input should be"),
        ({"corrected_verdict": "review"}, "corrected_verdict: Input should be 'pass' or 'fail'"),
        ({"defect_class": "x" * 65}, "defect_class: String should have at most 64"),
        ({"area": [[1, 2, 3]]}, "area.0: Tuple should have at most 2"),
        ({"area": [[1, "2"]]}, "area.0.1: Input should be a valid number"),
        ({"area": [[0, 0]] * 513}, "area: List should have at most 512"),
        ({"note": "x" * 2_001}, "note: String should have at most 2000"),
        ({"reviewer": ""}, "reviewer must be a name"),
        ({"reviewer": "a\nb"}, "reviewer must hold printable"),
        ({"reviewer": "x" * 65}, "reviewer must have at most 64"),
        ({"said_at_ms": -1}, "said_at_ms: Input should be greater than or equal to 0"),
        ({"said_at_ms": 1.5}, "said_at_ms: Input should be a valid integer"),
        ({"said_at_ms": 10**30}, "said_at_ms: "),
        ({"shown_method": "x" * 65}, "shown_method: String should have at most 64"),
        ({"frame_id": UNKNOWN}, "frame_id: Extra inputs are not permitted"),
        ({"case_id": UNKNOWN}, "case_id: Extra inputs are not permitted"),
        ({"mask_png": "data:image/png;base64,iVBORw0KGgo="}, "mask_png must be base64 without a prefix"),
        ({"mask_png": "iVBORw0KGgo"}, "mask_png must be base64"),
        ({"mask_png": "iVBO Rw0KGgo="}, "mask_png must be base64"),
        ({"mask_png": "iVBORw0KGgo=\n"}, "mask_png must be base64"),
        ({"mask_png": "-_8="}, "mask_png must be base64"),
        ({"mask_png": "é"}, "mask_png must be base64"),
        ({"mask_png": ""}, "mask_png must be a PNG, got 0 bytes"),
        ({"mask_png": "AAAA"}, "mask_png must be a PNG, got 3 bytes"),
        ({"mask_png": [1]}, "mask_png: Input should be a valid string"),
    ],
)
def test_an_answer_with_a_field_that_breaks_a_rule_says_which(site: Site, changes: dict[str, Any], said: str) -> None:
    answer = site.post(f"/cases/{UNKNOWN}/reviews", ANSWER | changes)
    assert reason(answer) == (422, "invalid_input")
    assert said in answer.json()["error"]["message"]
    assert site.feedback.asked == []


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e400"])
def test_a_corner_that_is_no_number_is_refused(site: Site, number: bytes) -> None:
    body = b'{"review_id":"%s","action":"answer","reviewer":"Ada","area":[[%s,1]]}' % (REVIEW_ID.encode(), number)
    answer = site.client.post(f"/api/v1/cases/{UNKNOWN}/reviews", content=body, headers=OWN)
    assert reason(answer) == (422, "invalid_input")


def test_what_must_be_said_may_not_be_left_out(site: Site) -> None:
    for path, _ in POSTS:
        message = site.post(path, {}).json()["error"]["message"]
        assert "reviewer: Field required" in message


@pytest.mark.parametrize("hostile", HOSTILE_CASES)
def test_hostile_case_ids_are_refused_in_json(site: Site, hostile: str) -> None:
    answers = [site.get(path.replace(UNKNOWN, hostile)) for path in GETS if UNKNOWN in path]
    answers += [site.post(path.replace(UNKNOWN, hostile), body) for path, body in POSTS if UNKNOWN in path]
    assert {answer.status_code for answer in answers} <= {404, 405, 422}
    assert all(len(answer.json()["error"]["message"]) < 300 for answer in answers)
    assert site.feedback.asked == []


@pytest.mark.parametrize("hostile", HOSTILE_REVIEWS)
def test_hostile_review_ids_are_refused_in_json(site: Site, hostile: str) -> None:
    mask = site.get(f"/cases/{UNKNOWN}/reviews/{hostile}/mask.png")
    undo = site.post(f"/reviews/{hostile}/undo", {"review_id": UNDO_ID, "reviewer": "Ada"})
    assert {mask.status_code, undo.status_code} <= {404, 405, 422}
    assert all(len(answer.json()["error"]["message"]) < 300 for answer in (mask, undo))
    assert site.feedback.asked == []


# ---- bounds on what is done at once


async def _until(holds: Any) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.005)


def _in_one_loop(site: Site, work: Any) -> None:
    async def scenario() -> None:
        transport = httpx.ASGITransport(site.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1/api/v1") as client:
            await work(client)

    asyncio.run(scenario())


def test_so_many_questions_wait_and_further_ones_are_told_to_come_again(tmp_path: Path) -> None:
    site = Site(tmp_path, Feedback(), max_at_once=2)
    site.feedback.gate = threading.Event()

    async def work(client: httpx.AsyncClient) -> None:
        asked = [asyncio.create_task(client.get("/queue")) for _ in range(2 + 16)]
        await _until(lambda: site.context.reviewing._waiting == 16)
        refused = await client.get("/queue")
        assert reason(refused) == (503, "unavailable")
        assert len(site.feedback.asked) == 2
        assert site.feedback.gate is not None
        site.feedback.gate.set()
        assert {answer.status_code for answer in await asyncio.gather(*asked)} == {200}
        assert (await client.get("/queue")).status_code == 200

    _in_one_loop(site, work)
    assert site.context.reviewing._waiting == 0


def test_a_question_that_gets_no_turn_in_time_is_given_up(tmp_path: Path) -> None:
    site = Site(tmp_path, Feedback(), max_at_once=1, timeout_s=0.2)
    site.feedback.gate = threading.Event()

    async def work(client: httpx.AsyncClient) -> None:
        first = asyncio.create_task(client.get("/queue"))
        await _until(lambda: len(site.feedback.asked) == 1)
        assert reason(await client.get("/queue")) == (503, "unavailable")
        assert site.feedback.gate is not None
        site.feedback.gate.set()
        assert (await first).status_code == 200

    _in_one_loop(site, work)
    assert len(site.feedback.asked) == 1


def test_bodies_together_stay_within_a_bound(tmp_path: Path) -> None:
    site = Site(tmp_path, Feedback())
    site.feedback.gate = threading.Event()
    body = ANSWER | {"mask_png": base64.b64encode(MASK + bytes(8_000_000)).decode()}

    async def work(client: httpx.AsyncClient) -> None:
        url = f"/cases/{UNKNOWN}/reviews"
        asked = [asyncio.create_task(client.post(url, json=body, headers=OWN)) for _ in range(4)]
        await _until(lambda: len(site.feedback.asked) == 4)
        assert reason(await client.post(url, json=body, headers=OWN)) == (503, "unavailable")
        assert site.feedback.gate is not None
        site.feedback.gate.set()
        assert {answer.status_code for answer in await asyncio.gather(*asked)} == {201}

    _in_one_loop(site, work)
    assert site.context.bodies.held_bytes == 0


def test_a_body_that_does_not_end_is_given_up(site: Site) -> None:
    site.context.bodies._timeout_s = 0.1

    async def drips() -> Any:
        yield b"{"
        await asyncio.Event().wait()

    assert asyncio.run(_post_slowly(site, drips())) == 408
    assert (site.feedback.asked, site.context.bodies.held_bytes) == ([], 0)


async def _post_slowly(site: Site, chunks: Any) -> int:
    """Speak ASGI itself: a client that sends its body while the answer comes."""
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        chunk = await anext(chunks, None)
        return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    headers = [(name.lower().encode(), value.encode()) for name, value in OWN.items()]
    scope = {
        "type": "http",
        "method": "POST",
        "path": f"/api/v1/cases/{UNKNOWN}/claim",
        "raw_path": b"",
        "query_string": b"",
        "headers": [*headers, (b"host", b"127.0.0.1")],
        "scheme": "http",
        "http_version": "1.1",
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 1),
        "root_path": "",
    }
    await site.app(scope, receive, send)
    return statuses[0]


def test_what_is_remembered_stays_within_its_bound() -> None:
    recent: Recent[str] = Recent(10, len)
    for name in ("a", "b"):
        recent.put(name, "12345")
    assert recent.get("a") == "12345"
    recent.put("c", "1234")
    assert (recent.get("b"), recent.get("a"), recent.get("c")) == (None, "12345", "1234")
    recent.put("c", "12345678901")
    assert recent.get("c") is None
    recent.put("a", "1")
    recent.put("d", "123456789")
    assert (recent.get("a"), recent.get("d")) == ("1", "123456789")


# ---- the interface's description


def test_every_route_is_described_with_its_body(site: Site) -> None:
    paths = site.get("/openapi.json").json()["paths"]
    described = {
        f"{method} {path.removeprefix('/api/v1')}"
        for path, methods in paths.items()
        for method in methods
        if path.removeprefix("/api/v1").startswith(("/queue", "/cases", "/reviews"))
    }
    assert described == {
        "get /queue",
        "get /queue/stats",
        "get /cases/{case_id}",
        "get /cases/{case_id}/image",
        "get /cases/{case_id}/thumbnail",
        "get /cases/{case_id}/explanations/{method}.png",
        "get /cases/{case_id}/reviews/{review_id}/mask.png",
        "post /cases/{case_id}/claim",
        "post /cases/{case_id}/release",
        "post /cases/{case_id}/reviews",
        "post /reviews/{review_id}/undo",
        "get /reviews",
    }
    body = paths["/api/v1/cases/{case_id}/reviews"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert (set(body["properties"]), body["additionalProperties"]) == (set(ANSWER), False)
    assert "$ref" not in str(body)
    asked = {one["name"] for one in paths["/api/v1/queue"]["get"]["parameters"]}
    assert {"line", "order", "hide_held_from", "after", "limit", "answered_by"} <= asked
