"""Cases as an archive: by a filter, or named one by one."""

from __future__ import annotations

import datetime
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import Response

from services.adapters.exportorder import ExportOrder
from services.dashboard.context import Context
from services.dashboard.exporting import ArchiveResponse
from services.dashboard.posted import ForeignPageError, read_form, require_own_page
from services.dashboard.routes.bulk_forms import ExportForm, ExportQuery
from services.dashboard.signing import caller_of

#: Some five thousand ids.
_MAX_BYTES = 256_000


def export_routes(context: Context) -> APIRouter:
    """Build the routes."""
    router = APIRouter(prefix="/api/v1")

    @router.get("/exports")
    async def export(
        request: Request,
        asked: Annotated[ExportQuery, Query()],
        sec_fetch_site: Annotated[str | None, Header(include_in_schema=False)] = None,
    ) -> Response:
        """The cases of a filter as a ZIP archive, made while it is sent."""
        # It makes work: a foreign page that is open in somebody's browser must not be able to.
        if sec_fetch_site in ("cross-site", "same-site"):
            raise ForeignPageError(f"only this page may ask for an export, got Sec-Fetch-Site {sec_fetch_site!a}")
        caller_of(request).notes.append(f"{asked.layout.value} by filter")
        return await _answer(context, asked.order)

    schema = {"schema": ExportForm.model_json_schema()}

    @router.post(
        "/exports",
        openapi_extra={"requestBody": {"required": True, "content": {"application/json": schema}}},
    )
    async def export_named(request: Request) -> Response:
        """Cases that are named, as a ZIP archive."""
        require_own_page(request.headers)
        async with context.bodies.read(request, _MAX_BYTES) as body:
            form = read_form(ExportForm, body)
        caller_of(request).notes.append(f"{form.layout.value} of {len(form.case_ids)} cases")
        return await _answer(context, form.order)

    return router


async def _answer(context: Context, order: ExportOrder) -> Response:
    run = await context.exports.begin(order)
    at = datetime.datetime.now(tz=datetime.UTC)
    filename = f"sightline-{order.layout.value}-{at:%Y%m%d-%H%M%S}.zip"
    return ArchiveResponse(run, filename, context.settings.exports.stall_s)
