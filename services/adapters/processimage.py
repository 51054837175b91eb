"""What the servers that a PLC connects to have in common: a thread with a loop of its own, and what they tell of."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from services.core.errors import UnavailableError
from services.core.plc import MAX_TEXT

#: Most notes of malformed messages that are kept until somebody takes them.
MAX_NOTES: Final = 100
#: Most notes of one peer within a window; what is more is counted.
NOTES_PER_WINDOW: Final = 5
WINDOW_S: Final = 10.0
_MAX_PEERS: Final = 64

#: Stands in a text for what cannot be read. No name has it, so a trigger with such a text is refused, not guessed at.
UNREADABLE: Final = "\ufffd"

_KEEPALIVE_IDLE_S: Final = 10
_KEEPALIVE_EVERY_S: Final = 5
_KEEPALIVE_TRIES: Final = 3
_UNSENT_TIMEOUT_MS: Final = 10_000

T = TypeVar("T")


def readable_text(text: str) -> str:
    """A recipe, lot or part name as a PLC wrote it, without the padding.

    Returns:
        The text up to the first NUL, spaces at its ends taken off, in at most ``MAX_TEXT`` characters. What is no
        printable ASCII, and the last place of a text that was longer, is ``UNREADABLE``.
    """
    plain = text.split("\0", 1)[0].strip(" ")
    plain = "".join(each if " " <= each <= "~" else UNREADABLE for each in plain[: MAX_TEXT + 1])
    # A name that was cut could be another one's.
    return plain if len(plain) <= MAX_TEXT else plain[: MAX_TEXT - 1] + UNREADABLE


def drop_when_dead(connection: socket.socket) -> None:
    """Have the kernel end a connection whose other side is gone without a word: a pulled plug, a PLC without power.

    Otherwise each of them would hold one of the few connections for hours.
    """
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", _KEEPALIVE_IDLE_S),
        ("TCP_KEEPINTVL", _KEEPALIVE_EVERY_S),
        ("TCP_KEEPCNT", _KEEPALIVE_TRIES),
        ("TCP_USER_TIMEOUT", _UNSENT_TIMEOUT_MS),
    ):
        if hasattr(socket, option):  # Not every system has each.
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


@dataclass(slots=True)
class _Window:
    since_s: float
    told: int = 0
    passed_over: int = 0


class MalformedNotes:
    """What came that is no message of the protocol; bounded in number, and in rate for each peer. Thread-safe.

    Args:
        clock_s: A clock that only goes forward, in seconds.
    """

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._notes: list[str] = []
        self._windows: dict[str, _Window] = {}
        self._lost = 0

    def note(self, peer: str, what: str) -> None:
        """Keep a note, or count it where this peer has had its share.

        Args:
            peer: Address of the sender, without its port: that changes with each connection.
            what: The rule and what was received.
        """
        with self._lock:
            self._tell_passed_over()
            window = self._windows.get(peer)
            if window is None:
                if len(self._windows) >= _MAX_PEERS:
                    self._lost += self._windows.pop(next(iter(self._windows))).passed_over
                window = self._windows[peer] = _Window(self._clock_s())
            if window.told >= NOTES_PER_WINDOW:
                window.passed_over += 1
            else:
                window.told += 1
                self._keep(f"{peer}: {what}")

    def take(self) -> list[str]:
        """Everything since the last call, oldest first."""
        with self._lock:
            self._tell_passed_over()
            notes, self._notes = self._notes, []
            if self._lost:
                notes.append(f"{self._lost} more were not kept")
                self._lost = 0
            return notes

    def _tell_passed_over(self) -> None:
        now_s = self._clock_s()
        for peer, window in list(self._windows.items()):
            if now_s - window.since_s >= WINDOW_S:
                del self._windows[peer]
                if window.passed_over:
                    self._keep(f"{peer}: {window.passed_over} more within {WINDOW_S:g} s")

    def _keep(self, note: str) -> None:
        if len(self._notes) < MAX_NOTES:
            self._notes.append(note)
        else:
            self._lost += 1


class WriteSignal:
    """Wakes whoever waits for the PLC to write. Many may tell, one waits."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._writes = 0
        self._seen = 0
        self._closed = False

    def tell(self) -> None:
        """The PLC has written."""
        with self._changed:
            self._writes += 1
            self._changed.notify_all()

    def wait(self, timeout_s: float) -> bool:
        """Wait for a write; one that came since the last wait counts, so that none is slept through.

        Returns:
            Whether there was one; false at once when closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._writes != self._seen, timeout_s)
            written, self._seen = self._writes != self._seen, self._writes
            return written

    def close(self) -> None:
        """Nothing will be written any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class LoopThread:
    """A thread with an event loop of its own, so that a server answers while the handshake's thread works.

    Args:
        name: The thread's name.
    """

    def __init__(self, name: str) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._running = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()
        self._running.wait()

    def run(self, work: Coroutine[Any, Any, T], timeout_s: float) -> T:
        """Run a coroutine there and wait for what it gives.

        Raises:
            UnavailableError: When it takes longer than ``timeout_s``, or the thread is closed.
        """
        if self._loop is None:
            work.close()
            raise UnavailableError("an event loop must run to be asked, got a closed one")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout_s)
        except TimeoutError as error:
            if not future.done():
                future.cancel()
                raise UnavailableError(f"an answer must come within {timeout_s:g} s, got none") from error
            raise

    def soon(self, work: Callable[[], object]) -> None:
        """Call something there, without waiting; nothing happens once it is closed."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # It was closed just now.
                self._loop.call_soon_threadsafe(work)

    def close(self, timeout_s: float = 1.0) -> None:
        """Cancel what runs there and end the thread; idempotent."""
        loop, self._loop = self._loop, None
        if loop is not None and self._stop is not None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._stop.set)
        if self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._running.set()
        await self._stop.wait()
