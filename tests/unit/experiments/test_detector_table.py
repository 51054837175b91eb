import json
import math

import numpy as np
import pytest

from services.core.errors import ConflictError
from services.experiments.detecting import Measured, Outcome
from services.experiments.detector_report import (
    detectors_markdown,
    histogram,
    render_detectors,
    roc_points,
    worst_misses,
)
from services.experiments.detector_table import FIGURES, Results, figure, row
from services.experiments.parts import Part

CONDITIONS = {"data": "<b>here</b>", "seeds": 2, "versions": {"torch": "1"}}


def measured(image_auroc: float, pixel_auroc: float = float("nan")) -> Measured:
    figures = dict.fromkeys(FIGURES, 0.5) | {"image_auroc": image_auroc, "pixel_auroc": pixel_auroc, "aupro": 0.25}
    scores, defective = np.array([0.1, 0.7, 0.2, 0.9]), np.array([False, False, True, True])
    return Measured(np.arange(4), scores, defective, figures)


def outcome(detector: str = "lof", features: str = "raw") -> Outcome:
    return Outcome(detector, features, 2, (measured(0.6), measured(0.8)))


def parts() -> list[Part]:
    return [Part(f"part-{n}", f"g{n}", "spot", np.full((40, 60, 3), 50 * n, np.uint8), None) for n in range(4)]


def test_a_figure_is_the_mean_and_the_ends_of_the_seeds() -> None:
    assert figure([0.6, 0.8, 0.7]) == {"mean": pytest.approx(0.7), "low": 0.6, "high": 0.8}
    assert figure([0.6]) == {"mean": 0.6, "low": 0.6, "high": 0.6}
    assert figure([float("nan")]) == {"mean": None, "low": None, "high": None}


def test_a_row_has_exactly_the_promised_names() -> None:
    made = row(outcome())

    assert list(made) == ["detector", "features", "seeds", *FIGURES]
    assert made["image_auroc"] == {"mean": pytest.approx(0.7), "low": 0.6, "high": 0.8}
    assert made["pixel_auroc"]["mean"] is None


def test_a_detector_that_failed_has_a_reason_in_place_of_figures() -> None:
    assert row(Outcome("cblof", "raw", 1, (), "too few")) == {
        "detector": "cblof",
        "features": "raw",
        "seeds": 1,
        "error": "too few",
    }


def test_figures_are_on_the_disk_after_each_detector(tmp_path) -> None:
    path = tmp_path / "new" / "out.json"
    results = Results(CONDITIONS, path)

    for number, name in enumerate(("lof", "knn"), start=1):
        results.add(outcome(name))
        held = json.loads(path.read_text())
        assert list(held) == ["schema", "conditions", "rows"]
        assert held["schema"] == 1
        assert len(held["rows"]) == number
    assert sorted(one.name for one in path.parent.iterdir()) == ["out.json", "out.scores.json"]


def test_a_run_goes_on_with_what_the_file_holds_and_tries_failures_again(tmp_path) -> None:
    path = tmp_path / "out.json"
    first = Results(CONDITIONS, path)
    first.add(outcome("lof"))
    first.add(Outcome("cblof", "raw", 2, (), "too few"))

    second = Results(CONDITIONS, path)
    second.add(outcome("cblof"))

    assert first.done == {("lof", "raw")}
    assert second.done == {("lof", "raw"), ("cblof", "raw")}
    assert [one["detector"] for one in json.loads(path.read_text())["rows"]] == ["lof", "cblof"]
    assert set(second.traces) == {"lof raw", "cblof raw"}


def test_a_score_just_below_the_threshold_is_kept_below_it(tmp_path) -> None:
    path, below = tmp_path / "out.json", math.nextafter(0.5, 0)
    one = measured(0.6)
    close = Measured(one.rows, np.full(4, below), one.defective, one.figures)

    Results(CONDITIONS, path).add(Outcome("inne", "raw", 1, (close,)))

    assert Results(CONDITIONS, path).traces["inne raw"]["seeds"][0]["scores"] == [below] * 4


def test_figures_of_other_conditions_are_never_overwritten(tmp_path) -> None:
    path = tmp_path / "out.json"
    Results(CONDITIONS, path).add(outcome())
    before = path.read_bytes()

    with pytest.raises(ConflictError, match=r"other conditions \(seeds\)"):
        Results(CONDITIONS | {"seeds": 3}, path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("text", ["", "[]", '{"rows": []}', '{"schema": 2, "conditions": {}, "rows": []}'])
def test_a_file_of_something_else_is_refused(tmp_path, text) -> None:
    path = tmp_path / "out.json"
    path.write_text(text)

    with pytest.raises(ConflictError):
        Results({}, path)


def test_the_roc_curve_passes_equal_scores_in_one_step() -> None:
    points = roc_points(np.array([0.9, 0.5, 0.5, 0.1]), np.array([True, True, False, False]))

    assert points.tolist() == [[0, 0], [0, 0.5], [0.5, 1], [1, 1]]


def test_a_histogram_holds_shares() -> None:
    shares = histogram(np.array([0.0, 0.01, 0.5, 1.0]))

    assert (shares[0], shares[12], shares[-1], shares.sum()) == (0.5, 0.25, 0.25, 1.0)
    assert not histogram(np.empty(0)).any()


def test_misses_are_defects_that_passed_and_good_parts_that_did_not() -> None:
    seed = {"parts": [7, 8, 9, 5], "scores": [0.1, 0.7, 0.2, 0.9], "defective": [0, 0, 1, 1]}

    assert worst_misses([seed], 4) == [(9, 0.2), (8, 0.7)]
    assert worst_misses([seed], 1) == [(9, 0.2)]
    assert worst_misses([seed], 0) == worst_misses([], 3) == []


def test_the_page_needs_nothing_from_outside_and_escapes_what_it_is_told() -> None:
    results = Results(CONDITIONS)
    results.add(outcome())
    results.add(Outcome("cblof", "raw", 2, (), "<i>too few</i>"))

    page = render_detectors(results.document, results.traces, parts(), 4)

    assert "http" not in page
    assert "<b>here" not in page
    assert "<i>too few" not in page
    assert "too few" in page
    assert page.count("<svg") == 2
    assert page.count("data:image/jpeg;base64,") == 2
    assert "0.700 [0.600, 0.800]" in page


def test_a_page_without_scores_still_has_its_table() -> None:
    results = Results(CONDITIONS)
    results.add(outcome())

    page = render_detectors(results.document, {}, parts(), 4)

    assert "0.700 [0.600, 0.800]" in page
    assert "<svg" not in page


def test_the_markdown_table_has_a_line_for_each_row_failed_or_not() -> None:
    lines = detectors_markdown([row(outcome()), row(Outcome("cblof", "raw", 1, (), "a|b"))]).splitlines()

    assert len(lines) == 4
    assert len({line.count("|") for line in lines}) == 1
