"""The record: written once, read strictly, and whole again from what lies in the store."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from services.adapters.caserecord import CaseRecord, queued_case
from services.adapters.memory import MemoryObjectStore
from services.core.errors import ConflictError, EventDecodeError, InvalidInputError, NotFoundError, SightlineError
from services.core.review import AreaPoint, Review
from services.core.types import Case, ExplainedCase, Explanation, ExplanationStatus, Grade, ImageRef
from tests.support import cases as build

PICTURE = b"\x89PNG rather not a picture"


@pytest.fixture
def store() -> MemoryObjectStore:
    return MemoryObjectStore("sightline")


@pytest.fixture
def record(store: MemoryObjectStore) -> CaseRecord:
    return CaseRecord(store)


def explained(record: CaseRecord, number: int = 0, explained_at_ns: int = 0) -> ExplainedCase:
    queued = build.queued_case(number)
    case = Case(
        case_id=queued.case_id,
        kind=queued.kind,
        inspection=queued.inspection,
        sampling_probability=1.0,
        embedding=np.array([0.5, -1.25, 3.0], np.float16),
        image_ref=record.add_image(PICTURE + bytes([number])),
    )
    values = np.array([[0.25, np.nan], [1.0, -2.0]], np.float16)
    shown = Explanation("invrise-soft", ExplanationStatus.DONE, values, grade=Grade.B, trust=0.7, passes=12)
    none = Explanation("gradcam", ExplanationStatus.FAILED, np.empty((0, 0), np.float16), reason="no_conv_layers")
    return ExplainedCase(case, (none, shown), explained_at_ns or queued.explained_at_ns, agreement=math.nan)


def same(one: ExplainedCase, other: ExplainedCase) -> bool:
    """Equal to the last bit, numbers that are not numbers too."""
    from services.adapters.codec_explained import encode_explained_case

    return encode_explained_case(one) == encode_explained_case(other)


def reviews() -> list[Review]:
    case = build.queued_case()
    first = build.wrong(
        case,
        area=(AreaPoint(0.5, 1.25), AreaPoint(3.0, 4.0), AreaPoint(9.0, 0.0)),
        note="d'oh \"; DROP TABLE cases; --\n\u00e4\u4e2d",
        said_at_ns=12,
    )
    return [first, build.undo(case, first, 1), build.review(case, 2, "bob", disagrees_with=first.review_id)]


# ---- pictures


def test_a_picture_is_kept_once_by_its_content(store: MemoryObjectStore, record: CaseRecord) -> None:
    one, again = record.add_image(PICTURE), record.add_image(PICTURE)
    assert one == again
    assert one.key == f"record/images/{one.sha256[:2]}/{one.sha256}.bin"
    assert store.get(one.key) == PICTURE
    assert len(list(store.list("record/"))) == 1


def test_a_drawing_lies_apart_from_pictures(record: CaseRecord) -> None:
    assert record.add_mask(PICTURE).key.startswith("record/masks/")


def test_nothing_is_no_picture(record: CaseRecord) -> None:
    with pytest.raises(InvalidInputError, match="under images must not be empty, got 0 bytes"):
        record.add_image(b"")


# ---- cases


def test_a_case_is_read_as_it_was_written(record: CaseRecord) -> None:
    written = explained(record)
    assert record.add_case(written)
    assert same(record.case(written.case.case_id), written)


def test_a_case_lies_under_the_day_of_its_capture(store: MemoryObjectStore, record: CaseRecord) -> None:
    written = explained(record)
    record.add_case(written)
    assert store.exists(f"record/cases/20260921/{written.case.case_id}.json")


def test_a_replay_writes_nothing_and_a_later_explanation_takes_the_place_of_the_earlier(record: CaseRecord) -> None:
    first, later = explained(record, explained_at_ns=100), explained(record, explained_at_ns=200)
    assert record.add_case(first)
    assert not record.add_case(first)
    assert record.add_case(later)
    assert not record.add_case(first)
    assert record.case(first.case.case_id).explained_at_ns == 200


def test_a_case_whose_picture_lies_elsewhere_is_refused(record: CaseRecord) -> None:
    written = explained(record)
    for changes in ({"image_ref": ImageRef("sightline", "cases/a.png", 3, "0" * 64)}, {"image": b"x"}):
        with pytest.raises(InvalidInputError, match="must have its picture below record/images/"):
            record.add_case(replace(written, case=replace(written.case, **changes)))


def test_an_unknown_case_is_not_found_and_a_hostile_id_is_refused(record: CaseRecord) -> None:
    with pytest.raises(NotFoundError):
        record.case(build.queued_case(9).case_id)
    for bad in ("", "../../etc/passwd", build.queued_case().case_id.upper(), "a" * 10_000, "record/cases/x"):
        with pytest.raises(InvalidInputError, match="case_id must be"):
            record.case(bad)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "must hold a ExplainedCase as JSON"),
        (b"{", "must hold a ExplainedCase as JSON"),
        (b"\xff\xfe", "must hold a ExplainedCase as JSON"),
        (b'{"unknown": 1}', "must hold a ExplainedCase as JSON"),
        (b"{}", "case must be set, got none"),
    ],
)
def test_a_case_that_was_damaged_is_refused(
    store: MemoryObjectStore, record: CaseRecord, data: bytes, message: str
) -> None:
    written = explained(record)
    record.add_case(written)
    store.put(f"record/cases/20260921/{written.case.case_id}.json", data)
    with pytest.raises(EventDecodeError, match=message):
        record.case(written.case.case_id)


def test_a_case_in_the_place_of_another_is_refused(store: MemoryObjectStore, record: CaseRecord) -> None:
    one, other = explained(record, 0), explained(record, 1)
    record.add_case(one)
    key = "record/cases/20260921/{}.json"
    store.put(key.format(other.case.case_id), store.get(key.format(one.case.case_id)))
    with pytest.raises(EventDecodeError, match=f"must hold the case {other.case.case_id}, got {one.case.case_id}"):
        record.case(other.case.case_id)


# ---- reviews


def test_reviews_are_read_as_they_were_written_in_the_order_in_which_they_were_taken(record: CaseRecord) -> None:
    said = reviews()
    for review in reversed(said):
        assert record.add_review(review) == review
    assert record.reviews_of(said[0].case_id) == said


def test_the_same_review_again_is_the_one_on_record(record: CaseRecord) -> None:
    first = reviews()[0]
    record.add_review(first)
    again = replace(first, reviewed_at_ns=first.reviewed_at_ns + 5, supersedes="", disagrees_with=first.review_id)
    assert record.add_review(again) == first


def test_an_id_that_was_used_for_another_review_is_refused(record: CaseRecord) -> None:
    first = reviews()[0]
    record.add_review(first)
    with pytest.raises(ConflictError, match=f"must be used once, got {first.review_id} again with other content"):
        record.add_review(replace(first, note="no, this"))
    assert record.review(first.case_id, first.review_id) == first


def test_a_review_in_the_place_of_another_is_refused(store: MemoryObjectStore, record: CaseRecord) -> None:
    first, undo, _ = reviews()
    record.add_review(first)
    folder = f"record/reviews/20260921/{first.case_id}"
    values = json.loads(store.get(f"{folder}/{first.review_id}.json"))
    store.put(f"{folder}/{undo.review_id}.json", json.dumps(values).encode())
    with pytest.raises(EventDecodeError, match="must hold that review"):
        record.review(first.case_id, undo.review_id)


def test_a_review_with_an_id_that_is_none_is_refused(record: CaseRecord) -> None:
    with pytest.raises(InvalidInputError, match="review_id must be a lower-case UUID"):
        record.add_review(replace(reviews()[0], review_id="../" * 9))


# ---- all of it


def test_all_of_the_record_is_read_and_what_is_damaged_is_told(store: MemoryObjectStore, record: CaseRecord) -> None:
    for number in range(3):
        record.add_case(explained(record, number))
    for review in reviews():
        record.add_review(review)
    store.put("record/cases/20260921/notes.txt", b"mine")
    store.put(f"record/cases/20200101/{build.queued_case(1).case_id}.json", b"{}")
    store.put(f"record/reviews/20260921/{build.queued_case().case_id}/what.json", b"{}")
    damaged: list[str] = []

    def tell(key: str, error: SightlineError) -> None:
        assert str(error)
        damaged.append(key)

    assert {one.case.case_id for one in record.cases(tell)} == {build.queued_case(n).case_id for n in range(3)}
    assert {one.review_id for one in record.reviews(tell)} == {review.review_id for review in reviews()}
    assert len(damaged) == 3


def test_a_queue_shows_the_first_map_that_there_is(record: CaseRecord) -> None:
    written = explained(record)
    shown = queued_case(written, 320, 240)
    assert (shown.shown_method, shown.shown_grade) == ("invrise-soft", Grade.B)
    assert (shown.image_ref, shown.image_width_px, shown.image_height_px) == (written.case.image_ref, 320, 240)
    assert shown.explained_at_ns == written.explained_at_ns
    bare = queued_case(replace(written, explanations=written.explanations[:1]), 0, 0)
    assert (bare.shown_method, bare.shown_grade) == ("", None)
