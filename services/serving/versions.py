"""What the agent knows of each model version on its Triton."""

from __future__ import annotations

import enum
import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from services.core.errors import UnavailableError
from services.core.types import EXPLAINER_PREFIX, AliasState, triton_explainer_name, triton_model_name
from services.runtime import metrics
from services.runtime.retry import Backoff
from services.serving.backend.record import Choice

_NAME = re.compile(r"(?P<alias>.+)-v(?P<version>[1-9][0-9]{0,8})")


class VersionState(enum.Enum):
    """How far a version has come."""

    COPYING = "copying"
    LOADING = "loading"
    WARMING = "warming"
    WARM = "warm"
    FAILED = "failed"
    UNLOADING = "unloading"


@dataclass(frozen=True, slots=True, order=True)
class VersionKey:
    """One version of one alias."""

    alias: str
    version: int

    @property
    def model_name(self) -> str:
        """Its name in Triton."""
        return triton_model_name(self.alias, self.version)

    @property
    def explainer_name(self) -> str:
        """Name in Triton of the model that explains it."""
        return triton_explainer_name(self.alias, self.version)

    @classmethod
    def of_model(cls, model_name: str) -> VersionKey | None:
        """The version that a Triton model serves; None for a model of another kind, an explaining one too."""
        match = _NAME.fullmatch(model_name)
        if match is None or match["alias"].startswith(EXPLAINER_PREFIX):
            return None
        return cls(match["alias"], int(match["version"]))

    @classmethod
    def of_explainer(cls, model_name: str) -> VersionKey | None:
        """The version that a Triton model explains; None for a model of another kind."""
        explained = model_name.removeprefix(EXPLAINER_PREFIX)
        return cls.of_model(explained) if explained != model_name else None


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """A version, as it is told to others."""

    key: VersionKey
    state: VersionState
    load_ms: float = 0.0
    detail: str = ""


@dataclass(eq=False)
class TrackedVersion:
    """A version, as the agent works on it. Only the agent's own thread changes it, but for :attr:`status`."""

    status: VersionStatus
    backoff: Backoff
    wanted_at_s: float
    live: bool = False
    """Whether it is its alias's live version."""
    explained: bool = False
    """Whether cases of it may have to be explained."""
    revision: int = 0
    """Of the alias, when it was last wanted."""
    unwanted_at_s: float | None = None
    tried_at_s: float = float("-inf")
    next_try_s: float = 0.0
    warm_at_s: float = float("inf")
    error: Exception | None = None
    """Why the last try failed."""
    final: bool = False
    """Whether another try would end the same way."""
    gone: bool = False
    busy: bool = False
    """Whether it is being worked on."""

    def settled_since(self, since_s: float) -> bool:
        """Whether nothing is to be hoped from waiting for it, by what was seen after ``since_s``.

        A live version that failed because something did not answer is waited for: without it this Triton cannot do
        its work, and that heals. One that fails for reasons of its own must not keep the others from their work.
        """
        if self.status.state is VersionState.WARM or self.final:
            return True
        failed = self.status.state is VersionState.FAILED and self.tried_at_s >= since_s
        return failed and not (self.live and isinstance(self.error, UnavailableError))


@dataclass
class StatusBoard:
    """The state of every version, for other threads and for the metrics."""

    _entries: dict[VersionKey, VersionStatus] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def show(self, status: VersionStatus) -> None:
        """Tell a version's new state."""
        with self._lock:
            before = self._entries.get(status.key)
            self._entries[status.key] = status
        name = status.key.model_name
        if before is not None and before.state is not status.state:
            metrics.SERVING_VERSION_STATE.labels(name, before.state.value).set(0)
        metrics.SERVING_VERSION_STATE.labels(name, status.state.value).set(1)

    def show_engines(self, key: VersionKey, choices: Iterable[Choice]) -> None:
        """Tell what serves a version now, and what was measured of it."""
        self._forget_engines(key)
        name = key.model_name
        for choice in choices:
            metrics.SERVING_ENGINE.labels(name, choice.engine, choice.precision).inc()
            if choice.fallback:
                metrics.SERVING_ENGINE_FALLBACKS.labels(name).inc()
            for one in choice.candidates:
                metrics.SERVING_ENGINE_RATE.labels(name, one.engine, one.precision).set(one.images_per_s)
                if one.verdicts_equal is not None:
                    metrics.SERVING_ENGINE_AGREEMENT.labels(name, one.engine, one.precision).set(one.verdicts_equal)

    def _forget_engines(self, key: VersionKey) -> None:
        for metric in (metrics.SERVING_ENGINE, metrics.SERVING_ENGINE_RATE, metrics.SERVING_ENGINE_AGREEMENT):
            metric.remove_by_labels({"model": key.model_name})

    def forget(self, key: VersionKey) -> None:
        """A version is gone."""
        with self._lock:
            self._entries.pop(key, None)
        for state in VersionState:
            # One that was never shown has no series to remove.
            metrics.SERVING_VERSION_STATE.labels(key.model_name, state.value)
            metrics.SERVING_VERSION_STATE.remove(key.model_name, state.value)
        self._forget_engines(key)

    def snapshot(self) -> list[VersionStatus]:
        """All of them, by alias and version."""
        with self._lock:
            return [self._entries[key] for key in sorted(self._entries)]


@dataclass(frozen=True, slots=True)
class Wish:
    """Why a version must be loaded.

    Attributes:
        revision: Of its alias.
        live: Whether it is the live version.
        explained: Whether its verdicts are acted upon, now or a moment ago, so that they must be explained.
    """

    revision: int
    live: bool
    explained: bool


def wanted_versions(states: Iterable[AliasState]) -> dict[VersionKey, Wish]:
    """Versions that must be loaded, the live ones first."""
    listed = list(states)
    ordered: dict[VersionKey, Wish] = {}
    for role in ("live_version", "previous_version", "shadow_version"):
        for state in listed:
            version = getattr(state, role)
            if version:
                wish = Wish(state.revision, role == "live_version", role != "shadow_version")
                ordered.setdefault(VersionKey(state.alias, version), wish)
    return ordered


def with_state(status: VersionStatus, state: VersionState, *, detail: str = "", load_ms: float = 0.0) -> VersionStatus:
    """The same version in another state."""
    return replace(status, state=state, detail=detail, load_ms=load_ms)
