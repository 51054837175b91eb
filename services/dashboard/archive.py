"""What is no longer in memory of a frame, looked up in Kafka by the time that the frame's id carries.

A link to a part thus works for as long as the topics keep its verdict and its explanation, also after a restart of the
dashboard.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

from services.adapters.codec import decode_inspection
from services.adapters.codec_explained import decode_explained_case
from services.adapters.ports import Record, TopicReader
from services.core.errors import EventDecodeError, UnavailableError
from services.core.identity import captured_at_ms
from services.core.types import Inspection
from services.dashboard.explanations import KeptExplanations, kept

T = TypeVar("T")

_BEFORE_MS = 2_000
_KEPT = 256
_QUIET_POLLS = 2


class FrameArchive(Generic[T]):
    """Finds what one topic says of a frame, among what was written after it was captured.

    Thread-safe; one search at a time.
    """

    def __init__(
        self,
        open_reader: Callable[[], TopicReader],
        decode: Callable[[bytes], T],
        frame_of: Callable[[T], str],
        *,
        within_s: float = 120.0,
        deadline_s: float = 5.0,
        max_records: int = 50_000,
    ) -> None:
        """Set up; nothing is opened yet.

        Args:
            open_reader: Gives a fresh reader of all partitions of the topic.
            decode: Reads a record's value; raises ``EventDecodeError`` for one that is broken.
            frame_of: Tells which frame a value is about.
            within_s: A record is looked for up to this long after the capture.
            deadline_s: Longest search.
            max_records: Most records to look at.
        """
        self._open_reader = open_reader
        self._decode = decode
        self._frame_of = frame_of
        self._within_ms = int(within_s * 1000)
        self._deadline_s = deadline_s
        self._max_records = max_records
        self._lock = Lock()
        self._found: OrderedDict[str, T] = OrderedDict()

    def recall(self, frame_id: str) -> T | None:
        """What an earlier search found; does not search."""
        return self._found.get(frame_id)

    def find(self, frame_id: str) -> T | None:
        """Search for what is said of a frame.

        Args:
            frame_id: A valid frame id.

        Returns:
            It, or None when the topic holds none near that time.

        Raises:
            UnavailableError: The broker does not answer, or another search does not end in time.
        """
        if not self._lock.acquire(timeout=self._deadline_s):
            raise UnavailableError(f"a search must begin within {self._deadline_s} s, got others before it")
        try:
            known = self._found.get(frame_id)
            if known is None:
                known = self._search(frame_id)
            if known is not None:
                self._found[frame_id] = known
                if len(self._found) > _KEPT:
                    self._found.popitem(last=False)
            return known
        finally:
            self._lock.release()

    def _search(self, frame_id: str) -> T | None:
        captured_ms = captured_at_ms(frame_id)
        if captured_ms > time.time_ns() // 1_000_000 + _BEFORE_MS:
            return None
        reader = self._open_reader()
        try:
            reader.seek_to_time(max(0, captured_ms - _BEFORE_MS))
            return self._scan(reader, frame_id, captured_ms + self._within_ms)
        finally:
            reader.close()

    def _scan(self, reader: TopicReader, frame_id: str, until_ms: int) -> T | None:
        end_s = time.monotonic() + self._deadline_s
        looked_at = quiet = 0
        while quiet < _QUIET_POLLS and looked_at < self._max_records and time.monotonic() < end_s:
            records = reader.poll(max_records=1_000, timeout_s=0.5)
            looked_at += len(records)
            for record in records:
                found = self._on(record, frame_id)
                if found is not None:
                    return found
            past = bool(records) and all(record.timestamp_ms > until_ms for record in records)
            # Partitions are read in turn: one batch beyond the time says nothing of the others yet.
            quiet = quiet + 1 if past or not records else 0
        return None

    def _on(self, record: Record, frame_id: str) -> T | None:
        # The id stands in the bytes as it is: only a record that holds it is worth decoding.
        if frame_id.encode() not in record.value:
            return None
        try:
            value = self._decode(record.value)
        except EventDecodeError:
            return None
        return value if self._frame_of(value) == frame_id else None


def verdict_archive(open_reader: Callable[[], TopicReader]) -> FrameArchive[Inspection]:
    """An archive of the ``verdicts`` topic."""
    return FrameArchive(open_reader, decode_inspection, lambda inspection: inspection.frame_id)


def explanation_archive(open_reader: Callable[[], TopicReader]) -> FrameArchive[KeptExplanations]:
    """An archive of the ``explained`` topic; explanations may come a good while after their verdict."""
    return FrameArchive(
        open_reader,
        lambda data: kept(decode_explained_case(data)),
        lambda case: case.frame_id,
        within_s=900.0,
    )
