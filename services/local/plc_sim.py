"""``sightline plc-sim``: the PLC of one line, played over Modbus-TCP or OPC UA, with an account of every part."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from rich.console import Console

from services.adapters.ports import PlcLink
from services.core.errors import InvalidInputError, SightlineError, UnavailableError
from services.core.plc import ErrorCode, PlcInputs
from services.core.plc_program import PlcProgram
from services.core.plc_run import PartEnd, PlcPart, PlcProgramSettings, error_in_words
from services.core.types import Verdict
from services.runtime.lifecycle import Shutdown
from services.runtime.retry import Backoff

Protocol = Literal["modbus", "opcua"]
#: Where the inspection is looked for when no address is given and no line runs here.
DEFAULT_ADDRESS: Final = {"modbus": "127.0.0.1:5020", "opcua": "127.0.0.1:4840"}

_POLL_S: Final = 0.005
_HEART_S: Final = 0.05
_LINK_TIMEOUT_S: Final = 2.0
_TELL_S: Final = 1.0
#: Answers that times are taken from: the last ones.
_KEPT_TIMES: Final = 10_000
_SIGNAL: Final = {Verdict.PASS: "OK", Verdict.FAIL: "NOK", Verdict.REVIEW: "REVIEW"}


@dataclass(frozen=True, slots=True)
class PlcSimOptions:
    """What ``sightline plc-sim`` was told."""

    protocol: Protocol
    address: str
    """``host:port`` of the inspection."""
    line: str
    """The line's id; OPC UA finds its signals by it."""
    program: PlcProgramSettings
    cycle_ms: int = 1_000
    """Answers within this long after the trigger are in time."""
    give_up_s: float = 60.0
    """With nobody at the address for this long, it ends."""
    out: Path | None = None
    """File for the record of every part."""

    def __post_init__(self) -> None:
        host, _, port = self.address.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
            raise InvalidInputError(f"address must be host:port, got {self.address!r}")


def run_plc_sim(options: PlcSimOptions) -> int:
    """Play the PLC until every part is through, or Ctrl-C.

    Returns:
        Exit code: 0 when every part was answered or refused, 1 when one was not.

    Raises:
        InvalidInputError: If the inspection refuses a value.
        OSError: If the record cannot be written.
    """
    screen = Console(highlight=False, soft_wrap=True)
    # What the clients tell of a lost connection, the line of the run tells.
    for client in ("pymodbus", "asyncua"):
        logging.getLogger(client).setLevel(logging.CRITICAL)
    shutdown = Shutdown()
    shutdown.install_signal_handlers()
    tally = PlcTally(options.cycle_ms)
    with contextlib.ExitStack() as stack:
        record = stack.enter_context(_record(options, tally))

        def over(part: PlcPart) -> None:
            tally.add(part)
            record(part)

        plc = SimulatedPlc(
            options.program, open_link(options), on_part=over, on_error=tally.note, give_up_s=options.give_up_s
        )
        stack.callback(plc.close)
        told_s = began_s = time.monotonic()
        while plc.turn(stop=shutdown.requested):
            now_s = time.monotonic()
            if now_s - told_s >= _TELL_S:
                told_s = now_s
                screen.print(tally.line(now_s - began_s, plc.away), markup=False)
        screen.print(tally.line(time.monotonic() - began_s, ""), markup=False)
    for reason, parts in tally.unanswered.most_common():
        screen.print(f"{parts} without an answer: {reason}", markup=False, style="red")
    return 1 if tally.ends[PartEnd.UNANSWERED] else 0


def open_link(options: PlcSimOptions) -> PlcLink:
    """The PLC's end of the connection; nothing is connected yet."""
    host, _, port = options.address.rpartition(":")
    if options.protocol == "opcua":
        # Its package takes a second to import.
        from services.adapters.opcuaclient import OpcUaLink  # noqa: PLC0415

        return OpcUaLink(host, int(port), options.line)
    from services.adapters.modbusclient import ModbusLink  # noqa: PLC0415

    return ModbusLink(host, int(port))


