"""What happens between a line and its connections: each event on record, in the field's own words."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from services.core.types import Verdict


class LineEventKind(enum.Enum):
    """What happened; ``events.proto`` says more of each."""

    TRIGGERED = "triggered"
    TRIGGER_REFUSED = "trigger_refused"
    ANSWERED = "answered"
    ACKNOWLEDGED = "acknowledged"
    ACK_MISSING = "ack_missing"
    ACK_UNEXPECTED = "ack_unexpected"
    RECIPE_CHANGED = "recipe_changed"
    RECIPE_REFUSED = "recipe_refused"
    HEARTBEAT_LOST = "heartbeat_lost"
    HEARTBEAT_BACK = "heartbeat_back"
    CONNECTION_LOST = "connection_lost"
    CONNECTION_BACK = "connection_back"
    UNDELIVERED = "undelivered"
    MALFORMED = "malformed"
    SUPERSEDED = "superseded"
    CLOCK_SKEW = "clock_skew"
    ALARM_RAISED = "alarm_raised"
    ALARM_ACKNOWLEDGED = "alarm_acknowledged"
    LIGHT_CHANGED = "light_changed"
    REFERENCE_BEGUN = "reference_begun"
    REFERENCE_PART = "reference_part"
    REFERENCE_PASSED = "reference_passed"
    REFERENCE_FAILED = "reference_failed"


class Light(enum.Enum):
    """What the line's stack light shows."""

    GREEN = "green"
    """All is well."""
    AMBER = "amber"
    """The line may run and somebody should come."""
    RED = "red"
    """The line must not rely on what it is told."""


@dataclass(frozen=True, slots=True)
class LineEvent:
    """One thing that happened between a line and its connections."""

    event_id: str
    line_id: str
    at_ns: int
    kind: LineEventKind
    connection: str = ""
    """As settings name it; empty where it is about the line."""
    part_id: str = ""
    revision: int = 0
    """The outcome's revision that an answer is from; 0 where the answer was given without one."""
    verdict: Verdict | None = None
    """What the line was told; None in other events."""
    error_code: int = 0
    product: str = ""
    lot: str = ""
    actor: str = ""
    detail: str = ""
    alarm_id: str = ""
    light: Light | None = None
    """What the light shows from then on, or how grave an alarm is."""
