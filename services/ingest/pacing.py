"""Giving out items at a steady rate."""

from __future__ import annotations

import time


class Pacer:
    """Says when the next item is due; after a stall it goes on at its rate instead of catching up."""

    def __init__(self, rate_per_s: float) -> None:
        self._interval_s = 1.0 / rate_per_s if rate_per_s > 0 else 0.0
        self._due_s = 0.0

    def wait(self, timeout_s: float) -> bool:
        """Sleep until the next item is due, at most ``timeout_s``; tells whether it is."""
        if not self._interval_s:
            return True
        now_s = time.monotonic()
        if not self._due_s:
            self._due_s = now_s
        left_s = self._due_s - now_s
        if left_s > timeout_s:
            time.sleep(timeout_s)
            return False
        if left_s > 0:
            time.sleep(left_s)
        self._due_s = max(self._due_s, now_s - self._interval_s) + self._interval_s
        return True
