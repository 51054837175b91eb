"""Expiry of frame images on one machine.

Images lie under ``frames/<line>/<camera>/<YYYYMMDD>/<HH>/``, so whole hours go at once and nothing but folder names has
to be read to know which. In production the bucket's own lifecycle rule does this; see docs/settings.md.
"""

from __future__ import annotations

import datetime
import logging
import threading
from collections.abc import Callable, Iterator

import urllib3
from minio import Minio
from minio.deleteobjects import DeleteObject
from minio.error import MinioException

from services.core.errors import UnavailableError

LOG = logging.getLogger(__name__)

_PREFIX = "frames/"
_FAILURES = (MinioException, urllib3.exceptions.HTTPError, OSError)


def expired_hours(client: Minio, bucket: str, before: datetime.datetime) -> Iterator[str]:
    """Prefixes of the hours that ended before a time.

    Folders that do not look like ours are left alone.

    Args:
        client: Of the object store.
        bucket: Where the images are.
        before: With a time zone; hours that ended by then are given.
    """
    for line in _folders(client, bucket, _PREFIX):
        for camera in _folders(client, bucket, line):
            for day in _folders(client, bucket, camera):
                for hour in _folders(client, bucket, day):
                    end = _end_of(hour)
                    if end is not None and end <= before:
                        yield hour


def _folders(client: Minio, bucket: str, prefix: str) -> list[str]:
    found = client.list_objects(bucket, prefix=prefix, recursive=False)
    return [str(item.object_name) for item in found if item.is_dir]


def _end_of(hour_prefix: str) -> datetime.datetime | None:
    parts = hour_prefix.rstrip("/").split("/")
    try:
        start = datetime.datetime.strptime(f"{parts[-2]}{parts[-1]}+0000", "%Y%m%d%H%z")
    except (ValueError, IndexError):
        return None
    return start + datetime.timedelta(hours=1)


def sweep(client: Minio, bucket: str, *, keep_hours: float, now: datetime.datetime) -> int:
    """Delete the images of hours that ended more than ``keep_hours`` ago.

    Args:
        client: Of the object store.
        bucket: Where the images are.
        keep_hours: How long an hour's images are kept after its end.
        now: With a time zone.

    Returns:
        Images deleted.

    Raises:
        UnavailableError: When the store does not answer, or refuses.
    """
    deleted = 0
    try:
        for hour in expired_hours(client, bucket, now - datetime.timedelta(hours=keep_hours)):
            # Every version: what a versioned bucket only hides would fill the disk all the same.
            found = list(client.list_objects(bucket, prefix=hour, recursive=True, include_version=True))
            gone = [DeleteObject(str(item.object_name), item.version_id) for item in found]
            failures = list(client.remove_objects(bucket, gone))
            if failures:
                raise UnavailableError(f"images under {hour} must be deletable, the store says: {failures[0].message}")
            deleted += len({item.object_name for item in found})
    except _FAILURES as error:
        raise UnavailableError(f"the object store must answer to a sweep: {error}") from error
    return deleted


class Sweeper:
    """Sweeps now and then from a thread of its own.

    Args:
        client: Of the object store; used by this thread alone.
        bucket: Where the images are.
        keep_hours: How long an hour's images are kept after its end.
        interval_s: Time between two sweeps.
        reclaim: Gives the space of what was deleted back; called after each sweep.
        clock: The time, with a time zone.
    """

    def __init__(
        self,
        client: Minio,
        bucket: str,
        *,
        keep_hours: float,
        interval_s: float = 300.0,
        reclaim: Callable[[], None] = lambda: None,
        clock: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._keep_hours = keep_hours
        self._interval_s = interval_s
        self._reclaim = reclaim
        self._clock = clock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="retention", daemon=True)

    def start(self) -> None:
        """Begin to sweep."""
        self._thread.start()

    def stop(self) -> None:
        """End; idempotent."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            try:
                deleted = sweep(self._client, self._bucket, keep_hours=self._keep_hours, now=self._clock())
                # Each time: a store may go on deleting after it has said that it did.
                self._reclaim()
            except UnavailableError as error:
                LOG.warning("images were not swept, tried again in %.0f s: %s", self._interval_s, error)
                continue
            if deleted:
                LOG.info("deleted %d images older than %.1f h", deleted, self._keep_hours)
