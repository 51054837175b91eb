"""The review station in a real Chromium, with the real dashboard and the real feedback service behind it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from services.adapters.codec_review import decode_review
from services.adapters.memory import MemoryTopicReader
from services.adapters.ports import CaseFilter, ReviewFilter
from services.core import topics
from services.core.review import Answer, CaseState, Review, ReviewAction
from services.core.types import CaseKind, Verdict
from tests.e2e.dashboard_feed import DEMO_CAMERAS, DashboardUnderTest
from tests.e2e.test_dashboard_browser import AXE, OpenPage, browser, open_page
from tests.support.feedback_station import FeedbackStation

__all__ = ["browser", "open_page"]

pytestmark = pytest.mark.browser

#: What Chromium says by itself of an answer that is no success.
REFUSALS = "Failed to load resource"
SETTLE_MS = 260


@pytest.fixture
def station(tmp_path: Path) -> Iterator[FeedbackStation]:
    made = FeedbackStation(tmp_path)
    yield made
    made.close()


@pytest.fixture
def line(station: FeedbackStation) -> Iterator[DashboardUnderTest]:
    dashboard = DashboardUnderTest(
        DEMO_CAMERAS[:1], pictures=1, feedback=station.client, store=station.store, broker=station.broker
    ).start()
    yield dashboard
    dashboard.stop()


def sit_down(open_page: OpenPage, line: DashboardUnderTest, name: str = "ada", **more: object) -> Page:
    """Open the station and say who one is."""
    page = open_page(f"{line.url}/review", **more)
    page.get_by_label("Your name").fill(name)
    page.get_by_role("button", name="Start").click()
    return page


def wait_for(what: Callable[[], object], timeout_s: float = 12.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline_s, "it must come true in time"
        time.sleep(0.05)


def shows(page: Page, number: int) -> None:
    """Wait until a part is on screen with its map, and may be answered."""
    expect(page.get_by_role("main")).to_contain_text(f"part-{number:04d}")
    for name in ("full-picture", "map"):
        page.wait_for_function(
            "name => { const one = document.querySelector(`[data-testid=${name}]`); "
            "return one && one.complete && one.naturalWidth > 0; }",
            arg=name,
        )
    # A press so soon after a picture appears is the end of the one before, and counts for nothing.
    page.wait_for_timeout(SETTLE_MS)


def said(station: FeedbackStation, **where: object) -> list[Review]:
    return list(station.index.list_reviews(ReviewFilter(**where), limit=100).reviews)  # type: ignore[arg-type]


def test_a_part_is_answered_with_one_key_and_the_next_one_appears(
    station: FeedbackStation, line: DashboardUnderTest, open_page: OpenPage
) -> None:
    for number in range(4):
        station.add_case(number)
    page = sit_down(open_page, line)
    shows(page, 0)
    page.keyboard.press("1")
    shows(page, 1)
    wait_for(lambda: said(station))
    review = said(station)[0]
    assert (review.reviewer, review.action) == ("ada", ReviewAction.ANSWER)
    assert (review.verdict_right, review.reason_right) == (Answer.YES, Answer.YES)
    assert review.shown_method == "invrise-soft"
    assert review.said_at_ns > 0
    assert station.record.review(review.case_id, review.review_id) == review
    reader = MemoryTopicReader(station.broker, [topics.REVIEWS])
    wait_for(lambda: not station.index.unpublished(1))
    assert [decode_review(one.value) for one in reader.read_to_end(5)] == [review]


def test_the_two_questions_are_answered_apart(
    station: FeedbackStation, line: DashboardUnderTest, open_page: OpenPage
) -> None:
    ids = [station.add_case(number) for number in range(4)]
    page = sit_down(open_page, line)
    shows(page, 0)
    page.keyboard.press("2")
    shows(page, 1)
    page.keyboard.press("3")
    page.keyboard.press("Enter")
    shows(page, 2)
    page.keyboard.press("0")
    shows(page, 3)
    page.keyboard.press("s")
    wait_for(lambda: len(said(station)) == 4)
    by_case = {review.case_id: review for review in said(station)}
    wrong, elsewhere, unsure, skipped = (by_case[one] for one in ids)
    assert (wrong.verdict_right, wrong.corrected_verdict) == (Answer.NO, Verdict.PASS)
    assert (elsewhere.verdict_right, elsewhere.reason_right) == (Answer.YES, Answer.NO)
    assert unsure.verdict_right is Answer.NOT_SURE
    assert skipped.action is ReviewAction.SKIP
    assert station.index.find_case(ids[3]).state is CaseState.OPEN


def test_a_drawing_with_the_mouse_becomes_a_mask_of_the_picture(
    station: FeedbackStation, line: DashboardUnderTest, open_page: OpenPage
) -> None:
    case_id = station.add_case(0)
    page = sit_down(open_page, line)
    shows(page, 0)
    page.keyboard.press("3")
    draw(page, (0.4, 0.4), (0.6, 0.6))
    page.keyboard.press("Enter")
    wait_for(lambda: said(station))
    review = said(station)[0]
    assert review.mask_ref is not None
    case = station.index.find_case(case_id)
    mask = cv2.imdecode(np.frombuffer(station.store.get(review.mask_ref.key), np.uint8), cv2.IMREAD_UNCHANGED)
    assert mask.shape == (case.image_height_px, case.image_width_px)
    assert int((mask == 255).sum()) == review.mask_pixels > 0
    rows, columns = np.nonzero(mask)
    # Drawn across the middle, so the mask lies about there, whatever the zoom.
    assert abs(columns.mean() / mask.shape[1] - 0.5) < 0.12
    assert abs(rows.mean() / mask.shape[0] - 0.5) < 0.12


def draw(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Draw one stroke over the picture, from one share of it to another."""
    box = page.get_by_test_id("mask").bounding_box()
    assert box is not None
    places = [(box["x"] + box["width"] * x, box["y"] + box["height"] * y) for x, y in (start, end)]
    page.mouse.move(*places[0])
    page.mouse.down()
    page.mouse.move(*places[1], steps=12)
    page.mouse.up()


