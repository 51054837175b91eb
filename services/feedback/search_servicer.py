"""``CaseSearchService``: the cases of a part that somebody has in their hands."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import grpc
from sightline.v1 import case_search_service_pb2, case_search_service_pb2_grpc

from services.adapters.codec_review import queued_case_to_message
from services.adapters.ports import CaseIndex
from services.core.errors import InvalidInputError, SightlineError
from services.runtime import metrics

MAX_FOUND: Final = 200
DEFAULT_FOUND: Final = 50


class CaseSearchServicer(case_search_service_pb2_grpc.CaseSearchServiceServicer):
    """Answers calls; errors are the domain's.

    Args:
        index: The cases.
        clock_ns: Wall clock.
    """

    def __init__(self, index: CaseIndex, *, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._index = index
        self._clock_ns = clock_ns

    def FindCases(  # noqa: N802 - the name of the call
        self, request: case_search_service_pb2.FindCasesRequest, context: grpc.ServicerContext
    ) -> case_search_service_pb2.FindCasesResponse:
        """Find cases; see the protocol.

        Raises:
            InvalidInputError: For what breaks a rule.
            UnavailableError: While the index is away.
        """
        del context
        outcome = "failed"
        try:
            if not 0 <= request.limit <= MAX_FOUND:
                raise InvalidInputError(
                    f"limit must be 1 to {MAX_FOUND}, or 0 for {DEFAULT_FOUND}, got {request.limit}"
                )
            limit = request.limit or DEFAULT_FOUND
            found = self._index.find_cases(request.text.strip(), limit=limit + 1, now_ns=self._clock_ns())
            outcome = "ok"
            return case_search_service_pb2.FindCasesResponse(
                cases=[queued_case_to_message(case) for case in found[:limit]], more=len(found) > limit
            )
        except SightlineError as error:
            outcome = error.reason
            raise
        finally:
            metrics.FEEDBACK_CALLS.labels("find_cases", outcome).inc()
