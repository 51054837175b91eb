"""Child processes that do not outlive their parent, on ports that nobody else is likely to take."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import os
import queue
import random
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

from services.core.errors import UnavailableError

LOOPBACK = "127.0.0.1"

# Below the range from which Linux takes the ports of outgoing connections, so that a port that was free when we
# looked is not taken by somebody's client before our server binds it.
_FIRST_PORT = 15_000
_LAST_PORT = 32_000

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - not a temporary file


class _PortReservations:
    """Which ports were handed out on this machine and not used yet.

    A port is asked for long before its server binds it: a line hands out three dozen and starts ingest, the last,
    half a minute later. So a port stays its asker's until the asker's process ends. Other processes of this user see
    that by a lock on the byte of its number in a file that they share; the kernel lets go of the lock when a process
    dies. The file lies in memory, not in the temporary folder, which each process may have another of.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._own: set[int] = set()
        self._file: int | None = None
        self._pid = 0

    def take(self, port: int) -> bool:
        """Reserve one port; False when it is somebody's."""
        with self._lock:
            if self._pid != os.getpid():
                # A fork inherits the open file, not the locks on it.
                self._own, self._file, self._pid = set(self._own), None, os.getpid()
            if port in self._own:
                return False
            if self._file is None:
                # Opened once and kept: closing any descriptor of a file drops all of a process's locks on it.
                path = _SHARED_MEMORY / f"sightline-ports-{os.getuid()}"
                self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
            except (BlockingIOError, PermissionError):
                return False
            self._own.add(port)
            return True


_reservations = _PortReservations()


def free_port() -> int:
    """A port of the loopback interface that nobody listens on, kept for the caller until its process ends.

    No call of this function hands it out again meanwhile, in no process of this user. A program that chooses its ports
    otherwise may still take it: whoever starts a server on it waits for the server and tries again.

    Raises:
        UnavailableError: When none was found.
    """
    for _ in range(200):
        port = random.randint(_FIRST_PORT, _LAST_PORT)
        if _reservations.take(port) and port_is_free(port):
            return port
    raise UnavailableError(f"a free port between {_FIRST_PORT} and {_LAST_PORT} is needed, found none in 200 tries")


def port_is_free(port: int) -> bool:
    """Tell whether a server could bind this port of the loopback interface now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def accepts_connections(port: int) -> bool:
    """Tell whether somebody listens on this port of the loopback interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((LOOPBACK, port)) == 0


def fetch(port: int, path: str, timeout_s: float = 2.0) -> tuple[int, bytes]:
    """Get one path from a server on the loopback interface; ``(0, b"")`` when nobody answers."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


class _Spawner:
    """Starts every child from one thread that lives as long as the process.

    Linux sends the parent-death signal when the *thread* that started the child ends. A child started from a pool's
    thread would die with the pool.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._wanted: queue.SimpleQueue[tuple[Future[subprocess.Popen[bytes]], Sequence[str], dict[str, object]]]
        self._wanted = queue.SimpleQueue()

    def spawn(self, argv: Sequence[str], **options: object) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="spawner", daemon=True)
                self._thread.start()
        result: Future[subprocess.Popen[bytes]] = Future()
        self._wanted.put((result, argv, options))
        return result.result(timeout=30)

    def _run(self) -> None:
        while True:
            result, argv, options = self._wanted.get()
            try:
                # The commands are ours, never text from outside.
                result.set_result(subprocess.Popen(argv, **options))  # type: ignore[call-overload]  # noqa: S603
            except (OSError, ValueError) as error:
                result.set_exception(error)


_SPAWNER = _Spawner()


class ChildProcess:
    """A program that is started, watched and stopped; its output goes to a file.

    It runs in a session of its own, so that a Ctrl-C in the terminal reaches only us and we decide the order in which
    things stop. When we die without stopping it, the kernel sends it ``death_signal``.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log_path: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        death_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.log_path = log_path
        self._argv = list(argv)
        self._env = dict(os.environ if env is None else env)
        self._cwd = cwd
        self._death_signal = death_signal
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; raises ``UnavailableError`` when the program cannot be executed."""
        if self.alive:
            return
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        guard: list[str] = []
        setpriv = shutil.which("setpriv")
        if setpriv:
            guard = [setpriv, "--pdeathsig", self._death_signal.name.removeprefix("SIG"), "--"]
        with self.log_path.open("ab") as log:
            try:
                self._process = _SPAWNER.spawn(
                    [*guard, *self._argv],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=self._env,
                    cwd=self._cwd,
                    start_new_session=True,
                )
            except OSError as error:
                raise UnavailableError(f"{self.name} must be executable, got: {error}") from error

    @property
    def pid(self) -> int:
        """Process id of the running child, 0 before the first start."""
        return self._process.pid if self._process else 0

    @property
    def alive(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        """Exit code, negative for a signal, ``None`` while it runs or before it was started."""
        return self._process.poll() if self._process else None

    def wait(self, timeout_s: float) -> bool:
        """Wait for its end; tells whether it ended within ``timeout_s``."""
        if self._process is None:
            return True
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def terminate(self) -> None:
        """Ask it to stop; returns at once."""
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()

    def stop(self, timeout_s: float) -> bool:
        """Ask it to stop, and kill it with its descendants after ``timeout_s``; tells whether it stopped by itself."""
        self.terminate()
        gracefully = self.wait(timeout_s)
        self.kill()
        return gracefully

    def kill(self) -> None:
        """Kill it and everything it started, without a chance to clean up."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            # It leads a process group of its own; what it started and left behind is in there.
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(timeout=10)

    def log_tail(self, lines: int = 20) -> str:
        """The last lines it wrote."""
        return tail(self.log_path, lines)


def tail(path: Path, lines: int = 20) -> str:
    """The last lines of a text file, empty when there is none."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 400 * lines))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
    return ""


def wait_for_port(child: ChildProcess, port: int, timeout_s: float) -> None:
    """Wait until ``child`` listens.

    Raises:
        UnavailableError: When it ends first or does not listen within ``timeout_s``; the message ends with its log.
    """
    end_s = time.monotonic() + timeout_s
    while time.monotonic() < end_s:
        if not child.alive:
            raise UnavailableError(
                f"{child.name} must keep running, it ended ({child.returncode}):\n{child.log_tail()}"
            )
        if accepts_connections(port):
            return
        time.sleep(0.02)
    raise UnavailableError(f"{child.name} must listen on port {port} within {timeout_s} s:\n{child.log_tail()}")
