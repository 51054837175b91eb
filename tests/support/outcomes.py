"""Outcomes of a line, one a second, as tests say them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.core.identity import derive_frame_id, outcome_id
from services.core.outcome import Outcome, OutcomeReason, OutcomeView
from services.core.types import Reason, Verdict

NOW_NS = 1_790_000_000_000_000_000
S_NS = 1_000_000_000


def view(verdict: Verdict, camera_id: str = "discs-left", *, defect_class: str = "", number: int = 1) -> OutcomeView:
    """What a camera saw of a part."""
    at_ns = NOW_NS + number * S_NS
    return OutcomeView(
        camera_id=camera_id,
        frame_id=derive_frame_id(camera_id, f"part-{number}", 0, at_ns),
        verdict=verdict,
        reason=Reason.SCORE,
        score=0.5,
        alias="default",
        model_version=1,
        captured_at_ns=at_ns,
        decided_at_ns=at_ns + S_NS // 4,
        defect_class=defect_class,
    )


def outcome(verdict: Verdict = Verdict.PASS, number: int = 1, **changes: Any) -> Outcome:
    """The outcome of a line's part; part ``number`` is decided that many seconds after ``NOW_NS``, in time."""
    began_at_ns = NOW_NS + number * S_NS
    values: dict[str, Any] = {
        "part_id": f"part-{number}",
        "line_id": "line-1",
        "product": "disc",
        "revision": 1,
        "verdict": verdict,
        "reason": OutcomeReason.VIEWS,
        "in_time": True,
        "began_at_ns": began_at_ns,
        "decided_at_ns": began_at_ns + S_NS // 2,
        "views": (view(verdict, number=number),),
    }
    values |= changes
    values.setdefault("outcome_id", outcome_id(values["part_id"], values["revision"], began_at_ns))
    return Outcome(**values)


def outcomes(verdicts: str | Sequence[Verdict], first: int = 1, **changes: Any) -> list[Outcome]:
    """Outcomes one after the other; a text says them by their first letters, ``"FFPR"``."""
    by_letter = {verdict.name[0]: verdict for verdict in Verdict}
    said = [by_letter[letter] for letter in verdicts] if isinstance(verdicts, str) else verdicts
    return [outcome(verdict, number, **changes) for number, verdict in enumerate(said, first)]
