"""An explainer on ports in memory: what handler tests drive and look at."""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.adapters import codec
from services.adapters.codec_explained import decode_explained_case
from services.adapters.memory import (
    MemoryBroker,
    MemoryObjectStore,
    MemoryRecordConsumer,
    MemoryRecordWriter,
    MemoryTriton,
)
from services.adapters.memory_explain import Explain, MemoryExplanationClient
from services.adapters.modelstore import ModelStore
from services.adapters.ports import ExplanationRequest, ExplanationStep, Record
from services.core import topics
from services.core.errors import NotFoundError, UnavailableError
from services.core.identity import case_id, derive_frame_id
from services.core.imaging import ImageLimits, encode_png
from services.core.preprocessing import Preprocessing
from services.core.types import (
    Case,
    CaseKind,
    ExplainedCase,
    ImageRef,
    Inspection,
    OperatingPoint,
    Reason,
    Verdict,
    triton_explainer_name,
)
from services.explainer.asking import Asking
from services.explainer.explaining import CaseExplainer
from services.explainer.pipeline import ExplainerPipeline
from services.explainer.policy import Policy
from services.explainer.scales import HeatScales
from services.explainer.settings import CalibrationSettings, ExplainerSettings, PolicySettings
from services.explainer.versions import Version, Versions
from services.runtime.consumer import ConsumerLoop, LoopTimes
from services.runtime.lifecycle import Health, Shutdown
from tests.support.detector_line import wait_until

SIDE_PX = 32
NOW_NS = 1_790_000_000_000_000_000
CLASSES = ("good", "scratch", "hole")
POINT = OperatingPoint(threshold=0.5, review_low=0.4, review_high=0.6)
#: A policy of its own, so that what is the default may change.
TWO_MAPS: dict[str, Any] = {
    "fail": ("invrise-soft", "gradcam"),
    "review": ("invrise-soft", "gradcam"),
    "audit": ("gradcam",),
    "fast": "gradcam",
}
_VERDICT = {CaseKind.FAIL: Verdict.FAIL, CaseKind.REVIEW: Verdict.REVIEW, CaseKind.AUDIT: Verdict.PASS}


def picture(*, spot: tuple[int, int] = (8, 8), height_px: int = SIDE_PX, width_px: int = SIDE_PX) -> bytes:
    """A dark picture with a bright square of four pixels at ``spot`` (row, column)."""
    image = np.full((height_px, width_px, 3), 20, np.uint8)
    image[spot[0] : spot[0] + 4, spot[1] : spot[1] + 4] = 250
    return encode_png(image)


def step(values: NDArray[np.float32], **changes: Any) -> ExplanationStep:
    """A final answer with this map."""
    told: dict[str, Any] = {
        "probability": 0.9,
        "passes": 64,
        "stability": 0.9,
        "deletion_auc": 0.2,
        "insertion_auc": 0.8,
        "random_auc": 0.5,
        "transplant": 0.3,
        "seconds": 0.25,
        "final": True,
        "partial": False,
    }
    return ExplanationStep(map=values.astype(np.float32), **told | changes)


def brightness_maps(_name: str, image: NDArray[np.uint8], request: ExplanationRequest) -> Iterable[ExplanationStep]:
    """A model whose answer, and every map, is how bright it is."""
    values = image.mean(axis=2) / 255
    sampled = request.method not in ("gradcam", "hirescam", "contrast")
    answer = float(values.mean())
    measured = {} if request.evidence else {"deletion_auc": math.nan, "insertion_auc": math.nan, "random_auc": math.nan}
    measured |= {} if request.evidence else {"transplant": math.nan}
    if sampled:
        yield step(values * 0.5, probability=answer, passes=32, stability=0.5, final=False)
    stability = 0.9 if sampled else math.nan
    passes = request.max_passes if sampled else 1
    yield step(values, probability=answer, passes=passes, stability=stability, **measured)


