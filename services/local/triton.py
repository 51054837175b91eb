"""NVIDIA's Triton server on this machine, without a container.

The server comes from the ``nvidia-pytriton`` wheel in the tools folder. Its Python backend embeds the interpreter of
the virtual environment that starts it, so models import the same packages as every service.
"""

from __future__ import annotations

import http.client
import os
import shutil
import sys
import sysconfig
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from services.core.errors import NotFoundError, UnavailableError
from services.local.process import LOOPBACK, ChildProcess, free_port
from services.local.tools import tools_directory, tools_site_packages

_POLL_S = 0.02
_STARTS = 3


def python_library_directory() -> Path:
    """Folder of this interpreter's shared library, which the Python backend needs.

    Raises:
        NotFoundError: When it is not installed (Debian's ``python3`` comes without it).
    """
    name = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
    multiarch = str(sysconfig.get_config_var("MULTIARCH") or "x86_64-linux-gnu")
    # The last is where the set-up puts it when the system has none.
    roots = (str(sysconfig.get_config_var("LIBDIR")), f"{sys.base_prefix}/lib", "/usr/lib", tools_directory() / "lib")
    for root in roots:
        for folder in (Path(root), Path(root) / multiarch):
            if (folder / name).exists():
                return folder
    package = name.split(".so", maxsplit=1)[0]
    raise NotFoundError(f"Triton's Python backend needs {name}, which is not installed: apt-get install {package}")


def lay_out_backends(target: Path) -> Path:
    """Make the backend folder: the Python backend with the stub of the running interpreter.

    Args:
        target: Folder to make; what lies there from an earlier start is replaced.

    Returns:
        ``target``.

    Raises:
        NotFoundError: When the wheel, or a stub for this version of Python, is missing.
    """
    carried = tools_site_packages() / "pytriton" / "tritonserver"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = carried / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.is_file():
        raise NotFoundError(f"Triton must be installed with a stub for Python {version}, got none at {stub}")
    folder = target / "python"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # Links, since the libraries find their own relative to where they really lie.
    for source in (*(carried / "backends" / "python").glob("*.*"), stub):
        (folder / source.name).symlink_to(source)
    return target


