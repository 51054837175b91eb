"""Looks whether live frames still are like the good parts that the version was calibrated on, beside a frame's way.

Of each part one frame counts, drawn evenly among its views: what several cameras see of one part is alike, and counted
as so many parts it would make chance look like drift. A frame costs a look-up and a copy. The distances are computed by
a thread of their own, product by product: products differ from each other by more than any drift does. A version that
does not tell its reference parts' products is compared as a whole.
"""

from __future__ import annotations

import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.adapters.modelfolder import ReferenceAnswers
from services.core.drift import (
    EmbeddingBaseline,
    ScoreBaseline,
    embedding_baseline,
    embedding_discrepancy,
    population_stability,
    score_baseline,
)
from services.core.errors import SightlineError
from services.core.types import Inspection, Verdict, triton_model_name
from services.detector.settings import DriftSettings
from services.runtime import metrics
from services.runtime.logging import get_logger
from services.runtime.retry import Backoff

LOG = get_logger(__name__)

#: Fewer reference parts than these say too little of a product.
_FEWEST_PARTS: Final = 30
_NEXT_TRY_CAP_S: Final = 300.0
_FLOAT16_MAX: Final = float(np.finfo(np.float16).max)

Place: TypeAlias = tuple[str, int, str]
"""Alias, version and product."""


@dataclass(slots=True)
class _Seen:
    """One part in a window."""

    views: int
    score: float
    embedding: NDArray[np.float16] | None
    """None where it does not pass."""


@dataclass(frozen=True, slots=True, eq=False)
class _Baseline:
    scores: ScoreBaseline
    embeddings: EmbeddingBaseline | None


@dataclass(slots=True)
class _Version:
    """What is known of a version: its reference, or when to ask for it again."""

    reference: ReferenceAnswers | None = None
    baselines: dict[str, _Baseline | None] = field(default_factory=dict)
    backoff: Backoff = field(default_factory=lambda: Backoff(first_s=1.0, cap_s=_NEXT_TRY_CAP_S))
    looks_left: int = 0


