"""Video files, network cameras and cameras of this machine, through OpenCV."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2

from services.ingest.encoding import encode_bgr
from services.ingest.pacing import Pacer
from services.ingest.settings import EncodingSettings, RtspSource, UsbSource, VideoFileSource
from services.ingest.source import Cursor, Item, SourceError
from services.ingest.triggers import TriggerQueue
from services.runtime.logging import get_logger

LOG = get_logger(__name__)

_NS_PER_S = 1_000_000_000
_FALLBACK_FPS = 25.0


class VideoSource:
    """The pictures of a video file, at the video's rate or another.

    The id of a frame comes from the file's name, its time, the position and the pass, so it repeats. ``captured_at``
    is the moment in which the picture is offered.
    """

    repeats = True

    def __init__(self, settings: VideoFileSource) -> None:
        self._settings = settings
        self._capture: Any = None
        self._pacer = Pacer(0)
        self._fps = _FALLBACK_FPS
        self._modified_ns = 1
        self._index = 0
        self._pass = 0
        self._exhausted = False

    @property
    def exhausted(self) -> bool:
        """Whether the video was sent and is not sent again."""
        return self._exhausted

    def open(self, cursor: Cursor) -> None:
        """Open the file and pass over what is safe."""
        self.close()
        self._pass = int(cursor.get("pass", 0))
        self._begin()
        skip = int(cursor.get("index", 0))
        # By grabbing, not by seeking: only that is exact in every container.
        while self._index < skip and self._capture.grab():
            self._index += 1

    def _begin(self) -> None:
        path = self._settings.path
        try:
            self._modified_ns = max(1, path.stat().st_mtime_ns)
        except OSError as error:
            raise SourceError(f"a video file must be readable, got {error}") from error
        self._capture = cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise SourceError(f"a video file must be one that OpenCV opens, got {str(path)!r}")
        told_fps = self._capture.get(cv2.CAP_PROP_FPS)
        self._fps = told_fps if 0 < told_fps < 10_000 else _FALLBACK_FPS
        rate_fps = self._settings.rate_fps
        self._pacer = Pacer(self._fps if rate_fps is None else rate_fps)
        self._index = 0

    def read(self, timeout_s: float) -> Item | None:
        """The next picture when it is due."""
        if not self._pacer.wait(timeout_s):
            return None
        got, pixels = self._capture.read()
        if not got:
            if self._index == 0:
                raise SourceError(f"a video must hold pictures, got none in {str(self._settings.path)!r}")
            if not self._settings.loop:
                self._exhausted = True
                return None
            self.close()
            self._pass += 1
            self._begin()
            return None
        position = self._index
        self._index += 1
        return Item(
            image=encode_bgr(pixels, self._settings.encoding),
            source_item=f"{self._settings.path.name}@{position}",
            pass_number=self._pass,
            item_time_ns=self._modified_ns + int(position * _NS_PER_S / self._fps),
            captured_at_ns=time.time_ns(),
            cursor={"pass": self._pass, "index": self._index},
        )

    def safe(self, item: Item) -> None:
        """The cursor says it all."""

    def close(self) -> None:
        """Close the file."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None


class LiveSource:
    """A camera that delivers whether anybody reads or not.

    OpenCV is asked on a thread of its own, so that a camera that hangs is noticed at the deadline. When ingest is held
    up the newest pictures are kept and the oldest given up, counted in ``dropped``. Nothing can be offered again:
    the id of a frame comes from the camera's sequence and the time of the grab.
    """

    repeats = False
    exhausted = False

    def __init__(
        self,
        name: str,
        open_capture: Callable[[], Any],
        *,
        open_timeout_s: float,
        read_timeout_s: float,
        max_fps: float,
        encoding: EncodingSettings,
        on_dropped: Callable[[], None] = lambda: None,
        triggers: TriggerQueue | None = None,
    ) -> None:
        """Set up; nothing is opened yet.

        Args:
            name: In errors and logs; without a password.
            open_capture: Opens it, as OpenCV does.
            open_timeout_s: Longest time to open.
            read_timeout_s: Longest time without a picture.
            max_fps: Pictures a second that are taken; 0 takes them all. Without meaning where there are triggers.
            encoding: Of the pictures.
            on_dropped: Told of each picture that was given up.
            triggers: Says which pictures are wanted; None takes them all.
        """
        self._triggers = triggers
        self._name = name
        self._open_capture = open_capture
        self._open_timeout_s = open_timeout_s
        self._read_timeout_s = read_timeout_s
        self._max_fps = max_fps
        self._encoding = encoding
        self._on_dropped = on_dropped
        self._grabber: _Grabber | None = None
        self._last_s = 0.0
        self._number = 0
        self._last_taken_s = 0.0

    def open(self, cursor: Cursor) -> None:
        """Connect; a live camera has no place to go on from."""
        del cursor
        self.close()
        self._grabber = _Grabber(self._name, self._open_capture, self._on_dropped)
        self._grabber.start()
        if not self._grabber.opened.wait(self._open_timeout_s):
            self.close()
            raise SourceError(f"a camera must open within {self._open_timeout_s} s, got no answer from {self._name}")
        self._last_s = time.monotonic()

    def read(self, timeout_s: float) -> Item | None:
        """The oldest picture that waits."""
        grabber = self._grabber
        if grabber is None:
            raise SourceError(f"a camera must be opened before it is read, got {self._name}")
        try:
            captured_at_ns, pixels = grabber.pictures.get(timeout=timeout_s)
        except queue.Empty:
            if grabber.failure:
                raise SourceError(grabber.failure) from None
            if time.monotonic() - self._last_s > self._read_timeout_s:
                raise SourceError(
                    f"a camera must deliver within {self._read_timeout_s} s, got nothing from {self._name}"
                ) from None
            return None
        self._last_s = time.monotonic()
        if self._triggers is not None:
            # Before it is encoded: most pictures of a triggered camera are thrown away.
            if not self._triggers.wants(captured_at_ns):
                return None
        elif self._max_fps and self._last_s - self._last_taken_s < 1 / self._max_fps:
            return None
        self._last_taken_s = self._last_s
        self._number += 1
        return Item(
            image=encode_bgr(pixels, self._encoding),
            source_item=f"live@{captured_at_ns}",
            pass_number=0,
            item_time_ns=captured_at_ns,
            captured_at_ns=captured_at_ns,
        )

    def safe(self, item: Item) -> None:
        """Nothing can be offered again."""

    def close(self) -> None:
        """Let the camera go; a call that hangs is left to end by itself."""
        if self._grabber is not None:
            self._grabber.stop()
            self._grabber = None


