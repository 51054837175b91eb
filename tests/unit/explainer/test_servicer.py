"""``Explain``: maps that become better, bounds, and an end when the caller is gone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from sightline.v1 import events_pb2, explainer_service_pb2, explainer_service_pb2_grpc

from services.adapters.codec_explained import explanation_from_message
from services.adapters.ports import ExplanationRequest, ExplanationStep
from services.core.errors import ExplanationError
from services.core.imaging import encode_png
from services.core.types import ExplanationStatus
from services.explainer.policy import seed_of
from services.explainer.servicer import ExplainerServicer
from services.runtime.grpc_server import GrpcServer
from services.runtime.lifecycle import Health
from services.runtime.settings import GrpcSettings
from tests.support.detector_line import wait_until
from tests.support.explainer_line import Line, RunningExplainer, brightness_maps, make_case, picture, step

IMAGE = picture(spot=(20, 6))
FRAME = make_case(0, IMAGE).inspection.frame_id


class Served:
    """The service on a real port."""

    def __init__(self) -> None:
        self.line = Line()
        self.line.add_version(1)
        self.explainer = RunningExplainer(self.line, explain_max_waiting=2)
        self.server = GrpcServer(GrpcSettings(port=0), Health())
        parts = self.explainer
        servicer = ExplainerServicer(parts.settings, parts.versions, parts.asking, parts.scales)
        self.server.add(explainer_service_pb2_grpc.add_ExplainerServiceServicer_to_server, servicer, "Explainer")
        self.server.start()
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.server.port}")
        self.stub = explainer_service_pb2_grpc.ExplainerServiceStub(self.channel)

    def ask(self, **fields: object) -> object:
        told = {"image": IMAGE, "alias": "default", "model_version": 1, "frame_id": FRAME, **fields}
        return self.stub.Explain(explainer_service_pb2.ExplainRequest(**told), timeout=20)  # type: ignore[arg-type]

    def refusal(self, **fields: object) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.RpcError) as caught:
            list(self.ask(**fields))  # type: ignore[call-overload]
        return caught.value.code(), caught.value.details()


@pytest.fixture
def served() -> Iterator[Served]:
    served = Served()
    yield served
    served.channel.close()
    served.server.stop(1.0)


def test_maps_become_better_and_the_last_one_is_graded(served: Served) -> None:
    answers = list(served.ask(method="rise"))  # type: ignore[call-overload]
    assert [answer.final for answer in answers] == [False, True]
    first, last = (explanation_from_message(answer.explanation) for answer in answers)
    assert (first.status, last.status) == (ExplanationStatus.PARTIAL, ExplanationStatus.DONE)
    assert first.passes < last.passes
    assert first.grade is None
    assert last.grade is not None
    assert last.seed == seed_of(FRAME, "rise")
    assert served.line.broker.records("sightline.explained.v1") == []


def test_the_default_method_is_the_one_that_cases_show_first(served: Served) -> None:
    (*_, last) = served.ask()  # type: ignore[misc]
    assert last.explanation.method == served.explainer.settings.policy.fail[0]


def test_budget_and_target_are_the_caller_s(served: Served) -> None:
    list(served.ask(method="rise", max_passes=96, budget_ms=700, target_class="hole"))  # type: ignore[call-overload]
    asked = served.line.client.calls[-1][1]
    assert (asked.max_passes, asked.budget_ms, asked.target) == (96, 700, 2)
    assert asked.steps


def test_without_a_frame_the_image_seeds_the_masks(served: Served) -> None:
    for _ in range(2):
        list(served.ask(frame_id="", method="rise"))  # type: ignore[call-overload]
    one, two = (request.seed for _, request in served.line.client.calls)
    assert one == two != seed_of(FRAME, "rise")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"image": b""}, "image must not be empty"),
        ({"image": b"no image"}, "JPEG"),
        ({"alias": ""}, "alias must be"),
        ({"model_version": 0}, "model_version must be at least 1"),
        ({"method": "telepathy"}, "method must be one of"),
        ({"target_class": "crack"}, "target_class must be one of the version's (good, scratch, hole)"),
        ({"max_passes": -1}, "max_passes must lie in 0..100000"),
        ({"budget_ms": 60_001}, "budget_ms must lie in 0..60000"),
        ({"frame_id": "frame"}, "frame_id"),
    ],
)
def test_what_breaks_a_rule_is_refused(served: Served, fields: dict[str, object], told: str) -> None:
    code, details = served.refusal(**fields)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert told in details


def test_a_version_that_does_not_exist_or_is_not_loaded_is_not_found(served: Served) -> None:
    assert served.refusal(model_version=9)[0] is grpc.StatusCode.NOT_FOUND
    served.line.add_version(2, loaded=False)
    assert served.refusal(model_version=2)[0] is grpc.StatusCode.NOT_FOUND


def test_triton_away_is_unavailable(served: Served) -> None:
    served.line.triton.live = False
    assert served.refusal()[0] is grpc.StatusCode.UNAVAILABLE


def test_what_cannot_be_explained_ends_the_stream_with_the_reason(served: Served) -> None:
    def explain(_name: str, _image: NDArray[np.uint8], _request: ExplanationRequest) -> Iterable[ExplanationStep]:
        raise ExplanationError("it has none", "no_conv_layers")

    served.line.client._function = explain
    (answer,) = served.ask(method="gradcam")  # type: ignore[misc]
    assert answer.final
    assert answer.explanation.status == events_pb2.EXPLANATION_STATUS_FAILED
    assert answer.explanation.reason == "no_conv_layers"
    (answer,) = served.ask(image=encode_png(np.zeros((32, 32, 3), np.uint8)))  # type: ignore[misc]
    assert answer.explanation.reason == "blank_image"


def endless(gate: threading.Event) -> Callable[..., Iterable[ExplanationStep]]:
    def explain(_name: str, image: NDArray[np.uint8], _request: ExplanationRequest) -> Iterable[ExplanationStep]:
        values = image.mean(axis=2) / 255
        while True:
            yield step(values, final=False, stability=0.1)
            gate.wait(0.01)

    return explain


def test_a_caller_that_hangs_up_ends_the_work(served: Served) -> None:
    served.line.client._function = endless(threading.Event())
    call = served.ask(method="rise")
    next(call)  # type: ignore[call-overload]
    call.cancel()  # type: ignore[attr-defined]
    wait_until(lambda: served.line.client.closed_early == 1, "the work was given up")


def test_only_so_many_callers_may_wait_at_once(served: Served) -> None:
    served.line.client._function = endless(threading.Event())
    calls = [served.ask(method="rise") for _ in range(2)]
    for call in calls:
        next(call)  # type: ignore[call-overload]
    code, details = served.refusal(method="rise")
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "at most 2 callers" in details
    for call in calls:
        call.cancel()  # type: ignore[attr-defined]
    wait_until(lambda: served.line.client.closed_early == 2, "both were given up")
    served.line.client._function = brightness_maps

    def answered() -> bool:
        try:
            return bool(list(served.ask(method="rise")))  # type: ignore[call-overload]
        except grpc.RpcError:
            return False

    wait_until(answered, "their places are free again")
