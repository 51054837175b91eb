from __future__ import annotations

import os

import pytest

from services.core.errors import InvalidInputError
from services.experiments.side_by_side import run_side_by_side


def power(base: int, exponent: int) -> tuple[int, int]:
    if exponent < 0:
        raise InvalidInputError(f"exponent must be >= 0, got {exponent}")
    return base**exponent, os.getpid()


def test_every_task_is_run_once_in_a_process_of_its_own() -> None:
    found: list[tuple[int, int]] = []
    run_side_by_side(power, 2, range(9), 2, found.append)
    assert sorted(value for value, _ in found) == [2**exponent for exponent in range(9)]
    assert os.getpid() not in {process for _, process in found}


def test_what_a_task_raises_ends_it_all() -> None:
    with pytest.raises(InvalidInputError, match="got -1"):
        run_side_by_side(power, 2, [1, -1, 2], 2, lambda _: None)


def test_without_a_task_nothing_is_started_and_without_a_process_it_is_refused() -> None:
    run_side_by_side(power, 2, [], 2, lambda _: None)
    with pytest.raises(InvalidInputError, match="got 0"):
        run_side_by_side(power, 2, [1], 0, lambda _: None)
