"""The gallery in a real Chromium, with the real dashboard and the real feedback service behind it."""

from __future__ import annotations

import json
import re
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Download, Locator, Page, expect

from services.adapters.datasets import read_labelled_folder
from services.core.review import Answer, CaseState, Review, ReviewAction
from services.core.types import Verdict
from tests.e2e.dashboard_feed import DEMO_CAMERAS, DashboardUnderTest
from tests.e2e.test_dashboard_browser import AXE, OpenPage, browser, open_page
from tests.support.feedback_station import FeedbackStation

__all__ = ["browser", "open_page"]

pytestmark = pytest.mark.browser

#: What Chromium says by itself of an answer that is no success.
REFUSALS = "Failed to load resource"
GIVEN = [Verdict.FAIL, Verdict.REVIEW, Verdict.PASS]


@pytest.fixture
def station(tmp_path: Path) -> Iterator[FeedbackStation]:
    made = FeedbackStation(tmp_path)
    yield made
    made.close()


@pytest.fixture
def line(station: FeedbackStation) -> Iterator[DashboardUnderTest]:
    dashboard = DashboardUnderTest(
        DEMO_CAMERAS[:1],
        pictures=1,
        feedback=station.client,
        exports=station.exports,
        search=station.search,
        store=station.store,
    ).start()
    yield dashboard
    dashboard.stop()


