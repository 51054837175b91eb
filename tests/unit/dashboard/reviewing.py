"""A dashboard that reviews, over a feedback service that answers as it is told."""

from __future__ import annotations

import base64
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from fastapi.testclient import TestClient

from services.adapters.feedbackclient import CaseView, FeedbackClient
from services.adapters.memory import MemoryBroker, MemoryObjectStore, MemoryRecordFetcher, MemoryTopicReader
from services.adapters.ports import CaseFilter, CasePage, QueueOrder, ReviewFilter, ReviewPage, ReviewStats
from services.core import topics
from services.core.errors import (
    NotFoundError,
)
from services.core.identity import case_id
from services.core.imaging import encode_jpeg, encode_png
from services.core.neighbours import Neighbours
from services.core.review import CaseState, QueuedCase, Review, ReviewAction
from services.core.types import CaseKind, Grade, Verdict
from services.dashboard.app import make_app, make_context
from services.dashboard.bulk import CaseSearch
from services.dashboard.components import ComponentBoard
from services.dashboard.explanations import ExplanationIndex
from services.dashboard.exporting import ExportService
from services.dashboard.live import LiveModel
from services.dashboard.models import ModelBoard
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


class Feedback:
    """A feedback service that answers as it is told and remembers what it was asked."""

    def __init__(self) -> None:
        self.views: dict[str, CaseView] = {}
        self.unlisted: set[str] = set()
        """Cases that no list of reviews has."""
        self.error: Exception | None = None
        self.asked: list[tuple[Any, ...]] = []
        self.gate: threading.Event | None = None
        self.next_token = ""
        self.found = Neighbours((), 0, True)

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

    def get_case(self, case_id: str, timeout_s: float = 10.0) -> CaseView:
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
        self,
        review_id: str,
        undone_review_id: str,
        reviewer: str,
        said_at_ns: int,
        timeout_s: float = 10.0,
        *,
        only_own: bool = False,
    ) -> tuple[Review, CaseState]:
        self._on("undo", review_id, undone_review_id, reviewer, said_at_ns, timeout_s)
        self.only_own = only_own
        undone = Review(review_id, UNKNOWN, UNKNOWN, ReviewAction.UNDO, reviewer, NOW_NS, supersedes=undone_review_id)
        return undone, CaseState.OPEN

    def list_reviews(self, where: ReviewFilter, *, limit: int, token: str = "", timeout_s: float = 10.0) -> ReviewPage:
        self._on("reviews", where, limit, token, timeout_s)
        said = tuple(one for view in self.views.values() for one in view.reviews)
        known = tuple(view.case for view in self.views.values() if view.case.case_id not in self.unlisted)
        return ReviewPage(said, self.next_token, known)

    def stats(self, where: CaseFilter, timeout_s: float = 10.0) -> ReviewStats:
        self._on("stats", where, timeout_s)
        return ReviewStats(1, 2, 3, 4, 5, 6, 7)

    def neighbours(self, case_id: str, into_queue_for: str = "", timeout_s: float = 10.0) -> Neighbours:
        self._on("neighbours", case_id, into_queue_for, timeout_s)
        return self.found


class Site:
    def __init__(
        self,
        static_dir: Path,
        feedback: Feedback | FeedbackClient | None,
        *,
        exports: ExportService | None = None,
        search: CaseSearch | None = None,
        models: ModelBoard | None = None,
        changes: Any = None,
        **settings: Any,
    ) -> None:
        self.store = MemoryObjectStore()
        broker = self.broker = MemoryBroker()
        self.feedback = feedback if isinstance(feedback, Feedback) else Feedback()
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
            exports=exports,
            search=search,
            models=models,
            changes=changes,
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
        self.feedback.views[case.case_id] = CaseView(case, (explanation(), failed()), 0.5, ())
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


POSTS = [
    (f"/cases/{UNKNOWN}/claim", {"reviewer": "Ada"}),
    (f"/cases/{UNKNOWN}/release", {"reviewer": "Ada"}),
    (f"/cases/{UNKNOWN}/reviews", ANSWER),
    (f"/reviews/{REVIEW_ID}/undo", {"review_id": UNDO_ID, "reviewer": "Ada"}),
    (f"/cases/{UNKNOWN}/neighbours", {"reviewer": "Ada"}),
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
    f"/cases/{UNKNOWN}/neighbours",
    f"/cases/{UNKNOWN}/neighbours/{UNKNOWN}/image",
    f"/cases/{UNKNOWN}/neighbours/{UNKNOWN}/thumbnail",
]


def reason(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["reason"]
