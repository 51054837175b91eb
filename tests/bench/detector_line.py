"""A detector to measure: real broker, object store and Triton, a model of full size, frames that lie ready."""

from __future__ import annotations

import os
import re
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.adapters import codec
from services.adapters.kafka import KafkaRecordWriter
from services.adapters.modelstore import ModelStore
from services.adapters.objectstore import S3ObjectStore
from services.adapters.ports import InferenceResult
from services.adapters.triton import TritonControl, TritonInferenceClient
from services.core import topics
from services.core.identity import derive_frame_id
from services.core.imaging import ImageLimits, decode, encode_jpeg
from services.core.manifest import ModelManifest
from services.core.models.factory import create_model
from services.core.models.serving import ServingModule
from services.core.models.state import save_state
from services.core.preprocessing import Preprocessing, prepare
from services.core.simulation.line import draw_part
from services.core.types import Frame, OperatingPoint, triton_model_name
from services.local.triton import LocalTriton
from services.serving.repository import Placement, write_entry
from tests.support.detector_process import DetectorProcess, Servers, make_version, promote, tiny_manifest

#: Share of the frames that the model is made to flag: the plant that the system is designed for flags about so many.
FLAGGED = 0.02
#: On a GPU the first load measures engines, and builds some.
LOAD_TIMEOUT_S = 1_800.0
#: Time that a saturated line is given before its rate is taken.
_TICK_S = 0.1


def draw_images(count: int, size_px: int = 320, seed: int = 1_000) -> list[bytes]:
    """Distinct JPEGs of the simulated disc."""
    return [encode_jpeg(draw_part("disc", seed + number, size_px=size_px).image) for number in range(count)]


