"""The page in a real Chromium: what people see, what they do, and what it says when something is away."""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

from services.core.errors import NotFoundError
from services.core.types import ExplanationStatus, Grade, Inspection, Reason, Verdict
from services.dashboard.app import STATIC_DIR
from services.dashboard.components import Reading, State
from tests.e2e.dashboard_feed import DEMO_CAMERAS, DashboardUnderTest, RefiningExplainer
from tests.support.explained import explanation, failed, hot_spot

pytestmark = pytest.mark.browser

CHROMIUM = os.environ.get("SIGHTLINE_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
AXE = STATIC_DIR.parent / "web/node_modules/axe-core/axe.min.js"
SIZES = {"desk": (1440, 900), "tablet": (1024, 768), "phone": (390, 844)}
SLOW_MS = 12_000

expect.set_options(timeout=SLOW_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt-get install chromium, or set SIGHTLINE_TEST_CHROMIUM")
    if not (STATIC_DIR / "index.html").is_file():
        pytest.fail("the page must be built first: make install")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def line() -> Iterator[DashboardUnderTest]:
    dashboard = DashboardUnderTest(DEMO_CAMERAS[:2], pictures=4).start()
    yield dashboard
    dashboard.stop()


@pytest.fixture
def explainer() -> RefiningExplainer:
    return RefiningExplainer()


@pytest.fixture
def explaining_line(explainer: RefiningExplainer) -> Iterator[DashboardUnderTest]:
    dashboard = DashboardUnderTest(DEMO_CAMERAS[:2], pictures=4, explainer=explainer).start()
    yield dashboard
    dashboard.stop()


OpenPage = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Open pages that must stay clean: no error in the console, no request to anywhere else."""
    contexts = []
    complaints: list[str] = []

    def open_one(url: str, size: str = "desk", scheme: str = "dark", forgiven: str = "$^", **more: Any) -> Page:
        width, height = SIZES[size]
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, locale="en-GB", **more
        )
        contexts.append(context)
        page = context.new_page()
        origin = re.match(r"https?://[^/]+", url)
        assert origin is not None

        def on_console(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning") and not re.search(forgiven, message.text):
                complaints.append(f"console {message.type}: {message.text}")

        def on_request(request: Request) -> None:
            if not request.url.startswith((origin.group(), "data:", "blob:")):
                complaints.append(f"request to {request.url}")

        page.on("console", on_console)
        page.on("pageerror", lambda error: complaints.append(f"page error: {error}"))
        page.on("request", on_request)
        page.goto(url)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert complaints == []


def keep_publishing(line: DashboardUnderTest, every_s: float = 0.15) -> Callable[[], None]:
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(every_s):
            line.publish_part()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()

    def end() -> None:
        stop.set()
        thread.join()

    return end


def tile(page: Page, camera: str = "line-a-top") -> Any:
    return page.get_by_role("article", name=camera)


def sideways_scroll(page: Page) -> int:
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def accessibility_complaints(page: Page, of: str = "html") -> list[str]:
    # Run by the debugger: the page's own security policy would refuse the script.
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate(
        """async of => (await axe.run(of, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}))
        .violations.map(v => v.id + ": " + v.nodes.map(n => n.target + " " + n.failureSummary).join(" | "))""",
        of,
    )
    return list(found)


def shown_part(page: Page, camera: str = "line-a-top") -> str:
    return str(tile(page, camera).get_by_test_id("stage").get_attribute("aria-label"))


def test_parts_appear_by_themselves_with_verdict_score_model_and_picture(
    line: DashboardUnderTest, open_page: OpenPage
) -> None:
    page = open_page(line.url)
    expect(page.get_by_text("No parts yet")).to_be_visible()
    expect(page.get_by_test_id("connection")).to_contain_text("Waiting for the first part")

    line.publish_part(verdict=Verdict.FAIL, score=0.91, defect_class="crack")
    expect(tile(page)).to_contain_text("Fail")
    expect(tile(page)).to_contain_text("0.91")
    expect(tile(page)).to_contain_text("default v3")
    expect(page.get_by_test_id("connection")).to_contain_text("Live")
    picture = tile(page).get_by_test_id("stage").locator("img")
    expect(picture).to_be_visible()
    page.wait_for_function("image => image.complete && image.naturalWidth > 100", arg=picture.element_handle())

    before = shown_part(page)
    line.publish_part(verdict=Verdict.REVIEW, reason=Reason.UNSURE, score=0.6)
    expect(tile(page).get_by_test_id("stage")).not_to_have_attribute("aria-label", before)
    expect(tile(page)).to_contain_text("Review")


def test_a_frozen_wall_holds_still_while_the_line_goes_on(line: DashboardUnderTest, open_page: OpenPage) -> None:
    line.publish_part()
    page = open_page(line.url)
    expect(tile(page)).to_be_visible()
    end = keep_publishing(line)
    try:
        page.get_by_role("button", name="Freeze").click()
        expect(page.get_by_text("Frozen at")).to_be_visible()
        # The picture that was on its way when the wall froze may still arrive.
        page.wait_for_timeout(600)
        frozen = shown_part(page)
        expect(page.get_by_text("more since")).to_be_visible()
        assert shown_part(page) == frozen
        page.keyboard.press("f")
        expect(page.get_by_text("Frozen at")).to_have_count(0)
        expect(tile(page).get_by_test_id("stage")).not_to_have_attribute("aria-label", frozen)
    finally:
        end()


def test_a_click_opens_the_part_and_keys_walk_along_its_camera(line: DashboardUnderTest, open_page: OpenPage) -> None:
    parts = [line.publish_part(verdict=Verdict.FAIL, score=0.83) for _ in range(4)]
    page = open_page(line.url)
    tile(page).get_by_test_id("stage").click()
    newest = next(one for one in parts[-1] if one.camera_id == "line-a-top")
    expect(page).to_have_url(f"{line.url}/parts/{newest.frame_id}")
    expect(page.get_by_text("Score 0.83: fails from 0.68 on.")).to_be_visible()
    expect(page.get_by_text(newest.frame_id, exact=True)).to_be_visible()
    picture = page.get_by_test_id("full-picture")
    page.wait_for_function("image => image.complete && image.naturalWidth >= 300", arg=picture.element_handle())
    other_view = page.get_by_role("region", name="Other views of this part").get_by_role("link")
    expect(other_view).to_have_count(1)

    page.keyboard.press("ArrowLeft")
    before = next(one for one in parts[-2] if one.camera_id == "line-a-top")
    expect(page).to_have_url(f"{line.url}/parts/{before.frame_id}")
    expect(page.get_by_role("heading", level=1)).to_have_text(before.part_id)
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("heading", level=1)).to_have_text(newest.part_id)
    page.keyboard.press("Escape")
    expect(page).to_have_url(f"{line.url}/")


def test_the_picture_zooms_and_moves_with_wheel_keys_and_mouse(line: DashboardUnderTest, open_page: OpenPage) -> None:
    [top, _side] = line.publish_part()
    page = open_page(line.url)
    expect(tile(page)).to_be_visible()
    page.goto(f"{line.url}/parts/{top.frame_id}")
    picture = page.get_by_test_id("full-picture")
    expect(picture).to_be_visible()
    box = page.get_by_test_id("viewer-pane").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.wheel(0, -600)
    expect(picture).not_to_have_css("transform", "matrix(1, 0, 0, 1, 0, 0)")
    enlarged = picture.evaluate("image => image.style.transform")
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 - 80, box["y"] + box["height"] / 2 - 40, steps=3)
    page.mouse.up()
    assert picture.evaluate("image => image.style.transform") != enlarged
    page.keyboard.press("0")
    expect(picture).to_have_css("transform", "matrix(1, 0, 0, 1, 0, 0)")


def test_the_page_is_honest_when_the_broker_goes_and_comes_back(line: DashboardUnderTest, open_page: OpenPage) -> None:
    line.publish_part()
    # A picture that lies in the broker cannot be had while it is away; the browser notes that as an error.
    page = open_page(line.url, forgiven="status of 503")
    connection = page.get_by_test_id("connection")
    expect(connection).to_contain_text("Live")
    line.broker.unavailable = True
    expect(connection).to_contain_text(re.compile(r"Broker unreachable since \d\d:\d\d"))
    connection.click()
    expect(page.get_by_text("got no answer")).to_be_visible()
    page.keyboard.press("Escape")
    line.broker.unavailable = False
    line.publish_part()
    expect(connection).to_contain_text("Live")
    line.triton = Reading(State.DOWN, "connection refused")
    expect(connection).to_contain_text("Model server unreachable")
    line.triton = Reading(State.UP)
    expect(connection).to_contain_text("Live")


def test_a_silent_camera_looks_silent(open_page: OpenPage) -> None:
    line = DashboardUnderTest(DEMO_CAMERAS[:2], pictures=2, live={"stale_s": 1.5}).start()
    try:
        line.publish_part()
        page = open_page(line.url)
        expect(tile(page)).to_have_attribute("data-stale", "true")
        expect(tile(page)).to_contain_text("No picture for")
        expect(page.get_by_test_id("connection")).to_contain_text("No verdict for")
        line.publish_part()
        expect(tile(page)).to_have_attribute("data-stale", "false")
    finally:
        line.stop()


def test_the_page_says_when_its_server_is_gone_and_recovers_by_itself(open_page: OpenPage) -> None:
    first = DashboardUnderTest(DEMO_CAMERAS[:2], pictures=2).start()
    first.publish_part()
    page = open_page(first.url, forgiven="ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED|Failed to load resource")
    expect(page.get_by_test_id("connection")).to_contain_text("Live")
    port = int(first.url.rsplit(":", 1)[1])
    first.stop()
    expect(page.get_by_test_id("connection")).to_contain_text("No connection to the server since")
    second = DashboardUnderTest(DEMO_CAMERAS[:2], pictures=2, seed=8, port=port).start()
    try:
        second.publish_part(verdict=Verdict.FAIL, score=0.99)
        expect(page.get_by_test_id("connection")).to_contain_text("Live", timeout=15_000)
        expect(tile(page)).to_contain_text("0.99")
    finally:
        second.stop()


def test_expired_unreadable_and_unknown_pictures_say_what_they_are(
    line: DashboardUnderTest, open_page: OpenPage
) -> None:
    [top, side] = line.publish_part()
    broken = replace(top.image_ref, key="frames/broken.jpg")  # type: ignore[type-var]
    line.store.put("frames/broken.jpg", b"\xff\xd8\xff\xe0 not much of a picture")
    [unreadable, _] = line.publish_part(
        verdict=Verdict.REVIEW,
        reason=Reason.UNREADABLE_IMAGE,
        score=float("nan"),
        model_version=0,
        detail="the picture ends early",
        image_ref=broken,
        position=None,
    )
    assert top.image_ref is not None
    line.store.delete([top.image_ref.key])
    page = open_page(line.url, forgiven="Failed to load resource")
    expect(tile(page)).to_contain_text("No score")
    page.goto(f"{line.url}/parts/{top.frame_id}")
    expect(page.get_by_text("The picture has expired")).to_be_visible()
    page.goto(f"{line.url}/parts/{unreadable.frame_id}")
    expect(page.get_by_text("The picture cannot be shown")).to_be_visible()
    expect(page.get_by_text("no model has judged it")).to_be_visible()
    page.goto(f"{line.url}/parts/01890000-0000-7000-8000-000000000000")
    expect(page.get_by_text("Nothing is known of this part")).to_be_visible()
    page.goto(f"{line.url}/parts/%3Cscript%3E")
    expect(page.get_by_text("This is not a part\u2019s address")).to_be_visible()
    assert side.position is not None


def test_language_and_theme_are_kept(line: DashboardUnderTest, open_page: OpenPage) -> None:
    line.publish_part(verdict=Verdict.FAIL, score=0.9)
    page = open_page(line.url)
    expect(tile(page)).to_contain_text("Fail")
    page.get_by_role("button", name="DE: auf Deutsch umstellen").click()
    page.get_by_role("button", name="Zum hellen Design wechseln").click()
    expect(tile(page)).to_contain_text("Ausschuss")
    expect(tile(page)).to_contain_text("0,90")
    page.reload()
    expect(tile(page)).to_contain_text("Ausschuss")
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    expect(page.locator("html")).to_have_attribute("lang", "de")


def test_a_part_says_that_the_detectors_of_a_panel_disagree(line: DashboardUnderTest, open_page: OpenPage) -> None:
    split = {"score": 0.83, "disagreement": 2 / 3}
    [disputed, _] = line.publish_part(verdict=Verdict.REVIEW, reason=Reason.DISAGREEMENT, **split)
    [failed, _] = line.publish_part(verdict=Verdict.FAIL, score=0.83, disagreement=0.5)
    page = open_page(line.url)
    page.goto(f"{line.url}/parts/{disputed.frame_id}")
    expect(page.get_by_text("33% of the detectors are against the others: a person decides.")).to_be_visible()
    page.goto(f"{line.url}/parts/{failed.frame_id}")
    expect(page.get_by_text("Score 0.83: fails from 0.68 on.")).to_be_visible()
    expect(page.get_by_text("The detectors disagree: 25% of them are against the others.")).to_be_visible()
    assert accessibility_complaints(page) == []


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_wall_and_part_fit_the_screen_and_pass_the_accessibility_check(
    size: str, scheme: str, line: DashboardUnderTest, open_page: OpenPage
) -> None:
    line.publish_history(12, 60)
    line.publish_part(verdict=Verdict.REVIEW, reason=Reason.UNSURE, score=0.6, in_time=False)
    [top, _] = line.publish_part(verdict=Verdict.FAIL, score=0.9)
    page = open_page(line.url, size, scheme)
    expect(tile(page)).to_contain_text("Fail")
    assert sideways_scroll(page) == 0
    assert accessibility_complaints(page) == []
    too_small = page.evaluate(
        """[...document.querySelectorAll("button, select, nav a, article a")].filter(e => e.offsetParent !== null)
        .map(e => [e.getAttribute("aria-label") ?? e.textContent, e.getBoundingClientRect()])
        .filter(([, box]) => box.height < 44 || box.width < 44)
        .map(([name, box]) => `${name} ${box.width}x${box.height}`)"""
    )
    assert too_small == []
    page.goto(f"{line.url}/parts/{top.frame_id}")
    expect(page.get_by_test_id("full-picture")).to_be_visible()
    assert sideways_scroll(page) == 0
    assert accessibility_complaints(page) == []


def test_everything_on_the_wall_is_reached_with_the_keyboard(line: DashboardUnderTest, open_page: OpenPage) -> None:
    line.publish_part()
    page = open_page(line.url)
    expect(tile(page)).to_be_visible()
    reached = set()
    for _ in range(20):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent")
        )
    assert {"Skip to content", "Live wall", "Freeze", "Switch to the light theme"} <= reached
    assert any(name.startswith(("Pass, part", "Fail, part", "Review, part")) for name in reached)


def test_on_a_phone_a_menu_opens_closes_and_leads_to_every_page(line: DashboardUnderTest, open_page: OpenPage) -> None:
    line.publish_part()
    page = open_page(line.url, size="phone", forgiven="Failed to load resource")
    menu = page.get_by_role("button", name="Menu")
    ways = page.get_by_role("navigation", name="Main").get_by_role("link")
    expect(ways).to_have_count(0)
    menu.focus()
    page.keyboard.press("Enter")
    expect(menu).to_have_attribute("aria-expanded", "true")
    expect(ways).to_have_count(6)
    expect(page.get_by_role("link", name="Live wall")).to_have_attribute("aria-current", "page")
    assert accessibility_complaints(page, "header") == []
    assert sideways_scroll(page) == 0
    assert min(box["height"] for way in ways.all() if (box := way.bounding_box())) >= 44
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Live wall")).to_be_focused()
    page.keyboard.press("Escape")
    expect(ways).to_have_count(0)
    expect(menu).to_be_focused()
    menu.click()
    # Beside everything that leads anywhere.
    page.mouse.click(3, 800)
    expect(ways).to_have_count(0)
    for name, address in (
        ("Statistics", "/statistics"),
        ("Models", "/models"),
        ("Training", "/training"),
        ("Gallery", "/gallery"),
    ):
        menu.click()
        page.get_by_role("link", name=name).click()
        expect(page).to_have_url(re.compile(f"{address}([?].*)?$"))
        expect(ways).to_have_count(0)
        expect(page.get_by_role("main")).to_be_focused()


def test_the_page_stays_up_to_date_at_twenty_parts_a_second(line: DashboardUnderTest, open_page: OpenPage) -> None:
    page = open_page(line.url)
    end = keep_publishing(line, every_s=0.1)
    time.sleep(3)
    end()
    [top, _] = line.publish_part(verdict=Verdict.FAIL, score=0.77)
    started_s = time.monotonic()
    expect(tile(page).get_by_test_id("stage")).to_have_attribute("aria-label", re.compile(re.escape(top.part_id)))
    assert time.monotonic() - started_s < 2.5


# ---- explanations


def failing_part(line: DashboardUnderTest, **changes: Any) -> Inspection:
    return line.publish_part(**{"verdict": Verdict.FAIL, "score": 0.91, **changes})[0]


def two_maps(line: DashboardUnderTest, part: Inspection) -> None:
    square = hot_spot(0.75, 0.25, height=96)
    cam = explanation("gradcam", map=hot_spot(0.7, 0.3, height=12, width=12), grade=Grade.C, trust=0.38, passes=1)
    line.publish_explained(part, explanation(map=square), cam, agreement=0.68)


def why(page: Page) -> Any:
    return page.get_by_role("region", name=re.compile("^(Why|Warum)$"))


def method_button(page: Page, name: str) -> Any:
    return page.get_by_role("group", name="Map over the picture").get_by_role("button", name=name)


def shown_map(page: Page) -> Any:
    return page.get_by_test_id("map")


def is_drawn(page: Page) -> bool:
    shown = shown_map(page)
    expect(shown).to_be_visible()
    return bool(
        page.wait_for_function("image => image.complete && image.naturalWidth > 100", arg=shown.element_handle())
    )


def test_an_explanation_appears_by_itself_with_method_grade_passes_and_time(
    line: DashboardUnderTest, open_page: OpenPage
) -> None:
    part = failing_part(line)
    page = open_page(line.url)
    expect(tile(page)).to_be_visible()
    page.goto(f"{line.url}/parts/{part.frame_id}")
    expect(why(page)).to_contain_text("Not explained yet")
    expect(shown_map(page)).to_have_count(0)
    expect(page.get_by_test_id("connection")).to_contain_text("Live")

    two_maps(line, part)
    expect(why(page).get_by_test_id("grade")).to_contain_text("Look there first.")
    expect(why(page).get_by_role("img", name="Grade B")).to_have_count(2)
    expect(why(page)).to_contain_text(re.compile(r"Marks \d% of the picture, most strongly at the top right"))
    expect(why(page)).to_contain_text("InvRISE soft and Grad-CAM point to the same place (overlap 68%)")
    expect(why(page)).to_contain_text("lies at its hottest point: 62%")
    expect(why(page)).to_contain_text("320 passes · 1.4 s")
    expect(why(page)).to_contain_text("1 pass · 1.4 s")
    assert is_drawn(page)
    expect(page.get_by_test_id("map-legend")).to_contain_text("as on good parts")
    why(page).get_by_text("Figures of InvRISE soft").click()
    expect(why(page)).to_contain_text("from 0.12, full at 0.50")


def test_the_map_is_switched_faded_and_held_away_with_hand_and_keys(
    line: DashboardUnderTest, open_page: OpenPage
) -> None:
    part, other = failing_part(line), failing_part(line)
    two_maps(line, part)
    two_maps(line, other)
    page = open_page(f"{line.url}/parts/{part.frame_id}")
    assert is_drawn(page)
    expect(method_button(page, "InvRISE soft")).to_have_attribute("aria-pressed", "true")
    method_button(page, "Grad-CAM").click()
    expect(shown_map(page)).to_have_attribute("alt", "Map by Grad-CAM over the picture")
    expect(why(page).get_by_test_id("grade")).to_contain_text("A hint")
    page.keyboard.press("m")
    expect(shown_map(page)).to_have_count(0)
    expect(method_button(page, "No map")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("m")
    expect(shown_map(page)).to_have_attribute("alt", re.compile("InvRISE soft"))

    over = shown_map(page).locator("..")
    slider = page.get_by_role("slider", name="Strength")
    slider.fill("0.4")
    expect(over).to_have_css("opacity", "0.4")
    page.keyboard.down("h")
    expect(over).to_have_css("opacity", "0")
    page.keyboard.up("h")
    expect(over).to_have_css("opacity", "0.4")
    hold = page.get_by_role("button", name="Hold to hide")
    hold.hover()
    page.mouse.down()
    expect(over).to_have_css("opacity", "0")
    page.mouse.up()
    expect(over).to_have_css("opacity", "0.4")

    method_button(page, "Grad-CAM").click()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("heading", level=1)).to_have_text(other.part_id)
    expect(shown_map(page)).to_have_attribute("alt", "Map by Grad-CAM over the picture")


def test_the_map_lies_exactly_over_the_picture_and_zooms_with_it(line: DashboardUnderTest, open_page: OpenPage) -> None:
    before, part = failing_part(line), failing_part(line)
    # A map that is coarser and of another aspect than the picture must still cover it, no more and no less.
    line.publish_explained(part, explanation(map=hot_spot(0.75, 0.25, height=7, width=9)))
    page = open_page(f"{line.url}/parts/{part.frame_id}")
    assert is_drawn(page)
    covered = """() => {
        const picture = document.querySelector("[data-testid=full-picture]");
        const box = picture.getBoundingClientRect();
        const scale = Math.min(box.width / picture.naturalWidth, box.height / picture.naturalHeight);
        const [width, height] = [picture.naturalWidth * scale, picture.naturalHeight * scale];
        const wanted = [box.x + (box.width - width) / 2, box.y + (box.height - height) / 2, width, height];
        const map = document.querySelector("[data-testid=map]").getBoundingClientRect();
        const got = [map.x, map.y, map.width, map.height];
        return Math.max(...wanted.map((value, place) => Math.abs(value - got[place])));
    }"""
    assert page.evaluate(covered) < 1.0
    pane = page.get_by_test_id("viewer-pane").bounding_box()
    assert pane is not None
    page.mouse.move(pane["x"] + pane["width"] * 0.7, pane["y"] + pane["height"] * 0.3)
    page.mouse.wheel(0, -700)
    expect(page.get_by_test_id("full-picture")).not_to_have_css("transform", "matrix(1, 0, 0, 1, 0, 0)")
    assert page.evaluate(covered) < 1.0
    # The same spot on the next part: zoom and place stay.
    enlarged = page.get_by_test_id("full-picture").evaluate("image => image.style.transform")
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("heading", level=1)).to_have_text(before.part_id)
    assert page.get_by_test_id("full-picture").evaluate("image => image.style.transform") == enlarged


def test_what_went_wrong_and_what_is_not_known_is_said(line: DashboardUnderTest, open_page: OpenPage) -> None:
    part = failing_part(line)
    loose = explanation(status=ExplanationStatus.PARTIAL, scale_low=0.0, scale_high=0.0, passes=90, trust=0.0)
    line.publish_explained(part, loose, failed(), agreement=float("nan"))
    page = open_page(f"{line.url}/parts/{part.frame_id}")
    expect(why(page)).to_contain_text("Its time ran out: this is the map after 90 passes.")
    expect(why(page)).to_contain_text("not calibrated")
    expect(why(page)).to_contain_text("No map: this model has no convolution layers.")
    expect(why(page)).not_to_contain_text("lies at its hottest point")
    expect(page.get_by_test_id("map-legend")).to_contain_text("not calibrated")
    expect(method_button(page, "Grad-CAM")).to_have_count(0)

    gone = failing_part(line)
    line.publish_explained(
        gone, failed("invrise-soft", "model_gone"), failed("gradcam", "new_reason", "words of its own")
    )
    page.goto(f"{line.url}/parts/{gone.frame_id}")
    expect(why(page)).to_contain_text("no longer loaded")
    expect(why(page)).to_contain_text("words of its own")
    expect(page.get_by_role("group", name="Map over the picture")).to_have_count(0)


def test_a_map_that_is_not_to_be_gone_by_is_not_shown_by_itself(line: DashboardUnderTest, open_page: OpenPage) -> None:
    part = failing_part(line)
    line.publish_explained(part, explanation(grade=Grade.D, trust=0.1))
    page = open_page(f"{line.url}/parts/{part.frame_id}")
    expect(why(page)).to_contain_text("Do not go by this map.")
    expect(why(page)).to_contain_text("No map here is good enough")
    expect(shown_map(page)).to_have_count(0)
    method_button(page, "InvRISE soft").click()
    assert is_drawn(page)


def test_a_calm_part_shows_no_colour_at_all(explaining_line: DashboardUnderTest, open_page: OpenPage) -> None:
    calm = failing_part(explaining_line, verdict=Verdict.REVIEW, reason=Reason.UNSURE, score=0.6)
    faint = (hot_spot(0.5, 0.5) * 0.05).astype("float16")
    explaining_line.publish_explained(calm, explanation(map=faint, grade=Grade.C))
    page = open_page(f"{explaining_line.url}/parts/{calm.frame_id}")
    expect(why(page)).to_contain_text("The map is calm.")
    assert is_drawn(page)
    coloured = page.evaluate(
        """async () => {
            const image = document.querySelector("[data-testid=map]");
            const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
            const context = canvas.getContext("2d");
            context.drawImage(image, 0, 0);
            const {data} = context.getImageData(0, 0, canvas.width, canvas.height);
            return data.filter((value, place) => place % 4 === 3 && value > 0).length;
        }"""
    )
    assert coloured == 0
    good = failing_part(explaining_line, verdict=Verdict.PASS, score=0.1)
    page.goto(f"{explaining_line.url}/parts/{good.frame_id}")
    expect(why(page)).to_contain_text("It passed, so nothing had to be explained.")
    expect(shown_map(page)).to_have_count(0)


def test_a_map_by_another_method_refines_before_the_eyes(
    explaining_line: DashboardUnderTest, explainer: RefiningExplainer, open_page: OpenPage
) -> None:
    part = failing_part(explaining_line)
    two_maps(explaining_line, part)
    page = open_page(f"{explaining_line.url}/parts/{part.frame_id}")
    assert is_drawn(page)
    explainer.pause_s = 0.5
    page.get_by_role("combobox", name="Other method").select_option("rise")
    asked = page.get_by_test_id("requested-map")
    expect(asked).to_contain_text(re.compile(r"Becoming better: \d+ passes · \d+% stable"))
    expect(shown_map(page)).to_have_attribute("alt", "Map by RISE over the picture")
    assert is_drawn(page)
    expect(asked).to_contain_text("400 passes · 1.4 s · made on request, not kept")
    expect(why(page).get_by_test_id("grade")).to_contain_text("A hint")
    method_button(page, "InvRISE soft").click()
    expect(shown_map(page)).to_have_attribute("alt", "Map by InvRISE soft over the picture")
    method_button(page, re.compile("RISE$")).last.click()
    expect(shown_map(page)).to_have_attribute("alt", "Map by RISE over the picture")


def test_a_map_on_request_is_stopped_by_hand_and_by_leaving_and_says_when_it_fails(
    explaining_line: DashboardUnderTest, explainer: RefiningExplainer, open_page: OpenPage
) -> None:
    part, other = failing_part(explaining_line), failing_part(explaining_line)
    page = open_page(f"{explaining_line.url}/parts/{part.frame_id}")
    methods = page.get_by_role("combobox", name="Other method")
    explainer.pause_s, explainer.steps = 0.3, 1_000
    methods.select_option("lime")
    expect(page.get_by_test_id("requested-map")).to_contain_text("Becoming better")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)
    wait_for(lambda: explainer.cancelled == 1)
    methods.select_option("occlusion")
    expect(page.get_by_test_id("requested-map")).to_contain_text("Becoming better")
    page.keyboard.press("ArrowLeft")
    page.goto(f"{explaining_line.url}/parts/{other.frame_id}")
    wait_for(lambda: explainer.cancelled == 2)
    expect(page.get_by_test_id("requested-map")).to_have_count(0)

    explainer.pause_s, explainer.steps = 0.05, 1
    explainer.error = NotFoundError("the version must be loaded, got none")
    page.get_by_role("combobox", name="Other method").select_option("rise")
    expect(page.get_by_test_id("requested-map")).to_contain_text("no longer loaded")


def wait_for(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, "the condition must hold in time"
        time.sleep(0.02)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_an_explained_part_fits_the_screen_and_gloves_and_passes_the_accessibility_check(
    size: str, scheme: str, explaining_line: DashboardUnderTest, open_page: OpenPage
) -> None:
    part = failing_part(explaining_line)
    two_maps(explaining_line, part)
    page = open_page(f"{explaining_line.url}/parts/{part.frame_id}", size, scheme)
    assert is_drawn(page)
    why(page).get_by_text("Figures of InvRISE soft").click()
    assert sideways_scroll(page) == 0
    assert accessibility_complaints(page) == []
    bar = page.get_by_role("group", name="Map over the picture")
    targets = [*bar.get_by_role("button").all(), *bar.get_by_role("combobox").all(), *bar.get_by_role("slider").all()]
    assert len(targets) == 6
    for target in targets:
        box = target.bounding_box()
        assert box is not None
        assert box["height"] >= 48
    page.get_by_role("button", name="DE: auf Deutsch umstellen").click()
    expect(why(page)).to_contain_text("Zuerst dort nachsehen.")
    assert sideways_scroll(page) == 0
