"""Counts put together into rows: groups, shifts, points, and what the figures say."""

from __future__ import annotations

import datetime
from zoneinfo import ZoneInfo

import pytest

from services.core.errors import InvalidInputError
from services.core.escape_rate import AuditStratum
from services.core.shift import parse_shift_plan
from services.core.statistics import (
    CountedAudits,
    CountedOutcomes,
    CountedVerdicts,
    GroupBy,
    Inspected,
    OutcomeTally,
    Slots,
    Span,
    StatisticsTable,
    VerdictTally,
    slots_of,
    tabulate,
    whole_spans,
)

BERLIN = ZoneInfo("Europe/Berlin")
PLAN = parse_shift_plan("early 06:00-14:00, late 14:00-22:00, night 22:00-06:00", "Europe/Berlin")
DAY_ONLY = parse_shift_plan("day 07:00-16:00", "Europe/Berlin")
NS = 1_000_000_000


def at(text: str) -> int:
    return round(datetime.datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp())


MIDNIGHT = at("2026-11-25T00:00")
DAY = Span(MIDNIGHT, MIDNIGHT + 86_400)


def table(
    group_by: GroupBy, *counted: CountedVerdicts, span: Span = DAY, slots: Slots | None = None
) -> StatisticsTable:
    return tabulate(group_by, span, slots, PLAN, verdicts=counted, outcomes=(), audits=())


def test_rates_are_shares_of_all_inspections_those_in_review_included() -> None:
    row = table(GroupBy.LINE, CountedVerdicts(Inspected("line-1"), 0, VerdictTally(90, 6, 4, late=2))).rows[0]
    assert (row.defect_rate, row.first_pass_yield) == (0.06, 0.9)


def test_no_inspections_give_no_rate_and_not_zero() -> None:
    found = table(GroupBy.LINE)
    assert found.rows == ()
    assert (found.total.defect_rate, found.total.first_pass_yield) == (None, None)


def test_the_total_is_all_rows_together() -> None:
    found = table(
        GroupBy.CAMERA,
        CountedVerdicts(Inspected("line-1", "cam-2"), 0, VerdictTally(5)),
        CountedVerdicts(Inspected("line-1", "cam-1"), 0, VerdictTally(3, 1)),
    )
    assert [(row.key.name, row.key.line_id, row.verdicts.inspections) for row in found.rows] == [
        ("cam-1", "line-1", 4),
        ("cam-2", "line-1", 5),
    ]
    assert found.total.verdicts == VerdictTally(8, 1)


def test_a_row_has_what_people_found_even_where_verdicts_are_no_longer_counted() -> None:
    outcome = CountedOutcomes(Inspected(product="disc"), 0, OutcomeTally(reviewed=3, false_rejects=1, fails_reviewed=2))
    row = tabulate(GroupBy.PRODUCT, DAY, None, PLAN, verdicts=(), outcomes=[outcome], audits=()).rows[0]
    assert (row.key.name, row.outcomes.false_rejects, row.defect_rate) == ("disc", 1, None)


def test_versions_of_an_alias_are_rows_in_order() -> None:
    found = table(
        GroupBy.MODEL_VERSION,
        *(CountedVerdicts(Inspected(alias="default", model_version=n), 0, VerdictTally(n)) for n in (10, 9, 0)),
    )
    assert [row.key.model_version for row in found.rows] == [0, 9, 10]


def test_strata_of_several_slots_are_one_and_those_of_other_cameras_are_not() -> None:
    one, other = Inspected("line-1", "cam-1", "disc", "default", 1), Inspected("line-1", "cam-2", "disc", "default", 1)
    audits = [
        CountedAudits(one, 0, AuditStratum(0.01, 10, 10, 1)),
        CountedAudits(one, 7, AuditStratum(0.01, 10, 0, 0)),
        CountedAudits(other, 7, AuditStratum(0.01, 20, 0, 0)),
    ]
    total = tabulate(GroupBy.LINE, DAY, None, PLAN, verdicts=(), outcomes=(), audits=audits).total
    # The unreviewed ten of the first camera are taken to be like the ten that were; of the second nothing is known.
    assert (total.audit.drawn, total.audit.reviewed, total.audit.rate, total.audit.covered) == (40, 10, 0.1, 0.5)


