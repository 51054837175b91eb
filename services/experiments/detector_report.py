"""The page of the experiment on detectors: table, curves and scores, with nothing from outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from services.core.imaging import data_url
from services.experiments.detector_table import trace_name
from services.experiments.parts import Part
from services.experiments.report import shown
from services.experiments.sheet import TILE_PX

#: Columns of the table: name of the figure, heading, digits, and which way is better (1 up, -1 down).
DETECTOR_COLUMNS: Final = (
    ("image_auroc", "image AUROC", 3, 1),
    ("pixel_auroc", "pixel AUROC", 3, 1),
    ("f1_best", "best F1", 3, 1),
    ("f1_calibrated", "F1 at 0.5", 3, 1),
    ("fit_s", "fit, s", 1, -1),
    ("score_ms_single", "alone, ms", 1, -1),
    ("score_ms_batch", "in a batch, ms", 1, -1),
)

_PLOT_PX: Final = 180
_BINS: Final = 24
_CURVE_POINTS: Final = 200


def detectors_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table as Markdown; a detector that failed has its reason in place of figures."""
    lines = [
        "| detector | features | " + " | ".join(title for _, title, _, _ in DETECTOR_COLUMNS) + " |",
        "| --- | --- |" + " ---: |" * len(DETECTOR_COLUMNS),
    ]
    for row in rows:
        cells = [row["error"].replace("|", "/"), *[""] * (len(DETECTOR_COLUMNS) - 1)] if "error" in row else _cells(row)
        lines.append(f"| {row['detector']} | {row['features']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def render_detectors(
    document: Mapping[str, Any], traces: Mapping[str, Mapping[str, Any]], parts: Sequence[Part], misses: int
) -> str:
    """Write the page.

    Args:
        document: What the JSON holds (see ``services.experiments.detector_table``).
        traces: Scores of the test parts, by row.
        parts: The parts that they are of.
        misses: Escaped defects and rejected good parts to show of each detector, half of each.

    Returns:
        HTML with its pictures inside.
    """
    environment = Environment(
        loader=PackageLoader("services.experiments", "templates"), autoescape=True, undefined=StrictUndefined
    )
    rows = document["rows"]
    measured = [row for row in rows if "error" not in row]
    drawn = []
    for row in measured:
        trace = traces.get(trace_name(row["detector"], row["features"]))
        if trace is not None:
            drawn.append(
                {
                    "row": row,
                    "roc": roc_svg(trace["seeds"]),
                    "histogram": histogram_svg(trace["seeds"]),
                    "misses": [_shown_part(parts[at], score) for at, score in worst_misses(trace["seeds"], misses)],
                }
            )
    return environment.get_template("detectors.html").render(
        conditions=document["conditions"],
        columns=DETECTOR_COLUMNS,
        lines=[
            (row, list(zip(_cells(row), _best(row, measured), strict=True)), _aupro(row, traces)) for row in measured
        ],
        failed=[row for row in rows if "error" in row],
        drawn=drawn,
    )


