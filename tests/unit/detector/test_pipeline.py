"""Frames in, verdicts and cases out, on ports in memory."""

from __future__ import annotations

import gc
import math
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from services.adapters.ports import InferenceResult
from services.core import topics
from services.core.errors import InvalidInputError, ModelFailedError, UnavailableError
from services.core.identity import case_id
from services.core.imaging import encode_png
from services.core.preprocessing import Preprocessing
from services.core.types import CaseKind, ImageRef, Reason, Verdict
from services.detector import pipeline
from services.detector.job import Job
from services.runtime import metrics
from services.runtime.settings import LimitSettings
from tests.support.detector_line import EMBEDDING, SIDE_PX, Line, brightness_scores, make_frame, picture, wait_until

GOOD, UNSURE, BAD = picture(10), picture(128), picture(250)


@pytest.fixture
def line() -> Iterator[Line]:
    line = Line()
    line.add_version(1)
    line.promote(1)
    yield line
    line.stop()


def test_each_frame_gets_the_verdict_of_its_score(line: Line) -> None:
    line.start()
    line.send(make_frame(0, GOOD), make_frame(1, UNSURE), make_frame(2, BAD))

    verdicts = {item.part_id: item for item in line.wait_for_verdicts(3)}

    assert [verdicts[f"part-{n}"].verdict for n in range(3)] == [Verdict.PASS, Verdict.REVIEW, Verdict.FAIL]
    bad = verdicts["part-2"]
    assert bad.score == pytest.approx(250 / 255, abs=1e-4)
    assert (bad.alias, bad.model_version, bad.defect_class) == ("default", 1, "hole")
    assert bad.position is not None
    assert bad.position.topic == topics.FRAMES


def test_a_panel_that_is_split_sends_the_part_to_a_person_and_says_how_far() -> None:
    def split_on_grey(name: str, images: np.ndarray) -> InferenceResult:
        told = brightness_scores(name, images)
        grey = np.abs(told.score - 250 / 255) > 1e-3
        return replace(told, disagreement=np.where(grey, np.float32(2 / 3), np.float32(0)).astype(np.float32))

    line = Line(split_on_grey)
    line.add_version(1)
    line.promote(1)
    line.start()
    try:
        line.send(make_frame(0, GOOD), make_frame(1, UNSURE), make_frame(2, BAD))
        said = {item.part_id: item for item in line.wait_for_verdicts(3)}
        wait_until(lambda: len(line.cases) == 3, "three cases")
    finally:
        line.stop()

    good, unsure, bad = (said[f"part-{number}"] for number in range(3))
    assert (good.verdict, good.reason) == (Verdict.REVIEW, Reason.DISAGREEMENT)
    assert (unsure.verdict, unsure.reason) == (Verdict.REVIEW, Reason.UNSURE)
    assert (bad.verdict, bad.reason) == (Verdict.FAIL, Reason.SCORE)
    assert [one.disagreement for one in (good, unsure, bad)] == pytest.approx([2 / 3, 2 / 3, 0])
    cases = {case.inspection.part_id: case for case in line.cases}
    assert cases["part-0"].kind is CaseKind.REVIEW
    assert cases["part-0"].inspection.disagreement == pytest.approx(2 / 3)


def test_of_several_tiles_the_worst_ones_disagreement_counts(line: Line) -> None:
    def split_on_the_first(name: str, images: np.ndarray) -> InferenceResult:
        told = brightness_scores(name, images)
        return replace(told, disagreement=(told.score < 0.5).astype(np.float32))

    line.inference._function = split_on_the_first
    line.add_version(2, preprocessing=Preprocessing("tiles", SIDE_PX, SIDE_PX, overlap=0.0))
    line.promote(2)
    line.start()
    image = np.full((SIDE_PX, 2 * SIDE_PX, 3), 10, np.uint8)
    image[:, SIDE_PX:] = 250
    line.send(make_frame(0, encode_png(image)))
    (told,) = line.wait_for_verdicts(1)
    assert (told.verdict, told.disagreement) == (Verdict.FAIL, 0)


