"""The table of the experiment on learning from an operator: curves with bands, areas, and pairs of strategies."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
from scipy.stats import t as student  # type: ignore[import-untyped]

from services.core.errors import ConflictError
from services.core.selection.near_caipi import Round
from services.core.selection.strategies import STRATEGIES
from services.experiments.figures_file import write_text
from services.experiments.near_caipi import FIGURES, Run
from services.experiments.table import Figure

SCHEMA: Final = 1
CONFIDENCE: Final = 0.95

#: Which strategies are held against each other: what refutations add, what neighbours add, and what all of it adds.
PAIRS: Final = (
    ("near-caipi", "caipi"),
    ("near-al", "al"),
    ("caipi", "al"),
    ("near-caipi", "near-al"),
    ("near-caipi", "al"),
    ("near-caipi", "random"),
    ("al", "random"),
)
#: Whose last MCC the others are timed to.
TARGETS: Final = ("random", "al")


def mean_figure(values: Sequence[float]) -> Figure:
    """Mean of what the seeds gave, with Student's interval; its ends are the mean itself with one seed."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return {"mean": None, "low": None, "high": None}
    mean = float(np.mean(known))
    if len(known) == 1:
        return {"mean": mean, "low": mean, "high": mean}
    half = (
        float(student.ppf((1 + CONFIDENCE) / 2, len(known) - 1)) * float(np.std(known, ddof=1)) / math.sqrt(len(known))
    )
    return {"mean": mean, "low": mean - half, "high": mean + half}


def mcc_area(run: Run) -> float:
    """Mean height of the MCC curve over the interactions, from the first training to the last."""
    x, y = np.array(run.interactions, float), np.array(run.figures["mcc"])
    if len(x) == 1:
        return float(y[0])
    return float(np.trapezoid(y, x) / (x[-1] - x[0]))


def interactions_to_reach(run: Run, target: float) -> float:
    """Interactions at the first training whose MCC reaches a target; infinite where none does."""
    for count, value in zip(run.interactions, run.figures["mcc"], strict=True):
        if value >= target:
            return float(count)
    return math.inf


def tabulate(runs: Sequence[Run]) -> dict[str, Any]:
    """Sum up the runs.

    Args:
        runs: Of all strategies and seeds.

    Returns:
        ``rows``, one for each strategy, and ``paired`` differences over the seeds that both have.
    """
    by_name: dict[str, dict[int, Run]] = {}
    for run in runs:
        by_name.setdefault(run.strategy, {})[run.seed] = run
    names = [name for name in STRATEGIES if name in by_name]
    return {
        "rows": [_row(name, by_name) for name in names],
        "paired": [_pair(a, b, by_name) for a, b in PAIRS if a in by_name and b in by_name],
    }


def _row(name: str, by_name: Mapping[str, Mapping[int, Run]]) -> dict[str, Any]:
    runs = [by_name[name][seed] for seed in sorted(by_name[name])]
    # A pool that ran out ends a run early; what is compared is what all seeds have.
    length = min(len(run.interactions) for run in runs)
    curves: dict[str, Any] = {"interactions": list(runs[0].interactions[:length])}
    for figure in FIGURES:
        curves[figure] = [mean_figure([run.figures[figure][at] for run in runs]) for at in range(length)]
    return {
        "strategy": name,
        "seeds": len(runs),
        "rounds": curves,
        "mcc_area": mean_figure([mcc_area(run) for run in runs]),
        "reaches": {target: _reached(by_name[name], by_name[target]) for target in TARGETS if target in by_name},
        "neighbours_share": mean_figure(
            [sum(one.neighbours for one in run.asked) / max(1, run.interactions[-1]) for run in runs]
        ),
    }


