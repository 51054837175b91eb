"""Children on one machine: they start, tell of their death, and never outlive their parent."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from services.core.errors import UnavailableError
from services.local.process import ChildProcess, accepts_connections, free_port, port_is_free, tail, wait_for_port

SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
DEAF = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)",
]


def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> bool:
    end_s = time.monotonic() + timeout_s
    while time.monotonic() < end_s:
        if condition():
            return True
        time.sleep(0.02)
    return False


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_child_is_stopped_by_asking_first(tmp_path: Path) -> None:
    child = ChildProcess("sleeper", SLEEPER, log_path=tmp_path / "log")
    child.start()
    assert child.alive
    assert child.stop(5) is True
    assert child.returncode == -signal.SIGTERM


def test_a_child_that_does_not_listen_is_killed_after_its_time(tmp_path: Path) -> None:
    child = ChildProcess("deaf", DEAF, log_path=tmp_path / "log")
    child.start()
    assert until(lambda: "up" in child.log_tail())
    assert child.stop(0.2) is False
    assert child.returncode == -signal.SIGKILL


def test_stopping_twice_and_before_the_start_does_nothing(tmp_path: Path) -> None:
    child = ChildProcess("sleeper", SLEEPER, log_path=tmp_path / "log")
    assert child.stop(1) is True
    child.start()
    child.stop(5)
    child.stop(5)
    assert not child.alive


def test_a_program_that_does_not_exist_ends_at_once_and_not_with_success(tmp_path: Path) -> None:
    child = ChildProcess("nothing", ["/nowhere/at/all"], log_path=tmp_path / "log")
    # Where setpriv stands before it, setpriv starts and tells by its exit code that there is no such program.
    with contextlib.suppress(UnavailableError):
        child.start()
    assert child.wait(5)
    assert child.returncode != 0


def test_a_child_started_from_a_thread_outlives_that_thread(tmp_path: Path) -> None:
    child = ChildProcess("sleeper", SLEEPER, log_path=tmp_path / "log")
    thread = threading.Thread(target=child.start)
    thread.start()
    thread.join()
    assert until(lambda: "up" in child.log_tail())
    assert not child.wait(0.3)
    child.kill()


def test_children_die_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = f"""
import time
from pathlib import Path
from services.local.process import ChildProcess
child = ChildProcess("sleeper", {SLEEPER!r}, log_path=Path({str(tmp_path / "log")!r}))
child.start()
print(child.pid, flush=True)
time.sleep(600)
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert until(lambda: "up" in tail(tmp_path / "log"))
    parent.kill()
    parent.wait(5)
    parent.stdout.close()
    assert until(lambda: not is_running(pid))


def test_killing_a_child_takes_what_it_started_along(tmp_path: Path) -> None:
    script = f"import subprocess, time; p = subprocess.Popen({SLEEPER!r}); print(p.pid, flush=True); time.sleep(600)"
    child = ChildProcess("family", [sys.executable, "-c", script], log_path=tmp_path / "log")
    child.start()
    assert until(lambda: bool(child.log_tail()) and "up" in child.log_tail())
    grandchild = next(int(line) for line in child.log_tail().splitlines() if line.isdigit())
    child.kill()
    assert until(lambda: not is_running(grandchild))


def test_waiting_for_a_port_tells_why_the_child_ended(tmp_path: Path) -> None:
    child = ChildProcess("failing", [sys.executable, "-c", "print('no such disk'); exit(3)"], log_path=tmp_path / "log")
    child.start()
    with pytest.raises(UnavailableError, match=r"failing must keep running, it ended \(3\):\nno such disk"):
        wait_for_port(child, free_port(), 10)


def test_waiting_for_a_port_ends_at_its_deadline(tmp_path: Path) -> None:
    child = ChildProcess("sleeper", SLEEPER, log_path=tmp_path / "log")
    child.start()
    with pytest.raises(UnavailableError, match="must listen on port"):
        wait_for_port(child, free_port(), 0.1)
    child.kill()


def test_a_free_port_is_free_and_a_taken_one_is_not() -> None:
    import socket

    port = free_port()
    assert port_is_free(port)
    with socket.socket() as server:
        server.bind(("127.0.0.1", port))
        server.listen()
        assert not port_is_free(port)
        assert accepts_connections(port)
    assert not accepts_connections(port)


def test_a_port_that_was_handed_out_is_nobody_elses_also_while_nobody_listens_on_it() -> None:
    ports = {free_port() for _ in range(60)}
    assert len(ports) == 60
    asked = (
        "import random\n"
        "from services.local import process\n"
        f"wanted = iter({sorted(ports)} + [31_999, 31_998, 31_997, 31_996])\n"
        "random.randint = lambda *_: next(wanted)\n"
        "print(process.free_port())"
    )
    other = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert int(other.stdout) not in ports


def test_a_port_is_free_again_for_others_when_its_process_ended() -> None:
    ask = "from services.local.process import free_port; print(free_port())"
    port = int(subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True).stdout)
    from services.local.process import _reservations

    assert _reservations.take(port)
    assert not _reservations.take(port)


def test_the_tail_of_a_long_log_is_its_last_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("".join(f"line {number}\n" for number in range(10_000)))
    assert tail(path, 3) == "line 9997\nline 9998\nline 9999"
    assert tail(tmp_path / "missing") == ""
