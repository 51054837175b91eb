"""A gRPC server with health, reflection, one place for errors, and an orderly stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services.adapters.identity import Identity, IdentityContent, IdentityFiles
from services.adapters.tokenfile import TokenFile
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
from services.runtime.machine_access import MachineAccess
from services.runtime.settings import GrpcSettings, TlsSettings

if TYPE_CHECKING:
    Interceptor: TypeAlias = grpc.ServerInterceptor[Any, Any]
else:
    # Generic in its stubs only.
    Interceptor = grpc.ServerInterceptor

LOG = get_logger(__name__)

_MIN_PING_INTERVAL_MS = 10_000

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
        self,
        settings: GrpcSettings,
        service_health: Health,
        interceptors: Sequence[Interceptor] = (),
        *,
        tls: TlsSettings | None = None,
    ) -> None:
        tokens = TokenFile(settings.tokens_file) if settings.tokens_file else None
        # Before all others: who is not let in causes no work.
        access = [MachineAccess(tokens.current)] if tokens else []
        options = [
            ("grpc.max_receive_message_length", settings.max_message_bytes),
            ("grpc.max_send_message_length", settings.max_message_bytes),
            ("grpc.so_reuseport", 0),
            ("grpc.max_concurrent_streams", settings.max_streams),
            # A caller may ask whether we are there, but not flood us with asking.
            ("grpc.http2.min_ping_interval_without_data_ms", _MIN_PING_INTERVAL_MS),
            ("grpc.http2.max_ping_strikes", 2),
        ]
        self._server = grpc.server(
            ThreadPoolExecutor(settings.max_workers, thread_name_prefix="grpc"),
            interceptors=[*access, *interceptors, ErrorInterceptor()],
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
        self._tls = tls or TlsSettings()
        self._service_health = service_health
        self.port = 0

    def add(self, add_to_server: Callable[[Any, grpc.Server], None], servicer: Any, full_name: str) -> None:
        """Register one servicer, for example ``add(add_DetectorServiceServicer_to_server, servicer, full_name)``."""
        add_to_server(servicer, self._server)
        self._names.append(full_name)

    def start(self) -> None:
        """Bind and serve; the port in use is in :attr:`port`."""
        reflection.enable_server_reflection(tuple(self._names), self._server)
        address = f"{self._settings.host}:{self._settings.port}"
        if self._tls.certificate_file is None:
            self.port = self._server.add_insecure_port(address)
        else:
            self.port = self._server.add_secure_port(address, self._credentials())
        self._server.start()
        self._service_health.on_change(self._on_readiness)

    def _credentials(self) -> grpc.ServerCredentials:
        files = IdentityFiles(self._tls.certificate_file, self._tls.key_file, self._tls.ca_file)
        identity = Identity(files)
        required = self._settings.client_certificates == "required"

        def shown(content: IdentityContent) -> grpc.ServerCertificateConfiguration:
            # Without authorities gRPC asks for no certificate.
            authorities = content.authorities if required else None
            return grpc.ssl_server_certificate_configuration(
                [(content.key or b"", content.certificate or b"")], authorities
            )

        first = identity.current()
        taken = [first.revision]

        def renewed() -> grpc.ServerCertificateConfiguration | None:
            content = identity.current()
            if content.revision == taken[0]:
                return None
            taken[0] = content.revision
            return shown(content)

        # The stubs do not know that None keeps what is served.
        fetch = cast("Callable[[], grpc.ServerCertificateConfiguration]", renewed)
        return grpc.dynamic_ssl_server_credentials(shown(first), fetch, require_client_authentication=required)

    def _on_readiness(self, ready: bool) -> None:
        status = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        self._health_servicer.set("", status)
        for name in self._names[2:]:
            self._health_servicer.set(name, status)

    def stop(self, grace_s: float) -> None:
        """Say NOT_SERVING, let calls in flight finish within ``grace_s``, close."""
        self._health_servicer.enter_graceful_shutdown()
        self._server.stop(grace_s).wait(grace_s + 1)