def make_case(
    number: int,
    image: bytes | ImageRef,
    *,
    kind: CaseKind = CaseKind.FAIL,
    camera: str = "cam-1",
    version: int = 1,
    alias: str = "default",
    detail: str = "",
) -> Case:
    """Case ``number`` of a camera; equal arguments give the same id."""
    frame_id = derive_frame_id(camera, f"item-{number}", 0, NOW_NS + number * 1_000_000)
    score = math.nan if version == 0 else {CaseKind.FAIL: 0.9, CaseKind.REVIEW: 0.5, CaseKind.AUDIT: 0.1}[kind]
    inspection = Inspection(
        frame_id=frame_id,
        part_id=f"part-{number}",
        line_id="line-1",
        camera_id=camera,
        product="disc",
        sequence=number + 1,
        captured_at_ns=NOW_NS,
        decided_at_ns=NOW_NS + 1,
        verdict=_VERDICT[kind],
        reason=Reason.UNREADABLE_IMAGE if version == 0 else Reason.SCORE,
        score=score,
        operating_point=POINT if version else OperatingPoint(math.nan, math.nan, math.nan),
        uncertainty=0.0,
        alias=alias,
        model_version=version,
        detail=detail,
    )
    return Case(
        case_id=case_id(frame_id, alias, version),
        kind=kind,
        inspection=inspection,
        sampling_probability=1.0,
        embedding=np.zeros(4, np.float16),
        image=image if isinstance(image, bytes) else None,
        image_ref=image if isinstance(image, ImageRef) else None,
    )


class Line:
    """Broker, store and explaining models in memory with one or several explainers on them."""

    def __init__(self, explain: Explain = brightness_maps, *, partitions: int = 2) -> None:
        self.broker = MemoryBroker(partitions=partitions)
        self.store = MemoryObjectStore()
        self.triton = MemoryTriton()
        self.client = MemoryExplanationClient(explain, [self.triton])
        self.writer = MemoryRecordWriter(self.broker)
        self.versions: dict[tuple[str, int], Version] = {}
        self.models_away = False
        self.explainers: list[RunningExplainer] = []
        for topic in topics.ALL:
            self.broker.create_topic(topic, partitions)

    def add_version(self, number: int, *, alias: str = "default", loaded: bool = True, **changes: Any) -> None:
        """Store a version and, unless told otherwise, load its explaining model."""
        plain = Version(alias, number, Preprocessing("letterbox", SIDE_PX, SIDE_PX), CLASSES)
        self.versions[alias, number] = dataclasses.replace(plain, **changes)
        if loaded:
            self.triton.loaded.add(triton_explainer_name(alias, number))

    def read_version(self, alias: str, number: int) -> Version:
        """What the object store says of a version."""
        if self.models_away:
            raise UnavailableError("object store must answer in time, got no answer")
        if (alias, number) not in self.versions:
            raise NotFoundError(f"the store must hold {alias} version {number}, got nothing complete")
        return self.versions[alias, number]

    def send(self, *cases: Case, headers: Sequence[tuple[str, bytes]] = ()) -> None:
        """Publish cases as the detector does."""
        for case in cases:
            key = case.inspection.camera_id.encode()
            self.broker.append(topics.CASES, key=key, value=codec.encode_case(case), headers=headers)

    def start(self, **settings: Any) -> RunningExplainer:
        """Start an explainer in the group."""
        explainer = RunningExplainer(self, **settings)
        self.explainers.append(explainer)
        explainer.start()
        return explainer

    def stop(self) -> None:
        """Stop every explainer."""
        for explainer in self.explainers:
            explainer.stop()

    @property
    def explained(self) -> list[ExplainedCase]:
        """Every explained case, in the order of its partition."""
        return [decode_explained_case(record.value) for record in self.broker.records(topics.EXPLAINED)]

    @property
    def dead_letters(self) -> list[Record]:
        """Every dead letter."""
        return self.broker.records(topics.dead_letter(topics.CASES))

    def wait_for(self, count: int, timeout_s: float = 10.0) -> list[ExplainedCase]:
        """Wait until there are so many explained cases, and return them."""
        wait_until(
            lambda: len(self.broker.records(topics.EXPLAINED)) >= count,
            f"{count} explained cases, have {len(self.broker.records(topics.EXPLAINED))}",
            timeout_s,
        )
        return self.explained

    def committed(self) -> int:
        """Records of ``cases`` that the group has committed."""
        return sum(self.broker.committed("explainer", each) or 0 for each in self.broker.partitions(topics.CASES))


