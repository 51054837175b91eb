"""Which cases an export has, where their files lie, and how masks are written."""

from __future__ import annotations

import csv
import dataclasses
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.adapters.caserecord import queued_case
from services.core import export_layout
from services.core.errors import InvalidInputError
from services.core.export_layout import (
    Label,
    Labels,
    Layout,
    LeftOut,
    coco_annotation,
    coco_image,
    encode_rle,
    folder_of_class,
    folders_of,
    in_test,
    label_of,
    moment,
    paths_of,
    table_head,
    table_of,
    table_row,
)
from services.core.review import Answer, AreaPoint, QueuedCase, Review, ReviewAction
from services.core.types import CaseKind, ImageRef, Verdict
from tests.support.feedback_line import answer, explained

IMAGE_REF = ImageRef("sightline", "record/images/aa/" + "a" * 64 + ".jpg", 3, "a" * 64)
MASK_REF = ImageRef("sightline", "record/masks/bb/" + "b" * 64 + ".png", 3, "b" * 64)


def case(number: int = 0, kind: CaseKind = CaseKind.FAIL, **seen: object) -> QueuedCase:
    made = queued_case(explained(number, IMAGE_REF, kind=kind), 40, 30)
    return dataclasses.replace(made, inspection=dataclasses.replace(made.inspection, **seen))  # type: ignore[arg-type]


def said(one: QueuedCase, at_ns: int = 1, reviewer: str = "ada", **changes: object) -> Review:
    """What somebody said, as the record has it."""
    return answer(one, reviewer, reviewed_at_ns=at_ns, frame_id=one.inspection.frame_id, **changes)


# ---- labels


def test_a_confirmed_reject_is_a_defect_of_the_class_that_was_named_last() -> None:
    one = case(defect_class="dent")
    reviews = [said(one, 1, "ada", defect_class=" scratch "), said(one, 2, "bob", mask_ref=MASK_REF, mask_pixels=4)]
    label = label_of(one, reviews, Labels.SETTLED)
    assert label == Label(True, "scratch", True, (MASK_REF,), (), ("ada", "bob"), 2)


@pytest.mark.parametrize(
    ("by_model", "kind", "corrected", "expected"),
    [
        ("dent", CaseKind.FAIL, None, "dent"),
        ("", CaseKind.FAIL, None, "defect"),
        # What the model would have called it had it seen it is no class of a part that it passed.
        ("dent", CaseKind.AUDIT, Verdict.FAIL, "defect"),
    ],
)
def test_a_defect_nobody_named_has_the_models_class_if_it_saw_one(
    by_model: str, kind: CaseKind, corrected: Verdict | None, expected: str
) -> None:
    one = case(kind=kind, defect_class=by_model)
    right = Answer.YES if corrected is None else Answer.NO
    review = said(one, verdict_right=right, reason_right=Answer.NOT_ASKED, corrected_verdict=corrected)
    label = label_of(one, [review], Labels.SETTLED)
    assert isinstance(label, Label)
    assert label.defect_class == expected


def test_a_false_reject_is_a_good_part_without_class_or_mask() -> None:
    one = case(defect_class="dent")
    review = said(one, verdict_right=Answer.NO, reason_right=Answer.NOT_ASKED, corrected_verdict=Verdict.PASS)
    assert label_of(one, [review], Labels.SETTLED) == Label(False, "", True, (), (), ("ada",), 1)


def test_what_people_did_not_settle_is_left_out() -> None:
    one = case()
    wrong = said(one, 2, "bob", verdict_right=Answer.NO, corrected_verdict=Verdict.PASS, reason_right=Answer.NOT_ASKED)
    unsure = said(one, verdict_right=Answer.NOT_SURE, reason_right=Answer.NOT_ASKED)
    assert label_of(one, [], Labels.SETTLED) is LeftOut.OPEN
    assert label_of(one, [said(one), wrong], Labels.SETTLED) is LeftOut.DISPUTED
    assert label_of(one, [said(one), wrong], Labels.SETTLED_ELSE_MODEL) is LeftOut.DISPUTED
    assert label_of(one, [unsure], Labels.SETTLED_ELSE_MODEL) is LeftOut.NOT_SURE


