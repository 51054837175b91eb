"""Which model version answers for each alias: follows ``models`` and flips once every Triton is warm.

Which one is to score in the shadow is passed on as the topic says it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection

from services.adapters.modelregistry import ModelRegistry
from services.adapters.ports import InferenceClient
from services.core.errors import SightlineError
from services.core.types import triton_model_name
from services.detector.job import Deployment
from services.runtime import metrics
from services.runtime.lifecycle import Health, Shutdown
from services.runtime.logging import get_logger
from services.runtime.retry import Backoff

LOG = get_logger(__name__)


class Deployments:
    """The version that answers, by alias. Written by one follower thread, read by everybody.

    Args:
        registry: Follows the whole ``models`` topic; used from the follower's thread only.
        inference: Tells whether a version is warm wherever a request may be routed.
        read_deployment: Reads what must be known of a version from its folder in the object store.
        aliases: The aliases that this detector may ask.
        health: Held while an alias has no version that answers.
        on_flip: Called on the follower's thread after an alias' version changed.
    """

    def __init__(
        self,
        registry: ModelRegistry,
        inference: InferenceClient,
        read_deployment: Callable[[str, int], Deployment],
        *,
        aliases: Collection[str],
        health: Health,
        on_flip: Callable[[], None] = lambda: None,
    ) -> None:
        self._registry = registry
        self._inference = inference
        self._read_deployment = read_deployment
        self._aliases = frozenset(aliases)
        self._health = health
        self._on_flip = on_flip
        self._live: dict[str, Deployment] = {}
        self._shadows: dict[str, int] = {}
        self._read: dict[tuple[str, int], Deployment] = {}
        self._thread: threading.Thread | None = None
        self._told: dict[str, str] = {}
        for alias in self._aliases:
            self._health.hold(_condition(alias), "the models topic has not been read")

    def live(self, alias: str) -> Deployment | None:
        """The version that answers for an alias now; None where there is none."""
        return self._live.get(alias)

    def shadow_version(self, alias: str) -> int:
        """The version that is to score beside the live one without effect; 0 where there is none.

        What the models topic says and no more: whether it is warm is for whoever asks it to find out, since the live
        version waits for nothing of the shadow's.
        """
        return self._shadows.get(alias, 0)

    def read(self, alias: str, version: int) -> Deployment:
        """Read what must be known of a version, on the caller's thread.

        Raises:
            SightlineError: When it cannot be read.
        """
        return self._read_deployment(alias, version)

    def set_on_flip(self, on_flip: Callable[[], None]) -> None:
        """Tell ``on_flip`` of every change from now on."""
        self._on_flip = on_flip

    def load(self) -> None:
        """Read the whole topic; nothing answers before that.

        Raises:
            UnavailableError: When the topic cannot be read in time.
        """
        self._registry.read_all()
        self.advance()

    def advance(self) -> None:
        """Flip each alias whose new live version is warm everywhere; the old one answers until then."""
        # Before anything that waits: a shadow that was ended is asked no more.
        states = self._registry.states
        self._shadows = {alias: states[alias].shadow_version for alias in self._aliases if alias in states}
        for alias in self._aliases:
            state = states.get(alias)
            wanted = state.live_version if state else 0
            current = self._live.get(alias)
            if wanted == 0:
                if current is None:
                    self._health.hold(_condition(alias), "no version is live")
                continue
            if current is not None and current.version == wanted:
                continue
            self._try_flip(alias, wanted)

    def follow(self, shutdown: Shutdown, poll_s: float) -> None:
        """Poll the topic and flip, on a thread of its own, until the shutdown or :meth:`close`."""
        self._thread = threading.Thread(target=self._follow, args=(shutdown, poll_s), name="models", daemon=True)
        self._thread.start()

    def close(self, timeout_s: float = 5.0) -> None:
        """Wait for the follower, whose shutdown was asked for, and let go of the topic."""
        if self._thread is not None:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                return
        self._registry.close()

    def _follow(self, shutdown: Shutdown, poll_s: float) -> None:
        backoff = Backoff(first_s=poll_s, cap_s=5.0)
        while not shutdown.requested:
            started_s = time.monotonic()
            try:
                self._registry.poll(poll_s)
                self.advance()
                backoff.reset()
            except SightlineError as error:
                LOG.warning("the models topic cannot be followed: %s", error, extra={"reason": error.reason})
                shutdown.wait(backoff.next_s())
            shutdown.wait(max(0.0, poll_s - (time.monotonic() - started_s)))

    def _try_flip(self, alias: str, version: int) -> None:
        name = triton_model_name(alias, version)
        try:
            deployment = self._read.get((alias, version)) or self._read_deployment(alias, version)
        except SightlineError as error:
            self._wait_for(alias, f"version {version} cannot be read: {error}")
            return
        self._read[alias, version] = deployment
        if not self._inference.warm_everywhere(name):
            self._wait_for(alias, f"version {version} is not warm on every Triton")
            return
        before = self._live.get(alias)
        self._live[alias] = deployment
        for known in [key for key in self._read if key[0] == alias and key[1] != version]:
            del self._read[known]
        metrics.DETECTOR_LIVE_VERSION.labels(alias).set(version)
        if before is not None:
            metrics.DETECTOR_SWAPS.labels(alias).inc()
        LOG.info("alias %s is answered by version %s, before by %s", alias, version, before.version if before else None)
        self._told.pop(alias, None)
        self._health.release(_condition(alias))
        self._on_flip()

    def _wait_for(self, alias: str, why: str) -> None:
        if alias in self._live:
            if self._told.get(alias) != why:
                LOG.info("alias %s stays with version %s: %s", alias, self._live[alias].version, why)
            self._told[alias] = why
        else:
            self._health.hold(_condition(alias), why)


def _condition(alias: str) -> str:
    return f"model {alias}"
