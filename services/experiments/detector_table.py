"""The table of the experiment on detectors: a row for each detector and its features, written after every one."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from services.experiments.detecting import Key, Outcome
from services.experiments.figures_file import SCHEMA, read_rows, write_text
from services.experiments.table import Figure

FIGURES: Final = (
    "image_auroc",
    "pixel_auroc",
    "f1_best",
    "f1_calibrated",
    "fit_s",
    "score_ms_single",
    "score_ms_batch",
)
"""Names of a row's figures."""


def figure(values: Sequence[float]) -> Figure:
    """Sum up what the seeds gave: the mean, and the lowest and highest of them.

    Args:
        values: One for each seed; NaN where it is not defined.

    Returns:
        Three times None where no seed has it.
    """
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return {"mean": None, "low": None, "high": None}
    return {"mean": float(np.mean(known)), "low": min(known), "high": max(known)}


def row(outcome: Outcome) -> dict[str, Any]:
    """Write an outcome as a row: its figures, or the reason why there are none."""
    head = {"detector": outcome.detector, "features": outcome.features, "seeds": outcome.seeds}
    if outcome.error:
        return head | {"error": outcome.error}
    return head | {name: figure([one.figures[name] for one in outcome.measured]) for name in FIGURES}


def trace(outcome: Outcome) -> dict[str, Any]:
    """Keep what the page draws: calibrated scores of the test parts of each seed, and the AUPRO."""
    return {
        "aupro": figure([one.figures["aupro"] for one in outcome.measured]),
        "seeds": [
            {
                "parts": one.rows.tolist(),
                # Every digit: rounded, a score just below the threshold would reach it.
                "scores": one.scores.tolist(),
                "defective": one.defective.astype(int).tolist(),
            }
            for one in outcome.measured
        ],
    }


class Results:
    """Rows on their way into a file; each is on the disk before the next detector begins.

    Beside the figures, ``NAME.scores.json`` keeps the test parts' scores, which the page is drawn from.
    """

    def __init__(self, conditions: Mapping[str, Any], path: Path | None = None) -> None:
        """Begin, or go on with what a file holds.

        Args:
            conditions: What the figures hold for; written as JSON.
            path: The file; None keeps everything in memory.

        Raises:
            ConflictError: If the file holds anything else than figures of these conditions.
        """
        self._path = path
        self._conditions: dict[str, Any] = json.loads(json.dumps(conditions))
        self.rows: list[dict[str, Any]] = []
        self.traces: dict[str, dict[str, Any]] = {}
        if path is not None and path.exists():
            self.rows = read_rows(path, self._conditions, ("detector", "features"))
            self.traces = _read_traces(scores_path(path))

    @property
    def document(self) -> dict[str, Any]:
        """What the file holds."""
        return {"schema": SCHEMA, "conditions": self._conditions, "rows": self.rows}

    @property
    def done(self) -> frozenset[Key]:
        """Rows with figures; a detector that failed is tried again."""
        return frozenset((one["detector"], one["features"]) for one in self.rows if "error" not in one)

    def add(self, outcome: Outcome) -> None:
        """Take a row in, in place of an earlier one of the same name, and write."""
        key = (outcome.detector, outcome.features)
        self.rows = [one for one in self.rows if (one["detector"], one["features"]) != key] + [row(outcome)]
        if outcome.measured:
            self.traces[trace_name(*key)] = trace(outcome)
        if self._path is not None:
            write_text(scores_path(self._path), json.dumps(self.traces, allow_nan=False) + "\n")
            write_text(self._path, json.dumps(self.document, indent=1, allow_nan=False) + "\n")


def trace_name(detector: str, features: str) -> str:
    """Name of a row's scores."""
    return f"{detector} {features}"


def scores_path(path: Path) -> Path:
    """Where the scores lie that belong to a file of figures."""
    return path.with_name(f"{path.stem}.scores.json")


def _read_traces(path: Path) -> dict[str, dict[str, Any]]:
    """Scores are for drawing alone: without them a page has fewer curves, and no figure is missing."""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return held if isinstance(held, dict) else {}
