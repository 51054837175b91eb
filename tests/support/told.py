"""Outcomes and line events with everything that a receiver may read."""

from __future__ import annotations

import dataclasses
import math

from services.core.identity import line_event_id, outcome_id
from services.core.line_event import Light, LineEvent, LineEventKind
from services.core.outcome import Outcome, OutcomeReason, OutcomeView
from services.core.types import Reason, Verdict

#: 2026-11-26T21:00:00.123456789Z.
BEGAN_AT_NS = 1_795_726_800_123_456_789
_MS = 1_000_000


def an_outcome(
    part_id: str = "part-1", revision: int = 1, began_at_ns: int = BEGAN_AT_NS, **changes: object
) -> Outcome:
    """A part that one camera of two saw to be bad, in time."""
    view = OutcomeView(
        camera_id="cam-1",
        frame_id=outcome_id(f"frame-of-{part_id}", 1, began_at_ns),
        verdict=Verdict.FAIL,
        reason=Reason.SCORE,
        score=0.75,
        alias="live",
        model_version=3,
        captured_at_ns=began_at_ns,
        decided_at_ns=began_at_ns + 40 * _MS,
        defect_class="scratch",
    )
    unseen = dataclasses.replace(
        view, camera_id="cam-2", verdict=Verdict.REVIEW, reason=Reason.UNREADABLE_IMAGE, score=math.nan, defect_class=""
    )
    outcome = Outcome(
        outcome_id=outcome_id(part_id, revision, began_at_ns),
        part_id=part_id,
        line_id="line-1",
        product="bottle",
        revision=revision,
        verdict=Verdict.FAIL,
        reason=OutcomeReason.VIEWS,
        in_time=True,
        began_at_ns=began_at_ns,
        decided_at_ns=began_at_ns + 50 * _MS,
        deadline_at_ns=began_at_ns + 200 * _MS,
        lot="lot-7",
        views=(view, unseen),
        missing_cameras=("cam-3",),
        defect_class="scratch",
    )
    return dataclasses.replace(outcome, **changes)


def an_event(kind: LineEventKind = LineEventKind.ANSWERED, at_ns: int = BEGAN_AT_NS, **changes: object) -> LineEvent:
    """The line was told that a part is bad."""
    event = LineEvent(
        event_id=line_event_id("line-1", "plc", kind.value, at_ns),
        line_id="line-1",
        at_ns=at_ns,
        kind=kind,
        connection="plc",
        part_id="part-1",
        revision=1,
        verdict=Verdict.FAIL,
    )
    return dataclasses.replace(event, **changes)


def a_light(light: Light, at_ns: int = BEGAN_AT_NS) -> LineEvent:
    """The stack light changed."""
    return an_event(LineEventKind.LIGHT_CHANGED, at_ns, light=light, verdict=None, revision=0, part_id="")
