from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sightline.v1 import events_pb2

from services.adapters import codec
from services.core.errors import EventDecodeError, InvalidInputError
from services.core.identity import derive_frame_id
from services.core.types import (
    AliasAction,
    AliasState,
    Case,
    CaseKind,
    Frame,
    FrameEmbedding,
    ImageRef,
    Inspection,
    OperatingPoint,
    Reason,
    RecordPosition,
    ShadowInspection,
    StageTimings,
    Verdict,
)

FRAME_ID = derive_frame_id("cam-1", "a.jpg", 0, 1_700_000_000_000_000_000)
SHA = "ab" * 32

ids = st.text("abcXYZ019_-", max_size=20).map(lambda text: f"a{text}.9")
times_ns = st.integers(1, 2**63 - 1)
frame_ids = st.builds(derive_frame_id, ids, st.text(max_size=30), st.integers(0, 2**40), times_ns)
small = st.integers(0, 2**31 - 1)
finite = st.floats(allow_nan=False, allow_infinity=False, width=64)
refs = st.builds(
    ImageRef,
    bucket=st.text(min_size=1, max_size=63),
    key=st.text(min_size=1, max_size=200),
    size_bytes=st.integers(1, 2**60),
    sha256=st.binary(min_size=32, max_size=32).map(bytes.hex),
)
frames = st.builds(
    Frame,
    frame_id=frame_ids,
    part_id=ids,
    line_id=ids,
    camera_id=ids,
    product=ids,
    sequence=st.integers(1, 2**62),
    captured_at_ns=times_ns,
    cycle_time_ms=small,
    source_item=st.text(max_size=100),
    image=st.binary(max_size=200),
)
any_frames = frames | st.builds(lambda frame, ref: dataclasses.replace(frame, image=None, image_ref=ref), frames, refs)
points = st.tuples(finite, finite, finite).map(sorted).map(lambda v: OperatingPoint(v[1], v[0], v[2]))
places = st.fixed_dictionaries({"image_ref": refs}) | st.fixed_dictionaries(
    {"position": st.builds(RecordPosition, ids, small, st.integers(0, 2**62))}
)


@st.composite
def inspections(draw: st.DrawFn) -> Inspection:
    return Inspection(
        frame_id=draw(frame_ids),
        part_id=draw(ids),
        line_id=draw(ids),
        camera_id=draw(ids),
        product=draw(ids),
        sequence=draw(st.integers(1, 2**62)),
        captured_at_ns=draw(times_ns),
        decided_at_ns=draw(times_ns),
        verdict=draw(st.sampled_from(Verdict)),
        reason=draw(st.sampled_from(Reason)),
        score=draw(finite),
        operating_point=draw(points),
        uncertainty=draw(st.floats(0, 1)),
        alias=draw(ids),
        model_version=draw(small),
        defect_class=draw(st.text(st.characters(exclude_categories=["C", "Z"]), max_size=20)),
        cycle_time_ms=draw(small),
        in_time=draw(st.booleans()),
        timings=StageTimings(*(draw(st.floats(0, 1e9)) for _ in range(5))),
        detail=draw(st.text(max_size=50)),
        trace_id=draw(st.just("") | st.binary(min_size=16, max_size=16).map(bytes.hex)),
        disagreement=draw(st.floats(0, 1)),
        **draw(places),
    )


alias_states = st.builds(
    AliasState,
    alias=ids,
    revision=st.integers(1, 2**62),
    live_version=small,
    previous_version=small,
    shadow_version=small,
    candidate_versions=st.sets(st.integers(1, 2**31 - 1), max_size=5).map(lambda v: tuple(sorted(v))),
    action=st.sampled_from(AliasAction),
    actor=st.text(max_size=20),
    at_ns=st.integers(0, 2**62),
    note=st.text(max_size=50),
)


def a_frame(**changes: object) -> Frame:
    base = Frame(FRAME_ID, "part-1", "line-1", "cam-1", "disc", 1, 1_700_000_000_000_000_000, image=b"jpeg")
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def an_inspection(**changes: object) -> Inspection:
    base = Inspection(
        frame_id=FRAME_ID,
        part_id="part-1",
        line_id="line-1",
        camera_id="cam-1",
        product="disc",
        sequence=1,
        captured_at_ns=1,
        decided_at_ns=2,
        verdict=Verdict.PASS,
        reason=Reason.SCORE,
        score=0.1,
        operating_point=OperatingPoint(0.5, 0.4, 0.6),
        uncertainty=0.0,
        alias="default",
        model_version=1,
    )
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def a_case(**changes: object) -> Case:
    base = Case(FRAME_ID, CaseKind.AUDIT, an_inspection(), 0.05, np.arange(4, dtype=np.float16), image=b"jpeg")
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


