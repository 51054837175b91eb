"""Pictures of frames, whole and small."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Header, Query
from fastapi.responses import Response

from services.core.errors import ImageError, InvalidInputError, NotFoundError, SightlineError
from services.core.identity import validate_frame_id
from services.core.types import Inspection
from services.dashboard.context import Context
from services.dashboard.pictures import THUMBNAIL_SIDES_PX, Picture
from services.dashboard.routes.live import JsonBody, unknown_frame
from services.dashboard.views import error_json
from services.runtime import metrics

IfNoneMatch = Annotated[str | None, Header(max_length=1_000)]
ThumbnailSide = Annotated[int, Query(description="Longest side in pixels: 160, 320 or 640.")]

# A frame's picture never changes, but it may be confidential: the browser keeps it, a shared cache does not.
KEEP = "private, max-age=86400, immutable"


def picture_routes(context: Context) -> APIRouter:
    """Build the routes."""
    router = APIRouter(prefix="/api/v1/frames/{frame_id}")

    @router.get("/image")
    async def image(frame_id: str, if_none_match: IfNoneMatch = None) -> Response:
        """The picture itself."""
        return await _answer(context, frame_id, "full", if_none_match, context.pictures.full)

    @router.get("/thumbnail")
    async def thumbnail(
        frame_id: str,
        size: ThumbnailSide = 320,
        if_none_match: IfNoneMatch = None,
    ) -> Response:
        """The picture within a square."""
        check_side(size)
        return await _answer(
            context, frame_id, str(size), if_none_match, lambda inspection: context.pictures.thumbnail(inspection, size)
        )

    return router


def check_side(side_px: int) -> None:
    """Refuse a thumbnail's size that is not made."""
    if side_px not in THUMBNAIL_SIDES_PX:
        raise InvalidInputError(f"size must be one of {THUMBNAIL_SIDES_PX}, got {side_px}")


async def _answer(
    context: Context, frame_id: str, variant: str, if_none_match: str | None, make: Callable[[Inspection], Picture]
) -> Response:
    inspection = context.model.find(validate_frame_id(frame_id)) or context.archive.recall(frame_id)
    if inspection is None:
        return JsonBody(unknown_frame(), 404)
    return await answer_picture(context, f"{frame_id}-{variant}", if_none_match, lambda: make(inspection))


async def answer_picture(
    context: Context, tag: str, if_none_match: str | None, make: Callable[[], Picture], cache_control: str = KEEP
) -> Response:
    """Answer with a picture that is made on the pool for pictures, or with why there is none.

    Args:
        context: The application's parts.
        tag: Names the picture; another picture has another.
        if_none_match: What the browser has already.
        make: Fetches or draws it; may wait.
        cache_control: How long it may be kept.
    """
    headers = {"ETag": f'"{tag}"', "Cache-Control": cache_control}
    if if_none_match is not None and headers["ETag"] in if_none_match:
        return Response(status_code=304, headers=headers)
    if context.picture_slots.locked():
        metrics.DASHBOARD_PICTURES.labels("refused").inc()
        return JsonBody(error_json("busy", "too many pictures are being fetched"), 503, {"Retry-After": "1"})
    try:
        async with context.picture_slots:
            loop = asyncio.get_running_loop()
            picture = await loop.run_in_executor(context.picture_pool, make)
    except SightlineError as error:
        return _refusal(error)
    metrics.DASHBOARD_PICTURES.labels("shown").inc()
    return Response(picture.data, media_type=picture.content_type, headers=headers)


def _refusal(error: SightlineError) -> Response:
    """Say why there is no picture, in a way that the page can tell apart."""
    if isinstance(error, NotFoundError):
        metrics.DASHBOARD_PICTURES.labels("expired").inc()
        return JsonBody(error_json("image_expired", str(error)), 410)
    if error.retriable:
        metrics.DASHBOARD_PICTURES.labels("unavailable").inc()
        return JsonBody(error_json("unavailable", str(error)), 503, {"Retry-After": "2"})
    metrics.DASHBOARD_PICTURES.labels("unreadable").inc()
    reason = error.reason if isinstance(error, ImageError) else "image_invalid"
    return JsonBody(error_json(reason, str(error)), 415)
