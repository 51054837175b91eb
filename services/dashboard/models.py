"""Models as the page shows them: what every alias points to, how that came about, and what each version is."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from services.adapters.modelregistry import ModelRegistry
from services.adapters.modelstore import ModelStore, StoredVersion
from services.core.errors import SightlineError
from services.core.types import AliasState
from services.dashboard.reviewing import Recent
from services.runtime.lifecycle import Shutdown
from services.runtime.logging import get_logger
from services.runtime.retry import Backoff

LOG = get_logger(__name__)

_HISTORY: Final = 200
_POLL_S: Final = 0.5
# A manifest has some 5 kB.
_MANIFESTS: Final = 256
_LISTED_FOR_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class KnownAlias:
    """One alias."""

    state: AliasState
    history: tuple[AliasState, ...]
    """What the topic still has, the newest first, this state itself included."""


class ModelBoard:
    """The states of all aliases, filled by a feed. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._history: dict[str, deque[AliasState]] = {}
        self._read = False

    @property
    def was_read(self) -> bool:
        """Whether the topic was read to its end once; before that an alias may be missing."""
        return self._read

    def add(self, state: AliasState) -> None:
        """Take a state; one that is known is not taken twice."""
        with self._lock:
            known = self._history.setdefault(state.alias, deque(maxlen=_HISTORY))
            if known and state.revision <= known[0].revision and state in known:
                return
            known.appendleft(state)

    def set_read(self) -> None:
        """The topic was read to its end."""
        self._read = True

    def aliases(self) -> list[KnownAlias]:
        """Every alias, by name."""
        with self._lock:
            return [KnownAlias(known[0], tuple(known)) for _, known in sorted(self._history.items())]

    def state(self, alias: str) -> AliasState | None:
        """The state of one alias; None where it is not known."""
        with self._lock:
            known = self._history.get(alias)
            return known[0] if known else None


class ModelFeed:
    """Follows the ``models`` topic until told to stop; the page goes on whether or not it can be read.

    Args:
        open_registry: Gives a fresh reader of the topic that tells every state.
        board: Takes the states.
        backoff: Waits while the broker is away.
    """

    def __init__(
        self,
        open_registry: Callable[[Callable[[AliasState], None]], ModelRegistry],
        board: ModelBoard,
        *,
        backoff: Backoff | None = None,
    ) -> None:
        self._open_registry = open_registry
        self._board = board
        self._backoff = backoff or Backoff(first_s=0.5, cap_s=5.0)
        self._said = ""

    def run(self, shutdown: Shutdown) -> None:
        """Read, and open again after an outage, until the stop is asked for."""
        while not shutdown.requested:
            try:
                self._read(shutdown)
            except SightlineError as error:
                if not error.retriable:
                    raise
                if self._said != error.reason:
                    LOG.warning("the models topic cannot be read now: %s", error, extra={"reason": error.reason})
                    self._said = error.reason
                shutdown.wait(self._backoff.next_s())

    def _read(self, shutdown: Shutdown) -> None:
        registry = self._open_registry(self._board.add)
        try:
            registry.read_all()
            self._board.set_read()
            self._backoff.reset()
            self._said = ""
            while not shutdown.requested:
                registry.poll(_POLL_S)
        finally:
            registry.close()


class ModelShelf:
    """What the object store has of model versions, without their weights. Thread-safe; may wait for the store.

    Args:
        store: Where versions lie.
        clock_s: A clock that only goes on.
    """

    def __init__(self, store: ModelStore, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock_s = clock_s
        # A version never changes, so what was read of it holds.
        self._described: Recent[StoredVersion] = Recent(_MANIFESTS)
        self._listed: Recent[tuple[float, tuple[int, ...]]] = Recent(_MANIFESTS)

    def versions(self, alias: str) -> tuple[int, ...]:
        """The complete versions of an alias, ascending, as of half a minute ago at most.

        Raises:
            UnavailableError: While the store is away.
        """
        known = self._listed.get(alias)
        if known is not None and self._clock_s() - known[0] < _LISTED_FOR_S:
            return known[1]
        found = self._store.versions(alias)
        self._listed.put(alias, (self._clock_s(), found))
        return found

    def describe(self, alias: str, version: int) -> StoredVersion:
        """One version.

        Raises:
            NotFoundError: If the store has no such version.
            ModelFormatError: If it is damaged.
            UnavailableError: While the store is away.
        """
        key = f"{alias}/{version}"
        known = self._described.get(key)
        if known is None:
            known = self._store.describe(alias, version)
            self._described.put(key, known)
        return known
