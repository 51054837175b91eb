from __future__ import annotations

from pathlib import Path

import pytest

from services.core.errors import EventDecodeError
from services.ingest.outgoing import from_disk
from services.ingest.state import CameraState, line_epoch_ns


def test_a_source_that_repeats_gets_the_same_numbers_again(tmp_path: Path) -> None:
    first = CameraState(tmp_path / "s.json", repeats=True)
    assert [first.next_sequence() for _ in range(5)] == [1, 2, 3, 4, 5]
    first.safe(3, {"after": "c"})
    # Gone without a word: the first save went to disk at once.
    second = CameraState(tmp_path / "s.json", repeats=True)
    assert second.cursor == {"after": "c"}
    assert second.next_sequence() == 4


def test_a_live_source_never_gives_a_number_twice_even_after_a_crash(tmp_path: Path) -> None:
    first = CameraState(tmp_path / "s.json", repeats=False)
    given = [first.next_sequence() for _ in range(2_500)]
    assert given == list(range(1, 2_501))
    second = CameraState(tmp_path / "s.json", repeats=False)
    assert second.next_sequence() > 2_500


def test_a_live_source_goes_on_without_a_gap_after_a_clean_stop(tmp_path: Path) -> None:
    first = CameraState(tmp_path / "s.json", repeats=False)
    for _ in range(7):
        first.next_sequence()
    first.close()
    assert CameraState(tmp_path / "s.json", repeats=False).next_sequence() == 8


def test_a_place_never_goes_back(tmp_path: Path) -> None:
    state = CameraState(tmp_path / "s.json", repeats=True)
    state.safe(5, {"index": 5})
    state.safe(4, {"index": 4})
    assert state.cursor == {"index": 5}


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"sequence": "x", "cursor": 7}'])
def test_a_damaged_state_is_begun_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s.json").write_bytes(content)
    state = CameraState(tmp_path / "s.json", repeats=True)
    assert state.cursor == {}
    assert state.next_sequence() == 1


def test_a_line_keeps_its_epoch(tmp_path: Path) -> None:
    epoch_ns = line_epoch_ns(tmp_path, "line-1")
    assert epoch_ns > 1_600_000_000_000_000_000
    assert line_epoch_ns(tmp_path, "line-1") == epoch_ns
    assert line_epoch_ns(tmp_path, "line-2") != epoch_ns


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b"[" * 2_000, b"9" * 5_000])
def test_a_place_that_cannot_be_read_is_begun_anew(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "s.json").write_bytes(data)
    state = CameraState(tmp_path / "s.json", repeats=True)
    assert state.cursor == {}
    assert state.next_sequence() == 1


def test_a_spooled_frame_with_a_head_nested_without_end_is_refused() -> None:
    with pytest.raises(EventDecodeError, match="must have a head"):
        from_disk((2_000).to_bytes(4, "big") + b"[" * 2_000)
