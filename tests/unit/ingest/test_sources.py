from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from services.core.errors import SettingsError
from services.core.identity import derive_frame_id
from services.ingest.settings import (
    EncodingSettings,
    FolderReplaySource,
    FolderWatchSource,
    GenicamSource,
    RtspSource,
    SimulatedSource,
    VideoFileSource,
)
from services.ingest.source import Item, Source, SourceError
from services.ingest.sources import genicam
from services.ingest.sources.genicam import GenicamCameraSource
from services.ingest.sources.replay import ReplaySource
from services.ingest.sources.simulated import SimulatedLineSource
from services.ingest.sources.video import LiveSource, VideoSource, rtsp_source
from services.ingest.sources.watch import WatchSource
from tests.unit.ingest.conftest import wait_until


def frame_id(item: Item) -> str:
    return derive_frame_id("cam", item.source_item, item.pass_number, item.item_time_ns)


def read_all(source: Source, most: int = 100) -> list[Item]:
    items: list[Item] = []
    idle = 0
    while not source.exhausted and len(items) < most and idle < 20:
        item = source.read(0.05)
        idle = 0 if item is not None else idle + 1
        if item is not None:
            items.append(item)
    return items


def read_until_it_fails(source: Source) -> None:
    end_s = time.monotonic() + 10
    while time.monotonic() < end_s:
        source.read(0.05)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "images"
    path.mkdir()
    for name in ("b.jpg", "a.jpg", "c.png"):
        (path / name).write_bytes(name.encode())
        os.utime(path / name, ns=(1_700_000_000_000_000_000, 1_700_000_000_000_000_123))
    (path / ".hidden").write_bytes(b"no")
    (path / "deeper").mkdir()
    (path / "deeper" / "d.jpg").write_bytes(b"d")
    return path


def replay(path: Path, **changes: Any) -> ReplaySource:
    return ReplaySource(FolderReplaySource(kind="replay", path=path, **changes), max_image_bytes=1_000)


def test_a_replay_sends_each_file_once_by_name(folder: Path) -> None:
    source = replay(folder)
    source.open({})
    items = read_all(source)
    assert [(item.source_item, item.image) for item in items] == [
        ("a.jpg", b"a.jpg"),
        ("b.jpg", b"b.jpg"),
        ("c.png", b"c.png"),
    ]
    assert items[0].item_time_ns == 1_700_000_000_000_000_123
    assert abs(items[0].captured_at_ns - time.time_ns()) < 10e9
    assert source.exhausted


def test_a_replay_goes_on_where_it_stopped_with_the_same_ids(folder: Path) -> None:
    first = replay(folder)
    first.open({})
    before = read_all(first)
    second = replay(folder)
    second.open(before[0].cursor)
    after = read_all(second)
    assert [frame_id(item) for item in after] == [frame_id(item) for item in before[1:]]


def test_a_replay_goes_on_behind_a_file_that_is_gone(folder: Path) -> None:
    source = replay(folder)
    (folder / "a.jpg").unlink()
    source.open({"pass": 0, "after": "a.jpg"})
    assert [item.source_item for item in read_all(source)] == ["b.jpg", "c.png"]


def test_a_looping_replay_makes_new_ids_on_each_pass(folder: Path) -> None:
    source = replay(folder, loop=True)
    source.open({})
    items = read_all(source, 7)
    assert [item.pass_number for item in items] == [0, 0, 0, 1, 1, 1, 2]
    assert len({frame_id(item) for item in items}) == 7


def test_a_replay_ends_after_as_many_frames_as_were_wanted_over_a_restart_too(folder: Path) -> None:
    source = replay(folder, loop=True, max_frames=5)
    source.open({})
    items = read_all(source)
    assert len(items) == 5
    again = replay(folder, loop=True, max_frames=5)
    again.open(items[3].cursor)
    assert len(read_all(again)) == 1


def test_a_replay_keeps_its_rate(folder: Path) -> None:
    source = replay(folder, loop=True, rate_fps=50)
    source.open({})
    began_s = time.monotonic()
    read_all(source, 11)
    assert 0.19 <= time.monotonic() - began_s < 1.0


def test_a_replay_of_subfolders_and_patterns(folder: Path) -> None:
    source = replay(folder, recursive=True, pattern="*.jpg")
    source.open({})
    assert [item.source_item for item in read_all(source)] == ["a.jpg", "b.jpg", "deeper/d.jpg"]


