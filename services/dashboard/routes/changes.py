"""What new models changed: the parts that people corrected, before and after."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import AfterValidator

from services.core.manifest import validate_alias
from services.core.review import validate_reviewer
from services.dashboard.context import Context
from services.dashboard.reviewing import NoFeedbackError
from services.dashboard.routes.live import JsonBody
from services.dashboard.views import Json
from services.dashboard.views_models import change_json, part_of_change_json

# An empty part of an address does not narrow.
Alias = Annotated[str, AfterValidator(lambda value: validate_alias(value) if value else "")]
Reviewer = Annotated[
    str,
    AfterValidator(lambda value: validate_reviewer(value) if value else ""),
    Query(description="Whose corrections; everyone's where it is left out."),
]
After = Annotated[str, Query(max_length=4_000, description="`next` of an earlier page.")]
Limit = Annotated[int, Query(ge=1, le=50)]


def change_routes(context: Context) -> APIRouter:
    """Build the routes."""
    router = APIRouter(prefix="/api/v1/changes")
    reviewing = context.reviewing

    @router.get("")
    async def changes(alias: Alias = "", reviewer: Reviewer = "", after: After = "", limit: Limit = 20) -> Response:
        """Changes of live models, the newest first."""
        service = context.changes
        if service is None:
            # The header of every page asks: that nothing is compared here is an answer, not a failure.
            return JsonBody({"changes": [], "next": None, "compares": False})

        def find() -> Json:
            page = service.list_changes(
                alias=alias, reviewer=reviewer, limit=limit, token=after, timeout_s=reviewing.timeout_s
            )
            return {
                "changes": [change_json(one) for one in page.changes],
                "next": page.next_token or None,
                "compares": page.compares,
            }

        return JsonBody(await reviewing.ask(lambda _: find()))

    @router.get("/{alias}/{revision}")
    async def change(alias: str, revision: int, reviewer: Reviewer = "") -> Response:
        """One change with its parts, the newest correction first."""
        validate_alias(alias)
        service = context.changes
        if service is None:
            raise NoFeedbackError("feedback.address must be set to know what a model changed, it is empty")

        def find() -> Json:
            summary, parts = service.get_change(alias, revision, reviewer, timeout_s=reviewing.timeout_s)
            return {"change": change_json(summary), "parts": [part_of_change_json(part) for part in parts]}

        return JsonBody(await reviewing.ask(lambda _: find()))

    return router
