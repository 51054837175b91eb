"""One line: its connections, its alarms, its check with reference parts, and what its stack light shows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from services.core.alarm import Alarm, AlarmBoard
from services.core.errors import BusyError
from services.core.identity import line_event_id
from services.core.line_event import Light, LineEvent, LineEventKind
from services.core.line_state import ConnectionState, LineState
from services.core.outcome import Outcome
from services.core.plc import ErrorCode, HandshakeState, TriggeredPart
from services.core.reference_check import ReferenceCheck, ReferenceEvent, ReferenceState
from services.core.shift import ShiftPlan
from services.core.stack_light import LightCause, light_causes, stack_light
from services.core.types import Verdict
from services.outcome.asking import PictureAsker
from services.outcome.delivery import Delivery
from services.outcome.plc_connection import PlcConnection
from services.outcome.state_file import BytesFile
from services.outcome.triggering import Triggering
from services.runtime import metrics
from services.runtime.logging import get_logger

LOG = get_logger(__name__)

_TICK_S: Final = 0.2
_NS_PER_S: Final = 1_000_000_000
#: So many parts in a row without an outcome in time tell that none will come.
_MISSED_IN_A_ROW: Final = 3
_NO_OUTCOMES_AFTER_S: Final = 3.0
#: What is read again of before the start is not shown again.
_SHOWN_BEFORE_S: Final = 10.0
_MAX_WATCHERS: Final = 64
_BLIND: Final = "outcomes cannot be read"
#: What an alarm's count has seen since is read again from the outcomes.
_SAVE_ALARMS_EVERY_S: Final = 30.0
_LIGHT_NUMBER: Final = {Light.GREEN: 1, Light.AMBER: 2, Light.RED: 3}


@dataclass(frozen=True, slots=True)
class NamedPlc:
    """A PLC's connection with the kind that settings name."""

    kind: str
    connection: PlcConnection
    triggered: bool


@dataclass(frozen=True, slots=True)
class NamedDelivery:
    """A receiver with the kind and address that settings name."""

    kind: str
    address: str
    delivery: Delivery


@dataclass(frozen=True, slots=True)
class LineFiles:
    """Where a line's state survives the process."""

    alarms: BytesFile
    reference: BytesFile