def test_a_finger_draws_takes_a_stroke_back_and_two_fingers_only_zoom(
    station: FeedbackStation, line: DashboardUnderTest, open_page: OpenPage
) -> None:
    case_id = station.add_case(0)
    page = sit_down(open_page, line, size="tablet", has_touch=True)
    shows(page, 0)
    page.get_by_role("button", name="Defective, but elsewhere").tap()
    expect(page.get_by_role("button", name="Send:")).to_be_visible()
    touch(page, [[(0.4, 0.4)], [(0.5, 0.5)], [(0.6, 0.6)]])
    wait_for(lambda: ink(page))
    one_stroke = ink(page)
    touch(page, [[(0.2, 0.8)], [(0.3, 0.8)]])
    wait_for(lambda: ink(page) > one_stroke)
    undo, redo = page.get_by_role("button", name="Undo stroke"), page.get_by_role("button", name="Redo stroke")
    undo.tap()
    undo.tap()
    wait_for(lambda: ink(page) == 0)
    redo.tap()
    wait_for(lambda: ink(page) == one_stroke)
    touch(page, [[(0.4, 0.5), (0.6, 0.5)], [(0.3, 0.5), (0.7, 0.5)], [(0.2, 0.5), (0.8, 0.5)]])
    expect(page.get_by_text(re.compile(r"3\.0$"))).to_be_visible()
    page.get_by_role("button", name="Send:").click()
    wait_for(lambda: said(station))
    review = said(station)[0]
    assert review.mask_ref is not None
    assert station.record.review(case_id, review.review_id) == review
    mask = cv2.imdecode(np.frombuffer(station.store.get(review.mask_ref.key), np.uint8), cv2.IMREAD_UNCHANGED)
    assert int((mask == 255).sum()) == review.mask_pixels == one_stroke
    rows, columns = np.nonzero(mask)
    assert station.index.find_case(case_id).image_width_px == mask.shape[1]
    # The finger went down the diagonal; the two that zoomed lay on one line across, well beyond its ends.
    assert abs(columns.mean() / mask.shape[1] - 0.5) < 0.12
    assert np.corrcoef(rows, columns)[0, 1] > 0.8
    assert columns.max() / mask.shape[1] < 0.72


