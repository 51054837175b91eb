"""A real detector process on a real broker, object store and Triton, and what it said."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from services.adapters import codec
from services.adapters.connection import KafkaConnection, StoreConnection
from services.adapters.kafka import KafkaRecordWriter, KafkaTopicReader
from services.adapters.kafka_topics import ensure_topics, standard_topics
from services.adapters.modelfolder import Holdout, HoldoutPart, ModelVersion, Reference, write_version
from services.adapters.modelregistry import ModelRegistry
from services.adapters.modelstore import ModelStore
from services.adapters.objectstore import S3ObjectStore
from services.adapters.ports import Record
from services.adapters.triton import TritonControl
from services.core import alias as transitions
from services.core import topics
from services.core.manifest import Calibration, Lineage, ModelManifest, Normalisation
from services.core.preprocessing import Preprocessing
from services.core.types import Case, Frame, Inspection, OperatingPoint, ShadowInspection
from services.local.broker import LocalBroker
from services.local.member import fetch, metric_total
from services.local.process import ChildProcess, free_port
from services.local.store import LocalStore
from services.local.triton import LocalTriton
from tests.support.detector_line import wait_until
from tests.support.toy_triton import write_toy_model

SIDE_PX = 32
BUCKET = "sightline"
MODEL = "default-v1"


def tiny_manifest(version: int = 1, **changes: Any) -> ModelManifest:
    """The manifest of a model whose score is an image's mean brightness over 255."""
    values: dict[str, Any] = {
        "alias": "default",
        "version": version,
        "architecture": "customnet",
        "classes": ("good", "defect"),
        "preprocessing": Preprocessing("letterbox", SIDE_PX, SIDE_PX),
        "normalisation": Normalisation((0.0,) * 3, (1.0,) * 3),
        "embedding_size": 3,
        "operating_point": OperatingPoint(0.5, 0.4, 0.6),
        "calibration": Calibration("escape_rate", 0.05, 0.95, "clopper-pearson", 10, 10, 0.05, 0.0, 0.0, 0.1, 0.1),
        "lineage": Lineage("test", "none", 0, 0, 0, 0, "0" * 64),
        "metrics": {},
        "code_version": "0",
        "created_at_ns": 1,
    }
    return ModelManifest(**(values | changes))


def store_version(
    store: StoreConnection,
    manifest: ModelManifest,
    folder: Path,
    weights: bytes = b"weights",
    parts: Mapping[str, bytes] | None = None,
) -> None:
    """Put a version with this manifest, weights and reference parts into the object store; the folder stays."""
    make_version(manifest, folder, weights, parts)
    ModelStore(S3ObjectStore(store)).upload(folder)


def make_version(
    manifest: ModelManifest, folder: Path, weights: bytes = b"weights", parts: Mapping[str, bytes] | None = None
) -> None:
    """Write a version with this manifest, weights and reference parts."""
    images = parts or {"a.png": b"a"}
    scores, embeddings = np.zeros(len(images)), np.zeros((len(images), manifest.embedding_size))
    reference = Reference(images, tuple(images), scores.astype(np.float32), embeddings.astype(np.float16))
    holdout = Holdout((HoldoutPart("part-1", "disc", "good", "seed 1", "0" * 64),))
    write_version(ModelVersion(manifest, weights, holdout, reference), folder)


def promote(kafka: KafkaConnection, version: int, *, alias: str = "default") -> None:
    """Add a version and make it live."""
    writer = KafkaRecordWriter(kafka)
    registry = ModelRegistry(KafkaTopicReader(kafka, [topics.MODELS]), writer)
    now_ns = time.time_ns()
    registry.change(alias, lambda state: transitions.add(state, version, actor="test", at_ns=now_ns))
    registry.change(alias, lambda state: transitions.promote(state, version, actor="test", at_ns=now_ns))
    registry.close()
    writer.close(5)


def shadow(kafka: KafkaConnection, version: int, *, alias: str = "default") -> None:
    """Add a version and put it into the shadow of the live one; 0 ends that."""
    writer = KafkaRecordWriter(kafka)
    registry = ModelRegistry(KafkaTopicReader(kafka, [topics.MODELS]), writer)
    now_ns = time.time_ns()
    if version:
        registry.change(alias, lambda state: transitions.add(state, version, actor="test", at_ns=now_ns))
    registry.change(alias, lambda state: transitions.shadow(state, version, actor="test", at_ns=now_ns))
    registry.close()
    writer.close(5)


