"""A trainer on ports in memory: answers on record, live frames in the topics, and a learner that does as it is told."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from services.adapters.aliaslease import AliasLease
from services.adapters.codec import encode_inspection, encode_shadow_inspection
from services.adapters.codec_review import encode_review
from services.adapters.memory import MemoryObjectStore, MemoryRecordWriter, MemoryTopicReader
from services.adapters.modelfolder import renumber_version
from services.adapters.modelregistry import ModelRegistry
from services.adapters.modelstore import ModelStore
from services.adapters.ports import TopicReader
from services.adapters.servingclient import BroughtUp, ServingAgents
from services.adapters.trainingrecord import TrainingRecord
from services.core import alias as transitions
from services.core import topics
from services.core.errors import NotFoundError, StoreFullError
from services.core.identity import derive_frame_id
from services.core.review import Answer, Review
from services.core.selection.snapshot import Snapshot
from services.core.training_run import CandidateReport, EpochLoss, TrainingRun
from services.core.types import AliasState, CaseKind, ImageRef, Inspection, ShadowInspection, Verdict
from services.runtime.lifecycle import Health
from services.runtime.retry import Backoff
from services.trainer.answers import AnswerBook
from services.trainer.controller import TrainingController
from services.trainer.learner import CancelledLessonError, Lesson, LessonProgress
from services.trainer.livemodels import LiveModels
from services.trainer.run_machine import RunMachine, Surroundings
from services.trainer.runbook import RunBook
from services.trainer.settings import TrainerSettings
from tests.support.explainer_line import NOW_NS, picture
from tests.support.feedback_line import FeedbackLine, answer
from tests.support.model_changes import verdict
from tests.support.model_versions import write_model_version
from tests.support.training_runs import report

SECOND_NS = 1_000_000_000


class FullStore(MemoryObjectStore):
    """A store that can be full: it reads, and writes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.full = False

    def put(self, key: str, data: bytes, *, content_type: str = "application/octet-stream") -> ImageRef:
        self._check_room(key)
        return super().put(key, data, content_type=content_type)

    def put_new(self, key: str, data: bytes, *, content_type: str = "application/octet-stream") -> ImageRef:
        self._check_room(key)
        return super().put_new(key, data, content_type=content_type)

    def _check_room(self, key: str) -> None:
        if self.full:
            raise StoreFullError(f"object store must have room to write {key}, got XMinioStorageFull")


@dataclass
class ToldLearner:
    """A learner that says what it is told.

    Attributes:
        made: Folder of a version that each candidate is a copy of.
        report: What each candidate proves.
        fails: Raised in place of learning, each once.
        during: Called while it learns.
        after: Called when the candidate is asked.
        lessons: What was to be learnt, in order.
        hold: While set, it learns until it is cancelled.
    """

    made: Path
    report: CandidateReport = field(default_factory=report)
    fails: list[BaseException] = field(default_factory=list)
    during: Callable[[], None] = lambda: None
    after: Callable[[], None] = lambda: None
    lessons: list[Lesson] = field(default_factory=list)
    compared: list[tuple[int, int]] = field(default_factory=list)
    hold: threading.Event = field(default_factory=threading.Event)
    begun: threading.Event = field(default_factory=threading.Event)

    def held_out(self, alias: str, version: int) -> frozenset[str]:
        """See ``Learner``."""
        del alias, version
        return frozenset({"part-held-out"})

    def learn(
        self, lesson: Lesson, on_progress: Callable[[LessonProgress], None], cancelled: Callable[[], bool]
    ) -> CandidateReport:
        """See ``Learner``."""
        self.lessons.append(lesson)
        self.begun.set()
        on_progress(LessonProgress(0.5, "epoch 1 of 2", epochs=(EpochLoss(1, 0.7, 0.8, 0.4),)))
        if self.fails:
            raise self.fails.pop(0)
        self.during()
        while self.hold.is_set():
            if cancelled():
                raise CancelledLessonError
        on_progress(LessonProgress(0.9, "asks the hold-out", evaluating=True, left_out=(("mask_does_not_fit", 1),)))
        self.after()
        if not self.candidate(lesson.folder).exists():
            renumber_version(self.made, self.candidate(lesson.folder), lesson.version)
        ids = tuple(one for item in lesson.snapshot.items for one in item.review_ids)
        return replace(self.report, answered=tuple(replace(one, review_ids=ids) for one in self.report.answered))

    def candidate(self, folder: Path) -> Path:
        """See ``Learner``."""
        return folder / "candidate"

    def compare(self, alias: str, version: int, other_version: int) -> CandidateReport:
        """See ``Learner``."""
        if other_version > 50:
            raise NotFoundError(f"the store must hold {alias} version {other_version}, got nothing complete")
        self.compared.append((version, other_version))
        return replace(self.report, live_version=version)


