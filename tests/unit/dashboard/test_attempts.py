from __future__ import annotations

import pytest

from services.dashboard.attempts import Attempts, TooManyAttemptsError, address_key


class Clock:
    now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


def wait_of(attempts: Attempts, key: str = "ada") -> float:
    """The wait that the next attempt is told; 0 where it is let through."""
    try:
        attempts.begin(key)
    except TooManyAttemptsError as error:
        return error.wait_s
    return 0.0


def test_each_failure_beyond_the_free_ones_doubles_the_wait_up_to_a_bound() -> None:
    clock = Clock()
    attempts = Attempts(3, 8.0, clock_s=clock)
    waits = []
    for _ in range(9):
        wait_s = wait_of(attempts)
        waits.append(wait_s)
        if wait_s:
            clock.now_s += wait_s
            assert wait_of(attempts) == 0
    assert waits == [0, 0, 0, 1, 2, 4, 8, 8, 8]


def test_an_attempt_that_comes_too_early_does_not_make_the_wait_longer() -> None:
    clock = Clock()
    attempts = Attempts(1, 60.0, clock_s=clock)
    assert [wait_of(attempts) for _ in range(4)] == [0, 1, 1, 1]


def test_many_attempts_at_once_are_no_way_around() -> None:
    attempts = Attempts(5, 60.0, clock_s=Clock())
    assert sum(wait_of(attempts) == 0 for _ in range(100)) == 5


def test_success_forgets_and_one_key_says_nothing_of_another() -> None:
    attempts = Attempts(1, 60.0, clock_s=Clock())
    attempts.begin("ada")
    attempts.begin("bob")
    attempts.succeeded("ada")
    assert (wait_of(attempts, "ada"), wait_of(attempts, "bob")) == (0, 1)


def test_what_came_to_nothing_does_not_count() -> None:
    attempts = Attempts(1, 60.0, clock_s=Clock())
    for _ in range(5):
        attempts.begin("ada")
        attempts.take_back("ada")
    attempts.take_back("nobody")


def test_failures_are_forgotten_after_a_while() -> None:
    clock = Clock()
    attempts = Attempts(1, 60.0, forget_s=100, clock_s=clock)
    attempts.begin("ada")
    clock.now_s += 100
    assert wait_of(attempts) == 0
    assert wait_of(attempts) == 1


def test_memory_is_bounded() -> None:
    attempts = Attempts(1, 60.0, most_keys=10, clock_s=Clock())
    for number in range(1_000):
        attempts.begin(str(number))
    assert len(attempts._failures) == 10
    assert wait_of(attempts, "999") == 1


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("10.0.0.7", "10.0.0.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::"),
        ("::ffff:10.0.0.7", "::ffff:10.0.0.7"),
        ("testclient", "testclient"),
        ("x" * 1_000, "x" * 64),
    ],
)
def test_neighbours_in_one_ipv6_network_are_one(address: str, key: str) -> None:
    assert address_key(address).replace("::ffff:a00:7", "::ffff:10.0.0.7") == key
