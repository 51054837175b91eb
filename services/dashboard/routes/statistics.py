"""How the line did over time: figures by line, camera, product, shift or model version, and the plan of shifts."""

from __future__ import annotations

import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from services.core.identity import validate_id
from services.core.statistics import GroupBy, StatisticsFilter, StatisticsTable
from services.dashboard.context import Context
from services.dashboard.reviewing import NoFeedbackError
from services.dashboard.routes.live import JsonBody
from services.dashboard.routes.review_forms import TimeMs
from services.dashboard.statistics import StatisticsService
from services.dashboard.views import NS_PER_MS
from services.dashboard.views_statistics import shifts_json, statistics_csv, statistics_json


def _name(field: str) -> AfterValidator:
    return AfterValidator(lambda value: validate_id(value, field))


class StatisticsQuery(BaseModel):
    """Which figures; what is left empty in an address is not asked for."""

    model_config = ConfigDict(frozen=True)

    since_ms: TimeMs = Field(description="Captured at or after this time.")
    until_ms: TimeMs = Field(description="Captured before this time.")
    group: GroupBy = Field(default=GroupBy.LINE, description="What a row is about.")
    span_s: int = Field(
        default=900, ge=1, le=2**31 - 1, description="Length of a point, for the group `span`: a multiple of 300."
    )
    line: Annotated[str, _name("line")] | None = None
    camera: Annotated[str, _name("camera")] | None = None
    product: Annotated[str, _name("product")] | None = None
    alias: Annotated[str, _name("alias")] | None = None
    model_version: int | None = Field(default=None, ge=0, le=2**31 - 1)

    @model_validator(mode="before")
    @classmethod
    def _empty_is_unset(cls, given: Any) -> Any:
        return {name: value for name, value in given.items() if value != ""} if isinstance(given, dict) else given

    @property
    def where(self) -> StatisticsFilter:
        """As the feedback service is asked."""
        return StatisticsFilter(
            line_id=self.line or "",
            camera_id=self.camera or "",
            product=self.product or "",
            alias=self.alias or "",
            model_version=self.model_version or 0,
        )


def statistics_routes(context: Context) -> APIRouter:
    """Build the routes."""
    router = APIRouter(prefix="/api/v1")
    reviewing = context.reviewing

    def require() -> StatisticsService:
        if context.statistics is None:
            raise NoFeedbackError("feedback.address must be set for statistics, it is empty")
        return context.statistics

    async def find(asked: StatisticsQuery) -> StatisticsTable:
        statistics = require()
        # The same service answers reviews: all questions to it share their turns.
        return await reviewing.ask(
            lambda _: statistics.table(
                asked.where,
                asked.since_ms * NS_PER_MS,
                asked.until_ms * NS_PER_MS,
                asked.group,
                span_s=asked.span_s,
                timeout_s=reviewing.timeout_s,
            )
        )

    @router.get("/statistics")
    async def statistics(asked: Annotated[StatisticsQuery, Query()]) -> Response:
        """Verdicts counted, what people found in review, and the escape rate that the audit estimates."""
        return JsonBody(statistics_json(await find(asked), asked.group))

    @router.get("/statistics.csv")
    async def table(asked: Annotated[StatisticsQuery, Query()]) -> Response:
        """The same as a table for spreadsheets."""
        found = await find(asked)
        since = datetime.datetime.fromtimestamp(found.span.since_s, datetime.UTC)
        name = f"sightline-statistics-{asked.group.value}-{since:%Y%m%dT%H%MZ}.csv"
        return Response(
            statistics_csv(found, asked.group).encode(),
            media_type="text/csv; charset=utf-8; header=present",
            headers={"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"},
        )

    @router.get("/shifts")
    async def shifts() -> Response:
        """The plan of shifts, when the day began, and the present shift."""
        statistics = require()
        return JsonBody(shifts_json(await reviewing.ask(lambda _: statistics.shifts(timeout_s=reviewing.timeout_s))))

    return router
