"""The signals that a PLC and an inspection exchange: the handshake that PLC programmers know.

The PLC raises *Trigger* while *TriggerReady* is up; the inspection takes *TriggerReady* down and *Busy* up. When the
answer is there, one of *OK*, *NOK* and *REVIEW* is up, then *ResultReady*; the PLC raises *ResultAck*, the inspection
takes the result down, the PLC takes *Trigger* and *ResultAck* down, and *TriggerReady* comes up again. Each side counts
a heartbeat up; where the other's stands still, outputs go to the safe level.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from services.core.errors import InvalidInputError
from services.core.line_event import Light
from services.core.types import Verdict

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
    NO_OUTCOMES = 9
    """Outcomes cannot be read, and parts come without triggers; outputs are at the safe level."""


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


class HandshakeState(enum.Enum):
    """Where a handshake stands."""

    READY = "ready"
    """A trigger may come."""
    BUSY = "busy"
    """A part is before the cameras, its answer is waited for."""
    RESULT = "result"
    """The answer is up and not acknowledged."""
    RELEASING = "releasing"
    """It is acknowledged; the line's signals must fall."""
    SAFE = "safe"
    """The line's heartbeat stands still; outputs are at the safe level."""


@dataclass(frozen=True, slots=True)
class HandshakeSettings:
    """How one PLC is spoken with."""

    line_id: str
    connection: str
    products: frozenset[str]
    """What may be made on this line."""
    recipes: Mapping[str, str] = field(default_factory=dict)
    """Product by what the PLC says for it: a number, a name."""
    product: str = ""
    """What is made until the PLC says otherwise."""
    triggered: bool = True
    """Whether parts come by trigger; else every outcome of the line is shown, one after the other."""
    cycle_time_ms: int = 1_000
    """The answer is due this long after the trigger."""
    answer_before_ms: int = 50
    """REVIEW is said this long before that, where no outcome is there."""
    ack_timeout_ms: int = 2_000
    """A result that stands for longer is told as an error; it stays."""
    heartbeat_timeout_ms: int = 2_000
    """A PLC whose heartbeat stands still for longer is lost; 0 does not look at it."""
    safe_level: Verdict = Verdict.FAIL
    """What the outputs say at the safe level: FAIL (NOK is up) or REVIEW."""
    encoder_pitch: int = 0
    """A part comes every so many counts of the encoder; 0 does not look at it."""
    max_waiting: int = 64
    """Outcomes that may wait to be shown, where parts come without triggers."""

    def __post_init__(self) -> None:
        if self.safe_level is Verdict.PASS:
            raise InvalidInputError("the safe level must be FAIL or REVIEW, got PASS")
        if not self.products:
            raise InvalidInputError(f"line {self.line_id} must have at least one product, got none")
        unknown = sorted({name for name in self.recipes.values() if name not in self.products})
        if unknown:
            raise InvalidInputError(f"a recipe must stand for a product of the line, got {', '.join(unknown)}")
        if self.product and self.product not in self.products:
            raise InvalidInputError(f"product must be one of the line, got {self.product!r}")
        if not 0 <= self.answer_before_ms < self.cycle_time_ms:
            raise InvalidInputError(
                f"answer_before_ms must be less than cycle_time_ms, got {self.answer_before_ms} and "
                f"{self.cycle_time_ms}"
            )

    @property
    def first_product(self) -> str:
        """What is made as long as the PLC has said nothing."""
        return self.product or min(self.products)


@dataclass(frozen=True, slots=True)
class TriggeredPart:
    """A part that the PLC has announced."""

    part_id: str
    product: str
    lot: str
    triggered_at_ns: int
    deadline_at_ns: int
    pictured: bool = True
    """Whether cameras are asked for it; not where nobody knows its recipe."""


@dataclass(frozen=True, slots=True)
class LineAnswer:
    """What the line is told of a part; the first one holds."""

    part_id: str
    verdict: Verdict
    revision: int
    """The outcome's; 0 where the answer was given without one."""
    at_ns: int
    error_code: ErrorCode = ErrorCode.NONE


@dataclass(frozen=True, slots=True)
class HandshakeMemory:
    """What must survive the process."""

    state: HandshakeState
    product: str
    lot: str
    part: TriggeredPart | None
    answer: LineAnswer | None
    recent: tuple[LineAnswer, ...] = ()
    """The last answers, oldest first: what is read again after a restart is not shown again."""
    trigger: bool = False
    """Whether *Trigger* was up when it was last looked at."""
    result_ack: bool = False
    """Likewise, of *ResultAck*."""
