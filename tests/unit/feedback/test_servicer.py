"""``FeedbackService`` at a real port, asked by the client that the dashboard uses."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace

import grpc
import numpy as np
import pytest
from sightline.v1 import events_pb2, feedback_service_pb2, feedback_service_pb2_grpc

from services.adapters.codec_review import review_to_message
from services.adapters.feedbackclient import FeedbackClient
from services.adapters.ports import CaseFilter, QueueOrder, ReviewFilter, ReviewStats
from services.core.errors import ConflictError, ForbiddenError, InvalidInputError, NotFoundError, UnavailableError
from services.core.identity import case_id
from services.core.review import Answer, AreaPoint, CaseState, ReviewAction
from services.core.types import CaseKind, Verdict
from tests.support.explained import explanation, failed
from tests.support.feedback_line import CLAIM_S, FeedbackLine, answer, mask_png

EVERYTHING = CaseFilter()
NO_SUCH = case_id("01990000-0000-7000-8000-000000000000", "default", 1)


@dataclass
class Served:
    """The service and a client of it."""

    line: FeedbackLine
    client: FeedbackClient


@pytest.fixture
def served() -> Iterator[Served]:
    line = FeedbackLine()
    yield Served(line, line.serve())
    line.stop()


@pytest.fixture
def stub(served: Served) -> Iterator[feedback_service_pb2_grpc.FeedbackServiceStub]:
    with grpc.insecure_channel(f"127.0.0.1:{served.line.port}") as channel:
        yield feedback_service_pb2_grpc.FeedbackServiceStub(channel)


def refused(call: object, request: object) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=10)  # type: ignore[operator]
    return caught.value.code(), caught.value.details()


# ---- queues


def test_a_queue_comes_in_pages_and_in_the_order_asked_for(served: Served) -> None:
    cases = [served.line.add_case(number, camera=f"cam-{number}") for number in range(5)]
    page = served.client.list_queue(EVERYTHING, QueueOrder.OLDEST, limit=3)
    rest = served.client.list_queue(EVERYTHING, QueueOrder.OLDEST, limit=3, token=page.next_token)
    assert {one.case_id for one in page.cases + rest.cases} == {case.case_id for case in cases}
    assert (len(page.cases), len(rest.cases), rest.next_token) == (3, 2, "")


def test_a_case_crosses_the_wire_whole(served: Served) -> None:
    case = served.line.add_case()
    (listed,) = served.client.list_queue(EVERYTHING, QueueOrder.BY_GAIN, limit=0).cases
    assert replace(listed, inspection=case.inspection) == case
    assert listed.inspection.frame_id == case.inspection.frame_id
    assert listed.gain == case.gain


@pytest.mark.parametrize(
    ("where", "found"),
    [
        (CaseFilter(line_id="line-1", camera_id="cam-1", product="disc", alias="default", model_version=1), 2),
        (CaseFilter(camera_id="cam-2"), 0),
        (CaseFilter(kind=CaseKind.AUDIT), 1),
        (CaseFilter(verdict=Verdict.FAIL), 1),
        (CaseFilter(state=CaseState.REVIEWED), 1),
        (CaseFilter(reviewer="ada"), 1),
        (CaseFilter(defect_class="dent"), 1),
        (CaseFilter(since_ns=1, until_ns=2), 0),
    ],
)
def test_every_filter_narrows(served: Served, where: CaseFilter, found: int) -> None:
    case = served.line.add_case(0)
    served.line.add_case(1, kind=CaseKind.AUDIT)
    served.client.submit(answer(case, defect_class="dent"), b"")
    assert len(served.client.list_queue(where, QueueOrder.BY_GAIN, limit=10).cases) == found


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (feedback_service_pb2.ListQueueRequest(page_size=201), "page_size must be 1 to 200"),
        (feedback_service_pb2.ListQueueRequest(page_size=-1), "page_size must be 1 to 200"),
        (feedback_service_pb2.ListQueueRequest(order=9), "order must be a value of the protocol, got 9"),
        (feedback_service_pb2.ListQueueRequest(page_token="x"), "token"),
        (feedback_service_pb2.ListQueueRequest(not_held_from=" "), "reviewer must be"),
        (feedback_service_pb2.ListQueueRequest(filter={"line_id": "a/b"}), "line_id must start with"),
        (feedback_service_pb2.ListQueueRequest(filter={"camera_id": ".."}), "camera_id must start with"),
        (feedback_service_pb2.ListQueueRequest(filter={"product": "\n"}), "product must start with"),
        (feedback_service_pb2.ListQueueRequest(filter={"alias": "UP"}), "alias"),
        (feedback_service_pb2.ListQueueRequest(filter={"verdict": 9}), "verdict must be a value"),
        (feedback_service_pb2.ListQueueRequest(filter={"kind": 9}), "kind must be a value"),
        (feedback_service_pb2.ListQueueRequest(filter={"state": 9}), "state must be a value"),
        (feedback_service_pb2.ListQueueRequest(filter={"since_ns": -1}), "since_ns must be >= 0"),
        (feedback_service_pb2.ListQueueRequest(filter={"model_version": -1}), "model_version must be >= 0"),
        (feedback_service_pb2.ListQueueRequest(filter={"defect_class": "a\0"}), "defect_class must have"),
    ],
)
def test_a_queue_that_breaks_a_rule_is_refused(
    stub: feedback_service_pb2_grpc.FeedbackServiceStub, request_: feedback_service_pb2.ListQueueRequest, said: str
) -> None:
    code, details = refused(stub.ListQueue, request_)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert said in details


def test_a_page_has_fifty_cases_unless_told_otherwise(served: Served) -> None:
    first = served.line.add_case(0)
    served.line.index.add_cases(
        [
            replace(first, case_id=case_id(first.inspection.frame_id, "default", version), explained_at_ns=version)
            for version in range(2, 53)
        ]
    )
    assert len(served.client.list_queue(EVERYTHING, QueueOrder.NEWEST, limit=0).cases) == 50


# ---- one case


def test_a_case_comes_with_its_maps_and_all_that_was_said(served: Served) -> None:
    maps = [explanation(), explanation("gradcam"), failed("rise")]
    case = served.line.add_case(explanations=maps)
    kept, _ = served.client.submit(answer(case), b"")
    undo, _ = served.client.undo(str(uuid.uuid4()), kept.review_id, "ada", 0)
    view = served.client.get_case(case.case_id)
    assert [one.method for one in view.explanations] == ["invrise-soft", "gradcam", "rise"]
    np.testing.assert_array_equal(view.explanations[0].map, maps[0].map)
    assert math.isnan(view.agreement)
    assert view.reviews == (kept, undo)
    assert view.case.case_id == case.case_id
    assert view.case.state is CaseState.OPEN


@pytest.mark.parametrize("given", ["", "nonsense", "01990000-0000-4000-8000-000000000000"])
def test_an_id_that_is_none_is_refused(served: Served, given: str) -> None:
    with pytest.raises(InvalidInputError, match="case_id must be"):
        served.client.get_case(given)
    with pytest.raises(InvalidInputError, match="case_id must be"):
        served.client.claim(given, "ada")


def test_what_is_not_known_is_not_found(served: Served) -> None:
    for call in (
        lambda: served.client.get_case(NO_SUCH),
        lambda: served.client.claim(NO_SUCH, "ada"),
        lambda: served.client.claim(NO_SUCH, "ada", release=True),
        lambda: served.client.undo(str(uuid.uuid4()), str(uuid.uuid4()), "ada", 0),
    ):
        with pytest.raises(NotFoundError):
            call()


# ---- claims


def test_a_case_is_held_by_one_person_until_it_is_given_back(served: Served) -> None:
    case = served.line.add_case()
    until_ns = served.client.claim(case.case_id, "ada")
    assert until_ns == served.line.now_ns + CLAIM_S * 1_000_000_000
    with pytest.raises(ConflictError, match="ada"):
        served.client.claim(case.case_id, "bob")
    assert served.client.get_case(case.case_id).case.claimed_by == "ada"
    assert served.client.list_queue(EVERYTHING, QueueOrder.NEWEST, limit=9, not_held_from="bob").cases == ()
    assert len(served.client.list_queue(EVERYTHING, QueueOrder.NEWEST, limit=9, not_held_from="ada").cases) == 1
    assert served.client.claim(case.case_id, "ada") > until_ns, "asking again prolongs it"
    assert served.client.claim(case.case_id, "ada", release=True) == 0
    assert served.client.claim(case.case_id, "bob") > 0


def test_a_claim_ends_by_itself(served: Served) -> None:
    case = served.line.add_case()
    served.client.claim(case.case_id, "ada")
    served.line.now_ns += CLAIM_S * 1_000_000_000
    view = served.client.get_case(case.case_id)
    assert (view.case.claimed_by, view.case.claimed_until_ns) == ("", 0)
    served.client.claim(case.case_id, "bob")


# ---- answers


def test_an_answer_crosses_the_wire_whole(served: Served) -> None:
    case = served.line.add_case()
    area = (AreaPoint(0, 0.5), AreaPoint(4, 0), AreaPoint(4, 4))
    given = answer(case, defect_class="dent", note="ä\nb", said_at_ns=3, area=area, reason_right=Answer.NO)
    kept, state = served.client.submit(given, mask_png((1, 1)))
    assert state is CaseState.REVIEWED
    assert (kept.defect_class, kept.note, kept.said_at_ns, kept.area) == ("dent", "ä\nb", 3, area)
    assert (kept.verdict_right, kept.reason_right, kept.mask_pixels) == (Answer.YES, Answer.NO, 1)
    assert kept == served.line.record.review(case.case_id, given.review_id)
    assert served.client.submit(given, mask_png((1, 1))) == (kept, state)
    with pytest.raises(ConflictError):
        served.client.submit(replace(given, note=""), mask_png((1, 1)))


def test_an_answer_and_its_undo(served: Served) -> None:
    case = served.line.add_case()
    kept, _ = served.client.submit(answer(case), b"")
    undo, state = served.client.undo(str(uuid.uuid4()), kept.review_id, "bob", 4)
    assert (undo.action, undo.supersedes, undo.reviewer, state) == (
        ReviewAction.UNDO,
        kept.review_id,
        "bob",
        CaseState.OPEN,
    )
    with pytest.raises(ConflictError, match="only an answer that stands"):
        served.client.undo(str(uuid.uuid4()), kept.review_id, "ada", 0)


def test_who_may_take_back_their_own_only_does_not_take_back_another_s(served: Served) -> None:
    kept, _ = served.client.submit(answer(served.line.add_case(), reviewer="ada"), b"")
    with pytest.raises(ForbiddenError, match="only one's own answer"):
        served.client.undo(str(uuid.uuid4()), kept.review_id, "bob", 0, only_own=True)
    assert served.client.undo(str(uuid.uuid4()), kept.review_id, "ada", 0, only_own=True)[1] is CaseState.OPEN


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("action", events_pb2.REVIEW_ACTION_UNSPECIFIED),
        ("action", events_pb2.REVIEW_ACTION_UNDO),
        ("action", 9),
        ("verdict_right", 9),
        ("reason_right", 9),
        ("corrected_verdict", 9),
    ],
)
def test_what_a_caller_says_is_taken_at_its_word_or_not_at_all(
    served: Served, stub: feedback_service_pb2_grpc.FeedbackServiceStub, field: str, value: int
) -> None:
    message = review_to_message(answer(served.line.add_case()))
    setattr(message, field, value)
    code, details = refused(stub.SubmitReview, feedback_service_pb2.SubmitReviewRequest(review=message))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert field in details


def test_what_the_service_fills_in_is_not_read(
    served: Served, stub: feedback_service_pb2_grpc.FeedbackServiceStub
) -> None:
    message = review_to_message(answer(served.line.add_case()))
    message.mask_ref.bucket = "elsewhere"
    message.supersedes = message.disagrees_with = "nonsense"
    response = stub.SubmitReview(feedback_service_pb2.SubmitReviewRequest(review=message), timeout=10)
    assert not response.review.HasField("mask_ref")
    assert response.review.supersedes == ""


def test_a_mask_of_eight_megabytes_reaches_its_rule(served: Served) -> None:
    with pytest.raises(InvalidInputError, match="a mask must have at most 8000000 bytes"):
        served.client.submit(answer(served.line.add_case()), bytes(8_000_001))


def test_a_message_too_large_for_the_service_is_not_called_busy(served: Served) -> None:
    with pytest.raises(InvalidInputError, match="small enough"):
        served.client.submit(answer(served.line.add_case()), bytes(33_000_000))


def test_while_the_record_is_away_an_answer_is_unavailable_and_the_queue_is_not(served: Served) -> None:
    case = served.line.add_case()
    served.line.store.unavailable = True
    with pytest.raises(UnavailableError):
        served.client.submit(answer(case), b"")
    with pytest.raises(UnavailableError):
        served.client.get_case(case.case_id)
    assert len(served.client.list_queue(EVERYTHING, QueueOrder.NEWEST, limit=9).cases) == 1


def test_a_service_that_is_not_there_is_unavailable() -> None:
    client = FeedbackClient("127.0.0.1:1")
    with pytest.raises(UnavailableError):
        client.stats(EVERYTHING, timeout_s=5)
    client.close()
    with pytest.raises(UnavailableError):
        client.stats(EVERYTHING, timeout_s=5)


# ---- reviews and figures


def test_reviews_are_listed_the_newest_first(served: Served) -> None:
    case = served.line.add_case()
    first, _ = served.client.submit(answer(case), b"")
    second, _ = served.client.submit(answer(case, "bob"), b"")
    undo, _ = served.client.undo(str(uuid.uuid4()), second.review_id, "bob", 0)
    page = served.client.list_reviews(ReviewFilter(), limit=2)
    assert page.reviews == (undo, second)
    assert served.client.list_reviews(ReviewFilter(), limit=2, token=page.next_token).reviews == (first,)
    assert served.client.list_reviews(ReviewFilter(standing_only=True), limit=0).reviews == (first,)
    assert served.client.list_reviews(ReviewFilter(reviewer="bob"), limit=0).reviews == (undo, second)
    # Each case once, however much was said of it.
    assert [one.inspection.part_id for one in page.cases] == [case.inspection.part_id]
    until = ReviewFilter(line_id="line-1", until_ns=second.reviewed_at_ns)
    assert served.client.list_reviews(until, limit=0).reviews == (first,)


@pytest.mark.parametrize("fields", [{"page_size": 201}, {"reviewer": " "}, {"line_id": "/"}, {"since_ns": -1}])
def test_a_list_of_reviews_that_breaks_a_rule_is_refused(
    stub: feedback_service_pb2_grpc.FeedbackServiceStub, fields: dict[str, object]
) -> None:
    request = feedback_service_pb2.ListReviewsRequest(**fields)  # type: ignore[arg-type]
    assert refused(stub.ListReviews, request)[0] is grpc.StatusCode.INVALID_ARGUMENT


def test_figures_count_what_people_settled_on(served: Served) -> None:
    cases = [served.line.add_case(number) for number in range(4)]
    wrong = {"verdict_right": Answer.NO, "reason_right": Answer.NOT_ASKED, "corrected_verdict": Verdict.PASS}
    served.client.submit(answer(cases[0]), b"")
    served.client.submit(answer(cases[1], **wrong), b"")
    served.client.submit(answer(cases[2]), b"")
    served.client.submit(answer(cases[2], "bob", **wrong), b"")
    stats = served.client.stats(EVERYTHING)
    assert stats == ReviewStats(
        open=1, reviewed=2, disputed=1, verdict_right=1, false_rejects=1, escapes=0, wrong_reason=0
    )
    assert served.client.stats(CaseFilter(camera_id="cam-9")).open == 0
