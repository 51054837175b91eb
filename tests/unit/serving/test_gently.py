"""Work that steps back: it is done at a low priority, and leaves none behind."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from services.serving.backend.apart import run_apart
from services.serving.backend.gently import GENTLE_NICE, gently, import_gently


def own_nice() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_the_work_steps_back_and_who_waits_for_it_does_not() -> None:
    before = own_nice()
    seen: list[int] = []
    gently(lambda: seen.append(own_nice()))
    assert seen == [max(before, GENTLE_NICE)]
    assert own_nice() == before


def test_who_has_stepped_back_further_stays_there() -> None:
    # Without privileges nobody comes forward again: asking for it would be an error.
    within = (
        "import os\n"
        "from services.serving.backend.gently import gently\n"
        "os.nice(15)\n"
        "if os.getuid() == 0: os.setuid(65534)\n"
        "gently(lambda: print(os.getpriority(os.PRIO_PROCESS, 0) >= 15))"
    )
    done = subprocess.run([sys.executable, "-c", within], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "True", done.stderr


def test_what_the_work_raises_is_raised_to_who_waits() -> None:
    with pytest.raises(ZeroDivisionError):
        gently(lambda: 1 // 0)
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        import_gently("no_such_module")


def test_importing_torch_gently_leaves_no_thread_that_steps_back() -> None:
    told = (
        "import os, time\n"
        "from services.serving.backend.gently import import_gently\n"
        "import_gently('torch')\n"
        # The kernel takes a moment to let a thread go that has ended.
        "time.sleep(0.5)\n"
        "print({os.getpriority(os.PRIO_PROCESS, int(task)) for task in os.listdir('/proc/self/task')}"
        " == {os.getpriority(os.PRIO_PROCESS, 0)})"
    )
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True, env=one_thread)
    assert done.stdout.strip() == "True"


def test_a_process_apart_steps_back_too() -> None:
    within = f"import os, time; time.sleep(0.3); assert os.getpriority(os.PRIO_PROCESS, 0) >= {GENTLE_NICE}"
    assert run_apart("timeit", ["-n1", "-r1", within], 60) == ""
