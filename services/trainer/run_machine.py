"""Moves one run through its stages.

Every change of a run is on record before it takes effect, and every effect can be found out again: the data set lies
under its digest, a version under its number, and what an alias points to is in its state. So a run whose trainer was
killed goes on at the stage it was in, and does nothing twice. What is away is waited for; what cannot be done ends the
run with the reason.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from services.adapters.aliaslease import AliasLease
from services.adapters.modelfolder import renumber_version, verify_version
from services.adapters.modelstore import ModelStore
from services.adapters.ports import TopicReader
from services.adapters.servingclient import ServingAgents
from services.core import alias as transitions
from services.core.errors import ConflictError, NotFoundError, SightlineError, StoreFullError
from services.core.rollout import shadow_objection, watch_objection
from services.core.selection.snapshot import Snapshot
from services.core.training_run import TRAINER, RunOutcome, RunStage, TrainingRun, WatchFigures
from services.core.types import AliasAction, AliasState
from services.runtime import metrics
from services.runtime.lifecycle import Health
from services.runtime.logging import get_logger
from services.runtime.retry import Backoff
from services.trainer.answers import AnswerBook, summary_of
from services.trainer.learner import CancelledLessonError, Learner, Lesson, LessonProgress
from services.trainer.line_figures import ShadowCount, WatchCount
from services.trainer.livemodels import LiveModels
from services.trainer.runbook import RunBook
from services.trainer.settings import TrainerSettings

LOG = get_logger(__name__)

#: Stages in which nothing of a run decides yet.
BEFORE_LIVE: Final = frozenset(RunStage) - {RunStage.WATCH, RunStage.ENDED}
#: A run that ended with these has data, or none yet, and may go on; see :func:`resumable`.
_RESUMABLE: Final = frozenset({RunOutcome.FAILED, RunOutcome.CANCELLED})
#: Reasons for which going on would find the same again.
_FINAL_REASONS: Final = frozenset({"nothing_to_learn", "no_live_version", "exists", "retired"})
_LOOK_S: Final = 1.0
_KEEP_S: Final = 5.0
_CONFLICTS: Final = 10
# A Triton that is started anew brings a version up in this time; until then a failure may pass.
_FAILED_FOR_S: Final = 15.0
_NS_PER_S: Final = 1_000_000_000


class LeaseLostError(Exception):
    """Another trainer has the alias."""


class _StoppedError(Exception):
    """The service stops, or the lease is gone; the run stays as it is on record."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What runs need.

    Attributes:
        book: Where runs are kept.
        answers: What people said.
        models: Which version decides.
        store: Model versions.
        learner: Makes candidates.
        agents: Say whether a candidate came up.
        open_reader: Gives a reader of topics.
        settings: The service's.
        health: Told what is waited for.
        learning_turn: One at a time learns.
        clock_ns: Wall clock.
        backoff: Gives the waits while something is away.
        poll_s: Longest wait for live frames in one step.
    """

    book: RunBook
    answers: AnswerBook
    models: LiveModels
    store: ModelStore
    learner: Learner
    agents: ServingAgents
    open_reader: Callable[[Sequence[str]], TopicReader]
    settings: TrainerSettings
    health: Health
    learning_turn: threading.Lock
    clock_ns: Callable[[], int] = time.time_ns
    backoff: Callable[[], Backoff] = lambda: Backoff(first_s=0.5, cap_s=15.0)
    poll_s: float = 0.2


class RunMachine:
    """One run; see the module. Used from one thread.

    Args:
        run: As it is on record.
        around: What it needs.
        lease: Held on its alias.
        stopping: Asked again and again; True leaves the run as it is on record.
    """

    def __init__(self, run: TrainingRun, around: Surroundings, lease: AliasLease, stopping: Callable[[], bool]) -> None:
        self.run = run
        self._around = around
        self._settings = around.settings
        self._lease = lease
        self._stopping = stopping
        self._backoff = around.backoff()
        self._ending: TrainingRun | None = None
        self._snapshot: Snapshot | None = None
        self._shadow: ShadowCount | None = None
        self._watch: WatchCount | None = None
        self._failed_since_s: float | None = None
        self._conflicts = 0
        self._kept_s = time.monotonic()
        self._wish_seen_s = 0.0
        self._wished_by = ""
        self._steps: dict[RunStage, Callable[[], float]] = {
            RunStage.WAITING: self._begin,
            RunStage.SNAPSHOT: self._take_snapshot,
            RunStage.TRAINING: self._learn,
            RunStage.EVALUATION: self._learn,
            RunStage.REGISTERING: self._register,
            RunStage.SHADOW: self._score_in_shadow,
            RunStage.DECISION: self._decide,
            RunStage.WATCH: self._look_after,
        }

    @property
    def done(self) -> bool:
        """Whether the run has ended and is on record so."""
        return self.run.has_ended and self._ending is None

    def close(self) -> None:
        """Let go of what is read; the run stays as it is on record. Idempotent."""
        for count in (self._shadow, self._watch):
            if count is not None:
                count.close()
        self._shadow = self._watch = None
        self._around.health.release(self._condition)

    # ---- one step

    def step(self) -> float:
        """Do one piece of work.

        Returns:
            Seconds until the next one; 0 once the run is done.

        Raises:
            LeaseLostError: When another trainer has the alias.
        """
        try:
            pause_s = self._step()
        except _StoppedError:
            return 0.0
        except SightlineError as error:
            return self._after(error)
        except LeaseLostError:
            raise
        except Exception as error:
            # A run that stumbles over a fault of ours must not end the service.
            LOG.exception("a run ended by a fault")
            return self._fail("internal", f"{type(error).__name__}: {error}")
        self._backoff.reset()
        self._conflicts = 0
        self._around.health.release(self._condition)
        return pause_s

    def _after(self, error: SightlineError) -> float:
        """What becomes of the run after an error."""
        if isinstance(error, ConflictError):
            return self._look_again(error)
        if isinstance(error, StoreFullError):
            if self._ending is None:
                self._fail(error.reason, f"nothing can be written: {error}")
            if self._ending is not None:
                # People are told at once; the record follows when it can be written.
                self._around.book.show(self._ending)
            return self._wait_for(error)
        if error.retriable:
            return self._wait_for(error)
        LOG.warning("a run cannot be done: %s", error, extra={"reason": error.reason, "run_id": self.run.run_id})
        return self._fail(error.reason, str(error))

    def _step(self) -> float:
        self._check_lease()
        if self._ending is not None:
            return self._finish()
        if self.run.stage in BEFORE_LIVE and self._wish():
            return self._cancel(f"by {self._wished_by}")
        return self._steps[self.run.stage]()

    @property
    def _condition(self) -> str:
        return f"run of {self.run.alias}"

    def _wait_for(self, error: SightlineError) -> float:
        self._around.health.hold(self._condition, str(error))
        if self._ending is None:
            self._around.book.show(replace(self.run, doing=f"waits: {error}"[:300]))
        return self._backoff.next_s()

    def _look_again(self, error: ConflictError) -> float:
        """Somebody else changed the alias or the store meanwhile: each stage begins by looking at what is."""
        self._conflicts += 1
        LOG.info("a run looks again: %s", error, extra={"run_id": self.run.run_id})
        if self._conflicts >= _CONFLICTS:
            return self._fail(error.reason, str(error))
        return self._backoff.next_s()

    # ---- its changes

    def _to(self, stage: RunStage, **changes: object) -> float:
        now_ns = self._around.clock_ns()
        since_s = (now_ns - self.run.stage_since_ns) / _NS_PER_S
        left = self.run.stage
        self._keep(
            replace(self.run, **{"stage": stage, "stage_since_ns": now_ns, "share": 0.0, "doing": "", **changes})  # type: ignore[arg-type]
        )
        metrics.TRAINER_STAGE_SECONDS.labels(left.value).observe(max(0.0, since_s))
        LOG.info("run %s of %s: %s", self.run.run_id, self.run.alias, stage.value, extra={"run_id": self.run.run_id})
        return 0.0

    def _keep(self, run: TrainingRun) -> None:
        self._check_lease()
        self._around.book.keep(run)
        self.run = run
        self._kept_s = time.monotonic()

    def _show(self, **changes: object) -> None:
        """Tell how far it is; kept every few seconds only."""
        self.run = replace(self.run, **changes)  # type: ignore[arg-type]
        self._around.book.show(self.run)
        if time.monotonic() - self._kept_s >= _KEEP_S:
            self._keep(self.run)

    def _check_lease(self) -> None:
        if not self._lease.renew():
            raise LeaseLostError(self.run.alias)

    def _end(self, outcome: RunOutcome, reason: str = "", detail: str = "", **changes: object) -> float:
        now_ns = self._around.clock_ns()
        self._ending = replace(
            self.run,
            **{  # type: ignore[arg-type]  # the callers name fields of the class
                "stage": RunStage.ENDED,
                "stage_since_ns": now_ns,
                "ended_at_ns": now_ns,
                "outcome": outcome,
                "reason": reason,
                "detail": detail,
                "share": 1.0,
                "doing": "",
                **changes,
            },
        )
        return 0.0

    def _finish(self) -> float:
        ended = self._ending
        if ended is None:
            return 0.0
        if self.run.stage in BEFORE_LIVE:
            self._leave_shadow()
        self._keep(ended)
        self._ending = None
        self.close()
        if not resumable(ended):
            shutil.rmtree(self._folder, ignore_errors=True)
        outcome = ended.outcome.value if ended.outcome else ""
        metrics.TRAINER_RUNS.labels(outcome).inc()
        LOG.info(
            "run %s of %s ended: %s %s",
            *(ended.run_id, ended.alias, outcome, ended.detail or ended.reason),
            extra={"run_id": ended.run_id, "outcome": outcome, "reason": ended.reason},
        )
        return 0.0

    def _fail(self, reason: str, detail: str) -> float:
        return self._end(RunOutcome.FAILED, reason, detail[:2_000])

    def _cancel(self, detail: str, reason: str = "cancelled") -> float:
        return self._end(RunOutcome.CANCELLED, reason, detail)

    def _wish(self) -> str:
        """Who wants it to end; looked at every second."""
        if not self._wished_by and time.monotonic() - self._wish_seen_s >= _LOOK_S:
            self._wish_seen_s = time.monotonic()
            self._wished_by = self._around.book.record.end_wished_by(self.run.run_id)
        return self._wished_by

    def look_at_wishes(self) -> None:
        """Somebody may want it to end: look at once."""
        self._wish_seen_s = 0.0

    # ---- what to learn from

    def _begin(self) -> float:
        state = self._around.models.state(self.run.alias)
        if not state.live_version:
            return self._fail("no_live_version", f"{self.run.alias} has no live version to learn on from")
        return self._to(RunStage.SNAPSHOT, live_version=state.live_version)

    def _take_snapshot(self) -> float:
        run, around = self.run, self._around
        self._show(doing="reads what people said")
        self._forget_older_folders()
        held_out = around.learner.held_out(run.alias, run.live_version)
        snapshot = around.answers.snapshot(run.alias, held_out)
        around.book.record.put_snapshot(snapshot.digest, snapshot.to_json())
        around.book.record.put_learnt(run.alias, around.answers.standing(run.alias))
        summary = summary_of(snapshot)
        authors = around.answers.reviewers(one for item in snapshot.items for one in item.review_ids)
        run = replace(run, snapshot=summary, authors=authors)
        if not snapshot.items:
            self.run = run
            return self._fail("nothing_to_learn", f"no answer about {run.alias} can be learnt from")
        same = self._same_as_before(run)
        if same is not None:
            self.run = run
            return self._fail("nothing_to_learn", f"nothing is new since run {same.run_id}")
        self._snapshot = snapshot
        return self._to(RunStage.TRAINING, snapshot=summary, authors=authors)

    def _same_as_before(self, run: TrainingRun) -> TrainingRun | None:
        """The last run with a report, where it learnt from the same in the same way."""
        for other in self._around.book.record.newest(run.alias):
            if other.run_id != run.run_id and other.report is not None and other.snapshot is not None:
                same = (other.snapshot.digest, other.recipe, other.loss, other.seed)
                mine = (run.snapshot.digest if run.snapshot else "", run.recipe, run.loss, run.seed)
                return other if same == mine else None
        return None

    # ---- learning

    @property
    def _folder(self) -> Path:
        return self._settings.work / "runs" / self.run.alias / self.run.run_id

    def _forget_older_folders(self) -> None:
        folder = self._folder.parent
        for other in folder.iterdir() if folder.is_dir() else ():
            if other.name != self.run.run_id:
                shutil.rmtree(other, ignore_errors=True)

    def _learn(self) -> float:
        if not self._around.learning_turn.acquire(timeout=_LOOK_S):
            self._show(doing="waits for the run of another alias")
            return 0.0
        try:
            return self._learn_now()
        finally:
            self._around.learning_turn.release()

    def _learn_now(self) -> float:
        run, around = self.run, self._around
        if self._snapshot is None:
            digest = run.snapshot.digest if run.snapshot else ""
            self._snapshot = Snapshot.from_json(around.book.record.snapshot(digest))
        self._folder.mkdir(parents=True, exist_ok=True)
        lesson = Lesson(
            folder=self._folder,
            alias=run.alias,
            version=self._wanted_number(),
            live_version=run.live_version,
            snapshot=self._snapshot,
            recipe=run.recipe,
            loss=run.loss,
            seed=run.seed,
        )
        self._keep(replace(run, attempts=run.attempts + 1))
        try:
            report = around.learner.learn(lesson, self._progress, self._learning_is_over)
        except CancelledLessonError:
            if self._wished_by:
                return self._cancel(f"by {self._wished_by}")
            self._check_lease()
            raise _StoppedError from None
        except SightlineError:
            if self._stopping():
                # Whoever ended the service ended its child too.
                raise _StoppedError from None
            raise
        return self._to(RunStage.REGISTERING, report=around.answers.with_people(report))

    def _progress(self, progress: LessonProgress) -> None:
        stage = RunStage.EVALUATION if progress.evaluating else RunStage.TRAINING
        snapshot = self.run.snapshot
        if progress.left_out and snapshot is not None:
            left_out = {**dict(snapshot.left_out), **dict(progress.left_out)}
            snapshot = replace(snapshot, left_out=tuple(sorted(left_out.items())))
        share = min(1.0, max(0.0, progress.share))
        try:
            if stage is not self.run.stage:
                self._to(stage)
            self._show(share=share, doing=progress.doing, epochs=progress.epochs or self.run.epochs, snapshot=snapshot)
        except SightlineError as error:
            # The record of how far it is can wait; the training need not.
            if not error.retriable:
                raise

    def _learning_is_over(self) -> bool:
        if self._stopping():
            return True
        try:
            return bool(self._wish()) or not self._lease.renew()
        except SightlineError as error:
            if not error.retriable:
                raise
            return False

    def _wanted_number(self) -> int:
        """A number for the candidate; the same for each try, since what was learnt so far is of that number."""
        note = self._folder / "number"
        said = note.read_text() if note.is_file() else ""
        if said.isdecimal():
            return int(said)
        number = self._next_number()
        note.write_text(str(number))
        return number

    def _next_number(self) -> int:
        alias = self.run.alias
        state = self._around.models.state(alias)
        return 1 + max((0, *self._around.store.versions(alias), *transitions.known_versions(state)))

    # ---- storing it

    def _register(self) -> float:
        run, around = self.run, self._around
        if run.report is None:
            return self._to(RunStage.TRAINING)
        made = around.learner.candidate(self._folder)
        if not made.is_dir():
            # Another machine made it, or its disk is gone: the same is learnt again.
            LOG.warning("the candidate of run %s is not on this machine and is made anew", run.run_id)
            return self._to(RunStage.TRAINING, report=None, candidate_version=0)
        manifest = verify_version(made)
        if not run.candidate_version:
            state = around.models.state(run.alias)
            taken = {*around.store.versions(run.alias), *transitions.known_versions(state)}
            number = self._next_number() if manifest.version in taken else manifest.version
            self._keep(replace(run, candidate_version=number, doing=f"stores version {number}"))
        number = self.run.candidate_version
        if manifest.version != number:
            made_anew = self._folder / f"version-{number}"
            renumber_version(made, made_anew, number)
            made = made_anew
        try:
            around.store.upload(made)
        except ConflictError:
            # Somebody stored another version of that number meanwhile.
            self._keep(replace(self.run, candidate_version=0))
            raise
        broken = run.report.promotion.broken
        if broken:
            names = ", ".join(gate.name.value for gate in broken)
            for gate in broken:
                metrics.TRAINER_GATE_FAILURES.labels(run.alias, gate.name.value).inc()
            return self._end(RunOutcome.REFUSED, broken[0].name.value, f"gates that are broken: {names}")
        self._add_to_alias(number)
        return self._to(RunStage.SHADOW if self._settings.in_shadow.on else RunStage.DECISION)

    def _add_to_alias(self, number: int) -> None:
        if number in transitions.known_versions(self._around.models.state(self.run.alias)):
            return
        note = self._note("made of")
        self._change(lambda now: transitions.add(now, number, actor=TRAINER, at_ns=self._around.clock_ns(), note=note))

    def _note(self, what: str) -> str:
        run = self.run
        reviews = run.snapshot.reviews if run.snapshot else 0
        return f"{what} {reviews} answers of {', '.join(run.authors) or 'nobody'} (run {run.run_id})"[:1_000]

    def _change(self, transition: Callable[[AliasState], AliasState]) -> AliasState:
        self._check_lease()
        return self._around.models.change(self.run.alias, transition)

    # ---- beside the live version

    def _score_in_shadow(self) -> float:
        run = self.run
        state = self._around.models.state(run.alias)
        gone = self._gone(state)
        if gone is not None:
            return gone
        number = run.candidate_version
        if state.shadow_version not in (0, number):
            return self._ask_an_engineer(f"version {state.shadow_version} is in the shadow, so this one was not")
        if state.shadow_version != number:
            note = f"scores live frames without effect (run {run.run_id})"
            self._change(
                lambda now: transitions.shadow(now, number, actor=TRAINER, at_ns=self._around.clock_ns(), note=note)
            )
        count = self._opened_shadow()
        count.poll(self._around.poll_s)
        figures = count.figures
        share = min(1.0, figures.frames / figures.wanted)
        self._show(shadow=figures, share=share, doing=f"{figures.frames} of {figures.wanted} live frames")
        return self._judge_shadow(count)

    def _opened_shadow(self) -> ShadowCount:
        if self._shadow is None:
            run = self.run
            self._shadow = ShadowCount(
                self._around.open_reader(ShadowCount.SHADOW_TOPICS),
                alias=run.alias,
                live_version=run.live_version,
                candidate=run.candidate_version,
                wanted=self._settings.in_shadow.frames,
                since_ns=run.stage_since_ns,
            )
        return self._shadow

    def _judge_shadow(self, count: ShadowCount) -> float:
        figures, settings = count.figures, self._settings.in_shadow
        since_s = (self._around.clock_ns() - self.run.stage_since_ns) / _NS_PER_S
        is_over = since_s >= settings.max_s
        is_enough = figures.frames + figures.failed >= figures.wanted
        if not figures.frames:
            if is_enough:
                return self._refuse_unanswered(f"it gave no answer to {figures.failed} live frames")
            return self._judge_silence(count, is_over)
        if not (is_enough or is_over):
            return 0.0
        objection = shadow_objection(figures, settings.bounds)
        if objection is not None:
            return self._end(RunOutcome.REFUSED, "shadow", objection.detail)
        if is_enough:
            return self._to(RunStage.DECISION)
        return self._ask_an_engineer(
            f"{figures.frames} of {figures.wanted} live frames were scored in {settings.max_s:g} s"
        )

    def _judge_silence(self, count: ShadowCount, is_over: bool) -> float:
        """Say why the candidate has not scored a frame: it cannot, or there is none."""
        max_s = self._settings.in_shadow.max_s
        failures = self._failures_of_agents(is_over)
        if failures:
            return self._refuse_unanswered(f"Triton could not bring it up: {failures[0]}")
        if not is_over:
            return 0.0
        if count.live_frames or count.figures.failed:
            return self._refuse_unanswered(
                f"it answered none of the live frames in {max_s:g} s; the live version answered {count.live_frames}"
            )
        return self._ask_an_engineer(f"no live frame came in {max_s:g} s")

    def _failures_of_agents(self, is_over: bool) -> tuple[str, ...]:
        """Why agents cannot bring the candidate up, once that has lasted."""
        told = self._around.agents.brought_up(self.run.alias, self.run.candidate_version)
        now_s = time.monotonic()
        if not told.failures:
            self._failed_since_s = None
            return ()
        if self._failed_since_s is None:
            self._failed_since_s = now_s
        return told.failures if is_over or now_s - self._failed_since_s >= _FAILED_FOR_S else ()

    def _refuse_unanswered(self, detail: str) -> float:
        return self._end(RunOutcome.REFUSED, "triton_refused", detail)

    def _ask_an_engineer(self, why: str) -> float:
        """Go on to the decision; nothing goes live by itself on less than was asked for."""
        return self._to(RunStage.DECISION, promotes_itself=False, detail=why)

    def _leave_shadow(self) -> None:
        number = self.run.candidate_version
        if not number:
            return
        try:
            state = self._around.models.state(self.run.alias)
        except NotFoundError:
            # The topic began anew: nothing is in the shadow.
            return
        if state.shadow_version == number:
            self._change(
                lambda now: transitions.shadow(
                    now, 0, actor=TRAINER, at_ns=self._around.clock_ns(), note=self._note("of")
                )
            )

    def _gone(self, state: AliasState) -> float | None:
        """What becomes of the run where somebody else has changed what its candidate is; None while it is one."""
        number = self.run.candidate_version
        if state.live_version == number:
            return self._begin_watch(state)
        if number not in transitions.known_versions(state):
            return self._cancel(f"version {number} was retired by {state.actor or 'somebody'}", "retired")
        if state.live_version != self.run.live_version and self.run.promotes_itself:
            return self._ask_an_engineer(
                f"version {state.live_version} went live meanwhile; the report holds it against version "
                f"{self.run.live_version}"
            )
        return None

    # ---- live

    def _decide(self) -> float:
        run = self.run
        if self._shadow is not None:
            self._shadow.close()
            self._shadow = None
        state = self._around.models.state(run.alias)
        gone = self._gone(state)
        if gone is not None:
            return gone
        if not run.promotes_itself:
            self._leave_shadow()
            if run.doing != "waits for an engineer":
                self._keep(replace(run, doing="waits for an engineer"))
            return _LOOK_S
        note = self._note("every gate was kept;")
        expected, number = run.live_version, run.candidate_version

        def go_live(now: AliasState) -> AliasState:
            if now.live_version != expected:
                raise ConflictError(
                    f"{now.alias!r} must still have version {expected} live, it has version {now.live_version}"
                )
            return transitions.promote(now, number, actor=TRAINER, at_ns=self._around.clock_ns(), note=note)

        return self._begin_watch(self._change(go_live))

    def _begin_watch(self, state: AliasState) -> float:
        until_ns = self._around.clock_ns() + round(self._settings.watch.s * _NS_PER_S)
        metrics.TRAINER_PROMOTIONS.labels(self.run.alias).inc()
        return self._to(
            RunStage.WATCH,
            # What it is held against is what it took the place of.
            live_version=state.previous_version or self.run.live_version,
            watch=WatchFigures(0, 0, 0, 0, 0, 0, until_ns),
        )

    def _look_after(self) -> float:
        run = self.run
        if run.watch is None:
            return self._begin_watch(self._around.models.state(run.alias))
        state = self._around.models.state(run.alias)
        if state.live_version != run.candidate_version:
            return self._end_replaced(state)
        count = self._opened_watch(run.watch.until_ns)
        count.poll(self._around.poll_s)
        now_ns = self._around.clock_ns()
        length_ns = max(1, run.watch.until_ns - run.stage_since_ns)
        share = min(1.0, max(0.0, (now_ns - run.stage_since_ns) / length_ns))
        self._show(watch=count.figures, share=share, doing=f"{count.figures.frames} frames")
        objection = watch_objection(count.figures, self._settings.watch.bounds)
        if objection is not None:
            return self._roll_back(state, objection.reason, objection.detail)
        if now_ns < run.watch.until_ns:
            return _LOOK_S
        if not count.figures.frames and count.still >= self._settings.watch.min_frames:
            detail = f"it gave no verdict in {self._settings.watch.s:g} s, version {run.live_version} still answers"
            return self._roll_back(state, "silent", detail)
        return self._end(RunOutcome.PROMOTED, detail=f"{count.figures.frames} frames were watched")

    def _opened_watch(self, until_ns: int) -> WatchCount:
        if self._watch is None:
            run = self.run
            self._watch = WatchCount(
                self._around.open_reader(WatchCount.WATCH_TOPICS),
                alias=run.alias,
                version=run.candidate_version,
                before=run.live_version,
                since_ns=run.stage_since_ns,
                until_ns=until_ns,
            )
        return self._watch

    def _roll_back(self, state: AliasState, reason: str, detail: str) -> float:
        run = self.run
        if state.previous_version != run.live_version:
            return self._end(
                RunOutcome.PROMOTED,
                reason,
                f"{detail}; version {run.live_version} is not the previous one any more and was not brought back",
            )
        number, before = run.candidate_version, run.live_version
        self._keep(replace(run, reason=reason, detail=detail, doing=f"brings version {before} back"))

        def bring_back(now: AliasState) -> AliasState:
            if (now.live_version, now.previous_version) != (number, before):
                raise ConflictError(f"{now.alias!r} must still have version {number} live, it has {now.live_version}")
            return transitions.roll_back(now, actor=TRAINER, at_ns=self._around.clock_ns(), note=detail[:1_000])

        self._change(bring_back)
        metrics.TRAINER_ROLLBACKS.labels(run.alias, reason).inc()
        return self._end(RunOutcome.ROLLED_BACK, reason, detail)

    def _end_replaced(self, state: AliasState) -> float:
        run = self.run
        if state.live_version == run.live_version and state.action is AliasAction.ROLL_BACK:
            if state.actor == TRAINER:
                # This run's own, before the trainer was killed: the record says why.
                return self._end(RunOutcome.ROLLED_BACK, run.reason or "flagged", run.detail or state.note)
            return self._end(RunOutcome.ROLLED_BACK, "by_hand", f"by {state.actor}: {state.note}".rstrip(": "))
        return self._end(
            RunOutcome.PROMOTED, "replaced", f"version {state.live_version} was made live by {state.actor}"
        )


def resumable(run: TrainingRun) -> bool:
    """Whether a run that has ended may go on: it failed, or was cancelled before its version was made."""
    if run.outcome not in _RESUMABLE or run.reason in _FINAL_REASONS:
        return False
    return run.outcome is RunOutcome.FAILED or run.report is None


def resumed(run: TrainingRun, now_ns: int) -> TrainingRun:
    """A run that goes on where it was."""
    if run.report is not None:
        stage = RunStage.REGISTERING
    elif run.snapshot is not None:
        stage = RunStage.TRAINING
    else:
        stage = RunStage.WAITING
    return replace(
        run,
        stage=stage,
        stage_since_ns=now_ns,
        ended_at_ns=0,
        outcome=None,
        reason="",
        detail="",
        share=0.0,
        doing="",
    )
