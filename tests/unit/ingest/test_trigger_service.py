"""The way of a trigger: the client, ``IngestService.Trigger`` at a real port, the cameras, the records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sightline.v1 import ingest_service_pb2, ingest_service_pb2_grpc

from services.adapters.codec import decode_frame
from services.adapters.codec_outcome import decode_arrival
from services.adapters.ingestclient import IngestClient
from services.adapters.memory import MemoryBroker, MemoryObjectStore, MemoryRecordWriter
from services.core import topics
from services.core.errors import BusyError, InvalidInputError, NotFoundError, UnavailableError
from services.core.identity import derive_frame_id
from services.core.types import Frame
from services.ingest.assembly import Cameras
from services.ingest.servicer import IngestServicer
from services.ingest.settings import IngestSettings
from services.ingest.triggers import MAX_WAITING
from services.local.process import free_port
from services.runtime.grpc_server import GrpcServer
from services.runtime.lifecycle import Health
from services.runtime.settings import GrpcSettings
from tests.unit.ingest.conftest import wait_until

AT_NS = 1_700_000_000_000_000_000


class Line:
    """Ingest's cameras and its service, on memory."""

    def __init__(self, folder: Path, broker: MemoryBroker, cameras: list[dict[str, Any]]) -> None:
        settings = IngestSettings.model_validate({"cameras": cameras, "spool": {"directory": str(folder / "spool")}})
        self.broker = broker
        self.cameras = Cameras(settings, MemoryRecordWriter(broker), MemoryObjectStore())
        self._server = GrpcServer(GrpcSettings(port=0), Health())
        servicer = IngestServicer(self.cameras.pushed, self.cameras.triggers, unanswered=32)
        self._server.add(ingest_service_pb2_grpc.add_IngestServiceServicer_to_server, servicer, "Ingest")
        self._server.start()
        self.client = IngestClient(f"127.0.0.1:{self._server.port}", timeout_s=10)

    def frames(self) -> list[Frame]:
        return [decode_frame(record.value) for record in self.broker.records(topics.FRAMES)]

    def close(self) -> None:
        self.client.close()
        self._server.stop(0)
        self.cameras.close(5)


def camera(name: str, *, line: str = "line-1", triggered: bool = True, **source: Any) -> dict[str, Any]:
    return {
        "camera_id": name,
        "line_id": line,
        "product": "disc",
        "cycle_time_ms": 500,
        "triggered": triggered,
        "source": source or {"kind": "simulated", "size_px": 96},
    }


MakeLine = Callable[..., Line]


@pytest.fixture
def make_line(tmp_path: Path, broker: MemoryBroker) -> Iterator[MakeLine]:
    made: list[Line] = []

    def make(*cameras: dict[str, Any], start: bool = True) -> Line:
        line = Line(tmp_path / f"line-{len(made)}", broker, list(cameras))
        made.append(line)
        if start:
            line.cameras.start()
        return line

    yield make
    for line in made:
        line.close()


def test_a_trigger_makes_one_frame_of_each_camera_with_its_part_product_and_lot(make_line: MakeLine) -> None:
    line = make_line(
        camera("top"), camera("side", kind="simulated", size_px=96, view=1), camera("other", line="line-2")
    )
    assert line.client.trigger("line-1", "part-1", "weld", "L-7", AT_NS) == ("top", "side")
    wait_until(lambda: len(line.frames()) == 2, "both frames")
    frames = {frame.camera_id: frame for frame in line.frames()}
    assert set(frames) == {"top", "side"}
    for name, frame in frames.items():
        assert (frame.part_id, frame.product, frame.lot, frame.cycle_time_ms) == ("part-1", "weld", "L-7", 500)
        assert frame.frame_id == derive_frame_id(name, "part-1", 0, AT_NS)
        assert frame.captured_at_ns > AT_NS
    drawings = {frame.source_item.rsplit("/", 1)[0] for frame in frames.values()}
    assert len(drawings) == 1
    told = [decode_arrival(record.value) for record in line.broker.records(topics.ARRIVALS)]
    assert {(each.camera_id, each.part_id, each.product, each.lot) for each in told} == {
        ("top", "part-1", "weld", "L-7"),
        ("side", "part-1", "weld", "L-7"),
    }


def test_a_recipe_takes_effect_on_the_next_part_only(make_line: MakeLine) -> None:
    line = make_line(camera("top"))
    line.client.trigger("line-1", "part-1", "weld", "L-1")
    line.client.trigger("line-1", "part-2")
    wait_until(lambda: len(line.frames()) == 2, "both frames")
    assert [(frame.part_id, frame.product, frame.lot) for frame in line.frames()] == [
        ("part-1", "weld", "L-1"),
        ("part-2", "disc", ""),
    ]


