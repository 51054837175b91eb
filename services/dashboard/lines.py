"""The lines of the outcome service: a reading of each that is taken in rounds, and what people do there."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

from services.core.errors import BusyError, DeadlineError, EventDecodeError, SightlineError, UnavailableError
from services.dashboard.components import plain
from services.dashboard.linestate import LineStates
from services.dashboard.outcomes import Counts, OutcomeBook
from services.dashboard.views import NS_PER_MS, Json
from services.dashboard.views_lines import counts_json, part_answers_json
from services.runtime.lifecycle import Shutdown
from services.runtime.logging import get_logger

LOG = get_logger(__name__)

T = TypeVar("T")

_AT_ONCE: Final = 4
_WAITING_FOR_EACH: Final = 8


class NoOutcomeServiceError(SightlineError):
    """No outcome service is set, so nothing is known of the lines' answers."""

    reason = "no_outcome_service"


@dataclass(frozen=True, slots=True)
class LinesReading:
    """How the lines were when last asked."""

    lines: tuple[Json, ...]
    known: bool
    """Whether there was an answer at all."""
    away_since_ns: int
    """Since when the service does not answer, nanoseconds since the epoch; 0 while it does."""
    detail: str
    """Why not, for people."""
    asked_at_ns: int


class LineBoard:
    """The newest reading. Thread-safe."""

    def __init__(self, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._clock_ns = clock_ns
        self._lock = threading.Lock()
        self._reading = LinesReading((), False, 0, "", 0)
        self._revision = 0

    @property
    def revision(self) -> int:
        """Moves whenever a line is otherwise than before, or the service comes or goes."""
        return self._revision

    def read(self) -> LinesReading:
        """The newest reading."""
        with self._lock:
            return self._reading

    def take(self, lines: Sequence[Json]) -> None:
        """The service answered.

        Args:
            lines: As they are now.
        """
        with self._lock:
            before = self._reading
            self._reading = LinesReading(tuple(lines), True, 0, "", self._clock_ns())
            if not before.known or before.away_since_ns or _lasting(before.lines) != _lasting(self._reading.lines):
                self._revision += 1

    def say_away(self, why: str) -> None:
        """The service did not answer; how the lines were stays.

        Args:
            why: For people.
        """
        with self._lock:
            before = self._reading
            now_ns = self._clock_ns()
            self._reading = LinesReading(before.lines, before.known, before.away_since_ns or now_ns, plain(why), now_ns)
            if not before.away_since_ns:
                self._revision += 1


class LinePoller:
    """Asks how the lines are, in rounds, until told to stop."""

    def __init__(self, states: LineStates, board: LineBoard, *, interval_s: float, timeout_s: float) -> None:
        """Set up.

        Args:
            states: Asked.
            board: Told.
            interval_s: Time between two rounds.
            timeout_s: Longest wait for an answer.
        """
        self._states = states
        self._board = board
        self._interval_s = interval_s
        self._timeout_s = timeout_s

    def run(self, shutdown: Shutdown) -> None:
        """Ask until the stop is asked for."""
        while not shutdown.requested:
            self.round()
            shutdown.wait(self._interval_s)

    def round(self) -> None:
        """Ask once."""
        try:
            self._board.take(self._states.lines(self._timeout_s))
        except SightlineError as error:
            if not self._board.read().away_since_ns:
                LOG.warning("the outcome service cannot be asked now: %s", error, extra={"reason": error.reason})
            self._board.say_away(str(error))


class Lines:
    """What the routes and the live stream know of the lines. What is awaited is used from the event loop only."""

    def __init__(
        self,
        states: LineStates | None,
        board: LineBoard,
        book: OutcomeBook,
        *,
        timeout_s: float,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Set up.

        Args:
            states: The outcome service; None where none is set.
            board: Filled by a poller.
            book: Filled by a feed.
            timeout_s: Longest wait for an answer of the service.
            clock_ns: The present, nanoseconds since the epoch.
        """
        self._states = states
        self._board = board
        self.book = book
        self._timeout_s = timeout_s
        self._clock_ns = clock_ns
        self._waiting = 0
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="outcome")

    @property
    def is_offered(self) -> bool:
        """Whether an outcome service is set at all."""
        return self._states is not None

    @property
    def state_revision(self) -> int:
        """Moves whenever a line is otherwise than before."""
        return self._board.revision

    def require(self) -> LineStates:
        """The service; raises ``NoOutcomeServiceError`` where none is set."""
        if self._states is None:
            raise NoOutcomeServiceError("outcome.address must be set for the lines' answers, it is empty")
        return self._states

    def close(self) -> None:
        """Let go of the threads; questions that are asked end with their deadline."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def counts(self, line_id: str) -> Counts:
        """First answers of a line over the last minutes."""
        return self.book.counts(line_id, self._clock_ns())

    def view(self) -> Json:
        """Every line with its counts and newest answer, for the page."""
        reading = self._board.read()
        away = {"since_ms": reading.away_since_ns // NS_PER_MS, "detail": reading.detail}
        return {
            "at_ms": self._clock_ns() // NS_PER_MS,
            "offered": self.is_offered,
            "known": reading.known,
            "away": away if reading.away_since_ns else None,
            "lines": [line | self._heard(line["line_id"]) for line in reading.lines],
        }

    def _heard(self, line_id: str) -> Json:
        newest = self.book.newest(line_id)
        return {
            "counts": counts_json(self.counts(line_id)),
            "newest": None if newest is None else part_answers_json(newest),
        }

    async def acknowledge(self, line_id: str, alarm_id: str, person: str, note: str) -> Json:
        """Acknowledge an alarm in a person's name.

        Raises:
            NoOutcomeServiceError: No service is set.
            UnavailableError: It does not answer in time, or so many questions wait that this one had no turn.
            SightlineError: What the service says to it.
        """
        return await self._do(lambda states: states.acknowledge(line_id, alarm_id, person, note, self._timeout_s))

    async def begin_reference_check(self, line_id: str, person: str) -> Json:
        """Begin a check with reference parts in a person's name.

        Raises:
            NoOutcomeServiceError: No service is set.
            UnavailableError: It does not answer in time, or so many questions wait that this one had no turn.
            SightlineError: What the service says to it.
        """
        return await self._do(lambda states: states.begin_reference_check(line_id, person, self._timeout_s))

    async def _do(self, work: Callable[[LineStates], T]) -> T:
        states = self.require()
        if self._waiting >= _AT_ONCE * _WAITING_FOR_EACH:
            raise UnavailableError(f"at most {_AT_ONCE * _WAITING_FOR_EACH} questions may wait for the outcome service")

        def work_and_look() -> T:
            done = work(states)
            try:
                # Whoever did something sees it now, not with the next round.
                self._board.take(states.lines(self._timeout_s))
            except SightlineError as error:
                LOG.info("how the lines are after that cannot be asked now: %s", error)
            return done

        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work_and_look)
        except (BusyError, DeadlineError, EventDecodeError) as error:
            # Whoever asked did nothing wrong, and the same question may be answered later.
            raise UnavailableError(str(error)) from error
        finally:
            self._waiting -= 1


def _lasting(lines: Sequence[Json]) -> list[Json]:
    """How the lines are without what moves all the time, and is told now and then: for how long something is so."""
    return [
        line
        | {
            "connections": [one | {"oldest_waiting_ms": 0} for one in line["connections"]],
            "causes": [one | {"text": ""} for one in line["causes"]],
        }
        for line in lines
    ]
