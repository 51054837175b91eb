"""From settings to running lines."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.core.errors import ConflictError
from services.core.line_event import Light, LineEventKind
from services.core.plc import ErrorCode, PlcInputs
from services.core.reference_check import ReferencePhase
from services.core.types import Verdict
from services.outcome.assembly import only_one
from tests.support.detector_line import wait_until
from tests.support.outcome_line import LINE, BuiltLines
from tests.support.outcomes import outcome

Kind = LineEventKind


@pytest.fixture
def lines(tmp_path: Path) -> Iterator[BuiltLines]:
    lines = BuiltLines(tmp_path)
    yield lines
    lines.stop()


def test_a_line_has_the_connections_of_its_settings_in_their_order(lines: BuiltLines) -> None:
    state = lines.build()[LINE].state()
    assert [(one.name, one.kind, one.address) for one in state.connections] == [
        ("plc", "modbus", "memory"),
        ("belt", "opcua", "memory"),
        ("mes", "webhook", "memory"),
        ("day", "file", "memory"),
    ]
    assert state.product == "disc"
    assert lines.cameras.asked == []


def test_a_plc_s_part_is_announced_asked_for_and_answered(lines: BuiltLines) -> None:
    line = lines.build()[LINE]
    line.start()
    image = lines.images["plc"]
    image.say(PlcInputs(part="dmc-1"))
    wait_until(lambda: image.said().trigger_ready, "a trigger may come")
    image.say(PlcInputs(trigger=True, part="dmc-1"))
    wait_until(lambda: lines.cameras.asked == ["dmc-1"], "cameras are asked")
    assert [one.part_id for one in lines.record.arrivals] == ["dmc-1"]
    line.take([outcome(Verdict.PASS, part_id="dmc-1")])
    assert image.said().ok
    wait_until(lambda: image.said().light is Light.AMBER, "the light is shown: a check is due")


def test_where_no_camera_takes_a_picture_the_plc_is_told_review(lines: BuiltLines) -> None:
    lines.cameras.refuses = True
    lines.build()[LINE].start()
    image = lines.images["plc"]
    wait_until(lambda: image.said().trigger_ready, "a trigger may come")
    image.say(PlcInputs(trigger=True, part="dmc-1"))
    wait_until(lambda: image.said().review, "it is for a person")
    assert image.said().error_code is ErrorCode.NO_CAMERA


def test_each_line_and_connection_keeps_its_own_state(lines: BuiltLines, tmp_path: Path) -> None:
    built = lines.build()
    for number in range(1, 6):
        built[LINE].take([outcome(Verdict.FAIL, number, decided_at_ns=time.time_ns())])
    built["line-2"].trigger("grpc", "", "", "dmc-9")
    files = sorted(str(path.relative_to(tmp_path)) for path in (tmp_path / "lines").rglob("*.json"))
    assert files == [f"lines/line-1/{name}.json" for name in ("alarms", "plc-belt", "plc-plc")]
    assert built["line-2"].state().alarms == ()


def test_alarms_and_checks_of_an_earlier_life_stand(lines: BuiltLines) -> None:
    line = lines.build()[LINE]
    for number in range(1, 6):
        line.take([outcome(Verdict.FAIL, number)])
    line.begin_reference_check("Ada")
    again = lines.build()[LINE].state()
    assert [alarm.rule for alarm in again.alarms] == [alarm.rule for alarm in line.state().alarms] != []
    assert (again.reference.phase, again.reference.occasion) == (ReferencePhase.DUE, "Ada")


def test_what_an_earlier_life_left_and_nobody_can_read_is_left_out(
    lines: BuiltLines, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "lines" / LINE
    folder.mkdir(parents=True)
    for name in ("alarms.json", "reference.json", "plc-plc.json"):
        (folder / name).write_bytes(b"{")
    state = lines.build()[LINE].state()
    assert state.alarms == ()
    assert state.reference.phase is ReferencePhase.DUE
    assert caplog.text.count("is left out") + caplog.text.count("are left out") == 3


def test_a_data_folder_serves_one_service_at_a_time(tmp_path: Path) -> None:
    file = only_one(tmp_path / "data")
    with pytest.raises(ConflictError, match="one outcome service at a time"):
        only_one(tmp_path / "data")
    os.close(file)
    os.close(only_one(tmp_path / "data"))


def test_while_outcomes_cannot_be_read_a_plc_without_triggers_is_at_the_safe_level_and_the_light_is_red(
    lines: BuiltLines,
) -> None:
    line = lines.build()[LINE]
    line.start()
    wait_until(lambda: not lines.images["belt"].said().safe, "nothing is lost")
    lines.blind = "the broker is away"
    wait_until(lambda: lines.images["belt"].said().safe, "the safe level")
    wait_until(lambda: ("safe", "belt") in [(one.token, one.about) for one in line.state().causes], "the cause")
    assert line.state().light is Light.RED
    assert not lines.images["plc"].said().safe, "a triggered part has its deadline"
    lines.blind = ""
    wait_until(lambda: not lines.images["belt"].said().safe, "outcomes are read again")


def test_an_alarm_that_was_saved_and_not_told_is_told_by_the_next_life_with_the_same_id(lines: BuiltLines) -> None:
    line = lines.build()[LINE]
    for number in range(1, 6):
        line.take([outcome(Verdict.FAIL, number)])
    line.acknowledge(line.state().alarms[0].alarm_id, "Ada", "seen")
    kinds = (LineEventKind.ALARM_RAISED, LineEventKind.ALARM_ACKNOWLEDGED)
    told = {event.event_id for kind in kinds for event in lines.record.of(kind)}
    assert len(told) >= 2
    lines.record.events.clear()
    lines.build()[LINE].start()
    assert {event.event_id for kind in kinds for event in lines.record.of(kind)} == told
