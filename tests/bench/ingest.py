"""How fast ingest is, and what a frame costs: ``python -m tests.bench.ingest``.

Ingest runs as a process of its own against the local broker and object store. Each row is the median of its repeats;
``ratio`` is frames/s divided by those of the bare Kafka writer with records of the same size in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
import psutil
import yaml
from rich.console import Console
from rich.table import Table
from sightline.v1 import ingest_service_pb2, ingest_service_pb2_grpc

from services.adapters.connection import KafkaConnection
from services.adapters.kafka import KafkaRecordWriter
from services.adapters.kafka_topics import ensure_topics, standard_topics
from services.core import topics
from services.local.broker import LocalBroker
from services.local.store import LocalStore

KB = 1_000
#: Rates are taken between these shares of the frames, so that neither start nor end counts.
FROM_SHARE, TO_SHARE = 0.2, 1.0


@dataclass(frozen=True)
class Row:
    """One measurement."""

    source: str
    size_kb: float
    way: str
    frames: int
    frames_per_s: float
    cpu_ms_per_frame: float
    rss_mb: float
    baseline_frames_per_s: float
    ratio: float


class Bench:
    """A broker and a store, and ingest processes against them."""

    def __init__(self, folder: Path, store: LocalStore) -> None:
        self.folder = folder
        self.store = store
        self._number = 0
        self._client = 0

    def measure(self, source: dict[str, Any], frames: int, inline_limit_bytes: int) -> tuple[float, float, float]:
        """Frames/s, CPU milliseconds a frame and RSS in MB of one process."""
        self._number += 1
        folder = self.folder / f"run-{self._number}"
        folder.mkdir()
        # A broker of its own: the stand-in keeps every payload in memory.
        with LocalBroker(log_path=folder / "broker.log") as broker:
            ensure_topics(KafkaConnection(broker.bootstrap_servers), standard_topics())
            camera = {"camera_id": "cam-1", "line_id": "line-1", "product": "disc", "source": source}
            (folder / "ingest.yaml").write_text(yaml.safe_dump({"cameras": [camera]}))
            log = folder / "ingest.log"
            with log.open("wb") as out:
                process = subprocess.Popen(
                    [sys.executable, "-m", "services.ingest"],
                    env=self._environment(folder, broker, inline_limit_bytes),
                    stdout=out,
                    stderr=out,
                )
            try:
                return self._watch(process, log, source, frames)
            finally:
                process.terminate()
                process.wait(30)
                if self._client:
                    os.waitpid(self._client, 0)
                    self._client = 0

    def _environment(self, folder: Path, broker: LocalBroker, inline_limit_bytes: int) -> dict[str, str]:
        return {
            **os.environ,
            "SIGHTLINE_CONFIG": str(folder / "ingest.yaml"),
            "SIGHTLINE_KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "SIGHTLINE_OBJECT_STORE__ENDPOINT": self.store.endpoint,
            "SIGHTLINE_OBJECT_STORE__ACCESS_KEY": self.store.access_key,
            "SIGHTLINE_OBJECT_STORE__SECRET_KEY": self.store.secret_key,
            "SIGHTLINE_SPOOL__DIRECTORY": str(folder / "spool"),
            "SIGHTLINE_LIMITS__INLINE_LIMIT_BYTES": str(inline_limit_bytes),
            "SIGHTLINE_OPS__PORT": "0",
            "SIGHTLINE_GRPC__PORT": "0",
        }

    def _watch(
        self, process: subprocess.Popen[bytes], log: Path, source: dict[str, Any], frames: int
    ) -> tuple[float, float, float]:
        end_s = time.monotonic() + 300
        while "grpc_port" not in log.read_text():
            assert time.monotonic() < end_s
            time.sleep(0.02)
        if source["kind"] == "push":
            self._push(log, frames)
        watched = psutil.Process(process.pid)
        begin: tuple[float, float, float] | None = None
        while True:
            published = _published(log)
            now_s, cpu = time.monotonic(), watched.cpu_times()
            if begin is None and published >= frames * FROM_SHARE:
                begin = (now_s, published, cpu.user + cpu.system)
            if published >= frames * TO_SHARE:
                break
            assert now_s < end_s, f"{published} of {frames} frames, see {log}"
            time.sleep(0.05)
        assert begin is not None
        counted = published - begin[1]
        if counted <= 0:
            return float("nan"), float("nan"), watched.memory_info().rss / 1e6
        seconds, cpu_s = now_s - begin[0], cpu.user + cpu.system - begin[2]
        return counted / seconds, cpu_s / counted * 1_000, watched.memory_info().rss / 1e6

    def _push(self, log: Path, frames: int) -> None:
        port = int(re.findall(r'"grpc_port": (\d+)', log.read_text())[0])
        image = _image(15 * KB)

        def requests() -> Iterator[ingest_service_pb2.PublishRequest]:
            for number in range(frames):
                yield ingest_service_pb2.PublishRequest(
                    idempotency_key=str(number), camera_id="cam-1", captured_at_ns=time.time_ns(), image=image
                )

        self._client = os.fork()
        if self._client == 0:  # a client of its own, so that its CPU does not count
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                for _ in ingest_service_pb2_grpc.IngestServiceStub(channel).Publish(requests()):
                    pass
            os._exit(0)


def _published(log: Path) -> float:
    port = int(re.findall(r'"ops_port": (\d+)', log.read_text())[0])
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    return sum(float(value) for value in re.findall(r"^sightline_ingest_published_total{.*} (\S+)$", text, re.M))


def _image(size_bytes: int) -> bytes:
    return b"\xff\xd8\xff" + os.urandom(size_bytes - 3)


def _folder(folder: Path, size_bytes: int, count: int = 64) -> Path:
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:04d}.jpg").write_bytes(_image(size_bytes))
    return folder


def baseline(folder: Path, size_bytes: int, count: int) -> float:
    """Frames/s of the bare writer."""
    with LocalBroker(log_path=folder / f"baseline-{time.monotonic_ns()}.log") as broker:
        connection = KafkaConnection(broker.bootstrap_servers)
        ensure_topics(connection, standard_topics())
        writer = KafkaRecordWriter(connection)
        image = _image(size_bytes)
        writer.send(topics.FRAMES, key=b"cam-1", value=image).result(timeout=30)
        began_s = time.monotonic()
        for _ in range(count):
            writer.send(topics.FRAMES, key=b"cam-1", value=image)
        writer.flush(120)
        taken_s = time.monotonic() - began_s
        writer.close(5)
    return count / taken_s


def run(frames: int, repeats: int, soak_frames: int, *, small: bool = False) -> dict[str, Any]:
    """Measure everything, or with ``small`` only small files, drawn parts and pushed frames."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="sightline-bench-") as name, LocalStore() as store:
        store.ensure_bucket("sightline")
        folder = Path(name)
        bench = Bench(folder, store)
        plans: list[tuple[str, int, str, int, dict[str, Any]]] = []
        sizes = ((15 * KB, 1.0), (200 * KB, 0.3), (1_000 * KB, 0.1))
        for size_bytes, share in sizes[:1] if small else sizes:
            path = _folder(folder / f"files-{size_bytes}", size_bytes, 64 if size_bytes < 500 * KB else 16)
            source = {"kind": "replay", "path": str(path), "loop": True}
            count = max(60, int(frames * share))
            if size_bytes < 900 * KB:
                plans.append(("replay", size_bytes, "inline", count, source))
            plans.append(("replay", size_bytes, "reference", max(60, count // 3), source))
        plans.append(
            ("simulated 320 px", 35 * KB, "inline", max(60, frames // 6), {"kind": "simulated", "rate_fps": 0})
        )
        plans.append(("grpc push", 15 * KB, "inline", frames, {"kind": "push"}))
        for kind, size_bytes, way, count, source in plans:
            limited = source if kind == "grpc push" else {**source, "max_frames": count}
            limit = 900 * KB if way == "inline" else 1 * KB
            found = [bench.measure(limited, count, limit) for _ in range(repeats)]
            writer = statistics.median(baseline(folder, size_bytes, count) for _ in range(repeats))
            rate = statistics.median(each[0] for each in found)
            rows.append(
                Row(
                    kind,
                    size_bytes / KB,
                    way,
                    count,
                    round(rate, 1),
                    round(statistics.median(each[1] for each in found), 3),
                    round(statistics.median(each[2] for each in found), 1),
                    round(writer, 1),
                    round(rate / writer, 3),
                )
            )
        path = _folder(folder / "soak", 15 * KB)
        soak = {}
        for count in (soak_frames // 10, soak_frames):
            source = {"kind": "replay", "path": str(path), "loop": True, "max_frames": count}
            soak[str(count)] = round(bench.measure(source, count, 900 * KB)[2], 1)
    return {"rows": [asdict(row) for row in rows], "rss_mb_after_frames": soak, "repeats": repeats}


def main() -> None:
    """Print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=3_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--soak-frames", type=int, default=20_000)
    options = parser.parse_args()
    result = run(options.frames, options.repeats, options.soak_frames)
    table = Table(title="ingest, one camera, one process (medians)")
    for heading in ("source", "KB", "image goes", "frames", "frames/s", "CPU ms/frame", "RSS MB", "writer/s", "ratio"):
        table.add_column(heading, justify="right")
    for row in result["rows"]:
        table.add_row(*(str(value) for value in row.values()))
    console = Console()
    console.print(table)
    console.print("RSS in MB after frames:", result["rss_mb_after_frames"])
    target = Path("build/bench/ingest.json")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