def test_a_settled_frame_is_let_go_without_the_garbage_collector(line: Line) -> None:
    detector = line.start()
    gc.collect()
    gc.disable()
    try:
        line.send(*(make_frame(number, (GOOD, UNSURE, BAD)[number % 3]) for number in range(60)))
        wait_until(lambda: line.committed() == 60, "60 frames committed")

        def held() -> int:
            return sum(isinstance(item, Job) for item in gc.get_objects())

        # A thread that waits for its next frame still has its last one in hand.
        wait_until(lambda: held() <= detector.settings.decode_threads, "the jobs of settled frames let go")
    finally:
        gc.enable()


def test_fail_and_review_become_cases_with_image_and_embedding(line: Line) -> None:
    line.start()
    line.send(make_frame(0, GOOD), make_frame(1, UNSURE), make_frame(2, BAD))
    line.wait_for_verdicts(3)
    wait_until(lambda: len(line.cases) == 2, "two cases")

    kinds = {case.inspection.part_id: case for case in line.cases}

    assert kinds["part-1"].kind is CaseKind.REVIEW
    assert kinds["part-2"].kind is CaseKind.FAIL
    assert kinds["part-2"].image == BAD
    assert kinds["part-2"].embedding.dtype == np.float16
    assert kinds["part-2"].embedding == pytest.approx(np.full(EMBEDDING, 250 / 255), abs=1e-3)
    assert kinds["part-2"].case_id == case_id(make_frame(2, BAD).frame_id, "default", 1)


def test_what_the_model_saw_is_written_for_each_frame_that_is_no_case(line: Line) -> None:
    line.start()
    line.send(make_frame(0, GOOD), make_frame(1, BAD), make_frame(2, b"no picture"))
    line.wait_for_verdicts(3)
    wait_until(lambda: line.committed() == 3, "3 frames committed")

    (seen,) = line.embeddings
    said = {item.part_id: item for item in line.verdicts}
    assert seen.inspection == said["part-0"]
    assert seen.embedding.dtype == np.float16
    assert seen.embedding == pytest.approx(np.full(EMBEDDING, 10 / 255), abs=1e-3)
    assert line.broker.records(topics.EMBEDDINGS)[0].key == b"cam-1"


def test_a_frame_of_the_audit_sample_carries_what_the_model_saw_in_its_case_alone(line: Line) -> None:
    line.start(audit_share=1.0)
    line.send(make_frame(0, GOOD))
    line.wait_for_verdicts(1)
    wait_until(lambda: line.committed() == 1, "the frame committed")
    assert len(line.cases) == 1
    assert line.embeddings == []


def test_embeddings_can_be_turned_off(line: Line) -> None:
    line.start(embedding_share=0)
    line.send(make_frame(0, GOOD), make_frame(1, BAD))
    line.wait_for_verdicts(2)
    wait_until(lambda: line.committed() == 2, "2 frames committed")
    assert line.embeddings == []
    assert len(line.cases) == 1


def test_of_a_share_of_frames_is_written_what_the_model_saw_drawn_apart_from_the_audit(line: Line) -> None:
    line.start(embedding_share=0.5, audit_share=0.5)
    line.send(*(make_frame(number, GOOD) for number in range(60)))
    line.wait_for_verdicts(60)
    wait_until(lambda: line.committed() == 60, "60 frames committed")
    cases, seen = len(line.cases), len(line.embeddings)
    assert 15 < cases < 45
    # Were it one draw, what is no case would never be drawn.
    assert 5 < seen < 60 - cases


