"""The statistics in a real Chromium, with the real dashboard and the real service behind it."""

from __future__ import annotations

import csv
import io
import json
import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.dashboard_feed import DEMO_CAMERAS, DashboardUnderTest
from tests.e2e.test_dashboard_browser import AXE, OpenPage, browser, open_page
from tests.support.counted_line import CAMERAS, fill_line
from tests.support.feedback_station import FeedbackStation

__all__ = ["browser", "open_page"]

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeedbackStation]:
    made = FeedbackStation(tmp_path_factory.mktemp("station"))
    fill_line(made.index, made.counts, until_s=int(time.time()), hours=12, each=20)
    yield made
    made.close()


@pytest.fixture(scope="module")
def line(station: FeedbackStation) -> Iterator[DashboardUnderTest]:
    made = DashboardUnderTest(
        DEMO_CAMERAS[:1],
        pictures=1,
        feedback=station.client,
        statistics=station.statistics_client,
        store=station.store,
    ).start()
    yield made
    made.stop()


def ask(line: DashboardUnderTest, query: str) -> dict[str, Any]:
    now_ms = int(time.time() * 1000)
    times = f"since_ms={now_ms - 86_400_000}&until_ms={now_ms + 30_000}"
    with urllib.request.urlopen(f"{line.url}/api/v1/statistics?{times}&{query}", timeout=10) as answer:
        return dict(json.load(answer))


def cells(page: Page, row: str) -> list[str]:
    return (
        page.get_by_role("table").get_by_role("row", name=re.compile(f"^{row}")).get_by_role("cell").all_inner_texts()
    )


def test_figures_are_those_of_the_service_and_the_table_says_the_same(
    line: DashboardUnderTest, open_page: OpenPage
) -> None:
    page = open_page(f"{line.url}/statistics")
    told = ask(line, "group=camera")
    total = told["total"]
    figures = page.locator("dl > div")
    expect(figures.nth(0)).to_contain_text(f"{total['inspections']:,}")
    expect(figures.nth(1)).to_contain_text(f"{total['failed']:,} FAIL")
    expect(figures.nth(2)).to_contain_text(f"{100 * total['first_pass_yield']:.1f}%")
    expect(figures.nth(3)).to_contain_text(f"of {total['fails_reviewed']} reviewed")
    expect(figures.nth(5)).to_contain_text(f"n = {total['audit']['reviewed']}")
    for row in told["rows"]:
        shown = cells(page, row["name"])
        counts = [f"{row[name]:,}" for name in ("inspections", "passed", "failed", "review", "late")]
        assert shown[:6] == [row["line_id"], *counts]
    assert cells(page, "Total")[1] == f"{total['inspections']:,}"
    expect(page.get_by_role("region", name="Comparison").get_by_role("listitem")).to_have_count(len(CAMERAS))


def test_filters_narrow_what_is_shown_and_stand_in_the_address(line: DashboardUnderTest, open_page: OpenPage) -> None:
    page = open_page(f"{line.url}/statistics")
    page.get_by_role("combobox", name="Line", exact=True).select_option("line-b")
    page.get_by_role("combobox", name="Compare").select_option("product")
    told = ask(line, "group=product&line=line-b")
    expect(page.locator("dl > div").nth(0)).to_contain_text(f"{told['total']['inspections']:,}")
    expect(page.get_by_role("table")).to_contain_text("gear")
    expect(page.get_by_role("table")).not_to_contain_text("disc")
    expect(page).to_have_url(re.compile(r"line=line-b.*|.*group=product"))
    page.reload()
    expect(page.get_by_role("combobox", name="Line", exact=True)).to_have_value("line-b")
    page.get_by_text("Own time").click()
    page.get_by_role("textbox", name="To", exact=True).fill("2020-01-02T00:00")
    expect(page.get_by_text("Which time?")).to_be_visible()
    page.get_by_role("textbox", name="From", exact=True).fill("2020-01-01T00:00")
    expect(page.get_by_text("No inspections in this time")).to_be_visible()


def test_the_table_is_downloaded_with_the_same_numbers(
    line: DashboardUnderTest, open_page: OpenPage, tmp_path: Path
) -> None:
    page = open_page(f"{line.url}/statistics?group=shift", accept_downloads=True)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download CSV").click()
    assert re.fullmatch(r"sightline-statistics-shift-\d{8}T\d{4}Z\.csv", download.value.suggested_filename)
    download.value.save_as(tmp_path / "table.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "table.csv").read_text(encoding="utf-8"), newline="")))
    total = ask(line, "group=shift")["total"]
    assert rows[-1]["row"] == "total"
    assert int(rows[-1]["inspections"]) == total["inspections"] == sum(int(row["inspections"]) for row in rows[:-1])


@pytest.mark.parametrize(
    ("size", "scheme"), [("desk", "dark"), ("tablet", "light"), ("phone", "dark"), ("desk", "light")]
)
def test_the_page_is_accessible_and_fits(line: DashboardUnderTest, open_page: OpenPage, size: str, scheme: str) -> None:
    page = open_page(f"{line.url}/statistics", size=size, scheme=scheme)
    expect(page.get_by_role("table")).to_be_visible()
    page.get_by_label("Figure", exact=True).select_option("escape_rate")
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    assert [(one["id"], [node["html"][:120] for node in one["nodes"]]) for one in found["violations"]] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for control in page.locator("form select, form label:has(input), form a").all():
        box = control.bounding_box()
        assert box is not None
        assert box["height"] >= 44
