"""A feedback service on ports in memory: what its tests drive and look at. The index is a real one."""

from __future__ import annotations

import dataclasses
import threading
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from sightline.v1 import feedback_service_pb2_grpc

from services.adapters.caseindex import SqlCaseIndex
from services.adapters.caserecord import CaseRecord
from services.adapters.codec import encode_frame_embedding
from services.adapters.codec_explained import encode_explained_case
from services.adapters.codec_review import decode_review
from services.adapters.embeddingindex import SqlEmbeddingIndex
from services.adapters.feedbackclient import FeedbackClient
from services.adapters.memory import (
    MemoryBroker,
    MemoryObjectStore,
    MemoryRecordConsumer,
    MemoryRecordFetcher,
    MemoryRecordWriter,
)
from services.adapters.ports import CaseFilter, QueueOrder, Record
from services.core import topics
from services.core.errors import UnavailableError
from services.core.review import Answer, CaseState, QueuedCase, Review, ReviewAction
from services.core.types import CaseKind, ExplainedCase, Explanation, FrameEmbedding, ImageRef
from services.feedback.embeddings import EmbeddingIntake
from services.feedback.neighbours import NeighbourFinder
from services.feedback.pipeline import FeedbackPipeline
from services.feedback.publisher import ReviewPublisher
from services.feedback.reviewing import Reviewing
from services.feedback.servicer import FeedbackServicer
from services.feedback.settings import FeedbackSettings
from services.runtime.consumer import ConsumerLoop, LoopTimes
from services.runtime.grpc_server import GrpcServer
from services.runtime.images import FramePictures
from services.runtime.lifecycle import Health, Shutdown
from services.runtime.retry import Backoff
from services.runtime.settings import GrpcSettings
from tests.support.explained import explanation
from tests.support.explainer_line import NOW_NS, make_case, picture

WIDTH_PX, HEIGHT_PX = 40, 30
IMAGE = picture(height_px=HEIGHT_PX, width_px=WIDTH_PX)
CLAIM_S = 120


def explained(
    number: int,
    image: bytes | ImageRef = IMAGE,
    *,
    kind: CaseKind = CaseKind.FAIL,
    explanations: Sequence[Explanation] | None = None,
    explained_at_ns: int = NOW_NS + 1_000_000_000,
    camera: str = "cam-1",
) -> ExplainedCase:
    """Explained case ``number`` of a camera; equal arguments give the same case."""
    maps = [explanation()] if explanations is None else explanations
    case = make_case(number, image, kind=kind, camera=camera)
    return ExplainedCase(case=case, explanations=tuple(maps), explained_at_ns=explained_at_ns)


def mask_png(*spots: tuple[int, int], width_px: int = WIDTH_PX, height_px: int = HEIGHT_PX) -> bytes:
    """A drawing with these pixels (column, row) set."""
    drawn = np.zeros((height_px, width_px), np.uint8)
    for column, row in spots:
        drawn[row, column] = 255
    done, data = cv2.imencode(".png", drawn)
    assert done
    return data.tobytes()


