"""Draw the dashboard's pictures for the documentation: ``python -m tests.e2e.dashboard_screenshots FOLDER``.

The parts are the simulated line's, so that the pictures may be published. With ``--only NAME`` one scene is drawn:
``wall`` (the wall and a part), ``lived-in`` (the pages of a line that has run for hours), ``statistics``,
``training`` or ``line``.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from services.core.training_run import RunStage
from tests.e2e.dashboard_feed import DEMO_CAMERAS, DashboardUnderTest
from tests.e2e.dashboard_scene import ADMIN, OPERATOR, LivedInLine
from tests.e2e.line_scene import LINE, LineScene, trouble
from tests.e2e.training_scene import TrainingScene
from tests.support.accounts import PASSWORD
from tests.support.counted_line import fill_line
from tests.support.feedback_station import FeedbackStation

SHOTS = (
    ("1440x900-dark", 1440, 900, "dark", "en-GB"),
    ("1440x900-light", 1440, 900, "light", "en-GB"),
    ("1024x768-light", 1024, 768, "light", "en-GB"),
    ("1024x768-dark", 1024, 768, "dark", "de-DE"),
    ("390x844-light", 390, 844, "light", "en-GB"),
)
_PUBLISH_S = 0.31


@contextlib.contextmanager
def opened(browser: Browser, shot: tuple[str, int, int, str, str]) -> Iterator[Page]:
    """A page of one size, theme and language."""
    _, width, height, scheme, locale = shot
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,  # type: ignore[arg-type]
        locale=locale,
    )
    yield context.new_page()
    context.close()


@contextlib.contextmanager
def running(line: DashboardUnderTest) -> Iterator[None]:
    """Let parts pass meanwhile."""
    stop = threading.Event()

    def publish() -> None:
        while not stop.wait(_PUBLISH_S):
            line.publish_part()

    publisher = threading.Thread(target=publish)
    publisher.start()
    try:
        yield
    finally:
        stop.set()
        publisher.join()


def draw_wall(browser: Browser, folder: Path, cameras: int) -> None:
    """Draw the wall and a part page in each size."""
    line = DashboardUnderTest(DEMO_CAMERAS[:cameras], defect_rate=0.08, pictures=40)
    line.publish_history(900, 290)
    line.start()
    with running(line):
        for shot in SHOTS:
            with opened(browser, shot) as page:
                page.goto(line.url)
                page.get_by_test_id("stage").first.wait_for()
                page.wait_for_timeout(1_800)
                page.screenshot(path=folder / f"wall-{shot[0]}.png")
                page.get_by_role("button", name=re.compile("Freeze|Anhalten")).click()
                page.locator("article").first.get_by_role("link", name=re.compile("^(Fail|Ausschuss)")).last.click()
                page.get_by_test_id("full-picture").wait_for()
                page.wait_for_timeout(500)
                page.screenshot(path=folder / f"part-{shot[0]}.png")
    line.stop()


def draw_lived_in(browser: Browser, folder: Path) -> None:
    """Draw the pages of a line that has run for hours, in each size."""
    with tempfile.TemporaryDirectory() as kept:
        line = LivedInLine(Path(kept))
        with running(line.dashboard):
            for shot in SHOTS:
                with opened(browser, shot) as page:
                    _draw_pages(page, line, folder, shot[0])
        line.close()


def _draw_pages(page: Page, line: LivedInLine, folder: Path, name: str) -> None:
    def shoot(what: str) -> None:
        _settle(page)
        page.screenshot(path=folder / f"{what}-{name}.png")

    url = line.dashboard.url
    page.goto(f"{url}/review/{line.open_case.case_id}")
    page.get_by_role("button", name=re.compile("^(Sign in|Anmelden)$")).wait_for()
    shoot("sign-in")
    _sign_in(page, OPERATOR)
    page.get_by_test_id("full-picture").wait_for()
    shoot("review")
    page.keyboard.press("c")
    page.get_by_test_id("neighbours").get_by_role("button").nth(2).wait_for()
    shoot("review-compare")
    page.keyboard.press("l")
    page.get_by_test_id("answers").get_by_role("listitem").first.wait_for()
    shoot("review-answers")
    page.goto(f"{url}/changes")
    page.get_by_role("heading", level=2).first.wait_for()
    shoot("changes")
    page.goto(f"{url}/models")
    page.get_by_test_id("comparison").wait_for()
    shoot("models")
    _sign_out(page)
    _sign_in(page, ADMIN)
    page.get_by_test_id("stage").first.wait_for()
    page.goto(f"{url}/gallery")
    page.get_by_test_id("grid").get_by_role("checkbox").first.wait_for()
    for number in (1, 3, 4):
        page.get_by_test_id("grid").get_by_role("checkbox").nth(number).click()
    shoot("gallery")
    page.goto(f"{url}/users")
    page.get_by_role("row").nth(1).wait_for()
    shoot("people")


def draw_statistics(browser: Browser, folder: Path) -> None:
    """Draw the statistics of a day of two lines, in each size."""
    with tempfile.TemporaryDirectory() as kept:
        station = FeedbackStation(Path(kept))
        fill_line(station.index, station.counts, until_s=int(time.time()), hours=26, each=60, uneven=0.3)
        line = DashboardUnderTest(
            DEMO_CAMERAS[:2], feedback=station.client, statistics=station.statistics_client, store=station.store
        )
        line.publish_history(240, 280)
        line.start()
        with running(line):
            for shot in SHOTS:
                with opened(browser, shot) as page:
                    page.goto(f"{line.url}/statistics")
                    page.get_by_role("table").wait_for()
                    _settle(page)
                    page.screenshot(path=folder / f"statistics-{shot[0]}.png")
        line.stop()
        station.close()


def draw_training(browser: Browser, folder: Path) -> None:
    """Draw a run that trains and one that was refused, in each size."""
    with tempfile.TemporaryDirectory() as kept:
        scene = TrainingScene(Path(kept))
        with running(scene.dashboard):
            scene.tell(RunStage.TRAINING, share=0.42, doing="epoch 5 of 12")
            for shot in SHOTS:
                with opened(browser, shot) as page:
                    page.goto(f"{scene.dashboard.url}/training")
                    page.get_by_test_id("losses").wait_for()
                    _settle(page)
                    page.screenshot(path=folder / f"training-{shot[0]}.png")
                    page.goto(f"{scene.dashboard.url}/training/{scene.refused.run_id}")
                    page.get_by_test_id("gates").wait_for()
                    page.get_by_test_id("answered").evaluate(
                        "one => window.scrollBy(0, one.getBoundingClientRect().top - 115)"
                    )
                    _settle(page)
                    page.screenshot(path=folder / f"training-refused-{shot[0]}.png")
        scene.close()


def draw_line(browser: Browser, folder: Path) -> None:
    """Draw a line on which all is well, one that is red, alarms on the wall and a part's answer, in each size."""
    for mood in ("calm", "trouble"):
        scene = LineScene(defect_rate=0.08, pictures=40)
        scene.answer_history(240, 280)
        if mood == "trouble":
            trouble(scene)
        for shot in SHOTS:
            with opened(browser, shot) as page:
                page.goto(f"{scene.dashboard.url}/line/{LINE}")
                page.get_by_test_id("outcomes").wait_for()
                _settle(page)
                page.screenshot(path=folder / f"line-{mood}-{shot[0]}.png")
                page.screenshot(path=folder / f"line-{mood}-whole-{shot[0]}.png", full_page=True)
                if mood == "trouble":
                    page.get_by_test_id("outcomes").get_by_role("link").first.click()
                    page.get_by_test_id("full-picture").wait_for()
                    _settle(page)
                    page.screenshot(path=folder / f"line-part-{shot[0]}.png")
                page.goto(scene.dashboard.url)
                page.get_by_test_id(f"wall-light-{LINE}").wait_for()
                _settle(page)
                page.screenshot(path=folder / f"line-wall-{mood}-{shot[0]}.png")
        scene.close()


