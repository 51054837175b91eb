"""A detector on ports in memory: what handler tests drive and look at."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.adapters import codec
from services.adapters.memory import (
    MemoryBroker,
    MemoryInferenceClient,
    MemoryObjectStore,
    MemoryRecordConsumer,
    MemoryRecordWriter,
    MemoryTopicReader,
    MemoryTriton,
)
from services.adapters.modelfolder import ReferenceAnswers
from services.adapters.modelregistry import ModelRegistry
from services.adapters.ports import InferenceResult, Record
from services.core import topics
from services.core.identity import derive_frame_id
from services.core.imaging import encode_png
from services.core.preprocessing import Preprocessing
from services.core.types import (
    AliasState,
    Case,
    Frame,
    FrameEmbedding,
    ImageRef,
    Inspection,
    OperatingPoint,
    ShadowInspection,
    triton_model_name,
)
from services.detector.deployments import Deployments
from services.detector.drift import DriftWatch
from services.detector.job import Deployment
from services.detector.pipeline import DetectorPipeline
from services.detector.settings import BatchSettings, DetectorSettings
from services.detector.shadow import ShadowScorer
from services.runtime.consumer import ConsumerLoop, LoopTimes
from services.runtime.lifecycle import Health, Shutdown

SIDE_PX = 32
EMBEDDING = 4
START_NS = 1_790_000_000_000_000_000
CLASSES = ("good", "scratch", "hole")
POINT = OperatingPoint(threshold=0.5, review_low=0.4, review_high=0.6)
Score = Callable[[str, NDArray[np.uint8]], InferenceResult]


def wait_until(met: Callable[[], bool], what: str, timeout_s: float = 10.0) -> None:
    """Poll until ``met``; fails with ``what`` after the deadline."""
    end_s = time.monotonic() + timeout_s
    while not met():
        assert time.monotonic() < end_s, f"not within {timeout_s} s: {what}"
        time.sleep(0.005)


def brightness_scores(_name: str, images: NDArray[np.uint8]) -> InferenceResult:
    """A model whose score is the image's mean brightness: 0 for black, 1 for white."""
    score = images.reshape(len(images), -1).mean(axis=1).astype(np.float32) / 255
    return InferenceResult(
        score,
        np.stack([1 - score, score * 0.25, score * 0.75], axis=1).astype(np.float32),
        np.repeat(score[:, None], EMBEDDING, axis=1),
        np.zeros(len(images), np.float32),
    )


def picture(brightness: int, *, width_px: int = SIDE_PX, height_px: int = SIDE_PX) -> bytes:
    """An even grey picture, 0 to 255."""
    return encode_png(np.full((height_px, width_px, 3), brightness, np.uint8))


def make_frame(
    number: int,
    image: bytes | ImageRef,
    *,
    camera: str = "cam-1",
    product: str = "disc",
    cycle_time_ms: int = 0,
    captured_at_ns: int | None = None,
) -> Frame:
    """Frame ``number`` of a camera; equal arguments give the same id."""
    at_ns = START_NS + number * 1_000_000 if captured_at_ns is None else captured_at_ns
    return Frame(
        frame_id=derive_frame_id(camera, f"item-{number}", 0, START_NS + number * 1_000_000),
        part_id=f"part-{number}",
        line_id="line-1",
        camera_id=camera,
        product=product,
        sequence=number + 1,
        captured_at_ns=at_ns,
        cycle_time_ms=cycle_time_ms,
        image=image if isinstance(image, bytes) else None,
        image_ref=image if isinstance(image, ImageRef) else None,
    )


