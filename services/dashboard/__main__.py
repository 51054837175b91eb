"""Wires the dashboard and runs it: ``python -m services.dashboard``."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import uvicorn

from services.adapters.explainerclient import GrpcExplainer
from services.adapters.feedbackclient import FeedbackClient
from services.adapters.kafka import KafkaRecordFetcher, KafkaTopicReader
from services.adapters.objectstore import S3ObjectStore
from services.core import topics
from services.core.errors import SettingsError
from services.dashboard.app import explanation_index, live_bounds, make_app, make_context
from services.dashboard.components import Check, ComponentBoard, ComponentPoller, call_check, http_check
from services.dashboard.feed import KAFKA, ExplanationFeed, VerdictFeed, tcp_probe
from services.dashboard.fetcher import ReopeningFetcher
from services.dashboard.live import LiveModel
from services.dashboard.settings import DashboardSettings
from services.runtime.lifecycle import Health, Shutdown, main_guard, set_aside_what_started
from services.runtime.logging import get_logger
from services.runtime.service import release, serve

LOG = get_logger(__name__)
NAME = "dashboard"
OBJECT_STORE = "object_store"

# Browsers come back within a second of being told to; waiting much longer for one that does not helps nobody.
_WEB_GRACE_S = 5


def main() -> None:
    """Read the settings, start, run until SIGTERM, drain."""
    serve(NAME, DashboardSettings, run)


def run(settings: DashboardSettings, health: Health, shutdown: Shutdown, stack: contextlib.ExitStack) -> None:
    """Build the adapters and the application, and serve until the stop is asked for.

    Args:
        settings: The dashboard's settings.
        health: Told how it goes.
        shutdown: Ends it.
        stack: Takes what must be closed; it is closed in the reverse order.
    """
    if settings.web.mode == "network":
        LOG.warning("the page asks nobody to sign in: whoever reaches its port sees the line")
    kafka = settings.kafka.connection()
    store = S3ObjectStore(settings.object_store.connection())
    fetcher = ReopeningFetcher(lambda: _record_fetcher(settings))
    stack.callback(fetcher.close)
    model = LiveModel(live_bounds(settings))
    checks: dict[str, Check] = {OBJECT_STORE: call_check(lambda: store.exists("health"))}
    for name, url in settings.components.urls.items():
        checks[name] = http_check(url, settings.components.timeout_s)
    board = ComponentBoard([KAFKA, *checks])

    def open_reader() -> KafkaTopicReader:
        return KafkaTopicReader(kafka, [topics.VERDICTS])

    def open_explained() -> KafkaTopicReader:
        return KafkaTopicReader(kafka, [topics.EXPLAINED])

    explanations = explanation_index(settings, time.time_ns())
    explainer = None
    if settings.explainer.address:
        explainer = GrpcExplainer(settings.explainer.address)
        stack.callback(explainer.close)
    feedback = None
    if settings.feedback.address:
        feedback = FeedbackClient(settings.feedback.address)
        stack.callback(feedback.close)
    context = make_context(
        settings,
        model=model,
        board=board,
        store=store,
        fetcher=fetcher,
        open_reader=open_reader,
        explanations=explanations,
        open_explained=open_explained,
        explainer=explainer,
        feedback=feedback,
        version=release(),
    )
    stack.callback(context.picture_pool.shutdown, cancel_futures=True)
    stack.callback(context.on_demand.close)
    stack.callback(context.reviewing.close)
    feed = VerdictFeed(
        open_reader,
        tcp_probe(settings.kafka.bootstrap_servers, settings.components.timeout_s),
        model,
        board,
        health,
        lookback_s=settings.live.lookback_s,
    )
    explained_feed = ExplanationFeed(open_explained, explanations, lookback_s=settings.live.lookback_s)
    poller = ComponentPoller(board, checks, settings.components.interval_s)
    listener = _listen(settings)
    stack.callback(listener.close)
    LOG.info("page at port %s", listener.getsockname()[1], extra={"page_port": listener.getsockname()[1]})
    server = uvicorn.Server(
        uvicorn.Config(
            make_app(context),
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=_WEB_GRACE_S,
        )
    )
    # Beside the main thread: uvicorn then leaves the signals to us.
    with _thread("web", lambda: server.run(sockets=[listener]), shutdown):
        try:
            with (
                _thread("feed", lambda: feed.run(shutdown), shutdown),
                _thread("explanations", lambda: explained_feed.run(shutdown), shutdown),
                _thread("components", lambda: poller.run(shutdown), shutdown),
            ):
                _wait_until(lambda: server.started, shutdown)
                set_aside_what_started()
                health.set_ready(not shutdown.requested)
                while not shutdown.wait(1.0):
                    pass
                health.set_ready(False)
                time.sleep(settings.probe_propagation_s)
        finally:
            context.stream.drain()
            server.should_exit = True


def _record_fetcher(settings: DashboardSettings) -> KafkaRecordFetcher:
    # A picture is waited for by a person: not as long as a broker may take to fail over.
    timeout_ms = max(1_000, int(settings.pictures.timeout_s * 1000))
    return KafkaRecordFetcher(replace(settings.kafka.connection(), request_timeout_ms=timeout_ms))


def _listen(settings: DashboardSettings) -> socket.socket:
    try:
        return socket.create_server((settings.web.host, settings.web.port))
    except OSError as error:
        raise SettingsError(f"web.host and web.port must be free to listen on, got {error}") from error


def _wait_until(holds: Callable[[], bool], shutdown: Shutdown) -> None:
    while not holds() and not shutdown.wait(0.02):
        pass


@contextlib.contextmanager
def _thread(name: str, work: Callable[[], None], shutdown: Shutdown) -> Iterator[None]:
    """Run work beside the main thread; if it fails, the service stops and its error is raised here."""
    failure: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again below
            failure.append(error)
        finally:
            shutdown.request()

    thread = threading.Thread(target=guarded, name=name)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        if failure:
            raise failure[0]


if __name__ == "__main__":
    main_guard(main)
