"""The lines in a real Chromium: the real dashboard over an outcome service and topics that say what they are told."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect
from sightline.v1 import events_pb2, outcome_service_pb2

from services.core.line_event import LineEventKind
from services.core.types import Verdict
from tests.e2e.dashboard_feed import DEMO_CAMERAS, DashboardUnderTest
from tests.e2e.line_scene import FAIL_RATE, LATE_IN_A_ROW, LINE, LineScene, trouble
from tests.e2e.test_dashboard_browser import OpenPage, accessibility_complaints, browser, open_page, sideways_scroll
from tests.support.lines import SCRATCHES

__all__ = ["browser", "open_page"]

pytestmark = pytest.mark.browser

# Whoever has said their name is asked how many cases are open, and this dashboard has no feedback service.
NO_FEEDBACK = "status of 503"
LATE = "3 parts in a row were answered late"
RATE = "5 of 33 parts failed within 10 min"


@pytest.fixture
def scene() -> Iterator[LineScene]:
    made = LineScene(pictures=4)
    yield made
    made.close()


def open_line(open_page: OpenPage, scene: LineScene, line: str = LINE, **more: object) -> Page:
    return open_page(f"{scene.dashboard.url}/line/{line}", **more)


def as_somebody(open_page: OpenPage, scene: LineScene, path: str, name: str = "Olga", **more: object) -> Page:
    """Open a page in a browser that knows its person's name."""
    page = open_page(f"{scene.dashboard.url}/gallery", forgiven=NO_FEEDBACK, **more)
    page.evaluate("name => localStorage.setItem('sightline.reviewer', name)", name)
    page.goto(f"{scene.dashboard.url}{path}")
    return page


def light(page: Page) -> str:
    return str(page.get_by_test_id("stack-light").get_attribute("data-light"))


def test_an_alarm_is_at_the_top_of_any_page_within_a_second_or_two_and_is_acknowledged_with_the_keyboard(
    scene: LineScene, open_page: OpenPage
) -> None:
    page = as_somebody(open_page, scene, "/statistics")
    expect(page.get_by_role("link", name="Line", exact=True)).to_be_visible()
    expect(page.get_by_test_id("alarm-banner")).to_have_count(0)
    raised_s = time.monotonic()
    alarm_id = scene.raise_alarm(LATE_IN_A_ROW, 3)
    banner = page.get_by_test_id("alarm-banner")
    expect(banner).to_contain_text(LATE)
    # Asked every 0.5 s and told at most every 0.2 s; the rest is for a machine that does other things too.
    assert time.monotonic() - raised_s < 5
    announcer = page.get_by_test_id("alarm-announcer")
    expect(announcer).to_have_text(f"Red alarm at line {LINE}: {LATE}")
    expect(announcer).to_have_attribute("aria-live", "assertive")

    button = banner.get_by_role("button", name=f"Acknowledge: {LATE}")
    button.focus()
    page.keyboard.press("Enter")
    expect(banner).to_have_count(0)
    assert scene.service.asked == [("acknowledge", LINE, alarm_id, "Olga", "")]
    page.goto(f"{scene.dashboard.url}/line/{LINE}")
    log = page.get_by_test_id("past-alarms")
    expect(log.get_by_role("listitem").first).to_contain_text(LATE)
    expect(log.get_by_role("listitem").first).to_contain_text(re.compile(r"Olga, \d+ \w+, \d\d:\d\d"))


def test_whoever_has_given_no_name_is_asked_for_it_in_place(scene: LineScene, open_page: OpenPage) -> None:
    scene.raise_alarm(FAIL_RATE, 5, 33)
    page = open_line(open_page, scene, forgiven=NO_FEEDBACK)
    standing = page.get_by_test_id("alarms")
    standing.get_by_label("Note (optional)").fill("cleaned the lens")
    standing.get_by_role("button", name="Acknowledge").click()
    name = standing.get_by_label("Your name")
    expect(name).to_be_focused()
    name.press("Escape")
    expect(name).to_have_count(0)
    assert scene.service.asked == []
    standing.get_by_role("button", name="Acknowledge").click()
    name.fill("Emil")
    name.press("Enter")
    expect(page.get_by_text("No alarm stands.")).to_be_visible()
    assert [one[3:] for one in scene.service.asked] == [("Emil", "cleaned the lens")]
    # It is known from then on.
    scene.raise_alarm(LATE_IN_A_ROW, 3)
    page.get_by_test_id("alarm-banner").get_by_role("button", name="Acknowledge").click()
    expect(page.get_by_test_id("alarm-banner")).to_have_count(0)
    assert scene.service.asked[-1][3] == "Emil"


