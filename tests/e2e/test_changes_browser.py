"""Models and what they changed in a real Chromium, with the real dashboard and the real feedback service behind it."""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from services.adapters.memory import MemoryTopicReader
from services.adapters.modelregistry import ModelRegistry
from services.core import topics
from services.core.errors import UnavailableError
from services.core.review import Answer, CaseState, Review, ReviewAction
from services.core.types import AliasState, Verdict
from services.dashboard.models import ModelBoard, ModelFeed
from tests.e2e.dashboard_feed import DEMO_CAMERAS, DashboardUnderTest
from tests.e2e.test_dashboard_browser import OpenPage, accessibility_complaints, browser, open_page, sideways_scroll
from tests.e2e.test_review_browser import sit_down, wait_for
from tests.support.cases import HOUR_NS
from tests.support.described_versions import put_version
from tests.support.feedback_station import START_NS, FeedbackStation
from tests.support.model_changes import Comparing, Models, ToldDetector

__all__ = ["browser", "open_page"]

pytestmark = pytest.mark.browser


class Scene:
    """A line whose people corrected something and whose model then changed."""

    def __init__(self, folder: Path) -> None:
        self.station = FeedbackStation(folder)
        self.detector = ToldDetector(version=4)
        self.board = ModelBoard()
        self.comparing = Comparing(
            self.station, self.detector, models=Models(self.station.broker, START_NS + HOUR_NS), max_frames=300
        )
        self.comparing.begin_anew(self.station.book)
        for version in (3, 4, 5):
            put_version(self.station.store, folder / "versions", version)
        self.comparing.models.promote(3, note="the starter")
        self.dashboard = DashboardUnderTest(
            DEMO_CAMERAS[:1],
            pictures=1,
            feedback=self.station.client,
            changes=self.station.changes,
            models=self.board,
            store=self.station.store,
        ).start()
        feed = ModelFeed(self._follow, self.board)
        self._feed = threading.Thread(target=feed.run, args=(self.dashboard.shutdown,), daemon=True)
        self._feed.start()
        self.cases: list[str] = []

    def _follow(self, on_state: Callable[[AliasState], None]) -> ModelRegistry:
        reader = MemoryTopicReader(self.station.broker, [topics.MODELS])
        return ModelRegistry(reader, timeout_s=1.0, on_state=on_state)

    def correct(self, number: int, reviewer: str, verdict: Verdict = Verdict.FAIL) -> str:
        """Let somebody correct a verdict; gives the case."""
        case_id = self.station.add_case(number, verdict)
        opposite = Verdict.PASS if verdict is Verdict.FAIL else Verdict.FAIL
        asked = verdict is Verdict.REVIEW
        said = Review(
            review_id=str(uuid.uuid4()),
            case_id=case_id,
            frame_id="",
            action=ReviewAction.ANSWER,
            reviewer=reviewer,
            reviewed_at_ns=0,
            verdict_right=Answer.YES if asked else Answer.NO,
            reason_right=Answer.NOT_ASKED,
            corrected_verdict=Verdict.FAIL if asked else opposite,
            defect_class="" if verdict is Verdict.FAIL else "dent",
        )
        self.station.client.submit(said, b"")
        self.cases.append(case_id)
        return case_id

    def learn(self, version: int = 4, note: str = "learned from what people said in May") -> None:
        """Let a new model decide."""
        self.comparing.models.promote(version, note=note)

    def close(self) -> None:
        """End everything."""
        self.dashboard.stop()
        self._feed.join(10)
        self.station.close()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.close()


def fill(scene: Scene) -> None:
    """Five corrected parts of two people, and frames that nobody looked at."""
    scene.correct(0, "ada")
    scene.correct(1, "ada")
    scene.correct(2, "ada", Verdict.PASS)
    scene.correct(3, "bob")
    scene.correct(4, "ada", Verdict.REVIEW)
    for number in range(10, 22):
        scene.station.add_case(number, Verdict.FAIL if number % 3 else Verdict.PASS)
    scene.detector.says = {
        "part-0001": Verdict.FAIL,
        "part-0002": Verdict.FAIL,
        "part-0003": Verdict.REVIEW,
        "part-0004": Verdict.FAIL,
        "part-0012": Verdict.FAIL,
    }
    scene.learn()


