"""Frames that wait for the shadow: bounded, at a bounded pace, and never waited for."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.adapters.ports import Headers
from services.core.types import ImageRef, Inspection
from services.detector.job import Deployment


@dataclass(slots=True, eq=False)
class ShadowedFrame:
    """A frame that the live version has answered and the shadow is to score; the job itself is let go."""

    deployment: Deployment
    """The shadow's."""
    live: Inspection
    rows: NDArray[np.uint8] | None = None
    """The live version's rows, shape ``(T, H, W, 3)``, where the shadow's input is made the same way."""
    image: bytes | None = None
    """The encoded image, where it came inline and must be prepared anew."""
    image_ref: ImageRef | None = None
    """Where it lies otherwise."""
    headers: Headers = ()

    @property
    def size_bytes(self) -> int:
        """Memory that it holds while it waits."""
        return (0 if self.rows is None else self.rows.nbytes) + (0 if self.image is None else len(self.image))


class ShadowQueue:
    """First in, first out; a frame that finds no room is turned away at once. Thread-safe.

    Args:
        max_frames: Most frames that wait.
        max_bytes: Most bytes of them; one larger frame may wait alone.
    """

    def __init__(self, max_frames: int, max_bytes: int) -> None:
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._frames: deque[ShadowedFrame] = deque()
        self._bytes = 0
        self._came = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        return len(self._frames)

    def put(self, frame: ShadowedFrame) -> bool:
        """Queue a frame; tells whether there was room."""
        with self._came:
            too_many = len(self._frames) >= self._max_frames
            too_large = bool(self._frames) and self._bytes + frame.size_bytes > self._max_bytes
            if self._closed or too_many or too_large:
                return False
            self._frames.append(frame)
            self._bytes += frame.size_bytes
            self._came.notify()
            return True

    def get(self, timeout_s: float) -> ShadowedFrame | None:
        """Take the frame that waits longest; None when none comes within ``timeout_s`` or the queue is closed."""
        with self._came:
            self._came.wait_for(lambda: bool(self._frames) or self._closed, timeout_s)
            if not self._frames:
                return None
            frame = self._frames.popleft()
            self._bytes -= frame.size_bytes
            return frame

    def close(self) -> None:
        """Forget what waits and take nothing more."""
        with self._came:
            self._closed = True
            self._frames.clear()
            self._bytes = 0
            self._came.notify_all()


class Pace:
    """At most so many a second, with what one second allows at once: frames come in batches. Not thread-safe.

    Args:
        max_per_s: The bound.
        clock: Monotonic seconds.
    """

    def __init__(self, max_per_s: float, clock: Callable[[], float]) -> None:
        self._max_per_s = max_per_s
        self._most = max(1.0, max_per_s)
        self._clock = clock
        self._left = self._most
        self._at_s = clock()

    def allows(self) -> bool:
        """Tell whether one more may go now, and count it if so."""
        now_s = self._clock()
        self._left = min(self._most, self._left + (now_s - self._at_s) * self._max_per_s)
        self._at_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True