def test_an_answer_that_was_taken_back_counts_for_nothing() -> None:
    one = case()
    first = said(one, 1, mask_ref=MASK_REF, mask_pixels=4)
    undo = said(
        one,
        2,
        action=ReviewAction.UNDO,
        supersedes=first.review_id,
        verdict_right=Answer.NOT_ASKED,
        reason_right=Answer.NOT_ASKED,
    )
    assert label_of(one, [first, undo], Labels.SETTLED) is LeftOut.OPEN


def test_the_models_word_is_taken_only_where_asked_for_and_only_where_it_decided() -> None:
    assert label_of(case(defect_class="dent"), [], Labels.SETTLED_ELSE_MODEL) == Label(True, "dent", False)
    assert label_of(case(kind=CaseKind.AUDIT), [], Labels.SETTLED_ELSE_MODEL) == Label(False, "", False)
    assert label_of(case(kind=CaseKind.REVIEW), [], Labels.SETTLED_ELSE_MODEL) is LeftOut.UNDECIDED


# ---- names


@pytest.mark.parametrize(
    ("layout", "good", "defective", "mask"),
    [
        (Layout.COCO, "images/{}.jpg", "images/{}.jpg", "masks/{}.png"),
        (Layout.LABELS, "images/{}.jpg", "images/{}.jpg", "masks/{}.png"),
        (Layout.MVTEC, "train/good/{}.jpg", "test/scratch/{}.jpg", "ground_truth/scratch/{}_mask.png"),
        (Layout.TWO_FOLDERS, "ok/{}.jpg", "def/{}.jpg", "masks/{}.png"),
    ],
)
def test_each_layout_puts_files_where_its_readers_look(layout: Layout, good: str, defective: str, mask: str) -> None:
    one = case()
    stem = f"part-0_{one.case_id}"
    assert not in_test("part-0")
    assert paths_of(layout, one, Label(False, "", True)).image == good.format(stem)
    assert paths_of(layout, one, Label(True, "scratch", True)).image == defective.format(stem)
    assert paths_of(layout, one, Label(True, "scratch", True)).mask == mask.format(stem)


def test_a_fifth_of_the_good_parts_is_kept_for_testing_with_all_their_views() -> None:
    parts = [f"part-{number}" for number in range(1_000)]
    kept = [part for part in parts if in_test(part)]
    assert 150 < len(kept) < 250
    views = [paths_of(Layout.MVTEC, case(number, part_id=kept[0]), Label(False, "", True)) for number in range(3)]
    assert all(view.image.startswith("test/good/") for view in views)


HOSTILE = st.text(max_size=200) | st.sampled_from(
    ["../../etc/passwd", "/abs", "a\\b", "..", ".", "", " ", "CON", "good", "Good", "NUL", "a\0b", "x" * 500, "ä", "-x"]
)


@given(part_id=HOSTILE, name=HOSTILE, layout=st.sampled_from(Layout), defect=st.booleans())
def test_no_name_leaves_the_archive_or_hides_in_it(part_id: str, name: str, layout: Layout, defect: bool) -> None:
    paths = paths_of(layout, case(part_id=part_id), Label(defect, name if defect else "", True))
    for path in (paths.image, paths.mask):
        for step in path.split("/"):
            assert step.isascii()
            assert step.isprintable()
            assert step
            assert not step.startswith((".", "-", " "))
            assert not step.endswith((".", " "))
            assert not set(step) & set('\\:*?"<>|')
            assert len(step) <= 160


@given(st.lists(HOSTILE, unique=True, max_size=8))
def test_two_classes_never_share_a_folder_and_none_is_taken_for_the_good_parts(names: list[str]) -> None:
    folders = [folder_of_class(name) for name in names]
    assert len({folder.casefold() for folder in folders}) == len(names)
    assert "good" not in folders


@pytest.mark.parametrize("name", ["scratch", "bent_wire", "dent-2"])
def test_a_plain_class_keeps_its_name_as_folder(name: str) -> None:
    assert folder_of_class(name) == name


def test_two_cases_of_one_part_have_files_of_their_own() -> None:
    one, other = case(0, part_id="p"), case(1, part_id="p")
    label = Label(True, "scratch", True)
    assert paths_of(Layout.LABELS, one, label) != paths_of(Layout.LABELS, other, label)


