"""The process image in Modbus-TCP: a server that the PLC polls. ``modbusmap.py`` has the wiring table.

pymodbus reads and makes the messages; the connections are our own, because its server neither bounds their number nor
ends one that sends garbage or half a message, and forgets what a PLC sends before the last answer is out.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Sequence
from typing import Any, Final

from pymodbus.constants import ExcCodes
from pymodbus.pdu import DecodePDU, ExceptionResponse, ModbusPDU

from services.adapters import modbusmap
from services.adapters.processimage import UNREADABLE, LoopThread, MalformedNotes, WriteSignal, drop_when_dead
from services.core.errors import UnavailableError
from services.core.plc import PlcInputs, PlcOutputs

_READ_COILS: Final = 1
_READ_DISCRETE: Final = 2
_READ_INPUT: Final = 4
_WRITE_COIL: Final = 5
_COIL_FUNCTIONS: Final = frozenset({1, 5, 15})
_FUNCTIONS: Final = frozenset({1, 2, 3, 4, 5, 6, 15, 16, 22, 23})
_COIL_VALUES: Final = (b"\xff\x00", b"\x00\x00")

_HEADER_BYTES: Final = 7
# The unit's byte and a message of 253 bytes, by the specification.
_MIN_LENGTH: Final = 2
_MAX_LENGTH: Final = 254
_READ_BUFFER_BYTES: Final = 4_096
_START_S: Final = 5.0
# Of a device that is reached by its address alone; the specification recommends the last and tolerates the first.
_ANY_UNIT: Final = frozenset({0, 255})


class ModbusImage:
    """The process image, served in Modbus-TCP.

    Args:
        host: Address to serve on.
        port: Port; 0 takes a free one.
        unit_id: The unit that answers, 1 to 247; 0 and 255 always do.
        max_connections: Further ones are refused.
        message_timeout_s: A message must be whole this long after its first byte, and an answer taken.
        idle_timeout_s: A connection without a message for so long is ended; a PLC comes back.
    """

    def __init__(
        self,
        host: str,
        port: int,
        unit_id: int = 1,
        *,
        max_connections: int = 8,
        message_timeout_s: float = 2.0,
        idle_timeout_s: float = 60.0,
    ) -> None:
        self._host = host
        self._port = port
        self._units = _ANY_UNIT | {unit_id}
        self._unit_id = unit_id
        self._max_connections = max_connections
        self._message_timeout_s = message_timeout_s
        self._idle_timeout_s = idle_timeout_s
        self._registers = _Registers()
        self._notes = MalformedNotes()
        self._written = WriteSignal()
        self._decoder = DecodePDU(True)
        self._connections: set[asyncio.StreamWriter] = set()
        self._thread: LoopThread | None = None
        self._server: asyncio.Server | None = None

    def start(self) -> None:
        """Begin to serve; raises ``UnavailableError`` when the address cannot be served on."""
        thread = LoopThread("modbus")
        try:
            thread.run(self._open(), _START_S)
        except OSError as error:
            thread.close()
            raise UnavailableError(f"{self._host}:{self._port} must be free to serve on, got {error}") from error
        except UnavailableError:
            thread.close()
            raise
        self._thread = thread

    def read(self) -> PlcInputs:
        """What the PLC says now."""
        return self._registers.inputs()

    def write(self, outputs: PlcOutputs) -> None:
        """Say this from the next request on, all of it at once."""
        self._registers.show(outputs)

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
        return f"modbus-tcp://{self._host}:{self._port} unit {self._unit_id}"

    def close(self) -> None:
        """Stop serving; idempotent."""
        self._written.close()
        thread, self._thread = self._thread, None
        if thread is not None:
            with contextlib.suppress(UnavailableError):
                thread.run(self._end(), 1.0)
            thread.close()

    # ---- on the loop's thread

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._converse, self._host, self._port, limit=_READ_BUFFER_BYTES)
        self._port = self._server.sockets[0].getsockname()[1]

    async def _end(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in list(self._connections):
            writer.transport.abort()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = str((writer.get_extra_info("peername") or ("unknown",))[0])
        if len(self._connections) >= self._max_connections:
            self._notes.note(peer, f"at most {self._max_connections} connections may be open, got one more")
            writer.transport.abort()
            return
        self._connections.add(writer)
        try:
            connection: socket.socket = writer.get_extra_info("socket")
            drop_when_dead(connection)
            # An answer that is not taken is waited for, not heaped up.
            writer.transport.set_write_buffer_limits(high=0)
            while await self._answer_one(reader, writer, peer):
                pass
        except _GarbageError as error:
            self._notes.note(peer, str(error))
        except OSError:
            # The peer is gone, which is no news: the heartbeat tells.
            pass
        finally:
            self._connections.discard(writer)
            writer.transport.abort()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: str) -> bool:
        """Take one message and answer it; false once there will be no more."""
        try:
            first = await asyncio.wait_for(reader.read(1), self._idle_timeout_s)
        except TimeoutError:
            return False
        if not first:
            return False
        try:
            async with asyncio.timeout(self._message_timeout_s):
                transaction, unit, message = await _read_message(first, reader)
        except TimeoutError:
            raise _GarbageError(
                f"a message must be whole within {self._message_timeout_s:g} s, got a part of one"
            ) from None
        answer = await self._answer(unit, message, peer)
        writer.write(transaction + b"\0\0" + (len(answer) + 1).to_bytes(2, "big") + unit.to_bytes(1, "big") + answer)
        try:
            async with asyncio.timeout(self._message_timeout_s):
                await writer.drain()
        except TimeoutError:
            raise _GarbageError(
                f"an answer must be taken within {self._message_timeout_s:g} s, got a peer that does not"
            ) from None
        return True

    async def _answer(self, unit: int, message: bytes, peer: str) -> bytes:
        function = message[0]
        answer: ModbusPDU
        if unit not in self._units:
            self._notes.note(peer, f"the unit must be {self._unit_id}, got {unit}")
            answer = ExceptionResponse(function, ExcCodes.GATEWAY_NO_RESPONSE)
        elif function not in _FUNCTIONS:
            self._notes.note(peer, f"a function must be one of 1 to 6, 15, 16, 22 and 23, got {function}")
            answer = ExceptionResponse(function, ExcCodes.ILLEGAL_FUNCTION)
        else:
            answer = await self._do(unit, message, peer)
            if isinstance(answer, ExceptionResponse) and answer.exception_code == ExcCodes.ILLEGAL_VALUE:
                self._notes.note(peer, f"the data of function {function} must have its form, got {message[1:9].hex()}")
        return answer.function_code.to_bytes(1, "big") + answer.encode()

    async def _do(self, unit: int, message: bytes, peer: str) -> ModbusPDU:
        function = message[0]
        request = self._decoder.decode(message)
        if request is None or (function == _WRITE_COIL and message[3:5] not in _COIL_VALUES):
            return ExceptionResponse(function, ExcCodes.ILLEGAL_VALUE)
        # It asks for two methods of pymodbus's own store, which ours has.
        access: Any = _Access(self, peer)
        return await request.datastore_update(access, unit)

    def tell_written(self, peer: str, inputs: PlcInputs) -> None:
        """Wake whoever waits, and note a text that cannot be read."""
        for name in ("recipe", "lot", "part"):
            text = getattr(inputs, name)
            if UNREADABLE in text:
                self._notes.note(peer, f"{name} must be printable ASCII, got {text!a}")
        self._written.tell()

    @property
    def registers(self) -> _Registers:
        """The registers that requests read and write."""
        return self._registers


class _GarbageError(Exception):
    """What came leaves no way to tell where the next message begins."""


async def _read_message(first: bytes, reader: asyncio.StreamReader) -> tuple[bytes, int, bytes]:
    """Read the rest of a message.

    Returns:
        Its transaction, its unit, and function code and data.

    Raises:
        _GarbageError: When it is none of this protocol.
    """
    try:
        header = first + await reader.readexactly(_HEADER_BYTES - 1)
        protocol, length = int.from_bytes(header[2:4], "big"), int.from_bytes(header[4:6], "big")
        if protocol:
            raise _GarbageError(f"the protocol must be 0, got {protocol} in {header.hex()}")
        if not _MIN_LENGTH <= length <= _MAX_LENGTH:
            raise _GarbageError(f"the length must be {_MIN_LENGTH} to {_MAX_LENGTH} bytes, got {length}")
        return header[:2], header[6], await reader.readexactly(length - 1)
    except asyncio.IncompleteReadError:
        raise _GarbageError("a message must be whole, got the end of the connection within one") from None


class _Registers:
    """Coils and registers of both sides. Thread-safe; each call sees one moment."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._coils = [False] * len(modbusmap.COILS)
        self._said = [0] * modbusmap.INPUT_COUNT
        self._shown = PlcOutputs()
        self._bits = modbusmap.output_bits(self._shown)
        self._answers = modbusmap.pack_outputs(self._shown)

    def inputs(self) -> PlcInputs:
        """What the PLC says."""
        with self._lock:
            coils, said = tuple(self._coils), tuple(self._said)
        return modbusmap.unpack_inputs(coils, said)

    def show(self, outputs: PlcOutputs) -> None:
        """Say this from now on."""
        if outputs == self._shown:
            return
        bits, answers = modbusmap.output_bits(outputs), modbusmap.pack_outputs(outputs)
        with self._lock:
            self._shown, self._bits, self._answers = outputs, bits, answers

    def get(self, function: int, address: int, count: int) -> list[Any] | None:
        """Read as a function does; None where something lies outside the map."""
        with self._lock:
            for start, values in self._blocks(function):
                if start <= address and address + count <= start + len(values):
                    return list(values[address - start : address - start + count])
        return None

    def put(self, function: int, address: int, values: Sequence[Any]) -> bool:
        """Write as a function does; false where something lies outside of what may be written."""
        with self._lock:
            if function in _COIL_FUNCTIONS:
                return _put(self._coils, address, [bool(value) for value in values])
            if (address, len(values)) == (modbusmap.CONTROL, 1):
                self._coils[:] = modbusmap.bits_of(values[0], len(self._coils))
                return True
            return _put(self._said, address - modbusmap.INPUTS, list(values))

    def _blocks(self, function: int) -> list[tuple[int, Sequence[Any]]]:
        if function in _COIL_FUNCTIONS:
            return [(0, self._coils)]
        if function == _READ_DISCRETE:
            return [(0, self._bits)]
        if function == _READ_INPUT:
            return [(modbusmap.OUTPUTS, self._answers)]
        return [
            (modbusmap.CONTROL, [modbusmap.word_of(self._coils)]),
            (modbusmap.STATUS, [self._answers[-1], *self._answers[:-1]]),
            (modbusmap.INPUTS, self._said),
        ]


def _put(block: list[Any], place: int, values: list[Any]) -> bool:
    if place < 0 or place + len(values) > len(block):
        return False
    block[place : place + len(values)] = values
    return True


class _Access:
    """The registers as pymodbus's messages ask for them, for one peer. It never waits, so a message is done at once."""

    def __init__(self, image: ModbusImage, peer: str) -> None:
        self._image = image
        self._peer = peer

    async def async_getValues(  # noqa: N802 - pymodbus's name
        self, _device_id: int, func_code: int, address: int, count: int = 1
    ) -> list[Any] | ExcCodes:
        values = self._image.registers.get(func_code, address, count)
        return ExcCodes.ILLEGAL_ADDRESS if values is None else values

    async def async_setValues(  # noqa: N802 - pymodbus's name
        self, _device_id: int, func_code: int, address: int, values: Sequence[Any]
    ) -> ExcCodes | None:
        if not self._image.registers.put(func_code, address, values):
            return ExcCodes.ILLEGAL_ADDRESS
        self._image.tell_written(self._peer, self._image.read())
        return None
