"""What a simulated PLC tells of its run, and what it refuses to begin with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from services.adapters.memory_plc import MemoryImage, MemoryPlcLink
from services.core.errors import InvalidInputError
from services.core.plc import ErrorCode
from services.core.plc_run import PartEnd, PlcFault, PlcPart, PlcProgramSettings
from services.core.types import Verdict
from services.local import plc_sim
from services.local.plc_sim import PlcSimOptions, PlcTally, run_plc_sim

PROGRAM = PlcProgramSettings("run", 1)


def part(answered_ms: float | None, verdict: Verdict | None = Verdict.PASS, **changes: Any) -> PlcPart:
    values: dict[str, Any] = {"part": "run-000001", "part_id": "run-000001", "end": PartEnd.ANSWERED}
    values |= {"triggered_at_ns": 1, "verdict": verdict, "answered_ms": answered_ms} | changes
    return PlcPart(**values)


def test_the_line_of_a_run_tells_verdicts_times_and_errors_in_words() -> None:
    tally = PlcTally(cycle_ms=400)
    for answered_ms in (100.0, 200.0, 300.0, 500.0):
        tally.add(part(answered_ms))
    tally.add(part(50.0, Verdict.FAIL))
    tally.add(part(None, None, end=PartEnd.REFUSED))
    tally.note(ErrorCode.DEADLINE)
    assert tally.line(12.0, "") == (
        "   12 s  6 parts  OK 4  NOK 1  REVIEW 0  refused 1  median 200 ms  p99 500 ms  within 400 ms 80.0%  "
        "no outcome in time 1"
    )
    assert tally.line(1.0, "nobody answers").endswith("away: nobody answers")


def test_before_the_first_answer_there_are_no_times() -> None:
    tally = PlcTally(cycle_ms=400)
    assert tally.line(1.0, "") == "    1 s  0 parts  OK 0  NOK 0  REVIEW 0"
    assert tally.to_json()["within_cycle"] is None


def test_the_time_of_a_part_that_the_line_itself_held_up_does_not_count() -> None:
    tally = PlcTally(cycle_ms=400)
    tally.add(part(100.0))
    tally.add(part(9_000.0, faults=(PlcFault.STOP_HEARTBEAT,)))
    assert tally.answered_ms(0.99) == 100.0
    assert tally.within == 1.0


def test_unanswered_parts_are_counted_by_their_reason() -> None:
    tally = PlcTally(cycle_ms=400)
    tally.add(part(None, None, end=PartEnd.UNANSWERED, reason="stopped"))
    assert tally.unanswered == {"stopped": 1}


@pytest.mark.parametrize("address", ["", "plc", "plc:", ":502", "plc:0", "plc:65536", "plc:x"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(InvalidInputError, match="address must be host:port, got"):
        PlcSimOptions("modbus", address, "line-1", PROGRAM)


def test_the_record_has_every_part_and_the_exit_code_tells_of_an_unanswered_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody serves: the only part is never announced, the run gives up and its record is whole.
    monkeypatch.setattr(plc_sim, "open_link", lambda _options: MemoryPlcLink(MemoryImage()))
    out = tmp_path / "deep" / "record.json"
    options = PlcSimOptions("modbus", "127.0.0.1:5020", "line-1", PROGRAM, give_up_s=0.0, out=out)
    assert run_plc_sim(options) == 0
    record = json.loads(out.read_text())
    assert (record["line"], record["protocol"], record["parts"]) == ("line-1", "modbus", [])
    assert record["counts"]["parts"] == 0


def test_a_part_in_the_record_says_all_that_came_of_it() -> None:
    assert plc_sim.part_to_json(part(12.5, Verdict.REVIEW, error_code=ErrorCode.DEADLINE, acknowledged=True)) == {
        "part": "run-000001",
        "part_id": "run-000001",
        "end": "answered",
        "verdict": "review",
        "error_code": 6,
        "triggered_at_ns": 1,
        "answered_ms": 12.5,
        "acknowledged": True,
        "reason": "",
        "faults": [],
        "reference": False,
    }
