"""The gauges of open and audited cases follow the case index."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
from prometheus_client import REGISTRY

from services.adapters.casebacklog import SqlCaseBacklog
from services.adapters.caseindex import SqlCaseIndex
from services.adapters.caseoutcomes import SqlCaseOutcomes
from services.core.escape_rate import share_interval
from services.core.types import Verdict
from services.feedback.measuring import CaseMeasures
from tests.support.cases import HOUR_NS, SECOND_NS, START_NS, queued_case, review, wrong


@pytest.fixture
def index() -> Iterator[SqlCaseIndex]:
    made = SqlCaseIndex("sqlite://")
    yield made
    made.close()


def measures(index: SqlCaseIndex, *, now_ns: int = START_NS + HOUR_NS) -> CaseMeasures:
    return CaseMeasures(
        SqlCaseBacklog(index.database),
        SqlCaseOutcomes(index.database),
        interval_s=0.02,
        audit_interval_s=0.02,
        audit_days=1,
        clock_ns=lambda: now_ns,
    )


def gauge(name: str, line: str) -> float | None:
    return REGISTRY.get_sample_value(f"sightline_feedback_{name}", {"line": line})


def test_the_backlog_has_a_count_and_an_age_until_the_last_case_is_answered(index: SqlCaseIndex) -> None:
    cases = [queued_case(number, line_id="line-backlog") for number in (3, 7)]
    index.add_cases(cases)
    looked = measures(index)
    looked.look_at_backlog()
    assert gauge("open_cases", "line-backlog") == 2
    assert gauge("oldest_open_timestamp_seconds", "line-backlog") == START_NS / SECOND_NS + 3
    for case in cases:
        index.add_review(review(case), published=True)
    looked.look_at_backlog()
    assert gauge("open_cases", "line-backlog") == 0
    assert gauge("oldest_open_timestamp_seconds", "line-backlog") is None


def test_the_audit_sample_gives_a_share_and_the_lower_end_of_its_interval(index: SqlCaseIndex) -> None:
    cases = [queued_case(number, Verdict.PASS, line_id="line-audit") for number in range(20)]
    index.add_cases(cases)
    looked = measures(index)
    looked.look_at_audits()
    assert gauge("audited_cases", "line-audit") == 0
    assert math.isnan(gauge("escape_ratio", "line-audit") or 0)
    for number, case in enumerate(cases):
        index.add_review((wrong if number < 2 else review)(case), published=True)
    looked.look_at_audits()
    assert gauge("audited_cases", "line-audit") == 20
    assert gauge("audit_escape_cases", "line-audit") == 2
    assert gauge("escape_ratio", "line-audit") == pytest.approx(0.1)
    assert gauge("escape_low_ratio", "line-audit") == pytest.approx(share_interval(2, 20)[0])


def test_a_sample_older_than_the_days_that_count_is_forgotten(index: SqlCaseIndex) -> None:
    now_ns = [START_NS + HOUR_NS]
    index.add_cases([queued_case(1, Verdict.PASS, line_id="line-old")])
    looked = CaseMeasures(
        SqlCaseBacklog(index.database),
        SqlCaseOutcomes(index.database),
        interval_s=1,
        audit_interval_s=1,
        audit_days=1,
        clock_ns=lambda: now_ns[0],
    )
    looked.look_at_audits()
    assert gauge("audited_cases", "line-old") == 0
    now_ns[0] += 48 * HOUR_NS
    looked.look_at_audits()
    assert gauge("audited_cases", "line-old") is None


def test_the_thread_looks_at_once_and_ends_when_it_is_closed(index: SqlCaseIndex) -> None:
    index.add_cases([queued_case(1, line_id="line-thread")])
    looked = measures(index)
    looked.start()
    looked.close()
    looked.check()
    assert gauge("open_cases", "line-thread") == 1
