"""Weeks of a plant as the statistics have them: counts for each quarter of an hour, cases, and what people said."""

from __future__ import annotations

import random

from services.adapters.caseindex import SqlCaseIndex
from services.adapters.ports import TopicPartition, VerdictCounts, VerdictToCount
from services.core.review import QueuedCase, Review
from services.core.statistics import Inspected
from services.core.types import Verdict
from tests.support.cases import SECOND_NS, queued_case, review, wrong

#: Line, camera, product, defect rate, share of REVIEW.
CAMERAS = (
    ("line-a", "line-a-top", "disc", 0.031, 0.012),
    ("line-a", "line-a-side", "disc", 0.012, 0.02),
    ("line-b", "line-b-top", "plate", 0.058, 0.03),
    ("line-b", "line-b-edge", "gear", 0.008, 0.006),
)
AUDIT_SHARE = 0.05
_QUARTER_S = 900


def fill_line(
    index: SqlCaseIndex, counts: VerdictCounts, *, until_s: int, hours: int, each: int = 40, uneven: float = 0.0
) -> None:
    """Count ``each`` inspections of each camera in each quarter of an hour, and review some of the cases.

    Args:
        index: Gets cases and reviews.
        counts: Gets verdicts.
        until_s: The end, seconds since the epoch.
        hours: Before it.
        each: Inspections of a camera in a quarter of an hour.
        uneven: By what share their number differs from quarter to quarter, at most.
    """
    dice, pace = random.Random(11), random.Random(12)
    offsets = dict.fromkeys(range(len(CAMERAS)), 0)
    number = 0
    for begins_s in range(until_s - hours * 3_600, until_s, _QUARTER_S):
        verdicts: list[VerdictToCount] = []
        cases: list[QueuedCase] = []
        answers: list[Review] = []
        for partition, (line_id, camera_id, product, defects, asks) in enumerate(CAMERAS):
            # Nights are worse on one line, so that shifts differ.
            worse = 1.8 if line_id == "line-b" and (begins_s // 3_600) % 24 < 6 else 1.0
            version = 4 if until_s - begins_s < hours * 1_800 else 3
            parts = round(each * pace.uniform(1 - uneven, 1 + uneven))
            for place in range(parts):
                said = dice.choices(
                    (Verdict.FAIL, Verdict.REVIEW, Verdict.PASS), (defects * worse, asks, 1 - defects * worse - asks)
                )[0]
                at_s = begins_s + place * _QUARTER_S // parts
                verdicts.append(
                    VerdictToCount(
                        TopicPartition("verdicts", partition),
                        offsets[partition],
                        at_s * 1_000,
                        Inspected(line_id, camera_id, product, "default", version),
                        at_s,
                        said,
                        in_time=dice.random() > 0.004,
                    )
                )
                offsets[partition] += 1
                if said is Verdict.PASS and dice.random() >= AUDIT_SHARE:
                    continue
                case = queued_case(
                    number,
                    said,
                    captured_at_ns=at_s * SECOND_NS,
                    line_id=line_id,
                    camera_id=camera_id,
                    product=product,
                    model_version=version,
                    sampling_probability=AUDIT_SHARE if said is Verdict.PASS else 1.0,
                )
                number += 1
                cases.append(case)
                if dice.random() < 0.4 and said is not Verdict.REVIEW:
                    answer = wrong if dice.random() < (0.08 if said is Verdict.FAIL else 0.02) else review
                    answers.append(answer(case))
        index.add_cases(cases)
        for said_of_it in answers:
            index.add_review(said_of_it, published=True)
        counts.add(verdicts)
