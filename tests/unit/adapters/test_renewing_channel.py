"""A channel that is renewed, at its end."""

from __future__ import annotations

import threading

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.adapters.identity import Identity, IdentityFiles
from services.adapters.renewingchannel import RenewingChannel


def channel() -> RenewingChannel:
    return RenewingChannel("127.0.0.1:1", Identity(IdentityFiles()), [])


def test_a_method_that_is_first_asked_for_after_the_end_is_refused_and_the_process_lives() -> None:
    closed = channel()
    stub = health_pb2_grpc.HealthStub(closed)
    closed.close()
    closed.close()
    with pytest.raises(ValueError, match="closed channel"):
        stub.Check(health_pb2.HealthCheckRequest(), timeout=1)
    with pytest.raises(ValueError, match="closed channel"):
        stub.Check.future(health_pb2.HealthCheckRequest(), timeout=1)
    with pytest.raises(ValueError, match="closed channel"):
        stub.Watch(health_pb2.HealthCheckRequest(), timeout=1)


def test_threads_that_ask_while_it_is_closed_get_an_error_each() -> None:
    for _ in range(20):
        closing = channel()
        stub = health_pb2_grpc.HealthStub(closing)
        said: list[Exception] = []
        begun = threading.Barrier(5)

        def ask(
            stub: health_pb2_grpc.HealthStub = stub,
            begun: threading.Barrier = begun,
            said: list[Exception] = said,
        ) -> None:
            begun.wait()
            try:
                stub.Check(health_pb2.HealthCheckRequest(), timeout=1)
            except (grpc.RpcError, ValueError) as error:
                said.append(error)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        begun.wait()
        closing.close()
        for thread in threads:
            thread.join(10)
        assert len(said) == 4