def test_corrected_parts_are_shown_before_and_after_and_an_undo_opens_the_case_again(
    scene: Scene, open_page: OpenPage
) -> None:
    fill(scene)
    scene.comparing.run()
    page = sit_down(open_page, scene.dashboard, "ada")
    # A new model came since the last look.
    expect(page.get_by_role("link", name=re.compile("Models")).get_by_role("img")).to_be_visible()
    page.get_by_role("button", name="My answers").click()
    page.get_by_role("link", name=re.compile("What your corrections changed")).click()
    expect(page.get_by_role("heading", name="3 of your 4 corrected parts now come out right")).to_be_visible()
    part = page.get_by_test_id("part-part-0000")
    expect(part).to_contain_text("Now right")
    expect(part).to_contain_text(re.compile("Fail.*0.93.*Pass.*0.10", re.DOTALL))
    expect(part).to_contain_text("You: wrong, it is good")
    expect(page.get_by_test_id("part-part-0003")).to_have_count(0)
    expect(page.get_by_test_id("flips")).to_contain_text(re.compile(r"About \d+ of 5\d\d frames"))
    page.get_by_role("button", name="Everyone").click()
    expect(page.get_by_test_id("part-part-0003")).to_contain_text("Asks a person")
    # One press asks, the second one does it.
    part.get_by_role("button", name="Undo this correction of part-0000").click()
    assert scene.station.index.find_case(scene.cases[0]).state is CaseState.REVIEWED
    part.get_by_role("button", name="Really undo? Press again").click()
    expect(part).to_contain_text("Taken back")
    wait_for(lambda: scene.station.index.find_case(scene.cases[0]).state is CaseState.OPEN)
    undo = scene.station.index.reviews_of(scene.cases[0])[-1]
    assert (undo.action, undo.reviewer) == (ReviewAction.UNDO, "ada")
    # Looked at, the mark is gone, also after a reload.
    page.reload()
    expect(part).to_contain_text("Taken back")
    expect(page.get_by_role("link", name="Models", exact=True).get_by_role("img")).to_have_count(0)
    part.get_by_role("link", name="Open part-0000").click()
    expect(page).to_have_url(re.compile(f"/review/{scene.cases[0]}"))
    expect(page.get_by_role("main")).to_contain_text("part-0000")


def test_what_is_being_compared_says_how_far_it_is_and_what_it_waits_for(scene: Scene, open_page: OpenPage) -> None:
    fill(scene)
    scene.comparing.run(steps=2)
    scene.detector.away = UnavailableError("no Triton answers")
    scene.comparing.run(steps=2)
    page = open_page(f"{scene.dashboard.url}/changes")
    expect(page.get_by_test_id("progress")).to_contain_text(re.compile(r"Being compared: \d+ of \d+"))
    expect(page.get_by_test_id("progress")).to_contain_text("Waits for the detector")
    scene.detector.away = None
    scene.comparing.run()
    expect(page.get_by_test_id("progress")).to_have_count(0)
    expect(page.get_by_role("heading", level=2).first).to_have_text("3 of 5 corrected parts now come out right")


def test_models_are_shown_with_what_they_are_and_side_by_side(scene: Scene, open_page: OpenPage) -> None:
    scene.learn()
    scene.comparing.models.add(5)
    page = open_page(f"{scene.dashboard.url}/models")
    expect(page.get_by_text("Version 4 decides")).to_be_visible()
    expect(page.get_by_test_id("version-4")).to_contain_text("live")
    expect(page.get_by_test_id("version-4")).to_contain_text("going on from default-v3")
    expect(page.get_by_test_id("version-5")).to_contain_text("sightline models promote 5 --alias default")
    compared = page.get_by_test_id("comparison")
    expect(compared.get_by_role("row", name=re.compile("Defective parts that pass"))).to_contain_text("9.0%")
    compared.get_by_label("Second version").select_option("5")
    expect(compared.get_by_role("row", name=re.compile("Defective parts that pass"))).to_contain_text("7.0%")
    expect(page.get_by_test_id("history")).to_contain_text("version 4 made live")
    expect(page.get_by_test_id("history")).to_contain_text("learned from what people said in May")


def test_a_store_that_is_away_leaves_what_points_where(scene: Scene, open_page: OpenPage) -> None:
    scene.learn()
    scene.station.store.unavailable = True
    page = open_page(f"{scene.dashboard.url}/models", forgiven="Failed to load resource")
    expect(page.get_by_text("Version 4 decides")).to_be_visible()
    expect(page.get_by_text("The object store does not answer, so retired versions are missing here.")).to_be_visible()
    scene.station.store.unavailable = False
    expect(page.get_by_test_id("version-4")).to_contain_text("going on from default-v3")


@pytest.mark.parametrize("size", ["desk", "tablet"])
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_the_pages_have_no_accessibility_fault_and_nothing_scrolls_sideways(
    scene: Scene, open_page: OpenPage, size: str, scheme: str
) -> None:
    fill(scene)
    scene.comparing.run()
    page = open_page(f"{scene.dashboard.url}/changes", size=size, scheme=scheme)
    expect(page.get_by_test_id("part-part-0000")).to_be_visible()
    assert accessibility_complaints(page) == []
    assert sideways_scroll(page) == 0
    page.get_by_role("link", name=re.compile("^Models")).first.click()
    expect(page.get_by_test_id("comparison")).to_contain_text("Threshold")
    assert accessibility_complaints(page) == []
    assert sideways_scroll(page) == 0
