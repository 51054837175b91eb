"""The stand-ins of a line on one machine: alone on loopback, several at once, and back with their data after a kill."""

from __future__ import annotations

import datetime
import io
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from minio import Minio

from services.adapters.connection import KafkaConnection
from services.adapters.kafka import KafkaRecordWriter, KafkaTopicReader
from services.adapters.kafka_topics import TopicSpec, describe_topics, ensure_topics
from services.core.errors import UnavailableError
from services.local.broker import LocalBroker
from services.local.process import accepts_connections, free_port
from services.local.retention import Sweeper, sweep
from services.local.store import LocalStore

pytestmark = pytest.mark.integration

TOPIC = "kept"


def until(condition: Callable[[], bool], timeout_s: float = 15.0) -> bool:
    end_s = time.monotonic() + timeout_s
    while time.monotonic() < end_s:
        if condition():
            return True
        time.sleep(0.05)
    return False


def write(connection: KafkaConnection, values: list[bytes]) -> None:
    writer = KafkaRecordWriter(connection)
    for sent in [writer.send(TOPIC, key=b"k", value=value) for value in values]:
        sent.result(20)
    writer.close(5)


def read(connection: KafkaConnection) -> list[bytes]:
    reader = KafkaTopicReader(connection, [TOPIC])
    values = [record.value for record in reader.read_to_end(20)]
    reader.close()
    return values


def test_a_durable_broker_and_its_store_keep_every_record_over_a_kill(tmp_path: Path) -> None:
    with LocalStore(tmp_path / "store") as store, LocalBroker(store, log_path=tmp_path / "broker.log") as broker:
        connection = KafkaConnection(broker.bootstrap_servers)
        ensure_topics(connection, [TopicSpec(TOPIC, 1)])
        write(connection, [b"one", b"two"])
        store.ensure_bucket("images")
        store.client().put_object("images", "frames/a", io.BytesIO(b"picture"), 7)
        address = (store.endpoint, broker.bootstrap_servers)

        broker.kill()
        store.kill()
        store.start()
        broker.start()

        assert (store.endpoint, broker.bootstrap_servers) == address
        assert read(connection) == [b"one", b"two"]
        assert store.client().get_object("images", "frames/a").read() == b"picture"
        assert describe_topics(connection)[TOPIC] == 1


def test_two_stores_and_two_brokers_run_beside_each_other(tmp_path: Path) -> None:
    with LocalStore(tmp_path / "a") as one, LocalStore(tmp_path / "b") as other:
        one.ensure_bucket("only-here")
        assert not other.client().bucket_exists("only-here")
        with LocalBroker() as first, LocalBroker() as second:
            ensure_topics(KafkaConnection(first.bootstrap_servers), [TopicSpec(TOPIC, 2)])
            assert TOPIC not in describe_topics(KafkaConnection(second.bootstrap_servers))


def test_a_port_in_use_is_said_to_be_in_use(tmp_path: Path) -> None:
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        with pytest.raises(UnavailableError, match=f"port {port} must be free for the broker"):
            LocalBroker(port=port, log_path=tmp_path / "broker.log").start()
        with pytest.raises(UnavailableError, match=f"port {port} must be free for the object store"):
            LocalStore(tmp_path / "store", port=port).start()


def test_everything_listens_on_loopback_only(tmp_path: Path) -> None:
    with LocalStore(tmp_path / "store") as store, LocalBroker(log_path=tmp_path / "broker.log") as broker:
        for pid in (store.child.pid, broker.child.pid):
            inodes = {
                target[8:-1]
                for link in Path(f"/proc/{pid}/fd").iterdir()
                if (target := str(link.readlink() if link.is_symlink() else "")).startswith("socket:[")
            }
            rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
            rows += [row.split() for row in Path("/proc/net/tcp6").read_text().splitlines()[1:]]
            listening = {row[1].rpartition(":")[0] for row in rows if row[3] == "0A" and row[9] in inodes}
            assert listening == {"0100007F"}, listening


