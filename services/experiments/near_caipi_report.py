"""The page of the experiment on learning from an operator: curves with bands, the table, the pairs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from services.experiments.near_caipi import FIGURES
from services.experiments.report import shown
from services.experiments.table import Figure

TITLES: Final = {
    "accuracy": "accuracy",
    "f1": "F1",
    "mcc": "MCC",
    "explanation_dice": "Dice of maps",
    "explanation_hit": "hit of maps",
}

_WIDTH_PX: Final = 460
_HEIGHT_PX: Final = 260
_LEFT_PX: Final = 44
_BOTTOM_PX: Final = 28


def near_caipi_markdown(document: Mapping[str, Any]) -> str:
    """The tables as Markdown: strategies, then pairs."""
    lines = [
        "| strategy | seeds | area under MCC | last MCC | last F1 | last accuracy | Dice of maps | hit of maps |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in document["rows"]:
        last = [shown(row["rounds"][name][-1], 3) for name in ("mcc", "f1", "accuracy", *FIGURES[3:])]
        lines.append(f"| {row['strategy']} | {row['seeds']} | {shown(row['mcc_area'], 3)} | " + " | ".join(last) + " |")
    lines += ["", "| pair | seeds | difference in area under MCC |", "| --- | ---: | ---: |"]
    for pair in document["paired"]:
        lines.append(f"| {pair['a']} - {pair['b']} | {pair['seeds']} | {shown(pair['mcc_area_difference'], 3)} |")
    return "\n".join(lines) + "\n"


def render_near_caipi(document: Mapping[str, Any]) -> str:
    """Write the page.

    Args:
        document: What the JSON holds (see ``services.experiments.near_caipi_table``).

    Returns:
        HTML that needs nothing else.
    """
    environment = Environment(
        loader=PackageLoader("services.experiments", "templates"), autoescape=True, undefined=StrictUndefined
    )
    rows = document["rows"]
    return environment.get_template("near_caipi.html").render(
        conditions=document["conditions"],
        rows=rows,
        paired=document["paired"],
        titles=TITLES,
        shown=shown,
        curves=[(title, curves_svg(title, rows, name)) for name, title in TITLES.items() if _is_measured(rows, name)],
    )


def _is_measured(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    return any(figure["mean"] is not None for row in rows for figure in row["rounds"][name])


def curves_svg(title: str, rows: Sequence[Mapping[str, Any]], name: str) -> Markup:
    """Draw one figure of all strategies over the interactions, each with its band.

    Args:
        title: Of the figure.
        rows: Of the table.
        name: Of the figure.
    """
    figures: list[Figure] = [figure for row in rows for figure in row["rounds"][name] if figure["mean"] is not None]
    ends = [value for figure in figures for value in (figure["mean"],) if value is not None]
    low, high = math.floor(10 * min(ends)) / 10, math.ceil(10 * max(ends)) / 10
    high = high if high > low else low + 0.1
    most = max(max(row["rounds"]["interactions"]) for row in rows) or 1

    def x(count: float) -> float:
        return _LEFT_PX + (_WIDTH_PX - _LEFT_PX - 8) * count / most

    def y(value: float) -> float:
        height = _HEIGHT_PX - _BOTTOM_PX
        return 8 + (height - 8) * (1 - (min(max(value, low), high) - low) / (high - low))

    lines = []
    for step in range(6):
        value = low + (high - low) * step / 5
        lines.append(
            f'<path class="axis" d="M{_LEFT_PX} {y(value):.1f}H{_WIDTH_PX - 8}"/>'
            f'<text x="{_LEFT_PX - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.2f}</text>'
        )
    for count in (0, most):
        anchor = "start" if not count else "end"
        lines.append(f'<text x="{x(count):.1f}" y="{_HEIGHT_PX - 8}" text-anchor="{anchor}">{count}</text>')
    for number, row in enumerate(rows):
        points = [
            (x(count), figure)
            for count, figure in zip(row["rounds"]["interactions"], row["rounds"][name], strict=True)
            if figure["mean"] is not None
        ]
        if not points:
            continue
        upper = [f"{at:.1f} {y(figure['high'] or 0):.1f}" for at, figure in points]
        lower = [f"{at:.1f} {y(figure['low'] or 0):.1f}" for at, figure in reversed(points)]
        middle = "L".join(f"{at:.1f} {y(figure['mean'] or 0):.1f}" for at, figure in points)
        lines.append(f'<path class="band s{number}" d="M{"L".join(upper + lower)}Z"/>')
        lines.append(f'<path class="curve s{number}" d="M{middle}"/>')
    # Everything in it is a number or written here.
    return Markup(  # noqa: S704
        f'<svg width="{_WIDTH_PX}" height="{_HEIGHT_PX}" role="img" aria-label="{title} over the interactions">'
        + "".join(lines)
        + "</svg>"
    )
