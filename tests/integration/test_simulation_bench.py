"""The benchmark of the simulated line, small: a network learns what raw pixels do not show."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.bench import simulation
from tests.bench.separability import Scores, bootstrap, by_class


@pytest.mark.integration
def test_a_fine_tuned_network_sees_what_raw_pixels_do_not_show(tmp_path: Path) -> None:
    report = tmp_path / "simulation.json"
    simulation.main(["--quick", "--threads", "1", "--out", str(report)])
    figures = json.loads(report.read_text(encoding="utf-8"))
    (cloth,) = figures["separability"]
    assert max(cloth["raw_pixels"]) < simulation.LINEAR_LIMIT
    assert min(cloth["fine_tuned"]) > simulation.QUICK_FINE_TUNED_LIMIT
    assert {entry["product"] for entry in figures["speed"]} == set(simulation.PRODUCTS)
    simulation.main(["--quick", "--resume", "--out", str(report)])
    resumed = json.loads(report.read_text(encoding="utf-8"))
    assert resumed["separability"] == figures["separability"]
    assert resumed["took_s"] < figures["took_s"] / 2, "what was known was not measured again"


@pytest.mark.integration
def test_a_run_of_other_parts_is_not_gone_on_from(tmp_path: Path) -> None:
    runs = tmp_path / "runs.json"
    found = {"fabric": {0: simulation.Run(["", "hole"], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0])}}
    simulation.save_runs(runs, simulation.QUICK, [], found)
    assert simulation.load_runs(runs, simulation.QUICK) == ([], found)
    assert simulation.load_runs(runs, simulation.FULL) == ([], {})


@pytest.mark.integration
def test_the_interval_holds_the_mean_and_closes_on_what_never_errs() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], 60)
    doubtful = [Scores(labels + rng.normal(0.0, 1.5, 120), labels) for _ in range(3)]
    low, high = bootstrap(doubtful)
    assert low < sum(scores.auroc for scores in doubtful) / 3 < high < 1.0
    assert bootstrap([Scores(labels.astype(np.float64), labels)]) == pytest.approx((1.0, 1.0))


@pytest.mark.integration
def test_each_defect_is_compared_with_the_good_parts_alone() -> None:
    values = np.array([0.0, 1.0, 2.0, 3.0, 0.5])
    classes = np.array(["", "", "crack", "crack", "stain"])
    found = by_class([Scores(values, (classes != "").astype(np.int64))], [classes])
    assert found == {"crack": 1.0, "stain": 0.5}