def roc_points(scores: NDArray[np.float64], defective: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Points of the ROC curve from (0, 0) to (1, 1): share of good parts rejected, share of defects found.

    Args:
        scores: Anomaly scores, shape ``(N,)``; higher is worse.
        defective: True where the part is, shape ``(N,)``; both kinds are there.

    Returns:
        Shape ``(K, 2)``; parts of equal score are passed in one step.
    """
    order = np.argsort(-scores, kind="stable")
    ordered, bad = scores[order], defective[order]
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    found, false = np.cumsum(bad)[ends] / bad.sum(), np.cumsum(~bad)[ends] / (~bad).sum()
    return np.concatenate([[[0.0, 0.0]], np.stack([false, found], axis=1)])


def roc_svg(seeds: Sequence[Mapping[str, Any]]) -> Markup:
    """Draw the ROC curve of each seed."""
    side = _PLOT_PX
    lines = [f'<path class="chance" d="M0 {side}L{side} 0"/>']
    for one in seeds:
        points = roc_points(*_arrays(one))
        if len(points) > _CURVE_POINTS:
            points = points[np.linspace(0, len(points) - 1, _CURVE_POINTS).round().astype(int)]
        path = "L".join(f"{x * side:.1f} {(1 - y) * side:.1f}" for x, y in points)
        lines.append(f'<path class="curve" d="M{path}"/>')
    return _svg("ROC curve: defects found against good parts rejected", side, lines)


def histogram_svg(seeds: Sequence[Mapping[str, Any]]) -> Markup:
    """Draw how calibrated scores lie: good parts up, defective ones down, each as shares of its kind."""
    pairs = [_arrays(one) for one in seeds]
    scores = np.concatenate([score for score, _ in pairs])
    defective = np.concatenate([bad for _, bad in pairs])
    shares = [histogram(scores[kind]) for kind in (~defective, defective)]
    most = max(float(values.max()) for values in shares) or 1.0
    width, half = 2 * _PLOT_PX, _PLOT_PX / 2
    step, lines = width / _BINS, []
    for kind, values in zip(("good", "bad"), shares, strict=True):
        for index, share in enumerate(values):
            if share:
                height = half * share / most
                y = half - height if kind == "good" else half
                lines.append(
                    f'<rect class="{kind}" x="{index * step:.1f}" y="{y:.1f}" width="{step - 1:.1f}" '
                    f'height="{height:.1f}"/>'
                )
    lines += [f'<path class="axis" d="M0 {half}H{width}"/>', f'<path class="chance" d="M{width / 2} 0V{_PLOT_PX}"/>']
    return _svg("calibrated scores, 0 to 1: good parts above, defective ones below", width, lines)


def histogram(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shares of scores in equal bins over 0 to 1; nothing of none."""
    counts, _ = np.histogram(scores, bins=_BINS, range=(0.0, 1.0))
    return counts / max(1, len(scores))


def worst_misses(seeds: Sequence[Mapping[str, Any]], count: int) -> list[tuple[int, float]]:
    """Parts that the first seed was most wrong about: the lowest defects below 0.5, the highest good ones above.

    Returns:
        Indices of parts and their scores; at most half of ``count`` of each kind, rounded up for defects.
    """
    if not seeds:
        return []
    scores, defective = _arrays(seeds[0])
    order = np.argsort(scores, kind="stable")
    escapes = [at for at in order if defective[at] and scores[at] < 0.5][: count - count // 2]
    rejects = [at for at in order[::-1] if not defective[at] and scores[at] >= 0.5][: count // 2]
    return [(int(seeds[0]["parts"][at]), float(scores[at])) for at in (*escapes, *rejects)]


def _arrays(seed: Mapping[str, Any]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    return np.array(seed["scores"], dtype=np.float64), np.array(seed["defective"], dtype=bool)


def _svg(title: str, width: int, lines: Sequence[str]) -> Markup:
    # Numbers and constant text alone: nothing of the data is written into it.
    head = f'<svg viewBox="-1 -1 {width + 2} {_PLOT_PX + 2}" width="{width + 2}" height="{_PLOT_PX + 2}" role="img">'
    return Markup(f"{head}<title>{title}</title>{''.join(lines)}</svg>")  # noqa: S704


def _cells(row: Mapping[str, Any]) -> list[str]:
    return [shown(row[name], digits) for name, _, digits, _ in DETECTOR_COLUMNS]


def _best(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[bool]:
    """Whether no other row is better; times are compared by eye."""
    found = []
    for name, _, _, way in DETECTOR_COLUMNS:
        known = [other[name]["mean"] for other in rows if other[name]["mean"] is not None]
        found.append(way > 0 and bool(known) and row[name]["mean"] == max(known))
    return found


def _aupro(row: Mapping[str, Any], traces: Mapping[str, Mapping[str, Any]]) -> str:
    trace = traces.get(trace_name(row["detector"], row["features"]))
    return "-" if trace is None else shown(trace["aupro"], 3)


def _shown_part(part: Part, score: float) -> dict[str, Any]:
    height, width = part.image.shape[:2]
    scale = TILE_PX / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    picture = cv2.resize(part.image, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    return {"picture": data_url(picture), "name": part.name, "kind": part.kind, "score": score}
