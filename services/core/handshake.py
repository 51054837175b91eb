"""The handshake with a PLC as a machine of states: signals, outcomes and the time go in, signals and events come out.

Pure: whoever runs it writes down :attr:`Handshake.memory` and the events before the outputs are shown to the PLC, so
that a process that is killed between decision and output says the same once it is back. ``services.core.plc`` tells the
signals; the order is

======== ============================================ ==================================
state    outputs                                      leaves it when
======== ============================================ ==================================
READY    *TriggerReady*                               *Trigger* rises
BUSY     *Busy*                                       the outcome is there, or too late
RESULT   *ResultReady* and one of OK, NOK, REVIEW     *ResultAck* rises
RELEASING none                                        *Trigger* and *ResultAck* are down
SAFE     *Safe* and the safe level                    the PLC's heartbeat beats again, and outcomes are read
======== ============================================ ==================================
"""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass, replace
from typing import Any, Final

from services.core.errors import InvalidInputError
from services.core.identity import line_event_id, validate_id
from services.core.line_event import Light, LineEvent, LineEventKind
from services.core.outcome import Outcome, OutcomeReason
from services.core.part_names import PartNames
from services.core.plc import (
    MAX_TEXT,
    ErrorCode,
    HandshakeMemory,
    HandshakeSettings,
    HandshakeState,
    LineAnswer,
    PlcInputs,
    PlcOutputs,
    TriggeredPart,
)
from services.core.types import Verdict

_NS_PER_MS: Final = 1_000_000
#: An outcome whose deadline is longer ago than this is not shown any more where parts come without triggers.
_STALE_NS: Final = 10_000_000_000
_ENCODER_RANGE: Final = 1 << 32
#: Parts whose answer is remembered, so that a later outcome is told as superseding it and no name comes twice.
_REMEMBERED: Final = 1_000
#: So many of them survive the process: more than a fast line has in the seconds that are read again after a restart.
_SAVED: Final = 256
#: What the PLC is told of an outcome that not every view has made.
_CODES: Final = {
    OutcomeReason.DEADLINE_MISSED: ErrorCode.DEADLINE,
    OutcomeReason.OVERLOADED: ErrorCode.DEADLINE,
    OutcomeReason.UNKNOWN_PRODUCT: ErrorCode.UNKNOWN_RECIPE,
}


@dataclass(frozen=True, slots=True)
class Step:
    """What comes of one step."""

    events: tuple[LineEvent, ...] = ()
    take: TriggeredPart | None = None
    """Pictures of this part must be asked for."""