class Servers:
    """Broker, object store and Triton of one test module, with the tiny model live.

    Args:
        folder: For logs and data.
        durable_broker: Keep the broker's records in the object store, so that it survives a kill.
    """

    def __init__(self, folder: Path, *, durable_broker: bool = False) -> None:
        self.folder = folder
        self.store = LocalStore(folder / "store")
        self._durable = durable_broker
        self.triton = LocalTriton(folder / "repository", work=folder / "triton")

    def start(self) -> None:
        """Start all three and make the model live."""
        self.store.start()
        self.store.ensure_bucket(BUCKET)
        self.broker = LocalBroker(self.store if self._durable else None, log_path=self.folder / "broker.log")
        self.broker.start()
        self.kafka = KafkaConnection(self.broker.bootstrap_servers, request_timeout_ms=5_000)
        ensure_topics(self.kafka, standard_topics())
        self.connection = StoreConnection(
            self.store.endpoint, BUCKET, self.store.access_key, self.store.secret_key, timeout_s=2.0
        )
        self.write_model()
        self.triton.start()
        self.load_model()
        promote(self.kafka, 1)

    def write_model(self) -> None:
        """Put the model into Triton's repository and its version into the object store."""
        write_toy_model(self.folder / "repository", MODEL, size=SIDE_PX)
        store_version(self.connection, tiny_manifest(), self.folder / "version")

    def load_model(self, name: str = MODEL) -> None:
        """Load a model, as the serving agent does after a start."""
        control = TritonControl(self.triton.grpc_url)
        control.load(name, 30.0)
        control.close()

    def unload_model(self, name: str) -> None:
        """Unload a model."""
        control = TritonControl(self.triton.grpc_url)
        control.unload(name, 30.0)
        control.close()

    def stop(self) -> None:
        """Stop what runs."""
        self.triton.stop()
        if hasattr(self, "broker"):
            self.broker.stop()
        self.store.stop()

    def settings(self) -> dict[str, str]:
        """The settings that lead a service here."""
        return {
            "KAFKA__BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "KAFKA__FETCH_WAIT_MS": str(LocalBroker.FETCH_WAIT_MS),
            "KAFKA__REQUEST_TIMEOUT_MS": "5000",
            "KAFKA__DELIVERY_TIMEOUT_MS": "6000",
            "KAFKA__SESSION_TIMEOUT_MS": "6000",
            "OBJECT_STORE__ENDPOINT": self.store.endpoint,
            "OBJECT_STORE__BUCKET": BUCKET,
            "OBJECT_STORE__ACCESS_KEY": self.store.access_key,
            "OBJECT_STORE__SECRET_KEY": self.store.secret_key,
            "OBJECT_STORE__TIMEOUT_S": "2",
            "TRITON__URLS": self.triton.grpc_url,
            "TRITON__TIMEOUT_S": "3",
        }


class Surroundings(Protocol):
    """What a detector is led to."""

    folder: Path

    def settings(self) -> dict[str, str]:
        """The settings that lead a service there."""
        ...


