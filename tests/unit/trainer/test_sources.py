"""Images of a fit from the object store, and from what the line saw."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest

from services.adapters import codec
from services.adapters.datasets import read_labelled_folder
from services.adapters.memory import MemoryBroker, MemoryObjectStore, MemoryTopicReader
from services.core import topics
from services.core.errors import InvalidInputError, NotFoundError, UnavailableError
from services.core.identity import derive_frame_id
from services.core.imaging import encode_png
from services.core.timespan import TimeWindow
from services.core.types import Frame, Inspection, OperatingPoint, Reason, Verdict
from services.trainer.sources import LineQuery, collect_from_line, collect_from_store

AGES = TimeWindow(1, 4_000_000_000_000)
FROM_NS = 1_764_000_000_000_000_000


def png(seed: int) -> bytes:
    return encode_png(np.random.default_rng(seed).integers(0, 255, (24, 24, 3), np.uint8))


def frame(number: int, *, camera: str = "cam-1", part: str = "", image: bytes | None = None) -> Frame:
    captured_ns = FROM_NS + number * 1_000_000
    return Frame(
        frame_id=derive_frame_id(camera, f"item-{number}", 0, captured_ns),
        part_id=part or f"part-{number}",
        line_id="line-1",
        camera_id=camera,
        product="cap",
        sequence=number + 1,
        captured_at_ns=captured_ns,
        image=png(number) if image is None else image,
    )


def inspection(one: Frame, verdict: Verdict) -> Inspection:
    return Inspection(
        frame_id=one.frame_id,
        part_id=one.part_id,
        line_id=one.line_id,
        camera_id=one.camera_id,
        product=one.product,
        sequence=one.sequence,
        captured_at_ns=one.captured_at_ns,
        decided_at_ns=one.captured_at_ns + 1,
        verdict=verdict,
        reason=Reason.SCORE,
        score=0.1,
        operating_point=OperatingPoint(0.5, 0.4, 0.6),
        uncertainty=0.1,
        alias="default",
        model_version=1,
    )


class Line:
    """Topics and a store, as a line fills them."""

    def __init__(self) -> None:
        self.broker, self.store = MemoryBroker(), MemoryObjectStore()

    def saw(self, *frames: Frame) -> None:
        for one in frames:
            self.broker.append(topics.FRAMES, key=one.camera_id.encode(), value=codec.encode_frame(one))

    def said(self, one: Frame, verdict: Verdict) -> None:
        value = codec.encode_inspection(inspection(one, verdict))
        self.broker.append(topics.VERDICTS, key=one.part_id.encode(), value=value)

    def collect(self, folder: Path, query: LineQuery | None = None, *, passed_only: bool = False):  # type: ignore[no-untyped-def]
        folder.mkdir(exist_ok=True)
        verdicts = MemoryTopicReader(self.broker, [topics.VERDICTS]) if passed_only else None
        frames = MemoryTopicReader(self.broker, [topics.FRAMES])
        return collect_from_line(query or LineQuery(AGES), frames, self.store, folder, verdicts=verdicts)


@pytest.fixture
def line() -> Line:
    return Line()


def groups(folder: Path) -> list[str]:
    return sorted(one.group for one in read_labelled_folder(folder))


# ---- the line


def test_what_the_line_saw_becomes_a_folder_of_good_parts(line: Line, tmp_path: Path) -> None:
    line.saw(*(frame(number) for number in range(5)))
    collected = line.collect(tmp_path)
    images = read_labelled_folder(tmp_path)
    assert collected.images == len(images) == 5
    assert not any(one.defect for one in images)
    assert {one.path.read_bytes() for one in images} == {png(number) for number in range(5)}
    assert collected.origin.source == "line"
    assert "5 of 5 frames of 1970-01-01T00:00:00Z to" in collected.origin.description
    assert collected.complaint == ""


def test_views_of_one_part_share_its_group(line: Line, tmp_path: Path) -> None:
    line.saw(frame(0, camera="left", part="a"), frame(1, camera="right", part="a"), frame(2, camera="left", part="b"))
    line.collect(tmp_path)
    assert groups(tmp_path) == ["a", "a", "b"]


def test_an_image_by_reference_comes_from_the_object_store(line: Line, tmp_path: Path) -> None:
    ref = line.store.put("frames/x.png", png(7))
    line.saw(dataclasses.replace(frame(0), image=None, image_ref=ref))
    line.collect(tmp_path)
    assert [one.path.read_bytes() for one in read_labelled_folder(tmp_path)] == [png(7)]


def test_only_the_cameras_and_the_product_that_were_named_are_taken(line: Line, tmp_path: Path) -> None:
    other = dataclasses.replace(frame(3, camera="left"), product="disc")
    line.saw(frame(0, camera="left"), frame(1, camera="right"), frame(2, camera="top"), other)
    line.collect(tmp_path, LineQuery(AGES, ("left", "right"), "cap"))
    assert groups(tmp_path) == ["part-0", "part-1"]


def test_of_more_frames_a_sample_is_taken_that_the_seed_decides(line: Line, tmp_path: Path) -> None:
    line.saw(*(frame(number, camera=f"cam-{number % 3}") for number in range(60)))
    drawn = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        collected = line.collect(tmp_path / name, LineQuery(AGES, most=12, seed=seed))
        assert collected.images == 12
        assert len(list((tmp_path / name / "images").iterdir())) == 12, "what was let go is not left behind"
        drawn.append(groups(tmp_path / name))
    assert drawn[0] == drawn[1] != drawn[2]
    assert "12 of 60 frames" in collected.origin.description


def test_a_sample_takes_early_and_late_frames_alike(line: Line, tmp_path: Path) -> None:
    line.saw(*(frame(number) for number in range(400)))
    line.collect(tmp_path, LineQuery(AGES, most=100))
    early = sum(int(group.split("-")[1]) < 200 for group in groups(tmp_path))
    assert 35 <= early <= 65


def test_a_frame_that_was_written_twice_is_one_image(line: Line, tmp_path: Path) -> None:
    line.saw(frame(0), frame(0), frame(1))
    assert line.collect(tmp_path).images == 2


def test_frames_that_cannot_be_used_are_counted_and_left_out(line: Line, tmp_path: Path) -> None:
    gone = MemoryObjectStore().put("frames/expired.png", png(9))
    line.saw(
        frame(0),
        frame(1, image=b"no image"),
        frame(2, image=png(2)[:60]),
        dataclasses.replace(frame(3), image=None, image_ref=gone),
    )
    line.broker.append(topics.FRAMES, key=b"cam-1", value=b"\xff\xff no frame")
    collected = line.collect(tmp_path)
    assert groups(tmp_path) == ["part-0"]
    assert sorted(collected.left_out.values()) == [
        "event_undecodable",
        "image_truncated",
        "image_unsupported",
        "not_found",
    ]
    assert "frames left out whose image cannot be used: 4: " in collected.complaint


def test_a_window_without_a_usable_image_is_refused(line: Line, tmp_path: Path) -> None:
    line.saw(frame(0, image=b"no image"))
    with pytest.raises(InvalidInputError, match="must hold frames with a usable image, got 1 without"):
        line.collect(tmp_path)


def test_passed_only_keeps_what_the_live_model_passed(line: Line, tmp_path: Path) -> None:
    frames = [frame(number) for number in range(5)]
    line.saw(*frames)
    for one, verdict in zip(frames, (Verdict.PASS, Verdict.FAIL, Verdict.REVIEW, Verdict.PASS), strict=False):
        line.said(one, verdict)
    collected = line.collect(tmp_path, passed_only=True)
    assert groups(tmp_path) == ["part-0", "part-3"], "frame 4 has no verdict: nobody passed it"
    assert "2 of 2 passed frames" in collected.origin.description


def test_the_last_word_on_a_frame_counts(line: Line, tmp_path: Path) -> None:
    frames = [frame(number) for number in range(2)]
    line.saw(*frames)
    for verdict in (Verdict.PASS, Verdict.FAIL):
        line.said(frames[0], verdict)
    for verdict in (Verdict.FAIL, Verdict.PASS):
        line.said(frames[1], verdict)
    line.collect(tmp_path, passed_only=True)
    assert groups(tmp_path) == ["part-1"]


def test_a_window_without_frames_is_refused_and_named(line: Line, tmp_path: Path) -> None:
    line.saw(frame(0))
    with pytest.raises(NotFoundError, match=r"must have seen frames in 1970-01-01T00:00:00Z to 1970-01-01T00:01:00Z"):
        line.collect(tmp_path, LineQuery(TimeWindow(0, 60_000)))
    with pytest.raises(NotFoundError, match="cameras nowhere, got none"):
        line.collect(tmp_path, LineQuery(AGES, ("nowhere",)))


def test_none_passed_is_said_so(line: Line, tmp_path: Path) -> None:
    line.saw(frame(0))
    with pytest.raises(NotFoundError, match="must have seen passed frames"):
        line.collect(tmp_path, passed_only=True)


def test_a_broker_that_is_away_is_said_so(line: Line, tmp_path: Path) -> None:
    line.saw(frame(0))
    line.broker.unavailable = True
    with pytest.raises(UnavailableError):
        line.collect(tmp_path)


# ---- the object store


def fill(store: MemoryObjectStore, prefix: str) -> None:
    rows = [("a.png", 0, "p1"), ("b.png", 0, "p1"), ("c.png", 1, "p2")]
    for number, (name, _, _) in enumerate(rows):
        store.put(f"{prefix}/images/{name}", png(number))
    text = "file,defect,group\n" + "".join(f"{name},{defect},{group}\n" for name, defect, group in rows)
    store.put(f"{prefix}/labels.csv", text.encode())


@pytest.mark.parametrize("asked", ["parts/caps", "/parts/caps/"])
def test_a_labelled_folder_comes_out_of_the_object_store(asked: str, tmp_path: Path) -> None:
    store, told = MemoryObjectStore(), []
    fill(store, "parts/caps")
    store.put("parts/caps-of-others/images/d.png", png(9))
    store.put("parts/caps/readme.txt", b"not for a fit")
    collected = collect_from_store(store, asked, tmp_path, lambda share, _: told.append(share))
    assert [(one.path.name, one.defect, one.group) for one in read_labelled_folder(tmp_path)] == [
        ("a.png", False, "p1"),
        ("b.png", False, "p1"),
        ("c.png", True, "p2"),
    ]
    assert collected.origin.source == "object-store"
    assert collected.origin.description == "3 pictures from parts/caps/ of the bucket sightline"
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert not (tmp_path / "readme.txt").exists()


def test_two_folders_in_the_object_store_are_read_as_on_disk(tmp_path: Path) -> None:
    store = MemoryObjectStore()
    for name in ("good/1.png", "good/2.png", "defect/3.png"):
        store.put(f"x/{name}", png(len(name)))
    collect_from_store(store, "x", tmp_path)
    assert [one.defect for one in read_labelled_folder(tmp_path)] == [False, False, True]


def test_too_many_objects_or_bytes_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    store = MemoryObjectStore()
    fill(store, "p")
    store.get = None  # type: ignore[assignment, method-assign]
    with pytest.raises(InvalidInputError, match="at most 2 images"):
        collect_from_store(store, "p", tmp_path, most_objects=2)
    with pytest.raises(InvalidInputError, match="together 100 bytes, got more"):
        collect_from_store(store, "p", tmp_path, most_bytes=100)
    assert list(tmp_path.iterdir()) == []


def test_a_prefix_without_images_is_refused_and_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"below the prefix 'sightline/p/' of the bucket 'sightline', got none"):
        collect_from_store(MemoryObjectStore(), "sightline/p", tmp_path)


@pytest.mark.parametrize("key", ["p/images/../../x.png", "p//x.png", "p/a\\b.png"])
def test_a_key_that_would_leave_the_folder_is_refused(key: str, tmp_path: Path) -> None:
    store = MemoryObjectStore()
    store.put(key, png(0))
    with pytest.raises(InvalidInputError, match="a key must be a plain path"):
        collect_from_store(store, "p", tmp_path / "in")
    assert not (tmp_path / "x.png").exists()


def test_labels_of_the_line_are_readable_by_a_person(line: Line, tmp_path: Path) -> None:
    line.saw(frame(0))
    line.collect(tmp_path)
    with (tmp_path / "labels.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row == {
        "file": f"{frame(0).frame_id}.png",
        "defect": "0",
        "class": "good",
        "group": "part-0",
        "seed": "",
        "product": "cap",
    }
