"""The PLC's side of a process image in Modbus-TCP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pymodbus.client import ModbusTcpClient
from pymodbus.exceptions import ModbusException

from services.adapters import modbusmap
from services.core.errors import InvalidInputError, UnavailableError
from services.core.plc import PlcInputs, PlcOutputs


class ModbusLink:
    """A PLC that polls a Modbus-TCP server. Used from one thread.

    Args:
        host: Address of the server.
        port: Its port.
        unit_id: The unit that is asked.
    """

    def __init__(self, host: str, port: int, unit_id: int = 1) -> None:
        self._host = host
        self._port = port
        self._unit_id = unit_id
        self._client: ModbusTcpClient | None = None
        self._registers: tuple[int, ...] | None = None

    def connect(self, timeout_s: float) -> None:
        """Connect, anew where it was connected.

        Raises:
            UnavailableError: When nobody answers there in time.
        """
        self.close()
        client = ModbusTcpClient(self._host, port=self._port, timeout=timeout_s, retries=0)
        if not client.connect():  # type: ignore[no-untyped-call]
            raise UnavailableError(f"a server must answer at {self._host}:{self._port}, got none")
        self._client = client
        # A server that has as many connections as it takes accepts one more, and drops it.
        self.read()

    def write(self, inputs: PlcInputs) -> None:
        """Say this from now on: first the registers, where they changed, then the signals.

        Raises:
            UnavailableError: When the connection is lost.
            InvalidInputError: When the server refuses a value.
        """
        registers = modbusmap.pack_inputs(inputs)
        if registers != self._registers:
            self._ask(lambda client: client.write_registers(modbusmap.INPUTS, list(registers), device_id=self._unit_id))
            self._registers = registers
        coils = [inputs.trigger, inputs.result_ack]
        self._ask(lambda client: client.write_coils(0, coils, device_id=self._unit_id))

    def read(self) -> PlcOutputs:
        """What the inspection says now.

        Raises:
            UnavailableError: When the connection is lost.
            InvalidInputError: When the server refuses, or says what this release does not know.
        """
        answer = self._ask(
            lambda client: client.read_input_registers(
                modbusmap.OUTPUTS, count=modbusmap.OUTPUT_COUNT, device_id=self._unit_id
            )
        )
        return modbusmap.unpack_outputs(answer.registers)

    def close(self) -> None:
        """Let go; idempotent."""
        client, self._client = self._client, None
        # Another connection may have written meanwhile.
        self._registers = None
        if client is not None:
            client.close()  # type: ignore[no-untyped-call]

    def _ask(self, question: Callable[[ModbusTcpClient], Any]) -> Any:
        if self._client is None:
            raise UnavailableError("a PLC must be connected, got one that is not")
        try:
            answer = question(self._client)
        except (ModbusException, OSError) as error:
            self.close()
            raise UnavailableError(f"{self._host}:{self._port} must answer, got {error}") from error
        if answer.isError():
            raise InvalidInputError(f"{self._host}:{self._port} must take what is asked, got {answer}")
        return answer