class DriftWatch:
    """Windows of live frames, and their distances from the reference as metrics.

    Args:
        settings: How large, how often.
        read_reference: Reads what a version said of its good parts; called on the watch's own thread.
    """

    def __init__(self, settings: DriftSettings, read_reference: Callable[[str, int], ReferenceAnswers]) -> None:
        self._settings = settings
        self._read_reference = read_reference
        self._lock = threading.Lock()
        self._windows: dict[Place, OrderedDict[str, _Seen]] = {}
        # Read and written by the one thread that looks, as the metrics are.
        self._versions: dict[tuple[str, int], _Version] = {}
        self._told: set[Place] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="drift", daemon=True)

    def start(self) -> None:
        """Begin to look, unless it is turned off."""
        if self._settings.window_frames:
            self._thread.start()

    def close(self, timeout_s: float = 5.0) -> None:
        """End the looking; idempotent."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def observe(self, inspection: Inspection, embedding: NDArray[np.float32]) -> None:
        """Take a frame that a model has scored.

        Args:
            inspection: What was said of it.
            embedding: Of the row that its score is of, shape ``(D,)``.
        """
        size = self._settings.window_frames
        if not size or not np.isfinite(inspection.score):
            return
        place = (inspection.alias, inspection.model_version, inspection.product)
        with self._lock:
            window = self._windows.get(place)
            if window is None:
                if len(self._windows) >= self._settings.max_products:
                    return
                self._forget_older(inspection.alias, inspection.model_version)
                window = self._windows[place] = OrderedDict()
            known = window.get(inspection.part_id)
            views = known.views + 1 if known is not None else 1
            if known is not None and zlib.crc32(inspection.frame_id.encode()) % views:
                known.views = views
                return
            passes = inspection.verdict is Verdict.PASS
            window[inspection.part_id] = _Seen(views, inspection.score, _half(embedding) if passes else None)
            if len(window) > size:
                window.popitem(last=False)

    def _forget_older(self, alias: str, version: int) -> None:
        """After a swap the window starts anew; the next look takes back what was told of the version before."""
        for place in [place for place in self._windows if place[0] == alias and place[1] != version]:
            del self._windows[place]

    def look(self) -> None:
        """Compute the distances of every window; what cannot be read is tried again at a later look."""
        with self._lock:
            windows = [
                (
                    place,
                    np.array([seen.score for seen in window.values()]),
                    [seen.embedding for seen in window.values() if seen.embedding is not None],
                )
                for place, window in self._windows.items()
            ]
        current = {place for place, _, _ in windows}
        for place in self._told - current:
            _withdraw(place)
        self._told = current
        self._versions = {key: one for key, one in self._versions.items() if key in {place[:2] for place in current}}
        for place, scores, embeddings in windows:
            name = (place[0], triton_model_name(place[0], place[1]), place[2])
            metrics.DETECTOR_DRIFT_FRAMES.labels(*name).set(len(scores))
            if len(scores) < self._settings.min_frames:
                continue
            baseline = self._baseline(place)
            if baseline is None:
                continue
            metrics.DETECTOR_SCORE_PSI.labels(*name).set(
                population_stability(
                    baseline.scores, scores, expected_defect_share=self._settings.expected_defect_share
                )
            )
            if baseline.embeddings is not None and len(embeddings) >= self._settings.min_frames:
                metrics.DETECTOR_EMBEDDING_MMD.labels(*name).set(
                    embedding_discrepancy(baseline.embeddings, np.stack(embeddings))
                )

    def _baseline(self, place: Place) -> _Baseline | None:
        alias, number, product = place
        version = self._versions.setdefault((alias, number), _Version())
        if version.reference is None:
            if version.looks_left > 0:
                version.looks_left -= 1
                return None
            try:
                version.reference = self._read_reference(alias, number)
            except SightlineError as error:
                version.looks_left = int(version.backoff.next_s() / self._settings.every_s)
                LOG.warning(
                    "drift of %s version %s is not measured: %s", alias, number, error, extra={"reason": error.reason}
                )
                return None
        if product not in version.baselines:
            version.baselines[product] = _baseline_of(version.reference, product, self._settings.min_frames)
            if version.baselines[product] is None:
                LOG.info(
                    "drift of %s at %s version %s is not measured: it has %s reference parts, %s are needed",
                    product,
                    alias,
                    number,
                    len(version.reference.scores),
                    _FEWEST_PARTS,
                )
        return version.baselines[product]

    def _run(self) -> None:
        while not self._stop.wait(self._settings.every_s):
            try:
                self.look()
            except SightlineError as error:
                LOG.warning("drift is not measured: %s", error, extra={"reason": error.reason})


def _half(embedding: NDArray[np.float32]) -> NDArray[np.float16] | None:
    """A copy, as the row is part of its batch's array; None where there is none, or one that is no number."""
    if not embedding.size or not np.isfinite(embedding).all():
        return None
    # Past the range of a half float lies infinity, with which no distance can be computed.
    return np.asarray(np.clip(embedding, -_FLOAT16_MAX, _FLOAT16_MAX), dtype=np.float16)


def _baseline_of(reference: ReferenceAnswers, product: str, min_frames: int) -> _Baseline | None:
    """The reference of one product; of all where too few parts are known to be of it."""
    rows: Sequence[int] = [row for row, name in enumerate(reference.products) if name == product]
    if len(rows) < _FEWEST_PARTS:
        # Parts of other products would be drift by themselves.
        rows = [row for row, name in enumerate(reference.products) if name in ("", product)]
    rows = [row for row in rows if np.isfinite(reference.scores[row])]
    if len(rows) < _FEWEST_PARTS:
        return None
    scores, embeddings = reference.scores[rows], reference.embeddings[rows]
    usable = bool(embeddings.shape[1]) and bool(np.isfinite(embeddings).all())
    return _Baseline(score_baseline(scores, min_frames), embedding_baseline(embeddings) if usable else None)


def _withdraw(place: Place) -> None:
    name = (place[0], triton_model_name(place[0], place[1]), place[2])
    for gauge in (metrics.DETECTOR_SCORE_PSI, metrics.DETECTOR_EMBEDDING_MMD, metrics.DETECTOR_DRIFT_FRAMES):
        gauge.remove(*name)