def test_a_model_without_embeddings_writes_none(line: Line) -> None:
    def blind(name: str, images: np.ndarray) -> InferenceResult:
        return replace(brightness_scores(name, images), embedding=np.empty((len(images), 0), np.float32))

    line.inference._function = blind
    line.start()
    line.send(make_frame(0, GOOD))
    line.wait_for_verdicts(1)
    wait_until(lambda: line.committed() == 1, "the frame committed")
    assert line.embeddings == []


def test_an_audit_sample_of_pass_is_drawn_by_frame_id(line: Line) -> None:
    line.start(audit_share=0.5)
    frames = [make_frame(number, GOOD) for number in range(40)]
    line.send(*frames)
    line.wait_for_verdicts(40)
    line.stop()

    first = {case.inspection.frame_id for case in line.cases}

    again = Line()
    again.add_version(1)
    again.promote(1)
    again.start(audit_share=0.5)
    again.send(*frames)
    again.wait_for_verdicts(40)
    again.stop()
    assert {case.inspection.frame_id for case in again.cases} == first
    assert 8 <= len(first) <= 32
    assert all(case.kind is CaseKind.AUDIT and case.sampling_probability == 0.5 for case in line.cases)


def test_verdicts_of_a_camera_keep_its_order_whatever_decodes_first() -> None:
    line = Line()
    line.add_version(1)
    line.promote(1)
    line.start(decode_threads=4)
    large = picture(10, width_px=3000, height_px=3000)
    line.send(*[make_frame(number, large if number % 5 == 0 else GOOD) for number in range(30)])
    assert len(line.wait_for_verdicts(30)) == 30
    line.stop()

    by_partition: dict[int, list[int]] = {}
    for record, verdict in zip(line.broker.records(topics.VERDICTS), line.verdicts, strict=True):
        by_partition.setdefault(record.partition, []).append(verdict.sequence)
    for sequences in by_partition.values():
        assert sequences == sorted(sequences)


def test_everything_is_committed_once_it_is_acknowledged_and_nothing_before(line: Line) -> None:
    line.writer.holding = True
    line.start()
    line.send(*[make_frame(number, GOOD) for number in range(10)])
    line.wait_for_verdicts(10)
    time.sleep(0.1)
    assert line.committed() == 0

    line.writer.release()

    wait_until(lambda: line.committed() == 10, "all offsets committed")


def test_a_frame_sent_twice_is_said_once_and_counted(line: Line) -> None:
    before = metrics.DETECTOR_REPLAYED._value.get()
    line.start()
    line.send(make_frame(0, BAD), make_frame(0, BAD), make_frame(1, GOOD))
    wait_until(lambda: line.committed() == 3, "all offsets committed")

    assert Counter(item.frame_id for item in line.verdicts).most_common(1)[0][1] == 1
    assert len(line.cases) == 1
    assert metrics.DETECTOR_REPLAYED._value.get() == before + 1


def test_an_unusable_image_gives_a_dead_letter_a_verdict_and_a_case(line: Line) -> None:
    line.start()
    line.send(make_frame(0, b"this is no image"), make_frame(1, b""), make_frame(2, GOOD))
    verdicts = {item.part_id: item for item in line.wait_for_verdicts(3)}
    wait_until(lambda: len(line.dead_letters) == 2, "two dead letters")

    torn = verdicts["part-0"]
    assert (torn.verdict, torn.reason, torn.model_version) == (Verdict.REVIEW, Reason.UNREADABLE_IMAGE, 0)
    assert math.isnan(torn.score)
    assert "image_unsupported" in torn.detail
    reasons = {dict(letter.headers)["reason"] for letter in line.dead_letters}
    assert reasons == {b"image_unsupported", b"image_empty"}
    letter = dict(line.dead_letters[0].headers)
    origin = (letter["origin_topic"].decode(), int(letter["origin_partition"]), int(letter["origin_offset"]))
    original = next(
        record
        for record in line.broker.records(topics.FRAMES)
        if (record.topic, record.partition, record.offset) == origin
    )
    assert line.dead_letters[0].value == original.value
    cases = [case for case in line.cases if case.inspection.model_version == 0]
    assert len(cases) == 2
    assert all(case.kind is CaseKind.REVIEW and case.embedding.size == 0 for case in cases)
    wait_until(lambda: line.committed() == 3, "all offsets committed")


