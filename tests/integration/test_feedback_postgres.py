"""Two replicas of the feedback service on one index in PostgreSQL, while that goes away and comes back."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from services.adapters.caseindex_database import Database
from services.adapters.codec import encode_inspection
from services.adapters.codec_explained import encode_explained_case
from services.adapters.codec_review import decode_review
from services.adapters.feedbackclient import FeedbackClient
from services.adapters.kafka import KafkaRecordWriter, KafkaTopicReader
from services.adapters.ports import CaseFilter, QueueOrder
from services.adapters.statisticsclient import StatisticsClient
from services.core import topics
from services.core.errors import SightlineError, UnavailableError
from services.core.imaging import encode_png
from services.core.review import Answer, CaseState, QueuedCase, Review, ReviewAction
from services.core.statistics import GroupBy, StatisticsFilter
from services.core.types import Verdict
from services.local.member import Member
from services.local.process import free_port
from services.local.servers import Servers
from tests.support.cases import SECOND_NS, START_NS
from tests.support.cases import queued_case as case_of_a_line
from tests.support.explained import explained_case, explanation
from tests.support.explainer_line import make_case
from tests.support.postgres import OwnPostgres

pytestmark = [pytest.mark.integration, pytest.mark.timeout(200)]

SIDE_PX = 48
CASES = 5
T = TypeVar("T")


def wait_for(what: str, find: Callable[[], T | None], timeout_s: float = 60.0) -> T:
    """Poll for something that is there in the end; what does not answer meanwhile is asked again."""
    end_s = time.monotonic() + timeout_s
    while True:
        try:
            found = find()
        except SightlineError:
            found = None
        if found:
            return found
        assert time.monotonic() < end_s, f"{what} must be there within {timeout_s:g} s"
        time.sleep(0.05)


class Replica:
    """One of the services, and who asks it."""

    def __init__(self, folder: Path, servers: Servers, index_url: str) -> None:
        port = free_port()
        own = {"GRPC__PORT": str(port), "INDEX__URL": index_url}
        self.service = Member("feedback", {**servers.settings(), **own}, logs=folder)
        self.client = FeedbackClient(f"127.0.0.1:{port}")
        self.statistics = StatisticsClient(f"127.0.0.1:{port}")
        self.service.start()

    def queue(self) -> list[QueuedCase]:
        """Every case, the newest first."""
        return list(self.client.list_queue(CaseFilter(), QueueOrder.NEWEST, limit=200).cases)

    def log(self) -> str:
        """What it wrote down."""
        return self.service.process.log_path.read_text()

    def stop(self) -> None:
        """Stop."""
        self.statistics.close()
        self.client.close()
        self.service.process.stop(20)


class Plant:
    """Broker, store and database, and two replicas."""

    def __init__(self, folder: Path, postgres: OwnPostgres, index_url: str) -> None:
        self.postgres, self.index_url = postgres, index_url
        # Nobody asks a Triton here.
        nowhere = {"SIGHTLINE_TEST_TRITON": "127.0.0.1:9", "SIGHTLINE_TEST_TRITON_REPOSITORY": str(folder)}
        self.servers = Servers(folder, engine="memory", environ=nowhere)
        self.servers.start()
        self.writer = KafkaRecordWriter(self.servers.kafka)
        self.replicas = [Replica(folder / name, self.servers, index_url) for name in ("one", "other")]
        for each in self.replicas:
            wait_for("a replica", each.service.ready)

    def explain(self, number: int) -> str:
        """Write an explained case to its topic; gives its id."""
        pixels = np.random.default_rng(number).integers(0, 256, (SIDE_PX, SIDE_PX, 3)).astype(np.uint8)
        case = make_case(number, encode_png(pixels))
        made = replace(explained_case(case.inspection, [explanation("gradcam")]), case=case)
        key = case.inspection.camera_id.encode()
        self.writer.send(topics.EXPLAINED, key=key, value=encode_explained_case(made)).result(20)
        return case.case_id

    def say_verdicts(self, first: int, count: int) -> None:
        """Write verdicts to their topic."""
        for number in range(first, first + count):
            seen = case_of_a_line(number, Verdict.PASS, product="counted").inspection
            self.writer.send(topics.VERDICTS, key=seen.part_id.encode(), value=encode_inspection(seen))
        self.writer.flush(20)

    def counted(self) -> int:
        """How many verdicts are counted."""
        span = (START_NS, START_NS + 7_200 * SECOND_NS)
        table = self.replicas[1].statistics.table(StatisticsFilter(product="counted"), *span, GroupBy.LINE)
        return table.total.verdicts.inspections

    def published(self) -> set[str]:
        """Ids of the reviews in their topic."""
        reader = KafkaTopicReader(self.servers.kafka, [topics.REVIEWS])
        try:
            return {decode_review(one.value).review_id for one in reader.read_to_end(10)}
        finally:
            reader.close()

    def waits_for_its_turn(self) -> bool:
        """Whether some writer of the index waits for another."""
        name = self.index_url.rsplit("/", 1)[1]
        waiting = f"SELECT 1 FROM pg_stat_activity WHERE datname = '{name}' AND wait_event = 'advisory'"
        return bool(self.postgres.command(waiting))

    def stop(self) -> None:
        """Stop everything but the database."""
        for each in self.replicas:
            each.stop()
        self.writer.close(2)
        self.servers.stop()


@pytest.fixture
def plant(tmp_path: Path, postgres: object, postgres_url: str) -> Iterator[Plant]:
    if not isinstance(postgres, OwnPostgres):
        pytest.skip("a server of somebody else's is not stopped")
    made = Plant(tmp_path, postgres, postgres_url)
    yield made
    made.stop()


def answer(case: QueuedCase, reviewer: str = "ada") -> Review:
    return Review(
        review_id=str(uuid.uuid4()),
        case_id=case.case_id,
        frame_id="",
        action=ReviewAction.ANSWER,
        reviewer=reviewer,
        reviewed_at_ns=0,
        verdict_right=Answer.YES,
        reason_right=Answer.YES,
        shown_method=case.shown_method,
    )


def test_replicas_share_an_index_and_an_outage_of_it_loses_nothing(plant: Plant) -> None:
    one, other = plant.replicas
    plant.say_verdicts(0, 300)
    made = {plant.explain(number) for number in range(CASES)}
    wait_for("the cases", lambda: {case.case_id for case in other.queue()} == made)
    newest_first = [case.case_id for case in other.queue()]

    # A page of one replica goes on at the other.
    read: list[str] = []
    token, at = "", 0
    while True:
        page = plant.replicas[at % 2].client.list_queue(CaseFilter(), QueueOrder.NEWEST, limit=2, token=token)
        read += [case.case_id for case in page.cases]
        token, at = page.next_token, at + 1
        if not token:
            break
    assert (read, at) == (newest_first, 3)

    # One answer that comes to both at once is one answer.
    first, second, third = one.queue()[:3]
    said = answer(first)
    both = [threading.Thread(target=each.client.submit, args=(said, b"")) for each in plant.replicas]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert [review.review_id for review in other.client.get_case(first.case_id).reviews] == [said.review_id]
    counted = one.client.stats(CaseFilter())
    assert (counted.open, counted.reviewed, counted.verdict_right) == (CASES - 1, 1, 1)
    # Two people at two replicas about one case contradict each other there, too.
    one.client.submit(answer(second), b"")
    wrong = replace(
        answer(second, "ben"), verdict_right=Answer.NO, reason_right=Answer.NOT_ASKED, corrected_verdict=Verdict.PASS
    )
    kept, state = other.client.submit(wrong, b"")
    assert (state, bool(kept.disagrees_with)) == (CaseState.DISPUTED, True)
    wait_for("the verdicts", lambda: plant.counted() == 300)

    # The database goes in the middle of an answer.
    cut_off = answer(third)
    caught: list[Exception] = []

    def submit() -> None:
        try:
            one.client.submit(cut_off, b"")
        except SightlineError as error:
            caught.append(error)

    blocker = Database(plant.index_url)
    person = threading.Thread(target=submit)

    def cut_off_in_the_middle() -> None:
        with blocker.write():
            person.start()
            wait_for("an answer on its way", plant.waits_for_its_turn)
            plant.postgres.stop()

    with pytest.raises(UnavailableError):
        cut_off_in_the_middle()
    blocker.close()
    person.join()
    (error,) = caught
    assert isinstance(error, UnavailableError)
    assert "the case index postgresql://127.0.0.1" in str(error)
    with pytest.raises(UnavailableError, match="must answer, got"):
        other.client.list_queue(CaseFilter(), QueueOrder.NEWEST, limit=2)
    late = plant.explain(CASES)
    plant.say_verdicts(300, 100)

    plant.postgres.start()
    kept, state = wait_for("the answer", lambda: other.client.submit(cut_off, b""))
    assert (kept.review_id, state) == (cut_off.review_id, CaseState.REVIEWED)
    wait_for("the late case", lambda: late in {case.case_id for case in one.queue()})
    wait_for("the late verdicts", lambda: plant.counted() == 400)
    counted = one.client.stats(CaseFilter())
    assert (counted.open, counted.reviewed, counted.disputed) == (CASES - 2, 2, 1)
    wait_for("every answer in its topic", lambda: len(plant.published()) == 4)
    for each in plant.replicas:
        assert each.service.process.alive
        wait_for("a ready replica", each.service.ready)
        assert plant.postgres.password not in each.log()
        assert "Traceback" not in each.log()
