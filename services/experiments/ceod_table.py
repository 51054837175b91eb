"""The table of the experiment on CEOD: what each loss finds and rejects, and the differences from seed to seed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from services.core.errors import ConflictError
from services.core.evaluation.metrics import auroc, confusion
from services.experiments.ceod import REFERENCE, CeodTrial, TrialKey
from services.experiments.figures_file import SCHEMA, read_rows, write_text
from services.experiments.table import Figure

ARGMAX: Final = "argmax"
"""Flagged is what is more likely defective than good, as in paper 2."""

EQUAL_RECALL: Final = "equal-recall"
"""Flagged is what scores as high as so many of the validation's defects that cross-entropy finds by argmax."""

AT_90: Final = "recall-90"
"""Flagged is what scores as high as nine in ten of the split's own defects: a comparison, and no promise."""

NONE: Final = "none"
"""What stands in place of split and cut in the row of a network that failed."""

SPLITS: Final = ("train", "validation", "test")

NAMES: Final = ("network", "arm", "split", "at")
"""Fields that tell a row from all others."""

FIGURES: Final = (
    "accuracy",
    "auroc",
    "distractor_auroc",
    "loss",
    "od",
    "recall_in_aoi",
    "distractor_false_alarms",
    "good_false_alarms",
    "overlap",
    "step_s",
    "step_cpu_s",
)
"""Names of a row's figures."""

COUNTS: Final = ("tp", "fp", "tn", "fn")

_TRIAL_NAMES: Final = ("network", "arm", "seed")
_HALF: Final = 0.5
_NINE_IN_TEN: Final = 0.9