class Line:
    """Broker, store and Triton in memory with one or several detectors on them."""

    def __init__(self, score: Score = brightness_scores, *, partitions: int = 2) -> None:
        self.broker = MemoryBroker(partitions=partitions)
        self.store = MemoryObjectStore()
        self.triton = MemoryTriton()
        self.inference = MemoryInferenceClient(score, [self.triton])
        self.shadow_inference = MemoryInferenceClient(score, [self.triton])
        self.writer = MemoryRecordWriter(self.broker)
        self.deployments: dict[tuple[str, int], Deployment] = {}
        self.references: dict[tuple[str, int], ReferenceAnswers] = {}
        self._revision = 0
        self._live: dict[str, int] = {}
        for topic in topics.ALL:
            self.broker.create_topic(topic, 1 if topic == topics.MODELS else partitions)
        self.detectors: list[RunningDetector] = []

    def add_version(self, version: int, *, alias: str = "default", loaded: bool = True, **changes: Any) -> None:
        """Store a version and, unless told otherwise, load it."""
        values: dict[str, Any] = {
            "preprocessing": Preprocessing("letterbox", SIDE_PX, SIDE_PX),
            "operating_point": POINT,
            "classes": CLASSES,
        }
        self.deployments[alias, version] = Deployment(alias, version, **values | changes)
        if loaded:
            self.triton.loaded.add(triton_model_name(alias, version))

    def promote(self, version: int, *, alias: str = "default") -> None:
        """Make a version live; no version is in the shadow then."""
        self._live[alias] = version
        self.shadow(0, alias=alias)

    def shadow(self, version: int, *, alias: str = "default") -> None:
        """Put a version into the shadow of the live one; 0 ends it."""
        self._revision += 1
        state = AliasState(alias, self._revision, live_version=self._live[alias], shadow_version=version)
        self.broker.append(topics.MODELS, key=alias.encode(), value=codec.encode_alias_state(state))

    def send(self, *frames: Frame, headers: Sequence[tuple[str, bytes]] = ()) -> None:
        """Publish frames as ingest does."""
        for frame in frames:
            self.broker.append(
                topics.FRAMES, key=frame.camera_id.encode(), value=codec.encode_frame(frame), headers=headers
            )

    def start(self, **settings: Any) -> RunningDetector:
        """Start a detector in the group."""
        detector = RunningDetector(self, **settings)
        self.detectors.append(detector)
        detector.start()
        return detector

    def stop(self) -> None:
        """Stop every detector."""
        for detector in self.detectors:
            detector.stop()

    @property
    def verdicts(self) -> list[Inspection]:
        """Every verdict, in the order of its partition."""
        return [codec.decode_inspection(record.value) for record in self.broker.records(topics.VERDICTS)]

    @property
    def cases(self) -> list[Case]:
        """Every case, in the order of its partition."""
        return [codec.decode_case(record.value) for record in self.broker.records(topics.CASES)]

    @property
    def embeddings(self) -> list[FrameEmbedding]:
        """What the model saw in each frame that is no case, in the order of its partition."""
        return [codec.decode_frame_embedding(record.value) for record in self.broker.records(topics.EMBEDDINGS)]

    @property
    def shadows(self) -> list[ShadowInspection]:
        """What the shadow says, in the order of its partition."""
        return [codec.decode_shadow_inspection(record.value) for record in self.broker.records(topics.SHADOW)]

    @property
    def dead_letters(self) -> list[Record]:
        """Every dead letter."""
        return self.broker.records(topics.dead_letter(topics.FRAMES))

    def wait_for_verdicts(self, count: int, timeout_s: float = 10.0) -> list[Inspection]:
        """Wait until there are so many verdicts, and return them."""
        wait_until(
            lambda: len(self.broker.records(topics.VERDICTS)) >= count,
            f"{count} verdicts, have {len(self.broker.records(topics.VERDICTS))}",
            timeout_s,
        )
        return self.verdicts

    def committed(self) -> int:
        """Records of ``frames`` that the group has committed."""
        partitions = self.broker.partitions(topics.FRAMES)
        return sum(self.broker.committed("detector", partition) or 0 for partition in partitions)


class RunningDetector:
    """One detector: pipeline and consumer loop on threads of their own."""

    def __init__(self, line: Line, **settings: Any) -> None:
        values: dict[str, Any] = {
            "batch": BatchSettings(max_frames=4, max_wait_ms=1.0, in_flight=2),
            "commit_interval_ms": 10,
            "audit_share": 0.0,
            "models_poll_s": 0.01,
            "image_missing_wait_s": 0.3,
        }
        self.settings = DetectorSettings(**values | settings)
        self.health = Health()
        self.shutdown = Shutdown()
        registry = ModelRegistry(MemoryTopicReader(line.broker, [topics.MODELS]))
        self.deployments = Deployments(
            registry,
            line.inference,
            lambda alias, version: line.deployments[alias, version],
            aliases=self.settings.aliases,
            health=self.health,
        )
        self.drift = DriftWatch(self.settings.drift, lambda alias, version: line.references[alias, version])
        self.pipeline = DetectorPipeline(
            self.settings,
            self.deployments,
            line.inference,
            line.writer,
            line.store,
            self.health,
            shadow=ShadowScorer(self.settings, self.deployments, line.shadow_inference, line.writer, line.store),
            drift=self.drift,
        )
        self.consumer = MemoryRecordConsumer(line.broker, "detector")
        self.paused: list[bool] = []
        self.loop = ConsumerLoop(
            self.consumer,
            self.pipeline,
            topics=[topics.FRAMES],
            health=self.health,
            shutdown=self.shutdown,
            times=LoopTimes(poll_s=0.01, room_s=0.01, commit_every_s=0.01, settle_on_revoke_s=1.0, drain_s=5.0),
            on_paused=self.paused.append,
        )
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Read the models topic, then consume."""
        self.deployments.load()
        self.deployments.follow(self.shutdown, self.settings.models_poll_s)
        self.pipeline.start()
        self.health.set_ready(True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.loop.run()
        except Exception as error:  # noqa: BLE001 - looked at by the test
            self.error = error

    def crash(self) -> None:
        """Be gone without committing or leaving, as after kill -9 and the session timeout."""
        self.consumer.commit = lambda _offsets: None  # type: ignore[method-assign]
        self.pipeline.settle = lambda *_: False  # type: ignore[method-assign]
        self.shutdown.request()
        self.pipeline.close()
        self.consumer.crash()
        self._thread.join(5)

    def stop(self) -> None:
        """Drain."""
        self.shutdown.request()
        self._thread.join(10)
        assert not self._thread.is_alive(), "the loop must end"
        self.pipeline.close()
        self.deployments.close()
