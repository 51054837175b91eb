"""What a line shows to its inspection, what it does out of turn, and what came of each part."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Final

from services.core.errors import InvalidInputError
from services.core.identity import validate_id
from services.core.plc import MAX_TEXT, ErrorCode
from services.core.types import Verdict

#: What is asked for where a recipe must be one that nobody knows.
UNKNOWN_RECIPE: Final = "no-such-recipe"
#: A part's number in its name.
NUMBER_DIGITS: Final = 6


class PlcFault(enum.Enum):
    """What the line does out of turn with one part."""

    SKIP_ACK = "skip_ack"
    """It acknowledges only once the inspection says that it should have."""
    DOUBLE_TRIGGER = "double_trigger"
    """It announces one more part while this one is before the cameras."""
    UNKNOWN_RECIPE = "unknown_recipe"
    """It asks for a recipe that nobody knows."""
    STOP_HEARTBEAT = "stop_heartbeat"
    """It stands still, heart and all, while the part is before the cameras."""


@dataclass(frozen=True, slots=True)
class PlcFaults:
    """How often each happens: with every so many parts; 0 = never. Reference parts are left in peace."""

    skip_ack_every: int = 0
    double_trigger_every: int = 0
    unknown_recipe_every: int = 0
    stop_heartbeat_every: int = 0
    stop_heartbeat_ms: int = 0
    """How long it stands still."""

    def __post_init__(self) -> None:
        for name in ("skip_ack_every", "double_trigger_every", "unknown_recipe_every", "stop_heartbeat_every"):
            if getattr(self, name) < 0:
                raise InvalidInputError(f"{name} must be >= 0, got {getattr(self, name)}")
        if self.stop_heartbeat_every and self.stop_heartbeat_ms <= 0:
            raise InvalidInputError(f"stop_heartbeat_ms must be > 0, got {self.stop_heartbeat_ms}")

    def of(self, number: int) -> frozenset[PlcFault]:
        """What happens with a part.

        Args:
            number: The part's, counted from 1.
        """
        every = {
            PlcFault.SKIP_ACK: self.skip_ack_every,
            PlcFault.DOUBLE_TRIGGER: self.double_trigger_every,
            PlcFault.UNKNOWN_RECIPE: self.unknown_recipe_every,
            PlcFault.STOP_HEARTBEAT: self.stop_heartbeat_every,
        }
        return frozenset(fault for fault, parts in every.items() if parts and number % parts == 0)


@dataclass(frozen=True, slots=True)
class PlcProgramSettings:
    """What a line makes, and how patient its PLC is."""

    prefix: str
    """Names of its parts begin so; a number follows. Another one for each run: a name that was there has its answer."""
    parts: int = 0
    """So many parts, reference parts not counted; 0 = without end."""
    interval_ms: float = 0.0
    """From one part to the next; 0 = as fast as the handshake goes."""
    recipe: str = ""
    """Empty keeps what is made."""
    lot: str = ""
    reference_good: int = 0
    """Known good parts that are shown first; their names begin with ``ref-good-``."""
    reference_bad: int = 0
    """Known bad parts that are shown first; their names begin with ``ref-bad-``."""
    faults: PlcFaults = field(default_factory=PlcFaults)
    heartbeat_ms: int = 200
    """From one beat to the next."""
    take_ms: int = 2_000
    """A trigger that nobody has noticed after this long is taken down."""
    answer_ms: int = 10_000
    """A part without an answer after this long is given up; the inspection answers within the part's cycle."""
    release_ms: int = 5_000
    """A result that still stands this long after its acknowledgement is left alone."""
    hold_ms: int = 5_000
    """An acknowledgement that is held back comes at the latest after this long."""
    pulse_ms: int = 50
    """A trigger that is raised again is down for this long before."""

    def __post_init__(self) -> None:
        for text in (self.prefix, self.lot):
            if text:
                validate_id(text, "prefix and lot")
        longest = len("ref-good-") + len(self.prefix) + 1 + NUMBER_DIGITS
        if not self.prefix or longest > MAX_TEXT:
            raise InvalidInputError(
                f"prefix must have 1 to {MAX_TEXT - longest + len(self.prefix)} characters, got {self.prefix!r}"
            )
        for name in ("parts", "interval_ms", "reference_good", "reference_bad"):
            if getattr(self, name) < 0:
                raise InvalidInputError(f"{name} must be >= 0, got {getattr(self, name)}")


class PartEnd(enum.Enum):
    """What came of a part that was announced."""

    ANSWERED = "answered"
    REFUSED = "refused"
    """The inspection said that it did not take the part."""
    UNANSWERED = "unanswered"


@dataclass(frozen=True, slots=True)
class PlcPart:
    """A part that was announced, and what came of it."""

    part: str
    """As it was announced."""
    part_id: str
    """As the inspection named it; empty where it did not."""
    end: PartEnd
    triggered_at_ns: int
    verdict: Verdict | None = None
    """What the line was told; None where it was told nothing."""
    error_code: ErrorCode = ErrorCode.NONE
    """What stood beside the answer or the refusal."""
    answered_ms: float | None = None
    """From the trigger to the answer, as the PLC has both."""
    acknowledged: bool = False
    """Whether the inspection has taken the acknowledgement."""
    reason: str = ""
    """Why it was refused or not answered, for people."""
    faults: tuple[PlcFault, ...] = ()
    """What the line did out of turn with it."""
    reference: bool = False


_WORDS: Final = {
    ErrorCode.NONE: "no error",
    ErrorCode.TRIGGER_NOT_READY: "trigger while not ready",
    ErrorCode.ACK_UNEXPECTED: "acknowledged nothing",
    ErrorCode.ACK_MISSING: "not acknowledged in time",
    ErrorCode.UNKNOWN_RECIPE: "unknown recipe",
    ErrorCode.NO_CAMERA: "no camera",
    ErrorCode.DEADLINE: "no outcome in time",
    ErrorCode.BAD_TEXT: "name not allowed",
    ErrorCode.HEARTBEAT: "heartbeat lost",
    ErrorCode.NO_OUTCOMES: "outcomes cannot be read",
}


def error_in_words(code: ErrorCode) -> str:
    """What an error code says, in a few words for people."""
    return _WORDS[code]