def test_a_file_that_is_too_large_is_refused_and_not_read(folder: Path) -> None:
    (folder / "a.jpg").write_bytes(b"x" * 1_001)
    source = replay(folder)
    source.open({})
    item = read_all(source)[0]
    assert (item.image, item.refusal_reason) == (b"", "image_too_large")
    assert item.refusal == "an image must have at most 1000 bytes, got 1001 in a.jpg"


def test_an_empty_file_is_a_bad_image_and_goes_on_its_way(folder: Path) -> None:
    (folder / "a.jpg").write_bytes(b"")
    source = replay(folder)
    source.open({})
    item = read_all(source)[0]
    assert (item.image, item.refusal) == (b"", "")


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="a folder to replay must exist"):
        replay(tmp_path / "nothing").open({})


def watch(path: Path, journal: Path, **changes: Any) -> WatchSource:
    settings = FolderWatchSource(kind="watch", path=path, poll_ms=10, **{"settle_ms": 0} | changes)
    return WatchSource(settings, journal=journal, max_image_bytes=1_000)


def test_a_watched_folder_gives_each_file_once_even_after_a_restart(folder: Path, tmp_path: Path) -> None:
    source = watch(folder, tmp_path / "journal")
    source.open({})
    items = read_all(source)
    assert sorted(item.source_item for item in items) == ["a.jpg", "b.jpg", "c.png"]
    for item in items[:2]:
        source.safe(item)
    source.close()
    again = watch(folder, tmp_path / "journal")
    again.open({})
    repeated = read_all(again)
    assert [frame_id(item) for item in repeated] == [frame_id(items[2])]
    (folder / "new.jpg").write_bytes(b"new")
    assert [item.source_item for item in read_all(again)] == ["new.jpg"]


def test_a_watched_file_is_captured_when_it_was_written(folder: Path, tmp_path: Path) -> None:
    source = watch(folder, tmp_path / "journal")
    source.open({})
    item = read_all(source)[0]
    assert item.captured_at_ns == item.item_time_ns == 1_700_000_000_000_000_123


def test_a_file_is_not_taken_while_it_grows(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "a.jpg"
    source = watch(tmp_path / "in", tmp_path / "journal", settle_ms=200)
    source.open({})
    for size in range(1, 8):
        path.write_bytes(b"x" * size)
        assert source.read(0.05) is None
    found: list[Item] = []
    wait_until(lambda: bool(found.append(item) if (item := source.read(0.05)) else found))
    assert found[0].image == b"x" * 7


@pytest.mark.parametrize("after", ["move", "delete"])
def test_what_is_safe_leaves_the_folder(folder: Path, tmp_path: Path, after: str) -> None:
    source = watch(folder, tmp_path / "journal", after=after)
    source.open({})
    for item in read_all(source):
        source.safe(item)
    assert [path.name for path in folder.iterdir() if path.is_file()] == [".hidden"]
    assert (folder / "sent" / "a.jpg").exists() == (after == "move")


def test_a_refused_file_stays_where_it_is_and_is_not_offered_again(folder: Path, tmp_path: Path) -> None:
    (folder / "a.jpg").write_bytes(b"x" * 2_000)
    source = watch(folder, tmp_path / "journal", after="delete")
    source.open({})
    items = read_all(source)
    for item in items:
        source.safe(item)
    assert (folder / "a.jpg").exists()
    assert read_all(source) == []


def test_a_torn_journal_is_read_up_to_its_last_whole_entry(folder: Path, tmp_path: Path) -> None:
    source = watch(folder, tmp_path / "journal")
    source.open({})
    for item in read_all(source):
        source.safe(item)
    source.close()
    os.truncate(tmp_path / "journal", 20)
    again = watch(folder, tmp_path / "journal")
    again.open({})
    assert len(read_all(again)) == 1


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "line.avi"
    out = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 20, (64, 48))
    for number in range(10):
        out.write(np.full((48, 64, 3), number * 20, np.uint8))
    out.release()
    return path


def test_a_video_gives_its_pictures_and_goes_on_where_it_stopped(video: Path) -> None:
    settings = VideoFileSource(kind="video", path=video, rate_fps=0)
    source = VideoSource(settings)
    source.open({})
    items = read_all(source)
    assert len(items) == 10
    assert items[3].item_time_ns - items[2].item_time_ns == 50_000_000
    levels = [cv2.imdecode(np.frombuffer(item.image, np.uint8), 1).mean() for item in items]
    assert levels == sorted(levels)
    again = VideoSource(settings)
    again.open(items[6].cursor)
    assert [frame_id(item) for item in read_all(again)] == [frame_id(item) for item in items[7:]]


