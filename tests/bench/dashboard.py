"""What the dashboard costs: memory over many verdicts, processor time, and how old a verdict is in the browser.

``python -m tests.bench.dashboard`` runs the real process against a broker and an object store on this machine, with
browsers on the live stream that also ask for pictures as the page does. The baseline is a bare reader that decodes
the same verdicts from the same broker, in the same run.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from services.adapters.codec import decode_inspection, encode_inspection
from services.adapters.connection import KafkaConnection, StoreConnection
from services.adapters.kafka import KafkaRecordWriter, KafkaTopicReader
from services.adapters.kafka_topics import TopicSpec, ensure_topics
from services.adapters.objectstore import S3ObjectStore
from services.core import topics
from services.core.identity import derive_frame_id
from services.core.imaging import encode_jpeg
from services.core.simulation.line import draw_part
from services.core.types import ImageRef, Inspection, OperatingPoint, Reason, StageTimings, Verdict
from services.local.broker import LocalBroker
from services.local.process import free_port
from services.local.store import LocalStore

CAMERAS = 8
WARM_SHARE = 0.6
"""The first verdicts fill the index and the caches; memory is judged over the rest."""


def verdict(number: int, picture: ImageRef) -> Inspection:
    """The verdict with a number, decided now."""
    camera = f"cam-{number % CAMERAS}"
    now_ns = time.time_ns()
    return Inspection(
        frame_id=derive_frame_id(camera, str(number), 0, now_ns),
        part_id=f"part-{number // 2}",
        line_id=f"line-{number % CAMERAS // 4}",
        camera_id=camera,
        product="disc",
        sequence=number + 1,
        captured_at_ns=now_ns,
        decided_at_ns=now_ns,
        verdict=Verdict.FAIL if number % 50 == 0 else Verdict.PASS,
        reason=Reason.SCORE,
        score=number % 97 / 97,
        operating_point=OperatingPoint(0.6, 0.5, 0.7),
        uncertainty=0.2,
        alias="default",
        model_version=1,
        timings=StageTimings(total_ms=40.0),
        image_ref=picture,
    )


class Browser(threading.Thread):
    """Follows the stream and asks for the pictures that a wall would show."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._port = port
        self.delays_ms: list[float] = []
        self.seen = 0
        self.pictures = 0
        self.stopped = False
        self._wanted: deque[str] = deque(maxlen=8)

    def run(self) -> None:
        """Read until the server ends."""
        threading.Thread(target=self._look, daemon=True).start()
        stream = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        stream.request("GET", "/api/v1/stream")
        answer = stream.getresponse()
        name = ""
        with suppress(OSError, http.client.HTTPException):
            while not self.stopped and (line := answer.readline()):
                if line.startswith(b"event: "):
                    name = line[7:].strip().decode()
                elif line.startswith(b"data: ") and name == "batch":
                    self._take(json.loads(line[6:])["verdicts"])

    def _take(self, verdicts: list[dict[str, object]]) -> None:
        now_ms = time.time_ns() / 1e6
        self.seen += len(verdicts)
        self.delays_ms += [now_ms - float(str(one["decided_at_ms"])) for one in verdicts]
        # A wall draws at most a few pictures an update, and an update does not wait for them.
        self._wanted.extend(str(one["frame_id"]) for one in verdicts[-4:])

    def _look(self) -> None:
        while not self.stopped:
            if not self._wanted:
                time.sleep(0.02)
                continue
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
            connection.request("GET", f"/api/v1/frames/{self._wanted.pop()}/thumbnail?size=320")
            self.pictures += connection.getresponse().status == 200
            connection.close()


@contextmanager
def dashboard(environment: dict[str, str], folder: Path) -> Iterator[tuple[psutil.Process, int]]:
    """The process, and its page's port."""
    port, ops_port = free_port(), free_port()
    more = {"SIGHTLINE_WEB__PORT": str(port), "SIGHTLINE_OPS__PORT": str(ops_port)}
    with (folder / "dashboard.log").open("wb") as log:
        command = [sys.executable, "-m", "services.dashboard"]
        process = subprocess.Popen(command, env=os.environ | environment | more, stdout=log)
        try:
            end_s = time.monotonic() + 30
            while True:
                with suppress(OSError):
                    connection = http.client.HTTPConnection("127.0.0.1", ops_port, timeout=2)
                    connection.request("GET", "/readyz")
                    if connection.getresponse().status == 200:
                        break
                if time.monotonic() > end_s:
                    raise TimeoutError("the dashboard must be ready within 30 s")
                time.sleep(0.1)
            yield psutil.Process(process.pid), port
        finally:
            process.terminate()
            process.wait(15)


