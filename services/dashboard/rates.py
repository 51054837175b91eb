"""How much one person, or one address of nobody, may ask for: so much a second, and ten seconds' worth at once."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from services.core.errors import SightlineError

_BURST_S: Final = 10.0
_MAX_KEYS: Final = 10_000


class TooManyRequestsError(SightlineError):
    """Somebody asks for more than their share.

    Attributes:
        wait_s: After how long the same request is let in, if nothing else is asked for; whole seconds, ``>= 1``.
    """

    retriable = True
    reason = "too_many_requests"

    def __init__(self, message: str, wait_s: int) -> None:
        super().__init__(message)
        self.wait_s = wait_s


@dataclass(slots=True)
class _Share:
    left: float
    at_s: float


class Rates:
    """A share for each key; the longest unused are forgotten where there are too many. Used from one thread."""

    def __init__(self, per_s: float, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        """Set up.

        Args:
            per_s: What comes back each second.
            clock_s: A clock that only goes forward, in seconds.
        """
        self._per_s = per_s
        self._most = per_s * _BURST_S
        self._clock_s = clock_s
        self._shares: OrderedDict[str, _Share] = OrderedDict()

    def take(self, key: str, cost: int) -> None:
        """Take what a request costs from a share.

        Args:
            key: Whose.
            cost: ``>= 1``; one that is above a whole share takes all of it.

        Raises:
            TooManyRequestsError: When less than that is left; nothing is taken.
        """
        now_s = self._clock_s()
        share = self._shares.pop(key, None) or _Share(self._most, now_s)
        share.left = min(self._most, share.left + (now_s - share.at_s) * self._per_s)
        share.at_s = now_s
        self._shares[key] = share
        if len(self._shares) > _MAX_KEYS:
            self._shares.popitem(last=False)
        wanted = min(float(cost), self._most)
        if share.left < wanted:
            wait_s = max(1, math.ceil((wanted - share.left) / self._per_s))
            raise TooManyRequestsError(f"at most {self._per_s:g} requests a second are answered, got more", wait_s)
        share.left -= wanted
