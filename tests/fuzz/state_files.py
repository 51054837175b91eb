"""What a service or a training remembers in a file or a bucket of its own: read back whole, or begun anew."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

from tests.fuzz.harness import cut, instrumented, refused, run

with instrumented(__name__):
    from services.core.alarm import AlarmBoard
    from services.core.alarm_rule import AlarmKind, AlarmRule, Counted
    from services.core.reference_check import ReferenceCheck, ReferencePart
    from services.core.selection.snapshot import Snapshot
    from services.core.types import Verdict
    from services.ingest.state import json_object
    from services.outcome.state_file import handshake_from_json, handshake_to_json
    from services.trainer.plainfile import from_json
    from services.trainer.work import WrittenError

NAME = "state_files"
RULES: Final = (AlarmRule("three", AlarmKind.IN_A_ROW, n=3, verdicts=frozenset({Counted.FAIL})),)
PARTS: Final = (ReferencePart("ref-good-*", Verdict.PASS), ReferencePart("ref-bad-7", Verdict.FAIL))


def _board(data: bytes) -> None:
    _is_stable(lambda given: AlarmBoard.from_json(given, RULES), data)


def _check_of_parts(data: bytes) -> None:
    _is_stable(lambda given: ReferenceCheck.from_json(given, PARTS), data)


def _snapshot(data: bytes) -> None:
    _is_stable(Snapshot.from_json, data)


def _handshake(data: bytes) -> None:
    memory, events = handshake_from_json(data)
    if memory is not None:
        written = handshake_to_json(memory, events)
        again, same = handshake_from_json(written)
        assert again is not None
        assert handshake_to_json(again, same) == written


#: New ones go to the end.
READERS: Final[tuple[Callable[[bytes], Any], ...]] = (
    _board,
    _check_of_parts,
    _snapshot,
    _handshake,
    json_object,
    lambda data: from_json(WrittenError, data, "error.json"),
)


def _is_stable(read: Callable[[bytes], Any], data: bytes) -> None:
    written = read(data).to_json()
    assert read(written).to_json() == written


def check(data: bytes) -> None:
    which, body = cut(data, len(READERS))
    refused(lambda: READERS[which](body))


def seeds() -> dict[str, bytes]:
    from tests.support.outcomes import outcomes
    from tests.unit.outcome.test_state_file import EVENT, MEMORY

    board = AlarmBoard(RULES)
    check_of_parts = ReferenceCheck(PARTS)
    for one in outcomes("FFFFPF"):
        board.take(one)
    return {
        "board": b"\x00" + board.to_json(),
        "check": b"\x01" + check_of_parts.to_json(),
        "handshake": b"\x03" + handshake_to_json(MEMORY, (EVENT,)),
        **{f"deep-{which}": bytes([which]) + b"[" * 2_000 for which in range(len(READERS))},
        "place": b"\x04" + b'{"sequence": 7, "reserved": 20, "cursor": "a.jpg"}',
        "error": b"\x05" + b'{"reason": "no_room", "text": "the disk is full", "code": 3}',
    }


if __name__ == "__main__":
    sys.exit(run(NAME, check))
