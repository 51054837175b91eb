"""Ingest as a process of its own, on the real protocols, on bad days."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from sightline.v1 import ingest_service_pb2, ingest_service_pb2_grpc

from services.adapters.codec import decode_frame
from services.adapters.codec_outcome import decode_arrival
from services.adapters.connection import KafkaConnection, StoreConnection
from services.adapters.ingestclient import IngestClient
from services.adapters.kafka import KafkaTopicReader
from services.adapters.kafka_topics import ensure_topics, standard_topics
from services.adapters.objectstore import S3ObjectStore
from services.adapters.ports import Record
from services.core import topics
from services.core.outcome import Arrival
from services.core.types import Frame
from services.local.broker import LocalBroker
from services.local.store import LocalStore

pytestmark = pytest.mark.integration


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, f"{what} did not come about within {timeout_s} s"
        time.sleep(0.05)


class Ingest:
    """One process; its settings and its folder outlive it."""

    def __init__(self, folder: Path, broker: LocalBroker, store: LocalStore, cameras: list[dict[str, Any]]) -> None:
        self.folder = folder
        config = folder / "ingest.yaml"
        config.write_text(yaml.safe_dump({"cameras": cameras}))
        self.env = {
            **os.environ,
            "SIGHTLINE_CONFIG": str(config),
            "SIGHTLINE_KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "SIGHTLINE_KAFKA__DELIVERY_TIMEOUT_MS": "5000",
            "SIGHTLINE_KAFKA__REQUEST_TIMEOUT_MS": "2000",
            "SIGHTLINE_OBJECT_STORE__ENDPOINT": store.endpoint,
            "SIGHTLINE_OBJECT_STORE__BUCKET": "images",
            "SIGHTLINE_OBJECT_STORE__ACCESS_KEY": store.access_key,
            "SIGHTLINE_OBJECT_STORE__SECRET_KEY": store.secret_key,
            "SIGHTLINE_OBJECT_STORE__TIMEOUT_S": "2",
            "SIGHTLINE_SPOOL__DIRECTORY": str(folder / "spool"),
            "SIGHTLINE_SPOOL__OUTAGE_AFTER_S": "0.5",
            "SIGHTLINE_OPS__PORT": "0",
            "SIGHTLINE_GRPC__PORT": "0",
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.log = folder / "ingest.log"

    def start(self, **settings: str) -> None:
        self.log.unlink(missing_ok=True)
        with self.log.open("wb") as log:
            env = {**self.env, **{f"SIGHTLINE_{name}": value for name, value in settings.items()}}
            self.process = subprocess.Popen([sys.executable, "-m", "services.ingest"], env=env, stdout=log, stderr=log)
        wait_until(lambda: "grpc_port" in self.log.read_text(), f"the start, see {self.log}")

    def port(self, name: str) -> int:
        found = re.search(rf'"{name}": (\d+)', self.log.read_text())
        assert found is not None
        return int(found.group(1))

    def metric(self, name: str) -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port('ops_port')}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


class Topics:
    """Everything in the topics, read on."""

    def __init__(self, connection: KafkaConnection) -> None:
        self._connection = connection

    def records(self, topic: str = topics.FRAMES) -> list[Record]:
        reader = KafkaTopicReader(self._connection, [topic])
        found: list[Record] = []
        try:
            # Until it is quiet, not to the told ends: the durable stand-in counts those in batches.
            while fresh := reader.poll(max_records=1_000, timeout_s=0.7):
                found.extend(fresh)
        finally:
            reader.close()
        return found

    def frames(self) -> list[Frame]:
        return [decode_frame(record.value) for record in self.records()]

    def arrivals(self) -> list[Arrival]:
        return [decode_arrival(record.value) for record in self.records(topics.ARRIVALS)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStore]:
    with LocalStore(tmp_path_factory.mktemp("ingest-store")) as running:
        running.ensure_bucket("images")
        yield running


@pytest.fixture
def broker(store: LocalStore, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[LocalBroker]:
    durable = getattr(request, "param", "memory") == "durable"
    with LocalBroker(store if durable else None, log_path=tmp_path / "broker.log") as running:
        ensure_topics(KafkaConnection(running.bootstrap_servers), standard_topics())
        yield running


@pytest.fixture
def start(tmp_path: Path, broker: LocalBroker, store: LocalStore) -> Iterator[Callable[..., Ingest]]:
    started: list[Ingest] = []

    def make(*cameras: dict[str, Any], **settings: str) -> Ingest:
        ingest = Ingest(tmp_path, broker, store, list(cameras))
        started.append(ingest)
        ingest.start(**settings)
        return ingest

    yield make
    for ingest in started:
        if ingest.process is not None and ingest.process.poll() is None:
            ingest.process.kill()
            ingest.process.wait(10)


def camera(name: str, **source: Any) -> dict[str, Any]:
    return {"camera_id": name, "line_id": "line-1", "product": "disc", "cycle_time_ms": 500, "source": source}


def files(folder: Path, count: int, size_bytes: int = 500) -> Path:
    folder.mkdir()
    for number in range(count):
        (folder / f"part{number:04d}_top.jpg").write_bytes(b"\xff\xd8\xff" + number.to_bytes(4, "big") * size_bytes)
    return folder


def first_occurrences(frames: list[Frame], camera_id: str) -> list[int]:
    seen: dict[str, int] = {}
    for frame in frames:
        if frame.camera_id == camera_id:
            seen.setdefault(frame.frame_id, frame.sequence)
    return list(seen.values())


def check_all_came_in_order(ingest: Ingest, frames: list[Frame], camera_id: str, count: int) -> None:
    """Nothing is lost, and the order holds where the broker was honest.

    The durable stand-in, killed between taking a record's number and writing the record, later claims to have it and
    cannot say where. Ingest tells so and sends it again, behind those that it had taken since: as late as that broker
    made it, but not lost.
    """
    came = first_occurrences(frames, camera_id)
    assert sorted(came) == list(range(1, count + 1))
    assert came == sorted(came) or "does not say where it wrote" in ingest.log.read_text()


def check_each_frame_was_told_of(told: list[Arrival], frames: list[Frame]) -> None:
    """Word of a frame's part says what the frame says."""
    known = {(arrival.frame_id, arrival.part_id, arrival.arrived_at_ns) for arrival in told}
    assert {(frame.frame_id, frame.part_id, frame.captured_at_ns) for frame in frames} <= known


