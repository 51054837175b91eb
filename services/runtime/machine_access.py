"""Lets in the machines whose token permits the call, and nobody else."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import grpc

from services.adapters.tokenfile import today_utc
from services.core.call_scopes import CALL_SCOPES, KNOWN_MACHINE_SERVICES, OPEN_SERVICES, service_of
from services.core.machine_token import MachineToken, find_token
from services.runtime import metrics
from services.runtime.logging import get_logger

if TYPE_CHECKING:
    Interceptor: TypeAlias = grpc.ServerInterceptor[Any, Any]
else:
    # Generic in its stubs only.
    Interceptor = grpc.ServerInterceptor

LOG = get_logger(__name__)
_SCHEME: Final = "bearer "
#: Longer is no token of ours; not worth hashing.
_MAX_HEADER_CHARS: Final = 512


class MachineAccess(Interceptor):
    """Refuses every call whose token does not permit it, before its message is read.

    Args:
        tokens: Those that are known now.
        today: The day (UTC) by which they expire.
    """

    def __init__(
        self, tokens: Callable[[], Sequence[MachineToken]], today: Callable[[], datetime.date] = today_utc
    ) -> None:
        self._tokens = tokens
        self._today = today

    def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Any], details: grpc.HandlerCallDetails
    ) -> Any:
        """Look at one call."""
        method = details.method
        if service_of(method) in OPEN_SERVICES:
            return continuation(details)
        shown = _bearer(details.invocation_metadata)
        token = find_token(self._tokens(), shown) if shown else None
        if token is None or token.expires < self._today():
            reason = "no_token" if not shown else "unknown_token" if token is None else "expired_token"
            name = token.name if token is not None else ""
            return _refuse(continuation(details), method, grpc.StatusCode.UNAUTHENTICATED, reason, name)
        if service_of(method) in KNOWN_MACHINE_SERVICES:
            return continuation(details)
        scope = CALL_SCOPES.get(method)
        if scope is None or scope not in token.scopes:
            reason = "unlisted_call" if scope is None else "missing_scope"
            return _refuse(continuation(details), method, grpc.StatusCode.PERMISSION_DENIED, reason, token.name)
        return continuation(details)


_SAID: Final = {
    "no_token": "a call must carry 'authorization: Bearer TOKEN', got none",
    "unknown_token": "a call must carry a token that is known here, got another",
    "expired_token": "a call must carry a token that has not expired, got an expired one",
    "missing_scope": "a call must carry a token with the scope {scope}, got one without it",
    "unlisted_call": "only calls with a scope of their own are served, got another",
}


def _bearer(metadata: Sequence[tuple[str, str | bytes]] | None) -> str:
    values = [value for key, value in metadata or () if key == "authorization"]
    if len(values) != 1 or not isinstance(values[0], str) or len(values[0]) > _MAX_HEADER_CHARS:
        return ""
    header = values[0]
    return header[len(_SCHEME) :].strip() if header.lower().startswith(_SCHEME) else ""


def _refuse(handler: Any, method: str, status: grpc.StatusCode, reason: str, machine: str) -> Any:
    metrics.GRPC_REFUSED_CALLS.labels(reason=reason).inc()
    LOG.warning("call not let in: %s", method, extra={"reason": reason, "machine": machine})
    if handler is None:
        return None
    said = _SAID[reason].format(scope=CALL_SCOPES.get(method, ""))

    def abort(request: Any, context: grpc.ServicerContext) -> Any:
        del request
        context.abort(status, said)

    # Without a deserializer the message stays bytes that nobody parses.
    if handler.request_streaming:
        return grpc.stream_unary_rpc_method_handler(abort)
    return grpc.unary_unary_rpc_method_handler(abort)
