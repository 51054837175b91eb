"""A run through its stages, killed at each of them, refused at each gate, and disturbed by others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.adapters.modelfolder import renumber_version
from services.adapters.servingclient import BroughtUp
from services.core import alias as transitions
from services.core.errors import ConflictError, InvalidInputError, UnavailableError
from services.core.promotion import GateName
from services.core.review import Answer
from services.core.training_run import Recipe, RunOutcome, RunStage, TrainingRun
from services.core.types import Verdict
from services.trainer.run_machine import LeaseLostError, RunMachine, resumable, resumed
from tests.support.trainer_line import TrainerLine, drive
from tests.support.training_runs import report

PASS, REVIEW, FAIL = Verdict.PASS, Verdict.REVIEW, Verdict.FAIL


@pytest.fixture
def line(tmp_path: Path) -> Iterator[TrainerLine]:
    made = TrainerLine(tmp_path)
    made.say(0)
    made.say(1, "bob")
    yield made
    made.stop()


def at(stage: RunStage) -> Any:
    return lambda machine: machine.run.stage is stage


def to_shadow(line: TrainerLine) -> RunMachine:
    machine = line.machine()
    drive(machine, at(RunStage.SHADOW))
    machine.step()
    return machine


def to_watch(line: TrainerLine) -> RunMachine:
    machine = to_shadow(line)
    line.shadow(*[(FAIL, FAIL)] * 4)
    drive(machine, at(RunStage.WATCH))
    return machine


def the_run(line: TrainerLine) -> TrainingRun:
    return next(iter(line.record.newest("default")))


# ---- all the way


def test_answers_become_a_version_that_decides(line: TrainerLine) -> None:
    machine = to_shadow(line)
    assert line.state.shadow_version == 2
    line.shadow((FAIL, FAIL), (PASS, PASS), (FAIL, PASS), (PASS, PASS))
    drive(machine, at(RunStage.WATCH))
    assert (line.state.live_version, line.state.previous_version, line.state.shadow_version) == (2, 1, 0)
    line.pass_time(101)
    drive(machine)
    run = the_run(line)
    assert (run.stage, run.outcome, run.candidate_version) == (RunStage.ENDED, RunOutcome.PROMOTED, 2)
    assert run.authors == ("ada", "bob")
    assert run.snapshot is not None
    assert (run.snapshot.parts, run.snapshot.good, run.snapshot.reviews) == (2, 2, 2)
    assert dict(run.snapshot.left_out) == {"mask_does_not_fit": 1}
    assert run.shadow is not None
    assert (run.shadow.frames, run.shadow.agreed, run.shadow.live_flagged, run.shadow.candidate_flagged) == (4, 3, 2, 1)
    assert [(flip.before, flip.after) for flip in run.shadow.flips] == [(FAIL, PASS)]
    assert [one.epoch for one in run.epochs] == [1]
    assert run.attempts == 1
    assert line.versions.versions("default") == (1, 2)
    assert line.state.actor == "trainer"
    assert "2 answers of ada, bob" in line.state.note


def test_answered_parts_say_whose_answers_and_which_cases(line: TrainerLine) -> None:
    machine = line.machine()
    drive(machine, at(RunStage.SHADOW))
    run = the_run(line)
    assert run.report is not None
    [part] = run.report.answered
    assert part.reviewers == ("ada", "bob")
    assert len(part.case_ids) == 2


def test_what_is_learnt_from_is_on_record_and_has_every_review_of_the_topic(line: TrainerLine) -> None:
    machine = line.machine()
    said = line.say(2)
    drive(machine, at(RunStage.TRAINING))
    snapshot = line.snapshot(the_run(line))
    assert said.review_id in {one for item in snapshot.items for one in item.review_ids}
    assert said.review_id in line.record.learnt("default")
    assert len(line.record.learnt("default")) == 3


def test_without_a_shadow_a_candidate_is_decided_at_once(tmp_path: Path) -> None:
    line = TrainerLine(tmp_path, in_shadow={"on": False}, watch={"s": 0})
    line.say(0)
    machine = line.machine()
    drive(machine, at(RunStage.WATCH))
    line.pass_time(1)
    drive(machine)
    assert the_run(line).outcome is RunOutcome.PROMOTED
    assert line.state.live_version == 2
    line.stop()


# ---- nothing to learn


def test_without_new_answers_there_is_nothing_to_learn(line: TrainerLine) -> None:
    machine = to_watch(line)
    line.pass_time(101)
    drive(machine)
    again = line.machine()
    drive(again)
    run = the_run(line)
    assert (run.outcome, run.reason) == (RunOutcome.FAILED, "nothing_to_learn")
    assert not resumable(run)
    assert len(line.learner.lessons) == 1


def test_the_same_answers_may_be_learnt_in_another_way(line: TrainerLine) -> None:
    machine = to_watch(line)
    line.pass_time(101)
    drive(machine)
    again = line.machine(recipe=Recipe.FINETUNE)
    drive(again, at(RunStage.SHADOW))
    assert line.learner.lessons[1].recipe is Recipe.FINETUNE


def test_an_alias_of_which_nobody_said_anything_has_nothing_to_learn(tmp_path: Path) -> None:
    line = TrainerLine(tmp_path)
    drive(line.machine())
    assert the_run(line).reason == "nothing_to_learn"
    line.stop()


def test_people_who_contradict_each_other_are_reported_and_nothing_is_learnt_from_it(line: TrainerLine) -> None:
    line.say(0, "carl", verdict_right=Answer.YES, corrected_verdict=None)
    machine = line.machine()
    drive(machine, at(RunStage.TRAINING))
    summary = the_run(line).snapshot
    assert summary is not None
    assert (summary.parts, summary.contradicted) == (1, 1)
    assert dict(summary.left_out) == {"contradicted": 1}


def test_an_answer_to_a_case_that_is_damaged_keeps_nobody_from_learning(line: TrainerLine) -> None:
    said = line.say(2)
    [key] = [stat.key for stat in line.store.list("record/cases/") if said.case_id in stat.key]
    line.store.put(key, b"{ half")
    machine = line.machine()
    drive(machine, at(RunStage.TRAINING))
    summary = the_run(line).snapshot
    assert summary is not None
    assert summary.parts == 2


# ---- refused


@pytest.mark.parametrize("gate", [GateName.MCC, GateName.ESCAPES, GateName.CALIBRATION])
def test_a_broken_gate_refuses_the_candidate_and_keeps_it_for_comparison(line: TrainerLine, gate: GateName) -> None:
    line.learner.report = report(broken=gate)
    drive(line.machine())
    run = the_run(line)
    assert (run.outcome, run.reason) == (RunOutcome.REFUSED, gate.value)
    assert run.report is not None
    assert [one.name for one in run.report.promotion.broken] == [gate]
    assert line.versions.versions("default") == (1, 2)
    assert transitions.known_versions(line.state) == {1}


def test_a_candidate_that_flags_many_more_live_frames_is_refused(line: TrainerLine) -> None:
    machine = to_shadow(line)
    line.shadow((PASS, FAIL), (PASS, REVIEW), (PASS, PASS), (PASS, PASS))
    drive(machine)
    run = the_run(line)
    assert (run.outcome, run.reason) == (RunOutcome.REFUSED, "shadow")
    assert "a rise of 50.0%" in run.detail
    assert (line.state.live_version, line.state.shadow_version) == (1, 0)
    assert 2 in line.state.candidate_versions


def test_a_candidate_that_gives_no_answers_is_refused(line: TrainerLine) -> None:
    machine = to_shadow(line)
    for _ in range(4):
        line.inspect(PASS, 1, failure="Triton says no")
    drive(machine)
    assert (the_run(line).outcome, the_run(line).reason) == (RunOutcome.REFUSED, "triton_refused")
    assert line.state.shadow_version == 0


def test_a_candidate_that_fails_now_and_then_is_refused(line: TrainerLine) -> None:
    machine = to_shadow(line)
    line.shadow((PASS, PASS), (PASS, PASS), (PASS, PASS))
    line.inspect(PASS, 1, failure="too slow")
    drive(machine)
    assert (the_run(line).outcome, the_run(line).reason) == (RunOutcome.REFUSED, "shadow")
    assert "no answer to 1 of 4" in the_run(line).detail


def test_a_candidate_that_triton_cannot_bring_up_is_refused_with_tritons_words(line: TrainerLine) -> None:
    line.agents.told = BroughtUp(1, 1, 0, ("out of memory",))
    machine = to_shadow(line)
    line.pass_time(101)
    drive(machine)
    run = the_run(line)
    assert (run.outcome, run.reason) == (RunOutcome.REFUSED, "triton_refused")
    assert "out of memory" in run.detail


def test_a_shadow_that_answers_none_of_the_live_frames_is_refused(line: TrainerLine) -> None:
    machine = to_shadow(line)
    for _ in range(5):
        line.inspect(PASS, 1)
    machine.step()
    line.pass_time(101)
    drive(machine)
    run = the_run(line)
    assert run.reason == "triton_refused"
    assert "the live version answered 5" in run.detail


def test_a_line_that_stands_still_leaves_the_decision_to_an_engineer(line: TrainerLine) -> None:
    machine = to_shadow(line)
    line.pass_time(101)
    drive(machine, lambda one: one.run.doing == "waits for an engineer")
    run = the_run(line)
    assert (run.stage, run.promotes_itself) == (RunStage.DECISION, False)
    assert "no live frame came" in run.detail
    assert line.state.live_version == 1


def test_fewer_frames_than_wanted_leave_the_decision_to_an_engineer(line: TrainerLine) -> None:
    machine = to_shadow(line)
    line.shadow((PASS, PASS))
    machine.step()
    line.pass_time(101)
    drive(machine, lambda one: one.run.doing == "waits for an engineer")
    assert "1 of 4 live frames" in the_run(line).detail
    assert (line.state.live_version, line.state.shadow_version) == (1, 0)


def test_frames_that_come_twice_are_counted_once(line: TrainerLine) -> None:
    machine = to_shadow(line)
    line.shadow((PASS, PASS))
    record = next(iter(line.broker.records("sightline.shadow.v1")))
    line.broker.append(record.topic, key=record.key, value=record.value)
    machine.step()
    assert machine.run.shadow is not None
    assert machine.run.shadow.frames == 1


# ---- decided


def test_an_engineer_decides_in_production(tmp_path: Path) -> None:
    line = TrainerLine(tmp_path, promote_itself=False)
    line.say(0)
    machine = to_shadow(line)
    line.shadow(*[(PASS, PASS)] * 4)
    drive(machine, lambda one: one.run.doing == "waits for an engineer")
    line.pass_time(100_000)
    for _ in range(5):
        machine.step()
    assert line.state.live_version == 1
    line.change(lambda now: transitions.promote(now, 2, actor="mira", at_ns=line.now_ns))
    drive(machine, at(RunStage.WATCH))
    line.pass_time(101)
    drive(machine)
    assert the_run(line).outcome is RunOutcome.PROMOTED
    line.stop()


def test_a_candidate_that_somebody_retires_ends_its_run(line: TrainerLine) -> None:
    machine = to_shadow(line)
    line.change(lambda now: transitions.retire(now, 2, actor="mira", at_ns=line.now_ns))
    drive(machine)
    run = the_run(line)
    assert (run.outcome, run.reason) == (RunOutcome.CANCELLED, "retired")
    assert "mira" in run.detail


def test_another_version_that_went_live_meanwhile_leaves_the_decision_to_an_engineer(line: TrainerLine) -> None:
    machine = to_shadow(line)
    line.change(lambda now: transitions.add(now, 9, actor="mira", at_ns=line.now_ns))
    line.change(lambda now: transitions.promote(now, 9, actor="mira", at_ns=line.now_ns))
    drive(machine, lambda one: one.run.doing == "waits for an engineer")
    assert line.state.live_version == 9
    assert "version 9 went live meanwhile" in the_run(line).detail


def test_a_change_that_comes_first_by_a_moment_is_looked_at_again(
    line: TrainerLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    around = line.around()
    machine = line.machine(around=around)
    change = around.models.change
    failed: list[str] = []

    def conflict(alias: str, transition: Any) -> Any:
        if not failed:
            failed.append(alias)
            raise ConflictError("'default' must still be at revision 3")
        return change(alias, transition)

    monkeypatch.setattr(around.models, "change", conflict)
    drive(machine, at(RunStage.SHADOW))
    assert failed
    assert line.state.candidate_versions == (2,)


def test_a_shadow_of_somebody_else_is_left_alone(line: TrainerLine) -> None:
    line.change(lambda now: transitions.add(now, 9, actor="mira", at_ns=1))
    line.change(lambda now: transitions.shadow(now, 9, actor="mira", at_ns=1))
    machine = line.machine()
    drive(machine, lambda one: one.run.doing == "waits for an engineer")
    assert line.state.shadow_version == 9
    assert "version 9 is in the shadow" in the_run(line).detail


# ---- watched


def pass_frames(line: TrainerLine, said: Verdict, version: int, count: int, *, late: bool = False) -> None:
    for _ in range(count):
        line.inspect(said, version, late=late)


def test_a_version_that_throws_out_far_more_is_taken_back_with_the_numbers(line: TrainerLine) -> None:
    pass_frames(line, PASS, 1, 60)
    machine = to_watch(line)
    pass_frames(line, FAIL, 2, 40)
    drive(machine)
    run = the_run(line)
    assert (run.outcome, run.reason) == (RunOutcome.ROLLED_BACK, "flagged")
    assert (line.state.live_version, line.state.previous_version) == (1, 2)
    assert line.state.actor == "trainer"
    assert "40 of 40 frames, before" in line.state.note
    assert run.detail == line.state.note
    assert run.watch is not None
    assert (run.watch.frames, run.watch.flagged) == (40, 40)


def test_a_version_that_is_late_is_taken_back(line: TrainerLine) -> None:
    pass_frames(line, PASS, 1, 60)
    machine = to_watch(line)
    pass_frames(line, PASS, 2, 40, late=True)
    drive(machine)
    assert the_run(line).reason == "late"
    assert line.state.live_version == 1


def test_a_rise_that_may_be_chance_takes_nothing_back(line: TrainerLine) -> None:
    pass_frames(line, PASS, 1, 25)
    machine = to_watch(line)
    pass_frames(line, PASS, 2, 16)
    pass_frames(line, FAIL, 2, 6)
    for _ in range(5):
        machine.step()
    line.pass_time(101)
    drive(machine)
    assert the_run(line).outcome is RunOutcome.PROMOTED
    assert line.state.live_version == 2


def test_a_version_that_never_answers_is_taken_back(line: TrainerLine) -> None:
    machine = to_watch(line)
    pass_frames(line, PASS, 1, 30)
    machine.step()
    line.pass_time(101)
    drive(machine)
    assert the_run(line).reason == "silent"
    assert line.state.live_version == 1


def test_a_roll_back_by_hand_ends_the_watch(line: TrainerLine) -> None:
    machine = to_watch(line)
    line.change(lambda now: transitions.roll_back(now, actor="mira", at_ns=line.now_ns, note="dents pass"))
    drive(machine)
    run = the_run(line)
    assert (run.outcome, run.reason, run.detail) == (RunOutcome.ROLLED_BACK, "by_hand", "by mira: dents pass")


def test_a_newer_version_ends_the_watch(line: TrainerLine) -> None:
    machine = to_watch(line)
    line.change(lambda now: transitions.add(now, 9, actor="mira", at_ns=1))
    line.change(lambda now: transitions.promote(now, 9, actor="mira", at_ns=1))
    drive(machine)
    assert (the_run(line).outcome, the_run(line).reason) == (RunOutcome.PROMOTED, "replaced")
    assert line.state.live_version == 9


# ---- killed


class _KilledError(BaseException):
    """What ends a process at once."""


def kill() -> None:
    raise _KilledError


@pytest.mark.parametrize("stage", [one for one in RunStage if one is not RunStage.ENDED])
def test_a_run_goes_on_at_the_stage_in_which_its_trainer_was_killed(line: TrainerLine, stage: RunStage) -> None:
    machine = line.machine()
    late = stage in (RunStage.DECISION, RunStage.WATCH)
    if late:
        drive(machine, at(RunStage.SHADOW))
        machine.step()
        line.shadow(*[(PASS, PASS)] * 4)
    if stage is RunStage.EVALUATION:
        line.learner.after = kill
        with pytest.raises(_KilledError):
            drive(machine)
        line.learner.after = lambda: None
    else:
        drive(machine, at(stage))
    # The process is gone, and its memory with it.
    again = line.machine(the_run(line))
    assert again.run.stage is stage
    if not late:
        drive(again, at(RunStage.SHADOW))
        again.step()
        line.shadow(*[(PASS, PASS)] * 4)
    drive(again, at(RunStage.WATCH))
    line.pass_time(101)
    drive(again)
    assert the_run(line).outcome is RunOutcome.PROMOTED
    assert (line.state.live_version, line.state.previous_version) == (2, 1)
    assert line.versions.versions("default") == (1, 2)


def test_killed_between_its_storing_and_the_alias_a_version_is_added_once(line: TrainerLine) -> None:
    around = line.around()
    machine = line.machine(around=around)
    drive(machine, at(RunStage.REGISTERING))
    around.store.upload(replace_number(line, machine))
    again = line.machine(the_run(line))
    drive(again, at(RunStage.SHADOW))
    assert transitions.known_versions(line.state) == {1, 2}
    assert line.versions.versions("default") == (1, 2)


def replace_number(line: TrainerLine, machine: RunMachine) -> Path:
    line.record.put(replace(machine.run, candidate_version=2))
    return line.learner.candidate(line.learner.lessons[-1].folder)


def test_killed_after_it_was_added_and_before_that_is_on_record_it_goes_on(line: TrainerLine) -> None:
    machine = line.machine()
    drive(machine, at(RunStage.REGISTERING))
    registering = the_run(line)
    drive(machine, at(RunStage.SHADOW))
    line.record.put(replace(registering, candidate_version=2))
    again = line.machine(registering)
    drive(again, at(RunStage.SHADOW))
    assert transitions.known_versions(line.state) == {1, 2}


def test_killed_between_the_promotion_and_its_record_it_is_watched(line: TrainerLine) -> None:
    machine = to_shadow(line)
    line.shadow(*[(PASS, PASS)] * 4)
    drive(machine, at(RunStage.DECISION))
    deciding = the_run(line)
    drive(machine, at(RunStage.WATCH))
    revision = line.state.revision
    line.record.put(deciding)
    again = line.machine(deciding)
    drive(again, at(RunStage.WATCH))
    assert line.state.revision == revision
    assert again.run.live_version == 1


def test_killed_between_the_roll_back_and_its_record_it_says_why(line: TrainerLine) -> None:
    pass_frames(line, PASS, 1, 60)
    machine = to_watch(line)
    pass_frames(line, FAIL, 2, 40)
    while line.state.live_version == 2:
        machine.step()
    watching = the_run(line)
    assert watching.stage is RunStage.WATCH
    again = line.machine(watching)
    drive(again)
    run = the_run(line)
    assert (run.outcome, run.reason) == (RunOutcome.ROLLED_BACK, "flagged")
    assert line.state.live_version == 1


def test_a_second_try_learns_on_in_the_same_folder_with_the_same_number(line: TrainerLine) -> None:
    line.learner.fails = [UnavailableError("the child died")]
    machine = line.machine()
    drive(machine, at(RunStage.SHADOW))
    first, second = line.learner.lessons
    assert (first.folder, first.version, first.snapshot.digest) == (
        second.folder,
        second.version,
        second.snapshot.digest,
    )
    assert machine.run.attempts == 2


def test_a_candidate_that_was_made_on_another_machine_is_made_anew(line: TrainerLine) -> None:
    machine = line.machine()
    drive(machine, at(RunStage.REGISTERING))
    around = line.around(settings=line.settings.model_copy(update={"work": line.settings.work / "other"}))
    again = line.machine(the_run(line), around)
    drive(again, at(RunStage.SHADOW))
    assert len(line.learner.lessons) == 2


def test_a_number_that_somebody_took_meanwhile_is_not_used(line: TrainerLine, tmp_path: Path) -> None:
    machine = line.machine()
    drive(machine, at(RunStage.REGISTERING))
    renumber_version(tmp_path / "made", tmp_path / "two", 2)
    line.versions.upload(tmp_path / "two")
    drive(machine, at(RunStage.SHADOW))
    assert machine.run.candidate_version == 3
    assert line.versions.versions("default") == (1, 2, 3)
    assert line.versions.manifest("default", 3).version == 3


# ---- cancelled


@pytest.mark.parametrize(
    "stage", [RunStage.WAITING, RunStage.SNAPSHOT, RunStage.TRAINING, RunStage.REGISTERING, RunStage.SHADOW]
)
def test_a_run_can_be_cancelled_in_each_stage_before_it_is_live(line: TrainerLine, stage: RunStage) -> None:
    machine = line.machine()
    drive(machine, at(stage))
    line.record.wish_end(machine.run.run_id, "mira")
    machine.look_at_wishes()
    drive(machine)
    run = the_run(line)
    assert (run.outcome, run.reason, run.detail) == (RunOutcome.CANCELLED, "cancelled", "by mira")
    assert (line.state.live_version, line.state.shadow_version) == (1, 0)
    assert resumable(run) is (stage in (RunStage.WAITING, RunStage.SNAPSHOT, RunStage.TRAINING))


def test_a_run_that_waits_for_an_engineer_can_be_cancelled(tmp_path: Path) -> None:
    line = TrainerLine(tmp_path, promote_itself=False)
    line.say(0)
    machine = to_shadow(line)
    line.shadow(*[(PASS, PASS)] * 4)
    drive(machine, lambda one: one.run.doing == "waits for an engineer")
    line.record.wish_end(machine.run.run_id, "mira")
    machine.look_at_wishes()
    drive(machine)
    assert the_run(line).outcome is RunOutcome.CANCELLED
    line.stop()


def test_a_training_under_way_is_cancelled_and_can_be_resumed_with_its_own_data(line: TrainerLine) -> None:
    machine = line.machine()
    line.learner.hold.set()
    line.learner.during = lambda: wish(line, machine)
    drive(machine)
    cancelled = the_run(line)
    assert cancelled.outcome is RunOutcome.CANCELLED
    line.learner.hold.clear()
    line.learner.during = lambda: None
    line.say(5)
    line.record.forget_wish(cancelled.run_id)
    line.record.put(resumed(cancelled, line.now_ns))
    again = line.machine(cancelled)
    drive(again, at(RunStage.SHADOW))
    first, second = line.learner.lessons
    assert first.snapshot.digest == second.snapshot.digest
    assert first.folder == second.folder


def wish(line: TrainerLine, machine: RunMachine) -> None:
    line.record.wish_end(machine.run.run_id, "mira")
    machine.look_at_wishes()


def test_once_it_is_live_a_wish_to_cancel_changes_nothing(line: TrainerLine) -> None:
    machine = to_watch(line)
    line.record.wish_end(machine.run.run_id, "mira")
    machine.look_at_wishes()
    line.pass_time(101)
    drive(machine)
    assert the_run(line).outcome is RunOutcome.PROMOTED


# ---- bad days


def test_a_full_store_fails_the_run_with_the_reason_and_nothing_is_lost(line: TrainerLine) -> None:
    machine = line.machine()
    drive(machine, at(RunStage.REGISTERING))
    line.store.full = True
    for _ in range(4):
        machine.step()
    told = machine._around.book.get(machine.run.run_id)
    assert (told.outcome, told.reason) == (RunOutcome.FAILED, "store_full")
    assert the_run(line).stage is RunStage.REGISTERING
    line.store.full = False
    drive(machine)
    failed = the_run(line)
    assert (failed.outcome, failed.reason) == (RunOutcome.FAILED, "store_full")
    assert resumable(failed)
    line.record.put(resumed(failed, line.now_ns))
    again = line.machine(failed)
    drive(again, at(RunStage.SHADOW))
    assert len(line.learner.lessons) == 1


def test_a_store_that_is_away_is_waited_for_and_health_says_so(line: TrainerLine) -> None:
    machine = line.machine()
    drive(machine, at(RunStage.SNAPSHOT))
    line.store.unavailable = True
    for _ in range(3):
        machine.step()
    assert not line.health.ready
    assert "run of default" in str(line.health.describe())
    line.store.unavailable = False
    drive(machine, at(RunStage.SHADOW))
    assert line.health.ready


def test_a_broker_that_is_away_is_waited_for(line: TrainerLine) -> None:
    machine = line.machine()
    drive(machine, at(RunStage.REGISTERING))
    line.broker.unavailable = True
    for _ in range(3):
        machine.step()
    assert machine.run.stage is RunStage.REGISTERING
    line.broker.unavailable = False
    drive(machine, at(RunStage.SHADOW))


def test_what_cannot_be_learnt_fails_with_its_reason(line: TrainerLine) -> None:
    line.learner.fails = [InvalidInputError("the base set is missing")]
    drive(line.machine())
    run = the_run(line)
    assert (run.outcome, run.reason, run.detail) == (RunOutcome.FAILED, "invalid_input", "the base set is missing")


def test_a_fault_of_ours_ends_the_run_and_not_the_service(line: TrainerLine) -> None:
    line.learner.fails = [ZeroDivisionError("division by zero")]
    drive(line.machine())
    assert (the_run(line).reason, the_run(line).detail) == ("internal", "ZeroDivisionError: division by zero")


def test_an_alias_without_a_live_version_has_nothing_to_learn_on_from(tmp_path: Path) -> None:
    line = TrainerLine(tmp_path)
    line.models.change("weld", lambda now: transitions.add(now, 1, actor="mira", at_ns=1))
    run = line.controller(line.around()).start_run("weld", "mira")
    drive(line.machine(run))
    assert line.record.find(run.run_id).reason == "no_live_version"
    line.stop()


def test_a_trainer_that_lost_its_lease_writes_no_more(line: TrainerLine) -> None:
    machine = line.machine()
    drive(machine, at(RunStage.TRAINING))
    machine._lease._renewed_s -= 100
    line.store.put_new(f"training/leases/default/{9:012d}.json", b"{}")
    with pytest.raises(LeaseLostError):
        drive(machine)
    assert the_run(line).stage is RunStage.TRAINING
