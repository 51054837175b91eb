"""The alarm on dead letters."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from services.runtime import metrics
from services.runtime.logging import get_logger

LOG = get_logger(__name__)


class DeadLetterAlarm:
    """Raised while more than so many records of a window could not be used: somebody must look at the source.

    It does not change readiness: the records are safe in the dead-letter topic, the parts are REVIEW, and other
    cameras and callers are served as before.

    Args:
        count: Dead letters within the window that raise it.
        window_s: Length of the window.
        clock: Monotonic seconds.
    """

    def __init__(self, count: int, window_s: float, clock: Callable[[], float]) -> None:
        self._count = count
        self._window_s = window_s
        self._clock = clock
        self._times: deque[float] = deque(maxlen=count)
        self._said_at_s: float | None = None

    @property
    def raised(self) -> bool:
        """Whether the alarm stands."""
        return self._said_at_s is not None

    def note(self) -> None:
        """Count one dead letter."""
        self._times.append(self._clock())
        self.check()

    def check(self) -> None:
        """Raise or clear the alarm; said again once in each window for as long as it stands."""
        now_s = self._clock()
        above = len(self._times) == self._count and now_s - self._times[0] <= self._window_s
        if above and (self._said_at_s is None or now_s - self._said_at_s >= self._window_s):
            self._said_at_s = now_s
            metrics.DETECTOR_DEAD_LETTER_ALARM.set(1)
            LOG.error(
                "%s records could not be used within %.0f s: look at the cameras and writers of the dead-letter topic",
                self._count,
                now_s - self._times[0],
            )
        elif not above and self._said_at_s is not None:
            self._said_at_s = None
            metrics.DETECTOR_DEAD_LETTER_ALARM.set(0)
            LOG.info("dead letters are below the limit again")
