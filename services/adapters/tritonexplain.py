"""Explanations from one or several Tritons: one image goes over, maps come back as they become better.

The stream of an explanation is cancelled when nobody reads it any more, which ends the work at the server between two
batches. What one server cannot do (it is away, full, or has not the model) is asked of the next within the same
deadline; equal seeds give equal maps, so beginning anew is harmless.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from opentelemetry import propagate
from tritonclient.grpc import service_pb2

from services.adapters.explaining import BUSY, CANCELLED, FIGURES, unpack
from services.adapters.identity import Identity
from services.adapters.ports import ExplanationRequest, ExplanationStep
from services.adapters.tritonendpoint import Endpoint, is_not_loaded, reason_of
from services.core.errors import (
    ExplanationError,
    InvalidInputError,
    NotFoundError,
    SightlineError,
    UnavailableError,
)

_READY_TIMEOUT_S = 2.0
_AVOID_S = 2.0
_REFUSAL = re.compile(r"(?P<reason>[a-z][a-z0-9_]*): (?P<detail>.*)", re.DOTALL)
_NOT_LOADED = ("unknown model", "not at ready state", "has no available versions")
# Triton's words for a model's process that has died and is being replaced, or for itself on its way out.
_TEMPORARY = ("is not healthy", "shutting down", "exiting", "stopping")
_TRY_ELSEWHERE = (UnavailableError, NotFoundError)


class TritonExplanationClient:
    """An ``ExplanationClient`` over gRPC. Thread-safe.

    Args:
        urls: ``host:port`` of the gRPC endpoints.
        identity: Whom we trust and the certificate that we show, over TLS; None speaks plain text.
    """

    def __init__(self, urls: Sequence[str], identity: Identity | None = None) -> None:
        if not urls:
            raise InvalidInputError("at least one Triton URL is needed, got none")
        self._servers = [_Server(Endpoint(url, "off", identity)) for url in urls]
        self._closed = False
        self._lock = threading.Lock()
        # Weak: a stream that nobody holds is one that nobody reads.
        self._streams: weakref.WeakSet[_Stream] = weakref.WeakSet()

    def explain(
        self, model_name: str, image: NDArray[np.uint8], request: ExplanationRequest, timeout_s: float
    ) -> _Stream:
        """Explain one prepared image; see ``ExplanationClient.explain``."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            rule = "image must be uint8 of shape (H, W, 3)"
            raise InvalidInputError(f"{rule}, got {image.dtype} of shape {image.shape}")
        stream = _Stream(self, _message(model_name, image, request), time.monotonic() + timeout_s)
        with self._lock:
            if self._closed:
                raise UnavailableError("the client must be open, it was closed")
            self._streams.add(stream)
        return stream

    def is_loaded(self, model_name: str) -> bool:
        """Tell whether a reachable Triton has the model ready."""
        message = service_pb2.ModelReadyRequest(name=model_name)
        try:
            calls = [
                server.endpoint.stub.ModelReady.future(message, timeout=_READY_TIMEOUT_S) for server in self._servers
            ]
        except ValueError:
            # gRPC's word for a channel that was closed.
            return False
        return any(_is_ready(call) for call in calls)

    def close(self) -> None:
        """Cancel what is in flight and let go; idempotent."""
        with self._lock:
            self._closed = True
            streams = list(self._streams)
        for stream in streams:
            stream.abandon()
        for server in self._servers:
            server.endpoint.close([])

    # ---- for the streams

    def choose(self, tried: Sequence[_Server], model_name: str) -> _Server | None:
        """The best server that was not tried, counted as in use; None where none is left."""
        with self._lock:
            left = [server for server in self._servers if server not in tried]
            if self._closed or not left:
                return None
            now_s = time.monotonic()
            chosen = min(
                left, key=lambda each: (each.avoid_until_s > now_s, each.endpoint.lacks(model_name), each.in_flight)
            )
            chosen.in_flight += 1
            return chosen

    def let_go(self, server: _Server) -> None:
        """A stream needs a server no more."""
        with self._lock:
            server.in_flight -= 1


@dataclass(eq=False)
class _Server:
    """One Triton, and how it does."""

    endpoint: Endpoint
    in_flight: int = 0
    avoid_until_s: float = 0.0


@dataclass(eq=False)
class _Attempt:
    """One stream at one server."""

    server: _Server
    call: Any


