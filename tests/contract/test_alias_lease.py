"""One holder an alias, on the memory store and on a real S3 server; the clocks are the test's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from services.adapters.aliaslease import AliasLease
from services.adapters.memory import MemoryObjectStore
from services.adapters.objectstore import S3ObjectStore
from services.adapters.ports import ObjectStore
from services.core.errors import UnavailableError

TTL_S = 30.0


@dataclass
class Clock:
    """Seconds that pass when they are told to."""

    now_s: float = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture(params=["memory", pytest.param("s3", marks=pytest.mark.integration)])
def store(request: pytest.FixtureRequest) -> ObjectStore:
    if request.param == "memory":
        return MemoryObjectStore()
    return S3ObjectStore(request.getfixturevalue("object_store_connection"))


@pytest.fixture
def alias(unique: Callable[[str], str]) -> str:
    return unique("lease").lower()


def lease(store: ObjectStore, alias: str, clock: Clock) -> AliasLease:
    return AliasLease(store, alias, ttl_s=TTL_S, clock_s=clock)


def test_of_two_who_want_an_alias_one_has_it(store: ObjectStore, alias: str) -> None:
    first, second = lease(store, alias, Clock()), lease(store, alias, Clock(7.0))
    assert first.acquire()
    assert not second.acquire()
    assert first.renew()


def test_what_was_given_back_is_taken_at_once(store: ObjectStore, alias: str) -> None:
    first, second = lease(store, alias, Clock()), lease(store, alias, Clock())
    first.acquire()
    first.release()
    first.release()
    assert second.acquire()
    assert not first.renew()
    assert not first.acquire()


def test_a_holder_that_is_silent_loses_it_by_the_waiters_clock(store: ObjectStore, alias: str) -> None:
    clock = Clock()
    first, second = lease(store, alias, Clock()), lease(store, alias, clock)
    first.acquire()
    assert not second.acquire()
    clock.now_s += TTL_S - 1
    assert not second.acquire()
    clock.now_s += 2
    assert second.acquire()


def test_a_holder_that_renews_keeps_it(store: ObjectStore, alias: str) -> None:
    mine, clock = Clock(), Clock()
    first, second = lease(store, alias, mine), lease(store, alias, clock)
    first.acquire()
    for _ in range(4):
        mine.now_s += TTL_S / 2
        clock.now_s += TTL_S / 2
        assert first.renew()
        assert not second.acquire()


def test_a_holder_that_was_replaced_is_told_so_when_it_wakes(store: ObjectStore, alias: str) -> None:
    mine, clock = Clock(), Clock()
    first, second = lease(store, alias, mine), lease(store, alias, clock)
    first.acquire()
    second.acquire()
    clock.now_s += TTL_S + 1
    assert second.acquire()
    mine.now_s += TTL_S + 1
    assert not first.renew()
    assert second.renew()


def test_aliases_do_not_share_a_lease(store: ObjectStore, alias: str) -> None:
    assert lease(store, alias, Clock()).acquire()
    assert lease(store, f"{alias}-b", Clock()).acquire()


def test_old_leases_do_not_pile_up(store: ObjectStore, alias: str) -> None:
    for _ in range(5):
        one = lease(store, alias, Clock())
        assert one.acquire()
        one.release()
    assert len(list(store.list(f"training/leases/{alias}/"))) <= 2


def test_an_outage_of_the_store_costs_nobody_a_lease_that_nobody_else_took() -> None:
    store, mine = MemoryObjectStore(), Clock()
    first = lease(store, "default", mine)
    first.acquire()
    store.unavailable = True
    mine.now_s += 10 * TTL_S
    with pytest.raises(UnavailableError):
        first.renew()
    store.unavailable = False
    assert first.renew()
