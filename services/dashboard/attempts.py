"""How often a name or an address may fail to sign in: each failure beyond a few makes the next wait longer."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from threading import Lock

from services.core.errors import SightlineError


class TooManyAttemptsError(SightlineError):
    """Somebody guesses, or forgot; both must wait.

    Args:
        wait_s: Until the next attempt.
    """

    reason = "too_many_attempts"

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"after so many failures the next attempt must wait, got one {wait_s:.0f} s too early")
        self.wait_s = wait_s


@dataclass(slots=True)
class _Failures:
    count: int
    last_s: float


class Attempts:
    """Counts failures by key, bounded in memory. Thread-safe.

    An attempt counts as a failure from its start until it is known to have succeeded, so that many at once are no way
    around the count.
    """

    def __init__(
        self,
        free: int,
        longest_s: float,
        *,
        forget_s: float = 3_600.0,
        most_keys: int = 10_000,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Set up.

        Args:
            free: Failures that cost nothing; each further one doubles the wait, from one second on.
            longest_s: Longest wait. Bounded, or a stranger could lock somebody out for good.
            forget_s: Failures are forgotten this long after the last.
            most_keys: Keys in memory; the ones that failed longest ago go.
            clock_s: The present.
        """
        self._free = free
        self._longest_s = longest_s
        self._forget_s = forget_s
        self._most_keys = most_keys
        self._clock_s = clock_s
        self._failures: OrderedDict[str, _Failures] = OrderedDict()
        self._lock = Lock()

    def begin(self, key: str) -> None:
        """Count an attempt.

        Raises:
            TooManyAttemptsError: It comes too early; it is not counted then.
        """
        with self._lock:
            now_s = self._clock_s()
            known = self._failures.get(key)
            if known is None or now_s - known.last_s >= self._forget_s:
                known = _Failures(0, now_s)
            wait_s = known.last_s + self._wait_s(known.count) - now_s
            if wait_s > 0:
                raise TooManyAttemptsError(wait_s)
            self._failures[key] = _Failures(known.count + 1, now_s)
            self._failures.move_to_end(key)
            while len(self._failures) > self._most_keys:
                self._failures.popitem(last=False)

    def succeeded(self, key: str) -> None:
        """Forget the failures of a key."""
        with self._lock:
            self._failures.pop(key, None)

    def take_back(self, key: str) -> None:
        """An attempt of this key came to nothing without being wrong."""
        with self._lock:
            known = self._failures.get(key)
            if known is not None:
                known.count = max(0, known.count - 1)

    def _wait_s(self, failures: int) -> float:
        if failures < self._free:
            return 0.0
        return float(min(self._longest_s, 2.0 ** min(failures - self._free, 30)))


def address_key(address: str) -> str:
    """What one household or host has of an address: of IPv6 the first half."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is None:
        return str(IPv6Address(int(parsed) >> 64 << 64))
    return str(parsed)
