"""A broker that speaks the Kafka protocol, on this machine, for as long as it is wanted.

It stands in for Apache Kafka where there is none. It keeps records in memory, or, with ``store``, durably in an object
store; in either case it never forgets one, so a long run must send images by reference.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from services.core.errors import UnavailableError
from services.local.process import LOOPBACK, ChildProcess, accepts_connections, free_port, wait_for_port
from services.local.store import LocalStore
from services.local.tools import broker_binary

_STARTS = 5
_BUCKET = "tansu"


class LocalBroker:
    """One broker on the loopback interface; a context manager that starts and stops it.

    Args:
        store: Keep records in this running object store, in a bucket of their own, so that they survive
            :meth:`kill`; ``None`` keeps them in memory.
        port: Listen here; ``None`` takes a free port. The port stays the same over restarts.
        log_path: Where its output goes; ``None`` takes a temporary file.
        advertised_port: Where clients are told to connect, for a relay before it; ``None`` takes its own port.
    """

    #: What readers should set ``fetch_wait_ms`` to: this broker does not answer a waiting fetch when a record comes.
    #: A record every 50 ms was read 131 ms after it was written with 500 here, 3 ms with 50 (medians).
    FETCH_WAIT_MS: ClassVar[int] = 50
    #: What members should set ``session_timeout_ms`` to: this broker holds the first join of a group back for half of
    #: it (3.2 s for 6 000, 10 s for 20 000), so that it is most of a line's start.
    SESSION_TIMEOUT_MS: ClassVar[int] = 6_000

    def __init__(
        self,
        store: LocalStore | None = None,
        *,
        port: int | None = None,
        log_path: Path | None = None,
        advertised_port: int | None = None,
    ) -> None:
        self._store = store
        self._advertised_port = advertised_port
        self._fixed_port = port
        self._port = port or 0
        self._temporary = None if log_path else Path(tempfile.mkdtemp(prefix="sightline-broker-"))
        self._log_path = log_path or (self._temporary or Path()) / "broker.log"
        self._child: ChildProcess | None = None

    @property
    def port(self) -> int:
        """The port in use."""
        return self._port

    @property
    def bootstrap_servers(self) -> str:
        """What a Kafka client connects to."""
        return f"{LOOPBACK}:{self._port}"

    @property
    def child(self) -> ChildProcess:
        """The running program."""
        if self._child is None:
            raise UnavailableError("the broker must be started first")
        return self._child

    def start(self, timeout_s: float = 15.0) -> None:
        """Start it and wait until it listens; after a stop or a kill it comes back on the same port.

        Raises:
            UnavailableError: When it does not come up.
        """
        if self._store is not None:
            self._store.ensure_bucket(_BUCKET)
        starts = _STARTS if self._port == 0 else 1
        for attempt in range(starts):
            port = self._port or free_port()
            if accepts_connections(port):
                # The program would panic with exit code 0, and the wait below would meet the stranger's port.
                if self._fixed_port is None and attempt + 1 < starts:
                    continue
                raise UnavailableError(f"port {port} must be free for the broker, somebody listens on it")
            child = self._launch(port)
            try:
                wait_for_port(child, port, timeout_s)
            except UnavailableError:
                child.kill()
                if attempt + 1 == starts:
                    raise
            else:
                self._child, self._port = child, port
                return

    def _launch(self, port: int) -> ChildProcess:
        url = f"tcp://{LOOPBACK}:{port}"
        env = {**os.environ, "RUST_LOG": os.environ.get("RUST_LOG", "warn")}
        engine = "memory://tansu/"
        if self._store is not None:
            engine = f"s3://{_BUCKET}/"
            env |= {
                "AWS_ACCESS_KEY_ID": self._store.access_key,
                "AWS_SECRET_ACCESS_KEY": self._store.secret_key,
                "AWS_ENDPOINT": f"http://{self._store.endpoint}",
                "AWS_ALLOW_HTTP": "true",
                "AWS_DEFAULT_REGION": "us-east-1",
            }
        told = f"tcp://{LOOPBACK}:{self._advertised_port or port}"
        argv = [str(broker_binary()), "broker", "--listener-url", url, "--advertised-listener-url", told]
        child = ChildProcess(
            "broker",
            [*argv, "--storage-engine", engine],
            log_path=self._log_path,
            env=env,
            # Its answer to TERM takes seconds while clients are connected, and it has nothing to clean up.
            death_signal=signal.SIGKILL,
        )
        child.start()
        return child

    def stop(self, timeout_s: float = 6.0) -> None:
        """Stop it; idempotent. A temporary log goes too."""
        if self._child is not None:
            self._child.stop(timeout_s)
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def kill(self) -> None:
        """Kill it as ``kill -9`` does; :meth:`start` brings it back on the same port."""
        self.child.kill()
        end_s = time.monotonic() + 5
        while accepts_connections(self._port) and time.monotonic() < end_s:
            time.sleep(0.02)

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        self.stop()
