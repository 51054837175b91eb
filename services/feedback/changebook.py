"""What is known of changes: those on record, and the one that is being compared, as far as it is."""

from __future__ import annotations

import threading

from services.adapters.changerecord import ChangeRecord
from services.core.errors import EventDecodeError, InvalidInputError, NotFoundError
from services.core.manifest import validate_alias
from services.core.model_change import ModelChange
from services.runtime.logging import get_logger

LOG = get_logger(__name__)

#: Where each alias's reading goes on: the next revision; what is not named begins at its newest.
Place = dict[str, int]


class ChangeBook:
    """Written by the thread that compares, read by all. Thread-safe.

    Args:
        record: Where changes are kept.
        compares: Whether this process compares.
    """

    def __init__(self, record: ChangeRecord, *, compares: bool) -> None:
        self._record = record
        self.compares = compares
        self._lock = threading.Lock()
        self._open: ModelChange | None = None
        self._waits_for = ""

    # ---- written

    def show(self, change: ModelChange, waits_for: str = "") -> None:
        """Tell how far a comparison is, without keeping it."""
        with self._lock:
            self._open, self._waits_for = change, waits_for

    def keep(self, change: ModelChange) -> None:
        """Put a change on record; raises ``UnavailableError`` while the store is away."""
        self._record.put(change)

    def close(self, change: ModelChange) -> None:
        """Keep a change whose comparison has ended, and show it no longer as open."""
        self.keep(change)
        with self._lock:
            self._open, self._waits_for = None, ""

    # ---- read

    def get(self, alias: str, revision: int) -> tuple[ModelChange, str]:
        """A change, and what its comparison waits for; raises as ``ChangeRecord.get``."""
        with self._lock:
            change, waits_for = self._open, self._waits_for
        if change is not None and (change.alias, change.revision) == (alias, revision):
            return change, waits_for
        return self._record.get(alias, revision), ""

    def latest(self, alias: str) -> ModelChange | None:
        """The newest change of an alias on record that can be read."""
        for revision in self._record.revisions(alias).get(alias, ()):
            change = self._readable(alias, revision)
            if change is not None:
                return change[0]
        return None

    def page(self, alias: str, limit: int, token: str) -> tuple[list[tuple[ModelChange, str]], str]:
        """Changes, the newest first; of one alias in the order of their revisions.

        Args:
            alias: Of which alias; empty takes all.
            limit: Most of them.
            token: Of an earlier page; empty for the first.

        Returns:
            The changes, each with what its comparison waits for, and the token of the next page.

        Raises:
            InvalidInputError: For a token that is none.
            UnavailableError: While the record is away.
        """
        place = _place(token)
        left = {
            name: [one for one in revisions if one <= place.get(name, one)]
            for name, revisions in self._revisions(alias).items()
            # An alias that is new since the first page has nothing on later ones.
            if not token or name in place
        }
        heads: dict[str, tuple[ModelChange, str]] = {}
        found: list[tuple[ModelChange, str]] = []
        while len(found) < limit:
            for name, revisions in left.items():
                while name not in heads and revisions:
                    head = self._readable(name, revisions.pop(0))
                    if head is not None:
                        heads[name] = head
            if not heads:
                return found, ""
            newest = max(heads, key=lambda name: (heads[name][0].at_ns, name))
            found.append(heads.pop(newest))
        rest = {name: heads[name][0].revision for name in heads}
        rest |= {name: revisions[0] for name, revisions in left.items() if revisions and name not in heads}
        return found, ",".join(f"{name}:{revision}" for name, revision in sorted(rest.items()))

    def _readable(self, alias: str, revision: int) -> tuple[ModelChange, str] | None:
        try:
            return self.get(alias, revision)
        except (EventDecodeError, NotFoundError) as error:
            # One that is damaged keeps nobody from the others.
            LOG.warning("a change on record cannot be read: %s", error, extra={"reason": error.reason})
            return None

    def _revisions(self, alias: str) -> dict[str, list[int]]:
        found = self._record.revisions(alias)
        with self._lock:
            change = self._open
        if change is not None and alias in ("", change.alias):
            mine = found.setdefault(change.alias, [])
            if change.revision not in mine:
                found[change.alias] = sorted([*mine, change.revision], reverse=True)
        return found


def _place(token: str) -> Place:
    place: Place = {}
    for one in token.split(",") if token else ():
        alias, _, revision = one.rpartition(":")
        try:
            place[validate_alias(alias)] = int(revision)
        except (ValueError, InvalidInputError) as error:
            raise InvalidInputError(f"page_token must be one of an earlier answer, got {token[:80]!a}") from error
    return place
