"""The process image in OPC UA: a server that the PLC connects to. ``opcuamap.py`` has its address space."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from asyncua import ua
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.address_space import AddressSpace, AttributeService

from services.adapters.opcuamap import INPUTS, NAMESPACE, OUTPUTS, Signal, changes, text_node, value_of
from services.adapters.opcuaserver import PEER, Admission, GuardedServer, certificate_bytes
from services.adapters.processimage import UNREADABLE, LoopThread, MalformedNotes, WriteSignal, readable_text
from services.core.errors import InvalidInputError, UnavailableError
from services.core.plc import PlcInputs, PlcOutputs

# It reads the standard's own nodes first: a second or two.
_START_S: Final = 60.0
_STOP_S: Final = 1.0
_POLICIES: Final = (
    ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt,
    ua.SecurityPolicyType.Basic256Sha256_Sign,
    ua.SecurityPolicyType.Aes128Sha256RsaOaep_SignAndEncrypt,
    ua.SecurityPolicyType.Aes256Sha256RsaPss_SignAndEncrypt,
)


@dataclass(frozen=True, slots=True)
class OpcUaSecurity:
    """How a server knows its clients, and a client its server; files in PEM or DER."""

    certificate_path: Path
    """This side's own."""
    key_path: Path
    username: str = ""
    """Who may; empty for everybody who has a trusted certificate."""
    password: str = dataclasses.field(default="", repr=False)
    trusted_paths: tuple[Path, ...] = ()
    """Certificates of the other side; of a server, empty for all that know the password."""

    def __post_init__(self) -> None:
        if not self.username and not self.trusted_paths:
            raise InvalidInputError("OPC UA security must name a user or trusted certificates, got neither")
        if bool(self.username) != bool(self.password):
            raise InvalidInputError("a user must have a name and a password, got one of them")


class OpcUaImage:
    """The process image, served in OPC UA.

    Args:
        host: Address to serve on.
        port: Port; 0 takes a free one.
        line: The line's id, as its object is called.
        security: Who may; None lets everybody, unencrypted.
        max_connections: Further ones are refused.
        message_timeout_s: A message must be whole this long after its first byte.
        activation_timeout_s: A connection without a session for so long is ended.
    """

    def __init__(
        self,
        host: str,
        port: int,
        line: str,
        security: OpcUaSecurity | None = None,
        *,
        max_connections: int = 8,
        message_timeout_s: float = 2.0,
        activation_timeout_s: float = 10.0,
    ) -> None:
        self._host = host
        self._port = port
        self._line = line
        self._security = security
        self._max_connections = max_connections
        self._message_timeout_s = message_timeout_s
        self._activation_timeout_s = activation_timeout_s
        self._lock = threading.Lock()
        self._inputs = PlcInputs()
        self._outputs = PlcOutputs()
        self._shown = PlcOutputs()
        self._showing: asyncio.Task[None] | None = None
        self._notes = MalformedNotes()
        self._written = WriteSignal()
        self._thread: LoopThread | None = None
        self._server: GuardedServer | None = None
        self._nodes: dict[Signal, ua.NodeId] = {}

    def start(self) -> None:
        """Begin to serve.

        Raises:
            UnavailableError: When the address cannot be served on.
            InvalidInputError: When a certificate or key cannot be read.
        """
        thread = LoopThread("opcua")
        try:
            thread.run(self._open(), _START_S)
        except OSError as error:
            thread.close()
            raise UnavailableError(f"{self._host}:{self._port} must be free to serve on, got {error}") from error
        except BaseException:
            thread.close()
            raise
        self._thread = thread
        self._show_soon()

    def read(self) -> PlcInputs:
        """What the PLC says now."""
        with self._lock:
            return self._inputs

    def write(self, outputs: PlcOutputs) -> None:
        """Say this from now on; a client sees it as soon as the server's thread comes to it."""
        with self._lock:
            if outputs == self._outputs:
                return
            self._outputs = outputs
        self._show_soon()

    def wait(self, timeout_s: float) -> bool:
        """Wait until the PLC writes something; tells whether it did within ``timeout_s``."""
        return self._written.wait(timeout_s)

    def malformed(self) -> Sequence[str]:
        """What came since the last call that is no message of the protocol, each in words for people."""
        return self._notes.take()

    @property
    def port(self) -> int:
        """The port that is served on; the given one before :meth:`start`."""
        return self._port

    @property
    def address(self) -> str:
        """Where the PLC finds it, for people."""
        return f"opc.tcp://{self._host}:{self._port} {self._line}"

    def close(self) -> None:
        """Stop serving; idempotent."""
        self._written.close()
        thread, self._thread = self._thread, None
        server, self._server = self._server, None
        if thread is not None:
            if server is not None:
                with contextlib.suppress(UnavailableError):
                    thread.run(server.stop(), _STOP_S)
            thread.close()

    # ---- on the loop's thread

    async def _open(self) -> None:
        security = self._security
        trusted = [await _certificate(path) for path in security.trusted_paths] if security else []
        admission = Admission(
            security.username if security else "",
            security.password if security else "",
            frozenset(trusted),
            secured=security is not None,
        )
        server = GuardedServer(
            admission,
            self._notes,
            anonymous=security is None or not security.username,
            max_connections=self._max_connections,
            message_timeout_s=self._message_timeout_s,
            activation_timeout_s=self._activation_timeout_s,
        )
        server.name, server.product_uri, server.manufacturer_name = "Sightline", "urn:sightline", "Sightline"
        server.application_type = ua.ApplicationType.Server
        await server.init()
        await server.set_application_uri(f"{NAMESPACE}:{self._line}")
        server.set_endpoint(f"opc.tcp://{self._host}:{self._port}/")
        if security is None:
            server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        else:
            await _load_key(server, security)
            server.set_security_policy(list(_POLICIES))
        await self._populate(server)
        server.iserver.attribute_service = _InputWrites(
            server.iserver.aspace, {self._nodes[signal]: signal for signal in INPUTS}, self._take
        )
        await server.start()
        if server.bserver is not None:
            self._port = server.bserver.port
        self._server = server

    async def _populate(self, server: GuardedServer) -> None:
        index = await server.register_namespace(NAMESPACE)
        system = await server.nodes.objects.add_object(text_node("VisionSystem", index), f"{index}:VisionSystem")
        line = await system.add_object(text_node(self._line, index), f"{index}:{self._line}")
        self._shown = PlcOutputs()
        for folder in ("Inputs", "Results", "Diagnostics"):
            parent = await line.add_folder(text_node(f"{self._line}.{folder}", index), f"{index}:{folder}")
            for signal in (*INPUTS, *OUTPUTS):
                if signal.folder != folder:
                    continue
                value = getattr(self._inputs, signal.attribute) if folder == "Inputs" else value_of(signal, self._shown)
                node = await parent.add_variable(
                    signal.node_id(self._line, index), f"{index}:{signal.name}", value, signal.type
                )
                if folder == "Inputs":
                    await node.set_writable()
                self._nodes[signal] = node.nodeid

    def _show_soon(self) -> None:
        if self._thread is not None:
            self._thread.soon(self._begin_showing)

    def _begin_showing(self) -> None:
        if self._showing is None or self._showing.done():
            self._showing = asyncio.get_running_loop().create_task(self._show())

    async def _show(self) -> None:
        while self._server is not None:
            with self._lock:
                wanted = self._outputs
            if wanted == self._shown:
                return
            for signal, value in changes(self._shown, wanted):
                await self._server.write_attribute_value(self._nodes[signal], signal.data(value))
            self._shown = wanted

    def _take(self, written: dict[str, Any]) -> None:
        texts = {name: readable_text(value) for name, value in written.items() if isinstance(value, str)}
        for name, text in texts.items():
            if UNREADABLE in text:
                self._notes.note(PEER.get(), f"{name} must be printable ASCII of at most 32 characters, got {text!a}")
        with self._lock:
            self._inputs = dataclasses.replace(self._inputs, **{**written, **texts})
        self._written.tell()


