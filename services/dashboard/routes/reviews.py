"""Reviewing: the queue, one case with its pictures, what people say of it, and taking that back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from services.adapters.feedbackclient import CaseView
from services.core.access import Permission
from services.core.errors import NotFoundError
from services.core.review import CaseState, Review, validate_case_id, validate_review_id
from services.core.types import ImageRef
from services.dashboard.context import Context
from services.dashboard.posted import MAX_ANSWER_BYTES, MAX_SMALL_BYTES, body_of, read_form, require_own_page
from services.dashboard.reviewing import FeedbackService, explanations_of
from services.dashboard.routes.explanations import ASK_AGAIN, ExplainedAt, validate_method
from services.dashboard.routes.live import JsonBody
from services.dashboard.routes.pictures import KEEP, IfNoneMatch, ThumbnailSide, answer_picture, check_side
from services.dashboard.routes.review_forms import (
    AnswerForm,
    CaseQuery,
    ClaimForm,
    QueueQuery,
    ReviewQuery,
    UndoForm,
)
from services.dashboard.signing import caller_of, reviewer_of
from services.dashboard.views import NS_PER_MS, Json
from services.dashboard.views_review import (
    case_json,
    listed_reviews_json,
    queued_case_json,
    review_json,
    stats_of_reviews_json,
)


def review_routes(context: Context) -> APIRouter:
    """Build the routes."""
    router = APIRouter(prefix="/api/v1")
    router.include_router(_asking(context))
    router.include_router(_pictures(context))
    router.include_router(_saying(context))
    return router


def _asking(context: Context) -> APIRouter:
    router = APIRouter()
    reviewing = context.reviewing

    @router.get("/queue")
    async def queue(asked: Annotated[QueueQuery, Query()]) -> Response:
        """One page of cases, those first whose answer teaches most."""

        def find(feedback: FeedbackService) -> Json:
            page = feedback.list_queue(
                asked.where,
                asked.order,
                limit=asked.limit,
                token=asked.after,
                not_held_from=asked.hide_held_from or "",
                timeout_s=reviewing.timeout_s,
            )
            reviewing.remember_page(page)
            return {"cases": [queued_case_json(one) for one in page.cases], "next": page.next_token or None}

        return JsonBody(await reviewing.ask(find))

    @router.get("/queue/stats")
    async def stats(asked: Annotated[CaseQuery, Query()]) -> Response:
        """How many cases wait, and what people found in the others."""
        return JsonBody(
            await reviewing.ask(
                lambda feedback: stats_of_reviews_json(feedback.stats(asked.where, timeout_s=reviewing.timeout_s))
            )
        )

    @router.get("/cases/{case_id}")
    async def case(case_id: str) -> Response:
        """One case with what explains it and everything that was said of it."""
        validate_case_id(case_id)

        def find(feedback: FeedbackService) -> Json:
            view = reviewing.open_case(feedback, case_id)
            return case_json(view.case, explanations_of(view), view.reviews)

        return JsonBody(await reviewing.ask(find))

    @router.get("/reviews")
    async def reviews(asked: Annotated[ReviewQuery, Query()]) -> Response:
        """One page of reviews, the newest first."""

        def find(feedback: FeedbackService) -> Json:
            page = feedback.list_reviews(
                asked.where, limit=asked.limit, token=asked.after, timeout_s=reviewing.timeout_s
            )
            return {"reviews": listed_reviews_json(page), "next": page.next_token or None}

        return JsonBody(await reviewing.ask(find))

    return router


def _pictures(context: Context) -> APIRouter:
    router = APIRouter(prefix="/cases/{case_id}")
    reviewing = context.reviewing

    @router.get("/image")
    async def image(case_id: str, if_none_match: IfNoneMatch = None) -> Response:
        """The picture itself, from the record."""
        ref = await reviewing.image_ref(validate_case_id(case_id))
        return await answer_picture(
            context, f"{ref.sha256}-full", if_none_match, lambda: context.pictures.full_of_case(ref)
        )

    @router.get("/thumbnail")
    async def thumbnail(case_id: str, size: ThumbnailSide = 320, if_none_match: IfNoneMatch = None) -> Response:
        """The picture within a square."""
        check_side(size)
        ref = await reviewing.image_ref(validate_case_id(case_id))
        return await answer_picture(
            context, f"{ref.sha256}-{size}", if_none_match, lambda: context.pictures.thumbnail_of_case(ref, size)
        )

    @router.get("/explanations/{method}.png")
    async def overlay(case_id: str, method: str, at: ExplainedAt = None, if_none_match: IfNoneMatch = None) -> Response:
        """One method's map, coloured, transparent where it says nothing, of the picture's shape."""
        validate_case_id(case_id)
        validate_method(method)
        view = await reviewing.view(case_id, lambda known: _explained_at_ms(known) == at)
        explained = explanations_of(view)
        explanation = explained.by_method(method)
        if explanation is None or not explanation.map.size:
            raise NotFoundError(f"the case must have a map of {method}, got none in {case_id}")
        # A case that is explained anew gets another time, and with it another address.
        return await answer_picture(
            context,
            f"{case_id}-{method}-{_explained_at_ms(view)}",
            if_none_match,
            lambda: context.overlays.draw(explained, explanation),
            KEEP if at == _explained_at_ms(view) else ASK_AGAIN,
        )

    @router.get("/reviews/{review_id}/mask.png")
    async def mask(case_id: str, review_id: str, if_none_match: IfNoneMatch = None) -> Response:
        """What somebody drew: 255 on the defect and 0 elsewhere, of the picture's size."""
        validate_case_id(case_id)
        validate_review_id(review_id)
        view = await reviewing.view(case_id, lambda known: _mask_ref(known, review_id) is not None)
        ref = _mask_ref(view, review_id)
        if ref is None:
            raise NotFoundError(f"the case must have a review with a mask, got none with the id {review_id}")
        return await answer_picture(context, f"{ref.sha256}-mask", if_none_match, lambda: context.pictures.mask(ref))

    return router


