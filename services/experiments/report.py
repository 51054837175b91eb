"""The report: one page that needs nothing else, with the table, what it was measured on, and the contact sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from services.core.explain.heatmap import HeatScale
from services.core.imaging import data_url
from services.experiments.sheet import SheetRow, paint
from services.experiments.table import Figure

#: Columns of the table: name of the figure, heading, digits, and which way is better (1 up, -1 down, 0 neither).
COLUMNS: Final = (
    ("dice", "Dice", 3, 1),
    ("jaccard", "Jaccard", 3, 1),
    ("hit_accuracy", "hit", 2, 1),
    ("near_accuracy", "near", 2, 1),
    ("pixel_auroc", "pixel AUROC", 3, 1),
    ("dice_own_area", "Dice at own area", 3, 1),
    ("dice_ceiling", "Dice ceiling", 3, 0),
    ("deletion_auc", "deletion", 3, -1),
    ("insertion_auc", "insertion", 3, 1),
    ("seconds_per_image", "seconds", 2, -1),
    ("passes_per_image", "passes", 0, -1),
)


def shown(figure: Figure, digits: int) -> str:
    """A figure with its interval, as text; a dash where it is not defined."""
    if figure["mean"] is None:
        return "-"
    if figure["low"] == figure["high"]:
        return f"{figure['mean']:.{digits}f}"
    return f"{figure['mean']:.{digits}f} [{figure['low']:.{digits}f}, {figure['high']:.{digits}f}]"


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table as Markdown, for a page of documentation or a terminal."""
    lines = [
        "| model | method | n | " + " | ".join(title for _, title, _, _ in COLUMNS) + " |",
        "| --- | --- | ---: |" + " ---: |" * len(COLUMNS),
    ]
    for row in rows:
        cells = [shown(row[name], digits) for name, _, digits, _ in COLUMNS]
        lines.append(f"| {row['model']} | {row['method']} | {row['n']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def render(document: Mapping[str, Any], sheet: Sequence[SheetRow], scales: Mapping[tuple[str, str], HeatScale]) -> str:
    """Write the page.

    Args:
        document: What the JSON holds (see ``services.experiments.table``).
        sheet: Parts to show.
        scales: Heat scales, by network and method.

    Returns:
        HTML with its pictures inside.
    """
    environment = Environment(
        loader=PackageLoader("services.experiments", "templates"), autoescape=True, undefined=StrictUndefined
    )
    rows = document["rows"]
    methods = list(dict.fromkeys(row["method"] for row in rows))
    return environment.get_template("report.html").render(
        conditions=document["conditions"],
        models=_models(rows),
        columns=COLUMNS,
        lines=[
            (row, [(shown(row[name], digits), _is_best(row, rows, name, way)) for name, _, digits, way in COLUMNS])
            for row in rows
        ],
        grade=document["grade"],
        shown=shown,
        methods=methods,
        sheet=[_sheet_line(row, methods, scales) for row in sheet],
    )


def _models(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    first: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        first.setdefault(row["model"], row)
    return list(first.values())


def _is_best(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], name: str, way: int) -> bool:
    """Whether no other method explains the same network better; time is compared by eye, since baselines cost none."""
    own = [
        other[name]["mean"]
        for other in rows
        if other["model"] == row["model"] and other[name]["mean"] is not None and not name.endswith("_per_image")
    ]
    if not way or not own or row[name]["mean"] is None:
        return False
    return bool(row[name]["mean"] == (max(own) if way > 0 else min(own)))


def _sheet_line(row: SheetRow, methods: Sequence[str], scales: Mapping[tuple[str, str], HeatScale]) -> dict[str, Any]:
    own = {method: scale for (model, method), scale in scales.items() if model == row.model}
    tiles = []
    for method in methods:
        painted = paint(row, method, own)
        tiles.append((None if painted is None else data_url(painted), row.records.get(method)))
    return {"row": row, "picture": data_url(row.picture), "mask": data_url(row.mask), "tiles": tiles}