@given(any_frames)
@settings(max_examples=60, deadline=None)
def test_a_frame_comes_back_as_it_was(frame: Frame) -> None:
    assert codec.decode_frame(codec.encode_frame(frame)) == frame


@given(inspections())
@settings(max_examples=60, deadline=None)
def test_an_inspection_comes_back_as_it_was(inspection: Inspection) -> None:
    assert codec.decode_inspection(codec.encode_inspection(inspection)) == inspection


@given(alias_states)
@settings(max_examples=60, deadline=None)
def test_an_alias_state_comes_back_as_it_was(state: AliasState) -> None:
    assert codec.decode_alias_state(codec.encode_alias_state(state)) == state


@given(
    inspections(),
    st.sampled_from(CaseKind),
    st.floats(0, 1, exclude_min=True),
    st.lists(st.floats(width=16, allow_nan=False), max_size=20),
)
@settings(max_examples=60, deadline=None)
def test_a_case_comes_back_as_it_was(
    inspection: Inspection, kind: CaseKind, probability: float, values: list[float]
) -> None:
    case = Case(FRAME_ID, kind, inspection, probability, np.array(values, np.float16), image=b"x")
    back = codec.decode_case(codec.encode_case(case))
    assert (back.case_id, back.kind, back.inspection, back.sampling_probability, back.image, back.image_ref) == (
        FRAME_ID,
        kind,
        inspection,
        probability,
        b"x",
        None,
    )
    assert back.embedding.dtype == np.float16
    np.testing.assert_array_equal(back.embedding, case.embedding)


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_arbitrary_bytes_give_a_frame_or_the_one_error(data: bytes) -> None:
    try:
        codec.decode_frame(data)
    except EventDecodeError:
        return


def test_a_score_that_no_model_gave_stays_nan() -> None:
    nan = math.nan
    unseen = an_inspection(score=nan, operating_point=OperatingPoint(nan, nan, nan), model_version=0)
    back = codec.decode_inspection(codec.encode_inspection(unseen))
    assert math.isnan(back.score)
    assert math.isnan(back.operating_point.threshold)


def test_the_object_store_wins_where_both_places_of_the_image_are_known() -> None:
    ref = ImageRef("b", "k", 1, SHA)
    both = an_inspection(image_ref=ref, position=RecordPosition("t", 0, 0))
    back = codec.decode_inspection(codec.encode_inspection(both))
    assert (back.image_ref, back.position) == (ref, None)


def test_an_empty_inline_image_is_a_bad_picture_of_a_known_part_and_decodes() -> None:
    assert codec.decode_frame(codec.encode_frame(a_frame(image=b""))).image == b""


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"frame_id": "nope"}, "frame_id must be a lower-case UUID of version 7"),
        ({"part_id": ""}, "part_id must not be empty"),
        ({"camera_id": "../x"}, "camera_id must start with"),
        ({"line_id": "a b"}, "line_id must start with"),
        ({"product": "x" * 129}, "product must have at most 128"),
        ({"sequence": 0}, "sequence must be >= 1, got 0"),
        ({"captured_at_ns": 0}, "captured_at_ns must be >= 1, got 0"),
        ({"captured_at_ns": -5}, "captured_at_ns must be >= 1, got -5"),
        ({"cycle_time_ms": -1}, "cycle_time_ms must be >= 0, got -1"),
        ({"source_item": "x" * 5000}, "source_item must have at most 4096 bytes"),
        ({"image": None, "image_ref": ImageRef("", "k", 1, SHA)}, "image_ref.bucket must have 1 to 63"),
        ({"image": None, "image_ref": ImageRef("b", "", 1, SHA)}, "image_ref.key must have 1 to 1024"),
        ({"image": None, "image_ref": ImageRef("b", "k", 0, SHA)}, "image_ref.size_bytes must be >= 1, got 0"),
        ({"image": None, "image_ref": ImageRef("b", "k", 1, "AB" * 32)}, "image_ref.sha256 must be 64 lower-case"),
    ],
)
def test_a_frame_that_breaks_a_rule_is_refused_with_the_rule(changes: dict[str, object], rule: str) -> None:
    with pytest.raises(EventDecodeError, match=rule):
        codec.decode_frame(codec.encode_frame(a_frame(**changes)))


