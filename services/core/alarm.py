"""A line's alarms: raised by rules over its outcomes, and standing until a person acknowledges them.

An alarm that is over by itself is one that nobody has seen. So each stands until somebody says in their name that they
have seen it; while it stands, meeting its rule again is counted with it, and afterwards the count begins anew.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from services.core.alarm_count import AlarmCounts, Met, StoredCount
from services.core.alarm_rule import AlarmKey, AlarmKind, AlarmRule, Counted
from services.core.errors import InvalidInputError, NotFoundError
from services.core.identity import alarm_id
from services.core.line_event import Light
from services.core.manifest import dump_json, load_json, read_strictly
from services.core.outcome import Outcome
from services.core.review import validate_reviewer

#: Most counts that a board may keep, and most acknowledged alarms.
MAX_KEYS: Final = 1_000
MAX_KEPT: Final = 200
#: Most alarms of one light that stand. Beyond that none is raised: the light shows it, and nobody reads so many.
MAX_STANDING: Final = 200
#: Parts that are remembered, so that one that comes again does not count again.
REMEMBERED_PARTS: Final = 4_096
#: Longest note of whoever acknowledges an alarm, in characters.
MAX_NOTE_LENGTH: Final = 500

_SCHEMA: Final = 1
_NAME: Final = "alarms.json"


@dataclass(frozen=True, slots=True)
class Alarm:
    """One alarm."""

    alarm_id: str
    line_id: str
    rule: str
    """The rule's name."""
    light: Light
    """AMBER or RED."""
    text: str
    """What happened, for people, in English; the numbers below say it to programs that speak other languages."""
    raised_at_ns: int
    part_id: str
    """The part that raised it."""
    camera_id: str = ""
    product: str = ""
    defect_class: str = ""
    acknowledged_by: str = ""
    """Empty while nobody has."""
    acknowledged_at_ns: int = 0
    """0 while nobody has."""
    note: str = ""
    repeats: int = 0
    """Times that the rule was met again while it stood."""
    kind: AlarmKind | None = None
    """How the rule counts; None where it was not told."""
    count: int = 0
    """Parts that counted when it was raised; 0 where it was not told."""
    of: int = 0
    """Parts that were looked at; 0 where it was not told."""
    window_s: int = 0
    """The window of a rate; 0 in other kinds."""
    counted: tuple[Counted, ...] = ()
    """What the rule counts of parts, in the order of :class:`Counted`; empty where it was not told."""

    @property
    def key(self) -> AlarmKey:
        """What the count was about."""
        return AlarmKey(self.line_id, self.camera_id, self.product, self.defect_class)


@dataclass(frozen=True, slots=True)
class _Stored:
    schema: int
    counts: tuple[StoredCount, ...]
    standing: tuple[Alarm, ...]
    past: tuple[Alarm, ...]
    parts: tuple[str, ...]


