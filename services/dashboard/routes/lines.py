"""The lines: how they are, what they answered, and what a person does there."""

from __future__ import annotations

from typing import Annotated, TypeVar

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import Field

from services.core.identity import validate_id
from services.core.review import MAX_NOTE_LENGTH
from services.dashboard.context import Context
from services.dashboard.posted import MAX_SMALL_BYTES, body_of, read_form, require_own_page
from services.dashboard.routes.live import JsonBody, LineQuery
from services.dashboard.routes.review_forms import SIGNED_IN, PostedForm, Reviewer
from services.dashboard.signing import reviewer_of
from services.dashboard.views_lines import counts_json, cycle_times_json, line_event_json, part_answers_json

F = TypeVar("F", bound="PersonForm")


class PersonForm(PostedForm):
    """Who does it."""

    person: Reviewer | None = SIGNED_IN


class AcknowledgeForm(PersonForm):
    """Who has seen an alarm, and what they say."""

    note: str = Field(default="", max_length=MAX_NOTE_LENGTH)


def line_routes(context: Context) -> APIRouter:
    """Build the routes."""
    router = APIRouter(prefix="/api/v1")
    router.include_router(_looking(context))
    router.include_router(_doing(context))
    return router


def _looking(context: Context) -> APIRouter:
    router = APIRouter()
    lines = context.lines

    @router.get("/lines")
    async def every_line() -> Response:
        """How every line is, what its light shows and why; as when last asked, and whether that is so now."""
        return JsonBody(lines.view())

    @router.get("/lines/{line}/outcomes")
    async def outcomes(
        line: str,
        before: Annotated[str, Query(max_length=128, description="`next` of an earlier page.")] = "",
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> Response:
        """The latest parts of a line with their answers, newest first, and how long answers took."""
        line_id = validate_id(line, "line")
        lines.require()
        found = lines.book.outcomes(line_id, before=before, limit=limit + 1)
        shown = found[:limit]
        return JsonBody(
            {
                "line_id": line_id,
                "parts": [part_answers_json(one) for one in shown],
                "next": shown[-1].revisions[0].part_id if len(found) > limit else None,
                "counts": counts_json(lines.counts(line_id)),
                "cycle": cycle_times_json(lines.book.cycle_times(line_id)),
            }
        )

    @router.get("/lines/{line}/events")
    async def events(line: str, limit: Annotated[int, Query(ge=1, le=500)] = 100) -> Response:
        """What happened between a line and its connections, newest first, as far as it is in memory."""
        line_id = validate_id(line, "line")
        lines.require()
        return JsonBody({"events": [line_event_json(one) for one in lines.book.events(line_id)[:limit]]})

    @router.get("/parts/{part_id}/outcome")
    async def outcome(part_id: str, line: LineQuery = None) -> Response:
        """A part's answer with all its revisions and what the line was told; null where none is in memory."""
        validate_id(part_id, "part_id")
        lines.require()
        found = lines.book.part(part_id, None if line is None else validate_id(line, "line"))
        return JsonBody({"part": None if found is None else part_answers_json(found)})

    return router


def _doing(context: Context) -> APIRouter:
    router = APIRouter()
    lines = context.lines

    @router.post("/lines/{line}/alarms/{alarm_id}/acknowledge", openapi_extra=body_of(AcknowledgeForm))
    async def acknowledge(line: str, alarm_id: str, request: Request) -> Response:
        """Acknowledge an alarm in a person's name; one that was acknowledged stays with whoever was first."""
        line_id, alarm = validate_id(line, "line"), validate_id(alarm_id, "alarm_id")
        form, person = await _read(context, request, AcknowledgeForm)
        return JsonBody({"alarm": await lines.acknowledge(line_id, alarm, person, form.note)})

    @router.post("/lines/{line}/reference-check", openapi_extra=body_of(PersonForm))
    async def begin_check(line: str, request: Request) -> Response:
        """Begin a check with reference parts in a person's name; one under way begins anew."""
        line_id = validate_id(line, "line")
        _, person = await _read(context, request, PersonForm)
        return JsonBody({"reference": await lines.begin_reference_check(line_id, person)})

    return router


async def _read(context: Context, request: Request, shape: type[F]) -> tuple[F, str]:
    """What every request does that changes something: its body, and in whose name it is."""
    require_own_page(request.headers)
    context.lines.require()
    async with context.bodies.read(request, MAX_SMALL_BYTES) as body:
        form = read_form(shape, body)
    return form, reviewer_of(request, form.person, "person")
