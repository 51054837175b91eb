"""The client of the explainer service against a real gRPC server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from sightline.v1 import explainer_service_pb2, explainer_service_pb2_grpc

from services.adapters.codec_explained import explanation_to_message
from services.adapters.explainerclient import ExplainCall, GrpcExplainer
from services.core.errors import (
    BusyError,
    DeadlineError,
    ExplanationError,
    InvalidInputError,
    NotFoundError,
    SightlineError,
    UnavailableError,
)
from services.local.process import free_port
from services.runtime.grpc_server import ErrorInterceptor
from tests.support.explained import explanation

pytestmark = pytest.mark.integration

CALL = ExplainCall(b"picture", "default", 3, "rise", "01890000-0000-7000-8000-000000000000")


class Servicer(explainer_service_pb2_grpc.ExplainerServiceServicer):
    def __init__(self) -> None:
        self.requests: list[explainer_service_pb2.ExplainRequest] = []
        self.error: SightlineError | None = None
        self.hangs = False
        self.hung_up = threading.Event()

    def Explain(  # noqa: N802 - the name of the call
        self, request: explainer_service_pb2.ExplainRequest, context: grpc.ServicerContext
    ) -> Iterator[explainer_service_pb2.ExplainResponse]:
        self.requests.append(request)
        context.add_callback(self.hung_up.set)
        for passes in (10, 20):
            answer = explanation("rise", passes=passes)
            yield explainer_service_pb2.ExplainResponse(explanation=explanation_to_message(answer), final=passes == 20)
            if self.hangs:
                self.hung_up.wait(20)
            if self.error is not None:
                raise self.error


@pytest.fixture
def servicer() -> Servicer:
    return Servicer()


@pytest.fixture
def client(servicer: Servicer) -> Iterator[GrpcExplainer]:
    server = grpc.server(ThreadPoolExecutor(4), interceptors=[ErrorInterceptor()])
    explainer_service_pb2_grpc.add_ExplainerServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    made = GrpcExplainer(f"127.0.0.1:{port}")
    yield made
    made.close()
    server.stop(0).wait()


def test_maps_come_one_by_one_with_everything_that_was_asked(servicer: Servicer, client: GrpcExplainer) -> None:
    stream = client.explain(CALL, 10)
    first, second = stream.next(), stream.next()
    assert first is not None
    assert second is not None
    assert [(first[0].passes, first[1]), (second[0].passes, second[1])] == [(10, False), (20, True)]
    assert np.array_equal(first[0].map, explanation().map)
    assert stream.next() is None
    [request] = servicer.requests
    assert (request.image, request.alias, request.model_version) == (b"picture", "default", 3)
    assert (request.method, request.frame_id) == ("rise", CALL.frame_id)


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (NotFoundError("the version must be loaded, got none"), NotFoundError),
        (InvalidInputError("method must be known, got x"), InvalidInputError),
        (UnavailableError("Triton must answer, got nothing"), UnavailableError),
        (BusyError("at most 2 callers may wait, got one more"), BusyError),
        (DeadlineError("an answer must come in time, it did not"), DeadlineError),
        (ExplanationError("a map must differ between places, got none", "flat_map"), ExplanationError),
    ],
)
def test_a_refusal_comes_back_as_the_domains_own_error(
    servicer: Servicer, client: GrpcExplainer, raised: SightlineError, expected: type[SightlineError]
) -> None:
    servicer.error = raised
    stream = client.explain(CALL, 10)
    assert stream.next() is not None
    with pytest.raises(expected):
        stream.next()


def test_cancelling_ends_a_wait_and_the_work(servicer: Servicer, client: GrpcExplainer) -> None:
    servicer.hangs = True
    stream = client.explain(CALL, 30)
    assert stream.next() is not None
    timer = threading.Timer(0.2, stream.cancel)
    timer.start()
    assert stream.next() is None
    assert servicer.hung_up.wait(5)
    timer.join()


def test_a_service_that_hangs_or_is_away_ends_in_a_clear_error(servicer: Servicer, client: GrpcExplainer) -> None:
    servicer.hangs = True
    stream = client.explain(CALL, 0.3)
    assert stream.next() is not None
    with pytest.raises(DeadlineError):
        stream.next()
    nobody = GrpcExplainer(f"127.0.0.1:{free_port()}")
    with pytest.raises(UnavailableError, match="explainer service must answer"):
        nobody.explain(CALL, 5).next()
    nobody.close()
