"""Runs of an experiment in several processes, on as many cores or on one GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from typing import Any, TypeVar

from services.core.errors import InvalidInputError

Common = TypeVar("Common")
Task = TypeVar("Task")
Result = TypeVar("Result")

_WORK: list[tuple[Callable[[Any, Any], Any], Any]] = []
"""Of a process of the pool: what is run, and what all its runs are given."""


def run_side_by_side(
    run: Callable[[Common, Task], Result],
    common: Common,
    tasks: Sequence[Task],
    processes: int,
    on_result: Callable[[Result], object],
) -> None:
    """Run tasks in processes of their own; each process takes the next task as soon as it is free.

    Args:
        run: What is done in the process; a function of a module.
        common: Given to each process once.
        tasks: In the order in which they begin. Not more than two for each process are begun or wait in it, so that an
            interrupt loses little.
        processes: How many at most, ``>= 1``.
        on_result: Given each result here, as soon as it is there; in no order. What it raises ends everything.

    Raises:
        InvalidInputError: If ``processes`` is below 1.
        BrokenExecutor: If a process is killed.
        Exception: What ``run`` raises, of the first task that does.
    """
    if processes < 1:
        raise InvalidInputError(f"processes must be >= 1, got {processes}")
    if not tasks:
        return
    pool = ProcessPoolExecutor(
        min(processes, len(tasks)),
        # A process that was forked cannot use a GPU.
        mp_context=get_context("spawn"),
        initializer=_begin,
        initargs=(run, common),
    )
    left = list(reversed(tasks))
    running: set[Future[Result]] = set()
    try:
        while left or running:
            while left and len(running) < 2 * processes:
                running.add(pool.submit(_run, left.pop()))
            ended, running = wait(running, return_when=FIRST_COMPLETED)
            for one in ended:
                on_result(one.result())
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(run: Callable[[Any, Any], Any], common: object) -> None:
    _WORK[:] = [(run, common)]


def _run(task: object) -> Any:
    ((run, common),) = _WORK
    return run(common, task)
