"""The page of the experiment on CEOD: tables, confusion matrices, where each loss looks, and how it was trained."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from services.core.explain.heatmap import UNCALIBRATED, HeatScale, calibrate, lay_over
from services.core.imaging import data_url
from services.experiments.ceod import REFERENCE
from services.experiments.ceod_sample import DISTRACTOR, AreaSample
from services.experiments.ceod_table import ARGMAX, AT_90, COUNTS, EQUAL_RECALL
from services.experiments.report import shown
from services.experiments.sheet import TILE_PX

#: Columns of the tables: name of the figure, heading, digits, and which way is better (1 up, -1 down, 0 neither).
CEOD_COLUMNS: Final = (
    ("accuracy", "accuracy", 3, 1),
    ("auroc", "AUROC", 3, 1),
    ("distractor_auroc", "AUROC against distractors", 3, 1),
    ("loss", "cross-entropy", 3, -1),
    ("od", "OD", 3, -1),
    ("overlap", "overlap", 3, 1),
    ("recall_in_aoi", "defects found", 3, 1),
    ("distractor_false_alarms", "distractors rejected", 3, -1),
    ("good_false_alarms", "other good rejected", 3, -1),
    ("step_cpu_s", "step, CPU s", 3, 0),
)

#: What fits into a terminal: name of the figure, heading.
CEOD_TERMINAL: Final = (
    ("accuracy", "accuracy"),
    ("auroc", "AUROC"),
    ("recall_in_aoi", "found"),
    ("distractor_false_alarms", "distractors"),
    ("good_false_alarms", "good"),
    ("overlap", "overlap"),
)

_CURVE_WIDTH: Final = 260
_CURVE_HEIGHT: Final = 110
_AREA_COLOUR: Final = (0, 158, 115)
_CURVES: Final = (
    ("train_loss", "training loss"),
    ("validation_loss", "validation cross-entropy"),
    ("distance", "overlap distance in training"),
    ("clipped_share", "share of parts clipped, without gradient"),
)


def ceod_markdown(rows: Sequence[Mapping[str, Any]], split: str = "test", at: str = ARGMAX) -> str:
    """One split's and cut's table as Markdown; a network that failed has its reason in place of figures."""
    lines = [
        "| network | loss | " + " | ".join(title for _, title, _, _ in CEOD_COLUMNS) + " |",
        "| --- | --- |" + " ---: |" * len(CEOD_COLUMNS),
    ]
    for row in rows:
        if "error" in row:
            cells = [row["error"].replace("|", "/"), *[""] * (len(CEOD_COLUMNS) - 1)]
        elif (row["split"], row["at"]) == (split, at):
            cells = ceod_cells(row)
        else:
            continue
        lines.append(f"| {row['network']} | {row['arm']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def ceod_cells(row: Mapping[str, Any]) -> list[str]:
    """A row's or a pair's figures as text."""
    return [shown(row[name], digits) for name, _, digits, _ in CEOD_COLUMNS]


def render_ceod(document: Mapping[str, Any], trials: Sequence[Mapping[str, Any]], sample: AreaSample) -> str:
    """Write the page.

    Args:
        document: What the JSON holds (see ``services.experiments.ceod_table``).
        trials: What it was made of.
        sample: The parts, for their pictures.

    Returns:
        HTML with its pictures inside.
    """
    environment = Environment(
        loader=PackageLoader("services.experiments", "templates"), autoescape=True, undefined=StrictUndefined
    )
    rows = [row for row in document["rows"] if "error" not in row]
    measured = [trial for trial in trials if not trial["error"]]
    networks = list(dict.fromkeys(trial["network"] for trial in measured))
    keys = list(dict.fromkeys((row["split"], row["at"]) for row in rows))
    # What is held out comes first.
    order = ("test", "validation", "train")
    keys.sort(key=lambda key: order.index(key[0]))
    return environment.get_template("ceod.html").render(
        conditions=document["conditions"],
        columns=CEOD_COLUMNS,
        tables=[(*key, *_table(key, rows, document["paired"])) for key in keys],
        failed=[row for row in document["rows"] if "error" in row],
        confusions=[(row, {name: row["confusion"][name] for name in COUNTS}) for row in rows if row["split"] == "test"],
        sheets=[(network, *_sheet(network, measured, sample)) for network in networks],
        curves=[
            (network, [(title, _curve(network, name, title, measured)) for name, title in _CURVES])
            for network in networks
        ],
        arms=list(dict.fromkeys(trial["arm"] for trial in measured)),
        argmax=ARGMAX,
        equal_recall=EQUAL_RECALL,
        at_90=AT_90,
    )


def _table(
    key: tuple[str, str], rows: Sequence[Mapping[str, Any]], paired: Sequence[Mapping[str, Any]]
) -> tuple[list[Any], list[Any]]:
    own = [row for row in rows if (row["split"], row["at"]) == key]
    lines = [(row, list(zip(ceod_cells(row), _best(row, own), strict=True))) for row in own]
    pairs = [(row, ceod_cells(row)) for row in paired if (row["split"], row["at"]) == key]
    return lines, pairs


def _best(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[bool]:
    """Whether no other loss serves the same network better."""
    found = []
    for name, _, _, way in CEOD_COLUMNS:
        known = [
            other[name]["mean"]
            for other in rows
            if other["network"] == row["network"] and other[name]["mean"] is not None
        ]
        best = max(known) if way > 0 else min(known) if known else None
        found.append(bool(way) and len(set(known)) > 1 and row[name]["mean"] == best)
    return found


def heat_scale(trials: Sequence[Mapping[str, Any]]) -> HeatScale:
    """Find the one scale on which all losses' maps of good parts look calm."""
    maps = [np.array(values, dtype=np.float32) for trial in trials for values in trial["heat"]["calm"]]
    return calibrate(maps) if maps else UNCALIBRATED