def answer(case: QueuedCase, reviewer: str = "ada", **changes: Any) -> Review:
    """An answer as a caller gives it: the verdict and the reason are right, unless the changes say otherwise."""
    made = Review(
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
    return dataclasses.replace(made, **changes)


class FailingIndex(SqlCaseIndex):
    """An index in memory that can be away: every call of it, or only the adding of reviews."""

    def __init__(self) -> None:
        super().__init__("sqlite://")
        self.unavailable = False
        self.takes_reviews = True
        self.additions = 0

    def add_cases(self, cases: Sequence[QueuedCase]) -> None:
        self._check()
        self.additions += 1
        super().add_cases(cases)

    def add_review(self, review: Review, *, published: bool, ends_claim: bool = False) -> CaseState:
        self._check()
        if not self.takes_reviews:
            raise UnavailableError("the case index must answer, got 'disk is full'")
        return super().add_review(review, published=published, ends_claim=ends_claim)

    def find_case(self, case_id: str) -> QueuedCase:
        self._check()
        return super().find_case(case_id)

    def unpublished(self, limit: int) -> tuple[Review, ...]:
        self._check()
        return super().unpublished(limit)

    def _check(self) -> None:
        if self.unavailable:
            raise UnavailableError("the case index must answer, got 'connection refused'")


class FeedbackLine:
    """Broker, store, index and record, and what the service makes of them; nothing runs before it is started."""

    def __init__(self, *, partitions: int = 2, store: MemoryObjectStore | None = None, **settings: Any) -> None:
        values: dict[str, Any] = {"commit_interval_ms": 10}
        self.settings = FeedbackSettings(**values | settings)
        self.broker = MemoryBroker(partitions=partitions)
        for topic in topics.ALL:
            self.broker.create_topic(topic, partitions)
        self.store = store or MemoryObjectStore()
        self.index = FailingIndex()
        self.record = CaseRecord(self.store)
        self.embeddings = SqlEmbeddingIndex(self.index.database)
        self.intake = EmbeddingIntake(
            self.embeddings, keep_hours=self.settings.embeddings.keep_hours, clock_ns=lambda: self.now_ns
        )
        self.writer = MemoryRecordWriter(self.broker)
        self.publisher = ReviewPublisher(
            self.index, self.writer, look_s=5.0, ack_s=1.0, backoff=Backoff(first_s=0.01, cap_s=0.02)
        )
        self.now_ns = NOW_NS
        self.reviewing = Reviewing(
            self.index,
            self.record,
            max_mask_bytes=self.settings.max_mask_bytes,
            on_taken=self.publisher.wake,
            clock_ns=self.tick,
        )
        self.consuming: list[Consuming] = []
        self._closers: list[Callable[[], None]] = []

    def tick(self) -> int:
        """A clock that moves a second with every look at it."""
        self.now_ns += 1_000_000_000
        return self.now_ns

    # ---- cases

    def add_case(self, number: int = 0, **changes: Any) -> QueuedCase:
        """Put a case on record and into the index, as if it had been consumed."""
        pipeline = Consuming(self).pipeline
        queued = pipeline.put(explained(number, **changes))
        pipeline.close()
        self.index.add_cases([queued])
        return self.index.find_case(queued.case_id)

    def see(self, *frames: FrameEmbedding) -> None:
        """Keep what the model saw in frames that are no cases, as if it had been consumed."""
        self.intake.put([kept for kept in map(self.intake.of_frame, frames) if kept is not None])

    def send_frames(self, *frames: FrameEmbedding) -> None:
        """Publish what the model saw in frames as the detector does."""
        for each in frames:
            key = each.inspection.camera_id.encode()
            self.broker.append(topics.EMBEDDINGS, key=key, value=encode_frame_embedding(each))

    def finder(self) -> NeighbourFinder:
        """What finds neighbours."""
        fetcher = MemoryRecordFetcher(self.broker)
        pictures = FramePictures(self.store, fetcher, max_bytes=1_000_000, timeout_s=1.0)
        return NeighbourFinder(
            self.index, self.embeddings, self.intake, self.record, pictures, clock_ns=lambda: self.now_ns
        )

    def send(self, *cases: ExplainedCase) -> None:
        """Publish explained cases as the explainer does."""
        for each in cases:
            key = each.case.inspection.camera_id.encode()
            self.broker.append(topics.EXPLAINED, key=key, value=encode_explained_case(each))

    def start(self) -> Consuming:
        """Start to consume."""
        consuming = Consuming(self)
        self.consuming.append(consuming)
        consuming.start()
        return consuming

    def committed(self) -> int:
        """Records of ``explained`` that the group has committed."""
        return sum(self.broker.committed("feedback", each) or 0 for each in self.broker.partitions(topics.EXPLAINED))

    def queue(self) -> list[QueuedCase]:
        """Every case, the newest first."""
        return list(self.index.list_cases(CaseFilter(), QueueOrder.NEWEST, limit=1_000, now_ns=self.now_ns).cases)

    @property
    def dead_letters(self) -> list[Record]:
        """Every dead letter."""
        return self.broker.records(topics.dead_letter(topics.EXPLAINED))

    # ---- reviews

    @property
    def published(self) -> list[Review]:
        """Every review in the topic, partition by partition."""
        return [decode_review(record.value) for record in self.broker.records(topics.REVIEWS)]

    def serve(self) -> FeedbackClient:
        """Answer calls at a real port; a client of it."""
        server = GrpcServer(GrpcSettings(port=0), Health())
        servicer = FeedbackServicer(
            self.index, self.record, self.reviewing, self.finder(), claim_s=CLAIM_S, clock_ns=self.tick
        )
        server.add(feedback_service_pb2_grpc.add_FeedbackServiceServicer_to_server, servicer, "Feedback")
        server.start()
        client = FeedbackClient(f"127.0.0.1:{server.port}")
        self.port = server.port
        self._closers += [lambda: server.stop(1.0), client.close]
        return client

    def stop(self) -> None:
        """Stop whatever was started."""
        for close in reversed(self._closers):
            close()
        for each in self.consuming:
            each.stop()
        self.publisher.close()
        self.index.close()


class Consuming:
    """Pipeline and consumer loop on threads of their own."""

    def __init__(self, line: FeedbackLine) -> None:
        self.health = Health()
        self.shutdown = Shutdown()
        self.pipeline = FeedbackPipeline(
            line.settings,
            line.index,
            line.record,
            line.store,
            line.writer,
            self.health,
            intake=line.intake,
            backoff=Backoff(first_s=0.01, cap_s=0.02),
        )
        self.consumer = MemoryRecordConsumer(line.broker, "feedback")
        self.paused: list[bool] = []
        self.loop = ConsumerLoop(
            self.consumer,
            self.pipeline,
            topics=[topics.EXPLAINED, topics.EMBEDDINGS],
            health=self.health,
            shutdown=self.shutdown,
            times=LoopTimes(poll_s=0.01, room_s=0.01, commit_every_s=0.01, drain_s=5.0),
            max_records=line.settings.max_in_flight_cases,
            on_paused=self.paused.append,
        )
        self.failure: BaseException | None = None
        self._stopped = False
        self.thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin."""
        self.pipeline.start()
        self.health.set_ready(True)
        self.thread.start()

    def stop(self) -> None:
        """Drain and stop; raises what ended the loop, if anything did."""
        if self._stopped:
            return
        self._stopped = True
        self.shutdown.request()
        self.thread.join(20)
        assert not self.thread.is_alive(), "the service must stop within its drain"
        self.pipeline.close()
        if self.failure is not None:
            raise self.failure

    def crash(self) -> None:
        """Be gone without committing or leaving, as after kill -9 and the session timeout."""
        self._stopped = True
        self.consumer.commit = lambda _offsets: None  # type: ignore[method-assign]
        self.pipeline.settle = lambda *_: False  # type: ignore[method-assign]
        self.shutdown.request()
        self.pipeline.close()
        self.consumer.crash()
        self.thread.join(10)

    def _run(self) -> None:
        try:
            self.loop.run()
        except Exception as error:  # noqa: BLE001 - looked at by the test
            self.failure = error
