"""Waiting for something outside to come back."""

from __future__ import annotations

import pytest

from services.core.errors import UnavailableError
from services.runtime.dependency import Dependency
from services.runtime.lifecycle import Health
from services.runtime.retry import Backoff

GONE = UnavailableError("it must answer, it does not")


class Clock:
    now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health() -> Health:
    health = Health()
    health.set_ready(True)
    return health


@pytest.fixture
def dependency(health: Health, clock: Clock) -> Dependency[str]:
    return Dependency("triton", health, clock=clock, backoff=Backoff(first_s=1.0, cap_s=1.0))


def test_one_item_at_a_time_is_tried_after_a_pause(dependency: Dependency[str], clock: Clock) -> None:
    for item in "abc":
        dependency.failed(item, GONE)
    assert dependency.next_try() is None, "not before the pause is over"
    clock.now_s += 1.0

    assert dependency.next_try() == "a"
    assert dependency.next_try() is None, "one try at a time"

    dependency.failed("a", GONE)
    assert dependency.next_try() is None
    clock.now_s += 1.0
    assert dependency.next_try() == "b"
    assert len(dependency) == 2


def test_an_answer_gives_everything_back(dependency: Dependency[str], clock: Clock, health: Health) -> None:
    dependency.failed("a", GONE)
    dependency.failed("b", GONE)
    assert dependency.away
    assert not health.ready
    clock.now_s += 1.0
    assert dependency.next_try() == "a"

    assert dependency.answered() == ["b"]

    assert not dependency.away
    assert health.ready
    assert dependency.answered() == []


def test_what_was_under_way_when_it_went_does_not_move_the_next_try(dependency: Dependency[str], clock: Clock) -> None:
    dependency.failed("a", GONE)
    due_s = dependency.retry_at_s()
    clock.now_s += 0.4
    dependency.failed("b", GONE)
    assert dependency.retry_at_s() == due_s


def test_with_nothing_left_to_try_new_work_may_come(dependency: Dependency[str], health: Health) -> None:
    dependency.failed("a", GONE)
    dependency.drop(lambda _item: True)
    assert not dependency.away
    assert health.ready


def test_a_try_that_told_nothing_is_followed_by_another(dependency: Dependency[str], clock: Clock) -> None:
    dependency.failed("a", GONE)
    dependency.failed("b", GONE)
    clock.now_s += 1.0
    assert dependency.next_try() == "a"
    dependency.inconclusive()
    assert dependency.next_try() == "b"
    dependency.inconclusive()
    assert not dependency.away


def test_each_change_is_told(health: Health, clock: Clock) -> None:
    told: list[bool] = []
    dependency: Dependency[str] = Dependency("store", health, on_change=told.append, clock=clock)
    dependency.failed("a", GONE)
    dependency.failed("b", GONE)
    dependency.answered()
    assert told == [False, True]
