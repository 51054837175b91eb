"""Word of each part, written ahead of its frame: small, so that it waits for no picture."""

from __future__ import annotations

import threading
from concurrent.futures import Future

from services.adapters.ports import RecordWriter
from services.core.errors import InvalidInputError
from services.core.types import RecordPosition
from services.ingest.outgoing import Outgoing, to_arrival
from services.runtime.logging import get_logger

LOG = get_logger(__name__)


class Arrivals:
    """Writes a camera's arrivals, and knows which of the frames on disk were told of already. Thread-safe."""

    def __init__(self, writer: RecordWriter, *, enabled: bool = True) -> None:
        """Wire it.

        Args:
            writer: Takes the records.
            enabled: Without it nothing is written.
        """
        self._writer = writer
        self._enabled = enabled
        self._lock = threading.Lock()
        self._told: set[int] = set()

    def send(self, outgoing: Outgoing) -> Future[RecordPosition] | None:
        """Tell of a frame's part.

        Args:
            outgoing: The frame, whose image may be anywhere yet.

        Returns:
            Resolves as the writer's own; None when nothing is to be written.

        Raises:
            UnavailableError: When the writer takes nothing now.
        """
        if not self._enabled:
            return None
        record = to_arrival(outgoing)
        return self._writer.send(record.topic, key=record.key, value=record.value, headers=record.headers)

    def keep(self, number: int, arrival: Future[RecordPosition]) -> None:
        """Remember, once it has arrived, that a frame on disk was told of.

        Args:
            number: The frame's in the spool.
            arrival: As :meth:`send` gave it.
        """

        def settled(done: Future[RecordPosition]) -> None:
            if done.exception() is None:
                with self._lock:
                    self._told.add(number)

        arrival.add_done_callback(settled)

    def told(self, number: int) -> bool:
        """Whether the frame with this number in the spool was told of; it need not be again."""
        with self._lock:
            return number in self._told

    def forget(self, number: int) -> None:
        """Frames up to this number are on disk no more."""
        with self._lock:
            self._told = {each for each in self._told if each > number}


def is_final(error: BaseException | None) -> bool:
    """Whether an arrival need not be tried again: it is there, or the broker will never take it.

    Its frame goes on its way in either case: a part that nobody was told of is inspected all the same.
    """
    if isinstance(error, InvalidInputError):
        LOG.error("the broker does not take an arrival, its frame goes without: %s", error)
        return True
    return error is None
