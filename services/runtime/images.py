"""Images of frames and cases: fetched by reference and checked, or put where their expiry finds them."""

from __future__ import annotations

import datetime
import hashlib
import threading

from services.adapters.codec import decode_frame
from services.adapters.ports import ObjectStore, RecordFetcher
from services.core import topics
from services.core.errors import ImageError, NotFoundError, SightlineError
from services.core.imaging import probe
from services.core.types import ImageRef, Inspection

_SUFFIX = {"jpeg": "jpg", "tiff": "tif"}


def fetch_image(store: ObjectStore, ref: ImageRef | None, *, max_bytes: int) -> bytes:
    """Read an image from where its reference says.

    Args:
        store: Its bucket must be the reference's.
        ref: Where it lies.
        max_bytes: Largest encoded image that is read.

    Raises:
        ImageError: When there is no reference, it points into another bucket, or other bytes lie there.
        NotFoundError: When nothing lies there.
        UnavailableError: When the store does not answer.
    """
    if ref is None:
        raise ImageError("a frame must have an image or a reference to one, got none")
    if ref.bucket != store.bucket:
        raise ImageError(f"an image must lie in the bucket {store.bucket}, got {ref.bucket}")
    data = store.get(ref.key, max_bytes=max_bytes)
    if hashlib.sha256(data).hexdigest() != ref.sha256:
        raise ImageError(f"an image must have its reference's digest {ref.sha256}, got other bytes at {ref.key}")
    return data


class FramePictures:
    """Reads the pictures of frames by what their verdicts say of where they lie. Thread-safe.

    Args:
        store: Pictures by reference.
        fetcher: Reads frames whose pictures lie inline; used by one thread at a time.
        max_bytes: Largest encoded image that is read.
        timeout_s: Longest time for one record.
    """

    def __init__(self, store: ObjectStore, fetcher: RecordFetcher, *, max_bytes: int, timeout_s: float) -> None:
        self._store = store
        self._fetcher = fetcher
        self._turn = threading.Lock()
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s

    def picture_of(self, inspection: Inspection) -> bytes:
        """Read the picture that a verdict is about.

        Raises:
            NotFoundError: When it is gone, or the verdict does not say where it lies.
            InvalidInputError: When other bytes lie there.
            UnavailableError: When the object store or the broker does not answer.
        """
        place = inspection.position
        if inspection.image_ref is not None:
            return fetch_image(self._store, inspection.image_ref, max_bytes=self._max_bytes)
        if place is None or place.topic != topics.FRAMES:
            got = "nothing" if place is None else place.topic
            raise NotFoundError(f"a verdict must say where in {topics.FRAMES} its picture lies, got {got}")
        with self._turn:
            record = self._fetcher.fetch(place, self._timeout_s)
        frame = decode_frame(record.value)
        # After a topic was made anew, an old place holds another frame.
        if frame.frame_id != inspection.frame_id:
            raise NotFoundError(f"the record at {place} must be frame {inspection.frame_id}, got {frame.frame_id}")
        if frame.image is not None:
            return frame.image
        return fetch_image(self._store, frame.image_ref, max_bytes=self._max_bytes)


def case_image_key(line_id: str, camera_id: str, frame_id: str, suffix: str, now_ns: int) -> str:
    """Where a case's image goes: by hour of the upload, so that expiry deletes whole hours and nothing is born expired.

    Args:
        line_id: The frame's line.
        camera_id: Its camera.
        frame_id: The frame.
        suffix: Of the image's format, without a dot.
        now_ns: When it is uploaded, nanoseconds since the epoch.
    """
    at = datetime.datetime.fromtimestamp(now_ns / 1e9, tz=datetime.UTC)
    return f"cases/{line_id}/{camera_id}/{at:%Y%m%d}/{at:%H}/{frame_id}.{suffix}"


def image_suffix(image: bytes) -> str:
    """Suffix of an encoded image's file, without a dot; ``bin`` for what is no image."""
    try:
        name = probe(image).format.lower()
    except SightlineError:
        return "bin"
    return _SUFFIX.get(name, name)
