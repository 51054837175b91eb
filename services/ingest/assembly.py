"""From settings to running cameras."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

import cv2

from services.adapters.ports import ObjectStore, RecordWriter
from services.adapters.spool import Spool
from services.core.errors import ConflictError, SightlineError
from services.ingest.camera import Camera
from services.ingest.outbox import Outbox
from services.ingest.parts import PartNames
from services.ingest.servicer import PushCamera
from services.ingest.settings import (
    CameraSettings,
    FolderReplaySource,
    FolderWatchSource,
    GenicamSource,
    IngestSettings,
    PushSource,
    RtspSource,
    SimulatedSource,
    UsbSource,
    VideoFileSource,
)
from services.ingest.source import Source
from services.ingest.sources.genicam import GenicamCameraSource
from services.ingest.sources.replay import ReplaySource
from services.ingest.sources.simulated import SimulatedLineSource
from services.ingest.sources.triggered import TriggeredSource
from services.ingest.sources.video import VideoSource, rtsp_source, usb_source
from services.ingest.sources.watch import WatchSource
from services.ingest.state import CameraState, line_epoch_ns
from services.ingest.triggers import TriggerDesk, TriggerQueue
from services.runtime import metrics
from services.runtime.logging import get_logger

LOG = get_logger(__name__)


class Cameras:
    """All cameras of one process, each with its outbox, spool and state."""

    def __init__(
        self,
        settings: IngestSettings,
        writer: RecordWriter,
        store: ObjectStore,
        *,
        make_source: Callable[[CameraSettings, IngestSettings, int, TriggerQueue | None], Source] | None = None,
    ) -> None:
        """Open every spool and state; nothing is read from a source yet.

        Args:
            settings: All of them.
            writer: Shared by all cameras.
            store: Shared by all cameras.
            make_source: Builds a camera's source; tests pass their own.
        """
        self._lock = _lock(settings.spool.directory)
        # One core for each drawing or encoding thread is enough, and predictable.
        cv2.setNumThreads(1)
        self.pulled: list[Camera] = []
        self.pushed: dict[str, PushCamera] = {}
        self._outboxes: list[Outbox] = []
        self._states: list[CameraState] = []
        self._queues: list[TriggerQueue] = []
        build = make_source or source_of
        for camera in settings.cameras:
            folder = settings.spool.directory / camera.camera_id
            epoch_ns = line_epoch_ns(settings.spool.directory, camera.line_id)
            outbox = self._outbox(camera, settings, folder, writer, store)
            metrics.INGEST_CAMERA.labels(camera.camera_id, camera.line_id, camera.product, _pace(camera)).set(1)
            metrics.INGEST_SPOOL_LIMIT_BYTES.inc(settings.spool.max_bytes)
            if isinstance(camera.source, PushSource):
                state = CameraState(folder / "state.json", repeats=False)
                self.pushed[camera.camera_id] = PushCamera(
                    camera,
                    outbox,
                    state,
                    max_image_bytes=settings.limits.max_image_bytes,
                    remembered_keys=settings.push_remembered_keys,
                )
                metrics.INGEST_SOURCE_UP.labels(camera.camera_id).set(1)
            else:
                queue = TriggerQueue(camera.camera_id, camera.line_id) if camera.triggered else None
                if queue is not None:
                    self._queues.append(queue)
                source = build(camera, settings, epoch_ns, queue)
                state = CameraState(folder / "state.json", repeats=source.repeats)
                parts = PartNames(camera, epoch_ns)
                self.pulled.append(Camera(camera, source, outbox, state, parts, triggers=queue))
            self._states.append(state)
        self.triggers = TriggerDesk(self._queues)

    def _outbox(
        self, camera: CameraSettings, settings: IngestSettings, folder: Path, writer: RecordWriter, store: ObjectStore
    ) -> Outbox:
        spool = Spool(
            folder / "queue",
            max_bytes=settings.spool.max_bytes,
            policy=camera.spool_policy,
            fsync=settings.spool.fsync,
        )
        outbox = Outbox(
            camera.camera_id,
            writer,
            store,
            spool,
            inline_limit_bytes=settings.limits.inline_limit_bytes,
            in_flight_frames=settings.in_flight_frames,
            in_flight_bytes=max(1_000_000, settings.in_flight_bytes // len(settings.cameras)),
            outage_after_s=settings.spool.outage_after_s,
            arrivals=settings.arrivals,
        )
        self._outboxes.append(outbox)
        return outbox

    @property
    def finished(self) -> bool:
        """Whether every source is at its end; never, where frames are pushed."""
        return not self.pushed and all(camera.finished for camera in self.pulled)

    def start(self) -> None:
        """Let the cameras run."""
        for camera in self.pulled:
            camera.start()

    def close(self, timeout_s: float) -> None:
        """Stop reading, finish what is in flight, put the rest on disk, write down every place."""
        end_s = time.monotonic() + timeout_s
        for camera in self.pulled:
            camera.stop(0)
        for camera in self.pulled:
            camera.stop(max(0.1, (end_s - time.monotonic()) / 2))
        for queue in self._queues:
            queue.end()
        for outbox in self._outboxes:
            with contextlib.suppress(SightlineError):
                outbox.close(max(0.5, end_s - time.monotonic()))
        for state in self._states:
            state.close()
        os.close(self._lock)


def _lock(directory: Path) -> int:
    """Two processes on one spool would send and remove each other's frames."""
    directory.mkdir(parents=True, exist_ok=True)
    file = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o640)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        raise ConflictError(f"a spool folder serves one ingest at a time, another one uses {directory}") from None
    return file


def _pace(camera: CameraSettings) -> str:
    """What decides when a camera's next frame comes: the camera, a trigger of the line, or whoever pushes."""
    if isinstance(camera.source, PushSource):
        return "pushed"
    return "triggered" if camera.triggered else "free"


def source_of(
    camera: CameraSettings, settings: IngestSettings, epoch_ns: int, triggers: TriggerQueue | None = None
) -> Source:
    """Build the source that a camera's settings describe.

    Args:
        camera: One camera whose frames are not pushed.
        settings: All settings.
        epoch_ns: When the camera's line first ran.
        triggers: The parts that a triggered camera must take a picture of; None where it runs freely.
    """
    source = camera.source
    if triggers is not None and isinstance(source, SimulatedSource | FolderReplaySource):
        # The line sets the pace.
        source = source.model_copy(update={"rate_fps": 0.0})
    max_bytes = settings.limits.max_image_bytes

    def dropped() -> None:
        metrics.INGEST_DROPPED.labels(camera.camera_id).inc()

    match source:
        case FolderReplaySource():
            built: Source = ReplaySource(source, max_image_bytes=max_bytes)
        case FolderWatchSource():
            journal = settings.spool.directory / camera.camera_id / "sent"
            built = WatchSource(source, journal=journal, max_image_bytes=max_bytes)
        case VideoFileSource():
            built = VideoSource(source)
        case SimulatedSource():
            drawing = source.drawing or camera.product
            built = SimulatedLineSource(source, drawing=drawing, epoch_ns=epoch_ns, triggers=triggers)
        case RtspSource():
            built = rtsp_source(source, dropped, triggers)
        case UsbSource():
            built = usb_source(source, dropped, triggers)
        case GenicamSource():
            built = GenicamCameraSource(source, triggers=triggers)
        case _:
            raise TypeError(f"a camera of kind {source.kind} is not read, it is pushed to")
    if triggers is None:
        return built
    return TriggeredSource(
        built,
        triggers,
        live=isinstance(source, RtspSource | UsbSource | GenicamSource),
        within_ms=camera.cycle_time_ms,
    )
