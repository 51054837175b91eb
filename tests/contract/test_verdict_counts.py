"""What counted verdicts and counted outcomes promise, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from services.adapters.caseindex import SqlCaseIndex
from services.adapters.caseoutcomes import SqlCaseOutcomes
from services.adapters.ports import CaseOutcomes, CountedTo, TopicPartition, VerdictCounts, VerdictToCount
from services.adapters.verdictcounts import SqlVerdictCounts
from services.core.escape_rate import AuditStratum
from services.core.review import Answer
from services.core.statistics import (
    GroupBy,
    Inspected,
    OutcomeTally,
    Slots,
    Span,
    StatisticsFilter,
    VerdictTally,
)
from services.core.types import Verdict
from tests.support.cases import SECOND_NS, START_NS, queued_case, review, wrong

TOPIC = "verdicts"
START_S = START_NS // SECOND_NS // 900 * 900
DAY = Span(START_S, START_S + 86_400)
DISC = Inspected("line-1", "cam-1", "disc", "default", 3)
PLATE = Inspected("line-1", "cam-2", "plate", "plates", 1)
OTHER = Inspected("line-2", "cam-9", "disc", "default", 4)
ALL = StatisticsFilter()


@pytest.fixture
def index(database_url: str) -> Iterator[SqlCaseIndex]:
    made = SqlCaseIndex(database_url)
    yield made
    made.close()


@pytest.fixture
def counts(index: SqlCaseIndex) -> VerdictCounts:
    return SqlVerdictCounts(index.database)


@pytest.fixture
def outcomes(index: SqlCaseIndex) -> CaseOutcomes:
    return SqlCaseOutcomes(index.database)


def verdict(
    offset: int,
    of: Inspected | None = DISC,
    said: Verdict = Verdict.PASS,
    *,
    at_s: int = 0,
    partition: int = 0,
    in_time: bool = True,
    written_ms: int | None = None,
) -> VerdictToCount:
    return VerdictToCount(
        partition=TopicPartition(TOPIC, partition),
        offset=offset,
        timestamp_ms=1_000 + offset if written_ms is None else written_ms,
        of=of,
        captured_at_s=START_S + at_s,
        verdict=said,
        in_time=in_time,
    )


def total(counts: VerdictCounts, where: StatisticsFilter = ALL, span: Span = DAY) -> VerdictTally:
    found = counts.read(where, span, GroupBy.SPAN, None)
    assert len(found) <= 1
    return found[0].tally if found else VerdictTally()


# ---- counting


def test_verdicts_are_counted_by_what_they_say_and_whether_they_came_in_time(counts: VerdictCounts) -> None:
    said = [Verdict.PASS, Verdict.PASS, Verdict.FAIL, Verdict.REVIEW]
    added = counts.add([verdict(offset, said=each, in_time=offset != 3) for offset, each in enumerate(said)])
    assert added == 4
    assert total(counts) == VerdictTally(passed=2, failed=1, review=1, late=1)


def test_nothing_counted_is_nothing(counts: VerdictCounts) -> None:
    assert counts.add([]) == 0
    assert counts.read(ALL, DAY, GroupBy.LINE, None) == []
    assert total(counts) == VerdictTally()
    assert counts.counted_to(TOPIC) == {}


def test_the_place_moves_with_the_counts(counts: VerdictCounts) -> None:
    counts.add([verdict(4), verdict(5), verdict(0, partition=1)])
    assert counts.counted_to(TOPIC) == {
        TopicPartition(TOPIC, 0): CountedTo(6, 1_005),
        TopicPartition(TOPIC, 1): CountedTo(1, 1_000),
    }
    assert counts.counted_to("another") == {}


def test_what_is_read_again_is_not_counted_again(counts: VerdictCounts) -> None:
    counts.add([verdict(0), verdict(1)])
    assert counts.add([verdict(0), verdict(1), verdict(2)]) == 1
    assert counts.add([verdict(1)]) == 0
    assert total(counts).passed == 3
    assert counts.counted_to(TOPIC)[TopicPartition(TOPIC, 0)].offset == 3


def test_records_of_several_partitions_may_come_mixed(counts: VerdictCounts) -> None:
    assert counts.add([verdict(0), verdict(0, partition=1), verdict(1), verdict(1, partition=1)]) == 4
    assert total(counts).passed == 4


def test_what_is_passed_over_moves_the_place_and_counts_nothing(counts: VerdictCounts) -> None:
    assert counts.add([verdict(0), verdict(1, None)]) == 1
    assert counts.counted_to(TOPIC)[TopicPartition(TOPIC, 0)] == CountedTo(2, 1_001)
    assert total(counts).inspections == 1


def test_a_topic_that_was_made_anew_is_counted_from_its_beginning(counts: VerdictCounts) -> None:
    counts.add([verdict(offset) for offset in range(100)])
    # Lower offsets, written after everything that was counted.
    assert counts.add([verdict(0, written_ms=50_000), verdict(1, written_ms=50_001)]) == 2
    assert total(counts).passed == 102
    assert counts.counted_to(TOPIC)[TopicPartition(TOPIC, 0)] == CountedTo(2, 50_001)


def test_records_out_of_order_of_their_times_do_not_look_like_another_topic(counts: VerdictCounts) -> None:
    # Two detectors whose clocks differ write into one partition.
    records = [verdict(offset, written_ms=9_000 - 100 * (offset % 2)) for offset in range(10)]
    assert counts.add(records) == 10
    assert counts.add(records) == 0


def test_a_write_that_fails_counts_nothing_and_moves_nothing(counts: VerdictCounts) -> None:
    counts.add([verdict(0)])
    broken = replace(verdict(2), of=replace(DISC, model_version="none"))  # type: ignore[arg-type]
    broken = replace(broken, captured_at_s="soon")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        counts.add([verdict(1), broken])
    assert counts.counted_to(TOPIC)[TopicPartition(TOPIC, 0)].offset == 1
    assert total(counts).passed == 1


# ---- reading


@pytest.fixture
def three(counts: VerdictCounts) -> VerdictCounts:
    """Discs and plates on line 1, discs on line 2, over two hours."""
    counts.add([verdict(offset, DISC, at_s=offset * 60) for offset in range(120)])
    counts.add([verdict(offset, PLATE, Verdict.FAIL, at_s=offset * 60, partition=1) for offset in range(30)])
    counts.add([verdict(offset, OTHER, Verdict.REVIEW, at_s=3_600, partition=2) for offset in range(5)])
    return counts


@pytest.mark.parametrize(
    ("group_by", "expected"),
    [
        (GroupBy.LINE, {Inspected("line-1"): 150, Inspected("line-2"): 5}),
        (
            GroupBy.CAMERA,
            {Inspected("line-1", "cam-1"): 120, Inspected("line-1", "cam-2"): 30, Inspected("line-2", "cam-9"): 5},
        ),
        (GroupBy.PRODUCT, {Inspected(product="disc"): 125, Inspected(product="plate"): 30}),
        (
            GroupBy.MODEL_VERSION,
            {
                Inspected(alias="default", model_version=3): 120,
                Inspected(alias="plates", model_version=1): 30,
                Inspected(alias="default", model_version=4): 5,
            },
        ),
    ],
)
def test_counts_are_grouped(three: VerdictCounts, group_by: GroupBy, expected: dict[Inspected, int]) -> None:
    found = three.read(ALL, DAY, group_by, None)
    assert {one.of: one.tally.inspections for one in found} == expected


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (StatisticsFilter(line_id="line-1"), 150),
        (StatisticsFilter(camera_id="cam-2"), 30),
        (StatisticsFilter(product="disc"), 125),
        (StatisticsFilter(alias="default", model_version=4), 5),
        (StatisticsFilter(line_id="line-2", product="plate"), 0),
        (StatisticsFilter(line_id="'; DROP TABLE inspected; --"), 0),
    ],
)
def test_a_filter_narrows(three: VerdictCounts, where: StatisticsFilter, expected: int) -> None:
    assert total(three, where).inspections == expected


def test_spans_count_that_begin_within_the_time(three: VerdictCounts) -> None:
    only_disc = StatisticsFilter(camera_id="cam-1")
    assert total(three, only_disc, Span(START_S, START_S + 3_600)).passed == 60
    assert total(three, only_disc, Span(START_S + 3_600, START_S + 3_900)).passed == 5
    assert total(three, only_disc, Span(START_S + 7_200, START_S + 9_000)).passed == 0


def test_slots_divide_the_time_from_their_origin(three: VerdictCounts) -> None:
    found = three.read(StatisticsFilter(camera_id="cam-1"), DAY, GroupBy.SPAN, Slots(START_S, 1_800))
    assert {one.slot: one.tally.passed for one in found} == {0: 30, 1: 30, 2: 30, 3: 30}


# ---- tidying


def test_old_spans_are_merged_into_quarters_and_the_sums_stay(three: VerdictCounts) -> None:
    before = {group_by: three.read(ALL, DAY, group_by, None) for group_by in (GroupBy.LINE, GroupBy.PRODUCT)}
    three.tidy(merge_before_s=START_S + 3_600, drop_before_s=0)
    for group_by, rows in before.items():
        assert three.read(ALL, DAY, group_by, None) == rows
    only_disc = StatisticsFilter(camera_id="cam-1")
    merged = three.read(only_disc, DAY, GroupBy.SPAN, Slots(START_S, 300))
    assert [(one.slot, one.tally.passed) for one in sorted(merged, key=lambda one: one.slot)][:5] == [
        (0, 15),
        (3, 15),
        (6, 15),
        (9, 15),
        (12, 5),
    ]
    three.tidy(merge_before_s=START_S + 3_600, drop_before_s=0)
    assert three.read(ALL, DAY, GroupBy.LINE, None) == before[GroupBy.LINE]


def test_what_comes_late_for_a_merged_span_is_counted_and_merged_next_time(three: VerdictCounts) -> None:
    three.tidy(merge_before_s=START_S + 7_200, drop_before_s=0)
    three.add([verdict(500, DISC, at_s=400)])
    three.tidy(merge_before_s=START_S + 7_200, drop_before_s=0)
    first = three.read(StatisticsFilter(camera_id="cam-1"), Span(START_S, START_S + 900), GroupBy.SPAN, None)
    assert first[0].tally.passed == 16


def test_spans_before_a_time_are_dropped(three: VerdictCounts) -> None:
    three.tidy(merge_before_s=0, drop_before_s=START_S + 3_600)
    assert total(three, StatisticsFilter(camera_id="cam-1")).passed == 60


def test_a_rebuild_of_the_index_leaves_the_counts(index: SqlCaseIndex, three: VerdictCounts) -> None:
    index.clear()
    assert total(three).inspections == 155
    assert three.counted_to(TOPIC)


# ---- outcomes


@pytest.fixture
def reviewed(index: SqlCaseIndex) -> SqlCaseIndex:
    """Fails, reviews and audits of two cameras; what people say of some."""
    fails = [queued_case(n, Verdict.FAIL) for n in range(10)]
    passed = [
        queued_case(100 + n, Verdict.PASS, camera_id="cam-2", sampling_probability=0.01 if n < 20 else 0.05)
        for n in range(30)
    ]
    asked = [queued_case(200 + n, Verdict.REVIEW) for n in range(3)]
    index.add_cases([*fails, *passed, *asked])
    said = [
        *(review(fails[n]) for n in range(4)),
        wrong(fails[4]),
        wrong(fails[5]),
        review(fails[6], reason_right=Answer.NO),
        review(fails[7], verdict_right=Answer.NOT_SURE, reason_right=Answer.NOT_SURE),
        *(review(passed[n]) for n in range(10)),
        wrong(passed[10]),
        review(passed[11], verdict_right=Answer.NOT_SURE, reason_right=Answer.NOT_ASKED),
        review(passed[12]),
        wrong(passed[12], 1, "ben"),
        *(review(passed[n]) for n in range(20, 24)),
        review(asked[0], verdict_right=Answer.NO, corrected_verdict=Verdict.PASS, reason_right=Answer.NOT_ASKED),
    ]
    for one in said:
        index.add_review(one, published=True)
    return index


def test_outcomes_are_counted_by_what_people_found(reviewed: SqlCaseIndex, outcomes: CaseOutcomes) -> None:
    found = {one.of.camera_id: one.tally for one in outcomes.outcomes(ALL, _around(), GroupBy.CAMERA, None)}
    assert _sums(outcomes, GroupBy.CAMERA, "cam-1") == OutcomeTally(
        reviewed=9, fails_reviewed=7, false_rejects=2, escapes=0, wrong_reasons=1
    )
    assert _sums(outcomes, GroupBy.CAMERA, "cam-2") == OutcomeTally(reviewed=16, escapes=1)
    assert set(found) == {"cam-1", "cam-2"}


def test_audits_are_strata_by_probability_with_what_is_not_settled_apart(
    reviewed: SqlCaseIndex, outcomes: CaseOutcomes
) -> None:
    found = {one.stratum.sampling_probability: one for one in outcomes.audits(ALL, _around(), None)}
    assert found[0.01].of == Inspected("line-1", "cam-2", "disc", "default", 1)
    assert found[0.01].stratum == AuditStratum(0.01, drawn=20, reviewed=11, escapes=1, undecided=2)
    assert found[0.05].stratum == AuditStratum(0.05, drawn=10, reviewed=4, escapes=0, undecided=0)


def test_outcomes_and_audits_narrow_and_fall_into_slots(reviewed: SqlCaseIndex, outcomes: CaseOutcomes) -> None:
    of_one = StatisticsFilter(camera_id="cam-2")
    assert not outcomes.audits(StatisticsFilter(camera_id="cam-1"), _around(), None)
    slots = Slots(START_NS // SECOND_NS + 100, 10)
    after = Span(START_NS // SECOND_NS + 100, START_NS // SECOND_NS + 200)
    audits = outcomes.audits(of_one, after, slots)
    assert {one.slot: one.stratum.drawn for one in audits} == {0: 10, 1: 10, 2: 10}
    slotted = outcomes.outcomes(of_one, after, GroupBy.SPAN, slots)
    assert sum(one.tally.reviewed for one in slotted if one.slot == 1) == 2
    assert not outcomes.outcomes(of_one, Span(after.until_s, after.until_s + 900), GroupBy.LINE, None)


def _around() -> Span:
    return Span(START_S - 900, START_S + 9_000)


def _sums(outcomes: CaseOutcomes, group_by: GroupBy, camera_id: str) -> OutcomeTally:
    found = OutcomeTally()
    for one in outcomes.outcomes(ALL, _around(), group_by, None):
        if one.of.camera_id == camera_id:
            found += one.tally
    return found
