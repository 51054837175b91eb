"""What survives the process: one state or the next, and nothing that cannot be read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from services.core.line_event import LineEvent, LineEventKind
from services.core.plc import ErrorCode, HandshakeMemory, HandshakeState, LineAnswer, TriggeredPart
from services.core.types import Verdict
from services.outcome.state_file import BytesFile, handshake_from_json, handshake_to_json
from tests.support.outcomes import NOW_NS

PART = TriggeredPart("p1", "disc", "lot-7", NOW_NS, NOW_NS + 1_000)
ANSWER = LineAnswer("p0", Verdict.REVIEW, 0, NOW_NS, ErrorCode.DEADLINE)
MEMORY = HandshakeMemory(HandshakeState.BUSY, "disc", "lot-7", PART, None, (ANSWER,))
EVENT = LineEvent("018bcfe5-6800-7000-8000-000000000001", "line-1", NOW_NS, LineEventKind.TRIGGERED, part_id="p1")


@pytest.mark.parametrize("fsync", [False, True])
def test_what_was_saved_last_is_what_is_there(tmp_path: Path, *, fsync: bool) -> None:
    file = BytesFile(tmp_path / "folder" / "state.json", fsync=fsync)
    assert file.load() is None
    file.save(b"one")
    file.save(b"two")
    assert BytesFile(tmp_path / "folder" / "state.json").load() == b"two"
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["state.json"]


def test_a_kill_while_it_is_written_leaves_what_was_there(tmp_path: Path) -> None:
    file = BytesFile(tmp_path / "state.json")
    file.save(b"whole")
    (tmp_path / "state.new").write_bytes(b"ha")
    assert BytesFile(tmp_path / "state.json").load() == b"whole"
    file.save(b"next")
    assert file.load() == b"next"


@pytest.mark.parametrize(
    "memory",
    [
        MEMORY,
        HandshakeMemory(HandshakeState.RESULT, "disc", "", PART, ANSWER, (ANSWER,), trigger=True, result_ack=True),
        HandshakeMemory(HandshakeState.READY, "", "", None, None),
    ],
)
def test_a_handshake_goes_on_as_it_was(memory: HandshakeMemory) -> None:
    assert handshake_from_json(handshake_to_json(memory, [EVENT])) == (memory, (EVENT,))


def test_a_handshake_that_an_older_release_wrote_is_read() -> None:
    value = json.loads(handshake_to_json(MEMORY, []))
    del value["trigger"], value["result_ack"]
    assert handshake_from_json(json.dumps(value).encode()) == (MEMORY, ())


def test_nothing_is_read_of_nothing() -> None:
    assert handshake_from_json(None) == (None, ())


@pytest.mark.parametrize(
    "changes",
    [
        {"state": "asleep"},
        {"state": None},
        {"part": {"part_id": "p1"}},
        {"part": 7},
        {"answer": {"part_id": "p0"}},
        {"recent": [7]},
        {"recent": 7},
        {"events": ["AAAA"]},
        {"events": [7]},
        {"lot": 7},
        {"trigger": 1},
    ],
)
def test_what_breaks_a_rule_is_left_out_and_logged(
    changes: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    value = json.loads(handshake_to_json(MEMORY, [EVENT])) | changes
    assert handshake_from_json(json.dumps(value).encode()) == (None, ())
    assert "is left out" in caplog.text


@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", b"null", b'{"state": "busy"'])
def test_what_is_no_object_is_left_out(data: bytes) -> None:
    assert handshake_from_json(data) == (None, ())


def test_a_part_whose_name_is_none_is_left_out() -> None:
    value = json.loads(handshake_to_json(MEMORY, []))
    value["part"]["part_id"] = "../p"
    assert handshake_from_json(json.dumps(value).encode()) == (None, ())


def test_nothing_is_read_of_a_memory_nested_without_end() -> None:
    assert handshake_from_json(b"[" * 2_000) == (None, ())
