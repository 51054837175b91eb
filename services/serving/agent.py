"""Keeps one Triton in step with the ``models`` topic: the right versions loaded and warm, no others.

One thread decides, a few bring versions up or take them down. A version that cannot be brought up is left behind with
its reason, tried again with growing pauses unless its own files are at fault, and never stops another one.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from services.adapters.modelfolder import CHECKSUMS
from services.adapters.modelregistry import ModelRegistry
from services.core.errors import SightlineError
from services.runtime import metrics
from services.runtime.lifecycle import Health, Shutdown
from services.runtime.retry import Backoff
from services.serving.backend.apart import version_digest
from services.serving.bringup import BringUp, RefusedVersionError
from services.serving.explainers import Explainers
from services.serving.versions import (
    StatusBoard,
    TrackedVersion,
    VersionKey,
    VersionState,
    VersionStatus,
    Wish,
    wanted_versions,
    with_state,
)

LOG = logging.getLogger(__name__)

_CLEAN_EVERY_S = 3600.0
_RESTORING = "restoring"
_TRITON = "triton"


class ServingAgent:
    """The agent of one Triton.

    Args:
        registry: Follows the ``models`` topic; read to its end before :meth:`run`.
        bring_up: Brings versions up and takes them down.
        health: Told whether this Triton may be sent work.
        unload_grace_s: How long a version stays loaded after the last wish for it.
        keep_on_disk_s: How long its local copy is kept then.
        retry_cap_s: Longest pause before a failed version is tried again.
        parallel: Versions worked on at a time.
        explainers: Keeps the explaining models; None leaves them alone.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        registry: ModelRegistry,
        bring_up: BringUp,
        health: Health,
        *,
        unload_grace_s: float = 120.0,
        keep_on_disk_s: float = 7 * 86_400.0,
        retry_cap_s: float = 60.0,
        parallel: int = 2,
        explainers: Explainers | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.board = StatusBoard()
        self._registry = registry
        self._bring_up = bring_up
        self._health = health
        self._unload_grace_s = unload_grace_s
        self._keep_on_disk_s = keep_on_disk_s
        self._retry_cap_s = retry_cap_s
        self._explainers = explainers
        self._clock = clock
        self._tracked: dict[VersionKey, TrackedVersion] = {}
        self._pool = ThreadPoolExecutor(parallel, thread_name_prefix="bring-up")
        self._triton_live = False
        self._restoring_since_s = clock()
        self._cleaned_at_s = -_CLEAN_EVERY_S
        health.hold(_TRITON, "not asked yet")
        health.hold(_RESTORING, "versions are not loaded yet")

    @property
    def triton_live(self) -> bool:
        """Whether Triton answered when it was last asked."""
        return self._triton_live

    def run(self, shutdown: Shutdown, poll_s: float) -> None:
        """Work until the stop is asked for; what is loaded then stays loaded."""
        self._health.set_ready(True)
        while not shutdown.requested:
            self._health.turned()
            self._follow(poll_s)
            self.turn()
            if shutdown.wait(poll_s):
                break
        self._health.set_ready(False)
        # A load may take minutes; it ends when the connection to Triton is closed.
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._explainers is not None:
            self._explainers.stop()

    def turn(self) -> None:
        """Look at Triton and do what is due."""
        self._forget_gone()
        ready = self._look_at_triton()
        self._want(wanted_versions(self._registry.states.values()))
        if self._triton_live:
            for version in list(self._tracked.values()):
                if not version.busy:
                    self._work_on(version)
        if self._tell_readiness() and ready is not None:
            self._keep_explainers(ready)
        self._clean_disk()

    def _follow(self, poll_s: float) -> None:
        try:
            changed = self._registry.poll(poll_s)
        except SightlineError as error:
            # Without Kafka this Triton goes on with what it has.
            LOG.warning("the models topic cannot be read: %s", error)
            return
        for state in changed:
            LOG.info(
                "alias %s at revision %d: %s", state.alias, state.revision, state.action.value,
                extra={"live": state.live_version, "previous": state.previous_version, "shadow": state.shadow_version},
            )  # fmt: skip

    def _look_at_triton(self) -> frozenset[str] | None:
        """Find what is up, and what was lost; None where Triton does not answer."""
        asked_at_s = self._clock()
        ready = self._ready_models()
        came_back = ready is not None and not self._triton_live
        self._triton_live = ready is not None
        metrics.SERVING_TRITON_UP.set(self._triton_live)
        if ready is None:
            self._health.hold(_TRITON, "Triton does not answer")
            return None
        self._adopt(ready)
        lost = [
            version
            for version in self._tracked.values()
            if version.status.state is VersionState.WARM
            and version.warm_at_s < asked_at_s
            and version.status.key.model_name not in ready
        ]
        if lost:
            LOG.warning("Triton was restarted and is empty, %d versions are restored", len(lost))
            metrics.SERVING_TRITON_RESTARTS.inc()
            for version in lost:
                version.wanted_at_s = asked_at_s
                self._show(version, VersionState.LOADING)
        if lost or came_back:
            self._restoring_since_s = asked_at_s
            self._health.hold(_RESTORING, "versions are being loaded")
            for version in self._tracked.values():
                # What failed while Triton was away deserves a try at once.
                version.next_try_s = 0.0
        self._health.release(_TRITON)
        return ready

    def _ready_models(self) -> frozenset[str] | None:
        control = self._bring_up.control
        try:
            return control.ready_models() if control.is_live() else None
        except SightlineError as error:
            LOG.warning("Triton does not list its models: %s", error)
            return None

    def _adopt(self, ready: frozenset[str]) -> None:
        """Take charge of what an earlier agent has loaded here; nobody else loads models of our kind."""
        for name in ready:
            key = VersionKey.of_model(name)
            if key is not None and key not in self._tracked:
                self._track(key, VersionState.LOADING)

    def _want(self, wanted: dict[VersionKey, Wish]) -> None:
        now_s = self._clock()
        for key, wish in wanted.items():
            version = self._tracked.get(key) or self._track(key, VersionState.COPYING)
            if version.unwanted_at_s is not None:
                version.unwanted_at_s, version.wanted_at_s = None, now_s
            version.live, version.explained = wish.live, wish.explained
            if version.revision != wish.revision:
                # Somebody has touched the alias since: what was refused may have been put right.
                version.revision, version.final, version.next_try_s = wish.revision, False, 0.0
        for key, version in self._tracked.items():
            if key not in wanted and version.unwanted_at_s is None:
                version.unwanted_at_s = now_s

    def _track(self, key: VersionKey, state: VersionState) -> TrackedVersion:
        status = VersionStatus(key, state)
        version = TrackedVersion(status, Backoff(first_s=1.0, cap_s=self._retry_cap_s), self._clock())
        self._tracked[key] = version
        self.board.show(status)
        return version

    def _work_on(self, version: TrackedVersion) -> None:
        now_s = self._clock()
        if version.unwanted_at_s is not None:
            if now_s - version.unwanted_at_s >= self._unload_grace_s and now_s >= version.next_try_s:
                self._start(version, self._take_down)
        elif version.status.state is not VersionState.WARM and not version.final and now_s >= version.next_try_s:
            self._start(version, self._raise)

    def _start(self, version: TrackedVersion, work: Callable[[TrackedVersion], None]) -> None:
        version.busy, version.tried_at_s = True, self._clock()
        future: Future[None] = self._pool.submit(work, version)
        future.add_done_callback(_report_defect)

    def _keep_explainers(self, ready: frozenset[str]) -> None:
        if self._explainers is None:
            return
        wanted, kept = set(), set()
        for key, version in self._tracked.items():
            if version.unwanted_at_s is None:
                if version.explained:
                    kept.add(key)
                if version.explained and version.status.state is VersionState.WARM:
                    wanted.add(key)
            elif version.status.state is not VersionState.UNLOADING and not version.gone:
                # For cases of it that are still on their way.
                kept.add(key)
        self._explainers.turn(ready, wanted, kept)

    # ---- on the pool's threads; the version is busy, so nobody else changes it

    def _raise(self, version: TrackedVersion) -> None:
        key = version.status.key
        try:
            self._bring_up.run(key, lambda state: self._show(version, state))
        except (SightlineError, TimeoutError, OSError) as error:
            self._failed(version, error)
        else:
            took_s = self._clock() - version.wanted_at_s
            version.backoff.reset()
            version.error, version.final, version.warm_at_s = None, False, self._clock()
            metrics.SERVING_LOAD_SECONDS.observe(took_s)
            self._show(version, VersionState.WARM, load_ms=took_s * 1e3)
            LOG.info("%s is warm after %.1f s", key.model_name, took_s, extra={"model": key.model_name})
            self._tell_engines(key)
        finally:
            version.busy = False

    def _tell_engines(self, key: VersionKey) -> None:
        choices = self._bring_up.choices(key)
        self.board.show_engines(key, choices.values())
        for device, choice in choices.items():
            level = logging.WARNING if choice.fallback else logging.INFO
            LOG.log(
                level, "%s is served on %s by %s", key.model_name, device, choice.told, extra={"model": key.model_name}
            )

    def _failed(self, version: TrackedVersion, error: Exception) -> None:
        name = version.status.key.model_name
        version.error, version.final = error, isinstance(error, RefusedVersionError)
        pause_s = version.backoff.next_s()
        version.next_try_s = self._clock() + pause_s
        metrics.SERVING_LOAD_FAILURES.labels(name).inc()
        self._show(version, VersionState.FAILED, detail=str(error))
        then = "it is not tried again until its alias changes" if version.final else f"next try in {pause_s:.1f} s"
        LOG.error("%s cannot be brought up, %s: %s", name, then, error, extra={"model": name})

    def _take_down(self, version: TrackedVersion) -> None:
        key = version.status.key
        self._show(version, VersionState.UNLOADING)
        try:
            self._bring_up.take_down(key)
        except SightlineError as error:
            version.next_try_s = self._clock() + version.backoff.next_s()
            LOG.warning("%s cannot be unloaded yet: %s", key.model_name, error)
        else:
            version.gone = True
            LOG.info("%s is unloaded", key.model_name, extra={"model": key.model_name})
        finally:
            version.busy = False

    def _show(self, version: TrackedVersion, state: VersionState, *, detail: str = "", load_ms: float = 0.0) -> None:
        version.status = with_state(version.status, state, detail=detail, load_ms=load_ms)
        self.board.show(version.status)

    # ---- readiness and disk

    def _forget_gone(self) -> None:
        for key in [key for key, version in self._tracked.items() if version.gone and not version.busy]:
            del self._tracked[key]
            self.board.forget(key)

    def _tell_readiness(self) -> bool:
        """Ready once every wanted version is warm or has failed; a version wanted later does not take it back.

        Returns:
            Whether nothing is waited for at the moment.
        """
        waiting = [
            version.status.key.model_name
            for version in self._tracked.values()
            if version.unwanted_at_s is None and not version.settled_since(self._restoring_since_s)
        ]
        settled = self._triton_live and not waiting
        if settled:
            self._health.release(_RESTORING)
        return settled

    def _clean_disk(self) -> None:
        now_s = self._clock()
        if now_s - self._cleaned_at_s < _CLEAN_EVERY_S:
            return
        self._cleaned_at_s = now_s
        kept = {self._bring_up.versions_folder / key.alias / str(key.version) for key in self._tracked}
        copies = [folder for folder in self._bring_up.versions_folder.glob("*/*") if folder not in kept]
        used = [version_digest(folder) for folder in kept if (folder / CHECKSUMS).is_file()]
        derived = [
            folder
            for folder in self._bring_up.cache_folder.glob("*")
            if not any(digest in folder.name for digest in used)
        ]
        for folder in [*copies, *derived]:
            self._remove_if_old(folder)

    def _remove_if_old(self, folder: Path) -> None:
        try:
            unused_s = time.time() - folder.stat().st_mtime
            if unused_s > self._keep_on_disk_s:
                shutil.rmtree(folder)
                LOG.info("removed %s, unused for %.0f h", folder, unused_s / 3600)
        except OSError as error:
            LOG.warning("%s cannot be removed: %s", folder, error)


def _report_defect(future: Future[None]) -> None:
    if not future.cancelled() and future.exception() is not None:
        LOG.error("a bring-up ended in a way that is not foreseen", exc_info=future.exception())
