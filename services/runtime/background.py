"""Work beside the consumer's thread, whose failure must end the service and not only its own thread."""

from __future__ import annotations

import threading
from collections.abc import Callable

from services.runtime.logging import get_logger

LOG = get_logger(__name__)


class BackgroundThread:
    """One thread. What ends it by an error is raised to whoever checks, as the consumer loop does each turn.

    Args:
        name: Of the thread, in logs.
        work: Runs until it is told to stop; how it is told is its own affair.
    """

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        self._work = work
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def alive(self) -> bool:
        """Whether it has begun and not ended."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin; once."""
        self._thread.start()

    def check(self) -> None:
        """Raise what ended it, if anything did."""
        if self._failure is not None:
            raise self._failure

    def join(self, timeout_s: float) -> bool:
        """Wait for its end; says whether it has none left to do. One that never began has nothing to do."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._work()
        except Exception as error:
            LOG.exception("%s ended", self._thread.name)
            self._failure = error
