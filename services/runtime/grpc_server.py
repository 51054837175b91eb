"""A gRPC server with health, reflection, one place for errors, and an orderly stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services.core.errors import (
    BusyError,
    ConflictError,
    DeadlineError,
    ExistsError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    PreconditionError,
    SightlineError,
    SpoolFullError,
    UnavailableError,
)
from services.runtime.lifecycle import Health
from services.runtime.logging import get_logger
from services.runtime.settings import GrpcSettings

if TYPE_CHECKING:
    Interceptor: TypeAlias = grpc.ServerInterceptor[Any, Any]
else:
    # Generic in its stubs only.
    Interceptor = grpc.ServerInterceptor

LOG = get_logger(__name__)

#: From the most special to the most general: the first that fits is taken.
_STATUS: Sequence[tuple[type[SightlineError], grpc.StatusCode]] = (
    (SpoolFullError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (BusyError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (DeadlineError, grpc.StatusCode.DEADLINE_EXCEEDED),
    (UnavailableError, grpc.StatusCode.UNAVAILABLE),
    (NotFoundError, grpc.StatusCode.NOT_FOUND),
    (ExistsError, grpc.StatusCode.ALREADY_EXISTS),
    (PreconditionError, grpc.StatusCode.FAILED_PRECONDITION),
    (ConflictError, grpc.StatusCode.ABORTED),
    (ForbiddenError, grpc.StatusCode.PERMISSION_DENIED),
    (InvalidInputError, grpc.StatusCode.INVALID_ARGUMENT),
    (SightlineError, grpc.StatusCode.INTERNAL),
)


def status_of(error: SightlineError) -> grpc.StatusCode:
    """The gRPC status that tells a client what to do about a domain error."""
    return next(status for kind, status in _STATUS if isinstance(error, kind))


class ErrorInterceptor(Interceptor):
    """Turns domain errors into status codes; the only place that does."""

    def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Any], details: grpc.HandlerCallDetails
    ) -> Any:
        """Wrap the handler of one call."""
        handler = continuation(details)
        if handler is None:
            return None
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(
                _guard_unary(handler.unary_unary, details.method),
                handler.request_deserializer,
                handler.response_serializer,
            )
        if handler.stream_stream:
            return grpc.stream_stream_rpc_method_handler(
                _guard_stream(handler.stream_stream, details.method),
                handler.request_deserializer,
                handler.response_serializer,
            )
        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(
                _guard_stream(handler.unary_stream, details.method),
                handler.request_deserializer,
                handler.response_serializer,
            )
        return handler


def _abort(error: SightlineError, method: str, context: grpc.ServicerContext) -> None:
    LOG.info("call refused: %s: %s", method, error, extra={"reason": error.reason})
    context.abort(status_of(error), str(error))


def _guard_unary(behaviour: Callable[..., Any], method: str) -> Callable[..., Any]:
    def guarded(request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return behaviour(request, context)
        except SightlineError as error:
            return _abort(error, method, context)

    return guarded


def _guard_stream(behaviour: Callable[..., Any], method: str) -> Callable[..., Any]:
    def guarded(request: Any, context: grpc.ServicerContext) -> Any:
        try:
            yield from behaviour(request, context)
        except SightlineError as error:
            _abort(error, method, context)

    return guarded


class GrpcServer:
    """A server whose health follows the service's readiness."""

    def __init__(
        self, settings: GrpcSettings, service_health: Health, interceptors: Sequence[Interceptor] = ()
    ) -> None:
        options = [
            ("grpc.max_receive_message_length", settings.max_message_bytes),
            ("grpc.max_send_message_length", settings.max_message_bytes),
            ("grpc.so_reuseport", 0),
        ]
        self._server = grpc.server(
            ThreadPoolExecutor(settings.max_workers, thread_name_prefix="grpc"),
            interceptors=[*interceptors, ErrorInterceptor()],
            options=options,
            # Beyond the workers, as many may wait; the rest are told RESOURCE_EXHAUSTED at once.
            maximum_concurrent_rpcs=settings.max_workers * 2,
        )
        self._names: list[str] = [health.SERVICE_NAME, reflection.SERVICE_NAME]
        self._health_servicer = health.HealthServicer()
        # A fresh HealthServicer says SERVING; nothing is served before the service says so.
        self._health_servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(self._health_servicer, self._server)
        self._settings = settings
        self._service_health = service_health
        self.port = 0

    def add(self, add_to_server: Callable[[Any, grpc.Server], None], servicer: Any, full_name: str) -> None:
        """Register one servicer, for example ``add(add_DetectorServiceServicer_to_server, servicer, full_name)``."""
        add_to_server(servicer, self._server)
        self._names.append(full_name)

    def start(self) -> None:
        """Bind and serve; the port in use is in :attr:`port`."""
        reflection.enable_server_reflection(tuple(self._names), self._server)
        self.port = self._server.add_insecure_port(f"{self._settings.host}:{self._settings.port}")
        self._server.start()
        self._service_health.on_change(self._on_readiness)

    def _on_readiness(self, ready: bool) -> None:
        status = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        self._health_servicer.set("", status)
        for name in self._names[2:]:
            self._health_servicer.set(name, status)

    def stop(self, grace_s: float) -> None:
        """Say NOT_SERVING, let calls in flight finish within ``grace_s``, close."""
        self._health_servicer.enter_graceful_shutdown()
        self._server.stop(grace_s).wait(grace_s + 1)
