"""The page of the experiment on two models in a pipeline: a table for each kind of anomaly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from services.experiments.report import shown
from services.experiments.two_stage import ALL
from services.experiments.two_stage_table import stage_name

#: Columns of the tables: name of the figure, heading, digits, and which way is better (1 up, -1 down).
TWO_STAGE_COLUMNS: Final = (
    ("pseudo_precision", "pseudo precision", 3, 1),
    ("pseudo_recall", "pseudo recall", 3, 1),
    ("image_auroc", "image AUROC", 3, 1),
    ("hit_accuracy", "hit", 2, 1),
    ("pixel_auroc", "pixel AUROC", 3, 1),
    ("seconds", "a map, s", 3, -1),
    ("fit_seconds", "fit, s", 0, -1),
)


def two_stage_markdown(rows: Sequence[Mapping[str, Any]], kind: str = ALL) -> str:
    """One kind's table as Markdown; a pipeline that failed has its reason in place of figures."""
    lines = [
        "| model | map | " + " | ".join(title for _, title, _, _ in TWO_STAGE_COLUMNS) + " |",
        "| --- | --- |" + " ---: |" * len(TWO_STAGE_COLUMNS),
    ]
    for row in rows:
        if row["kind"] != kind:
            continue
        reason = [row.get("error", "").replace("|", "/"), *[""] * (len(TWO_STAGE_COLUMNS) - 1)]
        cells = reason if "error" in row else _cells(row)
        lines.append(f"| {stage_name(row)} | {row['method']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def render_two_stage(document: Mapping[str, Any]) -> str:
    """Write the page.

    Args:
        document: What the JSON holds (see ``services.experiments.two_stage_table``).

    Returns:
        HTML with nothing from outside.
    """
    environment = Environment(
        loader=PackageLoader("services.experiments", "templates"), autoescape=True, undefined=StrictUndefined
    )
    rows = document["rows"]
    measured = [row for row in rows if "error" not in row]
    kinds = [ALL, *sorted({row["kind"] for row in measured} - {ALL})]
    return environment.get_template("two_stage.html").render(
        conditions=document["conditions"],
        columns=TWO_STAGE_COLUMNS,
        tables=[(kind, _lines([row for row in measured if row["kind"] == kind])) for kind in kinds],
        failed=[(stage_name(row), row["method"], row["error"]) for row in rows if "error" in row],
    )


def _lines(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, list[tuple[str, bool]]]]:
    return [(stage_name(row), row["method"], list(zip(_cells(row), _best(row, rows), strict=True))) for row in rows]


def _cells(row: Mapping[str, Any]) -> list[str]:
    return [shown(row[name], digits) for name, _, digits, _ in TWO_STAGE_COLUMNS]


def _best(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[bool]:
    """Whether no other row is better; times are compared by eye."""
    found = []
    for name, _, _, way in TWO_STAGE_COLUMNS:
        known = [other[name]["mean"] for other in rows if other[name]["mean"] is not None]
        found.append(way > 0 and bool(known) and row[name]["mean"] == max(known))
    return found
