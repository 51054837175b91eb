"""Triton over gRPC: scores from one or several servers, and control of the models of one.

Requests go to the healthy server with the fewest in flight. When one dies, what it had in flight is asked of another,
within the same deadline: scoring has no side effects, so asking twice is harmless. Where client and server share
memory, images travel through it and only their place goes over the wire.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from services.adapters.identity import Identity
from services.adapters.ports import InferenceResult
from services.adapters.sharedmemory import Region, RegionPool, sweep_stale
from services.adapters.tritonendpoint import REGION_PREFIX, Endpoint, is_not_loaded, lost_region, reason_of
from services.core.errors import (
    InvalidInputError,
    ModelFailedError,
    ModelFormatError,
    NotFoundError,
    SightlineError,
    UnavailableError,
)

LOG = logging.getLogger(__name__)

_PROBE_S = 0.5
_READY_TIMEOUT_S = 2.0
_POLL_S = 0.05
_OUTPUTS = ("SCORE", "PROBABILITIES", "EMBEDDING", "DISAGREEMENT")

# A channel that was closed answers with ValueError.
_NO_ANSWER = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}

SharedMemory = Literal["auto", "on", "off"]


@dataclass(eq=False)
class _Request:
    """One batch on its way through one or several servers."""

    message: service_pb2.ModelInferRequest
    images: NDArray[np.uint8]
    deadline_s: float
    future: Future[InferenceResult]
    region: Region | None = None
    tried: list[Endpoint] = field(default_factory=list)
    retried_region: bool = False
    errors: list[SightlineError] = field(default_factory=list)


class TritonInferenceClient:
    """An ``InferenceClient`` over gRPC. Thread-safe.

    Args:
        urls: ``host:port`` of the gRPC endpoints.
        shared_memory: ``auto`` lends shared memory to servers on this host that can open it and sends to the others;
            ``on`` demands it; ``off`` never does.
        max_regions: Most batches in flight through shared memory; more than that are sent.
        max_shared_bytes: Most bytes of shared memory.
        identity: Whom we trust and the certificate that we show, over TLS; None speaks plain text.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        shared_memory: SharedMemory = "auto",
        max_regions: int = 32,
        max_shared_bytes: int = 256 * 1024 * 1024,
        identity: Identity | None = None,
    ) -> None:
        if not urls:
            raise InvalidInputError("at least one Triton URL is needed, got none")
        self._endpoints = [Endpoint(url, shared_memory, identity) for url in urls]
        self._demand_shared_memory = shared_memory == "on"
        self._pool = RegionPool(REGION_PREFIX, max_regions=max_regions, max_bytes=max_shared_bytes)
        if shared_memory != "off":
            sweep_stale(REGION_PREFIX)
        self._next = 0
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._requests: set[_Request] = set()
        # Answers arrive on gRPC's own threads, which must not wait; what asks again runs here.
        self._again = ThreadPoolExecutor(2, thread_name_prefix="triton-again")
        self._prober = threading.Thread(target=self._probe_forever, name="triton-probe", daemon=True)
        self._prober.start()

    def infer(self, model_name: str, images: NDArray[np.uint8], timeout_s: float) -> Future[InferenceResult]:
        """Score one batch; see ``InferenceClient.infer``."""
        future: Future[InferenceResult] = Future()
        if images.ndim != 4 or images.shape[0] < 1 or images.shape[3] != 3 or images.dtype != np.uint8:
            rule = "images must be uint8 of shape (B >= 1, H, W, 3)"
            future.set_exception(InvalidInputError(f"{rule}, got {images.dtype} of shape {images.shape}"))
            return future
        if self._closed.is_set():
            future.set_exception(UnavailableError("the client must be open, it was closed"))
            return future
        request = _Request(
            message=_message(model_name, images),
            images=np.ascontiguousarray(images),
            deadline_s=time.monotonic() + timeout_s,
            future=future,
        )
        with self._lock:
            self._requests.add(request)
        self._send(request)
        return future

    def warm_everywhere(self, model_name: str) -> bool:
        """Tell whether every reachable Triton has the model ready, and at least one is reachable."""
        message = service_pb2.ModelReadyRequest(name=model_name)
        calls = [endpoint.stub.ModelReady.future(message, timeout=_READY_TIMEOUT_S) for endpoint in self._endpoints]
        answers: list[bool] = []
        for call in calls:
            try:
                answers.append(bool(call.result().ready))
            except grpc.RpcError as error:
                if is_not_loaded(error):
                    answers.append(False)
        return bool(answers) and all(answers)

    def healthy_urls(self) -> list[str]:
        """The servers that answered when they were last asked."""
        return [endpoint.url for endpoint in self._endpoints if endpoint.healthy]

    def close(self) -> None:
        """Cancel what is in flight and let go; idempotent."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._prober.join(timeout=5)
        self._again.shutdown(wait=False, cancel_futures=True)
        names = self._pool.close()
        for endpoint in self._endpoints:
            endpoint.close(names)
        with self._lock:
            left = list(self._requests)
        for request in left:
            self._fail(request, UnavailableError("the answer must come before the client is closed, it did not"))

    # ---- one request

    def _send(self, request: _Request) -> None:
        """Ask the best server that was not tried yet; settle the future when none is left."""
        left_s = request.deadline_s - time.monotonic()
        endpoint = self._choose(request)
        if endpoint is None or left_s <= 0 or self._closed.is_set():
            self._fail(request, self._final_error(request, left_s))
            return
        request.tried.append(endpoint)
        try:
            self._attach(request, endpoint)
            call = endpoint.infer(request.message, max(0.001, request.deadline_s - time.monotonic()))
        except (SightlineError, ValueError) as error:
            # ValueError: gRPC's word for a channel that was closed meanwhile.
            request.errors.append(error if isinstance(error, SightlineError) else UnavailableError(str(error)))
            self._ask_again(request)
            return
        call.add_done_callback(lambda done: self._answered(request, endpoint, done))

    def _choose(self, request: _Request) -> Endpoint | None:
        left = [endpoint for endpoint in self._endpoints if endpoint not in request.tried]
        if not left:
            return None
        with self._lock:
            self._next += 1
            turn = self._next
        model = request.message.model_name
        count = len(self._endpoints)
        return min(
            left,
            key=lambda each: (
                not each.healthy,
                each.lacks(model),
                each.in_flight,
                (self._endpoints.index(each) - turn) % count,
            ),
        )

    def _attach(self, request: _Request, endpoint: Endpoint) -> None:
        """Put the images into the message, or their place in shared memory."""
        tensor, size_bytes = request.message.inputs[0], request.images.nbytes
        tensor.ClearField("parameters")
        del request.message.raw_input_contents[:]
        if endpoint.may_share_memory:
            if request.region is None:
                request.region = self._pool.take(size_bytes)
                if request.region is not None:
                    request.region.write(request.images)
            if request.region is not None and endpoint.register(request.region):
                tensor.parameters["shared_memory_region"].string_param = request.region.name
                tensor.parameters["shared_memory_byte_size"].int64_param = size_bytes
                return
        if self._demand_shared_memory and not endpoint.may_share_memory:
            raise UnavailableError(f"Triton at {endpoint.url} must open our shared memory, it cannot")
        request.message.raw_input_contents.append(request.images.tobytes())

    def _answered(self, request: _Request, endpoint: Endpoint, call: grpc.Future[Any]) -> None:
        endpoint.done(call)
        try:
            response = call.result()
        except (grpc.RpcError, grpc.FutureCancelledError) as error:
            self._refused(request, endpoint, error)
            return
        try:
            self._succeed(request, _parse(response))
        except InvalidInputError as error:
            self._fail(request, error)

    def _refused(self, request: _Request, endpoint: Endpoint, error: Exception) -> None:
        """Decide what a failed call means: for good, or ask again, and where."""
        code, why = reason_of(error)
        where = f"Triton at {endpoint.url} answered {code.name}: {why}"
        if lost_region(why) and not request.retried_region:
            # The server was restarted since the region was registered there.
            request.retried_region = True
            endpoint.forget_regions()
            request.tried.remove(endpoint)
        elif is_not_loaded(error):
            endpoint.mark_lacking(request.message.model_name)
            request.errors.append(NotFoundError(f"{request.message.model_name} must be loaded; {where}"))
        elif code is grpc.StatusCode.INVALID_ARGUMENT:
            self._fail(request, InvalidInputError(f"the model must accept the tensor; {where}"))
            return
        else:
            if code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
                endpoint.suspect()
            failed = code in {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
            kind = ModelFailedError if failed else UnavailableError
            request.errors.append(kind(f"an answer in time is needed; {where}"))
        self._ask_again(request)

    def _ask_again(self, request: _Request) -> None:
        try:
            self._again.submit(self._send, request)
        except RuntimeError:
            self._fail(request, UnavailableError("the answer must come before the client is closed, it did not"))

    @staticmethod
    def _final_error(request: _Request, left_s: float) -> SightlineError:
        if request.errors and all(isinstance(error, NotFoundError) for error in request.errors):
            return request.errors[-1]
        unavailable = [error for error in request.errors if isinstance(error, UnavailableError)]
        if unavailable:
            return unavailable[-1]
        return UnavailableError(f"an answer in time is needed, {max(0.0, left_s):.3f} s are left and no Triton is")

    def _succeed(self, request: _Request, result: InferenceResult) -> None:
        self._let_go(request)
        if request.future.set_running_or_notify_cancel():
            request.future.set_result(result)

    def _fail(self, request: _Request, error: SightlineError) -> None:
        self._let_go(request)
        try:
            if request.future.set_running_or_notify_cancel():
                request.future.set_exception(error)
        except InvalidStateError:
            LOG.debug("settled already: %s", error)

    def _let_go(self, request: _Request) -> None:
        with self._lock:
            self._requests.discard(request)
        if request.region is not None:
            # A server that still reads from it works for nobody: its answer was given up.
            region, request.region = request.region, None
            self._pool.give_back(region)

    # ---- health

    def _probe_forever(self) -> None:
        while not self._closed.wait(_PROBE_S):
            for endpoint in self._endpoints:
                endpoint.probe()
            while self._pool.dropped:
                name = self._pool.dropped.pop()
                for endpoint in self._endpoints:
                    endpoint.unregister([name])


def _message(model_name: str, images: NDArray[np.uint8]) -> service_pb2.ModelInferRequest:
    # No queue timeout, no priority: they would need a queue policy, which costs half a second now and then
    # (docs/triton.md). A call whose deadline passes is cancelled, and the model leaves cancelled requests out.
    message = service_pb2.ModelInferRequest(model_name=model_name)
    message.inputs.add(name="IMAGE", datatype="UINT8", shape=images.shape)
    return message


def _parse(response: service_pb2.ModelInferResponse) -> InferenceResult:
    found: dict[str, NDArray[np.float32]] = {}
    for output, raw in zip(response.outputs, response.raw_output_contents, strict=False):
        if output.datatype == "FP32":
            found[output.name] = np.frombuffer(raw, np.float32).reshape(output.shape)
    missing = [name for name in _OUTPUTS if name not in found]
    if missing:
        raise InvalidInputError(f"a model must answer {', '.join(_OUTPUTS)} as FP32, it left out {missing}")
    return InferenceResult(
        found["SCORE"].reshape(-1), found["PROBABILITIES"], found["EMBEDDING"], found["DISAGREEMENT"].reshape(-1)
    )


class TritonControl:
    """A ``ModelControl`` over gRPC.

    Args:
        url: ``host:port`` of the one Triton.
        timeout_s: Deadline of calls that take no deadline of their own.
        identity: Whom we trust and the certificate that we show, over TLS; None speaks plain text.
    """

    def __init__(self, url: str, *, timeout_s: float = 2.0, identity: Identity | None = None) -> None:
        self._endpoint = Endpoint(url, "off", identity)
        self._timeout_s = timeout_s

    def is_live(self) -> bool:
        """Tell whether that Triton answers."""
        try:
            message = service_pb2.ServerLiveRequest()
            return bool(self._endpoint.stub.ServerLive(message, timeout=self._timeout_s).live)
        except (grpc.RpcError, ValueError):
            return False

    def ready_models(self) -> frozenset[str]:
        """Names of the models that are ready.

        Raises:
            UnavailableError: When Triton does not answer in time.
        """
        return frozenset(name for name, state in self._index().items() if state == "READY")

    def load(self, model_name: str, timeout_s: float) -> None:
        """Load a model from the repository folder; see ``ModelControl.load``."""
        message = service_pb2.RepositoryModelLoadRequest(model_name=model_name)
        try:
            self._endpoint.stub.RepositoryModelLoad(message, timeout=timeout_s)
        except (grpc.RpcError, ValueError) as error:
            code, why = reason_of(error)
            if isinstance(error, ValueError) or code in _NO_ANSWER:
                raise UnavailableError(f"Triton must load {model_name} within {timeout_s} s: {why}") from error
            raise ModelFormatError(f"Triton must accept {model_name}: {why}") from error

    def unload(self, model_name: str, timeout_s: float) -> None:
        """Unload a model and wait until it is gone; one that is not loaded is no error.

        Raises:
            UnavailableError: When it is not gone in time.
        """
        message = service_pb2.RepositoryModelUnloadRequest(model_name=model_name)
        deadline_s = time.monotonic() + timeout_s
        try:
            self._endpoint.stub.RepositoryModelUnload(message, timeout=timeout_s)
        except (grpc.RpcError, ValueError) as error:
            if is_not_loaded(error):
                return
            _, why = reason_of(error)
            raise UnavailableError(f"Triton must unload {model_name} within {timeout_s} s: {why}") from error
        while self._is_there(model_name):
            if time.monotonic() >= deadline_s:
                raise UnavailableError(f"Triton must unload {model_name} within {timeout_s} s, it did not")
            time.sleep(_POLL_S)

    def _is_there(self, model_name: str) -> bool:
        try:
            return self._index().get(model_name, "") in {"READY", "UNLOADING", "LOADING"}
        except UnavailableError:
            # Its folder changed while Triton read it, or Triton is gone: the deadline tells.
            return True

    def close(self) -> None:
        """Let go; idempotent."""
        self._endpoint.close([])

    def _index(self) -> dict[str, str]:
        deadline_s = time.monotonic() + self._timeout_s
        while True:
            left_s = deadline_s - time.monotonic()
            try:
                response = self._endpoint.stub.RepositoryIndex(
                    service_pb2.RepositoryIndexRequest(), timeout=max(0.0, left_s)
                )
                return {model.name: model.state for model in response.models}
            except (grpc.RpcError, ValueError) as error:
                code, why = reason_of(error)
                # Triton looks through its folder too, and fails where a folder goes while it looks: that passes.
                if code is not grpc.StatusCode.INTERNAL or left_s <= _POLL_S:
                    raise UnavailableError(f"Triton must list its models within {self._timeout_s} s: {why}") from error
            time.sleep(_POLL_S)
