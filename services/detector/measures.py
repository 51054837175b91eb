"""The detector's metrics with their labels resolved once, since they are counted for every frame."""

from __future__ import annotations

import time

from prometheus_client import Counter, Histogram

from services.core.types import CaseKind, Inspection
from services.runtime import metrics


class Measures:
    """Counts and times by frame."""

    def __init__(self) -> None:
        self._frames: dict[str, Counter] = {}
        self._verdicts: dict[tuple[str, str, str, str], Counter] = {}
        stage = metrics.DETECTOR_STAGE_SECONDS.labels
        self._queue: Histogram = stage("queue")
        self._fetch: Histogram = stage("fetch")
        self._decode: Histogram = stage("decode")
        self._infer: Histogram = stage("infer")
        self._publish: Histogram = stage("publish")
        self._total: Histogram = stage("total")

    def taken(self, camera: str) -> None:
        """A frame was taken from the topic."""
        counter = self._frames.get(camera)
        if counter is None:
            counter = self._frames[camera] = metrics.DETECTOR_FRAMES.labels(camera)
        counter.inc()

    def answered(self, frames: int, infer_s: float) -> None:
        """A batch was answered."""
        metrics.DETECTOR_BATCH_FRAMES.observe(frames)
        self._infer.observe(infer_s)

    def settled(self, inspection: Inspection, kind: CaseKind | None, written_at_s: float) -> None:
        """A frame's outputs are acknowledged.

        The outbox keeps this call until then. It does not take the frame's job, which keeps the outbox's entry: the
        two would keep each other, with record and image, until the garbage collector's rarest round.
        """
        model = f"{inspection.alias}-v{inspection.model_version}"
        labels = (inspection.camera_id, inspection.product, inspection.verdict.value, model)
        counter = self._verdicts.get(labels)
        if counter is None:
            counter = self._verdicts[labels] = metrics.DETECTOR_VERDICTS.labels(*labels)
        counter.inc()
        if kind is not None:
            metrics.DETECTOR_CASES.labels(kind.value).inc()
        if not inspection.in_time:
            metrics.DETECTOR_LATE.labels(inspection.camera_id).inc()
        timings = inspection.timings
        self._queue.observe(timings.queue_ms / 1e3)
        if timings.fetch_ms:
            self._fetch.observe(timings.fetch_ms / 1e3)
        self._decode.observe(timings.decode_ms / 1e3)
        self._total.observe(timings.total_ms / 1e3)
        self._publish.observe(time.monotonic() - written_at_s)
        metrics.DETECTOR_LAST_SUCCESS.set_to_current_time()