def _sign_in(page: Page, name: str) -> None:
    page.get_by_label(re.compile("^Name$")).fill(name)
    page.get_by_label(re.compile("^(Password|Passwort)$")).fill(PASSWORD)
    page.keyboard.press("Enter")
    page.get_by_test_id("person").wait_for()


def _sign_out(page: Page) -> None:
    page.get_by_test_id("person").click()
    page.get_by_role("button", name=re.compile("^(Sign out|Abmelden)$")).click()
    page.get_by_label(re.compile("^(Password|Passwort)$")).wait_for()


def _settle(page: Page) -> None:
    """Wait until every picture that is in sight is there, and a little for what fades in."""
    page.wait_for_function(
        "() => [...document.images].every((one) => one.complete || one.getBoundingClientRect().top > innerHeight)"
    )
    page.wait_for_timeout(700)


def main() -> None:
    """Serve pretended lines and draw them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cameras", type=int, default=len(DEMO_CAMERAS))
    parser.add_argument("--only", choices=("wall", "lived-in", "statistics", "training", "line"))
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        if arguments.only in (None, "wall"):
            draw_wall(browser, arguments.folder, arguments.cameras)
        if arguments.only in (None, "lived-in"):
            draw_lived_in(browser, arguments.folder)
        if arguments.only in (None, "statistics"):
            draw_statistics(browser, arguments.folder)
        if arguments.only in (None, "training"):
            draw_training(browser, arguments.folder)
        if arguments.only in (None, "line"):
            draw_line(browser, arguments.folder)
        browser.close()


if __name__ == "__main__":
    main()
