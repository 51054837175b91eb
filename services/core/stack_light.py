"""What a line's stack light shows, and why it is not green."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from services.core.alarm import Alarm
from services.core.line_event import Light
from services.core.reference_check import ReferencePhase, ReferenceState

#: Parts come and no outcome does, for so long, in seconds: nobody answers the line.
NO_OUTCOMES_AFTER_S: Final = 30.0

_NS_PER_S: Final = 1_000_000_000


class CauseToken(enum.StrEnum):
    """Stable names of causes, for programs."""

    SAFE = "safe"
    """Outputs of a connection are at the safe level."""
    HEARTBEAT = "heartbeat"
    """The line's heartbeat on a connection stands still."""
    NO_OUTCOMES = "no_outcomes"
    """Parts come and no outcome does."""
    REFERENCE = "reference"
    """The check with reference parts is due, or failed."""
    ALARM = "alarm"
    """An alarm stands."""
    CONNECTION = "connection"
    """A connection does not deliver."""


# RED before AMBER; where both are the same, what takes more from the line comes first.
_GRAVEST_FIRST: Final = {token: place for place, token in enumerate(CauseToken)}


@dataclass(frozen=True, slots=True)
class LightCause:
    """What keeps a light from being green."""

    token: str
    """One of :class:`CauseToken`; a newer release may know others."""
    about: str
    """An alarm's id, a connection's name; may be empty."""
    text: str
    """For people."""
    light: Light
    """How grave: AMBER or RED."""


def light_causes(
    *,
    alarms: Iterable[Alarm] = (),
    away: Mapping[str, str] | None = None,
    heartbeats_lost: Iterable[str] = (),
    at_safe_level: Mapping[str, str] | None = None,
    reference: ReferenceState | None = None,
    unanswered_since_ns: int = 0,
    now_ns: int = 0,
    no_outcomes_after_s: float = NO_OUTCOMES_AFTER_S,
) -> tuple[LightCause, ...]:
    """Tell everything that keeps a line's light from being green.

    A connection that is away is AMBER: what is to be told waits in order. That a PLC does not hear the answers shows in
    its heartbeat, which is RED.

    Args:
        alarms: Those that stand; each is as grave as its rule says.
        away: Connections that do not deliver, with why, in words; the name alone where that is empty.
        heartbeats_lost: Connections on which the line's heartbeat stands still.
        at_safe_level: Connections whose outputs are at the safe level, with why, in words.
        reference: The check with reference parts; AMBER where one is due, RED where it failed.
        unanswered_since_ns: When the first part came after the last outcome, nanoseconds since the epoch; 0 where none
            has.
        now_ns: The present, nanoseconds since the epoch.
        no_outcomes_after_s: So long after that it is RED that there is no outcome.

    Returns:
        The gravest first; empty where the light is green.
    """
    causes = [_of_alarm(alarm) for alarm in alarms]
    causes += [
        LightCause(CauseToken.CONNECTION, name, _with_why(f"connection {name} does not deliver", why), Light.AMBER)
        for name, why in (away or {}).items()
    ]
    causes += [
        LightCause(CauseToken.HEARTBEAT, name, f"the line's heartbeat on {name} stands still", Light.RED)
        for name in heartbeats_lost
    ]
    causes += [
        LightCause(CauseToken.SAFE, name, _with_why(f"outputs of {name} are at the safe level", why), Light.RED)
        for name, why in (at_safe_level or {}).items()
    ]
    causes += _of_reference(reference or ReferenceState())
    waited_s = (now_ns - unanswered_since_ns) / _NS_PER_S
    if unanswered_since_ns and waited_s >= no_outcomes_after_s:
        text = f"parts come and no answer was there in time for {waited_s:.0f} s"
        causes.append(LightCause(CauseToken.NO_OUTCOMES, "", text, Light.RED))
    # Sorting keeps the order of equals: alarms stay the newest first.
    return tuple(sorted(causes, key=_gravity))


def stack_light(causes: Iterable[LightCause]) -> Light:
    """The light that these causes make: that of the gravest, and GREEN without any."""
    lights = {cause.light for cause in causes}
    return next((light for light in (Light.RED, Light.AMBER) if light in lights), Light.GREEN)


def _of_alarm(alarm: Alarm) -> LightCause:
    return LightCause(CauseToken.ALARM, alarm.alarm_id, alarm.text, alarm.light)


def _of_reference(reference: ReferenceState) -> list[LightCause]:
    if reference.phase is ReferencePhase.FAILED:
        wrong = ", ".join(part.part_id for part in reference.parts if part.seen is not None and not part.right)
        text = f"the check with reference parts failed: {wrong} came out wrong"
        return [LightCause(CauseToken.REFERENCE, reference.occasion, text, Light.RED)]
    if reference.phase is ReferencePhase.DUE:
        text = _with_why("a check with reference parts is due", reference.occasion)
        return [LightCause(CauseToken.REFERENCE, reference.occasion, text, Light.AMBER)]
    return []


def _with_why(text: str, why: str) -> str:
    return f"{text}: {why}" if why else text


def _gravity(cause: LightCause) -> tuple[bool, int]:
    return cause.light is not Light.RED, _GRAVEST_FIRST[CauseToken(cause.token)]
