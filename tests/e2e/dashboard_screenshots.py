"""Draw the dashboard's pictures for the documentation: ``python -m tests.e2e.dashboard_screenshots FOLDER``.

The parts are the simulated line's, so that the pictures may be published.
"""

from __future__ import annotations

import argparse
import re
import shutil
import threading
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.e2e.dashboard_feed import DEMO_CAMERAS, DashboardUnderTest

SHOTS = (
    ("1440x900-dark", 1440, 900, "dark", "en-GB"),
    ("1440x900-light", 1440, 900, "light", "en-GB"),
    ("1024x768-dark", 1024, 768, "dark", "de-DE"),
    ("390x844-light", 390, 844, "light", "en-GB"),
)


def draw(browser: Browser, url: str, folder: Path) -> None:
    """Draw the wall and a part page in each size."""
    for name, width, height, scheme, locale in SHOTS:
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,  # type: ignore[arg-type]
            locale=locale,
        )
        page = context.new_page()
        page.goto(url)
        page.get_by_test_id("stage").first.wait_for()
        page.wait_for_timeout(1_800)
        page.screenshot(path=folder / f"wall-{name}.png")
        page.get_by_role("button", name=re.compile("Freeze|Anhalten")).click()
        page.locator("article").first.get_by_role("link", name=re.compile("^(Fail|Ausschuss)")).last.click()
        page.get_by_test_id("full-picture").wait_for()
        page.wait_for_timeout(500)
        page.screenshot(path=folder / f"part-{name}.png")
        context.close()


def main() -> None:
    """Serve a pretended line and draw it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cameras", type=int, default=len(DEMO_CAMERAS))
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    line = DashboardUnderTest(DEMO_CAMERAS[: arguments.cameras], defect_rate=0.08, pictures=40)
    line.publish_history(900, 290)
    line.start()
    stop = threading.Event()

    def publish() -> None:
        while not stop.wait(0.31):
            line.publish_part()

    publisher = threading.Thread(target=publish)
    publisher.start()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
            )
            draw(browser, line.url, arguments.folder)
            browser.close()
    finally:
        stop.set()
        publisher.join()
        line.stop()


if __name__ == "__main__":
    main()
