"""The page itself: the built bundle, and one HTML file for each address that the page knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.responses import FileResponse, PlainTextResponse, Response
from starlette.staticfiles import StaticFiles

from services.core.errors import InvalidInputError
from services.core.identity import validate_frame_id, validate_id
from services.core.manifest import validate_alias
from services.core.review import validate_case_id
from services.core.training_run import validate_run_id

_MISSING = "The web page is not built. Run: make install\n"


class HashedFiles(StaticFiles):
    """Files whose names carry their content's hash: a browser may keep them for good."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """Serve one file."""
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response


def page_routes(static_dir: Path) -> APIRouter:
    """Build the routes."""
    router = APIRouter(include_in_schema=False)

    def index(status_code: int = 200) -> Response:
        file = static_dir / "index.html"
        if not file.is_file():
            return PlainTextResponse(_MISSING, 503)
        return FileResponse(file, status_code, {"Cache-Control": "no-cache"}, media_type="text/html; charset=utf-8")

    @router.get("/")
    async def wall() -> Response:
        return index()

    @router.get("/parts/{frame_id}")
    async def part(frame_id: str) -> Response:
        try:
            validate_frame_id(frame_id)
        except InvalidInputError:
            return index(404)
        return index()

    @router.get("/review")
    async def review() -> Response:
        return index()

    @router.get("/review/{case_id}")
    async def review_of_case(case_id: str) -> Response:
        try:
            validate_case_id(case_id)
        except InvalidInputError:
            return index(404)
        return index()

    @router.get("/models")
    async def models() -> Response:
        return index()

    @router.get("/changes")
    async def changes() -> Response:
        return index()

    @router.get("/changes/{alias}/{revision}")
    async def change(alias: str, revision: str) -> Response:
        try:
            validate_alias(alias)
        except InvalidInputError:
            return index(404)
        return index() if revision.isdecimal() else index(404)

    @router.get("/training")
    async def training() -> Response:
        return index()

    @router.get("/training/{run_id}")
    async def training_run(run_id: str) -> Response:
        try:
            validate_run_id(run_id)
        except InvalidInputError:
            return index(404)
        return index()

    @router.get("/lines")
    async def lines() -> Response:
        return index()

    @router.get("/line/{line}")
    async def line(line: str) -> Response:
        try:
            validate_id(line, "line")
        except InvalidInputError:
            return index(404)
        return index()

    @router.get("/gallery")
    async def gallery() -> Response:
        return index()

    @router.get("/statistics")
    async def statistics() -> Response:
        return index()

    @router.get("/users")
    async def users() -> Response:
        return index()

    @router.get("/audit")
    async def audit() -> Response:
        return index()

    @router.get("/password")
    async def password() -> Response:
        return index()

    @router.get("/{name}")
    async def top_level_file(name: str) -> Response:
        """Files beside the HTML (icon, theme script); by exact name from the folder's own listing."""
        known = {file.name: file for file in static_dir.glob("*") if file.is_file() and file.name != "index.html"}
        if name in known:
            return FileResponse(known[name], headers={"Cache-Control": "no-cache"})
        return index(404)

    return router