class _Grabber(threading.Thread):
    """Grabs pictures until it is stopped or the camera ends."""

    _WAITING = 4

    def __init__(self, name: str, open_capture: Callable[[], Any], on_dropped: Callable[[], None]) -> None:
        super().__init__(name=f"grab-{name}", daemon=True)
        self.pictures: queue.Queue[tuple[int, Any]] = queue.Queue(self._WAITING)
        self.opened = threading.Event()
        self.failure = ""
        self._camera = name
        self._open_capture = open_capture
        self._on_dropped = on_dropped
        self._stopped = threading.Event()

    def run(self) -> None:
        capture = None
        try:
            capture = self._open_capture()
            if not capture.isOpened():
                self.failure = f"a camera must be one that OpenCV opens, got {self._camera}"
                return
            self.opened.set()
            while not self._stopped.is_set():
                got, pixels = capture.read()
                if not got:
                    self.failure = f"a camera must go on delivering, got the end of {self._camera}"
                    return
                self._keep(time.time_ns(), pixels)
        except Exception as error:  # noqa: BLE001 - native code; whatever it is, the camera is opened again
            self.failure = f"a camera must deliver, got {type(error).__name__}: {error} from {self._camera}"
        finally:
            self.opened.set()
            if capture is not None:
                capture.release()

    def _keep(self, captured_at_ns: int, pixels: Any) -> None:
        while not self._stopped.is_set():
            try:
                self.pictures.put_nowait((captured_at_ns, pixels))
            except queue.Full:
                try:
                    self.pictures.get_nowait()
                    self._on_dropped()
                except queue.Empty:
                    pass
            else:
                return

    def stop(self) -> None:
        """Ask it to end, without waiting for a call that may hang."""
        self._stopped.set()
        self.join(1.0)
        if self.is_alive():
            LOG.warning("a camera's call hangs and is left behind: %s", self._camera)


def rtsp_source(
    settings: RtspSource, on_dropped: Callable[[], None], triggers: TriggerQueue | None = None
) -> LiveSource:
    """A network camera; over TCP, since UDP loses packets where a picture is measured."""
    os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp")
    options = [
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
        int(settings.open_timeout_s * 1000),
        cv2.CAP_PROP_READ_TIMEOUT_MSEC,
        int(settings.read_timeout_s * 1000),
    ]
    return LiveSource(
        _without_password(settings.url),
        lambda: cv2.VideoCapture(settings.url, cv2.CAP_FFMPEG, options),
        open_timeout_s=settings.open_timeout_s,
        read_timeout_s=settings.read_timeout_s,
        max_fps=settings.max_fps,
        encoding=settings.encoding,
        on_dropped=on_dropped,
        triggers=triggers,
    )


def usb_source(settings: UsbSource, on_dropped: Callable[[], None], triggers: TriggerQueue | None = None) -> LiveSource:
    """A camera of this machine."""

    def open_capture() -> Any:
        capture = cv2.VideoCapture(settings.device)
        if settings.width_px is not None:
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, settings.width_px)
        if settings.height_px is not None:
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, settings.height_px)
        return capture

    return LiveSource(
        f"USB camera {settings.device}",
        open_capture,
        open_timeout_s=settings.open_timeout_s,
        read_timeout_s=settings.read_timeout_s,
        max_fps=settings.max_fps,
        encoding=settings.encoding,
        on_dropped=on_dropped,
        triggers=triggers,
    )


def _without_password(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if not separator:
        return Path(url).name
    return f"{scheme}://{rest.rpartition('@')[2]}"