def test_only_the_layout_that_is_told_by_it_has_a_labels_csv() -> None:
    assert {layout: table_of(layout) for layout in Layout if table_of(layout) == "labels.csv"} == {
        Layout.LABELS: "labels.csv"
    }
    assert folders_of(Layout.MVTEC) == ("train/good/", "test/")


# ---- tables


def test_a_row_holds_what_a_reader_needs_and_names_nobody_unless_asked() -> None:
    one = case(captured_at_ns=1_790_000_000_123_456_789)
    label = Label(True, 'a "b", c', True, reviewers=("ada", "bob"))
    rows = [
        next(csv.DictReader(io.StringIO((table_head(reviewers=named) + row).decode(), newline="")))
        for named in (False, True)
        for row in [table_row("x.jpg", "masks/x.png", one, label, reviewers=named)]
    ]
    assert "reviewers" not in rows[0]
    assert rows[1]["reviewers"] == "ada; bob"
    assert (rows[0]["file"], rows[0]["defect"], rows[0]["class"]) == ("x.jpg", "1", 'a "b", c')
    assert (rows[0]["group"], rows[0]["source"], rows[0]["model_verdict"]) == ("part-0", "people", "fail")
    assert rows[0]["captured_at"] == "2026-09-21T14:13:20.123456Z"


def test_a_moment_of_nothing_is_empty() -> None:
    assert moment(0) == ""


# ---- COCO


def decode_rle(counts: list[int], height: int, width: int) -> NDArray[np.bool_]:
    """As COCO's own reader does it: runs of zeros and ones in turn, column by column."""
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape((height, width), order="F")


@settings(max_examples=200)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_run_lengths_give_the_mask_back(height: int, width: int, seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < share
    counts = encode_rle(mask)
    assert np.array_equal(decode_rle(counts, height, width), mask)
    assert sum(counts) == mask.size
    assert all(count > 0 for count in counts[1:])


def test_run_lengths_go_down_the_columns_and_begin_with_zeros() -> None:
    assert encode_rle(np.array([[False, True], [False, False], [True, False]])) == [2, 2, 2]
    assert encode_rle(np.ones((2, 2), np.bool_)) == [0, 4]
    assert encode_rle(np.zeros((2, 2), np.bool_)) == [4]


def test_an_annotation_has_the_box_and_the_area_of_its_mask() -> None:
    mask = np.zeros((30, 40), np.bool_)
    mask[5:9, 10:12] = True
    mask[20, 30] = True
    made = coco_annotation(7, 3, 2, mask)
    assert (made["id"], made["image_id"], made["category_id"], made["iscrowd"]) == (7, 3, 2, 0)
    assert made["bbox"] == [10, 5, 21, 16]
    assert made["area"] == 9
    assert made["segmentation"]["size"] == [30, 40]


def test_an_empty_mask_is_no_annotation() -> None:
    with pytest.raises(InvalidInputError, match="at least one pixel, got none"):
        coco_annotation(1, 1, 1, np.zeros((2, 2), np.bool_))


def test_noise_is_refused_before_it_becomes_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_layout, "MAX_RUNS", 10)
    with pytest.raises(InvalidInputError, match="at most 10 runs, got 13"):
        encode_rle(np.indices((4, 4)).sum(axis=0) % 2 == 0)


def test_a_coco_image_says_whose_word_its_label_is_and_names_nobody_unless_asked() -> None:
    label = Label(
        True, "scratch", False, areas=((AreaPoint(1, 2), AreaPoint(3, 4), AreaPoint(5, 6)),), reviewers=("a",)
    )
    made = coco_image(4, "x.jpg", case(), label, reviewers=False)
    assert (made["id"], made["file_name"], made["width"], made["height"]) == (4, "x.jpg", 40, 30)
    assert made["sightline"]["source"] == "model"
    assert made["sightline"]["areas"] == [[[1, 2], [3, 4], [5, 6]]]
    assert "reviewers" not in made["sightline"]
    assert coco_image(4, "x.jpg", case(), label, reviewers=True)["sightline"]["reviewers"] == ["a"]
