"""``ExportService`` and ``CaseSearchService`` at a real port, asked by their clients and by the command."""

from __future__ import annotations

import io
import json
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from sightline.v1 import export_service_pb2, export_service_pb2_grpc, feedback_service_pb2
from typer.testing import CliRunner

from services.adapters.exportorder import ExportOrder
from services.adapters.ports import CaseFilter
from services.cli import app
from services.core.errors import BusyError, InvalidInputError, UnavailableError
from services.core.export_layout import Labels, Layout
from services.core.types import ImageRef, Verdict
from tests.support.feedback_station import FeedbackStation

MODEL_TOO = Labels.SETTLED_ELSE_MODEL


@pytest.fixture
def station(tmp_path: Path) -> Iterator[FeedbackStation]:
    made = FeedbackStation(tmp_path)
    yield made
    made.close()


class Held:
    """Holds the reading of pictures up until it is let go."""

    def __init__(self, station: FeedbackStation) -> None:
        self.reads = 0
        self.go = threading.Event()
        self._read = station.record.image
        station.record.image = self.image  # type: ignore[method-assign]

    def image(self, ref: ImageRef) -> bytes:
        self.reads += 1
        self.go.wait(10)
        return self._read(ref)


def wait_for(what: Callable[[], object], timeout_s: float = 10.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline_s, "it must come true in time"
        time.sleep(0.01)


def read(station: FeedbackStation, order: ExportOrder) -> zipfile.ZipFile:
    pieces, stream = [], station.exports.export(order)
    while (piece := stream.next()) is not None:
        pieces.append(piece.data)
    return zipfile.ZipFile(io.BytesIO(b"".join(pieces)))


def test_an_archive_crosses_the_wire_whole(station: FeedbackStation) -> None:
    for number, verdict in enumerate([Verdict.FAIL, Verdict.PASS, Verdict.REVIEW]):
        station.add_case(number, verdict)
    found = read(station, ExportOrder(Layout.COCO, labels=MODEL_TOO))
    assert found.testzip() is None
    told = json.loads(found.read("manifest.json"))
    assert (told["cases"], told["left_out"]) == (2, {"undecided": 1})
    none = read(station, ExportOrder(Layout.COCO, CaseFilter(camera_id="cam-2"), labels=MODEL_TOO))
    assert json.loads(none.read("manifest.json"))["cases"] == 0


def test_what_breaks_a_rule_is_refused(station: FeedbackStation) -> None:
    case_id = station.add_case(0)
    wrong: list[dict[str, Any]] = [
        {},
        {"layout": 99},
        {"layout": 1, "labels": 99},
        {"layout": 1, "case_ids": ["x"]},
        {"layout": 1, "case_ids": [case_id] * 10_001},
        {"layout": 1, "case_ids": [case_id], "filter": feedback_service_pb2.CaseFilter(line_id="line-1")},
        {"layout": 1, "filter": feedback_service_pb2.CaseFilter(line_id="../x")},
    ]
    with grpc.insecure_channel(f"127.0.0.1:{station.port}") as channel:
        stub = export_service_pb2_grpc.ExportServiceStub(channel)  # type: ignore[no-untyped-call]
        for fields in wrong:
            with pytest.raises(grpc.RpcError) as caught:
                next(stub.Export(export_service_pb2.ExportRequest(**fields), timeout=10))
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, fields


def test_one_export_too_many_is_refused_and_a_cancelled_one_makes_room_at_once(station: FeedbackStation) -> None:
    for number in range(30):
        station.add_case(number)
    held = Held(station)
    running = [station.exports.export(ExportOrder(Layout.LABELS, labels=MODEL_TOO)) for _ in range(2)]
    wait_for(lambda: held.reads >= 4)
    with pytest.raises(BusyError, match="at most 2 exports"):
        station.exports.export(ExportOrder(Layout.LABELS)).next()
    for one in running:
        one.cancel()
    held.go.set()
    deadline_s = time.monotonic() + 10
    while True:
        try:
            read(station, ExportOrder(Layout.LABELS))
            break
        except BusyError:
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
    # Those that were being read, and none of the other cases.
    assert held.reads < 20


def test_a_store_that_goes_away_is_told_as_an_error_and_not_as_an_end(station: FeedbackStation) -> None:
    for number in range(6):
        station.add_case(number)
    station.store.unavailable = True
    with pytest.raises(UnavailableError, match="must give the whole archive"):
        read(station, ExportOrder(Layout.LABELS, labels=MODEL_TOO))


def test_a_part_is_found_over_the_wire(station: FeedbackStation) -> None:
    ids = [station.add_case(number) for number in range(12)]
    cases, more = station.search.find("PART-000", limit=5)
    assert ([one.case_id for one in cases], more) == (ids[:5], True)
    cases, more = station.search.find(ids[11], limit=5)
    assert ([one.case_id for one in cases], more) == ([ids[11]], False)
    with pytest.raises(InvalidInputError, match="text must start with a letter"):
        station.search.find("..", limit=5)
    with pytest.raises(InvalidInputError, match="limit must be 1 to 200"):
        station.search.find("part", limit=201)


def test_the_command_writes_an_archive_whole_or_not_at_all(
    station: FeedbackStation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    station.add_case(0)
    monkeypatch.setenv("SIGHTLINE_FEEDBACK__ADDRESS", f"127.0.0.1:{station.port}")
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "parts.zip"
    asked = ["export", "--layout", "labels", "--out", str(out), "--model-labels", "--line", "line-1"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    assert "of 1 cases" in done.output
    with zipfile.ZipFile(out) as found:
        assert "labels.csv" in found.namelist()
    again = CliRunner().invoke(app, asked)
    assert again.exit_code == 2
    station.store.unavailable = True
    broken = CliRunner().invoke(app, ["export", "--layout", "coco", "--out", str(tmp_path / "b.zip"), "--model-labels"])
    assert isinstance(broken.exception, UnavailableError)
    assert sorted(path.name for path in tmp_path.glob("*.zip*")) == ["parts.zip"]