def test_many_alarms_leave_the_page_its_room(scene: LineScene, open_page: OpenPage) -> None:
    for number in range(5):
        scene.raise_alarm(FAIL_RATE, number + 7, 33)
    page = open_page(scene.dashboard.url)
    banner = page.get_by_test_id("alarm-banner")
    expect(banner.get_by_role("button")).to_have_count(2)
    banner.get_by_role("link", name="and 3 more").click()
    expect(page.get_by_test_id("alarms").get_by_role("listitem")).to_have_count(5)


def test_the_light_says_why_it_is_not_green_in_plain_words(scene: LineScene, open_page: OpenPage) -> None:
    page = open_line(open_page, scene)
    expect(page.get_by_test_id("stack-light")).to_have_attribute("aria-label", f"Stack light of {LINE}: Green")
    trouble(scene)
    expect(page.get_by_test_id("stack-light")).to_have_attribute("data-light", "red")
    causes = page.get_by_test_id("causes").get_by_role("listitem")
    expect(causes).to_have_text(
        [
            f"Red: {LATE}",
            "Red: The check with reference parts failed",
            f"Amber: {RATE}",
            "Amber: Connection mes does not deliver; what is to be said waits in order",
        ]
    )
    # The wall shows the same light beside the line's name, and leads back.
    page.get_by_role("link", name="Its cameras on the wall").click()
    scene.answer_part()
    page.get_by_test_id(f"wall-light-{LINE}").click()
    expect(page).to_have_url(re.compile(f"/line/{LINE}$"))


def test_an_alarm_is_told_in_the_page_s_language_and_one_that_is_not_known_as_the_service_tells_it(
    scene: LineScene, open_page: OpenPage
) -> None:
    scene.raise_alarm(LATE_IN_A_ROW, 3)
    page = open_line(open_page, scene)
    expect(page.get_by_test_id("past-alarms")).to_contain_text(SCRATCHES)
    page.get_by_role("button", name="DE: auf Deutsch umstellen").click()
    expect(page.get_by_test_id("alarms")).to_contain_text("3 Teile in Folge zu spät")
    expect(page.get_by_test_id("causes")).to_contain_text("3 Teile in Folge zu spät")
    expect(page.get_by_test_id("past-alarms")).to_contain_text(
        "3 Teile in Folge von Produkt disc Ausschuss mit scratch an Kamera line-a-top"
    )
    with scene.change() as line:
        line.alarms[0].kind, line.alarms[0].text = "of_a_newer_release", "the moon is full"
    expect(page.get_by_test_id("alarms")).to_contain_text("the moon is full")


def test_a_handshake_is_followed_step_by_step(scene: LineScene, open_page: OpenPage) -> None:
    page = open_line(open_page, scene)
    press = page.get_by_test_id("connection-press")
    steps = press.get_by_role("list", name="Handshake with press")
    for state, step in (
        (outcome_service_pb2.HANDSHAKE_STATE_READY, "Ready"),
        (outcome_service_pb2.HANDSHAKE_STATE_BUSY, "Busy"),
        (outcome_service_pb2.HANDSHAKE_STATE_RESULT, "Result"),
        (outcome_service_pb2.HANDSHAKE_STATE_RELEASING, "Acknowledge"),
    ):
        with scene.change() as line:
            line.connections[0].handshake = state
        expect(steps.locator("[aria-current=step]")).to_have_text(step)
    with scene.change() as line:
        line.connections[0].handshake = outcome_service_pb2.HANDSHAKE_STATE_SAFE
        line.connections[0].error_code = 8
        line.connections[0].up = False
    expect(press).to_contain_text("Safe level")
    expect(press).to_contain_text("Error 8: the PLC's heartbeat stands still")
    expect(press).to_contain_text("no heartbeat")
    expect(steps.locator("[aria-current=step]")).to_have_count(0)
    with scene.change() as line:
        line.connections[1].up, line.connections[1].waiting = False, 214
        line.connections[1].oldest_waiting_ms = 61_000
    expect(page.get_by_test_id("connection-mes")).to_contain_text("214 to be told, the oldest for 61 s")