def _sheet(
    network: str, trials: Sequence[Mapping[str, Any]], sample: AreaSample
) -> tuple[list[str], list[dict[str, Any]], bool]:
    """The same parts as each loss sees them; the columns' names, the lines, and whether the scale is calibrated."""
    own = [trial for trial in trials if trial["network"] == network and trial["heat"] is not None]
    own.sort(key=lambda trial: trial["arm"] != REFERENCE)
    if not own:
        return [], [], False
    scale = heat_scale(own)
    # All losses of a seed have one split, so they show the same parts.
    rows = [int(row) for row in own[0]["heat"]["shown"]]
    lines = []
    for row in rows:
        picture = _enlarged(sample.images[row])
        tiles = []
        for trial in own:
            values = trial["heat"]["shown"].get(str(row))
            if values is None:
                continue
            tile = lay_over(picture, np.array(values, dtype=np.float32), scale)
            tiles.append((data_url(tile), _score(trial, row)))
        kind = DISTRACTOR if sample.distractor[row] else sample.kinds[row]
        lines.append(
            {
                "name": sample.names[row],
                "kind": kind,
                "picture": data_url(_outlined(picture, sample.areas[row])),
                "tiles": tiles,
            }
        )
    return [trial["arm"] for trial in own], lines, scale.is_calibrated


def _score(trial: Mapping[str, Any], row: int) -> float:
    held = trial["sides"]["test"]
    return float(held["scores"][held["parts"].index(row)])


def _enlarged(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    scale = TILE_PX / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA), np.uint8)


def _outlined(picture: NDArray[np.uint8], area: NDArray[np.bool_]) -> NDArray[np.uint8]:
    drawn = picture.copy()
    inside = cv2.resize(area.astype(np.uint8), picture.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    edges, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(drawn, edges, -1, _AREA_COLOUR, 1)
    return drawn


def _curve(network: str, name: str, title: str, trials: Sequence[Mapping[str, Any]]) -> Markup:
    """Draw a figure over the epochs, a line for each seed, a colour for each loss; nothing where nobody has it."""
    lines: list[tuple[str, list[tuple[int, float]]]] = []
    for trial in trials:
        if trial["network"] == network:
            points = [(one["epoch"], one[name]) for one in trial["epochs"] if one[name] is not None]
            if points:
                lines.append((trial["arm"], points))
    if not lines:
        return Markup("")
    last = max(2, *(points[-1][0] for _, points in lines))
    # Half of a first, wild epoch would press everything else flat.
    values = sorted(value for _, points in lines for _, value in points)
    top = values[math.ceil(0.98 * (len(values) - 1))] or 1.0
    paths = []
    for arm, points in lines:
        path = "L".join(
            f"{(epoch - 1) / (last - 1) * _CURVE_WIDTH:.1f} {_CURVE_HEIGHT * (1 - min(1.0, value / top)):.1f}"
            for epoch, value in points
        )
        paths.append(f'<path class="curve {arm}" d="M{path}"/>')
    # Numbers and constant names alone: nothing of the data is written into it.
    head = f'<svg viewBox="-1 -1 {_CURVE_WIDTH + 2} {_CURVE_HEIGHT + 2}" width="{_CURVE_WIDTH + 2}" role="img">'
    caption = f"<figcaption>{title}, 0 to {top:.3g}, epochs 1 to {last}</figcaption>"
    return Markup(f"<figure>{head}<title>{title}</title>{''.join(paths)}</svg>{caption}</figure>")  # noqa: S704
