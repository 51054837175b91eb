"""Archives of cases: what is in them, that the commands can read them again, and what they cost."""

from __future__ import annotations

import hashlib
import io
import json
import threading
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from services.adapters.caserecord import queued_case
from services.adapters.datasets import LabelledImage, read_labelled_folder
from services.adapters.exportorder import ExportOrder
from services.adapters.ports import CaseFilter
from services.adapters.zipstream import PIECE_BYTES
from services.core.errors import UnavailableError
from services.core.export_layout import Labels, Layout
from services.core.review import Answer, CaseState, QueuedCase
from services.core.types import CaseKind, Verdict
from services.feedback.exporting import Exporter
from tests.support.explainer_line import picture
from tests.support.feedback_line import HEIGHT_PX, WIDTH_PX, FeedbackLine, answer, explained, mask_png

EVERYTHING = CaseFilter()
FOLDERS = [Layout.LABELS, Layout.MVTEC, Layout.TWO_FOLDERS]


@pytest.fixture
def line() -> Iterator[FeedbackLine]:
    made = FeedbackLine()
    yield made
    made.stop()


def image(number: int) -> bytes:
    return picture(spot=(number % 20, number), height_px=HEIGHT_PX, width_px=WIDTH_PX)


def exporter(line: FeedbackLine, spool_bytes: int = 10_000) -> Exporter:
    return Exporter(line.index, line.record, readers=3, spool_bytes=spool_bytes)


def archive(line: FeedbackLine, layout: Layout, **order: Any) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(raw(line, layout, **order)))


def raw(line: FeedbackLine, layout: Layout, **order: Any) -> bytes:
    return b"".join(piece.data for piece in exporter(line).export(ExportOrder(layout, **order)))


def manifest(found: zipfile.ZipFile) -> dict[str, Any]:
    return dict(json.loads(found.read("manifest.json")))


def plant(line: FeedbackLine) -> list[QueuedCase]:
    """Two defects (one drawn by two people), a false reject, an audited good part, and what has no label."""
    kinds = [CaseKind.FAIL, CaseKind.REVIEW, CaseKind.FAIL, CaseKind.AUDIT, CaseKind.FAIL, CaseKind.FAIL, CaseKind.FAIL]
    cases = [line.add_case(number, image=image(number), kind=kind) for number, kind in enumerate(kinds)]
    submit = line.reviewing.submit
    submit(answer(cases[0], "ada", defect_class="Scratch"), mask_png((3, 4), (4, 4)))
    submit(answer(cases[0], "bob"), mask_png((4, 4), (5, 5)))
    submit(answer(cases[1], corrected_verdict=Verdict.FAIL, defect_class="dent"), b"")
    wrong: dict[str, Any] = {"verdict_right": Answer.NO, "reason_right": Answer.NOT_ASKED}
    submit(answer(cases[2], corrected_verdict=Verdict.PASS, **wrong), b"")
    submit(answer(cases[3], reason_right=Answer.NOT_ASKED), b"")
    submit(answer(cases[4], "ada"), b"")
    submit(answer(cases[4], "bob", corrected_verdict=Verdict.PASS, **wrong), b"")
    submit(answer(cases[5], verdict_right=Answer.NOT_SURE, reason_right=Answer.NOT_ASKED), b"")
    return cases


def unpacked(found: zipfile.ZipFile, folder: Path) -> dict[str, LabelledImage]:
    """Read an archive as every command does, by the picture's content."""
    assert found.testzip() is None
    found.extractall(folder)
    return {hashlib.sha256(one.path.read_bytes()).hexdigest(): one for one in read_labelled_folder(folder)}


@pytest.mark.parametrize("layout", FOLDERS)
def test_what_is_exported_is_read_again_by_the_commands(line: FeedbackLine, layout: Layout, tmp_path: Path) -> None:
    plant(line)
    read = unpacked(archive(line, layout), tmp_path)
    found = [read[hashlib.sha256(image(number)).hexdigest()] for number in range(4)]
    assert len(read) == 4
    assert [one.defect for one in found] == [True, True, False, False]
    if layout is Layout.LABELS:
        assert [one.defect_class for one in found] == ["Scratch", "dent", "", ""]
        assert [one.group for one in found] == ["part-0", "part-1", "part-2", "part-3"]
    if layout is Layout.MVTEC:
        assert found[0].defect_class.startswith("scratch-")
        assert found[1].defect_class == "dent"
    if layout is not Layout.TWO_FOLDERS:
        assert [one.mask_path is not None for one in found] == [True, False, False, False]
        drawn = cv2.imread(str(found[0].mask_path), cv2.IMREAD_UNCHANGED)
        assert np.argwhere(drawn).tolist() == [[4, 3], [4, 4], [5, 5]]


