"""Waiting between tries: capped exponential backoff with jitter."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from services.core.errors import SightlineError
from services.runtime.lifecycle import Shutdown
from services.runtime.logging import get_logger

LOG = get_logger(__name__)
T = TypeVar("T")


class Backoff:
    """Delays that double up to a cap, each drawn between half and all of its value."""

    def __init__(self, *, first_s: float = 0.2, cap_s: float = 10.0) -> None:
        self._first_s = first_s
        self._cap_s = cap_s
        self._tries = 0

    def next_s(self) -> float:
        """The next delay."""
        delay_s = min(self._cap_s, self._first_s * 2.0 ** min(self._tries, 30))
        self._tries += 1
        return delay_s * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Start again from the first delay, after a success."""
        self._tries = 0


def until_available(what: str, call: Callable[[], T], *, shutdown: Shutdown, deadline_s: float) -> T:
    """Call until it succeeds, waiting out retriable errors.

    Args:
        what: Name of the dependency, for the log.
        call: Tried again while it raises a ``SightlineError`` with ``retriable``.
        shutdown: Ends the waiting.
        deadline_s: Longest time to go on trying.

    Raises:
        SightlineError: The last error, when it is not retriable, the deadline has passed or the stop was asked for.
    """
    backoff = Backoff()
    end_s = time.monotonic() + deadline_s
    while True:
        try:
            return call()
        except SightlineError as error:
            if not error.retriable or time.monotonic() >= end_s:
                raise
            LOG.info("waiting for %s: %s", what, error)
            if shutdown.wait(backoff.next_s()):
                raise
