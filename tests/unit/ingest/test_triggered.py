"""Triggered cameras: which picture becomes which part's."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from services.core.simulation.line import draw_part
from services.ingest.assembly import source_of
from services.ingest.encoding import encode_bgr
from services.ingest.settings import CameraSettings, EncodingSettings, GenicamSource, IngestSettings, SimulatedSource
from services.ingest.source import Item, Source
from services.ingest.sources.genicam import GenicamCameraSource
from services.ingest.sources.simulated import REFERENCE_SEED, SimulatedLineSource, seed_of_part
from services.ingest.sources.triggered import TriggeredSource
from services.ingest.triggers import TriggerQueue
from tests.unit.ingest.conftest import a_trigger
from tests.unit.ingest.test_sources import FakeCapture, FakeHarvester, component, live

EPOCH_NS = 1_700_000_000_000_000_000


@pytest.fixture
def queue() -> TriggerQueue:
    return TriggerQueue("cam-1", "line-1")


def read_one(source: Source) -> Item:
    end_s = time.monotonic() + 10
    while (item := source.read(0.05)) is None:
        assert time.monotonic() < end_s, "no picture came within 10 s"
    return item


def settings_of(source: dict[str, Any]) -> CameraSettings:
    values = {"camera_id": "cam-1", "line_id": "line-1", "product": "disc", "triggered": True, "source": source}
    return CameraSettings.model_validate(values)


def built(source: dict[str, Any], queue: TriggerQueue) -> Source:
    camera = settings_of(source)
    return source_of(camera, IngestSettings(cameras=[camera]), EPOCH_NS, queue)


def simulated(queue: TriggerQueue, **changes: Any) -> TriggeredSource:
    settings = SimulatedSource(kind="simulated", rate_fps=0, size_px=96, **changes)
    inner = SimulatedLineSource(settings, drawing=settings.drawing or "disc", epoch_ns=EPOCH_NS, triggers=queue)
    source = TriggeredSource(inner, queue, live=False)
    source.open({})
    return source


def drawn(part_id: str, **changes: Any) -> tuple[Item, str]:
    """A simulated picture of one part, and what was drawn."""
    queue = TriggerQueue("cam-1", "line-1")
    product = changes.pop("product", "")
    source = simulated(queue, **changes)
    queue.put(a_trigger(part_id, product=product))
    item = read_one(source)
    return item, item.source_item


def test_a_triggered_camera_takes_no_picture_of_its_own_accord(queue: TriggerQueue) -> None:
    source = simulated(queue)
    assert source.read(0.05) is None
    trigger = a_trigger("part-1")
    queue.put(trigger)
    assert read_one(source).trigger == trigger
    assert source.read(0.05) is None


def test_views_of_one_part_show_the_same_part_whatever_a_camera_missed() -> None:
    queue = TriggerQueue("cam-1", "line-1")
    source = simulated(queue)
    for part_id in ("part-1", "part-2", "part-3"):
        queue.put(a_trigger(part_id))
    told = [read_one(source).source_item for _ in range(3)]
    assert told[2] == drawn("part-3")[1] == f"disc/{seed_of_part('part-3')}/0"
    assert drawn("part-3", view=1)[1] == f"disc/{seed_of_part('part-3')}/1"
    assert drawn("part-3", seed=5)[1] == f"disc/{seed_of_part('part-3') + 5}/0"
    assert len(set(told)) == 3


def test_a_part_s_drawing_is_the_same_in_any_release() -> None:
    assert (seed_of_part("part-1"), seed_of_part("line-1-0000001")) == (11_041_266, 423_931_996)


def test_reference_parts_are_the_same_pieces_at_every_showing_known_to_be_good_and_bad() -> None:
    def picture(defect: str | None) -> bytes:
        part = draw_part("disc", REFERENCE_SEED, defect=defect, size_px=96)
        return encode_bgr(np.ascontiguousarray(part.image[:, :, ::-1]), EncodingSettings())

    good, _ = drawn("ref-good-7", defect_rate=1.0)
    assert good.image == drawn("ref-good-8", seed=9)[0].image == picture(None)
    bad, _ = drawn("ref-bad-7", defect_rate=0.0)
    assert bad.image == drawn("ref-bad-8", seed=9)[0].image == picture("scratch")


def test_another_recipe_is_drawn_where_the_settings_leave_it_open() -> None:
    assert drawn("part-1", product="weld")[1].startswith("weld/")
    assert drawn("part-1", product="weld", drawing="fabric")[1].startswith("fabric/")
    assert drawn("part-1", product="something-else")[1].startswith("disc/")


def test_a_triggered_replay_sends_the_next_file_for_each_part(queue: TriggerQueue, tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(name.encode())
    # The line sets the pace, whatever the rate says.
    source = built({"kind": "replay", "path": str(tmp_path), "rate_fps": 0.001}, queue)
    source.open({})
    assert source.read(0.05) is None
    for part_id in ("part-1", "part-2"):
        queue.put(a_trigger(part_id))
    items = [read_one(source), read_one(source)]
    assert [(item.source_item, item.trigger.part_id) for item in items if item.trigger is not None] == [
        ("a.jpg", "part-1"),
        ("b.jpg", "part-2"),
    ]
    assert not source.repeats
    queue.put(a_trigger("part-3"))
    assert source.read(0.05) is None
    assert source.exhausted


def test_a_live_camera_gives_the_first_picture_from_the_trigger_on(queue: TriggerQueue) -> None:
    source = TriggeredSource(live(FakeCapture(100_000, pause_s=0.002), triggers=queue, max_fps=0.001), queue, live=True)
    source.open({})
    before_ns = time.time_ns()
    # Pictures between triggers are read and thrown away.
    assert [source.read(0.02) for _ in range(5)] == [None] * 5
    for part_id in ("part-1", "part-2"):
        trigger = a_trigger(part_id)
        queue.put(trigger)
        item = read_one(source)
        assert item.trigger == trigger
        assert item.captured_at_ns >= trigger.triggered_at_ns > before_ns
    assert source.read(0.02) is None
    source.close()


def test_two_parts_of_a_live_camera_get_a_picture_each(queue: TriggerQueue) -> None:
    source = TriggeredSource(live(FakeCapture(100_000, pause_s=0.002), triggers=queue), queue, live=True)
    source.open({})
    for part_id in ("part-1", "part-2"):
        queue.put(a_trigger(part_id))
    items = [read_one(source), read_one(source)]
    assert [item.trigger.part_id for item in items if item.trigger is not None] == ["part-1", "part-2"]
    assert items[0].captured_at_ns < items[1].captured_at_ns
    source.close()


def test_a_live_camera_gives_no_picture_of_a_part_that_has_moved_on(queue: TriggerQueue) -> None:
    source = TriggeredSource(
        live(FakeCapture(100_000, pause_s=0.002), triggers=queue), queue, live=True, within_ms=1_000
    )
    source.open({})
    # Triggered while the camera was away: what is before it now is another part.
    passed = a_trigger("part-1", triggered_at_ns=time.time_ns() - 1_500_000_000)
    queue.put(passed)
    queue.put(a_trigger("part-2"))
    item = read_one(source)
    assert item.trigger is not None
    assert item.trigger.part_id == "part-2"
    assert source.read(0.02) is None
    source.close()


def test_a_genicam_camera_that_is_itself_triggered_may_be_silent_between_two_parts(queue: TriggerQueue) -> None:
    fake = FakeHarvester([component("Mono8", np.full(24, 7, np.uint8))])
    settings = GenicamSource(kind="genicam", producer=Path("/opt/producer.cti"), read_timeout_s=0.05)
    source = TriggeredSource(GenicamCameraSource(settings, lambda: fake, triggers=queue), queue, live=True)
    source.open({})
    # The first picture is thrown away, its buffer goes back; then there is silence, longer than the deadline.
    assert [source.read(0.03) for _ in range(5)] == [None] * 5
    assert fake.queued == 1
    queue.put(a_trigger("part-1"))
    fake.components.append(component("Mono8", np.full(24, 7, np.uint8)))
    item = read_one(source)
    assert item.trigger is not None
    assert item.trigger.part_id == "part-1"


@pytest.mark.parametrize(
    "source",
    [{"kind": "watch", "path": "x"}, {"kind": "video", "path": "x.avi"}, {"kind": "push"}],
    ids=["watch", "video", "push"],
)
def test_a_source_that_cannot_be_asked_must_not_be_triggered(source: dict[str, Any]) -> None:
    rule = (
        f"triggered must be set only for a source of kind genicam, replay, rtsp, simulated, usb, got {source['kind']}"
    )
    with pytest.raises(ValidationError, match=rule):
        settings_of(source)