class SimulatedPlc:
    """A PLC's program on a link, with a heart on a thread of its own. :meth:`turn` is called from one thread.

    Args:
        settings: What it makes.
        link: To the inspection.
        on_part: Told of each part that is over.
        on_error: Told of each error that the inspection says.
        give_up_s: With nobody at the other end for this long, it ends.
        poll_s: From one look at the signals to the next.
        clock_ns: Wall clock.
    """

    def __init__(
        self,
        settings: PlcProgramSettings,
        link: PlcLink,
        *,
        on_part: Callable[[PlcPart], object],
        on_error: Callable[[ErrorCode], object] = lambda _code: None,
        give_up_s: float = 60.0,
        poll_s: float = _POLL_S,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._link = link
        self._on_part = on_part
        self._on_error = on_error
        self._give_up_s = give_up_s
        self._poll_s = poll_s
        self._clock_ns = clock_ns
        self._program = PlcProgram(settings, clock_ns())
        self._said: PlcInputs | None = None
        """What the inspection has from us; None where that is not known."""
        self._connected = False
        self._away = "not connected yet"
        self._away_since_s = self._try_again_s = time.monotonic()
        self._backoff = Backoff(first_s=0.1, cap_s=2.0)
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="plc-heart", daemon=True)
        self._heart.start()

    @property
    def away(self) -> str:
        """Why the inspection is not reached at present; empty while it is."""
        return self._away

    def turn(self, *, stop: bool = False) -> bool:
        """Look at the signals once, say what is to be said, and wait for the next look.

        Args:
            stop: Announce no more parts; the one under way is still waited for.

        Returns:
            False once every part is through.

        Raises:
            InvalidInputError: If the inspection refuses a value, or says what this release does not know.
        """
        with self._lock:
            if stop:
                self._program.stop()
            if self._connected or self._connect():
                self._look()
            if not self._connected and (stop or time.monotonic() - self._away_since_s >= self._give_up_s):
                self._take(self._program.abandon(self._clock_ns(), f"the inspection was away: {self._away}"))
            over = self._program.over
        if not over:
            self._ended.wait(self._poll_s)
        return not over

    def close(self) -> None:
        """Take the signals down and let go; a part under way is accounted for. Idempotent."""
        self._ended.set()
        self._heart.join(2 * _LINK_TIMEOUT_S)
        with self._lock:
            self._take(self._program.abandon(self._clock_ns(), "the PLC was stopped"))
            if self._connected:
                with contextlib.suppress(SightlineError):
                    self._link.write(self._program.inputs)
            self._connected = False
            self._link.close()

    def _connect(self) -> bool:
        if time.monotonic() < self._try_again_s:
            return False
        try:
            self._link.connect(_LINK_TIMEOUT_S)
        except UnavailableError as error:
            self._lose(error)
            return False
        self._connected, self._said, self._away = True, None, ""
        self._backoff.reset()
        self._program.resume(self._clock_ns())
        return True

    def _look(self) -> None:
        try:
            # Read before anything is said: after a restart the inspection stands where it stood, not where we do.
            outputs = self._link.read()
            step = self._program.step(outputs, self._clock_ns())
            self._take(step.ended)
            for code in step.errors:
                self._on_error(code)
            self._say(step.inputs)
        except UnavailableError as error:
            self._lose(error)

    def _say(self, inputs: PlcInputs) -> None:
        if inputs != self._said:
            self._link.write(inputs)
            self._said = inputs

    def _lose(self, error: UnavailableError) -> None:
        if not self._away:
            self._away_since_s = time.monotonic()
        self._connected = False
        self._away = str(error)
        self._try_again_s = time.monotonic() + self._backoff.next_s()

    def _take(self, parts: tuple[PlcPart, ...]) -> None:
        for part in parts:
            self._on_part(part)

    def _beat(self) -> None:
        while not self._ended.wait(_HEART_S):
            with self._lock:
                # Until the first look, what is to be said is not known.
                if not self._connected or self._said is None:
                    continue
                try:
                    self._say(self._program.beat(self._clock_ns()))
                except UnavailableError as error:
                    self._lose(error)
                except SightlineError:
                    # The next look meets the same refusal, and tells of it.
                    continue


