"""The index made anew from the record is the index that was."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from services.adapters.caseindex import SqlCaseIndex
from services.adapters.ports import CaseFilter, ReviewFilter
from services.core.errors import UnavailableError
from services.core.review import Answer
from services.core.types import Verdict
from services.feedback.rebuild import rebuild_index
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
