from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from services.core.identity import validate_id
from services.ingest.parts import PartNames, checked_item_name
from services.ingest.settings import CameraSettings, IngestSettings
from services.ingest.source import Item


def camera(**part: Any) -> CameraSettings:
    source = {"kind": "replay", "path": "x"}
    return CameraSettings.model_validate(
        {"camera_id": "cam", "line_id": "line-1", "product": "disc", "part": part, "source": source}
    )


def item(text: str = "") -> Item:
    return Item(b"", "x", 0, 1, 1, part_text=text)


def names(**part: Any) -> PartNames:
    return PartNames(camera(**part), 1_700_000_000_000_000_000)


def test_a_part_is_the_stem_of_the_file_or_what_the_pattern_finds() -> None:
    assert names().part_id(item("housing-17"), 1) == "housing-17"
    assert names(pattern=r"^(?P<part>[0-9]+)_").part_id(item("0017_top"), 1) == "0017"
    assert names(pattern=r"_([a-z]+)$").part_id(item("0017_top"), 1) == "top"
    assert names(pattern=r"^(?P<part>[0-9]+)_").part_id(item("other"), 1) == "other"


def test_two_file_names_that_are_no_ids_do_not_become_one_part() -> None:
    first, second = names().part_id(item("Gehäuse 1"), 1), names().part_id(item("Gehäuse/1"), 1)
    assert first != second
    assert validate_id(first) == first


def test_a_counted_part_is_the_same_for_the_cameras_of_a_line() -> None:
    assert names(by="counter").part_id(item("file"), 12) == names().part_id(item(), 12)
    assert names().part_id(item(), 12) != names().part_id(item(), 13)


def test_a_trigger_file_names_the_part_and_counting_helps_out(tmp_path: Path) -> None:
    file = tmp_path / "part"
    part = names(by="trigger", trigger_file=file)
    assert part.part_id(item("ignored"), 3) == names().part_id(item(), 3)
    file.write_text("SN 4711\n")
    end_s = time.monotonic() + 5
    while not part.part_id(item(), 3).startswith("SN_4711-"):
        assert time.monotonic() < end_s


def test_a_long_item_name_is_cut_in_the_middle() -> None:
    name = checked_item_name("a" * 3_000 + ".jpg")
    assert len(name.encode()) <= 1_100
    assert name.endswith(".jpg")
    assert checked_item_name("short.jpg") == "short.jpg"


@pytest.mark.parametrize(
    ("part", "rule"),
    [
        ({"pattern": "("}, "must be a regular expression"),
        ({"pattern": "abc"}, "must have a group"),
        ({"by": "trigger"}, "trigger_file must be set"),
    ],
)
def test_part_settings_that_cannot_work_are_refused(part: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValidationError, match=rule):
        camera(**part)


def test_two_cameras_of_one_name_are_refused() -> None:
    with pytest.raises(ValidationError, match="camera_id must be unique over all cameras, got twice: cam"):
        IngestSettings(cameras=[camera(), camera()])


def test_live_video_drops_and_everything_else_blocks() -> None:
    source = {"kind": "rtsp", "url": "rtsp://x"}
    live = CameraSettings.model_validate({"camera_id": "c", "line_id": "l", "product": "p", "source": source})
    assert live.spool_policy == "drop-oldest"
    assert camera().spool_policy == "block"
    assert live.model_copy(update={"when_full": "block"}).spool_policy == "block"
