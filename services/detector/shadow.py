"""The version in the shadow scores live frames too. What it says is recorded and never acted on.

A frame comes here after its live verdict was decided and handed to the outbox. From then on nothing waits for it: the
queue is bounded and turns frames away, one thread of its own does the rest, Triton is asked by a client of its own, and
whatever fails is counted and left. Frames are asked about one at a time, so that the live version's requests never
queue behind more than one of the shadow's, and one frame's failure is no other's.

A shadow's record need not be acknowledged before its frame's offset is committed: it is a sample. A crash, a full queue
or a broker that is away loses records of it, never verdicts. A frame that is read again is drawn again, and gives a
record with the same frame id, alias and version.
"""

from __future__ import annotations

import functools
import threading
import time
from concurrent.futures import Future, wait
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from services.adapters.ports import InferenceClient, InferenceResult, ObjectStore, RecordWriter
from services.core.errors import InvalidInputError, NotFoundError, SightlineError, UnavailableError
from services.core.imaging import ImageLimits
from services.core.types import Inspection, RecordPosition, ShadowInspection, triton_model_name
from services.detector import outputs
from services.detector.asking import ask
from services.detector.deployments import Deployments
from services.detector.job import Deployment, Job
from services.detector.preparation import rows_of
from services.detector.settings import DetectorSettings
from services.detector.shadowqueue import Pace, ShadowedFrame, ShadowQueue
from services.runtime import metrics
from services.runtime.images import fetch_image
from services.runtime.logging import get_logger
from services.runtime.retry import Backoff

LOG = get_logger(__name__)

#: Longest time after which a change of the shadow, or the end, is seen.
_TURN_S = 0.2
#: Time between looks at a shadow that is not warm.
_LOOK_AGAIN_S = 1.0
#: The client's own deadline comes first; this only bounds a client that forgets it.
_GRACE_S = 0.5


@dataclass(slots=True, eq=False)
class _Shadow:
    """The shadow of one alias, from the moment the state of the alias names it."""

    version: int
    deployment: Deployment | None = None
    ready: bool = False
    """Whether it was warm when it was last looked at, and has not failed since."""
    retry_at_s: float = 0.0
    backoff: Backoff = field(default_factory=lambda: Backoff(first_s=1.0, cap_s=30.0))
    """Pauses after failures."""
    told: str = ""


