"""Asks the feedback service for queues and cases, and gives it what people say of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sightline.v1 import feedback_service_pb2, feedback_service_pb2_grpc

from services.adapters.codec import KIND_TO_WIRE, VERDICT_TO_WIRE
from services.adapters.codec_explained import explanation_from_message
from services.adapters.codec_neighbours import neighbours_from_message
from services.adapters.codec_review import (
    STATE_FROM_WIRE,
    STATE_TO_WIRE,
    queued_case_from_message,
    review_from_message,
    review_to_message,
)
from services.adapters.grpcpeer import GrpcPeer
from services.adapters.ports import CaseFilter, CasePage, QueueOrder, ReviewFilter, ReviewPage, ReviewStats
from services.core.neighbours import Neighbours
from services.core.review import CaseState, QueuedCase, Review
from services.core.types import Explanation

# A case with many large maps, or a mask of the largest picture.
_MAX_MESSAGE_BYTES: Final = 64_000_000
_ORDER_TO_WIRE: Final = {
    QueueOrder.BY_GAIN: feedback_service_pb2.QUEUE_ORDER_BY_GAIN,
    QueueOrder.NEWEST: feedback_service_pb2.QUEUE_ORDER_NEWEST,
    QueueOrder.OLDEST: feedback_service_pb2.QUEUE_ORDER_OLDEST,
}


@dataclass(frozen=True, slots=True, eq=False)
class CaseView:
    """One case as a person sees it."""

    case: QueuedCase
    explanations: tuple[Explanation, ...]
    """The one that is shown first in front."""
    agreement: float
    """Overlap of the first two maps' hottest tenths; NaN with fewer than two."""
    reviews: tuple[Review, ...]
    """Everything that was said of it, in order, what was taken back too."""