class PlcTally:
    """What came of the parts so far.

    Args:
        cycle_ms: Answers within this long after the trigger are in time.
    """

    def __init__(self, cycle_ms: int) -> None:
        self._cycle_ms = cycle_ms
        self.verdicts: Counter[Verdict] = Counter()
        self.ends: Counter[PartEnd] = Counter()
        self.errors: Counter[ErrorCode] = Counter()
        self.unanswered: Counter[str] = Counter()
        self._within = 0
        self._timed = 0
        self._times_ms: deque[float] = deque(maxlen=_KEPT_TIMES)

    def add(self, part: PlcPart) -> None:
        """Count a part that is over; where the line itself was out of turn, its time says nothing and is left out."""
        self.ends[part.end] += 1
        if part.end is PartEnd.UNANSWERED:
            self.unanswered[part.reason] += 1
        if part.verdict is None or part.answered_ms is None:
            return
        self.verdicts[part.verdict] += 1
        if not part.faults:
            self._timed += 1
            self._within += part.answered_ms <= self._cycle_ms
            self._times_ms.append(part.answered_ms)

    def note(self, code: ErrorCode) -> None:
        """Count an error that the inspection has said."""
        self.errors[code] += 1

    @property
    def within(self) -> float | None:
        """Share of the answers that came in time; None before the first."""
        return self._within / self._timed if self._timed else None

    def answered_ms(self, share: float) -> float | None:
        """The time within which a share of the last answers came; None before the first."""
        times_ms = sorted(self._times_ms)
        return times_ms[min(len(times_ms) - 1, int(share * len(times_ms)))] if times_ms else None

    def line(self, seconds: float, away: str) -> str:
        """All of it in one line for people."""
        parts = self.ends.total()
        told = [f"{seconds:5.0f} s  {parts} parts"]
        told += [f"{name} {self.verdicts[verdict]}" for verdict, name in _SIGNAL.items()]
        told += [f"{end.value} {self.ends[end]}" for end in (PartEnd.REFUSED, PartEnd.UNANSWERED) if self.ends[end]]
        middle, late, within = self.answered_ms(0.5), self.answered_ms(0.99), self.within
        if middle is not None and late is not None and within is not None:
            told.append(f"median {middle:.0f} ms  p99 {late:.0f} ms  within {self._cycle_ms} ms {within:.1%}")
        told += [f"{error_in_words(code)} {count}" for code, count in sorted(self.errors.items())]
        return "  ".join(told) + (f"  away: {away}" if away else "")

    def to_json(self) -> dict[str, Any]:
        """All of it for programs."""
        return {
            "parts": self.ends.total(),
            "verdicts": {verdict.value: self.verdicts[verdict] for verdict in _SIGNAL},
            "ends": {end.value: self.ends[end] for end in PartEnd},
            "errors": {error_in_words(code): count for code, count in sorted(self.errors.items())},
            "answered_ms": {"median": self.answered_ms(0.5), "p99": self.answered_ms(0.99)},
            "cycle_ms": self._cycle_ms,
            "within_cycle": self.within,
        }


def part_to_json(part: PlcPart) -> dict[str, Any]:
    """One part of the record."""
    return {
        "part": part.part,
        "part_id": part.part_id,
        "end": part.end.value,
        "verdict": part.verdict.value if part.verdict is not None else None,
        "error_code": int(part.error_code),
        "triggered_at_ns": part.triggered_at_ns,
        "answered_ms": part.answered_ms,
        "acknowledged": part.acknowledged,
        "reason": part.reason,
        "faults": [fault.value for fault in part.faults],
        "reference": part.reference,
    }


@contextmanager
def _record(options: PlcSimOptions, tally: PlcTally) -> Iterator[Callable[[PlcPart], None]]:
    """Write parts as they come, so that a long run needs no memory; the file has its name once it is whole."""
    if options.out is None:
        yield lambda _part: None
        return
    options.out.parent.mkdir(parents=True, exist_ok=True)
    fresh = options.out.with_name(f"{options.out.name}.new")
    about = {"line": options.line, "protocol": options.protocol, "address": options.address}
    with fresh.open("w") as file:
        file.write(json.dumps(about)[:-1] + ', "parts": [')
        between = "\n"

        def add(part: PlcPart) -> None:
            nonlocal between
            file.write(between + json.dumps(part_to_json(part)))
            between = ",\n"

        yield add
        file.write('\n], "counts": ' + json.dumps(tally.to_json()) + "}\n")
    fresh.replace(options.out)