@pytest.mark.parametrize("broker", ["durable"], indirect=True)
def test_a_broker_that_is_killed_and_restarted_costs_no_frame_and_no_order(
    start: Callable[..., Ingest], broker: LocalBroker, tmp_path: Path
) -> None:
    folder = files(tmp_path / "in", 300)
    ingest = start(
        camera("cam-a", kind="replay", path=str(folder), rate_fps=40),
        camera("cam-b", kind="simulated", rate_fps=20, size_px=96, max_frames=150),
    )
    wait_until(lambda: ingest.metric("sightline_ingest_published_total") > 50, "the first frames")
    broker.kill()
    wait_until(lambda: ingest.metric("sightline_ingest_spool_frames") > 20, "frames on disk")
    broker.start()
    wait_until(lambda: ingest.metric("sightline_ingest_frames_total") == 450, "the end of the sources")
    wait_until(lambda: ingest.metric("sightline_ingest_spool_frames") == 0, "an empty spool", 90)
    assert ingest.stop() == 0
    found = Topics(KafkaConnection(broker.bootstrap_servers)).frames()
    assert len({frame.frame_id for frame in found if frame.camera_id in {"cam-a", "cam-b"}}) == 450
    for name, count in (("cam-a", 300), ("cam-b", 150)):
        check_all_came_in_order(ingest, found, name, count)
    told = Topics(KafkaConnection(broker.bootstrap_servers)).arrivals()
    check_each_frame_was_told_of(told, [frame for frame in found if frame.camera_id in {"cam-a", "cam-b"}])
    log = ingest.log.read_text()
    assert "frames go to disk" in log
    assert "frames go straight again" in log


