"""Training in a real Chromium: the real dashboard over a trainer that walks a run through its stages as it is told."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from services.core.errors import UnavailableError
from services.core.training_run import RunOutcome, RunStage
from tests.e2e.test_dashboard_browser import OpenPage, accessibility_complaints, browser, open_page, sideways_scroll
from tests.e2e.test_review_browser import sit_down, wait_for
from tests.e2e.training_scene import TrainingScene

__all__ = ["browser", "open_page"]

pytestmark = pytest.mark.browser


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[TrainingScene]:
    made = TrainingScene(tmp_path)
    yield made
    made.close()


def as_somebody(open_page: OpenPage, scene: TrainingScene, path: str, name: str = "ada", **more: object) -> Page:
    """Open a page in a browser whose person has said who they are."""
    page = sit_down(open_page, scene.dashboard, name, **more)
    page.goto(f"{scene.dashboard.url}{path}")
    return page


def press_twice(page: Page | Locator, name: str, sure: str) -> None:
    page.get_by_role("button", name=name).click()
    page.get_by_role("button", name=sure).click()


def step(page: Page, name: str) -> str:
    item = page.get_by_role("list", name="Stages").get_by_role("listitem").filter(has_text=re.compile(f"^{name}"))
    return str(item.get_attribute("data-state"))


def test_a_run_is_started_watched_through_its_stages_and_promoted(scene: TrainingScene, open_page: OpenPage) -> None:
    page = as_somebody(open_page, scene, "/training")
    alias = page.get_by_test_id("alias-default")
    expect(alias).to_contain_text("Version 3 decides")
    expect(alias).to_contain_text("14 of 20 new answers")
    alias.get_by_text("How", exact=True).click()
    alias.get_by_label("What learns").select_option("finetune")
    alias.get_by_role("button", name="Retrain now").click()
    expect(page.get_by_test_id("stage")).to_have_text("Waiting")
    assert scene.trainer.asked == [("start", "default", "ada", "", "finetune", "")]
    expect(alias.get_by_role("button", name="Retrain now")).to_be_disabled()

    # What the trainer does now is seen without a reload.
    scene.run = next(run for run in scene.trainer.runs.values() if not run.has_ended)
    scene.tell(RunStage.TRAINING, share=0.42, doing="epoch 5 of 12")
    expect(page.get_by_test_id("stage")).to_have_text("Training")
    expect(page.get_by_test_id("doing")).to_have_text("epoch 5 of 12")
    expect(page.get_by_test_id("run")).to_contain_text("42% of this stage")
    assert (step(page, "Data"), step(page, "Training"), step(page, "Shadow")) == ("done", "now", "ahead")
    losses = page.get_by_test_id("losses")
    expect(losses.get_by_role("img", name=re.compile("Losses over 5 epochs"))).to_be_visible()
    losses.get_by_text("As a table").click()
    expect(losses.get_by_role("row")).to_have_count(6)

    scene.tell(RunStage.SHADOW, share=0.4)
    expect(page.get_by_test_id("shadow")).to_contain_text("120 of 300")
    expect(
        page.get_by_test_id("gates").get_by_role("row", name=re.compile("Defective parts that pass"))
    ).to_contain_text("at most 4")
    scene.tell(RunStage.DECISION)
    expect(page.get_by_test_id("stage")).to_have_text("Decision")
    press_twice(page, "Promote version 5", "Really let it decide? Press again")
    expect(page.get_by_test_id("stage")).to_have_text("Went live")
    expect(alias).to_contain_text("Version 5 decides")
    assert scene.trainer.asked[-1] == ("promote", "default", 5, "ada", "", False)
    press_twice(page.get_by_test_id("run"), "Roll back to version 3", "Really roll back? Press again")
    expect(alias).to_contain_text("Version 3 decides")
    assert scene.trainer.asked[-1] == ("roll_back", "default", "ada", "")


def test_a_run_has_an_address_of_its_own_with_links_to_parts_and_cases(
    scene: TrainingScene, open_page: OpenPage
) -> None:
    run = scene.tell(RunStage.DECISION)
    page = as_somebody(open_page, scene, f"/training/{run.run_id}", forgiven="404")
    page.reload()
    expect(page.get_by_test_id("answered")).to_contain_text("2 of 4 answered parts come out as people said")
    part = page.get_by_test_id("answered-part-0002")
    expect(part).to_contain_text("People said: dent")
    expect(part).to_contain_text("By ada, bob")
    expect(part).to_contain_text("The map points elsewhere than they drew")
    part.get_by_role("link").click()
    expect(page).to_have_url(re.compile(f"/review/{scene.cases[2]}"))
    page.goto(f"{scene.dashboard.url}/training/{run.run_id}")
    page.get_by_role("link", name=f"Open {scene.frames[0].part_id}").click()
    expect(page).to_have_url(re.compile(f"/parts/{scene.frames[0].frame_id}"))
    page.go_back()
    page.get_by_role("link", name="All runs").click()
    page.get_by_test_id(f"run-{scene.refused.run_id}").click()
    expect(page.get_by_test_id("stage")).to_have_text("Refused")
    page.goto(f"{scene.dashboard.url}/training/0189abcd-0000-7000-8000-00000000000f")
    expect(page.get_by_role("heading", name="There is no such run")).to_be_visible()


def test_a_refused_version_goes_live_only_with_a_reason(scene: TrainingScene, open_page: OpenPage) -> None:
    page = as_somebody(open_page, scene, f"/training/{scene.refused.run_id}")
    expect(page.get_by_test_id("reason")).to_have_text(
        "It tells good and defective parts apart worse than the live version does."
    )
    expect(page.get_by_test_id("gates").get_by_role("row", name=re.compile("MCC"))).to_contain_text("broken")
    page.get_by_role("button", name="Promote all the same").click()
    sure = page.get_by_role("button", name="Let version 4 decide all the same")
    expect(sure).to_be_disabled()
    page.get_by_label("Reason").fill("the hold-out has no dents of the new kind")
    sure.click()
    expect(page.get_by_test_id("stage")).to_have_text("Went live")
    assert scene.trainer.asked[-1] == (
        "promote",
        "default",
        4,
        "ada",
        "the hold-out has no dents of the new kind",
        True,
    )


def test_a_run_is_cancelled_and_resumed(scene: TrainingScene, open_page: OpenPage) -> None:
    run = scene.tell(RunStage.TRAINING, share=0.4)
    page = as_somebody(open_page, scene, f"/training/{run.run_id}", name="zoe")
    press_twice(page, "Cancel", "Really cancel? Press again")
    expect(page.get_by_test_id("stage")).to_have_text("Cancelled")
    assert step(page, "Training") == "stopped"
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_test_id("stage")).to_have_text("Training")
    assert scene.trainer.asked == [("cancel", run.run_id, "zoe"), ("resume", run.run_id, "zoe")]


def test_whoever_answered_is_told_in_my_answers_until_they_dismiss_it(
    scene: TrainingScene, open_page: OpenPage
) -> None:
    page = sit_down(open_page, scene.dashboard, "ada")
    button = page.get_by_role("button", name=re.compile("My answers"))
    expect(button.get_by_role("img", name="news about your answers")).to_be_visible()
    button.click()
    notices = page.get_by_test_id("notices")
    expect(notices).to_contain_text("that learned from your answers did not go live")
    expect(notices).to_contain_text("It tells good and defective parts apart worse")
    expect(notices).to_contain_text("2 of your 3 answered parts did not come out as you said.")
    notices.get_by_role("link", name="See the run").click()
    expect(page).to_have_url(re.compile(f"/training/{scene.refused.run_id}"))
    page.goto(f"{scene.dashboard.url}/review")
    button.click()
    notices.get_by_role("button", name="Dismiss").click()
    expect(notices).to_have_count(0)
    page.reload()
    button.click()
    expect(page.get_by_test_id("answers")).to_be_visible()
    expect(notices).to_have_count(0)
    # Somebody else at this browser is told of their own.
    scene.tell(RunStage.WATCH, watch=scene.watch())
    scene.end(RunOutcome.PROMOTED)
    page.reload()
    button.click()
    expect(notices).to_contain_text("is live, and 2 of your 3 answered parts do not come out as you said")


def test_while_the_trainer_is_away_the_page_stays_and_says_so(scene: TrainingScene, open_page: OpenPage) -> None:
    run = scene.tell(RunStage.TRAINING, share=0.4, doing="epoch 5 of 12")
    page = as_somebody(open_page, scene, "/training", forgiven="Failed to load resource")
    expect(page.get_by_test_id("doing")).to_have_text("epoch 5 of 12")
    scene.trainer.away = UnavailableError("the trainer is away")
    expect(page.get_by_test_id("away")).to_contain_text("The trainer does not answer now")
    expect(page.get_by_test_id("alias-default")).to_contain_text("Version 3 decides")
    expect(page.get_by_test_id("doing")).to_have_text("epoch 5 of 12")
    page.get_by_test_id("run").get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Really cancel? Press again").click()
    expect(page.get_by_role("alert")).to_have_text("That did not work: the trainer does not answer now.")
    scene.trainer.away = None
    scene.tell(RunStage.TRAINING, share=0.6, doing="epoch 8 of 12")
    expect(page.get_by_test_id("away")).to_have_count(0)
    expect(page.get_by_test_id("doing")).to_have_text("epoch 8 of 12")
    # Whoever leaves the page follows nothing any more.
    wait_for(lambda: scene.trainer.watching == 1)
    page.goto("about:blank")
    wait_for(lambda: scene.trainer.watching == 0)
    assert scene.trainer.runs[run.run_id].outcome is None


@pytest.mark.parametrize(("size", "scheme"), [("desk", "dark"), ("tablet", "light")])
def test_the_pages_have_no_accessibility_fault_and_nothing_scrolls_sideways(
    scene: TrainingScene, open_page: OpenPage, size: str, scheme: str
) -> None:
    scene.tell(RunStage.DECISION)
    page = as_somebody(open_page, scene, "/training", size=size, scheme=scheme)
    expect(page.get_by_test_id("answered-part-0000")).to_be_visible()
    assert accessibility_complaints(page) == []
    assert sideways_scroll(page) == 0
    page.goto(f"{scene.dashboard.url}/training/{scene.refused.run_id}")
    page.get_by_role("button", name="Promote all the same").click()
    expect(page.get_by_label("Reason")).to_be_visible()
    assert accessibility_complaints(page) == []
    assert sideways_scroll(page) == 0
    page.goto(f"{scene.dashboard.url}/review")
    expect(page.get_by_test_id("sitting")).to_be_visible()
    page.keyboard.press("l")
    expect(page.get_by_test_id("notices")).to_be_visible()
    assert accessibility_complaints(page, "[data-testid=notices]") == []
