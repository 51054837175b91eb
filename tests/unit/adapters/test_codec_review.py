from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sightline.v1 import events_pb2, feedback_service_pb2

from services.adapters.codec_review import (
    decode_review,
    encode_review,
    queued_case_from_message,
    queued_case_to_message,
    review_from_message,
    review_to_message,
)
from services.core.errors import EventDecodeError
from services.core.review import MAX_AREA_POINTS, Answer, AreaPoint, CaseState, Review, ReviewAction
from services.core.types import CaseKind, Grade, Verdict
from tests.support.cases import image_ref, queued_case, review, undo, wrong

CASE = queued_case(1)
COUNTS = st.integers(0, 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
UUIDS = st.uuids().map(str)
FULL = wrong(
    CASE,
    3,
    "Jörg Ångström",
    defect_class="",
    mask_ref=image_ref("mask", 17),
    mask_pixels=12,
    area=(AreaPoint(0.25, 1e-9), AreaPoint(320.0, 0.1 + 0.2), AreaPoint(7, 8)),
    note="two\nlines",
    said_at_ns=17,
    supersedes=review(CASE).review_id,
    disagrees_with=review(CASE, 1, "ben").review_id,
)


@st.composite
def reviews(draw: st.DrawFn) -> Review:
    finite = st.floats(allow_nan=False, allow_infinity=False)
    return Review(
        review_id=draw(UUIDS),
        case_id=queued_case(draw(st.integers(0, 1_000))).case_id,
        frame_id=draw(TEXT),
        action=draw(st.sampled_from(ReviewAction)),
        reviewer=draw(st.text("aé检 '\";%", min_size=1, max_size=20).filter(lambda name: name == name.strip())),
        reviewed_at_ns=draw(COUNTS),
        verdict_right=draw(st.sampled_from(Answer)),
        reason_right=draw(st.sampled_from(Answer)),
        corrected_verdict=draw(st.sampled_from([None, *Verdict])),
        defect_class=draw(TEXT),
        mask_ref=draw(st.sampled_from([None, image_ref("mask")])),
        mask_pixels=draw(COUNTS),
        area=tuple(AreaPoint(x, y) for x, y in draw(st.lists(st.tuples(finite, finite), max_size=5))),
        note=draw(TEXT),
        said_at_ns=draw(COUNTS),
        alias=draw(TEXT),
        model_version=draw(st.integers(0, 2**31 - 1)),
        shown_method=draw(TEXT),
        supersedes=draw(st.just("") | UUIDS),
        disagrees_with=draw(st.just("") | UUIDS),
    )


@given(reviews())
def test_any_review_comes_back_as_it_was(one: Review) -> None:
    assert decode_review(encode_review(one)) == one


@pytest.mark.parametrize(
    "one", [FULL, review(CASE), undo(CASE, FULL, 4), review(CASE, 5, action=ReviewAction.SKIP, note="'; DROP TABLE")]
)
def test_every_kind_of_review_comes_back_with_every_field(one: Review) -> None:
    assert decode_review(encode_review(one)) == one


@given(st.binary(max_size=200))
def test_any_bytes_are_a_review_or_refused(data: bytes) -> None:
    try:
        one = decode_review(data)
    except EventDecodeError:
        return
    assert decode_review(encode_review(one)) == one


def test_bytes_that_are_no_message_are_refused() -> None:
    with pytest.raises(EventDecodeError, match="a Review must be a protobuf message, got 3 bytes that are none"):
        decode_review(b"\xff\xff\xff")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("review_id", "", "review_id must be a lower-case UUID, got ''"),
        ("review_id", FULL.review_id.upper(), "review_id must be a lower-case UUID"),
        ("case_id", "case", "case_id must be a lower-case UUID of version 7, got 'case'"),
        ("case_id", FULL.review_id, "case_id must be a lower-case UUID of version 7"),
        ("reviewer", "", "reviewer must be a name"),
        ("reviewer", "a\0b", "reviewer must hold printable characters only"),
        ("reviewer", "a" * 65, "reviewer must have at most 64 characters, got 65"),
        ("supersedes", "it", "review_id must be a lower-case UUID, got 'it'"),
        ("disagrees_with", "it", "review_id must be a lower-case UUID, got 'it'"),
        ("mask_pixels", -1, "mask_pixels must be >= 0, got -1"),
        ("reviewed_at_ns", -1, "reviewed_at_ns must be >= 0, got -1"),
        ("said_at_ns", -(2**63), "said_at_ns must be >= 0, got -9223372036854775808"),
        ("model_version", -1, "model_version must be >= 0, got -1"),
    ],
)
def test_a_field_that_breaks_its_rule_is_refused(field: str, value: Any, message: str) -> None:
    broken = review_to_message(FULL)
    setattr(broken, field, value)
    with pytest.raises(EventDecodeError, match=f"Review: {message}"):
        review_from_message(broken)
    with pytest.raises(EventDecodeError, match=f"Review: {message}"):
        decode_review(broken.SerializeToString())


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_an_area_with_a_corner_nowhere_is_refused(number: float) -> None:
    with pytest.raises(EventDecodeError, match="an area's corners must be finite"):
        decode_review(encode_review(replace(FULL, area=(AreaPoint(1, number),))))


