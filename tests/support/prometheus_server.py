"""A real Prometheus on a free port, for tests that ask it what people would."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from services.local.process import free_port


class PrometheusServer:
    """One Prometheus with a configuration of its own; started and ended as a context.

    Args:
        binary: The program.
        config: What ``prometheus.yml`` holds.
        folder: For its data, configuration and log.
    """

    def __init__(self, binary: str, config: Mapping[str, Any], folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._url = f"http://127.0.0.1:{free_port()}"
        self._log = folder / "prometheus.log"
        path = folder / "prometheus.yml"
        path.write_text(yaml.safe_dump(dict(config), sort_keys=False))
        self._argv = [
            binary,
            f"--config.file={path}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address={self._url.removeprefix('http://')}",
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start it and wait until it is ready."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._argv, stdout=log, stderr=subprocess.STDOUT)
        end_s = time.monotonic() + 20
        while not self._ready():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < end_s, self._log.read_text()
            time.sleep(0.05)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)

    def query(self, expr: str) -> list[dict[str, Any]]:
        """The series that a query gives now, each with ``metric`` and ``value``."""
        found: list[dict[str, Any]] = self._get("query", query=expr)["result"]
        return found

    def targets(self) -> dict[str, str]:
        """Health of each job's target: ``up``, ``down`` or ``unknown``."""
        return {each["labels"]["job"]: each["health"] for each in self._get("targets")["activeTargets"]}

    def firing(self) -> dict[str, list[dict[str, Any]]]:
        """Alerts that fire now, by name."""
        found: dict[str, list[dict[str, Any]]] = {}
        for alert in self._get("alerts")["alerts"]:
            if alert["state"] == "firing":
                found.setdefault(alert["labels"]["alertname"], []).append(alert)
        return found

    def rule_errors(self) -> list[str]:
        """What went wrong when rules were evaluated."""
        groups = self._get("rules")["groups"]
        return [
            f"{rule['name']}: {rule['lastError']}" for one in groups for rule in one["rules"] if "lastError" in rule
        ]

    def _get(self, what: str, **arguments: str) -> Any:
        address = f"{self._url}/api/v1/{what}?{urllib.parse.urlencode(arguments)}"
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                return json.loads(answer.read())["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{arguments}: {error.read().decode()}") from error

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False
