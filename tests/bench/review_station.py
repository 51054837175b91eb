"""How soon the next part is on screen after a key, and whether the page keeps its memory:
``python -m tests.bench.review_station [--quick]``.

A real Chromium on the built page, the real dashboard and the real feedback service behind it. Answers are given by the
keyboard, one every 400 ms, first while nothing arrives (the baseline of the same run), then while frames arrive. Time
runs from the key press until the next part's picture and map are in a frame that the browser has drawn.

For memory the wall is open while two hours of frames arrive, as fast as ``--speed`` says; the page's JavaScript heap is
read after a forced collection. Growth is told between the medians of the second and the last quarter: the first fills
what the page keeps.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import CDPSession, Page, sync_playwright
from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.e2e.dashboard_feed import DEMO_CAMERAS, DashboardUnderTest
from tests.e2e.test_dashboard_browser import ARGUMENTS, CHROMIUM
from tests.support.feedback_station import FeedbackStation

OUT = Path("build/bench/review_station.json")
P95_LIMIT_MS = 100.0
#: Growth of the heap that is still called flat: lists of strings move by some of it from sample to sample.
FLAT_MB = 4.0
FRAMES_PER_S = 20.0
PAUSE_S = 0.4
HOURS = 2.0
CONSOLE = Console()

#: Watches for the frame in which a part other than the one before is whole; the promise gives milliseconds.
WATCH = """
() => {
  const shown = () => document.querySelector('[data-testid=sitting]')?.dataset.case ?? '';
  const whole = (name) => {
    const one = document.querySelector(`[data-testid=${name}]`);
    return one && one.complete && one.naturalWidth > 0;
  };
  window.nextPart = new Promise((resolve) => {
    const before = shown();
    addEventListener('keydown', (event) => {
      const pressed = event.timeStamp;
      const look = (now) => {
        if (shown() !== before && whole('full-picture') && whole('map')) {
          // What is there at the start of a frame is on screen with its end.
          requestAnimationFrame((then) => resolve([now - pressed, then - pressed]));
        } else requestAnimationFrame(look);
      };
      requestAnimationFrame(look);
    }, { once: true, capture: true });
  });
}
"""


def main(argv: list[str] | None = None) -> int:
    """Measure, print, write the report; 0 when the limits hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few answers, and ten minutes of frames")
    parser.add_argument("--answers", type=int, default=100, help="answers of each load")
    parser.add_argument("--speed", type=float, default=20.0, help="simulated seconds in one")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(argv)
    answers, hours = (10, 1 / 6) if options.quick else (options.answers, HOURS)
    result: dict[str, Any] = {"load_average": os.getloadavg()[0], "quick": options.quick}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        result["next_part_ms"] = {
            "quiet": next_part_ms(page, answers, 0.0),
            "frames_arriving": next_part_ms(page, answers, FRAMES_PER_S),
        }
        result["memory"] = heap(page, hours, options.speed)
        browser.close()
    arriving = result["next_part_ms"]["frames_arriving"]
    result["kept"] = {
        "next_part_p95": arriving["p95"] <= P95_LIMIT_MS,
        "heap_flat": result["memory"]["growth_mb"] <= FLAT_MB,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    show(result)
    return 0 if all(result["kept"].values()) else 1


def next_part_ms(page: Page, answers: int, frames_per_s: float) -> dict[str, float]:
    """Answer that many parts; how long the next one took to be on screen."""
    with tempfile.TemporaryDirectory(prefix="sightline-station-") as folder, _serving(Path(folder)) as (station, line):
        for number in range(answers + 10):
            station.add_case(number)
        page.goto(f"{line.url}/review")
        name = page.get_by_label("Your name")
        if name.count():
            name.fill("bench")
            page.get_by_role("button", name="Start").click()
        page.wait_for_selector("[data-testid=map]")
        page.wait_for_timeout(1_500)
        drawn, after = [], []
        with _arriving(line, frames_per_s):
            for _ in track(range(answers), f"answers, {frames_per_s:g} frames/s", console=CONSOLE):
                page.evaluate(WATCH)
                page.keyboard.press("1")
                first, second = page.evaluate("window.nextPart")
                drawn.append(first)
                after.append(second)
                page.wait_for_timeout(PAUSE_S * 1_000)
        return _figures(drawn) | {"p95_next_frame": _quantile(after, 0.95), "answers": float(answers)}


def heap(page: Page, hours: float, speed: float) -> dict[str, Any]:
    """Let hours of frames arrive at the wall; the page's heap meanwhile."""
    samples: list[float] = []
    with tempfile.TemporaryDirectory(prefix="sightline-station-") as folder, _serving(Path(folder)) as (_, line):
        page.goto(f"{line.url}/")
        page.wait_for_timeout(2_000)
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable")
        seconds = hours * 3_600 / speed
        with _arriving(line, FRAMES_PER_S * speed):
            for _ in track(range(40), f"{hours:g} hours of frames", console=CONSOLE):
                page.wait_for_timeout(seconds / 40 * 1_000)
                samples.append(_heap_mb(session))
            level = page.get_by_test_id("connection").get_attribute("data-level")
            if level != "ok":
                raise RuntimeError(f"the wall must follow the line to the end, got the connection {level!r}")
    quarter = len(samples) // 4
    growth = statistics.median(samples[-quarter:]) - statistics.median(samples[quarter : 2 * quarter])
    return {"hours": hours, "speed": speed, "heap_mb": samples, "growth_mb": growth}


@contextmanager
def _serving(folder: Path) -> Iterator[tuple[FeedbackStation, DashboardUnderTest]]:
    station = FeedbackStation(folder)
    line = DashboardUnderTest(DEMO_CAMERAS[:1], pictures=6, feedback=station.client, store=station.store).start()
    try:
        yield station, line
    finally:
        line.stop()
        station.close()


@contextmanager
def _arriving(line: DashboardUnderTest, frames_per_s: float) -> Iterator[None]:
    """Frames arrive in the background."""
    stop = threading.Event()
    thread = threading.Thread(target=_publish, args=(line.publish_part, frames_per_s, stop), daemon=True)
    if frames_per_s:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        if frames_per_s:
            thread.join()


def _publish(publish: Callable[[], object], frames_per_s: float, stop: threading.Event) -> None:
    began_s, sent = time.monotonic(), 0
    while not stop.wait(0.02):
        while sent < (time.monotonic() - began_s) * frames_per_s and not stop.is_set():
            publish()
            sent += 1


def _heap_mb(session: CDPSession) -> float:
    session.send("HeapProfiler.collectGarbage")
    metrics = session.send("Performance.getMetrics")["metrics"]
    return next(float(one["value"]) for one in metrics if one["name"] == "JSHeapUsedSize") / 1e6


def _figures(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "p95": _quantile(values, 0.95), "max": max(values)}


def _quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    table = Table(title="From the key to the next part on screen, ms")
    for column in ("load", "median", "p95", "p95, a frame later", "max", "x quiet (median)"):
        table.add_column(column, justify="left" if column == "load" else "right")
    quiet = result["next_part_ms"]["quiet"]["median"]
    for load, figures in result["next_part_ms"].items():
        cells = [f"{figures[key]:.0f}" for key in ("median", "p95", "p95_next_frame", "max")]
        table.add_row(load.replace("_", " "), *cells, f"{figures['median'] / quiet:.2f}")
    CONSOLE.print(table)
    memory = result["memory"]
    heap_mb = memory["heap_mb"]
    CONSOLE.print(
        f"heap of the wall over {memory['hours']:g} h of frames: {min(heap_mb):.1f} to {max(heap_mb):.1f} MB, "
        f"growth from the second to the last quarter {memory['growth_mb']:+.2f} MB (limit {FLAT_MB:g})"
    )
    CONSOLE.print(f"kept: {result['kept']}")


if __name__ == "__main__":
    sys.exit(main())