def prepared(images: Sequence[bytes], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """What the detector would send for these images, shape ``(N, H, W, 3)``."""
    return np.concatenate([prepare(decode(image, ImageLimits()), preprocessing) for image in images])


class MeasuredTriton:
    """One Triton with full-size models; their numbers are random, which changes nothing about their speed.

    Args:
        folder: For logs and data.
        placement: How Triton runs a model.
        triton: The server, on ``folder``'s repository.
    """

    def __init__(self, folder: Path, placement: Placement, triton: LocalTriton | None = None) -> None:
        self.folder = folder
        self.placement = placement
        self.triton = triton or LocalTriton(folder / "repository", work=folder / "triton")

    @property
    def repository(self) -> Path:
        """What Triton reads."""
        return self.folder / "repository"

    @property
    def derived(self) -> Path:
        """Where models keep what they derive from their version."""
        return self.folder / "derived"

    def version_folder(self, manifest: ModelManifest) -> Path:
        """Where a deployed version's files lie."""
        return self.folder / "versions" / manifest.architecture

    def start(self) -> None:
        """Start the server."""
        self.triton.start()

    def stop(self) -> None:
        """Stop it."""
        self.triton.stop()

    def deploy(self, architecture: str, images: Sequence[bytes]) -> ModelManifest:
        """Load a model of this architecture, one that flags about ``FLAGGED`` of the images."""
        alias = f"bench-{architecture}"
        model = create_model(architecture, 2, "none", seed=0)
        preprocessing = Preprocessing(height_px=224, width_px=224)
        manifest = tiny_manifest(
            alias=alias,
            architecture=architecture,
            preprocessing=preprocessing,
            normalisation=model.normalisation,
            embedding_size=model.embedding_size,
        )
        manifest = replace(manifest, operating_point=self._operating_point(architecture, images, preprocessing))
        folder = self.version_folder(manifest)
        parts = {f"part-{number}.jpg": image for number, image in enumerate(images)}
        make_version(manifest, folder, save_state(model), parts)
        write_entry(self.repository, manifest, folder, self.placement, self.derived)
        control = TritonControl(self.triton.grpc_url)
        control.load(triton_model_name(alias, 1), LOAD_TIMEOUT_S)
        control.close()
        return manifest

    def retire(self, manifest: ModelManifest) -> None:
        """Unload a model."""
        control = TritonControl(self.triton.grpc_url)
        control.unload(manifest.triton_model_name, 60.0)
        control.close()

    @staticmethod
    def _operating_point(architecture: str, images: Sequence[bytes], preprocessing: Preprocessing) -> OperatingPoint:
        import torch

        torch.set_num_threads(2)
        module = ServingModule(create_model(architecture, 2, "none", seed=0), "cpu", "bfloat16")
        rows = torch.from_numpy(prepared(images, preprocessing))
        scores = np.concatenate([module(part).scores.numpy() for part in rows.split(16)])
        cut = float(np.quantile(scores, 1 - FLAGGED))
        torch.set_num_threads(1)
        return OperatingPoint(cut, cut, cut)


class MeasuredLine(MeasuredTriton):
    """Broker and object store beside Triton, for a detector.

    Args:
        folder: For logs and data.
        placement: How Triton runs the model.
    """

    def __init__(self, folder: Path, placement: Placement) -> None:
        self.servers = Servers(folder)
        super().__init__(folder, placement, self.servers.triton)

    def start(self) -> None:
        """Start the servers."""
        self.servers.start()

    def stop(self) -> None:
        """Stop them."""
        self.servers.stop()

    def deploy(self, architecture: str, images: Sequence[bytes]) -> ModelManifest:
        """Make a model of this architecture live."""
        manifest = super().deploy(architecture, images)
        ModelStore(S3ObjectStore(self.servers.connection)).upload(self.version_folder(manifest))
        promote(self.servers.kafka, 1, alias=manifest.alias)
        return manifest

    def fill(self, images: Sequence[bytes], count: int, cameras: int = 8) -> None:
        """Put frames into the topic as ingest would have, with no deadline."""
        writer = KafkaRecordWriter(self.servers.kafka)
        now_ns = time.time_ns()
        for number in range(count):
            frame = make_frame(number, images[number % len(images)], f"camera-{number % cameras}", now_ns)
            writer.send(topics.FRAMES, key=frame.camera_id.encode(), value=codec.encode_frame(frame))
        writer.flush(120)
        writer.close(5)

    def detector(self, name: str, manifest: ModelManifest, group: str, **settings: str) -> DetectorProcess:
        """A detector that reads the topic from its beginning; not started."""
        return DetectorProcess(
            self.servers,
            name,
            module="tests.bench.named_detector",
            DEFAULT_ALIAS=manifest.alias,
            KAFKA__GROUP=group,
            KAFKA__SESSION_TIMEOUT_MS="20000",
            TRITON__TIMEOUT_S="30",
            LOG_LEVEL="WARNING",
            **settings,
        )


def make_frame(number: int, image: bytes, camera: str, at_ns: int, cycle_time_ms: int = 0) -> Frame:
    """One frame of the bench."""
    return Frame(
        frame_id=derive_frame_id(camera, f"{at_ns}-{number}", 0, at_ns),
        part_id=f"part-{number}",
        line_id="line",
        camera_id=camera,
        product="disc",
        sequence=number + 1,
        captured_at_ns=at_ns,
        cycle_time_ms=cycle_time_ms,
        image=image,
    )


def tensor_rate(
    line: MeasuredTriton, manifest: ModelManifest, rows: NDArray[np.uint8], *, frames: int, batch: int, in_flight: int
) -> float:
    """Frames/s of the same Triton fed ready tensors over the same transport."""
    client = TritonInferenceClient([line.triton.grpc_url])
    waiting: deque[Future[InferenceResult]] = deque()
    batches = [rows[start : start + batch] for start in range(0, len(rows) - batch + 1, batch)]
    try:
        for number in range(in_flight * 2):
            client.infer(manifest.triton_model_name, batches[number % len(batches)], 60.0).result()
        started_s = time.perf_counter()
        for number in range(-(-frames // batch)):
            if len(waiting) == in_flight:
                waiting.popleft().result()
            waiting.append(client.infer(manifest.triton_model_name, batches[number % len(batches)], 60.0))
        for future in waiting:
            future.result()
        return batch * -(-frames // batch) / (time.perf_counter() - started_s)
    finally:
        client.close()


class CpuClock:
    """Seconds of CPU by part of the line, from ``/proc``.

    Args:
        line: Whose broker and Triton are meant.
        detector: The detector; its threads are told apart by the names that it writes down.
    """

    def __init__(self, line: MeasuredLine, detector: DetectorProcess) -> None:
        self._broker = line.servers.broker.child.pid
        self._triton = line.servers.triton.pid
        self._detector = detector
        self._start = self._read()

    def since(self) -> dict[str, float]:
        """Seconds of CPU since this clock was made."""
        now = self._read()
        return {name: now[name] - self._start.get(name, 0.0) for name in now}

    def _read(self) -> dict[str, float]:
        spent = {"broker": _tree_cpu_s(self._broker), "triton": _tree_cpu_s(self._triton)}
        names = self._detector.thread_names()
        for tid, seconds in _thread_cpu_s(self._detector.process.pid).items():
            part = f"detector: {_part_of(names.get(tid, ''))}"
            spent[part] = spent.get(part, 0.0) + seconds
        return spent


def _part_of(thread: str) -> str:
    known = {
        "prepare": "decode and prepare",
        "pipeline": "batch, decide, encode, write",
        "MainThread": "poll, parse, commit",
        "kafka-io": "consumer's network",
        "sightline-network": "producer's network",
    }
    return next((name for start, name in known.items() if thread.startswith(start)), "gRPC and the rest")


def _thread_cpu_s(pid: int) -> dict[int, float]:
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            found[int(task.name)] = _stat_cpu_s(task / "stat")
        except OSError:
            continue
    return found


def _tree_cpu_s(pid: int) -> float:
    """CPU of a process and of all that it started."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = _stat_fields(entry / "stat")
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    total, todo = 0.0, [pid]
    while todo:
        one = todo.pop()
        todo.extend(children.get(one, ()))
        try:
            total += _stat_cpu_s(Path(f"/proc/{one}/stat"))
        except OSError:
            continue
    return total


def _stat_fields(path: Path) -> list[str]:
    # The name, in brackets, may hold anything.
    return re.sub(r"^.*\) ", "", path.read_text(), flags=re.DOTALL).split()


def _stat_cpu_s(path: Path) -> float:
    fields = _stat_fields(path)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure_rate(detector: DetectorProcess, count: int, timeout_s: float) -> tuple[float, float, int]:
    """Watch a detector work its topic off.

    Returns:
        Acknowledged frames/s between the first tenth and the last twentieth, the seconds between, and how many frames
        that were.
    """
    name = "sightline_detector_verdicts_total"
    end_s = time.monotonic() + timeout_s
    first: tuple[float, float] | None = None
    while True:
        done, now_s = detector.metric(name), time.monotonic()
        if first is None and done >= count * 0.1:
            first = (done, now_s)
        if first is not None and done >= count * 0.95:
            return (done - first[0]) / (now_s - first[1]), now_s - first[1], int(done - first[0])
        if now_s > end_s:
            raise TimeoutError(f"{count} verdicts must come within {timeout_s} s, got {done}:\n{detector.log[-2000:]}")
        time.sleep(_TICK_S)
