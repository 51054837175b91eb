"""The index made anew from the record is the index that was."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from services.adapters.caseindex import SqlCaseIndex
from services.adapters.ports import CaseFilter, ReviewFilter
from services.core.errors import NotFoundError, UnavailableError
from services.core.review import Answer, CaseState
from services.core.types import Verdict
from services.feedback.rebuild import rebuild_index
from services.feedback.refill import IndexRefill
from services.runtime.retry import Backoff
from tests.support.explainer_line import picture
from tests.support.feedback_line import FeedbackLine, answer, mask_png

WRONG = {"verdict_right": Answer.NO, "reason_right": Answer.NOT_ASKED, "corrected_verdict": Verdict.PASS}


@pytest.fixture
def line() -> Iterator[FeedbackLine]:
    """Three cases; one reviewed, one disputed, one whose review was taken back. The first review is published."""
    line = FeedbackLine()
    one, two, three = (
        line.add_case(number, image=picture(spot=(number, number), height_px=30, width_px=40)) for number in range(3)
    )
    first, _ = line.reviewing.submit(answer(one), mask_png((1, 1)))
    line.reviewing.submit(answer(two), b"")
    line.reviewing.submit(answer(two, "bob", **WRONG), b"")
    last, _ = line.reviewing.submit(answer(three), b"")
    line.reviewing.undo(str(uuid.uuid4()), last.review_id, "ada")
    line.index.set_published([first.review_id])
    yield line
    line.stop()


def test_cases_states_and_reviews_are_what_they_were(line: FeedbackLine) -> None:
    cases = line.queue()
    reviews = line.index.list_reviews(ReviewFilter(), limit=100)
    waiting, stats = line.index.unpublished(100), line.index.stats(CaseFilter())
    done = rebuild_index(line.index, line.record)
    assert (done.cases, done.reviews, done.damaged) == (3, 5, [])
    assert line.queue() == cases
    assert line.index.list_reviews(ReviewFilter(), limit=100) == reviews
    assert line.index.unpublished(100) == waiting
    assert line.index.stats(CaseFilter()) == stats


def test_an_index_from_nothing_sends_every_review_again_rather_than_none(line: FeedbackLine) -> None:
    index = SqlCaseIndex("sqlite://")
    rebuild_index(index, line.record)
    assert len(index.unpublished(100)) == 5
    assert index.stats(CaseFilter()) == line.index.stats(CaseFilter())
    index.close()


def test_claims_stay(line: FeedbackLine) -> None:
    case = line.queue()[0]
    line.index.claim(case.case_id, "ada", until_ns=line.now_ns + 10**12, now_ns=line.now_ns)
    rebuild_index(line.index, line.record)
    assert line.index.find_case(case.case_id).claimed_by == "ada"


def test_a_review_that_the_index_missed_is_found(line: FeedbackLine) -> None:
    case = line.queue()[0]
    line.index.takes_reviews = False
    given = answer(case, "eve")
    with pytest.raises(UnavailableError):
        line.reviewing.submit(given, b"")
    line.index.takes_reviews = True
    rebuild_index(line.index, line.record)
    assert line.index.find_review(given.review_id).reviewer == "eve"
    assert given.review_id in {one.review_id for one in line.index.unpublished(100)}


def test_what_cannot_be_read_is_told_and_left_out(line: FeedbackLine) -> None:
    keys = [stat.key for stat in line.store.list("record/cases/")]
    line.store.put(keys[0], b"{")
    line.store.put("record/reviews/stray.json", b"{}")
    done = rebuild_index(line.index, line.record)
    assert done.cases == 2
    assert {key for key, _ in done.damaged} == {keys[0], "record/reviews/stray.json"}
    assert all(why for _, why in done.damaged)


def test_a_case_whose_picture_is_gone_stays_without_a_size(line: FeedbackLine) -> None:
    case = line.queue()[0]
    line.store.delete([case.image_ref.key])
    done = rebuild_index(line.index, line.record)
    assert (done.cases, [key for key, _ in done.damaged]) == (3, [case.image_ref.key])
    assert line.index.find_case(case.case_id).image_width_px == 0


def test_progress_is_told(line: FeedbackLine) -> None:
    told: list[tuple[float, str]] = []
    rebuild_index(line.index, line.record, lambda share, what: told.append((share, what)))
    assert told[0] == (0.0, "looking at what is published")
    assert told[-1] == (1.0, "3 cases, 5 reviews")
    shares = [share for share, _ in told]
    assert shares == sorted(shares)


def test_a_record_that_is_away_is_said(line: FeedbackLine) -> None:
    line.store.unavailable = True
    with pytest.raises(UnavailableError):
        rebuild_index(line.index, line.record)


# ---- an index that was lost


def refilled(index: SqlCaseIndex, line: FeedbackLine) -> IndexRefill:
    """What a start of the service does."""
    refill = IndexRefill(index, line.record, Backoff(first_s=0.01, cap_s=0.02))
    refill.start()
    return refill


def test_an_empty_index_fills_itself_at_the_start(line: FeedbackLine) -> None:
    index = SqlCaseIndex("sqlite://")
    refill = refilled(index, line)
    assert refill.wait(10)
    refill.check()
    assert index.stats(CaseFilter()) == line.index.stats(CaseFilter())
    assert not index.needs_fill()
    index.close()


def test_an_index_that_holds_anything_is_left_alone(line: FeedbackLine) -> None:
    line.index.clear()
    case = line.add_case(9)
    assert refilled(line.index, line).wait(0)
    assert line.queue() == [case]


def test_a_fill_that_was_cut_off_goes_on_at_the_next_start(line: FeedbackLine) -> None:
    index = SqlCaseIndex("sqlite://")
    index.note_fill(ended=False)
    index.add_cases(line.queue()[:1])
    assert refilled(index, line).wait(10)
    assert index.stats(CaseFilter()) == line.index.stats(CaseFilter())
    index.close()


def test_a_fill_waits_for_a_record_that_is_away(line: FeedbackLine) -> None:
    index = SqlCaseIndex("sqlite://")
    line.store.unavailable = True
    refill = refilled(index, line)
    assert not refill.wait(0.1)
    line.store.unavailable = False
    assert refill.wait(10)
    assert index.stats(CaseFilter()) == line.index.stats(CaseFilter())
    index.close()


def test_a_case_that_only_the_record_knows_can_be_answered(line: FeedbackLine) -> None:
    first, second = line.queue()[0], line.index.list_reviews(ReviewFilter(reviewer="bob"), limit=1).reviews[0]
    line.index.clear()
    _, state = line.reviewing.submit(answer(first, "eve"), b"")
    assert state is CaseState.REVIEWED
    again, state = line.reviewing.submit(answer(first, "eve", case_id=second.case_id), b"")
    assert state is CaseState.DISPUTED, "what was said before the index was lost must count"
    assert again.disagrees_with == second.review_id


def test_a_service_that_is_killed_as_its_fill_begins_leaves_the_index_in_need_of_it(line: FeedbackLine) -> None:
    index = SqlCaseIndex("sqlite://")
    line.store.unavailable = True
    refill = refilled(index, line)
    refill.close()
    index.add_cases(line.queue()[:1])
    assert index.needs_fill(), "one new case must not hide that the others are missing"
    index.close()


def test_a_rebuild_that_is_cut_off_leaves_the_index_in_need_of_a_fill(line: FeedbackLine) -> None:
    line.store.unavailable = True
    with pytest.raises(UnavailableError):
        rebuild_index(line.index, line.record)
    assert line.index.needs_fill()
    line.store.unavailable = False
    assert refilled(line.index, line).wait(10)
    assert len(line.queue()) == 3
    assert not line.index.needs_fill()


def test_a_case_that_comes_back_is_never_there_without_what_was_said_of_it(line: FeedbackLine) -> None:
    said = line.index.list_reviews(ReviewFilter(reviewer="bob"), limit=1).reviews[0]
    case = line.index.find_case(said.case_id)
    line.index.clear()
    line.index.takes_reviews = False
    with pytest.raises(UnavailableError):
        line.reviewing.submit(answer(case, "eve"), b"")
    with pytest.raises(NotFoundError):
        line.index.find_case(case.case_id)
