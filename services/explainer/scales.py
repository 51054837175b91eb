"""Where colour begins, by model version and method: measured on the version's own good parts, once, and kept.

The scale lies beside the version, under ``models/<alias>/<version>/derived/heatmap/<hash>/scale.json``; the hash stands
for everything that it depends on. The first explainer that needs it measures it, in the background and preferably
while no case waits. Until then maps go out without one.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from services.adapters.modelstore import ModelStore
from services.adapters.ports import ExplanationRequest, ExplanationSteps, ObjectStore
from services.core.errors import (
    ConflictError,
    ExplanationError,
    ImageError,
    InvalidInputError,
    NotFoundError,
    SightlineError,
    UnavailableError,
)
from services.core.explain.heatmap import UNCALIBRATED, HeatScale, calibrate
from services.explainer.asking import Asking
from services.explainer.job import why_no_map
from services.explainer.policy import LASTING_REFUSALS, seed_of
from services.explainer.settings import ExplainerSettings
from services.explainer.versions import Version
from services.runtime import metrics
from services.runtime.logging import get_logger
from services.runtime.retry import Backoff

LOG = get_logger(__name__)

_SCHEMA = 2
"""Of the file, and of what the methods do: maps that are made otherwise need a scale of their own."""
_MAX_BYTES = 100_000
_KEPT = 256
_LOOK_S = 0.25

Key = tuple[str, int, str]


class HeatScales:
    """Scales by alias, version and method; measured on a thread of its own. Thread-safe.

    Args:
        settings: The explainer's settings.
        asking: Explains the good parts.
        models: Has them.
        store: Keeps scales.
        busy: Tells whether a case waits.
    """

    def __init__(
        self,
        settings: ExplainerSettings,
        asking: Asking,
        models: ModelStore,
        store: ObjectStore,
        *,
        busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self._settings = settings
        self._asking = asking
        self._models = models
        self._store = store
        self._busy = busy
        self._known: dict[Key, HeatScale] = {}
        self._wanted: deque[tuple[Version, str]] = deque()
        self._queued: set[Key] = set()
        self._steps: ExplanationSteps | None = None
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._asked = threading.Event()
        self._thread = threading.Thread(target=self._run, name="calibration", daemon=True)

    def set_busy(self, busy: Callable[[], bool]) -> None:
        """Measure the next good part when ``busy`` says no."""
        self._busy = busy

    def get(self, version: Version, method: str) -> HeatScale:
        """The scale, uncalibrated where it is not known; then it is looked for."""
        key = (version.alias, version.number, method)
        with self._lock:
            known = self._known.get(key)
            if known is None and key not in self._queued and self._settings.calibration.parts:
                self._queued.add(key)
                if method == self._settings.policy.fast:
                    # Done in a moment, while the other one may take minutes.
                    self._wanted.appendleft((version, method))
                else:
                    self._wanted.append((version, method))
                self._asked.set()
        return known or UNCALIBRATED

    def start(self) -> None:
        """Begin to measure."""
        self._thread.start()

    def close(self, timeout_s: float = 5.0) -> None:
        """Stop; what is half measured is measured again by the next who needs it."""
        self._stop.set()
        self._asked.set()
        steps = self._steps
        if steps is not None:
            steps.close()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    # ---- the thread

    def _run(self) -> None:
        backoff = Backoff(first_s=1.0, cap_s=60.0)
        while not self._stop.is_set():
            self._asked.wait()
            with self._lock:
                if not self._wanted:
                    self._asked.clear()
                    continue
                version, method = self._wanted.popleft()
            if self._stop.is_set():
                return
            if self._find(version, method):
                backoff.reset()
            else:
                self._stop.wait(backoff.next_s())

    def _find(self, version: Version, method: str) -> bool:
        """Read or measure one scale; tells whether it is settled."""
        key = (version.alias, version.number, method)
        try:
            scale = self._read(version, method) or self._measure(version, method)
        except NotFoundError as error:
            # Not loaded, or the version is gone: the next case that needs it asks again.
            LOG.info("%s of %s is not calibrated now: %s", method, version.model_name, error)
            with self._lock:
                self._queued.discard(key)
            return False
        except UnavailableError as error:
            LOG.info("the calibration of %s of %s waits: %s", method, version.model_name, error)
            with self._lock:
                self._wanted.append((version, method))
            return False
        except SightlineError as error:
            LOG.warning("%s of %s cannot be calibrated: %s", method, version.model_name, error)
            scale = UNCALIBRATED
        if scale is not None:
            self._keep(key, scale)
            metrics.EXPLAINER_CALIBRATED.labels(version.model_name, method).set(1 if scale.is_calibrated else 0)
        return True

    def _keep(self, key: Key, scale: HeatScale) -> None:
        with self._lock:
            self._known[key] = scale
            self._queued.discard(key)
            while len(self._known) > _KEPT:
                del self._known[next(iter(self._known))]

    # ---- in the store

    def key(self, version: Version, method: str) -> str:
        """Where a scale lies; changes with everything that it depends on."""
        stands_for = json.dumps(self._made_with(method), sort_keys=True).encode()
        digest = hashlib.sha256(stands_for).hexdigest()[:16]
        return f"models/{version.alias}/{version.number}/derived/heatmap/{digest}/scale.json"

    def _made_with(self, method: str) -> dict[str, object]:
        budget = self._settings.budget
        return {
            "schema": _SCHEMA,
            "method": method,
            "max_passes": budget.max_passes,
            "min_stability": budget.min_stability,
            "map_side_px": self._settings.map_side_px,
            "parts": self._settings.calibration.parts,
        }

    def _read(self, version: Version, method: str) -> HeatScale | None:
        key = self.key(version, method)
        try:
            found = json.loads(self._store.get(key, max_bytes=_MAX_BYTES))
            scale = HeatScale(float(found["low"]), float(found["high"]))
        except NotFoundError:
            return None
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError, InvalidInputError) as error:
            LOG.warning("the scale at %s cannot be read and is measured anew: %s", key, error)
            self._store.delete([key])
            return None
        if not (math.isfinite(scale.low) and math.isfinite(scale.high)):
            self._store.delete([key])
            return None
        return scale

    def _write(self, version: Version, method: str, scale: HeatScale, parts: int) -> HeatScale:
        told = {**self._made_with(method), "low": scale.low, "high": scale.high, "explained_parts": parts}
        data = (json.dumps(told, indent=1, sort_keys=True) + "\n").encode()
        try:
            self._store.put_new(self.key(version, method), data, content_type="application/json")
        except ConflictError:
            # Another explainer was faster: all show the same colours.
            return self._read(version, method) or scale
        return scale

    # ---- measuring

    def _measure(self, version: Version, method: str) -> HeatScale | None:
        parts = self._models.reference_images(version.alias, version.number, self._settings.calibration.parts)
        maps: list[NDArray[np.float32]] = []
        for number, data in enumerate(parts):
            self._wait_for_a_quiet_moment()
            if self._stop.is_set():
                return None
            try:
                values = self._explain(version, method, data, number)
            except (ExplanationError, ImageError) as error:
                if error.reason in LASTING_REFUSALS:
                    raise
                # One good part that says nothing is no reason to have no colours.
                LOG.info("a good part is left out of the calibration: %s", error, extra={"reason": error.reason})
                continue
            if values is None:
                return None
            if why_no_map(values) is None:
                maps.append(values)
        if not maps:
            raise ExplanationError(
                f"a calibration needs the map of a good part, got none of {len(parts)}", "nothing_to_calibrate_on"
            )
        scale = calibrate(maps)
        LOG.info(
            "%s of %s is calibrated on %s good parts: colour from %.4g to %.4g",
            method,
            version.model_name,
            len(maps),
            scale.low,
            scale.high,
        )
        return self._write(version, method, scale, len(maps))

    def _explain(self, version: Version, method: str, data: bytes, number: int) -> NDArray[np.float32] | None:
        budget = self._settings.budget
        request = ExplanationRequest(
            method=method,
            seed=seed_of(f"reference-{number}", method),
            max_passes=budget.max_passes,
            budget_ms=round(budget.case_s * 1e3),
            min_stability=budget.min_stability,
            evidence=False,
        )
        placed = self._asking.place(data, version)
        step = self._asking.last(placed, version, request, holding=self._hold)
        if step is None:
            return None
        # The scale is of what is written, so it is measured on just that.
        return self._asking.on_source(placed, version, step.map).astype(np.float32)

    def _hold(self, steps: ExplanationSteps) -> None:
        self._steps = steps
        if self._stop.is_set():
            steps.close()

    def _wait_for_a_quiet_moment(self) -> None:
        left_s = self._settings.calibration.patience_s
        while left_s > 0 and self._busy() and not self._stop.wait(_LOOK_S):
            left_s -= _LOOK_S
