"""Keeps the models that explain beside the versions that give verdicts.

They are second to the versions in everything: loaded by one thread of their own once every version is settled, tried
again when they fail, and whatever happens to them changes nothing about a version or about readiness. What is there is
asked of Triton at every turn, so a restart needs no special care.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from services.adapters.modelfolder import verify_version
from services.core.errors import SightlineError
from services.runtime import metrics
from services.runtime.retry import Backoff
from services.serving.bringup import BringUp
from services.serving.repository import (
    CONFIG,
    ExplainingPlacement,
    remove_entry,
    render_explaining_config,
    write_explaining_entry,
)
from services.serving.versions import VersionKey

LOG = logging.getLogger(__name__)

_LOAD_TIMEOUT_S = 120.0


@dataclass(eq=False)
class _Explainer:
    """One explaining model, as it is worked on. While it is busy only the worker changes it."""

    key: VersionKey
    backoff: Backoff
    next_try_s: float = 0.0
    busy: bool = False
    current: bool = False
    """Whether it was loaded from the very entry that would be written now."""


class Explainers:
    """The explaining models of one Triton.

    Args:
        bring_up: Whose Triton, disk and placement they share.
        placement: How they are run; None takes away those that are there.
        retry_cap_s: Longest pause before another try.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        bring_up: BringUp,
        placement: ExplainingPlacement | None,
        *,
        retry_cap_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bring_up = bring_up
        self._placement = placement
        self._retry_cap_s = retry_cap_s
        self._clock = clock
        self._known: dict[VersionKey, _Explainer] = {}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="explainers")

    def turn(self, ready: frozenset[str], wanted: Collection[VersionKey], kept: Collection[VersionKey]) -> None:
        """Do what is due; returns at once.

        Args:
            ready: Models that Triton has ready.
            wanted: Versions that must be explained.
            kept: Versions whose explaining model may stay.
        """
        if self._placement is None:
            wanted = kept = ()
        there = {key for key in map(VersionKey.of_explainer, ready) if key is not None}
        for key in {*wanted, *there, *self._known}:
            one = self._known.get(key) or self._know(key)
            if one.busy:
                continue
            one.current &= key in there
            if key in wanted:
                metrics.SERVING_EXPLAINER_UP.labels(key.explainer_name).set(one.current)
            if key in wanted and not one.current:
                self._start(one, self._raise)
            elif key in there and key not in kept and key not in wanted:
                self._start(one, self._take_down)
            elif key not in there and key not in wanted:
                self._forget(key)

    def stop(self) -> None:
        """Work no more; what is loaded stays loaded."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _know(self, key: VersionKey) -> _Explainer:
        self._known[key] = _Explainer(key, Backoff(first_s=1.0, cap_s=self._retry_cap_s))
        return self._known[key]

    def _forget(self, key: VersionKey) -> None:
        del self._known[key]
        metrics.SERVING_EXPLAINER_UP.remove_by_labels({"model": key.explainer_name})

    def _start(self, one: _Explainer, work: Callable[[VersionKey], None]) -> None:
        if self._clock() < one.next_try_s:
            return
        one.busy = True
        future: Future[None] = self._pool.submit(self._run, one, work)
        future.add_done_callback(_report_defect)

    # ---- on the pool's thread

    def _run(self, one: _Explainer, work: Callable[[VersionKey], None]) -> None:
        name = one.key.explainer_name
        try:
            work(one.key)
        except (SightlineError, OSError) as error:
            pause_s = one.backoff.next_s()
            one.next_try_s = self._clock() + pause_s
            metrics.SERVING_EXPLAINER_FAILURES.labels(name).inc()
            LOG.warning("%s: %s; next try in %.1f s", name, error, pause_s, extra={"model": name})
        else:
            one.backoff.reset()
            one.next_try_s, one.current = 0.0, work == self._raise
        finally:
            one.busy = False

    def _raise(self, key: VersionKey) -> None:
        if self._placement is None:
            return
        bring_up, folder = self._bring_up, self._bring_up.folder_of(key)
        manifest = verify_version(folder)
        entry, cache = bring_up.repository / key.explainer_name, bring_up.cache_folder
        wanted = render_explaining_config(
            manifest, folder.resolve(), bring_up.placement, self._placement, cache.resolve()
        )
        loaded = key.explainer_name in bring_up.control.ready_models()
        if loaded and (entry / CONFIG).is_file() and (entry / CONFIG).read_text() == wanted:
            return
        write_explaining_entry(bring_up.repository, manifest, folder, bring_up.placement, self._placement, cache)
        bring_up.control.load(key.explainer_name, _LOAD_TIMEOUT_S)
        LOG.info("%s is loaded", key.explainer_name, extra={"model": key.explainer_name})

    def _take_down(self, key: VersionKey) -> None:
        self._bring_up.control.unload(key.explainer_name, _LOAD_TIMEOUT_S)
        remove_entry(self._bring_up.repository, key.explainer_name)
        LOG.info("%s is unloaded", key.explainer_name, extra={"model": key.explainer_name})


def _report_defect(future: Future[None]) -> None:
    if not future.cancelled() and future.exception() is not None:
        LOG.error("an explaining model was left in a way that is not foreseen", exc_info=future.exception())
