"""A line that learns: the real dashboard over a trainer that is told, and a real feedback service with its cases."""

from __future__ import annotations

import hashlib
import math
import time
from dataclasses import replace
from pathlib import Path

from services.core import alias as transitions
from services.core.promotion import Gate, GateName, GateState, PromotionReport
from services.core.training_run import (
    AnsweredPart,
    CandidateReport,
    Confusion,
    EpochLoss,
    FlippedPart,
    Loss,
    Recipe,
    RunOutcome,
    RunStage,
    RunTrigger,
    ShadowFigures,
    SnapshotSummary,
    TrainingRun,
    WatchFigures,
    new_run_id,
)
from services.core.types import AliasState, Inspection, Verdict
from services.dashboard.models import ModelBoard
from tests.e2e.dashboard_feed import DEMO_CAMERAS, DashboardUnderTest
from tests.support.feedback_station import FeedbackStation
from tests.support.told_trainer import ToldTrainer

MINUTE_NS = 60_000_000_000
EPOCHS = 12
SNAPSHOT = SnapshotSummary(
    hashlib.sha256(b"data").hexdigest(), 412, 286, 61, 2, (("contradicted", 2), ("not_sure", 5), ("held_out", 9))
)


class TrainingScene:
    """The line, with a trainer that does as it is told.

    Attributes:
        run: The run that goes on.
        refused: One from before, which carries answers of Ada and Bob.
    """

    def __init__(self, folder: Path, **dashboard: object) -> None:
        self.station = FeedbackStation(folder)
        self.cases = [
            self.station.add_case(number, Verdict.PASS if number % 3 == 2 else Verdict.FAIL) for number in range(6)
        ]
        self.board = ModelBoard()
        self.board.set_read()
        self.trainer = ToldTrainer(new_reviews={"default": 14}, reviews_wanted=20)
        self.trainer.on_alias = self.board.add
        now_ns = time.time_ns()
        self.trainer.point(
            AliasState(
                "default",
                7,
                3,
                previous_version=2,
                candidate_versions=(4, 5),
                actor="mira",
                at_ns=now_ns - 300 * MINUTE_NS,
            )
        )
        self.dashboard = DashboardUnderTest(
            DEMO_CAMERAS[:2],
            pictures=4,
            feedback=self.station.client,
            models=self.board,
            store=self.station.store,
            trainer=self.trainer,
            **dashboard,  # type: ignore[arg-type]
        ).start()
        self.frames = [self.dashboard.publish_part()[0] for _ in range(3)]
        self.refused = self.trainer.put(self._refused(now_ns - 95 * MINUTE_NS))
        self.trainer.put(
            replace(
                self._ended(now_ns - 300 * MINUTE_NS),
                candidate_version=3,
                live_version=2,
                outcome=RunOutcome.PROMOTED,
                authors=("ada",),
            )
        )
        self.trainer.put(
            replace(
                self._ended(now_ns - 700 * MINUTE_NS),
                live_version=2,
                outcome=RunOutcome.FAILED,
                reason="out_of_memory",
                detail="the training process was ended by the system",
                attempts=3,
            )
        )
        self.run: TrainingRun = replace(
            self._ended(now_ns - 6 * MINUTE_NS),
            stage=RunStage.WAITING,
            stage_since_ns=now_ns - 6 * MINUTE_NS,
            ended_at_ns=0,
            authors=("ada", "bob"),
            trigger=RunTrigger.HAND,
            actor="ada",
            note="dents at the rim were missed on Monday",
        )

    def close(self) -> None:
        """End everything."""
        self.dashboard.stop()
        self.station.close()

    def tell(self, stage: RunStage, **changes: object) -> TrainingRun:
        """Move the run on to a stage, with what it has by then."""
        order = list(RunStage).index(stage)
        has: dict[str, object] = {"share": 0.0, "doing": ""}
        if order >= 1:
            has["snapshot"] = SNAPSHOT
        if order >= 2:
            has |= {"attempts": 1, "epochs": epochs(5 if stage is RunStage.TRAINING else EPOCHS)}
        if order >= 4:
            has |= {"candidate_version": 5, "report": self.report()}
        if order >= 5:
            has["shadow"] = self.shadow(120 if stage is RunStage.SHADOW else 300)
        self.run = replace(
            self.run,
            **{"stage": stage, "stage_since_ns": time.time_ns(), **has, **changes},  # type: ignore[arg-type]
        )
        return self.trainer.put(self.run)

    def end(self, outcome: RunOutcome, reason: str = "", detail: str = "") -> TrainingRun:
        """End the run."""
        self.run = replace(
            self.run,
            stage=RunStage.ENDED,
            outcome=outcome,
            reason=reason,
            detail=detail,
            ended_at_ns=time.time_ns(),
            share=0.0,
            doing="",
        )
        return self.trainer.put(self.run)

    def go_live(self) -> AliasState:
        """Let the run's version decide, as the trainer does by itself."""
        state = self.trainer.aliases["default"]
        return self.trainer.point(transitions.promote(state, 5, actor="trainer", at_ns=time.time_ns()))

    def report(self, broken: GateName | None = None) -> CandidateReport:
        """What the candidate proved: all but one of the answered parts come out as people said."""
        gates = (
            Gate(GateName.MCC, GateState.KEPT, 0.861, 0.902, 0.841, 0.008, 0.081, 240),
            Gate(GateName.ESCAPES, GateState.KEPT, 4, 2, 4, n=80),
            Gate(GateName.EXPLANATION, GateState.KEPT, 0.412, 0.455, 0.392, n=71),
            Gate(GateName.CALIBRATION, GateState.KEPT, 0.031, 0.025, 0.05, 0.006, 0.078, 80),
            Gate(GateName.LATENCY, GateState.NOT_MEASURED, math.nan, math.nan, math.nan),
        )
        if broken is GateName.MCC:
            gates = (Gate(GateName.MCC, GateState.BROKEN, 0.861, 0.794, 0.841, -0.121, -0.013, 240), *gates[1:])
        return CandidateReport(
            live_version=3,
            promotion=PromotionReport(gates),
            live=Confusion(148, 7, 5, 4, 9, 67),
            candidate=Confusion(151, 6, 3, 2, 8, 70),
            flips=(
                FlippedPart("hold-0114", "disc", "dent", Verdict.PASS, Verdict.FAIL, 0.31, 0.88),
                FlippedPart("hold-0071", "disc", "scratch", Verdict.PASS, Verdict.REVIEW, 0.44, 0.61),
                FlippedPart("hold-0203", "disc", "good", Verdict.FAIL, Verdict.PASS, 0.71, 0.22),
            ),
            answered=(
                self._answered(0, "good", Verdict.FAIL, 0.83, right=False, reviewers=("ada",)),
                self._answered(2, "dent", Verdict.FAIL, 0.91, region_right=False, reviewers=("ada", "bob")),
                self._answered(1, "good", Verdict.PASS, 0.12, reviewers=("bob",)),
                self._answered(5, "dent", Verdict.FAIL, 0.77, reviewers=("ada",)),
            ),
            train_parts=412,
            lessons=61,
            holdout_parts=240,
        )

    def _answered(
        self,
        number: int,
        label: str,
        verdict: Verdict,
        score: float,
        *,
        reviewers: tuple[str, ...],
        right: bool = True,
        region_right: bool = True,
    ) -> AnsweredPart:
        part_id = f"part-{number:04d}"
        return AnsweredPart(
            image_sha256=hashlib.sha256(part_id.encode()).hexdigest(),
            part_id=part_id,
            review_ids=(),
            label=label,
            verdict=verdict,
            score=score,
            verdict_corrected=True,
            verdict_right=right,
            region_corrected=label != "good",
            region_right=region_right,
            case_ids=(self.cases[number],),
            reviewers=reviewers,
        )

    def shadow(self, frames: int) -> ShadowFigures:
        """How the candidate does beside the live version."""
        flips = tuple(map(_flip, self.frames[:2]))
        return ShadowFigures(frames, 300, 0, frames - 2, round(frames * 0.09), round(frames * 0.1), flips)

    def watch(self) -> WatchFigures:
        """How the line does with the new version."""
        return WatchFigures(480, 45, 1, 480, 44, 0, time.time_ns() + 20 * MINUTE_NS)

    def _ended(self, at_ns: int) -> TrainingRun:
        return TrainingRun(
            run_id=new_run_id(at_ns, hashlib.sha256(str(at_ns).encode()).digest()),
            alias="default",
            trigger=RunTrigger.REVIEWS,
            actor="trainer",
            requested_at_ns=at_ns,
            recipe=Recipe.FINETUNE,
            loss=Loss.CEOD,
            seed=7,
            promotes_itself=False,
            stage=RunStage.ENDED,
            stage_since_ns=at_ns,
            ended_at_ns=at_ns + 9 * MINUTE_NS,
            live_version=3,
        )

    def _refused(self, at_ns: int) -> TrainingRun:
        return replace(
            self._ended(at_ns),
            candidate_version=4,
            outcome=RunOutcome.REFUSED,
            reason="mcc",
            detail="MCC falls from 0.861 to 0.794, at least 0.841 is wanted",
            report=self.report(broken=GateName.MCC),
            snapshot=SNAPSHOT,
            epochs=epochs(EPOCHS),
            authors=("ada", "bob"),
            attempts=1,
        )


def epochs(count: int) -> tuple[EpochLoss, ...]:
    """Losses that fall, those of the validation less."""
    return tuple(
        EpochLoss(
            one, 0.12 + 0.58 * math.exp(-one / 3), 0.21 + 0.5 * math.exp(-one / 2.6) + 0.002 * one, 0.6 - 0.02 * one
        )
        for one in range(1, count + 1)
    )


def _flip(seen: Inspection) -> FlippedPart:
    after = Verdict.REVIEW if seen.verdict is not Verdict.REVIEW else Verdict.FAIL
    return FlippedPart(seen.part_id, seen.product, "", seen.verdict, after, seen.score, 0.64, frame_id=seen.frame_id)
