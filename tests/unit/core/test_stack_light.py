"""The stack light: what makes it red or amber, and what is said first."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.core.alarm import Alarm
from services.core.line_event import Light
from services.core.reference_check import ReferencePartState, ReferencePhase, ReferenceState
from services.core.stack_light import CauseToken, light_causes, stack_light
from services.core.types import Verdict
from tests.support.outcomes import NOW_NS, S_NS

ALARM = Alarm("id-1", "line-1", "three", Light.AMBER, "3 parts in a row failed", NOW_NS, "part-3")
FAILED = ReferenceState(
    ReferencePhase.FAILED,
    "early",
    NOW_NS,
    NOW_NS + 1,
    (
        ReferencePartState("ref-good", Verdict.PASS, Verdict.PASS),
        ReferencePartState("ref-bad", Verdict.FAIL, Verdict.REVIEW),
        ReferencePartState("ref-new", Verdict.FAIL),
    ),
)


def test_without_a_cause_it_is_green() -> None:
    assert light_causes(reference=ReferenceState(ReferencePhase.PASSED)) == ()
    assert light_causes() == ()
    assert stack_light(()) is Light.GREEN


def test_an_alarm_is_as_grave_as_its_rule_says() -> None:
    (cause,) = light_causes(alarms=[ALARM])
    assert (cause.token, cause.about, cause.text) == ("alarm", "id-1", "3 parts in a row failed")
    assert stack_light([cause]) is Light.AMBER
    assert stack_light(light_causes(alarms=[ALARM, replace(ALARM, light=Light.RED)])) is Light.RED


def test_a_connection_that_is_away_is_amber_and_says_why() -> None:
    named, mute = light_causes(away={"mes": "connection refused", "file": ""})
    assert (named.about, named.text) == ("mes", "connection mes does not deliver: connection refused")
    assert mute.text == "connection file does not deliver"
    assert stack_light([named, mute]) is Light.AMBER


def test_a_heartbeat_that_stands_still_and_a_safe_level_are_red() -> None:
    safe, heartbeat = light_causes(heartbeats_lost=["plc"], at_safe_level={"plc": "draining"})
    assert heartbeat.text == "the line's heartbeat on plc stands still"
    assert safe.text == "outputs of plc are at the safe level: draining"
    assert safe.light is heartbeat.light is Light.RED


def test_a_check_that_is_due_is_amber_and_one_that_failed_is_red() -> None:
    (due,) = light_causes(reference=ReferenceState(ReferencePhase.DUE, "early", NOW_NS))
    assert (due.light, due.text) == (Light.AMBER, "a check with reference parts is due: early")
    (failed,) = light_causes(reference=FAILED)
    assert failed.light is Light.RED
    assert failed.text == "the check with reference parts failed: ref-bad came out wrong"


@pytest.mark.parametrize(("waited_s", "red"), [(29.9, False), (30.0, True), (90.0, True)])
def test_parts_without_any_outcome_are_red_after_a_while(waited_s: float, red: bool) -> None:
    causes = light_causes(unanswered_since_ns=NOW_NS, now_ns=NOW_NS + int(waited_s * S_NS), no_outcomes_after_s=30.0)
    assert [cause.token for cause in causes] == ["no_outcomes"] * red
    assert stack_light(causes) is (Light.RED if red else Light.GREEN)


def test_a_line_on_which_nothing_comes_is_not_blamed_for_no_outcomes() -> None:
    assert light_causes(unanswered_since_ns=0, now_ns=NOW_NS) == ()


def test_the_gravest_is_said_first_and_alarms_stay_in_their_order() -> None:
    causes = light_causes(
        alarms=[ALARM, replace(ALARM, alarm_id="id-2", light=Light.RED), replace(ALARM, alarm_id="id-3")],
        away={"mes": ""},
        heartbeats_lost=["plc"],
        at_safe_level={"plc": ""},
        reference=FAILED,
        unanswered_since_ns=NOW_NS,
        now_ns=NOW_NS + 60 * S_NS,
    )
    assert [(cause.token, cause.about) for cause in causes] == [
        (CauseToken.SAFE, "plc"),
        (CauseToken.HEARTBEAT, "plc"),
        (CauseToken.NO_OUTCOMES, ""),
        (CauseToken.REFERENCE, "early"),
        (CauseToken.ALARM, "id-2"),
        (CauseToken.ALARM, "id-1"),
        (CauseToken.ALARM, "id-3"),
        (CauseToken.CONNECTION, "mes"),
    ]
