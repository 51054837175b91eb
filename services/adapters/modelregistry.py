"""The state of every model alias, read from and written to the compacted ``models`` topic.

Each record holds the whole state of one alias. The log orders the changes: of two records with the same revision the
first one counts. A writer therefore knows only after it has read its own record back whether its change holds; where
another was first it repeats the winner's state, so that compaction, which keeps the last record of a key, keeps what
counts.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from services.adapters.codec import decode_alias_state, encode_alias_state
from services.adapters.ports import Record, RecordWriter, TopicReader
from services.core.alias import new_alias
from services.core.errors import ConflictError, EventDecodeError, NotFoundError, UnavailableError
from services.core.topics import MODELS
from services.core.types import AliasState, RecordPosition

LOG = logging.getLogger(__name__)

_POLL_RECORDS = 500
_POLL_S = 0.2

Transition = Callable[[AliasState], AliasState]


class ModelRegistry:
    """What every alias points to. Used from one thread only, like the reader that it owns.

    Args:
        reader: Reads the ``models`` topic from its beginning, outside any group.
        writer: Takes new states; ``None`` for those who only follow.
        timeout_s: Longest wait for the ends of the topic, and for an acknowledgement.
        topic: Where the states are.
        on_state: Told of every state that counts, in order, those that are not the newest any more too.
    """

    def __init__(
        self,
        reader: TopicReader,
        writer: RecordWriter | None = None,
        *,
        timeout_s: float = 15.0,
        topic: str = MODELS,
        on_state: Callable[[AliasState], None] = lambda _state: None,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._timeout_s = timeout_s
        self._topic = topic
        self._on_state = on_state
        self._states: dict[str, AliasState] = {}

    @property
    def states(self) -> Mapping[str, AliasState]:
        """The state of each alias, as far as it was read."""
        return MappingProxyType(self._states)

    def state(self, alias: str) -> AliasState:
        """The state of one alias, as far as it was read; raises ``NotFoundError``."""
        if alias not in self._states:
            have = ", ".join(sorted(self._states)) or "none"
            raise NotFoundError(f"the alias must exist (there are: {have}), got {alias!r}")
        return self._states[alias]

    def read_all(self) -> list[AliasState]:
        """Read up to the end of the topic; do this before being ready.

        Returns:
            The aliases that changed, each as it is now.

        Raises:
            UnavailableError: When the end is not reached in time.
        """
        return self._apply(self._reader.read_to_end(self._timeout_s))

    def poll(self, timeout_s: float) -> list[AliasState]:
        """Read what came since; waits at most ``timeout_s``.

        Returns:
            The aliases that changed, each as it is now.
        """
        return self._apply(self._reader.poll(max_records=_POLL_RECORDS, timeout_s=timeout_s))

    def change(self, alias: str, transition: Transition) -> AliasState:
        """Change an alias from what it is now.

        Args:
            alias: Which one; one that does not exist yet starts from ``services.core.alias.new_alias``.
            transition: Gives the next state, for example a call of ``services.core.alias.promote``.

        Returns:
            The state that holds now.

        Raises:
            ConflictError: When another change came first, or the transition is not legal; nothing has changed.
            InvalidInputError: From the transition.
            UnavailableError: When the broker does not answer in time; the change may or may not hold.
        """
        if self._writer is None:
            raise ConflictError(f"only a registry with a writer can change an alias, got one without for {alias!r}")
        self.read_all()
        before = self._states.get(alias) or new_alias(alias)
        after = transition(before)
        self.read_all()
        now = self._states.get(alias)
        if now is not None and now.revision != before.revision:
            raise ConflictError(_moved(before, now))
        position = self._publish(after)
        self._read_past(position)
        held = self._states[alias]
        if held != after:
            if held.revision >= after.revision:
                self._publish(held)
            raise ConflictError(_moved(before, held))
        return held

    def close(self) -> None:
        """Let the reader go; idempotent."""
        self._reader.close()

    def _publish(self, state: AliasState) -> RecordPosition:
        assert self._writer is not None  # noqa: S101 - the only caller has checked
        sent = self._writer.send(self._topic, key=state.alias.encode(), value=encode_alias_state(state))
        try:
            return sent.result(self._timeout_s)
        except TimeoutError as error:
            raise UnavailableError(f"the broker must acknowledge within {self._timeout_s} s, it did not") from error

    def _read_past(self, position: RecordPosition) -> None:
        deadline_s = time.monotonic() + self._timeout_s
        while time.monotonic() < deadline_s:
            records = self._reader.poll(max_records=_POLL_RECORDS, timeout_s=_POLL_S)
            self._apply(records)
            if any(record.partition == position.partition and record.offset >= position.offset for record in records):
                return
        raise UnavailableError(f"a record must be readable {self._timeout_s} s after its acknowledgement: {position}")

    def _apply(self, records: Iterable[Record]) -> list[AliasState]:
        changed: dict[str, AliasState] = {}
        for record in records:
            try:
                state = decode_alias_state(record.value)
            except EventDecodeError as error:
                # One broken record must not stop every line; the alias keeps the last state that could be read.
                LOG.warning("alias state ignored at %s: %s", record.position, error, extra={"reason": error.reason})
                continue
            known = self._states.get(state.alias)
            if known is None or state.revision > known.revision:
                self._states[state.alias] = changed[state.alias] = state
                self._on_state(state)
        return list(changed.values())


def _moved(before: AliasState, now: AliasState) -> str:
    who = f"revision {now.revision} by {now.actor or 'unknown'}"
    return f"{before.alias!r} must still be at revision {before.revision} when it is changed, it is at {who}"