def test_the_stand_ins_die_with_a_process_that_is_killed(tmp_path: Path) -> None:
    script = f"""
import time
from pathlib import Path
from services.local.broker import LocalBroker
from services.local.store import LocalStore
store = LocalStore(Path({str(tmp_path / "store")!r})); store.start()
broker = LocalBroker(log_path=Path({str(tmp_path / "broker.log")!r})); broker.start()
print(store.endpoint.split(":")[1], broker.port, flush=True)
time.sleep(600)
"""
    owner = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    ports = [int(port) for port in owner.stdout.readline().split()]
    assert all(accepts_connections(port) for port in ports)
    owner.kill()
    owner.wait(5)
    owner.stdout.close()
    assert until(lambda: not any(accepts_connections(port) for port in ports))


def test_a_program_that_cannot_start_is_told_with_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.local.store.store_binary", lambda: Path("/bin/false"))
    with pytest.raises(UnavailableError, match="the object store must answer"):
        LocalStore(tmp_path / "store", port=free_port()).start(timeout_s=5)


def put(client: Minio, key: str) -> None:
    client.put_object("images", key, io.BytesIO(b"x"), 1)


@pytest.mark.parametrize("versioned", [False, True])
def test_a_sweep_deletes_whole_hours_that_are_over_and_nothing_else(tmp_path: Path, versioned: bool) -> None:
    with LocalStore(tmp_path / "store") as store:
        store.ensure_bucket("images")
        client = store.client()
        gone = [f"frames/line-1/camera-{camera}/20260301/07/{number}.jpg" for camera in (1, 2) for number in range(3)]
        kept = [
            "frames/line-1/camera-1/20260301/08/0.jpg",
            "frames/line-1/camera-1/20260301/notanhour/0.jpg",
            "frames/line-1/camera-1/stray.jpg",
            "models/default/1/model.json",
        ]
        for key in gone + kept:
            put(client, key)
        store.ensure_bucket("images", versioned=versioned)
        for key in (gone[0], kept[0]):
            put(client, key)
        # 07 ended at 08:00; two hours later, and a minute, it is over. 08 is not.
        now = datetime.datetime(2026, 3, 1, 10, 1, tzinfo=datetime.UTC)
        assert sweep(client, "images", keep_hours=2, now=now) == len(gone)
        left = sorted(str(item.object_name) for item in client.list_objects("images", recursive=True))
        assert left == sorted(kept)
        versions = list(client.list_objects("images", recursive=True, include_version=True))
        assert len(versions) == len(kept) + (1 if versioned else 0), "no version of what is over may stay"
        assert sweep(client, "images", keep_hours=2, now=now) == 0


def test_the_sweeper_gives_the_space_of_deleted_images_back(tmp_path: Path) -> None:
    def disk_bytes() -> int:
        return sum(path.stat().st_blocks * 512 for path in (tmp_path / "store").glob("*.dat"))

    with LocalStore(tmp_path / "store") as store:
        store.ensure_bucket("images")
        client = store.client()
        picture = bytes(range(256)) * 400
        for hour in range(4):
            for number in range(30):
                key = f"frames/line-1/camera-1/20260301/{hour:02d}/{number}.jpg"
                client.put_object("images", key, io.BytesIO(picture), len(picture))
        full = disk_bytes()
        assert full >= 120 * len(picture)
        now = datetime.datetime(2026, 3, 1, 3, 0, tzinfo=datetime.UTC)
        sweeper = Sweeper(
            client, "images", keep_hours=0, interval_s=0.5, reclaim=lambda: store.reclaim(60), clock=lambda: now
        )
        sweeper.start()
        try:
            assert until(lambda: disk_bytes() < full / 2, 60)
        finally:
            sweeper.stop()
        kept = [item.object_name for item in client.list_objects("images", recursive=True)]
        assert len(kept) == 30
        assert client.get_object("images", str(kept[0])).read() == picture


def test_a_sweep_without_a_store_says_so(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    store.start()
    client = store.client()
    store.kill()
    with pytest.raises(UnavailableError, match="the object store must answer to a sweep"):
        sweep(client, "images", keep_hours=1, now=datetime.datetime.now(datetime.UTC))
