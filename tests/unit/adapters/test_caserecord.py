"""The record: written once, read strictly, and whole again from what lies in the store."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import cv2
import numpy as np
import pytest

from services.adapters.caserecord import CaseRecord, queued_case
from services.adapters.memory import MemoryObjectStore
from services.core.errors import ConflictError, EventDecodeError, InvalidInputError, NotFoundError, SightlineError
from services.core.review import AreaPoint, Review
from services.core.types import Case, ExplainedCase, Explanation, ExplanationStatus, Grade, ImageRef
from tests.support import cases as build

PICTURE = b"\x89PNG rather not a picture"
AFTER_ALL_DATES = "ffffffff-ffff-7fff-bfff-ffffffffffff"


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


@pytest.mark.parametrize(("suffix", "encoding"), [("png", ".png"), ("jpg", ".jpg"), ("bmp", ".bmp"), ("tif", ".tiff")])
def test_the_suffix_of_a_picture_follows_its_content(record: CaseRecord, suffix: str, encoding: str) -> None:
    image = cv2.imencode(encoding, np.zeros((20, 30, 3), np.uint8))[1].tobytes()
    kept = record.add_image(image)
    assert kept.key == f"record/images/{kept.sha256[:2]}/{kept.sha256}.{suffix}"
    assert record.image(kept) == image


def test_a_picture_that_is_not_what_was_kept_is_refused(store: MemoryObjectStore, record: CaseRecord) -> None:
    kept = record.add_image(PICTURE)
    with pytest.raises(InvalidInputError, match="must lie in the bucket sightline, got elsewhere"):
        record.image(replace(kept, bucket="elsewhere"))
    with pytest.raises(InvalidInputError, match="what is kept must lie at record/images/"):
        record.image(replace(kept, key="models/secret"))
    store.put(kept.key, PICTURE[::-1])
    with pytest.raises(InvalidInputError, match="must hold the picture of its SHA-256"):
        record.image(kept)
    store.put(kept.key, PICTURE + b"more")
    with pytest.raises(InvalidInputError, match="at most"):
        record.image(kept)


def test_a_drawing_lies_apart_from_pictures_and_once_too(store: MemoryObjectStore, record: CaseRecord) -> None:
    one, again = record.add_mask(PICTURE), record.add_mask(PICTURE)
    assert one == again
    assert one.key == f"record/masks/{one.sha256[:2]}/{one.sha256}.png"
    assert len(list(store.list("record/"))) == 1


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


@pytest.mark.parametrize(
    ("key", "bucket", "message"),
    [
        ("cases/a.png", "sightline", "what is kept must lie at record/images/"),
        ("record/images/../../models/a.bin", "sightline", "what is kept must lie at record/images/"),
        (f"record/images/11/{'1' * 64}.bin", "sightline", "what is kept must lie at record/images/"),
        (f"record/images/00/{'0' * 64}.sh", "sightline", "what is kept must lie at record/images/"),
        (f"record/images/00/{'0' * 64}", "sightline", "what is kept must lie at record/images/"),
        (f"record/images/00/{'0' * 64}.bin", "elsewhere", "must lie in the bucket sightline, got elsewhere"),
    ],
    ids=["elsewhere", "up and out", "another picture's", "suffix of a script", "no suffix", "another bucket"],
)
def test_a_case_whose_picture_lies_elsewhere_is_refused(
    store: MemoryObjectStore, record: CaseRecord, key: str, bucket: str, message: str
) -> None:
    written = explained(record)
    elsewhere = replace(written.case, image_ref=ImageRef(bucket, key, 3, "0" * 64))
    with pytest.raises(InvalidInputError, match=message):
        record.add_case(replace(written, case=elsewhere))
    assert list(store.list("record/cases/")) == []


@pytest.mark.parametrize("image_ref", [None, ImageRef("sightline", f"record/images/00/{'0' * 64}.bin", 3, "0" * 64)])
def test_a_case_is_never_on_record_with_its_picture_inside(record: CaseRecord, image_ref: ImageRef | None) -> None:
    written = explained(record)
    with pytest.raises(InvalidInputError, match="below record/images/, got 5 bytes of its own"):
        record.add_case(replace(written, case=replace(written.case, image=b"12345", image_ref=image_ref)))
    with pytest.raises(InvalidInputError, match="below record/images/, got none"):
        record.add_case(replace(written, case=replace(written.case, image_ref=None)))


def test_a_case_that_could_not_be_read_again_is_not_written(store: MemoryObjectStore, record: CaseRecord) -> None:
    written = explained(record)
    large = Explanation("rise", ExplanationStatus.DONE, np.zeros((1024, 1024), np.float16))
    with pytest.raises(InvalidInputError, match="ExplainedCase on record must have at most 16000000 bytes as JSON"):
        record.add_case(replace(written, explanations=(large,) * 6))
    with pytest.raises(InvalidInputError, match="explained_at_ns must be >= 1, got 0"):
        record.add_case(replace(written, explained_at_ns=0))
    assert list(store.list("record/cases/")) == []


def test_a_case_whose_picture_was_turned_to_something_else_is_refused(
    store: MemoryObjectStore, record: CaseRecord
) -> None:
    written = explained(record)
    record.add_case(written)
    key = f"record/cases/20260921/{written.case.case_id}.json"
    values = json.loads(store.get(key))
    astray = values["case"] | {"image_ref": values["case"]["image_ref"] | {"key": "models/secret"}}
    store.put(key, json.dumps(values | {"case": astray}).encode())
    with pytest.raises(EventDecodeError, match=f"{key}: .*got 'models/secret'"):
        record.case(written.case.case_id)
    inline = {name: value for name, value in values["case"].items() if name != "image_ref"} | {"image": "AAAA"}
    store.put(key, json.dumps(values | {"case": inline}).encode())
    with pytest.raises(EventDecodeError, match=f"{key}: .*got one of its own"):
        record.case(written.case.case_id)


def test_a_replay_over_a_damaged_case_says_so_and_keeps_what_is_there(
    store: MemoryObjectStore, record: CaseRecord
) -> None:
    written = explained(record)
    key = f"record/cases/20260921/{written.case.case_id}.json"
    store.put(key, b"{")
    with pytest.raises(EventDecodeError, match=key):
        record.add_case(written)
    assert store.get(key) == b"{"


def test_an_unknown_case_is_not_found_and_a_hostile_id_is_refused(record: CaseRecord) -> None:
    with pytest.raises(NotFoundError):
        record.case(build.queued_case(9).case_id)
    for bad in (
        "",
        "../../etc/passwd",
        build.queued_case().case_id.upper(),
        "a" * 10_000,
        "record/cases/x",
        AFTER_ALL_DATES,
    ):
        with pytest.raises(InvalidInputError, match="case_id must be"):
            record.case(bad)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "must hold the message ExplainedCase as JSON"),
        (b"{", "must hold the message ExplainedCase as JSON"),
        (b"\xff\xfe", "must hold the message ExplainedCase as JSON"),
        (b'{"explained_at_ns": {}}', "must hold the message ExplainedCase as JSON"),
        (b"{}", "case must be set, got none"),
        (b"null", "must hold the message ExplainedCase as JSON"),
        (b"[" * 100_000, "must hold the message ExplainedCase as JSON"),
        (b'{"explained_at_ns": 1e308}', "must hold the message ExplainedCase as JSON"),
        (b'{"case": {"case_id": "\\ud800"}}', "must hold the message ExplainedCase as JSON"),
        (bytes(16_000_001), "at most 16000000 bytes, got 16000001"),
    ],
    ids=[
        "empty",
        "cut",
        "not UTF-8",
        "wrong type",
        "no case",
        "null",
        "deep",
        "huge number",
        "half a character",
        "too large",
    ],
)
def test_a_case_that_was_damaged_is_refused_with_its_key(
    store: MemoryObjectStore, record: CaseRecord, data: bytes, message: str
) -> None:
    written = explained(record)
    record.add_case(written)
    key = f"record/cases/20260921/{written.case.case_id}.json"
    store.put(key, data)
    with pytest.raises(EventDecodeError, match=f"^{key}: .*{message}"):
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
    for of_the_service in ("supersedes", "disagrees_with"):
        again = replace(first, reviewed_at_ns=first.reviewed_at_ns + 5, **{of_the_service: reviews()[2].review_id})
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
    with pytest.raises(EventDecodeError, match=f"must hold the review {undo.review_id} .* got {first.review_id}"):
        record.review(first.case_id, undo.review_id)


@pytest.mark.parametrize("field", ["case_id", "review_id"])
@pytest.mark.parametrize("hostile", ["", "../" * 9, "a/b", "\x00", AFTER_ALL_DATES + "\n"])
def test_a_review_with_an_id_that_is_none_is_refused(
    store: MemoryObjectStore, record: CaseRecord, field: str, hostile: str
) -> None:
    known = reviews()[0]
    ids = {"case_id": known.case_id, "review_id": known.review_id, field: hostile}
    with pytest.raises(InvalidInputError, match=f"{field} must be a lower-case UUID"):
        record.add_review(replace(known, **ids))
    with pytest.raises(InvalidInputError, match=f"{field} must be a lower-case UUID"):
        record.review(**ids)
    if field == "case_id":
        with pytest.raises(InvalidInputError, match="case_id must be a lower-case UUID"):
            record.reviews_of(hostile)
    assert list(store.list("")) == []


def test_a_review_of_a_day_that_no_date_has_is_refused(record: CaseRecord) -> None:
    with pytest.raises(InvalidInputError, match="case_id must be of a day before the year 10000"):
        record.add_review(replace(reviews()[0], case_id=AFTER_ALL_DATES))


def test_an_unknown_review_is_not_found_and_a_case_without_reviews_has_none(record: CaseRecord) -> None:
    known = reviews()[0]
    with pytest.raises(NotFoundError):
        record.review(known.case_id, known.review_id)
    assert record.reviews_of(known.case_id) == []


def test_a_review_keeps_its_drawing_and_names_no_other_object(store: MemoryObjectStore, record: CaseRecord) -> None:
    drawn = replace(reviews()[0], mask_ref=record.add_mask(PICTURE), mask_pixels=7)
    assert record.add_review(drawn) == record.review(drawn.case_id, drawn.review_id) == drawn
    key = f"record/reviews/20260921/{drawn.case_id}/{drawn.review_id}.json"
    values = json.loads(store.get(key))
    store.put(key, json.dumps(values | {"mask_ref": values["mask_ref"] | {"key": "models/secret"}}).encode())
    with pytest.raises(EventDecodeError, match=f"{key}: .*must lie at record/masks/.*got 'models/secret'"):
        record.review(drawn.case_id, drawn.review_id)
    with pytest.raises(InvalidInputError, match="must lie at record/masks/"):
        record.add_review(replace(drawn, mask_ref=record.add_image(PICTURE)))


def test_a_review_that_could_not_be_read_again_is_not_written(store: MemoryObjectStore, record: CaseRecord) -> None:
    for changes in ({"reviewer": ""}, {"area": (AreaPoint(math.nan, 0.0),) * 3}, {"mask_pixels": -1}):
        with pytest.raises(EventDecodeError):
            record.add_review(replace(reviews()[0], **changes))
    assert list(store.list("record/reviews/")) == []


# ---- all of it


def test_all_of_the_record_is_read_and_what_is_damaged_is_told(store: MemoryObjectStore, record: CaseRecord) -> None:
    for number in range(3):
        record.add_case(explained(record, number))
    for review in reviews():
        record.add_review(review)
    store.put("record/cases/20260921/notes.txt", b"mine")
    store.put(f"record/cases/20200101/{build.queued_case(1).case_id}.json", b"{}")
    store.put(f"record/cases/20260921/{AFTER_ALL_DATES}.json", b"{}")
    store.put(f"record/cases/20260921/{build.queued_case(7).case_id}.json", b"[" * 100_000)
    store.put(f"record/cases/20260921/{build.queued_case(8).case_id}.json", bytes(16_000_001))
    store.put(f"record/reviews/20260921/{build.queued_case().case_id}/what.json", b"{}")
    damaged: list[str] = []

    def tell(key: str, error: SightlineError) -> None:
        assert str(error)
        damaged.append(key)

    assert {one.case.case_id for one in record.cases(tell)} == {build.queued_case(n).case_id for n in range(3)}
    assert {one.review_id for one in record.reviews(tell)} == {review.review_id for review in reviews()}
    assert len(damaged) == len(set(damaged)) == 6


def test_what_was_copied_to_another_day_is_told_and_not_read_twice(
    store: MemoryObjectStore, record: CaseRecord
) -> None:
    record.add_case(explained(record))
    record.add_review(reviews()[0])
    for stat in [*store.list("record/cases/"), *store.list("record/reviews/")]:
        store.put(stat.key.replace("20260921", "20260922"), store.get(stat.key))
    damaged: dict[str, str] = {}

    def tell(key: str, error: SightlineError) -> None:
        damaged[key] = str(error)

    assert len(list(record.cases(tell))) == 1
    assert len(list(record.reviews(tell))) == 1
    assert len(damaged) == 2
    assert all("/20260922/" in key and f"got {key}" in why for key, why in damaged.items())


def test_a_queue_shows_the_first_map_that_there_is(record: CaseRecord) -> None:
    written = explained(record)
    shown = queued_case(written, 320, 240)
    assert (shown.shown_method, shown.shown_grade) == ("invrise-soft", Grade.B)
    assert (shown.image_ref, shown.image_width_px, shown.image_height_px) == (written.case.image_ref, 320, 240)
    assert shown.explained_at_ns == written.explained_at_ns
    bare = queued_case(replace(written, explanations=written.explanations[:1]), 0, 0)
    assert (bare.shown_method, bare.shown_grade) == ("", None)
