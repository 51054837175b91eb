"""Models: what every alias points to, and what each version is. Nothing here changes a model."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from fastapi.responses import Response

from services.core.errors import InvalidInputError, ModelFormatError, SightlineError, UnavailableError
from services.core.manifest import validate_alias
from services.dashboard.context import Context
from services.dashboard.models import KnownAlias
from services.dashboard.routes.live import JsonBody
from services.dashboard.views import Json, error_json
from services.dashboard.views_models import alias_json, version_json
from services.runtime.logging import get_logger

LOG = get_logger(__name__)

_MAX_VERSION = 2**31 - 1


def model_routes(context: Context) -> APIRouter:
    """Build the routes."""
    router = APIRouter(prefix="/api/v1/models")
    shelf = context.shelf

    def alias_of(alias: KnownAlias) -> Json:
        try:
            stored = shelf.versions(alias.state.alias)
        except SightlineError as error:
            # What points where is known without the store.
            LOG.info("versions cannot be listed: %s", error, extra={"reason": error.reason})
            return alias_json(alias, None)
        return alias_json(alias, stored)

    @router.get("")
    async def aliases() -> Response:
        """Every alias, with what it points to and how it came to that."""
        known = context.models.aliases()

        def describe() -> list[Json]:
            return [alias_of(alias) for alias in known]

        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(context.picture_pool, describe)
        return JsonBody({"known": context.models.was_read, "aliases": found})

    @router.get("/{alias}/{version}")
    async def version(alias: str, version: int) -> Response:
        """One version, as its manifest in the object store says."""
        validate_alias(alias)
        if not 1 <= version <= _MAX_VERSION:
            raise InvalidInputError(f"version must be 1 to {_MAX_VERSION}, got {version}")
        loop = asyncio.get_running_loop()
        try:
            stored = await loop.run_in_executor(context.picture_pool, shelf.describe, alias, version)
        except ModelFormatError as error:
            # Whoever asked did nothing wrong.
            return JsonBody(error_json(error.reason, str(error)), 502)
        except UnavailableError as error:
            return JsonBody(error_json(error.reason, str(error)), 503, {"Retry-After": "2"})
        return JsonBody(version_json(stored))

    return router
