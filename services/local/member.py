"""One process of a line on one machine: started, watched, restarted, drained; a service also through its ops port."""

from __future__ import annotations

import http.client
import json
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.local.process import LOOPBACK, ChildProcess, fetch, free_port
from services.runtime.retry import Backoff

#: A service that ran for this long before it died starts again with the first delay.
_STEADY_S = 60.0


def metric_total(text: str, name: str) -> float:
    """Sum of all samples of one metric in Prometheus' text format; 0 where there is none."""
    pattern = re.compile(rf"^{re.escape(name)}(?:\{{.*\}})? (\S+)", re.MULTILINE)
    return sum(float(match.group(1)) for match in pattern.finditer(text))


@dataclass(frozen=True, slots=True)
class Restart:
    """What the supervisor has to tell of a service that died."""

    name: str
    returncode: int | None
    again_in_s: float
    log_path: Path


class Program:
    """A process that is started, looked after, restarted and drained.

    Args:
        name: Of the log file, and for people.
        argv: Its command line.
        env: What its environment has beyond this process's own.
        logs: Folder of the log files.
        drain_s: Longest time from the wish to stop until it is killed.
    """

    def __init__(
        self, name: str, argv: Sequence[str], env: Mapping[str, str], *, logs: Path, drain_s: float = 25.0
    ) -> None:
        self.name = name
        self._drain_s = drain_s
        self._backoff = Backoff(first_s=0.5, cap_s=30.0)
        self._started_s = 0.0
        self._restart_at_s: float | None = None
        whole = {
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            # A frame's arithmetic is small: more threads only wait for each other.
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            # Each thread would get a heap of its own, and give little of it back.
            "MALLOC_ARENA_MAX": "2",
            **env,
        }
        self.process = ChildProcess(name, list(argv), log_path=logs / f"{name}.log", env=whole)

    def start(self) -> None:
        """Start its process."""
        self._started_s = time.monotonic()
        self._restart_at_s = None
        self.process.start()

    def watch(self) -> Restart | None:
        """Look after it: tells of a death once, and starts it again when its delay is over."""
        if self.process.alive:
            if time.monotonic() - self._started_s > _STEADY_S:
                self._backoff.reset()
            return None
        now_s = time.monotonic()
        if self._restart_at_s is None:
            delay_s = self._backoff.next_s()
            self._restart_at_s = now_s + delay_s
            return Restart(self.name, self.process.returncode, delay_s, self.process.log_path)
        if now_s >= self._restart_at_s:
            self.start()
        return None

    def stop(self) -> bool:
        """Let it drain, and kill it when it takes too long; tells whether it drained."""
        return self.process.stop(self._drain_s)


class Member(Program):
    """A service and its process.

    Args:
        name: Name of the package under ``services``, and of the log file.
        settings: ``SIGHTLINE_`` settings by name without the prefix, for example ``KAFKA__BOOTSTRAP_SERVERS``.
        logs: Folder of the log files.
        drain_s: Longest time from the wish to stop until it is killed.
    """

    def __init__(self, name: str, settings: Mapping[str, str], *, logs: Path, drain_s: float = 25.0) -> None:
        self.ops_port = free_port()
        env = {
            "SIGHTLINE_OPS__HOST": LOOPBACK,
            "SIGHTLINE_OPS__PORT": str(self.ops_port),
            **{f"SIGHTLINE_{key}": value for key, value in settings.items()},
        }
        super().__init__(name, [sys.executable, "-m", f"services.{name}"], env, logs=logs, drain_s=drain_s)

    @property
    def ready_url(self) -> str:
        """Where its readiness is asked for."""
        return f"http://{LOOPBACK}:{self.ops_port}/readyz"

    def ready(self) -> bool:
        """Whether it says that it is ready."""
        return fetch(self.ops_port, "/readyz")[0] == http.client.OK

    def waiting_for(self) -> str:
        """What it says it waits for, for people."""
        _, body = fetch(self.ops_port, "/readyz")
        try:
            told = json.loads(body).get("waiting_for") or {}
        except (ValueError, AttributeError):
            return "not answering yet"
        return ", ".join(f"{name}: {why}" for name, why in told.items()) or "starting"

    def metrics(self) -> str:
        """Its metrics in Prometheus' text format; empty when it does not answer."""
        return fetch(self.ops_port, "/metrics")[1].decode(errors="replace")
