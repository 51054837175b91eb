"""What the gallery asks beside the queue: many answers at once, and the cases of a part."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from services.core.identity import MAX_ID_LENGTH
from services.dashboard.bulk import answer_all
from services.dashboard.context import Context
from services.dashboard.posted import MAX_SMALL_BYTES, read_form, require_own_page
from services.dashboard.reviewing import FeedbackService, NoFeedbackError
from services.dashboard.routes.bulk_forms import BulkForm, bulk_schema
from services.dashboard.routes.live import JsonBody
from services.dashboard.signing import caller_of, reviewer_of
from services.dashboard.views import Json
from services.dashboard.views_review import queued_case_json


def gallery_routes(context: Context) -> APIRouter:
    """Build the routes."""
    router = APIRouter(prefix="/api/v1")
    reviewing = context.reviewing

    @router.get("/search")
    async def search(
        text: Annotated[
            str, Query(min_length=1, max_length=MAX_ID_LENGTH, description="An id, or a part's beginning.")
        ],
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> Response:
        """Cases by the id of a case or a frame, or by the beginning of a part's id."""
        found_by = context.search
        if found_by is None:
            raise NoFeedbackError("feedback.address must be set for searching, it is empty")

        def find(_: FeedbackService) -> Json:
            cases, more = found_by.find(text.strip(), limit=limit, timeout_s=reviewing.timeout_s)
            return {"cases": [queued_case_json(one) for one in cases], "more": more}

        return JsonBody(await reviewing.ask(find))

    schema = {"schema": bulk_schema()}

    @router.post(
        "/reviews/bulk",
        openapi_extra={"requestBody": {"required": True, "content": {"application/json": schema}}},
    )
    async def bulk(request: Request) -> Response:
        """The same answer to many cases; each is told by itself what became of it."""
        require_own_page(request.headers)
        reviewing.require()
        async with context.bodies.read(request, MAX_SMALL_BYTES) as body:
            form = read_form(BulkForm, body)
            reviewer_of(request, form.reviewer)
            caller_of(request).notes.append(f"{form.action} of {len(form.answers)} cases")
            return JsonBody(await reviewing.ask(lambda feedback: answer_all(feedback, form, reviewing.timeout_s)))

    return router
