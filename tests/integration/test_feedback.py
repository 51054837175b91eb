"""The feedback service as a process, on a real broker and store: cases in, answers on record and in their topic."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import pytest

from services.adapters.caseindex import SqlCaseIndex
from services.adapters.caserecord import CaseRecord
from services.adapters.codec_explained import encode_explained_case
from services.adapters.codec_review import decode_review
from services.adapters.feedbackclient import FeedbackClient
from services.adapters.kafka import KafkaRecordWriter, KafkaTopicReader
from services.adapters.objectstore import S3ObjectStore
from services.adapters.ports import CaseFilter, QueueOrder, ReviewFilter
from services.core import topics
from services.core.errors import ConflictError, InvalidInputError, NotFoundError, SightlineError, UnavailableError
from services.core.imaging import encode_png
from services.core.review import Answer, CaseState, QueuedCase, Review, ReviewAction
from services.core.types import ExplainedCase, Verdict
from services.feedback.rebuild import rebuild_index
from services.local.member import Member
from services.local.process import free_port
from services.local.servers import Servers
from tests.support.explained import explained_case, explanation
from tests.support.explainer_line import make_case

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

SIDE_PX = 48
T = TypeVar("T")


def wait_for(what: str, find: Callable[[], T | bool | None], timeout_s: float = 60.0) -> T:
    """Poll for something that is there in the end; the deadline only ends a test that hangs."""
    end_s = time.monotonic() + timeout_s
    while True:
        found = find()
        if found:
            return found  # type: ignore[return-value]
        assert time.monotonic() < end_s, f"{what} must be there within {timeout_s:g} s"
        time.sleep(0.05)


def picture(seed: int) -> bytes:
    return encode_png(np.random.default_rng(seed).integers(0, 256, (SIDE_PX, SIDE_PX, 3)).astype(np.uint8))


def drawing() -> bytes:
    values = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
    values[10:20, 5:15] = 255
    return cv2.imencode(".png", values)[1].tobytes()


class Plant:
    """Servers and a feedback service."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.servers = Servers(folder, engine="memory", environ={})
        self.grpc_port = free_port()
        self.index_url = f"sqlite:///{folder / 'index' / 'cases.db'}"

    def start(self) -> None:
        self.servers.start()
        self.store = S3ObjectStore(self.servers.objects)
        self.record = CaseRecord(self.store)
        self.writer = KafkaRecordWriter(self.servers.kafka)
        own = {"GRPC__PORT": str(self.grpc_port), "INDEX__URL": self.index_url}
        self.service = Member("feedback", {**self.servers.settings(), **own}, logs=self.folder / "logs")
        self.service.start()
        wait_for("the feedback service", self.service.ready)
        self.client = FeedbackClient(f"127.0.0.1:{self.grpc_port}")

    def stop(self) -> None:
        self.client.close()
        self.service.process.stop(20)
        self.writer.close(2)
        self.servers.stop()

    def explain(self, number: int) -> ExplainedCase:
        """Write an explained case to its topic."""
        case = make_case(number, picture(number))
        made = explained_case(case.inspection, [explanation("invrise-soft"), explanation("gradcam")])
        made = replace(made, case=case)
        self.writer.send(
            topics.EXPLAINED, key=case.inspection.camera_id.encode(), value=encode_explained_case(made)
        ).result(20)
        return made

    def queued(self, explained: ExplainedCase) -> QueuedCase:
        """Wait until a case is in the queue."""
        return wait_for("the case in the queue", lambda: self._find(explained.case.case_id))

    def _find(self, case_id: str) -> QueuedCase | None:
        page = self.client.list_queue(CaseFilter(), QueueOrder.NEWEST, limit=200)
        return next((one for one in page.cases if one.case_id == case_id), None)


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    plant = Plant(tmp_path_factory.mktemp("feedback"))
    try:
        plant.start()
        yield plant
    finally:
        plant.stop()


def answer(case: QueuedCase, reviewer: str = "ada", **changes: object) -> Review:
    said = Review(
        review_id=str(uuid.uuid4()),
        case_id=case.case_id,
        frame_id="",
        action=ReviewAction.ANSWER,
        reviewer=reviewer,
        reviewed_at_ns=0,
        verdict_right=Answer.YES,
        reason_right=Answer.NO,
        shown_method=case.shown_method,
    )
    return replace(said, **changes)  # type: ignore[arg-type]


