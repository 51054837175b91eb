"""``FeedbackService``: queues, cases, answers, and taking them back."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, TypeVar

import grpc
from sightline.v1 import events_pb2, feedback_service_pb2, feedback_service_pb2_grpc

from services.adapters.caserecord import CaseRecord
from services.adapters.codec import KIND_FROM_WIRE, VERDICT_FROM_WIRE
from services.adapters.codec_explained import explanation_to_message
from services.adapters.codec_neighbours import neighbours_to_message
from services.adapters.codec_review import (
    STATE_FROM_WIRE,
    STATE_TO_WIRE,
    queued_case_to_message,
    review_from_message,
    review_to_message,
)
from services.adapters.ports import CaseFilter, CaseIndex, QueueOrder, ReviewFilter
from services.core.errors import InvalidInputError
from services.core.identity import validate_id
from services.core.manifest import validate_alias
from services.core.review import MAX_CLASS_LENGTH, validate_case_id, validate_reviewer
from services.feedback.calls import counted
from services.feedback.neighbours import NeighbourFinder
from services.feedback.reviewing import Reviewing

T = TypeVar("T")

MAX_PAGE_SIZE: Final = 200
DEFAULT_PAGE_SIZE: Final = 50

_NS_PER_S: Final = 1_000_000_000
# Class names of models are as long as their manifests allow.
_MAX_CLASS_LENGTH: Final = max(128, MAX_CLASS_LENGTH)
_ORDER_FROM_WIRE: Final = {
    int(feedback_service_pb2.QUEUE_ORDER_UNSPECIFIED): QueueOrder.BY_GAIN,
    int(feedback_service_pb2.QUEUE_ORDER_BY_GAIN): QueueOrder.BY_GAIN,
    int(feedback_service_pb2.QUEUE_ORDER_NEWEST): QueueOrder.NEWEST,
    int(feedback_service_pb2.QUEUE_ORDER_OLDEST): QueueOrder.OLDEST,
}
_GIVEN: Final = frozenset({int(events_pb2.REVIEW_ACTION_ANSWER), int(events_pb2.REVIEW_ACTION_SKIP)})
_ANSWERS: Final = frozenset(int(value) for value in events_pb2.Answer.values())
_VERDICTS: Final = frozenset({0, *VERDICT_FROM_WIRE})


class FeedbackServicer(feedback_service_pb2_grpc.FeedbackServiceServicer):
    """Answers calls; errors are the domain's.

    Args:
        index: The cases, and what was said of them.
        record: Maps of a case.
        reviewing: Takes answers.
        neighbours: Finds what resembles a case.
        claim_s: How long a claim holds.
        clock_ns: Wall clock.
    """

    def __init__(
        self,
        index: CaseIndex,
        record: CaseRecord,
        reviewing: Reviewing,
        neighbours: NeighbourFinder,
        *,
        claim_s: float,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._index = index
        self._record = record
        self._reviewing = reviewing
        self._neighbours = neighbours
        self._claim_ns = round(claim_s * _NS_PER_S)
        self._clock_ns = clock_ns

    def ListQueue(  # noqa: N802 - the name of the call
        self, request: feedback_service_pb2.ListQueueRequest, context: grpc.ServicerContext
    ) -> feedback_service_pb2.ListQueueResponse:
        """List cases; see the protocol.

        Raises:
            InvalidInputError: For what breaks a rule.
            UnavailableError: While the index is away.
        """
        del context
        with counted("list_queue"):
            page = self._index.list_cases(
                read_case_filter(request.filter),
                _known("order", _ORDER_FROM_WIRE, request.order),
                limit=_page_size(request.page_size),
                token=request.page_token,
                not_held_from=validate_reviewer(request.not_held_from) if request.not_held_from else "",
                now_ns=self._clock_ns(),
            )
            return feedback_service_pb2.ListQueueResponse(
                cases=[queued_case_to_message(case) for case in page.cases], next_page_token=page.next_token
            )

    def GetCase(  # noqa: N802
        self, request: feedback_service_pb2.GetCaseRequest, context: grpc.ServicerContext
    ) -> feedback_service_pb2.GetCaseResponse:
        """Give one case; see the protocol.

        Raises:
            InvalidInputError: For an id that is none.
            NotFoundError: When there is no such case.
            UnavailableError: While the record or the index is away.
        """
        del context
        with counted("get_case"):
            case = self._index.find_case(validate_case_id(request.case_id))
            if case.claimed_until_ns <= self._clock_ns():
                case = replace(case, claimed_by="", claimed_until_ns=0)
            explained = self._record.case(case.case_id)
            return feedback_service_pb2.GetCaseResponse(
                summary=queued_case_to_message(case),
                explanations=[explanation_to_message(one) for one in explained.explanations],
                agreement=explained.agreement,
                reviews=[review_to_message(one) for one in self._index.reviews_of(case.case_id)],
            )

    def ClaimCase(  # noqa: N802
        self, request: feedback_service_pb2.ClaimCaseRequest, context: grpc.ServicerContext
    ) -> feedback_service_pb2.ClaimCaseResponse:
        """Reserve a case or give it back; see the protocol.

        Raises:
            InvalidInputError: For an id or a name that is none.
            NotFoundError: When there is no such case.
            ConflictError: While somebody else holds it.
            UnavailableError: While the index is away.
        """
        del context
        with counted("claim_case"):
            case_id, reviewer = validate_case_id(request.case_id), validate_reviewer(request.reviewer)
            if request.release:
                # One who gives back what there is not is told so.
                self._index.find_case(case_id)
                self._index.release(case_id, reviewer)
                return feedback_service_pb2.ClaimCaseResponse(until_ns=0)
            now_ns = self._clock_ns()
            until_ns = now_ns + self._claim_ns
            self._index.claim(case_id, reviewer, until_ns=until_ns, now_ns=now_ns)
            return feedback_service_pb2.ClaimCaseResponse(until_ns=until_ns)

    def SubmitReview(  # noqa: N802
        self, request: feedback_service_pb2.SubmitReviewRequest, context: grpc.ServicerContext
    ) -> feedback_service_pb2.SubmitReviewResponse:
        """Take an answer; see the protocol.

        Raises:
            InvalidInputError: For what breaks a rule.
            NotFoundError: When there is no such case.
            ConflictError: When the id was used for another review.
            UnavailableError: While the record or the index is away.
        """
        del context
        with counted("submit_review"):
            message = request.review
            # An event of a newer writer is read leniently; what a caller says now is taken at its word or not at all.
            _one_of("action", _GIVEN, message.action)
            _one_of("verdict_right", _ANSWERS, message.verdict_right)
            _one_of("reason_right", _ANSWERS, message.reason_right)
            _one_of("corrected_verdict", _VERDICTS, message.corrected_verdict)
            for filled_in in ("mask_ref", "supersedes", "disagrees_with"):
                message.ClearField(filled_in)
            kept, state = self._reviewing.submit(review_from_message(message), request.mask_png)
            return feedback_service_pb2.SubmitReviewResponse(review=review_to_message(kept), state=STATE_TO_WIRE[state])

    def UndoReview(  # noqa: N802
        self, request: feedback_service_pb2.UndoReviewRequest, context: grpc.ServicerContext
    ) -> feedback_service_pb2.UndoReviewResponse:
        """Take an answer back; see the protocol.

        Raises:
            InvalidInputError: For what breaks a rule.
            NotFoundError: When there is no such review.
            ForbiddenError: When only one's own may be taken back, and it is somebody else's.
            ConflictError: When it does not stand any more, or the id was used for another review.
            UnavailableError: While the record or the index is away.
        """
        del context
        with counted("undo_review"):
            kept, state = self._reviewing.undo(
                request.review_id,
                request.undone_review_id,
                request.reviewer,
                request.said_at_ns,
                only_own=request.only_own,
            )
            return feedback_service_pb2.UndoReviewResponse(review=review_to_message(kept), state=STATE_TO_WIRE[state])

    def ListReviews(  # noqa: N802
        self, request: feedback_service_pb2.ListReviewsRequest, context: grpc.ServicerContext
    ) -> feedback_service_pb2.ListReviewsResponse:
        """List reviews; see the protocol.

        Raises:
            InvalidInputError: For what breaks a rule.
            UnavailableError: While the index is away.
        """
        del context
        with counted("list_reviews"):
            where = ReviewFilter(
                reviewer=validate_reviewer(request.reviewer) if request.reviewer else "",
                line_id=validate_id(request.line_id, "line_id") if request.line_id else "",
                since_ns=_time("since_ns", request.since_ns),
                until_ns=_time("until_ns", request.until_ns),
                standing_only=request.standing_only,
            )
            page = self._index.list_reviews(where, limit=_page_size(request.page_size), token=request.page_token)
            # A review names its case only, and whoever shows it wants to say of which part it is.
            cases = self._index.cases_of(sorted({one.case_id for one in page.reviews}))
            return feedback_service_pb2.ListReviewsResponse(
                reviews=[review_to_message(one) for one in page.reviews],
                next_page_token=page.next_token,
                cases=[queued_case_to_message(one) for one in cases],
            )

    def GetStats(  # noqa: N802
        self, request: feedback_service_pb2.GetStatsRequest, context: grpc.ServicerContext
    ) -> feedback_service_pb2.GetStatsResponse:
        """Count cases and answers; see the protocol.

        Raises:
            InvalidInputError: For a filter that breaks a rule.
            UnavailableError: While the index is away.
        """
        del context
        with counted("get_stats"):
            stats = self._index.stats(read_case_filter(request.filter))
            return feedback_service_pb2.GetStatsResponse(
                open=stats.open,
                reviewed=stats.reviewed,
                disputed=stats.disputed,
                verdict_right=stats.verdict_right,
                false_rejects=stats.false_rejects,
                escapes=stats.escapes,
                wrong_reason=stats.wrong_reason,
            )

    def Neighbours(  # noqa: N802
        self, request: feedback_service_pb2.NeighboursRequest, context: grpc.ServicerContext
    ) -> feedback_service_pb2.NeighboursResponse:
        """Find what resembles a case, and bring it into a queue if asked to; see the protocol.

        Raises:
            InvalidInputError: For an id or a name that is none.
            NotFoundError: When there is no such case.
            UnavailableError: While the index, the record or the pictures are away.
        """
        del context
        with counted("neighbours"):
            case_id = validate_case_id(request.case_id)
            if not request.into_queue_for:
                return neighbours_to_message(self._neighbours.look(case_id))
            return neighbours_to_message(self._neighbours.bring(case_id, validate_reviewer(request.into_queue_for)))


def read_case_filter(message: feedback_service_pb2.CaseFilter) -> CaseFilter:
    """Take a filter as it came.

    Raises:
        InvalidInputError: For a field that breaks a rule.
    """
    if message.model_version < 0:
        raise InvalidInputError(f"model_version must be >= 0, got {message.model_version}")
    if len(message.defect_class) > _MAX_CLASS_LENGTH or not message.defect_class.isprintable():
        raise InvalidInputError(
            f"defect_class must have at most {_MAX_CLASS_LENGTH} printable characters, "
            f"got {ascii(message.defect_class)[:80]}"
        )
    return CaseFilter(
        line_id=validate_id(message.line_id, "line_id") if message.line_id else "",
        camera_id=validate_id(message.camera_id, "camera_id") if message.camera_id else "",
        product=validate_id(message.product, "product") if message.product else "",
        verdict=_known("verdict", VERDICT_FROM_WIRE, message.verdict) if message.verdict else None,
        kind=_known("kind", KIND_FROM_WIRE, message.kind) if message.kind else None,
        alias=validate_alias(message.alias) if message.alias else "",
        model_version=message.model_version,
        since_ns=_time("since_ns", message.since_ns),
        until_ns=_time("until_ns", message.until_ns),
        defect_class=message.defect_class,
        reviewer=validate_reviewer(message.reviewer) if message.reviewer else "",
        state=_known("state", STATE_FROM_WIRE, message.state) if message.state else None,
    )


def _page_size(value: int) -> int:
    if not 0 <= value <= MAX_PAGE_SIZE:
        raise InvalidInputError(f"page_size must be 1 to {MAX_PAGE_SIZE}, or 0 for {DEFAULT_PAGE_SIZE}, got {value}")
    return value or DEFAULT_PAGE_SIZE


def _time(name: str, value: int) -> int:
    if value < 0:
        raise InvalidInputError(f"{name} must be >= 0, got {value}")
    return value


def _known(name: str, values: Mapping[int, T], wire: int) -> T:
    try:
        return values[wire]
    except KeyError:
        raise InvalidInputError(f"{name} must be a value of the protocol, got {wire}") from None


def _one_of(name: str, values: frozenset[int], wire: int) -> None:
    if wire not in values:
        raise InvalidInputError(f"{name} must be one of {sorted(values)}, got {wire}")
