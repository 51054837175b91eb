from __future__ import annotations

import numpy as np
import pytest

from services.core.detectors.pseudo_labels import LABEL_ANOMALY, LABEL_GOOD, LEFT_OUT, PseudoLabels, label_by_score
from services.core.errors import InvalidInputError


def test_what_lies_within_the_margin_has_no_label() -> None:
    scores = np.array([0.1, 0.39, 0.4, 0.49, 0.5, 0.59, 0.6, 0.9])

    found = label_by_score(scores, 0.1, min_parts=2)

    assert found.labels.tolist() == [
        LABEL_GOOD,
        LABEL_GOOD,
        *[LEFT_OUT] * 4,
        LABEL_ANOMALY,
        LABEL_ANOMALY,
    ]
    assert (found.n_good, found.n_anomaly, found.n_left_out) == (2, 2, 4)


def test_without_a_margin_the_labels_are_the_verdicts() -> None:
    scores = np.array([0.0, np.nextafter(0.5, 0), 0.5, 1.0])

    assert label_by_score(scores, 0.0, min_parts=2).labels.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("margin", [-0.01, 0.5, float("nan")])
def test_a_margin_that_leaves_nothing_or_means_nothing_is_refused(margin: float) -> None:
    with pytest.raises(InvalidInputError, match=r"margin must lie in \[0, 0.5\)"):
        label_by_score(np.array([0.1, 0.9]), margin, min_parts=1)


@pytest.mark.parametrize("scores", [[[0.1]], [0.1, 1.2], [-0.1, 0.9], [np.nan, 0.9]])
def test_scores_without_a_scale_are_refused(scores: list[float]) -> None:
    with pytest.raises(InvalidInputError, match="scores must be calibrated"):
        label_by_score(np.array(scores), min_parts=1)


def test_too_few_anomalies_say_what_a_smaller_margin_would_give() -> None:
    scores = np.array([0.1] * 20 + [0.55] * 6 + [0.9] * 3)

    with pytest.raises(InvalidInputError) as raised:
        label_by_score(scores, 0.1)

    message = str(raised.value)
    assert "at least 8 parts must be labelled anomaly, got 3 of 29" in message
    assert "(20 images good, 3 anomalous, 6 left out)" in message
    assert "a smaller margin than 0.1 (9 parts without one)" in message


def test_a_margin_that_is_not_to_blame_is_not_blamed() -> None:
    with pytest.raises(InvalidInputError) as raised:
        label_by_score(np.array([0.1] * 20 + [0.55, 0.9]), 0.1)

    assert "smaller margin" not in str(raised.value)
    assert "more unlabelled images" in str(raised.value)


def test_a_pool_of_another_product_is_said_to_be_one() -> None:
    with pytest.raises(InvalidInputError, match=r"labelled good, got 2 .*same camera and product"):
        label_by_score(np.array([0.1] * 2 + [0.9] * 20))


def test_parts_are_counted_and_not_their_pictures() -> None:
    scores = np.array([0.1] * 10 + [0.9] * 10)
    groups = [f"good-{number}" for number in range(10)] + ["one"] * 10

    with pytest.raises(InvalidInputError, match="labelled anomaly, got 1 of 11"):
        label_by_score(scores, groups=groups)


def test_each_picture_has_one_group() -> None:
    with pytest.raises(InvalidInputError, match="got 2 and 1"):
        label_by_score(np.array([0.1, 0.9]), groups=["a"])


def test_all_anomalies_are_kept_and_ten_good_pictures_for_each() -> None:
    labels = np.array([LABEL_GOOD] * 50 + [LABEL_ANOMALY] * 3 + [LEFT_OUT] * 5)
    found = PseudoLabels(labels, tuple(map(str, range(58))), 0.1)

    rows = found.balanced(seed=0)

    assert rows.tolist() == sorted(set(rows.tolist()))
    assert {50, 51, 52} <= set(rows.tolist())
    assert len(rows) == 33
    assert rows.max() < 53
    assert found.balanced(seed=0).tolist() == rows.tolist()
    assert found.balanced(seed=1).tolist() != rows.tolist()


def test_nothing_is_dropped_where_anomalies_are_many() -> None:
    labels = np.array([LABEL_GOOD] * 5 + [LABEL_ANOMALY] * 5)

    assert len(PseudoLabels(labels, tuple(map(str, range(10))), 0.0).balanced(seed=0)) == 10
