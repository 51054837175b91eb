"""How a service starts, tells how it is, and stops.

SIGTERM and SIGINT only set an event; a second signal ends the process at once. The order of a stop is the same for
every service: not ready, stop taking work, finish what is in flight, flush, commit, leave, exit 0.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

from services.core.errors import SettingsError, SightlineError
from services.runtime.logging import get_logger

LOG = get_logger(__name__)


class Shutdown:
    """The wish to stop, from a signal or from within."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def install_signal_handlers(self) -> None:
        """Turn SIGTERM and SIGINT into :meth:`request`; the second one exits with code 130 at once."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._event.is_set():
            os._exit(130)
        self._event.set()

    def request(self) -> None:
        """Ask for the stop."""
        self._event.set()

    @property
    def requested(self) -> bool:
        """Whether the stop was asked for."""
        return self._event.is_set()

    def wait(self, timeout_s: float) -> bool:
        """Sleep for ``timeout_s`` or until the stop is asked for; tells whether it was."""
        return self._event.wait(timeout_s)


class Health:
    """What the probes tell.

    Alive: the main loop turned within ``stall_s``; never depends on Kafka, Triton or the object store. Ready: the
    service was declared ready and every condition holds.
    """

    def __init__(self, *, stall_s: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stall_s = stall_s
        self._lock = threading.Lock()
        self._last_turn_s = clock()
        self._ready = False
        self._conditions: dict[str, str] = {}
        self._listeners: list[Callable[[bool], None]] = []

    def turned(self) -> None:
        """Record that the main loop turned."""
        self._last_turn_s = self._clock()

    def set_ready(self, ready: bool) -> None:
        """Declare the service ready or not, for as long as every condition holds."""
        with self._lock:
            self._ready = ready
        self._notify()

    def hold(self, condition: str, why: str) -> None:
        """Be not ready because of ``condition`` (for example ``triton``) until it is released."""
        with self._lock:
            changed = self._conditions.get(condition) != why
            self._conditions[condition] = why
        if changed:
            LOG.warning("not ready: %s: %s", condition, why)
            self._notify()

    def release(self, condition: str) -> None:
        """``condition`` holds again."""
        with self._lock:
            changed = self._conditions.pop(condition, None) is not None
        if changed:
            LOG.info("condition holds again: %s", condition)
            self._notify()

    def on_change(self, listener: Callable[[bool], None]) -> None:
        """Call ``listener`` with the readiness whenever it may have changed, and once now."""
        self._listeners.append(listener)
        listener(self.ready)

    @property
    def alive(self) -> bool:
        """Whether the main loop turned recently."""
        return self._clock() - self._last_turn_s < self._stall_s

    @property
    def ready(self) -> bool:
        """Whether work may be sent here."""
        with self._lock:
            return self._ready and not self._conditions

    def describe(self) -> dict[str, object]:
        """Everything the probes know, for people."""
        with self._lock:
            return {
                "ready": self._ready and not self._conditions,
                "declared": self._ready,
                "waiting_for": dict(self._conditions),
            }

    def _notify(self) -> None:
        ready = self.ready
        for listener in self._listeners:
            listener(ready)


def set_aside_what_started() -> None:
    """Take what the start built out of the garbage collector's rounds; called once, when a service begins its work.

    Modules, settings and adapters live as long as the process. Looking through them again and again stopped the
    detector for 75 to 120 ms every few seconds, and made that round so rare that what only it frees piled up.
    """
    gc.collect()
    gc.freeze()
    # The collector compares what is new with what its last full round saw: from now on, without the start.
    gc.collect()


def main_guard(main: Callable[[], None]) -> None:
    """Run a service's ``main`` and turn what it raises into an exit code.

    0 after a drain, 2 for wrong settings, 1 for everything else (logged with its traceback).
    """
    try:
        main()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
    except SightlineError:
        LOG.exception("stopped")
        sys.exit(1)
