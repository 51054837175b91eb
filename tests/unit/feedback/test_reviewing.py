"""What becomes of an answer: checked, on record, in the index, and acknowledged only then."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest

from services.core.errors import ConflictError, InvalidInputError, NotFoundError, UnavailableError
from services.core.identity import case_id
from services.core.review import Answer, AreaPoint, CaseState, ReviewAction, standing_reviews
from services.core.types import CaseKind, Verdict
from tests.support.feedback_line import HEIGHT_PX, WIDTH_PX, FeedbackLine, answer, mask_png

WRONG = {
    "verdict_right": Answer.NO,
    "reason_right": Answer.NOT_ASKED,
    "corrected_verdict": Verdict.PASS,
}


@pytest.fixture
def line() -> Iterator[FeedbackLine]:
    line = FeedbackLine()
    yield line
    line.stop()


def test_an_answer_is_on_record_and_in_the_index_when_it_is_acknowledged(line: FeedbackLine) -> None:
    case = line.add_case()
    given = answer(case, defect_class="scratch", note="left edge", said_at_ns=5)
    kept, state = line.reviewing.submit(given, b"")
    assert state is CaseState.REVIEWED
    assert line.record.review(case.case_id, given.review_id) == kept
    assert line.index.find_review(given.review_id) == kept
    assert [one.review_id for one in line.index.unpublished(10)] == [given.review_id]
    found = line.index.find_case(case.case_id)
    assert (found.state, found.settled_verdict) == (CaseState.REVIEWED, Verdict.FAIL)


def test_the_service_fills_in_what_it_knows_better(line: FeedbackLine) -> None:
    case = line.add_case()
    told = answer(case, frame_id="x", alias="other", model_version=9, reviewed_at_ns=1, mask_pixels=7)
    kept, _ = line.reviewing.submit(replace(told, supersedes=str(uuid.uuid4())), b"")
    assert (kept.frame_id, kept.alias, kept.model_version) == (case.inspection.frame_id, "default", 1)
    assert kept.reviewed_at_ns == line.now_ns
    assert (kept.supersedes, kept.mask_ref, kept.mask_pixels) == ("", None, 0)


def test_a_drawing_is_kept_as_a_mask_of_the_picture(line: FeedbackLine) -> None:
    case = line.add_case()
    kept, _ = line.reviewing.submit(answer(case), mask_png((1, 2), (3, 4), (3, 5)))
    assert kept.mask_pixels == 3
    assert kept.mask_ref is not None
    assert kept.mask_ref.key.startswith("record/masks/")
    assert line.store.exists(kept.mask_ref.key)


@pytest.mark.parametrize(
    ("changes", "png", "said"),
    [
        ({"verdict_right": Answer.NOT_ASKED}, b"", "must say whether the verdict is right"),
        ({"verdict_right": Answer.NO}, b"", "must be corrected to pass"),
        (WRONG, mask_png((1, 1)), "a good part must have no defect"),
        ({"area": (AreaPoint(0, 0), AreaPoint(5, 0), AreaPoint(WIDTH_PX + 1, 5))}, b"", "must lie within the picture"),
        ({}, mask_png((1, 1), width_px=WIDTH_PX + 1), "its picture's size"),
        ({}, b"no picture", "PNG"),
        ({"reviewer": " ada"}, b"", "reviewer must be"),
        ({"shown_method": "Grad CAM"}, b"", "shown_method must be"),
        ({"action": ReviewAction.UNDO}, b"", "must answer or skip"),
        ({"review_id": "1"}, b"", "review_id must be a lower-case UUID"),
        ({"case_id": "1"}, b"", "case_id must be"),
        ({"action": ReviewAction.SKIP}, b"", "only an answer may answer"),
    ],
)
def test_what_breaks_a_rule_is_refused_and_leaves_no_trace(
    line: FeedbackLine, changes: dict[str, object], png: bytes, said: str
) -> None:
    case = line.add_case()
    puts = line.store.puts
    with pytest.raises(InvalidInputError, match=said):
        line.reviewing.submit(answer(case, **changes), png)
    assert line.store.puts == puts
    assert line.index.reviews_of(case.case_id) == ()


def test_a_mask_may_only_be_so_large(line: FeedbackLine) -> None:
    small = FeedbackLine(max_mask_bytes=1_000)
    case = small.add_case()
    with pytest.raises(InvalidInputError, match="at most 1000 bytes, got 1001"):
        small.reviewing.submit(answer(case), bytes(1_001))
    small.stop()


def test_an_unreadable_picture_has_no_place_for_a_mask(line: FeedbackLine) -> None:
    case = line.add_case(image=b"torn")
    assert (case.image_width_px, case.image_height_px) == (0, 0)
    with pytest.raises(InvalidInputError, match="0 x 0 px"):
        line.reviewing.submit(answer(case), mask_png((1, 1)))


def test_a_case_without_maps_has_no_method_on_screen(line: FeedbackLine) -> None:
    case = line.add_case(explanations=())
    assert case.shown_method == ""
    with pytest.raises(InvalidInputError, match="without maps"):
        line.reviewing.submit(answer(case, shown_method="rise"), b"")


def test_a_case_that_is_not_known_is_not_found(line: FeedbackLine) -> None:
    case = line.add_case()
    with pytest.raises(NotFoundError):
        line.reviewing.submit(answer(case, case_id=case_id(case.inspection.frame_id, "default", 2)), b"")


# ---- who said what before


def test_a_person_s_second_answer_takes_the_place_of_the_first(line: FeedbackLine) -> None:
    case = line.add_case()
    first, _ = line.reviewing.submit(answer(case), b"")
    second, state = line.reviewing.submit(answer(case, **WRONG), b"")
    assert second.supersedes == first.review_id
    assert second.disagrees_with == ""
    assert state is CaseState.REVIEWED
    assert line.index.find_case(case.case_id).settled_verdict is Verdict.PASS


def test_two_people_who_differ_dispute_a_case(line: FeedbackLine) -> None:
    case = line.add_case()
    ada, _ = line.reviewing.submit(answer(case), b"")
    bob, state = line.reviewing.submit(answer(case, "bob", **WRONG), b"")
    assert (bob.disagrees_with, bob.supersedes) == (ada.review_id, "")
    assert state is CaseState.DISPUTED
    again, state = line.reviewing.submit(answer(case, "bob"), b"")
    assert (again.supersedes, again.disagrees_with) == (bob.review_id, "")
    assert state is CaseState.REVIEWED


def test_a_skip_leaves_a_case_open_and_replaces_nothing(line: FeedbackLine) -> None:
    case = line.add_case()
    skip = {"action": ReviewAction.SKIP, "verdict_right": Answer.NOT_ASKED, "reason_right": Answer.NOT_ASKED}
    _, state = line.reviewing.submit(answer(case, **skip), b"")
    assert state is CaseState.OPEN
    line.reviewing.submit(answer(case), b"")
    kept, state = line.reviewing.submit(answer(case, **skip), b"")
    assert (kept.supersedes, state) == ("", CaseState.REVIEWED)


def test_whoever_answered_holds_the_case_no_longer(line: FeedbackLine) -> None:
    case = line.add_case()
    line.index.claim(case.case_id, "ada", until_ns=line.now_ns + 10**12, now_ns=line.now_ns)
    line.reviewing.submit(answer(case, "bob"), b"")
    assert line.index.find_case(case.case_id).claimed_by == "ada", "it is not bob's to give back"
    line.reviewing.submit(answer(case), b"")
    assert line.index.find_case(case.case_id).claimed_by == ""


def test_a_part_in_review_is_settled_by_what_the_person_decides(line: FeedbackLine) -> None:
    case = line.add_case(kind=CaseKind.REVIEW)
    line.reviewing.submit(answer(case, corrected_verdict=Verdict.PASS, verdict_right=Answer.NOT_SURE), b"")
    assert line.index.find_case(case.case_id).settled_verdict is Verdict.PASS


def test_one_person_s_answers_at_once_follow_each_other(line: FeedbackLine) -> None:
    case = line.add_case()
    given = [answer(case, note=str(number)) for number in range(8)]
    threads = [threading.Thread(target=line.reviewing.submit, args=(one, b"")) for one in given]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    said = line.index.reviews_of(case.case_id)
    assert len(said) == 8
    assert len(standing_reviews(said)) == 1


# ---- the same again


def test_the_same_review_twice_is_one_review(line: FeedbackLine) -> None:
    case = line.add_case()
    given, png = answer(case), mask_png((1, 1))
    first, _ = line.reviewing.submit(given, png)
    puts = line.store.puts
    again, state = line.reviewing.submit(given, png)
    assert (again, state) == (first, CaseState.REVIEWED)
    assert line.store.puts == puts
    assert len(line.index.reviews_of(case.case_id)) == 1


def test_a_review_that_was_replaced_since_may_come_again(line: FeedbackLine) -> None:
    case = line.add_case()
    given = answer(case)
    first, _ = line.reviewing.submit(given, b"")
    line.reviewing.submit(answer(case, **WRONG), b"")
    again, _ = line.reviewing.submit(given, b"")
    assert again == first
    assert line.index.find_case(case.case_id).settled_verdict is Verdict.PASS


@pytest.mark.parametrize("known_to_the_index", [True, False])
def test_an_id_that_was_used_for_another_review_is_refused(line: FeedbackLine, known_to_the_index: bool) -> None:
    case = line.add_case()
    given = answer(case)
    line.reviewing.submit(given, b"")
    if not known_to_the_index:
        line.index.clear()
        line.index.add_cases([case])
    with pytest.raises(ConflictError):
        line.reviewing.submit(replace(given, note="something else"), b"")
    with pytest.raises(ConflictError):
        line.reviewing.submit(given, mask_png((1, 1)))


def test_another_drawing_of_as_many_pixels_is_another_review(line: FeedbackLine) -> None:
    case = line.add_case()
    given = answer(case)
    line.reviewing.submit(given, mask_png((1, 1)))
    with pytest.raises(ConflictError):
        line.reviewing.submit(given, mask_png((2, 1)))


# ---- something is away


def test_while_the_record_is_away_nothing_is_taken(line: FeedbackLine) -> None:
    case = line.add_case()
    given = answer(case)
    line.store.unavailable = True
    with pytest.raises(UnavailableError):
        line.reviewing.submit(given, b"")
    assert line.index.reviews_of(case.case_id) == ()
    line.store.unavailable = False
    _, state = line.reviewing.submit(given, b"")
    assert state is CaseState.REVIEWED


def test_an_answer_that_the_index_missed_is_taken_by_the_same_call(line: FeedbackLine) -> None:
    case = line.add_case()
    given = answer(case)
    line.index.takes_reviews = False
    with pytest.raises(UnavailableError):
        line.reviewing.submit(given, mask_png((1, 1)))
    recorded = line.record.review(case.case_id, given.review_id)
    line.index.takes_reviews = True
    kept, state = line.reviewing.submit(given, mask_png((1, 1)))
    assert kept == recorded, "it was taken when the record had it"
    assert state is CaseState.REVIEWED


# ---- taking back


def test_what_is_taken_back_counts_no_more_and_stays_on_record(line: FeedbackLine) -> None:
    case = line.add_case()
    first, _ = line.reviewing.submit(answer(case), b"")
    undo_id = str(uuid.uuid4())
    kept, state = line.reviewing.undo(undo_id, first.review_id, "ada", 7)
    assert (kept.action, kept.supersedes, kept.said_at_ns) == (ReviewAction.UNDO, first.review_id, 7)
    assert state is CaseState.OPEN
    assert {one.review_id for one in line.record.reviews_of(case.case_id)} == {first.review_id, undo_id}


def test_taking_a_second_answer_back_lets_the_first_stand_again(line: FeedbackLine) -> None:
    case = line.add_case()
    first, _ = line.reviewing.submit(answer(case), b"")
    second, _ = line.reviewing.submit(answer(case, **WRONG), b"")
    _, state = line.reviewing.undo(str(uuid.uuid4()), second.review_id, "ada")
    assert state is CaseState.REVIEWED
    assert [one.review_id for one in standing_reviews(line.index.reviews_of(case.case_id))] == [first.review_id]


def test_an_undo_twice_is_one_undo(line: FeedbackLine) -> None:
    case = line.add_case()
    first, _ = line.reviewing.submit(answer(case), b"")
    undo_id = str(uuid.uuid4())
    kept, _ = line.reviewing.undo(undo_id, first.review_id, "ada", 7)
    assert line.reviewing.undo(undo_id, first.review_id, "ada", 7) == (kept, CaseState.OPEN)
    assert len(line.index.reviews_of(case.case_id)) == 2


def test_only_what_stands_can_be_taken_back(line: FeedbackLine) -> None:
    case = line.add_case()
    first, _ = line.reviewing.submit(answer(case), b"")
    line.reviewing.submit(answer(case, **WRONG), b"")
    with pytest.raises(ConflictError, match="only an answer that stands"):
        line.reviewing.undo(str(uuid.uuid4()), first.review_id, "ada")


def test_an_undo_of_what_nobody_said_is_not_found(line: FeedbackLine) -> None:
    with pytest.raises(NotFoundError):
        line.reviewing.undo(str(uuid.uuid4()), str(uuid.uuid4()), "ada")


@pytest.mark.parametrize("known_to_the_index", [True, False])
def test_an_undo_s_id_is_for_one_undo(line: FeedbackLine, known_to_the_index: bool) -> None:
    case = line.add_case()
    first, _ = line.reviewing.submit(answer(case), b"")
    other, _ = line.reviewing.submit(answer(case, "bob"), b"")
    undo_id = str(uuid.uuid4())
    line.index.takes_reviews = known_to_the_index
    if known_to_the_index:
        line.reviewing.undo(undo_id, first.review_id, "ada")
    else:
        with pytest.raises(UnavailableError):
            line.reviewing.undo(undo_id, first.review_id, "ada")
    line.index.takes_reviews = True
    with pytest.raises(ConflictError, match="must be used for one review"):
        line.reviewing.undo(undo_id, other.review_id, "ada")


def test_corners_on_the_edge_are_within_the_picture(line: FeedbackLine) -> None:
    case = line.add_case()
    area = (AreaPoint(0, 0), AreaPoint(WIDTH_PX, 0), AreaPoint(WIDTH_PX, HEIGHT_PX))
    kept, _ = line.reviewing.submit(answer(case, area=area), b"")
    assert kept.area == area
