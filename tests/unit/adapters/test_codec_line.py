"""How a line is, as messages: every field comes back, and what breaks a rule is refused by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.message import Message
from sightline.v1 import outcome_service_pb2

from services.adapters.codec_line import (
    alarm_from_message,
    alarm_to_message,
    line_state_from_message,
    line_state_to_message,
    reference_from_message,
    reference_to_message,
)
from services.core.alarm import Alarm
from services.core.alarm_rule import AlarmKind
from services.core.errors import EventDecodeError
from services.core.identity import alarm_id
from services.core.line_event import Light
from services.core.line_state import ConnectionState, LineState
from services.core.plc import HandshakeState
from services.core.reference_check import ReferencePartState, ReferencePhase, ReferenceState
from services.core.stack_light import LightCause
from services.core.types import Verdict
from tests.support.outcomes import NOW_NS

ALARM = Alarm(
    alarm_id=alarm_id("line-1", "same", ("left", "disc", "scratch"), "part-3", NOW_NS),
    line_id="line-1",
    rule="same",
    light=Light.RED,
    text="3 parts in a row failed",
    raised_at_ns=NOW_NS,
    part_id="part-3",
    camera_id="left",
    product="disc",
    defect_class="scratch",
    acknowledged_by="Ada",
    acknowledged_at_ns=NOW_NS + 5,
    note="tool changed",
    repeats=4,
    kind=AlarmKind.OF_LAST,
    count=3,
    of=10,
    window_s=600,
)
STANDING = dataclasses.replace(ALARM, acknowledged_by="", acknowledged_at_ns=0, note="")
REFERENCE = ReferenceState(
    phase=ReferencePhase.FAILED,
    occasion="early",
    due_at_ns=NOW_NS,
    ended_at_ns=NOW_NS + 9,
    parts=(
        ReferencePartState("ref-good-*", Verdict.PASS, Verdict.REVIEW),
        ReferencePartState("ref-bad", Verdict.FAIL, None),
    ),
)
CONNECTION = ConnectionState(
    name="plc",
    kind="modbus",
    address="0.0.0.0:5020",
    up=True,
    handshake=HandshakeState.BUSY,
    part_id="part-4",
    error_code=3,
    waiting=2,
    oldest_waiting_ms=1_500,
    detail="slow",
)
LINE = LineState(
    line_id="line-1",
    light=Light.AMBER,
    product="disc",
    lot="lot-9",
    causes=(LightCause("alarm", ALARM.alarm_id, "3 parts in a row failed", Light.RED),),
    connections=(CONNECTION, ConnectionState("mes", "webhook", "https://mes", up=False)),
    alarms=(STANDING,),
    reference=REFERENCE,
    past_alarms=(ALARM,),
)


def unset(message: Message) -> list[str]:
    return [
        one.name for one in message.DESCRIPTOR.fields if one.name not in {set_.name for set_, _ in message.ListFields()}
    ]


def test_a_line_comes_back_with_every_field() -> None:
    message = line_state_to_message(LINE)
    assert unset(message) == []
    assert unset(message.connections[0]) == []
    assert unset(message.causes[0]) == []
    assert unset(message.past_alarms[0]) == []
    message.past_alarms[0].kind = "of_a_newer_release"
    assert line_state_from_message(message).past_alarms[0].kind is None
    message.past_alarms[0].kind = "of_last"
    assert unset(message.reference) == []
    assert unset(message.reference.parts[0]) == []
    assert line_state_from_message(message) == LINE


def test_a_line_of_which_nothing_is_known_comes_back() -> None:
    line = LineState("line-1", Light.GREEN)
    assert line_state_from_message(line_state_to_message(line)) == line


@pytest.mark.parametrize("state", [None, *HandshakeState])
def test_every_state_of_a_handshake_comes_back(state: HandshakeState | None) -> None:
    line = dataclasses.replace(LINE, connections=(dataclasses.replace(CONNECTION, handshake=state),))
    assert line_state_from_message(line_state_to_message(line)) == line


@pytest.mark.parametrize("phase", [None, *ReferencePhase])
def test_every_phase_of_a_check_comes_back(phase: ReferencePhase | None) -> None:
    reference = dataclasses.replace(REFERENCE, phase=phase)
    assert reference_from_message(reference_to_message(reference)) == reference


@pytest.mark.parametrize("light", list(Light))
def test_every_light_comes_back(light: Light) -> None:
    line = dataclasses.replace(LINE, light=light)
    assert line_state_from_message(line_state_to_message(line)) == line


@pytest.mark.parametrize("alarm", [ALARM, STANDING])
def test_an_alarm_comes_back_with_the_line_that_it_is_of(alarm: Alarm) -> None:
    assert alarm_from_message(alarm_to_message(alarm), "line-1") == alarm


@pytest.mark.parametrize("light", [0, 99])
def test_a_light_that_is_not_known_is_never_green(light: int) -> None:
    message = line_state_to_message(LINE)
    message.light = light  # type: ignore[assignment]
    assert line_state_from_message(message).light is Light.RED


def edited(change: Callable[[Any], None]) -> outcome_service_pb2.LineState:
    message = line_state_to_message(LINE)
    change(message)
    return message


def put(path: str, value: object) -> Callable[[Any], None]:
    def change(message: Any) -> None:
        *parents, last = path.split(".")
        for name in parents:
            message = message[int(name)] if name.isdigit() else getattr(message, name)
        setattr(message, last, value)

    return change


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("line_id", "", "LineState: line_id must not be empty"),
        ("product", "a disc", "product must start with"),
        ("lot", "../lot", "lot must start with"),
        ("causes.0.token", "No Token", "a cause's token must be 1..32 lower-case .*, got 'No Token'"),
        ("causes.0.text", "x" * 4_097, "text must have at most 4096 bytes"),
        ("connections.0.name", "", "connection must not be empty"),
        ("connections.0.kind", "mod bus", "kind must start with"),
        ("connections.0.error_code", -1, "error_code must be >= 0, got -1"),
        ("connections.0.waiting", -1, "waiting must be >= 0, got -1"),
        ("connections.0.oldest_waiting_ms", -1, "oldest_waiting_ms must be >= 0, got -1"),
        ("alarms.0.alarm_id", "1", "frame_id must be a lower-case UUID of version 7"),
        ("alarms.0.rule", "", "rule must not be empty"),
        ("alarms.0.part_id", "", "part_id must not be empty"),
        ("alarms.0.raised_at_ns", 0, "raised_at_ns must be >= 1, got 0"),
        ("alarms.0.acknowledged_by", "Ada", "must be set together, got 'Ada' and 0"),
        ("alarms.0.defect_class", "a\nb", "defect_class must have at most 128 printable"),
        ("alarms.0.repeats", -1, "repeats must be >= 0, got -1"),
        ("reference.due_at_ns", -1, "due_at_ns must be >= 0, got -1"),
        ("reference.ended_at_ns", -1, "ended_at_ns must be >= 0, got -1"),
        ("reference.parts.0.part_id", "*", "part_id must not be empty"),
        ("reference.parts.0.expected", 0, "expected must be PASS or FAIL, got 0"),
        ("reference.parts.0.expected", 3, "expected must be PASS or FAIL, got 3"),
    ],
)
def test_what_breaks_a_rule_is_refused_by_name(path: str, value: object, said: str) -> None:
    with pytest.raises(EventDecodeError, match=said):
        line_state_from_message(edited(put(path, value)))
