"""The feedback service as a process, on a real broker and store: cases in, answers on record and in their topic."""

from __future__ import annotations

import os
import signal
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import pytest

from services.adapters.caseindex import SqlCaseIndex
from services.adapters.caserecord import CaseRecord
from services.adapters.codec import encode_frame, encode_frame_embedding, encode_inspection
from services.adapters.codec_explained import encode_explained_case
from services.adapters.codec_review import decode_review
from services.adapters.datasets import read_labelled_folder
from services.adapters.exportclient import ExportClient
from services.adapters.exportorder import ExportOrder
from services.adapters.feedbackclient import FeedbackClient
from services.adapters.kafka import KafkaRecordWriter, KafkaTopicReader
from services.adapters.objectstore import S3ObjectStore
from services.adapters.ports import CaseFilter, QueueOrder, ReviewFilter
from services.adapters.searchclient import CaseSearchClient
from services.adapters.statisticsclient import StatisticsClient
from services.core import topics
from services.core.errors import ConflictError, InvalidInputError, NotFoundError, SightlineError, UnavailableError
from services.core.export_layout import Layout
from services.core.identity import case_id
from services.core.imaging import encode_png
from services.core.neighbours import Relation
from services.core.review import Answer, CaseState, QueuedCase, Review, ReviewAction
from services.core.statistics import GroupBy, StatisticsFilter
from services.core.types import CaseKind, ExplainedCase, Frame, FrameEmbedding, RecordPosition, Verdict
from services.feedback.rebuild import rebuild_index
from services.local.member import Member
from services.local.process import free_port
from services.local.servers import Servers
from tests.support.cases import SECOND_NS, START_NS
from tests.support.cases import queued_case as case_of_a_line
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
    """Servers and a feedback service; further settings of it by name, without the prefix."""

    def __init__(self, folder: Path, **more: str) -> None:
        self.folder = folder
        self.more = more
        self.servers = Servers(folder, engine="memory", environ={})
        self.grpc_port = free_port()
        self.index_url = f"sqlite:///{folder / 'index' / 'cases.db'}"

    def start(self) -> None:
        self.servers.start()
        self.store = S3ObjectStore(self.servers.objects)
        self.record = CaseRecord(self.store)
        self.writer = KafkaRecordWriter(self.servers.kafka)
        own = {"GRPC__PORT": str(self.grpc_port), "INDEX__URL": self.index_url}
        self.service = Member("feedback", {**self.servers.settings(), **own, **self.more}, logs=self.folder / "logs")
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

    def write(self, topic: str, value: bytes) -> RecordPosition:
        """Write a record of the camera."""
        return self.writer.send(topic, key=b"cam-1", value=value).result(20)

    def pass_by(
        self, number: int, seen: list[float], *, kind: CaseKind = CaseKind.AUDIT, by_reference: bool = False
    ) -> str:
        """Let the line inspect a frame that becomes no case; gives the id that its case would have."""
        inspection = make_case(number, b"", kind=kind, alias="neighbours").inspection
        image = picture(number)
        if by_reference:
            inspection = replace(inspection, image_ref=self.store.put(f"frames/{inspection.frame_id}.png", image))
        else:
            frame = Frame(
                frame_id=inspection.frame_id,
                part_id=inspection.part_id,
                line_id=inspection.line_id,
                camera_id=inspection.camera_id,
                product=inspection.product,
                sequence=inspection.sequence,
                captured_at_ns=inspection.captured_at_ns,
                image=image,
            )
            inspection = replace(inspection, position=self.write(topics.FRAMES, encode_frame(frame)))
        # As if it were decided now: what is old is not kept.
        inspection = replace(inspection, decided_at_ns=time.time_ns())
        embedding = FrameEmbedding(inspection, np.array(seen, np.float16))
        self.write(topics.EMBEDDINGS, encode_frame_embedding(embedding))
        return case_id(inspection.frame_id, inspection.alias, inspection.model_version)

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


def test_a_case_is_found_by_its_part_and_exported_with_what_was_drawn(plant: Plant, tmp_path: Path) -> None:
    case = plant.queued(plant.explain(40))
    plant.client.submit(answer(case, defect_class="dent"), drawing())
    search, exports = CaseSearchClient(f"127.0.0.1:{plant.grpc_port}"), ExportClient(f"127.0.0.1:{plant.grpc_port}")
    assert [one.case_id for one in search.find("PART-40", limit=5)[0]] == [case.case_id]
    stream = exports.export(ExportOrder(Layout.LABELS, case_ids=(case.case_id,)))
    with (tmp_path / "parts.zip").open("wb") as file:
        while (piece := stream.next()) is not None:
            file.write(piece.data)
    with zipfile.ZipFile(tmp_path / "parts.zip") as archive:
        archive.extractall(tmp_path / "parts")
    (read,) = read_labelled_folder(tmp_path / "parts")
    assert (read.path.read_bytes(), read.defect_class, read.group) == (picture(40), "dent", "part-40")
    mask = cv2.imread(str(read.mask_path), cv2.IMREAD_UNCHANGED)
    assert (int(np.count_nonzero(mask)), bool((mask[10:20, 5:15] == 255).all())) == (100, True)
    search.close()
    exports.close()


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


