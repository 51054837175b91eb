"""The signals that a PLC and an inspection exchange: the handshake that PLC programmers know.

The PLC raises *Trigger* while *TriggerReady* is up; the inspection takes *TriggerReady* down and *Busy* up. When the
answer is there, one of *OK*, *NOK* and *REVIEW* is up, then *ResultReady*; the PLC raises *ResultAck*, the inspection
takes the result down, the PLC takes *Trigger* and *ResultAck* down, and *TriggerReady* comes up again. Each side counts
a heartbeat up; where the other's stands still, outputs go to the safe level.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from services.core.line_event import Light

#: Longest recipe, lot and part name in the exchanged signals, in ASCII characters.
MAX_TEXT: Final = 32


class ErrorCode(enum.IntEnum):
    """What is wrong with what the PLC asked for, as it reads it. Numbers are never reused."""

    NONE = 0
    TRIGGER_NOT_READY = 1
    """A trigger came while *TriggerReady* was down; it was refused."""
    ACK_UNEXPECTED = 2
    """*ResultAck* came up while there was no result."""
    ACK_MISSING = 3
    """The result stands unacknowledged for longer than may be."""
    UNKNOWN_RECIPE = 4
    """There is no such recipe on this line."""
    NO_CAMERA = 5
    """No camera could be asked for a picture."""
    DEADLINE = 6
    """The answer is REVIEW because no outcome was there in time."""
    BAD_TEXT = 7
    """A recipe, lot or part name with characters that are not allowed."""
    HEARTBEAT = 8
    """The PLC's heartbeat stands still."""


@dataclass(frozen=True, slots=True)
class PlcInputs:
    """What the PLC says."""

    trigger: bool = False
    result_ack: bool = False
    heartbeat: int = 0
    """Counts up, 0 to 65535 and around; only that it changes counts."""
    encoder: int = 0
    """Position of the belt in the encoder's counts, 0 to 4294967295 and around; 0 all the time without one."""
    recipe: str = ""
    """A product, or what settings name as one (``"7"``); empty keeps the one that is made."""
    lot: str = ""
    part: str = ""
    """The part's own id (a scanned code); empty lets the inspection name it."""


@dataclass(frozen=True, slots=True)
class PlcOutputs:
    """What the inspection says."""

    trigger_ready: bool = False
    busy: bool = False
    result_ready: bool = False
    ok: bool = False
    nok: bool = False
    review: bool = False
    safe: bool = False
    """Outputs are at the safe level: no result holds."""
    error_code: ErrorCode = ErrorCode.NONE
    heartbeat: int = 0
    """Counts up, 0 to 65535 and around."""
    recipe: str = ""
    """The product that is made."""
    part: str = ""
    """The part that the result, or the work under way, is of."""
    light: Light | None = None
    """What the stack light shows; None is dark."""