class LocalTriton:
    """One Triton on loopback in explicit model-control mode.

    Args:
        repository: Model repository; made if it does not exist.
        work: Folder for the backends and the log; ``<repository>.triton`` by default.
        grpc_port: Port for gRPC; 0 takes a free one, kept over restarts.
        http_port: Port for HTTP; likewise.
        metrics_port: Port for metrics; likewise.
        threads: Threads that each model's process uses for its maths, unless the model sets its own.
        env: Variables to add to the server's environment.
        flags: What the server is told besides, for example its certificates; its HTTP port stays plain.
    """

    def __init__(
        self,
        repository: Path,
        *,
        work: Path | None = None,
        grpc_port: int = 0,
        http_port: int = 0,
        metrics_port: int = 0,
        threads: int = 1,
        env: Mapping[str, str] | None = None,
        flags: Sequence[str] = (),
    ) -> None:
        self._repository = repository.resolve()
        self._work = (work or repository.with_name(f"{repository.name}.triton")).resolve()
        self._wanted_ports = {"grpc": grpc_port, "http": http_port, "metrics": metrics_port}
        self._ports = dict(self._wanted_ports)
        self._threads = threads
        self._env = dict(env or {})
        self._flags = tuple(flags)
        self._child: ChildProcess | None = None

    @property
    def grpc_url(self) -> str:
        """host:port of gRPC."""
        return f"{LOOPBACK}:{self._ports['grpc']}"

    @property
    def http_url(self) -> str:
        """host:port of HTTP."""
        return f"{LOOPBACK}:{self._ports['http']}"

    @property
    def metrics_url(self) -> str:
        """host:port of Prometheus metrics, path ``/metrics``."""
        return f"{LOOPBACK}:{self._ports['metrics']}"

    @property
    def repository(self) -> Path:
        """The model repository."""
        return self._repository

    @property
    def log_path(self) -> Path:
        """File that takes the server's output."""
        return self._work / "triton.log"

    @property
    def pid(self) -> int:
        """Process id of the server; 0 before the first start."""
        return self._child.pid if self._child else 0

    @property
    def running(self) -> bool:
        """Whether the server's process runs."""
        return self._child is not None and self._child.alive

    def start(self, timeout_s: float = 30.0) -> None:
        """Start the server and wait until it answers; after a stop or a kill it comes back on the same ports.

        Raises:
            NotFoundError: When Triton or Python's shared library is not installed.
            UnavailableError: When it ends, or does not answer within ``timeout_s``.
        """
        if self.running:
            return
        self._repository.mkdir(parents=True, exist_ok=True)
        backends = lay_out_backends(self._work / "backends")
        # A free port may be taken before the server binds it; with ports of our own choice we try others.
        starts = 1 if any(self._ports.values()) else _STARTS
        for attempt in range(starts):
            self._ports = {name: port or free_port() for name, port in self._ports.items()}
            self._child = ChildProcess(
                "triton", self._command(backends), log_path=self.log_path, env=self._environment()
            )
            self._child.start()
            try:
                self._wait_ready(time.monotonic() + timeout_s)
            except UnavailableError:
                self.kill()
                if attempt + 1 == starts:
                    raise
                self._ports = dict(self._wanted_ports)
            else:
                return

    def stop(self, timeout_s: float = 10.0) -> None:
        """End the server, by force after ``timeout_s``; idempotent."""
        if self._child:
            self._child.stop(timeout_s)
            self._sweep_shared_memory()

    def kill(self) -> None:
        """End the server and its models' processes as ``kill -9`` does; idempotent."""
        if self._child:
            self._child.kill()
            self._sweep_shared_memory()

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        self.stop()

    def _command(self, backends: Path) -> list[str]:
        return [
            str(tools_site_packages() / "pytriton" / "tritonserver" / "bin" / "tritonserver"),
            f"--model-repository={self._repository}",
            f"--backend-directory={backends}",
            "--model-control-mode=explicit",
            # A model that is being loaded must not make the server look dead.
            "--strict-readiness=false",
            "--disable-auto-complete-config",
            "--exit-timeout-secs=5",
            f"--backend-config=python,shm-region-prefix-name={self._shared_memory_prefix}",
            f"--http-address={LOOPBACK}",
            f"--grpc-address={LOOPBACK}",
            f"--metrics-address={LOOPBACK}",
            f"--http-port={self._ports['http']}",
            f"--grpc-port={self._ports['grpc']}",
            f"--metrics-port={self._ports['metrics']}",
            *self._flags,
        ]

    def _environment(self) -> dict[str, str]:
        # Not resolved: the virtual environment's own `bin`, whose `python3` is a link.
        bin_folder = Path(sys.executable).parent
        libraries = tools_site_packages() / "nvidia_pytriton.libs"
        return {
            **os.environ,
            # The embedded interpreter finds its packages through the `python3` that comes first.
            "PATH": f"{bin_folder}:{os.environ.get('PATH', '')}",
            # Last what was there: a GPU's driver may be found by it alone.
            "LD_LIBRARY_PATH": ":".join(
                filter(None, (f"{python_library_directory()}", f"{libraries}", os.environ.get("LD_LIBRARY_PATH")))
            ),
            "OMP_NUM_THREADS": str(self._threads),
            "PYTHONDONTWRITEBYTECODE": "1",
            **self._env,
        }

    @property
    def _shared_memory_prefix(self) -> str:
        return f"sightline-backend-{self._ports['grpc']}-"

    def _sweep_shared_memory(self) -> None:
        """Unlink what the Python backend leaves behind when it is killed."""
        for region in Path("/dev/shm").glob(f"{self._shared_memory_prefix}*"):  # noqa: S108 - not a temporary file
            region.unlink(missing_ok=True)

    def _wait_ready(self, deadline_s: float) -> None:
        while time.monotonic() < deadline_s:
            if self._child is None or not self._child.alive:
                tail = self._child.log_tail() if self._child else ""
                raise UnavailableError(f"Triton must keep running, it ended:\n{tail}")
            if self._answers():
                return
            time.sleep(_POLL_S)
        raise UnavailableError(f"Triton must answer on {self.http_url} in time, it did not; see {self.log_path}")

    def _answers(self) -> bool:
        host, port = self.http_url.split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=1.0)
        try:
            connection.request("GET", "/v2/health/ready")
            return connection.getresponse().status == http.client.OK
        except OSError:
            return False
        finally:
            connection.close()
