"""The dashboard's side of training: asks the trainer for the routes, and follows a run while somebody watches it.

The trainer decides everything; nothing here holds a run but for those that have ended, which are asked about again with
every look for news.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol, TypeVar

from services.adapters.trainerclient import RunPage
from services.core.errors import BusyError, DeadlineError, EventDecodeError, SightlineError, UnavailableError
from services.core.training_run import RunOutcome, TrainingRun
from services.core.types import AliasState
from services.dashboard.reviewing import Recent
from services.dashboard.views import Json, encode, error_json
from services.dashboard.views_training import notice_json, run_json
from services.runtime.logging import get_logger

LOG = get_logger(__name__)

T = TypeVar("T")

_WAITING_FOR_EACH: Final = 8
# A run waits hours for an engineer; what lies between here and the browser closes a connection that says nothing.
_WATCH_S: Final = 900.0
_QUIET_S: Final = 10.0
_TICK_S: Final = 0.5
_RETRY_MS: Final = 2_000
# Somebody's latest runs; what is older was seen or is of no interest.
_NOTICED_RUNS: Final = 10
_NOTICES: Final = 2_000


class NoTrainerError(SightlineError):
    """No trainer is set, so nothing can be trained from here."""

    reason = "no_trainer"


class RunChanges(Protocol):
    """A run as it is now and after every change."""

    def __iter__(self) -> Iterator[TrainingRun]:
        """Wait for each."""
        ...

    def cancel(self) -> None:
        """Look no longer; called from any thread."""
        ...


class TrainerService(Protocol):
    """What is needed of the trainer; see ``services.adapters.trainerclient``."""

    def start_run(
        self,
        alias: str,
        actor: str,
        *,
        note: str = "",
        recipe: str = "",
        loss: str = "",
        timeout_s: float = 10.0,
    ) -> TrainingRun:
        """Ask for a run; an empty recipe or loss takes the trainer's setting."""
        ...

    def watch_run(self, run_id: str, timeout_s: float | None = None) -> RunChanges:
        """Follow a run."""
        ...

    def list_runs(
        self, *, alias: str = "", author: str = "", limit: int = 0, token: str = "", timeout_s: float = 10.0
    ) -> RunPage:
        """One page of runs, the newest first, without the parts of their reports."""
        ...

    def get_run(self, run_id: str, timeout_s: float = 10.0) -> TrainingRun:
        """One run whole."""
        ...

    def cancel_run(self, run_id: str, actor: str, timeout_s: float = 10.0) -> TrainingRun:
        """End a run before its version is live."""
        ...

    def resume_run(self, run_id: str, actor: str, timeout_s: float = 10.0) -> TrainingRun:
        """Go on with a run that failed or was cancelled while it trained."""
        ...

    def promote(
        self,
        alias: str,
        version: int,
        actor: str,
        *,
        note: str = "",
        despite_gates: bool = False,
        timeout_s: float = 30.0,
    ) -> AliasState:
        """Make a version live."""
        ...

    def roll_back(self, alias: str, actor: str, *, note: str = "", timeout_s: float = 30.0) -> AliasState:
        """Make the previous version live again."""
        ...