def ink(page: Page) -> int:
    """Count the pixels of the picture that are drawn on."""
    return int(
        page.get_by_test_id("mask").evaluate(
            "one => { const copy = new OffscreenCanvas(one.width, one.height).getContext('2d'); "
            "copy.drawImage(one, 0, 0); "
            "return copy.getImageData(0, 0, one.width, one.height).data"
            ".reduce((count, value, at) => count + (at % 4 === 3 && value > 0 ? 1 : 0), 0); }"
        )
    )


def touch(page: Page, moments: list[list[tuple[float, float]]]) -> None:
    """Put fingers down, move them through places and lift them; places are shares of the picture."""
    box = page.get_by_test_id("mask").bounding_box()
    assert box is not None
    fingers = page.context.new_cdp_session(page)
    for number, places in enumerate(moments):
        points = [
            {"x": box["x"] + box["width"] * x, "y": box["y"] + box["height"] * y, "id": finger}
            for finger, (x, y) in enumerate(places)
        ]
        kind = "touchMove" if number else "touchStart"
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    fingers.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def test_no_class_goes_on_record_that_nobody_chose_and_one_key_chooses_one(
    station: FeedbackStation, line: DashboardUnderTest, open_page: OpenPage
) -> None:
    ids = [station.add_case(number, Verdict.REVIEW) for number in range(4)]
    page = sit_down(open_page, line)
    shows(page, 0)
    page.keyboard.press("2")
    expect(page.get_by_label("Kind of defect")).to_have_value("")
    page.keyboard.press("Enter")
    shows(page, 1)
    page.keyboard.press("2")
    page.get_by_label("Kind of defect").fill("dent")
    page.keyboard.press("Enter")
    shows(page, 2)
    page.keyboard.press("2")
    kinds = page.get_by_role("group", name="Kinds to choose from").get_by_role("button")
    expect(kinds).to_have_text(["4dent", "5scratch"])
    # What answers a case names no class, and what is typed on is not lost in a field.
    for key in ("1", "2", "3", "0"):
        page.keyboard.press(key)
    expect(page.get_by_label("Kind of defect")).to_have_value("")
    page.keyboard.press("4")
    expect(page.get_by_role("button", name="Send: Defective · dent")).to_be_visible()
    page.keyboard.press("Enter")
    shows(page, 3)
    page.keyboard.press("2")
    kinds.nth(1).click()
    page.keyboard.press("Enter")
    wait_for(lambda: len(said(station)) == 4)
    by_case = {review.case_id: review.defect_class for review in said(station)}
    assert [by_case[one] for one in ids] == ["", "dent", "dent", "scratch"]


def test_a_wrong_verdict_brings_the_parts_most_like_it_next(
    station: FeedbackStation, line: DashboardUnderTest, open_page: OpenPage
) -> None:
    first, other = station.add_case(0), station.add_case(7)
    for number in range(1, 6):
        station.add_case(number * 20)
    passed = station.add_frame(3, Verdict.PASS)
    page = sit_down(open_page, line)
    shows(page, 0)
    page.keyboard.press("2")
    # The part that came next anyhow is on screen while the answer goes out; what is alike comes right after it.
    expect(page.get_by_test_id("status")).to_contain_text("A part like part-0000 comes next")
    page.keyboard.press("s")
    expect(page.get_by_test_id("because")).to_contain_text("Like part-0000, whose verdict was wrong")
    expect(page.get_by_role("main")).to_contain_text("part-0003")
    expect(page.get_by_role("main")).to_contain_text("like a part whose verdict was wrong")
    wait_for(lambda: station.index.find_case(first).settled_verdict is Verdict.PASS)
    assert station.index.find_case(passed).kind is CaseKind.NEIGHBOUR
    page.wait_for_timeout(SETTLE_MS)
    page.keyboard.press("1")
    wait_for(lambda: station.index.find_case(passed).settled_verdict is Verdict.PASS)
    assert [one.action for one in station.index.reviews_of(other)] == [ReviewAction.SKIP]