def test_each_part_has_its_views_its_answer_and_whether_that_was_in_time(scene: LineScene, open_page: OpenPage) -> None:
    page = open_line(open_page, scene)
    expect(page.get_by_text("No part was answered yet, as far as")).to_be_visible()
    good = scene.answer_part(took_ms=100, verdict=Verdict.PASS)
    row = page.get_by_test_id(f"outcome-{good.part_id}")
    expect(row).to_contain_text("Pass")
    expect(row).to_contain_text("in time, 150 ms to spare")
    expect(row.get_by_role("link", name=re.compile("^Pass"))).to_have_count(2)

    late = scene.answer_part(took_ms=312, verdict=Verdict.FAIL)
    expect(page.get_by_test_id(f"outcome-{late.part_id}")).to_contain_text("late by 62 ms")
    short = scene.answer_part(took_ms=250, verdict=Verdict.PASS, lose=["line-a-side"])
    row = page.get_by_test_id(f"outcome-{short.part_id}")
    expect(row).to_contain_text("no view of line-a-side")
    expect(row).to_contain_text("line-a-side: no view")
    expect(row).to_contain_text("not complete at the deadline")
    scene.revise(short, Verdict.FAIL)
    expect(row).to_contain_text("Review")
    expect(row).to_contain_text("Fail since a view came late (revision 2)")

    cycle = page.get_by_test_id("cycle")
    expect(cycle).to_contain_text("33.3% in time")
    expect(cycle.get_by_role("img", name=re.compile("3 parts, half within 250 ms"))).to_be_visible()
    expect(cycle).to_contain_text("deadline 250 ms")

    # The part's own page says what the line was told, and what came of it later.
    row.get_by_role("link", name=re.compile(short.part_id)).first.click()
    answer = page.get_by_test_id("part-outcome")
    expect(answer).to_contain_text("The line was told Review")
    expect(answer).to_contain_text("Fail since a view came late")


def test_what_happened_is_listed_when_it_is_looked_at(scene: LineScene, open_page: OpenPage) -> None:
    scene.publish_event(LineEventKind.TRIGGER_REFUSED, connection="press", error_code=1)
    page = open_line(open_page, scene)
    page.get_by_text("What happened").click()
    events = page.get_by_test_id("events").get_by_role("listitem")
    expect(events).to_have_count(1)
    expect(events).to_contain_text("Trigger refused")
    expect(events).to_contain_text("a trigger came while none could be taken")
    scene.publish_event(LineEventKind.LIGHT_CHANGED)
    expect(events.first).to_contain_text("Light changed")


def test_a_check_with_reference_parts_is_begun_in_two_presses_and_followed(
    scene: LineScene, open_page: OpenPage
) -> None:
    page = as_somebody(open_page, scene, f"/line/{LINE}", "Emil")
    reference = page.get_by_test_id("reference")
    expect(reference).to_contain_text("Passed")
    reference.get_by_role("button", name="Begin a check").click()
    assert scene.service.asked == []
    reference.get_by_role("button", name="Really begin? Press again").click()
    expect(reference).to_contain_text("Due")
    expect(reference.get_by_text("not shown yet")).to_have_count(2)
    assert scene.service.asked == [("reference", LINE, "Emil")]
    with scene.change() as line:
        line.reference.phase = outcome_service_pb2.REFERENCE_PHASE_FAILED
        line.reference.parts[1].seen = events_pb2.VERDICT_PASS
    row = reference.get_by_role("row", name=re.compile("ref-scratch-2"))
    expect(row).to_contain_text("wrong")
    expect(reference).to_contain_text("Failed")