class Training:
    """Asks the trainer on threads of its own. What is awaited is used from the event loop only."""

    def __init__(
        self, trainer: TrainerService | None, *, timeout_s: float, max_at_once: int, max_watchers: int
    ) -> None:
        """Set up.

        Args:
            trainer: The service; None where none is set.
            timeout_s: Longest wait for an answer, and before that for a thread.
            max_at_once: Questions at the same time; some more may wait for their turn.
            max_watchers: Browsers that may follow a run at the same time.
        """
        self._trainer = trainer
        self.timeout_s = timeout_s
        self._max_waiting = max_at_once * _WAITING_FOR_EACH
        self._waiting = 0
        self._free = asyncio.Semaphore(max_at_once)
        self._pool = ThreadPoolExecutor(max_at_once, thread_name_prefix="trainer")
        self._max_watchers = max_watchers
        self._watchers = 0
        # Whoever watches occupies a thread while nothing changes.
        self._watching = ThreadPoolExecutor(max_watchers, thread_name_prefix="run")
        self._notices: Recent[tuple[Json | None]] = Recent(_NOTICES)

    @property
    def is_offered(self) -> bool:
        """Whether a trainer is set at all."""
        return self._trainer is not None

    def require(self) -> TrainerService:
        """The service; raises ``NoTrainerError`` where none is set."""
        if self._trainer is None:
            raise NoTrainerError("trainer.address must be set for training, it is empty")
        return self._trainer

    def close(self) -> None:
        """Let go of the threads; questions that are asked end with their deadline."""
        for pool in (self._pool, self._watching):
            pool.shutdown(wait=False, cancel_futures=True)

    async def ask(self, question: Callable[[TrainerService], T]) -> T:
        """Ask on a thread.

        Args:
            question: Asks the service; may wait for it.

        Raises:
            NoTrainerError: No service is set.
            UnavailableError: It does not answer in time, or so many questions wait that this one had no turn.
            SightlineError: What the service says to it.
        """
        trainer = self.require()
        await self._turn()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, question, trainer)
        except (BusyError, DeadlineError, EventDecodeError) as error:
            # Whoever asked did nothing wrong, and the same question may be answered later.
            raise UnavailableError(str(error)) from error
        finally:
            self._free.release()

    async def _turn(self) -> None:
        if self._waiting >= self._max_waiting:
            raise UnavailableError(f"at most {self._max_waiting} questions may wait for the trainer, got more")
        self._waiting += 1
        try:
            async with asyncio.timeout(self.timeout_s):
                await self._free.acquire()
        except TimeoutError:
            raise UnavailableError(f"the trainer must have a turn within {self.timeout_s} s, got none") from None
        finally:
            self._waiting -= 1

    def notices(self, trainer: TrainerService, author: str) -> list[Json]:
        """What somebody should know of their latest runs, the newest first; may wait for the service.

        Args:
            trainer: Asked.
            author: Whose answers the runs carry.

        Raises:
            SightlineError: What the service says.
        """
        page = trainer.list_runs(author=author, limit=_NOTICED_RUNS, timeout_s=self.timeout_s)
        found = [self._notice(trainer, run, author) for run in page.runs if _may_be_news(run)]
        return [one for one in found if one is not None]

    def _notice(self, trainer: TrainerService, listed: TrainingRun, author: str) -> Json | None:
        # What has ended so may still end otherwise: a version that was live is rolled back.
        key = f"{listed.run_id} {listed.ended_at_ns} {author}"
        known = self._notices.get(key)
        if known is None:
            known = (notice_json(trainer.get_run(listed.run_id, timeout_s=self.timeout_s), author),)
            self._notices.put(key, known)
        return known[0]

    async def events(self, run_id: str, is_leaving: Callable[[], bool]) -> AsyncGenerator[bytes, None]:
        """Yield ``run`` with the run as it is and after every change, and at last ``end``, ``bye`` or ``failed``.

        Args:
            run_id: Which.
            is_leaving: Whether the service drains: a browser that is told ``bye`` comes back by itself.
        """
        yield f"retry: {_RETRY_MS}\n\n".encode()
        until_s = time.monotonic() + _WATCH_S
        said_s = time.monotonic()
        try:
            async with contextlib.aclosing(self._changes(run_id)) as changes:
                async for run in changes:
                    if run is not None or time.monotonic() - said_s > _QUIET_S:
                        yield b": still here\n\n" if run is None else _event("run", run_json(run))
                        said_s = time.monotonic()
                    if is_leaving() or time.monotonic() > until_s:
                        yield _event("bye", {})
                        return
        except SightlineError as error:
            LOG.info("a run cannot be followed now: %s", error, extra={"run_id": run_id})
            away = error.retriable and not isinstance(error, BusyError)
            yield _event("failed", error_json("unavailable" if away else error.reason, str(error)))
        else:
            yield _event("end", {})

    async def _changes(self, run_id: str) -> AsyncGenerator[TrainingRun | None, None]:
        """The run after each change, and None now and then while there is none."""
        trainer = self.require()
        if self._watchers >= self._max_watchers:
            raise BusyError(f"at most {self._max_watchers} browsers may follow a run at once, got one more")
        self._watchers += 1
        stream: RunChanges | None = None
        try:
            stream = trainer.watch_run(run_id, timeout_s=2 * _WATCH_S)
            steps = iter(stream)
            loop = asyncio.get_running_loop()
            while True:
                waiting = loop.run_in_executor(self._watching, _next_of, steps)
                while not (await asyncio.wait({waiting}, timeout=_TICK_S))[0]:
                    yield None
                run = await waiting
                if run is None:
                    return
                yield run
        finally:
            if stream is not None:
                stream.cancel()
            self._watchers -= 1


def _next_of(steps: Iterator[TrainingRun]) -> TrainingRun | None:
    # Its own end cannot come out of a thread.
    return next(steps, None)


def _may_be_news(run: TrainingRun) -> bool:
    return run.has_ended and run.outcome in (RunOutcome.REFUSED, RunOutcome.PROMOTED)


def _event(name: str, body: Json) -> bytes:
    return f"event: {name}\ndata: ".encode() + encode(body) + b"\n\n"
