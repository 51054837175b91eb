"""Names of a line's parts, each given once while an answer of that name may still be superseded."""

from __future__ import annotations

from typing import Final

_NS_PER_MS: Final = 1_000_000


class PartNames:
    """Names that were there lately. Not thread-safe.

    Args:
        line_id: Names that are made begin with it.
        most: Names that are remembered; the oldest go.
    """

    def __init__(self, line_id: str, most: int = 20_000) -> None:
        self._line_id = line_id
        self._most = most
        self._names: dict[str, None] = {}
        self._count = 0

    def note(self, name: str) -> None:
        """Remember a name that is there, from now on."""
        # At the end, however often it comes.
        self._names.pop(name, None)
        self._names[name] = None
        if len(self._names) > self._most:
            del self._names[next(iter(self._names))]

    def give(self, name: str, now_ns: int) -> str:
        """Name a part: as it is called, with a number where that was here a moment ago (a part that comes round again).

        Args:
            name: The part's own; empty has one made.
            now_ns: The present, nanoseconds since the epoch.
        """
        if not name:
            self._count += 1
            name = f"{self._line_id[:80]}-{now_ns // _NS_PER_MS:x}-{self._count:04d}"
        number, unique = 1, name
        while unique in self._names:
            number += 1
            unique = f"{name}.{number}"
        self.note(unique)
        return unique
