"""Where the images of a fit come from: the object store, or what the line saw in a stretch of time.

Each source fills a labelled folder, from which a fit goes on as from any other.
"""

from __future__ import annotations

import dataclasses
import hashlib
import heapq
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from services.adapters.codec import decode_frame, decode_inspection
from services.adapters.datasets import IMAGE_SUFFIXES, write_labels
from services.adapters.ports import ObjectStat, ObjectStore, TopicReader
from services.core.errors import EventDecodeError, InvalidInputError, NotFoundError
from services.core.imaging import ImageLimits, decode
from services.core.manifest import GOOD
from services.core.timespan import TimeWindow
from services.core.types import Frame, Inspection, Verdict
from services.runtime.images import fetch_image, image_suffix
from services.trainer.detector_version import Origin

Progress = Callable[[float, str], None]
"""Told the share that is done, 0 to 1, and what is being done."""

#: Most images that are taken from the object store, and most bytes.
MOST_OBJECTS: Final = 50_000
MOST_BYTES: Final = 8_000_000_000
#: Most frames that are taken from the line unless another number is asked for.
MOST_FRAMES: Final = 2_000
#: Most passed frames that a window may hold: their ids are remembered while frames are read.
MOST_PASSED: Final = 5_000_000

_LABELS: Final = "labels.csv"
_STALL_S: Final = 30.0
_TOLD_EVERY: Final = 100
_SHOWN_IDS: Final = 3


@dataclass(frozen=True, slots=True)
class Collected:
    """What a source gave.

    Attributes:
        origin: For the version's lineage.
        images: Images that lie in the folder now.
        left_out: Frames that could not be used, each with its reason, by frame id.
    """

    origin: Origin
    images: int
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def complaint(self) -> str:
        """One line on what was left out; empty where nothing was."""
        if not self.left_out:
            return ""
        shown = [f"{name} ({reason})" for name, reason in list(self.left_out.items())[:_SHOWN_IDS]]
        more = f" and {len(self.left_out) - _SHOWN_IDS} more" if len(self.left_out) > _SHOWN_IDS else ""
        return f"frames left out whose image cannot be used: {len(self.left_out)}: {', '.join(shown)}{more}"


# ---- the object store


def collect_from_store(
    store: ObjectStore,
    prefix: str,
    folder: Path,
    progress: Progress = lambda _share, _what: None,
    *,
    most_objects: int = MOST_OBJECTS,
    most_bytes: int = MOST_BYTES,
) -> Collected:
    """Copy a labelled folder out of the object store; its size is known before anything is read.

    Args:
        store: The bucket.
        prefix: What lies below is one of the layouts of ``services.adapters.datasets``.
        folder: Where to; it exists and is empty.
        progress: Told how far it is.
        most_objects: More images are refused.
        most_bytes: More bytes are refused.

    Raises:
        NotFoundError: If the bucket does not exist, or holds no image below the prefix.
        InvalidInputError: If there is more than may be taken, or a key cannot be a file's name.
        UnavailableError: If the store does not answer.
    """
    prefix = prefix.strip("/")
    below = f"{prefix}/" if prefix else ""
    wanted = _listed(store, below, most_objects, most_bytes)
    whole, done = sum(stat.size_bytes for stat in wanted.values()), 0
    for name, stat in sorted(wanted.items()):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(store.get(stat.key, max_bytes=stat.size_bytes))
        done += stat.size_bytes
        progress(done / max(1, whole), f"downloading {done / 1e6:.1f} of {whole / 1e6:.1f} MB")
    images = sum(_is_image(name) for name in wanted)
    origin = Origin("object-store", f"{images} pictures from {below or 'all'} of the bucket {store.bucket}")
    return Collected(origin, images)