def _saying(context: Context) -> APIRouter:
    router = APIRouter()
    reviewing = context.reviewing

    @router.post("/cases/{case_id}/claim", openapi_extra=body_of(ClaimForm))
    async def claim(case_id: str, request: Request) -> Response:
        """Reserve a case for a while, so that two people do not answer it at once; again: prolong it."""

        def say(feedback: FeedbackService, body: bytes) -> Json:
            reviewer = reviewer_of(request, read_form(ClaimForm, body).reviewer)
            until_ns = feedback.claim(case_id, reviewer, timeout_s=reviewing.timeout_s)
            return {"until_ms": until_ns // NS_PER_MS}

        validate_case_id(case_id)
        return await _say(context, request, MAX_SMALL_BYTES, say)

    @router.post("/cases/{case_id}/release", openapi_extra=body_of(ClaimForm))
    async def release(case_id: str, request: Request) -> Response:
        """Give a case back that one holds."""

        def say(feedback: FeedbackService, body: bytes) -> Json:
            reviewer = reviewer_of(request, read_form(ClaimForm, body).reviewer)
            feedback.claim(case_id, reviewer, release=True, timeout_s=reviewing.timeout_s)
            return {}

        validate_case_id(case_id)
        return await _say(context, request, MAX_SMALL_BYTES, say)

    @router.post("/cases/{case_id}/reviews", status_code=201, openapi_extra=body_of(AnswerForm))
    async def answer(case_id: str, request: Request) -> Response:
        """Answer a case, or put it aside. The same ``review_id`` again is the same review."""

        def say(feedback: FeedbackService, body: bytes) -> Json:
            form = read_form(AnswerForm, body)
            reviewer = reviewer_of(request, form.reviewer)
            taken = feedback.submit(form.review(case_id, reviewer), form.mask(), timeout_s=reviewing.timeout_s)
            return _taken_json(*taken)

        validate_case_id(case_id)
        return await _say(context, request, MAX_ANSWER_BYTES, say, status_code=201)

    @router.post("/reviews/{review_id}/undo", status_code=201, openapi_extra=body_of(UndoForm))
    async def undo(review_id: str, request: Request) -> Response:
        """Take a review back: the case is as if it had never been given."""

        def say(feedback: FeedbackService, body: bytes) -> Json:
            form = read_form(UndoForm, body)
            said_at_ns = (form.said_at_ms or 0) * NS_PER_MS
            reviewer = reviewer_of(request, form.reviewer)
            person = caller_of(request).person
            taken = feedback.undo(
                form.review_id,
                review_id,
                reviewer,
                said_at_ns,
                timeout_s=reviewing.timeout_s,
                only_own=person is None or not person.role.may(Permission.UNDO_OTHERS),
            )
            return _taken_json(*taken)

        validate_review_id(review_id)
        return await _say(context, request, MAX_SMALL_BYTES, say, status_code=201)

    return router


async def _say(
    context: Context,
    request: Request,
    max_bytes: int,
    say: Callable[[FeedbackService, bytes], Json],
    status_code: int = 200,
) -> Response:
    """What every request does that changes something: who sent it is checked before a byte of it is read."""
    require_own_page(request.headers)
    context.reviewing.require()
    async with context.bodies.read(request, max_bytes) as body:
        return JsonBody(await context.reviewing.ask(lambda feedback: say(feedback, body)), status_code)


def _taken_json(review: Review, state: CaseState) -> Json:
    return {"review": review_json(review), "state": state.value}


def _explained_at_ms(view: CaseView) -> int:
    return view.case.explained_at_ns // NS_PER_MS


def _mask_ref(view: CaseView, review_id: str) -> ImageRef | None:
    return next((one.mask_ref for one in view.reviews if one.review_id == review_id), None)
