"""How every service begins and ends: the one place that knows the order."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from importlib.metadata import version
from typing import TypeVar

from services.adapters.grpcpeer import show_identity
from services.adapters.identity import Identity
from services.core.errors import SightlineError
from services.runtime import metrics
from services.runtime.certificate_age import watch_certificates
from services.runtime.lifecycle import Health, Shutdown
from services.runtime.logging import configure_logging, get_logger
from services.runtime.ops import OpsServer
from services.runtime.plaintext import check_transport
from services.runtime.retry import until_available
from services.runtime.settings import ServiceSettings, load_settings, masked
from services.runtime.tracing import configure_tracing

LOG = get_logger(__name__)
S = TypeVar("S", bound=ServiceSettings)
T = TypeVar("T")

Run = Callable[[S, Health, Shutdown, contextlib.ExitStack], None]


def release() -> str:
    """The version of the installed product."""
    return version("sightline")


def serve(name: str, settings_class: type[S], run: Run[S]) -> None:
    """Read the settings, open the ops port, run until the stop is asked for, close everything.

    Args:
        name: The service's name, in logs, metrics and traces.
        settings_class: What it reads from environment and file.
        run: Builds the adapters and works until the shutdown is requested; what must be closed goes on the stack and
            is closed in the reverse order.

    Raises:
        SettingsError: If the settings are wrong.
        SightlineError: What ``run`` raised, unless the stop was asked for while it waited for a dependency: then
            nothing was taken, so there is nothing to finish.
    """
    settings = load_settings(settings_class)
    configure_logging(name, release(), settings.log_level)
    configure_tracing(name, settings.tracing)
    metrics.BUILD.info({"service": name, "version": release()})
    LOG.info("starting", extra={"settings": masked(settings)})
    check_transport(settings)
    identity = Identity(settings.identity_files)
    show_identity(identity)
    watch_certificates(settings)
    health, shutdown = Health(), Shutdown()
    shutdown.install_signal_handlers()
    ops = OpsServer(settings.ops, health, metrics.of_service(name), identity=identity)
    ops.start()
    LOG.info("probes and metrics at port %s", ops.port, extra={"ops_port": ops.port})
    try:
        with contextlib.ExitStack() as stack:
            run(settings, health, shutdown, stack)
    except SightlineError:
        if not shutdown.requested:
            raise
    finally:
        ops.stop()
    LOG.info("stopped")


def wait_for(what: str, build: Callable[[], T], *, health: Health, shutdown: Shutdown, deadline_s: float) -> T:
    """Build an adapter as soon as its dependency answers, staying alive meanwhile.

    Args:
        what: Name of the dependency, for the log.
        build: Tried again while it raises a retriable ``SightlineError``.
        health: Told that the service is alive at each try.
        shutdown: Ends the waiting.
        deadline_s: Longest time to go on trying.

    Raises:
        SightlineError: The last error, when it is not retriable, the deadline has passed or the stop was asked for.
    """

    def turn() -> T:
        health.turned()
        return build()

    return until_available(what, turn, shutdown=shutdown, deadline_s=deadline_s)
