"""A process image in memory, both sides in one process: for tests of the handshake, without a server."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from services.adapters.processimage import UNREADABLE, MalformedNotes, WriteSignal, readable_text
from services.core.errors import UnavailableError
from services.core.plc import PlcInputs, PlcOutputs


class MemoryImage:
    """The process image as an object. Its PLCs are :class:`MemoryPlcLink`.

    Attributes:
        unavailable: While true it cannot be started, and no PLC reaches it.
    """

    def __init__(self) -> None:
        self.unavailable = False
        self._lock = threading.Lock()
        self._inputs = PlcInputs()
        self._outputs = PlcOutputs()
        self._notes = MalformedNotes()
        self._written = WriteSignal()
        self._serves = False

    def start(self) -> None:
        """Begin to serve; raises ``UnavailableError`` while it is unavailable."""
        if self.unavailable:
            raise UnavailableError("memory must be free to serve on, got one that is not")
        self._serves = True

    def read(self) -> PlcInputs:
        """What the PLC says now."""
        with self._lock:
            return self._inputs

    def write(self, outputs: PlcOutputs) -> None:
        """Say this from now on."""
        with self._lock:
            self._outputs = outputs

    def wait(self, timeout_s: float) -> bool:
        """Wait until the PLC writes something; tells whether it did within ``timeout_s``."""
        return self._written.wait(timeout_s)

    def malformed(self) -> Sequence[str]:
        """What came since the last call that is no message of the protocol, each in words for people."""
        return self._notes.take()

    @property
    def address(self) -> str:
        """Where the PLC finds it, for people."""
        return "memory"

    def close(self) -> None:
        """Stop serving; idempotent."""
        self._serves = False
        self._written.close()

    # ---- the PLC's side

    def say(self, inputs: PlcInputs) -> None:
        """The PLC says this from now on.

        Raises:
            UnavailableError: While it does not serve.
        """
        self._check()
        texts = {name: readable_text(getattr(inputs, name)) for name in ("recipe", "lot", "part")}
        for name, text in texts.items():
            if UNREADABLE in text:
                self._notes.note("memory", f"{name} must be printable ASCII of at most 32 characters, got {text!a}")
        said = PlcInputs(inputs.trigger, inputs.result_ack, inputs.heartbeat, inputs.encoder, **texts)
        with self._lock:
            self._inputs = said
        self._written.tell()

    def said(self) -> PlcOutputs:
        """What the inspection says; raises ``UnavailableError`` while it does not serve."""
        self._check()
        with self._lock:
            return self._outputs

    def _check(self) -> None:
        if self.unavailable or not self._serves:
            raise UnavailableError("the image must be served to be reached, got one that is not")


class MemoryPlcLink:
    """A PLC's connection to a :class:`MemoryImage`.

    Args:
        image: The image.
    """

    def __init__(self, image: MemoryImage) -> None:
        self._image = image
        self._connected = False

    def connect(self, timeout_s: float) -> None:  # noqa: ARG002 - the port's
        """Connect; raises ``UnavailableError`` while the image does not serve."""
        self._image.said()
        self._connected = True

    def write(self, inputs: PlcInputs) -> None:
        """Say this from now on; raises ``UnavailableError`` while the image does not serve."""
        self._check()
        self._image.say(inputs)

    def read(self) -> PlcOutputs:
        """What the inspection says; raises ``UnavailableError`` while it does not serve."""
        self._check()
        return self._image.said()

    def close(self) -> None:
        """Let go; idempotent."""
        self._connected = False

    def _check(self) -> None:
        if not self._connected:
            raise UnavailableError("a PLC must be connected, got one that is not")
