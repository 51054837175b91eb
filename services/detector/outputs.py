"""What is said of a frame: its verdict, its case if it is worth a look, its dead letter if it cannot be used."""

from __future__ import annotations

import hashlib
import math

import numpy as np

from services.adapters.ports import InferenceResult
from services.core.decision import decide
from services.core.errors import SightlineError
from services.core.preprocessing import combine
from services.core.types import (
    CaseKind,
    ImageRef,
    Inspection,
    OperatingPoint,
    Reason,
    StageTimings,
    Verdict,
)
from services.detector.job import Answer, Job
from services.runtime.outbox import Output
from services.runtime.verdicts import case_output, likeliest_defect, verdict_output

#: Cuts of a verdict that no model gave.
NO_OPERATING_POINT = OperatingPoint(math.nan, math.nan, math.nan)
_DETAIL_CHARACTERS = 500


def judge(job: Job, result: InferenceResult, first_row: int, infer_ms: float, now_ns: int) -> Answer:
    """Decide on a frame from its rows of a batch's result.

    Args:
        job: The frame; its deployment is set.
        result: What the model said of the whole batch.
        first_row: Where the frame's rows begin.
        infer_ms: From request to answer.
        now_ns: Time of the decision.
    """
    deployment, frame = job.deployment, job.frame
    if deployment is None or job.rows is None:
        raise ValueError(f"a frame must be prepared before it is judged, got {frame.frame_id} without rows")
    worst, score = combine(result.score[first_row : first_row + len(job.rows)])
    # Of the row that the score is of, as probabilities and embedding are.
    disagreement = float(result.disagreement[first_row + worst])
    decision = decide(score, deployment.operating_point, disagreement)
    probabilities = result.probabilities[first_row + worst]
    inspection = Inspection(
        frame_id=frame.frame_id,
        part_id=frame.part_id,
        line_id=frame.line_id,
        camera_id=frame.camera_id,
        product=frame.product,
        sequence=frame.sequence,
        captured_at_ns=frame.captured_at_ns,
        decided_at_ns=now_ns,
        verdict=decision.verdict,
        reason=decision.reason,
        score=score,
        operating_point=deployment.operating_point,
        uncertainty=decision.uncertainty,
        alias=deployment.alias,
        model_version=deployment.version,
        defect_class=likeliest_defect(deployment.classes, probabilities),
        cycle_time_ms=frame.cycle_time_ms,
        in_time=_in_time(job, now_ns),
        timings=_timings(job, infer_ms, now_ns),
        image_ref=frame.image_ref,
        position=job.record.position if job.record is not None and frame.image_ref is None else None,
        trace_id=job.trace_id,
        disagreement=disagreement,
    )
    return Answer(inspection, deployment.classes, probabilities, result.embedding[first_row + worst])


def unreadable(job: Job, error: SightlineError, now_ns: int) -> Inspection:
    """The verdict on a frame whose image cannot be used: a person must look, no model did."""
    frame = job.frame
    return Inspection(
        frame_id=frame.frame_id,
        part_id=frame.part_id,
        line_id=frame.line_id,
        camera_id=frame.camera_id,
        product=frame.product,
        sequence=frame.sequence,
        captured_at_ns=frame.captured_at_ns,
        decided_at_ns=now_ns,
        verdict=Verdict.REVIEW,
        reason=Reason.UNREADABLE_IMAGE,
        score=math.nan,
        operating_point=NO_OPERATING_POINT,
        uncertainty=1.0,
        alias=job.alias,
        model_version=0,
        cycle_time_ms=frame.cycle_time_ms,
        in_time=_in_time(job, now_ns),
        timings=_timings(job, 0.0, now_ns),
        image_ref=frame.image_ref,
        position=job.record.position if job.record is not None and frame.image_ref is None else None,
        detail=f"{error.reason}: {error}"[:_DETAIL_CHARACTERS],
        trace_id=job.trace_id,
    )


def case_kind(inspection: Inspection, audit_share: float) -> CaseKind | None:
    """Tell whether, and why, a frame is worth a person's look."""
    if inspection.verdict is Verdict.FAIL:
        return CaseKind.FAIL
    if inspection.verdict is Verdict.REVIEW:
        return CaseKind.REVIEW
    return CaseKind.AUDIT if is_drawn(inspection.frame_id, audit_share) else None


def is_drawn(frame_id: str, share: float) -> bool:
    """Draw a frame for the audit sample: uniform over ids, and the same answer whenever it is asked.

    Args:
        frame_id: The frame.
        share: Probability of being drawn, in ``[0, 1]``.
    """
    digest = hashlib.blake2b(frame_id.encode(), digest_size=8, person=b"audit").digest()
    return int.from_bytes(digest, "big") < share * 2.0**64


def verdict_of(inspection: Inspection, job: Job) -> Output:
    """The record of a verdict."""
    return verdict_output(inspection, job.trace_headers)


def case_of(
    job: Job, inspection: Inspection, kind: CaseKind, audit_share: float, embedding: np.ndarray | None
) -> Output:
    """The record of a case, with its image inline unless it came, or was put, into the object store."""
    ref: ImageRef | None = job.frame.image_ref or job.case_ref
    return case_output(
        inspection,
        kind,
        sampling_probability=audit_share if kind is CaseKind.AUDIT else 1.0,
        embedding=embedding,
        image=job.frame.image if ref is None else None,
        image_ref=ref,
        headers=job.trace_headers,
    )


def _in_time(job: Job, now_ns: int) -> bool:
    limit_ms = job.frame.cycle_time_ms
    return limit_ms == 0 or now_ns - job.frame.captured_at_ns <= limit_ms * 1_000_000


def _timings(job: Job, infer_ms: float, now_ns: int) -> StageTimings:
    captured_ns = job.frame.captured_at_ns
    return StageTimings(
        queue_ms=max(0.0, (job.taken_at_ns - captured_ns) / 1e6),
        fetch_ms=job.fetch_ms,
        decode_ms=job.decode_ms,
        infer_ms=infer_ms,
        total_ms=max(0.0, (now_ns - captured_ns) / 1e6),
    )
