"""The S3 adapter when the store misbehaves."""

from __future__ import annotations

import dataclasses
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from services.adapters.connection import StoreConnection
from services.adapters.objectstore import S3ObjectStore, StoreRefusedError
from services.core.errors import UnavailableError
from services.local.store import LocalStore

pytestmark = pytest.mark.integration


def test_a_store_that_is_not_there_is_said_so_soon() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    started_s = time.monotonic()
    with pytest.raises(UnavailableError, match="object store must answer in time to write a"):
        S3ObjectStore(StoreConnection(f"127.0.0.1:{port}", "bucket", "k", "s", timeout_s=2)).put("a", b"1")
    assert time.monotonic() - started_s < 5


def test_a_store_that_accepts_and_never_answers_ends_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        store = S3ObjectStore(StoreConnection(f"127.0.0.1:{port}", "bucket", "k", "s", timeout_s=0.5))
        started_s = time.monotonic()
        with pytest.raises(UnavailableError):
            store.get("a")
        assert time.monotonic() - started_s < 3


def test_wrong_keys_are_refused_for_good(object_store_connection: StoreConnection) -> None:
    wrong = dataclasses.replace(object_store_connection, secret_key="not-the-secret-of-anyone")
    with pytest.raises(StoreRefusedError):
        S3ObjectStore(wrong).put("a", b"1")


def test_many_threads_share_a_small_pool(object_store_connection: StoreConnection) -> None:
    store = S3ObjectStore(object_store_connection, connections=2)
    with ThreadPoolExecutor(8) as pool:
        refs = list(pool.map(lambda number: store.put(f"threads/{number}", b"%d" % number), range(40)))
        read = list(pool.map(lambda ref: store.get(ref.key), refs))
    assert read == [b"%d" % number for number in range(40)]


def test_a_store_that_was_killed_serves_what_it_had_when_it_is_back(tmp_path: Path) -> None:
    with LocalStore(tmp_path) as server:
        server.ensure_bucket("killed")
        store = S3ObjectStore(
            StoreConnection(server.endpoint, "killed", server.access_key, server.secret_key, timeout_s=2)
        )
        store.put("kept", b"yes")
        server.kill()
        with pytest.raises(UnavailableError):
            store.put("lost", b"no")
        back = threading.Thread(target=server.start)
        back.start()
        end_s = time.monotonic() + 60
        while True:
            try:
                assert store.get("kept") == b"yes"
                break
            except UnavailableError:
                assert time.monotonic() < end_s
                time.sleep(0.2)
        back.join(60)
