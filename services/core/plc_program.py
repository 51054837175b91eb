"""The PLC's side of the handshake as a machine of states: a line that shows its parts, one after the other.

Pure: what the inspection says and the time go in, what the PLC says and what came of its parts come out. It is what
``sightline plc-sim`` plays and what the inspection's own machine is tested against; its program can be read as one that
a PLC might have. Every part that was announced is accounted for: answered, refused, or unanswered and why.

It can be told to do what lines do on bad days: to be slow with an acknowledgement, to announce a part while another one
is before the cameras, to ask for a recipe that nobody knows, to stand still with its heart.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass, replace
from typing import Any, Final

from services.core.plc import ErrorCode, PlcInputs, PlcOutputs
from services.core.plc_run import (
    NUMBER_DIGITS,
    UNKNOWN_RECIPE,
    PartEnd,
    PlcFault,
    PlcPart,
    PlcProgramSettings,
    error_in_words,
)
from services.core.types import Verdict

#: So often reference parts are shown again that did not come out as they must.
_SHOWN_AGAIN: Final = 10
_NS_PER_MS: Final = 1_000_000
_HEARTBEATS: Final = 65_536


@dataclass(frozen=True, slots=True)
class ProgramStep:
    """What comes of one step."""

    inputs: PlcInputs
    """What the PLC says from now on."""
    ended: tuple[PlcPart, ...] = ()
    """Parts that are over."""
    errors: tuple[ErrorCode, ...] = ()
    """Errors that the inspection says since now."""


class ProgramState(enum.Enum):
    """Where the program stands."""

    WAITING = "waiting"
    """For *TriggerReady*, or for the next part's time."""
    TRIGGERED = "triggered"
    """A part is announced, its result is waited for."""
    PULSING = "pulsing"
    """*Trigger* is down for a moment, to be raised again out of turn."""
    HOLDING = "holding"
    """The result is read; the acknowledgement is held back."""
    RELEASING = "releasing"
    """The result is acknowledged and must fall."""
    OVER = "over"
    """Every part is through."""