# Student's t, 97.5 %, by degrees of freedom from 1 on; beyond, its expansion around the normal quantile.
_T: Final = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131),
    *(2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
_NORMAL: Final = 1.960
_T_SLOPE: Final = 2.372


def t_figure(values: Sequence[float]) -> Figure:
    """Sum up what the seeds gave: the mean and its 95 % t-interval.

    Args:
        values: One for each seed; NaN where it is not defined.

    Returns:
        The ends are None with fewer than two known values, the mean too with none.
    """
    known = np.array([value for value in values if math.isfinite(value)], dtype=np.float64)
    if not len(known):
        return {"mean": None, "low": None, "high": None}
    mean = float(known.mean())
    if len(known) == 1:
        return {"mean": mean, "low": None, "high": None}
    freedom = len(known) - 1
    quantile = _T[freedom - 1] if freedom <= len(_T) else _NORMAL + _T_SLOPE / freedom
    half = quantile * float(known.std(ddof=1)) / math.sqrt(len(known))
    return {"mean": mean, "low": mean - half, "high": mean + half}


def recall_at(scores: NDArray[np.float64], defective: NDArray[np.bool_], threshold: float) -> float:
    """Share of defective parts that score at least a threshold; NaN without any."""
    return float(np.mean(scores[defective] >= threshold)) if defective.any() else math.nan


def threshold_for_recall(scores: NDArray[np.float64], defective: NDArray[np.bool_], recall: float) -> float:
    """Find the highest threshold at which a share of the defective parts is found.

    Args:
        scores: Higher is worse, shape ``(N,)``.
        defective: Shape ``(N,)``.
        recall: Share that is to be found, 0 to 1.

    Returns:
        The lowest score of those that are found; infinite where none is to be. Parts of equal score are found together.
    """
    ordered = np.sort(scores[defective])[::-1]
    wanted = math.ceil(recall * len(ordered) - 1e-9)
    return float(ordered[wanted - 1]) if wanted > 0 else math.inf


def thresholds(trial: Mapping[str, Any], reference: Mapping[str, Any] | None, split: str) -> dict[str, float]:
    """Where a trial's scores on a split are cut, by name of the cut.

    Args:
        trial: As it is written down.
        reference: Cross-entropy with the same network and seed; without it there is no equal recall.
        split: Which.
    """
    found = {ARGMAX: _HALF}
    if reference is not None:
        scores, defective, _ = _side(reference, "validation")
        asked = recall_at(scores, defective, _HALF)
        if math.isfinite(asked):
            own, bad, _ = _side(trial, "validation")
            found[EQUAL_RECALL] = threshold_for_recall(own, bad, asked)
    scores, defective, _ = _side(trial, split)
    if defective.any():
        found[AT_90] = threshold_for_recall(scores, defective, _NINE_IN_TEN)
    return found


def side_figures(trial: Mapping[str, Any], split: str, threshold: float) -> dict[str, float]:
    """Figures of one trial on one split, and the counts of its confusion matrix."""
    scores, defective, distractor = _side(trial, split)
    flagged, plain = scores >= threshold, ~defective & ~distractor
    counts = dict(zip(COUNTS, confusion(flagged, defective), strict=True))
    contest = defective | distractor
    held = trial["sides"][split]
    return {
        "accuracy": float(np.mean(flagged == defective)),
        "auroc": auroc(scores, defective),
        "distractor_auroc": auroc(scores[contest], defective[contest]),
        "loss": _number(held["loss"]),
        "od": _number(held["od"]),
        "recall_in_aoi": _share(flagged[defective]),
        "distractor_false_alarms": _share(flagged[distractor]),
        "good_false_alarms": _share(flagged[plain]),
        "overlap": _number(held["overlap"]),
        "step_s": _number(trial["step_s"]),
        "step_cpu_s": _number(trial["step_cpu_s"]),
    } | counts


def table_rows(trials: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Sum trials up: a row for each network, arm, split and cut, or the reason why there is none."""
    measured = _figures(trials)
    found: list[dict[str, Any]] = []
    for key in dict.fromkeys((network, arm, split, at) for network, arm, _, split, at in measured):
        own = [values for name, values in measured.items() if (*name[:2], *name[3:]) == key]
        found.append(
            dict(zip(NAMES, key, strict=True))
            | {"seeds": len(own)}
            | {name: t_figure([one[name] for one in own]) for name in FIGURES}
            | {"confusion": {name: sum(int(one[name]) for one in own) for name in COUNTS}}
        )
    reasons = {
        (trial["network"], trial["arm"]): f"seed {trial['seed']}: {trial['error']}"
        for trial in trials
        if trial["error"]
    }
    failed = [dict(zip(NAMES, (*name, NONE, NONE), strict=True)) | {"error": why} for name, why in reasons.items()]
    return found + failed


def paired_rows(trials: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Differences of each arm from cross-entropy with the same network and seed, by split and cut."""
    measured = _figures(trials)
    found = []
    for network, arm, split, at in dict.fromkeys((one[0], one[1], one[3], one[4]) for one in measured):
        seeds = [one[2] for one in measured if (one[0], one[1], one[3], one[4]) == (network, arm, split, at)]
        pairs = [
            (measured[network, arm, seed, split, at], measured[network, REFERENCE, seed, split, at])
            for seed in seeds
            if (network, REFERENCE, seed, split, at) in measured
        ]
        if arm == REFERENCE or not pairs:
            continue
        before, after = (sum(pair[side]["distractor_false_alarms"] for pair in pairs) for side in (1, 0))
        found.append(
            dict(zip(NAMES, (network, arm, split, at), strict=True))
            | {"against": REFERENCE, "seeds": len(pairs)}
            | {name: t_figure([own[name] - other[name] for own, other in pairs]) for name in FIGURES}
            # Of the means: single seeds may have none to divide by.
            | {"distractor_false_alarms_ratio": after / before if before > 0 and math.isfinite(after) else None}
        )
    return found


class CeodResults:
    """Trials on their way into files; each is on the disk before the next one begins.

    Beside the table, ``NAME.trials.json`` keeps every trial's scores, curves and maps: table and page are made of them,
    and a run goes on with them.
    """

    def __init__(self, conditions: Mapping[str, Any], path: Path | None = None) -> None:
        """Begin, or go on with what the files hold.

        Args:
            conditions: What the figures hold for; written as JSON.
            path: The table's file; None keeps everything in memory.

        Raises:
            ConflictError: If a file holds anything else than figures of these conditions.
        """
        self._path = path
        self._conditions: dict[str, Any] = json.loads(json.dumps(conditions))
        self.trials: list[dict[str, Any]] = []
        if path is None:
            return
        beside = trials_path(path)
        if beside.exists():
            self.trials = read_rows(beside, self._conditions, _TRIAL_NAMES)
        elif path.exists():
            raise ConflictError(f"{path} must be new, or have its trials beside it in {beside.name}: name another file")

    @property
    def document(self) -> dict[str, Any]:
        """What the table's file holds."""
        return {
            "schema": SCHEMA,
            "conditions": self._conditions,
            "rows": table_rows(self.trials),
            "paired": paired_rows(self.trials),
        }

    @property
    def done(self) -> frozenset[TrialKey]:
        """Trials with figures; one that failed is tried again."""
        return frozenset((one["network"], one["arm"], one["seed"]) for one in self.trials if not one["error"])

    def add(self, trial: CeodTrial) -> None:
        """Take a trial in, in place of an earlier one of the same name, and write."""
        key = (trial.network, trial.arm, trial.seed)
        kept = [one for one in self.trials if tuple(one[name] for name in _TRIAL_NAMES) != key]
        self.trials = [*kept, _plain(asdict(trial))]
        if self._path is not None:
            held = {"schema": SCHEMA, "conditions": self._conditions, "rows": self.trials}
            write_text(trials_path(self._path), json.dumps(held, allow_nan=False) + "\n")
            write_text(self._path, json.dumps(self.document, indent=1, allow_nan=False) + "\n")


def trials_path(path: Path) -> Path:
    """Where the trials lie that belong to a file of figures."""
    return path.with_name(f"{path.stem}.trials.json")


def _figures(trials: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str, int, str, str], dict[str, float]]:
    """Figures by network, arm, seed, split and cut."""
    measured = [trial for trial in trials if not trial["error"]]
    references = {(one["network"], one["seed"]): one for one in measured if one["arm"] == REFERENCE}
    found = {}
    for trial in measured:
        reference = references.get((trial["network"], trial["seed"]))
        for split in SPLITS:
            for at, threshold in thresholds(trial, reference, split).items():
                key = (trial["network"], trial["arm"], trial["seed"], split, at)
                found[key] = side_figures(trial, split, threshold)
    return found


def _side(trial: Mapping[str, Any], split: str) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
    held = trial["sides"][split]
    return (
        np.array(held["scores"], dtype=np.float64),
        np.array(held["defective"], dtype=bool),
        np.array(held["distractor"], dtype=bool),
    )


def _share(values: NDArray[np.bool_]) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _plain(value: Any) -> Any:
    """The same as JSON can hold it: NaN becomes null."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
