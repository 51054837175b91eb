"""Work that waits for a dependency to come back: one try at a time, with growing pauses, then all of it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from services.core.errors import SightlineError
from services.runtime.lifecycle import Health
from services.runtime.logging import get_logger
from services.runtime.retry import Backoff

LOG = get_logger(__name__)
T = TypeVar("T")


class Dependency(Generic[T]):
    """Something outside that may be away, and the work that needs it.

    While it is away one item at a time is tried, so that a dependency that answers nobody costs one timeout and not
    one for each item. Readiness is held meanwhile. Not thread-safe.

    Args:
        name: For log lines, readiness and metrics.
        health: Held while it is away.
        on_change: Told whether it is up, at each change.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        name: str,
        health: Health,
        *,
        on_change: Callable[[bool], None] = lambda _up: None,
        backoff: Backoff | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._health = health
        self._on_change = on_change
        self._backoff = backoff or Backoff(cap_s=5.0)
        self._clock = clock
        self._waiting: deque[T] = deque()
        self._trying = False
        self._since_s = 0.0
        self._retry_at_s = 0.0
        self.away = False
        """Whether it was away when it was last tried."""

    def __len__(self) -> int:
        return len(self._waiting)

    def failed(self, item: T, error: SightlineError) -> None:
        """Note that ``item`` could not be done; it is kept and tried again."""
        now_s = self._clock()
        self._waiting.append(item)
        if not self.away:
            self.away = True
            self._since_s = now_s
            self._trying = True
            LOG.warning("%s is away, waiting for it: %s", self._name, error, extra={"reason": error.reason})
            self._on_change(False)
        if self._trying:
            # Failures of what was under way when it went tell nothing new; only the try's own moves the next one.
            self._trying = False
            self._retry_at_s = now_s + self._backoff.next_s()
        self._health.hold(self._name, str(error))

    def next_try(self) -> T | None:
        """The item to try now; None while it is not yet time, a try is under way, or nothing waits."""
        if not self.away or self._trying or not self._waiting or self._clock() < self._retry_at_s:
            return None
        self._trying = True
        return self._waiting.popleft()

    def retry_at_s(self) -> float | None:
        """When :meth:`next_try` has something, monotonic; None where it will not."""
        return self._retry_at_s if self.away and self._waiting and not self._trying else None

    def answered(self) -> list[T]:
        """Note that it answers; returns all that waited, in the order in which it failed."""
        if not self.away:
            return []
        LOG.info("%s answers again after %.1f s", self._name, self._clock() - self._since_s)
        items = list(self._waiting)
        self._waiting.clear()
        self._up()
        return items

    def inconclusive(self) -> None:
        """Note that a try ended without telling anything (nobody wanted its result any more)."""
        self._trying = False
        self._up_if_idle()

    def drop(self, unwanted: Callable[[T], bool]) -> None:
        """Forget waiting items that nobody wants any more."""
        self._waiting = deque(item for item in self._waiting if not unwanted(item))
        self._up_if_idle()

    def _up_if_idle(self) -> None:
        # With nothing left to try it with, only new work can tell.
        if self.away and not self._waiting and not self._trying:
            LOG.info("nothing waits for %s any more", self._name)
            self._up()

    def _up(self) -> None:
        self.away = False
        self._trying = False
        self._backoff.reset()
        self._health.release(self._name)
        self._on_change(True)
