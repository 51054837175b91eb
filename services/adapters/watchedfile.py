"""Files that others renew while we run: told apart by what the disk says of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

_Stamp = tuple[tuple[int, int, int] | None, ...]


class WatchedFiles:
    """Tells when one of a few files was replaced. Thread-safe.

    Args:
        paths: The files; a link is followed, since Kubernetes renews a secret by turning a link.
        every_s: Looks at the disk at most this often.
        clock: Seconds that never run back.
    """

    def __init__(
        self, paths: Sequence[Path], *, every_s: float = 1.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._paths = tuple(paths)
        self._every_s = every_s
        self._clock = clock
        self._lock = threading.Lock()
        self._looked_at = clock()
        self._stamp = self._look()

    def changed(self) -> bool:
        """Whether a file was replaced since this was last asked; true once for each change."""
        with self._lock:
            now = self._clock()
            if now - self._looked_at < self._every_s:
                return False
            self._looked_at = now
            stamp = self._look()
            changed, self._stamp = stamp != self._stamp, stamp
            return changed

    def _look(self) -> _Stamp:
        stamps: list[tuple[int, int, int] | None] = []
        for path in self._paths:
            try:
                stat = path.stat()
            except OSError:
                stamps.append(None)
            else:
                stamps.append((stat.st_ino, stat.st_mtime_ns, stat.st_size))
        return tuple(stamps)
