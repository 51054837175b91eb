"""What waits for a person, counted by line, in every kind of database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services.adapters.casebacklog import SqlCaseBacklog
from services.adapters.caseindex import SqlCaseIndex
from services.adapters.ports import OpenCases
from tests.support.cases import SECOND_NS, START_NS, queued_case, review, undo


@pytest.fixture
def index(database_url: str) -> Iterator[SqlCaseIndex]:
    made = SqlCaseIndex(database_url)
    yield made
    made.close()


def test_each_line_s_open_cases_and_the_oldest_of_them_are_told(index: SqlCaseIndex) -> None:
    backlog = SqlCaseBacklog(index.database)
    assert backlog.open_cases() == []
    cases = [queued_case(number, camera_id=f"cam-{number % 2}") for number in range(1, 6)]
    other = queued_case(9, line_id="line-2")
    index.add_cases([*cases, other])
    first, second = OpenCases("line-1", 5, START_NS + SECOND_NS), OpenCases("line-2", 1, START_NS + 9 * SECOND_NS)
    assert backlog.open_cases() == [first, second]
    answer = review(cases[0])
    index.add_review(answer, published=True)
    assert backlog.open_cases()[0] == OpenCases("line-1", 4, START_NS + 2 * SECOND_NS)
    index.add_review(undo(cases[0], answer, 1), published=True)
    assert backlog.open_cases()[0] == first
    index.add_review(review(other), published=True)
    assert [one.line_id for one in backlog.open_cases()] == ["line-1"]
