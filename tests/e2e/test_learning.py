"""The line learns, as one story: thirty corrections, a training, its gates, a swap without a gap, and the way back."""

from __future__ import annotations

import json
import signal
import time
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from services.adapters.feedbackclient import FeedbackClient
from services.adapters.trainerclient import TrainerClient
from services.core.promotion import GateState
from services.core.training_run import RunOutcome, RunStage, TrainingRun
from services.local.linefile import read_addresses, read_setting
from services.local.process import free_port
from services.local.tools import REPOSITORY_ROOT
from tests.support.running_line import RunningLine
from tests.support.simulated_operator import SimulatedOperator

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

ALIAS = "default"
CAMERAS = REPOSITORY_ROOT / "tests" / "support" / "free_cameras.yaml"
ANSWERS = 30
#: Which parts come by, and so what is answered, differs from run to run: now and then a gate refuses what was learnt
#: from thirty answers. Then the operator does what an operator does, and answers on.
MOST_ROUNDS = 4
LONG_S = 600.0


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.loads(answer.read())


@pytest.fixture
def line(tmp_path: Path) -> Iterator[RunningLine]:
    line = RunningLine(tmp_path / "data", free_port())
    line.wait_until_up(300)
    try:
        yield line
    finally:
        assert line.stop(signal.SIGTERM) == 0, line.output.read_text()


def until(what: str, met: Any, timeout_s: float) -> Any:
    end_s = time.monotonic() + timeout_s
    while True:
        if found := met():
            return found
        assert time.monotonic() < end_s, f"{what} did not come within {timeout_s:.0f} s"
        time.sleep(0.3)


def next_run(trainer: TrainerClient, after: TrainingRun | None) -> TrainingRun | None:
    """The newest run, if it is not the one that is known."""
    runs = trainer.list_runs(alias=ALIAS).runs
    return runs[0] if runs and (after is None or runs[0].run_id != after.run_id) else None


def follow(trainer: TrainerClient, run: TrainingRun) -> tuple[TrainingRun, list[RunStage]]:
    """Watch a run until its candidate decides, or the run has ended; with the stages that it went through."""
    seen: list[RunStage] = []
    for one in trainer.watch_run(run.run_id, timeout_s=LONG_S):
        run = one
        if not seen or seen[-1] is not one.stage:
            seen.append(one.stage)
        if one.stage is RunStage.WATCH or one.has_ended:
            break
    return run, seen


def live_version(page: str) -> int:
    """The version that the newest part of the wall was judged by."""
    wall = get(f"{page}/api/v1/wall")
    parts = [part for line in wall["lines"] for camera in line["cameras"] for part in camera["latest"]]
    return int(max(parts, key=lambda part: part["captured_at_ms"])["model_version"]) if parts else 0


def test_corrections_become_a_model_that_proves_itself_goes_live_and_comes_back(line: RunningLine) -> None:
    page = read_addresses(line.data)["page"]
    feedback = FeedbackClient(read_setting(line.data, "feedback", "address"))
    trainer = TrainerClient(read_setting(line.data, "trainer", "address"))
    operator = SimulatedOperator(feedback, CAMERAS)

    run: TrainingRun | None = None
    rounds = 0
    while rounds < MOST_ROUNDS:
        rounds += 1
        operator.answer(ANSWERS, LONG_S)
        corrected_at_s = time.monotonic()
        run, seen = follow(trainer, until("a run by itself", partial(next_run, trainer, run), 180))
        if run.stage is RunStage.WATCH:
            break
        assert run.outcome is RunOutcome.REFUSED, f"{run.outcome} {run.reason}: {run.detail}"
        print(f"refused: {run.detail}")
        assert live_version(page) == 1
    assert run is not None
    assert run.stage is RunStage.WATCH, f"{MOST_ROUNDS} candidates were refused, the last for: {run.detail}"
    until("the new model on the wall", lambda: live_version(page) == run.candidate_version, 180)
    for gate in run.report.promotion.gates if run.report else ():
        print(f"{gate.name.value}: {gate.live:.3f} -> {gate.candidate:.3f} ({gate.state.value})")
    print(f"from the answer to the model that decides: {time.monotonic() - corrected_at_s:.0f} s")

    assert run.candidate_version > 1
    assert run.authors == (operator.name,)
    assert run.snapshot is not None
    assert run.snapshot.reviews >= rounds * ANSWERS - sum(count for _, count in run.snapshot.left_out)
    assert run.report is not None
    assert {gate.state for gate in run.report.promotion.gates} <= {GateState.KEPT, GateState.NOT_MEASURED}
    assert run.shadow is not None
    assert run.shadow.frames > 0
    assert set(seen) >= {RunStage.TRAINING, RunStage.SHADOW, RunStage.WATCH}

    changes = until("what the corrections changed", lambda: get(f"{page}/api/v1/changes?limit=1")["changes"], 180)
    assert changes[0]["live_version"] == run.candidate_version

    run = until("the end of the watch", lambda: (one := trainer.get_run(run.run_id)).has_ended and one, 300)
    assert run.outcome is RunOutcome.PROMOTED
    shown = get(f"{page}/api/v1/training/runs/{run.run_id}")
    assert shown["outcome"] == "promoted"

    state = trainer.roll_back(ALIAS, operator.name, note="a look at the way back")
    assert (state.live_version, state.previous_version) == (1, run.candidate_version)
    until("the first model on the wall again", lambda: live_version(page) == 1, 180)
    feedback.close()
    trainer.close()
