"""How a line is now: what is made, its light, its connections, its alarms and its check with reference parts."""

from __future__ import annotations

from dataclasses import dataclass

from services.core.alarm import Alarm
from services.core.line_event import Light
from services.core.plc import HandshakeState
from services.core.reference_check import ReferenceState
from services.core.stack_light import LightCause


@dataclass(frozen=True, slots=True)
class ConnectionState:
    """One connection of a line."""

    name: str
    """As settings name it."""
    kind: str
    """``modbus``, ``opcua``, ``mqtt``, ``webhook`` or ``file``."""
    address: str
    """Where it is served, or whom it tells; for people, without secrets."""
    up: bool
    """Whether it delivers, or a heartbeat beats."""
    handshake: HandshakeState | None = None
    """None for a connection that only tells."""
    part_id: str = ""
    """The part that the handshake is about."""
    error_code: int = 0
    """As the PLC sees it; 0 means none."""
    waiting: int = 0
    """Outcomes and events that wait to be told."""
    oldest_waiting_ms: int = 0
    """Age of the oldest of them."""
    detail: str = ""
    """Why it is not up, for people."""


@dataclass(frozen=True, slots=True)
class LineState:
    """How a line is now."""

    line_id: str
    light: Light
    product: str = ""
    """What is made from the next part on; empty before it is known."""
    lot: str = ""
    causes: tuple[LightCause, ...] = ()
    """Why the light is not green, the gravest first."""
    connections: tuple[ConnectionState, ...] = ()
    """In the order of the settings."""
    alarms: tuple[Alarm, ...] = ()
    """Those that nobody has acknowledged, the newest first."""
    reference: ReferenceState = ReferenceState()  # noqa: RUF009 - it never changes
    past_alarms: tuple[Alarm, ...] = ()
    """Those that were acknowledged, the newest first."""