def test_an_unknown_protobuf_gives_a_dead_letter_only(line: Line) -> None:
    line.start()
    line.broker.append(topics.FRAMES, key=b"cam-1", value=b"\xff\xff not a frame")
    line.send(make_frame(0, GOOD))

    line.wait_for_verdicts(1)
    wait_until(lambda: line.committed() == 2, "both offsets committed")

    assert len(line.dead_letters) == 1
    assert dict(line.dead_letters[0].headers)["reason"] == b"event_undecodable"
    assert len(line.verdicts) == 1


def test_an_image_by_reference_is_fetched_and_its_case_refers_to_it(line: Line) -> None:
    ref = line.store.put("frames/line-1/cam-1/x.png", BAD)
    line.start()
    line.send(make_frame(0, ref))
    line.wait_for_verdicts(1)
    wait_until(lambda: len(line.cases) == 1, "the case")

    assert line.verdicts[0].image_ref == ref
    assert line.verdicts[0].position is None
    assert line.cases[0].image_ref == ref
    assert line.cases[0].image is None


def test_a_reference_to_nothing_is_a_missing_image_after_a_while(line: Line) -> None:
    line.start()
    line.send(make_frame(0, ImageRef("sightline", "frames/gone.png", 10, "0" * 64)), make_frame(1, GOOD))

    verdicts = {item.part_id: item for item in line.wait_for_verdicts(2)}

    assert verdicts["part-0"].reason is Reason.UNREADABLE_IMAGE
    assert dict(line.dead_letters[0].headers)["reason"] == b"image_missing"


def test_an_image_that_comes_late_is_found(line: Line) -> None:
    line.start(image_missing_wait_s=10.0)
    late = ImageRef("sightline", "frames/late.png", len(GOOD), "")
    expected = line.store.put("elsewhere", GOOD)
    line.send(make_frame(0, ImageRef("sightline", late.key, len(GOOD), expected.sha256)))
    line.store.put(late.key, GOOD)

    assert line.wait_for_verdicts(1)[0].verdict is Verdict.PASS


def test_an_object_that_was_replaced_is_not_judged(line: Line) -> None:
    ref = line.store.put("frames/x.png", GOOD)
    line.store.put("frames/x.png", BAD)
    line.start()
    line.send(make_frame(0, ref))

    verdict = line.wait_for_verdicts(1)[0]

    assert verdict.reason is Reason.UNREADABLE_IMAGE
    assert "digest" in verdict.detail


def test_a_case_too_large_with_its_image_goes_by_reference(line: Line) -> None:
    line.start(limits=LimitSettings(inline_limit_bytes=300))
    line.send(make_frame(0, BAD))
    line.wait_for_verdicts(1)
    wait_until(lambda: len(line.cases) == 1, "the case")

    ref = line.cases[0].image_ref
    assert ref is not None
    assert ref.key.startswith("cases/line-1/cam-1/")
    assert ref.key.endswith(f"{make_frame(0, BAD).frame_id}.png")
    assert line.store.get(ref.key) == BAD


def test_nothing_is_lost_while_triton_is_away(line: Line) -> None:
    detector = line.start()
    line.send(make_frame(0, GOOD))
    line.wait_for_verdicts(1)
    line.triton.live = False
    line.send(*[make_frame(number, GOOD) for number in range(1, 30)])
    wait_until(lambda: True in detector.paused, "partitions are paused")
    assert not detector.health.ready
    assert detector.consumer.assignment(), "the place in the group is kept"
    assert len(line.verdicts) == 1
    assert line.committed() <= 1

    line.triton.live = True

    assert len(line.wait_for_verdicts(30)) == 30
    wait_until(lambda: line.committed() == 30, "all offsets committed")
    wait_until(lambda: detector.health.ready, "ready again")