def test_a_frame_without_a_picture_is_refused_both_ways() -> None:
    with pytest.raises(InvalidInputError, match="exactly one of image and image_ref must be set, got none"):
        codec.encode_frame(a_frame(image=None))
    with pytest.raises(InvalidInputError, match="got both"):
        codec.encode_frame(a_frame(image_ref=ImageRef("b", "k", 1, SHA)))
    message = events_pb2.Frame.FromString(codec.encode_frame(a_frame()))
    message.ClearField("image")
    with pytest.raises(EventDecodeError, match="picture must be set"):
        codec.decode_frame(message.SerializeToString())


def test_bytes_that_are_no_protobuf_are_refused() -> None:
    with pytest.raises(EventDecodeError, match="bytes must be a protobuf message, got 3 bytes"):
        codec.decode_frame(b"\xff\xff\xff")


def test_a_verdict_that_is_not_known_here_is_review() -> None:
    message = codec.inspection_to_message(an_inspection())
    message.verdict = 77  # type: ignore[assignment]
    message.reason = 77  # type: ignore[assignment]
    back = codec.decode_inspection(message.SerializeToString())
    assert (back.verdict, back.reason) == (Verdict.REVIEW, Reason.UNSURE)
    message.verdict = events_pb2.VERDICT_UNSPECIFIED
    assert codec.inspection_from_message(message).verdict is Verdict.REVIEW


@pytest.mark.parametrize("name", ["a\0b", "a\nb", "x" * 129])
def test_a_class_that_no_model_can_have_is_refused(name: str) -> None:
    with pytest.raises(EventDecodeError, match="defect_class must have at most 128 printable characters"):
        codec.decode_inspection(codec.encode_inspection(an_inspection(defect_class=name)))


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan])
def test_a_disagreement_out_of_its_range_is_refused(value: float) -> None:
    message = codec.inspection_to_message(an_inspection())
    message.disagreement = value
    with pytest.raises(EventDecodeError, match=r"disagreement must lie in 0\.\.1, got"):
        codec.decode_inspection(message.SerializeToString())


def test_a_case_kind_that_is_not_known_here_follows_the_verdict() -> None:
    message = events_pb2.Case.FromString(codec.encode_case(a_case(inspection=an_inspection(verdict=Verdict.FAIL))))
    message.kind = 77  # type: ignore[assignment]
    assert codec.decode_case(message.SerializeToString()).kind is CaseKind.FAIL


def test_an_operating_point_out_of_order_is_refused() -> None:
    wrong = an_inspection(operating_point=OperatingPoint(0.5, 0.6, 0.7))
    with pytest.raises(EventDecodeError, match="review_low <= threshold <= review_high"):
        codec.decode_inspection(codec.encode_inspection(wrong))


@pytest.mark.parametrize("probability", [0.0, 1.5, math.nan])
def test_a_case_needs_a_sampling_probability(probability: float) -> None:
    with pytest.raises(EventDecodeError, match=r"sampling_probability must lie in \(0, 1\]"):
        codec.decode_case(codec.encode_case(a_case(sampling_probability=probability)))


def test_half_a_half_float_is_refused() -> None:
    message = events_pb2.Case.FromString(codec.encode_case(a_case()))
    message.embedding_f16 = b"abc"
    with pytest.raises(EventDecodeError, match="an even number of bytes, got 3"):
        codec.decode_case(message.SerializeToString())


def test_an_embedding_of_two_dimensions_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"embedding must have shape \(D,\), got \(2, 2\)"):
        codec.encode_case(a_case(embedding=np.zeros((2, 2), np.float16)))


def test_alias_candidates_must_ascend() -> None:
    state = AliasState("default", 1, 1, candidate_versions=(3, 2))
    with pytest.raises(EventDecodeError, match="candidate_versions must be >= 1, ascending and distinct"):
        codec.decode_alias_state(codec.encode_alias_state(state))


