"""Training: runs and how they go, and which version decides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, TypeVar

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import AfterValidator, Field

from services.core.errors import InvalidInputError
from services.core.manifest import validate_alias
from services.core.review import MAX_NOTE_LENGTH, validate_reviewer
from services.core.training_run import validate_run_id
from services.dashboard.context import Context
from services.dashboard.posted import MAX_SMALL_BYTES, body_of, read_form, require_own_page
from services.dashboard.routes.live import JsonBody
from services.dashboard.routes.review_forms import SIGNED_IN, PostedForm, Reviewer
from services.dashboard.signing import caller_of, reviewer_of
from services.dashboard.stream import EventStreamResponse
from services.dashboard.training import TrainerService
from services.dashboard.views import Json
from services.dashboard.views_models import state_json
from services.dashboard.views_training import run_json, runs_json, trained_alias_json

F = TypeVar("F", bound="ActorForm")

_MAX_VERSION = 2**31 - 1

# An empty part of an address does not narrow.
Alias = Annotated[str, AfterValidator(lambda value: validate_alias(value) if value else "")]
Author = Annotated[
    str,
    AfterValidator(lambda value: validate_reviewer(value) if value else ""),
    Query(description="Whose answers the runs carry; whose does not matter where it is left out."),
]
After = Annotated[str, Query(max_length=4_000, description="`next` of an earlier page.")]
Limit = Annotated[int, Query(ge=1, le=100)]


class ActorForm(PostedForm):
    """Who asks."""

    actor: Reviewer | None = SIGNED_IN


class StartForm(ActorForm):
    """What is trained; what is left out is the trainer's setting."""

    alias: Annotated[str, AfterValidator(validate_alias)]
    note: str = Field(default="", max_length=MAX_NOTE_LENGTH)
    recipe: Literal["", "head", "finetune"] = ""
    loss: Literal["", "ce", "ceod"] = ""


class RollbackForm(ActorForm):
    """Why the previous version decides again."""

    note: str = Field(default="", max_length=MAX_NOTE_LENGTH)


class PromoteForm(RollbackForm):
    """Which version decides from now on, and why."""

    version: int = Field(ge=1, le=_MAX_VERSION)
    despite_gates: bool = Field(default=False, description="Although gates are broken; the note must then say why.")


def training_routes(context: Context) -> APIRouter:
    """Build the routes."""
    router = APIRouter(prefix="/api/v1")
    router.include_router(_looking(context))
    router.include_router(_changing(context))
    return router


def _looking(context: Context) -> APIRouter:
    router = APIRouter()
    training = context.training

    @router.get("/training")
    async def overview() -> Response:
        """What every alias points to, and whether anything can be trained from here; asks nobody."""
        return JsonBody(
            {
                "offered": training.is_offered,
                "known": context.models.was_read,
                "aliases": [trained_alias_json(one) for one in context.models.aliases()],
            }
        )

    @router.get("/training/runs")
    async def runs(
        request: Request,
        alias: Alias = "",
        author: Author = "",
        mine: Annotated[bool, Query(description="Only runs that carry answers of whoever is signed in.")] = False,
        after: After = "",
        limit: Limit = 20,
    ) -> Response:
        """One page of runs, the newest first, without the parts of their reports."""
        whose = _author(request, author) if mine else author

        def find(trainer: TrainerService) -> Json:
            page = trainer.list_runs(alias=alias, author=whose, limit=limit, token=after, timeout_s=training.timeout_s)
            return runs_json(page.runs, page.next_token, page.new_reviews, page.reviews_wanted)

        return JsonBody(await training.ask(find))

    @router.get("/training/notices")
    async def notices(request: Request, author: Author = "") -> Response:
        """What somebody should know of the latest runs that carry their answers."""
        whose = _author(request, author)
        if not training.is_offered:
            # The review station asks: that nothing is trained here is an answer, not a failure.
            return JsonBody({"notices": []})
        return JsonBody({"notices": await training.ask(lambda trainer: training.notices(trainer, whose))})

    @router.get("/training/runs/{run_id}")
    async def run(run_id: str) -> Response:
        """One run whole."""
        validate_run_id(run_id)
        return JsonBody(
            await training.ask(lambda trainer: run_json(trainer.get_run(run_id, timeout_s=training.timeout_s)))
        )

    @router.get("/training/runs/{run_id}/progress")
    async def progress(run_id: str) -> Response:
        """Server-sent events: ``run`` as it is and after every change, then ``end``, ``bye`` or ``failed``."""
        validate_run_id(run_id)
        events = training.events(run_id, lambda: context.stream.is_draining)
        return EventStreamResponse(events, context.settings.web.send_timeout_s)

    return router