def test_a_looping_video_makes_new_ids(video: Path) -> None:
    source = VideoSource(VideoFileSource(kind="video", path=video, rate_fps=0, loop=True))
    source.open({})
    assert len({frame_id(item) for item in read_all(source, 25)}) == 25


def test_a_file_that_is_no_video_is_said(tmp_path: Path) -> None:
    (tmp_path / "no.mp4").write_bytes(b"no video")
    with pytest.raises(SourceError, match="must be one that OpenCV opens"):
        VideoSource(VideoFileSource(kind="video", path=tmp_path / "no.mp4")).open({})


def test_a_stream_that_opencv_opens_is_delivered_and_its_end_is_an_error(video: Path) -> None:
    source = rtsp_source(RtspSource(kind="rtsp", url=str(video)), lambda: None)
    source.open({})
    assert read_all_live(source)
    source.close()


def test_a_password_in_an_address_is_not_told() -> None:
    source = rtsp_source(RtspSource(kind="rtsp", url="rtsp://user:secret@127.0.0.1:1/x"), lambda: None)
    source.open({})
    with pytest.raises(SourceError, match=r"127\.0\.0\.1:1/x") as caught:
        read_until_it_fails(source)
    assert "secret" not in str(caught.value)


class FakeCapture:
    def __init__(self, pictures: int, *, opens: bool = True, pause_s: float = 0.0) -> None:
        self.pictures = pictures
        self.opens = opens
        self.pause_s = pause_s
        self.released = False

    def isOpened(self) -> bool:  # noqa: N802
        return self.opens

    def read(self) -> tuple[bool, Any]:
        time.sleep(self.pause_s)
        if self.pictures == 0:
            return False, None
        self.pictures -= 1
        return True, np.zeros((8, 8, 3), np.uint8)

    def release(self) -> None:
        self.released = True


def live(capture: Any, **changes: Any) -> LiveSource:
    values: dict[str, Any] = {
        "open_timeout_s": 0.3,
        "read_timeout_s": 0.3,
        "max_fps": 0,
        "encoding": EncodingSettings(),
    }
    return LiveSource("cam", lambda: capture, **values | changes)


def test_a_live_camera_delivers_until_it_ends_and_can_be_opened_again() -> None:
    capture = FakeCapture(3, pause_s=0.01)
    source = live(capture)
    source.open({})
    items = [item for _ in range(3) if (item := source.read(1.0))]
    assert len({frame_id(item) for item in items}) == 3
    with pytest.raises(SourceError, match="must go on delivering"):
        source.read(0.5)
    source.close()
    assert capture.released


def test_a_camera_that_hangs_is_noticed_at_the_deadline() -> None:
    source = live(FakeCapture(1, pause_s=5))
    source.open({})
    with pytest.raises(SourceError, match=r"must deliver within 0\.3 s"):
        read_until_it_fails(source)


def test_a_camera_that_does_not_open_is_said() -> None:
    source = live(FakeCapture(0, opens=False))
    source.open({})
    with pytest.raises(SourceError, match="must be one that OpenCV opens"):
        source.read(0.2)


def test_a_live_camera_that_is_not_read_gives_up_its_oldest_pictures() -> None:
    dropped: list[int] = []
    source = live(FakeCapture(50), on_dropped=lambda: dropped.append(1))
    source.open({})
    wait_until(lambda: len(dropped) == 46)
    assert len(read_all_live(source)) == 4


def read_all_live(source: LiveSource) -> list[Item]:
    items: list[Item] = []
    try:
        while True:
            item = source.read(0.05)
            if item is not None:
                items.append(item)
    except SourceError:
        return items


def simulated(**changes: Any) -> SimulatedLineSource:
    settings = SimulatedSource(kind="simulated", rate_fps=0, size_px=96, **changes)
    return SimulatedLineSource(settings, drawing="disc", epoch_ns=1_700_000_000_000_000_000)


def test_cameras_of_a_simulated_line_see_the_same_parts_from_their_own_side() -> None:
    items = []
    for view in (0, 1):
        source = simulated(view=view, max_frames=4)
        source.open({})
        items.append(read_all(source))
    assert [item.part_text for item in items[0]] == [item.part_text for item in items[1]]
    assert len({item.image for view in items for item in view}) == 8


