"""Statistics over REST: what is asked, JSON, tables for spreadsheets, and who is refused."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from services.adapters.statisticsclient import ShiftsView
from services.core.errors import InvalidInputError, UnavailableError
from services.core.escape_rate import EscapeEstimate
from services.core.shift import Shift
from services.core.statistics import (
    GroupBy,
    OutcomeTally,
    RowKey,
    Span,
    StatisticsFilter,
    StatisticsRow,
    StatisticsTable,
    VerdictTally,
)
from services.dashboard.app import make_app
from services.dashboard.views_statistics import COLUMNS
from tests.unit.dashboard.reviewing import Feedback, Site, reason

NOTHING = EscapeEstimate(0, 0, 0, 0, math.nan, math.nan, math.nan, math.nan)
SPAN = Span(1_790_000_100, 1_790_086_500)
ASKED = "since_ms=1790000100000&until_ms=1790086500000"
FULL = StatisticsRow(
    RowKey("line-1"),
    VerdictTally(passed=940, failed=40, review=20, late=3),
    OutcomeTally(reviewed=50, fails_reviewed=30, false_rejects=4, escapes=1, wrong_reasons=2),
    EscapeEstimate(drawn=12, reviewed=10, escapes=1, undecided=1, rate=0.1, low=0.0025, high=0.445, covered=0.9),
)
EMPTY = StatisticsRow(RowKey("line-2"), VerdictTally(), OutcomeTally(), NOTHING)


class Figures:
    """A feedback service's statistics that answer as they are told."""

    def __init__(self) -> None:
        self.rows = (FULL, EMPTY)
        self.asked: list[tuple[Any, ...]] = []
        self.error: Exception | None = None
        self.view = ShiftsView((Shift("early", 360, 840),), "Europe/Berlin", 1_790_000_000, "early", 1_790_000_000, 5)

    def table(
        self,
        where: StatisticsFilter,
        since_ns: int,
        until_ns: int,
        group_by: GroupBy,
        *,
        span_s: int = 0,
        timeout_s: float = 10.0,
    ) -> StatisticsTable:
        self.asked.append((where, since_ns, until_ns, group_by, span_s))
        if self.error is not None:
            raise self.error
        total = replace(FULL, key=RowKey(begins_s=SPAN.since_s, ends_s=SPAN.until_s))
        return StatisticsTable(self.rows, total, SPAN, kept_since_s=1_700_000_000)

    def shifts(self, at_ns: int = 0, timeout_s: float = 10.0) -> ShiftsView:
        if self.error is not None:
            raise self.error
        return self.view


class StatisticsSite(Site):
    def __init__(self, folder: Path, figures: Figures | None) -> None:
        super().__init__(folder, Feedback())
        self.context = replace(self.context, statistics=figures)
        self.client = TestClient(make_app(self.context), base_url="http://127.0.0.1")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StatisticsSite]:
    made = StatisticsSite(tmp_path_factory.mktemp("static"), Figures())
    yield made
    made.context.picture_pool.shutdown()
    made.context.reviewing.close()


@pytest.fixture(autouse=True)
def figures(site: StatisticsSite) -> Figures:
    told = site.context.statistics
    assert isinstance(told, Figures)
    told.__init__()  # type: ignore[misc]
    return told


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_figures_are_told_whole(site: StatisticsSite) -> None:
    answer = site.get(f"/statistics?{ASKED}")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    body = answer.json()
    assert {name: body[name] for name in ("group", "since_ms", "until_ms", "kept_since_ms")} == {
        "group": "line",
        "since_ms": 1_790_000_100_000,
        "until_ms": 1_790_086_500_000,
        "kept_since_ms": 1_700_000_000_000,
    }
    assert body["rows"][0] == {
        "name": "line-1",
        "line_id": "",
        "model_version": 0,
        "day": "",
        "begins_ms": 0,
        "ends_ms": 0,
        "inspections": 1_000,
        "passed": 940,
        "failed": 40,
        "review": 20,
        "late": 3,
        "defect_rate": 0.04,
        "first_pass_yield": 0.94,
        "reviewed": 50,
        "fails_reviewed": 30,
        "false_rejects": 4,
        "escapes": 1,
        "wrong_reasons": 2,
        "audit": {
            "drawn": 12,
            "reviewed": 10,
            "undecided": 1,
            "escapes": 1,
            "covered": 0.9,
            "rate": 0.1,
            "low": 0.0025,
            "high": 0.445,
        },
    }
    assert body["total"]["begins_ms"] == body["since_ms"]


def test_what_is_not_known_is_null_and_not_zero(site: StatisticsSite) -> None:
    row = site.get(f"/statistics?{ASKED}").json()["rows"][1]
    assert (row["defect_rate"], row["first_pass_yield"]) == (None, None)
    assert {row["audit"][name] for name in ("rate", "low", "high", "covered")} == {None}


def test_a_question_reaches_the_service_as_it_was_asked(site: StatisticsSite, figures: Figures) -> None:
    site.get(
        f"/statistics?{ASKED}&group=span&span_s=3600&line=line-1&camera=cam-1&product=disc&alias=a&model_version=3"
    )
    assert figures.asked == [
        (
            StatisticsFilter("line-1", "cam-1", "disc", "a", 3),
            1_790_000_100_000_000_000,
            1_790_086_500_000_000_000,
            GroupBy.SPAN,
            3_600,
        )
    ]


