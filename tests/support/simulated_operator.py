"""An operator who knows the truth of the simulated line and answers cases by it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from services.adapters.feedbackclient import CaseView, FeedbackClient
from services.adapters.ports import CaseFilter, QueueOrder
from services.core.review import Answer, CaseState, QueuedCase, Review, ReviewAction
from services.core.review_mask import encode_mask
from services.core.simulation.line import SimulatedPart, draw_part
from services.core.types import Verdict


@dataclass(frozen=True, slots=True)
class Said:
    """One answer that was given."""

    case: QueuedCase
    truth: SimulatedPart
    review_id: str

    @property
    def corrected_verdict(self) -> bool:
        """Whether the model had said otherwise, or had asked."""
        return self.case.inspection.verdict is not (Verdict.FAIL if self.truth.is_defective else Verdict.PASS)


class SimulatedOperator:
    """Answers open cases, the most telling first; a verdict by the truth, a reason by the exact mask.

    Args:
        feedback: Takes the answers.
        cameras: The ``cameras.yaml`` of the line: what each camera draws.
        name: Of the person.
    """

    def __init__(self, feedback: FeedbackClient, cameras: Path, name: str = "ada") -> None:
        self._feedback = feedback
        found: list[dict[str, Any]] = yaml.safe_load(cameras.read_text())["cameras"]
        self._cameras: Mapping[str, dict[str, Any]] = {one["camera_id"]: one for one in found}
        self.name = name
        self.said: list[Said] = []

    def truth(self, case: QueuedCase) -> SimulatedPart:
        """What is true of a part; its id ends in the seed that it was drawn from."""
        camera = self._cameras[case.inspection.camera_id]
        source = camera["source"]
        return draw_part(
            camera["product"],
            int(case.inspection.part_id.rpartition("-")[2]),
            defect_rate=source["defect_rate"],
            size_px=source.get("size_px", 320),
            view=source["view"],
        )

    def answer(self, wanted: int, timeout_s: float, *, only_wrong: bool = False) -> list[Said]:
        """Answer so many cases as they come in.

        Args:
            wanted: How many.
            timeout_s: Longest time for it.
            only_wrong: Leave what the model said rightly to others.

        Returns:
            What was said.
        """
        end_s = time.monotonic() + timeout_s
        given: list[Said] = []
        passed_over: set[str] = set()
        while len(given) < wanted:
            assert time.monotonic() < end_s, f"{wanted} cases must come within {timeout_s:.0f} s, {len(given)} did"
            page = self._feedback.list_queue(
                CaseFilter(state=CaseState.OPEN), QueueOrder.BY_GAIN, limit=100, timeout_s=20
            )
            fresh = [case for case in page.cases if case.case_id not in passed_over]
            if not fresh:
                time.sleep(0.3)
                continue
            for case in fresh[: wanted - len(given)]:
                said = self._answer(case, only_wrong=only_wrong)
                passed_over.add(case.case_id)
                if said is not None:
                    given.append(said)
        self.said += given
        return given

    def _answer(self, case: QueuedCase, *, only_wrong: bool) -> Said | None:
        truth = self.truth(case)
        wanted = Verdict.FAIL if truth.is_defective else Verdict.PASS
        given = case.inspection.verdict
        if only_wrong and given is wanted:
            return None
        view = self._feedback.get_case(case.case_id, timeout_s=20)
        verdict_right = Answer.NO if given is not wanted and given is not Verdict.REVIEW else Answer.YES
        reason = Answer.NOT_ASKED
        if given is wanted and truth.is_defective and case.shown_method:
            reason = Answer.YES if _lies_within(view, truth) else Answer.NO
        mask = b""
        if truth.is_defective and reason is not Answer.YES:
            mask = encode_mask(truth.mask)
        review = Review(
            review_id=str(uuid.uuid4()),
            case_id=case.case_id,
            frame_id=case.inspection.frame_id,
            action=ReviewAction.ANSWER,
            reviewer=self.name,
            reviewed_at_ns=0,
            verdict_right=verdict_right,
            reason_right=reason,
            corrected_verdict=wanted if given is not wanted else None,
            defect_class=truth.defect_class,
            alias=case.inspection.alias,
            model_version=case.inspection.model_version,
            shown_method=case.shown_method if reason is not Answer.NOT_ASKED else "",
            said_at_ns=time.time_ns(),
        )
        taken, _ = self._feedback.submit(review, mask, timeout_s=20)
        return Said(case, truth, taken.review_id)


def _lies_within(view: CaseView, truth: SimulatedPart) -> bool:
    """Whether the hottest point of the map that is shown first lies on the defect."""
    heat = next((one.map for one in view.explanations if one.map.size), None)
    if heat is None or not np.isfinite(heat).any():
        return False
    row, column = np.unravel_index(int(np.nanargmax(heat)), heat.shape)
    height, width = truth.mask.shape
    y, x = int((row + 0.5) * height / heat.shape[0]), int((column + 0.5) * width / heat.shape[1])
    return bool(truth.mask[y, x])
