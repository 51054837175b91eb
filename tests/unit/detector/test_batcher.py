"""Gathering frames into requests."""

from __future__ import annotations

from concurrent.futures import Future

import numpy as np
import pytest

from services.core.preprocessing import Preprocessing
from services.core.types import OperatingPoint
from services.detector.batcher import Batcher
from services.detector.job import Deployment, Job
from tests.support.detector_line import make_frame

SHAPE = Preprocessing(height_px=8, width_px=8)


def deployment(version: int, alias: str = "default") -> Deployment:
    return Deployment(alias, version, SHAPE, OperatingPoint(0.5, 0.5, 0.5))


def job(number: int, version: int = 1, rows: int = 1, *, alias: str = "default", called: bool = False) -> Job:
    made = Job(make_frame(number, b"x"), alias, 0, answer=Future() if called else None)
    made.deployment = deployment(version, alias)
    made.rows = np.full((rows, 8, 8, 3), number, np.uint8)
    return made


def sequences(batch: object) -> list[int]:
    return [item.frame.sequence - 1 for item in batch.jobs]  # type: ignore[attr-defined]


@pytest.fixture
def batcher() -> Batcher:
    return Batcher(max_rows=4, max_wait_s=0.1)


def test_a_full_batch_goes_at_once_and_the_rest_waits(batcher: Batcher) -> None:
    for number in range(5):
        batcher.add(job(number), now_s=10.0)
    batch = batcher.pop(10.0)
    assert batch is not None
    assert sequences(batch) == [0, 1, 2, 3]
    assert batch.tensor()[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert batcher.pop(10.0) is None
    assert len(batcher) == 1


def test_a_frame_waits_for_company_no_longer_than_it_may(batcher: Batcher) -> None:
    batcher.add(job(0), now_s=10.0)
    batcher.add(job(1), now_s=10.05)
    assert batcher.next_due_s() == pytest.approx(10.1)
    assert batcher.pop(10.09) is None
    batch = batcher.pop(10.1)
    assert batch is not None
    assert sequences(batch) == [0, 1]
    assert batcher.next_due_s() is None


def test_a_batch_never_mixes_versions_or_aliases(batcher: Batcher) -> None:
    for number, (version, alias) in enumerate([(1, "a"), (2, "a"), (1, "b"), (1, "a")]):
        batcher.add(job(number, version, alias=alias), now_s=number)
    found = []
    while (batch := batcher.pop(100.0)) is not None:
        assert {item.deployment for item in batch.jobs} == {batch.deployment}
        found.append(sequences(batch))
    assert found == [[0, 3], [1], [2]], "the longest waiting goes first"


def test_tiles_of_a_frame_stay_together(batcher: Batcher) -> None:
    for number, rows in enumerate((3, 3, 1, 9)):
        batcher.add(job(number, rows=rows), now_s=10.0)
    found = []
    while (batch := batcher.pop(20.0)) is not None:
        found.append((sequences(batch), batch.rows))
    assert found == [([0], 3), ([1, 2], 4), ([3], 9)]


def test_a_caller_goes_before_the_stream(batcher: Batcher) -> None:
    batcher.add(job(0), now_s=10.0)
    batcher.add(job(1, called=True), now_s=10.0)
    batch = batcher.pop(11.0)
    assert batch is not None
    assert sequences(batch) == [1, 0]


def test_a_job_that_is_not_prepared_is_refused(batcher: Batcher) -> None:
    with pytest.raises(ValueError, match="must be prepared"):
        batcher.add(Job(make_frame(0, b"x"), "default", 0), now_s=0.0)
