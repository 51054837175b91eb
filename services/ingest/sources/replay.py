"""The files of a folder, by name, each once a pass."""

from __future__ import annotations

import time
from fnmatch import fnmatch

from services.ingest.pacing import Pacer
from services.ingest.settings import FolderReplaySource
from services.ingest.source import Cursor, Item, SourceError
from services.ingest.sources.files import printable, read_item


class ReplaySource:
    """Goes on behind the last safe file after a crash.

    The id of a frame comes from the file's name, its time and the pass, so it repeats. ``captured_at`` is the moment
    in which the file is offered: the replay stands for a camera, and its deadlines and latencies count from there.
    """

    repeats = True

    def __init__(self, settings: FolderReplaySource, *, max_image_bytes: int) -> None:
        self._settings = settings
        self._max_image_bytes = max_image_bytes
        self._pacer = Pacer(settings.rate_fps)
        self._names: list[str] = []
        self._index = 0
        self._pass = 0
        self._offered = 0
        self._exhausted = False

    @property
    def exhausted(self) -> bool:
        """Whether the folder was sent and is not sent again."""
        return self._exhausted

    def open(self, cursor: Cursor) -> None:
        """List the folder and find the place."""
        self._pass = int(cursor.get("pass", 0))
        self._offered = int(cursor.get("offered", 0))
        self._list()
        after = cursor.get("after")
        self._index = 0
        if isinstance(after, str):
            # By order, not by equality: the file may be gone.
            self._index = sum(1 for name in self._names if name <= after)

    def _list(self) -> None:
        root = self._settings.path
        if not root.is_dir():
            raise SourceError(f"a folder to replay must exist, got {str(root)!r}")
        try:
            found = root.rglob("*") if self._settings.recursive else root.iterdir()
            self._names = sorted(
                path.relative_to(root).as_posix()
                for path in found
                if not path.name.startswith(".") and fnmatch(path.name, self._settings.pattern) and path.is_file()
            )
        except OSError as error:
            raise SourceError(f"a folder to replay must be readable, got {error}") from error

    def read(self, timeout_s: float) -> Item | None:
        """The next file when it is due."""
        limit = self._settings.max_frames
        if limit and self._offered >= limit:
            self._exhausted = True
            return None
        if self._index >= len(self._names):
            if not self._settings.loop:
                self._exhausted = True
                return None
            self._pass += 1
            self._index = 0
            self._list()
            if not self._names:
                time.sleep(timeout_s)
                return None
        if not self._pacer.wait(timeout_s):
            return None
        name = self._names[self._index]
        self._index += 1
        item = read_item(
            self._settings.path / name,
            printable(name),
            pass_number=self._pass,
            cursor={"pass": self._pass, "after": name, "offered": self._offered + 1},
            max_bytes=self._max_image_bytes,
            captured_at_ns=time.time_ns(),
        )
        self._offered += item is not None
        return item

    def safe(self, item: Item) -> None:
        """The cursor says it all."""

    def close(self) -> None:
        """Nothing is open."""