def test_what_is_left_empty_does_not_narrow(site: StatisticsSite, figures: Figures) -> None:
    assert site.get(f"/statistics?{ASKED}&line=&camera=&product=&model_version=").status_code == 200
    assert figures.asked[0][0] == StatisticsFilter()


@pytest.mark.parametrize(
    "query",
    [
        "",
        "since_ms=1",
        "since_ms=x&until_ms=2",
        "since_ms=-1&until_ms=2",
        "since_ms=1&until_ms=99999999999999999999",
        f"{ASKED}&group=day",
        f"{ASKED}&group=span&span_s=0",
        f"{ASKED}&line=a/../b",
        f"{ASKED}&camera=%00",
        f"{ASKED}&model_version=-1",
    ],
)
@pytest.mark.parametrize("path", ["/statistics", "/statistics.csv"])
def test_a_question_that_breaks_a_rule_is_refused(
    site: StatisticsSite, figures: Figures, path: str, query: str
) -> None:
    assert reason(site.get(f"{path}?{query}")) == (422, "invalid_input")
    assert figures.asked == []


def test_a_rule_of_the_service_is_told(site: StatisticsSite, figures: Figures) -> None:
    figures.error = InvalidInputError("at most 800 days may be asked for at once, got 900")
    answer = site.get(f"/statistics?{ASKED}")
    assert reason(answer) == (422, "invalid_input")
    assert "800 days" in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", [f"/statistics?{ASKED}", f"/statistics.csv?{ASKED}", "/shifts"])
def test_a_service_that_is_away_is_told(site: StatisticsSite, figures: Figures, path: str) -> None:
    figures.error = UnavailableError("the feedback service must answer")
    assert reason(site.get(path)) == (503, "unavailable")


def test_without_a_feedback_service_there_are_none(tmp_path: Path) -> None:
    site = StatisticsSite(tmp_path, None)
    for path in (f"/statistics?{ASKED}", f"/statistics.csv?{ASKED}", "/shifts"):
        assert reason(site.get(path)) == (503, "no_feedback")
    site.context.picture_pool.shutdown()
    site.context.reviewing.close()


# ---- tables


def test_a_table_has_a_header_a_row_for_each_group_and_one_for_the_total(site: StatisticsSite) -> None:
    answer = site.get(f"/statistics.csv?{ASKED}")
    assert answer.headers["content-type"].startswith("text/csv; charset=utf-8")
    disposition = answer.headers["content-disposition"]
    assert disposition == 'attachment; filename="sightline-statistics-line-20260921T1415Z.csv"'
    assert answer.text.splitlines()[0] == ",".join(COLUMNS)
    assert answer.content.count(b"\r\n") == answer.content.count(b"\n") == 4
    first, second, total = table(answer.text)
    assert (first["row"], first["group_by"], first["name"]) == ("group", "line", "line-1")
    assert (first["inspections"], first["defect_rate_percent"]) == ("1000", "4")
    assert first["first_pass_yield_percent"] == "94"
    assert (first["escape_rate_estimate_percent"], first["escape_rate_low_percent"]) == ("10", "0.25")
    assert (second["inspections"], second["defect_rate_percent"]) == ("0", "")
    assert second["escape_rate_high_percent"] == ""
    assert (total["row"], total["begins_at_utc"], total["ends_at_utc"]) == (
        "total",
        "2026-09-21T14:15:00Z",
        "2026-09-22T14:15:00Z",
    )


def test_a_version_is_in_the_table_of_versions_only(site: StatisticsSite, figures: Figures) -> None:
    figures.rows = (replace(FULL, key=RowKey("default", model_version=0)),)
    assert table(site.get(f"/statistics.csv?{ASKED}&group=model_version").text)[0]["model_version"] == "0"
    assert table(site.get(f"/statistics.csv?{ASKED}&group=product").text)[0]["model_version"] == ""


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_a_name_is_never_a_formula(site: StatisticsSite, figures: Figures, start: str) -> None:
    name = f'{start}HYPERLINK("http://evil.example","x")'
    figures.rows = (replace(FULL, key=RowKey(name)),)
    assert table(site.get(f"/statistics.csv?{ASKED}&group=shift").text)[0]["name"] == f"'{name}"


@pytest.mark.parametrize("name", ['a "quoted", one', "two\r\nlines", "Früh 🔧", "a;b"])
def test_every_name_comes_back_as_it_was(site: StatisticsSite, figures: Figures, name: str) -> None:
    figures.rows = (replace(FULL, key=RowKey(name)),)
    answer = site.get(f"/statistics.csv?{ASKED}&group=shift")
    assert table(answer.content.decode())[0]["name"] == name


# ---- shifts


def test_the_plan_and_the_present_shift_are_told(site: StatisticsSite, figures: Figures) -> None:
    assert site.get("/shifts").json() == {
        "shifts": [{"name": "early", "begins_min": 360, "ends_min": 840}],
        "time_zone": "Europe/Berlin",
        "day_begins_ms": 1_790_000_000_000,
        "shift": {"name": "early", "begins_ms": 1_790_000_000_000, "ends_ms": 5_000},
    }
    figures.view = replace(figures.view, shift="", shift_begins_s=0, shift_ends_s=0)
    assert site.get("/shifts").json()["shift"] is None