def test_a_simulated_line_goes_on_where_it_stopped_with_the_same_parts() -> None:
    first = simulated(max_frames=6)
    first.open({})
    before = read_all(first)
    second = simulated(max_frames=6)
    second.open(before[2].cursor)
    after = read_all(second)
    assert [frame_id(item) for item in after] == [frame_id(item) for item in before[3:]]
    assert [item.image for item in after] == [item.image for item in before[3:]]


class FakeBuffer:
    def __init__(self, owner: FakeHarvester, component: Any) -> None:
        self.payload = SimpleNamespace(components=[component])
        self._owner = owner

    def queue(self) -> None:
        self._owner.queued += 1


class FakeHarvester:
    """Behaves as ``harvesters.core.Harvester`` does with one camera behind one producer."""

    def __init__(self, components: list[Any], *, fails: bool = False) -> None:
        self.components = components
        self.fails = fails
        self.calls: list[str] = []
        self.queued = 0

    def add_file(self, path: str) -> None:
        self.calls.append(f"add {path}")

    def update(self) -> None:
        if self.fails:
            raise RuntimeError("GC_ERR_IO")

    def create(self, which: Any) -> FakeHarvester:
        self.calls.append(f"create {which}")
        return self

    def start(self) -> None:
        self.calls.append("start")

    def try_fetch(self, *, timeout: float) -> FakeBuffer | None:
        if not self.components:
            time.sleep(timeout)
            return None
        return FakeBuffer(self, self.components.pop(0))

    def stop(self) -> None:
        self.calls.append("stop")

    def destroy(self) -> None:
        self.calls.append("destroy")

    def reset(self) -> None:
        self.calls.append("reset")


def component(data_format: str, data: Any, height: int = 4, width: int = 6) -> SimpleNamespace:
    return SimpleNamespace(data_format=data_format, height=height, width=width, data=data)


def genicam_source(fake: FakeHarvester) -> GenicamCameraSource:
    settings = GenicamSource(
        kind="genicam", producer=Path("/opt/producer.cti"), read_timeout_s=0.2, encoding=EncodingSettings(format="png")
    )
    return GenicamCameraSource(settings, lambda: fake)


@pytest.mark.parametrize(
    ("data_format", "data", "expected"),
    [
        ("Mono8", np.full(24, 7, np.uint8), 7),
        ("Mono12", np.full(24, 7 << 4, np.uint16), 7),
        ("Mono16", np.full(24, 7 << 8, np.uint16), 7),
        ("BayerRG8", np.full(24, 7, np.uint8), 7),
        ("RGB8", np.full(72, 7, np.uint8), 7),
        ("BGR8", np.full(72, 7, np.uint8), 7),
    ],
)
def test_a_genicam_camera_delivers_its_pixel_formats(data_format: str, data: Any, expected: int) -> None:
    fake = FakeHarvester([component(data_format, data)])
    source = genicam_source(fake)
    source.open({})
    item = source.read(0.1)
    assert item is not None
    pixels = cv2.imdecode(np.frombuffer(item.image, np.uint8), cv2.IMREAD_COLOR)
    assert pixels.shape == (4, 6, 3)
    assert set(np.unique(pixels)) == {expected}
    assert fake.queued == 1
    source.close()
    assert fake.calls == ["add /opt/producer.cti", "create 0", "start", "stop", "destroy", "reset"]


def test_a_red_genicam_pixel_stays_red() -> None:
    data = np.zeros((4, 6, 3), np.uint8)
    data[..., 0] = 200
    source = genicam_source(FakeHarvester([component("RGB8", data.ravel())]))
    source.open({})
    item = source.read(0.1)
    assert item is not None
    assert cv2.imdecode(np.frombuffer(item.image, np.uint8), 1)[0, 0].tolist() == [0, 0, 200]


def test_a_genicam_camera_that_falls_silent_or_fails_is_said() -> None:
    source = genicam_source(FakeHarvester([]))
    source.open({})
    with pytest.raises(SourceError, match=r"must deliver within 0\.2 s"):
        read_until_it_fails(source)
    with pytest.raises(SourceError, match="must open, got RuntimeError: GC_ERR_IO"):
        genicam_source(FakeHarvester([], fails=True)).open({})
    unknown = genicam_source(FakeHarvester([component("YUV422_8", np.zeros(48, np.uint8))]))
    unknown.open({})
    with pytest.raises(SourceError, match=r"pixel format must be .* got YUV422_8"):
        unknown.read(0.1)


def test_genicam_without_its_package_says_which_extra_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "harvesters.core", None)
    with pytest.raises(SettingsError, match=r"needs the extra sightline\[genicam\]"):
        genicam.harvester()