def _listed(store: ObjectStore, below: str, most_objects: int, most_bytes: int) -> dict[str, ObjectStat]:
    wanted: dict[str, ObjectStat] = {}
    images = size_bytes = 0
    try:
        for stat in store.list(below):
            name = stat.key[len(below) :]
            if not (_is_image(name) or name == _LABELS):
                continue
            wanted[_safe(name, stat.key)] = stat
            images += _is_image(name)
            size_bytes += stat.size_bytes
            if images > most_objects or size_bytes > most_bytes:
                raise InvalidInputError(
                    f"below {below!r} must lie at most {most_objects} images of together {most_bytes} bytes, got more"
                )
    except NotFoundError as error:
        raise NotFoundError(
            f"the bucket must exist (SIGHTLINE_OBJECT_STORE__BUCKET), got {store.bucket!r}: {error}"
        ) from error
    if not images:
        raise NotFoundError(
            f"images must lie below the prefix {below!r} of the bucket {store.bucket!r}, got none; what follows s3:// "
            "is the prefix alone, without the bucket's name"
        )
    return wanted


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def _safe(name: str, key: str) -> str:
    # A key may hold anything; as a file's name it must stay within the folder.
    steps = name.split("/")
    if any(step in ("", ".", "..") or "\\" in step or "\0" in step for step in steps):
        raise InvalidInputError(f"a key must be a plain path to become a file, got {key[:120]!r}")
    return name


# ---- the line


@dataclass(frozen=True, slots=True)
class LineQuery:
    """Which frames of the line are wanted.

    Attributes:
        window: When they were written to the line's topic.
        cameras: Only these; empty for all.
        product: Only this; empty for all.
        most: Most frames, a uniform sample where there are more.
        seed: Of that sample.
    """

    window: TimeWindow
    cameras: tuple[str, ...] = ()
    product: str = ""
    most: int = MOST_FRAMES
    seed: int = 0

    def __post_init__(self) -> None:
        if self.most < 1:
            raise InvalidInputError(f"most must be at least 1, got {self.most}")

    def wants(self, one: Frame | Inspection) -> bool:
        """Tell whether a frame, or the verdict on one, is of the cameras and the product."""
        return (not self.cameras or one.camera_id in self.cameras) and self.product in ("", one.product)

    def __str__(self) -> str:
        cameras = f", cameras {', '.join(self.cameras)}" if self.cameras else ""
        return f"{self.window}{cameras}{f', product {self.product}' if self.product else ''}"


def collect_from_line(
    query: LineQuery,
    frames: TopicReader,
    store: ObjectStore,
    folder: Path,
    progress: Progress = lambda _share, _what: None,
    *,
    verdicts: TopicReader | None = None,
    now_ms: int | None = None,
    limits: ImageLimits | None = None,
) -> Collected:
    """Take what the line saw, as good parts; frames of one part share a group.

    Args:
        query: Which frames.
        frames: Reads the ``frames`` topic.
        store: Holds images that went by reference.
        folder: Where to; it exists and is empty.
        progress: Told how far it is.
        verdicts: Reads the ``verdicts`` topic, to keep only what the live model passed; None keeps all.
        now_ms: Up to when verdicts are looked for; None takes the window's end.
        limits: What makes an image unusable.

    Raises:
        NotFoundError: If no such frame was seen in the window.
        InvalidInputError: If more frames passed than can be told apart, or no image can be used.
        UnavailableError: If broker or store do not answer.
    """
    passed = None if verdicts is None else _passed(query, verdicts, max(now_ms or 0, query.window.until_ms), progress)
    sample = _Sample(folder / "images", query.most, query.seed)
    span_ms = query.window.until_ms - query.window.since_ms
    seen, left_out = 0, {}
    for number, record in enumerate(frames.read_between(query.window.since_ms, query.window.until_ms, _STALL_S)):
        if number % _TOLD_EVERY == 0:
            progress(0.8 * (record.timestamp_ms - query.window.since_ms) / span_ms, f"reading frames, {seen} so far")
        try:
            frame = decode_frame(record.value)
        except EventDecodeError as error:
            left_out[str(record.position.offset)] = error.reason
            continue
        if query.wants(frame) and (passed is None or _key(frame.frame_id) in passed):
            seen += 1
            sample.offer(frame)
    if not seen:
        raise NotFoundError(f"the line must have seen {'passed ' if verdicts else ''}frames in {query}, got none")
    kept = sorted(sample.kept(), key=lambda frame: frame.frame_id)
    rows = []
    for number, frame in enumerate(kept):
        progress(0.8 + 0.2 * number / len(kept), "fetching and checking images")
        try:
            name = _settle(frame, store, folder / "images", limits or ImageLimits())
        except (InvalidInputError, NotFoundError) as error:
            left_out[frame.frame_id] = error.reason
            continue
        rows.append((name, 0, GOOD, frame.part_id, "", frame.product))
    if not rows:
        raise InvalidInputError(
            f"a window must hold frames with a usable image, got {len(left_out)} without in {query}"
        )
    write_labels(rows, folder)
    told = f"{len(rows)} of {seen} {'passed ' if verdicts else ''}frames of {query}"
    return Collected(Origin("line", told), len(rows), left_out)


