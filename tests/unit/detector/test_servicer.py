"""``Inspect``: bounds and deadlines."""

from __future__ import annotations

import threading
from concurrent.futures import Future

import numpy as np
import pytest
from sightline.v1 import detector_service_pb2

from services.core.errors import BusyError, DeadlineError, InvalidInputError, UnavailableError
from services.core.identity import validate_frame_id
from services.core.types import Frame, Inspection, OperatingPoint, Reason, Verdict
from services.detector.job import Answer
from services.detector.servicer import DetectorServicer

POINT = OperatingPoint(0.5, 0.4, 0.6)


class Pipeline:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.futures: list[Future[Answer]] = []

    def inspect(self, frame: Frame) -> Future[Answer]:
        self.frames.append(frame)
        self.futures.append(Future())
        return self.futures[-1]


class Context:
    def __init__(self, remaining_s: float | None) -> None:
        self._remaining_s = remaining_s

    def time_remaining(self) -> float | None:
        return self._remaining_s


def answer(frame: Frame) -> Answer:
    inspection = Inspection(
        frame.frame_id, frame.part_id, frame.line_id, frame.camera_id, frame.product, 1, 1, 2,
        Verdict.PASS, Reason.SCORE, 0.1, POINT, 0.2, "default", 3,
    )  # fmt: skip
    return Answer(inspection, ("good", "bad"), np.array([0.9, 0.1], np.float32), np.array([1.0, 2.0], np.float32))


@pytest.fixture
def pipeline() -> Pipeline:
    return Pipeline()


@pytest.fixture
def servicer(pipeline: Pipeline) -> DetectorServicer:
    return DetectorServicer(pipeline, max_waiting=2, timeout_s=5.0, clock_ns=lambda: 1_790_000_000_000_000_000)


def request(**fields: object) -> detector_service_pb2.InspectRequest:
    return detector_service_pb2.InspectRequest(**{"image": b"image", **fields})  # type: ignore[arg-type]


def test_the_answer_carries_the_embedding_only_when_asked_for(pipeline: Pipeline, servicer: DetectorServicer) -> None:
    def reply() -> None:
        while not pipeline.futures:
            pass
        pipeline.futures[-1].set_result(answer(pipeline.frames[-1]))

    for asked, expected in ((False, []), (True, [1.0, 2.0])):
        pipeline.futures.clear()
        thread = threading.Thread(target=reply)
        thread.start()
        told = servicer.Inspect(request(with_embedding=asked), Context(5.0))  # type: ignore[arg-type]
        thread.join()
        assert list(told.embedding) == expected
        assert list(told.classes) == ["good", "bad"]
        assert told.inspection.model_version == 3


def test_each_call_is_a_frame_of_its_own_with_a_valid_id(pipeline: Pipeline, servicer: DetectorServicer) -> None:
    for _ in range(2):
        with pytest.raises(DeadlineError):
            servicer.Inspect(request(product="weld"), Context(0.0))  # type: ignore[arg-type]
    first, second = pipeline.frames
    assert validate_frame_id(first.frame_id) != validate_frame_id(second.frame_id)
    assert (first.part_id, first.product, first.image) == (first.frame_id, "weld", b"image")


def test_a_caller_whose_deadline_passes_is_told_and_waited_for_no_more(
    pipeline: Pipeline, servicer: DetectorServicer
) -> None:
    with pytest.raises(DeadlineError, match=r"within the caller's 0\.0"):
        servicer.Inspect(request(), Context(0.01))  # type: ignore[arg-type]
    assert pipeline.futures[0].cancelled()


def test_more_callers_than_may_wait_are_turned_away_at_once(pipeline: Pipeline, servicer: DetectorServicer) -> None:
    started = threading.Barrier(3)

    def wait() -> None:
        started.wait()
        servicer.Inspect(request(), Context(5.0))  # type: ignore[arg-type]

    threads = [threading.Thread(target=wait) for _ in range(2)]
    for thread in threads:
        thread.start()
    started.wait()
    while len(pipeline.futures) < 2:
        pass
    with pytest.raises(BusyError, match="at most 2 callers"):
        servicer.Inspect(request(), Context(5.0))  # type: ignore[arg-type]
    for future, frame in zip(pipeline.futures, pipeline.frames, strict=True):
        future.set_result(answer(frame))
    for thread in threads:
        thread.join()
    with pytest.raises(DeadlineError):
        servicer.Inspect(request(), Context(0.0))  # type: ignore[arg-type]  # a place is free again


def test_what_goes_wrong_in_the_pipeline_reaches_the_caller(pipeline: Pipeline, servicer: DetectorServicer) -> None:
    failed: Future[Answer] = Future()
    failed.set_exception(UnavailableError("Triton must answer, it does not"))
    pipeline.inspect = lambda _frame: failed  # type: ignore[method-assign]
    with pytest.raises(UnavailableError):
        servicer.Inspect(request(), Context(None))  # type: ignore[arg-type]


@pytest.mark.parametrize("fields", [{"image": b""}, {"part_id": "a/b"}, {"product": ".."}])
def test_a_request_that_breaks_a_rule_is_refused(servicer: DetectorServicer, fields: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError):
        servicer.Inspect(request(**fields), Context(1.0))  # type: ignore[arg-type]
