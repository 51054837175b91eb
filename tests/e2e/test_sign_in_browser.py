"""Signing in in a real Chromium: what is seen, what waits, and who gets where."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from services.adapters.accounts import Accounts
from services.core.access import Role
from services.core.review import CaseState
from tests.e2e.dashboard_feed import DEMO_CAMERAS, DashboardUnderTest
from tests.e2e.test_dashboard_browser import OpenPage, accessibility_complaints, browser, open_page, sideways_scroll
from tests.e2e.test_review_browser import REFUSALS, draw, said, shows, wait_for
from tests.support.accounts import PASSWORD, add_everybody, make_accounts
from tests.support.feedback_station import FeedbackStation

__all__ = ["browser", "open_page"]

pytestmark = pytest.mark.browser


@pytest.fixture
def station(tmp_path: Path) -> Iterator[FeedbackStation]:
    made = FeedbackStation(tmp_path)
    yield made
    made.close()


@pytest.fixture
def accounts(tmp_path: Path) -> Iterator[Accounts]:
    made = make_accounts(time.time_ns, f"sqlite:///{tmp_path / 'accounts.db'}")  # type: ignore[arg-type]
    add_everybody(made)
    yield made
    made.close()


@pytest.fixture
def line(station: FeedbackStation, accounts: Accounts) -> Iterator[DashboardUnderTest]:
    dashboard = DashboardUnderTest(
        DEMO_CAMERAS[:1],
        pictures=1,
        feedback=station.client,
        store=station.store,
        accounts=accounts,
        sign_in={"method": "local", "public_url": "http://127.0.0.1"},
    ).start()
    yield dashboard
    dashboard.stop()


def sign_in(page: Page, name: str | None, password: str = PASSWORD) -> None:
    if name is not None:
        page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


def end_sessions(accounts: Accounts, page: Page) -> None:
    """Let the session of a browser end, as if nobody had used it for too long."""
    [token] = [one["value"] for one in page.context.cookies() if one["name"] == "sightline"]
    accounts.end(token)


def test_a_drawing_outlives_its_session_and_goes_out_once_its_owner_is_back(
    station: FeedbackStation, line: DashboardUnderTest, accounts: Accounts, open_page: OpenPage
) -> None:
    ids = [station.add_case(number) for number in range(3)]
    page = open_page(f"{line.url}/review", forgiven=REFUSALS)
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    sign_in(page, "olga", "not her password")
    expect(page.get_by_role("alert")).to_have_text("Name and password do not belong together.")
    sign_in(page, "olga")
    shows(page, 0)
    expect(page.get_by_label("Your name")).to_have_count(0)
    page.keyboard.press("1")
    shows(page, 1)
    wait_for(lambda: said(station))
    assert said(station)[0].reviewer == "Olga"
    page.keyboard.press("3")
    draw(page, (0.4, 0.4), (0.6, 0.6))

    end_sessions(accounts, page)
    expect(page.get_by_test_id("session-lost")).to_be_visible(timeout=20_000)
    expect(page.get_by_test_id("sitting")).not_to_be_visible()
    # A password with digits and Enter must be no answer to the case that lies under it.
    sign_in(page, None, "1203 wrong one")
    expect(page.get_by_role("alert")).to_be_visible()
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("session-lost")).to_have_count(0)
    expect(page.get_by_text("Where is the defect?")).to_be_visible()
    assert len(said(station)) == 1
    page.keyboard.press("Enter")
    wait_for(lambda: len(said(station)) == 2)
    drawn = next(one for one in said(station) if one.case_id == ids[1])
    assert drawn.reviewer == "Olga"
    assert drawn.mask_pixels > 0
    expected = ["sign_in", "sign_in", "review", "sign_in", "sign_in", "review"]
    wait_for(lambda: [one.action for one in accounts.entries()][::-1] == expected)


def test_answers_of_one_person_are_never_sent_as_those_of_the_next(
    station: FeedbackStation, line: DashboardUnderTest, open_page: OpenPage
) -> None:
    ids = [station.add_case(number) for number in range(2)]
    page = open_page(f"{line.url}/review", forgiven=REFUSALS)
    sign_in(page, "Olga")
    shows(page, 0)
    page.wait_for_timeout(500)
    station.kill()
    page.keyboard.press("1")
    expect(page.get_by_text(re.compile("1 answer waits for the server"))).to_be_visible()
    sign_out(page)
    station.start()
    page.goto(f"{line.url}/review")
    sign_in(page, "Emil")
    # The case that Olga has answered is still held for her.
    shows(page, 1)
    expect(page.get_by_test_id("post")).to_contain_text("1 answer of somebody else waits until they sign in")
    assert said(station) == []
    sign_out(page)
    page.goto(f"{line.url}/review")
    sign_in(page, "Olga")
    wait_for(lambda: len(said(station)) == 1, 20)
    assert said(station)[0].reviewer == "Olga"
    assert station.index.find_case(ids[0]).state is CaseState.REVIEWED


def test_signing_out_gives_the_case_on_screen_to_a_colleague(
    station: FeedbackStation, line: DashboardUnderTest, open_page: OpenPage
) -> None:
    case_id = station.add_case(0)
    page = open_page(f"{line.url}/review", forgiven=REFUSALS)
    sign_in(page, "Olga")
    shows(page, 0)
    wait_for(lambda: station.index.find_case(case_id).claimed_by == "Olga")
    sign_out(page)
    assert station.index.find_case(case_id).claimed_by == ""
    sign_in(page, "Emil")
    page.get_by_role("link", name="Review").click()
    shows(page, 0)


def sign_out(page: Page) -> None:
    page.get_by_test_id("person").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_after_signing_out_the_way_back_shows_nothing(
    station: FeedbackStation, line: DashboardUnderTest, open_page: OpenPage
) -> None:
    station.add_case(0)
    line.publish_part()
    page = open_page(line.url, forgiven=REFUSALS)
    sign_in(page, "Olga")
    expect(page.get_by_role("article", name="line-a-top")).to_be_visible()
    page.get_by_role("link", name="Review").click()
    shows(page, 0)
    sign_out(page)
    for _ in range(2):
        page.go_back()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        expect(page.get_by_role("article")).to_have_count(0)
        expect(page.get_by_test_id("full-picture")).to_have_count(0)


def test_an_operator_gets_no_admin_page_and_an_admin_lets_somebody_in(
    line: DashboardUnderTest, accounts: Accounts, open_page: OpenPage
) -> None:
    page = open_page(f"{line.url}/users", forgiven=REFUSALS)
    sign_in(page, "Olga")
    expect(page.get_by_role("heading", name="There is no such page")).to_be_visible()
    page.get_by_test_id("person").click()
    expect(page.get_by_role("link", name="Change password")).to_be_visible()
    expect(page.get_by_role("link", name="People")).to_have_count(0)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    sign_in(page, "Ada")
    page.get_by_test_id("person").click()
    page.get_by_role("link", name="People").click()
    hostile = "<b>Bob</b>"
    page.get_by_label("Name", exact=True).fill(hostile)
    page.get_by_label("Role", exact=True).select_option("engineer")
    page.get_by_label("First password").fill("short")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_test_id("said")).to_contain_text("at least 12 characters")
    page.get_by_label("First password").fill("another password")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_test_id("said")).to_have_text(f"{hostile} may sign in now.")
    page.get_by_label(f"Role of {hostile}").select_option("operator")
    expect(page.get_by_test_id("said")).to_have_text(f"{hostile} is changed.")
    page.get_by_role("button", name=f"Turn away: {hostile}").click()
    expect(page.get_by_role("button", name=f"Let in: {hostile}")).to_be_visible()
    user = accounts.find(hostile)
    assert (user.role, user.disabled) == (Role.OPERATOR, True)
    page.get_by_test_id("person").click()
    page.get_by_role("link", name="Audit log").click()
    expect(page.get_by_role("cell", name=f"{hostile} role=engineer")).to_have_count(2)
    page.get_by_test_id("person").click()
    page.get_by_role("link", name="Change password").click()
    page.get_by_label("Present password").fill(PASSWORD)
    page.get_by_label("New password", exact=True).fill("yet another password")
    page.get_by_label("New password once more").fill("yet another password")
    page.get_by_role("button", name="Change", exact=True).click()
    expect(page.get_by_text("You are signed out everywhere else.")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="Change password")).to_be_visible()


@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize("size", ["desk", "tablet"])
def test_every_page_of_it_is_for_everybody(
    line: DashboardUnderTest, accounts: Accounts, open_page: OpenPage, size: str, scheme: str
) -> None:
    page = open_page(f"{line.url}/users", size, scheme, REFUSALS)
    sign_in(page, "Ada", "not her password")
    expect(page.get_by_role("alert")).to_be_visible()
    looked_at = [accessibility_complaints(page)]
    sign_in(page, "Ada")
    expect(page.get_by_test_id("person")).to_be_visible()
    for path, heading in (("/users", "People"), ("/audit", "Audit log"), ("/password", "Change password")):
        page.goto(line.url + path)
        expect(page.get_by_role("heading", name=heading, level=1)).to_be_visible()
        page.get_by_test_id("person").click()
        looked_at.append(accessibility_complaints(page))
        assert sideways_scroll(page) == 0
    end_sessions(accounts, page)
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.get_by_test_id("session-lost")).to_be_visible()
    looked_at.append(accessibility_complaints(page))
    assert looked_at == [[]] * 5
