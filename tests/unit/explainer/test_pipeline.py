"""Cases in, explained cases out, on ports in memory."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from services.adapters import codec
from services.adapters.ports import ExplanationRequest, ExplanationStep
from services.core import topics
from services.core.errors import ExplanationError, InvalidInputError, ModelFailedError, UnavailableError
from services.core.imaging import encode_png
from services.core.preprocessing import Preprocessing
from services.core.types import CaseKind, ExplanationStatus, ImageRef
from services.explainer.explaining import evidence_of
from services.explainer.job import explanation_of
from services.explainer.settings import PolicySettings
from services.runtime import metrics
from services.runtime.settings import LimitSettings
from tests.support.detector_line import wait_until
from tests.support.explainer_line import Line, brightness_maps, make_case, picture, step

IMAGE = picture(spot=(20, 6))


@pytest.fixture
def line() -> Iterator[Line]:
    line = Line()
    line.add_version(1)
    yield line
    line.stop()


def reasons(line: Line, number: int = 0) -> list[str]:
    return [each.reason for each in line.explained[number].explanations]


# ---- what is said


def test_a_flagged_case_comes_out_with_two_graded_maps_that_agree(line: Line) -> None:
    line.start()
    grades = [metrics.EXPLAINER_GRADES.labels("gradcam", letter) for letter in "ABCD"]
    before = sum(each._value.get() for each in grades)
    case = make_case(0, IMAGE)
    line.send(case, headers=[("traceparent", b"00-1"), ("other", b"x")])
    explained = line.wait_for(1)[0]

    assert codec.encode_case(explained.case) == codec.encode_case(case)
    first, second = explained.explanations
    assert (first.method, second.method) == (PolicySettings().fail[0], "gradcam")
    assert first.status is second.status is ExplanationStatus.DONE
    assert first.map.shape == (32, 32)
    hottest = np.unravel_index(np.nanargmax(first.map), first.map.shape)
    assert 20 <= hottest[0] < 24
    assert 6 <= hottest[1] < 10
    assert first.grade is not None
    assert 0 < first.trust <= 1
    assert (first.probability, first.coverage) == (pytest.approx(float(first.map.mean()), abs=1e-2), 1.0)
    assert first.passes > second.passes == 1
    assert math.isnan(second.stability)
    assert explained.agreement == 1.0
    assert first.target_class == ""
    assert (first.scale_low, first.scale_high) == (0.0, 0.0), "nothing is calibrated here"
    record = line.broker.records(topics.EXPLAINED)[0]
    assert record.key == b"cam-1"
    assert record.headers == (("traceparent", b"00-1"),)
    wait_until(lambda: line.committed() == 1, "the case is committed")
    assert sum(each._value.get() for each in grades) == before + 1


def test_a_grade_takes_into_account_which_method_the_map_is_of() -> None:
    values = np.arange(16, dtype=np.float16).reshape(4, 4)
    told = explanation_of("gradcam", step(values), values, seed=0)
    evidence = evidence_of(told, 0.5)
    assert (evidence.method, evidence.agreement) == ("gradcam", 0.5)
    assert evidence.transplant == told.transplant


def test_the_version_that_gave_the_verdict_is_asked(line: Line) -> None:
    line.add_version(7)
    line.start()
    line.send(make_case(0, IMAGE, version=7))
    line.wait_for(1)
    assert {name for name, _ in line.client.calls} == {"explain-default-v7"}


def test_audited_parts_get_what_policy_says_also_nothing(line: Line) -> None:
    line.start(policy={"audit": ()})
    line.send(make_case(0, IMAGE, kind=CaseKind.AUDIT))
    assert line.wait_for(1)[0].explanations == ()
    assert line.client.calls == []


def test_a_replay_says_the_same(line: Line) -> None:
    first = line.start()
    line.send(make_case(0, IMAGE))
    line.wait_for(1)
    first.crash()
    for partition in line.broker.partitions(topics.CASES):
        line.broker.commit("explainer", {partition: 0})
    line.start()
    one, two = line.wait_for(2)
    assert one.case.case_id == two.case.case_id
    for mine, other in zip(one.explanations, two.explanations, strict=True):
        assert (mine.seed, mine.method) == (other.seed, other.method)
        np.testing.assert_array_equal(mine.map, other.map)


def test_a_case_twice_is_said_once(line: Line) -> None:
    line.start()
    line.send(make_case(0, IMAGE), make_case(0, IMAGE), make_case(1, IMAGE))
    wait_until(lambda: line.committed() == 3, "all three are committed")
    assert [each.case.inspection.part_id for each in line.explained] == ["part-0", "part-1"]


def test_a_camera_s_cases_keep_their_order_with_several_workers(line: Line) -> None:
    line.start(workers=4)
    line.send(*[make_case(number, IMAGE, camera=f"cam-{number % 3}") for number in range(24)])
    line.wait_for(24)
    for camera in range(3):
        mine = [each.case.inspection for each in line.explained if each.case.inspection.camera_id == f"cam-{camera}"]
        assert [each.sequence for each in mine] == sorted(each.sequence for each in mine)


def test_an_image_that_would_make_the_record_too_large_goes_by_reference(line: Line) -> None:
    noise = encode_png(np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8))
    line.start(limits=LimitSettings(inline_limit_bytes=len(noise) + 1_000))
    line.send(make_case(0, noise))
    case = line.wait_for(1)[0].case
    assert case.image is None
    assert case.image_ref is not None
    assert case.image_ref.key.startswith("cases/line-1/cam-1/")
    assert line.store.get(case.image_ref.key) == noise


def test_of_tiles_the_worst_is_explained_and_lies_where_it_was_cut(line: Line) -> None:
    line.add_version(2, preprocessing=Preprocessing("tiles", 32, 32, overlap=0.0))
    line.start()
    line.send(make_case(0, picture(spot=(10, 70), width_px=96), version=2))
    first = line.wait_for(1)[0].explanations[0]
    assert first.map.shape == (32, 96)
    assert np.isfinite(first.map[:, 66:]).all()
    assert np.isnan(first.map[:, :62]).all()
    assert 68 <= np.nanargmax(first.map) % 96 <= 74
    assert first.coverage == 1.0, "of what the model looked at"


# ---- what cannot be explained is said, and nothing is lost


def test_a_version_that_the_store_no_longer_has_is_gone_at_once(line: Line) -> None:
    line.start(model_wait_s=60.0)
    line.send(make_case(0, IMAGE, version=9), make_case(1, IMAGE))
    line.wait_for(2)
    assert reasons(line) == ["model_gone", "model_gone"]
    assert all(each.map.size == 0 and each.detail for each in line.explained[0].explanations)
    assert reasons(line, 1) == ["", ""]


def test_a_model_that_is_not_loaded_is_waited_for_within_bounds(line: Line) -> None:
    line.add_version(2, loaded=False)
    line.start(model_wait_s=0.2)
    line.send(make_case(0, IMAGE, version=2), make_case(1, IMAGE, version=2))
    line.wait_for(2)
    assert reasons(line) == reasons(line, 1) == ["model_gone", "model_gone"]
    assert "explain-default-v2" in line.explained[0].explanations[0].detail


def test_a_model_that_comes_while_it_is_waited_for_explains(line: Line) -> None:
    line.add_version(2, loaded=False)
    line.start(model_wait_s=60.0)
    line.send(make_case(0, IMAGE, version=2))
    wait_until(lambda: len(line.client.calls) >= 1, "it was asked for")
    assert not line.explained
    line.triton.loaded.add("explain-default-v2")
    line.wait_for(1)
    assert reasons(line) == ["", ""]


def refusing(reason: str, method: str) -> object:
    def explain(name: str, image: NDArray[np.uint8], request: ExplanationRequest) -> Iterable[ExplanationStep]:
        if request.method == method:
            raise ExplanationError(f"refused for {reason}", reason)
        return brightness_maps(name, image, request)

    return explain


def test_a_model_without_layers_for_a_method_keeps_its_other_map(line: Line) -> None:
    line.client._function = refusing("no_conv_layers", "gradcam")  # type: ignore[assignment]
    line.start()
    line.send(make_case(0, IMAGE), make_case(1, IMAGE))
    explained = line.wait_for(2)
    for each in explained:
        assert [one.reason for one in each.explanations] == ["", "no_conv_layers"]
        assert math.isnan(each.agreement)
    asked = [request.method for _, request in line.client.calls]
    assert asked.count("gradcam") == 1, "what no image can change is asked once"


def test_while_cases_pile_up_a_model_without_conv_layers_still_gets_a_map(line: Line) -> None:
    line.client._function = refusing("no_conv_layers", "gradcam")  # type: ignore[assignment]
    for number in range(6):
        line.send(make_case(number, IMAGE))
    line.start(policy={"fast_above_cases": 1, "fast_passes": 16}, max_in_flight_cases=8)
    explained = line.wait_for(6)
    first = explained[0].explanations
    assert [(each.method, each.reason) for each in first] == [
        ("gradcam", "no_conv_layers"),
        (PolicySettings().fail[0], ""),
    ]
    assert first[1].passes == 16


def test_scores_that_are_not_finite_are_a_reason(line: Line) -> None:
    line.client._function = refusing("nan_scores", "gradcam")  # type: ignore[assignment]
    line.start()
    line.send(make_case(0, IMAGE))
    line.wait_for(1)
    assert reasons(line) == ["", "nan_scores"]


def test_a_map_that_is_flat_or_undefined_is_no_map(line: Line) -> None:
    def explain(_name: str, image: NDArray[np.uint8], request: ExplanationRequest) -> Iterable[ExplanationStep]:
        value = math.nan if request.method == "gradcam" else 0.5
        yield step(np.full(image.shape[:2], value, np.float32))

    line.client._function = explain
    line.start()
    line.send(make_case(0, IMAGE))
    line.wait_for(1)
    assert reasons(line) == ["flat_map", "undefined_map"]


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (encode_png(np.zeros((32, 32, 3), np.uint8)), "blank_image"),
        (IMAGE[:-40], "image_truncated"),
        (b"no image", "image_unsupported"),
        (ImageRef("sightline", "frames/none.png", 10, "0" * 64), "image_missing"),
        (ImageRef("elsewhere", "frames/none.png", 10, "0" * 64), "image_invalid"),
    ],
)
def test_an_image_that_shows_nothing_or_is_none_is_a_reason(line: Line, image: bytes | ImageRef, reason: str) -> None:
    line.start()
    line.send(make_case(0, image))
    line.wait_for(1)
    assert reasons(line) == [reason, reason]


def test_a_verdict_that_no_model_gave_says_so(line: Line) -> None:
    line.start()
    line.send(make_case(0, b"broken", kind=CaseKind.REVIEW, version=0, detail="image_truncated: it ends early"))
    line.wait_for(1)
    assert reasons(line) == ["no_model", "no_model"]
    assert line.explained[0].explanations[0].detail == "image_truncated: it ends early"
    assert line.client.calls == []


def test_a_record_that_is_no_case_is_a_dead_letter(line: Line) -> None:
    line.start()
    line.broker.append(topics.CASES, key=b"cam-1", value=b"\xff\xff")
    line.send(make_case(0, IMAGE))
    line.wait_for(1)
    letter = line.dead_letters[0]
    assert letter.value == b"\xff\xff"
    assert dict(letter.headers)["reason"] == b"event_undecodable"
    wait_until(lambda: line.committed() == 2, "both are committed")


# ---- when something is away


def test_while_triton_is_away_cases_are_kept_and_partitions_pause(line: Line) -> None:
    line.triton.live = False
    explainer = line.start()
    line.send(*[make_case(number, IMAGE) for number in range(3)])
    wait_until(lambda: explainer.paused == [True], "partitions are paused")
    assert not explainer.health.ready
    assert not line.explained
    assert line.committed() == 0
    line.triton.live = True
    assert len(line.wait_for(3)) == 3
    assert all(each.explanations[0].reason == "" for each in line.explained)
    wait_until(lambda: explainer.health.ready, "ready again")


def test_what_was_found_before_triton_went_is_not_asked_again(line: Line) -> None:
    away = threading.Event()

    def explain(name: str, image: NDArray[np.uint8], request: ExplanationRequest) -> Iterable[ExplanationStep]:
        if request.method != "gradcam" and not away.is_set():
            away.set()
            line.triton.live = False
            raise UnavailableError("Triton must answer, it went away")
        return brightness_maps(name, image, request)

    line.client._function = explain
    line.start()
    line.send(make_case(0, IMAGE))
    wait_until(away.is_set, "Triton went away")
    line.triton.live = True
    line.wait_for(1)
    asked = [request.method for _, request in line.client.calls]
    assert asked.count("gradcam") == 1
    assert reasons(line) == ["", ""]


def test_while_the_object_store_is_away_cases_wait(line: Line) -> None:
    line.models_away = True
    explainer = line.start()
    line.send(make_case(0, IMAGE))
    wait_until(lambda: explainer.paused == [True], "partitions are paused")
    line.models_away = False
    line.wait_for(1)
    assert reasons(line) == ["", ""]


def test_while_kafka_cannot_be_written_nothing_is_committed_and_then_it_is_said_once(line: Line) -> None:
    line.writer.holding = True
    line.start()
    line.send(make_case(0, IMAGE))
    wait_until(lambda: len(line.explained) == 1, "it was written")
    assert line.committed() == 0
    line.writer.release()
    wait_until(lambda: line.committed() == 1, "it is committed after it was acknowledged")
    assert len(line.explained) == 1


@pytest.mark.parametrize(
    ("error", "reason"), [(ModelFailedError("it broke"), "model_failed"), (UnavailableError("too slow"), "no_answer")]
)
def test_a_case_on_which_the_model_fails_again_and_again_goes_without_that_map(
    line: Line, error: Exception, reason: str
) -> None:
    def explain(name: str, image: NDArray[np.uint8], request: ExplanationRequest) -> Iterable[ExplanationStep]:
        if request.method == "gradcam":
            raise error
        return brightness_maps(name, image, request)

    line.client._function = explain
    line.start(attempts=2)
    line.send(make_case(0, IMAGE))
    line.wait_for(1)
    assert reasons(line) == ["", reason]


def test_an_error_of_our_own_ends_the_service_and_commits_nothing(line: Line) -> None:
    def explain(_name: str, _image: NDArray[np.uint8], _request: ExplanationRequest) -> Iterable[ExplanationStep]:
        raise ZeroDivisionError("a bug")

    line.client._function = explain
    explainer = line.start()
    line.send(make_case(0, IMAGE))
    explainer.thread.join(10)
    assert isinstance(explainer.failure, ZeroDivisionError)
    assert line.committed() == 0
    explainer.failure = None


# ---- lag, drain, leaving


def test_a_backlog_is_worked_off_fast_and_beyond_a_bound_without_maps(line: Line) -> None:
    before = {level: metrics.EXPLAINER_LEVEL.labels(level)._value.get() for level in ("full", "fast", "none")}
    line.send(*[make_case(number, IMAGE) for number in range(40)])
    line.start(policy={"fast_above_cases": 4, "none_above_cases": 20}, max_in_flight_cases=4)
    explained = line.wait_for(40)
    told = {level: metrics.EXPLAINER_LEVEL.labels(level)._value.get() - at for level, at in before.items()}
    assert sum(told.values()) == 40
    assert min(told.values()) > 0, told
    by_level = {"none": 0, "fast": 0, "full": 0}
    for each in explained:
        said = [one.reason for one in each.explanations]
        by_level["none" if said == ["backlog"] * 2 else "fast" if len(said) == 1 else "full"] += 1
    assert by_level == told


def test_a_drain_finishes_what_is_being_explained_and_leaves_the_rest(line: Line) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def explain(name: str, image: NDArray[np.uint8], request: ExplanationRequest) -> Iterable[ExplanationStep]:
        begun.set()
        go_on.wait(10)
        return brightness_maps(name, image, request)

    line.client._function = explain
    explainer = line.start()
    line.send(*[make_case(number, IMAGE) for number in range(5)])
    assert begun.wait(10)
    explainer.shutdown.request()
    wait_until(lambda: explainer.pipeline._draining, "it drains")
    go_on.set()
    explainer.stop()
    assert len(line.explained) == 1
    assert line.committed() == 1
    line.start()
    line.wait_for(5)
    assert len({each.case.case_id for each in line.explained}) == 5


def test_partitions_that_leave_take_their_cases_with_them(line: Line) -> None:
    line.start()
    line.send(*[make_case(number, IMAGE, camera=f"cam-{number}") for number in range(8)])
    line.start()
    line.send(*[make_case(number, IMAGE, camera=f"cam-{number}") for number in range(8, 16)])
    wait_until(lambda: line.committed() == 16, "every case is committed")
    assert {each.case.inspection.part_id for each in line.explained} == {f"part-{number}" for number in range(16)}


def test_after_a_crash_nothing_is_lost(line: Line) -> None:
    first = line.start()
    line.send(*[make_case(number, IMAGE) for number in range(10)])
    wait_until(lambda: len(line.explained) >= 2, "some are explained")
    first.crash()
    line.start()
    wait_until(lambda: line.committed() == 10, "every case is committed")
    assert {each.case.inspection.part_id for each in line.explained} == {f"part-{number}" for number in range(10)}


def test_what_the_model_refuses_about_an_image_is_a_reason(line: Line) -> None:
    def explain(_name: str, _image: NDArray[np.uint8], _request: ExplanationRequest) -> Iterable[ExplanationStep]:
        raise InvalidInputError("IMAGE must have the model's shape")

    line.client._function = explain
    line.start()
    line.send(make_case(0, IMAGE))
    line.wait_for(1)
    assert reasons(line) == ["invalid_input", "invalid_input"]