def test_a_model_that_triton_lost_in_a_restart_is_waited_for(line: Line) -> None:
    line.start()
    line.triton.restart()
    line.send(make_frame(0, GOOD))
    time.sleep(0.1)
    assert not line.verdicts

    line.triton.loaded.add("default-v1")

    assert line.wait_for_verdicts(1)[0].model_version == 1


def test_nothing_is_lost_while_the_object_store_is_away(line: Line) -> None:
    refs = [line.store.put(f"frames/{number}.png", GOOD) for number in range(20)]
    detector = line.start()
    line.store.unavailable = True
    line.send(*[make_frame(number, ref) for number, ref in enumerate(refs)])
    wait_until(lambda: True in detector.paused, "partitions are paused")
    assert not line.verdicts

    line.store.unavailable = False

    assert len(line.wait_for_verdicts(20)) == 20
    wait_until(lambda: line.committed() == 20, "all offsets committed")


def test_nothing_is_lost_while_nothing_can_be_written(line: Line) -> None:
    detector = line.start()
    line.send(make_frame(0, GOOD))
    line.wait_for_verdicts(1)
    refuse = line.writer.send

    def away(topic: str, **_: object) -> object:
        raise UnavailableError("the broker must answer, it does not")

    line.writer.send = away  # type: ignore[method-assign, assignment]
    line.send(*[make_frame(number, GOOD) for number in range(1, 20)])
    wait_until(lambda: True in detector.paused, "partitions are paused")
    wait_until(lambda: not detector.health.ready, "not ready")
    line.writer.send = refuse  # type: ignore[method-assign]

    assert {item.part_id for item in line.wait_for_verdicts(20)} == {f"part-{number}" for number in range(20)}
    wait_until(lambda: line.committed() == 20, "all offsets committed")


def test_the_version_flips_at_a_batch_boundary_once_it_is_warm_everywhere(line: Line) -> None:
    detector = line.start()
    line.send(make_frame(0, GOOD))
    assert line.wait_for_verdicts(1)[0].model_version == 1
    line.add_version(2, loaded=False)
    line.promote(2)
    line.send(make_frame(1, GOOD))
    verdicts = line.wait_for_verdicts(2)
    assert {item.model_version for item in verdicts} == {1}, "the old version answers until the new one is warm"

    line.triton.loaded.add("default-v2")
    wait_until(lambda: detector.deployments.live("default").version == 2, "the flip")  # type: ignore[union-attr]
    line.send(make_frame(2, GOOD))

    assert {item.part_id: item.model_version for item in line.wait_for_verdicts(3)}["part-2"] == 2
    assert {name for name, _ in line.inference.calls} == {"default-v1", "default-v2"}


def test_frames_of_a_version_that_was_unloaded_are_prepared_for_the_one_that_answers(line: Line) -> None:
    detector = line.start()
    line.inference.holding = True
    line.send(make_frame(0, GOOD))
    wait_until(lambda: bool(line.inference.calls), "the request")
    line.add_version(2, preprocessing=Preprocessing("squash", 16, 16))
    line.promote(2)
    wait_until(lambda: detector.deployments.live("default").version == 2, "the flip")  # type: ignore[union-attr]
    line.triton.loaded.discard("default-v1")
    line.inference.release()

    assert line.wait_for_verdicts(1)[0].model_version == 2


def test_without_a_live_version_frames_wait_and_the_place_is_kept() -> None:
    line = Line()
    detector = line.start()
    line.send(*[make_frame(number, GOOD) for number in range(5)])
    wait_until(lambda: True in detector.paused, "partitions are paused")
    assert not detector.health.ready
    assert detector.consumer.assignment()

    line.add_version(1)
    line.promote(1)

    assert len(line.wait_for_verdicts(5)) == 5
    wait_until(lambda: detector.health.ready, "ready")
    line.stop()


