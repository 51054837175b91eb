"""GenICam cameras (GigE Vision, USB3 Vision) through ``harvesters``; an optional extra."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from services.core.errors import SettingsError
from services.ingest.encoding import encode_bgr
from services.ingest.settings import GenicamSource
from services.ingest.source import Cursor, Item, SourceError
from services.ingest.triggers import TriggerQueue

#: GenICam's pixel formats that need more than a reshape, and how OpenCV makes BGR of them.
_BAYER = {
    "BayerRG8": cv2.COLOR_BayerBG2BGR,
    "BayerGR8": cv2.COLOR_BayerGB2BGR,
    "BayerGB8": cv2.COLOR_BayerGR2BGR,
    "BayerBG8": cv2.COLOR_BayerRG2BGR,
}
_MONO = {"Mono8", "Mono10", "Mono12", "Mono14", "Mono16"}


def harvester() -> Any:
    """The real thing.

    Raises:
        SettingsError: When the package is not installed.
    """
    try:
        from harvesters.core import Harvester  # noqa: PLC0415
    except ImportError as error:
        raise SettingsError("a genicam source needs the extra sightline[genicam], which is not installed") from error
    return Harvester()


class GenicamCameraSource:
    """One camera behind a vendor's GenTL producer; live, so nothing can be offered again."""

    repeats = False
    exhausted = False

    def __init__(
        self,
        settings: GenicamSource,
        make_harvester: Callable[[], Any] = harvester,
        *,
        triggers: TriggerQueue | None = None,
    ) -> None:
        """Set up; nothing is loaded yet.

        Args:
            settings: The source's.
            make_harvester: Makes what speaks to the producer.
            triggers: Says which pictures are wanted; None takes them all.
        """
        self._settings = settings
        self._triggers = triggers
        self._make_harvester = make_harvester
        self._harvester: Any = None
        self._acquirer: Any = None
        self._last_s = 0.0

    def open(self, cursor: Cursor) -> None:
        """Load the producer and start the acquisition."""
        del cursor
        self.close()
        try:
            self._harvester = self._make_harvester()
            self._harvester.add_file(str(self._settings.producer))
            self._harvester.update()
            serial = self._settings.serial_number
            self._acquirer = self._harvester.create({"serial_number": serial} if serial else 0)
            self._acquirer.start()
        except SettingsError:
            raise
        except Exception as error:
            # A vendor's producer raises what it likes.
            self.close()
            raise SourceError(f"a GenICam camera must open, got {type(error).__name__}: {error}") from error
        self._last_s = time.monotonic()

    def read(self, timeout_s: float) -> Item | None:
        """The next picture."""
        try:
            buffer = self._acquirer.try_fetch(timeout=timeout_s)
            if buffer is None:
                self._check_deadline()
                return None
            try:
                # The buffer goes back to the camera: the pixels are copied while they are encoded.
                captured_at_ns = time.time_ns()
                if self._triggers is not None and not self._triggers.wants(captured_at_ns):
                    self._last_s = time.monotonic()
                    return None
                image = encode_bgr(_pixels(buffer.payload.components[0]), self._settings.encoding)
            finally:
                buffer.queue()
        except SourceError:
            raise
        except Exception as error:
            raise SourceError(f"a GenICam camera must deliver, got {type(error).__name__}: {error}") from error
        self._last_s = time.monotonic()
        return Item(image, f"live@{captured_at_ns}", 0, captured_at_ns, captured_at_ns)

    def _check_deadline(self) -> None:
        if self._triggers is not None and self._triggers.first is None:
            # A camera that is itself triggered has nothing to deliver between two parts.
            self._last_s = time.monotonic()
            return
        if time.monotonic() - self._last_s > self._settings.read_timeout_s:
            raise SourceError(f"a GenICam camera must deliver within {self._settings.read_timeout_s} s")

    def safe(self, item: Item) -> None:
        """Nothing can be offered again."""

    def close(self) -> None:
        """Stop the acquisition and unload the producer."""
        for thing, ends in ((self._acquirer, ("stop", "destroy")), (self._harvester, ("reset",))):
            for end in ends:
                try:
                    if thing is not None:
                        getattr(thing, end)()
                except Exception as error:  # noqa: BLE001 - a vendor's producer; it is being thrown away
                    del error
        self._acquirer = self._harvester = None


def _pixels(component: Any) -> Any:
    name = str(component.data_format)
    height, width = int(component.height), int(component.width)
    data = np.asarray(component.data)
    if name in _MONO:
        pixels = data.reshape(height, width)
        if pixels.dtype == np.uint8:
            return pixels
        bits = int(name.removeprefix("Mono"))
        return (pixels >> (bits - 8)).astype(np.uint8)
    if name in _BAYER:
        return cv2.cvtColor(data.reshape(height, width), _BAYER[name])
    if name == "RGB8":
        return cv2.cvtColor(data.reshape(height, width, 3), cv2.COLOR_RGB2BGR)
    if name == "BGR8":
        return data.reshape(height, width, 3)
    raise SourceError(f"a GenICam camera's pixel format must be Mono8..16, RGB8, BGR8 or Bayer 8 bit, got {name}")
