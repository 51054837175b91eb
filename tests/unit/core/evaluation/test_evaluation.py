from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import matthews_corrcoef, roc_auc_score

from services.core.errors import InvalidInputError
from services.core.evaluation.metrics import auroc, bootstrap, confusion, mcc, rate
from services.core.evaluation.report import evaluate
from services.core.evaluation.splits import split_by_group
from services.core.types import OperatingPoint


def test_auroc_of_a_hand_counted_example() -> None:
    # Pairs (bad, good): 0.9>0.1, 0.9>0.5, 0.5>0.1, 0.5=0.5 -> 3.5 of 4.
    scores, defective = np.array([0.1, 0.5, 0.5, 0.9]), np.array([False, False, True, True])
    assert auroc(scores, defective) == 3.5 / 4


@settings(max_examples=50)
@given(st.integers(0, 10_000))
def test_auroc_and_mcc_agree_with_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, defective = np.round(rng.random(40), 1), rng.random(40) < 0.3
    defective[:2] = [True, False]
    assert auroc(scores, defective) == pytest.approx(roc_auc_score(defective, scores))
    assert mcc(scores > 0.5, defective) == pytest.approx(matthews_corrcoef(defective, scores > 0.5))


def test_figures_that_are_not_defined_say_so() -> None:
    assert math.isnan(auroc(np.array([0.1, 0.2]), np.array([True, True])))
    assert math.isnan(rate(np.zeros(0, bool)))
    assert mcc(np.array([True, True]), np.array([True, False])) == 0.0
    with pytest.raises(InvalidInputError, match="one shape"):
        auroc(np.zeros(3), np.zeros(2, bool))


def test_confusion_counts_each_outcome() -> None:
    flagged = np.array([True, True, False, False, False])
    defective = np.array([True, False, False, True, True])
    assert confusion(flagged, defective) == (1, 1, 1, 2)


def test_the_interval_covers_the_truth_as_often_as_stated() -> None:
    covered = 0
    for seed in range(100):
        values = np.random.default_rng(seed).random(150) < 0.3
        metric = bootstrap(lambda rows, v=values: rate(v[rows]), [str(i) for i in range(150)], seed, repeats=150)
        covered += metric.low <= 0.3 <= metric.high
    assert 0.87 <= covered / 100 <= 1.0


def test_images_of_one_part_do_not_make_the_interval_narrower() -> None:
    values = np.random.default_rng(0).random(60) < 0.5
    each_once = bootstrap(lambda rows: rate(values[rows]), [str(i) for i in range(60)], 1)
    repeated = np.repeat(values, 5)
    five_times = bootstrap(lambda rows: rate(repeated[rows]), [str(i // 5) for i in range(300)], 1)
    assert five_times.n == each_once.n == 60
    assert five_times.high - five_times.low == pytest.approx(each_once.high - each_once.low, rel=0.2)


def test_a_figure_of_one_class_has_no_interval() -> None:
    with pytest.raises(InvalidInputError, match="only one class"):
        bootstrap(lambda _: math.nan, ["a", "b"], 0)
    with pytest.raises(InvalidInputError, match="bootstrap needs rows"):
        bootstrap(lambda _: 0.0, [], 0)


def test_the_report_counts_verdicts_and_not_only_the_threshold() -> None:
    scores = np.array([0.1, 0.2, 0.45, 0.8, 0.1, 0.45, 0.9, 0.9])
    defective = np.array([False] * 4 + [True] * 4)
    report = evaluate(scores, defective, [str(i) for i in range(8)], OperatingPoint(0.5, 0.4, 0.6), seed=0, repeats=50)
    assert report["good_pass_rate"].value == 0.5
    assert report["review_rate_good"].value == 0.25
    assert report["false_reject_rate"].value == 0.25
    assert report["escape_rate"].value == 0.25
    assert report["review_rate_defective"].value == 0.25
    assert report["accuracy"].value == 5 / 8
    assert all(metric.low <= metric.value <= metric.high for metric in report.values())


def test_the_report_of_a_panel_counts_what_its_disagreement_sends_to_a_person() -> None:
    scores = np.array([0.1, 0.2, 0.45, 0.8, 0.1, 0.45, 0.9, 0.9])
    defective = np.array([False] * 4 + [True] * 4)
    split = np.array([1.0, 0.5, 1.0, 0.0, 1.0, 0.0, 1.0, 0.5])
    parts = [str(i) for i in range(8)]
    report = evaluate(scores, defective, parts, OperatingPoint(0.5, 0.4, 0.6), 0, 50, split)
    assert report["disagreement_rate_good"].value == 0.25
    assert report["review_rate_good"].value == 0.5
    assert report["good_pass_rate"].value == 0.25
    assert report["disagreement_rate_defective"].value == 0.5
    assert report["escape_rate"].value == 0
    assert "disagreement_rate_good" not in evaluate(scores, defective, parts, OperatingPoint(0.5, 0.4, 0.6), 0, 50)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), sizes=st.lists(st.integers(1, 6), min_size=24, max_size=60))
def test_no_group_is_ever_on_two_sides_and_every_image_is_somewhere(seed: int, sizes: list[int]) -> None:
    groups = [f"part-{index}" for index, size in enumerate(sizes) for _ in range(size)]
    labels = ["bad" if index % 4 == 0 else "good" for index, size in enumerate(sizes) for _ in range(size)]
    shares = {"train": 0.6, "calibration": 0.2, "holdout": 0.2}
    split = split_by_group(groups, labels, shares, seed)
    assert sorted(np.concatenate(list(split.values())).tolist()) == list(range(len(groups)))
    sides = [{groups[index] for index in rows} for rows in split.values()]
    assert sum(map(len, sides)) == len(set(groups))
    for rows in split.values():
        assert {labels[index] for index in rows} == {"bad", "good"}


def test_shares_come_out_as_asked_within_each_class() -> None:
    labels = ["bad"] * 100 + ["good"] * 400
    split = split_by_group([str(i) for i in range(500)], labels, {"a": 0.7, "b": 0.3}, seed=0)
    assert [sum(labels[i] == "bad" for i in rows) for rows in split.values()] == [70, 30]
    assert [len(rows) for rows in split.values()] == [350, 150]


def test_the_same_seed_gives_the_same_split_and_another_seed_another() -> None:
    groups, labels = [str(i) for i in range(100)], ["good", "bad"] * 50
    shares = {"a": 0.5, "b": 0.5}
    first = split_by_group(groups, labels, shares, 1)["a"]
    assert np.array_equal(first, split_by_group(groups, labels, shares, 1)["a"])
    assert not np.array_equal(first, split_by_group(groups, labels, shares, 2)["a"])


@pytest.mark.parametrize(
    ("groups", "labels", "shares", "message"),
    [
        ([], [], {"a": 1.0}, "not empty"),
        (["a"], ["x", "y"], {"a": 1.0}, "equally long"),
        (["a", "b"], ["x", "x"], {"a": 0.5, "b": 0.4}, "sum to 1"),
        (["a", "b"], ["x", "x"], {"a": 1.5, "b": -0.5}, "above 0"),
        (["a", "a"], ["x", "x"], {"a": 0.5, "b": 0.5}, "at least 2 groups to be split, got 1 of 'x'"),
    ],
)
def test_splits_that_cannot_be_made_are_refused(
    groups: list[str], labels: list[str], shares: dict[str, float], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        split_by_group(groups, labels, shares, 0)
