"""``sightline run`` as a person has it: up with its page, stopped by Ctrl-C, soon up again, nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest

from services.local.linefile import read_addresses
from services.local.process import free_port

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

SIGHTLINE = str(Path(sys.executable).with_name("sightline"))
#: On a machine that does nothing else; shared with other work, it takes its share longer.
SECOND_START_S = 20.0


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.loads(answer.read())


class RunningLine:
    """One ``sightline run``, its output and the processes it has started."""

    def __init__(self, data: Path, port: int) -> None:
        self.data = data
        self.began_s = time.monotonic()
        self.output = data.with_name(f"output-{port}.txt")
        with self.output.open("ab") as file:
            self.process = subprocess.Popen(
                [SIGHTLINE, "run", "--data", str(data), "--port", str(port)],
                stdout=file,
                stderr=subprocess.STDOUT,
                env={name: value for name, value in os.environ.items() if name not in {"DISPLAY", "WAYLAND_DISPLAY"}},
            )
        self.family: list[psutil.Process] = []

    def wait_until_up(self, timeout_s: float) -> float:
        """Wait for the summary; returns the seconds it took."""
        end_s = time.monotonic() + timeout_s
        while "page" not in read_addresses(self.data):
            assert self.process.poll() is None, self.output.read_text()
            assert time.monotonic() < end_s, self.output.read_text()
            time.sleep(0.05)
        taken_s = time.monotonic() - self.began_s
        self.family = psutil.Process(self.process.pid).children(recursive=True)
        return taken_s

    def stop(self, wanted: signal.Signals) -> int:
        """Stop it and make sure that nothing of it is left."""
        self.process.send_signal(wanted)
        code = self.process.wait(90)
        _, alive = psutil.wait_procs(self.family, timeout=10)
        assert alive == []
        return code


def test_a_line_runs_stops_and_is_soon_up_again(tmp_path: Path) -> None:
    port, data = free_port(), tmp_path / "data"
    first = RunningLine(data, port)
    first.wait_until_up(240)
    try:
        page = read_addresses(data)["page"]
        assert page == f"http://127.0.0.1:{port}"
        assert f"page      {page}" in first.output.read_text()
        with urllib.request.urlopen(page, timeout=10) as answer:
            assert b"<title>" in answer.read()
        parts = shown_parts(page)
        assert parts
        assert {part["model_version"] for part in parts} == {1}
        health = get(f"{page}/api/v1/health")
        assert {"ingest", "detector", "serving", "triton"} <= {each["name"] for each in health["components"]}
    finally:
        code = first.stop(signal.SIGINT)
    assert code == 0, first.output.read_text()

    second = RunningLine(data, port)
    try:
        taken_s = second.wait_until_up(120)
    finally:
        code = second.stop(signal.SIGTERM)
    assert code == 0, second.output.read_text()
    busy = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    assert taken_s <= SECOND_START_S * busy, second.output.read_text()
    assert read_addresses(data) == {}


def shown_parts(page: str, timeout_s: float = 30.0) -> list[dict[str, Any]]:
    end_s = time.monotonic() + timeout_s
    while time.monotonic() < end_s:
        wall = get(f"{page}/api/v1/wall")
        parts = [part for line in wall["lines"] for camera in line["cameras"] for part in camera["latest"]]
        if parts:
            return parts
        time.sleep(0.2)
    return []


def test_a_service_that_is_killed_is_told_of_and_comes_back(tmp_path: Path) -> None:
    data = tmp_path / "data"
    line = RunningLine(data, free_port())
    line.wait_until_up(240)
    try:
        detector = next(each for each in line.family if "services.detector" in " ".join(each.cmdline()))
        detector.kill()
        end_s = time.monotonic() + 60
        address = read_addresses(data)["detector"]
        while not answers(f"{address}/readyz"):
            assert time.monotonic() < end_s, line.output.read_text()
            time.sleep(0.2)
        assert "detector ended (-9) and starts again" in line.output.read_text()
        line.family = psutil.Process(line.process.pid).children(recursive=True)
    finally:
        assert line.stop(signal.SIGTERM) == 0


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
