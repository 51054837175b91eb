"""A feedback service in this process: the real one over gRPC, on a store in memory and an index in a file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sightline.v1 import (
    case_search_service_pb2_grpc,
    changes_service_pb2_grpc,
    export_service_pb2_grpc,
    feedback_service_pb2,
    feedback_service_pb2_grpc,
    statistics_service_pb2,
    statistics_service_pb2_grpc,
)

from services.adapters.caseindex import SqlCaseIndex
from services.adapters.caseoutcomes import SqlCaseOutcomes
from services.adapters.caserecord import CaseRecord, queued_case
from services.adapters.changerecord import ChangeRecord
from services.adapters.changesclient import ChangesClient
from services.adapters.codec import encode_frame
from services.adapters.embeddingindex import SqlEmbeddingIndex
from services.adapters.exportclient import ExportClient
from services.adapters.feedbackclient import FeedbackClient
from services.adapters.memory import MemoryBroker, MemoryObjectStore, MemoryRecordFetcher, MemoryRecordWriter
from services.adapters.searchclient import CaseSearchClient
from services.adapters.statisticsclient import StatisticsClient
from services.adapters.verdictcounts import SqlVerdictCounts
from services.core import topics
from services.core.identity import case_id, derive_frame_id
from services.core.imaging import encode_jpeg
from services.core.shift import parse_shift_plan
from services.core.simulation.line import PRODUCTS, draw_part
from services.core.types import (
    Case,
    CaseKind,
    ExplainedCase,
    Explanation,
    Frame,
    FrameEmbedding,
    Inspection,
    OperatingPoint,
    Reason,
    Verdict,
)
from services.feedback.changebook import ChangeBook
from services.feedback.changes_servicer import ChangesServicer
from services.feedback.embeddings import EmbeddingIntake
from services.feedback.export_servicer import ExportServicer
from services.feedback.exporting import Exporter
from services.feedback.neighbours import NeighbourFinder
from services.feedback.publisher import ReviewPublisher
from services.feedback.reviewing import Reviewing
from services.feedback.search_servicer import CaseSearchServicer
from services.feedback.servicer import FeedbackServicer
from services.feedback.statistics import Statistics
from services.feedback.statistics_servicer import StatisticsServicer
from services.runtime.grpc_server import GrpcServer
from services.runtime.images import FramePictures
from services.runtime.lifecycle import Health
from services.runtime.settings import GrpcSettings
from tests.support.explained import explanation, hot_spot

SHIFTS = parse_shift_plan("early 06:00-14:00, late 14:00-22:00, night 22:00-06:00", "Europe/Berlin")
START_NS = 1_790_000_000_000_000_000
_KIND = {Verdict.FAIL: CaseKind.FAIL, Verdict.REVIEW: CaseKind.REVIEW, Verdict.PASS: CaseKind.AUDIT}
_SCORE = {Verdict.FAIL: 0.93, Verdict.REVIEW: 0.61, Verdict.PASS: 0.12}
_PICTURES = 6


class FeedbackStation:
    """The service, with switches for what can go wrong.

    Args:
        folder: Takes the index.
    """

    def __init__(self, folder: Path) -> None:
        self.store = MemoryObjectStore()
        self.broker = MemoryBroker()
        self.record = CaseRecord(self.store)
        self._url = f"sqlite:///{folder / 'cases.db'}"
        self._port = 0
        self._pictures = [
            encode_jpeg(draw_part(PRODUCTS[0], 100 + number, defect_rate=0.5).image) for number in range(_PICTURES)
        ]
        self.start()
        self.changes = ChangesClient(f"127.0.0.1:{self._port}")
        self.client = FeedbackClient(f"127.0.0.1:{self._port}")
        self.exports = ExportClient(f"127.0.0.1:{self._port}")
        self.search = CaseSearchClient(f"127.0.0.1:{self._port}")
        self.statistics_client = StatisticsClient(f"127.0.0.1:{self._port}")

    def start(self) -> None:
        """Serve; after :meth:`kill` at the same port."""
        self.index = SqlCaseIndex(self._url)
        self._publisher = ReviewPublisher(self.index, MemoryRecordWriter(self.broker))
        reviewing = Reviewing(self.index, self.record, max_mask_bytes=8_000_000, on_taken=self._publisher.wake)
        embeddings = SqlEmbeddingIndex(self.index.database)
        self._intake = EmbeddingIntake(embeddings, keep_hours=24, clock_ns=lambda: START_NS)
        pictures = FramePictures(self.store, MemoryRecordFetcher(self.broker), max_bytes=10_000_000, timeout_s=1.0)
        neighbours = NeighbourFinder(
            self.index, embeddings, self._intake, self.record, pictures, clock_ns=lambda: START_NS
        )
        servicer = FeedbackServicer(self.index, self.record, reviewing, neighbours, claim_s=120)
        self._server = GrpcServer(GrpcSettings(port=self._port), Health())
        name = feedback_service_pb2.DESCRIPTOR.services_by_name["FeedbackService"].full_name
        self._server.add(feedback_service_pb2_grpc.add_FeedbackServiceServicer_to_server, servicer, name)
        exports = ExportServicer(Exporter(self.index, self.record, readers=2, spool_bytes=100_000), max_at_once=2)
        self._server.add(export_service_pb2_grpc.add_ExportServiceServicer_to_server, exports, "Export")
        search = CaseSearchServicer(self.index)
        self._server.add(case_search_service_pb2_grpc.add_CaseSearchServiceServicer_to_server, search, "Search")
        self.counts = SqlVerdictCounts(self.index.database)
        outcomes = SqlCaseOutcomes(self.index.database)
        statistics = Statistics(self.counts, outcomes, SHIFTS, merge_after_days=7, keep_days=400)
        name = statistics_service_pb2.DESCRIPTOR.services_by_name["StatisticsService"].full_name
        add_statistics = statistics_service_pb2_grpc.add_StatisticsServiceServicer_to_server
        self._server.add(add_statistics, StatisticsServicer(statistics), name)
        self.book = ChangeBook(ChangeRecord(self.store), compares=True)
        changes = ChangesServicer(self.book, self.index)
        self._server.add(changes_service_pb2_grpc.add_ChangesServiceServicer_to_server, changes, "Changes")
        self._server.start()
        self._port = self._server.port
        self._publisher.start()

    @property
    def port(self) -> int:
        """Where it answers."""
        return self._port

    def kill(self) -> None:
        """Stop serving at once; what is on record stays."""
        self._server.stop(0)
        self._publisher.close()
        self.index.close()

    def close(self) -> None:
        """End everything."""
        for client in (self.client, self.changes, self.exports, self.search, self.statistics_client):
            client.close()
        self.kill()

    def add_case(self, number: int, verdict: Verdict = Verdict.FAIL, *explanations: Explanation) -> str:
        """Put a case on record and into the index, as the service's pipeline does; gives its id.

        Cases of lower numbers are asked about first.
        """
        shown = explanations or (
            explanation("invrise-soft", map=hot_spot(0.3 + 0.04 * (number % 10), 0.4)),
            explanation("gradcam"),
        )
        return self.put_case(
            _inspection(number, verdict), self._pictures[number % _PICTURES], shown, _embedding(number, verdict)
        )

    def put_case(
        self,
        inspection: Inspection,
        image: bytes,
        explanations: Sequence[Explanation],
        embedding: NDArray[np.float16],
        agreement: float = math.nan,
    ) -> str:
        """Put a case of any verdict on record and into the index; gives its id."""
        case = Case(
            case_id=case_id(inspection.frame_id, inspection.alias, inspection.model_version),
            kind=_KIND[inspection.verdict],
            inspection=inspection,
            sampling_probability=0.01 if inspection.verdict is Verdict.PASS else 1.0,
            embedding=embedding,
            image_ref=self.record.add_image(image),
        )
        explained = ExplainedCase(case, tuple(explanations), inspection.decided_at_ns + 2_000_000_000, agreement)
        self.record.add_case(explained)
        self.index.add_cases([queued_case(explained, *image_size_px(image))])
        kept = self._intake.of_case(case)
        assert kept is not None
        self._intake.put([kept])
        return case.case_id

    def add_frame(self, number: int, verdict: Verdict = Verdict.PASS) -> str:
        """Let the line inspect a part that becomes no case; gives the id that its case would have.

        What the model sees in parts of near numbers and of one verdict is similar.
        """
        seen = _inspection(number, verdict)
        frame = Frame(
            frame_id=seen.frame_id,
            part_id=seen.part_id,
            line_id=seen.line_id,
            camera_id=seen.camera_id,
            product=seen.product,
            sequence=seen.sequence,
            captured_at_ns=seen.captured_at_ns,
            image=self._pictures[number % _PICTURES],
        )
        seen = replace(seen, position=self.broker.append(topics.FRAMES, key=b"cam-1", value=encode_frame(frame)))
        kept = self._intake.of_frame(FrameEmbedding(seen, _embedding(number, verdict)))
        assert kept is not None
        self._intake.put([kept])
        return kept.case_id


def _embedding(number: int, verdict: Verdict) -> NDArray[np.float16]:
    away = 0.01 * number
    seen = [1.0, 0.3 if verdict is Verdict.PASS else 0.0, np.sin(away), np.cos(away)]
    return np.array(seen, np.float16)


def _inspection(number: int, verdict: Verdict) -> Inspection:
    frame_id = derive_frame_id("cam-1", f"item-{number}", 0, START_NS + number)
    return Inspection(
        frame_id=frame_id,
        part_id=f"part-{number:04d}",
        line_id="line-1",
        camera_id="cam-1",
        product=PRODUCTS[0],
        sequence=number + 1,
        captured_at_ns=START_NS + number * 1_000_000_000,
        decided_at_ns=START_NS + number * 1_000_000_000 + 40_000_000,
        verdict=verdict,
        reason=Reason.UNSURE if verdict is Verdict.REVIEW else Reason.SCORE,
        score=_SCORE[verdict],
        operating_point=OperatingPoint(0.62, 0.55, 0.68),
        uncertainty=0.5,
        alias="default",
        model_version=3,
        defect_class="scratch" if verdict is not Verdict.PASS else "",
    )


def image_size_px(image: bytes) -> tuple[int, int]:
    """Width and height of a picture of this station."""
    from services.core.review_mask import upright_size_px

    return upright_size_px(image)
