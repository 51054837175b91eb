"""Each file that appears in a folder."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from fnmatch import fnmatch
from pathlib import Path

from services.ingest.settings import FolderWatchSource
from services.ingest.source import Cursor, Item, SourceError
from services.ingest.sources.files import printable, read_item
from services.runtime.logging import get_logger

LOG = get_logger(__name__)

SENT = "sent"
_DIGEST_BYTES = 8
_UNFINISHED = (".tmp", ".part", ".partial", ".crdownload")


class WatchSource:
    """Polls a folder, which works on network shares too, where notifications do not.

    A file is taken when its size and time stood still. Its id comes from name and time, so a file that is offered
    again after a crash has the same one. ``captured_at`` is the file's time. What is safe is moved, deleted, or
    remembered in a journal of digests, by choice; a file that was refused always stays where it is.
    """

    repeats = False
    exhausted = False

    def __init__(self, settings: FolderWatchSource, *, journal: Path, max_image_bytes: int) -> None:
        self._settings = settings
        self._journal = Journal(journal)
        self._max_image_bytes = max_image_bytes
        self._offered: set[bytes] = set()
        self._digests: dict[str, bytes] = {}
        self._sizes: dict[str, tuple[int, int, float]] = {}
        self._ready: list[str] = []
        self._next_look_s = 0.0

    def open(self, cursor: Cursor) -> None:
        """The journal knows what was sent; the cursor is not needed."""
        del cursor
        if not self._settings.path.is_dir():
            raise SourceError(f"a folder to watch must exist, got {str(self._settings.path)!r}")

    def read(self, timeout_s: float) -> Item | None:
        """The oldest file that is whole and was not sent."""
        if not self._ready:
            wait_s = self._next_look_s - time.monotonic()
            if wait_s > 0:
                time.sleep(min(wait_s, timeout_s))
                if wait_s > timeout_s:
                    return None
            began_s = time.monotonic()
            self._look()
            # A folder of very many files is looked at less often, not all the time.
            taken_s = time.monotonic() - began_s
            self._next_look_s = began_s + max(self._settings.poll_ms / 1000, 10 * taken_s)
        if not self._ready:
            return None
        name = self._ready.pop(0)
        path = self._settings.path / name
        item = read_item(path, printable(name), pass_number=0, cursor={}, max_bytes=self._max_image_bytes)
        if item is not None:
            digest = self._digests[item.source_item] = _digest(name, item.item_time_ns)
            self._offered.add(digest)
        return item

    def _look(self) -> None:
        now_s = time.monotonic()
        found: list[tuple[int, str]] = []
        sizes: dict[str, tuple[int, int, float]] = {}
        try:
            with os.scandir(self._settings.path) as entries:
                for entry in entries:
                    if not self._wanted(entry):
                        continue
                    stat = entry.stat()
                    digest = _digest(entry.name, max(1, stat.st_mtime_ns))
                    if digest in self._offered or digest in self._journal:
                        continue
                    size, mtime_ns, since_s = self._sizes.get(entry.name, (-1, -1, now_s))
                    if (size, mtime_ns) != (stat.st_size, stat.st_mtime_ns):
                        since_s = now_s
                    sizes[entry.name] = (stat.st_size, stat.st_mtime_ns, since_s)
                    # A file that has been still for long when it is first seen need not be waited for.
                    age_ms = (time.time_ns() - stat.st_mtime_ns) / 1e6
                    still_ms = max((now_s - since_s) * 1000, age_ms if age_ms > 60_000 else 0)
                    if still_ms >= self._settings.settle_ms:
                        found.append((stat.st_mtime_ns, entry.name))
        except FileNotFoundError:
            if not self._settings.path.is_dir():
                raise SourceError(f"a folder to watch must exist, got {str(self._settings.path)!r}") from None
        except OSError as error:
            raise SourceError(f"a folder to watch must be readable, got {error}") from error
        self._sizes = sizes
        self._ready = [name for _, name in sorted(found)]

    def _wanted(self, entry: os.DirEntry[str]) -> bool:
        return (
            not entry.name.startswith(".")
            and not entry.name.endswith(_UNFINISHED)
            and fnmatch(entry.name, self._settings.pattern)
            and entry.is_file()
        )

    def safe(self, item: Item) -> None:
        """Move, delete or remember the file."""
        digest = self._digests.pop(item.source_item, None)
        if digest is None:
            return
        path = self._settings.path / os.fsdecode(item.source_item.encode())
        try:
            if self._settings.after == "keep" or item.refusal:
                self._journal.add(digest)
            elif self._settings.after == "delete":
                path.unlink(missing_ok=True)
            else:
                target = self._settings.path / SENT
                target.mkdir(exist_ok=True)
                path.replace(target / path.name)
        except OSError as error:
            # It was sent; not being able to tidy up is no reason to send it again now.
            LOG.warning("a sent file could not be put away: %s", error, extra={"file": str(path)})
            return
        self._offered.discard(digest)

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()


class Journal:
    """Digests of what was sent, eight bytes each, appended to a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        data = path.read_bytes() if path.exists() else b""
        whole = len(data) - len(data) % _DIGEST_BYTES
        if whole != len(data):
            os.truncate(path, whole)
        self._known = {data[at : at + _DIGEST_BYTES] for at in range(0, whole, _DIGEST_BYTES)}
        self._file: int | None = None

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._known

    def add(self, digest: bytes) -> None:
        """Remember one."""
        with self._lock:
            if self._file is None:
                self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
            os.write(self._file, digest)
            self._known.add(digest)

    def close(self) -> None:
        """Close the file; idempotent."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None


def _digest(name: str, modified_ns: int) -> bytes:
    return hashlib.blake2b(os.fsencode(name) + b"\0%d" % modified_ns, digest_size=_DIGEST_BYTES).digest()
