"""Backups in a folder: what each one holds as lists, and the content of objects once for all of them.

::

    objects/<aa>/<sha256>                    content, by its own digest; shared by every backup of the folder
    backups/<YYYYMMDDTHHMMSSZ>/
        manifest.json                        what there is: each list with its digest, lines and bytes
        manifest.json.sha256                 the manifest's own digest
        objects.jsonl                        key, digest, size and time of each object
        topics/<topic>.jsonl                 records, byte for byte (base64)
        tables/<database>.jsonl              rows
    backups/<YYYYMMDDTHHMMSSZ>.unfinished/   one that was cut off; the next backup goes on with it

A name that ends in ``.unfinished`` is never read as a backup: it is renamed once its manifest is on disk.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from services.core.errors import InvalidInputError, NotFoundError, StoreFullError, UnavailableError

FORMAT: Final = 1
_UNFINISHED: Final = ".unfinished"
_NAME = re.compile(r"\d{8}T\d{6}Z\Z", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}\Z", re.ASCII)
_CHUNK_BYTES: Final = 1 << 20
#: A store's clock and its times are no finer than this: what changed so shortly before a listing may change unseen.
_SETTLED_NS: Final = 60_000_000_000
_NO_SPACE: Final = 28


class BackupDamagedError(InvalidInputError):
    """A file of a backup is missing, cut short or was changed; its name is in the message."""

    reason = "backup_damaged"


@dataclass(frozen=True, slots=True)
class SavedObject:
    """One object of the store, as a backup lists it."""

    key: str
    sha256: str
    size_bytes: int
    modified_ns: int
    """By the store's clock, nanoseconds since the epoch."""


@dataclass(frozen=True, slots=True)
class SavedList:
    """One list of a backup."""

    file: str
    """Below the backup's folder."""
    sha256: str
    lines: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup holds."""

    name: str
    release: str
    """Version of Sightline that made it."""
    began_at_ns: int
    ended_at_ns: int
    bucket: str
    prefixes: tuple[str, ...]
    objects: SavedList
    object_bytes: int
    topics: Mapping[str, SavedList] = field(default_factory=dict)
    databases: Mapping[str, SavedList] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def lists(self) -> tuple[SavedList, ...]:
        """Every list, the objects' first."""
        return (self.objects, *self.topics.values(), *self.databases.values())


class ListWriter:
    """Writes one list line by line; a context manager."""

    def __init__(self, folder: Path, file: str) -> None:
        self._file = file
        path = folder / file
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Rows hold password hashes: nobody else's to read.
        self._handle = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")
        self._digest = hashlib.sha256()
        self._lines = self._bytes = 0

    def add(self, values: Mapping[str, Any]) -> None:
        """Append one line."""
        line = json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        with _explained("write a list"):
            self._handle.write(line)
        self._digest.update(line)
        self._lines += 1
        self._bytes += len(line)

    def __enter__(self) -> ListWriter:
        return self

    def __exit__(self, *_: object) -> None:
        with _explained("write a list"):
            self._handle.close()

    @property
    def written(self) -> SavedList:
        """What was written so far."""
        return SavedList(self._file, self._digest.hexdigest(), self._lines, self._bytes)


