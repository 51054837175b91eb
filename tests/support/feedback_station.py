"""A feedback service in this process: the real one over gRPC, on a store in memory and an index in a file."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from sightline.v1 import feedback_service_pb2, feedback_service_pb2_grpc

from services.adapters.caseindex import SqlCaseIndex
from services.adapters.caserecord import CaseRecord, queued_case
from services.adapters.feedbackclient import FeedbackClient
from services.adapters.memory import MemoryBroker, MemoryObjectStore, MemoryRecordWriter
from services.core.identity import case_id, derive_frame_id
from services.core.imaging import encode_jpeg
from services.core.simulation.line import PRODUCTS, draw_part
from services.core.types import (
    Case,
    CaseKind,
    ExplainedCase,
    Explanation,
    Inspection,
    OperatingPoint,
    Reason,
    Verdict,
)
from services.feedback.publisher import ReviewPublisher
from services.feedback.reviewing import Reviewing
from services.feedback.servicer import FeedbackServicer
from services.runtime.grpc_server import GrpcServer
from services.runtime.lifecycle import Health
from services.runtime.settings import GrpcSettings
from tests.support.explained import explanation, hot_spot

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
        self.client = FeedbackClient(f"127.0.0.1:{self._port}")

    def start(self) -> None:
        """Serve; after :meth:`kill` at the same port."""
        self.index = SqlCaseIndex(self._url)
        self._publisher = ReviewPublisher(self.index, MemoryRecordWriter(self.broker))
        reviewing = Reviewing(self.index, self.record, max_mask_bytes=8_000_000, on_taken=self._publisher.wake)
        servicer = FeedbackServicer(self.index, self.record, reviewing, claim_s=120)
        self._server = GrpcServer(GrpcSettings(port=self._port), Health())
        name = feedback_service_pb2.DESCRIPTOR.services_by_name["FeedbackService"].full_name
        self._server.add(feedback_service_pb2_grpc.add_FeedbackServiceServicer_to_server, servicer, name)
        self._server.start()
        self._port = self._server.port
        self._publisher.start()

    def kill(self) -> None:
        """Stop serving at once; what is on record stays."""
        self._server.stop(0)
        self._publisher.close()
        self.index.close()

    def close(self) -> None:
        """End everything."""
        self.client.close()
        self.kill()

    def add_case(self, number: int, verdict: Verdict = Verdict.FAIL, *explanations: Explanation) -> str:
        """Put a case on record and into the index, as the service's pipeline does; gives its id.

        Cases of lower numbers are asked about first.
        """
        shown = explanations or (
            explanation("invrise-soft", map=hot_spot(0.3 + 0.04 * (number % 10), 0.4)),
            explanation("gradcam"),
        )
        frame_id = derive_frame_id("cam-1", f"item-{number}", 0, START_NS + number)
        inspection = Inspection(
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
        image = self._pictures[number % _PICTURES]
        case = Case(
            case_id=case_id(frame_id, "default", 3),
            kind=_KIND[verdict],
            inspection=inspection,
            sampling_probability=0.01 if verdict is Verdict.PASS else 1.0,
            embedding=np.arange(8, dtype=np.float16),
            image_ref=self.record.add_image(image),
        )
        explained = ExplainedCase(case, tuple(shown), inspection.decided_at_ns + 2_000_000_000, math.nan)
        self.record.add_case(explained)
        self.index.add_cases([queued_case(explained, *image_size_px(image))])
        return case.case_id


def image_size_px(image: bytes) -> tuple[int, int]:
    """Width and height of a picture of this station."""
    from services.core.review_mask import upright_size_px

    return upright_size_px(image)
