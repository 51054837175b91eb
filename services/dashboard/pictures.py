"""Pictures on demand, by the place that each verdict carries, as something a browser can show.

A picture never changes under its frame's id, so browsers may keep it for good. Originals that a browser shows itself
go out untouched; everything else (16-bit, TIFF, BMP, very large) is converted. Thumbnails are kept in memory up to a
bound, and several browsers asking for one picture cause one fetch.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Lock

from services.adapters.codec import decode_frame
from services.adapters.ports import ObjectStore, RecordFetcher
from services.core import imaging, topics
from services.core.errors import ImageError, NotFoundError
from services.core.imaging import ImageLimits
from services.core.types import ImageRef, Inspection, RecordPosition
from services.dashboard.settings import PictureSettings
from services.runtime.images import fetch_image

THUMBNAIL_SIDES_PX = (160, 320, 640)
"""The sizes that are made; a bounded set keeps the cache useful."""

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
"""What every PNG begins with."""

_THUMBNAIL_QUALITY = 82


@dataclass(frozen=True, slots=True)
class Picture:
    """An encoded picture that a browser can show."""

    data: bytes
    content_type: str


class ByteCache:
    """Least recently used pictures, bounded by their bytes. Thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = Lock()
        self._entries: OrderedDict[tuple[str, int], Picture] = OrderedDict()
        self.size_bytes = 0

    def get(self, key: tuple[str, int]) -> Picture | None:
        """The picture, which thereby becomes the most recently used one."""
        with self._lock:
            picture = self._entries.get(key)
            if picture is not None:
                self._entries.move_to_end(key)
            return picture

    def put(self, key: tuple[str, int], picture: Picture) -> None:
        """Keep a picture, and let the least recently used ones go; one over the whole bound is not kept."""
        if len(picture.data) > self._max_bytes:
            return
        with self._lock:
            replaced = self._entries.pop(key, None)
            if replaced is not None:
                self.size_bytes -= len(replaced.data)
            self._entries[key] = picture
            self.size_bytes += len(picture.data)
            while self.size_bytes > self._max_bytes:
                _, gone = self._entries.popitem(last=False)
                self.size_bytes -= len(gone.data)


