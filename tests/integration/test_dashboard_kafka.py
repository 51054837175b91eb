"""The dashboard as a process, on the real Kafka protocol: verdicts, inline pictures, an outage, an orderly stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from services.adapters.codec import encode_frame, encode_inspection
from services.adapters.codec_explained import encode_explained_case
from services.adapters.connection import KafkaConnection
from services.adapters.kafka import KafkaRecordWriter
from services.adapters.kafka_topics import TopicSpec, ensure_topics
from services.core import topics
from services.core.identity import derive_frame_id
from services.core.imaging import encode_png
from services.core.types import Frame, Inspection, OperatingPoint, Reason, StageTimings, Verdict
from services.local.broker import LocalBroker
from services.local.process import free_port
from tests.support.explained import explained_case, explanation, failed

pytestmark = pytest.mark.integration

RSS_LIMIT_BYTES = 250_000_000


def until(condition: Callable[[], bool], what: str, timeout_s: float = 20.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end_s:
            pytest.fail(f"within {timeout_s} s: {what}")
        time.sleep(0.05)


class Dashboard:
    def __init__(self, process: subprocess.Popen[bytes], port: int, ops_port: int) -> None:
        self.process = process
        self.base = f"http://127.0.0.1:{port}"
        self.ops = f"http://127.0.0.1:{ops_port}"

    def get(self, path: str) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(self.base + path, timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def json(self, path: str) -> dict[str, Any]:
        return json.loads(self.get(path)[1])

    def seen(self) -> int:
        return int(self.json("/api/v1/wall")["figures"]["seen"])

    def state(self, component: str) -> str:
        return next(one["state"] for one in self.json("/api/v1/health")["components"] if one["name"] == component)

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(self.ops + "/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@contextmanager
def dashboard(bootstrap_servers: str, log: Path, **more: str) -> Iterator[Dashboard]:
    port, ops_port = free_port(), free_port()
    settings = {
        "KAFKA__BOOTSTRAP_SERVERS": bootstrap_servers,
        # Nothing listens there: the page must say so and work on.
        "OBJECT_STORE__ENDPOINT": f"127.0.0.1:{free_port()}",
        "OBJECT_STORE__TIMEOUT_S": "1",
        "WEB__PORT": str(port),
        "OPS__PORT": str(ops_port),
        **more,
    }
    environment = os.environ | {f"SIGHTLINE_{name}": value for name, value in settings.items()}
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-m", "services.dashboard"], env=environment, stdout=output)
        try:
            page = Dashboard(process, port, ops_port)
            until(page.ready, f"the dashboard is ready, see {log}")
            yield page
        finally:
            process.kill()
            process.wait(10)


def verdict(number: int) -> Inspection:
    captured_at_ns = time.time_ns() - 50_000_000
    return Inspection(
        frame_id=derive_frame_id("cam-1", f"item-{number}", 0, captured_at_ns),
        part_id=f"part-{number}",
        line_id="line-1",
        camera_id="cam-1",
        product="disc",
        sequence=number + 1,
        captured_at_ns=captured_at_ns,
        decided_at_ns=captured_at_ns + 40_000_000,
        verdict=Verdict.PASS,
        reason=Reason.SCORE,
        score=0.2,
        operating_point=OperatingPoint(0.6, 0.5, 0.7),
        uncertainty=0.1,
        alias="default",
        model_version=1,
        timings=StageTimings(total_ms=40.0),
    )


def publish(connection: KafkaConnection, numbers: range, image: bytes, **changes: Any) -> list[Inspection]:
    """Write frames with their pictures inline, and their verdicts."""
    writer = KafkaRecordWriter(connection)
    written = []
    for number in numbers:
        inspection = verdict(number)
        frame = Frame(
            frame_id=inspection.frame_id,
            part_id=inspection.part_id,
            line_id=inspection.line_id,
            camera_id=inspection.camera_id,
            product=inspection.product,
            sequence=inspection.sequence,
            captured_at_ns=inspection.captured_at_ns,
            image=image,
        )
        place = writer.send(topics.FRAMES, key=b"cam-1", value=encode_frame(frame)).result(20)
        inspection = replace(inspection, position=place, **changes)
        value = encode_inspection(inspection)
        writer.send(topics.VERDICTS, key=inspection.part_id.encode(), value=value).result(20)
        written.append(inspection)
    writer.close(5)
    return written


def make_topics(connection: KafkaConnection) -> None:
    ensure_topics(connection, [TopicSpec(topics.FRAMES, 2), TopicSpec(topics.VERDICTS, 3)])


def publish_explained(connection: KafkaConnection, inspections: list[Inspection]) -> None:
    """Write what explains some verdicts."""
    writer = KafkaRecordWriter(connection)
    for inspection in inspections:
        case = explained_case(inspection, [explanation(), failed()], explained_at_ns=time.time_ns())
        writer.send(topics.EXPLAINED, key=b"cam-1", value=encode_explained_case(case)).result(20)
    writer.close(5)


def picture() -> bytes:
    return encode_png(np.random.default_rng(1).integers(0, 255, (120, 160, 3), dtype=np.uint8))


def test_the_page_shows_what_was_before_it_and_lives_through_a_broker_outage(tmp_path: Path) -> None:
    with LocalBroker(log_path=tmp_path / "broker.log") as broker:
        connection = KafkaConnection(broker.bootstrap_servers)
        make_topics(connection)
        before = publish(connection, range(20), picture())
        with dashboard(broker.bootstrap_servers, tmp_path / "dashboard.log") as page:
            until(lambda: page.seen() == 20, "the verdicts of the last minutes are there")
            after = publish(connection, range(20, 30), picture())
            until(lambda: page.seen() == 30, "new verdicts arrive")
            assert page.state("kafka") == "up"
            assert page.state("object_store") == "down"

            status, shown = page.get(f"/api/v1/frames/{before[3].frame_id}/image")
            assert (status, shown) == (200, picture())
            status, small = page.get(f"/api/v1/frames/{after[0].frame_id}/thumbnail?size=160")
            assert (status, small[:3]) == (200, b"\xff\xd8\xff")

            broker.kill()
            until(lambda: page.state("kafka") == "down", "the page says that the broker is gone")
            assert page.ready(), "the page itself stays reachable: it is what tells people"
            status, said = page.get(f"/api/v1/frames/{before[4].frame_id}/image")
            assert (status, json.loads(said)["error"]["reason"]) == (503, "unavailable")

            broker.start()
            make_topics(connection)
            publish(connection, range(30, 35), picture())
            until(lambda: page.seen() == 35, "verdicts arrive again", timeout_s=40)
            assert page.state("kafka") == "up"
            # The memory engine came back empty: the place is known, the picture is gone.
            status, said = page.get(f"/api/v1/frames/{before[5].frame_id}/image")
            assert (status, json.loads(said)["error"]["reason"]) == (410, "image_expired")
            assert psutil.Process(page.process.pid).memory_info().rss < RSS_LIMIT_BYTES


def test_a_part_from_before_the_dashboard_started_has_its_page(tmp_path: Path) -> None:
    with LocalBroker(log_path=tmp_path / "broker.log") as broker:
        connection = KafkaConnection(broker.bootstrap_servers)
        make_topics(connection)
        before = publish(connection, range(10), picture())
        # Times in Kafka are in milliseconds: what comes is certainly later.
        time.sleep(0.05)
        with dashboard(broker.bootstrap_servers, tmp_path / "dashboard.log", LIVE__LOOKBACK_S="0") as page:
            until(lambda: page.state("kafka") == "up", "the broker is read")
            publish(connection, range(10, 12), picture())
            until(lambda: page.seen() >= 2, "new verdicts arrive")
            assert page.seen() == 2, "without look-back nothing older is read"
            found = page.json(f"/api/v1/parts/{before[4].frame_id}")
            assert found["inspection"]["part_id"] == "part-4"
            assert page.get(f"/api/v1/frames/{before[4].frame_id}/image") == (200, picture())


def test_sigterm_tells_browsers_to_come_back_and_exits_with_0(tmp_path: Path) -> None:
    with LocalBroker(log_path=tmp_path / "broker.log") as broker:
        make_topics(KafkaConnection(broker.bootstrap_servers))
        with dashboard(broker.bootstrap_servers, tmp_path / "dashboard.log") as page:
            with urllib.request.urlopen(page.base + "/api/v1/stream", timeout=15) as stream:
                assert stream.readline() == b"retry: 1000\n"
                page.process.send_signal(signal.SIGTERM)
                rest = stream.read()
            assert rest.endswith(b"event: bye\ndata: {}\n\n")
            assert page.process.wait(15) == 0


def test_the_page_comes_up_while_the_broker_is_away(tmp_path: Path) -> None:
    with dashboard(f"127.0.0.1:{free_port()}", tmp_path / "dashboard.log") as page:
        until(lambda: page.state("kafka") == "down", "the page says that the broker is not there")
        assert page.get("/api/v1/wall")[0] == 200


def test_explanations_come_live_are_kept_within_bounds_and_older_ones_are_found_in_kafka(tmp_path: Path) -> None:
    bounds = {"EXPLANATIONS__MAX_CASES": "10", "EXPLANATIONS__MAX_BYTES": "300000"}
    with LocalBroker(log_path=tmp_path / "broker.log") as broker:
        connection = KafkaConnection(broker.bootstrap_servers)
        make_topics(connection)
        parts = publish(connection, range(40), picture())
        with dashboard(broker.bootstrap_servers, tmp_path / "dashboard.log", **bounds) as page:
            until(lambda: page.seen() == 40, "the verdicts are there although nothing explains them yet")

            def state(number: int) -> str:
                return str(page.json(f"/api/v1/parts/{parts[number].frame_id}")["explained"]["state"])

            # Nobody has made the topic of explanations: the line may run without an explainer.
            assert state(0) == "no_case"
            assert page.ready()
            ensure_topics(connection, [TopicSpec(topics.EXPLAINED, 2)])
            with urllib.request.urlopen(page.base + "/api/v1/stream", timeout=20) as stream:
                publish_explained(connection, parts[:1])
                until(lambda: stream.readline() == b"event: explained\n", "the page is told")
                assert parts[0].frame_id in json.loads(stream.readline().removeprefix(b"data: "))["frame_ids"]
            part = page.json(f"/api/v1/parts/{parts[0].frame_id}")
            assert [one["status"] for one in part["explanations"]] == ["done", "failed"]
            path = f"/api/v1/frames/{parts[0].frame_id}/explanations/invrise-soft.png"
            assert page.get(path)[1][:4] == b"\x89PNG"

            publish_explained(connection, parts[1:])
            until(lambda: state(39) == "explained", "the last one has come")
            # The first ones left the memory long ago. A part that passed is explained now and then, as a sample: it
            # is not searched for. One that has to be looked at is.
            assert state(0) == "no_case"
            [flagged] = publish(connection, range(40, 41), picture(), verdict=Verdict.FAIL)
            publish_explained(connection, [flagged, *parts[20:]])
            until(lambda: page.json(f"/api/v1/parts/{flagged.frame_id}")["explained"]["state"] == "explained", "found")
            assert page.json(f"/api/v1/parts/{flagged.frame_id}")["explanations"][0]["method"] == "invrise-soft"
            assert psutil.Process(page.process.pid).memory_info().rss < RSS_LIMIT_BYTES