class _Manifests(Versions):
    """Versions of the line, read each time: what the store says may change in a test."""

    def __init__(self, line: Line) -> None:
        super().__init__(lambda _alias, _number: _never())
        self._line = line

    def get(self, alias: str, number: int) -> Version:
        return self._line.read_version(alias, number)


def _never() -> Any:
    raise AssertionError("no manifest is read here")


class RunningExplainer:
    """One explainer: pipeline and consumer loop on threads of their own."""

    def __init__(self, line: Line, **settings: Any) -> None:
        values: dict[str, Any] = {
            "commit_interval_ms": 10,
            "model_wait_s": 0.2,
            "calibration": CalibrationSettings(parts=0),
        }
        policy = settings.pop("policy", {})
        self.settings = ExplainerSettings(**values | settings, policy=PolicySettings(**TWO_MAPS | policy))
        self.health = Health()
        self.shutdown = Shutdown()
        self.asking = Asking(line.client, ImageLimits(), grace_s=5.0, side_px=self.settings.map_side_px)
        self.versions = _Manifests(line)
        self.scales = HeatScales(self.settings, self.asking, ModelStore(line.store), line.store)
        explainer = CaseExplainer(
            Policy(self.settings.policy, self.settings.budget),
            self.versions,
            self.asking,
            self.scales,
            line.store,
            inline_limit_bytes=self.settings.limits.inline_limit_bytes,
            max_image_bytes=self.settings.limits.max_image_bytes,
            attempts=self.settings.attempts,
        )
        self.pipeline = ExplainerPipeline(self.settings, explainer, line.writer, self.health)
        self.scales.set_busy(lambda: self.pipeline.busy)
        self.consumer = MemoryRecordConsumer(line.broker, "explainer")
        self.paused: list[bool] = []
        self.loop = ConsumerLoop(
            self.consumer,
            self.pipeline,
            topics=[topics.CASES],
            health=self.health,
            shutdown=self.shutdown,
            times=LoopTimes(poll_s=0.01, room_s=0.01, commit_every_s=0.01, drain_s=5.0, lag_every_s=0.01),
            max_records=self.settings.max_in_flight_cases,
            on_lag=self.pipeline.set_lag,
            on_paused=self.paused.append,
        )
        self.failure: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin."""
        self.pipeline.start()
        self.scales.start()
        self.health.set_ready(True)
        self.thread.start()

    def stop(self) -> None:
        """Drain and stop; raises what ended the loop, if anything did."""
        self.shutdown.request()
        self.thread.join(20)
        assert not self.thread.is_alive(), "the explainer must stop within its drain"
        self.scales.close()
        self.pipeline.close()
        if self.failure is not None:
            raise self.failure

    def crash(self) -> None:
        """Be gone without committing or leaving, as after kill -9 and the session timeout."""
        self.consumer.commit = lambda _offsets: None  # type: ignore[method-assign]
        self.pipeline.settle = lambda *_: False  # type: ignore[method-assign]
        self.shutdown.request()
        self.pipeline.close()
        self.consumer.crash()
        self.thread.join(10)
        self.scales.close()

    def _run(self) -> None:
        try:
            self.loop.run()
        except Exception as error:  # noqa: BLE001 - looked at by the test
            self.failure = error