def test_shifts_over_all_days_are_in_the_plan_s_order_with_the_rest_of_the_day_last() -> None:
    span = Span(MIDNIGHT, MIDNIGHT + 2 * 86_400)
    slots = slots_of(GroupBy.SHIFT, span, 0, 0)
    assert slots is not None
    hours = [CountedVerdicts(Inspected(), hour * 4, VerdictTally(1)) for hour in range(48)]
    found = tabulate(GroupBy.SHIFT, span, slots, PLAN, verdicts=hours, outcomes=(), audits=())
    assert [(row.key.name, row.verdicts.passed) for row in found.rows] == [("early", 16), ("late", 16), ("night", 16)]
    rest = tabulate(GroupBy.SHIFT, span, slots, DAY_ONLY, verdicts=hours, outcomes=(), audits=())
    assert [(row.key.name, row.verdicts.passed) for row in rest.rows] == [("day", 18), ("", 30)]


def test_a_shift_of_one_day_has_the_date_on_which_it_began() -> None:
    slots = slots_of(GroupBy.SHIFT_OF_DAY, DAY, 0, 0)
    hours = [CountedVerdicts(Inspected(), hour * 4, VerdictTally(1)) for hour in range(24)]
    rows = table(GroupBy.SHIFT_OF_DAY, *hours, slots=slots).rows
    assert [(row.key.name, row.key.day, row.verdicts.passed) for row in rows] == [
        ("night", "2026-11-24", 6),
        ("early", "2026-11-25", 8),
        ("late", "2026-11-25", 8),
        ("night", "2026-11-25", 2),
    ]


def test_a_curve_has_all_its_points_those_of_which_nothing_is_known_too() -> None:
    span = Span(MIDNIGHT, MIDNIGHT + 3_900)
    slots = slots_of(GroupBy.SPAN, span, 900, 0)
    rows = table(GroupBy.SPAN, CountedVerdicts(Inspected(), 2, VerdictTally(7)), span=span, slots=slots).rows
    assert [row.verdicts.passed for row in rows] == [0, 0, 7, 0, 0]
    assert [row.key.begins_s - MIDNIGHT for row in rows] == [0, 900, 1_800, 2_700, 3_600]
    # The last one ends with the time that was asked for.
    assert rows[-1].key.ends_s == span.until_s


@pytest.mark.parametrize(
    ("since_s", "until_s", "merged_before_s", "expected"),
    [
        (301, 599, 0, (300, 600)),
        (300, 600, 0, (300, 600)),
        (301, 599, 302, (0, 900)),
        (899, 1_801, 900, (0, 2_700)),
    ],
)
def test_a_time_is_widened_to_what_is_counted(
    since_s: int, until_s: int, merged_before_s: int, expected: tuple[int, int]
) -> None:
    assert whole_spans(since_s * NS, until_s * NS, merged_before_s) == Span(*expected)


@pytest.mark.parametrize(
    ("since_ns", "until_ns", "said"),
    [
        (5, 5, "before until"),
        (6, 5, "before until"),
        (-1, 5, "before until"),
        (0, 900 * 86_400 * NS, "at most 800 days"),
    ],
)
def test_a_time_that_is_none_is_refused(since_ns: int, until_ns: int, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        whole_spans(since_ns, until_ns, 0)


@pytest.mark.parametrize(
    ("span_s", "merged_before_s", "said"),
    [
        (0, 0, "multiple of 300"),
        (301, 0, "multiple of 300"),
        (-300, 0, "multiple of 300"),
        (300, 0, "at most 1000 points"),
    ],
)
def test_points_that_cannot_be_are_refused(span_s: int, merged_before_s: int, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        slots_of(GroupBy.SPAN, Span(MIDNIGHT, MIDNIGHT + 4 * 86_400), span_s, merged_before_s)


def test_points_of_merged_spans_are_whole_quarters() -> None:
    assert slots_of(GroupBy.SPAN, DAY, 1_200, MIDNIGHT + 1) == Slots(MIDNIGHT, 1_800)
    assert slots_of(GroupBy.SPAN, DAY, 1_200, MIDNIGHT) == Slots(MIDNIGHT, 1_200)
