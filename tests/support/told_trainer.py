"""A trainer that keeps the runs that it is told of, and tells whoever watches."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from services.adapters.trainerclient import RunPage
from services.core import alias as transitions
from services.core.errors import ExistsError, NotFoundError, PreconditionError, SightlineError
from services.core.training_run import Loss, Recipe, RunOutcome, RunStage, RunTrigger, TrainingRun, new_run_id
from services.core.types import AliasState


class _Changes:
    """One who watches a run."""

    def __init__(self, trainer: ToldTrainer, run_id: str) -> None:
        self._trainer = trainer
        self._run_id = run_id
        self._cancelled = threading.Event()

    def __iter__(self) -> Iterator[TrainingRun]:
        seen: TrainingRun | None = None
        with self._trainer.watched():
            while not self._cancelled.is_set():
                self._trainer.check()
                run = self._trainer.find(self._run_id)
                if run == seen:
                    self._trainer.changed.wait(0.02)
                    continue
                seen = run
                yield run
                if run.has_ended:
                    return

    def cancel(self) -> None:
        self._cancelled.set()


@dataclass
class ToldTrainer:
    """See ``services.dashboard.training.TrainerService``.

    Attributes:
        runs: By id.
        new_reviews: Answers since the last run, by alias.
        reviews_wanted: Answers after which a run begins by itself.
        away: Raised at every question, and to whoever watches.
        asked: What changes something, in order.
        watching: How many watch now.
        aliases: What each alias points to.
        on_alias: Told of every change of an alias.
    """

    runs: dict[str, TrainingRun] = field(default_factory=dict)
    new_reviews: dict[str, int] = field(default_factory=dict)
    reviews_wanted: int = 20
    away: SightlineError | None = None
    asked: list[tuple[Any, ...]] = field(default_factory=list)
    watching: int = 0
    aliases: dict[str, AliasState] = field(default_factory=dict)
    on_alias: Callable[[AliasState], None] = lambda _: None

    def __post_init__(self) -> None:
        self.changed = threading.Event()
        self._lock = threading.Lock()

    def put(self, run: TrainingRun) -> TrainingRun:
        """Keep a run, and tell whoever watches it."""
        with self._lock:
            self.runs[run.run_id] = run
        return run

    def point(self, state: AliasState) -> AliasState:
        """Change what an alias points to."""
        self.aliases[state.alias] = state
        self.on_alias(state)
        return state

    def watched(self) -> _Counted:
        """Counts one who watches."""
        return _Counted(self)

    def check(self) -> None:
        """Raise what it is told to."""
        if self.away is not None:
            raise self.away

    def find(self, run_id: str) -> TrainingRun:
        """A run as it is now."""
        with self._lock:
            if run_id not in self.runs:
                raise NotFoundError(f"a run must be on record, got {run_id}")
            return self.runs[run_id]

    def start_run(
        self, alias: str, actor: str, *, note: str = "", recipe: str = "", loss: str = "", timeout_s: float = 10.0
    ) -> TrainingRun:
        """See the port."""
        self.check()
        self.asked.append(("start", alias, actor, note, recipe, loss))
        if any(one.alias == alias and not one.has_ended for one in self.runs.values()):
            raise ExistsError(f"an alias must have one run at a time, {alias} has one")
        run = TrainingRun(
            run_id=new_run_id(time.time_ns(), os.urandom(10)),
            alias=alias,
            trigger=RunTrigger.HAND,
            actor=actor,
            note=note,
            requested_at_ns=time.time_ns(),
            stage_since_ns=time.time_ns(),
            recipe=Recipe(recipe or "head"),
            loss=Loss(loss or "ce"),
            seed=0,
            promotes_itself=False,
            live_version=self.aliases[alias].live_version if alias in self.aliases else 1,
        )
        self.new_reviews[alias] = 0
        return self.put(run)

    def watch_run(self, run_id: str, timeout_s: float | None = None) -> _Changes:
        """See the port."""
        return _Changes(self, run_id)

    def list_runs(
        self, *, alias: str = "", author: str = "", limit: int = 0, token: str = "", timeout_s: float = 10.0
    ) -> RunPage:
        """See the port; the token is the last run's id."""
        self.check()
        found = [
            run
            for run_id, run in sorted(self.runs.items(), reverse=True)
            if alias in ("", run.alias) and (not author or author in run.authors) and (not token or run_id < token)
        ]
        page = found[: limit or 20]
        following = page[-1].run_id if len(page) < len(found) else ""
        return RunPage(tuple(map(_listed, page)), following, self.new_reviews, self.reviews_wanted)

    def get_run(self, run_id: str, timeout_s: float = 10.0) -> TrainingRun:
        """See the port."""
        self.check()
        return self.find(run_id)

    def cancel_run(self, run_id: str, actor: str, timeout_s: float = 10.0) -> TrainingRun:
        """See the port."""
        self.check()
        self.asked.append(("cancel", run_id, actor))
        run = self.find(run_id)
        if run.stage is RunStage.WATCH:
            raise PreconditionError(f"a run whose version is live is rolled back, not cancelled, got {run_id}")
        return self.put(
            replace(
                run, stage=RunStage.ENDED, outcome=RunOutcome.CANCELLED, reason="cancelled", ended_at_ns=time.time_ns()
            )
        )

    def resume_run(self, run_id: str, actor: str, timeout_s: float = 10.0) -> TrainingRun:
        """See the port."""
        self.check()
        self.asked.append(("resume", run_id, actor))
        run = self.find(run_id)
        return self.put(
            replace(run, stage=RunStage.TRAINING, outcome=None, reason="", detail="", ended_at_ns=0, attempts=2)
        )

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
        """See the port."""
        self.check()
        self.asked.append(("promote", alias, version, actor, note, despite_gates))
        run = next((one for one in self.runs.values() if one.candidate_version == version), None)
        if run is not None and run.report is not None and not run.report.promotion.may_go_live and not despite_gates:
            raise PreconditionError(f"a version with broken gates must not go live, got {version}")
        if run is not None:
            self.put(
                replace(
                    run,
                    stage=RunStage.ENDED,
                    outcome=RunOutcome.PROMOTED,
                    reason="",
                    detail="",
                    ended_at_ns=time.time_ns(),
                )
            )
        state = transitions.promote(self.aliases[alias], version, actor=actor, at_ns=time.time_ns(), note=note)
        return self.point(state)

    def roll_back(self, alias: str, actor: str, *, note: str = "", timeout_s: float = 30.0) -> AliasState:
        """See the port."""
        self.check()
        self.asked.append(("roll_back", alias, actor, note))
        return self.point(transitions.roll_back(self.aliases[alias], actor=actor, at_ns=time.time_ns(), note=note))


class _Counted:
    def __init__(self, trainer: ToldTrainer) -> None:
        self._trainer = trainer

    def __enter__(self) -> None:
        self._trainer.watching += 1

    def __exit__(self, *_: object) -> None:
        self._trainer.watching -= 1


def _listed(run: TrainingRun) -> TrainingRun:
    """As a list has it: without the parts of its report."""
    if run.report is None:
        return run
    return replace(run, report=replace(run.report, flips=(), answered=()))
