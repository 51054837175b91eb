"""Settings of the outcome service: what holds together, and what is told of what does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.core.alarm_rule import DEFAULT_RULES, AlarmKind, Counted
from services.core.errors import SettingsError
from services.core.line_event import Light
from services.core.outcome import FailClause
from services.core.types import Verdict
from services.outcome.settings import FileSettings, ModbusSettings, OutcomeSettings
from services.runtime.settings import load_settings, masked

PART: dict[str, Any] = {"product": "disc", "cameras": ["left", "right"]}
PLC: dict[str, Any] = {"name": "plc", "kind": "modbus"}
OPC: dict[str, Any] = {"name": "opc", "kind": "opcua"}
REFERENCES = [{"part_id": "good*", "expected": "pass"}, {"part_id": "bad*", "expected": "fail"}]


def load(*connections: dict[str, Any], line: dict[str, Any] | None = None, **changes: Any) -> OutcomeSettings:
    one = {"line_id": "line-1", "connections": list(connections)} | (line or {})
    return load_settings(OutcomeSettings, **{"parts": [PART], "lines": [one]} | changes)


def test_defaults_are_valid_and_speak_for_no_line() -> None:
    settings = load_settings(OutcomeSettings)
    assert (settings.grpc.port, settings.kafka.fetch_wait_ms) == (50057, 100)
    assert (settings.lines, settings.plans.plans) == ([], ())
    assert len(settings.shift_plan.shifts) == 3
    assert settings.joining.limits().decide_before_ms == 100


def test_a_plan_says_when_a_part_fails() -> None:
    part = PART | {"line_id": "line-1", "deadline_ms": 800, "fail_when": [{"at_least": 2, "cameras": ["left"]}]}
    (plan,) = load(parts=[part]).plans.plans
    assert (plan.product, plan.line_id, plan.deadline_ms) == ("disc", "line-1", 800)
    assert plan.fail_when == (FailClause(2, frozenset({"left"})),)


def test_a_line_s_plc_is_spoken_with_as_both_say() -> None:
    settings = load(
        PLC | {"safe_level": "review", "answer_before_ms": 50, "encoder_pitch": 400},
        line={"cycle_time_ms": 700, "recipes": {"7": "disc"}, "product": "disc"},
    )
    (line,) = settings.lines
    (plc,) = line.connections
    assert isinstance(plc, ModbusSettings)
    assert plc.port == 502
    handshake = line.handshake(plc, frozenset({"disc"}))
    assert (handshake.line_id, handshake.connection, handshake.cycle_time_ms) == ("line-1", "plc", 700)
    assert (handshake.safe_level, handshake.answer_before_ms, handshake.encoder_pitch) == (Verdict.REVIEW, 50, 400)
    assert (handshake.recipes, handshake.product, handshake.triggered) == ({"7": "disc"}, "disc", True)


def test_alarms_are_those_of_the_settings_and_left_out_those_of_the_docs() -> None:
    assert load().lines[0].alarm_rules == DEFAULT_RULES
    assert load(line={"alarms": []}).lines[0].alarm_rules == ()
    rule = {"name": "many", "kind": "of_last", "n": 3, "k": 10, "verdicts": ["late"], "light": "red"}
    (made,) = load(line={"alarms": [rule]}).lines[0].alarm_rules
    assert (made.kind, made.n, made.k, made.verdicts, made.light) == (
        AlarmKind.OF_LAST,
        3,
        10,
        frozenset({Counted.LATE}),
        Light.RED,
    )


def test_reference_parts_are_known_good_or_known_bad() -> None:
    good, bad = load(line={"reference_parts": REFERENCES}).lines[0].references
    assert ((good.part_id, good.expected), (bad.part_id, bad.expected)) == (
        ("good*", Verdict.PASS),
        ("bad*", Verdict.FAIL),
    )


def test_secrets_are_not_logged() -> None:
    settings = load(
        {"name": "mes", "kind": "webhook", "url": "https://mes.example/hook", "secret": "hush-hush-hush-hush"},
        {"name": "mqtt", "kind": "mqtt", "host": "broker", "password": "hush-hush"},
        OPC | {"certificate_file": "c.der", "key_file": "k.pem", "username": "plc", "password": "hush-hush"},
    )
    assert "hush" not in str(masked(settings))


def test_they_may_come_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "outcome.yaml"
    path.write_text(
        "parts:\n  - {product: disc, cameras: [left]}\n"
        "lines:\n  - line_id: line-1\n    connections:\n      - {name: day, kind: file, folder: out, format: csv}\n"
    )
    monkeypatch.setenv("SIGHTLINE_CONFIG", str(path))
    (connection,) = load_settings(OutcomeSettings).lines[0].connections
    assert isinstance(connection, FileSettings)
    assert (connection.folder, connection.format) == (Path("out"), "csv")


@pytest.mark.parametrize(
    ("connections", "line", "changes", "said"),
    [
        ([], {"line_id": "line 1"}, {}, "line_id must start with a letter"),
        ([], {"line_id": ""}, {}, "line_id must not be empty"),
        (
            [],
            {},
            {"lines": [{"line_id": "a"}, {"line_id": "a"}]},
            "line_id must be unique over all lines, got twice: a",
        ),
        ([PLC, PLC], {}, {}, "connections of line-1 must have different names, got plc"),
        ([PLC | {"name": "the plc"}], {}, {}, "a connection of line-1 must start with a letter"),
        ([PLC | {"kind": "profinet"}], {}, {}, "modbus"),
        ([PLC | {"ports": 1}], {}, {}, "ports"),
        ([PLC], {}, {"parts": []}, "line line-1 must have at least one product, got none"),
        ([PLC], {"recipes": {"7": "bolt"}}, {}, "a recipe must stand for a product of the line, got bolt"),
        ([PLC], {"product": "bolt"}, {}, "product must be one of the line, got 'bolt'"),
        ([PLC], {"cycle_time_ms": 10}, {}, "answer_before_ms must be less than cycle_time_ms, got 50 and 10"),
        ([PLC | {"safe_level": "pass"}], {}, {}, "safe_level"),
        ([OPC | {"certificate_file": "c"}], {}, {}, "certificate_file and key_file must be set together"),
        ([OPC | {"username": "plc"}], {}, {}, "a user or trusted certificates need certificate_file, got none"),
        ([OPC | {"host": "0.0.0.0"}], {}, {}, "without a certificate must be served on loopback"),
        ([OPC | {"certificate_file": "c", "key_file": "k"}], {}, {}, "a user or trusted certificates must be named"),
        ([{"name": "mes", "kind": "webhook", "url": "https://mes.example"}], {}, {}, "secret"),
        ([{"name": "day", "kind": "file", "folder": "f", "format": "xml"}], {}, {}, "format"),
        ([{"name": "day", "kind": "file", "folder": "f", "max_age_s": 0}], {}, {}, "max_age_s"),
        ([], {"alarms": [{"name": "a", "kind": "in_a_row", "n": 3}] * 2}, {}, "alarms of line-1 must have different"),
        ([], {"alarms": [{"name": "a", "kind": "in_a_row"}]}, {}, "rule a must have n in 1..1000, got 0"),
        ([], {"alarms": [{"name": "a b", "kind": "in_a_row", "n": 3}]}, {}, "a rule's name must start"),
        ([], {"reference_parts": REFERENCES[:1]}, {}, "must be some that PASS and some that FAIL, got only PASS"),
        ([], {"reference_parts": [*REFERENCES, REFERENCES[0]]}, {}, "reference parts must be told apart"),
        ([], {}, {"parts": [PART, PART]}, "a product must have one plan for each line, got more for disc"),
        ([], {}, {"parts": [PART | {"cameras": []}]}, "cameras"),
        ([], {}, {"parts": [PART | {"fail_when": [{"cameras": ["top"]}]}]}, "a clause of disc must name its own"),
        ([], {}, {"parts": [PART | {"fail_when": [{"at_least": 0}]}]}, "at_least"),
        ([], {}, {"shifts": "early 06:00"}, "shifts must be written like"),
        ([], {}, {"time_zone": "Berlin"}, "IANA"),
        ([], {}, {"drain_s": 10, "kafka": {"max_poll_interval_ms": 10_000}}, "drain_s must be shorter than"),
        ([], {}, {"joining": {"remember_s": 0}}, "remember_s"),
        ([], {}, {"events_max_bytes": 10}, "events_max_bytes"),
    ],
)
def test_what_does_not_hold_together_ends_the_start_and_is_told(
    connections: list[dict[str, Any]], line: dict[str, Any], changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        load(*connections, line=line, **changes)
    assert said.lower() in str(caught.value).lower()
