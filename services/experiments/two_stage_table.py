"""The table of the experiment on two models in a pipeline: a row for each of them, each map and each kind."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from services.experiments.detector_table import figure
from services.experiments.figures_file import SCHEMA, read_rows, write_text
from services.experiments.two_stage import ALL, FIGURES, NONE, Stage, StageOutcome

NAMES: Final = ("detector", "classifier", "method", "kind")
"""Fields that tell a row from all others."""


def stage_rows(outcome: StageOutcome) -> list[dict[str, Any]]:
    """Write an outcome as rows: figures over the seeds, or for each map the reason why there are none."""
    stage, seeds = outcome.stage, {"seeds": outcome.seeds}
    if outcome.error:
        return [
            dict(zip(NAMES, (stage.detector, stage.classifier, method, ALL), strict=True))
            | seeds
            | {"error": outcome.error}
            for method in stage.methods
        ]
    # A kind that is on the test side of some seeds only has the figures of those.
    keys = list(dict.fromkeys(key for trial in outcome.trials for key in trial))
    return [
        dict(zip(NAMES, key, strict=True))
        | seeds
        | {name: figure([trial[key][name] for trial in outcome.trials if key in trial]) for name in FIGURES}
        for key in keys
    ]


class TwoStageResults:
    """Rows on their way into a file; each stage is on the disk before the next one begins."""

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
        if path is not None and path.exists():
            self.rows = read_rows(path, self._conditions, NAMES)

    @property
    def document(self) -> dict[str, Any]:
        """What the file holds."""
        return {"schema": SCHEMA, "conditions": self._conditions, "rows": self.rows}

    def done(self, stages: Sequence[Stage]) -> frozenset[Stage]:
        """Those of some stages whose every map has figures; one that failed is tried again."""
        there = {tuple(row[name] for name in NAMES) for row in self.rows if "error" not in row}
        return frozenset(
            stage
            for stage in stages
            if all((stage.detector, stage.classifier, method, ALL) in there for method in stage.methods)
        )

    def add(self, outcome: StageOutcome) -> None:
        """Take a stage's rows in, in place of earlier ones of it, and write."""
        made = stage_rows(outcome)
        stage = (outcome.stage.detector, outcome.stage.classifier)
        replaced = {tuple(row[name] for name in NAMES) for row in made}
        self.rows = [
            row
            for row in self.rows
            if (row["detector"], row["classifier"]) != stage and tuple(row[name] for name in NAMES) not in replaced
        ] + made
        if self._path is not None:
            write_text(self._path, json.dumps(self.document, indent=1, allow_nan=False) + "\n")


def stage_name(row: Mapping[str, Any]) -> str:
    """What a row is of, in words: ``iforest > efficientnet-lite0``, or the detector alone."""
    return row["detector"] if row["classifier"] == NONE else f"{row['detector']} > {row['classifier']}"