def test_coco_has_each_picture_its_class_and_where_the_defect_is(line: FeedbackLine) -> None:
    plant(line)
    found = archive(line, Layout.COCO)
    coco = json.loads(found.read("annotations.json"))
    assert {"info", "licenses", "images", "annotations", "categories"} == coco.keys()
    assert [one["sightline"]["class"] for one in coco["images"]] == ["Scratch", "dent", "good", "good"]
    names = {one["id"]: one["name"] for one in coco["categories"]}
    (drawn,) = coco["annotations"]
    assert names[drawn["category_id"]] == "Scratch"
    assert (drawn["image_id"], drawn["area"], drawn["bbox"]) == (coco["images"][0]["id"], 3, [3, 4, 3, 2])
    assert drawn["segmentation"]["size"] == [HEIGHT_PX, WIDTH_PX]
    assert all(f"images/{one['file_name']}" in found.namelist() for one in coco["images"])
    assert "ada" not in found.read("annotations.json").decode()


def test_a_manifest_says_what_was_left_out_and_lists_every_file(line: FeedbackLine) -> None:
    cases = plant(line)
    found = archive(line, Layout.LABELS, where=CaseFilter(line_id="line-1"))
    told = manifest(found)
    assert (told["cases"], told["good"], told["defective"], told["with_mask"]) == (4, 2, 2, 1)
    assert told["left_out"] == {"disputed": 1, "not_sure": 1, "open": 1}
    assert told["left_out_examples"] == {"not_sure": [cases[5].case_id]}
    assert told["chosen"] == {"filter": {"line_id": "line-1"}}
    assert {one["path"] for one in told["files"]} == {
        name for name in found.namelist() if not name.endswith("/") and name != "manifest.json"
    }
    for one in told["files"]:
        data = found.read(one["path"])
        assert (len(data), hashlib.sha256(data).hexdigest()) == (one["bytes"], one["sha256"])


def test_the_models_word_is_taken_where_asked_for_and_marked_as_such(line: FeedbackLine) -> None:
    plant(line)
    found = archive(line, Layout.LABELS, labels=Labels.SETTLED_ELSE_MODEL)
    told = manifest(found)
    assert (told["label_by_people"], told["label_by_model"]) == (4, 1)
    assert told["left_out"] == {"disputed": 1, "not_sure": 1}
    rows = found.read("labels.csv").decode().splitlines()
    assert [row.split(",")[4] for row in rows[1:]].count("model") == 1


@pytest.mark.parametrize(
    ("state", "labels", "cases", "left_out"),
    [
        (CaseState.OPEN, Labels.SETTLED, 0, {"open": 1}),
        (CaseState.OPEN, Labels.SETTLED_ELSE_MODEL, 1, {}),
        (CaseState.DISPUTED, Labels.SETTLED_ELSE_MODEL, 0, {"disputed": 1}),
        (CaseState.REVIEWED, Labels.SETTLED, 4, {"not_sure": 1}),
    ],
)
def test_a_filter_by_state_is_kept_to(
    line: FeedbackLine, state: CaseState, labels: Labels, cases: int, left_out: dict[str, int]
) -> None:
    plant(line)
    told = manifest(archive(line, Layout.TWO_FOLDERS, where=CaseFilter(state=state), labels=labels))
    assert (told["cases"], told["left_out"]) == (cases, left_out)


def test_cases_that_are_named_are_exported_and_one_that_is_not_known_is_told(line: FeedbackLine) -> None:
    cases = plant(line)
    unknown = "0189abcd-0000-7000-8000-00000000000f"
    chosen = (cases[3].case_id, cases[0].case_id, unknown, cases[0].case_id)
    told = manifest(archive(line, Layout.LABELS, case_ids=chosen))
    assert told["cases"] == 2
    assert told["left_out_examples"] == {"unknown": [unknown]}


@pytest.mark.parametrize("layout", Layout)
def test_the_same_cases_give_the_same_bytes(line: FeedbackLine, layout: Layout) -> None:
    plant(line)
    assert raw(line, layout) == raw(line, layout)


@pytest.mark.parametrize("layout", FOLDERS)
def test_an_archive_of_nothing_is_one_all_the_same(line: FeedbackLine, layout: Layout) -> None:
    told = manifest(archive(line, layout))
    assert (told["cases"], told["as_of"]) == (0, "")


