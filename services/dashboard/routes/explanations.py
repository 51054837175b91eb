"""Maps over a part: as pictures, and refining on request."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from typing import Annotated

from fastapi import APIRouter, Header, Query
from fastapi.responses import Response

from services.adapters.explainerclient import ExplainCall
from services.core.errors import InvalidInputError, NotFoundError, SightlineError
from services.core.explain.attribution import KNOWN_METHODS
from services.core.identity import validate_frame_id
from services.core.types import Inspection
from services.dashboard.context import Context
from services.dashboard.routes.live import JsonBody, unknown_frame
from services.dashboard.routes.lookup import recall
from services.dashboard.routes.pictures import KEEP
from services.dashboard.stream import EventStreamResponse
from services.dashboard.views import encode, error_json

ExplainedAt = Annotated[int | None, Query(description="When it was explained, as the part says (milliseconds).")]
ASK_AGAIN = "private, no-cache"

_METHOD = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z", re.ASCII)


def explanation_routes(context: Context) -> APIRouter:
    """Build the routes."""
    router = APIRouter(prefix="/api/v1")

    @router.get("/explanations/legend.png")
    async def legend() -> Response:
        """The colours from where they begin (left) to the strongest."""
        picture = context.overlays.legend
        return Response(
            picture.data, media_type=picture.content_type, headers={"Cache-Control": "private, max-age=3600"}
        )

    @router.get("/frames/{frame_id}/explanations/{method}.png")
    async def overlay(
        frame_id: str,
        method: str,
        at: ExplainedAt = None,
    ) -> Response:
        """One method's map, coloured, transparent where it says nothing, of the picture's shape."""
        validate_method(method)
        inspection = _known(context, frame_id)
        if inspection is None:
            return JsonBody(unknown_frame(), 404)
        case = recall(context, inspection)
        explanation = None if case is None else case.by_method(method)
        if case is None or explanation is None or not explanation.map.size:
            return JsonBody(error_json("no_map", f"there is no map of {method} for this frame"), 404)
        loop = asyncio.get_running_loop()
        picture = await loop.run_in_executor(context.picture_pool, context.overlays.draw, case, explanation)
        # A case that is explained anew gets another time, and with it another address.
        keep = KEEP if at == case.explained_at_ns // 1_000_000 else ASK_AGAIN
        return Response(picture.data, media_type=picture.content_type, headers={"Cache-Control": keep})

    @router.get("/frames/{frame_id}/explain")
    async def explain(
        frame_id: str,
        method: Annotated[str, Query(max_length=64)],
        sec_fetch_site: Annotated[str | None, Header(include_in_schema=False)] = None,
    ) -> Response:
        """Server-sent events: ``step`` with a map that becomes better, then ``end``, or ``failed`` with the reason."""
        # The one address that makes work: a foreign page that is open in somebody's browser must not be able to.
        if sec_fetch_site == "cross-site":
            return JsonBody(error_json("foreign_page", "maps are made for this page only"), 403)
        if method not in KNOWN_METHODS:
            raise InvalidInputError(f"method must be one of {', '.join(KNOWN_METHODS)}, got {method!r}")
        inspection = _known(context, frame_id)
        if inspection is None:
            return JsonBody(unknown_frame(), 404)
        return EventStreamResponse(_events(context, inspection, method), context.settings.web.send_timeout_s)

    return router


def validate_method(method: str) -> str:
    """Let a method's name from an address through only if it can be one.

    Raises:
        InvalidInputError: If it is anything else.
    """
    if _METHOD.match(method) is None:
        raise InvalidInputError(f"method must be a short lower-case name, got {method[:80]!r}")
    return method


def _known(context: Context, frame_id: str) -> Inspection | None:
    return context.model.find(validate_frame_id(frame_id)) or context.archive.recall(frame_id)


async def _events(context: Context, inspection: Inspection, method: str) -> AsyncGenerator[bytes, None]:
    """Fetch the picture and hand the maps through.

    An ``EventSource`` cannot read the body of a refusal, so whatever goes wrong is told as an event.
    """
    if inspection.model_version == 0:
        yield _failed("no_model", "a model must have judged this frame, none has")
        return
    try:
        loop = asyncio.get_running_loop()
        image = await loop.run_in_executor(context.picture_pool, context.pictures.original, inspection)
    except NotFoundError as error:
        yield _failed("image_expired", str(error))
        return
    except SightlineError as error:
        yield _failed("unavailable" if error.retriable else error.reason, str(error))
        return
    call = ExplainCall(image, inspection.alias, inspection.model_version, method, inspection.frame_id)
    events = context.on_demand.events(call)
    try:
        async for chunk in events:
            yield chunk
    finally:
        # Whoever leaves ends the work at once, not when the garbage collector comes by.
        await events.aclose()


def _failed(reason: str, message: str) -> bytes:
    return b"event: failed\ndata: " + encode(error_json(reason, message)) + b"\n\n"