def test_a_case_comes_into_the_queue_and_an_answer_onto_record_and_into_its_topic(plant: Plant) -> None:
    case = plant.queued(plant.explain(0))
    assert (case.image_width_px, case.image_height_px) == (SIDE_PX, SIDE_PX)
    assert plant.store.get(case.image_ref.key) == picture(0)
    view = plant.client.get_case(case.case_id)
    assert [one.method for one in view.explanations] == ["invrise-soft", "gradcam"]
    reader = KafkaTopicReader(plant.servers.kafka, [topics.REVIEWS])
    kept, state = plant.client.submit(answer(case, note='scratch \u2192 "dent"; DROP TABLE cases'), drawing())
    assert state is CaseState.REVIEWED
    assert kept.mask_ref is not None
    assert kept.mask_pixels == 100
    mask = cv2.imdecode(np.frombuffer(plant.store.get(kept.mask_ref.key), np.uint8), cv2.IMREAD_UNCHANGED)
    assert (mask[10:20, 5:15] == 255).all()
    assert plant.record.review(case.case_id, kept.review_id) == kept

    def published() -> bool:
        return kept in [decode_review(one.value) for one in reader.read_to_end(10)]

    wait_for("the review in its topic", published)
    reader.close()


def test_what_was_taken_back_is_as_if_it_had_never_been_said(plant: Plant) -> None:
    case = plant.queued(plant.explain(1))
    kept, _ = plant.client.submit(answer(case), b"")
    undo, state = plant.client.undo(str(uuid.uuid4()), kept.review_id, "bob", 1)
    assert state is CaseState.OPEN
    assert undo.supersedes == kept.review_id
    assert (
        plant.client.list_reviews(ReviewFilter(reviewer="ada", standing_only=True), limit=50).reviews.count(kept) == 0
    )
    with pytest.raises(ConflictError):
        plant.client.undo(str(uuid.uuid4()), kept.review_id, "bob", 1)


def test_a_service_that_is_killed_forgets_nothing_and_replays_change_nothing(plant: Plant) -> None:
    explained = plant.explain(2)
    case = plant.queued(explained)
    kept, _ = plant.client.submit(answer(case), b"")
    plant.service.process.kill()
    plant.service.start()
    wait_for("its return", plant.service.ready)
    found = wait_for("an answer", lambda: _quietly(lambda: plant.client.get_case(case.case_id)))
    assert found.reviews == (kept,)
    before = plant.client.stats(CaseFilter())
    plant.explain(2)
    last = plant.explain(3)
    plant.queued(last)
    after = plant.client.stats(CaseFilter())
    assert (after.open, after.reviewed) == (before.open + 1, before.reviewed)
    again, _ = plant.client.submit(replace(answer(case), review_id=kept.review_id), b"")
    assert again == kept


def _quietly(call: Callable[[], T]) -> T | None:
    try:
        return call()
    except SightlineError:
        return None


def test_an_index_that_is_made_anew_says_the_same(plant: Plant, tmp_path: Path) -> None:
    live = SqlCaseIndex(plant.index_url)
    anew = SqlCaseIndex(f"sqlite:///{tmp_path / 'anew.db'}")
    done = rebuild_index(anew, plant.record)
    assert done.damaged == []

    def everything(index: SqlCaseIndex) -> tuple[object, ...]:
        cases = index.list_cases(CaseFilter(), QueueOrder.BY_GAIN, limit=1000, now_ns=1 << 62).cases
        reviews = index.list_reviews(ReviewFilter(), limit=1000).reviews
        return cases, reviews, index.stats(CaseFilter())

    assert done.cases > 0
    assert everything(anew) == everything(live)
    for index in (live, anew):
        index.close()


def test_a_store_that_is_away_takes_no_answer_and_the_same_call_goes_through_later(plant: Plant) -> None:
    case = plant.queued(plant.explain(4))
    said = answer(case)
    assert plant.servers.store is not None
    pid = plant.servers.store.child.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(UnavailableError):
            plant.client.submit(said, drawing(), timeout_s=3)
    finally:
        os.kill(pid, signal.SIGCONT)
    kept = wait_for("the answer", lambda: _quietly(lambda: plant.client.submit(said, drawing())))
    assert kept[0].review_id == said.review_id
    assert len(plant.client.get_case(case.case_id).reviews) == 1


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"case_id": "../../etc/passwd"}, InvalidInputError, "case_id must be"),
        ({"case_id": "01a2158b-3ef0-78cc-87e0-b3393d8de98b"}, NotFoundError, "case"),
        ({"review_id": "1"}, InvalidInputError, "review_id must be a lower-case UUID"),
        ({"reviewer": " "}, InvalidInputError, "reviewer must be a name"),
        ({"reviewer": "a\nb"}, InvalidInputError, "printable characters only"),
        ({"note": "x" * 2_001}, InvalidInputError, "note must have at most 2000 characters, got 2001"),
        ({"verdict_right": Answer.NO}, InvalidInputError, "a wrong verdict fail must be corrected to pass"),
        ({"corrected_verdict": Verdict.PASS}, InvalidInputError, "only a wrong verdict is corrected"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_rule(
    plant: Plant, changes: dict[str, object], error: type[SightlineError], message: str
) -> None:
    case = plant.queued(plant.explain(5))
    with pytest.raises(error, match=message):
        plant.client.submit(answer(case, **changes), b"")
