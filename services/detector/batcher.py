"""Gathers prepared frames into requests: one deployment each, bounded in size and in waiting."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from services.detector.job import Deployment, Job


@dataclass(slots=True, eq=False)
class Batch:
    """Frames that are asked about together; their rows lie one after the other."""

    deployment: Deployment
    jobs: list[Job]
    rows: int
    attempts: int = 0
    sent_at_s: float = 0.0
    outstanding: int = 0
    """Requests not yet answered; more than one where a frame's tiles exceed one request."""
    error: BaseException | None = None

    def tensor(self) -> NDArray[np.uint8]:
        """All rows, ``uint8``, shape ``(rows, H, W, 3)``."""
        parts = [job.rows for job in self.jobs if job.rows is not None]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


@dataclass(slots=True, eq=False)
class _Lane:
    jobs: deque[Job] = field(default_factory=deque)
    rows: int = 0


class Batcher:
    """Queues of prepared frames, one per deployment.

    A batch never mixes deployments, so a change of version happens between two batches. The oldest frame decides
    which queue goes first, so no product starves another.

    Args:
        max_rows: Most rows of one batch; a single frame with more tiles than that is a batch of its own.
        max_wait_s: Longest time that a frame waits for company.
    """

    def __init__(self, max_rows: int, max_wait_s: float) -> None:
        self._max_rows = max_rows
        self._max_wait_s = max_wait_s
        self._lanes: dict[tuple[str, int], _Lane] = {}

    def __len__(self) -> int:
        return sum(len(lane.jobs) for lane in self._lanes.values())

    def add(self, job: Job, now_s: float) -> None:
        """Queue a prepared frame; its deployment and rows are set."""
        if job.deployment is None or job.rows is None:
            raise ValueError(f"a job must be prepared before it is queued, got {job.frame.frame_id} without rows")
        lane = self._lanes.setdefault((job.deployment.alias, job.deployment.version), _Lane())
        job.waiting_since_s = now_s
        if job.answer is not None:
            # Somebody waits in a call: before the stream's frames.
            lane.jobs.appendleft(job)
        else:
            lane.jobs.append(job)
        lane.rows += len(job.rows)

    def pop(self, now_s: float, *, at_once: bool = False) -> Batch | None:
        """Take the next batch that is full or has waited long enough.

        Args:
            now_s: Monotonic time.
            at_once: Do not wait for company.

        Returns:
            None where no batch is due.
        """
        due = [
            lane
            for lane in self._lanes.values()
            if lane.jobs and (at_once or lane.rows >= self._max_rows or now_s >= self._due(lane))
        ]
        if not due:
            return None
        lane = min(due, key=lambda item: item.jobs[0].waiting_since_s)
        first = lane.jobs[0]
        jobs: list[Job] = []
        rows = 0
        while lane.jobs:
            size = len(lane.jobs[0].rows) if lane.jobs[0].rows is not None else 0
            if jobs and rows + size > self._max_rows:
                break
            jobs.append(lane.jobs.popleft())
            rows += size
        lane.rows -= rows
        if not lane.jobs and first.deployment is not None:
            # Versions come and go; their empty queues go with them.
            del self._lanes[first.deployment.alias, first.deployment.version]
        if first.deployment is None:
            raise ValueError("a queued job must have a deployment, got none")
        return Batch(first.deployment, jobs, rows)

    def next_due_s(self) -> float | None:
        """When the next batch will have waited long enough, monotonic; None where nothing waits."""
        return min((self._due(lane) for lane in self._lanes.values() if lane.jobs), default=None)

    def _due(self, lane: _Lane) -> float:
        return lane.jobs[0].waiting_since_s + self._max_wait_s