class FeedbackClient:
    """One feedback service. Thread-safe; connects when first asked and again after an outage.

    Every call raises:
        InvalidInputError: The service refuses what it was asked.
        NotFoundError: There is no such case or review.
        ConflictError: Somebody else was first.
        BusyError: Too many callers wait.
        UnavailableError: The service does not answer in time, or fails.
        EventDecodeError: Its answer breaks a rule.
    """

    def __init__(self, address: str) -> None:
        """Set up; nothing is connected yet.

        Args:
            address: ``host:port``.
        """
        self._peer = GrpcPeer(address, "feedback service", max_message_bytes=_MAX_MESSAGE_BYTES)
        self._stub = feedback_service_pb2_grpc.FeedbackServiceStub(self._peer.channel)  # type: ignore[no-untyped-call]

    def list_queue(
        self,
        where: CaseFilter,
        order: QueueOrder,
        *,
        limit: int,
        token: str = "",
        not_held_from: str = "",
        timeout_s: float = 10.0,
    ) -> CasePage:
        """One page of cases.

        Args:
            where: Which.
            order: In which order.
            limit: Most of them, 1 to 200; 0 leaves it to the service.
            token: Of an earlier page with the same filter and order; empty for the first.
            not_held_from: Leaves out what somebody other than this person holds; empty leaves nothing out.
            timeout_s: Deadline.
        """
        request = feedback_service_pb2.ListQueueRequest(
            filter=case_filter_to_message(where),
            order=_ORDER_TO_WIRE[order],
            page_size=limit,
            page_token=token,
            not_held_from=not_held_from,
        )
        response = self._peer.ask(self._stub.ListQueue, request, timeout_s)
        return CasePage(tuple(queued_case_from_message(one) for one in response.cases), response.next_page_token)

    def get_case(self, case_id: str, timeout_s: float = 10.0) -> CaseView:
        """One case with its maps and everything that was said of it."""
        request = feedback_service_pb2.GetCaseRequest(case_id=case_id)
        response = self._peer.ask(self._stub.GetCase, request, timeout_s)
        return CaseView(
            case=queued_case_from_message(response.summary),
            explanations=tuple(explanation_from_message(one) for one in response.explanations),
            agreement=response.agreement,
            reviews=tuple(review_from_message(one) for one in response.reviews),
        )

    def claim(self, case_id: str, reviewer: str, *, release: bool = False, timeout_s: float = 10.0) -> int:
        """Reserve a case for a person for a while, prolong that, or give it back.

        Returns:
            Until when it is held, nanoseconds since the epoch; 0 after a release.
        """
        request = feedback_service_pb2.ClaimCaseRequest(case_id=case_id, reviewer=reviewer, release=release)
        return int(self._peer.ask(self._stub.ClaimCase, request, timeout_s).until_ns)

    def submit(self, review: Review, mask_png: bytes, timeout_s: float = 10.0) -> tuple[Review, CaseState]:
        """Give an answer; the same review twice is one review.

        Args:
            review: What the service fills in is not read: see ``SubmitReviewRequest``.
            mask_png: The drawn mask; empty where nothing was drawn.
            timeout_s: Deadline.

        Returns:
            The review as it is on record, and how far people are with the case now.
        """
        request = feedback_service_pb2.SubmitReviewRequest(review=review_to_message(review), mask_png=mask_png)
        return _taken(self._peer.ask(self._stub.SubmitReview, request, timeout_s))

    def undo(
        self,
        review_id: str,
        undone_review_id: str,
        reviewer: str,
        said_at_ns: int,
        timeout_s: float = 10.0,
        *,
        only_own: bool = False,
    ) -> tuple[Review, CaseState]:
        """Take an answer back; the same id twice is one undo.

        Args:
            review_id: Of the undo, made by whoever asks.
            undone_review_id: What to take back.
            reviewer: Who takes it back.
            said_at_ns: When, by their own clock; 0 = not known.
            timeout_s: Deadline.
            only_own: Raises ``ForbiddenError`` for what somebody else said.

        Returns:
            The undo as it is on record, and how far people are with the case now.
        """
        request = feedback_service_pb2.UndoReviewRequest(
            review_id=review_id,
            undone_review_id=undone_review_id,
            reviewer=reviewer,
            said_at_ns=said_at_ns,
            only_own=only_own,
        )
        return _taken(self._peer.ask(self._stub.UndoReview, request, timeout_s))

    def list_reviews(self, where: ReviewFilter, *, limit: int, token: str = "", timeout_s: float = 10.0) -> ReviewPage:
        """One page of reviews, the newest first; see :meth:`list_queue`."""
        request = feedback_service_pb2.ListReviewsRequest(
            reviewer=where.reviewer,
            line_id=where.line_id,
            since_ns=where.since_ns,
            until_ns=where.until_ns,
            page_size=limit,
            page_token=token,
            standing_only=where.standing_only,
        )
        response = self._peer.ask(self._stub.ListReviews, request, timeout_s)
        return ReviewPage(
            tuple(review_from_message(one) for one in response.reviews),
            response.next_page_token,
            tuple(queued_case_from_message(one) for one in response.cases),
        )

    def stats(self, where: CaseFilter, timeout_s: float = 10.0) -> ReviewStats:
        """Counts of cases and of what people settled on."""
        request = feedback_service_pb2.GetStatsRequest(filter=case_filter_to_message(where))
        response = self._peer.ask(self._stub.GetStats, request, timeout_s)
        return ReviewStats(
            open=response.open,
            reviewed=response.reviewed,
            disputed=response.disputed,
            verdict_right=response.verdict_right,
            false_rejects=response.false_rejects,
            escapes=response.escapes,
            wrong_reason=response.wrong_reason,
        )

    def neighbours(self, case_id: str, into_queue_for: str = "", timeout_s: float = 10.0) -> Neighbours:
        """What resembles a case.

        Args:
            case_id: The case.
            into_queue_for: In whose queue near hit and near miss come next; empty to look only.
            timeout_s: Deadline.
        """
        request = feedback_service_pb2.NeighboursRequest(case_id=case_id, into_queue_for=into_queue_for)
        return neighbours_from_message(self._peer.ask(self._stub.Neighbours, request, timeout_s))

    def close(self) -> None:
        """Cancel what is in flight and let go; idempotent."""
        self._peer.close()


def case_filter_to_message(where: CaseFilter) -> feedback_service_pb2.CaseFilter:
    """A filter as the service is asked."""
    message = feedback_service_pb2.CaseFilter(
        line_id=where.line_id,
        camera_id=where.camera_id,
        product=where.product,
        alias=where.alias,
        model_version=where.model_version,
        since_ns=where.since_ns,
        until_ns=where.until_ns,
        defect_class=where.defect_class,
        reviewer=where.reviewer,
    )
    if where.verdict is not None:
        message.verdict = VERDICT_TO_WIRE[where.verdict]
    if where.kind is not None:
        message.kind = KIND_TO_WIRE[where.kind]
    if where.state is not None:
        message.state = STATE_TO_WIRE[where.state]
    return message


def _taken(
    response: feedback_service_pb2.SubmitReviewResponse | feedback_service_pb2.UndoReviewResponse,
) -> tuple[Review, CaseState]:
    return review_from_message(response.review), STATE_FROM_WIRE.get(response.state, CaseState.OPEN)