def test_the_same_trigger_after_a_restart_makes_the_same_frame(make_line: MakeLine) -> None:
    for number in (1, 2):
        line = make_line(camera("top"))
        line.client.trigger("line-1", "part-1", "disc", "", AT_NS)
        wait_until(lambda line=line, number=number: len(line.frames()) == number, "the frame")  # type: ignore[misc]
    first, second = line.frames()
    assert (first.frame_id, first.image, first.source_item) == (second.frame_id, second.image, second.source_item)


def test_a_part_is_pictured_once_however_often_it_is_asked_for(make_line: MakeLine) -> None:
    line = make_line(camera("top"))
    answers = {line.client.trigger("line-1", "part-1", triggered_at_ns=AT_NS) for _ in range(3)}
    line.client.trigger("line-1", "part-2")
    wait_until(lambda: len(line.frames()) == 2, "both frames")
    assert answers == {("top",)}
    assert [frame.part_id for frame in line.frames()] == ["part-1", "part-2"]


def test_a_line_whose_cameras_run_freely_has_none_to_ask(make_line: MakeLine) -> None:
    line = make_line(camera("top", triggered=False), camera("in", triggered=False, kind="push"))
    with pytest.raises(NotFoundError, match="must have triggered cameras to be triggered, got line-1 without one"):
        line.client.trigger("line-1", "part-1")


def test_too_many_waiting_parts_are_refused(make_line: MakeLine) -> None:
    line = make_line(camera("top"), start=False)
    for number in range(MAX_WAITING):
        line.client.trigger("line-1", f"part-{number}")
    with pytest.raises(BusyError, match="at most 8 parts may wait"):
        line.client.trigger("line-1", "part-8")
    line.cameras.start()
    wait_until(lambda: len(line.frames()) == MAX_WAITING, "their pictures")
    assert line.client.trigger("line-1", "part-8") == ("top",)


def test_a_camera_at_the_end_of_its_source_is_asked_no_more(make_line: MakeLine) -> None:
    line = make_line(camera("top", kind="simulated", size_px=96, max_frames=1))
    line.client.trigger("line-1", "part-1")
    wait_until(lambda: line.cameras.finished, "the end of the source")
    with pytest.raises(NotFoundError):
        line.client.trigger("line-1", "part-2")


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"line_id": ""}, "line_id must not be empty"),
        ({"part_id": ""}, "part_id must not be empty"),
        ({"part_id": "../part"}, "part_id must start with a letter or digit"),
        ({"product": "a b"}, "product must start with a letter or digit"),
        ({"lot": "a/b"}, "lot must start with a letter or digit"),
        ({"triggered_at_ns": -1}, "triggered_at_ns must be >= 0, got -1"),
    ],
)
def test_a_trigger_that_breaks_a_rule_is_refused(make_line: MakeLine, changes: dict[str, Any], rule: str) -> None:
    line = make_line(camera("top"), start=False)
    with pytest.raises(InvalidInputError, match=rule):
        line.client.trigger(**{"line_id": "line-1", "part_id": "part-1"} | changes)


def test_an_ingest_service_that_is_away_is_unavailable() -> None:
    client = IngestClient(f"127.0.0.1:{free_port()}", timeout_s=10)
    with pytest.raises(UnavailableError, match="the ingest service must answer, got UNAVAILABLE"):
        client.trigger("line-1", "part-1")
    client.close()


def test_a_pushed_frame_carries_its_lot(make_line: MakeLine) -> None:
    line = make_line(camera("in", triggered=False, kind="push"))
    pushed = line.cameras.pushed["in"]
    values: dict[str, Any] = {"camera_id": "in", "part_id": "part-1", "image": b"\xff\xd8\xff", "captured_at_ns": AT_NS}
    for key, lot in (("1", "L-7"), ("2", "")):
        pushed.publish(ingest_service_pb2.PublishRequest(idempotency_key=key, lot=lot, **values))
    with pytest.raises(InvalidInputError, match="lot must start with a letter or digit"):
        pushed.publish(ingest_service_pb2.PublishRequest(idempotency_key="3", lot="a/b", **values))
    wait_until(lambda: len(line.frames()) == 2, "both frames")
    assert [frame.lot for frame in line.frames()] == ["L-7", ""]
    assert [decode_arrival(record.value).lot for record in line.broker.records(topics.ARRIVALS)] == ["L-7", ""]