class AlarmBoard:
    """The alarms of one line. Not thread-safe.

    Its memory is bounded: by ``max_keys`` counts, :data:`MAX_STANDING` standing alarms of each light, ``keep``
    acknowledged ones and :data:`REMEMBERED_PARTS` parts. Outcomes of reference parts do not belong here: whoever feeds
    it asks ``ReferenceCheck.is_reference`` first.

    Args:
        rules: With different names.
        max_keys: Most counts kept, 100 to :data:`MAX_KEYS`; those of what counted longest ago are forgotten first.
        keep: Most acknowledged alarms kept, 0 to :data:`MAX_KEPT`.

    Raises:
        InvalidInputError: If a number is out of its range or two rules have one name.
    """

    def __init__(self, rules: Sequence[AlarmRule], *, max_keys: int = 500, keep: int = 100) -> None:
        names = [rule.name for rule in rules]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InvalidInputError(f"rules must have different names, got more than one {', '.join(twice)}")
        if not 100 <= max_keys <= MAX_KEYS:
            raise InvalidInputError(f"max_keys must lie in 100..{MAX_KEYS}, got {max_keys}")
        if not 0 <= keep <= MAX_KEPT:
            raise InvalidInputError(f"keep must lie in 0..{MAX_KEPT}, got {keep}")
        self._keep = keep
        self._counts = AlarmCounts(rules, max_keys)
        # Both the oldest first.
        self._standing: OrderedDict[tuple[str, AlarmKey], Alarm] = OrderedDict()
        self._past: OrderedDict[str, Alarm] = OrderedDict()
        self._parts: OrderedDict[str, None] = OrderedDict()

    @property
    def standing(self) -> tuple[Alarm, ...]:
        """Alarms that nobody has acknowledged, the newest first."""
        return tuple(reversed(self._standing.values()))

    @property
    def past(self) -> tuple[Alarm, ...]:
        """Alarms that were acknowledged, the last acknowledged first."""
        return tuple(reversed(self._past.values()))

    def take(self, outcome: Outcome) -> tuple[Alarm, ...]:
        """Count a part's outcome.

        Args:
            outcome: In the order in which they are decided.

        Returns:
            Alarms that it raises, in the order of the rules; a rule whose alarm stands raises none.
        """
        # A later revision corrects no count: an alarm is about what the line was told, which is revision 1, and parts
        # that came after it have been counted already.
        if outcome.revision > 1 or outcome.part_id in self._parts:
            return ()
        self._parts[outcome.part_id] = None
        if len(self._parts) > REMEMBERED_PARTS:
            self._parts.popitem(last=False)
        raised = (self._meet(met, outcome) for met in self._counts.take(outcome))
        return tuple(alarm for alarm in raised if alarm is not None)

    def _meet(self, met: Met, outcome: Outcome) -> Alarm | None:
        place = (met.rule.name, met.key)
        stands = self._standing.get(place)
        if stands is not None:
            self._standing[place] = replace(stands, repeats=stands.repeats + 1)
            return None
        alarm = _alarm(met, outcome)
        # What was acknowledged and comes again, because outcomes are replayed from further back, stays acknowledged.
        if alarm.alarm_id in self._past:
            return None
        if sum(one.light is alarm.light for one in self._standing.values()) >= MAX_STANDING:
            return None
        self._standing[place] = alarm
        return alarm

    def acknowledge(self, alarm_id: str, person: str, at_ns: int, note: str = "") -> Alarm:
        """Note that a person has seen an alarm; its rule counts anew from here.

        Args:
            alarm_id: Which. One that was acknowledged already stays with whoever was first.
            person: Their name.
            at_ns: When, nanoseconds since the epoch.
            note: What they say, at most :data:`MAX_NOTE_LENGTH` characters; may be empty.

        Returns:
            The alarm as it stands now.

        Raises:
            InvalidInputError: If name, note or time break a rule.
            NotFoundError: If there is no such alarm, or it was acknowledged so long ago that it is not kept.
        """
        validate_reviewer(person)
        _validate_note(note)
        if at_ns < 1:
            raise InvalidInputError(f"at_ns must be >= 1, got {at_ns}")
        if alarm_id in self._past:
            return self._past[alarm_id]
        place = next((place for place, alarm in self._standing.items() if alarm.alarm_id == alarm_id), None)
        if place is None:
            raise NotFoundError(f"an alarm must stand or be kept to be acknowledged, got {ascii(alarm_id)[:80]}")
        alarm = replace(self._standing.pop(place), acknowledged_by=person, acknowledged_at_ns=at_ns, note=note)
        self._counts.begin_anew(*place)
        self._past[alarm_id] = alarm
        self._forget_past()
        return alarm

    def _forget_past(self) -> None:
        while len(self._past) > self._keep:
            self._past.popitem(last=False)

    def to_json(self) -> bytes:
        """Write the board down; one that is read back goes on as this one does."""
        stored = _Stored(
            _SCHEMA,
            self._counts.stored(),
            tuple(self._standing.values()),
            tuple(self._past.values()),
            tuple(self._parts),
        )
        return dump_json(stored)

    @classmethod
    def from_json(cls, data: bytes, rules: Sequence[AlarmRule], *, max_keys: int = 500, keep: int = 100) -> AlarmBoard:
        """Read a board back.

        Counts of rules that are no more, or were changed, are passed over; alarms stand whatever became of their rule.

        Args:
            data: As :meth:`to_json` wrote it.
            rules: Of now.
            max_keys: As in the constructor.
            keep: Likewise.

        Raises:
            InvalidInputError: If it is not what :meth:`to_json` writes.
        """
        stored = read_strictly(_Stored, load_json(data, _NAME), _NAME)
        if stored.schema != _SCHEMA:
            raise InvalidInputError(f"{_NAME}: schema must be {_SCHEMA}, got {stored.schema}")
        board = cls(rules, max_keys=max_keys, keep=keep)
        board._counts.restore(stored.counts)
        board._standing.update(((alarm.rule, alarm.key), alarm) for alarm in stored.standing)
        board._past.update((alarm.alarm_id, alarm) for alarm in stored.past)
        board._forget_past()
        board._parts.update((part, None) for part in stored.parts[-REMEMBERED_PARTS:])
        return board


def _alarm(met: Met, outcome: Outcome) -> Alarm:
    rule, key = met.rule, met.key
    return Alarm(
        alarm_id=alarm_id(
            key.line_id,
            rule.name,
            (key.camera_id, key.product, key.defect_class),
            outcome.part_id,
            outcome.began_at_ns,
        ),
        line_id=key.line_id,
        rule=rule.name,
        light=rule.light,
        text=rule.describe(key, met.count, met.of),
        raised_at_ns=outcome.decided_at_ns,
        part_id=outcome.part_id,
        camera_id=key.camera_id,
        product=key.product,
        defect_class=key.defect_class,
        kind=rule.kind,
        count=met.count,
        of=met.of,
        window_s=rule.window_s,
        counted=tuple(one for one in Counted if one in rule.verdicts),
    )


def _validate_note(note: str) -> None:
    if len(note) > MAX_NOTE_LENGTH:
        raise InvalidInputError(f"note must have at most {MAX_NOTE_LENGTH} characters, got {len(note)}")
    bad = next((one for one in note if not one.isprintable() and one not in "\n\t"), None)
    if bad is not None:
        raise InvalidInputError(f"note must hold printable characters only, got {bad!a}")
