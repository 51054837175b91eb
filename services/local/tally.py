"""Counts what came out of a line, from the topics themselves."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from services.adapters.codec import decode_case, decode_frame, decode_inspection
from services.adapters.codec_explained import decode_explained_case
from services.adapters.connection import KafkaConnection
from services.adapters.kafka import KafkaTopicReader
from services.adapters.ports import Record
from services.core.errors import EventDecodeError
from services.core.topics import CASES, EXPLAINED, FRAMES, VERDICTS, dead_letter

_POLL_RECORDS = 1_000
_POLL_S = 0.2
_END_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the frames that were offered.

    Attributes:
        frames_in: Distinct frames that were offered.
        verdicts: Distinct frames and versions that a model gave a verdict on.
        lost: Frames that have neither a verdict nor a dead letter.
        duplicates: Further records of an id that was there already, over verdicts, cases, explained cases and dead
            letters.
        dead_lettered: Distinct frames that no model could look at.
        cases: Distinct cases.
        explained: Distinct cases that came out of the explainer, with their maps or the reason why there is none.
        frames_per_s: Verdicts a second, from the first to the last.
    """

    frames_in: int
    verdicts: int
    lost: int
    duplicates: int
    dead_lettered: int
    cases: int
    explained: int
    frames_per_s: float

    @property
    def clean(self) -> bool:
        """Whether each frame came out once, and each case too."""
        return self.lost == 0 and self.duplicates == 0 and self.explained == self.cases


class Tally:
    """Reads verdicts, cases, explained cases and dead letters from their beginning and counts each id once.

    Args:
        connection: How to reach the broker.
    """

    def __init__(self, connection: KafkaConnection) -> None:
        self._reader = KafkaTopicReader(connection, [VERDICTS, CASES, EXPLAINED, dead_letter(FRAMES)])
        self._verdicts: set[tuple[str, int]] = set()
        self._cases: set[str] = set()
        self._explained: set[str] = set()
        self._dead_letters: set[str] = set()
        self._first_ns = 0
        self._last_ns = 0
        self.duplicates = 0

    @property
    def settled(self) -> int:
        """Distinct frames that have a model's verdict or a dead letter."""
        return len(self._scored | self._dead_letters)

    @property
    def _scored(self) -> set[str]:
        return {frame_id for frame_id, version in self._verdicts if version > 0}

    def poll(self) -> None:
        """Count what has come since."""
        self._count(self._reader.poll(max_records=_POLL_RECORDS, timeout_s=_POLL_S))

    def read_to_end(self) -> None:
        """Count everything that is there now."""
        self._count(list(self._reader.read_to_end(_END_TIMEOUT_S)))

    def wait_for(self, frames: int, timeout_s: float, *, during: Callable[[int], bool] = lambda _settled: True) -> bool:
        """Count until so many frames are settled.

        Args:
            frames: How many.
            timeout_s: Longest time in which nothing is settled.
            during: Told how many are settled after each look; False ends the waiting.

        Returns:
            Whether they all are.
        """
        return self._wait_for(lambda: self.settled, lambda: frames, timeout_s, during)

    def wait_for_explained(self, timeout_s: float, *, during: Callable[[int], bool] = lambda _explained: True) -> bool:
        """Count until every case is explained; as :meth:`wait_for`, in cases. No further cases may be on their way."""
        self.read_to_end()
        return self._wait_for(lambda: len(self._explained), lambda: len(self._cases), timeout_s, during)

    def _wait_for(
        self, count: Callable[[], int], wanted: Callable[[], int], timeout_s: float, during: Callable[[int], bool]
    ) -> bool:
        before = -1
        end_s = time.monotonic() + timeout_s
        while time.monotonic() < end_s:
            self.poll()
            if count() != before:
                before = count()
                end_s = time.monotonic() + timeout_s
            if before >= wanted():
                return True
            if not during(before):
                return False
        return False

    def outcome(self, frames_in: int) -> Outcome:
        """The account, for so many distinct frames offered."""
        scored = [each for each in self._verdicts if each[1] > 0]
        seconds = (self._last_ns - self._first_ns) / 1e9
        return Outcome(
            frames_in=frames_in,
            verdicts=len(scored),
            lost=frames_in - self.settled,
            duplicates=self.duplicates,
            dead_lettered=len(self._dead_letters),
            cases=len(self._cases),
            explained=len(self._explained),
            frames_per_s=round((len(scored) - 1) / seconds, 2) if seconds > 0 else 0.0,
        )

    def close(self) -> None:
        """Let the reader go."""
        self._reader.close()

    def _count(self, records: list[Record]) -> None:
        for record in records:
            if record.topic == VERDICTS:
                self._count_verdict(record)
            elif record.topic == CASES:
                self._once(self._cases, decode_case(record.value).case_id)
            elif record.topic == EXPLAINED:
                self._once(self._explained, decode_explained_case(record.value).case.case_id)
            else:
                self._once(self._dead_letters, _origin_of(record))

    def _count_verdict(self, record: Record) -> None:
        inspection = decode_inspection(record.value)
        key = (inspection.frame_id, inspection.model_version)
        if key in self._verdicts:
            self.duplicates += 1
            return
        self._verdicts.add(key)
        self._first_ns = min(self._first_ns or inspection.decided_at_ns, inspection.decided_at_ns)
        self._last_ns = max(self._last_ns, inspection.decided_at_ns)

    def _once(self, known: set[str], identity: str) -> None:
        if identity in known:
            self.duplicates += 1
        known.add(identity)


def _origin_of(record: Record) -> str:
    """The frame that a dead letter was; where it cannot be read, its place in the topic."""
    try:
        return decode_frame(record.value).frame_id
    except EventDecodeError:
        headers = dict(record.headers)
        place = [headers.get(name, b"?").decode(errors="replace") for name in ("origin_partition", "origin_offset")]
        return ":".join(place)
