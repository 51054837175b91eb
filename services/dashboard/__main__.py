"""Wires the dashboard and runs it: ``python -m services.dashboard``."""

from __future__ import annotations

import contextlib
import functools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Protocol

import uvicorn

from services.adapters.accounts import Accounts, Lifetimes
from services.adapters.brokerprobe import tcp_probe
from services.adapters.changesclient import ChangesClient
from services.adapters.explainerclient import GrpcExplainer
from services.adapters.exportclient import ExportClient
from services.adapters.feedbackclient import FeedbackClient
from services.adapters.identity import Identity, ServerContext
from services.adapters.kafka import KafkaRecordFetcher, KafkaTopicReader
from services.adapters.modelregistry import ModelRegistry
from services.adapters.objectstore import S3ObjectStore
from services.adapters.openid import OpenIdClient, OpenIdProvider
from services.adapters.searchclient import CaseSearchClient
from services.adapters.statisticsclient import StatisticsClient
from services.adapters.trainerclient import TrainerClient
from services.core import topics
from services.core.errors import SettingsError
from services.dashboard.app import explanation_index, live_bounds, make_app, make_context
from services.dashboard.components import Check, ComponentBoard, ComponentPoller, call_check, http_check
from services.dashboard.connections import MAX_HEADER_BYTES, bounded_protocol
from services.dashboard.context import Context
from services.dashboard.feed import KAFKA, ExplanationFeed, OutcomeFeed, VerdictFeed
from services.dashboard.lines import LineBoard, LinePoller, Lines
from services.dashboard.linestate import GrpcLineStates
from services.dashboard.live import LiveModel
from services.dashboard.models import ModelBoard, ModelFeed
from services.dashboard.outcomes import OutcomeBook
from services.dashboard.settings import DashboardSettings
from services.runtime.fetcher import ReopeningFetcher
from services.runtime.lifecycle import Health, Shutdown, main_guard, set_aside_what_started
from services.runtime.logging import get_logger
from services.runtime.service import release, serve, wait_for

LOG = get_logger(__name__)
NAME = "dashboard"
OBJECT_STORE = "object_store"

# Browsers come back within a second of being told to; waiting much longer for one that does not helps nobody.
_WEB_GRACE_S = 5
_ACCOUNTS_DEADLINE_S = 60.0


class _Closing(Protocol):
    def close(self) -> None: ...


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
    accounts, provider = open_accounts(settings, health, shutdown, stack)
    kafka = settings.kafka.connection()
    store = S3ObjectStore(settings.object_store.connection())
    fetcher = ReopeningFetcher(lambda: _record_fetcher(settings))
    stack.callback(fetcher.close)
    model = LiveModel(live_bounds(settings))
    checks: dict[str, Check] = {OBJECT_STORE: call_check(lambda: store.exists("health"))}
    identity = Identity(settings.identity_files)
    for name, url in settings.components.urls.items():
        checks[name] = http_check(url, settings.components.timeout_s, identity)
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
    models = ModelBoard()
    lines, follow_lines = _lines(settings, stack)
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
        models=models,
        trainer=_trainer(settings, stack),
        lines=lines,
        accounts=accounts,
        provider=provider,
        **_clients_of_feedback(settings, stack),
        version=release(),
    )
    stack.callback(context.signing.close)
    stack.callback(context.picture_pool.shutdown, cancel_futures=True)
    stack.callback(context.on_demand.close)
    stack.callback(context.reviewing.close)
    stack.callback(context.training.close)
    stack.callback(context.lines.close)
    stack.callback(context.exports.close)
    feed = VerdictFeed(
        open_reader,
        tcp_probe(settings.kafka.bootstrap_servers, settings.components.timeout_s),
        model,
        board,
        health,
        lookback_s=settings.live.lookback_s,
    )
    explained_feed = ExplanationFeed(open_explained, explanations, lookback_s=settings.live.lookback_s)
    model_feed = ModelFeed(
        lambda on_state: ModelRegistry(KafkaTopicReader(kafka, [topics.MODELS]), on_state=on_state), models
    )
    poller = ComponentPoller(board, checks, settings.components.interval_s)
    listener = _listen(settings)
    stack.callback(listener.close)
    LOG.info("page at port %s", listener.getsockname()[1], extra={"page_port": listener.getsockname()[1]})
    server = _web_server(settings, context, identity)
    # Beside the main thread: uvicorn then leaves the signals to us.
    with _thread("web", lambda: server.run(sockets=[listener]), shutdown):
        try:
            with (
                _thread("feed", lambda: feed.run(shutdown), shutdown),
                _thread("explanations", lambda: explained_feed.run(shutdown), shutdown),
                _thread("models", lambda: model_feed.run(shutdown), shutdown),
                _thread("components", lambda: poller.run(shutdown), shutdown),
                contextlib.ExitStack() as beside,
            ):
                for name, work in follow_lines.items():
                    beside.enter_context(_thread(name, functools.partial(work, shutdown), shutdown))
                _wait_until(lambda: server.started, shutdown)
                set_aside_what_started()
                health.set_ready(not shutdown.requested)
                _until_stopped(shutdown)
                health.set_ready(False)
                time.sleep(settings.probe_propagation_s)
        finally:
            context.stream.drain()
            server.should_exit = True