def test_products_are_scored_by_their_own_alias(line: Line) -> None:
    line.add_version(7, alias="welds")
    line.promote(7, alias="welds")
    line.start(alias_by_product={"weld": "welds"})
    line.send(make_frame(0, GOOD), make_frame(1, GOOD, product="weld"))

    verdicts = {item.part_id: item for item in line.wait_for_verdicts(2)}

    assert (verdicts["part-0"].alias, verdicts["part-0"].model_version) == ("default", 1)
    assert (verdicts["part-1"].alias, verdicts["part-1"].model_version) == ("welds", 7)


def test_tiles_of_a_frame_are_rows_and_the_worst_one_speaks(line: Line) -> None:
    line.add_version(2, preprocessing=Preprocessing("tiles", 32, 32, overlap=0.0))
    line.promote(2)
    line.start()
    image = np.full((32, 320, 3), 10, np.uint8)
    image[:, 288:] = 250
    line.send(make_frame(0, encode_png(image)))

    verdict = line.wait_for_verdicts(1)[0]

    assert verdict.verdict is Verdict.FAIL
    assert verdict.score == pytest.approx(250 / 255, abs=1e-3)
    assert sum(rows for _, rows in line.inference.calls) == 10
    assert max(rows for _, rows in line.inference.calls) <= 4, "no request exceeds the limit"


def test_one_frame_that_the_model_refuses_does_not_take_its_batch_mates_with_it() -> None:
    def picky(name: str, images: np.ndarray) -> InferenceResult:
        if (images.reshape(len(images), -1).mean(axis=1) > 200).any():
            raise InvalidInputError("the model must like the image, it does not")
        return brightness_scores(name, images)

    line = Line(picky)
    line.add_version(1)
    line.promote(1)
    line.start()
    line.send(*[make_frame(number, BAD if number == 3 else GOOD) for number in range(8)])

    verdicts = {item.part_id: item for item in line.wait_for_verdicts(8)}

    assert verdicts["part-3"].reason is Reason.UNREADABLE_IMAGE
    assert sum(item.verdict is Verdict.PASS for item in verdicts.values()) == 7
    line.stop()


def test_a_frame_on_which_the_model_fails_every_time_does_not_stop_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "_ATTEMPTS_ALONE", 4)

    def breaks_on_white(name: str, images: np.ndarray) -> InferenceResult:
        if (images.reshape(len(images), -1).mean(axis=1) > 200).any():
            raise ModelFailedError("the model must answer, it raised an exception")
        return brightness_scores(name, images)

    line = Line(breaks_on_white)
    line.add_version(1)
    line.promote(1)
    line.start()
    line.send(*[make_frame(number, BAD if number == 3 else GOOD) for number in range(12)])

    verdicts = {item.part_id: item for item in line.wait_for_verdicts(12, 20.0)}

    assert verdicts["part-3"].reason is Reason.UNREADABLE_IMAGE
    assert "model_failed" in verdicts["part-3"].detail
    assert sum(item.verdict is Verdict.PASS for item in verdicts.values()) == 11
    wait_until(lambda: line.committed() == 12, "all offsets committed")
    line.stop()


def test_a_verdict_says_whether_it_was_in_time(line: Line) -> None:
    line.start()
    now_ns = time.time_ns()
    line.send(
        make_frame(0, GOOD, cycle_time_ms=60_000, captured_at_ns=now_ns),
        make_frame(1, GOOD, cycle_time_ms=500, captured_at_ns=now_ns - 1_000_000_000),
        make_frame(2, GOOD, cycle_time_ms=0, captured_at_ns=now_ns - 1_000_000_000),
    )

    verdicts = {item.part_id: item.in_time for item in line.wait_for_verdicts(3)}

    assert verdicts == {"part-0": True, "part-1": False, "part-2": True}


