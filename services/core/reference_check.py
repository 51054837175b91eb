"""The check with reference parts: known good and known bad ones must come out right before a line is shown green."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from services.core.errors import InvalidInputError, PreconditionError
from services.core.identity import MAX_ID_LENGTH, validate_id
from services.core.line_event import LineEventKind
from services.core.manifest import dump_json, load_json, read_strictly
from services.core.outcome import Outcome
from services.core.shift import ShiftPlan, ShiftSpan
from services.core.types import Verdict

#: Most reference parts of a line.
MAX_REFERENCE_PARTS: Final = 32

_ANY: Final = "*"
_NS_PER_S: Final = 1_000_000_000
_SCHEMA: Final = 1
_NAME: Final = "reference.json"


class ReferencePhase(enum.Enum):
    """Where a check stands."""

    DUE = "due"
    """It is due and has not begun, or runs."""
    PASSED = "passed"
    """Every reference part came out as it must."""
    FAILED = "failed"
    """One did not."""


@dataclass(frozen=True, slots=True)
class ReferencePart:
    """A part of which it is known what must come out."""

    part_id: str
    """Its id, or how ids of it begin, with ``*`` at the end, where each showing has its own serial."""
    expected: Verdict
    """PASS or FAIL."""

    def __post_init__(self) -> None:
        validate_id(self.part_id.removesuffix(_ANY), "a reference part's part_id")
        if self.expected not in {Verdict.PASS, Verdict.FAIL}:
            raise InvalidInputError(f"reference part {self.part_id} must be PASS or FAIL, got {self.expected.name}")

    def is_shown_by(self, part_id: str) -> bool:
        """Whether a part with this id is it."""
        if self.part_id.endswith(_ANY):
            return part_id.startswith(self.part_id.removesuffix(_ANY))
        return part_id == self.part_id

    def overlaps(self, other: ReferencePart) -> bool:
        """Whether one part could be both."""
        return self.is_shown_by(other.part_id.removesuffix(_ANY)) or other.is_shown_by(self.part_id.removesuffix(_ANY))


@dataclass(frozen=True, slots=True)
class ReferencePartState:
    """What came of one reference part."""

    part_id: str
    """As :class:`ReferencePart` has it."""
    expected: Verdict
    seen: Verdict | None = None
    """None while it was not shown. REVIEW where the answer was late: the line did not get another one."""

    @property
    def right(self) -> bool:
        """Whether it came out as it must; REVIEW never is."""
        return self.seen is self.expected


@dataclass(frozen=True, slots=True)
class ReferenceState:
    """Where the check of a line stands."""

    phase: ReferencePhase | None = None
    """None where the line has no reference parts."""
    occasion: str = ""
    """The shift that it is for, or who asked for it."""
    due_at_ns: int = 0
    """When it became due; 0 where none was asked for yet."""
    ended_at_ns: int = 0
    """When it passed or failed; 0 while it has not."""
    parts: tuple[ReferencePartState, ...] = ()


@dataclass(frozen=True, slots=True)
class ReferenceEvent:
    """What happened in a check; a line event without the line."""

    kind: LineEventKind
    """One of the four ``REFERENCE_*``."""
    at_ns: int
    detail: str
    part_id: str = ""
    verdict: Verdict | None = None
    """What came out, in an event of a part."""


@dataclass(frozen=True, slots=True)
class _Stored:
    schema: int
    state: ReferenceState
    seen_at_ns: dict[str, int]
    last_passed_at_ns: int


class ReferenceCheck:
    """The check of one line. Not thread-safe.

    Before the first check has passed one is due. A part may be shown as often as people like, and the last showing
    counts, until the check has passed; then nothing counts until the next one begins.

    Args:
        parts: None for a line without reference parts; else at least one good and one bad, since a line that calls
            everything good passes any check with good parts alone.

    Raises:
        InvalidInputError: If only good or only bad ones are given, too many, or some that one part could both be.
    """

    def __init__(self, parts: Sequence[ReferencePart]) -> None:
        _check_parts(parts)
        self._parts = tuple(parts)
        self._state = ReferenceState(
            ReferencePhase.DUE if parts else None,
            parts=tuple(ReferencePartState(part.part_id, part.expected) for part in parts),
        )
        # When the outcome that counts was decided, by the reference part.
        self._seen_at_ns: dict[str, int] = {}
        self._last_passed_at_ns = 0

    @property
    def state(self) -> ReferenceState:
        """Where it stands."""
        return self._state

    @property
    def last_passed_at_ns(self) -> int:
        """When a check last passed, nanoseconds since the epoch; 0 if none has."""
        return self._last_passed_at_ns

    def is_reference(self, part_id: str) -> bool:
        """Whether a part is a reference part, during a check or not: it was not produced, and counts in no alarm."""
        return any(part.is_shown_by(part_id) for part in self._parts)

    def due(self, plan: ShiftPlan, now_ns: int) -> ShiftSpan | None:
        """The shift for which a check must begin now; None where one has begun or passed since that shift began."""
        if not self._parts:
            return None
        return due_since(plan, max(self._last_passed_at_ns, self._state.due_at_ns), now_ns)

    def begin(self, occasion: str, at_ns: int) -> tuple[ReferenceEvent, ...]:
        """Begin a check; one under way begins anew.

        Args:
            occasion: The shift, or the person who asks.
            at_ns: When it became due, nanoseconds since the epoch. Outcomes decided before that do not count.

        Raises:
            InvalidInputError: If the occasion is too long or not printable, or there is no time.
            PreconditionError: If the line has no reference parts.
        """
        if not self._parts:
            raise PreconditionError("a line must have reference parts for a check, got none")
        if len(occasion) > MAX_ID_LENGTH or not occasion.isprintable():
            raise InvalidInputError(
                f"occasion must have at most {MAX_ID_LENGTH} printable characters, got {ascii(occasion)[:80]}"
            )
        if at_ns < 1:
            raise InvalidInputError(f"at_ns must be >= 1, got {at_ns}")
        fresh = tuple(replace(part, seen=None) for part in self._state.parts)
        self._state = ReferenceState(ReferencePhase.DUE, occasion, at_ns, 0, fresh)
        self._seen_at_ns.clear()
        return (ReferenceEvent(LineEventKind.REFERENCE_BEGUN, at_ns, f"check with {len(fresh)} reference parts begun"),)

    def take(self, outcome: Outcome) -> tuple[ReferenceEvent, ...]:
        """Take a part's outcome.

        Late revisions are no answer that the line got, and do not count; nor does what was counted already or was
        decided before the check became due.

        Returns:
            What happened: nothing for any other part, or once the check has passed.
        """
        part = next((part for part in self._parts if part.is_shown_by(outcome.part_id)), None)
        if part is None or outcome.revision > 1 or self._state.phase is ReferencePhase.PASSED:
            return ()
        if outcome.decided_at_ns <= max(self._seen_at_ns.get(part.part_id, 0), self._state.due_at_ns - 1):
            return ()
        self._seen_at_ns[part.part_id] = outcome.decided_at_ns
        seen = outcome.verdict if outcome.in_time else Verdict.REVIEW
        parts = tuple(replace(one, seen=seen) if one.part_id == part.part_id else one for one in self._state.parts)
        return (_part_event(part, outcome), *self._stand(parts, outcome.decided_at_ns))

    def _stand(self, parts: tuple[ReferencePartState, ...], at_ns: int) -> tuple[ReferenceEvent, ...]:
        before = self._state.phase
        wrong = [part.part_id for part in parts if part.seen is not None and not part.right]
        if wrong:
            phase = ReferencePhase.FAILED
        elif all(part.right for part in parts):
            phase = ReferencePhase.PASSED
        else:
            phase = ReferencePhase.DUE
        ended_at_ns = 0 if phase is ReferencePhase.DUE else at_ns
        if phase is before:
            ended_at_ns = self._state.ended_at_ns
        self._state = replace(self._state, phase=phase, ended_at_ns=ended_at_ns, parts=parts)
        if phase is ReferencePhase.PASSED:
            self._last_passed_at_ns = at_ns
            detail = f"all {len(parts)} reference parts came out as they must"
            return (ReferenceEvent(LineEventKind.REFERENCE_PASSED, at_ns, detail),)
        if phase is ReferencePhase.FAILED and phase is not before:
            return (ReferenceEvent(LineEventKind.REFERENCE_FAILED, at_ns, f"{', '.join(wrong)} came out wrong"),)
        return ()

    def to_json(self) -> bytes:
        """Write the check down; one that is read back goes on as this one does."""
        stored = _Stored(_SCHEMA, self._state, dict(self._seen_at_ns), self._last_passed_at_ns)
        return dump_json(stored)

    @classmethod
    def from_json(cls, data: bytes, parts: Sequence[ReferencePart]) -> ReferenceCheck:
        """Read a check back.

        With other parts than it was written with, a check is due: it says nothing of the new ones.

        Args:
            data: As :meth:`to_json` wrote it.
            parts: Of now.

        Raises:
            InvalidInputError: If it is not what :meth:`to_json` writes.
        """
        stored = read_strictly(_Stored, load_json(data, _NAME), _NAME)
        if stored.schema != _SCHEMA:
            raise InvalidInputError(f"{_NAME}: schema must be {_SCHEMA}, got {stored.schema}")
        check = cls(parts)
        was = [(part.part_id, part.expected) for part in stored.state.parts]
        if was != [(part.part_id, part.expected) for part in parts]:
            return check
        check._state = stored.state
        check._seen_at_ns = stored.seen_at_ns
        check._last_passed_at_ns = stored.last_passed_at_ns
        return check


def due_since(plan: ShiftPlan, last_passed_at_ns: int, now_ns: int) -> ShiftSpan | None:
    """The shift under way, if no check has passed since it began.

    Args:
        plan: The shifts; between two of them nothing is due.
        last_passed_at_ns: When a check last passed, nanoseconds since the epoch; 0 if none has.
        now_ns: The present, nanoseconds since the epoch.
    """
    span = plan.at(now_ns // _NS_PER_S)
    return span if span is not None and last_passed_at_ns < span.begins_s * _NS_PER_S else None


def _check_parts(parts: Sequence[ReferencePart]) -> None:
    if len(parts) > MAX_REFERENCE_PARTS:
        raise InvalidInputError(f"a line must have at most {MAX_REFERENCE_PARTS} reference parts, got {len(parts)}")
    if parts and {part.expected for part in parts} != {Verdict.PASS, Verdict.FAIL}:
        raise InvalidInputError(
            f"reference parts must be some that PASS and some that FAIL, got only {parts[0].expected.name}"
        )
    for index, part in enumerate(parts):
        for other in parts[index + 1 :]:
            if part.overlaps(other):
                raise InvalidInputError(
                    f"reference parts must be told apart by their ids, got {part.part_id} and {other.part_id}"
                )


def _part_event(part: ReferencePart, outcome: Outcome) -> ReferenceEvent:
    must = part.expected.name
    if not outcome.in_time:
        detail = f"{outcome.part_id} must be {must} in time, came out {outcome.verdict.name} and late"
    elif outcome.verdict is part.expected:
        detail = f"{outcome.part_id} came out {must} as it must"
    else:
        detail = f"{outcome.part_id} must be {must}, came out {outcome.verdict.name}"
    return ReferenceEvent(LineEventKind.REFERENCE_PART, outcome.decided_at_ns, detail, outcome.part_id, outcome.verdict)