class LineGateway:
    """Everything about one line that is not joining. Thread-safe.

    Args:
        line_id: The line.
        plcs: Its PLCs, in the order of the settings.
        deliveries: Its receivers, likewise.
        triggering: Takes triggers that come as messages.
        asker: Asks for pictures.
        alarms: Its alarms, as they were left.
        reference: Its check with reference parts, as it was left.
        shifts: At whose starts a check is due.
        files: Where both are kept.
        tell: Puts events on record.
        broker_away: Why outcomes cannot be read, or events not be written; empty while they can.
        clock_ns: Wall clock.
    """

    def __init__(
        self,
        line_id: str,
        plcs: Sequence[NamedPlc],
        deliveries: Sequence[NamedDelivery],
        triggering: Triggering,
        asker: PictureAsker,
        alarms: AlarmBoard,
        reference: ReferenceCheck,
        shifts: ShiftPlan,
        files: LineFiles,
        *,
        tell: Callable[[Sequence[LineEvent]], None],
        broker_away: Callable[[], str],
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.line_id = line_id
        self._plcs = tuple(plcs)
        self._deliveries = tuple(deliveries)
        self._triggering = triggering
        self._asker = asker
        self._alarms = alarms
        self._reference = reference
        self._shifts = shifts
        self._files = files
        self._tell = tell
        self._broker_away = broker_away
        self._clock_ns = clock_ns
        self._started_ns = clock_ns()
        self._light: Light | None = None
        self._causes: tuple[LightCause, ...] = ()
        self._unanswered_since_ns = 0
        self._alarms_saved_s = time.monotonic()
        self._lock = threading.RLock()
        self._watchers: list[Callable[[Outcome], None]] = []
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"line-{line_id}", daemon=True)

    # ---- life

    def start(self) -> None:
        """Serve the connections.

        Raises:
            UnavailableError: When an address cannot be served on.
        """
        self._tell_again()
        self._asker.start()
        for plc in self._plcs:
            plc.connection.start()
            LOG.info("%s of %s at %s", plc.connection.name, self.line_id, plc.connection.address)
        self._thread.start()

    def close(self) -> None:
        """Put every PLC at the safe level and stop; receivers are closed by who started them. Idempotent."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(2.0)
        for plc in self._plcs:
            plc.connection.close()
        self._asker.close()
        self._save_alarms()

    def check(self) -> None:
        """Raise what ended one of the line's threads, if anything did."""
        if self._failure is not None:
            raise self._failure
        self._asker.check()
        for plc in self._plcs:
            plc.connection.check()

    # ---- outcomes

    def take(self, outcomes: Iterable[Outcome]) -> None:
        """Take outcomes; those of other lines are passed over."""
        for outcome in outcomes:
            if outcome.line_id == self.line_id:
                self._take(outcome)

    def _take(self, outcome: Outcome) -> None:
        old = outcome.decided_at_ns < self._started_ns - int(_SHOWN_BEFORE_S * _NS_PER_S)
        for plc in self._plcs:
            # The line first: alarms may wait, a reject gate does not.
            if plc.triggered or not old:
                plc.connection.take_outcome(outcome)
        self._triggering.note(outcome.part_id)
        with self._lock:
            self._judge(outcome)
            watchers = tuple(self._watchers)
        for watcher in watchers:
            watcher(outcome)

    def _judge(self, outcome: Outcome) -> None:
        if self._reference.is_reference(outcome.part_id):
            events = self._reference.take(outcome)
            if events:
                # Told first: killed in between, the outcome is read again and tells the same events.
                self._tell(tuple(self._of_reference(event) for event in events))
                self._files.reference.save(self._reference.to_json())
            return
        raised = self._alarms.take(outcome)
        for alarm in raised:
            LOG.warning("alarm: %s", alarm.text, extra={"line": self.line_id, "alarm": alarm.alarm_id})
        if raised:
            self._save_alarms()
            self._tell(tuple(map(self._raised, raised)))

    def watch(self, watcher: Callable[[Outcome], None]) -> Callable[[], None]:
        """Tell somebody of each outcome from now on; returns what ends it.

        Raises:
            BusyError: When as many watch as may.
        """
        with self._lock:
            if len(self._watchers) >= _MAX_WATCHERS:
                raise BusyError(f"at most {_MAX_WATCHERS} may watch line {self.line_id} at once")
            self._watchers.append(watcher)

        def leave() -> None:
            with self._lock:
                if watcher in self._watchers:
                    self._watchers.remove(watcher)

        return leave

    # ---- what people and programs ask

    def trigger(self, connection: str, recipe: str, lot: str, part: str) -> TriggeredPart:
        """Take a trigger that came as a message; raises ``InvalidInputError`` where it breaks a rule."""
        return self._triggering.trigger(connection, recipe, lot, part)

    def acknowledge(self, alarm_id: str, person: str, note: str) -> Alarm:
        """Acknowledge an alarm; raises ``NotFoundError`` and ``InvalidInputError`` as the board does."""
        with self._lock:
            at_ns = self._clock_ns()
            alarm = self._alarms.acknowledge(alarm_id, person, at_ns, note)
            if alarm.acknowledged_at_ns == at_ns:
                self._save_alarms()
                self._tell((self._acknowledged(alarm),))
        self.look()
        return alarm

    def begin_reference_check(self, person: str) -> ReferenceState:
        """Begin a check in a person's name; raises ``PreconditionError`` where the line has no reference parts."""
        with self._lock:
            self._begin_check(person, person)
            state = self._reference.state
        self.look()
        return state

    def state(self) -> LineState:
        """How the line is now."""
        with self._lock:
            plc = self._plcs[0].connection if self._plcs else None
            return LineState(
                line_id=self.line_id,
                light=self._light or Light.RED,
                product=plc.product if plc is not None else self._triggering.product,
                lot=plc.lot if plc is not None else self._triggering.lot,
                causes=self._causes,
                connections=(*map(_plc_state, self._plcs), *map(_delivery_state, self._deliveries)),
                alarms=self._alarms.standing,
                reference=self._reference.state,
                past_alarms=self._alarms.past,
            )

    @property
    def deliveries(self) -> tuple[Delivery, ...]:
        """Its receivers' deliveries, in the order of the settings."""
        return tuple(one.delivery for one in self._deliveries)

    @property
    def light(self) -> Light | None:
        """What the stack light shows; None before the first look."""
        return self._light

    # ---- looking

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self.look()
                self._stopping.wait(_TICK_S)
        except BaseException as error:  # noqa: BLE001 - carried to the main thread and raised there
            self._failure = error

    def look(self) -> None:
        """See how everything is, and show it on the light."""
        with self._lock:
            now_ns = self._clock_ns()
            due = self._reference.due(self._shifts, now_ns)
            if due is not None:
                self._begin_check(due.name, "")
            if time.monotonic() - self._alarms_saved_s >= _SAVE_ALARMS_EVERY_S:
                self._save_alarms()
            self._watch_misses(now_ns)
            causes = self._look_for_causes(now_ns)
            light = stack_light(causes)
            if light is not self._light:
                text = "; ".join(cause.text for cause in causes)[:500]
                self._tell((self._event(LineEventKind.LIGHT_CHANGED, now_ns, light=light, detail=text),))
            self._light, self._causes = light, causes
            metrics.OUTCOME_LIGHT.labels(self.line_id).set(_LIGHT_NUMBER[light])
            for one in (Light.AMBER, Light.RED):
                standing = sum(alarm.light is one for alarm in self._alarms.standing)
                metrics.OUTCOME_ALARMS.labels(self.line_id, one.value).set(standing)

    def _watch_misses(self, now_ns: int) -> None:
        missed = any(plc.connection.deadlines_missed >= _MISSED_IN_A_ROW for plc in self._plcs)
        if not missed:
            self._unanswered_since_ns = 0
        elif not self._unanswered_since_ns:
            self._unanswered_since_ns = now_ns - int(_NO_OUTCOMES_AFTER_S * _NS_PER_S)

    def _look_for_causes(self, now_ns: int) -> tuple[LightCause, ...]:
        away = {one.delivery.name: one.delivery.away for one in self._deliveries if one.delivery.away}
        broker = self._broker_away()
        if broker:
            away["kafka"] = broker
        safe = [plc.connection for plc in self._plcs if plc.connection.state is HandshakeState.SAFE]
        lost = [plc.name for plc in safe if plc.error_code is not ErrorCode.NO_OUTCOMES]
        blind = {plc.name: _BLIND for plc in safe if plc.error_code is ErrorCode.NO_OUTCOMES}
        return light_causes(
            alarms=self._alarms.standing,
            away=away,
            heartbeats_lost=lost,
            at_safe_level=blind,
            reference=self._reference.state,
            unanswered_since_ns=self._unanswered_since_ns,
            now_ns=now_ns,
            no_outcomes_after_s=_NO_OUTCOMES_AFTER_S,
        )

    # ---- record

    def _tell_again(self) -> None:
        """Tell what an earlier life may have saved and not told; told again it has the same ids."""
        past = self._alarms.past[:1]
        events = (*map(self._raised, (*self._alarms.standing, *past)), *map(self._acknowledged, past))
        if events:
            self._tell(events)

    def _raised(self, alarm: Alarm) -> LineEvent:
        return self._event(LineEventKind.ALARM_RAISED, alarm.raised_at_ns, alarm=alarm)

    def _acknowledged(self, alarm: Alarm) -> LineEvent:
        at_ns, person = alarm.acknowledged_at_ns, alarm.acknowledged_by
        return self._event(LineEventKind.ALARM_ACKNOWLEDGED, at_ns, alarm=alarm, actor=person)

    def _save_alarms(self) -> None:
        self._files.alarms.save(self._alarms.to_json())
        self._alarms_saved_s = time.monotonic()

    def _begin_check(self, occasion: str, person: str) -> None:
        events = self._reference.begin(occasion, self._clock_ns())
        self._files.reference.save(self._reference.to_json())
        self._tell(tuple(self._of_reference(event, person) for event in events))

    def _of_reference(self, event: ReferenceEvent, person: str = "") -> LineEvent:
        return self._event(
            event.kind,
            event.at_ns,
            part_id=event.part_id,
            verdict=event.verdict,
            detail=event.detail,
            actor=person,
        )

    def _event(
        self,
        kind: LineEventKind,
        at_ns: int,
        *,
        alarm: Alarm | None = None,
        light: Light | None = None,
        part_id: str = "",
        verdict: Verdict | None = None,
        detail: str = "",
        actor: str = "",
    ) -> LineEvent:
        what = alarm.alarm_id if alarm is not None else part_id or (light.value if light is not None else detail[:80])
        return LineEvent(
            event_id=line_event_id(self.line_id, "", f"{kind.value}:{what}", at_ns),
            line_id=self.line_id,
            at_ns=at_ns,
            kind=kind,
            part_id=alarm.part_id if alarm is not None else part_id,
            verdict=verdict,
            product=alarm.product if alarm is not None else "",
            actor=actor,
            detail=(alarm.note if actor else alarm.text) if alarm is not None else detail,
            alarm_id=alarm.alarm_id if alarm is not None else "",
            light=alarm.light if alarm is not None else light,
        )


def _plc_state(plc: NamedPlc) -> ConnectionState:
    connection = plc.connection
    safe = connection.state is HandshakeState.SAFE
    return ConnectionState(
        name=connection.name,
        kind=plc.kind,
        address=connection.address,
        up=not safe,
        handshake=connection.state,
        part_id=connection.part_id,
        error_code=int(connection.error_code),
        waiting=connection.waiting,
        detail=_why_safe(connection.error_code) if safe else "",
    )


def _why_safe(code: ErrorCode) -> str:
    return _BLIND if code is ErrorCode.NO_OUTCOMES else "the PLC's heartbeat stands still"


def _delivery_state(one: NamedDelivery) -> ConnectionState:
    delivery = one.delivery
    return ConnectionState(
        name=delivery.name,
        kind=one.kind,
        address=one.address,
        up=not delivery.away,
        waiting=delivery.waiting,
        oldest_waiting_ms=delivery.oldest_waiting_ms,
        detail=delivery.away,
    )