class PlcProgram:
    """One line's PLC. Not thread-safe.

    Args:
        settings: What it makes.
        now_ns: The present, nanoseconds since the epoch.
    """

    def __init__(self, settings: PlcProgramSettings, now_ns: int) -> None:
        self._settings = settings
        self._state = ProgramState.WAITING
        self._inputs = PlcInputs(recipe=settings.recipe, lot=settings.lot)
        self._part: PlcPart | None = None
        self._intruder: PlcPart | None = None
        """Announced while another part was before the cameras, and nothing came of it yet."""
        self._disturbed = False
        self._number = 0
        self._references = 0
        self._to_show = deque(["good"] * settings.reference_good + ["bad"] * settings.reference_bad)
        self._shown_again = 0
        self._since_ns = now_ns
        self._next_ns = now_ns
        self._beat_ns = now_ns
        self._still_until_ns = 0
        self._stopping = False
        self._leftover = False
        self._error = ErrorCode.NONE
        self._ended: list[PlcPart] = []
        self.leftovers = 0
        """Results that no part waited for, of an earlier life or too late: acknowledged and passed over."""

    # ---- what it is

    @property
    def state(self) -> ProgramState:
        """Where it stands."""
        return self._state

    @property
    def inputs(self) -> PlcInputs:
        """What the PLC says."""
        return self._inputs

    @property
    def part(self) -> PlcPart | None:
        """The part that is announced; None where none is."""
        return self._part

    @property
    def over(self) -> bool:
        """Whether every part is through."""
        return self._state is ProgramState.OVER

    # ---- what moves it

    def beat(self, now_ns: int) -> PlcInputs:
        """Let the heart beat, where it is time; returns what the PLC says."""
        if now_ns >= self._still_until_ns and now_ns - self._beat_ns >= self._settings.heartbeat_ms * _NS_PER_MS:
            self._beat_ns = now_ns
            self._inputs = replace(self._inputs, heartbeat=(self._inputs.heartbeat + 1) % _HEARTBEATS)
        return self._inputs

    def stop(self) -> None:
        """Announce no more parts; the one under way is still waited for."""
        self._stopping = True

    def resume(self, now_ns: int) -> None:
        """Go on after the connection was lost: what was waited for meanwhile is waited for anew."""
        self._since_ns = now_ns

    def abandon(self, now_ns: int, reason: str) -> tuple[PlcPart, ...]:
        """End at once.

        Args:
            now_ns: The present, nanoseconds since the epoch.
            reason: Why; a part that waits for its answer is unanswered by it.

        Returns:
            What came of parts that were under way.
        """
        if self._part is not None:
            self._end(self._part if self._part.end is PartEnd.ANSWERED else replace(self._part, reason=reason))
        self._to(ProgramState.OVER, now_ns, trigger=False, result_ack=False)
        ended, self._ended = tuple(self._ended), []
        return ended

    def step(self, outputs: PlcOutputs, now_ns: int) -> ProgramStep:
        """Take what the inspection says now; call it every few milliseconds.

        Args:
            outputs: All signals.
            now_ns: The present, nanoseconds since the epoch.
        """
        errors = (outputs.error_code,) if outputs.error_code not in {self._error, ErrorCode.NONE} else ()
        self._error = outputs.error_code
        # A PLC that stands still does nothing at all; and at the safe level nothing that is said holds.
        if now_ns < self._still_until_ns or outputs.safe:
            self._since_ns = now_ns
        else:
            self._go_on(outputs, now_ns)
        self.beat(now_ns)
        ended, self._ended = tuple(self._ended), []
        return ProgramStep(self._inputs, ended, errors)

    def _go_on(self, outputs: PlcOutputs, now_ns: int) -> None:
        match self._state:
            case ProgramState.WAITING:
                self._wait(outputs, now_ns)
            case ProgramState.TRIGGERED:
                self._await_result(outputs, now_ns)
            case ProgramState.PULSING:
                self._pulse(outputs, now_ns)
            case ProgramState.HOLDING:
                if outputs.error_code is ErrorCode.ACK_MISSING or self._waited(now_ns, self._settings.hold_ms):
                    self._to(ProgramState.RELEASING, now_ns, result_ack=True)
            case ProgramState.RELEASING:
                self._release(outputs, now_ns)
            case ProgramState.OVER:
                pass

    # ---- the next part

    def _wait(self, outputs: PlcOutputs, now_ns: int) -> None:
        if outputs.result_ready:
            self.leftovers += 1
            self._leftover = True
            self._to(ProgramState.RELEASING, now_ns, result_ack=True)
        elif self._stopping or self._all_shown:
            self._to(ProgramState.OVER, now_ns)
        elif outputs.trigger_ready and now_ns >= self._next_ns:
            self._announce(now_ns)

    @property
    def _all_shown(self) -> bool:
        return not self._to_show and 0 < self._settings.parts <= self._number

    def _announce(self, now_ns: int) -> None:
        settings = self._settings
        reference = bool(self._to_show)
        if reference:
            self._references += 1
            kind = self._to_show.popleft()
            name, faults = f"ref-{kind}-{settings.prefix}-{self._references}", frozenset[PlcFault]()
        else:
            name = self._numbered()
            faults = settings.faults.of(self._number)
        self._part = PlcPart(
            name,
            "",
            PartEnd.UNANSWERED,
            now_ns,
            faults=tuple(sorted(faults, key=lambda fault: fault.value)),
            reference=reference,
        )
        recipe = UNKNOWN_RECIPE if PlcFault.UNKNOWN_RECIPE in faults else settings.recipe
        self._to(ProgramState.TRIGGERED, now_ns, trigger=True, part=name, recipe=recipe)
        if PlcFault.STOP_HEARTBEAT in faults:
            self._still_until_ns = now_ns + settings.faults.stop_heartbeat_ms * _NS_PER_MS
        # A line that was held up does not make up for it: parts come no closer than they do.
        self._next_ns = max(self._next_ns + int(settings.interval_ms * _NS_PER_MS), now_ns)

    def _numbered(self) -> str:
        self._number += 1
        return f"{self._settings.prefix}-{self._number:0{NUMBER_DIGITS}d}"

    # ---- its result

    def _await_result(self, outputs: PlcOutputs, now_ns: int) -> None:
        part = self._part
        if part is None:
            raise RuntimeError("a part must be announced to have a result, got none")
        self._look_at_intruder(part, outputs)
        if outputs.result_ready and _is_of(outputs.part, part):
            self._read(part, outputs, now_ns)
        elif outputs.result_ready:
            # Another part's: what is not ours is not taken for ours.
            self._give_up(part, f"a result of {outputs.part or 'no part'} stood in its place", now_ns)
        elif outputs.busy and PlcFault.DOUBLE_TRIGGER in part.faults and not self._disturbed:
            self._disturbed = True
            self._to(ProgramState.PULSING, now_ns, trigger=False)
        elif not outputs.busy and self._waited(now_ns, self._settings.take_ms):
            self._not_taken(part, outputs, now_ns)
        elif self._waited(now_ns, self._settings.answer_ms):
            self._give_up(part, f"no answer within {self._settings.answer_ms} ms", now_ns)

    def _read(self, part: PlcPart, outputs: PlcOutputs, now_ns: int) -> None:
        verdict = _verdict_of(outputs)
        if verdict is None:
            self._give_up(part, "of OK, NOK and REVIEW not exactly one was up", now_ns)
            return
        self._part = replace(
            part,
            part_id=outputs.part,
            end=PartEnd.ANSWERED,
            verdict=verdict,
            error_code=outputs.error_code,
            answered_ms=(now_ns - part.triggered_at_ns) / _NS_PER_MS,
        )
        if PlcFault.SKIP_ACK in part.faults:
            self._to(ProgramState.HOLDING, now_ns)
        else:
            self._to(ProgramState.RELEASING, now_ns, result_ack=True)

    def _not_taken(self, part: PlcPart, outputs: PlcOutputs, now_ns: int) -> None:
        if outputs.error_code is not ErrorCode.TRIGGER_NOT_READY:
            self._give_up(part, f"nobody noticed the trigger within {self._settings.take_ms} ms", now_ns)
            return
        self._end(_refused(part, outputs.error_code))
        self._to(ProgramState.WAITING, now_ns, trigger=False)

    def _give_up(self, part: PlcPart, reason: str, now_ns: int) -> None:
        self._end(replace(part, reason=reason))
        self._to(ProgramState.WAITING, now_ns, trigger=False)

    # ---- one more part, out of turn

    def _pulse(self, outputs: PlcOutputs, now_ns: int) -> None:
        if outputs.busy and not self._waited(now_ns, self._settings.pulse_ms):
            return
        # Where it was answered in the meantime, there is nothing left to disturb.
        if outputs.busy:
            self._intruder = PlcPart(self._numbered(), "", PartEnd.UNANSWERED, now_ns)
            self._to(ProgramState.TRIGGERED, now_ns, trigger=True, part=self._intruder.part)
        else:
            self._to(ProgramState.TRIGGERED, now_ns)

    def _look_at_intruder(self, part: PlcPart, outputs: PlcOutputs) -> None:
        if self._intruder is not None and outputs.error_code is ErrorCode.TRIGGER_NOT_READY:
            self._ended.append(_refused(self._intruder, outputs.error_code))
            self._intruder = None
            # Whoever looks anew, after a restart, finds what is before the cameras.
            self._inputs = replace(self._inputs, part=part.part)

    # ---- the end of a part

    def _release(self, outputs: PlcOutputs, now_ns: int) -> None:
        if outputs.result_ready and not self._waited(now_ns, self._settings.release_ms):
            return
        part = self._part
        if part is not None and not self._leftover:
            self._end(replace(part, acknowledged=not outputs.result_ready))
        self._leftover = False
        self._to(ProgramState.WAITING, now_ns, trigger=False, result_ack=False)

    def _end(self, part: PlcPart) -> None:
        """Note what came of the part that is announced; there is none any more."""
        self._ended.append(part)
        if part.reference:
            self._look_at_reference(part)
        if self._intruder is not None:
            self._ended.append(replace(self._intruder, reason="nobody noticed its trigger"))
        self._part = self._intruder = None
        self._disturbed = False

    def _look_at_reference(self, part: PlcPart) -> None:
        """Show a reference part again that did not come out as it must: at a start a line may be slow at first."""
        kind = "good" if part.part.startswith("ref-good-") else "bad"
        right = part.verdict is (Verdict.PASS if kind == "good" else Verdict.FAIL)
        if not right and self._shown_again < _SHOWN_AGAIN:
            self._shown_again += 1
            self._to_show.append(kind)

    def _to(self, state: ProgramState, now_ns: int, **signals: Any) -> None:
        self._state = state
        self._since_ns = now_ns
        self._inputs = replace(self._inputs, **signals)

    def _waited(self, now_ns: int, timeout_ms: int) -> bool:
        return now_ns - self._since_ns >= timeout_ms * _NS_PER_MS


def _refused(part: PlcPart, code: ErrorCode) -> PlcPart:
    return replace(part, end=PartEnd.REFUSED, error_code=code, reason=error_in_words(code))


def _is_of(part_id: str, part: PlcPart) -> bool:
    """Whether a result is of a part: under its name, or under that with a number where the name was there before."""
    return part_id == part.part or part_id.startswith(f"{part.part}.")


def _verdict_of(outputs: PlcOutputs) -> Verdict | None:
    said = [
        verdict
        for verdict, up in (
            (Verdict.PASS, outputs.ok),
            (Verdict.FAIL, outputs.nok),
            (Verdict.REVIEW, outputs.review),
        )
        if up
    ]
    return said[0] if len(said) == 1 else None
