"""A service of the line as its callers see it: one channel, and what its refusals mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import grpc

from services.adapters.identity import Identity, IdentityFiles
from services.adapters.renewingchannel import RenewingChannel
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
    UnavailableError,
)

_ERRORS: Final[dict[grpc.StatusCode, Callable[[str], SightlineError]]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidInputError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.ABORTED: ConflictError,
    grpc.StatusCode.ALREADY_EXISTS: ExistsError,
    grpc.StatusCode.FAILED_PRECONDITION: PreconditionError,
    grpc.StatusCode.PERMISSION_DENIED: ForbiddenError,
    grpc.StatusCode.UNAUTHENTICATED: ForbiddenError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: BusyError,
}
_AWAY: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNIMPLEMENTED})
# gRPC has no status of its own for it: the same one says that a server is busy.
_TOO_LARGE: Final = "larger than max"
# A service that is back is found again soon; by itself gRPC would wait up to two minutes.
_RECONNECT_MS: Final = 3_000

_identity = Identity(IdentityFiles())


def show_identity(identity: Identity) -> None:
    """Say, once at the start of a process, who it is to every service that it calls from now on.

    Args:
        identity: Its certificate, whom it trusts and its token.
    """
    global _identity  # noqa: PLW0603 - a process has one identity, as it has one environment
    _identity = identity


class GrpcPeer:
    """One service. Thread-safe; connects when first asked and again after an outage.

    Args:
        address: ``host:port``; nothing is connected yet.
        name: Of the service in errors, for example ``feedback service``.
        max_message_bytes: Largest message either way.
        duty: What it must do, in errors.
        tells_deadlines: Whether a deadline that passed is a ``DeadlineError``; else it is as if the service were away.
        failure: What a status that means nothing else becomes.
    """

    def __init__(
        self,
        address: str,
        name: str,
        *,
        max_message_bytes: int,
        duty: str = "answer",
        tells_deadlines: bool = False,
        failure: Callable[[str], SightlineError] = UnavailableError,
    ) -> None:
        options = [
            ("grpc.max_send_message_length", max_message_bytes),
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_reconnect_backoff_ms", _RECONNECT_MS),
        ]
        self.channel = RenewingChannel(address, _identity, options)
        self._name = name
        self._duty = duty
        self._tells_deadlines = tells_deadlines
        self._failure = failure

    def ask(self, call: Callable[..., Any], request: object, timeout_s: float | None) -> Any:
        """Make one call and wait for its answer.

        Args:
            call: Of a stub on :attr:`channel`.
            request: Its message.
            timeout_s: Deadline; None for none.

        Raises:
            SightlineError: What :meth:`error` makes of a refusal; ``UnavailableError`` once the channel is closed.
        """
        try:
            return call(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise self.error(error) from error
        except ValueError as error:
            # What gRPC raises on a channel that was closed.
            raise UnavailableError(f"the {self._name} must be asked before its client is closed: {error}") from error

    def error(self, error: grpc.RpcError) -> SightlineError:
        """Say in the domain's words what a refusal means.

        Args:
            error: As gRPC raises it.
        """
        code = error.code() if isinstance(error, grpc.Call) else grpc.StatusCode.UNKNOWN
        said = (error.details() if isinstance(error, grpc.Call) else "") or "nothing"
        missed = f"the {self._name} must {self._duty}, got {code.name}: {said}"
        if code in _AWAY:
            return UnavailableError(missed)
        if code is grpc.StatusCode.DEADLINE_EXCEEDED and self._tells_deadlines:
            return DeadlineError(said)
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED and _TOO_LARGE in said:
            return InvalidInputError(f"a message must be small enough for the {self._name}, got: {said}")
        make = _ERRORS.get(code)
        return make(said) if make is not None else self._failure(missed)

    def close(self) -> None:
        """Cancel what is in flight and let go; idempotent."""
        self.channel.close()