def test_similar_parts_are_shown_beside_the_case_when_asked_for(
    station: FeedbackStation, line: DashboardUnderTest, open_page: OpenPage
) -> None:
    for number in (0, 7, 30):
        station.add_case(number)
    station.add_frame(3, Verdict.PASS)
    page = sit_down(open_page, line)
    shows(page, 0)
    page.keyboard.press("c")
    cards = page.get_by_test_id("neighbours").get_by_role("button")
    expect(cards).to_have_count(3)
    expect(cards.nth(0)).to_have_accessible_name(re.compile("Most alike, same.*part-0007, Fail"))
    expect(cards.nth(1)).to_have_accessible_name(re.compile("Most alike, other.*part-0003, Pass"))
    page.wait_for_function(
        "() => [...document.querySelectorAll('[data-testid=neighbours] img')].every((one) => one.naturalWidth > 0)"
    )
    page.evaluate(AXE.read_text())
    assert page.evaluate("async () => (await axe.run()).violations.map((one) => one.id)") == []
    cards.nth(1).click()
    expect(page.get_by_role("img", name="Picture of part-0003")).to_be_visible()
    cards.nth(0).click()
    page.get_by_role("button", name="Review this part").click()
    shows(page, 7)


def test_an_answer_is_taken_back_and_given_anew(
    station: FeedbackStation, line: DashboardUnderTest, open_page: OpenPage
) -> None:
    case_id = station.add_case(0)
    station.add_case(1)
    page = sit_down(open_page, line)
    shows(page, 0)
    page.keyboard.press("1")
    shows(page, 1)
    wait_for(lambda: station.index.find_case(case_id).state is CaseState.REVIEWED)
    page.keyboard.press("z")
    shows(page, 0)
    wait_for(lambda: station.index.find_case(case_id).state is CaseState.OPEN)
    page.keyboard.press("2")
    wait_for(lambda: station.index.find_case(case_id).settled_verdict is Verdict.PASS)
    assert [one.action for one in station.index.reviews_of(case_id)] == [
        ReviewAction.ANSWER,
        ReviewAction.UNDO,
        ReviewAction.ANSWER,
    ]


def test_two_people_are_not_given_the_same_case(
    station: FeedbackStation, line: DashboardUnderTest, open_page: OpenPage
) -> None:
    ids = [station.add_case(number) for number in range(2)]
    ada = sit_down(open_page, line, "ada", forgiven=REFUSALS)
    shows(ada, 0)
    wait_for(lambda: station.index.find_case(ids[0]).claimed_by == "ada")
    bob = sit_down(open_page, line, "bob", forgiven=REFUSALS)
    shows(bob, 1)
    bob.keyboard.press("1")
    ada.keyboard.press("1")
    wait_for(lambda: {one.reviewer for one in said(station)} == {"ada", "bob"})


def test_a_page_that_is_left_gives_its_case_back_and_reserves_it_again_when_it_comes_back(
    station: FeedbackStation, line: DashboardUnderTest, open_page: OpenPage
) -> None:
    case_id = station.add_case(0)
    page = sit_down(open_page, line)
    shows(page, 0)
    wait_for(lambda: station.index.find_case(case_id).claimed_by == "ada")
    page.goto("about:blank")
    wait_for(lambda: station.index.find_case(case_id).claimed_by == "")
    page.go_back()
    shows(page, 0)
    wait_for(lambda: station.index.find_case(case_id).claimed_by == "ada")
    page.close(run_before_unload=True)
    wait_for(lambda: station.index.find_case(case_id).claimed_by == "")


def test_answers_wait_while_the_service_is_away_and_go_through_once_it_is_back(
    station: FeedbackStation, line: DashboardUnderTest, open_page: OpenPage
) -> None:
    for number in range(3):
        station.add_case(number)
    page = sit_down(open_page, line, forgiven=REFUSALS)
    shows(page, 0)
    page.wait_for_timeout(500)
    station.kill()
    page.keyboard.press("1")
    shows(page, 1)
    page.keyboard.press("2")
    expect(page.get_by_text(re.compile("2 answers wait for the server"))).to_be_visible()
    station.start()
    wait_for(lambda: len(said(station)) == 2, 40)
    expect(page.get_by_text("Everything is sent")).to_be_visible()


