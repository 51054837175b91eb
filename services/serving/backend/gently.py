"""Work of bringing a version up, done so that the versions that serve meanwhile do not feel it."""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Callable
from typing import Final

#: How far such work steps back; 0 to 19, and at 10 it gets a tenth of a core that is wanted.
GENTLE_NICE: Final = 10


def step_back(task: int) -> None:
    """Let a thread or a process step back; one that has stepped back further stays there.

    Args:
        task: Its id in the kernel.
    """
    now = os.getpriority(os.PRIO_PROCESS, task)
    os.setpriority(os.PRIO_PROCESS, task, max(now, GENTLE_NICE))


def gently(work: Callable[[], object]) -> None:
    """Do something in a thread that steps back, and wait for it.

    Priority belongs to the thread on Linux, is inherited by the threads that it starts, and cannot be taken back
    without privileges: so it is given to a thread that ends, and nothing may be done in it that starts threads which
    stay.

    Args:
        work: What to do; whatever it raises is raised here.
    """
    failures: list[BaseException] = []

    def run() -> None:
        step_back(threading.get_native_id())
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised by whoever waits
            failures.append(error)

    thread = threading.Thread(target=run, name="gently")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def import_gently(module: str) -> None:
    """Import a module with all that it needs: torch alone takes two seconds of a core.

    Args:
        module: Its name.

    Raises:
        ImportError: As the import raised it; any other error likewise.
    """
    gently(lambda: importlib.import_module(module))
