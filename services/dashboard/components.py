"""How the parts of the line are: asked in rounds, dated, and never guessed."""

from __future__ import annotations

import enum
import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock

from services.adapters.identity import Identity
from services.core.errors import SightlineError
from services.runtime.lifecycle import Shutdown
from services.runtime.logging import get_logger

LOG = get_logger(__name__)

_MAX_DETAIL = 200
_MAX_BODY_BYTES = 20_000


class State(enum.Enum):
    """How a part of the line is."""

    UP = "up"
    NOT_READY = "not_ready"
    """It answers, and says that it cannot work now."""
    DOWN = "down"
    """It does not answer."""
    UNKNOWN = "unknown"
    """It was not asked yet."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one question found."""

    state: State
    detail: str = ""
    """For people: why it is not up; empty when it is."""


@dataclass(frozen=True, slots=True)
class Component:
    """A part of the line as it was when last asked."""

    name: str
    state: State
    detail: str
    since_ns: int
    """Since when it is in this state, as far as this dashboard saw."""
    checked_at_ns: int
    """When it was last asked; 0 = never."""


Check = Callable[[], Reading]


class ComponentBoard:
    """The latest reading of each part. Thread-safe."""

    def __init__(self, names: list[str], clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._clock_ns = clock_ns
        self._lock = Lock()
        now_ns = clock_ns()
        self._components = {name: Component(name, State.UNKNOWN, "", now_ns, 0) for name in names}

    def post(self, name: str, reading: Reading) -> None:
        """Record what was found just now; ``since_ns`` moves only when the state does."""
        now_ns = self._clock_ns()
        with self._lock:
            before = self._components[name]
            since_ns = before.since_ns if before.state is reading.state else now_ns
            self._components[name] = Component(name, reading.state, reading.detail, since_ns, now_ns)
        if before.state is not reading.state:
            level = LOG.info if reading.state is State.UP else LOG.warning
            level("%s is %s", name, reading.state.value, extra={"detail": reading.detail})

    def read(self) -> list[Component]:
        """Every part, in the order it was named."""
        with self._lock:
            return list(self._components.values())


class ComponentPoller:
    """Asks every part in rounds; one that hangs does not delay the others."""

    def __init__(self, board: ComponentBoard, checks: Mapping[str, Check], interval_s: float) -> None:
        self._board = board
        self._checks = dict(checks)
        self._interval_s = interval_s

    def run(self, shutdown: Shutdown) -> None:
        """Ask until the stop is asked for."""
        with ThreadPoolExecutor(max(1, len(self._checks)), thread_name_prefix="component") as pool:
            while not shutdown.requested:
                self.round(pool)
                shutdown.wait(self._interval_s)

    def round(self, pool: ThreadPoolExecutor) -> None:
        """Ask every part once, all at the same time."""
        futures = {pool.submit(_guarded, check): name for name, check in self._checks.items()}
        for future, name in futures.items():
            self._board.post(name, future.result())


def http_check(url: str, timeout_s: float, identity: Identity | None = None) -> Check:
    """Ask a readiness URL: 2xx is up, another answer is not ready, none is down.

    Args:
        url: ``http`` or ``https``.
        timeout_s: Longest wait.
        identity: Whom to trust with ``https``; None, or without authorities, whom this system trusts.
    """
    opener_of = _opener_of(url, identity)

    def check() -> Reading:
        try:
            with opener_of().open(url, timeout=timeout_s):
                return Reading(State.UP)
        except urllib.error.HTTPError as error:
            with error:
                return Reading(State.NOT_READY, _why_not_ready(error.code, error.read(_MAX_BODY_BYTES)))
        except (OSError, ValueError) as error:
            cause = getattr(error, "reason", error)
            return Reading(State.DOWN, plain(str(cause)))

    return check


def _opener_of(url: str, identity: Identity | None) -> Callable[[], urllib.request.OpenerDirector]:
    """What opens a URL; made anew only when the authorities that it trusts were renewed."""
    # No proxy from the environment: these are neighbours on the plant's own network.
    no_proxy = urllib.request.ProxyHandler({})
    if not url.startswith("https:") or identity is None:
        plain_opener = urllib.request.build_opener(no_proxy)
        return lambda: plain_opener
    made: dict[int, urllib.request.OpenerDirector] = {}

    def opener() -> urllib.request.OpenerDirector:
        content = identity.current()
        if content.revision not in made:
            trusted = content.authorities.decode("ascii") if content.authorities else None
            context = ssl.create_default_context(cadata=trusted)
            made.clear()
            made[content.revision] = urllib.request.build_opener(no_proxy, urllib.request.HTTPSHandler(context=context))
        return made[content.revision]

    return opener


def call_check(call: Callable[[], object]) -> Check:
    """Ask by calling a port: no error is up, any of the domain's errors is down."""

    def check() -> Reading:
        try:
            call()
        except SightlineError as error:
            return Reading(State.DOWN, plain(str(error)))
        return Reading(State.UP)

    return check


def plain(text: str) -> str:
    """Make text from elsewhere fit one line of the page."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= _MAX_DETAIL else f"{line[: _MAX_DETAIL - 1]}…"


def _guarded(check: Check) -> Reading:
    try:
        return check()
    except Exception as error:
        # A check that breaks says nothing good about its part, and must not stop the others.
        LOG.exception("a health check failed")
        return Reading(State.UNKNOWN, plain(str(error)))


def _why_not_ready(status: int, body: bytes) -> str:
    """The conditions that a Sightline service waits for, or the bare status of anything else."""
    try:
        waiting_for = json.loads(body)["waiting_for"]
        reasons = "; ".join(f"{name}: {why}" for name, why in waiting_for.items())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        reasons = ""
    return plain(reasons or f"HTTP {status}")