class Handshake:
    """One PLC's handshake. Not thread-safe.

    Args:
        settings: How it is spoken with.
        now_ns: The present, nanoseconds since the epoch.
        memory: Of an earlier life; None for a new line.
    """

    def __init__(self, settings: HandshakeSettings, now_ns: int, memory: HandshakeMemory | None = None) -> None:
        self._settings = settings
        self._state = HandshakeState.READY
        self._resume = HandshakeState.READY
        self._product = settings.first_product
        self._lot = ""
        self._part: TriggeredPart | None = None
        self._answer: LineAnswer | None = None
        self._error = ErrorCode.NONE
        self._before: PlcInputs | None = None
        self._restored = memory is not None
        self._restored_trigger = memory is not None and memory.trigger
        self._restored_ack = memory is not None and memory.result_ack
        self._recipe_told = ""
        self._heartbeat_at_ns = now_ns
        self._still = False
        self._blind = False
        self._back_at_ns = 0
        """When the PLC was last found again: until then it could not acknowledge."""
        self._encoder_at: int | None = None
        self._ack_told = False
        self._answered: dict[str, LineAnswer] = {}
        self._names = PartNames(settings.line_id)
        self._waiting: deque[Outcome] = deque()
        self._events: list[LineEvent] = []
        if memory is not None:
            self._restore(memory, now_ns)

    # ---- what it is

    @property
    def state(self) -> HandshakeState:
        """Where it stands."""
        return self._state

    @property
    def product(self) -> str:
        """What is made from the next part on."""
        return self._product

    @property
    def lot(self) -> str:
        """The lot from the next part on."""
        return self._lot

    @property
    def part_id(self) -> str:
        """The part that it is about; empty where there is none."""
        if self._answer is not None:
            return self._answer.part_id
        return self._part.part_id if self._part is not None else ""

    @property
    def error_code(self) -> ErrorCode:
        """As the PLC sees it."""
        return self._error

    @property
    def waiting(self) -> int:
        """Outcomes that wait to be shown."""
        return len(self._waiting)

    @property
    def memory(self) -> HandshakeMemory:
        """What must survive the process."""
        state = self._resume if self._state is HandshakeState.SAFE else self._state
        recent = tuple(itertools.islice(reversed(self._answered.values()), _SAVED))
        seen = self._before or PlcInputs(self._restored_trigger, self._restored_ack)
        return HandshakeMemory(
            state, self._product, self._lot, self._part, self._answer, recent[::-1], seen.trigger, seen.result_ack
        )

    def outputs(self, heartbeat: int, light: Light | None) -> PlcOutputs:
        """What the PLC is told now.

        Args:
            heartbeat: Our own count.
            light: What the stack light shows.
        """
        common = PlcOutputs(
            error_code=self._error, heartbeat=heartbeat % 65_536, recipe=self._product, part=self.part_id, light=light
        )
        match self._state:
            case HandshakeState.READY:
                return replace(common, trigger_ready=self._settings.triggered)
            case HandshakeState.BUSY:
                return replace(common, busy=True)
            case HandshakeState.RESULT if self._answer is not None:
                return replace(_said(common, self._answer.verdict), result_ready=True)
            case HandshakeState.SAFE:
                return replace(_said(common, self._settings.safe_level), safe=True)
            case _:
                return common

    # ---- what moves it

    def step(self, inputs: PlcInputs, now_ns: int, blind: str = "") -> Step:
        """Take what the PLC says now; call it whenever that changes and at least every few milliseconds.

        Args:
            inputs: All signals.
            now_ns: The present, nanoseconds since the epoch.
            blind: Why outcomes cannot be read at present; empty while they can.

        Returns:
            What happened, and which part must be pictured.
        """
        before = self._before
        self._before = inputs
        self._watch_heartbeat(before, inputs, now_ns)
        self._watch_sight(blind, now_ns)
        self._keep_safe(inputs, now_ns)
        take = None
        if self._state is not HandshakeState.SAFE:
            self._watch_recipe(inputs, now_ns)
            if self._rises(before, inputs, "result_ack"):
                self._acknowledge(now_ns)
            if self._triggers(before, inputs):
                take = self._trigger(inputs, now_ns)
            if self._state is HandshakeState.RELEASING and not (inputs.trigger or inputs.result_ack):
                self._state = HandshakeState.READY
            self._watch_time(now_ns)
            self._show_next(now_ns)
        return Step(self._told(), take)

    def outcome(self, outcome: Outcome, now_ns: int) -> Step:
        """Take an outcome of the line: the answer that is waited for, one to be shown, or one that came too late.

        Args:
            outcome: In any revision; a repeated one changes nothing.
            now_ns: The present, nanoseconds since the epoch.
        """
        self._names.note(outcome.part_id)
        told = self._answered.get(outcome.part_id)
        if told is not None:
            self._supersede(told, outcome, now_ns)
        elif self._settings.triggered:
            if self._part is not None and self._part.part_id == outcome.part_id and self._answer is None:
                self._answer_from(outcome, self._part, now_ns)
        elif outcome.revision == 1:
            self._queue(outcome, now_ns)
            if self._state is not HandshakeState.SAFE:
                self._show_next(now_ns)
        return Step(self._told())

    def no_camera(self, part_id: str, why: str, now_ns: int) -> Step:
        """Say that no picture of the part that is waited for will come; it is REVIEW at once."""
        if self._part is not None and self._part.part_id == part_id and self._answer is None:
            self._answer_with(Verdict.REVIEW, 0, now_ns, ErrorCode.NO_CAMERA, why)
        return Step(self._told())

    # ---- safe level

    def _watch_heartbeat(self, before: PlcInputs | None, inputs: PlcInputs, now_ns: int) -> None:
        timeout_ms = self._settings.heartbeat_timeout_ms
        if not timeout_ms:
            return
        if before is not None and inputs.heartbeat != before.heartbeat:
            self._heartbeat_at_ns = now_ns
            if self._still:
                self._still = False
                self._tell(LineEventKind.HEARTBEAT_BACK, now_ns)
        elif not self._still and now_ns - self._heartbeat_at_ns > timeout_ms * _NS_PER_MS:
            self._still = True
            self._error = ErrorCode.HEARTBEAT
            still_ms = (now_ns - self._heartbeat_at_ns) // _NS_PER_MS
            self._tell(LineEventKind.HEARTBEAT_LOST, now_ns, detail=f"no beat for {still_ms} ms")

    def _watch_sight(self, blind: str, now_ns: int) -> None:
        """Without triggers nobody knows of a part whose outcome cannot be read; a triggered part has its deadline."""
        if self._settings.triggered or bool(blind) is self._blind:
            return
        self._blind = bool(blind)
        if blind:
            self._error = ErrorCode.NO_OUTCOMES
            self._tell(LineEventKind.CONNECTION_LOST, now_ns, detail=f"outcomes cannot be read: {blind}"[:500])
        else:
            self._tell(LineEventKind.CONNECTION_BACK, now_ns)

    def _keep_safe(self, inputs: PlcInputs, now_ns: int) -> None:
        """Go to the safe level while something that every answer needs is lost, and back to where it was before."""
        lost = self._still or self._blind
        if lost and self._state is not HandshakeState.SAFE:
            self._resume, self._state = self._state, HandshakeState.SAFE
        if lost:
            self._error = ErrorCode.HEARTBEAT if self._still else ErrorCode.NO_OUTCOMES
        elif self._state is HandshakeState.SAFE:
            # A trigger that is up now rose while *TriggerReady* was down; it must fall first.
            held = self._resume is HandshakeState.READY and inputs.trigger
            self._state = HandshakeState.RELEASING if held else self._resume
            self._error = self._answer.error_code if self._answer is not None else ErrorCode.NONE
            self._back_at_ns = now_ns
            # Where the belt went meanwhile, no part was waited for.
            self._encoder_at = None

    # ---- recipe

    def _watch_recipe(self, inputs: PlcInputs, now_ns: int) -> None:
        if self._state is HandshakeState.BUSY or inputs.recipe == self._recipe_told:
            return
        self._recipe_told = inputs.recipe
        product = self._product_of(inputs.recipe)
        if product is None:
            self._error = ErrorCode.UNKNOWN_RECIPE
            self._tell(LineEventKind.RECIPE_REFUSED, now_ns, detail=_shown(inputs.recipe))
        else:
            if self._error is ErrorCode.UNKNOWN_RECIPE:
                self._error = ErrorCode.NONE
            self._make(product, "", now_ns)

    def _product_of(self, recipe: str) -> str | None:
        if recipe in {"", "0"}:
            return self._product
        product = self._settings.recipes.get(recipe, recipe)
        return product if product in self._settings.products else None

    def _make(self, product: str, lot: str, now_ns: int) -> None:
        self._lot = lot or self._lot
        if product != self._product:
            self._product = product
            self._tell(LineEventKind.RECIPE_CHANGED, now_ns)

    # ---- trigger

    def _rises(self, before: PlcInputs | None, inputs: PlcInputs, name: str) -> bool:
        if not getattr(inputs, name):
            return False
        if before is not None:
            return not getattr(before, name)
        # Up when the process begins: it has risen while nobody looked, if an earlier life left what it answers to.
        awaits = HandshakeState.READY if name == "trigger" else HandshakeState.RESULT
        return self._restored and self._state is awaits

    def _triggers(self, before: PlcInputs | None, inputs: PlcInputs) -> bool:
        if not self._settings.triggered:
            return False
        return self._rises(before, inputs, "trigger") or self._passes(inputs.encoder)

    def _passes(self, encoder: int) -> bool:
        """Whether the belt has moved by a part's length, or more, since the last part."""
        pitch = self._settings.encoder_pitch
        if not pitch:
            return False
        if self._encoder_at is None:
            self._encoder_at = encoder
        moved = (encoder - self._encoder_at) % _ENCODER_RANGE
        # A belt that runs backwards a little has not moved on by nearly the whole range.
        if moved < pitch or moved > _ENCODER_RANGE // 2:
            return False
        self._encoder_at = (self._encoder_at + moved // pitch * pitch) % _ENCODER_RANGE
        return True

    def _trigger(self, inputs: PlcInputs, now_ns: int) -> TriggeredPart | None:
        # Whoever still acknowledges is not through with the part before; so may a PLC look that has just come back.
        if self._state is not HandshakeState.READY or inputs.result_ack:
            self._error = ErrorCode.TRIGGER_NOT_READY
            why = "ResultAck is up" if self._state is HandshakeState.READY else f"it is {self._state.value}"
            self._tell(LineEventKind.TRIGGER_REFUSED, now_ns, part_id=self.part_id, detail=why)
            return None
        lot, part = _id_or_none(inputs.lot), _id_or_none(inputs.part)
        if lot:
            self._lot = lot
        unknown = self._product_of(inputs.recipe) is None
        # On record under the name that it was announced by; no camera knows what to make of it.
        product = (_id_or_none(inputs.recipe) or self._product) if unknown else self._product
        taken = self._triggered_part(part or "", product, now_ns, pictured=not unknown)
        if unknown:
            self._answer_with(Verdict.REVIEW, 0, now_ns, ErrorCode.UNKNOWN_RECIPE, _shown(inputs.recipe))
        elif lot is None or part is None:
            self._answer_with(
                Verdict.REVIEW, 0, now_ns, ErrorCode.BAD_TEXT, _shown(inputs.part if part is None else inputs.lot)
            )
        return taken

    def _triggered_part(self, name: str, product: str, now_ns: int, *, pictured: bool) -> TriggeredPart:
        deadline_at_ns = now_ns + self._settings.cycle_time_ms * _NS_PER_MS
        part = TriggeredPart(self._names.give(name, now_ns), product, self._lot, now_ns, deadline_at_ns, pictured)
        self._part, self._answer, self._error = part, None, ErrorCode.NONE
        self._state = HandshakeState.BUSY
        self._tell(LineEventKind.TRIGGERED, now_ns, part_id=part.part_id)
        return part

    # ---- result

    def _watch_time(self, now_ns: int) -> None:
        if self._state is HandshakeState.BUSY and self._part is not None:
            due_ns = self._part.deadline_at_ns - self._settings.answer_before_ms * _NS_PER_MS
            if now_ns >= due_ns:
                self._answer_with(Verdict.REVIEW, 0, now_ns, ErrorCode.DEADLINE, "no outcome in time")
        elif self._state is HandshakeState.RESULT and self._answer is not None and not self._ack_told:
            stands_ms = (now_ns - max(self._answer.at_ns, self._back_at_ns)) // _NS_PER_MS
            if stands_ms > self._settings.ack_timeout_ms:
                self._ack_told = True
                self._error = ErrorCode.ACK_MISSING
                self._tell(
                    LineEventKind.ACK_MISSING, now_ns, part_id=self.part_id, detail=f"it stands for {stands_ms} ms"
                )

    def _answer_from(self, outcome: Outcome, part: TriggeredPart, now_ns: int) -> None:
        if now_ns > part.deadline_at_ns:
            # At the safe level, or while this process was away, its time went by: where the part is now, nobody knows.
            self._answer_with(Verdict.REVIEW, 0, now_ns, ErrorCode.DEADLINE, "no outcome in time")
            self._supersede(self._answered[part.part_id], outcome, now_ns)
            return
        code = _CODES.get(outcome.reason, ErrorCode.NONE)
        self._answer_with(outcome.verdict, outcome.revision, now_ns, code)

    def _answer_with(
        self, verdict: Verdict, revision: int, now_ns: int, code: ErrorCode = ErrorCode.NONE, detail: str = ""
    ) -> None:
        part = self._part
        if part is None:
            raise RuntimeError("a part must be waited for to be answered, got none")
        self._show(LineAnswer(part.part_id, verdict, revision, now_ns, code), part.product, part.lot, detail)

    def _show(self, answer: LineAnswer, product: str, lot: str, detail: str = "") -> None:
        self._answer = answer
        self._ack_told = False
        if answer.error_code is not ErrorCode.NONE:
            self._error = answer.error_code
        self._remember(answer)
        self._to(HandshakeState.RESULT)
        self._tell(
            LineEventKind.ANSWERED,
            answer.at_ns,
            part_id=answer.part_id,
            revision=answer.revision,
            verdict=answer.verdict,
            product=product,
            lot=lot,
            detail=detail,
        )

    def _to(self, state: HandshakeState) -> None:
        """Go on, at the safe level only once the heartbeat is back."""
        if self._state is HandshakeState.SAFE:
            self._resume = state
        else:
            self._state = state

    def _acknowledge(self, now_ns: int) -> None:
        if self._state is not HandshakeState.RESULT or self._answer is None:
            self._error = ErrorCode.ACK_UNEXPECTED
            self._tell(LineEventKind.ACK_UNEXPECTED, now_ns, part_id=self.part_id, detail=f"it is {self._state.value}")
            return
        self._tell(LineEventKind.ACKNOWLEDGED, now_ns, part_id=self._answer.part_id)
        self._error = ErrorCode.NONE
        self._part = self._answer = None
        self._state = HandshakeState.RELEASING

    # ---- outcomes without triggers

    def _queue(self, outcome: Outcome, now_ns: int) -> None:
        if any(one.part_id == outcome.part_id for one in self._waiting):
            return
        if outcome.deadline_at_ns and now_ns - outcome.deadline_at_ns > _STALE_NS:
            # Read after an outage: its part went by at the safe level, and the PLC would take it for another one's.
            self._pass_over(outcome, now_ns, "its time was over before it could be shown")
            return
        self._waiting.append(outcome)
        if len(self._waiting) > self._settings.max_waiting:
            self._pass_over(self._waiting.popleft(), now_ns, f"more than {self._settings.max_waiting} outcomes wait")

    def _pass_over(self, outcome: Outcome, now_ns: int, why: str) -> None:
        self._remember(LineAnswer(outcome.part_id, outcome.verdict, outcome.revision, now_ns))
        self._tell(LineEventKind.UNDELIVERED, now_ns, part_id=outcome.part_id, detail=why)

    def _show_next(self, now_ns: int) -> None:
        if self._state is HandshakeState.READY and self._waiting:
            outcome = self._waiting.popleft()
            code, verdict = _CODES.get(outcome.reason, ErrorCode.NONE), outcome.verdict
            if outcome.deadline_at_ns and now_ns > outcome.deadline_at_ns:
                # It has waited for too long to let a part pass.
                code = ErrorCode.DEADLINE
                verdict = Verdict.REVIEW if verdict is Verdict.PASS else verdict
            answer = LineAnswer(outcome.part_id, verdict, outcome.revision, now_ns, code)
            self._show(answer, outcome.product, outcome.lot)

    # ---- record

    def _supersede(self, told: LineAnswer, outcome: Outcome, now_ns: int) -> None:
        if outcome.revision <= told.revision:
            return
        self._answered[outcome.part_id] = replace(told, revision=outcome.revision)
        if outcome.verdict is not told.verdict:
            self._tell(
                LineEventKind.SUPERSEDED,
                now_ns,
                part_id=outcome.part_id,
                revision=outcome.revision,
                detail=f"the line was told {told.verdict.value}, it is {outcome.verdict.value}",
            )

    def _remember(self, answer: LineAnswer) -> None:
        self._names.note(answer.part_id)
        self._answered[answer.part_id] = answer
        if len(self._answered) > _REMEMBERED:
            del self._answered[next(iter(self._answered))]

    def _tell(self, kind: LineEventKind, at_ns: int, **more: Any) -> None:
        part_id = str(more.get("part_id", ""))
        self._events.append(
            LineEvent(
                # What happened to one part at one moment happened once: told again it has the same id.
                event_id=line_event_id(
                    self._settings.line_id, self._settings.connection, f"{kind.value}:{part_id}", at_ns
                ),
                line_id=self._settings.line_id,
                at_ns=at_ns,
                kind=kind,
                connection=self._settings.connection,
                error_code=int(self._error),
                **({"product": self._product, "lot": self._lot} | more),
            )
        )

    def _told(self) -> tuple[LineEvent, ...]:
        events, self._events = tuple(self._events), []
        return events

    def _restore(self, memory: HandshakeMemory, now_ns: int) -> None:
        self._state = self._resume = memory.state
        if memory.product in self._settings.products:
            self._product = memory.product
        self._lot = memory.lot
        self._part, self._answer = memory.part, memory.answer
        self._heartbeat_at_ns = now_ns
        for answer in memory.recent:
            self._remember(answer)
        if memory.answer is not None:
            self._error = memory.answer.error_code
            self._remember(memory.answer)


def _said(outputs: PlcOutputs, verdict: Verdict) -> PlcOutputs:
    return replace(
        outputs,
        ok=verdict is Verdict.PASS,
        nok=verdict is Verdict.FAIL,
        review=verdict is Verdict.REVIEW,
    )


def _id_or_none(text: str) -> str | None:
    """The text where it may be an id or is empty; None where it may not."""
    if not text:
        return ""
    try:
        return validate_id(text, "text")
    except InvalidInputError:
        return None


def _shown(text: str) -> str:
    return f"got {text[:MAX_TEXT]!a}"