def _passed(query: LineQuery, verdicts: TopicReader, until_ms: int, progress: Progress) -> Collection[int]:
    """Frames that the model passed, by the last that was said of each; a verdict follows its frame."""
    passed: set[int] = set()
    for number, record in enumerate(verdicts.read_between(query.window.since_ms, until_ms, _STALL_S)):
        if number % _TOLD_EVERY == 0:
            progress(0.0, f"reading verdicts, {len(passed)} passed so far")
        try:
            inspection = decode_inspection(record.value)
        except EventDecodeError:
            # What cannot be read did not pass.
            continue
        if not query.wants(inspection):
            continue
        if inspection.verdict is Verdict.PASS:
            passed.add(_key(inspection.frame_id))
        else:
            passed.discard(_key(inspection.frame_id))
        if len(passed) > MOST_PASSED:
            raise InvalidInputError(
                f"a window must hold at most {MOST_PASSED} passed frames, got more; name cameras, or a shorter time"
            )
    return passed


def _key(frame_id: str, seed: int | None = None) -> int:
    """Eight bytes that stand for a frame; with a seed, its place in a shuffled order."""
    salt = b"" if seed is None else seed.to_bytes(8, "big")
    return int.from_bytes(hashlib.blake2b(frame_id.encode(), digest_size=8, salt=salt).digest(), "big")


class _Sample:
    """A uniform sample of frames, whatever order they come in, with their inline images on disk.

    Those that come first in an order that the seed shuffles are kept. So a frame that comes twice is one frame, and
    the same window gives the same sample however its partitions are read.
    """

    def __init__(self, folder: Path, most: int, seed: int) -> None:
        self._folder = folder
        self._most = most
        self._seed = seed
        self._heap: list[tuple[int, str]] = []
        self._frames: dict[str, Frame] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def offer(self, frame: Frame) -> None:
        """Keep a frame, or let it or another one go."""
        if frame.frame_id in self._frames:
            return
        # The heap's least is what goes first, so places count downwards.
        entry = (-_key(frame.frame_id, self._seed), frame.frame_id)
        if len(self._heap) == self._most:
            if entry < self._heap[0]:
                return
            _, gone = heapq.heapreplace(self._heap, entry)
            del self._frames[gone]
            (self._folder / gone).unlink(missing_ok=True)
        else:
            heapq.heappush(self._heap, entry)
        if frame.image is not None:
            (self._folder / frame.frame_id).write_bytes(frame.image)
        self._frames[frame.frame_id] = dataclasses.replace(frame, image=None)

    def kept(self) -> Iterable[Frame]:
        """What is left, without inline images: those lie in the folder, under the frame's id."""
        return self._frames.values()


def _settle(frame: Frame, store: ObjectStore, folder: Path, limits: ImageLimits) -> str:
    """Give a frame's image its file name, once it has been seen to be one."""
    inline = folder / frame.frame_id
    try:
        data = (
            inline.read_bytes()
            if frame.image_ref is None
            else fetch_image(store, frame.image_ref, max_bytes=limits.max_bytes)
        )
        decode(data, limits)
    finally:
        inline.unlink(missing_ok=True)
    name = f"{frame.frame_id}.{image_suffix(data)}"
    (folder / name).write_bytes(data)
    return name
