"""``sightline run`` as a person has it: up with its page, stopped by Ctrl-C, soon up again, nothing left behind."""

from __future__ import annotations

import json
import signal
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest

from services.local.linefile import read_addresses
from services.local.process import free_port
from tests.support.running_line import RunningLine

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.loads(answer.read())


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
        assert {"ingest", "detector", "outcome", "explainer", "serving", "triton"} <= {
            each["name"] for each in health["components"]
        }
        part = answered_part(page)
        assert {view["camera_id"] for view in part["revisions"][0]["views"]} <= {"discs-left", "discs-right"}
        lines = {line["line_id"]: line for line in get(f"{page}/api/v1/lines")["lines"]}
        assert lines["line-1"]["light"] in {"green", "amber", "red"}
        assert [one["name"] for one in lines["line-1"]["connections"]] == ["plc", "file"]
        assert list((data / "outcomes").glob("line-1-*.jsonl"))
    finally:
        code = first.stop(signal.SIGINT)
    assert code == 0, first.output.read_text()
    assert "starter model" in first.output.read_text()

    second = RunningLine(data, port)
    try:
        second.wait_until_up(120)
    finally:
        code = second.stop(signal.SIGTERM)
    assert code == 0, second.output.read_text()
    assert "starter model" not in second.output.read_text(), "it was fitted once"
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


def answered_part(page: str, timeout_s: float = 60.0) -> dict[str, Any]:
    """The newest part that the simulated PLC has had an answer to."""
    end_s = time.monotonic() + timeout_s
    while time.monotonic() < end_s:
        parts: list[dict[str, Any]] = get(f"{page}/api/v1/lines/line-1/outcomes")["parts"]
        if parts:
            return parts[0]
        time.sleep(0.2)
    raise AssertionError(f"a part of the simulated PLC must be answered within {timeout_s:.0f} s")


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
