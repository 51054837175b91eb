"""The web application, put together from ports; speaks to nothing by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from services.adapters.accounts import Accounts
from services.adapters.changesclient import ChangesClient
from services.adapters.modelstore import ModelStore
from services.adapters.openid import OpenIdProvider
from services.adapters.ports import ObjectStore, RecordFetcher, TopicReader
from services.core.errors import ConflictError, ForbiddenError, InvalidInputError, NotFoundError, SightlineError
from services.core.imaging import ImageLimits
from services.dashboard.archive import explanation_archive, verdict_archive
from services.dashboard.bulk import CaseSearch
from services.dashboard.components import ComponentBoard
from services.dashboard.context import Context
from services.dashboard.explanations import ExplanationIndex
from services.dashboard.exporting import Exports, ExportService
from services.dashboard.guard import Guard
from services.dashboard.leaving import Leaving
from services.dashboard.lines import LineBoard, Lines, NoOutcomeServiceError
from services.dashboard.live import LiveBounds, LiveModel
from services.dashboard.models import ModelBoard, ModelShelf
from services.dashboard.ondemand import Explainer, OnDemand
from services.dashboard.outcomes import OutcomeBook
from services.dashboard.overlays import Overlays
from services.dashboard.pictures import Pictures
from services.dashboard.posted import (
    Bodies,
    BodyTooLargeError,
    ForeignPageError,
    SlowBodyError,
    what_is_wrong,
)
from services.dashboard.rates import Rates
from services.dashboard.reviewing import FeedbackService, NoFeedbackError, Reviewing
from services.dashboard.routes.changes import change_routes
from services.dashboard.routes.explanations import explanation_routes
from services.dashboard.routes.exports import export_routes
from services.dashboard.routes.gallery import gallery_routes
from services.dashboard.routes.lines import line_routes
from services.dashboard.routes.live import JsonBody, live_routes
from services.dashboard.routes.models import model_routes
from services.dashboard.routes.neighbours import neighbour_routes
from services.dashboard.routes.page import HashedFiles, page_routes
from services.dashboard.routes.pictures import picture_routes
from services.dashboard.routes.reviews import review_routes
from services.dashboard.routes.sessions import session_routes
from services.dashboard.routes.statistics import statistics_routes
from services.dashboard.routes.training import training_routes
from services.dashboard.routes.users import user_routes
from services.dashboard.security import SecurityHeaders
from services.dashboard.settings import DashboardSettings
from services.dashboard.signing import SignedOutError, SigningIn, WrongCredentialsError
from services.dashboard.statistics import StatisticsService
from services.dashboard.stream import LiveStream
from services.dashboard.training import NoTrainerError, TrainerService, Training
from services.dashboard.views import error_json

STATIC_DIR = Path(__file__).parent / "static"
"""Where ``npm run build`` puts the page."""

_STATUSES = {
    SignedOutError: 401,
    WrongCredentialsError: 401,
    ForbiddenError: 403,
    ForeignPageError: 403,
    NotFoundError: 404,
    SlowBodyError: 408,
    ConflictError: 409,
    BodyTooLargeError: 413,
    InvalidInputError: 422,
    NoFeedbackError: 503,
    NoTrainerError: 503,
    NoOutcomeServiceError: 503,
}


def live_bounds(settings: DashboardSettings) -> LiveBounds:
    """The bounds of the live model, as set."""
    live = settings.live
    return LiveBounds(
        max_frames=live.max_frames,
        max_cameras=live.max_cameras,
        parts_per_camera=live.parts_per_camera,
        flagged_per_camera=live.flagged_per_camera,
    )


def explanation_index(settings: DashboardSettings, now_ns: int) -> ExplanationIndex:
    """An empty index of explanations, as bounded as set, for a feed that reads from the look-back on."""
    return ExplanationIndex(
        max_cases=settings.explanations.max_cases,
        max_bytes=settings.explanations.max_bytes,
        since_ns=now_ns - int(settings.live.lookback_s * 1e9),
    )


def make_context(
    settings: DashboardSettings,
    *,
    model: LiveModel,
    board: ComponentBoard,
    store: ObjectStore,
    fetcher: RecordFetcher,
    open_reader: Callable[[], TopicReader],
    explanations: ExplanationIndex,
    open_explained: Callable[[], TopicReader],
    explainer: Explainer | None = None,
    feedback: FeedbackService | None = None,
    statistics: StatisticsService | None = None,
    exports: ExportService | None = None,
    search: CaseSearch | None = None,
    models: ModelBoard | None = None,
    changes: ChangesClient | None = None,
    trainer: TrainerService | None = None,
    lines: Lines | None = None,
    accounts: Accounts | None = None,
    provider: OpenIdProvider | None = None,
    version: str,
    static_dir: Path = STATIC_DIR,
    clock_ns: Callable[[], int] = time.time_ns,
) -> Context:
    """Put together what the routes work with.

    Args:
        settings: The dashboard's settings.
        model: The live model that a feed fills.
        board: The readings that a poller takes.
        store: Where pictures lie.
        fetcher: Reads frames whose pictures lie inline.
        open_reader: Gives a fresh reader of the verdicts topic, for parts that are no longer in memory.
        explanations: The explanations that a feed adds to.
        open_explained: Gives a fresh reader of the topic of explained cases.
        explainer: Makes maps on request; None offers none.
        feedback: Takes reviews; None offers no reviewing.
        statistics: The same service's figures; None offers none.
        exports: Gives cases as archives; None offers none.
        search: Finds the cases of a part; None offers no search.
        models: The states of aliases that a feed adds to; None shows none.
        changes: Tells what new models changed; asked only where there is a ``feedback``.
        trainer: Trains models; None offers no training.
        lines: The lines' states and answers; None shows nothing of them.
        accounts: Who may sign in; None exactly where nobody has to.
        provider: Vouches for people, where they sign in elsewhere.
        version: Version of the product.
        static_dir: The built page.
        clock_ns: The present, nanoseconds since the epoch.
    """
    limits = ImageLimits(
        max_bytes=settings.limits.max_image_bytes,
        max_pixels=settings.limits.max_image_pixels,
        max_aspect_ratio=settings.limits.max_aspect_ratio,
    )
    shown = lines or Lines(None, LineBoard(clock_ns), OutcomeBook())
    return Context(
        settings=settings,
        model=model,
        board=board,
        stream=LiveStream(model, board, explanations, shown, settings.live, clock_ns),
        archive=verdict_archive(open_reader),
        explanations=explanations,
        explained_archive=explanation_archive(open_explained),
        overlays=Overlays(settings.explanations.overlay_cache_bytes),
        on_demand=OnDemand(
            explainer, timeout_s=settings.explainer.timeout_s, max_at_once=settings.explainer.max_at_once
        ),
        reviewing=Reviewing(feedback, timeout_s=settings.feedback.timeout_s, max_at_once=settings.feedback.max_at_once),
        statistics=statistics,
        exports=Exports(exports, max_at_once=settings.exports.max_at_once),
        search=search,
        signing=SigningIn(settings.sign_in, accounts, provider, clock_ns=clock_ns),
        bodies=Bodies(),
        rates=Rates(settings.web.requests_per_s),
        pictures=Pictures(store, fetcher, limits, settings.pictures),
        picture_pool=ThreadPoolExecutor(settings.pictures.workers, thread_name_prefix="picture"),
        picture_slots=asyncio.Semaphore(settings.pictures.workers + settings.pictures.max_waiting),
        models=models or ModelBoard(),
        shelf=ModelShelf(ModelStore(store)),
        changes=changes,
        training=Training(
            trainer,
            timeout_s=settings.trainer.timeout_s,
            max_at_once=settings.trainer.max_at_once,
            max_watchers=settings.trainer.max_watchers,
        ),
        lines=shown,
        version=version,
        static_dir=static_dir,
    )


def make_app(context: Context) -> FastAPI:
    """Build the application.

    Args:
        context: Its parts.

    Returns:
        The ASGI application: the page, its REST interface and its live stream.
    """
    # The interactive API pages load scripts from elsewhere; the schema itself stays.
    app = FastAPI(
        title="Sightline dashboard",
        version=context.version,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
    )
    app.include_router(session_routes(context))
    app.include_router(user_routes(context))
    app.include_router(live_routes(context))
    app.include_router(picture_routes(context))
    app.include_router(explanation_routes(context))
    app.include_router(review_routes(context))
    app.include_router(neighbour_routes(context))
    app.include_router(statistics_routes(context))
    app.include_router(gallery_routes(context))
    app.include_router(export_routes(context))
    app.include_router(model_routes(context))
    app.include_router(change_routes(context))
    app.include_router(training_routes(context))
    app.include_router(line_routes(context))
    if (context.static_dir / "assets").is_dir():
        app.mount("/assets", HashedFiles(directory=context.static_dir / "assets"), name="assets")
    app.add_api_route("/api/{rest:path}", _no_such_route, include_in_schema=False)
    app.include_router(page_routes(context.static_dir))
    app.add_middleware(Guard, signing=context.signing, rates=context.rates)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=context.settings.web.host_list, www_redirect=False)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(Leaving, stream=context.stream)
    app.add_exception_handler(SightlineError, _on_domain_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    return app


async def _no_such_route() -> Response:
    return JsonBody(error_json("not_found", "there is nothing at this address"), 404)


async def _on_domain_error(_: Request, error: Exception) -> Response:
    """Turn what a route raised into a status; the only place that does."""
    if not isinstance(error, SightlineError):
        return JsonBody(error_json("error", "the request failed"), 500)
    status = next((status for kind, status in _STATUSES.items() if isinstance(error, kind)), None)
    if status is not None:
        return JsonBody(error_json(error.reason, str(error)), status)
    if error.retriable:
        return JsonBody(error_json(error.reason, str(error)), 503, {"Retry-After": "2"})
    return JsonBody(error_json("error", "the request failed"), 500)


async def _on_validation_error(_: Request, error: Exception) -> Response:
    details = error.errors() if isinstance(error, RequestValidationError) else []
    return JsonBody(error_json("invalid_input", what_is_wrong(details)), 422)


async def _on_http_error(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return JsonBody(error_json("http", f"HTTP {status}"), status)