def test_ingest_killed_again_and_again_sends_each_file_with_one_id_and_loses_none(
    start: Callable[..., Ingest], broker: LocalBroker, tmp_path: Path
) -> None:
    folder = files(tmp_path / "in", 240)
    ingest = start(camera("cam-a", kind="replay", path=str(folder), rate_fps=120))
    told = Topics(KafkaConnection(broker.bootstrap_servers))
    for least in (40, 120):
        wait_until(lambda least=least: len({f.frame_id for f in told.frames()}) > least, f"{least} frames")  # type: ignore[misc]
        ingest.kill()
        ingest.start()
    wait_until(lambda: len({frame.source_item for frame in told.frames()}) == 240, "every file")
    assert ingest.stop() == 0
    found = told.frames()
    assert len({frame.frame_id for frame in found}) == 240
    assert len({(frame.frame_id, frame.sequence, frame.source_item, frame.part_id) for frame in found}) == 240
    check_each_frame_was_told_of(told.arrivals(), found)
    assert first_occurrences(found, "cam-a") == list(range(1, 241))
    # Started once more, there is nothing left to send.
    ingest.start()
    wait_until(lambda: "the source is at its end" in ingest.log.read_text(), "the end")
    assert ingest.stop() == 0
    assert len(told.frames()) == len(found)


def test_a_store_that_is_away_holds_large_images_and_lets_them_follow(
    start: Callable[..., Ingest], broker: LocalBroker, store: LocalStore, tmp_path: Path
) -> None:
    folder = files(tmp_path / "in", 80)
    ingest = start(camera("cam-a", kind="replay", path=str(folder), rate_fps=20), LIMITS__INLINE_LIMIT_BYTES="1000")
    wait_until(lambda: ingest.metric("sightline_ingest_published_total") > 10, "the first frames")
    store.kill()
    wait_until(lambda: ingest.metric("sightline_ingest_spool_frames") > 5, "frames on disk")
    told = Topics(KafkaConnection(broker.bootstrap_servers))
    # The parts are known at once, whatever becomes of their pictures.
    wait_until(lambda: len({each.frame_id for each in told.arrivals()}) == 80, "every part")
    assert len({frame.frame_id for frame in told.frames()}) < 80
    store.start()
    wait_until(lambda: len({frame.frame_id for frame in told.frames()}) == 80, "every frame", 90)
    assert ingest.stop() == 0
    found = told.frames()
    assert first_occurrences(found, "cam-a") == list(range(1, 81))
    objects = S3ObjectStore(StoreConnection(store.endpoint, "images", store.access_key, store.secret_key))
    for frame in found:
        assert frame.image is None
        assert frame.image_ref is not None
        name = frame.source_item
        assert objects.get(frame.image_ref.key) == (folder / name).read_bytes()


@pytest.mark.parametrize("broker", ["durable"], indirect=True)
def test_a_full_spool_holds_a_replay_up_until_the_broker_is_back(
    start: Callable[..., Ingest], broker: LocalBroker, tmp_path: Path
) -> None:
    folder = files(tmp_path / "in", 150, size_bytes=5_000)
    ingest = start(
        camera("cam-full", kind="replay", path=str(folder), rate_fps=50),
        SPOOL__MAX_BYTES="1000000",
        IN_FLIGHT_FRAMES="4",
    )
    wait_until(lambda: ingest.metric("sightline_ingest_published_total") > 5, "the first frames")
    broker.kill()
    wait_until(lambda: "the spool is full and the camera waits" in ingest.log.read_text(), "a full spool")
    assert ingest.metric("sightline_ingest_spool_bytes") <= 1_000_000
    assert ingest.metric("sightline_ingest_frames_total") < 100
    broker.start()
    told = Topics(KafkaConnection(broker.bootstrap_servers))
    # The durable broker keeps what other tests wrote: only this camera's frames count.
    wait_until(lambda: len(first_occurrences(told.frames(), "cam-full")) == 150, "every frame", 90)
    check_all_came_in_order(ingest, told.frames(), "cam-full", 150)
    assert ingest.metric("sightline_ingest_dropped_total") == 0
    assert ingest.stop() == 0