class DetectorProcess:
    """``python -m services.detector``, or a module that wraps it.

    Args:
        servers: What it is led to.
        name: Of its log file.
        module: What to run.
        settings: ``SIGHTLINE_`` settings by name without the prefix, over those of the servers.
    """

    def __init__(
        self, servers: Surroundings, name: str = "detector", *, module: str = "services.detector", **settings: str
    ) -> None:
        import sys

        self.ops_port = free_port()
        self.grpc_port = free_port()
        values = {
            **servers.settings(),
            "OPS__PORT": str(self.ops_port),
            "GRPC__PORT": str(self.grpc_port),
            "AUDIT_SHARE": "0",
            "IMAGE_MISSING_WAIT_S": "0.5",
            **settings,
        }
        self._names_path = servers.folder / f"{name}-{self.ops_port}.threads.json"
        env = {**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
        env["BENCH_THREAD_NAMES"] = str(self._names_path)
        env |= {f"SIGHTLINE_{key}": value for key, value in values.items()}
        self.process = ChildProcess(
            name, [sys.executable, "-m", module], log_path=servers.folder / f"{name}-{self.ops_port}.log", env=env
        )

    def start(self, *, ready: bool = True) -> DetectorProcess:
        """Start it and, unless told otherwise, wait until it is ready."""
        self.process.start()
        if ready:
            wait_until(lambda: fetch(self.ops_port, "/readyz")[0] == 200, f"ready; log:\n{self.log[-3000:]}", 30)
        return self

    def metric(self, name: str) -> float:
        """Sum of a metric's samples."""
        return metric_total(fetch(self.ops_port, "/metrics")[1].decode(), name)

    def wait_for_verdicts(self, count: int, timeout_s: float = 60.0) -> None:
        """Wait until it has had so many verdicts acknowledged."""
        wait_until(lambda: self.metric("sightline_detector_verdicts_total") >= count, f"{count} verdicts", timeout_s)

    def ready(self) -> bool:
        """What its readiness probe says."""
        return fetch(self.ops_port, "/readyz")[0] == 200

    def thread_names(self) -> dict[int, str]:
        """Names of its threads by kernel id, where the module that was started writes them down."""
        if not self._names_path.exists():
            return {}
        return {int(number): name for number, name in json.loads(self._names_path.read_text()).items()}

    @property
    def log(self) -> str:
        """All that it logged."""
        return self.process.log_path.read_text() if self.process.log_path.exists() else ""

    def log_lines(self, text: str) -> list[dict[str, Any]]:
        """Log entries whose message holds ``text``."""
        found = []
        for line in self.log.splitlines():
            if line.startswith("{") and text in line:
                entry = json.loads(line)
                if text in entry["message"]:
                    found.append(entry)
        return found

    def kill(self) -> None:
        """``kill -9``."""
        self.process.kill()

    def stop(self, timeout_s: float = 25.0) -> int | None:
        """SIGTERM; the exit code."""
        self.process.stop(timeout_s)
        return self.process.returncode


class Output:
    """Everything written so far, read anew on each call of :meth:`read`."""

    def __init__(self, kafka: KafkaConnection) -> None:
        names = [topics.VERDICTS, topics.CASES, topics.SHADOW, topics.dead_letter(topics.FRAMES)]
        self._reader = KafkaTopicReader(kafka, names)
        self.records: list[Record] = []

    def read(self) -> Output:
        """Take what came since."""
        while records := self._reader.poll(max_records=1000, timeout_s=0.2):
            self.records.extend(records)
        return self

    def of(self, topic: str) -> list[Record]:
        """The records of one topic, in the order of each partition."""
        return [record for record in self.records if record.topic == topic]

    def verdicts(self, camera: str = "") -> list[Inspection]:
        """Verdicts, of one camera or all."""
        decoded = (codec.decode_inspection(record.value) for record in self.of(topics.VERDICTS))
        return [item for item in decoded if camera in ("", item.camera_id)]

    def cases(self, camera: str = "") -> list[Case]:
        """Cases, of one camera or all."""
        decoded = (codec.decode_case(record.value) for record in self.of(topics.CASES))
        return [item for item in decoded if camera in ("", item.inspection.camera_id)]

    def shadows(self, camera: str = "") -> list[ShadowInspection]:
        """What the shadow says, of frames of one camera or all."""
        decoded = (codec.decode_shadow_inspection(record.value) for record in self.of(topics.SHADOW))
        return [item for item in decoded if camera in ("", item.shadow.camera_id)]

    def dead_letters(self, camera: str = "") -> list[Record]:
        """Dead letters, of one camera or all."""
        found = self.of(topics.dead_letter(topics.FRAMES))
        return [record for record in found if camera in ("", record.key.decode())]

    def wait_for_frames(self, frames: Iterable[Frame], timeout_s: float = 40.0) -> Counter[tuple[str, str, int]]:
        """Wait until each frame has a verdict; records by verdict id."""
        wanted = {frame.frame_id for frame in frames}
        cameras = {frame.camera_id for frame in frames}

        def said() -> Counter[tuple[str, str, int]]:
            self.read()
            return Counter(
                (item.frame_id, item.alias, item.model_version) for item in self.verdicts() if item.camera_id in cameras
            )

        wait_until(lambda: wanted <= {frame_id for frame_id, _, _ in said()}, "a verdict for each frame", timeout_s)
        return said()

    def close(self) -> None:
        """Let go."""
        self._reader.close()


def publish(kafka: KafkaConnection, frames: Sequence[Frame]) -> None:
    """Publish frames as ingest does."""
    writer = KafkaRecordWriter(kafka)
    pending = [
        writer.send(topics.FRAMES, key=frame.camera_id.encode(), value=codec.encode_frame(frame)) for frame in frames
    ]
    for future in pending:
        future.result(30)
    writer.close(5)


def kill_process(pid: int) -> None:
    """``kill -9`` one process."""
    os.kill(pid, signal.SIGKILL)


def eventually(what: str, met: Callable[[], bool], timeout_s: float = 20.0) -> None:
    """Poll with a deadline."""
    wait_until(met, what, timeout_s)
