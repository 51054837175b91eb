"""How many regions of shared memory a client keeps, and of what size."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services.adapters.sharedmemory import RegionPool

KIB = 1024
PREFIX = "sightline-test-"


@pytest.fixture
def pool() -> Iterator[RegionPool]:
    pool = RegionPool(PREFIX, max_regions=4, max_bytes=8 * 1024 * KIB)
    yield pool
    pool.close()


def test_a_larger_region_takes_the_place_of_an_idle_one_that_is_too_small(pool: RegionPool) -> None:
    for rows in range(1, 17):
        region = pool.take(rows * 64 * KIB)
        assert region is not None
        pool.give_back(region)

    assert len(pool.dropped) == 15
    assert pool.close() == [region.name]


def test_a_smaller_batch_goes_through_the_smallest_region_that_holds_it(pool: RegionPool) -> None:
    large, small = pool.take(1024 * KIB), pool.take(128 * KIB)
    assert large is not None
    assert small is not None
    pool.give_back(large)
    pool.give_back(small)

    assert pool.take(100 * KIB) is small
    assert pool.take(100 * KIB) is large
    assert pool.dropped == []


def test_regions_that_are_lent_are_never_dropped(pool: RegionPool) -> None:
    lent = [pool.take(64 * KIB) for _ in range(4)]
    assert all(lent)

    assert pool.take(64 * KIB) is None
    assert pool.dropped == []
