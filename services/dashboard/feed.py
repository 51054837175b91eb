"""Verdicts, explanations and the lines' answers from Kafka into memory, through outages.

Every replica reads all partitions by assignment, outside any group: a wall shows the whole line whichever replica
serves it, and a dashboard never holds up a consumer group.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeVar

from prometheus_client import Gauge

from services.adapters.codec import decode_inspection
from services.adapters.codec_explained import decode_explained_case
from services.adapters.codec_outcome import decode_line_event, decode_outcome
from services.adapters.ports import Record, TopicReader
from services.core import topics
from services.core.errors import EventDecodeError, SightlineError, UnavailableError
from services.core.types import Inspection
from services.dashboard.components import ComponentBoard, Reading, State, plain
from services.dashboard.explanations import ExplanationIndex, kept
from services.dashboard.live import LiveModel
from services.dashboard.outcomes import OutcomeBook
from services.runtime import metrics
from services.runtime.lifecycle import Health, Shutdown
from services.runtime.logging import get_logger
from services.runtime.retry import Backoff

LOG = get_logger(__name__)

T = TypeVar("T")

KAFKA = "kafka"
"""Name of the broker among the components."""

_POLL_S = 0.25
_PROBE_EVERY_S = 1.0
_OVERLAP_MS = 10_000
# A reader knows the partitions of the moment it was opened; those that were added later need a new reader.
_REOPEN_EVERY_S = 600.0
_MAX_RECORDS = 500
# Cases carry their pictures: fewer at a time keep the memory flat.
_MAX_EXPLAINED = 50


class VerdictFeed:
    """Reads verdicts until told to stop; says honestly whether it can."""

    def __init__(
        self,
        open_reader: Callable[[], TopicReader],
        probe: Callable[[], None],
        model: LiveModel,
        board: ComponentBoard,
        health: Health,
        *,
        lookback_s: float,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Set up; nothing is opened yet.

        Args:
            open_reader: Gives a fresh reader of all partitions of the verdicts topic.
            probe: Returns when the broker answers, raises ``UnavailableError`` when it does not. A reader alone
                cannot tell a silent line from a silent broker.
            model: Takes the verdicts.
            board: Told of the broker's state under the name ``kafka``.
            health: Told of every turn of the loop.
            lookback_s: How far back to read at the start.
            clock_ns: The present, nanoseconds since the epoch.
        """
        self._open_reader = open_reader
        self._probe = probe
        self._model = model
        self._board = board
        self._health = health
        self._clock_ns = clock_ns
        self._read_from_ms = clock_ns() // 1_000_000 - int(lookback_s * 1000)
        self._backoff = Backoff(first_s=0.2, cap_s=3.0)

    def run(self, shutdown: Shutdown) -> None:
        """Read, and open again after an outage, until the stop is asked for."""
        while not shutdown.requested:
            self._health.turned()
            try:
                self._read(shutdown)
            except SightlineError as error:
                if not error.retriable:
                    raise
                self._say_not_up(error)
                shutdown.wait(self._backoff.next_s())

    def _read(self, shutdown: Shutdown) -> None:
        self._probe()
        reader = self._open_reader()
        try:
            reader.seek_to_time(self._read_from_ms)
            self._say_up()
            opened_s = probed_s = time.monotonic()
            while not shutdown.requested and time.monotonic() - opened_s < _REOPEN_EVERY_S:
                self._health.turned()
                records = reader.poll(max_records=_MAX_RECORDS, timeout_s=_POLL_S)
                if records:
                    self._take(records)
                if records or time.monotonic() - probed_s >= _PROBE_EVERY_S:
                    if not records:
                        self._probe()
                    self._say_up()
                    probed_s = time.monotonic()
        finally:
            reader.close()

    def _take(self, records: Sequence[Record]) -> None:
        inspections: list[Inspection] = []
        for record in records:
            try:
                inspections.append(decode_inspection(record.value))
            except EventDecodeError as error:
                metrics.DASHBOARD_UNDECODABLE.inc()
                LOG.warning(
                    "a verdict cannot be read: %s",
                    error,
                    extra={"topic": record.topic, "partition": record.partition, "offset": record.offset},
                )
        metrics.DASHBOARD_EVENTS.inc(len(records))
        self._model.add(inspections, self._clock_ns())
        # What an outage delayed may lie a little before the newest record of another partition.
        newest_ms = min(max(record.timestamp_ms for record in records), self._clock_ns() // 1_000_000)
        self._read_from_ms = max(self._read_from_ms, newest_ms - _OVERLAP_MS)

    def _say_up(self) -> None:
        self._backoff.reset()
        metrics.DASHBOARD_KAFKA_UP.set(1)
        self._board.post(KAFKA, Reading(State.UP))

    def _say_not_up(self, error: SightlineError) -> None:
        """Tell a broker that is gone from one that answers but has no verdicts to give (no topic yet, no leader)."""
        metrics.DASHBOARD_KAFKA_UP.set(0)
        try:
            self._probe()
        except UnavailableError as gone:
            self._board.post(KAFKA, Reading(State.DOWN, plain(str(gone))))
        else:
            self._board.post(KAFKA, Reading(State.NOT_READY, plain(str(error))))


class _SideFeed(ABC):
    """Reads what is beside the verdicts until told to stop; the wall goes on whether or not it can be read.

    Apart from the verdicts' own feed: a line may run without the service that writes it, and then the topic does not
    exist.
    """

    def __init__(
        self,
        open_reader: Callable[[], TopicReader],
        what: str,
        up: Gauge,
        *,
        lookback_s: float,
        max_records: int,
        clock_ns: Callable[[], int],
    ) -> None:
        self._open_reader = open_reader
        self._what = what
        self._up = up
        self._max_records = max_records
        self._clock_ns = clock_ns
        self._read_from_ms = clock_ns() // 1_000_000 - int(lookback_s * 1000)
        self._backoff = Backoff(first_s=0.5, cap_s=5.0)
        self._said = ""

    def run(self, shutdown: Shutdown) -> None:
        """Read, and open again after an outage, until the stop is asked for."""
        while not shutdown.requested:
            try:
                self._read(shutdown)
            except SightlineError as error:
                if not error.retriable:
                    raise
                self._up.set(0)
                if self._said != error.reason:
                    LOG.warning("%s cannot be read now: %s", self._what, error)
                    self._said = error.reason
                shutdown.wait(self._backoff.next_s())

    def _read(self, shutdown: Shutdown) -> None:
        reader = self._open_reader()
        try:
            reader.seek_to_time(self._read_from_ms)
            self._backoff.reset()
            self._said = ""
            self._up.set(1)
            opened_s = time.monotonic()
            while not shutdown.requested and time.monotonic() - opened_s < _REOPEN_EVERY_S:
                records = reader.poll(max_records=self._max_records, timeout_s=_POLL_S)
                if records:
                    self._take(records)
                    newest_ms = min(max(record.timestamp_ms for record in records), self._clock_ns() // 1_000_000)
                    self._read_from_ms = max(self._read_from_ms, newest_ms - _OVERLAP_MS)
        finally:
            reader.close()

    @abstractmethod
    def _take(self, records: Sequence[Record]) -> None: ...

    def _decoded(self, records: Sequence[Record], decode: Callable[[bytes], T]) -> list[T]:
        found: list[T] = []
        for record in records:
            try:
                found.append(decode(record.value))
            except EventDecodeError as error:
                metrics.DASHBOARD_UNDECODABLE.inc()
                LOG.warning(
                    "one of the %s cannot be read: %s",
                    self._what,
                    error,
                    extra={"topic": record.topic, "partition": record.partition, "offset": record.offset},
                )
        return found


class ExplanationFeed(_SideFeed):
    """Reads explained cases until told to stop; the wall goes on whether or not they can be read."""

    def __init__(
        self,
        open_reader: Callable[[], TopicReader],
        index: ExplanationIndex,
        *,
        lookback_s: float,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Set up; nothing is opened yet.

        Args:
            open_reader: Gives a fresh reader of all partitions of the topic.
            index: Takes the explanations.
            lookback_s: How far back to read at the start.
            clock_ns: The present, nanoseconds since the epoch.
        """
        super().__init__(
            open_reader,
            "explanations",
            metrics.DASHBOARD_EXPLAINED_UP,
            lookback_s=lookback_s,
            max_records=_MAX_EXPLAINED,
            clock_ns=clock_ns,
        )
        self._index = index

    def _take(self, records: Sequence[Record]) -> None:
        cases = self._decoded(records, lambda value: kept(decode_explained_case(value)))
        metrics.DASHBOARD_EXPLAINED.inc(len(records))
        self._index.add(cases)


class OutcomeFeed(_SideFeed):
    """Reads the lines' answers and events until told to stop; the wall goes on whether or not they can be read."""

    def __init__(
        self,
        open_reader: Callable[[], TopicReader],
        book: OutcomeBook,
        *,
        lookback_s: float,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Set up; nothing is opened yet.

        Args:
            open_reader: Gives a fresh reader of all partitions of outcomes and line events.
            book: Takes them.
            lookback_s: How far back to read at the start.
            clock_ns: The present, nanoseconds since the epoch.
        """
        super().__init__(
            open_reader,
            "outcomes",
            metrics.DASHBOARD_OUTCOMES_UP,
            lookback_s=lookback_s,
            max_records=_MAX_RECORDS,
            clock_ns=clock_ns,
        )
        self._book = book

    def _take(self, records: Sequence[Record]) -> None:
        outcomes = self._decoded([one for one in records if one.topic == topics.OUTCOMES], decode_outcome)
        events = self._decoded([one for one in records if one.topic == topics.LINE_EVENTS], decode_line_event)
        metrics.DASHBOARD_OUTCOMES.inc(len(records))
        self._book.add(outcomes, events)