class Archive:
    """A folder of backups. One process writes at a time; content may be added from several threads.

    Args:
        folder: Where it lies; made when the first backup begins.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._backups = folder / "backups"

    def __str__(self) -> str:
        return str(self._folder)

    # ---- reading

    def names(self) -> list[str]:
        """Whole backups, the oldest first."""
        if not self._backups.is_dir():
            return []
        return sorted(each.name for each in self._backups.iterdir() if _NAME.match(each.name))

    def newest(self) -> str:
        """Name of the newest whole backup; raises ``NotFoundError`` when there is none."""
        names = self.names()
        if not names:
            raise NotFoundError(f"a whole backup must lie in {self._backups}, got none")
        return names[-1]

    def manifest(self, name: str) -> Manifest:
        """Read a backup's manifest.

        Raises:
            NotFoundError: When there is no whole backup of this name.
            BackupDamagedError: When the manifest is not what was written.
            InvalidInputError: When another format was written, by a newer release.
        """
        if name not in self.names():
            have = ", ".join(self.names()) or "none"
            raise NotFoundError(f"a whole backup must have the name (there are: {have}), got {name!r}")
        folder = self._backups / name
        data, told = _read(folder / "manifest.json"), _read(folder / "manifest.json.sha256")
        if told.split()[:1] != [hashlib.sha256(data).hexdigest().encode()]:
            raise BackupDamagedError(f"manifest.json of backup {name} must have the digest beside it, it was changed")
        values = json.loads(data)
        if values.get("format") != FORMAT:
            raise InvalidInputError(f"a backup must have format {FORMAT}, got {values.get('format')!r} in {name}")
        return Manifest(
            **{
                **values,
                "prefixes": tuple(values["prefixes"]),
                "objects": SavedList(**values["objects"]),
                "topics": {topic: SavedList(**each) for topic, each in values["topics"].items()},
                "databases": {database: SavedList(**each) for database, each in values["databases"].items()},
            }
        )

    def manifest_sha256(self, name: str) -> str:
        """Digest of a backup's manifest, which names every other digest."""
        return hashlib.sha256(_read(self._backups / name / "manifest.json")).hexdigest()

    def check_list(self, name: str, listed: SavedList) -> None:
        """Hold one list against the manifest; raises ``BackupDamagedError`` that names it."""
        path = self._backups / name / listed.file
        found, size_bytes = _digest_of(path)
        if size_bytes != listed.size_bytes:
            raise BackupDamagedError(f"{path} must have {listed.size_bytes} bytes, got {size_bytes}")
        if found != listed.sha256:
            raise BackupDamagedError(f"{path} must have the digest {listed.sha256}, got {found}")

    def check_content(self, saved: SavedObject) -> None:
        """Hold the content of one object against its digest; raises ``BackupDamagedError`` that names both."""
        path = self._content(saved.sha256)
        found, size_bytes = _digest_of(path, f" (of {saved.key})")
        if size_bytes != saved.size_bytes or found != saved.sha256:
            raise BackupDamagedError(
                f"{path} must hold {saved.size_bytes} bytes of {saved.key}, got {size_bytes} of digest {found}"
            )

    def lines(self, name: str, listed: SavedList) -> Iterator[dict[str, Any]]:
        """The lines of one list."""
        with _explained("read a list"), (self._backups / name / listed.file).open("rb") as handle:
            for line in handle:
                yield json.loads(line)

    def objects(self, name: str, manifest: Manifest) -> Iterator[SavedObject]:
        """The objects of one backup."""
        return (SavedObject(**line) for line in self.lines(name, manifest.objects))

    def content(self, saved: SavedObject) -> bytes:
        """The content of one object; raises ``BackupDamagedError`` if it is not what was saved."""
        data = _read(self._content(saved.sha256))
        if hashlib.sha256(data).hexdigest() != saved.sha256:
            raise BackupDamagedError(f"{self._content(saved.sha256)} must hold {saved.key}, it was changed")
        return data

    # ---- writing

    def begin(self, now_ns: int) -> Unfinished:
        """Begin a backup, or go on with the one that was cut off.

        Raises:
            UnavailableError: When the folder cannot be written to.
        """
        with _explained("begin a backup"):
            self._backups.mkdir(mode=0o700, parents=True, exist_ok=True)
            unfinished = sorted(self._backups.glob(f"*{_UNFINISHED}"))
            if unfinished:
                folder = unfinished[-1]
            else:
                at = datetime.datetime.fromtimestamp(now_ns / 1e9, tz=datetime.UTC)
                folder = self._backups / f"{at:%Y%m%dT%H%M%SZ}{_UNFINISHED}"
                folder.mkdir(mode=0o700)
                (folder / "began").write_text(str(now_ns))
            return Unfinished(self, folder, self._known(folder))

    def _known(self, folder: Path) -> dict[str, SavedObject]:
        """What needs no reading again: objects of the last backup and of the one that was cut off."""
        known: dict[str, SavedObject] = {}
        if self.names():
            newest = self.newest()
            manifest = self.manifest(newest)
            self.check_list(newest, manifest.objects)
            _add_settled(known, self.objects(newest, manifest), manifest.began_at_ns)
        seen, lately = folder / "known.jsonl", folder / "objects.jsonl"
        if lately.exists():
            with seen.open("ab") as to, lately.open("rb") as source:
                while chunk := source.read(_CHUNK_BYTES):
                    to.write(chunk)
                # The last line may have been cut off, and must not spoil the next one.
                to.write(b"\n")
            lately.unlink()
        if seen.exists():
            _add_settled(known, _whole_lines(seen), int((folder / "began").read_text()))
        return known

    def has(self, saved: SavedObject) -> bool:
        """Tell whether an object's content lies here, by its size."""
        try:
            return self._content(saved.sha256).stat().st_size == saved.size_bytes
        except OSError:
            return False

    def keep(self, data: bytes) -> str:
        """Keep content; what lies here already is not written again.

        Returns:
            Its digest.
        """
        digest = hashlib.sha256(data).hexdigest()
        path = self._content(digest)
        with _explained("write an object"):
            if path.exists() and path.stat().st_size == len(data):
                return digest
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            new = path.with_name(f"{digest}.{os.getpid()}-{time.monotonic_ns()}.new")
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as handle:
                handle.write(data)
            new.replace(path)
        return digest

    def _content(self, digest: str) -> Path:
        if not _DIGEST.match(digest):
            raise BackupDamagedError(f"a digest must be 64 hexadecimal digits, got {digest!r}")
        return self._folder / "objects" / digest[:2] / digest


