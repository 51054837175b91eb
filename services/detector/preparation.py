"""Threads that fetch, decode and prepare images; OpenCV lets go of the interpreter lock while it works."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from services.adapters.ports import ObjectStore
from services.core.errors import ImageError, SightlineError
from services.core.imaging import ImageLimits, decode
from services.core.preprocessing import Preprocessing, prepare
from services.core.types import ImageRef
from services.detector.job import Job
from services.runtime.images import case_image_key, fetch_image, image_suffix


class Preparer:
    """A few threads that do the parts of a frame's work that wait or compute.

    Args:
        store: Where images by reference lie and large cases' images go.
        limits: What is refused before it is decoded.
        threads: How many.
        deliver: Takes each job back, with the error if there was one. Called on the preparer's threads.
    """

    def __init__(
        self,
        store: ObjectStore,
        limits: ImageLimits,
        *,
        threads: int,
        deliver: Callable[[Job, BaseException | None], None],
    ) -> None:
        self._store = store
        self._limits = limits
        self._deliver = deliver
        self._tasks: queue.SimpleQueue[tuple[Callable[[Job], None], Job] | None] = queue.SimpleQueue()
        # One image is prepared by one thread; OpenCV's own pool would fight with the others for the cores.
        cv2.setNumThreads(1)
        self._threads = [
            threading.Thread(target=self._run, name=f"prepare-{number}", daemon=True) for number in range(threads)
        ]

    def start(self) -> None:
        """Begin to work."""
        for thread in self._threads:
            thread.start()

    def prepare(self, job: Job) -> None:
        """Fetch and decode the job's image and turn it into its deployment's input; delivered with ``rows`` set."""
        self._tasks.put((self._prepare, job))

    def put_case_image(self, job: Job) -> None:
        """Put the job's inline image into the object store; delivered with ``case_ref`` set."""
        self._tasks.put((self._put_case_image, job))

    def close(self) -> None:
        """Stop the threads after what is queued; idempotent."""
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout=5)

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            work, job = task
            try:
                work(job)
            except SightlineError as error:
                self._deliver(job, error)
            except Exception as error:  # noqa: BLE001 - carried to the thread that ends the service
                self._deliver(job, error)
            else:
                self._deliver(job, None)

    def _prepare(self, job: Job) -> None:
        if job.deployment is None:
            raise ValueError(f"a job must have a deployment to be prepared for, got none for {job.frame.frame_id}")
        if job.abandoned:
            return
        image = job.frame.image
        if image is None:
            image = self._fetch(job)
        started_s = time.perf_counter()
        job.rows = rows_of(image, self._limits, job.deployment.preprocessing)
        job.decode_ms = (time.perf_counter() - started_s) * 1e3

    def _fetch(self, job: Job) -> bytes:
        started_s = time.perf_counter()
        data = fetch_image(self._store, job.frame.image_ref, max_bytes=self._limits.max_bytes)
        job.fetch_ms = (time.perf_counter() - started_s) * 1e3
        return data

    def _put_case_image(self, job: Job) -> None:
        image = job.frame.image
        if image is None:
            raise ValueError(f"only an inline image is put into the store, got {job.frame.frame_id} without one")
        frame = job.frame
        key = case_image_key(frame.line_id, frame.camera_id, frame.frame_id, image_suffix(image), job.taken_at_ns)
        ref = self._store.put(key, image)
        job.case_ref = ImageRef(ref.bucket, ref.key, ref.size_bytes, ref.sha256)


def rows_of(image: bytes, limits: ImageLimits, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Decode an image and turn it into a model's input.

    Args:
        image: Encoded.
        limits: What is refused before it is decoded.
        preprocessing: The model version's.

    Returns:
        Tiles, ``uint8``, shape ``(T, H, W, 3)``.

    Raises:
        ImageError: For an image that cannot be used.
    """
    try:
        return prepare(decode(image, limits), preprocessing)
    except (cv2.error, ValueError, MemoryError) as error:
        # An image that breaks the code must not come again after a restart, and again: its part is for review.
        raise ImageError(f"an image must be preparable, got {type(error).__name__}: {error}") from error
