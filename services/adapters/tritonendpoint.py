"""One Triton server as a client sees it: its channel, its health, and which shared memory it has open."""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any, Literal

import grpc
from opentelemetry import propagate
from tritonclient.grpc import service_pb2, service_pb2_grpc

from services.adapters.identity import Identity, IdentityFiles
from services.adapters.renewingchannel import RenewingChannel
from services.adapters.sharedmemory import Region, is_stale
from services.core.errors import UnavailableError

LOG = logging.getLogger(__name__)

#: Start of the name of every region that a Sightline client lends.
REGION_PREFIX = "sightline-tensor-"

_PROBE_TIMEOUT_S = 1.0
_PROBE_HEALTHY_EVERY_S = 2.0
_PROBES_UNTIL_DEAD = 2
_REGISTER_TIMEOUT_S = 2.0
_LACKS_FOR_S = 1.0

_CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A server that was restarted is found again within a second, not after gRPC's default of up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.use_local_subchannel_pool", 1),
]


def reason_of(error: Exception) -> tuple[grpc.StatusCode, str]:
    """Status code and words of a failed call."""
    if isinstance(error, grpc.FutureCancelledError):
        return grpc.StatusCode.CANCELLED, "cancelled"
    code, details = getattr(error, "code", None), getattr(error, "details", None)
    return (code() if code else grpc.StatusCode.UNKNOWN), str((details() if details else None) or error)


def is_not_loaded(error: Exception) -> bool:
    """Tell whether Triton says that it does not have the model (it does so by more than one code)."""
    code, why = reason_of(error)
    if code is grpc.StatusCode.NOT_FOUND:
        return not lost_region(why)
    return code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INVALID_ARGUMENT} and (
        "unknown model" in why or "not at ready state" in why or "has no available versions" in why
    )


def lost_region(why: str) -> bool:
    """Tell whether Triton says that it does not know a shared memory region."""
    return "shared memory region" in why and "Unable to find" in why


def on_this_host(url: str) -> bool:
    """Tell whether ``host:port`` names this machine."""
    host = url.rsplit(":", 1)[0].strip("[]")
    if url.startswith("unix:") or host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(socket.gethostbyname(host))
    except (OSError, ValueError):
        return False
    if address.is_loopback:
        return True
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Only an address of this machine can be bound.
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True


