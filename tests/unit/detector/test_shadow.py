"""The version in the shadow: it scores what has its verdict, is recorded, and harms nothing."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from services.adapters.memory import MemoryRecordWriter
from services.adapters.ports import InferenceResult
from services.core import topics
from services.core.errors import InvalidInputError, ModelFailedError, UnavailableError
from services.core.preprocessing import Preprocessing
from services.core.types import ImageRef, OperatingPoint, Reason, RecordPosition, Verdict
from services.detector import outputs
from services.detector.settings import ShadowSettings
from services.runtime import metrics
from tests.support.detector_line import SIDE_PX, Line, brightness_scores, make_frame, picture, wait_until

GOOD, UNSURE, BAD = picture(10), picture(128), picture(250)
LIVE, SHADOW = "default-v1", "default-v2"
#: A shadow for which what the live version is unsure of is bad.
STRICT = OperatingPoint(threshold=0.2, review_low=0.1, review_high=0.3)


@pytest.fixture
def line() -> Iterator[Line]:
    line = Line()
    line.add_version(1)
    line.add_version(2, operating_point=STRICT)
    line.promote(1)
    yield line
    line.stop()


def counted(outcome: str, model: str = SHADOW) -> float:
    return metrics.DETECTOR_SHADOW_FRAMES.labels(model, outcome)._value.get()


def ready(version: int = 2, alias: str = "default") -> bool:
    return bool(metrics.DETECTOR_SHADOW_VERSION.labels(alias)._value.get() == version)


def start(line: Line, version: int = 2, **settings: Any) -> Any:
    """A detector whose shadow scores."""
    line.shadow(version)
    metrics.DETECTOR_SHADOW_VERSION.labels("default").set(0)
    detector = line.start(shadow=ShadowSettings(**{"max_per_s": 1000.0} | settings))
    wait_until(lambda: ready(version), "the shadow scores")
    return detector


def wait_for_shadows(line: Line, count: int) -> list[Any]:
    wait_until(lambda: len(line.shadows) >= count, f"{count} records of the shadow")
    return line.shadows


def test_the_shadow_says_of_each_frame_what_it_would_have_said_beside_the_live_verdict(line: Line) -> None:
    start(line)
    line.send(make_frame(0, GOOD), make_frame(1, UNSURE), make_frame(2, BAD))

    said = {item.shadow.part_id: item for item in wait_for_shadows(line, 3)}

    live = {item.part_id: item for item in line.wait_for_verdicts(3)}
    assert [live[f"part-{n}"].verdict for n in range(3)] == [Verdict.PASS, Verdict.REVIEW, Verdict.FAIL]
    assert {item.model_version for item in live.values()} == {1}
    grey = said["part-1"]
    assert (grey.shadow.verdict, grey.shadow.reason) == (Verdict.FAIL, Reason.SCORE)
    assert (grey.live_verdict, grey.live_version, grey.live_score) == (Verdict.REVIEW, 1, live["part-1"].score)
    assert (grey.shadow.alias, grey.shadow.model_version, grey.shadow.operating_point) == ("default", 2, STRICT)
    assert (grey.shadow.frame_id, grey.shadow.position) == (live["part-1"].frame_id, live["part-1"].position)
    assert (grey.shadow.defect_class, grey.detail) == ("hole", "")
    assert {record.key for record in line.broker.records(topics.SHADOW)} == {b"part-0", b"part-1", b"part-2"}
    assert len(line.cases) == 2, "of the live verdicts REVIEW and FAIL, and none of the shadow's"
    assert len(line.verdicts) == 3


def test_the_shadow_uses_the_live_versions_input_where_it_is_the_same(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.detector.shadow.rows_of", None)
    start(line)
    line.send(make_frame(0, BAD))
    (said,) = wait_for_shadows(line, 1)
    assert (said.detail, said.shadow.timings.decode_ms) == ("", 0)
    assert said.shadow.timings.infer_ms > 0


def test_the_shadow_prepares_the_image_its_own_way(line: Line) -> None:
    line.add_version(3, preprocessing=Preprocessing("tiles", 16, 16, overlap=0.0))
    ref = line.store.put("frames/a.png", BAD)
    start(line, version=3)
    line.send(make_frame(0, GOOD), make_frame(1, ImageRef(ref.bucket, ref.key, ref.size_bytes, ref.sha256)))

    said = {item.shadow.part_id: item.shadow for item in wait_for_shadows(line, 2)}

    assert said["part-0"].score == pytest.approx(10 / 255, abs=1e-4)
    assert said["part-1"].score == pytest.approx(250 / 255, abs=1e-4)
    assert said["part-1"].timings.decode_ms > 0
    assert said["part-1"].timings.fetch_ms > 0
    assert said["part-1"].image_ref is not None
    assert line.shadow_inference.calls == [("default-v3", 4)] * 2, "four tiles of each frame, frame by frame"
    assert {name for name, _ in line.inference.calls} == {LIVE}


def test_a_share_of_frames_is_drawn_by_frame_id(line: Line) -> None:
    frames = [make_frame(number, GOOD) for number in range(60)]
    drawn = {frame.frame_id for frame in frames if outputs.is_drawn(frame.frame_id, 0.3, b"shadow")}
    assert 0 < len(drawn) < 60
    start(line, share=0.3, max_waiting_frames=100)
    line.send(*frames)
    said = {item.shadow.frame_id for item in wait_for_shadows(line, len(drawn))}
    line.wait_for_verdicts(60)
    assert said == drawn
    assert drawn != {frame.frame_id for frame in frames if outputs.is_drawn(frame.frame_id, 0.3)}, "not the audit's"


def test_a_frame_that_is_read_again_gives_a_record_of_the_same_identity() -> None:
    line = Line(partitions=1)
    line.add_version(1)
    line.add_version(2)
    line.promote(1)
    first = start(line)
    first.consumer.commit = lambda _offsets: None
    line.send(make_frame(0, BAD))
    wait_for_shadows(line, 1)
    first.crash()
    line.detectors.clear()
    start(line)
    try:
        once, again = wait_for_shadows(line, 2)
    finally:
        line.stop()
    assert _identity(once) == _identity(again)
    assert (once.shadow.score, once.live_verdict) == (again.shadow.score, again.live_verdict)


def _identity(said: Any) -> tuple[str, str, int]:
    return said.shadow.frame_id, said.shadow.alias, said.shadow.model_version


def test_more_frames_a_second_than_allowed_are_left_out_and_counted(line: Line) -> None:
    before = counted("over_rate")
    start(line, max_per_s=0.001)
    line.send(*(make_frame(number, GOOD) for number in range(20)))
    line.wait_for_verdicts(20)
    wait_until(lambda: counted("over_rate") == before + 19, "all but one left out")
    assert len(wait_for_shadows(line, 1)) == 1


def test_live_verdicts_do_not_wait_for_a_shadow_that_hangs(line: Line) -> None:
    before = counted("queue_full"), counted("failed")
    start(line, max_waiting_frames=2, timeout_s=0.1)
    line.shadow_inference.holding = True
    line.send(*(make_frame(number, GOOD) for number in range(20)))

    assert {item.model_version for item in line.wait_for_verdicts(20, timeout_s=3)} == {1}
    wait_until(lambda: line.committed() == 20, "all committed")
    wait_until(lambda: counted("queue_full") > before[0], "frames that found no room")
    wait_until(lambda: counted("failed") > before[1], "the wait given up")
    said = line.shadows[0]
    assert (said.shadow.verdict, said.shadow.reason) == (Verdict.REVIEW, Reason.UNSURE)
    assert (said.live_verdict, said.shadow.model_version) == (Verdict.PASS, 2)
    assert math.isnan(said.shadow.score)
    assert "within 0.1 s" in said.detail
    assert len(line.shadow_inference.calls) == 1, "it rests, and nothing is asked again"


def test_a_shadow_that_fails_is_left_alone_for_a_while_and_then_asked_again(line: Line) -> None:
    failing = threading.Event()
    failing.set()

    def fails(name: str, images: np.ndarray) -> InferenceResult:
        if failing.is_set():
            raise ModelFailedError("out of memory")
        return brightness_scores(name, images)

    line.shadow_inference._function = fails
    before = counted("not_ready") + counted("failed")
    detector = start(line)
    line.send(*(make_frame(number, BAD) for number in range(12)))

    assert {item.verdict for item in line.wait_for_verdicts(12)} == {Verdict.FAIL}
    wait_until(lambda: line.committed() == 12, "all committed")
    wait_until(lambda: counted("not_ready") + counted("failed") == before + 12, "the others left out")
    asked = len(line.shadow_inference.calls)
    assert {failed.detail for failed in line.shadows} == {"model_failed: out of memory"}
    assert len(line.shadows) == asked < 4, "no frame twice, and most never"
    assert detector.health.ready

    failing.clear()
    wait_until(ready, "the shadow scores again")
    line.send(make_frame(12, BAD))
    wait_until(lambda: any(not item.detail for item in line.shadows), "an answer")
    assert len(line.shadow_inference.calls) == asked + 1


def test_an_image_that_the_shadow_refuses_is_recorded_and_no_reason_to_rest(line: Line) -> None:
    def refuses_grey(name: str, images: np.ndarray) -> InferenceResult:
        if images.max() == 128:
            raise InvalidInputError("grey is refused")
        return brightness_scores(name, images)

    line.shadow_inference._function = refuses_grey
    start(line)
    line.send(make_frame(0, UNSURE), make_frame(1, BAD))

    said = {item.shadow.part_id: item for item in wait_for_shadows(line, 2)}

    refused = said["part-0"]
    assert (refused.shadow.verdict, refused.shadow.reason) == (Verdict.REVIEW, Reason.UNREADABLE_IMAGE)
    assert refused.detail == "invalid_input: grey is refused"
    assert (said["part-1"].shadow.verdict, said["part-1"].detail) == (Verdict.FAIL, "")


def test_a_shadow_that_is_not_warm_is_not_asked_until_it_is(line: Line) -> None:
    line.add_version(3, loaded=False)
    line.shadow(3)
    before = counted("not_ready", "default-v3")
    line.start(shadow=ShadowSettings(max_per_s=1000))
    line.send(make_frame(0, GOOD))
    line.wait_for_verdicts(1)
    wait_until(lambda: counted("not_ready", "default-v3") == before + 1, "the frame left out")
    assert not line.shadow_inference.calls

    line.triton.loaded.add("default-v3")
    wait_until(lambda: ready(3), "the shadow scores")
    line.send(make_frame(1, GOOD))
    assert [item.shadow.part_id for item in wait_for_shadows(line, 1)] == ["part-1"]


def test_a_shadow_that_was_unloaded_is_no_fact_about_a_frame(line: Line) -> None:
    before = counted("failed")
    start(line)
    line.triton.loaded.discard(SHADOW)
    line.send(make_frame(0, GOOD))
    wait_until(lambda: counted("failed") == before + 1, "the question in vain")
    assert line.wait_for_verdicts(1)[0].verdict is Verdict.PASS
    assert line.shadows == []


def test_scoring_moves_with_the_state_of_the_alias_and_ends_with_it(line: Line) -> None:
    line.add_version(3)
    detector = start(line)
    line.send(make_frame(0, GOOD))
    wait_for_shadows(line, 1)

    line.shadow(3)
    wait_until(lambda: ready(3), "the next shadow scores")
    line.send(make_frame(1, GOOD))
    wait_for_shadows(line, 2)

    line.shadow(0)
    wait_until(lambda: ready(0), "the end of the shadow")
    line.send(make_frame(2, GOOD))
    line.wait_for_verdicts(3)
    wait_until(lambda: line.committed() == 3, "all committed")

    assert {item.shadow.part_id: item.shadow.model_version for item in line.shadows} == {"part-0": 2, "part-1": 3}
    assert detector.deployments.shadow_version("default") == 0
    assert [name for name, _ in line.shadow_inference.calls] == [SHADOW, "default-v3"]


def test_an_answer_that_comes_after_the_end_of_the_shadow_is_not_recorded(line: Line) -> None:
    before = counted("ended")
    start(line)
    line.shadow_inference.holding = True
    line.send(make_frame(0, GOOD), make_frame(1, GOOD))
    wait_until(lambda: bool(line.shadow_inference.calls), "the question")
    assert len(line.wait_for_verdicts(2)) == 2
    line.shadow(0)
    wait_until(lambda: counted("ended") == before + 2, "both frames dropped")
    line.shadow_inference.release()
    assert line.shadows == []


def test_a_shadow_that_became_live_is_not_compared_with_itself(line: Line) -> None:
    detector = start(line)
    line.promote(2)
    wait_until(lambda: detector.deployments.live("default").version == 2, "the flip")
    line.shadow(2)
    wait_until(lambda: detector.deployments.shadow_version("default") == 2, "the state that names it")
    line.send(make_frame(0, GOOD))
    assert line.wait_for_verdicts(1)[0].model_version == 2
    wait_until(lambda: line.committed() == 1, "all committed")
    assert not line.shadow_inference.calls


def test_a_frame_that_no_model_saw_and_a_callers_image_are_not_scored(line: Line) -> None:
    detector = start(line)
    line.send(make_frame(0, b"no picture"))
    assert line.wait_for_verdicts(1)[0].model_version == 0
    assert detector.pipeline.inspect(make_frame(1, BAD)).result(5).inspection.verdict is Verdict.FAIL
    line.send(make_frame(2, BAD))
    assert [item.shadow.part_id for item in wait_for_shadows(line, 1)] == ["part-2"]
    assert len(line.shadow_inference.calls) == 1


def test_what_cannot_be_written_is_left_out_and_holds_nothing_up(line: Line) -> None:
    class NoShadowTopic(MemoryRecordWriter):
        def send(self, topic: str, **rest: Any) -> Future[RecordPosition]:
            if topic != topics.SHADOW:
                return super().send(topic, **rest)
            if rest["key"] == b"part-0":
                raise UnavailableError("no such topic")
            refused: Future[RecordPosition] = Future()
            refused.set_exception(UnavailableError("not acknowledged"))
            return refused

    line.writer = NoShadowTopic(line.broker)
    before = counted("unwritten"), counted("answered")
    detector = start(line)
    line.send(*(make_frame(number, BAD) for number in range(5)))
    assert len(line.wait_for_verdicts(5)) == 5
    wait_until(lambda: line.committed() == 5, "all committed")
    wait_until(lambda: counted("unwritten") == before[0] + 5, "five not written")
    assert counted("answered") == before[1]
    assert detector.health.ready


def test_an_image_that_is_gone_is_left_out(line: Line) -> None:
    line.add_version(3, preprocessing=Preprocessing("squash", 16, 16))
    ref = line.store.put("frames/a.png", BAD)
    before = counted("no_image", "default-v3")
    start(line, version=3)
    fetched = threading.Semaphore(1)
    get = line.store.get

    def get_once(key: str, **rest: Any) -> bytes:
        if not fetched.acquire(blocking=False):
            raise UnavailableError("object store must answer in time, got no answer")
        return get(key, **rest)

    line.store.get = get_once  # type: ignore[method-assign]
    line.send(make_frame(0, ref))
    assert line.wait_for_verdicts(1)[0].verdict is Verdict.FAIL
    wait_until(lambda: counted("no_image", "default-v3") == before + 1, "the frame left out")
    assert line.shadows == []


def test_a_fault_of_the_shadows_own_ends_nothing(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.detector.shadow.outputs.shadow_judged", None)
    detector = start(line)
    line.send(*(make_frame(number, BAD) for number in range(3)))
    assert len(line.wait_for_verdicts(3)) == 3
    wait_until(lambda: line.committed() == 3, "all committed")
    assert detector.error is None
    assert detector.health.ready


def test_agreement_is_counted_by_both_verdicts(line: Line) -> None:
    counter = metrics.DETECTOR_SHADOW_VERDICTS.labels(SHADOW, "review", "fail")
    before = counter._value.get()
    start(line)
    line.send(make_frame(0, UNSURE))
    wait_until(lambda: counter._value.get() == before + 1, "the pair counted")


def test_a_detector_stops_at_once_while_its_shadow_hangs(line: Line) -> None:
    detector = start(line, timeout_s=60)
    line.shadow_inference.holding = True
    line.send(make_frame(0, GOOD))
    line.wait_for_verdicts(1)
    wait_until(lambda: bool(line.shadow_inference.calls), "the question")
    started_s = time.monotonic()
    detector.pipeline.close()
    assert time.monotonic() - started_s < 2


def test_a_panel_in_the_shadow_that_is_split_asks_a_person(line: Line) -> None:
    def split(name: str, images: np.ndarray) -> InferenceResult:
        told = brightness_scores(name, images)
        return replace(told, disagreement=np.full(len(images), 0.8, np.float32))

    line.shadow_inference._function = split
    start(line)
    line.send(make_frame(0, BAD))
    (said,) = wait_for_shadows(line, 1)
    assert (said.shadow.verdict, said.shadow.reason) == (Verdict.REVIEW, Reason.DISAGREEMENT)
    assert said.live_verdict is Verdict.FAIL
    assert said.shadow.disagreement == pytest.approx(0.8)


def test_the_sizes_of_what_waits_are_bounded() -> None:
    from services.detector.job import Deployment
    from services.detector.shadowqueue import Pace, ShadowedFrame, ShadowQueue

    deployment = Deployment("default", 2, Preprocessing("squash", SIDE_PX, SIDE_PX), STRICT)
    live: Any = None
    queue = ShadowQueue(max_frames=3, max_bytes=100)
    assert queue.put(ShadowedFrame(deployment, live, image=b"x" * 150)), "one larger frame may wait alone"
    assert not queue.put(ShadowedFrame(deployment, live, image=b"x"))
    assert queue.get(0) is not None
    assert queue.put(ShadowedFrame(deployment, live, rows=np.zeros((1, 5, 4, 3), np.uint8)))
    assert not queue.put(ShadowedFrame(deployment, live, image=b"x" * 41))
    assert queue.put(ShadowedFrame(deployment, live, image=b"x" * 40))
    assert queue.put(ShadowedFrame(deployment, live))
    assert not queue.put(ShadowedFrame(deployment, live))
    queue.close()
    assert (queue.get(1), len(queue), queue.put(ShadowedFrame(deployment, live))) == (None, 0, False)

    now_s = 0.0
    pace = Pace(2.0, lambda: now_s)
    assert [pace.allows() for _ in range(3)] == [True, True, False]
    now_s = 0.5
    assert [pace.allows() for _ in range(2)] == [True, False]
    now_s = 100.0
    assert [pace.allows() for _ in range(3)] == [True, True, False]