class _Stream:
    """One explanation on its way through one or several servers; an ``ExplanationSteps``."""

    def __init__(
        self, client: TritonExplanationClient, message: service_pb2.ModelInferRequest, deadline_s: float
    ) -> None:
        self._client = client
        self._message = message
        self._deadline_s = deadline_s
        self._tried: list[_Server] = []
        self._errors: list[SightlineError] = []
        self._attempt: _Attempt | None = None
        self._over = False
        self._abandoned = False
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[ExplanationStep]:
        return self

    def __next__(self) -> ExplanationStep:
        while not self._over:
            attempt = self._attempt or self._begin()
            if attempt is None:
                break
            try:
                step = _parse(next(attempt.call))
            except StopIteration:
                self._failed(attempt, UnavailableError("a stream must end by a final map, it ended before"))
            except grpc.RpcError as error:
                self._failed(attempt, self._broken(attempt, error))
            except SightlineError as error:
                _drain(attempt.call)
                self._failed(attempt, error)
            else:
                if step.final:
                    _drain(attempt.call)
                    self.close()
                return step
        if self._abandoned:
            raise UnavailableError("the answer must come before the client is closed, it did not")
        raise StopIteration

    def __del__(self) -> None:
        # Whoever drops the iterator does not want the rest of the work.
        self.close()

    def close(self) -> None:
        """Cancel the work, if it is not done; idempotent."""
        with self._lock:
            self._over = True
        self._hang_up()

    def abandon(self) -> None:
        """The client is closed while somebody waits."""
        with self._lock:
            if self._over:
                return
            self._abandoned = self._over = True
        self._hang_up()

    def _begin(self) -> _Attempt | None:
        """Ask the best server that is left; raises what went wrong at the others where none is."""
        left_s = self._deadline_s - time.monotonic()
        server = self._client.choose(self._tried, self._message.model_name) if left_s > 0 else None
        if server is None:
            self.close()
            raise self._final_error(left_s)
        self._tried.append(server)
        # The caller's trace goes on in Triton; nothing while tracing is off.
        context: dict[str, str] = {}
        propagate.inject(context)
        try:
            call = server.endpoint.stub.ModelStreamInfer(
                iter([self._message]), timeout=left_s, metadata=tuple(context.items()) or None
            )
        except ValueError:
            # gRPC's word for a channel that was closed meanwhile.
            self._client.let_go(server)
            self._abandoned = self._over = True
            return None
        attempt = _Attempt(server, call)
        with self._lock:
            self._attempt = attempt
        if self._over:
            # Closed by another thread meanwhile.
            self._hang_up()
            return None
        return attempt

    def _hang_up(self) -> None:
        with self._lock:
            attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.call.cancel()
            self._client.let_go(attempt.server)

    def _broken(self, attempt: _Attempt, error: grpc.RpcError) -> SightlineError:
        """What a stream that broke off means."""
        code, why = reason_of(error)
        where = f"Triton at {attempt.server.endpoint.url} answered {code.name}: {why}"
        if is_not_loaded(error):
            return self._not_loaded(attempt, where)
        attempt.server.avoid_until_s = time.monotonic() + _AVOID_S
        return UnavailableError(f"an answer in time is needed; {where}")

    def _not_loaded(self, attempt: _Attempt, where: str) -> NotFoundError:
        attempt.server.endpoint.mark_lacking(self._message.model_name)
        return NotFoundError(f"{self._message.model_name} must be loaded; {where}")

    def _failed(self, attempt: _Attempt, error: SightlineError) -> None:
        """Go on at another server, or raise."""
        if self._over:
            # Not an error: it was closed while it was read.
            return
        if isinstance(error, NotFoundError):
            error = self._not_loaded(attempt, f"Triton at {attempt.server.endpoint.url} answered: {error}")
        if not isinstance(error, _TRY_ELSEWHERE):
            self.close()
            raise error
        self._hang_up()
        self._errors.append(error)

    def _final_error(self, left_s: float) -> SightlineError:
        if self._errors and all(isinstance(error, NotFoundError) for error in self._errors):
            return self._errors[-1]
        unavailable = [error for error in self._errors if isinstance(error, UnavailableError)]
        if unavailable:
            return unavailable[-1]
        return UnavailableError(f"an answer in time is needed, {max(0.0, left_s):.3f} s are left and no Triton is")


def _message(model_name: str, image: NDArray[np.uint8], request: ExplanationRequest) -> service_pb2.ModelInferRequest:
    message = service_pb2.ModelInferRequest(model_name=model_name)
    message.inputs.add(name="IMAGE", datatype="UINT8", shape=image.shape)
    message.raw_input_contents.append(image.tobytes())
    for name, value in dataclasses.asdict(request).items():
        parameter = message.parameters[name]
        if isinstance(value, bool):
            parameter.bool_param = value
        elif isinstance(value, int):
            parameter.int64_param = value
        elif isinstance(value, float):
            parameter.double_param = value
        else:
            parameter.string_param = value
    return message


def _parse(response: service_pb2.ModelStreamInferResponse) -> ExplanationStep:
    if response.error_message:
        raise _refusal(response.error_message)
    found: dict[str, NDArray[np.float32]] = {}
    answer = response.infer_response
    for output, raw in zip(answer.outputs, answer.raw_output_contents, strict=False):
        if output.datatype == "FP32":
            found[output.name] = np.frombuffer(raw, np.float32).reshape(output.shape)
    values, figures = found.get("MAP"), found.get("FIGURES")
    if values is None or values.ndim != 2 or figures is None or figures.shape != (len(FIGURES),):
        shapes = {name: array.shape for name, array in found.items()}
        rule = f"an explaining model must answer MAP (h, w) and FIGURES ({len(FIGURES)},) as FP32"
        raise ExplanationError(f"{rule}, got {shapes}", "wrong_answer")
    return unpack(values, figures)


def _refusal(text: str) -> SightlineError:
    """What the words of a refusal mean: ours begin with a reason, Triton's own do not."""
    if any(words in text for words in _NOT_LOADED):
        return NotFoundError(text)
    match = _REFUSAL.fullmatch(text)
    if match is None:
        if any(words in text for words in _TEMPORARY):
            return UnavailableError(f"an explaining model that works is needed, got: {text}")
        if "unexpected shape" in text:
            return InvalidInputError(f"image must be of the model's size, got: {text}")
        return ExplanationError(f"the explaining model must answer, got: {text}")
    if match["reason"] in {BUSY, CANCELLED}:
        return UnavailableError(match["detail"])
    return ExplanationError(match["detail"], match["reason"])


def _drain(call: Any) -> None:
    """Let a stream end by itself once its last answer is there.

    Cancelled at that very moment, Triton 2.51 now and then keeps the request for ever, and its model cannot be unloaded
    any more. A stream that is cancelled while the model works does no harm.
    """
    with contextlib.suppress(grpc.RpcError):
        for _ in call:
            pass


def _is_ready(call: grpc.Future[Any]) -> bool:
    try:
        return bool(call.result().ready)
    except (grpc.RpcError, grpc.FutureCancelledError):
        return False