class Pictures:
    """Fetches, converts and caches. Every method may wait for Kafka or the object store; thread-safe."""

    def __init__(
        self, store: ObjectStore, fetcher: RecordFetcher, limits: ImageLimits, settings: PictureSettings
    ) -> None:
        self._store = store
        self._fetcher = fetcher
        # A record fetcher is used by one thread at a time.
        self._fetcher_lock = Lock()
        self._limits = limits
        self._settings = settings
        self._cache = ByteCache(settings.cache_bytes)
        self._flight_lock = Lock()
        self._in_flight: dict[tuple[str, int], Future[Picture]] = {}

    def full(self, inspection: Inspection) -> Picture:
        """The picture itself.

        Args:
            inspection: Says where it lies.

        Returns:
            The original bytes where a browser shows them, else a JPEG of at most ``max_side_px``.

        Raises:
            NotFoundError: It has expired, or was never kept.
            UnavailableError: The object store or the broker does not answer.
            ImageError: The bytes are not a usable image.
        """
        return self._full(inspection.frame_id, lambda: self._fetch(inspection))

    def full_of_case(self, ref: ImageRef) -> Picture:
        """The picture of a case, as :meth:`full` gives that of a frame.

        Args:
            ref: Where it lies in the record; its digest is checked.

        Raises:
            NotFoundError: It is not there.
            UnavailableError: The object store does not answer.
            ImageError: The bytes are not a usable image, or not those that the reference names.
        """
        return self._full(ref.sha256, lambda: self._fetch_checked(ref))

    def original(self, inspection: Inspection) -> bytes:
        """The encoded picture as the camera's side sent it.

        Raises:
            NotFoundError: It has expired, or was never kept.
            UnavailableError: The object store or the broker does not answer.
        """
        return self._fetch(inspection)

    def thumbnail(self, inspection: Inspection, side_px: int) -> Picture:
        """The picture as a JPEG within a square.

        Args:
            inspection: Says where it lies.
            side_px: One of ``THUMBNAIL_SIDES_PX``.

        Raises:
            ValueError: Another size.
            NotFoundError: It has expired, or was never kept.
            UnavailableError: The object store or the broker does not answer.
            ImageError: The bytes are not a usable image.
        """
        return self._thumbnail((inspection.frame_id, side_px), lambda: self._fetch(inspection))

    def thumbnail_of_case(self, ref: ImageRef, side_px: int) -> Picture:
        """The picture of a case as a JPEG within a square; raises as :meth:`thumbnail` and :meth:`full_of_case`."""
        return self._thumbnail((ref.sha256, side_px), lambda: self._fetch_checked(ref))

    def mask(self, ref: ImageRef) -> Picture:
        """A mask that somebody drew, untouched.

        Args:
            ref: Where it lies in the record; its digest is checked.

        Raises:
            NotFoundError: It is not there.
            UnavailableError: The object store does not answer.
            ImageError: The bytes are no PNG, or not those that the reference names.
        """
        data = self._fetch_checked(ref)
        if not data.startswith(PNG_SIGNATURE):
            raise ImageError(f"a mask must be a PNG, got other bytes at {ref.key}")
        return Picture(data, "image/png")

    def _full(self, name: str, fetch: Callable[[], bytes]) -> Picture:
        return self._once((name, 0), lambda: self._showable(fetch()))

    def _thumbnail(self, key: tuple[str, int], fetch: Callable[[], bytes]) -> Picture:
        if key[1] not in THUMBNAIL_SIDES_PX:
            raise ValueError(f"side_px must be one of {THUMBNAIL_SIDES_PX}, got {key[1]}")
        return self._cache.get(key) or self._once(key, lambda: self._shrink(fetch(), key))

    def _once(self, key: tuple[str, int], make: Callable[[], Picture]) -> Picture:
        """Let the first asker work and the others wait for its result."""
        with self._flight_lock:
            future = self._in_flight.get(key)
            mine = future is None
            if future is None:
                future = self._in_flight[key] = Future()
        if not mine:
            return future.result(timeout=self._settings.timeout_s * 4)
        try:
            picture = make()
        except BaseException as error:
            future.set_exception(error)
            raise
        else:
            future.set_result(picture)
            return picture
        finally:
            with self._flight_lock:
                del self._in_flight[key]

    def _shrink(self, data: bytes, key: tuple[str, int]) -> Picture:
        image = imaging.decode(data, self._limits)
        small = imaging.thumbnail(image, key[1])
        picture = Picture(imaging.encode_jpeg(small, _THUMBNAIL_QUALITY), "image/jpeg")
        self._cache.put(key, picture)
        return picture

    def _showable(self, data: bytes) -> Picture:
        header = imaging.probe(data)
        fits = max(header.width_px, header.height_px) <= self._settings.max_side_px
        # By the bytes' own signature, not by any name: what goes out untouched is what the type says.
        if fits and header.bit_depth == 8 and data.startswith(b"\xff\xd8\xff"):
            return Picture(data, "image/jpeg")
        if fits and header.bit_depth == 8 and data.startswith(PNG_SIGNATURE):
            return Picture(data, "image/png")
        image = imaging.thumbnail(imaging.decode(data, self._limits), self._settings.max_side_px)
        return Picture(imaging.encode_jpeg(image, self._settings.jpeg_quality), "image/jpeg")

    def _fetch(self, inspection: Inspection) -> bytes:
        if inspection.image_ref is not None:
            return self._from_store(inspection.image_ref)
        if inspection.position is not None:
            return self._from_record(inspection.position, inspection.frame_id)
        raise NotFoundError(f"the verdict on {inspection.frame_id} must say where its picture is, got nothing")

    def _from_store(self, ref: ImageRef) -> bytes:
        if ref.bucket != self._store.bucket:
            raise NotFoundError(f"pictures must lie in the bucket {self._store.bucket}, got {ref.bucket!r}")
        return self._store.get(ref.key, max_bytes=self._limits.max_bytes)

    def _fetch_checked(self, ref: ImageRef) -> bytes:
        return fetch_image(self._store, ref, max_bytes=self._limits.max_bytes)

    def _from_record(self, position: RecordPosition, frame_id: str) -> bytes:
        if position.topic != topics.FRAMES:
            raise NotFoundError(f"inline pictures must lie in {topics.FRAMES}, got {position.topic!r}")
        with self._fetcher_lock:
            record = self._fetcher.fetch(position, self._settings.timeout_s)
        frame = decode_frame(record.value)
        # After a topic was made anew, an old place holds another frame.
        if frame.frame_id != frame_id:
            raise NotFoundError(f"the record at {position} must be frame {frame_id}, got {frame.frame_id}")
        if frame.image is not None:
            return frame.image
        if frame.image_ref is not None:
            return self._from_store(frame.image_ref)
        raise NotFoundError(f"frame {frame_id} must carry a picture, got none")
