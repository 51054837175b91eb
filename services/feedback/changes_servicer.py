"""``ChangesService``: what new models changed, as far as it is compared."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import grpc
from sightline.v1 import changes_service_pb2, changes_service_pb2_grpc

from services.adapters.codec_changes import part_to_message, summary_to_message
from services.adapters.ports import CaseIndex
from services.core.errors import InvalidInputError
from services.core.manifest import validate_alias
from services.core.model_change import ComparedPart, parts_of, summarise
from services.core.review import standing_reviews, validate_reviewer
from services.feedback.calls import counted
from services.feedback.changebook import ChangeBook

MAX_PAGE_SIZE: Final = 50
DEFAULT_PAGE_SIZE: Final = 20


class ChangesServicer(changes_service_pb2_grpc.ChangesServiceServicer):
    """Answers calls; errors are the domain's.

    Args:
        book: What is known of changes.
        index: Knows which answers stand.
    """

    def __init__(self, book: ChangeBook, index: CaseIndex) -> None:
        self._book = book
        self._index = index

    def ListChanges(  # noqa: N802 - the name of the call
        self, request: changes_service_pb2.ListChangesRequest, context: grpc.ServicerContext
    ) -> changes_service_pb2.ListChangesResponse:
        """List changes; see the protocol.

        Raises:
            InvalidInputError: For what breaks a rule.
            UnavailableError: While the record is away.
        """
        del context
        with counted("list_changes"):
            if not 0 <= request.page_size <= MAX_PAGE_SIZE:
                raise InvalidInputError(
                    f"page_size must be 1 to {MAX_PAGE_SIZE}, or 0 for {DEFAULT_PAGE_SIZE}, got {request.page_size}"
                )
            alias = validate_alias(request.alias) if request.alias else ""
            reviewer = validate_reviewer(request.reviewer) if request.reviewer else ""
            found, token = self._book.page(alias, request.page_size or DEFAULT_PAGE_SIZE, request.page_token)
            return changes_service_pb2.ListChangesResponse(
                changes=[summary_to_message(summarise(change, reviewer, waits)) for change, waits in found],
                next_page_token=token,
                compares=self._book.compares,
            )

    def GetChange(  # noqa: N802
        self, request: changes_service_pb2.GetChangeRequest, context: grpc.ServicerContext
    ) -> changes_service_pb2.GetChangeResponse:
        """Give one change; see the protocol.

        Raises:
            InvalidInputError: For what breaks a rule.
            NotFoundError: When it is not on record.
            UnavailableError: While the record or the index is away.
        """
        del context
        with counted("get_change"):
            reviewer = validate_reviewer(request.reviewer) if request.reviewer else ""
            change, waits_for = self._book.get(validate_alias(request.alias), request.revision)
            parts = [self._as_it_stands(part) for part in parts_of(change.parts, reviewer)]
            return changes_service_pb2.GetChangeResponse(
                summary=summary_to_message(summarise(change, reviewer, waits_for)),
                parts=[part_to_message(part) for part in parts],
            )

    def _as_it_stands(self, part: ComparedPart) -> ComparedPart:
        """Mark what was taken back or replaced since; the comparison stays what it was."""
        standing = {review.review_id for review in standing_reviews(self._index.reviews_of(part.case_id))}
        return replace(
            part,
            corrections=tuple(replace(one, withdrawn=one.review_id not in standing) for one in part.corrections),
        )
