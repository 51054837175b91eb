"""Outcomes and line events as JSON and as rows of a table: what a receiver outside Sightline reads.

Keys are only ever added to; ``schema`` counts up when one changes its meaning.
"""

from __future__ import annotations

import datetime
import json
import math
from typing import Final

from services.core.line_event import LineEvent
from services.core.outcome import Outcome, OutcomeView

#: What the keys mean; counts up when one changes its meaning.
SCHEMA: Final = 1

#: Columns of an outcome's row.
OUTCOME_COLUMNS: Final = (
    "outcome_id",
    "line_id",
    "part_id",
    "product",
    "lot",
    "revision",
    "verdict",
    "reason",
    "in_time",
    "defect_class",
    "began_at",
    "deadline_at",
    "decided_at",
    "views",
    "missing_cameras",
    "detail",
)
#: Columns of an event's row.
LINE_EVENT_COLUMNS: Final = (
    "event_id",
    "line_id",
    "at",
    "event",
    "connection",
    "part_id",
    "revision",
    "verdict",
    "error_code",
    "product",
    "lot",
    "actor",
    "alarm_id",
    "light",
    "detail",
)

_NS_PER_S: Final = 1_000_000_000
_NS_PER_US: Final = 1_000
# A spreadsheet takes a cell that begins so for a formula (OWASP, CSV injection).
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def told_id(told: Outcome | LineEvent) -> str:
    """The id by which a receiver knows that it has had this one before."""
    return told.outcome_id if isinstance(told, Outcome) else told.event_id


def told_at_ns(told: Outcome | LineEvent) -> int:
    """When it was decided, or happened; nanoseconds since the epoch."""
    return told.decided_at_ns if isinstance(told, Outcome) else told.at_ns


def told_json(told: Outcome | LineEvent) -> dict[str, object]:
    """Either of them as JSON; its ``kind`` tells which."""
    return outcome_json(told) if isinstance(told, Outcome) else line_event_json(told)


def told_bytes(told: Outcome | LineEvent) -> bytes:
    """Either of them as JSON in UTF-8 on one line; equal ones give equal bytes."""
    return json_bytes(told_json(told))


def json_bytes(value: dict[str, object]) -> bytes:
    """Any of our JSON in UTF-8 on one line.

    Raises:
        ValueError: If a number in it is none.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def outcome_json(outcome: Outcome) -> dict[str, object]:
    """A part's answer as JSON.

    Returns:
        Times come twice, as integer nanoseconds since the epoch (``..._at_ns``) and as ISO 8601 in UTC (``..._at``):
        JavaScript reads the first inexactly. A score that no model gave and a deadline that is none are null.
    """
    return {
        "schema": SCHEMA,
        "kind": "outcome",
        "outcome_id": outcome.outcome_id,
        "line_id": outcome.line_id,
        "part_id": outcome.part_id,
        "product": outcome.product,
        "lot": outcome.lot,
        "revision": outcome.revision,
        "verdict": outcome.verdict.value,
        "reason": outcome.reason.value,
        "in_time": outcome.in_time,
        "defect_class": outcome.defect_class,
        **_moment("began_at", outcome.began_at_ns),
        **_moment("deadline_at", outcome.deadline_at_ns),
        **_moment("decided_at", outcome.decided_at_ns),
        "views": [_view_json(view) for view in outcome.views],
        "missing_cameras": list(outcome.missing_cameras),
        "detail": outcome.detail,
    }


def line_event_json(event: LineEvent) -> dict[str, object]:
    """What happened on a line as JSON.

    Returns:
        ``event`` is what happened; ``verdict`` and ``light`` are null where the event is about none.
    """
    return {
        "schema": SCHEMA,
        "kind": "line_event",
        "event_id": event.event_id,
        "line_id": event.line_id,
        **_moment("at", event.at_ns),
        "event": event.kind.value,
        "connection": event.connection,
        "part_id": event.part_id,
        "revision": event.revision,
        "verdict": event.verdict.value if event.verdict is not None else None,
        "error_code": event.error_code,
        "product": event.product,
        "lot": event.lot,
        "actor": event.actor,
        "alarm_id": event.alarm_id,
        "light": event.light.value if event.light is not None else None,
        "detail": event.detail,
    }


def outcome_row(outcome: Outcome) -> list[str]:
    """A part's answer as cells, in the order of :data:`OUTCOME_COLUMNS`; none holds a line break or a formula."""
    told = outcome_json(outcome)
    told["views"] = " ".join(f"{view.camera_id}={view.verdict.value}" for view in outcome.views)
    told["missing_cameras"] = " ".join(outcome.missing_cameras)
    return [_cell(told[column]) for column in OUTCOME_COLUMNS]


def line_event_row(event: LineEvent) -> list[str]:
    """What happened on a line as cells, in the order of :data:`LINE_EVENT_COLUMNS`; as :func:`outcome_row` has them."""
    told = line_event_json(event)
    return [_cell(told[column]) for column in LINE_EVENT_COLUMNS]


def iso_utc(at_ns: int) -> str:
    """A moment as ISO 8601 in UTC, to the microsecond.

    Args:
        at_ns: Nanoseconds since the epoch.

    Example:
        >>> iso_utc(1_764_190_000_123_456_789)
        '2025-11-26T20:46:40.123456Z'
    """
    at = datetime.datetime.fromtimestamp(at_ns // _NS_PER_S, tz=datetime.UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at_ns % _NS_PER_S // _NS_PER_US:06d}Z"


def utc_day(at_ns: int) -> str:
    """The day of a moment in UTC, as ``20261126``.

    Args:
        at_ns: Nanoseconds since the epoch.
    """
    return f"{datetime.datetime.fromtimestamp(at_ns // _NS_PER_S, tz=datetime.UTC):%Y%m%d}"


def _view_json(view: OutcomeView) -> dict[str, object]:
    return {
        "camera_id": view.camera_id,
        "frame_id": view.frame_id,
        "verdict": view.verdict.value,
        "reason": view.reason.value,
        # JSON has neither NaN nor infinity.
        "score": view.score if math.isfinite(view.score) else None,
        "defect_class": view.defect_class,
        "alias": view.alias,
        "model_version": view.model_version,
        "expected": view.expected,
        **_moment("captured_at", view.captured_at_ns),
        **_moment("decided_at", view.decided_at_ns),
    }


def _moment(name: str, at_ns: int) -> dict[str, object]:
    return {f"{name}_ns": at_ns or None, name: iso_utc(at_ns) if at_ns else None}


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    # A record is one line, so that one that was torn is found by its missing end.
    text = " ".join(str(value).splitlines())
    return f"'{text}" if text.startswith(_FORMULA) else text
