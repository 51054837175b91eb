from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from services.adapters.memory import MemoryBroker, MemoryObjectStore, MemoryRecordWriter
from services.adapters.spool import Spool
from services.core.types import Frame
from services.ingest.outbox import Outbox
from services.ingest.source import PartTrigger


def wait_until(condition: Callable[[], bool], what: str = "the condition", timeout_s: float = 10.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, f"{what} did not come about within {timeout_s} s"
        time.sleep(0.005)


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker(partitions=1)


@pytest.fixture
def writer(broker: MemoryBroker) -> MemoryRecordWriter:
    return MemoryRecordWriter(broker)


@pytest.fixture
def store() -> MemoryObjectStore:
    return MemoryObjectStore()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "queue", max_bytes=1_000_000)


MakeOutbox = Callable[..., Outbox]


@pytest.fixture
def make_outbox(writer: MemoryRecordWriter, store: MemoryObjectStore, spool: Spool) -> MakeOutbox:
    def make(**changes: object) -> Outbox:
        values = {"inline_limit_bytes": 10_000, "outage_after_s": 0.2, "retry_cap_s": 0.1} | changes
        queue = values.pop("spool", spool)
        return Outbox("cam-1", writer, store, queue, **values)  # type: ignore[arg-type]

    return make


def a_frame(sequence: int = 1, image: bytes = b"\xff\xd8\xffimage") -> Frame:
    from services.core.identity import derive_frame_id

    frame_id = derive_frame_id("cam-1", str(sequence), 0, 1_700_000_000_000_000_000)
    return Frame(frame_id, f"p-{sequence}", "line-1", "cam-1", "disc", sequence, 1_700_000_000_000_000_000, image=image)


def a_trigger(part_id: str = "part-1", triggered_at_ns: int = 0, **changes: str) -> PartTrigger:
    now_ns = time.time_ns()
    values = {"product": "", "lot": ""} | changes
    return PartTrigger(part_id, **values, triggered_at_ns=triggered_at_ns or now_ns, asked_at_ns=now_ns)