def measure(frames: int, rate: float, folder: Path) -> dict[str, float]:
    """Let verdicts pass at a steady rate.

    Args:
        frames: How many.
        rate: Verdicts a second.
        folder: For logs and data.
    """
    with LocalStore(folder / "store") as store, LocalBroker(log_path=folder / "broker.log") as broker:
        connection = KafkaConnection(broker.bootstrap_servers)
        ensure_topics(connection, [TopicSpec(topics.FRAMES, 1), TopicSpec(topics.VERDICTS, 4)])
        store.ensure_bucket("sightline")
        objects = S3ObjectStore(StoreConnection(store.endpoint, "sightline", store.access_key, store.secret_key))
        pictures = [objects.put(f"frames/{seed}.jpg", encode_jpeg(draw_part("disc", seed).image)) for seed in range(40)]
        environment = {
            "SIGHTLINE_KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "SIGHTLINE_OBJECT_STORE__ENDPOINT": store.endpoint,
            "SIGHTLINE_OBJECT_STORE__ACCESS_KEY": store.access_key,
            "SIGHTLINE_OBJECT_STORE__SECRET_KEY": store.secret_key,
        }
        with dashboard(environment, folder) as (process, port):
            found = _drive(connection, process, port, pictures, frames, rate)
        started_s = time.process_time()
        reader = KafkaTopicReader(connection, [topics.VERDICTS])
        decoded = sum(1 for record in reader.read_to_end(60) if decode_inspection(record.value))
        reader.close()
        baseline_us = (time.process_time() - started_s) / max(1, decoded) * 1e6
    found["baseline_cpu_us_per_verdict"] = baseline_us
    found["cpu_ratio"] = found["cpu_us_per_verdict"] / baseline_us
    return found


def _drive(
    connection: KafkaConnection, process: psutil.Process, port: int, pictures: list[ImageRef], frames: int, rate: float
) -> dict[str, float]:
    browsers = [Browser(port) for _ in range(2)]
    for browser in browsers:
        browser.start()
    writer = KafkaRecordWriter(connection)
    places = itertools.cycle(pictures)
    memory: list[float] = []
    cpu = process.cpu_times()
    cpu_s, started_s = cpu.user + cpu.system, time.monotonic()
    for number in range(frames):
        one = verdict(number, replace(next(places)))
        writer.send(topics.VERDICTS, key=one.part_id.encode(), value=encode_inspection(one))
        if number % 200 == 0:
            memory.append(process.memory_info().rss / 1e6)
        wait_s = started_s + number / rate - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)
    writer.flush(30)
    end_s = time.monotonic() + 15
    while min(browser.seen for browser in browsers) < 1 and time.monotonic() < end_s:
        time.sleep(0.1)
    took_s = time.monotonic() - started_s
    cpu = process.cpu_times()
    used_s = cpu.user + cpu.system - cpu_s
    for browser in browsers:
        browser.stopped = True
    writer.close(5)
    delays = sorted(delay for browser in browsers for delay in browser.delays_ms)
    steady = memory[int(len(memory) * WARM_SHARE) :]
    half = len(steady) // 2
    return {
        "verdicts": frames,
        "rate_per_s": frames / took_s,
        "rss_peak_mb": max(memory),
        "rss_growth_mb": statistics.median(steady[half:]) - statistics.median(steady[:half]),
        "cpu_share_of_one_core": used_s / took_s,
        "cpu_us_per_verdict": used_s / frames * 1e6,
        "pictures_per_s": sum(browser.pictures for browser in browsers) / took_s,
        "delay_p50_ms": delays[len(delays) // 2],
        "delay_p99_ms": delays[int(len(delays) * 0.99)],
    }


def main() -> None:
    """Measure, print, write ``build/bench/dashboard.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=40_000)
    parser.add_argument("--rate", type=float, default=200.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sightline-bench-") as folder:
        found = measure(arguments.frames, arguments.rate, Path(folder))
    table = Table(title="Dashboard with two browsers, 8 cameras")
    table.add_column("measure")
    table.add_column("value", justify="right")
    for name, value in found.items():
        table.add_row(name, f"{value:,.2f}")
    Console().print(table)
    target = Path("build/bench/dashboard.json")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
