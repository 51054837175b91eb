"""What ingest remembers of a camera over restarts: its sequence, its place in the source."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

from services.core.errors import InvalidInputError
from services.ingest.source import Cursor
from services.runtime.logging import get_logger

LOG = get_logger(__name__)

_SAVE_EVERY_S = 0.5
#: Numbers set aside at a time, so that a crash never gives a live camera's number twice.
_RESERVE = 1_000


class CameraState:
    """One camera's sequence and cursor, in a small file that is replaced atomically.

    A source that repeats its items goes on from the last one that is safe, with the same numbers as before. A live
    source goes on behind every number that it may have used: after a crash there is a gap, never a number twice.
    """

    def __init__(self, path: Path, *, repeats: bool) -> None:
        self._path = path
        self._repeats = repeats
        self._lock = threading.Lock()
        self._saved_s = 0.0
        stored = read_json(path)
        self._cursor: Cursor = stored.get("cursor", {}) if isinstance(stored.get("cursor"), dict) else {}
        self._safe_sequence = _number(stored.get("sequence"))
        self._reserved = max(self._safe_sequence, _number(stored.get("reserved")))
        self._sequence = self._safe_sequence if repeats else self._reserved
        if not repeats:
            self._safe_sequence = self._sequence

    @property
    def cursor(self) -> Cursor:
        """Where the source goes on."""
        return self._cursor

    def next_sequence(self) -> int:
        """Give out the camera's next number."""
        with self._lock:
            self._sequence += 1
            if not self._repeats and self._sequence > self._reserved:
                self._reserved = self._sequence + _RESERVE
                self._save()
            return self._sequence

    def safe(self, sequence: int, cursor: Cursor) -> None:
        """Everything up to here is safe; written down at most twice a second."""
        with self._lock:
            if sequence <= self._safe_sequence:
                return
            self._safe_sequence = sequence
            self._cursor = cursor
            if time.monotonic() - self._saved_s > _SAVE_EVERY_S:
                self._save()

    def close(self) -> None:
        """Write everything down; nothing is in use any more."""
        with self._lock:
            self._reserved = self._sequence
            self._save()

    def _save(self) -> None:
        self._saved_s = time.monotonic()
        write_json(self._path, {"sequence": self._safe_sequence, "reserved": self._reserved, "cursor": self._cursor})


def line_epoch_ns(directory: Path, line_id: str) -> int:
    """When this line first ran here; it tells its parts from those of other runs, for all of its cameras."""
    path = directory / f"line-{line_id}.json"
    epoch_ns = _number(read_json(path).get("epoch_ns"))
    if not epoch_ns:
        epoch_ns = time.time_ns()
        write_json(path, {"epoch_ns": epoch_ns})
    return epoch_ns


def read_json(path: Path) -> dict[str, Any]:
    """An object from a file; empty when there is none or it is damaged."""
    try:
        return json_object(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, InvalidInputError) as error:
        LOG.warning("a state file cannot be read and is begun anew: %s", error, extra={"file": str(path)})
        return {}


def json_object(data: bytes) -> dict[str, Any]:
    """Read an object.

    Raises:
        InvalidInputError: If the bytes are something else.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"a state file must be JSON, got {error}") from error
    if not isinstance(value, dict):
        raise InvalidInputError(f"a state file must hold an object, got {type(value).__name__}")
    return value


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Replace a file so that a kill leaves the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    try:
        with beside.open("w") as file:
            json.dump(value, file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        # A full disk: the place is lost if the process dies now, and items come again with the same ids.
        LOG.warning("a place could not be written down: %s", error, extra={"file": str(path)})


def _number(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0