def _reached(ours: Mapping[int, Run], theirs: Mapping[int, Run]) -> dict[str, Any]:
    """How many interactions it takes to reach another strategy's last MCC, as a share of what that one spent.

    A curve is ragged, so beside the seeds one by one the mean curves are compared: where ours first reaches the mean
    of their last.
    """
    seeds = sorted(set(ours) & set(theirs))
    length = min(len(one.interactions) for one in [*ours.values(), *theirs.values()])
    target = float(np.mean([theirs[seed].figures["mcc"][length - 1] for seed in seeds]))
    curve = np.mean([ours[seed].figures["mcc"][:length] for seed in seeds], axis=0)
    spent = ours[seeds[0]].interactions[length - 1]
    first = next((ours[seeds[0]].interactions[at] for at in range(length) if curve[at] >= target), None)
    single = [interactions_to_reach(ours[seed], theirs[seed].figures["mcc"][length - 1]) for seed in seeds]
    return {
        "target_mcc": target,
        "interactions": first,
        "share": None if first is None or not spent else first / spent,
        "seeds_that_reach_it": sum(math.isfinite(value) for value in single),
    }


def _pair(a: str, b: str, by_name: Mapping[str, Mapping[int, Run]]) -> dict[str, Any]:
    seeds = sorted(set(by_name[a]) & set(by_name[b]))
    differences = [mcc_area(by_name[a][seed]) - mcc_area(by_name[b][seed]) for seed in seeds]
    last = {
        figure: mean_figure(
            [by_name[a][seed].figures[figure][-1] - by_name[b][seed].figures[figure][-1] for seed in seeds]
        )
        for figure in FIGURES
    }
    return {
        "a": a,
        "b": b,
        "seeds": len(seeds),
        "mcc_area_difference": mean_figure(differences),
        "last_difference": last,
    }


class InteractiveResults:
    """Runs on their way into a file; each is on the disk before the next begins."""

    def __init__(self, conditions: Mapping[str, Any], path: Path | None = None) -> None:
        """Begin, or go on with what a file holds.

        Args:
            conditions: What the figures hold for.
            path: The file; None keeps everything in memory.

        Raises:
            ConflictError: If the file holds anything else than runs of these conditions.
        """
        self._path = path
        self._conditions: dict[str, Any] = json.loads(json.dumps(conditions))
        self.runs: list[Run] = []
        if path is not None and path.exists():
            self.runs = _read_runs(path, self._conditions)

    @property
    def done(self) -> frozenset[tuple[str, int]]:
        """Strategy and seed of every run that is there."""
        return frozenset((run.strategy, run.seed) for run in self.runs)

    @property
    def document(self) -> dict[str, Any]:
        """What the file holds."""
        return {
            "schema": SCHEMA,
            "conditions": self._conditions,
            **tabulate(self.runs),
            "runs": [_run_to_json(run) for run in self.runs],
        }

    def add(self, run: Run) -> None:
        """Take a run in, and write."""
        self.runs.append(run)
        if self._path is not None:
            write_text(self._path, json.dumps(self.document, indent=1, allow_nan=False) + "\n")


def _run_to_json(run: Run) -> dict[str, Any]:
    figures = {
        name: [value if math.isfinite(value) else None for value in values] for name, values in run.figures.items()
    }
    return {
        "strategy": run.strategy,
        "seed": run.seed,
        "interactions": list(run.interactions),
        "figures": figures,
        "asked": [asdict(one) for one in run.asked],
    }


def _read_runs(path: Path, conditions: Mapping[str, Any]) -> list[Run]:
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        known, schema = held["conditions"], held["schema"]
        runs = [
            Run(
                one["strategy"],
                int(one["seed"]),
                tuple(one["interactions"]),
                {
                    name: tuple(math.nan if value is None else float(value) for value in one["figures"][name])
                    for name in FIGURES
                },
                tuple(Round(**asked) for asked in one["asked"]),
            )
            for one in held["runs"]
        ]
    except (ValueError, LookupError, TypeError) as error:
        raise ConflictError(f"{path} must be new or hold runs of near-caipi: name another file") from error
    if schema != SCHEMA:
        raise ConflictError(f"{path} must hold runs of schema {SCHEMA}, got {schema}")
    if known != conditions:
        differing = [name for name in {**known, **conditions} if known.get(name) != conditions.get(name)]
        raise ConflictError(
            f"{path} holds runs of other conditions ({', '.join(differing)}): name another file, or remove it"
        )
    return runs