@dataclass(frozen=True)
class Unfinished:
    """A backup that is being made.

    Attributes:
        archive: Where it is made.
        folder: Of its lists.
        known: Objects whose content lies here already, by key.
    """

    archive: Archive
    folder: Path
    known: Mapping[str, SavedObject]

    @property
    def name(self) -> str:
        """What it will be called."""
        return self.folder.name.removesuffix(_UNFINISHED)

    @property
    def began_at_ns(self) -> int:
        """When it began first, nanoseconds since the epoch."""
        return int((self.folder / "began").read_text())

    def list(self, file: str) -> ListWriter:
        """Begin one of its lists."""
        return ListWriter(self.folder, file)

    def finish(self, manifest: Manifest) -> None:
        """Write the manifest and make it a whole backup."""
        data = json.dumps(asdict(manifest), indent=1).encode()
        with _explained("finish a backup"):
            # Everything it names must be on disk before it is; one sync for all objects instead of one each.
            os.sync()
            _write(self.folder / "manifest.json", data)
            digest = hashlib.sha256(data).hexdigest()
            _write(self.folder / "manifest.json.sha256", f"{digest}  manifest.json\n".encode())
            for name in ("known.jsonl", "began"):
                (self.folder / name).unlink(missing_ok=True)
            self.folder.rename(self.folder.with_name(self.name))
            os.sync()


def _add_settled(known: dict[str, SavedObject], objects: Iterable[SavedObject], began_at_ns: int) -> None:
    known.update({each.key: each for each in objects if each.modified_ns < began_at_ns - _SETTLED_NS})


def _whole_lines(path: Path) -> Iterator[SavedObject]:
    with path.open("rb") as handle:
        for line in handle:
            with contextlib.suppress(ValueError, TypeError):
                yield SavedObject(**json.loads(line))


def _write(path: Path, data: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BackupDamagedError(f"{path} must be readable, got {error.strerror}") from error


def _digest_of(path: Path, whose: str = "") -> tuple[str, int]:
    digest, size_bytes = hashlib.sha256(), 0
    try:
        with path.open("rb") as handle:
            while chunk := handle.read(_CHUNK_BYTES):
                digest.update(chunk)
                size_bytes += len(chunk)
    except OSError as error:
        raise BackupDamagedError(f"{path}{whose} must be readable, got {error.strerror}") from error
    return digest.hexdigest(), size_bytes


@contextlib.contextmanager
def _explained(doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        kind = StoreFullError if error.errno == _NO_SPACE else UnavailableError
        raise kind(f"the backup's folder must be able to {doing}, got {error.strerror}") from error
