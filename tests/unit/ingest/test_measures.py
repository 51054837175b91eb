"""What ingest tells of its cameras: when the last frame came, what waits on disk and since when."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from services.adapters.memory import MemoryBroker, MemoryObjectStore, MemoryRecordWriter
from services.ingest.assembly import Cameras
from services.ingest.outgoing import Outgoing
from services.ingest.settings import IngestSettings
from tests.unit.ingest.conftest import MakeOutbox, a_frame, wait_until


def gauge(name: str, camera: str = "cam-1", **more: str) -> float | None:
    return REGISTRY.get_sample_value(f"sightline_ingest_{name}", {"camera": camera, **more})


def settings(tmp_path: Path, cameras: list[dict[str, Any]]) -> IngestSettings:
    return IngestSettings.model_validate({"cameras": cameras, "spool": {"directory": tmp_path / "spool"}})


def a_camera(name: str, **source: Any) -> dict[str, Any]:
    return {"camera_id": name, "line_id": "line-7", "product": "disc", "source": source}


def test_an_outage_shows_and_so_does_the_age_of_the_oldest_frame_on_disk(
    make_outbox: MakeOutbox, broker: MemoryBroker
) -> None:
    outbox = make_outbox()
    assert gauge("outage") == 0
    broker.unavailable = True
    for number in range(1, 4):
        outbox.submit(Outgoing(a_frame(number)), lambda _receipt: None)
    wait_until(lambda: gauge("outage") == 1)
    wait_until(lambda: gauge("spool_oldest_timestamp_seconds") == 1_700_000_000)
    broker.unavailable = False
    wait_until(lambda: not outbox.outage)
    assert gauge("outage") == 0
    assert gauge("spool_oldest_timestamp_seconds") == 0
    outbox.close(1)


def test_a_camera_tells_its_last_frame_until_its_source_is_at_its_end(
    tmp_path: Path, writer: MemoryRecordWriter, store: MemoryObjectStore
) -> None:
    wanted = settings(
        tmp_path,
        [
            a_camera("cam-endless", kind="simulated", rate_fps=50, seed=1, size_px=96),
            a_camera("cam-short", kind="simulated", rate_fps=0, seed=1, size_px=96, max_frames=2),
            a_camera("cam-pushed", kind="push"),
        ],
    )
    limit_before = REGISTRY.get_sample_value("sightline_ingest_spool_limit_bytes") or 0
    ingest = Cameras(wanted, writer, store)
    limit = REGISTRY.get_sample_value("sightline_ingest_spool_limit_bytes") or 0
    assert limit - limit_before == 3 * wanted.spool.max_bytes
    ingest.start()
    try:
        wait_until(lambda: (gauge("frames_total", "cam-endless") or 0) > 1)
        wait_until(lambda: all(camera.finished for camera in ingest.pulled if camera.camera_id == "cam-short"))
        first = gauge("last_frame_timestamp_seconds", "cam-endless") or 0
        assert first > 1_700_000_000
        wait_until(lambda: (gauge("last_frame_timestamp_seconds", "cam-endless") or 0) > first)
        assert gauge("frames_total", "cam-short") == 2
        assert gauge("last_frame_timestamp_seconds", "cam-short") is None, "no further frame is waited for"
        assert gauge("source_up", "cam-short") is None
        # Nobody has pushed anything: who pushes decides when.
        assert gauge("last_frame_timestamp_seconds", "cam-pushed") is None
    finally:
        ingest.close(5)
    assert gauge("camera_info", "cam-endless", line="line-7", product="disc", pace="free") == 1
    assert gauge("camera_info", "cam-pushed", line="line-7", product="disc", pace="pushed") == 1


def test_a_folder_in_which_nothing_lies_yet_is_no_camera_that_is_down(
    tmp_path: Path, writer: MemoryRecordWriter, store: MemoryObjectStore
) -> None:
    (tmp_path / "empty").mkdir()
    there = a_camera("cam-there", kind="watch", path=tmp_path / "empty")
    gone = a_camera("cam-gone", kind="watch", path=tmp_path / "gone")
    cameras = Cameras(settings(tmp_path, [there, gone]), writer, store)
    cameras.start()
    try:
        wait_until(lambda: gauge("source_up", "cam-there") == 1)
        wait_until(lambda: gauge("source_up", "cam-gone") == 0)
    finally:
        cameras.close(5)


@pytest.mark.parametrize(("triggered", "pace"), [(True, "triggered"), (False, "free")])
def test_a_camera_tells_what_sets_its_pace(
    tmp_path: Path, writer: MemoryRecordWriter, store: MemoryObjectStore, triggered: bool, pace: str
) -> None:
    camera = {**a_camera(f"cam-{pace}", kind="simulated", seed=1), "triggered": triggered}
    ingest = Cameras(settings(tmp_path, [camera]), writer, store)
    assert gauge("camera_info", f"cam-{pace}", line="line-7", product="disc", pace=pace) == 1
    ingest.close(5)