def test_the_store_away_during_an_answer_loses_nothing(
    station: FeedbackStation, line: DashboardUnderTest, open_page: OpenPage
) -> None:
    station.add_case(0)
    station.add_case(1)
    page = sit_down(open_page, line, forgiven=REFUSALS)
    shows(page, 0)
    station.store.unavailable = True
    page.keyboard.press("1")
    expect(page.get_by_text(re.compile("1 answer waits for the server"))).to_be_visible()
    assert said(station) == []
    station.store.unavailable = False
    wait_for(lambda: len(said(station)) == 1, 40)


def test_a_drawing_and_answers_that_wait_survive_a_reload(
    station: FeedbackStation, line: DashboardUnderTest, open_page: OpenPage
) -> None:
    for number in range(2):
        station.add_case(number)
    page = sit_down(open_page, line, forgiven=REFUSALS)
    shows(page, 0)
    page.wait_for_timeout(500)
    station.kill()
    page.keyboard.press("1")
    shows(page, 1)
    page.keyboard.press("3")
    draw(page, (0.45, 0.5), (0.55, 0.5))
    page.wait_for_timeout(700)  # a draft is written a moment after the last stroke
    station.start()
    page.reload()
    wait_for(lambda: len(said(station)) == 1, 40)
    expect(page.get_by_text("Where is the defect?")).to_be_visible()
    page.keyboard.press("Enter")
    wait_for(lambda: len(said(station)) == 2)
    assert said(station)[0].mask_pixels > 0


def test_names_and_notes_are_text_whatever_they_hold(
    station: FeedbackStation, line: DashboardUnderTest, open_page: OpenPage
) -> None:
    station.add_case(0)
    page = sit_down(open_page, line, "<img src=x onerror=alert(1)>")
    shows(page, 0)
    page.keyboard.press("3")
    page.get_by_label("Note").fill('"><script>alert(1)</script>')
    page.keyboard.press("Enter")
    wait_for(lambda: said(station))
    assert said(station)[0].note == '"><script>alert(1)</script>'
    assert said(station)[0].reviewer == "<img src=x onerror=alert(1)>"
    page.keyboard.press("l")
    expect(page.get_by_text("part-0000").first).to_be_visible()
    # Another browser knows nothing of this sitting: the record says which part it was.
    other = sit_down(open_page, line, "<img src=x onerror=alert(1)>")
    other.get_by_role("button", name="My answers").click()
    expect(other.get_by_test_id("answers")).to_contain_text("Defective, but elsewhere")
    expect(other.get_by_test_id("answers")).to_contain_text("part-0000")


@pytest.mark.parametrize("size", ["desk", "tablet"])
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_the_station_has_no_accessibility_fault_and_nothing_scrolls(
    station: FeedbackStation, line: DashboardUnderTest, open_page: OpenPage, size: str, scheme: str
) -> None:
    station.add_case(0, Verdict.REVIEW)
    page = sit_down(open_page, line, size=size, scheme=scheme)
    shows(page, 0)
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    faults = [(one["id"], [node["html"][:120] for node in one["nodes"]]) for one in found["violations"]]
    assert faults == []
    assert page.evaluate("document.documentElement.scrollHeight <= innerHeight")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_thirty_parts_are_reviewed_with_the_keyboard_alone(
    station: FeedbackStation, line: DashboardUnderTest, open_page: OpenPage
) -> None:
    for number in range(31):
        station.add_case(number)
    page = sit_down(open_page, line)
    for number in range(30):
        shows(page, number)
        page.keyboard.press("1" if number % 3 else "2")
    wait_for(lambda: len(said(station)) == 30, 40)
    assert station.index.stats(CaseFilter()).reviewed == 30


def test_a_queue_that_is_empty_fills_by_itself(
    station: FeedbackStation, line: DashboardUnderTest, open_page: OpenPage
) -> None:
    page = sit_down(open_page, line)
    expect(page.get_by_text("Nothing to review")).to_be_visible()
    station.add_case(0)
    shows(page, 0)


def test_without_a_feedback_service_the_page_says_so(browser: Browser, open_page: OpenPage) -> None:
    dashboard = DashboardUnderTest(DEMO_CAMERAS[:1], pictures=1).start()
    try:
        page = sit_down(open_page, dashboard, forgiven=REFUSALS)
        expect(page.get_by_text("Reviewing is not set up here")).to_be_visible()
    finally:
        dashboard.stop()
