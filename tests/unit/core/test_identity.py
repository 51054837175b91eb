from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.errors import InvalidInputError
from services.core.identity import (
    MAX_ID_LENGTH,
    alarm_id,
    captured_at_ms,
    case_id,
    derive_frame_id,
    id_from_idempotency_key,
    id_from_text,
    validate_frame_id,
    validate_id,
)

NOW_NS = 1_790_000_000_123_456_789


def test_a_frame_id_is_a_version_7_uuid_that_carries_the_capture_time() -> None:
    frame_id = derive_frame_id("cam-1", "a.jpg", 0, NOW_NS)
    parsed = uuid.UUID(frame_id)
    assert parsed.version == 7
    assert parsed.variant == uuid.RFC_4122
    assert captured_at_ms(frame_id) == NOW_NS // 1_000_000
    assert validate_frame_id(frame_id) == frame_id


def test_the_id_never_changes_between_releases() -> None:
    # Ids are on record: a change here would double every frame that is replayed over an upgrade.
    assert derive_frame_id("cam-1", "a.jpg", 0, NOW_NS) == "01a0c450-6c7b-7d2f-aac2-36e8dd08bdb8"


def test_each_argument_changes_the_id() -> None:
    ids = {
        derive_frame_id("cam-1", "a.jpg", 0, NOW_NS),
        derive_frame_id("cam-2", "a.jpg", 0, NOW_NS),
        derive_frame_id("cam-1", "b.jpg", 0, NOW_NS),
        derive_frame_id("cam-1", "a.jpg", 1, NOW_NS),
        derive_frame_id("cam-1", "a.jpg", 0, NOW_NS + 1),
    }
    assert len(ids) == 5


def test_text_does_not_flow_from_one_field_into_the_next() -> None:
    assert derive_frame_id("ab", "c", 0, NOW_NS) != derive_frame_id("a", "bc", 0, NOW_NS)


def test_ids_sort_by_capture_time() -> None:
    ids = [derive_frame_id("cam", str(i), 0, NOW_NS + i * 1_000_000) for i in range(200)]
    assert ids == sorted(ids)


def test_ten_thousand_frames_have_ten_thousand_ids() -> None:
    assert len({derive_frame_id("cam", f"{i}.png", 0, NOW_NS) for i in range(10_000)}) == 10_000


def test_an_idempotency_key_gives_the_same_id_on_each_attempt_and_is_no_source_item() -> None:
    first = id_from_idempotency_key("cam", "order-7", NOW_NS)
    assert first == id_from_idempotency_key("cam", "order-7", NOW_NS)
    assert first != id_from_idempotency_key("cam", "order-8", NOW_NS)
    assert first != derive_frame_id("cam", "order-7", 0, NOW_NS)


def test_an_empty_idempotency_key_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="idempotency_key must not be empty"):
        id_from_idempotency_key("cam", "", NOW_NS)


@pytest.mark.parametrize(("pass_number", "time_ns"), [(-1, NOW_NS), (0, -1), (0, 1 << 70)])
def test_numbers_out_of_range_are_refused(pass_number: int, time_ns: int) -> None:
    with pytest.raises(InvalidInputError):
        derive_frame_id("cam", "a", pass_number, time_ns)


def test_a_source_item_of_a_megabyte_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="4096 bytes"):
        derive_frame_id("cam", "a" * 1_000_000, 0, NOW_NS)


def test_an_alarm_id_is_repeatable_and_differs_by_all_that_raised_it() -> None:
    one = alarm_id("line-1", "three", ("left", "", "scratch"), "part-1", NOW_NS)
    assert one == alarm_id("line-1", "three", ("left", "", "scratch"), "part-1", NOW_NS)
    assert captured_at_ms(one) == NOW_NS // 1_000_000
    others = {
        alarm_id("line-2", "three", ("left", "", "scratch"), "part-1", NOW_NS),
        alarm_id("line-1", "four", ("left", "", "scratch"), "part-1", NOW_NS),
        alarm_id("line-1", "three", ("left", "scratch", ""), "part-1", NOW_NS),
        alarm_id("line-1", "three", ("left", "", "scratch"), "part-2", NOW_NS),
        alarm_id("line-1", "three", ("left", "", "scratch"), "part-1", NOW_NS + 1),
    }
    assert len(others - {one}) == 5


def test_a_case_id_is_repeatable_and_differs_by_frame_alias_and_version() -> None:
    frame = derive_frame_id("cam", "a", 0, NOW_NS)
    other = derive_frame_id("cam", "b", 0, NOW_NS)
    ids = {case_id(frame, "default", 1), case_id(frame, "default", 2), case_id(frame, "x", 1), case_id(other, "x", 1)}
    assert len(ids) == 4
    assert case_id(frame, "default", 1) in ids
    assert captured_at_ms(case_id(frame, "default", 1)) == captured_at_ms(frame)


@pytest.mark.parametrize("value", ["", "x", str(uuid.UUID(int=5)), "01A0C450-6C7B-7D2F-AAC2-36E8DD08BDB8", "../a"])
def test_only_a_canonical_version_7_uuid_is_a_frame_id(value: str) -> None:
    with pytest.raises(InvalidInputError):
        validate_frame_id(value)


@pytest.mark.parametrize("value", ["line-1", "A", "7", "cam_2.top", "part-000.1", "x" * MAX_ID_LENGTH])
def test_ordinary_names_are_let_through(value: str) -> None:
    assert validate_id(value, "camera_id") == value


@pytest.mark.parametrize(
    "value",
    [
        "",
        "..",
        "../etc",
        "a/b",
        "a\\b",
        "a..b",
        ".hidden",
        "-rf",
        "a b",
        "a\n",
        "a\x00b",
        "ä",
        "a:b",
        "%2e%2e",
        "x" * 129,
    ],
)
def test_names_that_could_do_harm_are_refused_and_the_field_is_named(value: str) -> None:
    with pytest.raises(InvalidInputError, match="camera_id"):
        validate_id(value, "camera_id")


def test_control_characters_do_not_reach_the_error_message() -> None:
    with pytest.raises(InvalidInputError) as caught:
        validate_id("a\x1b[31m\nred", "part_id")
    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_valid_name_stays_as_it_is_and_others_stay_apart() -> None:
    assert id_from_text("tile_004") == "tile_004"
    assert id_from_text("a/b") != id_from_text("a b")
    assert id_from_text("a b").startswith("a_b-")


@given(st.text(min_size=1, max_size=300))
def test_any_text_becomes_a_valid_id(text: str) -> None:
    assert validate_id(id_from_text(text)) == id_from_text(text)
