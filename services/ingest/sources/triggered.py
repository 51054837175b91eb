"""A camera that takes a picture only when the line triggers."""

from __future__ import annotations

from dataclasses import replace

from services.ingest.source import Cursor, Item, Source
from services.ingest.triggers import TriggerQueue


class TriggeredSource:
    """Gives one picture of its source for each trigger.

    A source that delivers whether anybody reads or not (``live``) is read all the time: the first picture that was
    taken at or after a trigger is that part's, and those between triggers are thrown away. Any other source is read
    only when a part waits. Nothing is offered again after a crash: the part has moved on.
    """

    repeats = False

    def __init__(self, source: Source, triggers: TriggerQueue, *, live: bool, within_ms: int = 0) -> None:
        """Wire it.

        Args:
            source: Gives the pictures.
            triggers: Says when one is wanted, and of what.
            live: Whether the source delivers whether anybody reads or not.
            within_ms: A part is before a live camera for this long after its trigger, and gets no picture later; 0
                takes one whenever it comes.
        """
        self._source = source
        self._triggers = triggers
        self._live = live
        self._within_ms = within_ms

    @property
    def exhausted(self) -> bool:
        """Whether its source is at its end."""
        return self._source.exhausted

    def open(self, cursor: Cursor) -> None:
        """Open its source."""
        self._source.open(cursor)

    def read(self, timeout_s: float) -> Item | None:
        """The picture of the part whose turn it is."""
        if not self._live and not self._triggers.wait(timeout_s):
            return None
        item = self._source.read(timeout_s)
        if item is None:
            return None
        if self._live:
            self._triggers.give_up_before(item.captured_at_ns, self._within_ms)
            if not self._triggers.wants(item.captured_at_ns):
                return None
        trigger = self._triggers.take()
        return None if trigger is None else replace(item, trigger=trigger)

    def safe(self, item: Item) -> None:
        """Passed on to its source."""
        self._source.safe(item)

    def close(self) -> None:
        """Close its source."""
        self._source.close()