def _changing(context: Context) -> APIRouter:
    router = APIRouter()
    training = context.training

    @router.post("/training/runs", status_code=201, openapi_extra=body_of(StartForm))
    async def start(request: Request) -> Response:
        """Ask for a run now, whatever the number of answers since the last one."""

        def say(trainer: TrainerService, form: StartForm, actor: str) -> Json:
            return run_json(
                trainer.start_run(
                    form.alias,
                    actor,
                    note=form.note,
                    recipe=form.recipe,
                    loss=form.loss,
                    timeout_s=training.timeout_s,
                )
            )

        def told(form: StartForm) -> list[str]:
            return [
                form.alias,
                *([f"recipe={form.recipe}"] if form.recipe else []),
                *([f"loss={form.loss}"] if form.loss else []),
            ]

        return await _say(context, request, StartForm, say, told, status_code=201)

    @router.post("/training/runs/{run_id}/cancel", openapi_extra=body_of(ActorForm))
    async def cancel(run_id: str, request: Request) -> Response:
        """End a run before its version is live; what is live stays."""
        validate_run_id(run_id)
        return await _say(
            context,
            request,
            ActorForm,
            lambda trainer, _, actor: run_json(trainer.cancel_run(run_id, actor, timeout_s=training.timeout_s)),
        )

    @router.post("/training/runs/{run_id}/resume", openapi_extra=body_of(ActorForm))
    async def resume(run_id: str, request: Request) -> Response:
        """Go on with a run that failed or was cancelled while it trained."""
        validate_run_id(run_id)
        return await _say(
            context,
            request,
            ActorForm,
            lambda trainer, _, actor: run_json(trainer.resume_run(run_id, actor, timeout_s=training.timeout_s)),
        )

    @router.post("/training/aliases/{alias}/promote", openapi_extra=body_of(PromoteForm))
    async def promote(alias: str, request: Request) -> Response:
        """Make a version live."""
        validate_alias(alias)

        def say(trainer: TrainerService, form: PromoteForm, actor: str) -> Json:
            if form.despite_gates and not form.note.strip():
                raise InvalidInputError("note must say why a version goes live although gates are broken, got none")
            return state_json(
                trainer.promote(
                    alias,
                    form.version,
                    actor,
                    note=form.note,
                    despite_gates=form.despite_gates,
                    timeout_s=training.timeout_s,
                )
            )

        def told(form: PromoteForm) -> list[str]:
            return [f"version={form.version}", *(["despite_gates"] if form.despite_gates else [])]

        return await _say(context, request, PromoteForm, say, told)

    @router.post("/training/aliases/{alias}/rollback", openapi_extra=body_of(RollbackForm))
    async def roll_back(alias: str, request: Request) -> Response:
        """Make the previous version live again."""
        validate_alias(alias)
        return await _say(
            context,
            request,
            RollbackForm,
            lambda trainer, form, actor: state_json(
                trainer.roll_back(alias, actor, note=form.note, timeout_s=training.timeout_s)
            ),
        )

    return router


def _author(request: Request, given: str) -> str:
    """Whoever is signed in; where nobody signs in, whoever the address names."""
    session = caller_of(request).session
    if session is not None:
        return session.person.name
    if not given:
        raise InvalidInputError("author must be a name where nobody signs in, got none")
    return given


async def _say(
    context: Context,
    request: Request,
    shape: type[F],
    say: Callable[[TrainerService, F, str], Json],
    told: Callable[[F], list[str]] = lambda _: [],
    status_code: int = 200,
) -> Response:
    """What every request does that changes something.

    Args:
        context: The application's parts.
        request: Its body is not read yet.
        shape: Of the body.
        say: Tells the trainer; gets the body and the name of whoever asks.
        told: What the audit log says beside the address.
        status_code: Of the answer.
    """
    require_own_page(request.headers)
    context.training.require()
    async with context.bodies.read(request, MAX_SMALL_BYTES) as body:
        form = read_form(shape, body)
    actor = reviewer_of(request, form.actor, "actor")
    caller_of(request).notes += told(form)
    return JsonBody(await context.training.ask(lambda trainer: say(trainer, form, actor)), status_code)
