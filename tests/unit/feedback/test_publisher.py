"""Reviews come into their topic once they are on record, however long the broker is away."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services.core import topics
from services.core.errors import InvalidInputError, UnavailableError
from services.runtime import metrics
from tests.support.cases import queued_case, review
from tests.support.detector_line import wait_until
from tests.support.feedback_line import FeedbackLine, answer


@pytest.fixture
def line() -> Iterator[FeedbackLine]:
    line = FeedbackLine()
    yield line
    line.broker.unavailable = False
    line.stop()


def waiting(line: FeedbackLine) -> int:
    return len(line.index.unpublished(1_000))


def test_a_review_is_published_as_it_is_on_record(line: FeedbackLine) -> None:
    line.publisher.start()
    case = line.add_case()
    kept, _ = line.reviewing.submit(answer(case), b"")
    wait_until(lambda: waiting(line) == 0, "nothing waits")
    assert line.published == [kept]
    (record,) = line.broker.records(topics.REVIEWS)
    assert record.key == case.inspection.frame_id.encode()


def test_what_waits_from_an_earlier_life_is_sent_first(line: FeedbackLine) -> None:
    case = line.add_case()
    kept = [line.reviewing.submit(answer(case, note=str(number)), b"")[0] for number in range(3)]
    line.publisher.start()
    wait_until(lambda: waiting(line) == 0, "nothing waits")
    assert line.published == kept


def test_a_broker_that_is_away_keeps_nobody_from_reviewing(line: FeedbackLine) -> None:
    line.publisher.start()
    case = line.add_case()
    line.broker.unavailable = True
    kept = [line.reviewing.submit(answer(case, note=str(number)), b"")[0] for number in range(3)]
    up = metrics.FEEDBACK_DEPENDENCY_UP.labels("reviews")
    wait_until(lambda: up._value.get() == 0, "the outage is noticed")
    assert line.published == []
    assert waiting(line) == 3
    line.broker.unavailable = False
    wait_until(lambda: waiting(line) == 0, "nothing waits")
    assert line.published == kept
    wait_until(lambda: up._value.get() == 1, "the end of the outage is noticed")
    assert metrics.FEEDBACK_UNPUBLISHED._value.get() == 0


def test_a_review_whose_acknowledgement_is_lost_is_sent_again(line: FeedbackLine) -> None:
    case = line.add_case()
    line.writer.holding = True
    line.publisher.start()
    kept, _ = line.reviewing.submit(answer(case), b"")
    wait_until(lambda: len(line.published) == 1, "it is written")
    assert waiting(line) == 1, "what is not acknowledged is not published"
    line.writer.fail_held(UnavailableError("the acknowledgement is lost"))
    line.writer.release()
    wait_until(lambda: waiting(line) == 0, "nothing waits")
    assert {one.review_id for one in line.published} == {kept.review_id}
    assert len(line.published) >= 2


def test_an_index_that_is_away_is_waited_for(line: FeedbackLine) -> None:
    case = line.add_case()
    kept, _ = line.reviewing.submit(answer(case), b"")
    line.index.unavailable = True
    line.publisher.start()
    wait_until(lambda: metrics.FEEDBACK_DEPENDENCY_UP.labels("reviews")._value.get() == 0, "it is noticed")
    line.index.unavailable = False
    wait_until(lambda: line.published == [kept], "it is sent")


def test_more_than_a_batch_is_sent_at_once(line: FeedbackLine) -> None:
    said = [review(queued_case(number), number) for number in range(450)]
    for one in said:
        line.index.add_review(one, published=False)
    line.publisher.start()
    wait_until(lambda: waiting(line) == 0, "nothing waits", 20)
    assert sorted(one.review_id for one in line.published) == sorted(one.review_id for one in said)


def test_a_stop_sends_what_waits(line: FeedbackLine) -> None:
    line.publisher.start()
    line.index.add_review(review(queued_case()), published=False)
    line.publisher.close()
    assert len(line.published) == 1
    line.publisher.check()


def test_a_review_that_the_broker_refuses_for_good_ends_the_service(line: FeedbackLine) -> None:
    line.broker.max_message_bytes = 10
    line.publisher.start()
    line.reviewing.submit(answer(line.add_case()), b"")

    def ended() -> bool:
        try:
            line.publisher.check()
        except InvalidInputError:
            return True
        return False

    wait_until(ended, "it is told")
