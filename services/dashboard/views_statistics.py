"""Statistics as the page is given them, and as a table for spreadsheets.

What is not known is null in JSON and an empty cell in a table, never 0.
"""

from __future__ import annotations

import csv
import datetime
import io
import math
from typing import Final

from services.adapters.statisticsclient import ShiftsView
from services.core.statistics import GroupBy, StatisticsRow, StatisticsTable
from services.dashboard.views import Json, number

_MS_PER_S: Final = 1_000
# A spreadsheet takes a cell that begins so for a formula (OWASP, CSV injection).
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_DIGITS: Final = 6

#: Columns of the table, each with its unit.
COLUMNS: Final = (
    "row",
    "group_by",
    "name",
    "line_id",
    "model_version",
    "shift_day",
    "begins_at_utc",
    "ends_at_utc",
    "inspections",
    "passed",
    "failed",
    "review",
    "late",
    "defect_rate_percent",
    "first_pass_yield_percent",
    "reviewed",
    "fails_reviewed",
    "false_rejects_found",
    "escapes_found",
    "wrong_reasons_found",
    "audit_drawn",
    "audit_reviewed",
    "audit_undecided",
    "audit_escapes",
    "audit_covered_percent",
    "escape_rate_estimate_percent",
    "escape_rate_low_percent",
    "escape_rate_high_percent",
)


def statistics_json(table: StatisticsTable, group_by: GroupBy) -> Json:
    """The figures of a stretch of time."""
    return {
        "group": group_by.value,
        "since_ms": table.span.since_s * _MS_PER_S,
        "until_ms": table.span.until_s * _MS_PER_S,
        "kept_since_ms": table.kept_since_s * _MS_PER_S,
        "rows": [_row_json(row) for row in table.rows],
        "total": _row_json(table.total),
    }


def shifts_json(view: ShiftsView) -> Json:
    """The plan of shifts, and the present one."""
    return {
        "shifts": [{"name": one.name, "begins_min": one.begins_min, "ends_min": one.ends_min} for one in view.shifts],
        "time_zone": view.time_zone,
        "day_begins_ms": view.day_begins_s * _MS_PER_S,
        "shift": {
            "name": view.shift,
            "begins_ms": view.shift_begins_s * _MS_PER_S,
            "ends_ms": view.shift_ends_s * _MS_PER_S,
        }
        if view.shift
        else None,
    }


def _row_json(row: StatisticsRow) -> Json:
    key, audit = row.key, row.audit
    return {
        "name": key.name,
        "line_id": key.line_id,
        "model_version": key.model_version,
        "day": key.day,
        "begins_ms": key.begins_s * _MS_PER_S,
        "ends_ms": key.ends_s * _MS_PER_S,
        "inspections": row.verdicts.inspections,
        "passed": row.verdicts.passed,
        "failed": row.verdicts.failed,
        "review": row.verdicts.review,
        "late": row.verdicts.late,
        "defect_rate": row.defect_rate,
        "first_pass_yield": row.first_pass_yield,
        "reviewed": row.outcomes.reviewed,
        "fails_reviewed": row.outcomes.fails_reviewed,
        "false_rejects": row.outcomes.false_rejects,
        "escapes": row.outcomes.escapes,
        "wrong_reasons": row.outcomes.wrong_reasons,
        "audit": {
            "drawn": audit.drawn,
            "reviewed": audit.reviewed,
            "undecided": audit.undecided,
            "escapes": audit.escapes,
            "covered": number(audit.covered),
            "rate": number(audit.rate),
            "low": number(audit.low),
            "high": number(audit.high),
        },
    }


def statistics_csv(table: StatisticsTable, group_by: GroupBy) -> str:
    """The same as a table: RFC 4180 with a header, a row for each group and one for the total."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for what, row in [*(("group", row) for row in table.rows), ("total", table.total)]:
        writer.writerow([_harmless(cell) for cell in (what, group_by.value, *_cells(row, group_by))])
    return out.getvalue()


def _cells(row: StatisticsRow, group_by: GroupBy) -> tuple[str | int, ...]:
    key, verdicts, outcomes, audit = row.key, row.verdicts, row.outcomes, row.audit
    return (
        key.name,
        key.line_id,
        key.model_version if group_by is GroupBy.MODEL_VERSION and key.name else "",
        key.day,
        _moment(key.begins_s),
        _moment(key.ends_s),
        verdicts.inspections,
        verdicts.passed,
        verdicts.failed,
        verdicts.review,
        verdicts.late,
        _percent(row.defect_rate),
        _percent(row.first_pass_yield),
        outcomes.reviewed,
        outcomes.fails_reviewed,
        outcomes.false_rejects,
        outcomes.escapes,
        outcomes.wrong_reasons,
        audit.drawn,
        audit.reviewed,
        audit.undecided,
        audit.escapes,
        _percent(audit.covered),
        _percent(audit.rate),
        _percent(audit.low),
        _percent(audit.high),
    )


def _harmless(cell: str | int) -> str | int:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell


def _percent(share: float | None) -> str:
    return "" if share is None or math.isnan(share) else f"{100 * share:.{_DIGITS}g}"


def _moment(seconds: int) -> str:
    return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%dT%H:%M:%SZ}" if seconds else ""
