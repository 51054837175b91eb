"""When runs begin, that an alias has one, and what is asked for over gRPC, on ports in memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from sightline.v1 import trainer_service_pb2_grpc
from typer.testing import CliRunner

from services.adapters.memory import MemoryRecordConsumer
from services.adapters.trainerclient import TrainerClient
from services.cli import app
from services.core import alias as transitions
from services.core import topics
from services.core.errors import (
    BusyError,
    ExistsError,
    InvalidInputError,
    NotFoundError,
    PreconditionError,
    UnavailableError,
)
from services.core.promotion import GateName
from services.core.training_run import Loss, Recipe, RunOutcome, RunStage, RunTrigger, TrainingRun
from services.core.types import Verdict
from services.runtime.consumer import ConsumerLoop, LoopTimes
from services.runtime.grpc_server import GrpcServer
from services.runtime.lifecycle import Health, Shutdown
from services.runtime.settings import GrpcSettings
from services.trainer.controller import TrainingController
from services.trainer.promoting import Promoter
from services.trainer.review_intake import ReviewIntake
from services.trainer.run_machine import Surroundings
from services.trainer.servicer import TrainerServicer
from tests.support.trainer_line import TrainerLine
from tests.support.training_runs import report

PASS = Verdict.PASS


def until(holds: Callable[[], Any], timeout_s: float = 20.0) -> Any:
    """Look until something holds."""
    end_s = time.monotonic() + timeout_s
    while not (found := holds()):
        assert time.monotonic() < end_s, "it does not come to that"
        time.sleep(0.01)
    return found


@dataclass
class Process:
    """A trainer as one process runs it: controller, intake of reviews and gRPC."""

    line: TrainerLine
    around: Surroundings
    controller: TrainingController
    shutdown: Shutdown = field(default_factory=Shutdown)
    threads: list[threading.Thread] = field(default_factory=list)
    closers: list[Callable[[], None]] = field(default_factory=list)
    servicer: TrainerServicer | None = None
    port: int = 0

    def start(self) -> Process:
        self.controller.start()
        intake = ReviewIntake(self.around.answers, self.controller.wake, self.controller.check)
        loop = ConsumerLoop(
            MemoryRecordConsumer(self.line.broker, "trainer"),
            intake,
            topics=[topics.REVIEWS],
            health=Health(),
            shutdown=self.shutdown,
            times=LoopTimes(poll_s=0.01, commit_every_s=0.01),
        )
        thread = threading.Thread(target=loop.run)
        thread.start()
        self.threads.append(thread)
        return self

    def client(self, **settings: Any) -> TrainerClient:
        server = GrpcServer(GrpcSettings(port=0), Health())
        self.servicer = TrainerServicer(
            self.around.book,
            self.controller,
            Promoter(self.around.book, self.around.models, self.line.versions),
            self.line.learner,
            reviews_wanted=self.line.settings.triggers.after_reviews,
            max_watchers=2,
        )
        server.add(trainer_service_pb2_grpc.add_TrainerServiceServicer_to_server, self.servicer, "Trainer")
        server.start()
        self.port = server.port
        client = TrainerClient(f"127.0.0.1:{server.port}")
        self.closers += [client.close, self.servicer.close, lambda: server.stop(1.0)]
        return client

    def stop(self) -> None:
        for close in self.closers:
            close()
        self.shutdown.request()
        self.controller.close()
        for thread in self.threads:
            thread.join(10)


@pytest.fixture
def line(tmp_path: Path) -> Iterator[TrainerLine]:
    made = TrainerLine(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def processes() -> Iterator[list[Process]]:
    made: list[Process] = []
    yield made
    for one in made:
        one.line.learner.hold.clear()
        one.stop()


def process(line: TrainerLine, processes: list[Process]) -> Process:
    around = line.around()
    made = Process(line, around, line.controller(around))
    processes.append(made)
    return made


def runs(line: TrainerLine) -> list[TrainingRun]:
    return list(line.record.newest("default"))


def reached(line: TrainerLine, stage: RunStage) -> TrainingRun:
    return until(lambda: next((run for run in runs(line) if run.stage is stage), None))


def finish(line: TrainerLine) -> TrainingRun:
    """Let the run that is in the shadow go live and be watched to its end."""
    reached(line, RunStage.SHADOW)
    until(lambda: line.state.shadow_version)
    line.shadow(*[(PASS, PASS)] * 4)
    reached(line, RunStage.WATCH)
    line.pass_time(101)
    return until(lambda: next((run for run in runs(line) if run.has_ended), None))


# ---- triggers


def test_enough_answers_set_a_run_off_by_itself(line: TrainerLine, processes: list[Process]) -> None:
    process(line, processes).start()
    line.say(0)
    line.say(1)
    until(lambda: line.broker_committed() == 2)
    assert not runs(line)
    line.say(2)
    run = finish(line)
    assert (run.trigger, run.actor, run.outcome) == (RunTrigger.REVIEWS, "trainer", RunOutcome.PROMOTED)
    assert run.snapshot is not None
    assert run.snapshot.reviews == 3


def test_answers_are_counted_from_the_record_after_a_restart(line: TrainerLine, processes: list[Process]) -> None:
    first = process(line, processes).start()
    line.say(0)
    line.say(1)
    until(lambda: line.broker_committed() == 2)
    first.stop()
    # What was committed is not read again, and is not forgotten.
    process(line, processes).start()
    line.say(2)
    assert reached(line, RunStage.SHADOW).trigger is RunTrigger.REVIEWS


def test_answers_that_were_learnt_from_do_not_count_again(line: TrainerLine, processes: list[Process]) -> None:
    trainer = process(line, processes).start()
    for number in range(3):
        line.say(number)
    finish(line)
    until(lambda: not trainer.controller._going)
    assert trainer.controller.new_reviews("default") == 0
    line.say(3)
    line.say(4)
    until(lambda: trainer.controller.new_reviews("default") == 2)
    assert len(runs(line)) == 1


def test_an_answer_that_was_taken_back_counts_as_new(line: TrainerLine, processes: list[Process]) -> None:
    trainer = process(line, processes)
    said = line.say(0)
    trainer.controller.start_run("default", "mira")
    trainer.start()
    finish(line)
    line.feedback.reviewing.undo("01234567-89ab-4def-8123-456789abcdef", said.review_id, "ada")
    trainer.around.answers.refresh()
    assert trainer.controller.new_reviews("default") == 1


def test_the_schedule_sets_a_run_off_when_there_is_something_new(tmp_path: Path, processes: list[Process]) -> None:
    line = TrainerLine(tmp_path, triggers={"after_reviews": 0, "every_hours": 1.0, "min_interval_s": 0})
    trainer = process(line, processes)
    line.say(0)
    trainer.controller.look()
    assert not runs(line)
    line.pass_time(3_601)
    trainer.controller.look()
    assert runs(line)[0].trigger is RunTrigger.SCHEDULE


def test_the_schedule_sets_nothing_off_without_new_answers(tmp_path: Path, processes: list[Process]) -> None:
    line = TrainerLine(tmp_path, triggers={"after_reviews": 0, "every_hours": 1.0})
    trainer = process(line, processes)
    line.pass_time(100_000)
    trainer.controller.look()
    assert not runs(line)


def test_two_runs_by_themselves_are_apart(tmp_path: Path, processes: list[Process]) -> None:
    line = TrainerLine(tmp_path, triggers={"after_reviews": 1, "min_interval_s": 500})
    trainer = process(line, processes).start()
    line.say(0)
    finish(line)
    until(lambda: not trainer.controller._going)
    line.say(1)
    until(lambda: trainer.controller.new_reviews("default") == 1)
    trainer.controller.look()
    assert len(runs(line)) == 1
    line.pass_time(500)
    trainer.controller.wake()
    until(lambda: len(runs(line)) == 2)


def test_a_review_that_cannot_be_read_keeps_nobody_from_the_others(line: TrainerLine, processes: list[Process]) -> None:
    line.broker.append(topics.REVIEWS, key=b"x", value=b"\xff\xff")
    process(line, processes).start()
    for number in range(3):
        line.say(number)
    assert reached(line, RunStage.SHADOW)


# ---- one at a time


def test_an_alias_has_one_run_at_a_time(line: TrainerLine, processes: list[Process]) -> None:
    client = process(line, processes).start().client()
    line.learner.hold.set()
    line.say(0)
    run = client.start_run("default", "mira", note="now", recipe="finetune", loss="ceod")
    assert (run.trigger, run.recipe, run.loss, run.note) == (RunTrigger.HAND, Recipe.FINETUNE, Loss.CEOD, "now")
    with pytest.raises(ExistsError, match="an alias has one run at a time"):
        client.start_run("default", "mira")


def test_of_two_trainers_one_moves_a_run_on(line: TrainerLine, processes: list[Process]) -> None:
    first, second = process(line, processes).start(), process(line, processes).start()
    line.learner.hold.set()
    line.say(0)
    run = second.controller.start_run("default", "mira")
    until(line.learner.begun.is_set)
    with pytest.raises(ExistsError):
        first.controller.start_run("default", "mira")
    until(lambda: sum(bool(one.controller._going) for one in (first, second)) == 1)
    line.learner.hold.clear()
    finish(line)
    assert len(line.learner.lessons) == 1
    assert [one.run_id for one in runs(line)] == [run.run_id]


def test_a_trainer_takes_over_the_run_of_one_that_was_stopped(line: TrainerLine, processes: list[Process]) -> None:
    first = process(line, processes).start()
    line.learner.hold.set()
    line.say(0)
    run = first.controller.start_run("default", "mira")
    until(line.learner.begun.is_set)
    first.stop()
    assert line.record.find(run.run_id).stage is RunStage.TRAINING
    line.learner.hold.clear()
    process(line, processes).start()
    ended = finish(line)
    assert (ended.run_id, ended.outcome, ended.attempts) == (run.run_id, RunOutcome.PROMOTED, 2)


def test_two_that_were_asked_for_at_once_are_one_and_a_refusal(line: TrainerLine, processes: list[Process]) -> None:
    line.say(0)
    first = line.ask()
    line.record.put(TrainingRun(**_fields(first, first.run_id[:-1] + ("1" if first.run_id[-1] == "0" else "0"))))
    process(line, processes).start()
    finish(line)
    until(lambda: all(run.has_ended for run in runs(line)))
    assert sorted(run.reason for run in runs(line)) == ["", "exists"]


def _fields(run: TrainingRun, run_id: str) -> dict[str, Any]:
    return {name: getattr(run, name) for name in run.__slots__} | {"run_id": run_id}


# ---- asked for


def test_a_run_is_followed_through_its_stages(line: TrainerLine, processes: list[Process]) -> None:
    client = process(line, processes).start().client()
    line.say(0)
    line.learner.hold.set()
    run = client.start_run("default", "mira")
    seen: list[TrainingRun] = []

    def follow() -> None:
        seen.extend(client.watch_run(run.run_id, timeout_s=30))

    follower = threading.Thread(target=follow)
    follower.start()
    until(line.learner.begun.is_set)

    def told(stage: RunStage) -> None:
        # What follows faster than it can be sent is told as it is then.
        until(lambda: any(one.stage is stage for one in seen))

    told(RunStage.TRAINING)
    line.learner.hold.clear()
    told(RunStage.SHADOW)
    until(lambda: line.state.shadow_version)
    line.shadow(*[(PASS, PASS)] * 4)
    told(RunStage.WATCH)
    line.pass_time(101)
    follower.join(30)
    assert not follower.is_alive()
    assert (seen[-1].stage, seen[-1].outcome) == (RunStage.ENDED, RunOutcome.PROMOTED)
    assert client.get_run(run.run_id).report is not None


def test_whoever_follows_may_look_away(line: TrainerLine, processes: list[Process]) -> None:
    client = process(line, processes).client()
    line.say(0)
    run = line.ask()
    stream = client.watch_run(run.run_id)
    first = iter(stream)
    assert next(first).stage is RunStage.WAITING
    stream.cancel()
    assert list(first) == []
    assert not line.record.find(run.run_id).has_ended


def test_no_more_follow_than_leaves_room_for_others(line: TrainerLine, processes: list[Process]) -> None:
    client = process(line, processes).client()
    run = line.ask()
    streams = [client.watch_run(run.run_id) for _ in range(2)]
    for stream in streams:
        next(iter(stream))
    with pytest.raises(BusyError):
        next(iter(client.watch_run(run.run_id)))
    for stream in streams:
        stream.cancel()


def test_runs_are_listed_without_parts_and_with_the_answers_that_wait(
    line: TrainerLine, processes: list[Process]
) -> None:
    trainer = process(line, processes).start()
    client = trainer.client()
    line.say(0)
    run = client.start_run("default", "mira")
    finish(line)
    line.say(1)
    until(lambda: client.list_runs(alias="default").new_reviews == {"default": 1})
    page = client.list_runs()
    assert (page.reviews_wanted, page.new_reviews) == (3, {"default": 1})
    [listed] = page.runs
    assert listed.report is not None
    assert (listed.report.flips, listed.report.answered) == ((), ())
    assert len(client.get_run(run.run_id).report.answered) == 1  # type: ignore[union-attr]
    assert client.list_runs(author="nobody").runs == ()
    assert len(client.list_runs(author="ada").runs) == 1


def test_what_breaks_a_rule_is_refused(line: TrainerLine, processes: list[Process]) -> None:
    client = process(line, processes).client()
    for call, kind in (
        (lambda: client.start_run("weld", "mira"), NotFoundError),
        (lambda: client.start_run("default", ""), InvalidInputError),
        (lambda: client.start_run("default", "mira", recipe="magic"), InvalidInputError),
        (lambda: client.get_run("x"), InvalidInputError),
        (lambda: client.list_runs(limit=101), InvalidInputError),
        (lambda: client.promote("default", 9, "mira"), NotFoundError),
        (lambda: client.promote("default", 1, "mira"), PreconditionError),
        (lambda: client.roll_back("default", "mira"), PreconditionError),
        (lambda: client.compare_versions("default", 1, 1), InvalidInputError),
        (lambda: client.compare_versions("default", 1, 99), NotFoundError),
    ):
        with pytest.raises(kind):
            call()


def test_a_record_that_is_away_is_said(line: TrainerLine, processes: list[Process]) -> None:
    client = process(line, processes).client()
    line.store.unavailable = True
    with pytest.raises(UnavailableError):
        client.list_runs()
    line.store.unavailable = False


def test_a_training_is_cancelled_and_resumed(line: TrainerLine, processes: list[Process]) -> None:
    client = process(line, processes).start().client()
    line.say(0)
    line.learner.hold.set()
    run = client.start_run("default", "mira")
    until(line.learner.begun.is_set)
    with pytest.raises(ExistsError):
        client.resume_run(run.run_id, "mira")
    client.cancel_run(run.run_id, "mira")
    until(lambda: client.get_run(run.run_id).has_ended)
    until(lambda: line.record.find(run.run_id).has_ended)
    assert client.get_run(run.run_id).outcome is RunOutcome.CANCELLED
    line.learner.hold.clear()
    until(lambda: not processes[0].controller._going)
    assert client.resume_run(run.run_id, "mira").stage is RunStage.TRAINING
    assert finish(line).outcome is RunOutcome.PROMOTED
    with pytest.raises(PreconditionError, match="only a run that failed"):
        client.resume_run(run.run_id, "mira")


def test_a_live_version_is_rolled_back_and_not_cancelled(line: TrainerLine, processes: list[Process]) -> None:
    client = process(line, processes).start().client()
    line.say(0)
    run = client.start_run("default", "mira")
    reached(line, RunStage.SHADOW)
    until(lambda: line.state.shadow_version)
    line.shadow(*[(PASS, PASS)] * 4)
    reached(line, RunStage.WATCH)
    until(lambda: client.get_run(run.run_id).stage is RunStage.WATCH)
    with pytest.raises(PreconditionError, match="roll back instead"):
        client.cancel_run(run.run_id, "mira")
    assert client.roll_back("default", "mira", note="dents").live_version == 1
    until(lambda: client.get_run(run.run_id).outcome is RunOutcome.ROLLED_BACK)


def test_a_refused_candidate_goes_live_only_with_a_reason(line: TrainerLine, processes: list[Process]) -> None:
    client = process(line, processes).start().client()
    line.learner.report = report(broken=GateName.ESCAPES)
    line.say(0)
    run = client.start_run("default", "mira")
    until(lambda: client.get_run(run.run_id).outcome is RunOutcome.REFUSED)
    failures = {"alias": "default", "gate": "escapes"}
    assert REGISTRY.get_sample_value("sightline_trainer_gate_failures_total", failures)
    with pytest.raises(PreconditionError, match="broken are: escapes"):
        client.promote("default", 2, "mira")
    with pytest.raises(InvalidInputError, match="a note must say why"):
        client.promote("default", 2, "mira", despite_gates=True)
    state = client.promote("default", 2, "mira", note="the part was labelled wrong", despite_gates=True)
    assert (state.live_version, state.actor, state.note) == (2, "mira", "the part was labelled wrong")
    assert transitions.known_versions(line.state) == {1, 2}


def test_two_versions_are_compared(line: TrainerLine, processes: list[Process]) -> None:
    client = process(line, processes).client()
    found = client.compare_versions("default", 1, 2)
    assert (found.live_version, found.answered, len(found.flips)) == (1, (), 1)
    assert line.learner.compared == [(1, 2)]


# ---- at the command line


def test_runs_are_asked_for_and_shown_at_the_command_line(line: TrainerLine, processes: list[Process]) -> None:
    trainer = process(line, processes).start()
    client = trainer.client()
    env = {
        "SIGHTLINE_TRAINER__ADDRESS": f"127.0.0.1:{trainer.port}",
        "SIGHTLINE_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "SIGHTLINE_ACTOR": "mira",
        "COLUMNS": "300",
    }

    def sightline(*arguments: str) -> str:
        done = CliRunner().invoke(app, list(arguments), env=env)
        assert done.exit_code == 0, done.output
        return done.output

    assert "no runs yet" in sightline("train", "list")
    line.say(0)
    run_id = sightline("train", "start", "--note", "new dents").strip()
    assert client.get_run(run_id).note == "new dents"
    finish(line)
    until(lambda: client.get_run(run_id).has_ended)
    assert "promoted" in sightline("train", "list")
    assert "0 new answers of 3 for the next run" in sightline("train", "list")
    shown = sightline("train", "show", run_id)
    for words in ("head, ce, seed 0", "1 pictures, 1 of them good", "4 of 4 live frames alike", "mcc", "part-7"):
        assert words in shown
    assert "ended: promoted" in sightline("train", "watch", run_id)
    assert "it had ended already" in sightline("train", "cancel", run_id)
    compared = sightline("models", "compare", "default", "1", "2")
    for words in ("escapes", "kept", "good pass", "1 parts come out otherwise", "part-7"):
        assert words in compared
    refused = CliRunner().invoke(app, ["train", "resume", run_id], env=env)
    assert isinstance(refused.exception, PreconditionError)
