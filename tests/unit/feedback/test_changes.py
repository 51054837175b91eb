"""What is inspected again after a new model, and what becomes of it when something is away."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from services.core.errors import BusyError, InvalidInputError, UnavailableError
from services.core.model_change import ChangeState, ModelChange, PartOutcome, flips
from services.core.review import Answer, QueuedCase, Review
from services.core.types import AliasAction, CaseKind, Verdict
from services.feedback.changes import WAITS_DETECTOR, WAITS_RECORD, WAITS_VERSION
from tests.support.feedback_line import IMAGE, FeedbackLine, answer
from tests.support.model_changes import Comparing, ToldDetector

PASS, FAIL, REVIEW = Verdict.PASS, Verdict.FAIL, Verdict.REVIEW


@pytest.fixture
def line() -> Iterator[FeedbackLine]:
    line = FeedbackLine()
    yield line
    line.stop()


@pytest.fixture
def detector() -> ToldDetector:
    return ToldDetector()


@pytest.fixture
def comparing(line: FeedbackLine, detector: ToldDetector) -> Comparing:
    made = Comparing(line, detector)
    made.models.promote(1)
    return made


def correct(line: FeedbackLine, number: int, reviewer: str = "ada", **changes: Any) -> tuple[QueuedCase, Review]:
    """A FAIL that somebody says is a good part."""
    case = line.add_case(number, **changes)
    said = answer(
        case, reviewer, verdict_right=Answer.NO, reason_right=Answer.NOT_ASKED, corrected_verdict=PASS, shown_method=""
    )
    return case, line.reviewing.submit(said, b"")[0]


def the_change(comparing: Comparing, revision: int = 4) -> ModelChange:
    return comparing.changes.get("default", revision)


def test_corrected_parts_are_inspected_again_by_the_new_model(
    line: FeedbackLine, comparing: Comparing, detector: ToldDetector
) -> None:
    case, said = correct(line, 0)
    correct(line, 1, "bob")
    detector.says = {"part-1": FAIL}
    comparing.models.promote(2, note="learned from May")
    comparing.run()
    change = the_change(comparing)
    assert (change.live_version, change.previous_version, change.actor) == (2, 1, "mira")
    assert (change.action, change.note, change.state) == (AliasAction.PROMOTE, "learned from May", ChangeState.DONE)
    newest, first = change.parts
    assert (first.case_id, first.settled, first.before.verdict, first.before.model_version) == (
        case.case_id,
        PASS,
        FAIL,
        1,
    )
    assert first.after is not None
    assert (first.after.verdict, first.after.model_version, first.after.score) == (PASS, 2, 0.1)
    assert first.outcome is PartOutcome.NOW_RIGHT
    assert [one.review_id for one in first.corrections] == [said.review_id]
    assert newest.outcome is PartOutcome.STILL_WRONG
    assert detector.images[0] == IMAGE


def test_a_first_model_changes_nothing(line: FeedbackLine, comparing: Comparing, detector: ToldDetector) -> None:
    correct(line, 0)
    comparing.run()
    assert comparing.changes.revisions() == {}
    assert detector.asked == []


def test_answers_that_agree_are_not_compared_and_a_wrong_reason_is(
    line: FeedbackLine, comparing: Comparing, detector: ToldDetector
) -> None:
    line.reviewing.submit(answer(line.add_case(0)), b"")
    case = line.add_case(1)
    line.reviewing.submit(answer(case, reason_right=Answer.NO), b"")
    detector.says = {"part-1": FAIL}
    comparing.models.promote(2)
    comparing.run()
    [part] = the_change(comparing).parts
    assert (part.case_id, part.outcome) == (case.case_id, PartOutcome.STILL_RIGHT)


def test_only_so_many_parts_are_compared_those_corrected_last_first(line: FeedbackLine, detector: ToldDetector) -> None:
    comparing = Comparing(line, detector, max_parts=2, max_frames=0)
    comparing.models.promote(1)
    cases = [correct(line, number)[0] for number in range(4)]
    comparing.models.promote(2)
    comparing.run()
    assert [part.case_id for part in the_change(comparing).parts] == [cases[3].case_id, cases[2].case_id]


def test_recent_frames_of_the_version_before_are_counted_with_their_weights(
    line: FeedbackLine, comparing: Comparing, detector: ToldDetector
) -> None:
    for number in range(3):
        line.add_case(number)
    line.add_case(3, kind=CaseKind.AUDIT)
    detector.says = {"part-0": FAIL, "part-1": REVIEW, "part-3": FAIL}
    comparing.models.promote(2)
    comparing.run()
    change = the_change(comparing)
    assert {(one.before, one.cases, one.frames) for one in change.strata} == {(FAIL, 3, 3.0), (PASS, 1, 1.0)}
    found = flips(change.frames, change.strata)
    assert {(kind.before, kind.after, kind.flipped) for kind in found.kinds} == {
        (FAIL, REVIEW, 1),
        (FAIL, PASS, 1),
        (PASS, FAIL, 1),
    }
    assert change.frames_since_ns < change.frames_until_ns


def test_a_frame_that_was_corrected_too_is_asked_about_once(
    line: FeedbackLine, comparing: Comparing, detector: ToldDetector
) -> None:
    correct(line, 0)
    comparing.models.promote(2)
    comparing.run()
    change = the_change(comparing)
    assert detector.asked == ["part-0"]
    assert (len(change.parts), len(change.frames), change.settled) == (1, 1, 2)


def test_a_detector_that_still_answers_with_the_old_version_is_asked_again(
    line: FeedbackLine, comparing: Comparing, detector: ToldDetector
) -> None:
    correct(line, 0)
    detector.version = 1
    comparing.models.promote(2)
    comparing.run(steps=4)
    change, waits_for = comparing.book.get("default", 4)
    assert (change.settled, waits_for) == (0, WAITS_VERSION)
    detector.version = 2
    comparing.run()
    [part] = the_change(comparing).parts
    assert part.after is not None
    assert part.after.model_version == 2


@pytest.mark.parametrize("error", [UnavailableError("no Triton answers"), BusyError("too many wait")])
def test_a_detector_that_is_away_is_waited_for_and_the_rest_goes_on_later(
    line: FeedbackLine, comparing: Comparing, detector: ToldDetector, error: Exception
) -> None:
    correct(line, 0)
    correct(line, 1)
    detector.away = error  # type: ignore[assignment]
    comparing.models.promote(2)
    comparing.run(steps=12)
    change, waits_for = comparing.book.get("default", 4)
    assert (change.settled, change.state, waits_for) == (0, ChangeState.COMPARING, WAITS_DETECTOR)
    detector.away = None
    comparing.run()
    assert the_change(comparing).state is ChangeState.DONE
    assert the_change(comparing).settled == 4


def test_a_picture_that_gets_no_answer_while_others_do_is_left_out(
    line: FeedbackLine, comparing: Comparing, detector: ToldDetector
) -> None:
    cases = [correct(line, number)[0] for number in range(3)]
    detector.fails = {"part-1": UnavailableError("the model failed")}
    comparing.models.promote(2)
    comparing.run()
    change = the_change(comparing)
    assert change.state is ChangeState.DONE
    assert {part.case_id: part.left_out for part in change.parts}[cases[1].case_id] == "no_answer"
    assert sum(part.outcome is PartOutcome.NOW_RIGHT for part in change.parts) == 2


def test_a_picture_that_is_gone_or_refused_is_left_out_and_named(
    line: FeedbackLine, comparing: Comparing, detector: ToldDetector
) -> None:
    gone, _ = correct(line, 0)
    line.store.delete([gone.image_ref.key])
    line.record.add_image(IMAGE[:-1] + b"x")
    detector.fails = {"part-0": InvalidInputError("an image must be a picture")}
    comparing.models.promote(2)
    comparing.run()
    assert the_change(comparing).parts[0].left_out == "picture_missing"
    assert detector.asked == []


def test_a_picture_that_the_detector_refuses_is_left_out(
    line: FeedbackLine, comparing: Comparing, detector: ToldDetector
) -> None:
    correct(line, 0)
    detector.fails = {"part-0": InvalidInputError("an image must be a picture")}
    comparing.models.promote(2)
    comparing.run()
    change = the_change(comparing)
    assert (change.parts[0].left_out, change.parts[0].outcome, change.state) == ("refused", None, ChangeState.DONE)


def test_a_product_that_another_alias_answers_for_is_left_out(
    line: FeedbackLine, comparing: Comparing, detector: ToldDetector
) -> None:
    correct(line, 0)
    detector.alias = "weld"
    comparing.models.promote(2)
    comparing.run()
    assert the_change(comparing).parts[0].left_out == "other_alias"


def test_another_life_goes_on_where_the_last_one_was(
    line: FeedbackLine, comparing: Comparing, detector: ToldDetector
) -> None:
    for number in range(4):
        correct(line, number)
    comparing.models.promote(2)
    comparing.run(steps=3)
    asked = list(detector.asked)
    assert 0 < len(asked) < 4
    # What is found is kept every few seconds, and at the end of an orderly life.
    comparing.comparer._stop.set()
    comparing.comparer._run()
    comparing.begin_anew()
    comparing.run()
    assert sorted(detector.asked) == ["part-0", "part-1", "part-2", "part-3"]
    assert the_change(comparing).state is ChangeState.DONE


def test_a_change_is_compared_once(line: FeedbackLine, comparing: Comparing, detector: ToldDetector) -> None:
    correct(line, 0)
    comparing.models.promote(2)
    comparing.run()
    comparing.begin_anew()
    comparing.models.add(3)
    comparing.run()
    assert detector.asked == ["part-0"]
    assert comparing.changes.revisions() == {"default": [4]}


def test_a_change_that_is_noticed_after_later_ones_is_compared_and_says_nothing_it_does_not_know(
    line: FeedbackLine, comparing: Comparing
) -> None:
    correct(line, 0)
    comparing.models.promote(2)
    comparing.models.add(3)
    comparing.run()
    change = the_change(comparing, 5)
    assert (change.live_version, change.action, change.actor) == (2, None, "")


def test_a_roll_back_is_a_change_too(line: FeedbackLine, comparing: Comparing, detector: ToldDetector) -> None:
    correct(line, 0)
    comparing.models.promote(2)
    comparing.run()
    detector.version, detector.says = 1, {"part-0": FAIL}
    comparing.models.roll_back(actor="ben")
    comparing.run()
    change = the_change(comparing, 5)
    assert (change.live_version, change.action, change.actor) == (1, AliasAction.ROLL_BACK, "ben")
    assert change.parts[0].outcome is PartOutcome.STILL_WRONG
    assert comparing.changes.revisions() == {"default": [5, 4]}


def test_a_version_that_is_replaced_meanwhile_keeps_what_was_compared(
    line: FeedbackLine, comparing: Comparing, detector: ToldDetector
) -> None:
    for number in range(3):
        correct(line, number)
    comparing.models.promote(2)

    def replace_it() -> None:
        if len(detector.asked) == 2:
            comparing.models.promote(3)
            detector.version = 3

    detector.on_ask = replace_it
    comparing.run()
    first, second = the_change(comparing, 4), the_change(comparing, 6)
    assert (first.state, sum(part.after is not None for part in first.parts)) == (ChangeState.SUPERSEDED, 1)
    assert (second.state, second.settled) == (ChangeState.DONE, second.planned)


def test_what_a_topic_that_began_anew_calls_the_same_is_kept_apart(
    line: FeedbackLine, comparing: Comparing, detector: ToldDetector
) -> None:
    correct(line, 0)
    comparing.models.promote(2)
    comparing.run()
    other = Comparing(FeedbackLine(), detector)
    other.line.store, other.line.index, other.line.record = line.store, line.index, line.record
    other.models._at_ns = comparing.models._at_ns + 1_000_000_000
    other.models.promote(2)
    other.models.promote(3)
    detector.version = 3
    other.begin_anew()
    other.run()
    assert comparing.changes.revisions() == {"default": [5, 4]}
    assert the_change(comparing, 5).live_version == 3


def test_the_store_away_is_waited_for(line: FeedbackLine, comparing: Comparing) -> None:
    correct(line, 0)
    comparing.models.promote(2)
    comparing.run(steps=1)
    line.store.unavailable = True
    comparing.run(steps=5)
    line.store.unavailable = False
    assert comparing.book.get("default", 4)[1] == WAITS_RECORD
    comparing.run()
    assert the_change(comparing).state is ChangeState.DONE


def test_the_broker_away_at_the_start_is_waited_for(line: FeedbackLine, comparing: Comparing) -> None:
    correct(line, 0)
    comparing.models.promote(2)
    line.broker.unavailable = True
    comparing.run(steps=3)
    line.broker.unavailable = False
    comparing.run()
    assert the_change(comparing).state is ChangeState.DONE


def test_a_change_on_record_that_is_damaged_keeps_nothing_from_being_compared(
    line: FeedbackLine, comparing: Comparing
) -> None:
    correct(line, 0)
    line.store.put("record/changes/default/3.json", b"{")
    comparing.models.promote(2)
    comparing.run()
    assert the_change(comparing).state is ChangeState.DONE


def test_the_thread_works_by_itself(line: FeedbackLine, detector: ToldDetector) -> None:
    comparing = Comparing(line, detector, per_s=1_000)
    comparing.models.promote(1)
    correct(line, 0)
    comparing.models.promote(2)
    comparing.comparer.start()
    try:
        from tests.support.detector_line import wait_until

        wait_until(lambda: comparing.changes.revisions() != {}, "a change is on record")
        wait_until(lambda: the_change(comparing).state is ChangeState.DONE, "it is compared")
        comparing.comparer.check()
    finally:
        comparing.comparer.close()