def wait_for(what: Callable[[], object], timeout_s: float = 15.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline_s, "it must come true in time"
        time.sleep(0.05)


def tiles(page: Page) -> Locator:
    return page.get_by_test_id("grid").get_by_role("checkbox")


def say_who(page: Page, name: str = "ada") -> None:
    page.get_by_label("Your name").fill(name)
    page.keyboard.press("Enter")


def states(station: FeedbackStation, ids: list[str]) -> list[CaseState]:
    return [station.index.find_case(one).state for one in ids]


def said(station: FeedbackStation, case_id: str, review_id: str, **changes: object) -> None:
    review = Review(review_id, case_id, "", ReviewAction.ANSWER, "bob", 0, verdict_right=Answer.YES, **changes)  # type: ignore[arg-type]
    station.client.submit(review, b"")


def test_a_range_is_chosen_answered_whatever_the_model_said_and_taken_back_in_one_press(
    station: FeedbackStation, line: DashboardUnderTest, open_page: OpenPage
) -> None:
    ids = [station.add_case(number, GIVEN[number % 3]) for number in range(9)]
    page = open_page(f"{line.url}/gallery?order=oldest")
    expect(tiles(page)).to_have_count(9)
    tiles(page).nth(1).click()
    tiles(page).nth(4).click(modifiers=["Shift"])
    tiles(page).nth(4).press("ArrowRight")
    page.keyboard.press("Space")
    expect(page.get_by_text("5 chosen")).to_be_visible()
    page.get_by_role("button", name="Defective", exact=True).click()
    say_who(page)
    expect(page.get_by_text("5 answered: defective")).to_be_visible()
    assert {station.index.find_case(one).settled_verdict for one in ids[1:6]} == {Verdict.FAIL}
    assert states(station, [ids[0], *ids[6:]]) == [CaseState.OPEN] * 4
    expect(tiles(page).nth(1)).to_have_attribute("aria-label", re.compile("Reviewed: defective"))
    page.get_by_role("button", name="Undo 5 answers").click()
    expect(page.get_by_text("5 answers taken back")).to_be_visible()
    assert states(station, ids) == [CaseState.OPEN] * 9


def test_a_filter_is_in_the_address_and_an_address_is_a_filter(
    station: FeedbackStation, line: DashboardUnderTest, open_page: OpenPage
) -> None:
    ids = [station.add_case(number, GIVEN[number % 3]) for number in range(6)]
    said(station, ids[0], "6ba7b810-9dad-41d1-80b4-00c04fd430c8")
    page = open_page(f"{line.url}/gallery")
    page.get_by_label("Verdict").select_option("fail")
    expect(tiles(page)).to_have_count(2)
    page.get_by_label("State", exact=True).select_option("reviewed")
    expect(tiles(page)).to_have_count(1)
    expect(page.get_by_text("1 case", exact=True)).to_be_visible()
    assert page.url.endswith("/gallery?verdict=fail&state=reviewed")
    shared = open_page(page.url)
    expect(tiles(shared)).to_have_count(1)
    shared.get_by_role("button", name="Reset").click()
    expect(tiles(shared)).to_have_count(6)
    shared.get_by_label("Camera").fill("cam-9")
    shared.keyboard.press("Enter")
    expect(shared.get_by_text("No case fits")).to_be_visible()


def test_a_part_is_found_by_what_is_printed_on_it_and_opened(
    station: FeedbackStation, line: DashboardUnderTest, open_page: OpenPage
) -> None:
    ids = [station.add_case(number) for number in range(12)]
    page = open_page(f"{line.url}/gallery")
    page.get_by_label("Find a part").fill("PART-0007")
    page.keyboard.press("Enter")
    expect(tiles(page)).to_have_count(1)
    page.get_by_label("Find a part").fill(ids[3])
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Open part-0003")).to_be_visible()
    tiles(page).first.press("Enter")
    expect(page).to_have_url(re.compile(f"/review/{ids[3]}"))
    page.go_back()
    page.get_by_label("Find a part").fill("nothing-like-it")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Nothing found for “nothing-like-it”")).to_be_visible()


def test_the_next_cases_come_by_themselves_and_new_ones_move_nothing(
    station: FeedbackStation, line: DashboardUnderTest, open_page: OpenPage
) -> None:
    for number in range(130):
        station.add_case(number)
    page = open_page(f"{line.url}/gallery")
    expect(page.get_by_text("130 cases")).to_be_visible()
    first = tiles(page).first.get_attribute("aria-label")
    station.add_case(500)
    tiles(page).first.press("End")

    def reaches_the_end() -> bool:
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        return bool(page.evaluate("document.body.innerText.includes('These are all.')"))

    wait_for(reaches_the_end)
    reaches_the_end()
    expect(tiles(page).last).to_have_attribute("aria-label", re.compile("part-0000"))
    assert tiles(page).count() < 130
    page.evaluate("scrollTo(0, 0)")
    expect(tiles(page).first).to_have_attribute("aria-label", str(first))
    page.get_by_test_id("arrived").click(timeout=20_000)
    expect(tiles(page).first).to_have_attribute("aria-label", re.compile("part-0500"))


def saved(download: Download, folder: Path) -> zipfile.ZipFile:
    path = folder / download.suggested_filename
    download.save_as(path)
    return zipfile.ZipFile(path)


def test_what_is_exported_is_an_archive_that_the_commands_read(
    station: FeedbackStation, line: DashboardUnderTest, open_page: OpenPage, tmp_path: Path
) -> None:
    ids = [station.add_case(number, GIVEN[number % 3]) for number in range(6)]
    said(station, ids[0], "6ba7b810-9dad-41d1-80b4-00c04fd430c8", defect_class="dent")
    said(station, ids[2], "7ba7b810-9dad-41d1-80b4-00c04fd430c8")
    page = open_page(f"{line.url}/gallery?order=oldest")
    page.get_by_role("button", name="Export these cases").click()
    page.get_by_label("labels.csv").check()
    expect(page.get_by_text("At most 2 of 6 cases have a label.")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    with saved(download.value, tmp_path) as archive:
        archive.extractall(tmp_path / "read")
    read = read_labelled_folder(tmp_path / "read")
    assert sorted((one.defect, one.defect_class) for one in read) == [(False, ""), (True, "dent")]
    page.keyboard.press("Escape")
    tiles(page).nth(0).click()
    tiles(page).nth(3).click()
    page.get_by_test_id("bulk").get_by_role("button", name="Export").click()
    page.get_by_label("Take the model's word").check()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    with saved(download.value, tmp_path) as archive:
        assert json.loads(archive.read("manifest.json"))["cases"] == 2
        assert len(json.loads(archive.read("annotations.json"))["images"]) == 2


def test_answers_that_find_the_service_away_are_sent_again_with_one_press(
    station: FeedbackStation, line: DashboardUnderTest, open_page: OpenPage
) -> None:
    ids = [station.add_case(number) for number in range(3)]
    page = open_page(f"{line.url}/gallery", forgiven=REFUSALS)
    tiles(page).nth(0).click()
    page.get_by_role("button", name="Choose all shown").click()
    station.store.unavailable = True
    page.get_by_role("button", name="Good", exact=True).click()
    say_who(page)
    expect(page.get_by_text(re.compile("3 wait for the server"))).to_be_visible()
    assert states(station, ids) == [CaseState.OPEN] * 3
    station.store.unavailable = False
    page.get_by_role("button", name="Send again").click()
    expect(page.get_by_text("3 answered: good")).to_be_visible()
    assert states(station, ids) == [CaseState.REVIEWED] * 3


@pytest.mark.parametrize("size", ["desk", "tablet"])
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_the_gallery_has_no_accessibility_fault_and_fits(
    station: FeedbackStation, line: DashboardUnderTest, open_page: OpenPage, size: str, scheme: str
) -> None:
    ids = [station.add_case(number, GIVEN[number % 3]) for number in range(6)]
    said(station, ids[0], "6ba7b810-9dad-41d1-80b4-00c04fd430c8")
    page = open_page(f"{line.url}/gallery?kind=fail", size=size, scheme=scheme)
    page.get_by_role("button", name="Reset").click()
    tiles(page).nth(1).click()
    page.evaluate(AXE.read_text())
    check(page)
    page.get_by_test_id("bulk").get_by_role("button", name="Export").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    check(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def check(page: Page) -> None:
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    assert [(one["id"], [node["html"][:160] for node in one["nodes"]]) for one in found["violations"]] == []
