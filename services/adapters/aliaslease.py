"""One trainer per alias: a lease in the object store, of which nobody's clock decides.

::

    training/leases/<alias>/<epoch, 12 digits>.json     who holds the alias in that epoch, and a count that goes up

The object of the highest epoch counts. It is made only where nothing lies yet, so that of two who want an epoch one
gets it. Its holder writes it anew every few seconds with a higher count. Whoever waits takes the next epoch once the
count has stood still for the lease's length **by the waiter's own clock**; no two machines' clocks are compared. A
holder that sees a higher epoch has lost the alias and must stop: what it wrote before stands, what it would write after
is another's. One that could not renew for the lease's length looks before it writes again: while the store was away
nobody else could take the alias either.
"""

from __future__ import annotations

import json
import re
import threading
import time
import uuid
from collections.abc import Callable
from typing import Final

from services.adapters.ports import ObjectStore
from services.core.errors import ConflictError, InvalidInputError, NotFoundError, SightlineError
from services.core.manifest import validate_alias

_LEASES: Final = "training/leases/"
_KEY = re.compile(r"training/leases/[a-z0-9._-]{1,63}/(\d{12})\.json\Z", re.ASCII)
_MAX_BYTES: Final = 4_096
_RENEWALS: Final = 3


class AliasLease:
    """One process's claim on one alias. Thread-safe.

    Args:
        store: Where leases lie.
        alias: Of which alias.
        ttl_s: A holder that is silent for so long has lost it.
        owner: Tells holders apart; made where none is given.
        clock_s: Monotonic seconds.
    """

    def __init__(
        self,
        store: ObjectStore,
        alias: str,
        *,
        ttl_s: float,
        owner: str = "",
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._folder = f"{_LEASES}{validate_alias(alias)}/"
        self._ttl_s = ttl_s
        self._owner = owner or uuid.uuid4().hex
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._epoch = 0
        self._count = 0
        self._renewed_s = 0.0
        self._seen: tuple[int, bytes] = (0, b"")
        self._seen_s = 0.0

    def acquire(self) -> bool:
        """Take the alias if nobody has it; renews what is held.

        Call it again and again: another holder's silence must be seen for the lease's length.

        Raises:
            UnavailableError: If the store does not answer.
        """
        with self._lock:
            if self._epoch:
                return self._renew()
            epoch, data = self._newest()
            now_s = self._clock_s()
            if (epoch, data) != self._seen:
                self._seen, self._seen_s = (epoch, data), now_s
            if epoch and not _is_released(data) and now_s - self._seen_s < self._ttl_s:
                return False
            return self._take(epoch + 1, now_s)

    def renew(self) -> bool:
        """Say that the holder lives, if a third of the lease's length has passed; tells whether it is still held.

        Raises:
            UnavailableError: If the store does not answer; it is held until its length has passed.
        """
        with self._lock:
            return self._renew()

    def release(self) -> None:
        """Give the alias back, so that the next one need not wait. Idempotent.

        Raises:
            UnavailableError: If the store does not answer; then the next one waits.
        """
        with self._lock:
            epoch, self._epoch = self._epoch, 0
            if epoch and self._newest()[0] == epoch:
                self._put(epoch, released=True)

    def _renew(self) -> bool:
        if not self._epoch:
            return False
        now_s = self._clock_s()
        if now_s - self._renewed_s < self._ttl_s / _RENEWALS:
            return True
        # Written first: whoever has watched the count stand still begins anew, and whoever was faster is seen below.
        self._put(self._epoch)
        if self._newest()[0] != self._epoch:
            self._epoch = 0
            return False
        self._renewed_s = now_s
        return True

    def _take(self, epoch: int, now_s: float) -> bool:
        try:
            self._store.put_new(self._key(epoch), self._content(), content_type="application/json")
        except ConflictError:
            return False
        self._epoch, self._renewed_s = epoch, now_s
        self._tidy(epoch)
        return True

    def _tidy(self, epoch: int) -> None:
        # The one before stays: were it gone while somebody takes it for the highest, there would be no order.
        old = [stat.key for stat in self._store.list(self._folder) if 0 < _epoch(stat.key) < epoch - 1]
        try:
            self._store.delete(old)
        except SightlineError:
            # The next one does it.
            return

    def _newest(self) -> tuple[int, bytes]:
        epoch = max((_epoch(stat.key) for stat in self._store.list(self._folder)), default=0)
        if not epoch:
            return 0, b""
        try:
            return epoch, self._store.get(self._key(epoch), max_bytes=_MAX_BYTES)
        except (NotFoundError, InvalidInputError):
            return epoch, b""

    def _put(self, epoch: int, *, released: bool = False) -> None:
        self._store.put(self._key(epoch), self._content(released=released), content_type="application/json")

    def _content(self, *, released: bool = False) -> bytes:
        self._count += 1
        return json.dumps({"owner": self._owner, "count": self._count, "released": released}).encode()

    def _key(self, epoch: int) -> str:
        return f"{self._folder}{epoch:012d}.json"


def _epoch(key: str) -> int:
    found = _KEY.match(key)
    return int(found.group(1)) if found else 0


def _is_released(data: bytes) -> bool:
    try:
        said = json.loads(data)
    except (ValueError, RecursionError):
        return False
    return isinstance(said, dict) and said.get("released") is True
