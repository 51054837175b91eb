"""Outcomes from Kafka to the lines that this process speaks for, through outages.

Read by assignment, outside any group: a line's connections need every outcome of the line, whichever replica joined it,
and after a restart those of the last minutes again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from services.adapters.codec_outcome import decode_outcome
from services.adapters.ports import Record, TopicReader
from services.core.errors import EventDecodeError, SightlineError
from services.core.outcome import Outcome
from services.runtime.lifecycle import Shutdown
from services.runtime.logging import get_logger
from services.runtime.retry import Backoff

LOG = get_logger(__name__)

_POLL_S: Final = 0.5
_PROBE_EVERY_S: Final = 2.0
#: A reader knows the partitions of the moment it was opened.
_REOPEN_EVERY_S: Final = 600.0
_MAX_RECORDS: Final = 500
_OVERLAP_MS: Final = 5_000


class OutcomeFeed:
    """Reads until told to stop; what it reads twice after an outage has the same ids.

    Args:
        open_reader: Gives a fresh reader of all partitions of ``outcomes``.
        probe: Returns when the broker answers, raises ``UnavailableError`` when it does not.
        take: Takes outcomes, in the order of their partitions.
        lookback_s: How far back to read at the start.
        clock_ns: Wall clock.
    """

    def __init__(
        self,
        open_reader: Callable[[], TopicReader],
        probe: Callable[[], None],
        take: Callable[[Sequence[Outcome]], None],
        *,
        lookback_s: float,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._open_reader = open_reader
        self._probe = probe
        self._take = take
        self._read_from_ms = clock_ns() // 1_000_000 - int(lookback_s * 1_000)
        self._backoff = Backoff(first_s=0.2, cap_s=2.0)
        self._away = "nothing was read yet"
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None

    @property
    def away(self) -> str:
        """Why outcomes cannot be read at present; empty while they are."""
        return self._away

    def start(self, shutdown: Shutdown) -> None:
        """Read on a thread until the stop is asked for."""
        self._thread = threading.Thread(target=self._run, args=(shutdown,), name="outcome-feed", daemon=True)
        self._thread.start()

    def join(self, timeout_s: float) -> None:
        """Wait for the end that a shutdown brings."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def check(self) -> None:
        """Raise what ended the feed, if anything did."""
        if self._failure is not None:
            raise self._failure

    def _run(self, shutdown: Shutdown) -> None:
        try:
            while not shutdown.requested:
                try:
                    self._read(shutdown)
                except SightlineError as error:
                    if not error.retriable:
                        raise
                    if not self._away:
                        LOG.warning("outcomes cannot be read now: %s", error)
                    self._away = str(error) or error.reason
                    shutdown.wait(self._backoff.next_s())
        except BaseException as error:  # noqa: BLE001 - carried to the main thread and raised there
            self._failure = error

    def _read(self, shutdown: Shutdown) -> None:
        self._probe()
        reader = self._open_reader()
        try:
            reader.seek_to_time(self._read_from_ms)
            self._up()
            opened_s = probed_s = time.monotonic()
            while not shutdown.requested and time.monotonic() - opened_s < _REOPEN_EVERY_S:
                records = reader.poll(max_records=_MAX_RECORDS, timeout_s=_POLL_S)
                if records:
                    self._hand_on(records)
                # A reader alone cannot tell a silent line from a silent broker.
                if not records and time.monotonic() - probed_s >= _PROBE_EVERY_S:
                    self._probe()
                    probed_s = time.monotonic()
        finally:
            reader.close()

    def _hand_on(self, records: Sequence[Record]) -> None:
        outcomes = []
        for record in records:
            try:
                outcomes.append(decode_outcome(record.value))
            except EventDecodeError as error:
                LOG.warning("an outcome cannot be read, at %s: %s", record.position, error)
        self._take(outcomes)
        newest_ms = max(record.timestamp_ms for record in records)
        self._read_from_ms = max(self._read_from_ms, newest_ms - _OVERLAP_MS)

    def _up(self) -> None:
        self._away = ""
        self._backoff.reset()
