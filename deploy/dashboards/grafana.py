"""The few pieces of Grafana's dashboard format that our dashboards are made of."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

# Okabe and Ito's colours, which people with any common kind of colour blindness tell apart.
BLUE: Final = "#0072B2"
ORANGE: Final = "#E69F00"
VERMILLION: Final = "#D55E00"
GREEN: Final = "#009E73"
SKY: Final = "#56B4E9"
PURPLE: Final = "#CC79A7"
_CYCLE: Final = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILLION)
#: What a word means is one colour on every dashboard.
_MEANINGS: Final = {"pass": BLUE, "fail": VERMILLION, "review": ORANGE}
_DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH: Final = 24


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel.

    Attributes:
        expr: PromQL.
        legend: Name of its series; labels in double braces.
    """

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel.

    Attributes:
        title: What it shows.
        unit: Grafana's name of the unit.
        queries: What is asked.
        says: What to make of it, shown as its description.
        warn: From this value on it is orange; ``None`` has no bounds.
        bad: From this value on it is red, said by its number as well.
        falling: Low values are the bad ones.
        kind: Grafana's panel type.
        width: Of 24 columns.
        needs: What has to be there for it to show anything, where a line on one machine has none.
    """

    title: str
    unit: str
    queries: Sequence[Query]
    says: str
    warn: float | None = None
    bad: float | None = None
    falling: bool = False
    kind: str = "timeseries"
    width: int = 8
    needs: str = ""


@dataclass(frozen=True, slots=True)
class Variable:
    """A choice at the top of a dashboard, taken from a label's values."""

    name: str
    query: str


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One dashboard; panels are laid out row by row."""

    uid: str
    title: str
    says: str
    rows: Sequence[tuple[str, Sequence[Panel]]]
    variables: Sequence[Variable] = field(default_factory=tuple)

    def to_json(self) -> dict[str, Any]:
        """Grafana's own form of it."""
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.says,
            "tags": ["sightline"],
            "schemaVersion": 39,
            "editable": False,
            "graphTooltip": 1,
            "refresh": "30s",
            "timezone": "browser",
            "time": {"from": "now-3h", "to": "now"},
            "templating": {"list": [_datasource(), *(_variable(each) for each in self.variables)]},
            "links": [
                {
                    "title": "Sightline",
                    "type": "dashboards",
                    "tags": ["sightline"],
                    "asDropdown": False,
                    "targetBlank": False,
                    "icon": "external link",
                    "tooltip": "The other dashboards",
                    "includeVars": True,
                    "keepTime": True,
                }
            ],
            "panels": _laid_out(self.rows),
        }


def _datasource() -> dict[str, Any]:
    return {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "current": {"text": "", "value": ""},
    }


def _variable(one: Variable) -> dict[str, Any]:
    return {
        "name": one.name,
        "label": one.name.capitalize(),
        "type": "query",
        "datasource": _DATASOURCE,
        "query": {"query": one.query, "refId": one.name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def _laid_out(rows: Sequence[tuple[str, Sequence[Panel]]]) -> list[dict[str, Any]]:
    numbers, found, top = itertools.count(1), [], 0
    for title, panels in rows:
        place = {"x": 0, "y": top, "w": _WIDTH, "h": 1}
        found.append(
            {"id": next(numbers), "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}
        )
        top += 1
        left, height = 0, 0
        for panel in panels:
            tall = 4 if panel.kind == "stat" else 8
            if left + panel.width > _WIDTH:
                left, top, height = 0, top + height, 0
            place = {"x": left, "y": top, "w": panel.width, "h": tall}
            found.append(_panel(panel, next(numbers), place))
            left, height = left + panel.width, max(height, tall)
        top += height
    return found


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    steps = _steps(panel)
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "min": 0,
        "thresholds": {"mode": "absolute", "steps": steps},
        "color": {"mode": "thresholds"} if panel.kind == "stat" else {"mode": "shades", "fixedColor": BLUE},
    }
    options: dict[str, Any]
    if panel.kind == "stat":
        options = {"colorMode": "value", "textMode": "value_and_name", "reduceOptions": {"calcs": ["lastNotNull"]}}
    else:
        lines = "line" if len(steps) > 1 else "off"
        defaults["custom"] = {"lineWidth": 2, "fillOpacity": 5, "thresholdsStyle": {"mode": lines}}
        options = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.says + (f" Needs {panel.needs}." if panel.needs else ""),
        "gridPos": place,
        "datasource": _DATASOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": _colours(panel)},
        "options": options,
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": _DATASOURCE,
                "expr": query.expr,
                "legendFormat": query.legend or "__auto",
                "instant": panel.kind == "stat",
                "range": panel.kind != "stat",
            }
            for index, query in enumerate(panel.queries)
        ],
    }


def _steps(panel: Panel) -> list[dict[str, Any]]:
    bounds = [(panel.warn, ORANGE), (panel.bad, VERMILLION)]
    given = [(value, colour) for value, colour in bounds if value is not None]
    if not panel.falling:
        return [{"value": None, "color": BLUE}, *({"value": value, "color": colour} for value, colour in given)]
    # From the worst one up: what lies below the first bound has its colour.
    colours = [colour for _, colour in reversed(given)]
    values = [value for value, _ in reversed(given)]
    tops = [*colours[1:], BLUE]
    return [
        {"value": None, "color": colours[0] if colours else BLUE},
        *({"value": value, "color": colour} for value, colour in zip(values, tops, strict=True)),
    ]


def _colours(panel: Panel) -> list[dict[str, Any]]:
    found = [
        {
            "matcher": {"id": "byRegexp", "options": f"/\\b{word}\\b/"},
            "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}],
        }
        for word, colour in _MEANINGS.items()
        if any("verdict" in query.legend for query in panel.queries)
    ]
    if panel.kind != "stat" and len(panel.queries) > 1:
        # Shades of one colour for the series of each query.
        found += [
            {
                "matcher": {"id": "byFrameRefID", "options": chr(ord("A") + index)},
                "properties": [{"id": "color", "value": {"mode": "shades", "fixedColor": colour}}],
            }
            for index, colour in zip(range(len(panel.queries)), itertools.cycle(_CYCLE), strict=False)
        ]
    return found