def test_bad_files_go_their_way_and_too_large_ones_are_told_of(
    start: Callable[..., Ingest], broker: LocalBroker, tmp_path: Path
) -> None:
    folder = files(tmp_path / "in", 3)
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "huge.jpg").write_bytes(bytes(60_000))
    (folder / "text.jpg").write_bytes(b"no image at all")
    ingest = start(camera("cam-a", kind="watch", path=str(folder), settle_ms=50), LIMITS__MAX_IMAGE_BYTES="50000")
    told = Topics(KafkaConnection(broker.bootstrap_servers))
    wait_until(lambda: len(told.frames()) == 5, "the frames")
    (dead,) = told.records(topics.dead_letter(topics.FRAMES))
    assert dict(dead.headers)["reason"] == b"image_too_large"
    assert {each.part_id: each.refusal for each in told.arrivals() if each.refusal} == {
        "huge": "an image must have at most 50000 bytes, got 60000 in huge.jpg"
    }
    assert decode_frame(dead.value).source_item == "huge.jpg"
    assert {frame.source_item for frame in told.frames()} >= {"empty.jpg", "text.jpg"}
    assert {frame.part_id for frame in told.frames()} >= {"part0000_top", "empty", "text"}
    assert ingest.metric("sightline_ingest_refused_total") == 1
    assert ingest.stop() == 0
    assert (folder / "huge.jpg").exists()


def test_one_camera_that_fails_does_not_stop_the_others(
    start: Callable[..., Ingest], broker: LocalBroker, tmp_path: Path
) -> None:
    ingest = start(
        camera("cam-gone", kind="rtsp", url="rtsp://127.0.0.1:1/none", open_timeout_s=1),
        camera("cam-missing", kind="replay", path=str(tmp_path / "nothing")),
        camera("cam-fine", kind="simulated", rate_fps=0, size_px=96, max_frames=20),
    )
    told = Topics(KafkaConnection(broker.bootstrap_servers))
    wait_until(lambda: len(told.frames()) == 20, "the frames of the camera that works")
    assert {frame.camera_id for frame in told.frames()} == {"cam-fine"}
    wait_until(lambda: ingest.log.read_text().count("camera is tried again") >= 3, "further tries")
    files(tmp_path / "nothing", 2)
    wait_until(lambda: len(told.frames()) == 22, "the camera that is back")
    assert ingest.stop() == 0


def test_a_line_s_trigger_makes_one_frame_of_each_triggered_camera(
    start: Callable[..., Ingest], broker: LocalBroker
) -> None:
    ingest = start(
        camera("cam-top", kind="simulated", size_px=96) | {"triggered": True},
        camera("cam-side", kind="simulated", size_px=96, view=1) | {"triggered": True},
    )
    client = IngestClient(f"127.0.0.1:{ingest.port('grpc_port')}", timeout_s=10)
    at_ns = time.time_ns()
    for number in range(5):
        assert client.trigger("line-1", f"part-{number}", "disc", "L-7", at_ns + number) == ("cam-top", "cam-side")
    client.close()
    told = Topics(KafkaConnection(broker.bootstrap_servers))
    wait_until(lambda: len(told.frames()) == 10, "the frames")
    found = told.frames()
    for name in ("cam-top", "cam-side"):
        assert [(frame.part_id, frame.lot) for frame in found if frame.camera_id == name] == [
            (f"part-{number}", "L-7") for number in range(5)
        ]
    # The views of one part show the same part.
    assert len({(frame.part_id, frame.source_item.rsplit("/", 1)[0]) for frame in found}) == 5
    check_each_frame_was_told_of(told.arrivals(), found)
    assert ingest.metric("sightline_ingest_triggers_total") == 10
    assert ingest.stop() == 0