def test_a_service_that_is_killed_while_it_counts_counts_every_verdict_once(plant: Plant) -> None:
    said = 0

    def say(count: int) -> None:
        nonlocal said
        for _ in range(count):
            seen = case_of_a_line(said, Verdict.FAIL if said % 10 == 0 else Verdict.PASS, product="counted").inspection
            plant.writer.send(topics.VERDICTS, key=seen.part_id.encode(), value=encode_inspection(seen))
            said += 1
        plant.writer.flush(20)

    def counted() -> int:
        table = _quietly(
            lambda: client.table(
                StatisticsFilter(product="counted"), START_NS, START_NS + 7_200 * SECOND_NS, GroupBy.LINE
            )
        )
        return table.total.verdicts.inspections if table else -1

    client = StatisticsClient(f"127.0.0.1:{plant.grpc_port}")
    for _ in range(3):
        before = said
        say(400)
        # The counts are there, their offsets not yet or just committed.
        wait_for("some that are counted", lambda before=before: counted() > before)
        plant.service.process.kill()
        plant.service.start()
        wait_for("its return", plant.service.ready)
    wait_for("all that were said", lambda: counted() == said)
    # What lies after them is counted only once everything before it was read again.
    say(100)
    wait_for("the rest", lambda: counted() >= said)
    assert counted() == said == 1_300
    client.close()


def _quietly(call: Callable[[], T]) -> T | None:
    try:
        return call()
    except SightlineError:
        return None


def test_a_wrong_verdict_brings_a_near_miss_from_frames_that_were_no_cases(plant: Plant) -> None:
    explained = make_case(40, picture(40), alias="neighbours")
    explained = replace(explained, embedding=np.array([1, 0, 0, 0], np.float16))
    made = replace(explained_case(explained.inspection, [explanation("gradcam")]), case=explained)
    plant.write(topics.EXPLAINED, encode_explained_case(made))
    inline, by_reference = plant.pass_by(41, [1, 0.1, 0, 0]), plant.pass_by(42, [1, 0.2, 0, 0], by_reference=True)
    far = plant.pass_by(43, [-1, 0, 0, 0])
    defective = plant.pass_by(44, [1, 0, 0.3, 0], kind=CaseKind.FAIL)
    case = plant.queued(made)
    wait_for("four embeddings", lambda: plant.client.neighbours(case.case_id).compared == 4)
    looked = {one.relation: one for one in plant.client.neighbours(case.case_id).neighbours}
    assert looked[Relation.NEAR_MISS].neighbour_id == inline
    assert looked[Relation.NEAR_MISS].case is None

    wrong = answer(case, verdict_right=Answer.NO, reason_right=Answer.NOT_ASKED, corrected_verdict=Verdict.PASS)
    plant.client.submit(wrong, b"")
    found = plant.client.neighbours(case.case_id, "ada")
    assert {one.relation: one.neighbour_id for one in found.neighbours} == {
        Relation.NEAR_HIT: inline,
        Relation.NEAR_MISS: defective,
        Relation.FARTHEST: far,
    }
    assert [one.case_id for one in found.queued] == [inline, defective]
    for queued, number in zip(found.queued, (41, 44), strict=True):
        assert (queued.kind, queued.image_width_px) == (CaseKind.NEIGHBOUR, SIDE_PX)
        assert plant.store.get(queued.image_ref.key) == picture(number)
        assert plant.client.get_case(queued.case_id).explanations == ()
    # Answered ones are not asked about again, and the next most similar one is not taken in their place.
    taken = answer(found.queued[0], reason_right=Answer.NOT_ASKED, shown_method="")
    assert plant.client.submit(taken, b"")[1] is CaseState.REVIEWED
    assert [one.case_id for one in plant.client.neighbours(case.case_id, "ada").queued] == [defective]
    # One whose picture lies in the object store, asked about from the other side.
    again = plant.client.neighbours(defective, "ada")
    assert [one.neighbour_id for one in again.neighbours if one.relation is Relation.NEAR_MISS] == [case.case_id]
    assert by_reference not in [one.case_id for one in again.queued]


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


def test_an_index_file_that_was_deleted_fills_itself(plant: Plant) -> None:
    before = plant.client.stats(CaseFilter())
    Path(plant.index_url.removeprefix("sqlite:///")).unlink()
    plant.service.process.kill()
    plant.service.start()
    wait_for("its return", plant.service.ready)
    wait_for("everything", lambda: _quietly(lambda: plant.client.stats(CaseFilter()) == before))


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