class _InputWrites(AttributeService):
    """Lets clients write the inputs and nothing else, and tells of what they wrote in one request at once."""

    def __init__(
        self, aspace: AddressSpace, inputs: dict[ua.NodeId, Signal], take: Callable[[dict[str, Any]], None]
    ) -> None:
        super().__init__(aspace)
        self._inputs = inputs
        self._take = take

    async def write(self, params: ua.WriteParameters, user: User) -> list[ua.StatusCode]:  # type: ignore[override]
        if user.role is UserRole.Admin:  # The server itself; no client is one.
            return await super().write(params, user)
        results, written = [], {}
        for each in params.NodesToWrite:
            status = self._refusal(each, user)
            if status is None:
                [status] = await super().write(ua.WriteParameters(NodesToWrite=[each]), user)
                if status.is_good():
                    written[self._inputs[each.NodeId].attribute] = each.Value.Value.Value
            results.append(status)
        if written:
            self._take(written)
        return results

    def _refusal(self, asked: ua.WriteValue, user: User) -> ua.StatusCode | None:
        signal = self._inputs.get(asked.NodeId)
        if user.role is not UserRole.User or signal is None or asked.AttributeId != ua.AttributeIds.Value:
            return _status(ua.StatusCodes.BadUserAccessDenied)
        if asked.IndexRange:
            return _status(ua.StatusCodes.BadWriteNotSupported)
        value, status = asked.Value.Value, asked.Value.StatusCode
        # A value that its sender calls bad, and an array of the type, would pass for one of the type.
        if (
            value is None
            or value.VariantType != signal.type
            or not isinstance(value.Value, bool | int | str)
            or (status is not None and not status.is_good())
        ):
            return _status(ua.StatusCodes.BadTypeMismatch)
        return None


def _status(code: int) -> ua.StatusCode:
    return ua.StatusCode(ua.UInt32(code))


async def _certificate(path: Path) -> bytes:
    try:
        return await certificate_bytes(path)
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"{path} must be a certificate in PEM or DER, got {error}") from error


async def _load_key(server: GuardedServer, security: OpcUaSecurity) -> None:
    try:
        await server.load_certificate(security.certificate_path)
        await server.load_private_key(security.key_path)
    except (OSError, ValueError, TypeError) as error:
        raise InvalidInputError(
            f"{security.certificate_path} and {security.key_path} must be a certificate and its key, got {error}"
        ) from error
