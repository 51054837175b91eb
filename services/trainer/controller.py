"""Begins runs, keeps one an alias going, and takes up what another life left.

One thread looks, every second while there is something to do: at runs on record that nobody moves on, and at whether
one is due. Each run has a thread of its own. A lease an alias keeps two trainers from the same run; a run that is asked
for is put on record and begun by whoever holds the alias.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from services.adapters.aliaslease import AliasLease
from services.core.errors import ExistsError, InvalidInputError, PreconditionError, SightlineError
from services.core.manifest import validate_alias
from services.core.review import MAX_NOTE_LENGTH, validate_reviewer
from services.core.training_run import (
    TRAINER,
    Loss,
    Recipe,
    RunOutcome,
    RunStage,
    RunTrigger,
    TrainingRun,
    new_run_id,
)
from services.runtime import metrics
from services.runtime.background import BackgroundThread
from services.runtime.logging import get_logger
from services.trainer.run_machine import (
    BEFORE_LIVE,
    LeaseLostError,
    RunMachine,
    Surroundings,
    resumable,
    resumed,
)

LOG = get_logger(__name__)

_LOOK_S: Final = 1.0
_IDLE_S: Final = 10.0
_RECOUNT_S: Final = 300.0
_NS_PER_S: Final = 1_000_000_000
# A run this far back is not gone on with.
_RECENT_RUNS: Final = 50
_CHANCE_BYTES: Final = 10


@dataclass(slots=True)
class _Going:
    """A run that goes on here, or has just ended."""

    machine: RunMachine
    lease: AliasLease
    thread: BackgroundThread
    wake: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class _Counted:
    """Answers since a run, as of a moment."""

    known: int
    run_id: str
    new: int


class TrainingController:
    """Thread-safe; see the module.

    Args:
        around: What runs need.
        make_lease: Gives a lease on an alias.
        look_s: Time between two looks while there is something to do.
        idle_s: While there is nothing.
    """

    def __init__(
        self,
        around: Surroundings,
        make_lease: Callable[[str], AliasLease],
        *,
        look_s: float = _LOOK_S,
        idle_s: float = _IDLE_S,
    ) -> None:
        self._around = around
        self._settings = around.settings
        self._make_lease = make_lease
        self._look_s = look_s
        self._idle_s = idle_s
        self._lock = threading.Lock()
        self._going: dict[str, _Going] = {}
        self._leases: dict[str, AliasLease] = {}
        self._counted: dict[str, _Counted] = {}
        self._began_ns = around.clock_ns()
        self._aliases: tuple[str, ...] = ()
        self._recount_s = 0.0
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = BackgroundThread("runs", self._run)

    # ---- life

    def start(self) -> None:
        """Begin, with the runs that another life left."""
        metrics.TRAINER_DEPENDENCY_UP.labels("record").set(1)
        self._thread.start()

    def wake(self) -> None:
        """Something may have to be done: look soon."""
        self._wake.set()

    def check(self) -> None:
        """Raise what ended a thread, if anything did."""
        self._thread.check()

    def close(self, timeout_s: float = 10.0) -> None:
        """Leave every run where it is on record, for the next process; idempotent."""
        self._stop.set()
        self._wake.set()
        end_s = time.monotonic() + timeout_s
        self._thread.join(timeout_s)
        for going in list(self._going.values()):
            going.wake.set()
            if not going.thread.join(max(0.1, end_s - time.monotonic())):
                LOG.warning("a run did not stop within %s s; it goes on from its last checkpoint", timeout_s)

    def _run(self) -> None:
        while not self._stop.is_set():
            busy = False
            try:
                busy = self.look()
                self._around.health.release("training record")
                metrics.TRAINER_DEPENDENCY_UP.labels("record").set(1)
            except SightlineError as error:
                if not error.retriable:
                    raise
                self._around.health.hold("training record", str(error))
                metrics.TRAINER_DEPENDENCY_UP.labels("record").set(0)
            self._wake.wait(self._look_s if busy else self._idle_s)
            self._wake.clear()

    # ---- looking

    def look(self) -> bool:
        """Look once at every alias.

        Returns:
            Whether a run goes on here.

        Raises:
            UnavailableError: While the record or the broker is away.
        """
        if time.monotonic() >= self._recount_s:
            # What was said in an earlier life. Later ones come through the topic, of which another replica may read
            # some partitions.
            self._around.answers.refresh()
            self._recount_s = time.monotonic() + _RECOUNT_S
        self._reap()
        self._renew()
        states = self._around.models.states()
        self._aliases = tuple(sorted(alias for alias, state in states.items() if state.live_version))
        for alias in sorted(states):
            if alias not in self._going and not self._stop.is_set():
                self._look_at_one(alias, bool(states[alias].live_version))
        for alias, going in self._going.items():
            self._tell_stage(alias, going.machine.run.stage)
        return bool(self._going)

    def _reap(self) -> None:
        for alias, going in list(self._going.items()):
            if not going.thread.alive:
                going.thread.check()
                del self._going[alias]
                self._tell_stage(alias, None)

    def _renew(self) -> None:
        """Keep what is held, also while a run is busy for longer than its lease."""
        for going in self._going.values():
            # Whether it is lost the run finds out before it writes.
            with contextlib.suppress(SightlineError):
                going.lease.renew()

    def _look_at_one(self, alias: str, is_live: bool) -> None:
        try:
            self._look_at(alias, is_live)
        except SightlineError as error:
            if error.retriable:
                raise
            # One that has a name that nothing can be kept under keeps nobody from the others.
            LOG.warning("an alias is passed over: %s: %s", alias, error, extra={"reason": error.reason})

    def _look_at(self, alias: str, is_live: bool) -> None:
        recent = self._recent(alias)
        waiting = [run for run in recent if not run.has_ended]
        if not waiting and is_live and (trigger := self._due(alias, recent)) is not None:
            with self._lock:
                # Somebody may have asked for one meanwhile.
                if any(not run.has_ended for run in self._recent(alias)):
                    return
                if not self._lease(alias).acquire():
                    return
                waiting = [self._put_new(alias, trigger, TRAINER, "", self._settings.recipe, self._settings.loss)]
        if waiting and self._lease(alias).acquire():
            self._go_on(alias)

    def _recent(self, alias: str) -> list[TrainingRun]:
        """The newest runs on record, the newest first."""
        return self._around.book.page(alias=alias, author="", limit=_RECENT_RUNS, token="")[0]

    def _go_on(self, alias: str) -> None:
        # Read after the lease was taken: its last holder may have written until then.
        waiting = [run for run in self._recent(alias) if not run.has_ended]
        if not waiting:
            return
        first, *others = sorted(waiting, key=lambda run: (run.stage is RunStage.WAITING, run.run_id))
        for other in others:
            # Two were asked for at once in different places; whoever comes second is told so.
            self._end_second(other, first)
        self._begin(first)

    def _end_second(self, run: TrainingRun, first: TrainingRun) -> None:
        now_ns = self._around.clock_ns()
        self._around.book.record.put(
            replace(
                run,
                stage=RunStage.ENDED,
                stage_since_ns=now_ns,
                ended_at_ns=now_ns,
                outcome=RunOutcome.CANCELLED,
                reason="exists",
                detail=f"{run.alias} has run {first.run_id}",
            )
        )

    def _lease(self, alias: str) -> AliasLease:
        if alias not in self._leases:
            self._leases[alias] = self._make_lease(alias)
        return self._leases[alias]

    def _begin(self, run: TrainingRun) -> None:
        lease = self._lease(run.alias)
        machine = RunMachine(run, self._around, lease, self._stop.is_set)
        wake = threading.Event()
        thread = BackgroundThread(f"run of {run.alias}", lambda: self._drive(machine, lease, wake))
        self._going[run.alias] = _Going(machine, lease, thread, wake)
        self._around.book.show(run)
        LOG.info("run %s of %s goes on: %s", run.run_id, run.alias, run.stage.value, extra={"run_id": run.run_id})
        thread.start()

    def _drive(self, machine: RunMachine, lease: AliasLease, wake: threading.Event) -> None:
        try:
            while not machine.done and not self._stop.is_set():
                pause_s = machine.step()
                if wake.wait(pause_s):
                    wake.clear()
                    machine.look_at_wishes()
        except LeaseLostError:
            LOG.warning("another trainer has %s; its run goes on there", machine.run.alias)
        finally:
            machine.close()
            self._around.book.let_go(machine.run.run_id)
            # Whatever does not work now is made up for by waiting.
            with contextlib.suppress(SightlineError):
                lease.release()
            self._wake.set()

    # ---- when one is due

    def _due(self, alias: str, recent: list[TrainingRun]) -> RunTrigger | None:
        triggers = self._settings.triggers
        last_ns = recent[0].requested_at_ns if recent else 0
        since_s = (self._around.clock_ns() - last_ns) / _NS_PER_S
        new = self._count(alias, recent[0].run_id if recent else "")
        metrics.TRAINER_NEW_REVIEWS.labels(alias).set(new)
        if not new or since_s < triggers.min_interval_s:
            return None
        if triggers.after_reviews and new >= triggers.after_reviews:
            return RunTrigger.REVIEWS
        first_ns = last_ns or self._began_ns
        is_time = (self._around.clock_ns() - first_ns) / _NS_PER_S >= triggers.every_s
        return RunTrigger.SCHEDULE if triggers.every_s and is_time else None

    def _count(self, alias: str, last_run: str) -> int:
        """Answers since the last run; counted anew only where one came, or there was a run."""
        known = self._around.answers.size
        counted = self._counted.get(alias)
        if counted is None or (counted.known, counted.run_id) != (known, last_run):
            learnt = self._around.book.record.learnt(alias)
            counted = _Counted(known, last_run, self._around.answers.changed(alias, learnt))
            self._counted[alias] = counted
        return counted.new

    def new_reviews(self, alias: str) -> int:
        """Answers that came or were taken back since the alias' last run.

        Raises:
            UnavailableError: While the record is away.
        """
        return self._around.answers.changed(alias, self._around.book.record.learnt(alias))

    def aliases(self) -> tuple[str, ...]:
        """Every alias with a live version, as of the last look."""
        return self._aliases

    def _tell_stage(self, alias: str, stage: RunStage | None) -> None:
        for one in RunStage:
            metrics.TRAINER_STAGE.labels(alias, one.value).set(1 if one is stage else 0)

    # ---- asked for

    def start_run(
        self, alias: str, actor: str, note: str = "", recipe: Recipe | None = None, loss: Loss | None = None
    ) -> TrainingRun:
        """Put a run on record that begins as soon as whoever holds the alias sees it.

        Args:
            alias: Of which alias.
            actor: Who asks.
            note: Why.
            recipe: What learns; None takes the setting.
            loss: By what; None takes the setting.

        Raises:
            InvalidInputError: For what breaks a rule.
            NotFoundError: If there is no such alias.
            ExistsError: While the alias has a run.
            UnavailableError: While the record or the broker is away.
        """
        validate_alias(alias)
        validate_reviewer(actor)
        if len(note) > MAX_NOTE_LENGTH:
            raise InvalidInputError(f"note must have at most {MAX_NOTE_LENGTH} characters, got {len(note)}")
        self._around.models.state(alias)
        with self._lock:
            self._check_none(alias)
            run = self._put_new(
                alias,
                RunTrigger.HAND,
                actor,
                note,
                recipe or self._settings.recipe,
                loss or self._settings.loss,
            )
        self.wake()
        return run

    def _check_none(self, alias: str) -> None:
        for run in self._recent(alias):
            if not run.has_ended:
                raise ExistsError(f"an alias has one run at a time, {alias} has {run.run_id} at {run.stage.value}")

    def _put_new(
        self, alias: str, trigger: RunTrigger, actor: str, note: str, recipe: Recipe, loss: Loss
    ) -> TrainingRun:
        now_ns = self._around.clock_ns()
        run = TrainingRun(
            run_id=new_run_id(now_ns, os.urandom(_CHANCE_BYTES)),
            alias=alias,
            trigger=trigger,
            actor=actor,
            requested_at_ns=now_ns,
            recipe=recipe,
            loss=loss,
            seed=self._settings.learning.seed,
            promotes_itself=self._settings.promote_itself,
            note=note,
            stage_since_ns=now_ns,
        )
        self._around.book.record.put(run)
        LOG.info("run %s of %s is asked for by %s", run.run_id, alias, actor, extra={"run_id": run.run_id})
        return run

    def cancel_run(self, run_id: str, actor: str) -> TrainingRun:
        """Note that a run is to end before its version is live; whoever moves it on ends it.

        Raises:
            InvalidInputError: For what breaks a rule.
            NotFoundError: If it is not on record.
            PreconditionError: Once its version is live.
            UnavailableError: While the record is away.
        """
        validate_reviewer(actor)
        run = self._around.book.get(run_id)
        if run.has_ended:
            return run
        if run.stage not in BEFORE_LIVE:
            raise PreconditionError(
                f"a run is cancelled before its version is live, version {run.candidate_version} is: roll back instead"
            )
        self._around.book.record.wish_end(run_id, actor)
        going = self._going.get(run.alias)
        if going is not None:
            going.wake.set()
        self.wake()
        return run

    def resume_run(self, run_id: str, actor: str) -> TrainingRun:
        """Let a run that failed or was cancelled go on where it was, with its own data.

        Raises:
            InvalidInputError: For what breaks a rule.
            NotFoundError: If it is not on record.
            ExistsError: While the alias has another run.
            PreconditionError: If it cannot be resumed.
            UnavailableError: While the record is away.
        """
        validate_reviewer(actor)
        run = self._around.book.get(run_id)
        with self._lock:
            self._check_none(run.alias)
            if not resumable(run):
                how = run.outcome.value if run.outcome else "none"
                raise PreconditionError(
                    f"only a run that failed, or was cancelled while it trained, can be resumed, got outcome {how} "
                    f"({run.reason or 'no reason'})"
                )
            if run.run_id not in {one.run_id for one in self._recent(run.alias)}:
                raise PreconditionError(f"only one of the last {_RECENT_RUNS} runs can be resumed, got {run_id}")
            self._around.book.record.forget_wish(run_id)
            going_on = resumed(run, self._around.clock_ns())
            self._around.book.record.put(going_on)
        LOG.info("run %s of %s is resumed by %s", run_id, run.alias, actor, extra={"run_id": run_id})
        self.wake()
        return going_on