class ToldAgents(ServingAgents):
    """Agents that say what they are told."""

    def __init__(self) -> None:
        super().__init__([], 1.0)
        self.told = BroughtUp(1, 1, 1, ())

    def brought_up(self, alias: str, version: int) -> BroughtUp:
        """See ``ServingAgents``."""
        del alias, version
        return self.told


class TrainerLine:
    """Everything around runs; nothing moves before it is told to.

    Args:
        folder: A temporary folder.
        settings: Of the trainer, in place of what tests want by default.
    """

    def __init__(self, folder: Path, **settings: Any) -> None:
        values: dict[str, Any] = {
            "work": folder / "work",
            "promote_itself": True,
            "triggers": {"after_reviews": 3, "min_interval_s": 0},
            "in_shadow": {"frames": 4, "max_s": 100},
            "watch": {"s": 100, "min_frames": 20},
        }
        self.settings = TrainerSettings(**values | settings)
        self.store = FullStore()
        self.feedback = FeedbackLine(store=self.store)
        self.broker = self.feedback.broker
        self.now_ns = NOW_NS + 3_600 * SECOND_NS
        made = folder / "made"
        if not made.exists():
            write_model_version(made)
        self.learner = ToldLearner(made)
        self.versions = ModelStore(self.store)
        self.versions.upload(made)
        self.agents = ToldAgents()
        self.health = Health()
        self.health.set_ready(True)
        self.record = TrainingRecord(self.store)
        self.models = self._live_models()
        self._numbers = itertools.count(1_000)
        self.change(lambda now: transitions.add(now, 1, actor="mira", at_ns=1))
        self.change(lambda now: transitions.promote(now, 1, actor="mira", at_ns=2))

    # ---- the trainer

    def around(self, **changes: Any) -> Surroundings:
        """What a process' runs need; each process reads anew."""
        values = Surroundings(
            book=RunBook(TrainingRecord(self.store)),
            answers=AnswerBook(self.feedback.record),
            models=self._live_models(),
            store=self.versions,
            learner=self.learner,
            agents=self.agents,
            open_reader=self._reader,
            settings=self.settings,
            health=self.health,
            learning_turn=threading.Lock(),
            clock_ns=lambda: self.now_ns,
            backoff=lambda: Backoff(first_s=0.001, cap_s=0.002),
            poll_s=0.0,
        )
        return replace(values, **changes)

    def lease(self, alias: str = "default") -> AliasLease:
        """A lease of a process of its own."""
        return AliasLease(self.store, alias, ttl_s=30.0)

    def controller(self, around: Surroundings | None = None, **changes: Any) -> TrainingController:
        """What begins and keeps runs in a process of its own."""
        made = around or self.around()
        leases = changes.pop("make_lease", self.lease)
        return TrainingController(made, leases, look_s=0.01, idle_s=0.05, **changes)

    def machine(self, run: TrainingRun | None = None, around: Surroundings | None = None, **changes: Any) -> RunMachine:
        """A run of a process of its own, as it is on record."""
        made = around or self.around()
        asked = run or self.ask(made, **changes)
        lease = self.lease(asked.alias)
        if not lease.acquire():
            # The one before was killed; nobody waits out its lease here.
            lease._seen_s -= 100
            assert lease.acquire()
        return RunMachine(self.record.find(asked.run_id), made, lease, lambda: False)

    def ask(self, around: Surroundings | None = None, **changes: Any) -> TrainingRun:
        """A run on record that nobody has begun."""
        made = around or self.around()
        run = self.controller(made).start_run("default", "mira")
        if changes:
            run = replace(run, **changes)
            self.record.put(run)
        return run

    def _reader(self, names: Sequence[str]) -> TopicReader:
        return MemoryTopicReader(self.broker, names)

    def _live_models(self) -> LiveModels:
        def opened() -> tuple[ModelRegistry, Callable[[], None]]:
            reader = MemoryTopicReader(self.broker, [topics.MODELS])
            return ModelRegistry(reader, MemoryRecordWriter(self.broker), timeout_s=1.0), lambda: None

        return LiveModels(opened, poll_s=0.0)

    # ---- what people and the line do

    @property
    def state(self) -> AliasState:
        """What the alias points to."""
        return self.models.state("default")

    def change(self, transition: Callable[[AliasState], AliasState]) -> AliasState:
        """Change the alias as somebody at the command line does."""
        return self.models.change("default", transition)

    def say(self, number: int = 0, reviewer: str = "ada", *, publish: bool = True, **changes: Any) -> Review:
        """Let a person correct case ``number``: it was thrown out and is good."""
        image = picture(spot=(number % 24, number // 24), height_px=30, width_px=40)
        case = self.feedback.add_case(number, image=image, kind=CaseKind.FAIL)
        said = answer(
            case,
            reviewer,
            **{
                "verdict_right": Answer.NO,
                "reason_right": Answer.NOT_ASKED,
                "corrected_verdict": Verdict.PASS,
                "shown_method": "",
                **changes,
            },
        )
        review = self.feedback.reviewing.submit(said, b"")[0]
        if publish:
            self.broker.append(topics.REVIEWS, key=review.frame_id.encode(), value=encode_review(review))
        return review

    def inspect(
        self,
        said: Verdict,
        version: int,
        *,
        late: bool = False,
        candidate: Verdict | None = None,
        candidate_version: int = 2,
        failure: str = "",
    ) -> None:
        """Let a frame pass the line.

        Args:
            said: The verdict that holds.
            version: That gave it.
            late: Whether it was not in time.
            candidate: What the shadow says of the frame, if it was asked.
            candidate_version: The shadow.
            failure: Why the shadow gave no answer.
        """
        number = next(self._numbers)
        one = verdict(said, version, part_id=f"part-{number}")
        one = replace(
            one,
            frame_id=derive_frame_id("cam-1", f"item-{number}", 0, self.now_ns),
            decided_at_ns=self.now_ns,
            in_time=not late,
        )
        self.broker.append(topics.VERDICTS, key=one.part_id.encode(), value=encode_inspection(one))
        if candidate is not None or failure:
            shadow = self._shadow_of(one, candidate or Verdict.REVIEW, candidate_version)
            told = ShadowInspection(shadow, one.verdict, one.score, version, failure)
            self.broker.append(topics.SHADOW, key=one.part_id.encode(), value=encode_shadow_inspection(told))

    def _shadow_of(self, one: Inspection, said: Verdict, version: int) -> Inspection:
        return replace(verdict(said, version, part_id=one.part_id), frame_id=one.frame_id)

    def shadow(self, *said: tuple[Verdict, Verdict]) -> None:
        """Let frames pass whose live and shadow verdicts are these."""
        for live, candidate in said:
            self.inspect(live, 1, candidate=candidate)

    def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        self.now_ns += round(seconds * SECOND_NS)

    def broker_committed(self) -> int:
        """Reviews that the trainer's group has committed."""
        return sum(self.broker.committed("trainer", one) or 0 for one in self.broker.partitions(topics.REVIEWS))

    def snapshot(self, run: TrainingRun) -> Snapshot:
        """What a run learns from."""
        assert run.snapshot is not None
        return Snapshot.from_json(self.record.snapshot(run.snapshot.digest))

    def stop(self) -> None:
        """Let go."""
        self.feedback.stop()


def drive(machine: RunMachine, until: Callable[[RunMachine], bool] = lambda one: one.done, most: int = 400) -> None:
    """Step a run on until something holds; a run that does not get there fails the test."""
    for _ in range(most):
        if until(machine):
            return
        machine.step()
    raise AssertionError(f"the run stays at {machine.run.stage}: {machine.run.doing!r}, {machine.run.detail!r}")
