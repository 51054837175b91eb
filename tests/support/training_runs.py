"""A run of the trainer with everything that a run may carry."""

from __future__ import annotations

import hashlib
import math

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
from services.core.types import Verdict
from tests.support.cases import queued_case

SECOND_NS = 1_000_000_000
BEGAN_NS = 1_790_000_000 * SECOND_NS
REVIEW_ID = "6ba7b810-9dad-41d1-80b4-00c04fd430c8"
SHA256 = hashlib.sha256(b"part").hexdigest()
CASE = queued_case(1)

FLIP = FlippedPart("part-7", "disc", "dent", Verdict.PASS, Verdict.FAIL, 0.1, 0.9)
LIVE_FLIP = FlippedPart("part-8", "disc", "", Verdict.REVIEW, Verdict.PASS, 0.5, 0.2, frame_id=CASE.inspection.frame_id)
ANSWERED = AnsweredPart(
    image_sha256=SHA256,
    part_id="part-1",
    review_ids=(REVIEW_ID,),
    label="good",
    verdict=Verdict.PASS,
    score=0.1,
    verdict_corrected=True,
    verdict_right=True,
    region_corrected=False,
    region_right=False,
    case_ids=(CASE.case_id,),
    reviewers=("ada",),
)


def report(*, broken: GateName | None = None, live_version: int = 1) -> CandidateReport:
    """What a candidate proved; one gate is broken where that is asked for."""
    gates = (
        Gate(GateName.MCC, GateState.KEPT, 0.8, 0.85, 0.78, -0.01, 0.1, 40),
        Gate(GateName.ESCAPES, GateState.KEPT, 1, 1, 1, n=20),
        Gate(GateName.EXPLANATION, GateState.NOT_MEASURED, math.nan, math.nan, math.nan),
        Gate(GateName.CALIBRATION, GateState.KEPT, 0.02, 0.03, 0.05, 0.01, 0.06, 20),
        Gate(GateName.LATENCY, GateState.KEPT, 3.0, 3.1, math.inf, n=40),
    )
    return CandidateReport(
        live_version=live_version,
        promotion=PromotionReport(
            tuple(
                Gate(gate.name, GateState.BROKEN, 0.8, 0.5, 0.78, n=40) if gate.name is broken else gate
                for gate in gates
            )
        ),
        live=Confusion(18, 1, 1, 1, 2, 17),
        candidate=Confusion(19, 1, 0, 1, 1, 18),
        flips=(FLIP,),
        answered=(ANSWERED,),
        train_parts=300,
        lessons=12,
        holdout_parts=40,
    )


def training_run(at: int = 0, alias: str = "default", *, ended: bool = True, **changes: object) -> TrainingRun:
    """A run with everything that a run may carry.

    Args:
        at: Seconds after the first one; tells runs apart.
        alias: Of which alias.
        ended: Whether it is over.
        changes: Fields with other values.
    """
    began_ns = BEGAN_NS + at * SECOND_NS
    values: dict[str, object] = {
        "run_id": new_run_id(began_ns, hashlib.sha256(f"{alias}{at}".encode()).digest()),
        "alias": alias,
        "trigger": RunTrigger.REVIEWS,
        "actor": "trainer",
        "requested_at_ns": began_ns,
        "recipe": Recipe.FINETUNE,
        "loss": Loss.CEOD,
        "seed": 3,
        "promotes_itself": True,
        "note": "so that dents\nare found",
        "stage": RunStage.ENDED if ended else RunStage.TRAINING,
        "stage_since_ns": began_ns + 5,
        "ended_at_ns": began_ns + 5 if ended else 0,
        "outcome": RunOutcome.ROLLED_BACK if ended else None,
        "reason": "flagged" if ended else "",
        "detail": "too many parts were thrown out" if ended else "",
        "share": 0.5,
        "doing": "epoch 2 of 4",
        "live_version": 1,
        "candidate_version": 2,
        "snapshot": SnapshotSummary(SHA256, 30, 12, 33, 1, (("contradicted", 1), ("held_out", 2))),
        "epochs": (EpochLoss(1, 0.7, 0.8, 0.4), EpochLoss(2, 0.5, 0.6, 0.3)),
        "report": report(),
        "shadow": ShadowFigures(20, 20, 1, 19, 3, 2, (LIVE_FLIP,)),
        "watch": WatchFigures(100, 40, 1, 90, 9, 0, began_ns + 60 * SECOND_NS),
        "authors": ("ada", "bob"),
        "attempts": 2,
    }
    return TrainingRun(**{**values, **changes})  # type: ignore[arg-type]  # the callers name fields of the class