def push(ingest: Ingest, requests: list[ingest_service_pb2.PublishRequest]) -> list[Any]:
    with grpc.insecure_channel(f"127.0.0.1:{ingest.port('grpc_port')}") as channel:
        stub = ingest_service_pb2_grpc.IngestServiceStub(channel)
        return list(stub.Publish(iter(requests), timeout=60))


def request(key: str, **changes: Any) -> ingest_service_pb2.PublishRequest:
    values = {
        "camera_id": "cam-p",
        "image": b"\xff\xd8\xff" + key.encode(),
        "captured_at_ns": 1_700_000_000_000_000_000,
    }
    return ingest_service_pb2.PublishRequest(idempotency_key=key, **values | changes)


def test_pushed_frames_are_answered_in_order_and_a_key_makes_one_frame(
    start: Callable[..., Ingest], broker: LocalBroker
) -> None:
    ingest = start(camera("cam-p", kind="push"), LIMITS__MAX_IMAGE_BYTES="50000")
    wrong = [
        request("", image=b"x"),
        request("e", image=b""),
        request("h", image=bytes(50_001)),
        request("u", camera_id="nobody"),
        request("l", line_id="../line"),
    ]
    answers = push(ingest, [*(request(f"k{number}") for number in range(100)), *wrong, request("k7"), request("z")])
    assert [answer.idempotency_key for answer in answers] == [
        *(f"k{number}" for number in range(100)), "", "e", "h", "u", "l", "k7", "z",
    ]  # fmt: skip
    assert [answer.ack.sequence for answer in answers[:100]] == list(range(1, 101))
    assert [answer.error.reason for answer in answers[100:105]] == [
        "invalid_input", "image_empty", "image_too_large", "not_found", "invalid_input",
    ]  # fmt: skip
    assert answers[105].ack == answers[7].ack
    assert answers[106].ack.sequence == 101
    told = Topics(KafkaConnection(broker.bootstrap_servers))
    assert [frame.frame_id for frame in told.frames()] == [
        *(answer.ack.frame_id for answer in answers[:100]), answers[106].ack.frame_id,
    ]  # fmt: skip
    ingest.kill()
    ingest.start()
    # After a restart the same key with the same time is the same frame, and no number is given twice.
    again = push(ingest, [request("k7"), request("new")])
    assert again[0].ack.frame_id == answers[7].ack.frame_id
    assert min(answer.ack.sequence for answer in again) > 101
    assert ingest.stop() == 0


def test_pushed_frames_are_safe_on_disk_while_the_broker_is_away(
    start: Callable[..., Ingest], broker: LocalBroker
) -> None:
    ingest = start(camera("cam-p", kind="push"))
    assert not push(ingest, [request("first")])[0].ack.spooled
    broker.kill()
    answers = push(ingest, [request(f"k{number}") for number in range(10)])
    assert all(answer.ack.spooled for answer in answers)
    ingest.kill()
    broker.start()
    connection = KafkaConnection(broker.bootstrap_servers)
    # This broker forgot its topics; in production they are still there.
    wait_until(lambda: bool(_made(connection)), "the topics")
    ingest.start()
    told = Topics(connection)
    wait_until(lambda: len(told.frames()) == 10, "the spooled frames")
    assert [frame.frame_id for frame in told.frames()] == [answer.ack.frame_id for answer in answers]
    assert ingest.stop() == 0


def _made(connection: KafkaConnection) -> bool:
    ensure_topics(connection, standard_topics())
    return True


def test_wrong_settings_are_listed_together(tmp_path: Path) -> None:
    config = tmp_path / "wrong.yaml"
    cameras = [camera("a", kind="simulated", rate_fps=-1), camera("b/c", kind="teleport")]
    config.write_text(yaml.safe_dump({"cameras": cameras}))
    env = {**os.environ, "SIGHTLINE_CONFIG": str(config)}
    done = subprocess.run(
        [sys.executable, "-m", "services.ingest"], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "RATE_FPS" in done.stderr
    assert "camera_id must start with a letter or digit" in done.stderr
    assert "teleport" in done.stderr
