"""Process images to test against, each with what a PLC connects to it with."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass

from services.adapters.memory_plc import MemoryImage, MemoryPlcLink
from services.adapters.modbus import ModbusImage
from services.adapters.modbusclient import ModbusLink
from services.adapters.opcua import OpcUaImage
from services.adapters.opcuaclient import OpcUaLink
from services.adapters.ports import PlcLink, ProcessImage

LOOPBACK = "127.0.0.1"
LINE = "line-1"
DEADLINE_S = 10.0


@dataclass
class Served:
    """An image and how a PLC reaches it."""

    image: ProcessImage
    link: Callable[[], PlcLink]


def served(kind: str) -> Served:
    """An image of a kind, not started, on a free port."""
    if kind == "modbus":
        modbus = ModbusImage(LOOPBACK, 0)
        return Served(modbus, lambda: ModbusLink(LOOPBACK, modbus.port))
    if kind == "opcua":
        opcua = OpcUaImage(LOOPBACK, 0, LINE)
        return Served(opcua, lambda: OpcUaLink(LOOPBACK, opcua.port, LINE))
    memory = MemoryImage()
    return Served(memory, lambda: MemoryPlcLink(memory))


def eventually(what: Callable[[], bool]) -> bool:
    """Ask until it is so, for as long as may be."""
    until = time.monotonic() + DEADLINE_S
    while not what():
        if time.monotonic() > until:
            return False
        time.sleep(0.002)
    return True


def raw(port: int) -> AbstractContextManager[socket.socket]:
    """A bare connection, to send what no PLC sends."""
    return closing(socket.create_connection((LOOPBACK, port), timeout=DEADLINE_S))


def ended(connection: socket.socket) -> bool:
    """Whether the server ends a connection, after whatever it still says."""
    try:
        while connection.recv(4096):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


class Told:
    """What an image has noted so far; asking takes it from the image."""

    def __init__(self, image: ProcessImage) -> None:
        self._image = image
        self.notes: list[str] = []

    def of(self, what: str) -> bool:
        """Whether, soon, a note says this."""
        return eventually(lambda: any(what in note for note in self._all()))

    def _all(self) -> list[str]:
        self.notes += self._image.malformed()
        return self.notes
