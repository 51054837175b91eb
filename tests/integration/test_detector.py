"""The detector as a process: calls, versions, probes and its end, on the real protocols."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sightline.v1 import detector_service_pb2, detector_service_pb2_grpc, events_pb2

from services.adapters.triton import TritonControl
from services.core.preprocessing import Preprocessing
from services.core.types import Verdict
from services.local.member import fetch
from tests.support.detector_line import make_frame, picture
from tests.support.detector_process import (
    SIDE_PX,
    DetectorProcess,
    Output,
    Servers,
    eventually,
    promote,
    publish,
    shadow,
    store_version,
    tiny_manifest,
)
from tests.support.toy_triton import write_toy_model

pytestmark = [pytest.mark.integration]

GOOD, BAD = picture(10), picture(250)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    servers = Servers(tmp_path_factory.mktemp("detector"))
    try:
        servers.start()
        yield servers
    finally:
        servers.stop()


@pytest.fixture(scope="module")
def detector(servers: Servers) -> Iterator[DetectorProcess]:
    detector = DetectorProcess(servers, INSPECT_MAX_WAITING="2", SHADOW__MAX_PER_S="1000").start()
    yield detector
    detector.stop()


@pytest.fixture
def output(servers: Servers) -> Iterator[Output]:
    output = Output(servers.kafka)
    yield output
    output.close()


@pytest.fixture
def channel(detector: DetectorProcess) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{detector.grpc_port}") as channel:
        yield channel


@pytest.fixture
def stub(channel: grpc.Channel) -> detector_service_pb2_grpc.DetectorServiceStub:
    return detector_service_pb2_grpc.DetectorServiceStub(channel)


def request(image: bytes = BAD, **fields: object) -> detector_service_pb2.InspectRequest:
    return detector_service_pb2.InspectRequest(image=image, **fields)  # type: ignore[arg-type]


def test_inspect_answers_with_verdict_probabilities_and_embedding(
    stub: detector_service_pb2_grpc.DetectorServiceStub,
) -> None:
    answer = stub.Inspect(request(part_id="p-1", product="disc", with_embedding=True), timeout=10)

    assert answer.inspection.verdict == events_pb2.VERDICT_FAIL
    assert answer.inspection.score == pytest.approx(250 / 255, abs=1e-4)
    assert (answer.inspection.part_id, answer.inspection.alias, answer.inspection.model_version) == (
        "p-1",
        "default",
        1,
    )
    assert list(answer.classes) == ["good", "defect"]
    assert list(answer.probabilities) == pytest.approx([5 / 255, 250 / 255], abs=1e-3)
    assert list(answer.embedding) == pytest.approx([250.0] * 3, abs=0.1)


@pytest.mark.parametrize(
    ("image", "fields", "what"),
    [
        (b"no image", {}, "JPEG"),
        (b"", {}, "must not be empty"),
        (GOOD, {"part_id": "../x"}, "part_id"),
        (GOOD, {"product": "a b"}, "product"),
    ],
)
def test_a_call_that_breaks_a_rule_is_an_invalid_argument(
    stub: detector_service_pb2_grpc.DetectorServiceStub, image: bytes, fields: dict[str, str], what: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.Inspect(request(image, **fields), timeout=10)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT  # type: ignore[attr-defined]
    assert what in caught.value.details()  # type: ignore[attr-defined]


def test_health_and_probes_say_that_it_serves(detector: DetectorProcess, channel: grpc.Channel) -> None:
    eventually("ready", detector.ready)
    health = health_pb2_grpc.HealthStub(channel)
    for name in ("", "sightline.v1.DetectorService"):
        answer = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    assert fetch(detector.ops_port, "/livez")[0] == 200
    text = fetch(detector.ops_port, "/metrics")[1].decode()
    assert 'sightline_detector_live_version{alias="default"} ' in text
    assert "sightline_build_info" in text


def test_a_shadow_scores_beside_the_live_version_and_when_it_goes_no_verdict_is_lost(
    servers: Servers, detector: DetectorProcess, output: Output, tmp_path: Path
) -> None:
    camera = "cam-shadow"
    frames = [make_frame(number, BAD if number % 2 else GOOD, camera=camera) for number in range(120)]
    first, second, third = frames[:20], frames[20:100], frames[100:]
    write_toy_model(servers.folder / "repository", "default-v9", size=SIDE_PX, scale=0.5)
    store_version(
        servers.connection, tiny_manifest(9, preprocessing=Preprocessing("squash", SIDE_PX, SIDE_PX)), tmp_path / "v9"
    )
    shadow(servers.kafka, 9)
    servers.load_model("default-v9")
    eventually("the shadow scores", lambda: detector.metric("sightline_detector_shadow_version") == 9)

    publish(servers.kafka, first)
    output.wait_for_frames(first)
    eventually("a record for each frame", lambda: len(output.read().shadows(camera)) == 20)
    beside = {item.shadow.frame_id: item for item in output.shadows(camera)}
    for live in output.verdicts(camera):
        said = beside[live.frame_id]
        assert (said.live_verdict, said.live_score, said.live_version) == (live.verdict, live.score, 1)
        assert (said.shadow.model_version, said.shadow.score) == (9, pytest.approx(live.score / 2, abs=1e-4))
        assert said.shadow.verdict is (Verdict.REVIEW if live.verdict is Verdict.FAIL else Verdict.PASS)
    assert len(output.cases(camera)) == 10, "of the live version's FAIL alone"

    sender = threading.Thread(target=publish, args=(servers.kafka, second))
    sender.start()
    servers.unload_model("default-v9")
    sender.join()
    output.wait_for_frames(second)
    publish(servers.kafka, third)
    said_once = output.wait_for_frames(frames)
    assert len(said_once) == 120
    assert max(said_once.values()) == 1
    assert {item.model_version for item in output.verdicts(camera)} == {1}
    assert [item.verdict for item in sorted(output.verdicts(camera), key=lambda item: item.sequence)] == [
        Verdict.FAIL if number % 2 else Verdict.PASS for number in range(120)
    ]
    assert detector.ready()

    shadow(servers.kafka, 0)
    eventually("the end of the shadow", lambda: detector.log_lines("no longer in the shadow") != [])
    assert detector.metric("sightline_detector_swaps_total") == 0


def test_while_triton_is_away_a_caller_is_told_and_beyond_the_bound_turned_away(
    servers: Servers, detector: DetectorProcess, stub: detector_service_pb2_grpc.DetectorServiceStub
) -> None:
    servers.triton.kill()
    codes: list[grpc.StatusCode] = []

    def call(timeout_s: float) -> None:
        try:
            stub.Inspect(request(), timeout=timeout_s)
        except grpc.RpcError as error:
            codes.append(error.code())  # type: ignore[attr-defined]

    callers = [threading.Thread(target=call, args=(10,)) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()

    assert len(codes) == 8
    assert set(codes) <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert grpc.StatusCode.UNAVAILABLE in codes
    servers.triton.start()
    servers.load_model()
    eventually("answers again", lambda: _answers(stub))


def _answers(stub: detector_service_pb2_grpc.DetectorServiceStub) -> bool:
    try:
        return bool(stub.Inspect(request(), timeout=5).inspection.model_version)
    except grpc.RpcError:
        return False


def test_a_promotion_under_load_loses_nothing_and_each_verdict_names_its_version(
    servers: Servers, detector: DetectorProcess, output: Output, tmp_path: Path
) -> None:
    camera = "cam-promotion"
    first = [make_frame(number, GOOD, camera=camera) for number in range(200)]
    second = [make_frame(number, GOOD, camera=camera) for number in range(200, 400)]
    write_toy_model(servers.folder / "repository", "default-v2", size=SIDE_PX, scale=0.5)
    store_version(
        servers.connection, tiny_manifest(2, preprocessing=Preprocessing("squash", SIDE_PX, SIDE_PX)), tmp_path / "v2"
    )
    publish(servers.kafka, first)
    promote(servers.kafka, 2)
    output.wait_for_frames(first)
    assert {item.model_version for item in output.verdicts(camera)} == {1}, "not warm yet: the old version answers"

    sender = threading.Thread(target=publish, args=(servers.kafka, second))
    sender.start()
    control = TritonControl(servers.triton.grpc_url)
    control.load("default-v2", 30.0)
    control.close()
    sender.join()
    said = output.wait_for_frames([*first, *second])
    eventually("the flip", lambda: detector.metric("sightline_detector_swaps_total") == 1)
    last = make_frame(999, GOOD, camera=camera)
    publish(servers.kafka, [last])
    output.wait_for_frames([last])

    assert len({frame_id for frame_id, _, _ in said}) == 400
    assert max(said.values()) == 1
    versions = {item.sequence: item.model_version for item in output.verdicts(camera)}
    assert versions[1000] == 2
    scores = [item.score for item in output.verdicts(camera) if item.model_version == 2]
    assert scores == pytest.approx([10 / 255 / 2] * len(scores), abs=1e-4)


def test_sigterm_mid_stream_finishes_commits_and_leaves_with_0(
    servers: Servers, detector: DetectorProcess, output: Output
) -> None:
    camera = "cam-drain"
    frames = [make_frame(number, BAD, camera=camera) for number in range(600)]
    first = DetectorProcess(servers, "first", KAFKA__GROUP="drain").start()
    publish(servers.kafka, frames)
    first.wait_for_verdicts(50)

    assert first.stop() == 0, first.log[-2000:]

    assert first.log_lines("draining")
    assert first.log_lines("drained")
    output.read()
    second = DetectorProcess(servers, "second", KAFKA__GROUP="drain").start()

    def of_both_groups() -> dict[str, int]:
        output.read()
        counts: dict[str, int] = {}
        for item in output.verdicts(camera):
            counts[item.frame_id] = counts.get(item.frame_id, 0) + 1
        return counts

    # The module's own detector says each frame once, and the two of this group once between them.
    eventually("all said twice", lambda: list(of_both_groups().values()) == [2] * 600, 40)
    time.sleep(0.5)
    assert max(of_both_groups().values()) == 2, "what was committed is not said again"
    assert second.stop() == 0


def test_wrong_settings_are_all_told_and_end_it_with_2(servers: Servers) -> None:
    detector = DetectorProcess(servers, "wrong", AUDIT_SHARE="2", BATCH__MAX_FRAMES="0").start(ready=False)
    eventually("it ends", lambda: detector.process.returncode is not None)
    assert detector.process.returncode == 2
    assert "SIGHTLINE_AUDIT_SHARE" in detector.log
    assert "SIGHTLINE_BATCH__MAX_FRAMES" in detector.log


def test_sigterm_while_it_waits_for_kafka_ends_it_with_0(servers: Servers) -> None:
    detector = DetectorProcess(servers, "early", KAFKA__BOOTSTRAP_SERVERS="127.0.0.1:9").start(ready=False)
    eventually("it waits", lambda: bool(detector.log_lines("waiting for")), 40)
    assert fetch(detector.ops_port, "/livez")[0] == 200
    assert fetch(detector.ops_port, "/readyz")[0] == 503
    assert detector.stop() == 0, detector.log[-2000:]
