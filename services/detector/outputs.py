"""What is said of a frame: its verdict, its case or what the model saw in it, its dead letter if it cannot be used."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace

import numpy as np

from services.adapters import codec
from services.adapters.ports import Headers, InferenceResult
from services.core import topics
from services.core.decision import decide
from services.core.errors import InvalidInputError, SightlineError
from services.core.preprocessing import combine
from services.core.types import (
    CaseKind,
    Decision,
    ImageRef,
    Inspection,
    OperatingPoint,
    Reason,
    ShadowInspection,
    StageTimings,
    Verdict,
)
from services.detector.job import Answer, Deployment, Job
from services.runtime.outbox import Output
from services.runtime.verdicts import case_output, embedding_output, likeliest_defect, verdict_output

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
        in_time=_in_time(frame.cycle_time_ms, frame.captured_at_ns, now_ns),
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
        in_time=_in_time(frame.cycle_time_ms, frame.captured_at_ns, now_ns),
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


def is_drawn(frame_id: str, share: float, sample: bytes = b"audit") -> bool:
    """Draw a frame for a sample: uniform over ids, and the same answer whenever it is asked.

    Args:
        frame_id: The frame.
        share: Probability of being drawn, in ``[0, 1]``.
        sample: Which sample; what is drawn for one says nothing of another.
    """
    digest = hashlib.blake2b(frame_id.encode(), digest_size=8, person=sample).digest()
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


def keeps_embedding(inspection: Inspection, embedding: np.ndarray, share: float) -> bool:
    """Tell whether what the model saw in a frame that is no case is written."""
    return embedding.size > 0 and is_drawn(inspection.frame_id, share, b"embedding")


def embedding_of(job: Job, inspection: Inspection, embedding: np.ndarray) -> Output:
    """The record of what the model saw in a frame that is no case."""
    return embedding_output(inspection, embedding, job.trace_headers)


def shadow_judged(
    live: Inspection,
    deployment: Deployment,
    result: InferenceResult,
    *,
    fetch_ms: float,
    decode_ms: float,
    infer_ms: float,
    now_ns: int,
) -> ShadowInspection:
    """Decide on a frame as the shadow would.

    Args:
        live: What the live version said.
        deployment: The shadow's, with its own operating point.
        result: What the shadow said of the frame's rows and no others.
        fetch_ms: Spent on fetching the image for the shadow.
        decode_ms: Spent on preparing it for the shadow; 0 where the live version's rows were used.
        infer_ms: From request to answer.
        now_ns: Time of the decision.
    """
    worst, score = combine(result.score)
    disagreement = float(result.disagreement[worst])
    decision = decide(score, deployment.operating_point, disagreement)
    shadow = replace(
        _in_the_shadow(live, deployment, decision, now_ns),
        score=score,
        defect_class=likeliest_defect(deployment.classes, result.probabilities[worst]),
        disagreement=disagreement,
        timings=StageTimings(
            queue_ms=live.timings.queue_ms,
            fetch_ms=fetch_ms,
            decode_ms=decode_ms,
            infer_ms=infer_ms,
            total_ms=max(0.0, (now_ns - live.captured_at_ns) / 1e6),
        ),
    )
    return ShadowInspection(shadow, live.verdict, live.score, live.model_version)


def shadow_silent(live: Inspection, deployment: Deployment, error: SightlineError, now_ns: int) -> ShadowInspection:
    """What is said where the shadow was asked and gave no answer: REVIEW, as of a model that gives no number."""
    decision = decide(math.nan, deployment.operating_point)
    if isinstance(error, InvalidInputError):
        # As the live version's verdict on a frame that it refuses.
        decision = replace(decision, reason=Reason.UNREADABLE_IMAGE)
    shadow = _in_the_shadow(live, deployment, decision, now_ns)
    detail = f"{error.reason}: {error}"[:_DETAIL_CHARACTERS]
    return ShadowInspection(shadow, live.verdict, live.score, live.model_version, detail)


def shadow_of(said: ShadowInspection, headers: Headers) -> Output:
    """The record of what the shadow says."""
    return Output(topics.SHADOW, said.shadow.part_id.encode(), codec.encode_shadow_inspection(said), headers)


def _in_the_shadow(live: Inspection, deployment: Deployment, decision: Decision, now_ns: int) -> Inspection:
    return replace(
        live,
        decided_at_ns=now_ns,
        verdict=decision.verdict,
        reason=decision.reason,
        score=math.nan,
        operating_point=deployment.operating_point,
        uncertainty=decision.uncertainty,
        model_version=deployment.version,
        defect_class="",
        in_time=_in_time(live.cycle_time_ms, live.captured_at_ns, now_ns),
        timings=StageTimings(queue_ms=live.timings.queue_ms),
        detail="",
        disagreement=0.0,
    )


def _in_time(cycle_time_ms: int, captured_at_ns: int, now_ns: int) -> bool:
    return cycle_time_ms == 0 or now_ns - captured_at_ns <= cycle_time_ms * 1_000_000


def _timings(job: Job, infer_ms: float, now_ns: int) -> StageTimings:
    captured_ns = job.frame.captured_at_ns
    return StageTimings(
        queue_ms=max(0.0, (job.taken_at_ns - captured_ns) / 1e6),
        fetch_ms=job.fetch_ms,
        decode_ms=job.decode_ms,
        infer_ms=infer_ms,
        total_ms=max(0.0, (now_ns - captured_ns) / 1e6),
    )
