from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.core.errors import ConflictError
from services.core.training.finetune import EpochReport
from services.experiments.ceod import CeodTrial
from services.experiments.ceod_table import (
    CeodResults,
    paired_rows,
    recall_at,
    t_figure,
    table_rows,
    threshold_for_recall,
    trials_path,
)

DEFECTIVE = [1, 1, 1, 1, 0, 0, 0, 0]
DISTRACTOR = [0, 0, 0, 0, 1, 1, 0, 0]
CAREFUL = [0.9, 0.8, 0.4, 0.1, 0.7, 0.2, 0.1, 0.1]
"""Finds two of four by argmax and rejects one of two distractors."""
SHARP = [0.9, 0.9, 0.9, 0.6, 0.55, 0.2, 0.1, 0.1]
"""Finds all of four and rejects the same distractor; at two of four, none."""


def trial(arm: str, seed: int, scores: list[float], error: str = "") -> CeodTrial:
    side = {
        "parts": list(range(8)),
        "scores": scores,
        "defective": DEFECTIVE,
        "distractor": DISTRACTOR,
        "loss": 0.5,
        "od": math.nan,
        "overlap": 0.3,
    }
    sides = {} if error else dict.fromkeys(("train", "validation", "test"), side)
    return CeodTrial("customnet", arm, seed, sides, (EpochReport(1, 0.7, 0.6),), 1, 0.2, 0.1, None, "scratch", error)


def written(*trials: CeodTrial) -> list[dict[str, Any]]:
    results = CeodResults({})
    for one in trials:
        results.add(one)
    return results.trials


def row(rows: list[dict[str, Any]], arm: str, at: str) -> dict[str, Any]:
    (found,) = [one for one in rows if (one["arm"], one["split"], one["at"]) == (arm, "test", at)]
    return found


def test_the_threshold_finds_as_many_defects_as_asked_and_rejects_as_little_as_that_allows() -> None:
    scores, defective = np.array(SHARP), np.array(DEFECTIVE, bool)
    for found in range(1, 5):
        threshold = threshold_for_recall(scores, defective, found / 4)
        assert recall_at(scores, defective, threshold) >= found / 4
        assert recall_at(scores, defective, threshold + 1e-9) < found / 4
    assert threshold_for_recall(scores, defective, 0) == math.inf


def test_the_interval_is_students() -> None:
    figure = t_figure([1.0, 2.0, 3.0])
    assert figure["mean"] == 2
    assert figure["high"] == pytest.approx(2 + 4.303 / math.sqrt(3))
    assert figure["low"] == pytest.approx(2 - 4.303 / math.sqrt(3))
    many = t_figure([0.0, 1.0] * 50)
    assert many["high"] == pytest.approx(0.5 + 1.9842 * np.std([0, 1] * 50, ddof=1) / 10, rel=1e-3)


def test_one_seed_has_a_mean_and_no_interval_and_none_has_nothing() -> None:
    assert t_figure([0.4, math.nan]) == {"mean": 0.4, "low": None, "high": None}
    assert t_figure([math.nan]) == {"mean": None, "low": None, "high": None}


def test_by_argmax_what_is_found_and_what_is_rejected_are_both_seen() -> None:
    rows = table_rows(written(trial("ce", 0, CAREFUL), trial("ceod", 0, SHARP)))
    careful, sharp = row(rows, "ce", "argmax"), row(rows, "ceod", "argmax")
    assert [one["recall_in_aoi"]["mean"] for one in (careful, sharp)] == [0.5, 1.0]
    assert [one["distractor_false_alarms"]["mean"] for one in (careful, sharp)] == [0.5, 0.5]
    assert [one["good_false_alarms"]["mean"] for one in (careful, sharp)] == [0.0, 0.0]
    assert careful["confusion"] == {"tp": 2, "fp": 1, "tn": 3, "fn": 2}
    assert careful["od"]["mean"] is None


def test_at_equal_recall_the_sharper_loss_rejects_less() -> None:
    rows = table_rows(written(trial("ce", 0, CAREFUL), trial("ceod", 0, SHARP)))
    careful, sharp = row(rows, "ce", "equal-recall"), row(rows, "ceod", "equal-recall")
    # Three defects of SHARP share a score, so they are found together.
    assert [one["recall_in_aoi"]["mean"] for one in (careful, sharp)] == [0.5, 0.75]
    assert [one["distractor_false_alarms"]["mean"] for one in (careful, sharp)] == [0.0, 0.0]


def test_at_nine_in_ten_found_the_threshold_is_the_splits_own() -> None:
    rows = table_rows(written(trial("ce", 0, CAREFUL), trial("ceod", 0, SHARP)))
    careful, sharp = row(rows, "ce", "recall-90"), row(rows, "ceod", "recall-90")
    assert [one["recall_in_aoi"]["mean"] for one in (careful, sharp)] == [1.0, 1.0]
    assert [one["distractor_false_alarms"]["mean"] for one in (careful, sharp)] == [1.0, 0.0]
    assert [one["good_false_alarms"]["mean"] for one in (careful, sharp)] == [1.0, 0.0]


def test_differences_are_taken_seed_by_seed() -> None:
    held = written(*(trial("ce", seed, CAREFUL) for seed in (0, 1)), *(trial("ceod", seed, SHARP) for seed in (0, 1)))
    pair = row(paired_rows(held), "ceod", "argmax")
    assert (pair["against"], pair["seeds"]) == ("ce", 2)
    assert pair["recall_in_aoi"] == {"mean": 0.5, "low": 0.5, "high": 0.5}
    assert pair["distractor_false_alarms_ratio"] == 1


def test_a_seed_that_cross_entropy_lacks_is_not_compared() -> None:
    held = written(trial("ce", 0, CAREFUL), trial("ceod", 0, SHARP), trial("ceod", 1, SHARP))
    assert row(paired_rows(held), "ceod", "argmax")["seeds"] == 1
    assert row(table_rows(held), "ceod", "equal-recall")["seeds"] == 1
    assert row(table_rows(held), "ceod", "argmax")["seeds"] == 2


def test_a_network_that_failed_has_its_reason_beside_the_seeds_that_did_not() -> None:
    rows = table_rows(written(trial("ce", 0, CAREFUL), trial("ce", 1, CAREFUL, "no memory")))
    assert [one["error"] for one in rows if "error" in one] == ["seed 1: no memory"]
    assert row(rows, "ce", "argmax")["seeds"] == 1


def test_a_run_goes_on_with_what_its_files_hold_and_tries_failures_again(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    first = CeodResults({"data": "a"}, path)
    first.add(trial("ce", 0, CAREFUL))
    first.add(trial("ceod", 0, SHARP, "no memory"))
    second = CeodResults({"data": "a"}, path)
    assert second.done == {("customnet", "ce", 0)}
    second.add(trial("ceod", 0, SHARP))
    document = json.loads(path.read_text())
    assert document == second.document
    assert document["schema"] == 1
    assert not [one for one in document["rows"] if "error" in one]
    assert len(document["paired"]) == 9


def test_figures_of_other_conditions_are_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    CeodResults({"data": "a"}, path).add(trial("ce", 0, CAREFUL))
    with pytest.raises(ConflictError, match="data"):
        CeodResults({"data": "b"}, path)
    trials_path(path).unlink()
    with pytest.raises(ConflictError, match=r"out\.trials\.json"):
        CeodResults({"data": "a"}, path)