def test_pictures_are_as_they_are_on_record_and_one_that_nobody_can_read_is_told(line: FeedbackLine) -> None:
    broken = line.add_case(0, image=b"no picture at all")
    fine = line.add_case(1, image=image(1))
    gone = line.add_case(2, image=image(2))
    other = line.add_case(3, image=image(3))
    for one in (broken, fine, gone, other):
        line.reviewing.submit(answer(one), b"")
    line.store.delete([gone.image_ref.key])
    line.store.put(other.image_ref.key, b"x" * other.image_ref.size_bytes)
    found = archive(line, Layout.TWO_FOLDERS)
    told = manifest(found)
    assert told["left_out"] == {"image_damaged": 1, "image_missing": 1, "image_unreadable": 1}
    (name,) = [one for one in found.namelist() if one.startswith("def/part")]
    assert found.read(name) == image(1)


def test_names_of_people_are_in_it_only_where_asked_for(line: FeedbackLine) -> None:
    plant(line)
    for layout in Layout:
        found = archive(line, layout)
        assert not any(b"ada" in found.read(name) for name in found.namelist() if name.endswith((".csv", ".json")))
    assert b"ada; bob" in archive(line, Layout.LABELS, reviewers=True).read("labels.csv")


def test_a_store_that_goes_away_ends_the_archive_without_its_directory(line: FeedbackLine) -> None:
    for number in range(20):
        line.reviewing.submit(answer(line.add_case(number, image=image(number))), b"")
    pieces: list[bytes] = []
    taken = exporter(line).export(ExportOrder(Layout.LABELS))
    original, calls = line.record.image, [0]

    def get(ref: Any) -> bytes:
        calls[0] += 1
        if calls[0] > 10:
            raise UnavailableError("the object store must answer, got nothing")
        return original(ref)

    line.record.image = get  # type: ignore[method-assign]
    with pytest.raises(UnavailableError):
        pieces.extend(piece.data for piece in taken)
    with pytest.raises(zipfile.BadZipFile):
        zipfile.ZipFile(io.BytesIO(b"".join(pieces)))


def test_nothing_more_is_read_once_nobody_wants_it(line: FeedbackLine) -> None:
    for number in range(30):
        line.reviewing.submit(answer(line.add_case(number, image=image(number))), b"")
    wanted = threading.Event()
    wanted.set()
    asked = [0]

    def is_wanted() -> bool:
        asked[0] += 1
        if asked[0] == 5:
            wanted.clear()
        return wanted.is_set()

    reads = [0]
    original = line.record.image

    def get(ref: Any) -> bytes:
        reads[0] += 1
        return original(ref)

    line.record.image = get  # type: ignore[method-assign]
    pieces = list(exporter(line).export(ExportOrder(Layout.LABELS), is_wanted))
    assert reads[0] <= 5 + 4
    with pytest.raises(zipfile.BadZipFile):
        zipfile.ZipFile(io.BytesIO(b"".join(piece.data for piece in pieces)))


def test_pieces_are_small_and_say_how_far_it_is(line: FeedbackLine) -> None:
    plant(line)
    big = np.random.default_rng(0).integers(0, 255, (500, 400, 3), dtype=np.uint8)
    done, data = cv2.imencode(".bmp", big)
    assert done
    line.reviewing.submit(answer(line.add_case(9, image=data.tobytes())), b"")
    pieces = list(exporter(line).export(ExportOrder(Layout.COCO)))
    assert max(len(piece.data) for piece in pieces) == PIECE_BYTES
    assert pieces[-1].cases_done == pieces[-1].cases_expected == 6
    assert all(piece.data for piece in pieces)


def test_memory_stays_flat_however_many_cases_there_are(line: FeedbackLine) -> None:
    ref = line.record.add_image(image(0))
    queued = [queued_case(explained(number, ref), WIDTH_PX, HEIGHT_PX) for number in range(1_500)]
    line.index.add_cases(queued)
    peaks = []
    for count in (200, 1_500):
        order = ExportOrder(
            Layout.COCO, case_ids=tuple(one.case_id for one in queued[:count]), labels=Labels.SETTLED_ELSE_MODEL
        )
        tracemalloc.start()
        done = max(piece.cases_done for piece in exporter(line).export(order))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert done == count
    # The tables and the directory of the larger one are some 2 MB, of which only the beginnings are in memory.
    assert peaks[1] < peaks[0] + 700_000
