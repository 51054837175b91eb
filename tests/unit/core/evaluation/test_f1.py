import numpy as np
import pytest

from services.core.evaluation.metrics import best_f1, f1

DEFECTIVE = np.array([True, True, True, False, False])


def test_f1_is_the_harmonic_mean_of_precision_and_recall() -> None:
    flagged = np.array([True, True, False, True, False])

    assert f1(flagged, DEFECTIVE) == pytest.approx(2 / 3)  # precision 2/3, recall 2/3
    assert f1(np.zeros(5, bool), DEFECTIVE) == 0


def test_the_best_f1_is_that_of_the_best_threshold() -> None:
    # Above 0.8: recall 1/3, F1 1/2. Above 0.5: precision 3/4, recall 1, F1 6/7. All: precision 3/5, F1 3/4.
    assert best_f1(np.array([0.9, 0.6, 0.5, 0.7, 0.1]), DEFECTIVE) == pytest.approx(6 / 7)


def test_equal_scores_are_flagged_together() -> None:
    assert best_f1(np.full(5, 0.4), DEFECTIVE) == pytest.approx(2 * 3 / (5 + 3))
    assert best_f1(np.array([0.9, 0.9, 0.1, 0.9, 0.1]), DEFECTIVE) == pytest.approx(3 / 4)


def test_nothing_defective_or_nothing_at_all_has_no_f1() -> None:
    assert best_f1(np.array([0.2, 0.3]), np.zeros(2, bool)) == 0
    assert best_f1(np.empty(0), np.empty(0, bool)) == 0
