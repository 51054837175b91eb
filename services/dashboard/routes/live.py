"""The wall, its live stream, one part, and the line's health."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from services.core.identity import validate_frame_id, validate_id
from services.dashboard.components import State
from services.dashboard.context import Context
from services.dashboard.live import PartView
from services.dashboard.routes.lookup import look_up
from services.dashboard.signing import caller_of
from services.dashboard.stream import EventStreamResponse
from services.dashboard.views import Json, components_json, encode, error_json, part_json

LineQuery = Annotated[str | None, Query(max_length=128, description="Only this line.")]


class JsonBody(Response):
    """JSON that was made for this page; never kept by a cache."""

    media_type = "application/json"

    def __init__(self, body: Json, status_code: int = 200, headers: dict[str, str] | None = None) -> None:
        super().__init__(encode(body), status_code, {"Cache-Control": "no-store", **(headers or {})})


def live_routes(context: Context) -> APIRouter:
    """Build the routes."""
    router = APIRouter(prefix="/api/v1")

    @router.get("/wall")
    async def wall(line: LineQuery = None) -> Response:
        """Everything the wall shows, now."""
        return JsonBody(context.stream.wall(_line(line)))

    @router.get("/stream")
    async def stream(request: Request, line: LineQuery = None) -> Response:
        """Server-sent events: ``snapshot``, ``batch``, ``explained``, ``lines``, ``stats``; before a stop ``bye``."""
        line_id = _line(line)
        if context.stream.open_streams >= context.settings.web.max_streams:
            message = f"at most {context.settings.web.max_streams} browsers may follow the line at once"
            return JsonBody(error_json("too_many_streams", message), 503, {"Retry-After": "5"})
        caller = caller_of(request)
        who = caller.session.person.name if caller.session else ""
        most = context.settings.web.max_streams_per_person
        if who and context.stream.by_person[who] >= most:
            message = f"at most {most} browsers of one person may follow the line at once"
            return JsonBody(error_json("too_many_streams", message), 503, {"Retry-After": "5"})
        events = context.stream.events(request.headers.get("last-event-id", ""), line_id, who)
        return EventStreamResponse(events, context.settings.web.send_timeout_s)

    @router.get("/parts/{frame_id}")
    async def part(frame_id: str) -> Response:
        """One frame with its verdicts, what explains them, its neighbours and the other views of its part."""
        view = context.model.part(validate_frame_id(frame_id))
        if view is None:
            found = await asyncio.to_thread(context.archive.find, frame_id)
            if found is None:
                return JsonBody(unknown_frame(), 404)
            view = PartView(found, (), (), None, None, (found,))
        return JsonBody(part_json(view) | await look_up(context, view.inspection))

    @router.get("/health")
    async def health() -> Response:
        """How each part of the line is, since when, and when that was last checked."""
        components = context.board.read()
        ready = all(one.state is State.UP for one in components)
        body = {
            "ready": ready,
            "version": context.version,
            "components": components_json(components),
            "last_verdict_at_ms": context.model.last_decided_ns // 1_000_000 or None,
        }
        return JsonBody(body)

    return router


def unknown_frame() -> Json:
    """What is said of a frame that nothing is known of."""
    return error_json("frame_unknown", "there is no verdict on this frame, or it is no longer kept")


def _line(line: str | None) -> str | None:
    return None if line is None else validate_id(line, "line")