class ShadowScorer:
    """Asks the shadow about frames that have their live verdict, and writes what it says.

    Args:
        settings: The detector's settings.
        deployments: Which version is in the shadow.
        inference: Asks Triton; not the client that asks the live version, which a shadow that times out would make
            avoid a healthy server.
        writer: Writes the records.
        store: Images by reference.
    """

    def __init__(
        self,
        settings: DetectorSettings,
        deployments: Deployments,
        inference: InferenceClient,
        writer: RecordWriter,
        store: ObjectStore,
    ) -> None:
        self._settings = settings.shadow
        self._aliases = settings.aliases
        self._max_rows = settings.batch.max_frames
        self._deployments = deployments
        self._inference = inference
        self._writer = writer
        self._store = store
        self._limits = ImageLimits(
            max_bytes=settings.limits.max_image_bytes,
            max_pixels=settings.limits.max_image_pixels,
            max_aspect_ratio=settings.limits.max_aspect_ratio,
        )
        self._queue = ShadowQueue(self._settings.max_waiting_frames, self._settings.max_waiting_bytes)
        self._pace = Pace(self._settings.max_per_s, time.monotonic)
        self._shadows: dict[str, _Shadow] = {}
        self._unwritten = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)

    # ---- life

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def close(self, timeout_s: float = 2.0) -> None:
        """Stop the thread; frames that wait are not scored."""
        self._stopping.set()
        self._queue.close()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    # ---- the pipeline's side

    def offer(self, job: Job, live: Inspection, rows: NDArray[np.uint8] | None) -> None:
        """Take a frame for the shadow if it is drawn and there is room; returns at once.

        Args:
            job: The frame; its deployment is the one that answered.
            live: What the live version said.
            rows: The live version's prepared rows, ``uint8``, shape ``(T, H, W, 3)``.
        """
        version = self._deployments.shadow_version(live.alias)
        # While the detector still answers with a version that is no longer live, that may be the shadow itself.
        if not version or version == live.model_version:
            return
        if not outputs.is_drawn(live.frame_id, self._settings.share, b"shadow"):
            return
        name = triton_model_name(live.alias, version)
        shadow = self._shadows.get(live.alias)
        if shadow is None or shadow.version != version or not shadow.ready or shadow.deployment is None:
            _count(name, "not_ready")
            return
        if not self._pace.allows():
            _count(name, "over_rate")
            return
        deployment, frame = shadow.deployment, job.frame
        same_input = job.deployment is not None and job.deployment.preprocessing == deployment.preprocessing
        waiting = ShadowedFrame(
            deployment,
            live,
            rows=rows if same_input else None,
            image=None if same_input else frame.image,
            image_ref=frame.image_ref,
            headers=job.trace_headers,
        )
        if not self._queue.put(waiting):
            _count(name, "queue_full")

    # ---- the shadow's thread

    def _run(self) -> None:
        while not self._stopping.is_set():
            frame = None
            try:
                self._follow()
                frame = self._queue.get(_TURN_S)
                metrics.DETECTOR_SHADOW_WAITING.set(len(self._queue))
                if frame is not None:
                    self._score(frame)
            except Exception:
                # What is wrong here must not end the service, whose verdicts do not depend on it; said once a second.
                LOG.exception("the shadow's thread goes on after an error")
                if frame is not None:
                    _count(frame.deployment.model_name, "failed")
                self._stopping.wait(1.0)

    def _follow(self) -> None:
        """Take up the shadows that the aliases' states name, and let go of those that they do not."""
        now_s = time.monotonic()
        for alias in self._aliases:
            version = self._deployments.shadow_version(alias)
            shadow = self._shadows.get(alias)
            if shadow is not None and shadow.version != version:
                LOG.info("alias %s: version %s is no longer in the shadow", alias, shadow.version)
                metrics.DETECTOR_SHADOW_VERSION.labels(alias).set(0)
                del self._shadows[alias]
                shadow = None
            if not version:
                continue
            if shadow is None:
                shadow = self._shadows[alias] = _Shadow(version)
            if not shadow.ready and now_s >= shadow.retry_at_s:
                self._make_ready(alias, shadow)

    def _make_ready(self, alias: str, shadow: _Shadow) -> None:
        shadow.retry_at_s = time.monotonic() + _LOOK_AGAIN_S
        try:
            shadow.deployment = shadow.deployment or self._deployments.read(alias, shadow.version)
        except SightlineError as error:
            _tell(alias, shadow, f"it cannot be read: {error}")
            return
        if not self._inference.warm_everywhere(triton_model_name(alias, shadow.version)):
            _tell(alias, shadow, "it is not warm on every Triton")
            return
        shadow.ready = True
        metrics.DETECTOR_SHADOW_VERSION.labels(alias).set(shadow.version)
        _tell(alias, shadow, "it scores")

    def _score(self, frame: ShadowedFrame) -> None:
        deployment = frame.deployment
        shadow = self._current(deployment)
        if shadow is None:
            _count(deployment.model_name, "ended")
            return
        if not shadow.ready:
            _count(deployment.model_name, "not_ready")
            return
        started_s = time.monotonic()
        try:
            image = self._image_of(frame) if frame.rows is None else b""
        except SightlineError as error:
            # It says nothing of the shadow, and the live version has said its verdict.
            LOG.info("a frame's image is not there for the shadow: %s", error, extra={"reason": error.reason})
            _count(deployment.model_name, "no_image")
            return
        fetched_s = time.monotonic()
        try:
            rows = rows_of(image, self._limits, deployment.preprocessing) if frame.rows is None else frame.rows
            asked_s = time.monotonic()
            result = self._ask(deployment, rows)
        except InvalidInputError as error:
            self._say(frame, outputs.shadow_silent(frame.live, deployment, error, time.time_ns()), "refused")
            return
        except SightlineError as error:
            self._on_failure(frame, shadow, error)
            return
        if result is None:
            _count(deployment.model_name, "ended")
            return
        answered_s = time.monotonic()
        metrics.DETECTOR_SHADOW_INFER_SECONDS.observe(answered_s - asked_s)
        shadow.backoff.reset()
        said = outputs.shadow_judged(
            frame.live,
            deployment,
            result,
            fetch_ms=(fetched_s - started_s) * 1e3 if frame.rows is None and frame.image is None else 0.0,
            decode_ms=(asked_s - fetched_s) * 1e3 if frame.rows is None else 0.0,
            infer_ms=(answered_s - asked_s) * 1e3,
            now_ns=time.time_ns(),
        )
        self._say(frame, said, "answered")

    def _current(self, deployment: Deployment) -> _Shadow | None:
        shadow = self._shadows.get(deployment.alias)
        wanted = self._deployments.shadow_version(deployment.alias)
        return shadow if shadow is not None and shadow.version == wanted == deployment.version else None

    def _image_of(self, frame: ShadowedFrame) -> bytes:
        if frame.image is not None:
            return frame.image
        return fetch_image(self._store, frame.image_ref, max_bytes=self._limits.max_bytes)

    def _ask(self, deployment: Deployment, rows: NDArray[np.uint8]) -> InferenceResult | None:
        """Score the rows of one frame; None where it left the shadow, or the detector stops, before the answer."""
        timeout_s = self._settings.timeout_s
        end_s = time.monotonic() + timeout_s + _GRACE_S
        future = ask(self._inference, deployment.model_name, rows, self._max_rows, timeout_s)
        while not wait((future,), timeout=_TURN_S).done:
            if self._stopping.is_set() or self._current(deployment) is None:
                return None
            if time.monotonic() >= end_s:
                raise UnavailableError(f"the shadow must answer within {timeout_s} s, it did not")
        return future.result()

    def _on_failure(self, frame: ShadowedFrame, shadow: _Shadow, error: SightlineError) -> None:
        """Rest: nothing is asked again, and the next frame waits for a pause that grows while it fails."""
        deployment = frame.deployment
        shadow.ready = False
        shadow.retry_at_s = time.monotonic() + shadow.backoff.next_s()
        metrics.DETECTOR_SHADOW_VERSION.labels(deployment.alias).set(0)
        _tell(deployment.alias, shadow, f"it does not answer: {error}")
        if isinstance(error, NotFoundError):
            # Not loaded any more, which says nothing of how it scores.
            _count(deployment.model_name, "failed")
        else:
            self._say(frame, outputs.shadow_silent(frame.live, deployment, error, time.time_ns()), "failed")

    # ---- saying

    def _say(self, frame: ShadowedFrame, said: ShadowInspection, outcome: str) -> None:
        name = frame.deployment.model_name
        if self._current(frame.deployment) is None:
            # It left the shadow while it was asked.
            _count(name, "ended")
            return
        output = outputs.shadow_of(said, frame.headers)
        try:
            sent = self._writer.send(output.topic, key=output.key, value=output.value, headers=output.headers)
        except SightlineError as error:
            self._on_unwritten(name, error)
            return
        sent.add_done_callback(functools.partial(self._on_written, name, said, outcome))

    def _on_written(self, name: str, said: ShadowInspection, outcome: str, sent: Future[RecordPosition]) -> None:
        error = sent.exception()
        if error is not None:
            self._on_unwritten(name, error)
            return
        self._unwritten = False
        _count(name, outcome)
        if outcome == "answered":
            metrics.DETECTOR_SHADOW_VERDICTS.labels(name, said.live_verdict.value, said.shadow.verdict.value).inc()

    def _on_unwritten(self, name: str, error: BaseException) -> None:
        _count(name, "unwritten")
        if not self._unwritten:
            LOG.warning("what the shadow says cannot be written and is left out: %s", error)
        self._unwritten = True


def _count(model: str, outcome: str) -> None:
    metrics.DETECTOR_SHADOW_FRAMES.labels(model, outcome).inc()


def _tell(alias: str, shadow: _Shadow, what: str) -> None:
    if shadow.told != what:
        LOG.info("alias %s, version %s in the shadow: %s", alias, shadow.version, what)
    shadow.told = what
