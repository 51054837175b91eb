"""The check with reference parts: when it is due, when it has passed, and what does not count."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.core.errors import InvalidInputError, PreconditionError
from services.core.line_event import LineEventKind
from services.core.outcome import Outcome
from services.core.reference_check import (
    ReferenceCheck,
    ReferenceEvent,
    ReferencePart,
    ReferencePhase,
    due_since,
)
from services.core.shift import parse_shift_plan
from services.core.types import Verdict
from tests.support.outcomes import NOW_NS, S_NS, outcome

GOOD = ReferencePart("ref-good-*", Verdict.PASS)
BAD = ReferencePart("ref-bad-7", Verdict.FAIL)
PLAN = parse_shift_plan("early 06:00-14:00, late 14:00-22:00", "Europe/Berlin")


def shown(part_id: str, verdict: Verdict, number: int = 1, **changes: Any) -> Outcome:
    return outcome(verdict, number, part_id=part_id, **changes)


def begun(parts: Sequence[ReferencePart] = (GOOD, BAD)) -> ReferenceCheck:
    check = ReferenceCheck(parts)
    check.begin("early", NOW_NS)
    return check


def kinds(events: Sequence[ReferenceEvent]) -> list[LineEventKind]:
    return [event.kind for event in events]


def at_ns(text: str) -> int:
    return round(datetime.datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Europe/Berlin")).timestamp()) * S_NS


# ---- parts


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([GOOD], "some that PASS and some that FAIL, got only PASS"),
        ([BAD], "some that PASS and some that FAIL, got only FAIL"),
        ([GOOD, ReferencePart("ref-good-1", Verdict.FAIL)], r"told apart by their ids, got ref-good-\* and ref-good-1"),
        ([ReferencePart("ref-*", Verdict.FAIL), GOOD], r"told apart by their ids, got ref-\* and ref-good-\*"),
        ([GOOD, BAD, BAD], "told apart by their ids, got ref-bad-7 and ref-bad-7"),
        ([ReferencePart(f"ref-{number}", Verdict.PASS) for number in range(33)], "at most 32 reference parts, got 33"),
    ],
)
def test_parts_that_make_no_check_are_refused(parts: list[ReferencePart], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        ReferenceCheck(parts)


@pytest.mark.parametrize("part_id", ["", "*", "ref*-1", "../ref", "ref**"])
def test_a_part_is_named_by_an_id_or_the_beginning_of_one(part_id: str) -> None:
    with pytest.raises(InvalidInputError, match="a reference part's part_id must"):
        ReferencePart(part_id, Verdict.PASS)


def test_nobody_can_know_that_a_part_must_be_for_review() -> None:
    with pytest.raises(InvalidInputError, match="reference part ref must be PASS or FAIL, got REVIEW"):
        ReferencePart("ref", Verdict.REVIEW)


def test_reference_parts_are_known_by_their_whole_id_or_by_its_beginning() -> None:
    check = ReferenceCheck([GOOD, BAD])
    assert check.is_reference("ref-good-1")
    assert check.is_reference("ref-good-")
    assert check.is_reference("ref-bad-7")
    assert not check.is_reference("ref-bad-70")
    assert not check.is_reference("part-ref-good-1")
    assert not ReferenceCheck([]).is_reference("ref-good-1")


# ---- a check


def test_before_the_first_check_one_is_due() -> None:
    state = ReferenceCheck([GOOD, BAD]).state
    assert (state.phase, state.due_at_ns, state.occasion) == (ReferencePhase.DUE, 0, "")


def test_a_line_without_reference_parts_has_no_check() -> None:
    check = ReferenceCheck([])
    assert check.state.phase is None
    assert check.due(PLAN, at_ns("2026-11-25T07:00")) is None
    with pytest.raises(PreconditionError, match="a line must have reference parts for a check, got none"):
        check.begin("Ada", NOW_NS)


def test_it_passes_when_good_and_bad_parts_have_come_out_right() -> None:
    check = ReferenceCheck([GOOD, BAD])
    assert kinds(check.begin("early", NOW_NS)) == [LineEventKind.REFERENCE_BEGUN]
    (first,) = check.take(shown("ref-good-1", Verdict.PASS, 1))
    assert (first.kind, first.part_id, first.verdict) == (LineEventKind.REFERENCE_PART, "ref-good-1", Verdict.PASS)
    assert first.detail == "ref-good-1 came out PASS as it must"
    assert check.state.phase is ReferencePhase.DUE
    last = shown("ref-bad-7", Verdict.FAIL, 2)
    events = check.take(last)
    assert kinds(events) == [LineEventKind.REFERENCE_PART, LineEventKind.REFERENCE_PASSED]
    assert events[1].detail == "all 2 reference parts came out as they must"
    state = check.state
    assert (state.phase, state.ended_at_ns, state.due_at_ns) == (ReferencePhase.PASSED, last.decided_at_ns, NOW_NS)
    assert (state.occasion, check.last_passed_at_ns) == ("early", last.decided_at_ns)


@pytest.mark.parametrize(
    ("verdict", "in_time", "seen", "said"),
    [
        (Verdict.PASS, True, Verdict.PASS, "ref-bad-7 must be FAIL, came out PASS"),
        (Verdict.REVIEW, True, Verdict.REVIEW, "ref-bad-7 must be FAIL, came out REVIEW"),
        (Verdict.FAIL, False, Verdict.REVIEW, "ref-bad-7 must be FAIL in time, came out FAIL and late"),
    ],
)
def test_a_part_that_is_wrong_unsure_or_late_fails_the_check_at_once(
    verdict: Verdict, in_time: bool, seen: Verdict, said: str
) -> None:
    check = begun()
    part, failed = check.take(shown("ref-bad-7", verdict, in_time=in_time))
    assert (part.detail, failed.kind) == (said, LineEventKind.REFERENCE_FAILED)
    assert failed.detail == "ref-bad-7 came out wrong"
    assert check.state.phase is ReferencePhase.FAILED
    assert check.state.ended_at_ns == failed.at_ns
    assert check.state.parts[1].seen is seen


def test_a_part_that_is_shown_again_counts_as_it_came_out_last() -> None:
    check = begun()
    check.take(shown("ref-bad-7", Verdict.PASS, 1))
    assert kinds(check.take(shown("ref-bad-7", Verdict.REVIEW, 2))) == [LineEventKind.REFERENCE_PART]
    check.take(shown("ref-bad-7", Verdict.FAIL, 3))
    assert (check.state.phase, check.state.ended_at_ns) == (ReferencePhase.DUE, 0)
    check.take(shown("ref-good-1", Verdict.PASS, 4))
    assert check.state.phase is ReferencePhase.PASSED


def test_a_right_part_that_comes_out_wrong_before_the_end_fails_the_check() -> None:
    check = begun()
    check.take(shown("ref-good-1", Verdict.PASS, 1))
    assert LineEventKind.REFERENCE_FAILED in kinds(check.take(shown("ref-good-2", Verdict.FAIL, 2)))


def test_once_it_has_passed_nothing_counts_until_the_next_one_begins() -> None:
    check = begun()
    check.take(shown("ref-good-1", Verdict.PASS, 1))
    check.take(shown("ref-bad-7", Verdict.FAIL, 2))
    passed = check.state
    assert check.take(shown("ref-bad-7", Verdict.PASS, 3)) == ()
    assert check.state == passed
    check.begin("Ada", NOW_NS + 10 * S_NS)
    assert (check.state.phase, check.state.occasion) == (ReferencePhase.DUE, "Ada")
    assert {part.seen for part in check.state.parts} == {None}
    assert check.last_passed_at_ns == passed.ended_at_ns


def test_what_was_decided_before_the_check_a_late_revision_and_other_parts_do_not_count() -> None:
    check = begun()
    assert check.take(shown("ref-bad-7", Verdict.PASS, -1)) == ()
    assert check.take(shown("ref-bad-7", Verdict.PASS, revision=2)) == ()
    assert check.take(outcome(Verdict.FAIL)) == ()
    assert check.state.phase is ReferencePhase.DUE


def test_an_outcome_that_comes_again_says_nothing_new() -> None:
    check = begun()
    wrong, right = shown("ref-bad-7", Verdict.PASS, 1), shown("ref-bad-7", Verdict.FAIL, 2)
    check.take(wrong)
    check.take(right)
    assert check.take(wrong) == check.take(right) == ()
    assert check.state.parts[1].seen is Verdict.FAIL


@pytest.mark.parametrize(
    ("occasion", "begun_at_ns", "said"),
    [("x" * 129, 1, "occasion must have at most 128"), ("a\nb", 1, r"got 'a\\nb'"), ("early", 0, "at_ns must be >= 1")],
)
def test_a_check_begins_for_an_occasion_at_a_time(occasion: str, begun_at_ns: int, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        ReferenceCheck([GOOD, BAD]).begin(occasion, begun_at_ns)


# ---- when one is due


@pytest.mark.parametrize(
    ("passed", "now", "shift"),
    [
        ("2026-11-25T05:59", "2026-11-25T06:00", "early"),
        ("2026-11-25T06:00", "2026-11-25T13:59", None),
        ("2026-11-25T13:00", "2026-11-25T14:00", "late"),
        ("2026-11-25T13:00", "2026-11-25T23:00", None),
        ("2026-11-24T15:00", "2026-11-25T15:00", "late"),
    ],
)
def test_a_check_is_due_from_the_beginning_of_a_shift_until_one_has_passed(
    passed: str, now: str, shift: str | None
) -> None:
    span = due_since(PLAN, at_ns(passed), at_ns(now))
    assert (span.name if span else None) == shift


def test_a_check_that_runs_or_failed_does_not_begin_again_within_its_shift() -> None:
    check = ReferenceCheck([GOOD, BAD])
    now_ns = at_ns("2026-11-25T07:00")
    span = check.due(PLAN, now_ns)
    assert span is not None
    check.begin(span.name, span.begins_s * S_NS)
    assert check.due(PLAN, now_ns) is None
    check.take(shown("ref-bad-7", Verdict.PASS, decided_at_ns=now_ns))
    assert check.state.phase is ReferencePhase.FAILED
    assert check.due(PLAN, now_ns) is None
    late = check.due(PLAN, at_ns("2026-11-25T14:00"))
    assert late is not None
    assert late.name == "late"


# ---- restarts


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ref-good-1", "ref-good-2", "ref-bad-7", "part-1", "begin"]),
            st.sampled_from(list(Verdict)),
            st.booleans(),
        ),
        max_size=20,
    ),
    st.integers(0, 20),
)
def test_a_check_goes_on_after_a_restart_as_if_there_had_been_none(
    steps: list[tuple[str, Verdict, bool]], cut: int
) -> None:
    def step(check: ReferenceCheck, number: int) -> tuple[ReferenceEvent, ...]:
        part_id, verdict, in_time = steps[number]
        if part_id == "begin":
            return check.begin("early", NOW_NS + number * S_NS)
        return check.take(shown(part_id, verdict, number, in_time=in_time))

    whole, check = begun(), begun()
    for number in range(len(steps)):
        if number == cut:
            check = ReferenceCheck.from_json(check.to_json(), [GOOD, BAD])
        assert step(check, number) == step(whole, number)
        assert check.state == whole.state
    assert check.to_json() == whole.to_json()


def test_with_other_parts_than_it_was_written_with_a_check_is_due() -> None:
    check = begun()
    check.take(shown("ref-good-1", Verdict.PASS, 1))
    check.take(shown("ref-bad-7", Verdict.FAIL, 2))
    other = ReferenceCheck.from_json(check.to_json(), [GOOD, replace(BAD, part_id="ref-bad-8")])
    assert (other.state.phase, other.last_passed_at_ns) == (ReferencePhase.DUE, 0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 2}, "reference.json: schema must be 1, got 2"),
        ({"last_passed_at_ns": "x"}, "reference.json.last_passed_at_ns must be of type int, got str"),
    ],
)
def test_a_check_of_another_kind_is_refused(change: dict[str, object], said: str) -> None:
    data = json.dumps(json.loads(begun().to_json()) | change).encode()
    with pytest.raises(InvalidInputError, match=said):
        ReferenceCheck.from_json(data, [GOOD, BAD])


def test_a_phase_that_nobody_knows_is_refused() -> None:
    stored = json.loads(begun().to_json())
    stored["state"]["phase"] = "done"
    with pytest.raises(InvalidInputError, match=r"state\.phase must be one of due, passed, failed, got 'done'"):
        ReferenceCheck.from_json(json.dumps(stored).encode(), [GOOD, BAD])