def test_while_the_service_is_away_lights_are_dark_and_the_page_says_so(scene: LineScene, open_page: OpenPage) -> None:
    scene.raise_alarm(FAIL_RATE, 5, 33)
    page = as_somebody(open_page, scene, f"/line/{LINE}")
    expect(page.get_by_test_id("stack-light")).to_have_attribute("data-light", "amber")
    scene.service.away = True
    expect(page.get_by_test_id("away")).to_contain_text("The outcome service has not answered since")
    assert light(page) == "none"
    expect(page.get_by_text("How the line is cannot be told now.")).to_be_visible()
    page.get_by_test_id("alarms").get_by_role("button", name="Acknowledge").click()
    expect(page.get_by_role("alert")).to_contain_text("the outcome service does not answer now")
    scene.service.away = False
    expect(page.get_by_test_id("away")).to_have_count(0)
    expect(page.get_by_test_id("stack-light")).to_have_attribute("data-light", "amber")


def test_without_an_outcome_service_there_is_no_way_to_a_line(open_page: OpenPage) -> None:
    dashboard = DashboardUnderTest(DEMO_CAMERAS[:2], pictures=4).start()
    page = open_page(dashboard.url)
    dashboard.publish_part()
    expect(page.get_by_test_id("connection")).to_contain_text("Live")
    expect(page.get_by_role("navigation", name="Main").get_by_role("link", name="Line", exact=True)).to_have_count(0)
    page.goto(f"{dashboard.url}/line/{LINE}")
    expect(page.get_by_role("heading", name="The lines' answers are not set up here")).to_be_visible()
    dashboard.stop()


def test_several_lines_are_listed_each_with_its_light(open_page: OpenPage) -> None:
    scene = LineScene(LINE, "line-b", pictures=4)
    scene.raise_alarm(LATE_IN_A_ROW, 3, line_id="line-b")
    page = open_page(scene.dashboard.url)
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Lines").click()
    expect(page.get_by_test_id(f"line-{LINE}")).to_contain_text("Green")
    expect(page.get_by_test_id("line-line-b")).to_contain_text("Red")
    expect(page.get_by_test_id("line-line-b")).to_contain_text(LATE)
    scene.answer_part(verdict=Verdict.PASS)
    expect(page.get_by_test_id(f"line-{LINE}")).to_contain_text("1 Pass")
    page.get_by_test_id("line-line-b").click()
    expect(page.get_by_role("heading", name="Line line-b")).to_be_visible()
    page.goto(f"{scene.dashboard.url}/line/line-z")
    expect(page.get_by_role("heading", name="There is no line line-z here")).to_be_visible()
    scene.close()


@pytest.mark.parametrize(("size", "scheme"), [("desk", "dark"), ("tablet", "light"), ("phone", "light")])
def test_the_pages_have_no_accessibility_fault_and_nothing_scrolls_sideways(
    scene: LineScene, open_page: OpenPage, size: str, scheme: str
) -> None:
    scene.answer_history(12, 60)
    trouble(scene)
    page = open_line(open_page, scene, size=size, scheme=scheme)
    expect(page.get_by_test_id("outcomes")).to_be_visible()
    page.get_by_test_id("alarm-banner").get_by_role("button").first.click()
    expect(page.get_by_label("Your name")).to_be_visible()
    page.get_by_text("What happened").click()
    expect(page.get_by_test_id("events")).to_be_visible()
    assert accessibility_complaints(page) == []
    assert sideways_scroll(page) == 0
    page.goto(f"{scene.dashboard.url}/lines")
    expect(page.get_by_test_id(f"line-{LINE}")).to_be_visible()
    assert accessibility_complaints(page) == []
    assert sideways_scroll(page) == 0


def test_what_is_pressed_on_the_page_of_a_line_is_large_enough_for_a_thumb(
    scene: LineScene, open_page: OpenPage
) -> None:
    scene.answer_history(8, 60)
    trouble(scene)
    page = open_line(open_page, scene, size="tablet")
    expect(page.get_by_test_id("outcomes")).to_be_visible()
    small = page.evaluate(
        """() => [...document.querySelectorAll(["main", "[data-testid=alarm-banner]"]
            .flatMap(place => ["a", "button", "input", "summary"].map(kind => `${place} ${kind}`)).join(","))]
        .filter(one => one.getBoundingClientRect().height > 0 && one.getBoundingClientRect().height < 43.5)
        .map(one => one.outerHTML.slice(0, 120))"""
    )
    assert small == []
