"""What resembles a case: looked at, and after a wrong verdict brought into the queue of whoever found it wrong."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from services.core.errors import NotFoundError
from services.core.neighbours import Neighbour, Neighbours
from services.core.review import validate_case_id
from services.core.types import Inspection
from services.dashboard.context import Context
from services.dashboard.posted import MAX_SMALL_BYTES, read_form, require_own_page
from services.dashboard.reviewing import FeedbackService, Recent
from services.dashboard.routes.live import JsonBody
from services.dashboard.routes.pictures import IfNoneMatch, ThumbnailSide, answer_picture, check_side
from services.dashboard.routes.review_forms import ClaimForm
from services.dashboard.signing import reviewer_of
from services.dashboard.views import NS_PER_MS, Json, number
from services.dashboard.views_review import queued_case_json

#: Verdicts of neighbours that are no cases: a page that shows them asks for each one's picture next.
_INSPECTIONS = 1_024
_BODY = {"requestBody": {"required": True, "content": {"application/json": {"schema": ClaimForm.model_json_schema()}}}}


def neighbour_routes(context: Context) -> APIRouter:
    """Build the routes."""
    router = APIRouter(prefix="/api/v1/cases/{case_id}/neighbours")
    reviewing = context.reviewing
    seen: Recent[Inspection] = Recent(_INSPECTIONS)

    def find(feedback: FeedbackService, case_id: str, reviewer: str = "") -> Neighbours:
        found = feedback.neighbours(case_id, reviewer, timeout_s=reviewing.timeout_s)
        for one in found.neighbours:
            if one.case is None:
                seen.put(one.neighbour_id, one.inspection)
            else:
                reviewing.remember(one.case)
        return found

    async def inspection_of(case_id: str, neighbour_id: str) -> Inspection:
        known = seen.get(validate_case_id(neighbour_id))
        if known is None:
            found = await reviewing.ask(lambda feedback: find(feedback, case_id))
            known = next((one.inspection for one in found.neighbours if one.neighbour_id == neighbour_id), None)
        if known is None:
            raise NotFoundError(f"the case must have that neighbour, got {neighbour_id}")
        return known

    @router.get("")
    async def look(case_id: str) -> Response:
        """The most similar of its class and of the other one, and the least similar of all."""
        validate_case_id(case_id)
        return JsonBody(await reviewing.ask(lambda feedback: neighbours_json(case_id, find(feedback, case_id))))

    @router.post("", openapi_extra=_BODY)
    async def bring(case_id: str, request: Request) -> Response:
        """Make near hit and near miss the next cases of a person's queue; ones that are no cases become some."""

        def say(feedback: FeedbackService, body: bytes) -> Json:
            found = find(feedback, case_id, reviewer_of(request, read_form(ClaimForm, body).reviewer))
            return {**neighbours_json(case_id, found), "queued": [queued_case_json(one) for one in found.queued]}

        validate_case_id(case_id)
        require_own_page(request.headers)
        reviewing.require()
        async with context.bodies.read(request, MAX_SMALL_BYTES) as body:
            return JsonBody(await reviewing.ask(lambda feedback: say(feedback, body)))

    @router.get("/{neighbour_id}/image")
    async def image(case_id: str, neighbour_id: str, if_none_match: IfNoneMatch = None) -> Response:
        """The picture of a neighbour that is no case."""
        inspection = await inspection_of(validate_case_id(case_id), neighbour_id)
        tag = f"{inspection.frame_id}-full"
        return await answer_picture(context, tag, if_none_match, lambda: context.pictures.full(inspection))

    @router.get("/{neighbour_id}/thumbnail")
    async def thumbnail(
        case_id: str, neighbour_id: str, size: ThumbnailSide = 320, if_none_match: IfNoneMatch = None
    ) -> Response:
        """That picture within a square."""
        check_side(size)
        inspection = await inspection_of(validate_case_id(case_id), neighbour_id)
        tag = f"{inspection.frame_id}-{size}"
        return await answer_picture(context, tag, if_none_match, lambda: context.pictures.thumbnail(inspection, size))

    return router


def neighbours_json(case_id: str, found: Neighbours) -> Json:
    """What was found for a case.

    Args:
        case_id: The case.
        found: Its neighbours.
    """
    return {
        "neighbours": [_neighbour_json(case_id, one) for one in found.neighbours],
        "compared": found.compared,
        "exact": found.exact,
    }


def _neighbour_json(case_id: str, one: Neighbour) -> Json:
    case, seen = one.case, one.inspection
    place = (
        f"/api/v1/cases/{case_id}/neighbours/{one.neighbour_id}" if case is None else f"/api/v1/cases/{case.case_id}"
    )
    settled = None if case is None else case.settled_verdict
    return {
        "relation": one.relation.value,
        "similarity": number(one.similarity),
        "neighbour_id": one.neighbour_id,
        "case_id": None if case is None else case.case_id,
        "frame_id": seen.frame_id,
        "part_id": seen.part_id,
        "verdict": seen.verdict.value,
        "settled_verdict": None if settled is None else settled.value,
        "score": number(seen.score),
        "captured_at_ms": seen.captured_at_ns // NS_PER_MS,
        "state": None if case is None else case.state.value,
        "thumbnail": f"{place}/thumbnail",
        "image": f"{place}/image",
    }
