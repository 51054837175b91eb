from __future__ import annotations

import math
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sightline.v1 import events_pb2

from services.adapters.codec_explained import (
    decode_explained_case,
    encode_explained_case,
    explanation_from_message,
    explanation_to_message,
)
from services.core.errors import EventDecodeError, InvalidInputError
from services.core.identity import derive_frame_id
from services.core.types import (
    Case,
    CaseKind,
    ExplainedCase,
    Explanation,
    ExplanationStatus,
    Grade,
    Inspection,
    OperatingPoint,
    Reason,
    Verdict,
)

NO_MAP = np.zeros((0, 0), np.float16)


def explanation(**changes: object) -> Explanation:
    made = Explanation(
        method="invrise-soft",
        status=ExplanationStatus.DONE,
        map=np.array([[0.5, -1.0, np.nan], [2.0, 0.0, 0.25]], np.float16),
        target_class="crack",
        probability=0.93,
        scale_low=0.1,
        scale_high=0.7,
        grade=Grade.B,
        trust=0.81,
        deletion_auc=0.2,
        insertion_auc=0.8,
        random_auc=0.5,
        transplant=-0.25,
        stability=0.95,
        coverage=1.0,
        passes=320,
        seconds=1.25,
        seed=42,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def explained(*explanations: Explanation, agreement: float = 0.6) -> ExplainedCase:
    frame_id = derive_frame_id("cam-1", "item", 0, 1_800_000_000_000_000_000)
    inspection = Inspection(
        frame_id=frame_id,
        part_id="part-1",
        line_id="line-1",
        camera_id="cam-1",
        product="disc",
        sequence=1,
        captured_at_ns=1_800_000_000_000_000_000,
        decided_at_ns=1_800_000_000_040_000_000,
        verdict=Verdict.FAIL,
        reason=Reason.SCORE,
        score=0.93,
        operating_point=OperatingPoint(0.6, 0.5, 0.7),
        uncertainty=0.1,
        alias="default",
        model_version=3,
    )
    case = Case(frame_id, CaseKind.FAIL, inspection, 1.0, np.array([1, 2], np.float16), image=b"picture")
    return ExplainedCase(case, explanations, 1_800_000_001_000_000_000, agreement)


def same(first: Explanation, second: Explanation) -> bool:
    def equal(one: object, other: object) -> bool:
        return one == other or (isinstance(one, float) and isinstance(other, float) and math.isnan(one + other))

    named = [each.name for each in fields(Explanation) if each.name != "map"]
    return np.array_equal(first.map, second.map, equal_nan=True) and all(
        equal(getattr(first, name), getattr(second, name)) for name in named
    )


def test_a_case_comes_back_with_every_field_of_its_explanations() -> None:
    failed = explanation(
        status=ExplanationStatus.FAILED, map=NO_MAP, reason="no_conv_layers", detail="this model has none", grade=None
    )
    before = explained(explanation(), failed)
    after = decode_explained_case(encode_explained_case(before))
    assert [same(*pair) for pair in zip(before.explanations, after.explanations, strict=True)] == [True, True]
    assert (after.agreement, after.explained_at_ns) == (before.agreement, before.explained_at_ns)
    assert (after.case.inspection, after.case.image) == (before.case.inspection, before.case.image)


def test_what_was_not_measured_stays_not_measured() -> None:
    bare = Explanation("gradcam", ExplanationStatus.DONE, np.ones((2, 2), np.float16))
    after = decode_explained_case(encode_explained_case(explained(bare, agreement=math.nan)))
    assert math.isnan(after.agreement)
    assert math.isnan(after.explanations[0].stability)
    assert math.isnan(after.explanations[0].deletion_auc)


def test_a_case_without_any_explanation_is_a_case() -> None:
    assert decode_explained_case(encode_explained_case(explained())).explanations == ()


@pytest.mark.parametrize("status", ExplanationStatus)
@pytest.mark.parametrize("grade", [*Grade, None])
def test_every_status_and_grade_comes_back(status: ExplanationStatus, grade: Grade | None) -> None:
    after = explanation_from_message(explanation_to_message(explanation(status=status, grade=grade)))
    assert (after.status, after.grade) == (status, grade)


def test_a_status_of_a_newer_writer_promises_least() -> None:
    message = explanation_to_message(explanation())
    message.status = 99  # type: ignore[assignment]
    message.grade = 99  # type: ignore[assignment]
    after = explanation_from_message(message)
    assert (after.status, after.grade) == (ExplanationStatus.PARTIAL, None)
    message.map_f16, message.map_height, message.map_width = b"", 0, 0
    assert explanation_from_message(message).status is ExplanationStatus.FAILED


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("method", ""),
        ("method", "../x"),
        ("reason", "No Reason"),
        ("passes", -1),
        ("seed", -1),
        ("map_height", 3),
        ("map_width", -1),
        ("map_width", 1_000_000),
        ("map_f16", b"123"),
        ("probability", 1.5),
        ("stability", -0.5),
        ("trust", 7.0),
        ("scale_low", math.inf),
        ("scale_high", math.nan),
        ("seconds", math.nan),
    ],
)
def test_a_field_that_breaks_its_rule_is_refused(field: str, value: object) -> None:
    message = explanation_to_message(explanation())
    setattr(message, field, value)
    with pytest.raises(EventDecodeError, match=field.split("_", maxsplit=1)[0]):
        explanation_from_message(message)


def test_a_record_without_its_case_or_its_time_is_refused() -> None:
    message = events_pb2.ExplainedCase.FromString(encode_explained_case(explained()))
    message.explained_at_ns = 0
    with pytest.raises(EventDecodeError, match="explained_at_ns"):
        decode_explained_case(message.SerializeToString())
    message.ClearField("case")
    with pytest.raises(EventDecodeError, match="case must be set"):
        decode_explained_case(message.SerializeToString())


def test_a_map_of_another_shape_is_not_written() -> None:
    with pytest.raises(InvalidInputError, match="shape"):
        explanation_to_message(explanation(map=np.zeros(4, np.float16)))


@given(st.binary(max_size=300))
def test_bytes_from_anywhere_decode_or_are_refused(data: bytes) -> None:
    try:
        decode_explained_case(data)
    except EventDecodeError:
        return
