"""Which part a frame shows."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Final

from services.core.identity import id_from_text
from services.ingest.settings import CameraSettings
from services.ingest.source import Item
from services.runtime.logging import get_logger

LOG = get_logger(__name__)

_TRIGGER_AGE_S: Final = 0.02
_TRIGGER_BYTES: Final = 1_024


class PartNames:
    """Makes the part id of each frame of one camera."""

    def __init__(self, camera: CameraSettings, epoch_ns: int) -> None:
        self._by = camera.part.by
        self._line_id = camera.line_id
        self._pattern = re.compile(camera.part.pattern)
        self._run = f"{epoch_ns // 1_000:x}"
        self._trigger = None if camera.part.trigger_file is None else Trigger(camera.part.trigger_file)

    def part_id(self, item: Item, sequence: int) -> str:
        """The part that an item shows.

        Args:
            item: From the source.
            sequence: The frame's number; the counter where nothing else names the part.
        """
        if self._by == "trigger" and self._trigger is not None:
            text = self._trigger.read()
            if text:
                return id_from_text(text, "part_id")
        elif self._by in {"auto", "file_name"} and item.part_text:
            match = self._pattern.search(item.part_text)
            if match is not None:
                found = match.groupdict().get("part") or match.group(1)
                if found:
                    return id_from_text(found, "part_id")
            return id_from_text(item.part_text, "part_id")
        return id_from_text(f"{self._line_id}-{self._run}-{sequence:07d}", "part_id")


class Trigger:
    """The id of the part before the cameras, as another program (a PLC's gateway, a scanner) writes it to a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._text = ""
        self._read_s = 0.0
        self._told = False

    def read(self) -> str:
        """The text of the file, at most 20 ms old; empty when there is none."""
        if time.monotonic() - self._read_s < _TRIGGER_AGE_S:
            return self._text
        self._read_s = time.monotonic()
        try:
            with self._path.open("rb") as file:
                self._text = file.read(_TRIGGER_BYTES).decode("utf-8", "replace").strip()
            self._told = False
        except OSError as error:
            self._text = ""
            if not self._told:
                LOG.warning("the trigger cannot be read, parts are counted instead: %s", error)
            self._told = True
        return self._text


def checked_item_name(text: str) -> str:
    """A source item's name as an event carries it: one that is too long is cut in the middle, where it tells least."""
    data = text.encode("utf-8", "replace")
    if len(data) <= _TRIGGER_BYTES:
        return text
    half = _TRIGGER_BYTES // 2
    return f"{data[:half].decode('utf-8', 'ignore')}…{data[-half:].decode('utf-8', 'ignore')}"