def test_an_area_with_too_many_corners_is_refused() -> None:
    many = (AreaPoint(0, 0),) * (MAX_AREA_POINTS + 1)
    with pytest.raises(EventDecodeError, match=f"at most {MAX_AREA_POINTS} corners, got {MAX_AREA_POINTS + 1}"):
        decode_review(encode_review(replace(FULL, area=many)))


@pytest.mark.parametrize(
    ("field", "value"), [("bucket", ""), ("key", ""), ("sha256", "0" * 63), ("size_bytes", 0), ("bucket", "b" * 64)]
)
def test_a_mask_that_cannot_lie_anywhere_is_refused(field: str, value: Any) -> None:
    broken = review_to_message(FULL)
    setattr(broken.mask_ref, field, value)
    with pytest.raises(EventDecodeError, match=f"Review: image_ref.{field} must"):
        review_from_message(broken)


@pytest.mark.parametrize(
    ("field", "wire", "read"),
    [
        ("verdict_right", 99, Answer.NOT_SURE),
        ("verdict_right", events_pb2.ANSWER_UNSPECIFIED, Answer.NOT_ASKED),
        ("reason_right", 99, Answer.NOT_SURE),
        ("reason_right", events_pb2.ANSWER_UNSPECIFIED, Answer.NOT_ASKED),
        ("action", 99, ReviewAction.SKIP),
        ("action", events_pb2.REVIEW_ACTION_UNSPECIFIED, ReviewAction.SKIP),
        ("corrected_verdict", 99, None),
        ("corrected_verdict", events_pb2.VERDICT_UNSPECIFIED, None),
    ],
)
def test_what_a_newer_writer_says_corrects_nothing(field: str, wire: Any, read: object) -> None:
    newer = review_to_message(FULL)
    setattr(newer, field, wire)
    assert getattr(decode_review(newer.SerializeToString()), field) is read


@pytest.mark.parametrize("verdict", Verdict)
@pytest.mark.parametrize("state", CaseState)
@pytest.mark.parametrize("grade", [None, *Grade])
def test_a_queued_case_comes_back_with_every_field(verdict: Verdict, state: CaseState, grade: Grade | None) -> None:
    case = queued_case(
        4,
        verdict,
        state=state,
        shown_grade=grade,
        settled_verdict=None if state is CaseState.OPEN else Verdict.PASS,
        claimed_by="ada" if state is CaseState.OPEN else "",
        claimed_until_ns=5 if state is CaseState.OPEN else 0,
        disagreement=0.5,
        image_width_px=0,
    )
    message = queued_case_to_message(case)
    assert message.gain == case.gain
    assert queued_case_from_message(_sent(message)) == case


@pytest.mark.parametrize(
    ("field", "wire", "read"),
    [
        ("kind", 99, CaseKind.FAIL),
        ("state", 99, CaseState.OPEN),
        ("settled_verdict", 99, None),
        ("shown_grade", 99, None),
    ],
)
def test_what_a_newer_service_says_of_a_case_promises_least(field: str, wire: Any, read: object) -> None:
    newer = queued_case_to_message(replace(CASE, state=CaseState.REVIEWED, settled_verdict=Verdict.PASS))
    setattr(newer, field, wire)
    assert getattr(queued_case_from_message(_sent(newer)), field) is read


@pytest.mark.parametrize(
    ("clear", "message"),
    [("inspection", "frame_id must"), ("image_ref", "image_ref.bucket must"), ("case_id", "case_id must")],
)
def test_a_queued_case_without_what_it_needs_is_refused(clear: str, message: str) -> None:
    broken = queued_case_to_message(CASE)
    broken.ClearField(clear)  # type: ignore[arg-type]
    with pytest.raises(EventDecodeError, match=message):
        queued_case_from_message(broken)


def _sent(message: feedback_service_pb2.QueuedCase) -> feedback_service_pb2.QueuedCase:
    return feedback_service_pb2.QueuedCase.FromString(message.SerializeToString())
