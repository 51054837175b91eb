"""Verdicts and explanations from Kafka into memory, through outages.

Every replica reads all partitions by assignment, outside any group: a wall shows the whole line whichever replica
serves it, and a dashboard never holds up a consumer group.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from services.adapters.codec import decode_inspection
from services.adapters.codec_explained import decode_explained_case
from services.adapters.ports import Record, TopicReader
from services.core.errors import EventDecodeError, SightlineError, UnavailableError
from services.core.types import Inspection
from services.dashboard.components import ComponentBoard, Reading, State, plain
from services.dashboard.explanations import ExplanationIndex, KeptExplanations, kept
from services.dashboard.live import LiveModel
from services.runtime import metrics
from services.runtime.lifecycle import Health, Shutdown
from services.runtime.logging import get_logger
from services.runtime.retry import Backoff

LOG = get_logger(__name__)

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


class ExplanationFeed:
    """Reads explained cases until told to stop; the wall goes on whether or not they can be read.

    Apart from the verdicts' own feed: a line may run without an explainer, and then the topic does not exist.
    """

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
        self._open_reader = open_reader
        self._index = index
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
                metrics.DASHBOARD_EXPLAINED_UP.set(0)
                if self._said != error.reason:
                    LOG.warning("explanations cannot be read now: %s", error)
                    self._said = error.reason
                shutdown.wait(self._backoff.next_s())

    def _read(self, shutdown: Shutdown) -> None:
        reader = self._open_reader()
        try:
            reader.seek_to_time(self._read_from_ms)
            self._backoff.reset()
            self._said = ""
            metrics.DASHBOARD_EXPLAINED_UP.set(1)
            opened_s = time.monotonic()
            while not shutdown.requested and time.monotonic() - opened_s < _REOPEN_EVERY_S:
                records = reader.poll(max_records=_MAX_EXPLAINED, timeout_s=_POLL_S)
                if records:
                    self._take(records)
        finally:
            reader.close()

    def _take(self, records: Sequence[Record]) -> None:
        cases: list[KeptExplanations] = []
        for record in records:
            try:
                cases.append(kept(decode_explained_case(record.value)))
            except EventDecodeError as error:
                metrics.DASHBOARD_UNDECODABLE.inc()
                LOG.warning(
                    "an explained case cannot be read: %s",
                    error,
                    extra={"topic": record.topic, "partition": record.partition, "offset": record.offset},
                )
        metrics.DASHBOARD_EXPLAINED.inc(len(records))
        self._index.add(cases)
        newest_ms = min(max(record.timestamp_ms for record in records), self._clock_ns() // 1_000_000)
        self._read_from_ms = max(self._read_from_ms, newest_ms - _OVERLAP_MS)
