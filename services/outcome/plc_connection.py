"""One PLC: its signals through the handshake's machine, and what the machine says written down before it is shown."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from services.adapters.ports import ProcessImage
from services.core.errors import SightlineError
from services.core.handshake import Handshake, Step
from services.core.identity import line_event_id
from services.core.line_event import Light, LineEvent, LineEventKind
from services.core.outcome import Outcome
from services.core.plc import (
    ErrorCode,
    HandshakeMemory,
    HandshakeSettings,
    HandshakeState,
    PlcInputs,
    PlcOutputs,
    TriggeredPart,
)
from services.core.types import Verdict
from services.outcome.state_file import BytesFile, handshake_from_json, handshake_to_json
from services.runtime import metrics
from services.runtime.logging import get_logger

LOG = get_logger(__name__)

#: Longest time between two looks at the signals and the clock.
TICK_S: Final = 0.01
_HEARTBEAT_S: Final = 0.5
_MALFORMED_EVERY_S: Final = 1.0
#: A PLC that has written something has written all its signals this long after.
_WHOLE_CYCLE_S: Final = 1.0


class PlcConnection:
    """Runs one handshake. Thread-safe; its own thread looks at the PLC's signals.

    Args:
        settings: How the PLC is spoken with.
        image: The signals.
        memory_file: What must survive.
        tell: Puts events on record; returns once they are safe.
        ask: Told of a part whose pictures must be taken; returns at once.
        light: What the stack light shows.
        blind: Why outcomes cannot be read at present; empty while they can.
        clock_ns: Wall clock.
    """

    def __init__(
        self,
        settings: HandshakeSettings,
        image: ProcessImage,
        memory_file: BytesFile,
        *,
        tell: Callable[[Sequence[LineEvent]], None],
        ask: Callable[[TriggeredPart], None],
        light: Callable[[], Light | None],
        blind: Callable[[], str] = lambda: "",
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._settings = settings
        self._image = image
        self._file = memory_file
        self._tell = tell
        self._ask = ask
        self._light = light
        self._blind = blind
        self._clock_ns = clock_ns
        memory, self._untold = handshake_from_json(memory_file.load())
        self._machine = Handshake(settings, clock_ns(), memory)
        self._saved: HandshakeMemory | None = memory
        self._left = memory
        """How the PLC's signals stood in an earlier life; None once it has told them anew."""
        self._heard_s: float | None = None
        self._shown: PlcOutputs | None = None
        self._heartbeat = 0
        self._heartbeat_s = 0.0
        self._malformed_s = 0.0
        self._deadlines_missed = 0
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"plc-{settings.connection}", daemon=True)
        self._failure: BaseException | None = None
        self._up = metrics.OUTCOME_CONNECTION_UP.labels(settings.line_id, settings.connection)
        self._answered = metrics.OUTCOME_ANSWERED_SECONDS.labels(settings.line_id, settings.connection)

    # ---- life

    def start(self) -> None:
        """Serve the signals.

        Raises:
            UnavailableError: When the address cannot be served on.
        """
        if self._left is not None:
            # Before the PLC can look: a moment without the answer that stands would tell it that its word was taken.
            self._image.write(self._machine.outputs(self._heartbeat, self._light()))
        self._image.start()
        self._thread.start()

    def close(self) -> None:
        """Show the safe level, and stop; idempotent."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(2.0)
            # What the PLC sees last must not be a result that nobody stands behind any more.
            level = self._settings.safe_level
            self._image.write(
                PlcOutputs(
                    safe=True,
                    nok=level is Verdict.FAIL,
                    review=level is Verdict.REVIEW,
                    error_code=ErrorCode.HEARTBEAT,
                )
            )
        self._image.close()

    def check(self) -> None:
        """Raise what ended the connection's thread, if anything did."""
        if self._failure is not None:
            raise self._failure

    # ---- what it is

    @property
    def name(self) -> str:
        """As settings name it."""
        return self._settings.connection

    @property
    def address(self) -> str:
        """Where the PLC finds it."""
        return self._image.address

    @property
    def state(self) -> HandshakeState:
        """Where the handshake stands."""
        return self._machine.state

    @property
    def part_id(self) -> str:
        """The part that it is about."""
        return self._machine.part_id

    @property
    def error_code(self) -> ErrorCode:
        """As the PLC sees it."""
        return self._machine.error_code

    @property
    def product(self) -> str:
        """What is made from the next part on."""
        return self._machine.product

    @property
    def lot(self) -> str:
        """The lot from the next part on."""
        return self._machine.lot

    @property
    def waiting(self) -> int:
        """Outcomes that wait to be shown."""
        return self._machine.waiting

    @property
    def deadlines_missed(self) -> int:
        """Parts in a row that were answered without an outcome, because none was there in time."""
        return self._deadlines_missed

    # ---- what moves it

    def take_outcome(self, outcome: Outcome) -> None:
        """Give it an outcome of its line; the PLC sees the answer before this returns."""
        with self._lock:
            self._apply(self._machine.outcome(outcome, self._clock_ns()))

    def no_camera(self, part_id: str, why: str) -> None:
        """Say that no picture of a part will come."""
        with self._lock:
            self._apply(self._machine.no_camera(part_id, why, self._clock_ns()))

    def _run(self) -> None:
        try:
            self._go_on()
            while not self._stopping.is_set():
                written = self._image.wait(TICK_S)
                self._look(self._as_it_stands(self._image.read(), written=written))
        except BaseException as error:  # noqa: BLE001 - carried to the main thread and raised there
            self._failure = error

    def _go_on(self) -> None:
        """Take up what an earlier life may have left half done: told again and asked again, it counts once."""
        if self._untold:
            self._tell(self._untold)
        part = self._machine.memory.part
        if part is not None:
            # Also where it has its answer already: killed before it was announced, nobody else would know of it.
            LOG.info("part %s is before the cameras since an earlier life", part.part_id)
            self._ask(part)

    def _as_it_stands(self, inputs: PlcInputs, *, written: bool) -> PlcInputs:
        """What the PLC says, with its signals as they stood before this process until it has said them anew.

        A server that begins has every signal down, which is not what the PLC says: a trigger that is held up would rise
        when the PLC connects again, and its part would be another one.
        """
        if self._left is None:
            return inputs
        now_s = time.monotonic()
        if written and self._heard_s is None:
            self._heard_s = now_s
        waited_s = now_s - self._heard_s if self._heard_s is not None else 0.0
        if inputs.trigger or inputs.result_ack or waited_s >= _WHOLE_CYCLE_S:
            self._left = None
            return inputs
        return replace(inputs, trigger=self._left.trigger, result_ack=self._left.result_ack)

    def _look(self, inputs: PlcInputs) -> None:
        now_s = time.monotonic()
        if now_s - self._heartbeat_s >= _HEARTBEAT_S:
            self._heartbeat_s = now_s
            self._heartbeat += 1
        with self._lock:
            self._apply(self._machine.step(inputs, self._clock_ns(), self._blind()))
        self._up.set(0 if self._machine.state is HandshakeState.SAFE else 1)
        if now_s - self._malformed_s >= _MALFORMED_EVERY_S:
            self._malformed_s = now_s
            self._tell_malformed()

    def _apply(self, step: Step) -> None:
        """Write down, tell, ask, show; in this order, so that a kill at any place says nothing twice."""
        memory = self._machine.memory
        if memory != self._saved:
            self._file.save(handshake_to_json(memory, step.events))
            self._saved = memory
        if step.events:
            self._tell(step.events)
            self._count(step.events)
        if step.take is not None:
            self._ask(step.take)
        outputs = self._machine.outputs(self._heartbeat, self._light())
        if outputs != self._shown:
            self._image.write(outputs)
            self._shown = outputs

    def _count(self, events: Sequence[LineEvent]) -> None:
        for event in events:
            if event.kind is not LineEventKind.ANSWERED:
                continue
            missed = event.error_code == ErrorCode.DEADLINE
            self._deadlines_missed = self._deadlines_missed + 1 if missed else 0
            part = self._machine.memory.part
            if part is not None and part.part_id == event.part_id:
                self._answered.observe((event.at_ns - part.triggered_at_ns) / 1e9)

    def _tell_malformed(self) -> None:
        at_ns = self._clock_ns()
        events = [
            LineEvent(
                event_id=line_event_id(self._settings.line_id, self.name, f"malformed:{number}", at_ns),
                line_id=self._settings.line_id,
                at_ns=at_ns,
                kind=LineEventKind.MALFORMED,
                connection=self.name,
                detail=text,
            )
            for number, text in enumerate(self._image.malformed())
        ]
        if events:
            try:
                self._tell(events)
            except SightlineError as error:
                LOG.warning("malformed messages are not on record: %s", error)
