"""What every ``ObjectStore`` promises, on the memory one and on a real S3 server."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable

import pytest

from services.adapters.memory import MemoryObjectStore
from services.adapters.objectstore import S3ObjectStore
from services.adapters.ports import ObjectStore
from services.core.errors import ConflictError, InvalidInputError, NotFoundError


@pytest.fixture(params=["memory", pytest.param("s3", marks=pytest.mark.integration)])
def store(request: pytest.FixtureRequest) -> ObjectStore:
    if request.param == "memory":
        return MemoryObjectStore()
    return S3ObjectStore(request.getfixturevalue("object_store_connection"))


@pytest.fixture
def prefix(unique: Callable[[str], str]) -> str:
    return unique("contract")


def test_what_was_put_is_got_with_its_size_and_digest(store: ObjectStore, prefix: str) -> None:
    data = bytes(range(256)) * 50
    ref = store.put(f"{prefix}/a.bin", data)
    assert (ref.bucket, ref.key, ref.size_bytes) == (store.bucket, f"{prefix}/a.bin", len(data))
    assert ref.sha256 == hashlib.sha256(data).hexdigest()
    assert store.get(ref.key) == data


def test_a_second_put_replaces(store: ObjectStore, prefix: str) -> None:
    store.put(f"{prefix}/a", b"one")
    store.put(f"{prefix}/a", b"two!")
    assert store.get(f"{prefix}/a") == b"two!"
    assert store.stat(f"{prefix}/a").size_bytes == 4


def test_put_new_refuses_what_is_there_and_leaves_it(store: ObjectStore, prefix: str) -> None:
    store.put_new(f"{prefix}/a", b"one")
    with pytest.raises(ConflictError):
        store.put_new(f"{prefix}/a", b"two")
    assert store.get(f"{prefix}/a") == b"one"


def test_an_empty_object_is_an_object(store: ObjectStore, prefix: str) -> None:
    store.put(f"{prefix}/empty", b"")
    assert store.get(f"{prefix}/empty") == b""
    assert store.exists(f"{prefix}/empty")


def test_what_is_not_there_is_not_found(store: ObjectStore, prefix: str) -> None:
    with pytest.raises(NotFoundError):
        store.get(f"{prefix}/nothing")
    with pytest.raises(NotFoundError):
        store.stat(f"{prefix}/nothing")
    assert not store.exists(f"{prefix}/nothing")


def test_an_object_above_the_limit_is_refused_and_the_next_read_works(store: ObjectStore, prefix: str) -> None:
    store.put(f"{prefix}/big", b"x" * 1_000_000)
    with pytest.raises(InvalidInputError, match="at most 999999 bytes"):
        store.get(f"{prefix}/big", max_bytes=999_999)
    assert len(store.get(f"{prefix}/big", max_bytes=1_000_000)) == 1_000_000


def test_list_gives_everything_under_a_prefix_and_nothing_else(store: ObjectStore, prefix: str) -> None:
    keys = {f"{prefix}/x/{number:03}/a" for number in range(15)}
    for key in keys | {f"{prefix}-other/a"}:
        store.put(key, b"1")
    found = list(store.list(f"{prefix}/"))
    assert {stat.key for stat in found} == keys
    assert len(found) == len(keys)
    assert all(stat.size_bytes == 1 and abs(stat.modified_ns - time.time_ns()) < 600e9 for stat in found)


def test_delete_takes_what_is_there_and_what_is_not(store: ObjectStore, prefix: str) -> None:
    store.put(f"{prefix}/a", b"1")
    store.put(f"{prefix}/b", b"1")
    store.delete([f"{prefix}/a", f"{prefix}/never"])
    assert not store.exists(f"{prefix}/a")
    assert store.exists(f"{prefix}/b")


def test_ensure_bucket_may_be_called_twice(store: ObjectStore) -> None:
    store.ensure_bucket()
    store.ensure_bucket()