def test_a_crash_before_the_commit_repeats_the_same_ids() -> None:
    line = Line()
    line.add_version(1)
    line.promote(1)
    first = line.start()
    line.writer.holding = True
    line.send(*[make_frame(number, BAD) for number in range(10)])
    line.wait_for_verdicts(10)
    first.crash()
    line.writer.release()
    assert line.committed() == 0

    second = line.start()
    line.wait_for_verdicts(20)

    ids = Counter((item.frame_id, item.alias, item.model_version) for item in line.verdicts)
    assert len(ids) == 10
    assert set(ids.values()) == {2}
    wait_until(lambda: len(line.cases) == 20, "cases again")
    assert len({case.case_id for case in line.cases}) == 10
    second.stop()


def test_two_detectors_share_the_group_and_one_leaves() -> None:
    line = Line(partitions=4)
    line.add_version(1)
    line.promote(1)
    one, two = line.start(), line.start()
    wait_until(lambda: one.consumer.assignment() and two.consumer.assignment(), "both have partitions")
    cameras = [f"cam-{number}" for number in range(8)]
    line.send(*[make_frame(number, GOOD, camera=camera) for camera in cameras for number in range(10)])
    line.wait_for_verdicts(40)
    one.stop()
    line.send(*[make_frame(number, GOOD, camera=camera) for camera in cameras for number in range(10, 20)])
    wait_until(lambda: line.committed() == 160, "all offsets committed")

    assert len({item.frame_id for item in line.verdicts}) == 160
    assert len(line.verdicts) == 160
    two.stop()


def test_the_trace_context_of_a_frame_goes_on_into_what_is_said_of_it(line: Line) -> None:
    parent = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    line.start()
    line.send(make_frame(0, BAD), headers=[("traceparent", parent), ("other", b"x")])

    verdict = line.wait_for_verdicts(1)[0]

    assert verdict.trace_id == "0af7651916cd43dd8448eb211c80319c"
    record = line.broker.records(topics.VERDICTS)[0]
    assert list(record.headers) == [("traceparent", parent)]


def test_in_flight_frames_are_bounded(line: Line) -> None:
    line.inference.holding = True
    detector = line.start(max_in_flight_frames=8)
    line.send(*[make_frame(number, GOOD) for number in range(50)])
    wait_until(lambda: True in detector.paused, "partitions are paused")
    assert metrics.DETECTOR_IN_FLIGHT._value.get() <= 8 + 2

    line.inference.release()

    assert len(line.wait_for_verdicts(50)) == 50


def test_an_inspection_on_request_takes_the_same_path_and_writes_nothing(line: Line) -> None:
    detector = line.start()

    answer = detector.pipeline.inspect(make_frame(0, BAD)).result(5)

    assert answer.inspection.verdict is Verdict.FAIL
    assert answer.probabilities == pytest.approx([1 - 250 / 255, 0.25 * 250 / 255, 0.75 * 250 / 255], abs=1e-3)
    assert not line.verdicts
    assert not line.cases


def test_a_caller_is_told_of_a_bad_image_and_of_triton_being_away(line: Line) -> None:
    detector = line.start()
    with pytest.raises(InvalidInputError):
        detector.pipeline.inspect(make_frame(0, b"no image")).result(5)
    line.triton.live = False
    with pytest.raises(UnavailableError):
        detector.pipeline.inspect(make_frame(0, GOOD)).result(5)


def test_draining_finishes_what_was_taken_and_commits_it(line: Line) -> None:
    detector = line.start()
    line.send(*[make_frame(number, GOOD) for number in range(40)])
    line.wait_for_verdicts(5)

    detector.stop()

    assert detector.error is None
    assert line.committed() == len(line.verdicts)
    assert len({item.frame_id for item in line.verdicts}) == len(line.verdicts)
