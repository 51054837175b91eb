"""The PLC's side of a process image in OPC UA."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from asyncua import Client, ua
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256

from services.adapters.opcua import OpcUaSecurity
from services.adapters.opcuamap import INPUTS, NAMESPACE, OUTPUTS, outputs_of
from services.adapters.processimage import LoopThread
from services.core.errors import InvalidInputError, UnavailableError
from services.core.plc import PlcInputs, PlcOutputs

_CLOSE_S: Final = 1.0
_SESSION_MS: Final = 30_000

T = TypeVar("T")


class OpcUaLink:
    """A PLC that writes and reads an OPC UA server's signals, all of them in one request. Used from one thread.

    Args:
        host: Address of the server.
        port: Its port.
        line: The line's id.
        security: This side's certificate and name, and the server's certificate as the trusted one; None connects
            unsecured.
    """

    def __init__(self, host: str, port: int, line: str, security: OpcUaSecurity | None = None) -> None:
        self._url = f"opc.tcp://{host}:{port}/"
        self._line = line
        self._security = security
        self._thread: LoopThread | None = None
        self._client: Client | None = None
        self._timeout_s = 0.0
        self._inputs: list[ua.NodeId] = []
        self._outputs: list[ua.NodeId] = []

    def connect(self, timeout_s: float) -> None:
        """Connect, anew where it was connected.

        Raises:
            UnavailableError: When nobody answers there in time, or lets this side in.
        """
        self.close()
        self._timeout_s = timeout_s
        self._thread = LoopThread("opcua-link")
        try:
            self._ask(self._connect(timeout_s))
        except UnavailableError:
            self.close()
            raise

    def write(self, inputs: PlcInputs) -> None:
        """Say this from now on, in one request.

        Raises:
            UnavailableError: When the connection is lost.
            InvalidInputError: When the server refuses a value.
        """
        values = [signal.data(getattr(inputs, signal.attribute)) for signal in INPUTS]
        results = self._ask(self._connected().uaclient.write_attributes(self._inputs, values))
        refused = [
            f"{signal.name}: {status.name}" for signal, status in zip(INPUTS, results, strict=True) if status.is_bad()
        ]
        if refused:
            raise InvalidInputError(f"{self._url} must take what is written, got {', '.join(refused)}")

    def read(self) -> PlcOutputs:
        """What the inspection says now, in one request.

        Raises:
            UnavailableError: When the connection is lost.
            InvalidInputError: When the server says what this release does not know.
        """
        values = self._ask(self._connected().uaclient.read_attributes(self._outputs, ua.AttributeIds.Value))
        return outputs_of([value.Value.Value if value.Value is not None else None for value in values])

    def close(self) -> None:
        """Let go; idempotent."""
        thread, self._thread = self._thread, None
        client, self._client = self._client, None
        if thread is not None:
            if client is not None:
                with contextlib.suppress(UnavailableError, OSError, ua.UaError, TimeoutError):
                    thread.run(client.disconnect(), _CLOSE_S)
            thread.close()

    async def _connect(self, timeout_s: float) -> None:
        client = Client(self._url, timeout=timeout_s)
        client.session_timeout = _SESSION_MS
        if self._security is not None:
            if self._security.username:
                client.set_user(self._security.username)
                client.set_password(self._security.password)
            await client.set_security(
                SecurityPolicyBasic256Sha256,
                self._security.certificate_path,
                self._security.key_path,
                server_certificate=str(self._security.trusted_paths[0]) if self._security.trusted_paths else None,
            )
        try:
            await client.connect()
            index = await client.get_namespace_index(NAMESPACE)
        except BaseException:
            with contextlib.suppress(OSError, ua.UaError, TimeoutError):
                await client.disconnect()
            raise
        self._inputs = [signal.node_id(self._line, index) for signal in INPUTS]
        self._outputs = [signal.node_id(self._line, index) for signal in OUTPUTS]
        self._client = client

    def _connected(self) -> Client:
        if self._client is None:
            raise UnavailableError("a PLC must be connected, got one that is not")
        return self._client

    def _ask(self, work: Coroutine[Any, Any, T]) -> T:
        if self._thread is None:
            work.close()
            raise UnavailableError("a PLC must be connected, got one that is not")
        try:
            return self._thread.run(work, self._timeout_s)
        except (OSError, TimeoutError, asyncio.CancelledError, ua.UaError, ValueError) as error:
            raise UnavailableError(f"{self._url} must answer, got {error!r}") from error