def test_an_alias_needs_a_revision() -> None:
    with pytest.raises(EventDecodeError, match="revision must be >= 1, got 0"):
        codec.decode_alias_state(codec.encode_alias_state(AliasState("default", 0, 1)))


# ---- embeddings of frames that became no case


@given(inspections(), st.lists(st.floats(width=16), max_size=20))
def test_an_embedding_of_a_frame_comes_back_as_it_was(inspection: Inspection, values: list[float]) -> None:
    written = FrameEmbedding(inspection, np.array(values, np.float16))
    back = codec.decode_frame_embedding(codec.encode_frame_embedding(written))
    assert codec.encode_inspection(back.inspection) == codec.encode_inspection(inspection)
    assert back.embedding.dtype == np.float16
    np.testing.assert_array_equal(back.embedding, written.embedding)


def test_an_embedding_of_half_a_number_or_without_a_verdict_is_refused() -> None:
    message = events_pb2.FrameEmbedding(inspection=codec.inspection_to_message(a_case().inspection))
    message.embedding_f16 = b"abc"
    with pytest.raises(EventDecodeError, match="embedding_f16 must hold whole half floats, an even number of bytes"):
        codec.decode_frame_embedding(message.SerializeToString())
    with pytest.raises(EventDecodeError, match="frame_id must be a lower-case UUID"):
        codec.decode_frame_embedding(events_pb2.FrameEmbedding(embedding_f16=b"ab").SerializeToString())
    with pytest.raises(EventDecodeError, match="FrameEmbedding: bytes must be a protobuf message"):
        codec.decode_frame_embedding(b"\xff\xff")


def a_shadow_inspection(**changes: object) -> ShadowInspection:
    base = ShadowInspection(an_inspection(model_version=4), Verdict.FAIL, 0.9, 3)
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


@given(inspections(), st.sampled_from(Verdict), finite, st.integers(1, 2**31 - 1))
@settings(max_examples=50, deadline=None)
def test_what_the_shadow_says_comes_back_as_it_was(
    shadow: Inspection, live_verdict: Verdict, live_score: float, live_version: int
) -> None:
    shadow = dataclasses.replace(shadow, model_version=max(1, shadow.model_version))
    said = ShadowInspection(shadow, live_verdict, live_score, live_version)
    assert codec.decode_shadow_inspection(codec.encode_shadow_inspection(said)) == said


def test_a_shadow_without_an_answer_says_why_and_is_for_a_person() -> None:
    nan = math.nan
    silent = an_inspection(verdict=Verdict.REVIEW, reason=Reason.UNSURE, score=nan, model_version=4)
    said = a_shadow_inspection(shadow=silent, detail="model_failed: out of memory", live_score=nan)
    back = codec.decode_shadow_inspection(codec.encode_shadow_inspection(said))
    assert (back.detail, back.shadow.verdict, back.shadow.model_version) == (said.detail, Verdict.REVIEW, 4)
    assert math.isnan(back.shadow.score)
    assert math.isnan(back.live_score)


def test_a_live_verdict_of_a_newer_detector_is_review() -> None:
    message = events_pb2.ShadowInspection.FromString(codec.encode_shadow_inspection(a_shadow_inspection()))
    message.live_verdict = 9  # type: ignore[assignment]
    assert codec.decode_shadow_inspection(message.SerializeToString()).live_verdict is Verdict.REVIEW


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"live_version": 0}, "live_version must be >= 1, got 0"),
        ({"shadow": an_inspection(model_version=0)}, "shadow.model_version must be >= 1, got 0"),
        ({"shadow": an_inspection(frame_id="nope")}, "frame_id must be a lower-case UUID"),
        ({"shadow": an_inspection(verdict=Verdict.PASS), "detail": "away"}, "must say REVIEW, got PASS"),
    ],
)
def test_a_shadow_inspection_that_breaks_a_rule_is_refused_with_the_rule(changes: dict[str, object], rule: str) -> None:
    with pytest.raises(EventDecodeError, match=rule):
        codec.decode_shadow_inspection(codec.encode_shadow_inspection(a_shadow_inspection(**changes)))


def test_a_shadow_inspection_must_hold_what_the_shadow_says() -> None:
    for data in (events_pb2.ShadowInspection(live_version=1).SerializeToString(), b"no message"):
        with pytest.raises(EventDecodeError):
            codec.decode_shadow_inspection(data)