def _clients_of_feedback(settings: DashboardSettings, stack: contextlib.ExitStack) -> dict[str, Any]:
    """What the feedback service offers, by the name that ``make_context`` knows it by; empty where none is set."""
    address = settings.feedback.address
    if not address:
        return {}
    clients: dict[str, _Closing] = {
        "feedback": FeedbackClient(address),
        "statistics": StatisticsClient(address),
        "exports": ExportClient(address),
        "search": CaseSearchClient(address),
        "changes": ChangesClient(address),
    }
    for client in clients.values():
        stack.callback(client.close)
    return clients


def _trainer(settings: DashboardSettings, stack: contextlib.ExitStack) -> TrainerClient | None:
    if not settings.trainer.address:
        return None
    trainer = TrainerClient(settings.trainer.address)
    stack.callback(trainer.close)
    return trainer


def _lines(
    settings: DashboardSettings, stack: contextlib.ExitStack
) -> tuple[Lines | None, dict[str, Callable[[Shutdown], None]]]:
    """The lines of the outcome service, and what fills them, each on a thread of its own; nothing where none is set."""
    outcome = settings.outcome
    if not outcome.address:
        return None, {}
    states = GrpcLineStates(outcome.address, outcome.timeout_s)
    stack.callback(states.close)
    board, book = LineBoard(), OutcomeBook()
    kafka = settings.kafka.connection()
    feed = OutcomeFeed(
        lambda: KafkaTopicReader(kafka, [topics.OUTCOMES, topics.LINE_EVENTS]), book, lookback_s=outcome.lookback_s
    )
    poller = LinePoller(states, board, interval_s=outcome.interval_s)
    lines = Lines(states, board, book)
    return lines, {"outcomes": feed.run, "lines": poller.run}


def open_accounts(
    settings: DashboardSettings, health: Health, shutdown: Shutdown, stack: contextlib.ExitStack
) -> tuple[Accounts | None, OpenIdProvider | None]:
    """Open what signing in needs.

    Args:
        settings: The dashboard's settings.
        health: Told that the service is alive while the database is waited for.
        shutdown: Ends the waiting.
        stack: Takes what must be closed.

    Returns:
        The accounts and the OpenID provider; None what the settings do not ask for.
    """
    sign_in = settings.sign_in
    if sign_in.method == "none":
        return None, None
    lifetimes = Lifetimes(sign_in.idle_s, sign_in.session_s, settings.accounts.audit_days * 86_400.0)
    accounts = wait_for(
        "accounts database",
        lambda: Accounts(settings.accounts.url.get_secret_value(), lifetimes=lifetimes),
        health=health,
        shutdown=shutdown,
        deadline_s=_ACCOUNTS_DEADLINE_S,
    )
    stack.callback(accounts.close)
    if sign_in.method == "local":
        if not accounts.users():
            LOG.warning("nobody can sign in yet: add the first admin with `sightline users add NAME --role admin`")
        return accounts, None
    oidc = sign_in.oidc
    client = OpenIdClient(
        issuer=oidc.issuer,
        client_id=oidc.client_id,
        client_secret=oidc.client_secret.get_secret_value(),
        redirect_uri=f"{sign_in.public_url}/api/v1/sign-in/oidc/callback",
        scopes=oidc.scopes,
        name_claim=oidc.name_claim,
        role_claim=oidc.role_claim,
        roles=oidc.roles,
        timeout_s=oidc.timeout_s,
    )
    return accounts, OpenIdProvider(client)


def _record_fetcher(settings: DashboardSettings) -> KafkaRecordFetcher:
    # A picture is waited for by a person: not as long as a broker may take to fail over.
    timeout_ms = max(1_000, int(settings.pictures.timeout_s * 1000))
    return KafkaRecordFetcher(replace(settings.kafka.connection(), request_timeout_ms=timeout_ms))


def _until_stopped(shutdown: Shutdown) -> None:
    while not shutdown.wait(1.0):
        pass


def _web_server(settings: DashboardSettings, context: Context, identity: Identity) -> uvicorn.Server:
    config = uvicorn.Config(
        make_app(context),
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        # Whom a proxy names is for sign_in.trusted_proxies to say, not for whoever connects from this machine.
        proxy_headers=False,
        timeout_graceful_shutdown=_WEB_GRACE_S,
        http=bounded_protocol(settings.web),
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
    )
    if identity.has_certificate:
        # Loaded first: loading sets the context from files that it would never read again.
        config.load()
        config.ssl = ServerContext(identity).context
    return uvicorn.Server(config)


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