class Endpoint:
    """One server. Thread-safe."""

    def __init__(self, url: str, shared_memory: Literal["auto", "on", "off"], identity: Identity | None = None) -> None:
        self.url = url
        self.healthy = True
        self.may_share_memory = shared_memory == "on" or (shared_memory == "auto" and on_this_host(url))
        self._channel = RenewingChannel(url, identity or Identity(IdentityFiles()), _CHANNEL_OPTIONS)
        self.stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._lock = threading.Lock()
        self._calls: set[grpc.Future[Any]] = set()
        self._regions: set[str] = set()
        self._swept = False
        self._lacks: dict[str, float] = {}
        self._failed_probes = 0
        self._probed_at_s = time.monotonic()

    # ---- calls

    @property
    def in_flight(self) -> int:
        """Batches that wait for this server's answer."""
        return len(self._calls)

    def infer(self, message: service_pb2.ModelInferRequest, timeout_s: float) -> grpc.Future[Any]:
        """Start a call; tell :meth:`done` when it has ended."""
        # The caller's trace goes on in Triton; nothing while tracing is off.
        context: dict[str, str] = {}
        propagate.inject(context)
        call: grpc.Future[Any] = self.stub.ModelInfer.future(
            message, timeout=timeout_s, metadata=tuple(context.items()) or None
        )
        with self._lock:
            self._calls.add(call)
        return call

    def done(self, call: grpc.Future[Any]) -> None:
        """A call has ended."""
        with self._lock:
            self._calls.discard(call)

    def lacks(self, model_name: str) -> bool:
        """Whether this server said a moment ago that it does not have the model."""
        return self._lacks.get(model_name, 0.0) > time.monotonic()

    def mark_lacking(self, model_name: str) -> None:
        """This server does not have the model; prefer others for a moment."""
        with self._lock:
            now_s = time.monotonic()
            self._lacks = {name: until_s for name, until_s in self._lacks.items() if until_s > now_s}
            self._lacks[model_name] = now_s + _LACKS_FOR_S

    # ---- health

    def suspect(self) -> None:
        """A call failed as calls to dead servers do: prefer others until a probe says otherwise."""
        if self.healthy:
            LOG.warning("Triton at %s does not answer", self.url)
        self.healthy = False

    def probe(self) -> None:
        """Ask whether the server lives, if it is time to; cancel what waits for a dead one."""
        now_s = time.monotonic()
        if self.healthy and not self._failed_probes and now_s - self._probed_at_s < _PROBE_HEALTHY_EVERY_S:
            return
        self._probed_at_s = now_s
        try:
            live = bool(self.stub.ServerLive(service_pb2.ServerLiveRequest(), timeout=_PROBE_TIMEOUT_S).live)
        except (grpc.RpcError, ValueError):
            live = False
        if live:
            if not self.healthy:
                LOG.info("Triton at %s answers again", self.url)
            self._failed_probes, self.healthy = 0, True
            return
        self._failed_probes += 1
        if self._failed_probes >= _PROBES_UNTIL_DEAD:
            self.suspect()
            # Their callbacks ask another server while the deadline allows.
            with self._lock:
                waiting = list(self._calls)
            for call in waiting:
                call.cancel()

    # ---- shared memory

    def register(self, region: Region) -> bool:
        """Let the server open a region, once.

        Returns:
            False when it cannot: it does not share this host's memory after all.

        Raises:
            UnavailableError: When the server does not answer.
        """
        if region.name in self._regions:
            return True
        if not self._swept:
            self._sweep()
        message = service_pb2.SystemSharedMemoryRegisterRequest(
            name=region.name, key=region.key, offset=0, byte_size=region.size_bytes
        )
        try:
            self.stub.SystemSharedMemoryRegister(message, timeout=_REGISTER_TIMEOUT_S)
        except grpc.RpcError as error:
            code, why = reason_of(error)
            if code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}:
                self.suspect()
                raise UnavailableError(f"Triton at {self.url} must answer in time: {why}") from error
            if code is not grpc.StatusCode.ALREADY_EXISTS:
                LOG.warning("Triton at %s cannot open shared memory, tensors are sent: %s", self.url, why)
                self.may_share_memory = False
                return False
        with self._lock:
            self._regions.add(region.name)
        return True

    def forget_regions(self) -> None:
        """The server was restarted and knows none of our regions."""
        with self._lock:
            self._regions.clear()

    def unregister(self, names: Sequence[str]) -> None:
        """Let the server close regions, as far as it answers."""
        for name in names:
            with self._lock:
                known = name in self._regions
                self._regions.discard(name)
            if known:
                self._unregister(name)

    def _unregister(self, name: str) -> None:
        message = service_pb2.SystemSharedMemoryUnregisterRequest(name=name)
        try:
            self.stub.SystemSharedMemoryUnregister(message, timeout=_PROBE_TIMEOUT_S)
        except (grpc.RpcError, ValueError) as error:
            LOG.debug("region %s not closed at %s: %s", name, self.url, error)

    def _sweep(self) -> None:
        """Let the server close what killed clients of this host left open there, or it would keep the memory."""
        try:
            status = self.stub.SystemSharedMemoryStatus(
                service_pb2.SystemSharedMemoryStatusRequest(), timeout=_REGISTER_TIMEOUT_S
            )
        except grpc.RpcError as error:
            LOG.debug("regions of %s not listed: %s", self.url, error)
            return
        self._swept = True
        for name in status.regions:
            if name.startswith(REGION_PREFIX) and is_stale(name):
                self._unregister(name)

    def close(self, region_names: Sequence[str]) -> None:
        """Close regions and channel; what waits is cancelled."""
        if self.healthy:
            self.unregister(region_names)
        self._channel.close()
