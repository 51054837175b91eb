"""How long people wait for what they taught: from the last answer that sets a training off to the model that decides.

The whole line of ``sightline run`` with its four simulated cameras and the default backbone. A simulated operator, who
knows the truth, answers cases as they come; the last answer sets the run off. The clock stops when the detector decides
by the new version. Times of the stages are the run's own.

``python -m tests.bench.review_to_live [--answers 300]``; a table, and ``build/bench/review_to_live.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from services.adapters.feedbackclient import FeedbackClient
from services.adapters.trainerclient import TrainerClient
from services.core.training_run import TrainingRun
from services.local.line import Line, LinePlan
from services.local.member import metric_total
from services.local.process import free_port
from services.local.tools import REPOSITORY_ROOT
from tests.support.simulated_operator import SimulatedOperator

OUT: Final = Path("build/bench/review_to_live.json")
CAMERAS: Final = REPOSITORY_ROOT / "tests" / "support" / "free_cameras.yaml"
ALIAS: Final = "default"
#: Longest it may take on two cores.
AIM_S: Final = 180.0
CONSOLE: Final = Console(highlight=False)
_LONG_S: Final = 3_600.0
_ASK_S: Final = 0.25


def main() -> int:
    """Measure, print and keep; 0 when the new version went live."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=300)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sightline-review-to-live-") as folder:
        result = run(Path(folder), options.answers)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    show(result)
    return 0 if result["outcome"] == "live" else 1


def run(folder: Path, answers: int) -> dict[str, Any]:
    """Answer so many parts of a line, and wait for the model that learnt them."""
    with _line(folder, answers) as line:
        settings = line.command_settings()
        feedback = FeedbackClient(settings["FEEDBACK__ADDRESS"])
        trainer = TrainerClient(settings["TRAINER__ADDRESS"])
        operator = SimulatedOperator(feedback, CAMERAS)
        for given in range(0, answers, 10):
            operator.answer(min(10, answers - given), _LONG_S)
            CONSOLE.print(f"{min(given + 10, answers)} of {answers} answered", end="\r")
        load, answered_s = os.getloadavg()[0], time.monotonic()
        stages: list[tuple[str, float]] = []
        while not (runs := trainer.list_runs(alias=ALIAS).runs):
            time.sleep(_ASK_S)
        while True:
            one = trainer.get_run(runs[0].run_id)
            if not stages or stages[-1][0] != one.stage.value:
                stages.append((one.stage.value, time.monotonic() - answered_s))
            if one.has_ended or _decides(line) == one.candidate_version:
                break
            time.sleep(_ASK_S)
        took_s = time.monotonic() - answered_s
        feedback.close()
        trainer.close()
    return {
        "schema": 1,
        "answers": answers,
        "corrected_verdicts": sum(said.corrected_verdict for said in operator.said),
        "outcome": one.outcome.value if one.outcome else "live",
        "reason": one.detail,
        "seconds": took_s,
        "aim_s": AIM_S,
        "stages": [{"stage": name, "began_s": began_s} for name, began_s in stages],
        "gates": _gates(one),
        "lessons": one.report.lessons if one.report else 0,
        "load_average": [load, os.getloadavg()[0]],
    }


def _gates(one: TrainingRun) -> dict[str, list[float]]:
    gates = one.report.promotion.gates if one.report else ()
    return {gate.name.value: [gate.live, gate.candidate] for gate in gates}


def _decides(line: Line) -> int:
    return int(metric_total(line.members["detector"].metrics(), "sightline_detector_live_version"))


@contextmanager
def _line(folder: Path, answers: int) -> Iterator[Line]:
    settings = {"trainer": {"TRIGGERS__AFTER_REVIEWS": str(answers)}}
    line = Line(LinePlan(folder / "data", CAMERAS, "memory", page_port=free_port(), settings=settings))
    ended = threading.Event()

    def look_after() -> None:
        while not ended.wait(0.5):
            for told in line.watch():
                CONSOLE.print(told)

    watching = threading.Thread(target=look_after, name="watch", daemon=True)
    try:
        line.start()
        line.start_ingest()
        watching.start()
        yield line
    finally:
        ended.set()
        if watching.is_alive():
            watching.join(30)
        line.stop()


def show(result: dict[str, Any]) -> None:
    """Print it."""
    table = Table("stage", "begins after s", box=None, title=f"{result['answers']} answers")
    for row in result["stages"]:
        table.add_row(row["stage"], f"{row['began_s']:.1f}")
    CONSOLE.print(table)
    CONSOLE.print(
        f"{result['outcome']} {result['seconds']:.0f} s after the last answer (aim {AIM_S:.0f}), "
        f"{result['lessons']} lessons, {result['corrected_verdicts']} verdicts corrected. {result['reason']}"
    )
    for name, (live, candidate) in result["gates"].items():
        CONSOLE.print(f"  {name}: {live:.3f} -> {candidate:.3f}")


if __name__ == "__main__":
    raise SystemExit(main())
