"""The counts behind a line's alarms: bounded in memory, and written down and restored whole."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from services.core.alarm_rule import AlarmKey, AlarmKind, AlarmRule
from services.core.errors import InvalidInputError
from services.core.outcome import Outcome

#: Most defect classes that one place keeps counts of.
MAX_CLASSES: Final = 64
#: A window is counted in so many equal pieces, so that its size does not grow with the parts within it.
PIECES: Final = 60

_NS_PER_S: Final = 1_000_000_000
_HIT: Final = "1"
_MISS: Final = "0"


@dataclass(frozen=True, slots=True)
class Met:
    """A rule that a part has met."""

    rule: AlarmRule
    key: AlarmKey
    count: int
    """Parts that counted."""
    of: int
    """Parts that were looked at."""


@dataclass(frozen=True, slots=True)
class StoredCount:
    """One count as it is written down."""

    rule: str
    """The rule's fingerprint: what another rule counted is of no use."""
    line_id: str
    camera_id: str
    product: str
    defect_class: str
    """Empty in a rule by class for the parts that were looked at, from which a new class begins."""
    row: int
    last: str
    pieces: tuple[tuple[int, ...], ...]


@dataclass(slots=True)
class _Count:
    row: int = 0
    last: str = ""
    """The last parts, the newest at the end, a letter each."""
    pieces: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Hits and parts by the number of the piece of time since the epoch."""

    def add(self, rule: AlarmRule, at_ns: int, *, hit: bool) -> None:
        if rule.kind is AlarmKind.IN_A_ROW:
            self.row = self.row + 1 if hit else 0
        elif rule.kind is AlarmKind.OF_LAST:
            self.last = (self.last + (_HIT if hit else _MISS))[-rule.k :]
        else:
            self._add_to_window(at_ns * PIECES // (rule.window_s * _NS_PER_S), hit=hit)

    def _add_to_window(self, piece: int, *, hit: bool) -> None:
        newest = max(self.pieces, default=piece)
        if piece <= newest - PIECES:
            # The clock was set back. Whoever waits for it to catch up has no alarm until then.
            self.pieces.clear()
        hits, parts = self.pieces.get(piece, (0, 0))
        self.pieces[piece] = (hits + hit, parts + 1)
        newest = max(self.pieces)
        for old in [one for one in self.pieces if one <= newest - PIECES]:
            del self.pieces[old]

    def met(self, rule: AlarmRule) -> tuple[int, int] | None:
        """Parts that counted and parts that were looked at; None where the rule is not met."""
        if rule.kind is AlarmKind.IN_A_ROW:
            return (self.row, self.row) if self.row >= rule.n else None
        if rule.kind is AlarmKind.OF_LAST:
            hits = self.last.count(_HIT)
            return (hits, len(self.last)) if hits >= rule.n else None
        hits = sum(one for one, _ in self.pieces.values())
        parts = sum(one for _, one in self.pieces.values())
        return (hits, parts) if parts >= rule.min_parts and hits > rule.share * parts else None

    def without_hits(self) -> _Count:
        return _Count(0, _MISS * len(self.last), {piece: (0, parts) for piece, (_, parts) in self.pieces.items()})


class AlarmCounts:
    """What was counted for each rule and key.

    Args:
        rules: In the order in which they are told of.
        max_keys: Most counts kept; of what counted longest ago the counts are forgotten.
    """

    def __init__(self, rules: Sequence[AlarmRule], max_keys: int) -> None:
        self._rules = {rule.fingerprint(): rule for rule in rules}
        self._max_keys = max_keys
        # By the rule and the place (the key without its class), then by class.
        self._places: OrderedDict[tuple[str, AlarmKey], OrderedDict[str, _Count]] = OrderedDict()
        self._size = 0

    def take(self, outcome: Outcome) -> list[Met]:
        """Count a part; gives the rules that it meets, which only a part can that counts for them."""
        met: list[Met] = []
        for fingerprint, rule in self._rules.items():
            for place, hits in sorted(rule.trials(outcome).items()):
                counts = self._counts(fingerprint, place)
                for name in sorted(hits - counts.keys()):
                    self._begin_class(counts, name)
                for name, count in counts.items():
                    count.add(rule, outcome.decided_at_ns, hit=name in hits)
                for name in sorted(hits & counts.keys()):
                    counts.move_to_end(name)
                    found = counts[name].met(rule)
                    if found is not None:
                        key = replace(place, defect_class=name) if name else place
                        met.append(Met(rule, key, *found))
        self._forget()
        return met

    def _counts(self, fingerprint: str, place: AlarmKey) -> OrderedDict[str, _Count]:
        counts = self._places.get((fingerprint, place))
        if counts is None:
            counts = self._places[fingerprint, place] = OrderedDict({"": _Count()})
            self._size += 1
        self._places.move_to_end((fingerprint, place))
        return counts

    def _begin_class(self, counts: OrderedDict[str, _Count], name: str) -> None:
        # The parts before the first one with this defect were looked at too: a share is one of all of them.
        counts[name] = counts[""].without_hits()
        self._size += 1
        if len(counts) > MAX_CLASSES + 1:
            oldest = next(one for one in counts if one)
            del counts[oldest]
            self._size -= 1

    def _forget(self) -> None:
        while self._size > self._max_keys:
            _, counts = self._places.popitem(last=False)
            self._size -= len(counts)

    def begin_anew(self, rule_name: str, key: AlarmKey) -> None:
        """Forget what was counted for one key."""
        for fingerprint, rule in self._rules.items():
            if rule.name != rule_name:
                continue
            place = replace(key, defect_class="") if rule.by_class else key
            name = key.defect_class if rule.by_class else ""
            counts = self._places.get((fingerprint, place))
            if counts is not None and name in counts:
                counts[name] = _Count()

    def stored(self) -> tuple[StoredCount, ...]:
        """All counts, those that counted longest ago first."""
        return tuple(
            StoredCount(
                fingerprint,
                place.line_id,
                place.camera_id,
                place.product,
                name if self._rules[fingerprint].by_class else place.defect_class,
                count.row,
                count.last,
                tuple((piece, hits, parts) for piece, (hits, parts) in sorted(count.pieces.items())),
            )
            for (fingerprint, place), counts in self._places.items()
            for name, count in counts.items()
        )

    def restore(self, stored: Sequence[StoredCount]) -> None:
        """Take up counts that were written down; those of rules that are no more, or were changed, are passed over.

        Raises:
            InvalidInputError: If one cannot have been counted.
        """
        for one in stored:
            rule = self._rules.get(one.rule)
            if rule is None:
                continue
            place = AlarmKey(one.line_id, one.camera_id, one.product, "" if rule.by_class else one.defect_class)
            counts = self._counts(one.rule, place)
            name = one.defect_class if rule.by_class else ""
            self._size += name not in counts
            counts[name] = _restored(one)
            counts.move_to_end(name)
        self._forget()


def _restored(stored: StoredCount) -> _Count:
    if stored.row < 0:
        raise InvalidInputError(f"row must be >= 0, got {stored.row}")
    if set(stored.last) - {_HIT, _MISS}:
        raise InvalidInputError(f"last must hold only 0 and 1, got {stored.last[:80]!r}")
    pieces: dict[int, tuple[int, int]] = {}
    for piece in stored.pieces:
        if len(piece) != 3 or not 0 <= piece[1] <= piece[2]:
            raise InvalidInputError(f"a piece must be its number, hits and parts with hits <= parts, got {piece}")
        pieces[piece[0]] = (piece[1], piece[2])
    return _Count(stored.row, stored.last, pieces)
